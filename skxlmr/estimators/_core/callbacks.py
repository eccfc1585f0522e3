"""scikit-learn's callbacks: a task for each fit and, where it trains, one for each of its epochs and their steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from skxlmr.estimators._core.fit_attributes import of_a_fit
from skxlmr.training import History, Watcher

if TYPE_CHECKING:
    from skxlmr.nn import TaskModule


@contextmanager
def fit_task(estimator: Any, X: Any, y: Any) -> Iterator[None]:
    """Report a fit without epochs to the callbacks of an estimator, which must be fitted when the block ends."""
    if not hasattr(estimator, "_skl_callbacks"):
        yield
        return
    about = {"estimator": estimator, "X": X, "y": y}
    task = estimator._init_callback_context().call_on_fit_task_begin(**about)
    yield
    task.call_on_fit_task_end(**about, reconstruction_attributes=dict)


class CallbackWatcher(Watcher):
    """Reports a fit to the callbacks of an estimator, and stops the fit where one of them asks for it.

    Parameters
    ----------
    estimator : estimator with callbacks
    X, y, sample_weight
        As passed to ``fit`` or ``partial_fit``.
    n_epochs : int
        Most epochs of this call.
    losses, scores
        ``loss_curve_`` and ``validation_scores_`` of earlier calls, which this one continues.

    Attributes
    ----------
    copy_module : callable, set once there is a module to copy
        Returns a copy of the module as it is now, ready to predict.
    """

    copy_module: Callable[[], TaskModule]

    def __init__(
        self,
        estimator: Any,
        X: Any,
        y: Any,
        sample_weight: Any,
        n_epochs: int,
        losses: Sequence[float] = (),
        scores: list[float] | None = None,
    ):
        metadata = None if sample_weight is None else {"sample_weight": sample_weight}
        self._about = {"estimator": estimator, "X": X, "y": y, "metadata": metadata}
        self._losses, self._scores = losses, scores
        self._n_begun = 0
        self._fit = estimator._init_callback_context(max_subtasks=n_epochs)
        self._fit.call_on_fit_task_begin(**self._about)

    def epoch_begins(self, history: History, n_steps: int, n_done: int) -> None:
        # Epochs and steps from before an interrupt are not reported again, but keep their numbers.
        for _ in range(self._n_begun, len(history.loss_curve)):
            self._fit.subcontext("epoch")
        self._n_begun = len(history.loss_curve) + 1
        self._epoch = self._fit.subcontext("epoch", max_subtasks=n_steps)
        for _ in range(n_done):
            self._epoch.subcontext("step")
        self._epoch.call_on_fit_task_begin(**self._about, reconstruction_attributes=lambda: self._fitted(history))

    def step_begins(self) -> None:
        self._step = self._epoch.subcontext("step")
        self._step.call_on_fit_task_begin(**self._about)

    def step_ends(self) -> bool:
        return self._step.call_on_fit_task_end(**self._about)

    def epoch_ends(self, history: History) -> bool:
        return self._epoch.call_on_fit_task_end(**self._about, reconstruction_attributes=lambda: self._fitted(history))

    def fit_ends(self) -> None:
        """Called after the fit, when the estimator has everything it learnt."""
        self._fit.call_on_fit_task_end(**self._about, reconstruction_attributes=dict)

    def _fitted(self, history: History) -> dict[str, Any]:
        """What a copy of the estimator needs to predict as if the fit ended here."""
        losses = [*self._losses, *history.loss_curve]
        scores = list(history.validation_scores) or self._scores
        final = losses[-1] if losses else float("nan")
        return {"module_": self.copy_module(), **of_a_fit(losses, scores, final, None)}
