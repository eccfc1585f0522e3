"""What every estimator does: check texts, open the checkpoint, encode, and hand rows to the engine."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from sklearn import get_config

from skxlmr._version import __version__
from skxlmr.checkpoints import (
    LoadedWeights,
    MappedFiles,
    Origin,
    StoredModel,
    Tensors,
    assign_weights,
    check_mapped_files,
    moved,
    on_meta,
    read_model,
    resolve_checkpoint,
    skeleton,
)
from skxlmr.estimators._core.documentation import documentation_url
from skxlmr.estimators._core.family import Family, check_ids, other_family, other_task
from skxlmr.estimators._core.graph import onnx_engine
from skxlmr.estimators._core.pickling import pack, unpack, warn_of_version
from skxlmr.estimators._core.prompts import prompt_ids
from skxlmr.estimators._core.truncation import warn_of_truncation, who_cuts
from skxlmr.estimators.heads import CAUSAL_LM, Head
from skxlmr.estimators.other_words import misspelt
from skxlmr.estimators.parameters import CheckpointParameters
from skxlmr.inference import Engine, OnnxModule, cache_of
from skxlmr.nn import family_of
from skxlmr.nn.randomness import host_generator
from skxlmr.nn.sentence import TextSettings
from skxlmr.text import EncodedBatch, SubwordSampling, Tokenizer
from skxlmr.utils._containers import known_container
from skxlmr.utils._devices.device import is_on, resolve_device, resolve_precision, warn_if_slow
from skxlmr.utils._errors import CheckpointError
from skxlmr.utils._imports.later import torch
from skxlmr.utils._sklearn import BaseEstimator, CallbackSupportMixin, check_feature_names, check_parameters
from skxlmr.utils._tables import column_names, is_table, name_of
from skxlmr.utils._validation import Texts, check_fitted, check_texts, warn_of_category
from skxlmr.utils._warnings import warn_once_per_call

if TYPE_CHECKING:
    from skxlmr.nn import TaskModule


class Estimator(CheckpointParameters, CallbackSupportMixin, BaseEstimator):
    """Texts in, arrays out, through a checkpoint."""

    module_: TaskModule
    tokenizer_: Any  # a Tokenizer; that of the original XLM has more methods
    config_: Any  # of the family's config class
    n_features_in_: int
    _n_columns: int | None = None  # of X in fit
    _y_columns: list[Any] | None = None  # names of several columns of y; those of an indicator matrix are the classes
    _series_name: str | None = None  # unless fit saw a named Series

    _said: Any = None  # TextSettings of a checkpoint whose own way with texts is the estimator's

    _head: Head
    _absent_head: str  # advice on a checkpoint that lacks the whole head
    _family = Family()
    _weights_have_dtype = False  # whether `dtype` is the type of the weights, not only of the computation
    _doc_link_module = "skxlmr"  # scikit-learn's diagrams link to the documentation of this package

    # Parameters ---------------------------------------------------------------------------------------------------------

    def set_params(self, **params: Any) -> Self:
        """Set parameters of this estimator.

        Parameters
        ----------
        **params
            Values by the names of the constructor's parameters.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If there is no such parameter; names the nearest one.

        Examples
        --------
        >>> from skxlmr import XLMRobertaVectorizer
        >>> XLMRobertaVectorizer("skxlmr-mini").set_params(batch_size=64)
        XLMRobertaVectorizer(batch_size=64, checkpoint='skxlmr-mini')
        """
        known = self.get_params(deep=True)
        for name in params:
            own, nested, _ = name.partition("__")
            if own not in known or (nested and not hasattr(params.get(own, known[own]), "set_params")):
                raise ValueError(
                    f"Invalid parameter {name!r} for estimator {self!r}: {misspelt(type(self), name, list(known))}"
                )
        return super().set_params(**params)

    def _validate_params(self) -> None:
        check_parameters(self)
        cache_of(getattr(self, "memory", None))  # refuses what is no path

    # Rows ---------------------------------------------------------------------------------------------------------------

    def _check_X(self, X: Any, reset: bool, name: str = "X") -> Any:
        """Rows of X: texts, unless a subclass reads others. Sets or compares the number and names of the columns."""
        n_fitted = None if reset else self._n_fitted_columns()
        X = known_container(X, name)
        has_names = bool(column_names(X))
        if n_fitted and has_names:  # before texts are looked at: an error about another frame names its columns
            check_feature_names(self, X, reset=False, name=name)
        texts = self._read_texts(X, name, reset)
        if reset:
            self._set_n_columns(X, texts.n_columns)
            self._remember_name(X)
        elif not n_fitted:  # straight from a checkpoint: there was no fit to compare with
            return texts
        elif texts.n_columns != n_fitted:
            if not len(texts) and not has_names:  # an empty list does not say how many columns it has
                return Texts([], [] if n_fitted == 2 else None)
            kinds = {1: "texts (1 column)", 2: "pairs of texts (2 columns)"}
            found, expected = (kinds.get(n, f"{n} columns") for n in (texts.n_columns, n_fitted))
            raise ValueError(f"{name} has {found}, but {type(self).__name__} was fitted on {expected}")
        if reset or (hasattr(self, "feature_names_in_") and not has_names):  # without names on either side, all is well
            check_feature_names(self, X, reset=reset, name=name)
        return texts

    def _read_texts(self, X: Any, name: str, reset: bool) -> Texts:
        """Texts or pairs of X, as the parameters ``missing`` and ``pairs`` say; no rows only where none are learnt from."""
        texts = check_texts(X, name, missing=getattr(self, "missing", None), rows_needed=reset)
        pairs = getattr(self, "pairs", None)
        if pairs == "auto" and reset:
            warn_of_category(X, texts, name)
        elif pairs not in (None, "auto") and len(texts) and bool(pairs) != (texts.second is not None):
            found = "pairs of texts (2 columns)" if texts.second is not None else "texts (1 column)"
            wanted = "two columns" if pairs else "one column"
            raise ValueError(f"{name} has {found}, but pairs={pairs}: pass {wanted}, or set pairs='auto'")
        return texts

    def _set_n_columns(self, X: Any, n_columns: int) -> None:
        """Texts in one dimension have no features, as in scikit-learn's text vectorizers: some tools probe with numbers."""
        self._n_columns = n_columns
        self.__dict__.pop("n_features_in_", None)  # of an earlier fit
        if n_columns > 1 or is_table(X):
            self.n_features_in_ = n_columns

    def _n_fitted_columns(self) -> int | None:
        """How many columns X had in ``fit``; None straight from a checkpoint."""
        return getattr(self, "n_features_in_", self._n_columns)

    def _check_columns(self, X: Any, n_columns: int, reset: bool) -> None:
        """Set the number and names of the columns, or compare the names."""
        if reset:
            self.n_features_in_ = n_columns
        if hasattr(self, "n_features_in_"):  # not straight from a checkpoint: there was no fit to compare with
            check_feature_names(self, X, reset=reset)

    def _remember_name(self, X: Any) -> None:
        """Keep the name of a Series, after which features are named."""
        name = getattr(X, "name", None)
        self._series_name = name_of(name) if isinstance(name, str) else None

    def _limit(self) -> int:
        """Most tokens per row."""
        if self.max_length is None:
            said = None if self._said is None else self._said.max_length
            return int(min(said or self.tokenizer_.model_max_length, self.config_.max_length))
        if self.max_length > self.config_.max_length:
            windows = ""
            if hasattr(self, "long_text"):
                windows = ": long_text='window' reads all of a longer text"
            elif hasattr(self, "stride"):
                windows = ": leave it out, longer rows are read in windows"
            raise ValueError(
                f"max_length={self.max_length} is more than the {self.config_.max_length} tokens the checkpoint allows{windows}"
            )
        return int(self.max_length)  # np.int64 from a search or a quantile is no JSON

    def _how(self) -> TextSettings:
        """How checkpoint and parameters say that texts are read."""
        said: TextSettings | None = self._said
        return said or TextSettings()

    def _prompt_ids(self, how: TextSettings, pair: bool) -> np.ndarray:
        """Ids of the prompt with a special token at each end, none without a prompt; it must leave room for a text."""
        return prompt_ids(self.tokenizer_, how, pair, self._limit())

    def _n_around(self, how: TextSettings, pair: bool) -> int:
        """Tokens of a row that are not the texts': special tokens and the prompt."""
        return max(len(self._prompt_ids(how, pair)) - 2, 0) + int(self.tokenizer_.n_special(pair))

    def _check_room(self, how: TextSettings, folder: Path) -> None:
        """Check that special tokens and prompt leave room for a text."""
        try:
            least = self._n_around(how, pair=getattr(self, "n_features_in_", 1) == 2) + 1
        except ValueError as error:
            if getattr(self, "prompt", "auto") == "auto" and self.max_length is None:
                raise CheckpointError(folder, str(error)) from error
            raise
        if self.max_length is None and self._limit() < least:
            raise CheckpointError(folder, f"allows {self._limit()} tokens, and a text needs {least} or more")

    def _encode(self, rows: Any, sampling: SubwordSampling | None = None, **options: Any) -> EncodedBatch:
        """Ids of the rows; warns about truncation, but not again when segmentations are redrawn."""
        limit = self._limit()
        encoded = self._tokenize(rows, limit, sampling=sampling, **options)
        if sampling is None:
            warn_of_truncation(encoded, encoded.n_dropped, limit, "texts", how=who_cuts(self, limit))
        return encoded

    def _tokenize(self, texts: Texts, max_length: int, **options: Any) -> EncodedBatch:
        """Ids of the texts in rows of at most ``max_length`` tokens, with these options of ``encode_batch``."""
        return self.tokenizer_.encode_batch(texts.first, texts.second, max_length=max_length, **options)

    # Checkpoint ---------------------------------------------------------------------------------------------------------

    def _open_checkpoint(self) -> StoredModel:
        """Open the checkpoint: its config and tokenizer become the estimator's."""
        # what can't be computed here is refused before anything is downloaded
        resolve_precision(self.dtype, resolve_device(self.device), training=False)
        stored = read_model(resolve_checkpoint(self.checkpoint, self.revision))
        with stored.unchanged():
            self._take(stored)
        limit, n_special = self._limit(), self.tokenizer_.n_special
        least = max(n_special(False) + 1, n_special(True))
        if limit < least:  # max_length is never so small
            reason = (
                f"allows {limit} tokens (model_max_length), and texts or pairs need {least} or more: set max_length"
            )
            raise CheckpointError(stored.model_folder / "tokenizer_config.json", reason)
        return stored

    def _take(self, stored: StoredModel) -> None:
        """Take what the estimator needs of a checkpoint, apart from the weights."""
        self.config_, self.tokenizer_ = self._read_folder(stored)

    def _take_own(self, stored: StoredModel) -> None:
        """Take what a checkpoint says of texts and outputs of its own head, where the estimator has that one."""

    def _read_folder(self, stored: StoredModel) -> tuple[Any, Tokenizer]:
        """Config and tokenizer of a checkpoint folder, which must be of the estimator's architecture family."""
        folder, config, file = stored.model_folder, stored.config, stored.model_folder / "config.json"
        if family_of(config).estimators != self._family.prefix:
            raise CheckpointError(file, other_family(self._head, self._family, config.model_type))
        if self._head.task not in family_of(config).modules:
            raise CheckpointError(file, other_task(self._head, self._family, config))
        if self._head.bidirectional and getattr(config, "is_decoder", False):
            use = CAUSAL_LM.estimator if CAUSAL_LM.task in family_of(config).modules else "transformers"
            raise CheckpointError(
                file,
                f"describes a causal model (is_decoder is true), and {type(self).__name__} reads "
                f"{self._head.bidirectional}: use {use}",
            )
        tokenizer = stored.tokenizer()
        check_ids(tokenizer, config, folder)
        return config, self._family.check(self, config, tokenizer, file)

    def _build(self, config: Any) -> TaskModule:
        """New module with the head, without weights."""
        return self._family.prepared(self, skeleton(self._head.module(config), config, *self._head_arguments()))

    def _head_arguments(self) -> tuple[int, ...]:
        """What the module takes as well as the geometry, such as the number of outputs."""
        return ()

    def _load_module(
        self, stored: StoredModel, new_parts: Sequence[str] = (), optional_parts: Sequence[str] = ()
    ) -> TaskModule:
        """Module with the checkpoint's weights.

        ``new_parts``, the head, start from scratch; ``optional_parts`` do where the checkpoint lacks them.
        """
        from skxlmr.nn.xlm_roberta import init_weights

        with stored.unchanged():
            tensors, mapped_files = self._mapped_tensors(stored)
            config = self.config_
            replaced = [part for part in new_parts if any(name.startswith(part + ".") for name in tensors)]
            if replaced:
                warn_once_per_call(
                    f"{stored.folder} has a head of its own ({', '.join(replaced)}), and fit trains a new one from scratch. To "
                    f"go on with that one, use {type(self).__name__}.from_checkpoint with partial_fit or warm_start=True",
                    about=(stored.folder, *replaced),
                )
            prefixes = tuple(part + "." for part in replaced)
            tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith(prefixes)}
            with on_meta():
                module = self._build(config)
            parts, heads = [*optional_parts, *new_parts], family_of(config).head_parts
            on_cpu = resolve_device(self.device).type == "cpu"
            from_scratch = assign_weights(
                module,
                tensors,
                source=stored.folder,
                new_parts=parts,
                head_parts=heads,
                dtype=self._weight_dtype() if on_cpu else None,  # a GPU converts what it gets
                remark=stored.remark,
                absent_head=self._absent_head,
                files=stored.files,
            )
            module.new_parts = tuple(p for p in parts if any(name.startswith(p + ".") for name in from_scratch))
            for part in module.new_parts:
                if part in optional_parts:
                    self._announce_new_part(stored.folder, part)
                scratch = module.get_submodule(part).to_empty(device="cpu")
                init_weights(scratch, config.initializer_range, host_generator())
            module.origin = Origin.of(self.checkpoint, self.revision, stored.folder, self.tokenizer_)
            module.mapped_files, module.loaded = mapped_files, LoadedWeights.of(module, without=from_scratch)
        return module.eval()

    def _mapped_tensors(self, stored: StoredModel) -> tuple[Tensors, MappedFiles]:
        """Weights of a checkpoint under the module's names, and the files of which the module must know."""
        return stored.mapped_tensors()

    def _announce_new_part(self, folder: Path, part: str) -> None:
        """Warn that an optional part starts from scratch, if that matters."""

    def _weight_dtype(self) -> torch.dtype:
        """Type in which the fitted module keeps its weights."""
        return torch.float32

    # Predictions --------------------------------------------------------------------------------------------------------

    def _engine(self, validate: bool = True) -> Any:
        """The engine over the fitted module: an Engine on the estimator's device, or an OnnxEngine."""
        check_fitted(self)
        if validate and not get_config()["skip_parameter_validation"]:  # parameters may have been set after fit
            check_parameters(self)
        self.tokenizer_ = self._family.continued(self)
        return onnx_engine(self) if isinstance(self.module_, OnnxModule) else self._torch_engine()

    def _torch_engine(self) -> Engine:
        check_mapped_files(self.module_)
        device = resolve_device(self.device)
        precision = resolve_precision(self.dtype, device, training=False)
        if self.dtype == "bfloat16":
            warn_if_slow(device)
        self._settle_weights()
        if not is_on(self.module_, device):
            self._move_module(device)
        if self._weights_have_dtype and precision != torch.int8:
            precision = None
        cache, about = cache_of(getattr(self, "memory", None)), self._family.beside_the_rows(self.module_)
        source = f"the fitted {type(self).__name__}" if "loss_curve_" in vars(self) else str(self.checkpoint)
        return Engine(self.module_, self.batch_size, precision, source, int(self.verbose), cache, about)

    def _move_module(self, device: torch.device) -> None:
        moved(self.module_, lambda: self.module_.to(device))

    def _settle_weights(self, to_store: bool = False) -> None:
        """Give the weights the type that ``dtype`` asks for, which may have been set after fit, where they have it."""

    # Files --------------------------------------------------------------------------------------------------------------

    def _hub_config(self) -> dict[str, Any]:
        """What ``config.json`` says besides the geometry, for ``transformers``."""
        return {"architectures": [self._head.module(self.config_).architecture()]}

    def _published_tokenizer(self) -> Tokenizer:
        """The tokenizer that a saved folder holds, for other tools too."""
        return self.tokenizer_

    def __getstate__(self) -> dict[str, Any]:
        state = dict(sorted({**super().__getstate__(), "_skxlmr_version": __version__}.items()))  # in any order of fits
        if "module_" in state and not isinstance(state["module_"], OnnxModule):
            self._pack(state)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        warn_of_version(type(self).__name__, state.pop("_skxlmr_version", "before 0.1"))
        super().__setstate__(state)
        self._unpack()

    def _pack(self, state: dict[str, Any]) -> None:
        """Replace the module with what a pickle stores of it."""
        pack(self, state)

    def _unpack(self) -> None:
        """Restore the module from what a pickle stores of it."""
        unpack(self)

    def __copy__(self) -> Self:
        copied = type(self).__new__(type(self))
        copied.__dict__.update(vars(self))
        return copied

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        if hasattr(self, "module_"):
            check_mapped_files(self.module_)
        copied = memo[id(self)] = type(self).__new__(type(self))
        copied.__dict__.update(deepcopy(vars(self), memo))
        if hasattr(self, "module_") and self.module_.loaded is not None:
            copied.module_.loaded = self.module_.loaded.of_copy(self.module_, copied.module_)
        return copied

    # scikit-learn -------------------------------------------------------------------------------------------------------

    @property
    def _doc_link_template(self) -> str:
        """Address of the estimator's page in the API reference, for scikit-learn's diagrams."""
        url = documentation_url()
        return f"{url}/api/generated/skxlmr.{type(self).__name__}.html" if url else ""

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.two_d_array = False
        tags.no_validation = False
        return tags
