"""Texts to classes, whatever the architecture family."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from sklearn.utils.validation import check_consistent_length

from skxlmr.checkpoints import CrossEncoder, StoredModel
from skxlmr.estimators._core.classes import check_classes
from skxlmr.estimators._core.long_text import LongTexts
from skxlmr.estimators._core.output_labels import PROBLEM_TYPES, check_problem_type, labels_config
from skxlmr.estimators._core.rollback import all_or_nothing
from skxlmr.estimators._fine_tuning.fine_tuned import FineTuned
from skxlmr.estimators._fine_tuning.fit_quality import warn_without_labels
from skxlmr.estimators._fine_tuning.training_rows import TrainingRows
from skxlmr.estimators._sequence.own_head import targets_of_checkpoint
from skxlmr.estimators._sequence.parameters import ClassificationParameters
from skxlmr.estimators._sequence.targets import (
    ManyColumns,
    ManyLabels,
    OneClass,
    Targets,
    announced_targets,
    learn_targets,
    targets_of,
)
from skxlmr.estimators._sequence.task import SequenceTask
from skxlmr.utils._sklearn import ClassifierMixin, fit_context
from skxlmr.utils._validation import check_fitted

if TYPE_CHECKING:
    from skxlmr.nn import TaskModule


class SequenceClassifier(ClassificationParameters, ClassifierMixin, LongTexts, FineTuned):
    """Classes of texts, whatever the architecture family."""

    classes_: Any
    target_type_: str
    _multi_output = True

    @classmethod
    def from_checkpoint(
        cls,
        checkpoint: Any,
        *,
        problem_type: Literal["single_label_classification", "multi_label_classification"] | None = None,
        **params: Any,
    ) -> Self:
        """Fitted estimator that predicts with the checkpoint's own head, without ``fit``.

        Parameters
        ----------
        checkpoint : str or path
            As in the constructor.
        problem_type : {'single_label_classification', 'multi_label_classification'}, optional
            Whether a row has one of the classes (softmax) or any of the labels (a sigmoid for each). By default it is what
            ``config.json`` says, else one of the classes; checkpoints with several labels per row often don't say so.
        **params
            Other parameters of the constructor.

        Returns
        -------
        fitted estimator

        Raises
        ------
        CheckpointError
            If the checkpoint cannot be read or has no head for this task.
        ValueError
            If ``problem_type`` is that of a regressor, or does not fit the number of outputs.

        Examples
        --------
        >>> import tempfile
        >>> from skxlmr import XLMRobertaClassifier, save
        >>> classifier = XLMRobertaClassifier("skxlmr-mini", max_epochs=1, random_state=0)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save(classifier.fit(["Guter Film", "Bad film"], ["good", "bad"]), folder + "/films")
        ...     XLMRobertaClassifier.from_checkpoint(folder + "/films").classes_
        array(['bad', 'good'], dtype='<U4')
        """
        check_problem_type(problem_type, cls.__name__, PROBLEM_TYPES[:2], "XLMRobertaRegressor")
        return cls._adopted(checkpoint, params, problem_type=problem_type)

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
        X : list, array, Series or DataFrame of str, of shape (n_rows,) or (n_rows, 1) or (n_rows, 2)
            Texts, or pairs of texts.
        y : array-like of shape (n_rows,), or array-like or sparse matrix of shape (n_rows, n_labels)
            Class labels; an indicator matrix of 0 and 1, with a column per label; or several columns of class labels.
        sample_weight : array-like of shape (n_rows,), optional
            Weight of each row in the loss; a weight of 2 counts like two rows, 0 leaves a row out of the training.
            ``classes_`` is learnt from all rows.
        X_val : list, array, Series or DataFrame of str, optional
            Validation texts or pairs, for ``validation_scores_`` and early stopping.
        y_val : array-like or sparse matrix, optional
            Their labels, with the shape of y.
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
            If a row of X is not a text (names the row), y does not fit X, or there is only one class.
        FloatingPointError
            If the loss or the gradient stops being finite; names the rows.
        KeyboardInterrupt
            Passed on; after at least one epoch the weights of the last finished one are in place.
        """
        return self._fit(X, y, sample_weight, X_val, y_val, resume=resume)

    @fit_context(prefer_skip_nested_validation=True)
    def partial_fit(  # type: ignore[override]  # with the classes of all calls, as in scikit-learn
        self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None
    ) -> Self:
        """Train on more rows, in one pass over them at a constant learning rate.

        The first call opens the checkpoint, unless there was a fit. Every call trains with ``learning_rate`` from its first
        step on: ``max_epochs``, ``schedule``, ``warmup_ratio``, early stopping and ``resume_dir`` are not read. AdamW's
        moments stay in memory from one call to the next. ``n_iter_``, ``loss_curve_`` and ``n_truncated_`` continue.

        Parameters
        ----------
        X : list, array, Series or DataFrame of str, of shape (n_rows,) or (n_rows, 1) or (n_rows, 2)
            Texts, or pairs of texts.
        y : array-like of shape (n_rows,), or array-like or sparse matrix of shape (n_rows, n_labels)
            Labels of these rows, as in ``fit``.
        classes : array-like of shape (n_classes,), or list of array-like, optional
            All classes of all calls, needed in the first one; with several columns of classes a list for each. The columns
            of an indicator matrix need none.
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
            If X or y is not what ``fit`` takes, ``classes`` are missing in the first call or differ from those before, or y
            holds another class.
        FloatingPointError
            If the loss or the gradient stops being finite; names the rows.

        Examples
        --------
        >>> from skxlmr import XLMRobertaClassifier
        >>> classifier = XLMRobertaClassifier("skxlmr-mini", learning_rate=1e-3, random_state=0)
        >>> batch = ["Guter Film", "Schlechter Film", "Great film", "Bad film"], ["good", "bad", "good", "bad"]
        >>> for _ in range(10):
        ...     classifier = classifier.partial_fit(*batch, classes=["bad", "good"])
        >>> classifier.n_iter_, classifier.predict(["Guter Film", "Bad film"])
        (10, array(['good', 'bad'], dtype='<U4'))
        """
        with all_or_nothing(self):
            if not hasattr(self, "module_"):
                self._set_targets(announced_targets(classes, y, "y"))
            else:
                check_classes(classes, self.classes_)
            history, watcher = self._fit_portion(X, y, sample_weight, learns_targets=False)
        return self._fit_ends(history, watcher)

    def decision_function(self, X: Any) -> Any:
        """Logits.

        Parameters
        ----------
        X : list, array, Series or DataFrame of str
            Texts or pairs, as passed to ``fit``.

        Returns
        -------
        ndarray of shape (n_rows, n_classes), or (n_rows,) for two classes: the second logit minus the first
            With several labels per row (n_rows, n_labels); with several columns of classes a list of arrays.
        """
        return self._targets.scores(self._logits(X))

    def predict_log_proba(self, X: Any) -> Any:
        """Logarithms of the class probabilities.

        Parameters
        ----------
        X : list, array, Series or DataFrame of str
            Texts or pairs, as passed to ``fit``.

        Returns
        -------
        ndarray of shape (n_rows, n_classes), float32
            With several labels per row (n_rows, n_labels), each label's on its own; with several columns of classes a list
            of arrays.
        """
        return self._targets.log_proba(self._logits(X))

    def predict_proba(self, X: Any) -> Any:
        """Class probabilities.

        Parameters
        ----------
        X : list, array, Series or DataFrame of str
            Texts or pairs, as passed to ``fit``.

        Returns
        -------
        ndarray of shape (n_rows, n_classes), float32
            With several labels per row (n_rows, n_labels), each label's on its own; with several columns of classes a list
            of arrays.

        See Also
        --------
        decision_function : The logits that they are made from.
        predict_log_proba : Their logarithms, computed from the logits.
        """
        return self._targets.proba(self._logits(X))

    def predict(self, X: Any) -> np.ndarray:
        """Most probable class of each row, or its labels.

        Parameters
        ----------
        X : list, array, Series or DataFrame of str
            Texts or pairs, as passed to ``fit``.

        Returns
        -------
        ndarray of shape (n_rows,), with the dtype of ``classes_``
            With several labels per row an indicator matrix (n_rows, n_labels) of 0 and 1: which probabilities reach
            ``threshold``. With several columns of classes (n_rows, n_columns).
        """
        targets, proba = self._targets, self.predict_proba(X)
        codes = targets.decide(proba, self.threshold)
        if isinstance(targets, ManyLabels):
            warn_without_labels(proba, codes, self.threshold)
        return targets.label(codes)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Share of the rows that are predicted right, in every label or column where there are several.

        Parameters
        ----------
        X : list, array, Series or DataFrame of str
            Texts or pairs, as passed to ``fit``.
        y : array-like or sparse matrix
            Their labels, with the shape of the y passed to ``fit``.
        sample_weight : array-like of shape (n_rows,), optional
            How much each row counts.

        Returns
        -------
        float
            From 0 to 1.
        """
        from sklearn.metrics import accuracy_score

        targets = self._targets
        if not isinstance(targets, ManyColumns):
            return super().score(X, targets.read(y, "y"), sample_weight)
        columns, codes = targets.read(y, "y"), targets.decide(self.predict_proba(X), self.threshold)
        check_consistent_length(codes, *columns)
        found = zip(targets.parts, columns, codes.T, strict=True)
        right = np.all([column == part.label(of_column) for part, column, of_column in found], axis=0)
        return float(accuracy_score(np.ones_like(right), right, sample_weight=sample_weight))

    @property
    def _targets(self) -> Targets:
        """The kind of y in the fit, with its classes."""
        check_fitted(self, "classes_")
        return targets_of(self.target_type_, self.classes_, self._y_columns)

    def _set_targets(self, targets: Targets) -> None:
        self.classes_, self.target_type_ = targets.classes, targets.target_type
        self._y_columns = targets.columns if isinstance(targets, ManyColumns) else None

    def _head_arguments(self) -> tuple[int, ...]:
        return (self._targets.n_outputs,)

    def _hub_config(self) -> dict[str, Any]:
        targets = self._targets
        about = {"problem_type": targets.problem_type, **labels_config(targets.names)}
        if isinstance(targets, ManyColumns):
            # the reference has no name for these; from_checkpoint must not read them as one set of classes
            about["classes_per_column"] = [part.n_outputs for part in targets.parts]
        return {**super()._hub_config(), **about}

    def _adopt(self, stored: StoredModel, file: Path, problem_type: str | None = None) -> None:
        self._set_targets(targets_of_checkpoint(stored.raw, file, self._head, problem_type))
        self._take_own(stored)

    def _take_own(self, stored: StoredModel) -> None:
        # only what it says of texts matters: classes follow from logits, whatever the activation
        self._said = stored.cross_encoder()
        self._check_room(self._how(), stored.folder)

    def _cross_encoder_to_save(self) -> CrossEncoder | None:
        """What a saved folder says to other tools; nothing of a head that was trained here."""
        said: CrossEncoder | None = self._said
        return said

    def _begin(self, continues: bool) -> TaskModule:
        if not continues:
            self._said = None  # of another head
        return super()._begin(continues)

    def _check_targets(self, y: Any, rows: Any, weights: np.ndarray, reset: bool, name: str = "y") -> np.ndarray:
        if reset:
            learnt, targets = learn_targets(y, name)
            self._set_targets(learnt)
        else:
            targets = self._targets.encode(y, name)
        check_consistent_length(weights, targets)
        if isinstance(self._targets, ManyLabels):
            self._targets.checked(self.threshold)
        return targets

    def _weigh_targets(self, weights: np.ndarray, targets: np.ndarray) -> np.ndarray:
        weighed = self._targets.weigh(weights, targets, self.class_weight)
        if not weighed.any():
            raise ValueError(f"class_weight leaves no row any weight, got {self.class_weight!r:.200}")
        return weighed

    def _strata(self, targets: np.ndarray) -> np.ndarray | None:
        if targets.ndim > 1:
            return None
        counts = np.unique(targets, return_counts=True)[1]
        n_val = self._n_validation(len(targets))
        enough = counts.min() > 1 and len(counts) <= min(n_val, len(targets) - n_val)
        return targets if enough else None

    def _make_task(self, rows: TrainingRows) -> SequenceTask:
        of, class_weight = rows.split_from or rows, self.class_weight if rows.weighs_classes else None
        loss = self._targets.loss(of.targets, of.weights, class_weight, self.label_smoothing)
        n_classes = [part.n_outputs for part in self._columns()]
        return SequenceTask(rows.encoded["encoded"], rows.targets, rows.weights, loss, n_classes)

    def _columns(self) -> list[OneClass]:
        """The classes of each column of y; none for several labels per row."""
        targets = self._targets
        if isinstance(targets, ManyLabels):
            return []
        return targets.parts if isinstance(targets, ManyColumns) else [targets]

    def _class_codes(self, rows: TrainingRows) -> tuple[np.ndarray | None, np.ndarray, Sequence[Any]]:
        columns = self._columns()
        codes = rows.targets.reshape(len(rows), -1) if columns else None
        return codes, rows.weights, [part.classes.tolist() for part in columns]

    def _validation_score(self, rows: TrainingRows) -> float:
        if isinstance(self._targets, ManyLabels):
            return self._minus_loss(rows)  # hardly any row is right in all labels, for long in no epoch
        encoded = rows.encoded["encoded"]
        proba: Any = self._targets.proba(self._engine().rows(encoded, window_weights=np.ones(len(encoded))))
        right = self._targets.decide(proba, self.threshold) == rows.targets
        return float(np.average(right.reshape(len(rows), -1).all(1), weights=rows.weights))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags
