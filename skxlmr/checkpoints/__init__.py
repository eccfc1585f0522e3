"""Disk <-> (config, tensors under Hugging Face's names). Nothing here knows how a model computes."""

from skxlmr.checkpoints._builtin import BUILTIN
from skxlmr.checkpoints._emplace import emplace, on_meta
from skxlmr.checkpoints._folder import read_config, read_tensors, write_folder
from skxlmr.checkpoints._hub import resolve_checkpoint
from skxlmr.checkpoints._names import normalize_names
from skxlmr.checkpoints._safetensors import Tensors

__all__ = [
    "BUILTIN",
    "Tensors",
    "emplace",
    "normalize_names",
    "on_meta",
    "read_config",
    "read_tensors",
    "resolve_checkpoint",
    "write_folder",
]
