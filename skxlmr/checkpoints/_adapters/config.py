"""Read ``adapter_config.json``: only what can be merged exactly as peft does it is accepted."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skxlmr.checkpoints._adapters.patterns import check_cost
from skxlmr.checkpoints._layout import ADAPTER_CONFIG
from skxlmr.utils._errors import CheckpointError
from skxlmr.utils._files import read_json

MERGE = (
    "Merge it with peft (PeftModel.from_pretrained(base, adapter).merge_and_unload()), save the result, and open that"
)
PROMPTS = ("PROMPT_TUNING", "MULTITASK_PROMPT_TUNING", "P_TUNING", "PREFIX_TUNING", "ADAPTION_PROMPT", "CPT")
ALL_LINEAR = "all-linear"
MOST_NAMES, MOST_RANK, MOST_LAYERS = 10_000, 2**16, 10_000
# Modules that peft trains and saves as a whole, whether the config names them or not
HEADS = {"SEQ_CLS": ("classifier", "score"), "TOKEN_CLS": ("classifier", "score"), "QUESTION_ANS": ("qa_outputs",)}
BIASES = ("none", "all", "lora_only")
# They start from other matrices, or train fewer of them; the base is untouched
INITIAL = (True, False, "gaussian", "eva", "orthogonal", "mica")
CHANGING = ("pissa", "olora", "corda", "loftq", "lora_ga")  # they change the weights of the base before the training
# Of the training, or described by others: they change nothing in the merged weights
IRRELEVANT = {"inference_mode", "peft_version", "lora_dropout", "megatron_core", "qalora_group_size", "runtime_config"}
IRRELEVANT |= {
    "loftq_config",
    "eva_config",
    "corda_config",
    "lora_ga_config",
    "fan_in_fan_out",
}  # no layer here is transposed
_NAME = re.compile(r"\w+(\.\w+)*")


@dataclass(frozen=True)
class Lora:
    """An adapter as its ``adapter_config.json`` describes it.

    Attributes
    ----------
    file : Path
        The file.
    base_name, revision : str or None
        The base model, and its revision on the hub.
    task_type, base_class : str or None
        The kind of model that was adapted, in peft's words or as the name of its class.
    r, alpha : int, float
        Rank, and the numerator of the scale.
    rank_pattern, alpha_pattern : dict of str to number
        Others, for modules whose names match.
    rslora, dora, lora_bias : bool
        Whether the scale is ``alpha / sqrt(r)``; whether magnitudes are learnt; whether B has a bias.
    targets, excluded : str or tuple of str
        Modules to adapt, and not to: a regular expression, or ends of names.
    layers, layers_pattern : tuple
        Numbers of the layers to adapt, all if there are none; names that stand before the number.
    saved : tuple of str
        Ends of the names of modules that were trained as a whole.
    bias : {"none", "all", "lora_only"}
        Which biases were trained.
    tokens : dict of str to tuple of int
        Rows that were trained, by the end of the embeddings' name; ``""`` is the word embeddings.
    """

    file: Path
    base_name: str | None
    revision: str | None
    task_type: str | None
    base_class: str | None
    r: int
    alpha: float
    rank_pattern: dict[str, int]
    alpha_pattern: dict[str, float]
    rslora: bool
    dora: bool
    lora_bias: bool
    targets: str | tuple[str, ...]
    excluded: str | tuple[str, ...]
    layers: tuple[int, ...]
    layers_pattern: tuple[str, ...]
    saved: tuple[str, ...]
    bias: str
    tokens: dict[str, tuple[int, ...]]


def read_lora(folder: Path) -> Lora:
    """Read the config of an adapter folder.

    Raises
    ------
    CheckpointError
        If it is broken, or says something that is not merged here; names the key.
    """
    values = _Values(folder / ADAPTER_CONFIG)
    values.check_type()
    values.check_initial()
    task_type = values.take("task_type", _name, None)
    targets = values.take("target_modules", _targets, ())
    if not targets:
        raise CheckpointError(values.file, "names no target_modules: expected the modules that the adapter adapts")
    lora = Lora(
        file=values.file,
        base_name=values.take("base_model_name_or_path", _text, None),
        revision=values.take("revision", _text, None),
        task_type=task_type,
        base_class=values.take("auto_mapping", _base_class, None),
        r=values.take("r", _rank, 8),
        alpha=values.take("lora_alpha", _number, 8),
        rank_pattern=values.take("rank_pattern", _patterns(_rank), {}),
        alpha_pattern=values.take("alpha_pattern", _patterns(_number), {}),
        rslora=values.take("use_rslora", _flag, False),
        dora=values.take("use_dora", _flag, False),
        lora_bias=values.take("lora_bias", _flag, False),
        targets=targets,
        excluded=values.take("exclude_modules", _targets, ()),
        layers=values.take("layers_to_transform", _layers, ()),
        layers_pattern=values.take("layers_pattern", _names, ()),
        saved=tuple(dict.fromkeys((*values.take("modules_to_save", _names, ()), *HEADS.get(task_type or "", ())))),
        bias=values.take("bias", _bias, "none"),
        tokens=values.take("trainable_token_indices", _tokens, {}),
    )
    values.check_rest()
    if isinstance(targets, str) and (lora.layers or lora.layers_pattern):
        raise CheckpointError(values.file, "has layers_to_transform or layers_pattern beside a text as target_modules")
    if lora.layers_pattern and not lora.layers:
        raise CheckpointError(values.file, "has layers_pattern without layers_to_transform")
    if lora.dora and lora.lora_bias:
        raise CheckpointError(values.file, "has both use_dora and lora_bias, which peft refuses too")
    texts = [text for text in (lora.targets, lora.excluded) if isinstance(text, str)]
    check_cost(values.file, texts, [*lora.rank_pattern, *lora.alpha_pattern])
    return lora


class _Values:
    """The values of the file that were not taken yet."""

    def __init__(self, file: Path):
        self.file = file
        self.left = read_json(file)

    def take(self, key: str, check: Callable[[Any], Any], default: Any) -> Any:
        """The checked value of a key; the default if it is missing or null."""
        value = self.left.pop(key, None)
        if value is None:
            return default
        try:
            return check(value)
        except ValueError as error:
            raise CheckpointError(self.file, f"expected {error} as {key}, found {value!r:.80}") from None

    def check_type(self) -> None:
        """Refuse all adapters but LoRA."""
        kind = self.left.pop("peft_type", None)
        if kind == "LORA":
            return
        if not isinstance(kind, str) or not kind:
            raise CheckpointError(self.file, "names no peft_type: expected 'LORA'")
        if kind in PROMPTS:
            reason = f"describes an adapter of the type {kind}, which has no weights to merge: use it with peft"
            raise CheckpointError(self.file, reason)
        reason = f"describes an adapter of the type {kind!r:.80}, and only LORA is merged here. {MERGE}"
        raise CheckpointError(self.file, reason)

    def check_initial(self) -> None:
        """Refuse adapters of a base whose weights their initialisation changed."""
        initial = self.left.pop("init_lora_weights", True)
        if isinstance(initial, str) and initial.lower().startswith(CHANGING):
            raise CheckpointError(
                self.file,
                f"init_lora_weights is {initial!r:.80}, which changed the weights of the base before the training: convert the "
                "adapter with peft (save_pretrained with path_initial_model_for_weight_conversion), or merge it there and save "
                "the result",
            )
        if not any(initial is known or (initial == known and isinstance(initial, str)) for known in INITIAL):
            raise CheckpointError(self.file, f"init_lora_weights is {initial!r:.80}, which is not known here. {MERGE}")

    def check_rest(self) -> None:
        """Refuse what is asked for by any other key."""
        for key, value in sorted(self.left.items()):
            if key not in IRRELEVANT and value not in (None, False, 0, "", [], {}):
                raise CheckpointError(self.file, f"{key!r:.80} is {value!r:.80}, which is not supported here. {MERGE}")


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError("a name")
    return value


def _name(value: Any) -> str:
    if not isinstance(value, str) or not value.isidentifier() or len(value) > 100:
        raise ValueError("a name of letters and digits")
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("true or false")
    return value


def _rank(value: Any) -> int:
    if type(value) is not int or not 1 <= value <= MOST_RANK:
        raise ValueError(f"a whole number from 1 to {MOST_RANK}")
    return value


def _number(value: Any) -> float:
    if type(value) not in (int, float) or not abs(value) < 1e30 or math.isnan(value):
        raise ValueError("a number")
    return value


def _names(value: Any) -> tuple[str, ...]:
    """Plain names. Peft reads some of them as regular expressions, and nobody writes such ones there."""
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list) or len(names) > MOST_NAMES:
        raise ValueError("a list of names")
    if not all(isinstance(name, str) and _NAME.fullmatch(name) for name in names):
        raise ValueError("names of modules, of letters, digits, '_' and '.',")
    return tuple(names)


def _targets(value: Any) -> str | tuple[str, ...]:
    return value if isinstance(value, str) and value else _names(value)


def _patterns(check: Callable[[Any], Any]) -> Callable[[Any], dict[str, Any]]:
    def patterns(value: Any) -> dict[str, Any]:
        if not isinstance(value, dict) or len(value) > MOST_NAMES:
            raise ValueError("an object of names and numbers")
        return {name: check(number) for name, number in value.items()}

    return patterns


def _layers(value: Any) -> tuple[int, ...]:
    numbers = [value] if type(value) is int else value
    if not isinstance(numbers, list) or not all(type(n) is int and 0 <= n < MOST_LAYERS for n in numbers):
        raise ValueError("numbers of layers")
    return tuple(numbers)


def _tokens(value: Any) -> dict[str, tuple[int, ...]]:
    found = value if isinstance(value, dict) else {"": value}
    for name, ids in found.items():
        if name and not _NAME.fullmatch(name):
            raise ValueError("names of embeddings")
        if not isinstance(ids, list) or not ids or not all(type(i) is int and 0 <= i < 2**31 for i in ids):
            raise ValueError("ids of tokens")
        if len(set(ids)) < len(ids):
            raise ValueError("distinct ids of tokens")
    return {name: tuple(ids) for name, ids in found.items()}


def _bias(value: Any) -> str:
    if value not in BIASES:
        raise ValueError(f"one of {', '.join(BIASES)}")
    return str(value)


def _base_class(value: Any) -> str | None:
    if not isinstance(value, dict):
        raise ValueError("an object")
    name = value.get("base_model_class")
    return None if name is None else _name(name)
