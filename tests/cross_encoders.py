"""Folders of cross-encoders with random weights, laid out as published ones are: their file names and keys."""

import json
import shutil
from pathlib import Path

import torch

from skxlmr.checkpoints import read_config, read_tensors
from skxlmr.nn import config_of, family_of
from tests.sentence_encoders import put, store

IDENTITY, SIGMOID = "torch.nn.modules.linear.Identity", "torch.nn.modules.activation.Sigmoid"
MODULE = "sentence_transformers.base.modules.transformer.Transformer"
SCORES = {
    "transformer_task": "sequence-classification",
    "modality_config": {"text": {"method": "forward", "method_output_name": "logits"}},
    "module_output_name": "scores",
}


def labels(*names):
    return {"id2label": {str(i): name for i, name in enumerate(names)}, "label2id": {n: i for i, n in enumerate(names)}}


def write(folder, checkpoint, n_outputs=1, own=None, settings=SCORES, max_length=None, head=None, **config):
    """Write a folder with a head of ``n_outputs``.

    ``config`` goes to ``config.json``; ``own`` is what ``config_sentence_transformers.json`` says, with which the folder has
    the layout of later versions, with ``settings`` of the transformer.
    """
    folder = Path(folder)
    shutil.copytree(checkpoint, folder, copy_function=shutil.copyfile)
    about, stored = read_config(checkpoint), read_tensors(checkpoint)
    geometry = config_of(about)
    module = family_of(geometry).modules["ForSequenceClassification"](geometry, n_outputs)
    named = {"architectures": [module.architecture()], **labels(*(f"LABEL_{i}" for i in range(n_outputs)))}
    put(folder / "config.json", {**about, **named, **config})
    generator = torch.Generator().manual_seed(5)
    body, made = {}, {}
    for name, parameter in module.state_dict().items():
        if name in stored:
            body[name] = stored[name]
        else:
            made[name] = torch.randn(parameter.shape, generator=generator) * 0.5
    store(folder, body | (made if head is None else head), "safetensors")
    if max_length is not None:
        file = folder / "tokenizer_config.json"
        put(file, {**json.loads(file.read_text()), "model_max_length": max_length})
    if own is not None:
        versions = {"sentence_transformers": "6.2.0", "transformers": "5.23.0", "pytorch": "2.13.0"}
        put(folder / "modules.json", [{"idx": 0, "name": "0", "path": "", "type": MODULE}])
        put(
            folder / "config_sentence_transformers.json", {"__version__": versions, "model_type": "CrossEncoder", **own}
        )
        if settings is not None:
            put(folder / "sentence_bert_config.json", settings)
    return folder
