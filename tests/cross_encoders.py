"""Folders of cross-encoders with random weights, laid out as published ones are: their file names and keys."""

import json
import shutil
from pathlib import Path

import torch

from skxlmr.checkpoints import read_config, read_tensors
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
    about = {**read_config(checkpoint), "architectures": ["XLMRobertaForSequenceClassification"]}
    put(folder / "config.json", {**about, **labels(*(f"LABEL_{i}" for i in range(n_outputs))), **config})
    weights = {
        name: x for name, x in read_tensors(checkpoint).items() if not name.startswith(("lm_head", "roberta.pool"))
    }
    width, generator = about["hidden_size"], torch.Generator().manual_seed(5)
    shapes = {"dense.weight": (width, width), "dense.bias": (width,)}
    shapes |= {"out_proj.weight": (n_outputs, width), "out_proj.bias": (n_outputs,)}
    made = {f"classifier.{name}": torch.randn(shape, generator=generator) * 0.5 for name, shape in shapes.items()}
    store(folder, weights | (made if head is None else head), "safetensors")
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
