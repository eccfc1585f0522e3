"""Whether a fit learnt anything, judged from the losses and predictions of its steps; and labels that are never predicted."""

from collections.abc import Sequence
from inspect import signature
from typing import Any

import numpy as np
from sklearn.base import is_regressor

from skxlmr.estimators._core.fit_attributes import best_epoch
from skxlmr.estimators._fine_tuning.training_rows import TrainingRows
from skxlmr.estimators._fine_tuning.training_run import BESIDE_THE_FIT
from skxlmr.training import FEWEST_STEPS, EndedEpoch, History, StepRecord, in_words
from skxlmr.utils._warnings import FitQualityWarning, warn_once_per_call

CLEAR = 0.03  # share of the loss by which it falls clearly
POSSIBLE = 0.2  # share of the loss; where it may have fallen by more, but for the noise, nothing is said
NOTHING_LEFT = 0.05  # a loss below which there is hardly anything to learn
MOST_SKIPPED = 0.1  # share of the steps
MOST_CANDIDATES = 10  # of a search that are warned of
MOST_PARAMETERS, WIDEST = 10, 60  # of a candidate that are named, and characters of each
FEWEST_ROWS = 20  # of a fit; and examples of other classes, where only one is predicted


def collapse(estimator: Any, history: History, rows: TrainingRows) -> str | None:
    """What speaks against a fit from a checkpoint, with what to try; None if nothing does.

    Parameters
    ----------
    estimator : FineTuned
        The fitted estimator.
    history : History
    rows : TrainingRows
        What it was trained on.
    """
    record = history.record
    if record is None or not record.from_start or record.kept is None:
        return None
    if record.kept.number != kept_epoch(estimator, history):  # an interrupt came before the epoch was over
        return None
    if record.kept.n_steps < FEWEST_STEPS or len(rows) < FEWEST_ROWS:
        return None
    codes, weights, classes = estimator._class_codes(rows)
    single = _single_class(record.kept, codes, weights, classes)
    found = single or _loss(estimator, history, record, rows, codes, weights)
    return found and f"{found}: {_remedy(estimator, single is not None)}"


def kept_epoch(estimator: Any, history: History) -> int:
    """Number, from 0, of the epoch whose weights the fit ended with: the last, with early stopping the best."""
    best = best_epoch(history.validation_scores) if estimator.early_stopping else None
    return len(history.loss_curve) - 1 if best is None else best


def skipped(history: History) -> str | None:
    """What to say of a fit in float16 whose gradients overflowed in many steps; None if they did in few."""
    n_steps = history.record.n_steps if history.record else 0
    if history.n_skipped <= MOST_SKIPPED * n_steps:
        return None
    return (
        f"{history.n_skipped} of {n_steps} steps were skipped and changed no weight, because their gradients overflow float16: "
        "if the fit is short, these were the first steps, which look for the scale of the loss, and more epochs make up for "
        "them; otherwise lower learning_rate or set dtype='float32'"
    )


def _single_class(
    epoch: EndedEpoch, codes: np.ndarray | None, weights: np.ndarray, classes: Sequence[Any]
) -> str | None:
    """Whether one class alone was predicted for all rows of an epoch, although many belong to others."""
    if codes is None or epoch.lowest is None or epoch.highest is None:
        return None
    for k in np.flatnonzero(np.equal(epoch.lowest, epoch.highest)).tolist():
        of_column, only = codes[:, k], int(epoch.lowest[k])
        n_right = int(np.count_nonzero(of_column == only))
        if weights[of_column != only].sum() >= FEWEST_ROWS * weights.mean():
            return (
                f"the model predicts {classes[k][only]!r} for all {len(of_column)} training examples, of which {n_right} "
                "have this class"
            )
    return None


