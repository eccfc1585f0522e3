"""The formats of weights. A new format is one reader, one writer and one line here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from skxlmr.checkpoints._formats import keras_h5
from skxlmr.checkpoints._formats.flax_msgpack import flax_names, flax_to_hf, read_flax_msgpack, write_flax_msgpack
from skxlmr.checkpoints._formats.foreign_safetensors import any_index_to_hf, read_any_safetensors
from skxlmr.checkpoints._formats.mapped_file import Tensors
from skxlmr.checkpoints._formats.safetensors import write_safetensors
from skxlmr.checkpoints._formats.torch_bin import read_torch_bin, write_torch_bin

if TYPE_CHECKING:
    import torch

Writer: TypeAlias = "Callable[[Path, Tensors, torch.dtype | None], None]"


@dataclass(frozen=True)
class Format:
    """How the weights of one format are read and written.

    Parameters
    ----------
    file : str
        Name of the file that holds a whole model.
    read : function of a path
        Returns tensors with Hugging Face's names.
    write : function of a path, tensors and a dtype or None
        Writes a whole model; the tensors have the names of the format.
    write_shard : the same, optional
        Writes one of several files; by default ``write``.
    names : function of tensors, a config and a folder for errors, optional
        Returns a dict from Hugging Face's names to those of the format; by default they are the same.
    index_to_hf : function of a name
        Returns Hugging Face's name of a tensor in an index of shards.
    has_bfloat16 : bool
        Whether the format has this dtype; if not, float32 holds the same values.
    """

    file: str
    read: Callable[[Path], Tensors]
    write: Writer
    write_shard: Writer | None = None
    names: Callable[[Tensors, Mapping[str, Any], Path], dict[str, str]] | None = None
    index_to_hf: Callable[[str], str] = str
    has_bfloat16: bool = True


# By the name that ``convert`` takes, in the order in which a folder is searched for them.
FORMATS = {
    "safetensors": Format("model.safetensors", read_any_safetensors, write_safetensors, index_to_hf=any_index_to_hf),
    "bin": Format("pytorch_model.bin", read_torch_bin, write_torch_bin),
    "h5": Format(
        "tf_model.h5",
        keras_h5.read_keras_h5,
        keras_h5.write_keras_h5,
        write_shard=keras_h5.write_keras_h5_shard,
        names=keras_h5.keras_names,
        index_to_hf=keras_h5.keras_index_to_hf,
        has_bfloat16=False,
    ),
    "msgpack": Format(
        "flax_model.msgpack", read_flax_msgpack, write_flax_msgpack, names=flax_names, index_to_hf=flax_to_hf
    ),
}
WEIGHT_FILES = tuple(form.file for form in FORMATS.values())
