"""Write how vectors of texts are made, as ``sentence-transformers`` reads it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from skxlmr.checkpoints._formats.mapped_file import Tensors
from skxlmr.checkpoints._formats.table import FORMATS
from skxlmr.checkpoints._formats.write import written_dtype
from skxlmr.checkpoints._layout import CONFIG, MODULES, PART_WEIGHTS, SENTENCE_CONFIG, TRANSFORMER_CONFIGS
from skxlmr.checkpoints._sentence.reader import FLAGS, PACKAGE
from skxlmr.nn.sentence import ACTIVATIONS, Dense, Dropout, LayerNorm, Normalize, SentenceEncoder, SentenceLayer

if TYPE_CHECKING:
    import torch


def sentence_files(
    encoder: SentenceEncoder, hidden_size: int, tensors: Tensors, dtype: torch.dtype | str | None = None
) -> dict[str, str | bytes]:
    """Content of the files by name.

    Parameters
    ----------
    encoder : SentenceEncoder
    hidden_size : int
        Features of a token's vector.
    tensors : dict of str to Tensor
        Weights of the layers after the pooling; each name begins with the number of the layer.
    dtype : torch.dtype or str, optional
        What floating tensors are cast to.
    """
    from safetensors.torch import save

    dtype = written_dtype(FORMATS["safetensors"], tensors, dtype)
    layers = (*encoder.layers, *([Normalize()] if encoder.normalize else []))
    modules = [("", "Transformer"), ("1_Pooling", "Pooling")]
    modules += [(f"{i}_{type(layer).__name__}", type(layer).__name__) for i, layer in enumerate(layers, 2)]
    listed = [
        {"idx": i, "name": str(i), "path": path, "type": f"{PACKAGE}.models.{kind}"}
        for i, (path, kind) in enumerate(modules)
    ]
    transformer: dict[str, Any] = {"do_lower_case": encoder.lower_case}
    if encoder.max_length is not None:
        transformer = {"max_seq_length": encoder.max_length, **transformer}
    files: dict[str, str | bytes] = {
        MODULES: _json(listed),
        TRANSFORMER_CONFIGS[0]: _json(transformer),
        f"1_Pooling/{CONFIG}": _json(_pooling(encoder, hidden_size)),
    }
    settings: dict[str, Any] = {"prompts": dict(encoder.prompts), "default_prompt_name": encoder.default_prompt}
    settings |= {"similarity_fn_name": encoder.similarity, "truncate_dim": encoder.truncate_dim}
    if any(settings.values()):
        files[SENTENCE_CONFIG] = _json(settings)
    for i, layer in enumerate(layers):
        place = modules[i + 2][0]
        if content := _content(layer):
            files[f"{place}/{CONFIG}"] = _json(content)
        start = f"{i}."
        own = {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}
        if own:
            stored = {name: tensor.detach().cpu().to(dtype).contiguous() for name, tensor in own.items()}
            files[f"{place}/{PART_WEIGHTS[0]}"] = save(stored, {"format": "pt"})
    return files


def _pooling(encoder: SentenceEncoder, hidden_size: int) -> dict[str, Any]:
    content: dict[str, Any] = {"word_embedding_dimension": hidden_size}
    if encoder.pooling == tuple(word for word in FLAGS.values() if word in encoder.pooling):
        content |= {flag: word in encoder.pooling for flag, word in FLAGS.items()}  # which every version reads
    else:
        content["pooling_mode"] = list(encoder.pooling)
    return content if encoder.include_prompt else content | {"include_prompt": False}


def _content(layer: SentenceLayer) -> dict[str, Any]:
    if isinstance(layer, Dropout):
        return {"dropout": layer.rate}
    if isinstance(layer, LayerNorm):
        return {"dimension": layer.size}
    if not isinstance(layer, Dense):
        return {}
    content: dict[str, Any] = {"in_features": layer.in_features, "out_features": layer.out_features, "bias": layer.bias}
    content["activation_function"] = f"{ACTIVATIONS[layer.activation]}.{layer.activation}"
    return content | ({"use_residual": True} if layer.residual else {})


def _json(content: Mapping[str, Any] | list[Any]) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"
