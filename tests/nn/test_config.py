"""Reading, checking and writing the geometry of a model."""

import json
from dataclasses import replace

import pytest
import transformers

from skxlmr.nn import ModelConfig

XLM_ROBERTA_BASE = {  # config.json of FacebookAI/xlm-roberta-base
    "architectures": ["XLMRobertaForMaskedLM"],
    "attention_probs_dropout_prob": 0.1,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "hidden_size": 768,
    "initializer_range": 0.02,
    "intermediate_size": 3072,
    "layer_norm_eps": 1e-05,
    "max_position_embeddings": 514,
    "model_type": "xlm-roberta",
    "num_attention_heads": 12,
    "num_hidden_layers": 12,
    "output_past": True,
    "pad_token_id": 1,
    "position_embedding_type": "absolute",
    "transformers_version": "4.17.0.dev0",
    "type_vocab_size": 1,
    "use_cache": True,
    "vocab_size": 250002,
}


def test_the_defaults_are_those_of_xlm_roberta_base():
    config = ModelConfig.from_dict(XLM_ROBERTA_BASE)
    assert config == ModelConfig()
    assert config.head_size == 64 and config.max_length == 512


def test_round_trip_keeps_every_field():
    config = ModelConfig.from_dict(XLM_ROBERTA_BASE)
    written = json.loads(json.dumps(config.to_dict()))
    assert written.items() >= XLM_ROBERTA_BASE.items()
    assert "extra" not in written
    again = ModelConfig.from_dict(written)
    assert again == config and again.extra == config.extra and again.extra["use_cache"] is True


def test_fields_of_the_file_win_over_the_defaults():
    changes = {
        "vocab_size": 30,
        "hidden_size": 8,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 9,
        "max_position_embeddings": 20,
        "type_vocab_size": 2,
        "pad_token_id": 3,
        "bos_token_id": 4,
        "eos_token_id": 5,
        "hidden_act": "relu",
        "hidden_dropout_prob": 0,
        "attention_probs_dropout_prob": 0.5,
        "classifier_dropout": 0.25,
        "initializer_range": 0.01,
        "layer_norm_eps": 1e-12,
        "tie_word_embeddings": False,
        "model_type": "roberta",
    }
    config = ModelConfig.from_dict({**XLM_ROBERTA_BASE, **changes})
    assert {name: getattr(config, name) for name in changes} == changes
    assert config.max_length == 16


def test_a_config_cannot_be_changed():
    with pytest.raises(AttributeError):
        ModelConfig().hidden_size = 3


@pytest.mark.parametrize(
    "name", ["vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "max_position_embeddings"]
)
def test_missing_fields_are_named(name):
    values = {key: value for key, value in XLM_ROBERTA_BASE.items() if key not in (name, "intermediate_size")}
    with pytest.raises(ValueError, match=rf"{name}.*intermediate_size missing|intermediate_size.*{name} missing"):
        ModelConfig.from_dict(values)


def test_fields_that_a_file_leaves_out_have_the_references_defaults(tmp_path):
    values = {name: XLM_ROBERTA_BASE[name] for name in ("model_type", *ModelConfig.required)}
    (tmp_path / "config.json").write_text(json.dumps(values), encoding="utf-8")
    reference = transformers.XLMRobertaConfig.from_pretrained(tmp_path)
    found = ModelConfig.from_dict(values).to_dict()
    assert found == {name: getattr(reference, name) for name in found}


def test_missing_model_type():
    with pytest.raises(ValueError, match="model_type is missing"):
        ModelConfig.from_dict({})


WHOLE, TOKEN, SHARE, SMALL = (
    "whole number from 1 to",
    "from 0 to vocab_size - 1",
    "from 0 to below 1",
    "above 0 and at most 1",
)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        *(
            (name, value, WHOLE)
            for name in ("vocab_size", "num_hidden_layers")
            for value in (0, -1, 2.0, "12", True, None)
        ),
        ("vocab_size", 10**12, WHOLE),
        ("hidden_size", 10**6, WHOLE),
        ("intermediate_size", 10**6, WHOLE),
        ("num_hidden_layers", 513, WHOLE),
        ("num_attention_heads", 1025, WHOLE),
        ("max_position_embeddings", 10**7, WHOLE),
        ("type_vocab_size", 0, WHOLE),
        *(
            (name, value, TOKEN)
            for name in ("pad_token_id", "bos_token_id", "eos_token_id")
            for value in (-1, 250_002, 1.0)
        ),
        ("pad_token_id", None, TOKEN),
        *(
            (name, value, SHARE)
            for name in ("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout")
            for value in (-0.1, 1, float("nan"), "0.1", True)
        ),
        ("hidden_dropout_prob", None, SHARE),
        *(
            (name, value, SMALL)
            for name in ("initializer_range", "layer_norm_eps")
            for value in (0, 1.5, float("nan"), None, True)
        ),
        ("tie_word_embeddings", "yes", "true or false"),
        ("tie_word_embeddings", 1, "true or false"),
        ("hidden_act", "swish", "must be one of"),
        ("hidden_act", None, "must be one of"),
        ("model_type", "bert", "must be one of"),
        ("num_attention_heads", 7, "multiple of num_attention_heads, got 768 and 7"),
        ("max_position_embeddings", 5, "no room for text"),
    ],
)
def test_wrong_fields_are_named(name, value, expected):
    with pytest.raises(ValueError, match=expected) as error:
        ModelConfig.from_dict({**XLM_ROBERTA_BASE, name: value})
    assert name in str(error.value) and (repr(value) in str(error.value))


def test_relative_positions_are_refused():
    with pytest.raises(ValueError, match="position_embedding_type must be 'absolute', got 'relative_key'"):
        ModelConfig.from_dict({**XLM_ROBERTA_BASE, "position_embedding_type": "relative_key"})


def test_replace_checks_again():
    with pytest.raises(ValueError, match="hidden_size must be a multiple"):
        replace(ModelConfig(), hidden_size=770)


@pytest.mark.parametrize("value", ["x" * 10_000, [[[1] * 1000]], {"a": "x" * 10_000}])
@pytest.mark.parametrize(
    "name", ["vocab_size", "layer_norm_eps", "hidden_act", "model_type", "pad_token_id", "is_decoder"]
)
def test_a_long_value_is_not_quoted_whole(name, value):
    with pytest.raises(ValueError, match=f"^{name} must be ") as error:
        ModelConfig.from_dict({**XLM_ROBERTA_BASE, name: value})
    assert len(str(error.value)) < 300
