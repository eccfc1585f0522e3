"""Texts to numbers."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from sklearn.metrics import r2_score
from sklearn.utils.validation import check_consistent_length
from torch import Tensor, nn

from skxlmr.checkpoints import StoredModel
from skxlmr.estimators._core.long_text import LongTexts
from skxlmr.estimators._core.output_labels import labels_config, read_head
from skxlmr.estimators._fine_tuning.fine_tuned import FineTuned
from skxlmr.estimators._fine_tuning.training_rows import TrainingRows
from skxlmr.estimators._sequence.task import SequenceTask
from skxlmr.estimators.heads import REGRESSION
from skxlmr.estimators.parameters import SamplingParameters, estimator
from skxlmr.nn import TaskModule
from skxlmr.nn.losses import squared_error
from skxlmr.training import copies, restore, to_the_end
from skxlmr.utils._errors import CheckpointError
from skxlmr.utils._labels import read_numbers
from skxlmr.utils._sklearn import RegressorMixin, fit_context


@estimator
class XLMRobertaRegressor(SamplingParameters, RegressorMixin, LongTexts, FineTuned):
    """Predict numbers from multilingual texts, or pairs of texts, by fine-tuning XLM-RoBERTa.

    The loss is the mean squared error of the standardised targets; the scale is folded into the head after training, so
    that the outputs of the module are in the units of ``y``. In ``partial_fit`` the scale is that of the first call's targets.

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    module_ : torch.nn.Module
        The encoder with its head.
    tokenizer_ : Tokenizer
        The checkpoint's tokenizer.
    config_ : ModelConfig
        Geometry of the checkpoint.
    n_outputs_ : int
        Number of targets.
    loss_curve_ : list of float
        Mean training loss of each epoch, in variances of the targets.
    validation_scores_ : list of float or None
        R2 on the validation data after each epoch; None without validation data.
    n_iter_ : int
        Number of epochs.
    learning_rate_ : float
        Learning rate of the last fit: ``learning_rate``, or what ``'auto'`` chose.
    n_truncated_ : int
        Texts of the training data that were cut.
    n_features_in_ : int
        2 for pairs, 1 for texts in a table; not set for texts in one dimension.
    feature_names_in_ : ndarray of str
        Column names of a DataFrame that was passed to ``fit``.

    References
    ----------
    .. [1] Conneau et al. (2020), "Unsupervised Cross-lingual Representation Learning at Scale", arXiv:1911.02116.

    Examples
    --------
    >>> from skxlmr import XLMRobertaRegressor
    >>> pairs = [("a cat", "un chat"), ("a dog", "un chien"), ("a cat", "la mer"), ("a dog", "le pain")]
    >>> regressor = XLMRobertaRegressor("skxlmr-mini", max_epochs=2, random_state=0)
    >>> regressor.fit(pairs, [5.0, 4.5, 0.5, 0.0]).predict(pairs).shape
    (4,)
    """

    _head = REGRESSION
    _multi_output = True
    _fewest_validation_rows = 2  # R2 compares their spread

    @fit_context(prefer_skip_nested_validation=True)
    def fit(
        self, X: Any, y: Any, sample_weight: Any = None, X_val: Any = None, y_val: Any = None, *, resume: bool = False
    ) -> Self:
        """Fine-tune the checkpoint.

        Parameters
        ----------
        X : list, array, Series or DataFrame of str, of shape (n_rows,) or (n_rows, 1) or (n_rows, 2)
            Texts, or pairs of texts.
        y : array-like of shape (n_rows,) or (n_rows, n_outputs)
            Numbers.
        sample_weight : array-like of shape (n_rows,), optional
            Weight of each row in the loss; a weight of 2 counts like two rows.
        X_val : list, array, Series or DataFrame of str, optional
            Validation texts or pairs, for ``validation_scores_`` and early stopping.
        y_val : array-like of shape (n_val_rows,) or (n_val_rows, n_outputs), optional
            Their numbers.
        resume : bool
            Continue from the state in ``resume_dir`` if there is one of the same fit; else start from scratch.

        Returns
        -------
        self

        Raises
        ------
        CheckpointError
            If the checkpoint cannot be read or does not fit.
        ValueError
            If a row of X is not a text (names the row) or y does not fit X.
        FloatingPointError
            If the loss or the gradient stops being finite; names the rows.
        KeyboardInterrupt
            Passed on; after at least one epoch the weights of the last finished one are in place.
        """
        return self._fit(X, y, sample_weight, X_val, y_val, resume=resume)

    def predict(self, X: Any) -> np.ndarray:
        """Predicted numbers.

        Parameters
        ----------
        X : list, array, Series or DataFrame of str
            Texts or pairs, as passed to ``fit``.

        Returns
        -------
        ndarray of shape (n_rows,) or (n_rows, n_outputs), float32
        """
        outputs = self._logits(X)
        return outputs[:, 0] if self._y_is_1d else outputs

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Coefficient of determination, R2, of the predictions; with several outputs the mean of theirs.

        Parameters
        ----------
        X : list, array, Series or DataFrame of str
            Texts or pairs, as passed to ``fit``.
        y : array-like of shape (n_rows,) or (n_rows, n_outputs)
            Their numbers.
        sample_weight : array-like of shape (n_rows,), optional

        Returns
        -------
        float
        """
        return super().score(X, read_numbers(y, "y"), sample_weight)

    def _head_arguments(self) -> tuple[int, ...]:
        return (self.n_outputs_,)

    def _hub_config(self) -> dict[str, Any]:
        labels = labels_config([f"LABEL_{i}" for i in range(self.n_outputs_)])
        return {**super()._hub_config(), "problem_type": "regression", **labels}

    def _adopt(self, stored: StoredModel, file: Path) -> None:
        problem_type, classes = read_head(stored.raw, file, self._head)
        if problem_type != "regression":
            raise CheckpointError(
                file, f"describes {len(classes)} classes ({problem_type}): use XLMRobertaClassifier.from_checkpoint"
            )
        self.n_outputs_ = len(classes)
        self._y_is_1d = self.n_outputs_ == 1
        self._y_mean, self._y_scale = np.zeros(self.n_outputs_), np.ones(self.n_outputs_)

    def _check_targets(self, y: Any, rows: Any, weights: np.ndarray, reset: bool, name: str = "y") -> np.ndarray:
        values = read_numbers(y, name)
        check_consistent_length(weights, values)
        huge = np.flatnonzero((np.abs(values) > np.finfo(np.float32).max).reshape(len(values), -1).any(1))
        if len(huge):
            raise ValueError(f"{name} row {huge[0]}: {values[huge[0]].tolist()!r:.60} is too large for float32")
        is_1d, values = values.ndim == 1, values.reshape(len(weights), -1)
        if reset:
            self._y_is_1d, self.n_outputs_ = is_1d, values.shape[1]
            self._y_mean = np.average(values, axis=0, weights=weights)
            scale = np.sqrt(np.average((values - self._y_mean) ** 2, axis=0, weights=weights))
            # the spread of a column of equal numbers is rounding alone
            self._y_scale = np.where(scale > 1e-12 * np.abs(self._y_mean), scale, 1.0)
        elif values.shape[1] != self.n_outputs_:
            raise ValueError(f"{name} has {values.shape[1]} targets, but the regressor was fitted on {self.n_outputs_}")
        return ((values - self._y_mean) / self._y_scale).astype(np.float32)

    def _to_final_units(self, module: Any) -> TaskModule:
        _put_rescaled(module.classifier.out_proj, self._y_scale, self._y_mean)
        return module

    @contextmanager
    def _in_training_units(self, module: Any, is_fitted: bool) -> Iterator[None]:
        layer = module.classifier.out_proj
        final, begun = copies(layer.parameters()), None
        trained: list[Tensor] = []

        def finish() -> None:
            if not trained:  # it may run twice
                trained.extend(copies(layer.parameters()))
            if is_fitted and (begun is None or all(map(torch.equal, begun, trained))):
                restore(layer.parameters(), final)  # nothing was learnt: there and back again would be another rounding
            else:
                weight, bias = trained
                restore(layer.parameters(), _rescaled(weight, bias, self._y_scale, self._y_mean))

        try:
            if is_fitted:
                _put_rescaled(layer, 1 / self._y_scale, -self._y_mean / self._y_scale)
                begun = copies(layer.parameters())
            yield
        finally:
            to_the_end(finish)

    def _make_task(self, rows: TrainingRows) -> SequenceTask:
        return SequenceTask(rows.encoded["encoded"], rows.targets, rows.weights, squared_error)

    def _validation_score(self, rows: TrainingRows) -> float:
        encoded = rows.encoded["encoded"]
        predicted = self._engine().rows(encoded, window_weights=np.ones(len(encoded)))
        return float(r2_score(rows.targets, predicted, sample_weight=rows.weights))


@torch.no_grad()
def _rescaled(weight: Tensor, bias: Tensor, scale: np.ndarray, shift: np.ndarray) -> tuple[Tensor, Tensor]:
    """Weight and bias of a layer whose outputs are ``scale`` times what they were, plus ``shift``."""
    scale_K, shift_K = (torch.from_numpy(x).to(weight) for x in (scale, shift))
    return weight * scale_K[:, None], bias * scale_K + shift_K


def _put_rescaled(layer: nn.Linear, scale: np.ndarray, shift: np.ndarray) -> None:
    rescaled = _rescaled(layer.weight, layer.bias, scale, shift)
    to_the_end(lambda: restore(layer.parameters(), rescaled))
