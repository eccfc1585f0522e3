"""scikit-learn's callbacks on the shared fit: a task for the fit, one for each epoch in it, one for each step in that."""

from collections.abc import Callable
from typing import Any

from skxlmr.nn import TaskModule
from skxlmr.training import History, Watcher


class CallbackWatcher(Watcher):
    """Tells the callbacks of an estimator how its fit goes, and the fit when one of them wants to stop.

    Parameters
    ----------
    estimator : estimator with callbacks
    X, y, sample_weight
        As they were passed to ``fit``.

    Attributes
    ----------
    copy_module : callable, set once there is a module to copy
        Gives a copy of the module as it is now, which predicts by itself.
    """

    copy_module: Callable[[], TaskModule]

    def __init__(self, estimator: Any, X: Any, y: Any, sample_weight: Any):
        self._estimator = estimator
        metadata = None if sample_weight is None else {"sample_weight": sample_weight}
        self._about = {"estimator": estimator, "X": X, "y": y, "metadata": metadata}
        self._fit = estimator._init_callback_context(max_subtasks=estimator.max_epochs)
        self._fit.call_on_fit_task_begin(**self._about)

    def epoch_begins(self, history: History, n_steps: int) -> None:
        self._epoch = self._fit.subcontext("epoch", max_subtasks=n_steps)
        self._epoch.call_on_fit_task_begin(**self._about, reconstruction_attributes=lambda: self._fitted(history))

    def step_begins(self) -> None:
        self._step = self._epoch.subcontext("step")
        self._step.call_on_fit_task_begin(**self._about)

    def step_ends(self) -> bool:
        return self._step.call_on_fit_task_end(**self._about)

    def epoch_ends(self, history: History) -> bool:
        return self._epoch.call_on_fit_task_end(**self._about, reconstruction_attributes=lambda: self._fitted(history))

    def fit_ends(self) -> None:
        """After the fit, when the estimator has all it learnt."""
        self._fit.call_on_fit_task_end(**self._about, reconstruction_attributes=dict)

    def _fitted(self, history: History) -> dict[str, Any]:
        """What a copy of the estimator needs to predict as if the fit ended here."""
        return {
            "module_": self.copy_module(),
            "loss_curve_": list(history.loss_curve),
            "validation_scores_": list(history.validation_scores) or None,
            "n_iter_": len(history.loss_curve),
        }
