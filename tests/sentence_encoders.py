"""Folders of sentence encoders with random weights, laid out as published ones are: their file names, keys and types."""

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file

from skxlmr.checkpoints import read_tensors

WIDTH = 32  # of the tiny checkpoint
OLD, NEW = "sentence_transformers.models", "sentence_transformers.sentence_transformer.modules"
FLAGS = {
    "cls": "pooling_mode_cls_token",
    "mean": "pooling_mode_mean_tokens",
    "max": "pooling_mode_max_tokens",
    "mean_sqrt_len_tokens": "pooling_mode_mean_sqrt_len_tokens",
    "weightedmean": "pooling_mode_weightedmean_tokens",
    "lasttoken": "pooling_mode_lasttoken",
}
TANH = "torch.nn.modules.activation.Tanh"


def flags(*words, n_flags=6, **more):
    """``1_Pooling/config.json`` as most published folders have it; the first versions knew four flags."""
    named = {flag: word in words for word, flag in list(FLAGS.items())[:n_flags]}
    return {"word_embedding_dimension": WIDTH, **named, **more}


def one_key(words, **more):
    """The same as later versions write it."""
    return {"embedding_dimension": WIDTH, "pooling_mode": words, "include_prompt": True, **more}


def dense(n_in=WIDTH, n_out=WIDTH, activation=TANH, **more):
    return {"in_features": n_in, "out_features": n_out, "bias": True, "activation_function": activation, **more}


def write(
    folder,
    checkpoint,
    pooling=None,
    layers=(),
    settings=None,
    prompts=None,
    package=OLD,
    place="",
    wrapper="",
    extra=None,
    form="safetensors",
    **files,
):
    """Write a folder; ``files`` replaces whole files, by their names with "__" for "/" and without the ending."""
    folder = Path(folder)
    shutil.copytree(checkpoint, folder / place, copy_function=shutil.copyfile)
    if wrapper or extra or form == "bin":
        tensors = {name.removeprefix("roberta."): tensor for name, tensor in read_tensors(checkpoint).items()}
        tensors = {wrapper + name: tensor for name, tensor in tensors.items() if not name.startswith("lm_head.")}
        store(folder / place, tensors | (extra or {}), form)
    modules = [(place, "Transformer"), ("1_Pooling", "Pooling")]
    modules += [(f"{i}_{kind}", kind) for i, (kind, _) in enumerate(layers, 2)]
    listed = [
        {"idx": i, "name": str(i), "path": path, "type": f"{package}.{kind}"} for i, (path, kind) in enumerate(modules)
    ]
    for path, _ in modules:
        (folder / path).mkdir(exist_ok=True)
    put(folder / "modules.json", listed)
    put(folder / "1_Pooling" / "config.json", flags("mean") if pooling is None else pooling)
    if settings != {}:
        default = {"max_seq_length": 64, "do_lower_case": False}
        put(folder / place / "sentence_bert_config.json", default if settings is None else settings)
    if prompts is not None:
        versions = {"sentence_transformers": "2.2.2", "transformers": "4.24.0", "pytorch": "1.13.0"}
        put(folder / "config_sentence_transformers.json", {"__version__": versions, **prompts})
    for i, (kind, config) in enumerate(layers, 2):
        put(folder / f"{i}_{kind}" / "config.json", config)
        weights = weights_of(kind, config)
        if weights:
            store(folder / f"{i}_{kind}", weights, form)
    for name, content in files.items():
        put(folder / (name.replace("__", "/") + ".json"), content)
    return folder


def weights_of(kind, config):
    """Random weights of a layer after the pooling."""
    generator = torch.Generator().manual_seed(3)

    def draw(*shape):
        return torch.randn(shape, generator=generator) * 0.3

    if kind == "LayerNorm":
        return {"norm.weight": draw(config["dimension"]) + 1, "norm.bias": draw(config["dimension"])}
    if kind != "Dense":
        return {}
    n_in, n_out = config["in_features"], config["out_features"]
    made = {"linear.weight": draw(n_out, n_in), "linear.bias": draw(n_out), "residual.weight": draw(n_out, n_in)}
    if not config.get("bias", True):
        del made["linear.bias"]
    if n_in == n_out or not config.get("use_residual"):
        del made["residual.weight"]
    return made


def add_outputs(folder, n_vectors=WIDTH, dtype=torch.float32, **changed):
    """Add bge-m3's further outputs, as FlagEmbedding stores them; ``changed`` replaces the tensors of a file by its name."""
    generator = torch.Generator().manual_seed(5)
    for name, n_outputs in (("sparse_linear", 1), ("colbert_linear", n_vectors)):
        layer = torch.nn.Linear(WIDTH, n_outputs)
        for parameter in layer.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator).mul(0.3).to(dtype)
        torch.save(changed.get(name, layer.state_dict()), folder / f"{name}.pt")
    return folder


def store(folder, tensors, form):
    (folder / "model.safetensors").unlink(missing_ok=True)
    if form == "bin":
        torch.save(tensors, folder / "pytorch_model.bin")
    else:
        save_file({name: t.clone() for name, t in tensors.items()}, folder / "model.safetensors", {"format": "pt"})


def put(file, content):
    if content is None:
        file.unlink()
        return
    file.write_text(content if isinstance(content, str) else json.dumps(content, indent=2), encoding="utf-8")
