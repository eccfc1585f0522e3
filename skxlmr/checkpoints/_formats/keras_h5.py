"""TensorFlow's format: Keras's HDF5 files, with the names that transformers' TensorFlow classes give their weights.

A single file has a group per top-level layer, which holds each weight under its full name
(``/roberta/tfxlm_roberta_model/roberta/embeddings/word_embeddings/weight:0``). A layer that contains another one repeats its
weights: a language model head repeats the embeddings. A shard holds each weight under its name without that of the model.

Reference: ``modeling_tf_utils.py`` and ``modeling_tf_pytorch_utils.py`` of transformers 4.46.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from skxlmr.checkpoints._formats.mapped_file import MappedFile, Tensors
from skxlmr.nn import FAMILIES, language_models
from skxlmr.utils._errors import CheckpointError, blaming
from skxlmr.utils._imports.later import torch
from skxlmr.utils._imports.optional import import_extra

MOST_DEPTH = 32
MOST_OBJECTS = 50_000
# Exceptions that h5py was seen to raise on broken files.
BROKEN = (OSError, RuntimeError, LookupError, ValueError, TypeError, AttributeError, OverflowError, MemoryError)
KERAS = {"backend": b"tensorflow", "keras_version": b"2.17.0"}  # the version that writes this layout
# Weights that a language model head shares with the encoder. Keras lists them in the head too.
TIED = {
    "lm_head": "/roberta/embeddings/",
    "mlm___cls": "/bert/embeddings/",
    "vocab_projector": "/distilbert/embeddings/",
    "pred_layer_._proj": "/transformer/embeddings/",
}
ENCODERS = {family.prefix for family in FAMILIES.values()}  # names of encoders in models with a head
DTYPES = {"IEEE_F32LE": "float32", "IEEE_F16LE": "float16", "IEEE_F64LE": "float64"}  # names of torch's, by h5py's

RENAMED = {"pred_layer/proj": "pred_layer_._proj", "cls/predictions": "mlm___cls/predictions", "cls/": "nsp___cls/"}
# Layers with another name inside the class than in the file: the file's follows three underscores, as ``mlm___cls``.
_RENAMED = re.compile(r"(^|/)\w+?___")
_ENDINGS = {"kernel": "weight", "embeddings": "weight", "gamma": "weight", "beta": "bias"}


def read_keras_h5(file: str | os.PathLike[str]) -> Tensors:
    """Map a ``tf_model.h5``, or a shard of one. HDF5 only says where each array is.

    Parameters
    ----------
    file : str or path
        The file.

    Returns
    -------
    dict of str to Tensor
        With Hugging Face's names and the dtypes of the file, sharing its pages; what TensorFlow stores transposed is a
        transposed view.

    Raises
    ------
    CheckpointError
        If the file cannot be read, is broken, has links to another file or another place, or holds anything but plain
        floating-point arrays.
    ImportError
        If h5py is not installed.
    """
    h5py = import_extra("h5py", "tf", f"reading {Path(file).name}")
    reader = _Reader(MappedFile(file), h5py)
    tensors: Tensors = {}
    n_compared = 0  # bytes; copies are separate arrays, so a sound file has more bytes than that
    try:
        with h5py.File(file, "r", locking=False) as opened:
            for path, tensor in reader.arrays(opened):
                name = keras_to_hf(path)
                tensor = tensor.t() if path.endswith("/kernel:0") else tensor
                known = tensors.setdefault(name, tensor)
                if known is tensor:
                    continue
                n_compared += tensor.nbytes
                if n_compared > reader.mapped.size:
                    raise CheckpointError(file, "has too many names for the same arrays")
                if not torch.equal(known, tensor):
                    raise CheckpointError(file, f"holds tensor {name!r:.200} twice, with different values")
    except CheckpointError:
        raise
    except BROKEN as error:
        first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise CheckpointError(file, f"is not a whole HDF5 file ({first_line})") from error
    if not tensors:
        raise CheckpointError(file, "expected named arrays, found none")
    return tensors


def keras_to_hf(path: str) -> str:
    """Hugging Face's name of, for example, ``roberta/encoder/layer_._0/output/dense/kernel:0``."""
    path = _RENAMED.sub(r"\1", path.removesuffix(":0").replace("_._", "/"))
    *parts, last = path.split("/")
    return ".".join([*parts, _ENDINGS.get(last, last)])


