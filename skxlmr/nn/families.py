"""The families of models: for each ``model_type`` the config, and the module of each task."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

from skxlmr.nn.bert.config import BertConfig, DistilBertConfig
from skxlmr.nn.config import FamilyConfig, ModelConfig
from skxlmr.nn.xlm.config import XLMConfig
from skxlmr.nn.xlm_roberta_xl.config import XLMRobertaXLConfig

if TYPE_CHECKING:
    from skxlmr.nn.backbone import Backbone, LanguageModel, TaskModule


class Modules(Mapping[str, "type[TaskModule]"]):
    """The module of each task. Its file is imported, and torch with it, when it is asked for.

    Parameters
    ----------
    prefix : str
        What the names of the classes begin with; the task follows.
    files : dict of str to str
        For each file below ``skxlmr.nn``, the tasks whose modules it has, separated by spaces.
    """

    def __init__(self, prefix: str, files: Mapping[str, str]):
        self.prefix = prefix
        self._file = {task: file for file, tasks in files.items() for task in tasks.split()}

    def __getitem__(self, task: str) -> type[TaskModule]:
        found: type[TaskModule] = getattr(import_module(f"skxlmr.nn.{self._file[task]}"), self.prefix + task)
        return found

    def __contains__(self, task: object) -> bool:
        return task in self._file

    def __iter__(self) -> Iterator[str]:
        return iter(self._file)

    def __len__(self) -> int:
        return len(self._file)


@dataclass(frozen=True, kw_only=True)
class ModelFamily:
    """What belongs to a ``model_type``.

    Attributes
    ----------
    name : str
        In messages.
    config : type
        The class of its geometry.
    modules : Modules
        The module of each task, by the end of Hugging Face's names: ``"Model"``, ``"ForSequenceClassification"``,
        ``"ForTokenClassification"``, ``"ForQuestionAnswering"``, ``"ForMultipleChoice"``, ``"ForMaskedLM"``, ``"ForCausalLM"``.
    unused_parts : tuple of str
        Heads that no module has. A file may hold them.
    estimators : str
        What the names of the estimators begin with that read it.
    """

    name: str
    config: type[FamilyConfig]
    modules: Modules
    unused_parts: tuple[str, ...] = ()
    estimators: str = "XLMRoberta"

    @property
    def prefix(self) -> str:
        """Name of the encoder inside a model with a head."""
        return self.config.base_prefix

    @property
    def encoder(self) -> type[Backbone]:
        """The encoder of all its modules."""
        return self.modules["Model"].encoder_class

    @property
    def words(self) -> str:
        """Name of the word embeddings inside a model with a head."""
        return f"{self.prefix}.{self.encoder.words_name}.weight"

    @property
    def head_parts(self) -> tuple[str, ...]:
        """Submodules of any head: a file may hold them where a module has none."""
        of_modules = (part for module in self.modules.values() for part in module.head_parts + module.optional_parts)
        return tuple(dict.fromkeys([*of_modules, *self.unused_parts]))


_ENCODING = "ForSequenceClassification ForTokenClassification ForQuestionAnswering ForMultipleChoice ForMaskedLM"
XLM_ROBERTA = ModelFamily(
    name="XLM-RoBERTa",
    config=ModelConfig,
    modules=Modules("XLMRoberta", {"xlm_roberta": f"Model {_ENCODING} ForCausalLM"}),
)
XLM_ROBERTA_XL = ModelFamily(
    name="XLM-RoBERTa-XL",
    config=XLMRobertaXLConfig,
    modules=Modules("XLMRobertaXL", {"xlm_roberta_xl.heads": f"Model {_ENCODING} ForCausalLM"}),
)
BERT = ModelFamily(
    name="BERT",
    config=BertConfig,
    modules=Modules("Bert", {"bert.bert": f"Model {_ENCODING}"}),
    unused_parts=("cls.seq_relationship",),  # whether the second text follows the first
)
DISTILBERT = ModelFamily(
    name="DistilBERT",
    config=DistilBertConfig,
    modules=Modules("DistilBert", {"bert.distilbert": f"Model {_ENCODING}"}),
)
XLM = ModelFamily(
    name="the original XLM",
    estimators="XLM",
    config=XLMConfig,
    modules=Modules(
        "XLM",
        {
            "xlm.encoder": "Model",
            "xlm.heads": "ForSequenceClassification ForTokenClassification ForMultipleChoice ForMaskedLM",
            "xlm.answer_search": "ForQuestionAnswering",
        },
    ),
)
FAMILIES: dict[str, ModelFamily] = {
    "xlm-roberta": XLM_ROBERTA,
    "roberta": XLM_ROBERTA,  # the same architecture with another vocabulary, as is CamemBERT
    "camembert": XLM_ROBERTA,
    "xlm-roberta-xl": XLM_ROBERTA_XL,
    "bert": BERT,
    "distilbert": DISTILBERT,
    "xlm": XLM,
}


@cache
def language_models() -> tuple[type[LanguageModel], ...]:
    """The modules of all families that have a language modelling head."""
    modules: Any = [
        family.modules[task] for family in FAMILIES.values() for task in family.modules if task.endswith("LM")
    ]
    return tuple(dict.fromkeys(modules))


# What published neighbours have that no family here has
_RELATIVE, _ROTARY = "relative positions in their attention", "rotary positions in their attention"
_WIDTHS, _GENERATIVE = "embeddings of a width of their own", "the layers of a generative model"
ELSEWHERE = {
    **dict.fromkeys(["deberta", "deberta-v2", "mpnet"], _RELATIVE),
    **dict.fromkeys(["eurobert", "gte", "modernbert", "new", "nomic_bert"], _ROTARY),
    **dict.fromkeys(["electra", "rembert"], _WIDTHS),
    **dict.fromkeys(["gemma3_text", "llama", "mistral", "qwen2", "qwen3"], _GENERATIVE),
    **dict.fromkeys(["mt5", "t5", "umt5"], "an encoder and a decoder"),
    "albert": "layers that share their weights",
    "ibert": "weights in whole numbers",
    "longformer": "attention in windows",
    "luke": "embeddings of entities",
    "roberta-prelayernorm": "layer norms in other places",
    "xmod": "adapters for each language",
}


def config_of(values: dict[str, Any]) -> Any:
    """Read a parsed ``config.json`` by its ``model_type``.

    Raises
    ------
    ValueError
        If the model type is missing or of no family, a field is missing or wrong, or the weights are quantised.
    """
    if "model_type" not in values:
        raise ValueError("model_type is missing")
    model_type = values["model_type"]
    if not isinstance(model_type, str) or model_type not in FAMILIES:
        raise ValueError(f"model_type must be one of {', '.join(FAMILIES)}, got {model_type!r:.80}{_why(values)}")
    if values.get("quantization_config"):
        raise ValueError(
            "quantization_config says that the weights are quantised: use the checkpoint that they were made from, or turn "
            "them back with model.dequantize() of transformers and save that"
        )
    return FAMILIES[model_type].config.from_dict(values)


def _why(values: dict[str, Any]) -> str:
    """What to say of a model of no family: what it has, and what to do."""
    known = ELSEWHERE.get(values["model_type"]) if isinstance(values["model_type"], str) else None
    reasons = [f"such models have {known}"] if known else []
    reasons += ["its code is in the checkpoint (auto_map) and is never run here"] if "auto_map" in values else []
    return "".join(f"; {reason}" for reason in [*reasons, "use transformers or sentence-transformers for it"])


def family_of(config: Any) -> ModelFamily:
    """The family of a config."""
    return FAMILIES[config.model_type]
