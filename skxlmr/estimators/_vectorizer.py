"""Texts to features through a frozen encoder."""

from numbers import Integral

import numpy as np
import torch
from sklearn.preprocessing import normalize

from skxlmr.estimators._base import BaseXLMRoberta
from skxlmr.estimators._callbacks import fit_task
from skxlmr.estimators._failures import consistent
from skxlmr.estimators._features import FeatureNames
from skxlmr.estimators._long_text import LongTexts
from skxlmr.nn import ModelConfig, TokenLayout, XLMRobertaModel
from skxlmr.nn.pooling import POOLINGS, pool
from skxlmr.utils._device import resolve_autocast, resolve_device
from skxlmr.utils._docs import document_parameters
from skxlmr.utils._sklearn import StrOptions, fit_context


@document_parameters(
    batch_size=(
        "int",
        "Texts are run in batches of up to ``128 * batch_size`` tokens (eight times that on a GPU), whatever their number.",
    ),
    dtype=(
        "{'auto', 'float32', 'bfloat16'}",
        "Precision of weights and computation. ``'auto'`` is bfloat16 on a GPU that is fast at it and float32 elsewhere;\n"
        "``'bfloat16'`` is about three times as fast on CPUs with AVX512-BF16 or AMX, at a cosine of 0.999 to float32.",
    ),
)
class XLMRobertaVectorizer(FeatureNames, LongTexts):
    """Turn multilingual texts into dense features with XLM-RoBERTa.

    The encoder stays as it is; ``fit`` only opens the checkpoint. Texts are sorted by length and run without padding, each
    distinct text once, and the features come back in the order of the rows.

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    module_ : torch.nn.Module
        The encoder.
    tokenizer_ : Tokenizer
        The checkpoint's tokenizer.
    config_ : ModelConfig
        Geometry of the checkpoint.
    n_truncated_ : int
        Texts passed to ``fit`` that are longer than ``max_length`` tokens.
    n_features_in_ : int
        1 for texts, 2 for pairs.
    feature_names_in_ : ndarray of str
        Column names of a DataFrame that was passed to ``fit``.

    References
    ----------
    .. [1] Conneau et al. (2020), "Unsupervised Cross-lingual Representation Learning at Scale", arXiv:1911.02116.

    Examples
    --------
    >>> from skxlmr import XLMRobertaVectorizer
    >>> vectorizer = XLMRobertaVectorizer("skxlmr-mini")
    >>> vectorizer.fit_transform(["Guten Morgen", "Good morning"]).shape
    (2, 192)
    """

    _parameter_constraints: dict = {
        **BaseXLMRoberta._parameter_constraints,
        **LongTexts._parameter_constraints,
        "pooling": [StrOptions(set(POOLINGS))],
        "layers": [Integral, "array-like"],
        "normalize": ["boolean"],
    }

    def __init__(
        self,
        checkpoint="FacebookAI/xlm-roberta-base",
        *,
        revision=None,
        pooling="mean",
        layers=-1,
        normalize=False,
        max_length=None,
        long_text="truncate",
        stride=0,
        batch_size=32,
        device="auto",
        dtype="auto",
    ):
        self.checkpoint = checkpoint
        self.revision = revision
        self.pooling = pooling
        self.layers = layers
        self.normalize = normalize
        self.max_length = max_length
        self.long_text = long_text
        self.stride = stride
        self.batch_size = batch_size
        self.device = device
        self.dtype = dtype

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None):
        """Open the checkpoint.

        Parameters
        ----------
        X : list, array, Series or DataFrame of str, of shape (n_rows,) or (n_rows, 1) or (n_rows, 2)
            Texts, or pairs of texts.
        y : None
            Ignored.

        Returns
        -------
        self

        Raises
        ------
        CheckpointError
            If the checkpoint cannot be read or does not fit.
        ValueError
            If a row of X is no text; names the row.
        """
        with consistent(self):
            texts = self._check_X(X, reset=True)
            with fit_task(self, X, y):
                folder, self.config_, self.tokenizer_ = self._open_checkpoint()
                self._layers()
                module = self._load_module(folder, self.config_, lambda: self._build(self.config_))
                self.module_ = module.to(resolve_device(self.device), self._weight_dtype())
                if self.long_text == "truncate":  # counted here, warned of in transform
                    encoded = self.tokenizer_.encode_batch(texts.first, texts.second, max_length=self._limit())
                else:
                    encoded = self._encode(texts)
                self.n_truncated_ = int(np.count_nonzero(encoded.n_dropped))
        return self

    def transform(self, X):
        """Features of the texts.

        Parameters
        ----------
        X : list, array, Series or DataFrame of str
            As passed to ``fit``.

        Returns
        -------
        ndarray of shape (n_rows, hidden_size * n_layers), float32
        """
        module = self._module_on_device()
        if self.pooling == "pooler" and module.backbone.pooler is None:
            raise ValueError("pooling='pooler' was set after fit, which left the pooler out: fit again")
        texts = self._check_X(X, reset=False)
        features = self._infer_texts(self._run, texts)
        # here and not in the module, so that the mean over windows has unit length too
        return normalize(features, copy=False) if self.normalize else features

    def _build(self, config: ModelConfig):
        return XLMRobertaModel(config, add_pooler=self.pooling == "pooler")

    def _run(self, ids: torch.Tensor, layout: TokenLayout) -> torch.Tensor:
        return pool(self.module_.backbone, ids, layout, self.pooling, self._layers())

    def _window_weights(self, encoded):
        return encoded.lengths - self.tokenizer_.n_special(pair=self.n_features_in_ == 2)

    def _layers(self) -> list[int]:
        """The wanted layers, counted from 0."""
        n_layers = self.config_.num_hidden_layers
        layers = [self.layers] if isinstance(self.layers, Integral) else list(self.layers)
        if not layers or not all(isinstance(i, int | np.integer) and -n_layers - 1 <= i <= n_layers for i in layers):
            raise ValueError(
                f"layers must name layers from 0 (embeddings) to {n_layers}, or from -1 back to {-n_layers - 1}, got "
                f"{self.layers!r}"
            )
        return [int(i) % (n_layers + 1) for i in layers]

    def _weight_dtype(self):
        return resolve_autocast(self.dtype, resolve_device(self.device), training=False) or torch.float32

    def _hub_config(self):
        return {"architectures": ["XLMRobertaModel"]}

    @property
    def _n_features_out(self) -> int:
        return self.config_.hidden_size * len(self._layers())

    def _batching(self):
        return {**super()._batching(), "autocast": None}  # the weights themselves have the type
