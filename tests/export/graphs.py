"""Small models of every family with perturbed weights, their graphs, and what ONNX Runtime makes of them."""

from pathlib import Path

import numpy as np
import onnxruntime
import torch

from skxlmr.export._graphs.build import build
from skxlmr.export._graphs.file import write_graph
from skxlmr.export._graphs.graph import Graph
from skxlmr.export._graphs.precisions import WEIGHTS
from skxlmr.inference._onnx_session import CPU, open_session
from skxlmr.nn import FAMILIES

GEOMETRY = {
    "vocab_size": 60,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 40,
}
XLM_GEOMETRY = {
    "vocab_size": 60,
    "emb_dim": 32,
    "n_layers": 2,
    "n_heads": 4,
    "max_position_embeddings": 40,
    "n_langs": 3,
    "lang2id": {"de": 0, "en": 1, "fr": 2},
}
WITH_OUTPUTS = ("ForSequenceClassification", "ForTokenClassification")


def config_of(model_type, **config):
    geometry = XLM_GEOMETRY if model_type == "xlm" else GEOMETRY
    return FAMILIES[model_type].config(**{**geometry, "model_type": model_type, **config})


def module_of(config, task, n_outputs=5, **options):
    """A module whose parameters are all away from their neutral values."""
    arguments = (n_outputs,) if task in WITH_OUTPUTS else ()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = FAMILIES[config.model_type].modules[task](config, *arguments, **options).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.15)
    return module


def write(folder: Path, module, config, task=None, features=None, precision="float32", opset=17, further=None) -> Path:
    """The graph of a module in a file."""
    tensors = dict(module.state_dict()) | (further or {})
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    weights = WEIGHTS[precision](Graph(opset), shapes, lambda name, rows: tensors[name][rows].float().numpy())
    build(weights, config, task, features)
    folder.mkdir(parents=True, exist_ok=True)
    write_graph(folder, weights.graph, {"precision": precision}, ("skxlmr", "0"))
    return folder / "model.onnx"


def session(file: Path) -> onnxruntime.InferenceSession:
    return open_session(onnxruntime, str(file), [CPU], [CPU], threads=1)


def run(file: Path, inputs: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    opened = session(file)
    taken = {item.name for item in opened.get_inputs()}
    outputs = opened.run(None, {name: tensor.numpy() for name, tensor in inputs.items() if name in taken})
    return dict(zip([item.name for item in opened.get_outputs()], outputs, strict=True))


def batch(config, seed=0, lengths=(11, 3, 20, 7)):
    """Rows of mixed lengths, padded on the right."""
    generator = torch.Generator().manual_seed(seed)
    width, padding = max(lengths), config.pad_token_id
    ids = torch.randint(5, config.vocab_size, (len(lengths), width), generator=generator)
    mask = (torch.arange(width) < torch.tensor(lengths)[:, None]).long()
    inputs = {"input_ids": ids.where(mask.bool(), torch.tensor(padding)), "attention_mask": mask}
    if config.model_type == "bert":
        inputs["token_type_ids"] = ((torch.arange(width) > 2) & mask.bool()).long()
    if config.model_type == "xlm" and config.has_lang_embeddings:
        inputs["langs"] = torch.randint(0, config.n_langs, ids.shape, generator=generator)
    return inputs


def reference(module, inputs):
    with torch.no_grad():
        return module(**inputs)
