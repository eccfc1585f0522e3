"""Causal language modelling: learn to continue texts, score them, generate."""

from dataclasses import replace

import numpy as np

from skxlmr.batching import NextTokenTask
from skxlmr.estimators._fine_tuned import FineTunedXLMRoberta
from skxlmr.estimators._generate import TextGenerator
from skxlmr.estimators._logits import LogitReader
from skxlmr.nn import ModelConfig, XLMRobertaForCausalLM
from skxlmr.utils._docs import document_parameters
from skxlmr.utils._errors import CheckpointError
from skxlmr.utils._sklearn import check_sample_weight, fit_context
from skxlmr.utils._validation import check_texts


@document_parameters()
class XLMRobertaCausalLM(TextGenerator, LogitReader, FineTunedXLMRoberta):
    """XLM-RoBERTa as a causal language model, which predicts each token from those before it.

    ``fit`` makes an encoder's checkpoint one (in its ``config.json``: ``is_decoder``), with the checkpoint's own language
    modelling head, or trains a causal checkpoint further. The fitted model generates texts and scores them; ``skxlmr.save``
    writes it as ``transformers`` reads an ``XLMRobertaForCausalLM``. Other estimators that start from such a checkpoint see
    with causal attention too.

    A text is ``<s> tokens </s>``, and every token after ``<s>`` is predicted, the end ``</s>`` included. Of a text that is
    longer than ``max_length`` the first ``max_length - 2`` tokens count and no end, in training as in ``score``.

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    module_ : torch.nn.Module
        The model with its language modelling head.
    tokenizer_ : Tokenizer
        The checkpoint's tokenizer.
    config_ : ModelConfig
        Geometry of the checkpoint, with ``is_decoder``.
    loss_curve_ : list of float
        Mean loss of each epoch, in nats per token.
    validation_scores_ : list of float or None
        After each epoch the ``score`` of the validation data; None without validation data.
    n_iter_ : int
        Number of epochs.
    n_truncated_ : int
        Texts of the training data that were cut.
    n_features_in_ : int
        1.
    feature_names_in_ : ndarray of str
        Column name of a DataFrame that was passed to ``fit``.

    References
    ----------
    .. [1] Conneau et al. (2020), "Unsupervised Cross-lingual Representation Learning at Scale", arXiv:1911.02116.
    .. [2] Rothe et al. (2020), "Leveraging Pre-trained Checkpoints for Sequence Generation Tasks", arXiv:1907.12461.

    Examples
    --------
    >>> from skxlmr import XLMRobertaCausalLM
    >>> lm = XLMRobertaCausalLM("skxlmr-mini", max_epochs=20, learning_rate=2e-3, schedule="constant", random_state=0)
    >>> lm = lm.fit(["The battery lasts two days.", "Der Akku hält zwei Tage."])
    >>> lm.generate(["The battery", "Der Akku"])
    [' lasts two days.', ' hält zwei Tage.']
    """

    _parameter_constraints: dict = FineTunedXLMRoberta._parameter_constraints
    _compacts_vocabulary = False  # the head predicts over the whole vocabulary

    def __init__(
        self,
        checkpoint="FacebookAI/xlm-roberta-base",
        *,
        revision=None,
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
        """Learn to predict each token of the texts from those before it.

        Parameters
        ----------
        X : list, array, Series or DataFrame of str, of shape (n_rows,) or (n_rows, 1)
            Texts.
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

    def score_samples(self, X):
        """Log-likelihood of each text.

        Parameters
        ----------
        X : list, array, Series or DataFrame of str

        Returns
        -------
        ndarray of shape (n_rows,), float64
            Sum of the log-probabilities of the row's tokens, in nats.
        """
        return self._log_likelihood(X)[0]

    def score(self, X, y=None, sample_weight=None):
        """Mean log-likelihood per token, over all tokens of all texts.

        Parameters
        ----------
        X : list, array, Series or DataFrame of str
        y : None
            Ignored.
        sample_weight : array-like of shape (n_rows,), optional
            Tokens count as much as their rows weigh.

        Returns
        -------
        float
            In nats; 0 is the best.
        """
        sums, counts = self._log_likelihood(X)
        weights = check_sample_weight(sample_weight, sums, ensure_non_negative=True)
        return float(weights @ sums / (weights @ counts))

    def perplexity(self, X):
        """``exp(-score(X))``: among how many equally likely tokens the model is undecided on average.

        It compares models with the same tokenizer.

        Parameters
        ----------
        X : list, array, Series or DataFrame of str

        Returns
        -------
        float
            At least 1; the lower the better.
        """
        return float(np.exp(-self.score(X)))

    def _log_likelihood(self, X) -> tuple[np.ndarray, np.ndarray]:
        self._module_on_device()
        return self._next_token_log_p(self._encode(self._check_X(X, reset=False)))

    def _check_X(self, X, reset, name="X"):
        check_texts(X, name, pairs_allowed=False)
        return super()._check_X(X, reset, name)

    def _check_targets(self, y, rows, weights, reset, name="y"):
        return None

    def _open_checkpoint(self):
        folder, config, tokenizer = super()._open_checkpoint()
        return folder, replace(config, is_decoder=True), tokenizer

    def _adopt(self, config, file):
        if config.get("is_decoder") is not True:
            raise CheckpointError(
                file, "tells of an encoder (is_decoder is not true): fit makes a causal language model of it"
            )

    def _build(self, config: ModelConfig):
        return XLMRobertaForCausalLM(config)

    def _make_task(self, encoded, targets, weights):
        return NextTokenTask(encoded["encoded"], None, self.tokenizer_, weights)

    def _validation_score(self, encoded, targets, weights):
        sums, counts = self._next_token_log_p(encoded["encoded"])
        return float(weights @ sums / (weights @ counts))

    def _hub_config(self):
        return {"architectures": ["XLMRobertaForCausalLM"]}
