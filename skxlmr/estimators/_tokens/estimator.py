"""Rows of words, or texts, to a tag for each word."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np

from skxlmr.checkpoints import StoredModel
from skxlmr.estimators._core.classes import check_classes
from skxlmr.estimators._core.output_labels import labels_config, output_classes, output_labels
from skxlmr.estimators._core.rollback import all_or_nothing
from skxlmr.estimators._fine_tuning.training_rows import TrainingRows
from skxlmr.estimators._sequence.targets import weights_of_classes
from skxlmr.estimators._tokens.predictions import TokenPredictions
from skxlmr.estimators._tokens.rows import TokenRows, check_tags, check_token_rows, object_array
from skxlmr.estimators._tokens.spans import entity_tags, has_dicts, tags_of_spans
from skxlmr.estimators._tokens.task import NO_LABEL, TokenTask
from skxlmr.estimators.heads import TOKEN_CLASSIFICATION
from skxlmr.estimators.parameters import (
    CheckpointParameters,
    LabelSmoothingParameters,
    SamplingParameters,
    TextParameters,
    changed,
    estimator,
    parameter,
)
from skxlmr.metrics._schemes import IGNORED, split_tag
from skxlmr.nn.losses import cross_entropy
from skxlmr.utils._labels import plain_array
from skxlmr.utils._sklearn import StrOptions, check_feature_names, fit_context
from skxlmr.utils._validation import check_texts


@estimator
class XLMRobertaTokenClassifier(LabelSmoothingParameters, SamplingParameters, TextParameters, TokenPredictions):
    """Tag words or find entities in texts by fine-tuning XLM-RoBERTa.

    The encoder is trained together with a new projection of each word's first token. Rows of words take a tag for each word;
    texts take spans of characters, and are cut into words: runs of letters, marks and digits, or single other characters,
    each character of a script that puts no spaces between words (Chinese, Japanese, Thai, ...).

    Read more in :doc:`/token_classification`.

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Tags, sorted; straight from a checkpoint in the checkpoint's order.
    module_ : torch.nn.Module
        The encoder with its head.
    tokenizer_ : Tokenizer
        The checkpoint's tokenizer.
    config_ : ModelConfig
        Geometry of the checkpoint.
    loss_curve_ : list of float
        Mean training loss of each epoch.
    validation_scores_ : list of float or None
        Score (see ``score``) on the validation data after each epoch; None without validation data.
    {of_a_fit}
    n_truncated_ : int
        Rows of the training data that were cut: always 0.
    n_features_in_ : int
        1, the column of words or texts.
    feature_names_in_ : ndarray of str
        Column name of a DataFrame that was passed to ``fit``.

    See Also
    --------
    XLMRobertaClassifier : A class for each text as a whole.
    XLMRobertaQuestionAnswerer : The part of a text that answers a question.
    skxlmr.metrics.entity_report : Scores of each type of entity.
    skxlmr.inspection.EntityDisplay : Entities marked in their texts.

    References
    ----------
    .. [1] Conneau et al. (2020), "Unsupervised Cross-lingual Representation Learning at Scale", arXiv:1911.02116.
    .. [2] Devlin et al. (2019), "BERT: Pre-training of Deep Bidirectional Transformers", section 5.3, arXiv:1810.04805.

    Examples
    --------
    Tags of words:

    >>> from skxlmr import XLMRobertaTokenClassifier
    >>> X = [["Anna", "lebt", "in", "Rom"], ["Paul", "lives", "in", "Paris"]] * 4
    >>> y = [["B-PER", "O", "O", "B-LOC"]] * 8
    >>> tagger = XLMRobertaTokenClassifier("skxlmr-mini", learning_rate=2e-3, max_epochs=10, random_state=0)
    >>> tagger.fit(X, y).predict([["Paul", "lebt", "in", "Paris"]])[0]
    ['B-PER', 'O', 'O', 'B-LOC']

    Entities in texts; a fit on spans ``[(0, 4, "PER"), ...]`` of texts reads and gives them, too:

    >>> for entity in tagger.predict_entities(["Anna lives in Paris."])[0]:
    ...     print(entity["entity_group"], entity["word"], entity["start"], entity["end"])
    PER Anna 0 4
    LOC Paris 14 19
    """

    max_length: int | None = changed(
        CheckpointParameters,
        "max_length",
        None,
        "Most tokens of a window, special tokens included; longer rows are shown in several windows, nothing is "
        "cut. None is as many as the checkpoint allows.",
    )
    class_weight: dict[Any, float] | str | None = parameter(
        None,
        [dict, StrOptions({"balanced"}), None],
        "Weight of each tag in the loss; ``'balanced'`` weighs tags inversely to their frequency among the words.",
    )
    label_all_subwords: bool = parameter(
        False, ["boolean"], "Learn a word's tag at all of its tokens instead of the first only."
    )

    _head = TOKEN_CLASSIFICATION
    _requires_y = True

    @fit_context(prefer_skip_nested_validation=True)
    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        X_val: Any = None,
        y_val: Any = None,
        *,
        resume: bool | Literal["auto"] = False,
    ) -> Self:
        """Fine-tune the checkpoint.

        Parameters
        ----------
        X : list, array, Series or one-column DataFrame, of shape (n_rows,)
            Rows of words (lists, tuples or arrays of str), or texts. A row may have no words; an empty word is one unknown
            token.
        y : list, array or Series of shape (n_rows,)
            For rows of words, lists of one tag per word; -100 leaves a word out. For texts, lists of spans
            ``(start, end, label)``, or dicts with these keys, in characters of the text; or the annotations of a text as
            spaCy, Doccano, Label Studio or Prodigy write them. White space at the ends of spans does not count.
            ``span_edges`` and ``overlaps`` say what happens to spans that begin or end inside a word, or overlap.
        sample_weight : array-like of shape (n_rows,), optional
            Weight of each row's words in the loss; a weight of 2 counts like two rows, 0 leaves a row out of the training.
            ``classes_`` is learnt from all rows.
        X_val : list, array, Series or one-column DataFrame, optional
            Validation rows, for ``validation_scores_`` and early stopping.
        y_val : list, array or Series, optional
            Their tags or spans.
        resume : bool or 'auto'
            Continue from the state in ``resume_dir`` if there is one of the same fit; else start from scratch. True refuses the
            state of another fit; with ``'auto'`` each fit has a folder of its own in ``resume_dir``, as searches need it, and
            continues a shorter one where the learning rate is constant.

        Returns
        -------
        self

        Raises
        ------
        CheckpointError
            If the checkpoint cannot be read or does not fit.
        ValueError
            If a row of X is neither words nor a text, if there is not one tag for each word, or a span cannot be read,
            overlaps another or cuts a word apart (names the row); if no row has words, or there is only one tag.
        FloatingPointError
            If the loss or the gradient stops being finite; names the rows.
        KeyboardInterrupt
            Passed on; after at least one epoch the weights of the last finished one are in place.
        """
        return self._fit(X, y, sample_weight, X_val, y_val, resume=resume)

    @fit_context(prefer_skip_nested_validation=True)
    def partial_fit(  # type: ignore[override]  # with the tags of all calls, as in scikit-learn
        self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None
    ) -> Self:
        """Train on more rows, in one pass over them at a constant learning rate.

        The first call opens the checkpoint, unless there was a fit. Every call trains with ``learning_rate`` from its first
        step on: ``max_epochs``, ``schedule``, ``warmup_ratio``, early stopping and ``resume_dir`` are not read. AdamW's
        moments stay in memory from one call to the next. ``n_iter_`` and ``loss_curve_`` continue.

        Parameters
        ----------
        X : list, array, Series or one-column DataFrame, of shape (n_rows,)
            Rows of words, or texts.
        y : list, array or Series of shape (n_rows,)
            Their tags or spans, as in ``fit``.
        classes : array-like of str or int, optional
            The tags of all calls, or for texts the labels of their spans; needed in the first call.
        sample_weight : array-like of shape (n_rows,), optional
            Weight of each row's words in the loss; a weight of 2 counts like two rows, 0 leaves a row out.

        Returns
        -------
        self

        Raises
        ------
        CheckpointError
            If the checkpoint cannot be read or does not fit.
        ValueError
            If X or y is not what ``fit`` takes, ``classes`` are missing in the first call or differ from those before, or y
            holds another tag.
        FloatingPointError
            If the loss or the gradient stops being finite; names the rows.
        """
        with all_or_nothing(self):
            if hasattr(self, "module_"):
                check_classes(None if classes is None else self._tags_of(classes, X), self.classes_)
            elif classes is None:
                raise ValueError(
                    "classes must be passed on the first call to partial_fit: the tags, or the labels of spans, of all calls"
                )
            else:
                self._learn_tags(self._tags_of(classes, X), "classes")
            history, watcher = self._fit_portion(X, y, sample_weight, learns_targets=False)
        return self._fit_ends(history, watcher)

    def _check_X(self, X: Any, reset: bool, name: str = "X") -> TokenRows:
        rows = check_token_rows(X, name, self.missing, rows_needed=reset)
        if reset:
            if not rows.n_words.any():
                raise ValueError("X has no words: at least one row with words is needed")
            self.n_features_in_ = 1
            self._fitted_on = rows.kind
        elif not len(rows) or not hasattr(self, "_fitted_on"):  # straight from a checkpoint: it may be words or texts
            return rows
        elif rows.kind != self._fitted_on:
            kinds = {"words": "rows of words", "texts": "texts"}
            remedy = "predict_entities reads raw texts" if rows.texts is not None else "pass the texts as strings"
            raise ValueError(
                f"{name} has {kinds[rows.kind]}, but {type(self).__name__} was fitted on {kinds[self._fitted_on]}: {remedy}"
            )
        check_feature_names(self, X, reset=reset)
        return rows

    def _scheme_of_spans(self) -> str:
        return "BIO" if self.scheme == "auto" else self.scheme

    def _tags_of(self, classes: Any, X: Any) -> list[str]:
        """The tags that the classes of ``partial_fit`` stand for: for texts those of spans with these labels."""
        of_words = check_token_rows(X, "X").texts is None
        numbers = plain_array(classes)
        if of_words and numbers.ndim == 1 and numbers.dtype.kind in "iu":
            found: list[Any] = numbers.tolist()
            return found
        names = check_texts(classes, "classes", pairs_allowed=False).first
        if of_words:
            return names
        if "O" in names:
            raise ValueError("classes has 'O': for spans it must have their labels, such as 'PER', and no tags")
        scheme = self._scheme_of_spans()
        return _all_tags([tag for label in names for tag in entity_tags(label, 1, scheme)], scheme)

    def _learn_tags(self, tags: list[str], name: str) -> None:
        """Set the classes to these tags."""
        if not tags:
            raise ValueError(f"{name} has no tags: every word has -100, which leaves it out")
        self.classes_ = np.unique(tags)
        if len(self.classes_) < 2:
            raise ValueError(f"{name} has only one tag, {self.classes_.tolist()[0]!r}: at least two are needed")
        self._rules()  # raises where the scheme does not fit the tags, before anything is trained
        self._doubt_scheme()

    def _check_targets(self, y: Any, rows: Any, weights: np.ndarray, reset: bool, name: str = "y") -> np.ndarray:
        """Codes of the tags of each row, -1 for words without one, an object array of int64 arrays."""
        if rows.texts is None:
            tags_of_rows = check_tags(y, rows, name)
        else:
            tags_of_rows = tags_of_spans(self._check_spans(y, rows, name), rows, self._scheme_of_spans())
        if name == "y":
            self._dict_spans = rows.texts is not None and has_dicts(y)
        if reset:
            tags = [tag for row in tags_of_rows for tag in row if tag != IGNORED]
            if rows.texts is not None:
                tags += _all_tags(tags, self._scheme_of_spans())
            self._learn_tags(tags, name)
        tags = self.classes_.tolist()
        code_of = {tag: code for code, tag in enumerate(tags)} | {IGNORED: NO_LABEL}
        found = []
        for row, row_tags in enumerate(tags_of_rows):
            if unknown := [tag for tag in row_tags if tag not in code_of]:
                raise ValueError(
                    f"{name} row {row}: tag {unknown[0]!r} is not among the classes of the fit, "
                    f"{', '.join(map(repr, tags[:10]))}{', ...' if len(tags) > 10 else ''}"
                )
            found.append(np.array([code_of[tag] for tag in row_tags], np.int64))
        return object_array(found)

    def _head_arguments(self) -> tuple[int, ...]:
        return (len(self.classes_),)

    def _make_task(self, rows: TrainingRows) -> TokenTask:
        of, class_weight = rows.split_from or rows, self.class_weight if rows.weighs_classes else None
        codes = np.concatenate(of.targets)
        of_words = np.where(codes == NO_LABEL, 0, np.repeat(of.weights, [len(row) for row in of.targets]))
        weight_of = weights_of_classes(class_weight, self.classes_, codes, of_words)
        return TokenTask(
            rows.encoded["encoded"],
            rows.targets,
            object_array([weight * weight_of[row] for weight, row in zip(rows.weights, rows.targets, strict=True)]),
            lambda logits, codes: cross_entropy(logits, codes, self.label_smoothing),
            self.label_all_subwords,
        )

    def _class_codes(self, rows: TrainingRows) -> tuple[np.ndarray | None, np.ndarray, Sequence[Any]]:
        codes = np.concatenate(rows.targets)
        of_words = np.repeat(rows.weights, [len(row) for row in rows.targets])
        tagged = codes != NO_LABEL
        return codes[tagged][:, None], of_words[tagged], [self.classes_.tolist()]

    def _validation_score(self, rows: TrainingRows) -> float:
        predicted = self._choose_tags(self._log_proba(self._engine(), rows.encoded["encoded"], len(rows)))
        tags = [*self.classes_.tolist(), IGNORED]  # NO_LABEL is the last
        return self._score_tags([[tags[code] for code in row] for row in rows.targets], predicted, rows.weights)

    def _hub_config(self) -> dict[str, Any]:
        return {**super()._hub_config(), **labels_config([str(label) for label in self.classes_.tolist()])}

    def _adopt(self, stored: StoredModel, file: Path) -> None:
        super()._adopt(stored, file)
        classes = output_classes(stored.raw, file)
        self.classes_ = classes if classes.dtype.kind in "iU" else np.array(output_labels(stored.raw, file))
        self._rules()
        self._doubt_scheme()


def _all_tags(tags: list[str], scheme: str) -> list[str]:
    """Every tag of the types among these, so that entities longer than those of the training can be predicted."""
    found = {"O"}
    for _, label in {split_tag(tag, scheme) for tag in tags if tag != "O"}:
        for n_words in (1, 2, 3):
            found.update(entity_tags(label, n_words, scheme))
    return sorted(found)
