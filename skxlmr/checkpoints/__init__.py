"""Disk or hub <-> (config, tensors under Hugging Face's names). Nothing here knows how a model computes."""

from skxlmr.checkpoints._adapters.described import OF_OUTPUTS, SAVED
from skxlmr.checkpoints._adapters.write import NewAdapter, digest_with_base, saved_by_peft, write_adapter
from skxlmr.checkpoints._folder import (
    PARTS,
    SKOPS_FILE,
    check_source_stays,
    is_in,
    read_config,
    replace_folder,
    target_folder,
    write_folder,
)
from skxlmr.checkpoints._formats.mapped_file import Tensors
from skxlmr.checkpoints._formats.onnx_file import external_files
from skxlmr.checkpoints._formats.read import read_tensors
from skxlmr.checkpoints._hashes import content_files, content_hash, sha256_of
from skxlmr.checkpoints._hub import BUILTIN, looks_like_path, resolve_checkpoint
from skxlmr.checkpoints._identity import identity, undisturbed
from skxlmr.checkpoints._layout import (
    ADAPTER_CONFIG,
    CHECKPOINT_FILES,
    ONNX_FILES,
    ONNX_FOLDER,
    OUTPUT_LAYERS,
    SENTENCE_FILES,
    VOCABULARIES,
    is_adapter,
    model_place,
    text_files,
    weight_files,
)
from skxlmr.checkpoints._mapped_files import MappedFiles, check_mapped_files
from skxlmr.checkpoints._model import StoredModel, read_model
from skxlmr.checkpoints._opened.loaded import LoadedWeights, moved, weights_identity
from skxlmr.checkpoints._opened.skeleton import skeleton
from skxlmr.checkpoints._opened.tokenizers import forget_opened
from skxlmr.checkpoints._origin import Origin, open_again
from skxlmr.checkpoints._secrets import checked_token, fault_of_known_token, without_secrets
from skxlmr.checkpoints._sentence.cross_encoder import CrossEncoder, activation_config, cross_encoder_files
from skxlmr.checkpoints._sentence.outputs import output_layer_files
from skxlmr.checkpoints._sentence.writer import sentence_files
from skxlmr.checkpoints._tensor_names import normalize_names
from skxlmr.checkpoints._weights import assign_weights, check_finite, on_meta

__all__ = [
    "ADAPTER_CONFIG",
    "BUILTIN",
    "CHECKPOINT_FILES",
    "OF_OUTPUTS",
    "ONNX_FILES",
    "ONNX_FOLDER",
    "OUTPUT_LAYERS",
    "PARTS",
    "SAVED",
    "SENTENCE_FILES",
    "SKOPS_FILE",
    "VOCABULARIES",
    "CrossEncoder",
    "LoadedWeights",
    "MappedFiles",
    "NewAdapter",
    "Origin",
    "StoredModel",
    "Tensors",
    "activation_config",
    "assign_weights",
    "check_finite",
    "check_mapped_files",
    "check_source_stays",
    "checked_token",
    "content_files",
    "content_hash",
    "cross_encoder_files",
    "digest_with_base",
    "external_files",
    "fault_of_known_token",
    "forget_opened",
    "identity",
    "is_adapter",
    "is_in",
    "looks_like_path",
    "model_place",
    "moved",
    "normalize_names",
    "on_meta",
    "open_again",
    "output_layer_files",
    "read_config",
    "read_model",
    "read_tensors",
    "replace_folder",
    "resolve_checkpoint",
    "saved_by_peft",
    "sentence_files",
    "sha256_of",
    "skeleton",
    "target_folder",
    "text_files",
    "undisturbed",
    "weight_files",
    "weights_identity",
    "without_secrets",
    "write_adapter",
    "write_folder",
]
