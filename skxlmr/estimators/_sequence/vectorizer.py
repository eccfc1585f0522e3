"""Texts to features through a frozen encoder."""

from __future__ import annotations

import sys
from copy import deepcopy
from numbers import Integral
from typing import Any, Self

import numpy as np
from sklearn.utils.metadata_routing import UNUSED

from skxlmr.checkpoints import StoredModel, moved, read_model
from skxlmr.estimators._core.callbacks import fit_task
from skxlmr.estimators._core.long_text import LongTexts
from skxlmr.estimators._core.rollback import all_or_nothing
from skxlmr.estimators._sequence.parameters import VectorizerParameters
from skxlmr.estimators._vectors.filling import Out, check_out, features_in_parts
from skxlmr.estimators._vectors.parts import is_one_part, one_dimension
from skxlmr.estimators._vectors.transformer import Transformer
from skxlmr.inference import OnnxModule
from skxlmr.text import EncodedBatch
from skxlmr.utils._devices.device import is_on, resolve_device, resolve_precision
from skxlmr.utils._imports.later import torch
from skxlmr.utils._sklearn import fit_context
from skxlmr.utils._validation import NoTextsError, Texts, check_rows, text_columns


class Vectorizer(VectorizerParameters, Transformer, LongTexts):
    """Features of texts, whatever the architecture family."""

    n_truncated_: int
    _absent_head = "the checkpoint has no pooler: choose another pooling"
    _weights_have_dtype = True
    __metadata_request__transform = {"out": UNUSED}  # noqa: RUF012  # whoever calls `transform` passes it, and no meta-estimator
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
                if self._has_graph():
                    self.tokenizer_ = self._family.continued(self)
                else:
                    self._open()
                for name in ("_opened", "_side_by_side"):
                    self.__dict__.pop(name, None)
                encoded = self._tokenize(texts, self._limit())  # counted here; transform warns
                self.n_truncated_ = int(np.count_nonzero(encoded.n_dropped))
        return self

    def transform(self, X: Any, *, out: Out = None) -> Any:
        """Features of the texts.

        Parameters
        ----------
        X : list, array, Series or DataFrame of str, of shape (n_rows,) or (n_rows, 1) or (n_rows, 2)
            Texts, or pairs of texts; after ``fit``, with its number of columns.
        out : path or ndarray of shape (n_rows, n_features), float32, optional
            Where the features go, for those that are larger than memory. An array is filled. A path is that of a ``.npy``
            file to make. If the call is ended by Ctrl-C, a kill or a full disk, the same call goes on where it was; until
            then the rows are in ``<out>.partial``, and ``<out>.progress`` says what they are. The cache of
            ``memory='auto'`` is not used with it.

        Returns
        -------
        ndarray of shape (n_rows, n_features), float32
            ``hidden_size`` features for each layer and each pooling, unless the checkpoint has layers after the pooling.
            Or a DataFrame, see ``set_output``. With ``out``, that array, or the one in the file, mapped into memory
            (``np.load(out, mmap_mode='r')``).

        Raises
        ------
        CheckpointError
            Without ``fit``, if the checkpoint cannot be read or does not fit.
        FileExistsError
            If ``out`` is a file that exists, or was begun with other texts, weights or parameters.
        ValueError
            If a row of X is not a text; names the row. If ``out`` does not fit, or ``set_output`` asks for a DataFrame
            beside it.
        """
        return self._dense(X, out)

    def _dense(self, X: Any, out: Out = None) -> np.ndarray:
        """The pooled vectors of the texts."""
        if out is not None:
            check_out(self, out)
        engine = self._engine(validate=not self._open_at_first_use())
        how, n_each = self._how(), self._n_each()  # refuses what does not fit, before texts are read
        if "pooler" in how.pooling:
            engine.check_has_pooler()
        texts = self._check_X(X, reset=False)
        pair = texts.second is not None
        n_around = self._n_around(how, pair)

        def features(encoded: EncodedBatch) -> np.ndarray:
            return self._features(engine, encoded, pair, window_weights=encoded.lengths - n_around)

        rows = one_dimension(texts)
        if out is None and is_one_part(rows, n_each):
            return features(self._encode(rows)).reshape(len(texts), n_each * texts.side_by_side)
        shape, (_, recipe) = (len(texts), n_each * texts.side_by_side), self._computation(engine, how, pair)
        return features_in_parts(self, engine, rows, shape, features, recipe, out)

    def _open(self) -> None:
        self.module_ = self._read_module(self._open_checkpoint())

    def _read_module(self, stored: StoredModel) -> Any:
        """The module with the checkpoint's weights, on the device and in the type of the weights."""
        module, device, dtype = self._load_module(stored), resolve_device(self.device), self._weight_dtype()
        if not is_on(module, device) or next(module.parameters()).dtype != dtype:
            moved(module, lambda: module.to(device, dtype))
        return module

    def _settle_weights(self, to_store: bool = False) -> None:
        found = next(self.module_.parameters()).dtype
        if found == torch.float64:  # the caller's own doing
            return
        if to_store and (found == torch.float32 or not self._computes_here()):  # settled where it is used
            return
        wanted, origin = self._weight_dtype(), self.module_.origin
        if found == wanted:
            return
        if self._has_weights_of_files():
            module = self._read_module(read_model(origin.folder))
            module.origin = module.loaded.origin = origin  # the parameter may name another checkpoint by now
        elif found == torch.float32 or self.dtype == "auto":
            module = deepcopy(self).module_  # others may share the module
            moved(module, lambda: module.to(wanted))
        else:
            raise ValueError(
                f"dtype={self.dtype!r} was set after fit, whose weights are {str(found).removeprefix('torch.')}, and there is "
                "no unchanged checkpoint to read others from: fit again"
            )
        self.module_ = module

    def _computes_here(self) -> bool:
        """Whether this machine has the device, and that the precision."""
        try:
            resolve_precision(self.dtype, resolve_device(self.device), training=False)
        except ValueError:
            return False
        return True

    def _has_weights_of_files(self) -> bool:
        """Whether the weights are those of the checkpoint, whose files are as they were."""
        module = self.module_
        if self._is_gone() or module.loaded is None:
            return False
        return bool(module.loaded.as_read(module) == {name for name, _ in module.named_parameters()})

    def _is_gone(self) -> bool:
        """Whether the files that the module came from are no longer there."""
        return self.module_.origin is None or not self.module_.origin.is_unchanged()

    def _pack(self, state: dict[str, Any]) -> None:
        self._settle_weights(to_store=True)
        state["module_"] = self.module_
        super()._pack(state)

    def _has_graph(self) -> bool:
        """Whether the model is an ONNX graph of the checkpoint, of which there is nothing to open or to learn."""
        module: Any = getattr(self, "module_", None)
        return isinstance(module, OnnxModule) and module.checkpoint == (self.checkpoint, self.revision)

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
        # a saved one is read all the same where this can't be computed, and says so when it is used
        if self.dtype == "int8" or (self.dtype == "float16" and device.type == "cpu"):
            return torch.float32
        return resolve_precision(self.dtype, device, training=False) or torch.float32

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
