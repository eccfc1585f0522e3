"""What every estimator does: check texts, open the checkpoint, encode and run batches."""

import os
import warnings
from collections.abc import Callable, Sequence
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn import get_config
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from skxlmr.checkpoints import (
    Origin,
    assign_weights,
    check_finite,
    on_meta,
    read_model,
    resolve_checkpoint,
)
from skxlmr.estimators._pickling import Pickled
from skxlmr.estimators._readers import HEAD_PARTS, other_family
from skxlmr.inference import predict_batches, tokens_of_rows
from skxlmr.nn import ModelConfig, TaskModule, TokenLayout
from skxlmr.nn.xlm_roberta import init_weights
from skxlmr.text import EncodedBatch, SubwordSampling, Tokenizer, load_tokenizer
from skxlmr.utils._device import resolve_autocast, resolve_device
from skxlmr.utils._docs import documentation_url
from skxlmr.utils._errors import CheckpointError
from skxlmr.utils._sklearn import CallbackSupportMixin, Interval, StrOptions, check_feature_names
from skxlmr.utils._tables import column_names
from skxlmr.utils._validation import Texts, check_texts
from skxlmr.utils._warnings import TruncationWarning, outside_stacklevel


class BaseXLMRoberta(CallbackSupportMixin, Pickled):
    """Texts in, arrays out, through a checkpoint."""

    module_: Any  # the TaskModule of the estimator
    tokenizer_: Tokenizer
    config_: Any  # of the class below

    _config_class: type = ModelConfig  # the architecture family
    _needs_both_sides: str | None = None  # what a causal model has nothing to say about, if the estimator reads it
    _doc_link_module = "skxlmr"  # scikit-learn's diagrams link to the documentation of this package

    _parameter_constraints: dict = {
        "checkpoint": [str, os.PathLike],
        "revision": [str, None],
        "max_length": [Interval(Integral, 4, None, closed="left"), None],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "device": [str, torch.device],
        "dtype": [StrOptions({"auto", "float32", "bfloat16"})],
    }

    def _check_X(self, X: Any, reset: bool, name: str = "X") -> Any:
        """The rows of X, texts unless a subclass reads others; sets or compares the number and names of its columns."""
        known = not reset and hasattr(self, "n_features_in_")
        has_names = bool(column_names(X))
        if known and has_names:  # before any look at texts: a frame with other columns is told which
            check_feature_names(self, X, reset=False)
        texts = check_texts(X, name)
        if reset:
            self.n_features_in_ = texts.n_columns
            series_name = getattr(X, "name", None)
            self._series_name = series_name if isinstance(series_name, str) else None
        elif not known:  # straight from a checkpoint: there was no fit to compare with
            return texts
        elif texts.n_columns != self.n_features_in_:
            kinds = {1: "texts (1 column)", 2: "pairs of texts (2 columns)"}
            raise ValueError(
                f"{name} has {kinds[texts.n_columns]}, but {type(self).__name__} was fitted on "
                f"{kinds.get(self.n_features_in_, f'{self.n_features_in_} columns')}"
            )
        if reset or not has_names:
            check_feature_names(self, X, reset=reset)
        return texts

    def _open_checkpoint(self) -> tuple[str, ModelConfig, Tokenizer]:
        """Folder, config and tokenizer of the checkpoint."""
        folder = resolve_checkpoint(self.checkpoint, self.revision)
        config, tokenizer = self._read_folder(folder)
        self._limit_of(config)
        return str(folder), config, tokenizer

    def _read_folder(self, folder: Path) -> tuple[Any, Tokenizer]:
        """Config and tokenizer of a checkpoint folder, which must be of the estimator's architecture family."""
        config, file = read_model(folder).config, folder / "config.json"
        if not isinstance(config, self._config_class):
            raise CheckpointError(file, other_family(type(self).__name__, config.model_type))
        if self._needs_both_sides and getattr(config, "is_decoder", False):
            raise CheckpointError(
                file,
                f"tells of a causal model (is_decoder is true), and {type(self).__name__} reads {self._needs_both_sides}",
            )
        tokenizer = load_tokenizer(folder)
        if tokenizer.vocab_size > config.vocab_size:
            raise CheckpointError(
                folder,
                f"the tokenizer has {tokenizer.vocab_size} ids, but the model only {config.vocab_size} word embeddings",
            )
        return config, tokenizer

    def _load_module(
        self,
        folder: str,
        config: ModelConfig,
        build: Callable[[], TaskModule],
        new_part: str | None = None,
        optional_parts: Sequence[str] = (),
    ) -> TaskModule:
        """Module with the checkpoint's weights; ``new_part``, the head, starts anew, ``optional_parts`` where they lack."""
        tensors = read_model(folder).tensors()
        if new_part:
            kept = {name: tensor for name, tensor in tensors.items() if not name.startswith(new_part + ".")}
            if len(kept) < len(tensors):
                warnings.warn(
                    f"{folder} has a head of its own ({new_part}), trained for other targets: fit starts a new one",
                    UserWarning,
                    stacklevel=outside_stacklevel(),
                )
            tensors = kept
        with on_meta():
            module = build()
        new_parts = [*optional_parts, *([new_part] if new_part else [])]
        started_anew = assign_weights(module, tensors, source=folder, new_parts=new_parts, head_parts=HEAD_PARTS)
        for part in new_parts:
            if any(name.startswith(part + ".") for name in started_anew):
                if part in optional_parts:
                    self._say_of_new_part(folder, part)
                init_weights(module.get_submodule(part).to_empty(device="cpu"), config.initializer_range)
        module.origin = Origin.of(self.checkpoint, self.revision, folder, self.tokenizer_)
        return module.eval()

    def _say_of_new_part(self, folder: str, part: str) -> None:
        """Tell the user that an optional part starts anew, where that matters."""

    def _limit(self) -> int:
        """Most tokens of a row."""
        return self._limit_of(self.config_)

    def _limit_of(self, config: Any) -> int:
        if self.max_length is None:
            return config.max_length
        if self.max_length > config.max_length:
            raise ValueError(
                f"max_length={self.max_length} is more than the {config.max_length} tokens the checkpoint allows"
            )
        return self.max_length

    def _encode(
        self, texts: Texts, parse_special: bool = False, sampling: SubwordSampling | None = None
    ) -> EncodedBatch:
        """Ids of the texts; warns of what is cut, but not again when segmentations are drawn anew."""
        limit = self._limit()
        encoded = self._tokenize(texts, limit, parse_special, sampling)
        n_cut = int(np.count_nonzero(encoded.n_dropped))
        if n_cut and sampling is None:
            warnings.warn(
                f"{n_cut} of {len(encoded)} texts are longer than {limit} tokens and were cut; the longest lost at "
                f"least {encoded.n_dropped.max()} tokens",  # the ends of huge texts are not looked at
                TruncationWarning,
                stacklevel=outside_stacklevel(),
            )
        return encoded

    def _tokenize(
        self, texts: Texts, limit: int, parse_special: bool, sampling: SubwordSampling | None
    ) -> EncodedBatch:
        """Ids of the texts in rows of at most ``limit`` tokens."""
        return self.tokenizer_.encode_batch(
            texts.first, texts.second, max_length=limit, parse_special=parse_special, sampling=sampling
        )

    def _module_on_device(self) -> TaskModule:
        """The fitted module, moved to the estimator's device if it came from elsewhere."""
        check_is_fitted(self, "module_")
        if not get_config()["skip_parameter_validation"]:  # parameters may have been set after fit
            self._validate_params()
        device = resolve_device(self.device)
        if next(self.module_.parameters()).device.type != device.type:
            self.module_.to(device)
        return self.module_

    def _infer(
        self, run: Callable[[Tensor, TokenLayout], Tensor], encoded: EncodedBatch, per_token: bool = False
    ) -> np.ndarray:
        """Apply ``run`` to batches of encoded rows."""
        outputs = predict_batches(run, encoded, per_token=per_token, **self._batching())
        if np.isnan(outputs).any():  # large tensors were not looked at when they were read
            check_finite(self.module_.state_dict(), str(self.checkpoint))
        return outputs

    def _infer_texts(self, run: Callable[[Tensor, TokenLayout], Tensor], texts: Texts) -> np.ndarray:
        """Apply ``run`` to batches of texts, each distinct row once."""
        rows = texts.first if texts.second is None else list(zip(texts.first, texts.second, strict=True))
        place: dict = {}
        inverse = [place.setdefault(row, len(place)) for row in rows]
        if len(place) == len(rows):
            return self._infer(run, self._encode(texts))
        distinct = Texts(list(place)) if texts.second is None else Texts(*map(list, zip(*place, strict=True)))
        return self._infer(run, self._encode(distinct))[inverse]

    def _batching(self) -> dict[str, Any]:
        """Device, size and precision of inference batches."""
        device = next(self.module_.parameters()).device
        return {
            "device": device,
            "token_budget": tokens_of_rows(self.batch_size, device),
            "autocast": resolve_autocast(self.dtype, device, training=False),
        }

    def _hub_config(self) -> dict[str, Any]:
        """What ``config.json`` says beside the geometry, for ``transformers``."""
        raise NotImplementedError

    def _published_tokenizer(self) -> Tokenizer:
        """The tokenizer as others are to read it from a saved folder."""
        return self.tokenizer_

    def _weight_dtype(self) -> torch.dtype:
        """Type in which the fitted module keeps its weights."""
        return torch.float32

    @property
    def _doc_link_template(self) -> str:
        """Address of the estimator's part of the API reference, for scikit-learn's diagrams."""
        url = documentation_url()
        return f"{url}/api.html#{type(self).__name__.lower()}" if url else ""

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.two_d_array = False
        tags.no_validation = False
        return tags
