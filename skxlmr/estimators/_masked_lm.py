"""Masked language modelling: adapt the encoder to a domain, fill masks, score texts."""

from numbers import Real

import numpy as np

from skxlmr.batching import MaskedLMTask, concatenate
from skxlmr.estimators._features import FeatureNames
from skxlmr.estimators._fill_mask import MaskedPredictions
from skxlmr.estimators._fine_tuned import FineTunedXLMRoberta
from skxlmr.estimators._training_rows import Rows
from skxlmr.nn import ModelConfig, XLMRobertaForMaskedLM
from skxlmr.nn.pooling import pool
from skxlmr.text import EncodedBatch, SubwordSampling
from skxlmr.training import mean_losses
from skxlmr.utils._docs import document_parameters
from skxlmr.utils._sklearn import Interval, StrOptions, fit_context
from skxlmr.utils._validation import Texts


@document_parameters(
    mask_probability=(
        "float",
        "Share of the tokens that are predicted; of these 80 % are masked, 10 % replaced, 10 % kept.",
    ),
    pair_objective=(
        "{'translation', 'alignment'}",
        "What is learnt from pairs of translations. ``'translation'`` masks both texts in one sequence, so that each helps to\n"
        "fill the other's gaps (TLM, Lample & Conneau 2019). ``'alignment'`` masks each text on its own and draws the mean\n"
        "vectors and the first tokens' vectors of translations together and those of other rows apart (Feng et al. 2022),\n"
        "which makes for better features.",
    ),
    alignment_weight=("float", "Weight of that contrastive loss beside the masked language modelling loss."),
    pooling=("{'mean', 'cls', 'max'}", "How token vectors become one in ``transform``."),
)
class XLMRobertaMaskedLM(MaskedPredictions, FeatureNames, FineTunedXLMRoberta):
    """XLM-RoBERTa as a masked language model.

    ``fit`` adapts the checkpoint to the texts of a domain (Gururangan et al. 2020, arXiv:2004.10964), on plain texts or on
    pairs of translations. The fitted model fills masks, scores texts, gives features, and ``skxlmr.save`` writes it as a
    checkpoint that every other estimator starts from.

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    module_ : torch.nn.Module
        The encoder with its language modelling head.
    tokenizer_ : Tokenizer
        The checkpoint's tokenizer.
    config_ : ModelConfig
        Geometry of the checkpoint.
    loss_curve_ : list of float
        Mean loss of each epoch, in nats per predicted token.
    validation_scores_ : list of float or None
        After each epoch minus the loss on validation data; None without validation data.
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
    >>> from skxlmr import XLMRobertaMaskedLM
    >>> lm = XLMRobertaMaskedLM("skxlmr-mini", max_epochs=1, random_state=0)
    >>> lm = lm.fit(["Der Akku hält zwei Tage.", "The battery lasts two days."])
    >>> len(lm.fill_mask(["The battery lasts two <mask>."], top_k=3)[0][0])
    3
    """

    _parameter_constraints: dict = {
        **FineTunedXLMRoberta._parameter_constraints,
        "mask_probability": [Interval(Real, 0, 1, closed="neither")],
        "pair_objective": [StrOptions({"translation", "alignment"})],
        "alignment_weight": [Interval(Real, 0, None, closed="left")],
        "pooling": [StrOptions({"mean", "cls", "max"})],
    }
    _needs_both_sides = "masks, of which it does not see what follows"
    _compacts_vocabulary = False  # the head predicts over the whole vocabulary

    def __init__(
        self,
        checkpoint="FacebookAI/xlm-roberta-base",
        *,
        revision=None,
        mask_probability=0.15,
        pair_objective="translation",
        alignment_weight=1.0,
        pooling="mean",
        max_length=None,
        max_epochs=3,
        batch_size=16,
        accumulate=1,
        learning_rate=5e-5,
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
        self.mask_probability = mask_probability
        self.pair_objective = pair_objective
        self.alignment_weight = alignment_weight
        self.pooling = pooling
        self.max_length = max_length
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
    def fit(self, X, y=None, sample_weight=None, X_val=None, *, resume=False):
        """Train on masked texts.

        Parameters
        ----------
        X : list, array, Series or DataFrame of str, of shape (n_rows,) or (n_rows, 1) or (n_rows, 2)
            Texts, or pairs of translations. A pair whose second text is empty is trained as a single text.
        y : None
            Ignored.
        sample_weight : array-like of shape (n_rows,), optional
            Weight of each row's tokens in the loss.
        X_val : like X, optional
            Validation texts for ``validation_scores_`` and early stopping.
        resume : bool
            Go on from the state in ``checkpoint_dir``, if there is one of the same fit; else start anew.

        Returns
        -------
        self

        Raises
        ------
        CheckpointError
            If the checkpoint cannot be read or does not fit.
        FloatingPointError
            If the loss or the gradient stops being finite; names the rows.
        """
        return self._fit(X, y, sample_weight, X_val, resume=resume)

    def _check_targets(self, y, rows, weights, reset, name="y"):
        return None

    def _build(self, config: ModelConfig):
        return XLMRobertaForMaskedLM(config)

    def _encode_training(self, texts: Texts, sampling: SubwordSampling | None = None) -> Rows:
        if texts.second is None:
            return {"first": self._encode(texts, sampling=sampling), "second": None}
        if self.pair_objective == "alignment":
            first, second = (self._encode(Texts(side), sampling=sampling) for side in (texts.first, texts.second))
        else:
            first, second = self._encode(texts, sampling=sampling), None
        alone = np.array([not text for text in texts.second])
        if alone.any():
            if second is None:
                place = np.arange(len(alone))
                first = concatenate(self._encode(Texts(texts.first), sampling=sampling), first).take(
                    np.where(alone, place, place + len(alone))
                )
            else:
                kept = np.repeat(~alone, second.lengths)
                second = EncodedBatch(second.ids[kept], np.where(alone, 0, second.lengths), second.n_dropped)
        return {"first": first, "second": second}

    def _make_task(self, encoded, targets, weights):
        return MaskedLMTask(
            encoded["first"], encoded["second"], self.tokenizer_, weights, self.mask_probability, self.alignment_weight
        )

    def _validation_score(self, encoded, targets, weights):
        """Minus the mean loss over the predicted tokens alone, masked with a fixed seed."""
        task = self._make_task(encoded, targets, weights)
        task.alignment_weight = 0.0
        losses = mean_losses(self.module_, task, self.batch_size, np.random.default_rng(0))
        return -losses.get("masked_lm", 0.0)

    def transform(self, X):
        """Features of the texts, pooled from the last layer.

        Parameters
        ----------
        X : list, array, Series or DataFrame of str
            Texts or pairs of texts, as passed to ``fit``; either after ``from_checkpoint``.

        Returns
        -------
        ndarray of shape (n_rows, hidden_size), float32
        """
        module = self._module_on_device()
        texts = self._check_X(X, reset=False)
        layers = [self.config_.num_hidden_layers]
        return self._infer_texts(lambda ids, layout: pool(module.backbone, ids, layout, self.pooling, layers), texts)

    def _hub_config(self):
        return {"architectures": ["XLMRobertaForMaskedLM"]}

    @property
    def _n_features_out(self) -> int:
        return self.config_.hidden_size
