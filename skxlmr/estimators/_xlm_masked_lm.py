"""Language modelling with an older XLM: masked, causal, and on translations."""

from dataclasses import replace

import numpy as np

from skxlmr.batching import MaskedLMTask, NextTokenTask, concatenate
from skxlmr.estimators._masked_lm import XLMRobertaMaskedLM
from skxlmr.estimators._xlm import CHECKPOINT, LANG, FineTunedXLM
from skxlmr.nn import XLMForMaskedLM
from skxlmr.text import EncodedBatch
from skxlmr.utils._docs import document_parameters
from skxlmr.utils._sklearn import StrOptions
from skxlmr.utils._validation import Texts


@document_parameters(
    checkpoint=CHECKPOINT,
    lang=(
        "str, pair of str or None",
        LANG[1] + "\nFor ``objective='tlm'`` the languages of the first and the second texts.",
    ),
    objective=(
        "{'mlm', 'clm', 'tlm'}",
        "What is learnt: ``'mlm'`` to fill masks, ``'clm'`` to predict each token from those before it, ``'tlm'`` to fill the\n"
        "masks in pairs of translations, each text with its own language and its own positions.",
    ),
    mask_probability=(
        "float",
        "Share of the tokens that are predicted; of these 80 % are masked, 10 % replaced, 10 % kept. ``'clm'`` predicts all.",
    ),
)
class XLMMaskedLM(FineTunedXLM, XLMRobertaMaskedLM):
    """The older XLM as a language model.

    Like :class:`XLMRobertaMaskedLM`, for checkpoints such as ``FacebookAI/xlm-mlm-en-2048``, with the three objectives of [1]_.
    After ``objective='clm'`` attention is causal, ``score`` and ``score_samples`` give the log-likelihood of every token after
    the first, the end of the text included, and there are no masks to fill. It needs the extra ``xlm``.

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    module_ : torch.nn.Module
        The encoder with its language modelling head.
    tokenizer_ : XLMTokenizer
        The checkpoint's tokenizer, with the rules of the (first) language.
    config_ : XLMConfig
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
    .. [1] Lample & Conneau (2019), "Cross-lingual Language Model Pretraining", section 3, arXiv:1901.07291.

    Examples
    --------
    >>> from skxlmr import XLMMaskedLM
    >>> lm = XLMMaskedLM("FacebookAI/xlm-mlm-ende-1024", objective="tlm", lang=("en", "de"))
    >>> lm.objective
    'tlm'
    >>> lm.fit([("Good morning", "Guten Morgen")])  # doctest: +SKIP
    XLMMaskedLM(checkpoint='FacebookAI/xlm-mlm-ende-1024', lang=('en', 'de'), objective='tlm')
    """

    _parameter_constraints: dict = {
        **{
            name: constraint
            for name, constraint in XLMRobertaMaskedLM._parameter_constraints.items()
            if name not in ("subword_sampling", "pair_objective", "alignment_weight")
        },
        "lang": [str, tuple, list, None],
        "objective": [StrOptions({"mlm", "clm", "tlm"})],
    }

    pair_objective = "translation"  # of the estimator beside: pairs are one row

    def __init__(
        self,
        checkpoint="FacebookAI/xlm-mlm-en-2048",
        *,
        revision=None,
        lang=None,
        objective="mlm",
        mask_probability=0.15,
        pooling="mean",
        max_length=None,
        max_epochs=3,
        batch_size=16,
        accumulate=1,
        learning_rate=5e-05,
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
        tol=0.0001,
        warm_start=False,
        device="auto",
        dtype="auto",
        random_state=None,
        verbose=0,
        checkpoint_dir=None,
        checkpoint_every=None,
    ):
        self.checkpoint = checkpoint
        self.revision = revision
        self.lang = lang
        self.objective = objective
        self.mask_probability = mask_probability
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
        self.random_state = random_state
        self.verbose = verbose
        self.checkpoint_dir = checkpoint_dir
        self.checkpoint_every = checkpoint_every

    def fill_mask(self, texts, top_k=5, targets=None):
        self._module_on_device()
        if self.config_.causal:
            raise ValueError(
                "a causal model does not see what follows a mask: fill_mask needs objective 'mlm' or 'tlm'"
            )
        return super().fill_mask(texts, top_k, targets)

    fill_mask.__doc__ = XLMRobertaMaskedLM.fill_mask.__doc__

    def _languages(self):
        languages = list(self.lang) if isinstance(self.lang, tuple | list) else super()._languages()
        if not all(isinstance(language, str) for language in languages) or (
            len(languages) != 2 if self.objective == "tlm" else isinstance(self.lang, tuple | list)
        ):
            expected = "a pair of languages" if self.objective == "tlm" else "one language or None"
            raise ValueError(f"lang must be {expected} for objective={self.objective!r}, got {self.lang!r}")
        return languages

    def _read_folder(self, folder):
        config, tokenizer = super()._read_folder(folder)
        if self.objective == "clm":
            return replace(config, causal=True), tokenizer
        if config.causal:
            raise ValueError(
                f"objective={self.objective!r} looks at later tokens, but the checkpoint is causal: pass 'clm'"
            )
        return config, tokenizer

    def _build(self, config):
        return self._with_languages(XLMForMaskedLM(config), config)

    def _tokenize(self, texts, limit, parse_special, sampling):
        if self.objective != "tlm" or texts.second is None:
            return super()._tokenize(texts, limit, parse_special, sampling)
        # Each text is a whole one, <s> A </s>, of up to half of the row.
        tokenizers = self.tokenizer_, self.tokenizer_.for_language(self._languages()[1])
        sides = [
            tokenizer.encode_batch(side, max_length=limit // 2, parse_special=parse_special)
            for tokenizer, side in zip(tokenizers, (texts.first, texts.second), strict=True)
        ]
        both = concatenate(*sides).take(np.arange(2 * len(texts)).reshape(2, -1).T.ravel())
        n_dropped = sides[0].n_dropped + sides[1].n_dropped
        return EncodedBatch(both.ids, sides[0].lengths + sides[1].lengths, n_dropped, second_starts=sides[0].lengths)

    def _encode_training(self, texts: Texts, sampling=None):
        if self.objective == "tlm" and texts.second is None:
            raise ValueError("objective='tlm' learns from pairs of translations, and X has single texts (1 column)")
        if self.config_.causal != (self.objective == "clm"):
            raise ValueError(
                f"warm_start cannot go on with objective={self.objective!r}: the last fit made the model "
                + ("causal" if self.config_.causal else "look at later tokens too")
            )
        return super()._encode_training(texts)

    def _make_task(self, encoded, targets, weights):
        task = NextTokenTask if self.objective == "clm" else MaskedLMTask
        return task(encoded["first"], None, self.tokenizer_, weights, self.mask_probability)

    def _joined(self, before, filling):
        return before + filling["token_str"]  # where a word begins, no piece tells: the text's own spaces stay

    def _pseudo_log_likelihood(self, X):
        self._module_on_device()
        if not self.config_.causal:
            return super()._pseudo_log_likelihood(X)
        return self._next_token_log_p(self._encode(self._check_X(X, reset=False)))

    def _hub_config(self):
        return {"architectures": ["XLMWithLMHeadModel"]}
