"""What pickles hold, and so also joblib's files and the messages between processes.

A fine-tuned estimator holds its weights. If its word embeddings are still the checkpoint's, because its lower layers were
frozen or it learnt nothing, it holds only the weights that differ, and the checkpoint's name and content hash. The checkpoint
is then opened again, memory-mapped, so that processes share the pages of the common weights. Where LoRA was trained, it holds
the adapters in the place of the weights that they were merged into, if merging them again gives the same bits. With
``store_weights_in_pickle`` it always holds all weights.

Weights are NumPy arrays, which joblib can map, pickle's protocol 5 can pass on without a copy, and skops can read.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from mmap import mmap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from skxlmr._version import __version__
from skxlmr.checkpoints import (
    LoadedWeights,
    MappedFiles,
    Origin,
    Tensors,
    assign_weights,
    check_mapped_files,
    on_meta,
    open_again,
    read_model,
)
from skxlmr.utils._errors import CheckpointError
from skxlmr.utils._imports.later import torch
from skxlmr.utils._warnings import VersionWarning, warn_once_per_call

if TYPE_CHECKING:
    from torch import Tensor

    from skxlmr.nn import TaskModule
    from skxlmr.nn.lora import LoraWeights


@dataclass
class StoredModule:
    """A module in a pickle.

    Attributes
    ----------
    dtype : str
        Type of the weights.
    learnt : dict of str to ndarray
        Weights that differ from the checkpoint; bfloat16, which NumPy lacks, as its bits in uint16.
    added : dict of str to ndarray
        Rows that follow the checkpoint's rows of the same tensor.
    borrowed : list of str
        Tensors that are read from the checkpoint.
    checkpoint : tuple or None
        Its name, revision and content hash, if anything is borrowed.
    borrows_tokenizer : bool
        Whether the tokenizer is the checkpoint's too.
    lora : LoraWeights or None
        The adapters of the module, their matrices as arrays.
    merged : tuple of str
        Tensors that are the checkpoint's with these adapters merged into them.
    """

    dtype: str
    learnt: dict[str, np.ndarray] = field(default_factory=dict)
    added: dict[str, np.ndarray] = field(default_factory=dict)
    borrowed: list[str] = field(default_factory=list)
    checkpoint: tuple[str, str | None, str] | None = None
    borrows_tokenizer: bool = False
    lora: Any = None
    merged: tuple[str, ...] = ()


def warn_of_version(name: str, written_by: str) -> None:
    """Warn that another version of the library wrote the pickle of an estimator."""
    if written_by != __version__:
        warn_once_per_call(VersionWarning(name, __version__, written_by), about=(VersionWarning, name, written_by))


def pack(estimator: Any, state: dict[str, Any]) -> None:
    """Put a :class:`StoredModule` in the place of the module, and leave out a tokenizer that can be opened again."""
    module: TaskModule = state["module_"]
    check_mapped_files(module)
    stored = state["module_"] = StoredModule(str(next(module.parameters()).dtype).removeprefix("torch."))
    weights = {name: tensor.detach() for name, tensor in module.state_dict().items() if name not in _tied(module)}
    origin = module.origin
    theirs = {} if estimator.store_weights_in_pickle else _unchanged_checkpoint(estimator, weights)
    if module.lora is not None:
        arrays = {name: _array(tensor) for name, tensor in module.lora.tensors.items()}
        stored.lora = replace(module.lora, tensors=arrays, base={})
        stored.merged = tuple(_merged_alike(module.lora, weights, theirs))
    for name, tensor in weights.items():
        if name in stored.merged:
            continue
        n_common = _n_common_rows(tensor, theirs.get(name))
        if not n_common:
            stored.learnt[name] = _array(tensor)
            continue
        stored.borrowed.append(name)
        if n_common < len(tensor):
            stored.added[name] = _array(tensor[n_common:])
    if theirs:
        stored.checkpoint = (origin.name, origin.revision, origin.content_hash())
        stored.borrows_tokenizer = origin.tokenizer is estimator.tokenizer_
    if stored.borrows_tokenizer:
        del state["tokenizer_"]


def unpack(estimator: Any) -> None:
    """Restore the module from its :class:`StoredModule`."""
    stored = vars(estimator).get("module_")
    if not isinstance(stored, StoredModule):
        return
    learnt, files = {name: _writable(array) for name, array in stored.learnt.items()}, None
    tensors, origin, source = {name: _tensor(array) for name, array in learnt.items()}, None, "pickle"
    mapped_files = MappedFiles.of(str(array.filename) for array in learnt.values() if isinstance(array, np.memmap))
    mapped_files = mapped_files.with_tensors(tensors)
    lora = _lora_of(stored)
    if stored.checkpoint is not None:
        needed = (*stored.checkpoint, f"this pickle of a {type(estimator).__name__}")
        source = open_again(*needed)
        model = read_model(source)
        if stored.borrows_tokenizer:  # as `fit` made it from the folder's files
            estimator.tokenizer_ = estimator._read_folder(model)[1]
        origin = Origin.of(*stored.checkpoint[:2], source, estimator.tokenizer_ if stored.borrows_tokenizer else None)
        theirs, their_files = estimator._mapped_tensors(model)
        open_again(*needed)  # what was hashed is what was mapped
        mapped_files |= their_files
        files = None if stored.learnt or stored.added or stored.merged else model.files
        tensors |= {name: theirs[name] for name in stored.borrowed}
        if lora is not None:
            below = {name: theirs[name].to(getattr(torch, stored.dtype)) for name in stored.merged}
            tensors |= {name: _merged(lora, name, weight) for name, weight in below.items()}
            lora = replace(lora, base=below)
        for name, array in stored.added.items():
            rows = _tensor(_writable(array))
            tensors[name] = torch.cat([tensors[name].to(rows.dtype), rows])
    with on_meta():
        module = estimator._build(estimator.config_)
    # the dtype that the vectorizer chooses depends on the device, which may be another one here
    dtype = getattr(torch, stored.dtype)
    if estimator.device == "auto" and dtype != torch.float64:
        dtype = estimator._weight_dtype()
    assign_weights(module, tensors, source=source, dtype=dtype, files=files)
    module.origin, module.mapped_files, module.lora = origin, mapped_files, lora
    own = () if origin is None else {*stored.learnt, *stored.added, *stored.merged}
    module.loaded = LoadedWeights.of(module, without=own)
    estimator.module_ = module.eval()


def _unchanged_checkpoint(estimator: Any, weights: Tensors) -> Tensors:
    """Tensors of the module's checkpoint, if it is unchanged and the word embeddings still equal it; none otherwise."""
    module: TaskModule = estimator.module_
    if module.origin is None or not module.origin.is_unchanged():
        return {}
    embeddings = module.backbone.get_input_embeddings().weight
    (name,) = (name for name, tensor in weights.items() if tensor.data_ptr() == embeddings.data_ptr())
    with suppress(CheckpointError):  # replaced in this moment
        theirs = estimator._mapped_tensors(read_model(Path(module.origin.folder)))[0]
        if _n_common_rows(weights[name], theirs.get(name)):
            module.origin.content_hash()  # raises if it is another one by now; remembered otherwise
            return theirs
    return {}


