"""Training in portions: one pass over the rows of each call."""

from typing import Any

import numpy as np
from sklearn.utils import check_random_state

from skxlmr.estimators._callbacks import CallbackWatcher
from skxlmr.estimators._failures import consistent
from skxlmr.estimators._training_rows import n_truncated, named_as_passed, seeded, take, weighing
from skxlmr.training import AdamState, History
from skxlmr.utils._sklearn import fit_context


class PartialFit:
    """``partial_fit`` beside ``fit``; for estimators that train."""

    # of FineTunedXLMRoberta, beside which this stands
    random_state: Any
    loss_curve_: list[float]
    validation_scores_: list[float] | None
    n_truncated_: int
    _check_rows: Any
    _weigh_targets: Any
    _begin: Any
    _encode_training: Any
    _train: Any
    _drawing: Any
    _watcher: Any

    @fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y=None, sample_weight=None):
        """Train on some rows more, in one pass over them at a constant learning rate.

        The first call opens the checkpoint, unless there was a fit. Every call trains with ``learning_rate`` from its first
        step on: ``max_epochs``, ``schedule``, ``warmup_ratio``, early stopping and ``checkpoint_dir`` are not read. AdamW's
        moments stay in memory from one call to the next. ``n_iter_``, ``loss_curve_`` and ``n_truncated_`` go on.

        Parameters
        ----------
        X, y : like in ``fit``
            The rows of this call.
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
            If X or y is nothing that ``fit`` takes, or does not go with the rows of the calls before.
        FloatingPointError
            If the loss or the gradient stops being finite; names the rows.
        """
        with consistent(self):
            history, watcher = self._fit_portion(X, y, sample_weight)
        return self._portion_ends(history, watcher)

    def _fit_portion(self, X, y, sample_weight, learns_targets: bool = True) -> tuple[History, CallbackWatcher | None]:
        """One call; ``learns_targets`` says that what y means is read off the rows of the first one."""
        first = not hasattr(self, "module_")
        texts, targets, weights = self._check_rows(
            X, y, sample_weight, first and learns_targets, reset_X=first or not hasattr(self, "n_features_in_")
        )
        rows = weighing(weights)
        weights = weights if targets is None else self._weigh_targets(weights, targets)
        losses = [] if first else getattr(self, "loss_curve_", [])  # none straight from a checkpoint
        scores = None if first else getattr(self, "validation_scores_", None)
        # an int as random_state is the same in each call, but order, dropout and masks are not
        seed = (int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max)) + len(losses)) % 2**31
        moments = AdamState() if first else getattr(self, "_moments", AdamState())
        watcher = self._watcher(X, y, sample_weight, 1, losses=losses, scores=scores)
        with seeded(seed):
            module = self._begin(not first)
            encoded = self._encode_training(texts)
            training, rng = take((encoded, targets, weights), rows), np.random.default_rng(seed)
            with named_as_passed(rows):
                draw = self._drawing(texts, rows)
                history = self._train(module, training, None, rng, draw, moments=moments, watcher=watcher)
        self._moments = moments
        self.n_truncated_ = n_truncated(encoded) + (0 if first else getattr(self, "n_truncated_", 0))
        self.loss_curve_ = [*losses, *history.loss_curve]
        self.validation_scores_ = scores
        self.n_iter_ = len(self.loss_curve_)
        return history, watcher

    def _portion_ends(self, history: History, watcher: CallbackWatcher | None):
        """After the call, when the estimator has all it learnt: an interrupt after the pass takes nothing of it back."""
        if history.interrupted:
            raise history.interrupted
        if watcher is not None:
            watcher.fit_ends()
        return self


class PartialFitOfClasses(PartialFit):
    """The same where the classes of all calls are told in the first."""

    classes_: Any

    @fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y, classes=None, sample_weight=None):
        """Train on some rows more, in one pass over them at a constant learning rate.

        The first call opens the checkpoint, unless there was a fit. Every call trains with ``learning_rate`` from its first
        step on: ``max_epochs``, ``schedule``, ``warmup_ratio``, early stopping and ``checkpoint_dir`` are not read. AdamW's
        moments stay in memory from one call to the next. ``n_iter_``, ``loss_curve_`` and ``n_truncated_`` go on.

        Parameters
        ----------
        X, y : like in ``fit``
            The rows of this call.
        classes : array-like of shape (n_classes,), or list of array-like, optional
            All classes of all calls, needed in the first one. Of several columns of classes a list for each; the columns of
            an indicator matrix need none, nor do indices of choices. Of spans in texts their labels.
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
            If X or y is nothing that ``fit`` takes, ``classes`` lack in the first call or are others than before, or y holds
            another class.
        FloatingPointError
            If the loss or the gradient stops being finite; names the rows.
        """
        with consistent(self):
            if not hasattr(self, "module_"):
                self._announce(classes, X, y)
            elif classes is not None and not same_classes(self._spelt_out(classes, X), self.classes_):
                raise ValueError(f"classes must be those of the calls before, {self.classes_!r}, got {classes!r}")
            history, watcher = self._fit_portion(X, y, sample_weight, learns_targets=False)
        return self._portion_ends(history, watcher)

    def _announce(self, classes: Any, X: Any, y: Any) -> None:
        """Learn the classes before the first rows."""
        raise NotImplementedError

    def _spelt_out(self, classes: Any, X: Any) -> Any:
        """What ``classes_`` holds for these classes."""
        return classes


def same_classes(classes: Any, known: Any) -> bool:
    """Whether these are the classes that are known, in any order."""
    if isinstance(known, list):
        return len(classes) == len(known) and all(map(same_classes, classes, known))
    return np.array_equal(np.unique(np.asarray(classes)), np.unique(known))
