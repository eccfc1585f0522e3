"""Safetensors files of transformers' TensorFlow and Flax classes: with the names and orientation of those frameworks."""

import os

from skxlmr.checkpoints._formats.flax_msgpack import flax_to_hf
from skxlmr.checkpoints._formats.keras_h5 import keras_index_to_hf, keras_to_hf
from skxlmr.checkpoints._formats.mapped_file import Tensors
from skxlmr.checkpoints._formats.safetensors import read_with_writer
from skxlmr.utils._errors import CheckpointError


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
    if written_by not in ("tf", "flax"):
        return tensors
    renamed: Tensors = {}
    for name, tensor in tensors.items():
        path = name if written_by == "tf" else name.replace(".", "/")
        new = keras_to_hf(path) if written_by == "tf" else flax_to_hf(path)
        if new in renamed:
            raise CheckpointError(file, f"holds tensor {new!r:.200} twice")
        is_kernel = path.removesuffix(":0").endswith("/kernel") and tensor.ndim == 2
        renamed[new] = tensor.t() if is_kernel else tensor
    return renamed


def any_index_to_hf(name: str) -> str:
    """Hugging Face's name of a tensor in an index of shards; TensorFlow's names are paths that begin with the model."""
    return keras_index_to_hf(name) if "/" in name else name
