"""Texts to features through a frozen encoder."""

import sys
from dataclasses import replace
from numbers import Integral
from typing import Any, Self

import numpy as np
import torch
from sklearn.preprocessing import normalize

from skxlmr.checkpoints import MappedFiles, StoredModel, Tensors
from skxlmr.estimators._core.callbacks import fit_task
from skxlmr.estimators._core.long_text import LongTexts
from skxlmr.estimators._core.rollback import all_or_nothing
from skxlmr.estimators._core.transformer import Transformer
from skxlmr.estimators._sequence.sentence import resolved
from skxlmr.estimators._sequence.vectorizer_parameters import VectorizerParameters
from skxlmr.nn import TaskModule, TokenLayout
from skxlmr.nn.pooling import POOLINGS, pool
from skxlmr.nn.sentence import SentenceEncoder, SentenceLayers
from skxlmr.utils._device import resolve_autocast, resolve_device
from skxlmr.utils._sklearn import fit_context
from skxlmr.utils._validation import NoTextsError, Texts, check_rows, text_columns


class Vectorizer(VectorizerParameters, LongTexts, Transformer):
    """Features of texts, whatever the architecture family."""

    n_truncated_: int
    _weights_have_dtype = True
    _poolings: tuple[str, ...] = POOLINGS[:-1]  # the words that `pooling` takes
    _said: SentenceEncoder | None = None  # how the checkpoint makes vectors of texts, if it says so
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
        ndarray of shape (n_rows, n_features), float32
            ``hidden_size`` features for each layer and each pooling, unless the checkpoint has layers after the pooling.
            Or a DataFrame, see ``set_output``.

        Raises
        ------
        CheckpointError
            Without ``fit``, if the checkpoint cannot be read or does not fit.
        ValueError
            If a row of X is not a text; names the row.
        """
        return self._dense(X)

    def _dense(self, X: Any) -> np.ndarray:
        """The pooled vectors of the texts."""
        engine = self._engine(validate=not self._open_at_first_use())
        how, layers, n_features = self._how(), self._layers(), self._n_each()
        backbone = engine.module.backbone
        if "pooler" in how.pooling and backbone.pooler is None:
            raise ValueError("pooling='pooler' was set after fit, which left the pooler out: fit again")
        texts = self._check_X(X, reset=False)
        encoded = self._encode(texts)
        n_prompt = len(self._prompt_ids(how, texts.second is not None))
        n_skipped = n_prompt - 1 if n_prompt and not how.include_prompt else 0
        further: Any = getattr(engine.module, "sentence", None) if self._has_further_layers() else None

        def features_of(ids: torch.Tensor, layout: TokenLayout) -> torch.Tensor:
            x = pool(backbone, ids, layout, how.pooling, layers, n_skipped)
            return x if further is None else further(x)

        n_tokens_W = encoded.lengths - self._n_around(how, texts.second is not None)
        features = engine.rows(encoded, features_of, window_weights=n_tokens_W)
        if how.normalize and len(features):
            # here and not in the module, so that the mean over windows has unit length too
            features = normalize(features, copy=False)
        if n_features < features.shape[1]:
            features = np.ascontiguousarray(features[:, :n_features])
            if self.normalize is True and len(features):
                features = normalize(features, copy=False)
        if texts.side_by_side > 1:
            features = np.hstack(np.split(features, texts.side_by_side))
        return features

    @property
    def pooling_(self) -> str | tuple[str, ...]:
        """How token vectors become one; several words if their vectors stand side by side."""
        words = self._how_if_fitted("pooling_").pooling
        return words[0] if len(words) == 1 else words

    @property
    def normalize_(self) -> bool:
        """Whether rows are scaled to unit length."""
        return self._how_if_fitted("normalize_").normalize

    @property
    def prompt_(self) -> str | None:
        """The text that is put before each text."""
        return self._how_if_fitted("prompt_").prompt()

    @property
    def max_length_(self) -> int:
        """Most tokens of a row."""
        self._how_if_fitted("max_length_")
        return self._limit()

    def _how_if_fitted(self, name: str) -> SentenceEncoder:
        if not hasattr(self, "module_"):
            raise AttributeError(f"{name} is known once the checkpoint is open: call fit or transform first")
        return self._how()

    def _how(self) -> SentenceEncoder:
        """How parameters and checkpoint together say that vectors of texts are made."""
        normalized = None if self.normalize == "auto" else bool(self.normalize)
        return resolved(self._said, self._own_poolings(), normalized, self.prompt, self.truncate_dim)

    def _own_poolings(self) -> tuple[str, ...] | None:
        """The words of the parameter; None if the checkpoint is to say it."""
        given: Any = self.pooling
        if isinstance(given, str):
            return None if given == "auto" else (given,)
        words = tuple(given)
        if not words or not all(isinstance(word, str) and word in self._poolings for word in words):
            raise ValueError(f"pooling must be 'auto', or one or more of {', '.join(self._poolings)}, got {given!r}")
        return words

    def _has_further_layers(self) -> bool:
        """Whether the checkpoint's layers after the pooling apply: they are made for the last layer of the encoder."""
        return self._layers() == [self.config_.num_hidden_layers]

    def _n_each(self) -> int:
        """Features of a text or pair."""
        how = self._how()
        n_features: int = self.config_.hidden_size * len(self._layers()) * len(how.pooling)
        if self._has_further_layers():
            if how.n_inputs() not in (None, n_features):
                raise ValueError(
                    f"pooling={self.pooling!r} makes {n_features} features, but the checkpoint's layers after the pooling take "
                    f"{how.n_inputs()}: let pooling='auto' choose what fits"
                )
            n_features = how.n_outputs(n_features)
        if self.truncate_dim is not None and self.truncate_dim > n_features:
            raise ValueError(f"truncate_dim={self.truncate_dim} is more than the {n_features} features that there are")
        return min(n_features, how.truncate_dim or n_features)

    def _open(self) -> None:
        stored = self._open_checkpoint()
        self.module_ = self._load_module(stored).to(resolve_device(self.device), self._weight_dtype())

    def _take(self, stored: StoredModel) -> None:
        super()._take(stored)
        self._said = stored.sentence_encoder()
        self._n_each()
        self._check_room(stored.folder)

    def _build(self, config: Any) -> TaskModule:
        module = super()._build(config)
        if self._said is not None and self._said.layers:
            module.sentence = SentenceLayers(self._said.layers)
        return module

    def _mapped_tensors(self, stored: StoredModel) -> tuple[Tensors, MappedFiles]:
        tensors, files = super()._mapped_tensors(stored)
        if self._said is None or not self._said.layers:
            return tensors, files
        further = stored.sentence_tensors(self._said)
        tensors = tensors | {f"sentence.{name}": tensor for name, tensor in further.items()}
        return tensors, files.with_tensors(tensors)

    def _sentence_encoder_to_save(self) -> tuple[SentenceEncoder | None, bool]:
        """What a saved folder says to other tools, and whether their vectors then are those of `transform`."""
        how = replace(self._how(), max_length=self._limit())
        is_cut_first = self.normalize is True and how.truncate_dim is not None
        is_all = self._has_further_layers() and self.long_text == "truncate" and "pooler" not in how.pooling
        is_equal = is_all and not is_cut_first and getattr(self, "n_features_in_", 1) == 1
        return (how, True) if is_equal else (self._said, False)

    # Texts --------------------------------------------------------------------------------------------------------------

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
        wanted = self.checkpoint, self.revision, self._head_arguments(), str(self._weight_dtype())
        if self._opened != wanted:
            with all_or_nothing(self):
                self._open()
                self._opened = wanted
        return True

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
        device = resolve_device(self.device)
        if self.dtype == "float16" and device.type == "cpu":  # a saved one is read all the same; it says so when used
            return torch.float32
        return resolve_autocast(self.dtype, device, training=False) or torch.float32

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
        return self._n_each() * self._n_blocks

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        return tags
