"""What is explained of estimators with one output per text: classes, numbers, choices, labels in words, similarities."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from skxlmr.estimators._sequence.targets import ManyColumns
from skxlmr.inspection._attributions.explained import Cosine, Explained, WeightedSum
from skxlmr.inspection._attributions.reading import encode, logits_of, places, rows_of, words_of
from skxlmr.inspection._attributions.targets import codes_of, numbers_of, per_row
from skxlmr.nn.sentence import TextSettings
from skxlmr.nn.sentence.pooling import pool
from skxlmr.text import EncodedBatch
from skxlmr.utils._validation import Texts, check_texts

if TYPE_CHECKING:
    from torch import Tensor

    from skxlmr.nn import TaskModule, TokenLayout

PAIR = ("first text", "second text")


def classes(estimator: Any, X: Any, target: Any) -> tuple[Any, Explained]:
    """The logit of a class, or of a label."""
    engine, kinds = estimator._engine(), estimator._targets
    texts = estimator._check_X(X, reset=False)
    encoded = encode(estimator, texts)
    if isinstance(kinds, ManyColumns):
        columns, targets = _of_columns(kinds, target, len(texts))
    elif target is None:
        logits = engine.rows(encoded, window_weights=np.ones(len(encoded)))
        columns = logits.argmax(1) if len(texts) else np.zeros(0, np.int64)
        targets = kinds.classes[columns].tolist()
    else:
        targets = per_row(target, len(texts), "target")
        columns = codes_of(targets, kinds.classes)
    return engine, _one_output(estimator, texts, encoded, columns, targets)


def _of_columns(kinds: ManyColumns, target: Any, n_rows: int) -> tuple[np.ndarray, list[Any]]:
    targets = per_row(target, n_rows, "target")
    first = np.concatenate(([0], np.cumsum([part.n_outputs for part in kinds.parts])))
    found = []
    for row, each in enumerate(targets):
        if not isinstance(each, tuple) or len(each) != 2 or each[0] not in range(len(kinds.parts)):
            raise ValueError(
                f"target of row {row}: the estimator has {len(kinds.parts)} columns of classes: pass (column, class), such as "
                f"{(0, kinds.parts[0].classes.tolist()[0])!r}, got {each!r:.80}"
            )
        found.append(first[each[0]] + codes_of([each[1]], kinds.parts[each[0]].classes)[0])
    return np.array(found, np.int64), targets


def numbers(estimator: Any, X: Any, target: Any) -> tuple[Any, Explained]:
    """The output of a regressor, before its activation."""
    engine = estimator._engine()
    texts = estimator._check_X(X, reset=False)
    n_outputs = estimator.n_outputs_
    if target is None and n_outputs > 1:
        raise ValueError(f"the regressor has {n_outputs} outputs: pass target, the number of one, 0 to {n_outputs - 1}")
    targets = per_row(0 if target is None else target, len(texts), "target")
    columns = numbers_of(targets, lambda row: n_outputs, "an output")
    shown = [None] * len(texts) if n_outputs == 1 else targets
    return engine, _one_output(estimator, texts, encode(estimator, texts), columns, shown)


def _one_output(
    estimator: Any, texts: Texts, encoded: EncodedBatch, columns: np.ndarray, targets: list[Any]
) -> Explained:
    """One output of each row, the mean of its windows."""
    n_windows = encoded.n_windows.tolist()
    entries = [
        (np.arange(n), np.full(n, column), np.full(n, 1 / n)) for n, column in zip(n_windows, columns, strict=True)
    ]
    names = ("text",) if texts.second is None else PAIR
    return _of_texts(texts, encoded, estimator._how(), names, targets, entries)


def _of_texts(
    texts: Texts, encoded: EncodedBatch, how: TextSettings, names: tuple[str, ...], targets: list[Any], entries: Any
) -> Explained:
    rows = rows_of(texts)
    text_T, places_T2 = places(encoded, texts, how)
    n_dropped = np.bincount(encoded.input_rows, encoded.n_dropped, minlength=len(rows)).astype(int)
    return Explained(
        texts=rows,
        names=names,
        targets=targets,
        encoded=encoded,
        row_W=encoded.input_rows,
        text_T=text_T,
        places_T2=places_T2,
        words=words_of(rows),
        n_dropped=n_dropped,
        reader=WeightedSum(entries),
        forward=logits_of,
    )


def choices(estimator: Any, X: Any, target: Any) -> tuple[Any, Explained]:
    """The score of a choice."""
    engine = estimator._engine()
    rows = estimator._check_X(X, reset=False)
    n_choices = rows.n_choices.tolist()
    chosen = estimator.predict(X).tolist() if target is None else per_row(target, len(rows), "target")
    numbers_of(chosen, lambda row: n_choices[row], "a choice")
    texts = Texts(rows.prompts, [of_row[k] for of_row, k in zip(rows.choices, chosen, strict=True)])
    one = [(np.zeros(1, int), np.zeros(1, int), np.ones(1))] * len(rows)
    return engine, _of_texts(texts, encode(estimator, texts), TextSettings(), ("prompt", "choice"), chosen, one)


def labels_in_words(estimator: Any, X: Any, target: Any) -> tuple[Any, Explained]:
    """The logit of entailment of a label's hypothesis; with ``multi_label`` minus that of contradiction."""
    engine = estimator._engine()
    texts = estimator._check_X(X, reset=False).first
    known = estimator.classes_
    if target is None:
        targets = known[estimator.predict_proba(X).argmax(1)].tolist() if len(texts) else []
    else:
        targets = per_row(target, len(texts), "target")
    hypotheses = estimator._hypotheses()
    pairs = Texts(texts, [hypotheses[code] for code in codes_of(targets, known, "label")])
    encoded = encode(estimator, pairs, truncation="only_first")
    columns, weights = [estimator._entailment], [1.0]
    if estimator.multi_label:
        columns, weights = [*columns, estimator._contradicting()], [1.0, -1.0]
    one = [(np.zeros(len(columns), int), np.array(columns), np.array(weights))] * len(texts)
    return engine, _of_texts(pairs, encoded, estimator._how(), ("text", "hypothesis"), targets, one)


