"""Prompts with choices to the index of the right choice."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, Self

import numpy as np
from scipy.special import softmax
from sklearn.utils import column_or_1d
from sklearn.utils.validation import check_consistent_length

from skxlmr.estimators._choices.rows import Choices, check_choices, choice_table
from skxlmr.estimators._choices.task import ChoiceTask, by_row
from skxlmr.estimators._core.rollback import all_or_nothing
from skxlmr.estimators._fine_tuning.fine_tuned import FineTuned
from skxlmr.estimators._fine_tuning.training_rows import TrainingRows
from skxlmr.estimators.heads import MULTIPLE_CHOICE
from skxlmr.estimators.parameters import SamplingParameters, estimator
from skxlmr.text import EncodedBatch, SubwordSampling
from skxlmr.utils._containers import known_container
from skxlmr.utils._labels import plain_array, warn_of_column
from skxlmr.utils._sklearn import ClassifierMixin, fit_context
from skxlmr.utils._validation import Texts, check_rows


@estimator
class XLMRobertaMultipleChoiceClassifier(SamplingParameters, ClassifierMixin, FineTuned):
    """Choose the right one of two or more texts for each prompt by fine-tuning XLM-RoBERTa.

    Each choice is read together with its prompt and gets a score; the loss is the cross-entropy over the choices of a row.
    The number of choices may differ from row to row.

    Read more in :doc:`/multiple_choice`.

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    classes_ : ndarray of shape (n_most_choices,), int64
        Indices 0, 1, ... up to the most choices of a row of ``fit``; rows with more can be predicted too.
    module_ : torch.nn.Module
        The encoder with its pooler and head.
    tokenizer_ : Tokenizer
        The checkpoint's tokenizer.
    config_ : ModelConfig
        Geometry of the checkpoint.
    loss_curve_ : list of float
        Mean training loss of each epoch.
    validation_scores_ : list of float or None
        Accuracy on the validation data after each epoch; None without validation data.
    {of_a_fit}
    n_truncated_ : int
        Choices of the training data that were cut, or have a prompt that was cut.
    n_features_in_ : int
        Columns of X: 2 for prompts and lists of choices.
    feature_names_in_ : ndarray of str
        Column names of a DataFrame that was passed to ``fit``.

    See Also
    --------
    XLMRobertaClassifier : The same classes for all rows, also of pairs of texts.
    XLMRobertaRegressor : Scores of pairs, and documents in order of them.
    skxlmr.inspection.LossCurveDisplay : Draws the loss of a fit by epoch.

    References
    ----------
    .. [1] Conneau et al. (2020), "Unsupervised Cross-lingual Representation Learning at Scale", arXiv:1911.02116.
    .. [2] Radford et al. (2018), "Improving Language Understanding by Generative Pre-Training", section 3.3.
    .. [3] Ponti et al. (2020), "XCOPA: A Multilingual Dataset for Causal Commonsense Reasoning", arXiv:2005.00333.

    Examples
    --------
    >>> from skxlmr import XLMRobertaMultipleChoiceClassifier
    >>> X = [
    ...     {"prompt": "It rained.", "choices": ["The street is wet.", "The street is dry."]},
    ...     {"prompt": "Es schneite.", "choices": ["Heiß.", "Alles war grün.", "Alles war weiß."]},
    ... ]
    >>> chooser = XLMRobertaMultipleChoiceClassifier("skxlmr-mini", learning_rate=1e-3, max_epochs=20, random_state=0)
    >>> chooser.fit(X, [0, 2]).predict(X)
    array([0, 2])
    >>> chooser.predict_proba(X).shape
    (2, 3)
    """

    _head = MULTIPLE_CHOICE

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
        X : DataFrame, list of dict, list of (prompt, choices) or 2-D array
            One prompt and two or more choices per row. A DataFrame has a column of prompts (the one named ``prompt``, or
            else the first) and either one column of lists of choices, or one column per choice, in which rows with fewer
            choices end in missing values. A dict has the keys ``prompt`` and ``choices``. Where there are columns or keys
            of these two names, no others are read.
        y : array-like of shape (n_rows,) of int
            Index of the right choice of each row, from 0.
        sample_weight : array-like of shape (n_rows,), optional
            Weight of each row in the loss; a weight of 2 counts like two rows, 0 leaves a row out of the training.
            ``classes_`` is learnt from all rows.
        X_val : DataFrame, list of dict, list of (prompt, choices) or 2-D array, optional
            Validation rows, for ``validation_scores_`` and early stopping.
        y_val : array-like of shape (n_val_rows,) of int, optional
            Indices of their right choices.
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
            If a row of X has no prompt, fewer than two choices or one that is not a text, or y is not one of its choices;
            names the row.
        FloatingPointError
            If the loss or the gradient stops being finite; names the rows.
        KeyboardInterrupt
            Passed on; after at least one epoch the weights of the last finished one are in place.
        """
        return self._fit(X, y, sample_weight, X_val, y_val, resume=resume)

    @fit_context(prefer_skip_nested_validation=True)
    def partial_fit(  # type: ignore[override]  # takes classes, as scikit-learn's classifiers do
        self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None
    ) -> Self:
        """Train on more rows, in one pass over them at a constant learning rate.

        The first call opens the checkpoint, unless there was a fit. Every call trains with ``learning_rate`` from its first
        step on: ``max_epochs``, ``schedule``, ``warmup_ratio``, early stopping and ``resume_dir`` are not read. AdamW's
        moments stay in memory from one call to the next. ``n_iter_``, ``loss_curve_`` and ``n_truncated_`` continue.

        Parameters
        ----------
        X : DataFrame, list of dict, list of (prompt, choices) or 2-D array
            One prompt and two or more choices per row.
        y : array-like of shape (n_rows,) of int
            Index of the right choice of each row, from 0.
        classes : array-like of int, optional
            Not needed: the classes are the indices of the choices, up to the most choices of a row of the first call, or up to
            the greatest index given here if later rows have more. Later calls refuse indices beyond them.
        sample_weight : array-like of shape (n_rows,), optional
            Weight of each row in the loss; a weight of 2 counts like two rows, 0 leaves a row out.

        Returns
        -------
        self

        Raises
        ------
        CheckpointError
            If the checkpoint cannot be read or does not fit.
        ValueError
            If X or y is not what ``fit`` takes, or ``classes`` holds what is no index of a choice, or not among those of
            earlier calls.
        FloatingPointError
            If the loss or the gradient stops being finite; names the rows.
        """
        with all_or_nothing(self):
            known = getattr(self, "classes_", None)  # not yet in a first call, nor straight from a checkpoint
            if classes is not None and known is not None and not set(np.ravel(classes).tolist()) <= set(known.tolist()):
                raise ValueError(f"classes must be among those of earlier calls, {known!r}, got {classes!r}")
            n_named = 0 if classes is None or known is not None else 1 + _last_index(classes)
            history, watcher = self._fit_portion(X, y, sample_weight, learns_targets=False)
            if n_named:
                self.classes_ = np.arange(max(n_named, len(getattr(self, "classes_", ()))))
        return self._fit_ends(history, watcher)

    def decision_function(self, X: Any) -> np.ndarray:
        """Scores of the choices.

        Parameters
        ----------
        X : DataFrame, list of dict, list of (prompt, choices) or 2-D array
            One prompt and two or more choices per row.

        Returns
        -------
        ndarray of shape (n_rows, n_columns), float32
            A column for each of ``classes_``, and more if a row of X has more choices; minus infinity beyond the choices of
            a row.
        """
        engine = self._engine()
        rows = self._check_X(X, reset=False)
        fewest = len(getattr(self, "classes_", range(2)))  # which a checkpoint doesn't say
        if not len(rows):
            return np.empty((0, fewest), np.float32)
        return by_row(engine.rows(self._encode(rows)).reshape(-1), rows.n_choices, fill=-np.inf, n_columns=fewest)

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probability of each choice among those of its row.

        Parameters
        ----------
        X : DataFrame, list of dict, list of (prompt, choices) or 2-D array
            One prompt and two or more choices per row.

        Returns
        -------
        ndarray of shape (n_rows, n_columns), float32
            A column for each of ``classes_``, and more if a row of X has more choices; zero beyond the choices of a row.
            Rows sum to one.
        """
        return softmax(self.decision_function(X), axis=1)

    def predict(self, X: Any) -> np.ndarray:
        """Most probable choice of each row.

        Parameters
        ----------
        X : DataFrame, list of dict, list of (prompt, choices) or 2-D array
            One prompt and two or more choices per row.

        Returns
        -------
        ndarray of shape (n_rows,), int64
            Its index.
        """
        return self.predict_proba(X).argmax(1)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Share of the rows whose right choice is the most probable one.

        Parameters
        ----------
        X : DataFrame, list of dict, list of (prompt, choices) or 2-D array
            One prompt and two or more choices per row.
        y : array-like of shape (n_rows,) of int
            Index of the right choice of each row, from 0.
        sample_weight : array-like of shape (n_rows,), optional
            How much each row counts.

        Returns
        -------
        float
            From 0 to 1.
        """
        return super().score(X, plain_array(y), sample_weight)

    def _check_X(self, X: Any, reset: bool, name: str = "X") -> Choices:
        rows = check_choices(X, name)
        if reset:
            check_rows(rows, name)
            self.classes_ = np.arange(rows.n_choices.max())
        self._check_columns(choice_table(known_container(X, name)), rows.n_columns, reset)
        return rows

    def _check_targets(self, y: Any, rows: Any, weights: np.ndarray, reset: bool, name: str = "y") -> np.ndarray:
        """The targets as int64, each one of the choices of its row."""
        column = plain_array(y)
        warn_of_column(column, name)
        answers = column_or_1d(column).tolist()
        answers = [int(answer) if isinstance(answer, float) and answer.is_integer() else answer for answer in answers]
        check_consistent_length(rows, answers)
        for row, (answer, n_choices) in enumerate(zip(answers, rows.n_choices, strict=True)):
            if not isinstance(answer, int) or isinstance(answer, bool) or not 0 <= answer < n_choices:
                kind = "a continuous target, " if isinstance(answer, float) else ""
                raise ValueError(
                    f"{name} row {row}: expected the index of a choice, 0 to {n_choices - 1}, got {kind}{answer!r}"
                )
        return np.array(answers, np.int64)

    def _encode(self, rows: Any, sampling: SubwordSampling | None = None, **options: Any) -> EncodedBatch:
        """Each prompt with each of its choices, which take the place of the windows of a long text."""
        row_of_choice = np.repeat(np.arange(len(rows)), rows.n_choices)
        prompts = [rows.prompts[row] for row in row_of_choice]
        choices = [choice for of_row in rows.choices for choice in of_row]
        return replace(super()._encode(Texts(prompts, choices), sampling, **options), row_of_window=row_of_choice)

    def _make_task(self, rows: TrainingRows) -> ChoiceTask:
        return ChoiceTask(rows.encoded["encoded"], rows.targets, rows.weights)

    def _class_codes(self, rows: TrainingRows) -> tuple[np.ndarray | None, np.ndarray, Sequence[Any]]:
        return rows.targets[:, None], rows.weights, [self.classes_.tolist()]

    def _validation_score(self, rows: TrainingRows) -> float:
        from sklearn.metrics import accuracy_score

        encoded = rows.encoded["encoded"]
        predicted = by_row(self._engine().rows(encoded).reshape(-1), encoded.n_windows, fill=-np.inf).argmax(1)
        return float(accuracy_score(rows.targets, predicted, sample_weight=rows.weights))


def _last_index(classes: Any) -> int:
    """The greatest of some indices of choices; -1 if there are none."""
    indices = np.ravel(plain_array(classes))
    if len(indices) and not (indices.dtype.kind in "iu" and indices.min() >= 0):
        raise ValueError(f"classes must be indices of choices, whole numbers from 0, got {classes!r}")
    return int(indices.max(initial=-1))
