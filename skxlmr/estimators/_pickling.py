"""What pickles hold, and with them joblib's files and the messages between processes.

A fine-tuned estimator holds its weights. One whose word embeddings are still the checkpoint's, because its lower layers were
frozen or it learnt nothing, holds only the weights that differ, and the checkpoint's name and content hash: the checkpoint is
opened again, memory-mapped, so that processes share the pages of what they have in common.
"""

import copy
import importlib
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from sklearn.base import BaseEstimator
from torch import Tensor

from skxlmr.checkpoints import Origin, Tensors, assign_weights, on_meta, open_again, read_model
from skxlmr.estimators._readers import HEAD_PARTS
from skxlmr.nn import TaskModule
from skxlmr.text import Tokenizer
from skxlmr.utils._warnings import VersionWarning, outside_stacklevel


@dataclass
class StoredModule:
    """A module in a pickle.

    Attributes
    ----------
    dtype : of the weights
    learnt : tensors by name, on the CPU
    added : rows by the name of the tensor whose first rows are the checkpoint's
    borrowed : names of the tensors that are the checkpoint's
    checkpoint : name, revision and content hash, where anything is borrowed
    borrows_tokenizer : whether the tokenizer is the checkpoint's too
    """

    dtype: torch.dtype
    learnt: dict[str, Tensor] = field(default_factory=dict)
    added: dict[str, Tensor] = field(default_factory=dict)
    borrowed: list[str] = field(default_factory=list)
    checkpoint: tuple[str, str | None, str] | None = None
    borrows_tokenizer: bool = False


class Pickled(BaseEstimator):
    """How a fitted estimator goes into a pickle and comes out of it."""

    module_: Any
    tokenizer_: Tokenizer
    config_: Any
    device: Any
    _build: Any
    _read_folder: Any
    _weight_dtype: Any

    def __getstate__(self):
        state = {**super().__getstate__(), "_skxlmr_version": _version()}
        if "module_" in state:
            self._pack(state)
        return state

    def __setstate__(self, state):
        state = dict(state)
        written_by, version = state.pop("_skxlmr_version", "before 0.1"), _version()
        if written_by != version:
            warnings.warn(VersionWarning(type(self).__name__, version, written_by), stacklevel=outside_stacklevel())
        super().__setstate__(state)
        self._unpack()

    def __copy__(self):
        copied = type(self).__new__(type(self))
        copied.__dict__.update(vars(self))
        return copied

    def __deepcopy__(self, memo):
        copied = memo[id(self)] = type(self).__new__(type(self))
        copied.__dict__.update(copy.deepcopy(vars(self), memo))
        return copied

    def _pack(self, state: dict[str, Any]) -> None:
        """Put what is stored of the module in its place, and leave out a tokenizer that can be opened again."""
        module = state["module_"]
        stored = state["module_"] = StoredModule(next(module.parameters()).dtype)
        weights = {name: tensor.detach() for name, tensor in module.state_dict().items() if name not in _tied(module)}
        origin = module.origin
        theirs = self._unchanged_checkpoint(module, weights)
        for name, tensor in weights.items():
            n_common = _n_common_rows(tensor, theirs.get(name))
            if n_common == len(tensor):
                stored.borrowed.append(name)
            elif n_common:
                stored.borrowed.append(name)
                stored.added[name] = _alone(tensor[n_common:])
            else:
                stored.learnt[name] = _alone(tensor)
        if theirs:
            stored.checkpoint = (origin.name, origin.revision, origin.content_hash())
            stored.borrows_tokenizer = origin.tokenizer is self.tokenizer_
        if stored.borrows_tokenizer:
            del state["tokenizer_"]

    def _unpack(self) -> None:
        """Make the module of what is stored of it."""
        stored = vars(self).get("module_")
        if not isinstance(stored, StoredModule):
            return
        tensors, origin, source = dict(stored.learnt), None, "pickle"
        if stored.checkpoint is not None:
            name, revision, digest = stored.checkpoint
            source = open_again(name, revision, digest, f"this pickle of a {type(self).__name__}")
            if stored.borrows_tokenizer:
                self.tokenizer_ = self._open_tokenizer(Path(source))
            origin = Origin.of(name, revision, source, self.tokenizer_ if stored.borrows_tokenizer else None)
            theirs = read_model(source).tensors()
            tensors |= {name: theirs[name] for name in stored.borrowed}
            for name, rows in stored.added.items():
                tensors[name] = torch.cat([tensors[name].to(rows.dtype), rows])
        with on_meta():
            module = self._build(self.config_)
        # what the vectorizer takes by itself depends on the device, which may be another one here
        dtype = self._weight_dtype() if self.device == "auto" and stored.dtype != torch.float64 else stored.dtype
        assign_weights(module, tensors, source=source, head_parts=HEAD_PARTS, dtype=dtype)
        module.origin = origin
        self.module_ = module.eval()

    def _unchanged_checkpoint(self, module: TaskModule, weights: Tensors) -> Tensors:
        """Tensors of the module's checkpoint, where it can be opened again and the word embeddings are still its own."""
        if module.origin is None or not module.origin.is_unchanged():
            return {}
        theirs = read_model(module.origin.folder).tensors()
        embeddings = module.backbone.get_input_embeddings().weight
        (name,) = (name for name, tensor in weights.items() if tensor.data_ptr() == embeddings.data_ptr())
        return theirs if _n_common_rows(weights[name], theirs.get(name)) else {}

    def _open_tokenizer(self, folder: Path) -> Tokenizer:
        """The tokenizer as ``fit`` made it of the folder's files."""
        return self._read_folder(folder)[1]


def _version() -> str:
    # by name, for the package imports this room
    return importlib.import_module("skxlmr").__version__


def _tied(module: TaskModule) -> tuple[str, ...]:
    """Names of tensors that are others of the module under a second name."""
    return getattr(module, "tied_names", ())


def _n_common_rows(own: Tensor, theirs: Tensor | None) -> int:
    """How many rows a tensor has from the checkpoint's: all of them and perhaps more, or else 0."""
    if theirs is None or own.shape[1:] != theirs.shape[1:] or len(own) < len(theirs):
        return 0
    return len(theirs) if torch.equal(own[: len(theirs)].cpu(), theirs.to(own.dtype)) else 0


def _alone(tensor: Tensor) -> Tensor:
    """The tensor on the CPU, without the memory that it shares with others and that a pickle would hold too."""
    tensor = tensor.cpu()
    return tensor.clone() if tensor.untyped_storage().nbytes() > tensor.nbytes else tensor
