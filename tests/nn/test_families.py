"""A family is a row of a table; everything that is said of a module holds for it."""

import pytest

from skxlmr.checkpoints import on_meta
from skxlmr.nn import FAMILIES, LanguageModel, config_of, family_of
from skxlmr.nn.families import ELSEWHERE

from .geometry import SMALLEST

ROWS = [(model_type, task) for model_type, family in FAMILIES.items() for task in family.modules]


def module_of(model_type, task):
    config = config_of(SMALLEST[model_type] | ({"is_decoder": True} if task == "ForCausalLM" else {}))
    module = family_of(config).modules[task]
    has_outputs = task in ("ForSequenceClassification", "ForTokenClassification")
    with on_meta():
        return module(config, 3) if has_outputs else module(config)


@pytest.mark.parametrize(("model_type", "task"), ROWS)
def test_parts_of_a_module(model_type, task):
    module, family = module_of(model_type, task), FAMILIES[model_type]
    names = module.state_dict().keys()
    in_head = {name for name in names if name.startswith(tuple(f"{part}." for part in module.head_parts))}
    assert in_head == {name for name in names if not name.startswith(f"{family.prefix}.")}
    if task != "Model":  # which has none by default
        assert all(any(name.startswith(f"{part}.") for name in names) for part in module.head_parts)
    assert all(any(name.startswith(f"{part}.") for name in names) for part in module.optional_parts)
    assert {name.split(".")[1] for name in names - in_head} <= set(family.encoder.part_names)
    assert set(module.head_parts + module.optional_parts) <= set(family.head_parts)
    assert family.words in names and module.state_dict(keep_vars=True)[family.words].shape[0] == 9
    assert family.encoder is type(module.backbone)
    if isinstance(module, LanguageModel):
        assert module.projection_bias in names


@pytest.mark.parametrize("model_type", ["albert", None, ["bert"]])
def test_unknown_family(model_type):
    with pytest.raises(ValueError, match=r"model_type must be one of xlm-roberta, .*, got"):
        config_of({"model_type": model_type})


@pytest.mark.parametrize(
    ("model_type", "reason"),
    [
        ("xmod", "such models have adapters for each language"),
        ("roberta-prelayernorm", "such models have layer norms in other places"),
        ("electra", "such models have embeddings of a width of their own"),
        ("deberta-v2", "such models have relative positions in their attention"),
        ("mpnet", "such models have relative positions in their attention"),
        ("modernbert", "such models have rotary positions in their attention"),
        ("qwen3", "such models have the layers of a generative model"),
        ("mt5", "such models have an encoder and a decoder"),
        ("yoso", "use transformers"),
    ],
)
def test_neighbours(model_type, reason):
    """The message says what is read, what this one is, and what to do."""
    assert model_type not in FAMILIES
    with pytest.raises(ValueError, match=rf"of xlm-roberta, .*, xlm, got '{model_type}'; .*for it$") as error:
        config_of(SMALLEST["roberta"] | {"model_type": model_type})
    assert reason in str(error.value) and "auto_map" not in str(error.value)


def test_reasons_are_of_models_that_no_family_has():
    assert not ELSEWHERE.keys() & FAMILIES.keys()


@pytest.mark.parametrize("model_type", ["new", "nomic_bert", "gte", "jina_bert"])
def test_code_of_a_checkpoint(model_type):
    code = {"AutoConfig": "configuration.NewConfig", "AutoModel": "modeling.NewModel"}
    with pytest.raises(ValueError, match=r"its code is in the checkpoint \(auto_map\) and is never run here; use"):
        config_of({"model_type": model_type, "auto_map": code})


@pytest.mark.parametrize("model_type", FAMILIES)
@pytest.mark.parametrize("method", ["bitsandbytes", "gptq", "fp8"])
def test_quantised_weights(model_type, method):
    values = SMALLEST[model_type] | {"quantization_config": {"quant_method": method}}
    with pytest.raises(ValueError, match="quantization_config says that the weights are quantised: use the"):
        config_of(values)
    assert config_of(values | {"quantization_config": None})
