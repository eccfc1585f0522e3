"""Safetensors files of transformers' TensorFlow and Flax classes: with the names and orientation of those frameworks."""

import os

from skxlmr.checkpoints._formats.flax_msgpack import flax_to_hf, renamed
from skxlmr.checkpoints._formats.keras_h5 import keras_index_to_hf, keras_to_hf
from skxlmr.checkpoints._formats.mapped_file import Tensors
from skxlmr.checkpoints._formats.safetensors import read_with_writer


def read_any_safetensors(file: str | os.PathLike[str]) -> Tensors:
    """Map a ``.safetensors`` file of PyTorch, TensorFlow or Flax.

    Parameters
    ----------
    file : str or path
        The file.

    Returns
    -------
    dict of str to Tensor
        With Hugging Face's names; what the other frameworks store transposed is a transposed view.

    Raises
    ------
    CheckpointError
        As from :func:`read_safetensors`, or if two names mean the same tensor.
    """
    tensors, written_by = read_with_writer(file)
    if written_by == "tf":
        return renamed(file, tensors.items(), keras_to_hf)
    if written_by == "flax":
        return renamed(file, ((name.replace(".", "/"), tensor) for name, tensor in tensors.items()), flax_to_hf)
    return tensors


def any_index_to_hf(name: str) -> str:
    """Hugging Face's name of a tensor in an index of shards; TensorFlow's names are paths that begin with the model."""
    return keras_index_to_hf(name) if "/" in name else name