def _loss(
    estimator: Any,
    history: History,
    record: StepRecord,
    rows: TrainingRows,
    codes: np.ndarray | None,
    weights: np.ndarray,
) -> str | None:
    """Whether the training loss did not fall clearly, or for a head that was trained before rose clearly."""
    assert record.kept is not None
    kept, (first, last, noise) = record.kept.number, record.change()
    of_epochs = history.loss_curve[0] - history.loss_curve[kept]  # over the same rows: without the noise of batches
    fall, clear = max(first - last, of_epochs), CLEAR * first
    said = f"the training loss {'hardly fell' if last < first else 'did not fall'}, from {first:.3f} to {last:.3f}"
    if estimator._head.new != "always":
        return said if -fall > max(3 * noise, clear) else None
    values = rows.targets if codes is None else codes
    if isinstance(values, np.ndarray) and values.dtype != object and (values == values[0]).all():
        return None  # the same target everywhere: there is nothing to learn
    guessing = _loss_of_guessing(estimator, rows, codes, weights)
    above = f"the training loss ended at {last:.3f}; an answer that ignores the texts has {guessing or 0:.3f}"
    if guessing is not None and last - 2 * noise > guessing:
        return above
    falls = first - last > max(2 * noise, clear) or of_epochs > clear
    if not (falls or first - last + 2 * noise > POSSIBLE * first or first < NOTHING_LEFT):
        return said
    # The last epoch has all rows, so that batches bring no noise; the last steps tell whether it fell below meanwhile.
    ended = min(last, history.loss_curve[kept], record.kept.at_the_end())
    return above if kept and guessing is not None and ended > guessing else None


def _loss_of_guessing(
    estimator: Any, rows: TrainingRows, codes: np.ndarray | None, weights: np.ndarray
) -> float | None:
    """Loss of the best answer that is the same for every text; None where weights or smoothing change the loss."""
    if is_regressor(estimator):
        centre = np.average(rows.targets, axis=0, weights=weights)
        return float(np.average((rows.targets - centre) ** 2, axis=0, weights=weights).mean())
    if (
        codes is None
        or getattr(estimator, "class_weight", None) is not None
        or getattr(estimator, "label_smoothing", True)
    ):
        return None
    counts = [np.bincount(np.unique(column, return_inverse=True)[1], weights) for column in codes.T]
    shares = [count[count > 0] / count.sum() for count in counts]
    return float(np.mean([-(share * np.log(share)).sum() for share in shares]))


def _remedy(estimator: Any, predicts_one_class: bool) -> str:
    """What to try."""
    rate, auto = estimator.learning_rate_, estimator._auto_learning_rate()
    if rate < auto / 1.5 or rate > 1.5 * auto:
        change = f"set learning_rate='auto', which is {auto:g} for this checkpoint (it was {rate:g})"
    else:
        change = f"try other values of learning_rate (it was {rate:g})"
    frozen = ", lower n_frozen_layers" if estimator.n_frozen_layers else ""
    unweighted = predicts_one_class and getattr(estimator, "class_weight", "") is None
    balance = ", set class_weight='balanced' if one class has most rows" if unweighted else ""
    return (
        f"{change}, raise max_epochs (it was {estimator.max_epochs}){frozen}{balance}, or train on more rows; also check "
        "that the targets can be told from the texts"
    )


def warn_of_fit(estimator: Any, doubt: str) -> None:
    """Warn of a fit; in a search once of each candidate with its parameters, and of so many of them."""
    params = {
        name: in_words(value) for name, value in estimator.get_params(deep=False).items() if name not in BESIDE_THE_FIT
    }
    warn_once_per_call(
        doubt,
        FitQualityWarning,
        about=("fit", type(estimator).__name__, *params.items()),
        part=f" (the fit with {_unusual(estimator, params)}; other fits with these parameters are not reported)",
        most=MOST_CANDIDATES,
    )


def _unusual(estimator: Any, params: dict[str, str]) -> str:
    """The parameters that are not the defaults, on a few lines."""
    defaults = {name: in_words(each.default) for name, each in signature(type(estimator)).parameters.items()}
    said = [f"{name}={value}" for name, value in params.items() if value != defaults[name]]
    shown = [each if len(each) <= WIDEST else f"{each[: WIDEST - 3]}..." for each in said[:MOST_PARAMETERS]]
    return ", ".join([*shown, *(["..."] if len(said) > len(shown) else [])]) or "the default parameters"


def warn_without_labels(proba: np.ndarray, indicators: np.ndarray, threshold: Any) -> None:
    """Warn if no label reaches the threshold in any of several rows."""
    if len(indicators) > 1 and not indicators.any():
        asked = f"{threshold:g}" if np.ndim(threshold) == 0 else "its threshold"
        warn_once_per_call(
            f"no label reaches {asked} in any of the {len(indicators)} rows (the highest probability is {proba.max():.2g}): "
            "lower threshold with set_params, which needs no new fit, or fit longer",
            FitQualityWarning,
            about="threshold",
        )
