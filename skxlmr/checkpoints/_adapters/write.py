"""Write an adapter folder as peft does: ``adapter_config.json``, and the weights under peft's names."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skxlmr.checkpoints._adapters.config import HEADS
from skxlmr.checkpoints._adapters.described import CLASSES, OF_LABELS
from skxlmr.checkpoints._adapters.patterns import ends_with
from skxlmr.checkpoints._adapters.tensors import PREFIX
from skxlmr.checkpoints._folder import Saveable, replace_folder, write_beside
from skxlmr.checkpoints._formats.mapped_file import Tensors
from skxlmr.checkpoints._formats.safetensors import write_safetensors
from skxlmr.checkpoints._layout import ADAPTER_CONFIG, ADAPTER_WEIGHTS

TASK_TYPES = {task: task_type for task_type, task in CLASSES.items()}
PLACE = ("base_model_name_or_path", "revision")  # keys that say where the base model is found


@dataclass(frozen=True, kw_only=True)
class NewAdapter:
    """An adapter to write.

    Attributes
    ----------
    base_name, revision : str or None
        The base model: its name on the hub and its commit there, or its folder.
    task : str
        The end of the name of the adapted class, such as ``"ForSequenceClassification"``.
    architecture : str
        The whole name.
    rank, alpha, dropout : int, float, float
    matrices : dict of str to Tensor
        ``<module>.lora_A.weight`` and ``<module>.lora_B.weight`` of each adapted module.
    others : collection of str
        Names of linear modules that are not adapted.
    whole : dict of str to Tensor
        Tensors of the modules that were trained as a whole.
    parts : tuple of str
        The names of these modules.
    prefix : str
        What the names of an encoder without a head lack: its name in a model with a head. Empty for a model with a head.
    """

    base_name: str
    revision: str | None
    task: str
    architecture: str
    rank: int
    alpha: float
    dropout: float
    matrices: Tensors
    others: Collection[str]
    whole: Tensors
    parts: tuple[str, ...]
    prefix: str

    def config(self) -> dict[str, Any]:
        """Content of ``adapter_config.json``."""
        task_type = TASK_TYPES.get(self.task)
        saved = [*map(self._short, self.parts), *saved_by_peft(self.task)]
        named = {"base_model_class": self.architecture, "parent_library": "transformers"}
        adapted = {self._short(name.rpartition(".lora_")[0]) for name in self.matrices}
        return {
            "auto_mapping": named if task_type is None else None,
            "base_model_name_or_path": self.base_name,
            "bias": "none",
            "fan_in_fan_out": False,
            "inference_mode": True,
            "init_lora_weights": True,
            "lora_alpha": self.alpha,
            "lora_dropout": self.dropout,
            "modules_to_save": list(dict.fromkeys(saved)) or None,
            "peft_type": "LORA",
            "r": self.rank,
            "revision": self.revision,
            "target_modules": target_modules(adapted, {self._short(name) for name in self.others}),
            "task_type": task_type,
            "use_dora": False,
            "use_rslora": False,
        }

    def tensors(self) -> Tensors:
        """Content of the file of weights."""
        return {PREFIX + self._short(name): tensor for name, tensor in (self.matrices | self.whole).items()}

    def _short(self, name: str) -> str:
        return name.removeprefix(f"{self.prefix}.") if self.prefix else name

    @property
    def n_labels(self) -> int | None:
        """How many outputs the head has, where ``transformers`` has to be told; None elsewhere."""
        heads = [self.whole[name] for name in OF_LABELS if name in self.whole]
        return len(heads[0]) if heads and self.task in ("ForSequenceClassification", "ForTokenClassification") else None


def saved_by_peft(task: str) -> tuple[str, ...]:
    """Modules that peft trains and saves as a whole for a task, whether the config names them or not."""
    return HEADS.get(TASK_TYPES.get(task, ""), ())


def target_modules(adapted: Collection[str], others: Iterable[str]) -> list[str]:
    """The shortest ends of names, all of one length, that tell the adapted modules from all others; else whole names."""
    others = tuple(others)
    for n_parts in range(1, max(name.count(".") + 1 for name in adapted) + 1):
        ends = tuple(sorted({".".join(name.split(".")[-n_parts:]) for name in adapted}))
        if not any(ends_with(name, ends) for name in others):
            return list(ends)
    return sorted(adapted)


def write_adapter(
    folder: str | os.PathLike[str],
    adapter: NewAdapter,
    tokenizer: Saveable,
    extra_files: Mapping[str, str | bytes | Callable[[Path], str]],
) -> None:
    """Write an adapter folder, as a whole or not at all; see :func:`skxlmr.checkpoints.write_folder`.

    Raises
    ------
    CheckpointError
        If the target is a file, or a folder that holds anything but what ``save`` wrote.
    """

    def fill(fresh: Path) -> None:
        (fresh / ADAPTER_CONFIG).write_text(config_text(adapter.config()), encoding="utf-8")
        write_safetensors(fresh / ADAPTER_WEIGHTS[0], adapter.tensors())
        shutil.copymode(fresh / ADAPTER_CONFIG, fresh / ADAPTER_WEIGHTS[0])  # safetensors makes it private to the user
        write_beside(fresh, tokenizer, extra_files)

    replace_folder(folder, fill, extra_files)


def config_text(config: Mapping[str, Any]) -> str:
    """``adapter_config.json`` as it is written, by peft too: keys in order."""
    return json.dumps(config, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def digest_with_base(config: Mapping[str, Any], place: Mapping[str, Any]) -> str:
    """SHA-256 of the file if it named the base model as ``place`` does: a base that was moved is named anew."""
    return hashlib.sha256(config_text({**config, **{key: place.get(key) for key in PLACE}}).encode()).hexdigest()
