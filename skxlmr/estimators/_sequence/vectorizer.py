"""Texts to features through a frozen encoder."""

import sys
from collections.abc import Sequence
from numbers import Integral
from typing import Any, Self

import numpy as np
import torch
from sklearn.preprocessing import normalize

from skxlmr.estimators._core.callbacks import fit_task
from skxlmr.estimators._core.long_text import LongTexts
from skxlmr.estimators._core.rollback import all_or_nothing
from skxlmr.estimators._core.transformer import Transformer
from skxlmr.estimators.heads import MODEL
from skxlmr.estimators.parameters import (
    CheckpointParameters,
    PairParameters,
    PoolingParameters,
    changed,
    estimator,
    parameter,
    parameters,
)
from skxlmr.nn import TokenLayout
from skxlmr.nn.pooling import POOLINGS, pool
from skxlmr.utils._device import resolve_autocast, resolve_device
from skxlmr.utils._sklearn import StrOptions, fit_context
from skxlmr.utils._validation import NoTextsError, Texts, check_rows, text_columns


@parameters
class VectorizerParameters(PoolingParameters):
    """Parameters of vectorizers of either family."""

    pairs: str | bool = changed(
        PairParameters,
        "pairs",
        "auto",
        "Whether two columns are pairs of texts. ``'auto'`` reads them as pairs, and warns in ``fit`` if the second one looks "
        "like a category. True does not warn, and refuses one column. False encodes each column on its own, with the features "
        "of any number of columns side by side; skrub then gives each column a vectorizer.",
    )

    dtype: str = changed(
        CheckpointParameters,
        "dtype",
        "auto",
        "Precision of weights and computation. ``'auto'`` is bfloat16 on a GPU that is fast at it and float32 "
        "elsewhere; ``'bfloat16'`` is about three times as fast on CPUs with AVX512-BF16 or AMX, at a cosine of "
        "0.999 to float32.",
    )
    layers: int | Sequence[int] = parameter(
        -1,
        [Integral, "array-like"],
        "Layer whose vectors are pooled: 0 is the embeddings' output, -1 the last layer. The features of several "
        "layers stand side by side.",
    )
    normalize: bool = parameter(False, ["boolean"], "Scale each row to unit length.")