def keras_index_to_hf(name: str) -> str:
    """Hugging Face's name of a tensor in an index of shards, where names begin with that of the model."""
    return keras_to_hf(name.partition("/")[2])


class _Reader:
    """Finds the arrays of an open file, within bounds."""

    def __init__(self, mapped: MappedFile, h5py: Any):
        self.mapped = mapped
        self.h5py = h5py
        self._n_objects = 0
        self._n_bytes = 0
        self._at: dict[tuple[int, tuple[int, ...], torch.dtype], torch.Tensor] = {}

    def error(self, reason: str) -> CheckpointError:
        """The exception to raise."""
        return CheckpointError(self.mapped.file, reason)

    def arrays(self, opened: Any) -> Iterator[tuple[str, torch.Tensor]]:
        """Path, which begins with the layer, and values of each array."""
        for layer, entry in self._entries(opened):
            # In a single file, the first two parts of a path are the layer and the model.
            n_extra = 2 if any(name.startswith("weight_names") for name in getattr(entry, "attrs", ())) else 0
            for path, dataset in self._datasets(layer, entry):
                yield path.split("/", n_extra)[-1], self._tensor(path, dataset)

    def _entries(self, group: Any) -> Iterator[tuple[str, Any]]:
        for name in group:
            self._n_objects += 1
            if self._n_objects > MOST_OBJECTS:
                raise self.error(f"holds more than {MOST_OBJECTS} objects")
            if "/" in name or name in (".", "..") or not name.isascii():
                raise self.error(f"has an object with the name {name!r:.200}")
            if not isinstance(group.get(name, getlink=True), self.h5py.HardLink):
                raise self.error(f"has a soft or external link {name!r:.200}, which might lead anywhere")
            yield name, group[name]

    def _datasets(self, path: str, entry: Any, depth: int = 0) -> Iterator[tuple[str, Any]]:
        if depth > MOST_DEPTH:
            raise self.error(f"nests deeper than {MOST_DEPTH} levels")
        if isinstance(entry, self.h5py.Dataset):
            yield path, entry
        elif isinstance(entry, self.h5py.Group):
            for name, child in self._entries(entry):
                yield from self._datasets(f"{path}/{name}", child, depth + 1)
        else:
            raise self.error(f"holds a {type(entry).__name__} at {path!r:.200}, not an array")

    def _tensor(self, path: str, dataset: Any) -> torch.Tensor:
        where = f"array {path!r:.200}"
        creation = dataset.id.get_create_plist()
        if creation.get_layout() != self.h5py.h5d.CONTIGUOUS or creation.get_external_count():
            reason = "is compressed, chunked, virtual or in another file, expected one contiguous piece of this file"
            raise self.error(f"{where} {reason}")
        kind = dataset.id.get_type()
        dtype = next(
            (getattr(torch, name) for known, name in DTYPES.items() if kind == getattr(self.h5py.h5t, known)), None
        )
        if dtype is None:
            raise self.error(f"{where} has dtype {kind.dtype}, expected little-endian float16, float32 or float64")
        shape, start = dataset.shape, dataset.id.get_offset()
        if shape is None or (start is None and 0 not in shape):
            raise self.error(f"{where} has no values in the file")
        key = (start or 0, shape, dtype)
        if key not in self._at:  # otherwise another name of the same array
            self._at[key] = tensor = self.mapped.tensor(start or 0, shape, dtype)
            self._n_bytes += tensor.nbytes
        if self._n_bytes > self.mapped.size:
            raise self.error("has arrays that overlap")
        return self._at[key]


def keras_names(tensors: Tensors, config: Mapping[str, Any], folder: str | os.PathLike[str]) -> dict[str, str]:
    """Map Hugging Face's names of a model's tensors to TensorFlow's.

    Parameters
    ----------
    tensors : dict of str to Tensor
        The whole model.
    config : dict
        Content of ``config.json``. Its ``architectures`` name the class, with which TensorFlow's names begin.
    folder : str or path
        The folder to be written, for errors.

    Returns
    -------
    dict of str to str
        Values such as ``tfxlm_roberta_model/roberta/encoder/layer_._0/output/dense/kernel:0``.

    Raises
    ------
    CheckpointError
        If the language model head is not tied to the word embeddings.
    """
    for head in language_models():
        if (name := f"{head.projection}.weight") in tensors:
            reason = f"cannot be written for TensorFlow: its classes have no {name}, only the word embeddings"
            raise CheckpointError(folder, reason)
    model = _model_name(config)
    norms = {name.removesuffix(".weight") for name, t in tensors.items() if name.endswith(".weight") and t.ndim == 1}
    return {name: f"{model}/{_keras_name(name, norms)}" for name in tensors}


