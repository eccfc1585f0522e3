"""Texts to numbers."""

from typing import Any

import numpy as np
import torch
from sklearn.base import RegressorMixin
from sklearn.metrics import r2_score
from sklearn.utils.validation import check_array, check_consistent_length
from torch import nn

from skxlmr.batching import SequenceTask
from skxlmr.estimators._sequence import SequenceEstimator, read_head
from skxlmr.nn.losses import squared_error
from skxlmr.utils._docs import document_parameters
from skxlmr.utils._errors import CheckpointError
from skxlmr.utils._sklearn import fit_context


@document_parameters()
class XLMRobertaRegressor(RegressorMixin, SequenceEstimator):
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
    n_truncated_ : int
        Texts of the training data that were cut.
    n_features_in_ : int
        1 for texts, 2 for pairs.
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

    _parameter_constraints: dict = {**SequenceEstimator._parameter_constraints}
    _fewest_validation_rows = 2  # of which R2 compares the spread

    def __init__(
        self,
        checkpoint="FacebookAI/xlm-roberta-base",
        *,
        revision=None,
        max_length=None,
        long_text="truncate",
        stride=0,
        max_epochs=5,
        batch_size=16,
        accumulate=1,
        learning_rate=3e-5,
        head_learning_rate=None,
        layer_decay=1.0,
        weight_decay=0.01,
        warmup_ratio=0.1,
        schedule="linear",
        max_grad_norm=1.0,
        n_frozen_layers=0,
        gradient_checkpointing=False,
        early_stopping=False,
        validation_fraction=0.1,
        n_iter_no_change=2,
        tol=1e-4,
        warm_start=False,
        device="auto",
        dtype="auto",
        subword_sampling=None,
        random_state=None,
        verbose=0,
        checkpoint_dir=None,
        checkpoint_every=None,
    ):
        self.checkpoint = checkpoint
        self.revision = revision
        self.max_length = max_length
        self.long_text = long_text
        self.stride = stride
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.accumulate = accumulate
        self.learning_rate = learning_rate
        self.head_learning_rate = head_learning_rate
        self.layer_decay = layer_decay
        self.weight_decay = weight_decay
        self.warmup_ratio = warmup_ratio
        self.schedule = schedule
        self.max_grad_norm = max_grad_norm
        self.n_frozen_layers = n_frozen_layers
        self.gradient_checkpointing = gradient_checkpointing
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.warm_start = warm_start
        self.device = device
        self.dtype = dtype
        self.subword_sampling = subword_sampling
        self.random_state = random_state
        self.verbose = verbose
        self.checkpoint_dir = checkpoint_dir
        self.checkpoint_every = checkpoint_every

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, sample_weight=None, X_val=None, y_val=None, *, resume=False):
        """Fine-tune the checkpoint.

        Parameters
        ----------
        X : list, array, Series or DataFrame of str, of shape (n_rows,) or (n_rows, 1) or (n_rows, 2)
            Texts, or pairs of texts.
        y : array-like of shape (n_rows,) or (n_rows, n_outputs)
            Numbers.
        sample_weight : array-like of shape (n_rows,), optional
            Weight of each row in the loss; a weight of 2 counts like two rows.
        X_val, y_val : like X and y, optional
            Validation data for ``validation_scores_`` and early stopping.
        resume : bool
            Go on from the state in ``checkpoint_dir``, if there is one of the same fit; else start anew.

        Returns
        -------
        self

        Raises
        ------
        CheckpointError
            If the checkpoint cannot be read or does not fit.
        ValueError
            If a row of X is no text (names the row) or y does not fit X.
        FloatingPointError
            If the loss or the gradient stops being finite; names the rows.
        KeyboardInterrupt
            Passed on; after at least one epoch the weights of the last finished one are in place.
        """
        return self._fit(X, y, sample_weight, X_val, y_val, resume=resume)

    def predict(self, X):
        """Predicted numbers.

        Parameters
        ----------
        X : like in ``fit``

        Returns
        -------
        ndarray of shape (n_rows,) or (n_rows, n_outputs), float32
        """
        outputs = self._outputs(X)
        return outputs[:, 0] if self._y_is_1d else outputs

    def _n_outputs(self) -> int:
        return self.n_outputs_

    def _output_names(self):
        return [f"LABEL_{i}" for i in range(self.n_outputs_)]

    def _problem_type(self):
        return "regression"

    def _adopt(self, config, file):
        problem_type, labels = read_head(config, file)
        if problem_type != "regression":
            raise CheckpointError(
                file, f"tells of {len(labels)} classes ({problem_type}): use XLMRobertaClassifier.from_checkpoint"
            )
        self.n_outputs_ = len(labels)
        self._y_is_1d = self.n_outputs_ == 1
        self._y_mean, self._y_scale = np.zeros(self.n_outputs_), np.ones(self.n_outputs_)

    def _check_targets(self, y, rows, weights, reset, name="y"):
        values = check_array(y, ensure_2d=False, dtype=np.float64, input_name=name)
        if values.ndim > 2:
            raise ValueError(f"{name} must have one or two dimensions, got shape {values.shape}")
        check_consistent_length(weights, values)
        huge = np.flatnonzero((np.abs(values) > np.finfo(np.float32).max).reshape(len(values), -1).any(1))
        if len(huge):
            raise ValueError(f"{name} row {huge[0]}: {values[huge[0]].tolist()!r:.60} is too large for float32")
        is_1d, values = values.ndim == 1, values.reshape(len(weights), -1)
        if reset:
            self._y_is_1d, self.n_outputs_ = is_1d, values.shape[1]
            self._y_mean = np.average(values, axis=0, weights=weights)
            scale = np.sqrt(np.average((values - self._y_mean) ** 2, axis=0, weights=weights))
            # a column of equal numbers has no scale but rounding
            self._y_scale = np.where(scale > 1e-12 * np.abs(self._y_mean), scale, 1.0)
        elif values.shape[1] != self.n_outputs_:
            raise ValueError(f"{name} has {values.shape[1]} targets, but the regressor was fitted on {self.n_outputs_}")
        return ((values - self._y_mean) / self._y_scale).astype(np.float32)

    def _train(self, module: Any, *args, **kwargs):
        if "module_" in vars(self) and self.module_ is module:  # it goes on in standardised units
            _rescale(module.classifier.out_proj, 1 / self._y_scale, -self._y_mean / self._y_scale)
        try:
            return super()._train(module, *args, **kwargs)
        finally:
            self._finished(module)

    def _finished(self, module: Any):
        _rescale(module.classifier.out_proj, self._y_scale, self._y_mean)
        return module

    def _make_task(self, encoded, targets, weights):
        return SequenceTask(encoded["encoded"], targets, weights, squared_error)

    def _validation_score(self, encoded, targets, weights):
        predicted = self._infer(self.module_, encoded["encoded"])
        return float(r2_score(targets, predicted, sample_weight=weights))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        tags.target_tags.single_output = True
        return tags


@torch.no_grad()
def _rescale(layer: nn.Linear, scale: np.ndarray, shift: np.ndarray) -> None:
    """Make the layer's outputs ``scale`` times what they were, plus ``shift``."""
    scale_K, shift_K = (torch.from_numpy(x).to(layer.weight) for x in (scale, shift))
    layer.weight.mul_(scale_K[:, None])
    layer.bias.mul_(scale_K).add_(shift_K)
