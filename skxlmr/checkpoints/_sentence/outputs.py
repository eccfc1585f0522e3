"""Linear layers beside a sentence encoder that make further outputs of the vectors of tokens, in FlagEmbedding's files.

``sparse_linear.pt`` makes a weight of each token, ``colbert_linear.pt`` a vector of each token.
"""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from pathlib import Path

from skxlmr.checkpoints._formats.mapped_file import Tensors
from skxlmr.checkpoints._formats.read import read_weights
from skxlmr.checkpoints._formats.table import FORMATS
from skxlmr.checkpoints._formats.torch_bin import read_torch_bin
from skxlmr.checkpoints._formats.write import written_dtype
from skxlmr.checkpoints._layout import OUTPUT_LAYERS
from skxlmr.checkpoints._sentence.checks import MOST_FEATURES
from skxlmr.checkpoints._weights import check_finite
from skxlmr.utils._errors import CheckpointError
from skxlmr.utils._imports.later import torch


def output_layers(folder: Path) -> list[str]:
    """Names of the layers that a folder has."""
    return [name for name, file in OUTPUT_LAYERS.items() if os.path.lexists(folder / file)]


def read_output_layer(folder: Path, name: str, hidden_size: int) -> Tensors:
    """Read the weight and the bias of a layer into memory.

    Raises
    ------
    CheckpointError
        If there is no such file, or it is broken, or holds anything but a linear layer on ``hidden_size`` features.
    """
    file = folder / OUTPUT_LAYERS[name]
    if not os.path.lexists(file):
        makes = "weights of words" if name == "sparse_linear" else "vectors of tokens to compare"
        reason = f"has no {file.name}, a layer that makes {makes}: only checkpoints that were trained for it have one, such as "
        raise CheckpointError(folder, f"{reason}BAAI/bge-m3")
    tensors = read_weights(file, read_torch_bin)
    found = {key: tuple(tensor.shape) for key, tensor in tensors.items()}
    n_outputs = 1 if name == "sparse_linear" else (found.get("bias") or (0,))[0]
    if found != {"weight": (n_outputs, hidden_size), "bias": (n_outputs,)} or not 1 <= n_outputs <= MOST_FEATURES:
        n = 1 if name == "sparse_linear" else "n"
        raise CheckpointError(file, f"expected weight ({n}, {hidden_size}) and bias ({n},), found {found!s:.200}")
    for key, tensor in tensors.items():
        if not tensor.is_floating_point():
            raise CheckpointError(file, f"expected floating numbers as {key}, found {tensor.dtype}")
    check_finite(tensors, file)
    return {key: tensor.clone() for key, tensor in tensors.items()}


def output_layer_files(layers: Mapping[str, Tensors], dtype: torch.dtype | str | None = None) -> dict[str, bytes]:
    """Content of the files by name.

    Parameters
    ----------
    layers : dict of str to dict of str to Tensor
        Weight and bias of each layer.
    dtype : torch.dtype or str, optional
        What floating tensors are cast to.
    """
    files = {}
    for name, tensors in layers.items():
        wanted, content = written_dtype(FORMATS["bin"], tensors, dtype), io.BytesIO()
        torch.save({key: tensor.detach().to("cpu", wanted).clone() for key, tensor in tensors.items()}, content)
        files[OUTPUT_LAYERS[name]] = content.getvalue()
    return files
