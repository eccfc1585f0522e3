"""Heads of the original XLM that no estimator reads: their graphs are for other tools."""

import os
from typing import Any

from skxlmr.checkpoints import StoredModel, assign_weights, read_model, resolve_checkpoint, skeleton, write_folder
from skxlmr.export._model import Model, ModelWriter
from skxlmr.nn import XLMForQuestionAnsweringSimple, family_of
from skxlmr.persistence._description import FILE
from skxlmr.persistence._save import check_card, check_name, explained

# For each head the weight that tells how many outputs the module has, and along which axis
OUTPUTS = {
    "ForTokenClassification": ("classifier.weight", 0),
    "ForMultipleChoice": ("logits_proj.weight", 1),  # the summary may have no weights
    "ForQuestionAnswering": ("", 0),
    "ForQuestionAnsweringSimple": ("", 0),
}


def head_of_its_own(checkpoint: str | os.PathLike[str]) -> StoredModel | None:
    """The opened checkpoint if it has such a head; None if an estimator reads it, or nothing does."""
    folder = resolve_checkpoint(checkpoint)
    if (folder / FILE).is_file():
        return None
    stored = read_model(folder)
    return stored if stored.config.model_type == "xlm" and _head(stored) in OUTPUTS else None


def write_checkpoint(stored: StoredModel, folder: str | os.PathLike[str], precision: str, opset: int) -> None:
    """Write ``onnx/`` with the files that the checkpoint has beside its weights; see :func:`skxlmr.export_onnx`.

    Raises
    ------
    CheckpointError
        If the checkpoint lacks weights, or the folder cannot be written.
    """
    check_name(folder)
    head, config = _head(stored), stored.config
    with stored.unchanged():
        tensors = stored.tensors()
        kind: Any = XLMForQuestionAnsweringSimple if head.endswith("Simple") else family_of(config).modules[head]
        name, axis = OUTPUTS[head]
        module = skeleton(kind, config, *([tensors[name].shape[axis]] if name in tensors else []))
        assign_weights(
            module,
            tensors,
            source=stored.folder,
            head_parts=family_of(config).head_parts,
            remark=stored.remark,
            files=stored.files,
        )
        task = head.removesuffix("Simple")
        writer = ModelWriter(lambda: Model(module.eval(), config, head, task), precision, opset)
        with explained(folder):
            check_card(folder)
            write_folder(
                folder,
                config=stored.raw,
                tensors=module.state_dict(),
                tokenizer=stored.tokenizer(),
                with_weights=False,
                add=writer,
            )


def _head(stored: StoredModel) -> str:
    """The end of the name of the head that ``config.json`` names first."""
    architectures = stored.raw.get("architectures")
    named = architectures[0] if isinstance(architectures, list) and architectures else ""
    return str(named).removeprefix("XLM") if str(named).startswith("XLMFor") else ""