def _keras_name(name: str, norms: set[str]) -> str:
    parent, _, last = name.rpartition(".")
    layer = parent.rpartition(".")[2]
    if parent in norms:
        last = {"weight": "gamma", "bias": "beta"}.get(last, last)
    elif last == "weight" and layer.endswith("embeddings"):
        last = "weight" if layer in ("word_embeddings", "embeddings") else "embeddings"
    elif last == "weight":
        last = "kernel"
    path = re.sub(r"/(?=\d+(/|$))", "_._", parent.replace(".", "/"))
    for ours, theirs in RENAMED.items():
        path = path.replace(ours, theirs) if path.startswith(ours) else path
    return f"{path}/{last}:0"


def _model_name(config: Mapping[str, Any]) -> str:
    """Keras's name of a model of this class: ``tfxlm_roberta_for_masked_lm``."""
    architectures = config.get("architectures")
    name = architectures[0] if isinstance(architectures, list) and architectures else "Model"
    spaced = re.sub("(.)([A-Z][a-z0-9]+)", r"\1_\2", "TF" + re.sub(r"\W", "", str(name)))
    return re.sub("([a-z])([A-Z])", r"\1_\2", spaced).lower()


def write_keras_h5(file: Path, tensors: Tensors, dtype: torch.dtype | None = None) -> None:
    """Write a ``tf_model.h5`` as Keras's ``save_weights`` would.

    Parameters
    ----------
    file : Path
        The file to write.
    tensors : dict of str to Tensor
        The whole model, with the names of :func:`keras_names`, in PyTorch's orientation.
    dtype : torch.dtype, optional
        What they are cast to, one after another; by default they keep their dtype.

    Raises
    ------
    CheckpointError
        If the dtype of a tensor is not a floating-point dtype of HDF5, or the file cannot be written.
    ImportError
        If h5py is not installed.
    """
    layers: dict[str, list[str]] = {}
    for name in sorted(tensors, key=lambda name: name.split("/")[1] not in ENCODERS):  # Keras builds the encoder first
        layers.setdefault(name.split("/")[1], []).append(name)
    with _created(file) as opened:
        opened.attrs["layer_names"] = [layer.encode() for layer in layers]
        opened.attrs.update(KERAS)
        for layer, names in layers.items():
            group = opened.create_group(layer)
            for name in names:
                _write_array(group, name, tensors[name], dtype, file)
            shared = [name for name in tensors if TIED.get(layer, " ") in name]
            for name in shared:
                group[name] = opened[f"{name.split('/')[1]}/{name}"]  # a second name of the array, not a second array
            group.attrs["weight_names"] = [name.encode() for name in names + shared]
        opened.create_group("top_level_model_weights").attrs["weight_names"] = []


def write_keras_h5_shard(file: Path, tensors: Tensors, dtype: torch.dtype | None = None) -> None:
    """Write a shard as transformers' TensorFlow classes would; parameters and errors as in :func:`write_keras_h5`."""
    with _created(file) as opened:
        for name, tensor in tensors.items():
            _write_array(opened, name.partition("/")[2], tensor, dtype, file)
        opened.attrs["layer_names"] = sorted(name.partition("/")[2].encode() for name in tensors)


@contextmanager
def _created(file: Path) -> Iterator[Any]:
    h5py = import_extra("h5py", "tf", f"writing {file.name}")
    blamed = blaming(file, "cannot be written ({})", *BROKEN)
    with blamed, h5py.File(file, "w", libver="earliest") as opened:  # TensorFlow's HDF5 may be old
        yield opened


def _write_array(group: Any, name: str, tensor: torch.Tensor, dtype: torch.dtype | None, file: Path) -> None:
    whole = tensor.detach().to("cpu", dtype)
    if str(whole.dtype).removeprefix("torch.") not in DTYPES.values():
        raise CheckpointError(file, f"cannot hold {name}, which has dtype {whole.dtype}")
    group.create_dataset(name, data=(whole.t() if name.endswith("/kernel:0") else whole).numpy())
