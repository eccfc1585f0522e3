"""A family is a row of a table; everything that is said of a module holds for it."""

import pytest

from skxlmr.checkpoints import on_meta
from skxlmr.nn import FAMILIES, LanguageModel, config_of, family_of

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
