"""From the logits of tokens to tags, spans and entities.

Shape suffixes: m tokens of an entity or a word, K classes.
"""

from collections.abc import Collection
from typing import Any

import numpy as np
from scipy.special import log_softmax

from skxlmr.estimators._fine_tuning.fine_tuned import FineTuned
from skxlmr.estimators._tokens.annotations import SPAN_KEYS, Span
from skxlmr.estimators._tokens.entities import AGGREGATIONS, find_entities
from skxlmr.estimators._tokens.rows import TokenRows, check_tags, check_token_rows, object_array
from skxlmr.estimators._tokens.spans import check_spans, spans_of_tags
from skxlmr.estimators._tokens.tag_rules import TagRules, detect_scheme, doubts
from skxlmr.estimators._tokens.task import best_places, starts_of_words
from skxlmr.estimators.parameters import AT_LEAST_0, parameter, parameters
from skxlmr.inference import Engine
from skxlmr.metrics import entity_f1_score, precision_recall_f1, word_accuracy
from skxlmr.metrics._schemes import PREFIXES, split_tag
from skxlmr.text import EncodedBatch, SubwordSampling
from skxlmr.utils._shown.results import Entities
from skxlmr.utils._sklearn import StrOptions
from skxlmr.utils._tables import plain
from skxlmr.utils._warnings import warn_once_per_call


@parameters
class TaggingParameters:
    """Parameters of taggers that predictions depend on."""

    stride: int = parameter(
        32,
        [AT_LEAST_0],
        "Tokens that neighbouring windows of a long row share, at most half of a window. Each word is learnt and "
        "predicted where it has the most context.",
    )
    scheme: str = parameter(
        "auto",
        [StrOptions({"auto", *PREFIXES, "plain"})],
        "What tags mean: entities from ``B-``, ``I-`` (and ``E-``, ``S-``) tags, read leniently (``'BIO'``) or "
        "strictly (``'IOB2'``, ``'IOBES'``, and in other letters ``'BILOU'``, ``'BMES'``), or classes of their own "
        "(``'plain'``). ``'auto'`` chooses by the classes, never ``'IOB2'``. Spans of texts become tags of this "
        "scheme, of ``'BIO'`` with ``'auto'``.",
    )
    constrained: bool = parameter(
        False,
        ["boolean"],
        "Predict the most probable sequence of tags that keeps the rules of the scheme (Viterbi) instead of the "
        "most probable tag of each word: no ``I-PER`` after ``O``, unless the classes have an ``I-`` without its "
        "``B-``: there ``I-`` begins entities (IOB1).",
    )
    span_edges: str = parameter(
        "error",
        [StrOptions({"error", "expand", "drop"})],
        "What ``fit`` and ``score`` do with a span that begins or ends inside a word of its text: raise an error, "
        "``'expand'`` it to whole words, or ``'drop'`` it. A warning tells how many there were.",
    )
    overlaps: str = parameter(
        "error",
        [StrOptions({"error", "longest"})],
        "What ``fit`` and ``score`` do with spans of a text that overlap: raise an error, or keep the ``'longest'`` "
        "and of equally long ones the first.",
    )