def similarity(estimator: Any, X: Any, target: Any) -> tuple[Any, Explained]:
    """The cosine of the vectors of two texts, each encoded on its own."""
    if getattr(estimator, "output", "dense") != "dense":
        raise ValueError(
            f"attributions explain the similarity of dense vectors, and output={estimator.output!r}: set output='dense'"
        )
    engine = estimator._engine(validate=not estimator._open_at_first_use())
    how, n_features = estimator._how(), estimator._n_each()
    pairs = check_texts(X, "X", missing=estimator.missing, rows_needed=False)
    if pairs.second is None and len(pairs):
        raise ValueError(
            f"attributions of a {type(estimator).__name__} explain how similar two texts are: X must have pairs of texts "
            "(2 columns), and has single texts"
        )
    if target is not None:
        raise ValueError(f"the similarity of two texts has no target, got target={target!r:.80}")
    rows = rows_of(pairs) if len(pairs) else []
    texts = Texts([text for row in rows for text in row])
    encoded = encode(estimator, texts, n_each=2)
    run, _ = estimator._computation(engine, how, False)
    n_windows = encoded.n_windows
    if getattr(run, "has_unit_length", False) and (n_windows > 1).any():
        raise ValueError(
            "the graph scales vectors to unit length before the mean over the windows of a text: set long_text='truncate', or "
            "use the weights (skxlmr.load)"
        )
    weights_W = (encoded.lengths - estimator._n_around(how, False)).astype(np.float64)
    last = np.cumsum(n_windows).tolist()
    of_text = [
        weights / weights.sum() if weights.sum() else np.full(len(weights), 1 / len(weights))
        for weights in (weights_W[end - n : end] for n, end in zip(n_windows.tolist(), last, strict=True))
    ]
    text_T, places_T2 = places(encoded, texts, how)
    number_T = np.repeat(encoded.input_rows % 2, encoded.lengths)
    dropped = np.bincount(encoded.input_rows // 2, encoded.n_dropped, minlength=len(rows)).astype(int)
    explained = Explained(
        texts=rows,
        names=PAIR,
        targets=[None] * len(rows),
        encoded=encoded,
        row_W=encoded.input_rows // 2,
        text_T=np.where(text_T < 0, -1, number_T),
        places_T2=places_T2,
        words=words_of(rows),
        n_dropped=dropped,
        reader=Cosine([(of_text[2 * i], of_text[2 * i + 1]) for i in range(len(rows))], n_features),
        forward=_Pooled(
            how.pooling,
            estimator._layers(),
            estimator._n_skipped(how, False),
            bool(how.layers) and estimator._has_further_layers(),
        ),
        run=run,
    )
    return engine, explained


class _Pooled:
    """The vector of a text from the embeddings of its words, as :meth:`skxlmr.inference.Engine.pooled` makes it of ids."""

    def __init__(self, pooling: Any, layers: list[int], n_skipped: int, further: bool):
        self.pooling, self.layers, self.n_skipped, self.further = pooling, layers, n_skipped, further

    def __call__(self, module: TaskModule, z: Tensor, layout: TokenLayout) -> Tensor:
        given: Any = _WithEmbeddings(module.backbone, z)
        ids: Any = None
        x = pool(given, ids, layout, self.pooling, self.layers, self.n_skipped)
        further: Any = getattr(module, "sentence", None) if self.further else None
        vectors: Tensor = x if further is None else further(x)
        return vectors


class _WithEmbeddings:
    """An encoder whose words are given as embeddings."""

    def __init__(self, backbone: Any, z: Tensor):
        self._backbone, self._z, self.pooler = backbone, z, backbone.pooler

    def __call__(self, ids: Any, layout: TokenLayout, **options: Any) -> Any:
        return self._backbone(None, layout, inputs_embeds=self._z, **options)