class Vectorizer(VectorizerParameters, LongTexts, Transformer):
    """Features of texts, whatever the architecture family."""

    n_truncated_: int
    _weights_have_dtype = True
    _side_by_side: int | None = None  # columns of the last `transform` without `fit`
    _opened: tuple[Any, ...] | None = None  # the parameters of a checkpoint that was opened without `fit`

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None) -> Self:
        """Open the checkpoint. ``transform`` does so itself where there was no ``fit``.

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
            If a row of X is not a text; names the row.
        """
        with all_or_nothing(self):
            texts = self._check_X(X, reset=True)
            with fit_task(self, X, y):
                self._open()
                for name in ("_opened", "_side_by_side"):
                    self.__dict__.pop(name, None)
                encoded = self._tokenize(texts, self._limit())  # counted here; transform warns
                self.n_truncated_ = int(np.count_nonzero(encoded.n_dropped))
        return self

    def transform(self, X: Any) -> Any:
        """Features of the texts.

        Parameters
        ----------
        X : list, array, Series or DataFrame of str, of shape (n_rows,) or (n_rows, 1) or (n_rows, 2)
            Texts, or pairs of texts; after ``fit``, with its number of columns.

        Returns
        -------
        ndarray of shape (n_rows, hidden_size * n_layers), float32
            Or a DataFrame, see ``set_output``.

        Raises
        ------
        CheckpointError
            Without ``fit``, if the checkpoint cannot be read or does not fit.
        ValueError
            If a row of X is not a text; names the row.
        """
        engine = self._engine(validate=not self._open_at_first_use())
        if self.pooling == "pooler" and engine.module.backbone.pooler is None:
            raise ValueError("pooling='pooler' was set after fit, which left the pooler out: fit again")
        texts = self._check_X(X, reset=False)
        encoded = self._encode(texts)
        n_tokens_W = encoded.lengths - self.tokenizer_.n_special(pair=texts.second is not None)
        features = engine.rows(encoded, self._pooled, window_weights=n_tokens_W)
        if self.normalize and len(features):
            # here and not in the module, so that the mean over windows has unit length too
            features = normalize(features, copy=False)
        if texts.side_by_side > 1:
            features = np.hstack(np.split(features, texts.side_by_side))
        return features

    def _open(self) -> None:
        stored = self._open_checkpoint()
        self._layers()
        self.module_ = self._load_module(stored).to(resolve_device(self.device), self._weight_dtype())

    def _read_texts(self, X: Any, name: str, reset: bool) -> Texts:
        try:
            if self.pairs in ("auto", True):
                return super()._read_texts(X, name, reset)
            columns = text_columns(X, name, self.missing)
        except NoTextsError as error:
            reject = getattr(sys.modules.get("skrub.core"), "RejectColumn", None)
            if reset and reject is not None:  # skrub's way to say that a column is not for this transformer
                raise reject(str(error)) from error
            raise
        if not columns:
            raise ValueError(f"{name} must have one column of texts or more, got 0 columns")
        if reset:
            check_rows(columns[0], name)
        texts = Texts([text for column in columns for text in column], side_by_side=len(columns))
        if not self._n_fitted_columns():
            self._side_by_side = texts.side_by_side
        return texts

    def _open_at_first_use(self) -> bool:
        """Without ``fit``, open the checkpoint, and open it again when the parameters name another one.

        Returns whether this was without ``fit``, and the parameters are validated.
        """
        if hasattr(self, "module_") and self._opened is None:
            return False
        self._validate_params()
        wanted = self.checkpoint, self.revision, self.pooling == "pooler", str(self._weight_dtype())
        if self._opened != wanted:
            with all_or_nothing(self):
                self._open()
                self._opened = wanted
        return True

    def _pooled(self, ids: torch.Tensor, layout: TokenLayout) -> torch.Tensor:
        return pool(self.module_.backbone, ids, layout, self.pooling, self._layers())

    def _layers(self) -> list[int]:
        """The wanted layers, counted from 0."""
        n_layers = self.config_.num_hidden_layers
        given: Any = self.layers
        layers = [given] if isinstance(given, Integral) else list(given)
        if not layers or not all(isinstance(i, int | np.integer) and -n_layers - 1 <= i <= n_layers for i in layers):
            raise ValueError(
                f"layers must name layers from 0 (embeddings) to {n_layers}, or from -1 back to {-n_layers - 1}, got "
                f"{self.layers!r}"
            )
        return [int(i) % (n_layers + 1) for i in layers]

    def _weight_dtype(self) -> torch.dtype:
        return resolve_autocast(self.dtype, resolve_device(self.device), training=False) or torch.float32

    @property
    def __single_column_transformer__(self) -> bool:
        """Tells skrub to apply a vectorizer to each column; an attribute only then."""
        if self.pairs in ("auto", True):
            raise AttributeError("__single_column_transformer__")
        return True

    @property
    def _n_blocks(self) -> int:
        if self.pairs in ("auto", True):
            return 1
        return self._n_fitted_columns() or self._side_by_side or 1

    @property
    def _n_features_out(self) -> int:
        return self.config_.hidden_size * len(self._layers()) * self._n_blocks

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        return tags


@estimator
class XLMRobertaVectorizer(Vectorizer):
    """Turn multilingual texts into dense features with XLM-RoBERTa.

    The encoder stays as it is, so that ``transform`` works without ``fit``: it opens the checkpoint at first use. Texts are
    sorted by length and run without padding, each distinct text once, and the features return in the order of the rows.

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
        2 for pairs, 1 for texts in a table; not set for texts in one dimension, nor without ``fit``.
    feature_names_in_ : ndarray of str
        Column names of a DataFrame that was passed to ``fit``.

    See Also
    --------
    XLMRobertaMaskedLM : Adapts the encoder to the texts of a domain first.
    XLMRobertaClassifier : Trains the encoder together with a classifier.

    References
    ----------
    .. [1] Conneau et al. (2020), "Unsupervised Cross-lingual Representation Learning at Scale", arXiv:1911.02116.

    Examples
    --------
    >>> from skxlmr import XLMRobertaVectorizer
    >>> XLMRobertaVectorizer("skxlmr-mini").transform(["Guten Morgen", "Good morning"]).shape
    (2, 192)
    """

    pooling: str = changed(
        PoolingParameters,
        "pooling",
        "mean",
        "How token vectors become one: their mean, the first token's vector, their maximum, or the checkpoint's "
        "pooler (a dense layer and tanh on the first token's vector).",
        constraint=[StrOptions(set(POOLINGS))],
    )

    _head = MODEL

    def _head_arguments(self) -> tuple[int, ...]:
        return (self.pooling == "pooler",)