class TokenPredictions(TaggingParameters, FineTuned):
    """What a tagger does once it is fitted."""

    classes_: np.ndarray

    def predict_proba(self, X: Any) -> list[np.ndarray]:
        """Probabilities of the tags of each word.

        Parameters
        ----------
        X : list, array, Series or one-column DataFrame
            Rows of words, or texts, whichever were passed to ``fit``.

        Returns
        -------
        list of ndarray of shape (n_words, n_classes), float32
            For each row. The words of texts are cut as in ``fit``.
        """
        engine = self._engine()
        rows = self._check_X(X, reset=False)
        return [np.exp(row) for row in self._log_proba(engine, self._encode(rows), len(rows))]

    def predict(self, X: Any) -> np.ndarray:
        """Tags of the words, or spans in the texts.

        Parameters
        ----------
        X : list, array, Series or one-column DataFrame
            Rows of words, or texts, whichever were passed to ``fit``.

        Returns
        -------
        ndarray of object, of shape (n_rows,)
            For rows of words, lists of one tag per word, with ``constrained=False`` the most probable one. For texts, lists of
            spans ``(start, end, label)``, dicts if the spans of ``fit`` were.
        """
        engine = self._engine()
        rows = self._check_X(X, reset=False)
        found = self._predict(engine, rows)
        if rows.texts is not None and getattr(self, "_dict_spans", False):
            found = [[dict(zip(SPAN_KEYS, span, strict=True)) for span in row] for row in found]
        return object_array(found)

    def predict_entities(
        self, X: Any, aggregation: str = "auto", ignore_labels: Collection[str] = ("O",)
    ) -> list[list[dict[str, Any]]]:
        """Entities with scores, in raw texts.

        Parameters
        ----------
        X : texts, or rows of words, which are joined with spaces
            Either, whatever the estimator was fitted on.
        aggregation : {"auto", "word", "simple", "first", "average", "max", "none"}
            How tokens become entities. ``"word"`` groups the words and tags of ``predict``, each word encoded on its own as
            in ``fit``: no entity is a part of a word. ``"simple"`` groups neighbouring tokens of one type. ``"first"``,
            ``"average"`` and ``"max"`` first choose one tag per word (what lies between white space): that of its first
            token, of the mean of its tokens' probabilities, or of the most certain token. ``"none"`` returns every token.
            ``"auto"`` is ``"word"`` for what ``fit`` or ``partial_fit`` trained, and ``"simple"`` straight from a
            checkpoint, which may have learnt the tags of all tokens or other words.
        ignore_labels : collection of str
            Types, or tags, that are left out.

        Returns
        -------
        list of list of dict
            For each row, the entities in order: ``entity_group``, ``score`` (mean probability), ``word`` (the part of the
            text), ``start`` and ``end`` (characters). With ``"none"``: ``entity`` (the tag) and ``index`` (number of the
            token) instead of ``entity_group``. At a prompt the list shows itself as a table, in a notebook as the texts with
            the entities marked; ``print``, pickles and JSON are those of a plain list.

        Notes
        -----
        The results equal those of the token-classification pipeline of ``transformers``, except for white space and invisible
        characters around an entity, which never belong to it here (an entity that ends with the mark of the next word's
        beginning ends before this word), for zero-width spaces, which end words here, and for texts too long for the model,
        which are shown in windows here. The pipeline has no ``"word"``. With ``constrained=True`` the tags keep the rules of
        the scheme.

        Examples
        --------
        >>> from skxlmr import XLMRobertaTokenClassifier
        >>> X = ["Anna lebt in Rom.", "Paul lives in Paris."] * 4
        >>> y = [[(0, 4, "PER"), (13, 16, "LOC")], [(0, 4, "PER"), (14, 19, "LOC")]] * 4
        >>> tagger = XLMRobertaTokenClassifier("skxlmr-mini", learning_rate=2e-3, max_epochs=10, random_state=0).fit(X, y)
        >>> for entity in tagger.predict_entities(["Paul lebt in Paris."])[0]:
        ...     print(entity["entity_group"], entity["word"], entity["start"], entity["end"])
        PER Paul 0 4
        LOC Paris 13 18
        """
        if aggregation not in ("auto", *AGGREGATIONS):
            raise ValueError(f"aggregation must be one of auto, {', '.join(AGGREGATIONS)}; found {aggregation!r}")
        if not isinstance(ignore_labels, Collection) or isinstance(ignore_labels, str):
            raise TypeError(f"ignore_labels must be a collection of labels, got {ignore_labels!r}")
        ignored = list(map(plain, ignore_labels))
        engine = self._engine()
        if aggregation == "auto":
            aggregation = "word" if hasattr(self, "_fitted_on") else "simple"
        rows = check_token_rows(X, missing=getattr(self, "missing", None), rows_needed=False)
        texts = rows.joined()
        labels = [str(label) for label in self.classes_.tolist()]
        rules = self._rules()

        def choose(scores_mK: np.ndarray) -> np.ndarray:
            return scores_mK.argmax(1) if rules is None else rules.decode(np.log(np.maximum(scores_mK, 1e-30)))

        how: dict[str, Any] = {
            "scheme": self._resolved_scheme(),
            "aggregation": aggregation,
            "choose": choose,
            "ignore_labels": ignored,
        }
        parts = self._words_of(rows, engine) if aggregation == "word" else self._tokens_of(texts, engine)
        return Entities.of_texts(
            texts, (find_entities(text, *part, labels, **how) for text, part in zip(texts, parts, strict=True))
        )

    def _tokens_of(self, texts: list[str], engine: Engine) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """For each text, the places of its tokens, whether each is unknown, and the probabilities of their classes."""
        encoded = self.tokenizer_.encode_batch(texts, return_offsets=True, **self._windows())
        assert encoded.offsets is not None
        proba = np.exp(log_softmax(engine.tokens(encoded), axis=1))
        is_unknown = encoded.ids == self.tokenizer_.unk_token_id
        by_row = _by_row(encoded, best_places(encoded), len(texts))
        return [(encoded.offsets[row], is_unknown[row], proba[row]) for row in by_row]

    def _words_of(self, rows: TokenRows, engine: Engine) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """The same for words; none is unknown."""
        proba = map(np.exp, self._log_proba(engine, self._encode(rows), len(rows)))
        return [
            (places, np.zeros(len(places), bool), row) for places, row in zip(rows.joined_places(), proba, strict=True)
        ]

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """F1 of entities, or for plain tags the accuracy of words.

        Parameters
        ----------
        X : list, array, Series or one-column DataFrame
            Rows of words, or texts.
        y : list, array or Series
            Their tags or spans.
        sample_weight : array-like of shape (n_rows,), optional
            Entities and words count as much as their rows weigh.

        Returns
        -------
        float
            Micro average over the entities (`skxlmr.metrics.entity_f1_score`) or words of all rows. For texts always the F1
            of spans.
        """
        self._engine()  # refuses what is not fitted, before it reads X
        rows = self._check_X(X, reset=False)
        true = check_tags(y, rows) if rows.texts is None else self._check_spans(y, rows)
        predicted = self.predict(X).tolist()
        if rows.texts is None:
            return self._score_tags(true, predicted, sample_weight)
        if getattr(self, "_dict_spans", False):
            predicted = [[tuple(span[key] for key in SPAN_KEYS) for span in row] for row in predicted]
        return precision_recall_f1(true, predicted, sample_weight)[2]

    def _check_spans(self, y: Any, rows: TokenRows, name: str = "y") -> list[list[Span]]:
        """Spans of whole words of each text."""
        return check_spans(y, rows, name, span_edges=self.span_edges, overlaps=self.overlaps)

    def _windows(self) -> dict[str, Any]:
        """Length of the windows and what neighbours share."""
        limit = self._limit()
        return {"max_length": limit, "stride": min(self.stride, (limit - 2) // 2)}

    def _predict(self, engine: Engine, rows: TokenRows) -> list[list[Any]]:
        """Tags or spans of each row."""
        tags = self._choose_tags(self._log_proba(engine, self._encode(rows), len(rows)))
        if rows.places is None:
            return tags
        scheme = self._resolved_scheme()
        return [spans_of_tags(row, places, scheme) for row, places in zip(tags, rows.places, strict=True)]

    def _encode(self, rows: Any, sampling: SubwordSampling | None = None, **options: Any) -> EncodedBatch:
        return self.tokenizer_.encode_words(rows.words, sampling=sampling, **self._windows(), **options)

    def _log_proba(self, engine: Engine, encoded: EncodedBatch, n_rows: int) -> list[np.ndarray]:
        """Log-probabilities of the words of each row, (n_words, n_classes) float32."""
        logits = engine.tokens(encoded)
        places = best_places(encoded)
        words = places[starts_of_words(encoded, places)]
        return [log_softmax(logits[row], axis=1) for row in _by_row(encoded, words, n_rows)]

    def _choose_tags(self, log_proba: list[np.ndarray]) -> list[list[Any]]:
        rules = self._rules()
        codes = [np.exp(row).argmax(1) if rules is None else rules.decode(row) for row in log_proba]
        return [self.classes_[row].tolist() for row in codes]

    def _resolved_scheme(self) -> str:
        """The scheme of the classes. Raises ValueError if they do not follow the parameter ``scheme``."""
        if self.scheme == "auto":
            return detect_scheme(self.classes_.tolist())
        for tag in self.classes_.tolist():
            split_tag(tag, self.scheme)
        return self.scheme

    def _doubt_scheme(self) -> None:
        """Warn where tags that look like those of a scheme are read as plain classes."""
        if self.scheme != "auto" or detect_scheme(self.classes_.tolist()) != "plain":
            return
        if (reason := doubts(self.classes_.tolist())) is not None:
            warn_once_per_call(
                f"the tags are read as plain classes, not as entities: {reason}. Correct the tags, or pass scheme='plain' if "
                "they are classes",
                about="scheme",
            )

    def _rules(self) -> TagRules | None:
        """The rules that predictions keep, if any."""
        scheme = self._resolved_scheme()
        return TagRules(self.classes_.tolist(), scheme) if self.constrained else None

    def _score_tags(self, true: Any, predicted: Any, sample_weight: Any) -> float:
        scheme = self._resolved_scheme()
        if scheme == "plain":
            return word_accuracy(true, predicted, sample_weight)
        return entity_f1_score(true, predicted, scheme=scheme, sample_weight=sample_weight)


def _by_row(encoded: EncodedBatch, places: np.ndarray, n_rows: int) -> list[np.ndarray]:
    """The places of each row of the input."""
    if not n_rows:
        return []
    row_of_place = np.repeat(encoded.input_rows, encoded.lengths)[places]
    return np.split(places, np.searchsorted(row_of_place, np.arange(1, n_rows)))