def _merged_alike(lora: LoraWeights, weights: Tensors, theirs: Tensors) -> Iterator[str]:
    """Names of the weights that a merge of the adapters into the checkpoint's gives again, to the last bit."""
    for name in (f"{module}.weight" for module in lora.modules):
        own = weights[name].cpu()
        below = theirs.get(name, own[:0]).to(own.dtype)
        if below.shape == own.shape and torch.equal(own, _merged(lora, name, below)):
            yield name


def _merged(lora: LoraWeights, name: str, below: Tensor) -> Tensor:
    """A weight with its adapter, as a fit merges them."""
    return below + lora.update(name.removesuffix(".weight"), like=below)


def _lora_of(stored: StoredModule) -> LoraWeights | None:
    """The adapters in memory: their arrays may be a file's."""
    if stored.lora is None:
        return None
    found: LoraWeights = replace(
        stored.lora, tensors={name: _tensor(np.array(array)) for name, array in stored.lora.tensors.items()}
    )
    return found


def _tied(module: TaskModule) -> tuple[str, ...]:
    """Names of tensors that are second names of others."""
    return getattr(module, "tied_names", ())


def _n_common_rows(own: Tensor, theirs: Tensor | None) -> int:
    """How many first rows a tensor shares with the checkpoint's: all rows of the latter, or 0."""
    if theirs is None or own.shape[1:] != theirs.shape[1:] or len(own) < len(theirs):
        return 0
    return len(theirs) if torch.equal(own[: len(theirs)].cpu(), theirs.to(own.dtype)) else 0


def _array(tensor: Tensor) -> np.ndarray:
    """The tensor's values, without the memory that it shares with others and that a pickle would hold too."""
    tensor = tensor.cpu().contiguous()
    if tensor.dtype == torch.bfloat16:
        tensor = tensor.view(torch.uint16)
    return tensor.numpy()


def _tensor(array: np.ndarray) -> Tensor:
    """The tensor over the array's memory."""
    tensor = torch.from_numpy(array)
    return tensor.view(torch.bfloat16) if tensor.dtype == torch.uint16 else tensor


def _writable(array: np.ndarray) -> np.ndarray:
    """The array, or one like it that training may change in place: never the file that joblib mapped it from."""
    if isinstance(array, np.memmap) and isinstance(array.base, mmap):
        return np.memmap(array.filename, array.dtype, "c", array.offset, array.shape)
    return array if array.flags.writeable and not isinstance(array, np.memmap) else np.array(array)
