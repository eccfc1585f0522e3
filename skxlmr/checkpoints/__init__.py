"""Disk <-> (config, tensors under Hugging Face's names). Nothing here knows how a model computes."""

from skxlmr.checkpoints._builtin import BUILTIN
from skxlmr.checkpoints._emplace import check_finite, emplace, on_meta
from skxlmr.checkpoints._folder import read_config, read_tensors, write_folder
from skxlmr.checkpoints._hashes import content_hash, sha256_of
from skxlmr.checkpoints._hub import looks_like_path, resolve_checkpoint
from skxlmr.checkpoints._names import normalize_names
from skxlmr.checkpoints._origin import Origin, open_again
from skxlmr.checkpoints._safetensors import Tensors

__all__ = [
    "BUILTIN",
    "Origin",
    "Tensors",
    "check_finite",
    "content_hash",
    "emplace",
    "looks_like_path",
    "normalize_names",
    "on_meta",
    "open_again",
    "read_config",
    "read_tensors",
    "resolve_checkpoint",
    "sha256_of",
    "write_folder",
]
