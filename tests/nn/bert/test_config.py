import json

import pytest
import transformers

from skxlmr.nn import config_of
from skxlmr.nn.bert.config import BertConfig, DistilBertConfig
from tests.nn.geometry import SMALLEST

MBERT = {  # google-bert/bert-base-multilingual-cased
    "architectures": ["BertForMaskedLM"],
    "attention_probs_dropout_prob": 0.1,
    "directionality": "bidi",
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "hidden_size": 768,
    "initializer_range": 0.02,
    "intermediate_size": 3072,
    "layer_norm_eps": 1e-12,
    "max_position_embeddings": 512,
    "model_type": "bert",
    "num_attention_heads": 12,
    "num_hidden_layers": 12,
    "pad_token_id": 0,
    "pooler_fc_size": 768,
    "pooler_num_attention_heads": 12,
    "pooler_num_fc_layers": 3,
    "pooler_size_per_head": 128,
    "pooler_type": "first_token_transform",
    "type_vocab_size": 2,
    "vocab_size": 119547,
}
DISTILLED = {  # distilbert/distilbert-base-multilingual-cased
    "activation": "gelu",
    "architectures": ["DistilBertForMaskedLM"],
    "attention_dropout": 0.1,
    "dim": 768,
    "dropout": 0.1,
    "hidden_dim": 3072,
    "initializer_range": 0.02,
    "max_position_embeddings": 512,
    "model_type": "distilbert",
    "n_heads": 12,
    "n_layers": 6,
    "output_past": True,
    "pad_token_id": 0,
    "qa_dropout": 0.1,
    "seq_classif_dropout": 0.2,
    "sinusoidal_pos_embds": False,
    "tie_weights_": True,
    "vocab_size": 119547,
}


@pytest.mark.parametrize(("published", "family"), [(MBERT, BertConfig), (DISTILLED, DistilBertConfig)])
def test_published(published, family):
    config = config_of(published)
    assert config == family() and type(config) is family
    assert (config.max_length, config.head_size, config.layer_norm_eps) == (512, 64, 1e-12)
    assert published.items() <= config.to_dict().items()
    assert config_of(json.loads(json.dumps(config.to_dict()))) == config
    theirs = transformers.AutoConfig.for_model(**config.to_dict()).to_dict()
    assert {name: theirs[name] for name in published if name != "architectures"} == {
        name: published[name] for name in published if name != "architectures"
    }


@pytest.mark.parametrize("model_type", ["bert", "distilbert"])
def test_fields_that_a_file_leaves_out_are_those_of_the_reference(model_type):
    config = config_of(SMALLEST[model_type])
    theirs = transformers.AutoConfig.for_model(**SMALLEST[model_type]).to_dict()
    found = config.to_dict()
    assert found == {name: theirs[name] for name in found}


def test_distilbert_has_names_of_its_own():
    """Three of BERT's names mean the same, as in the reference; the others are not those of DistilBERT's fields."""
    renamed = {"hidden_size": 8, "num_hidden_layers": 3, "num_attention_heads": 4}
    others = {"vocab_size": 9, "hidden_dim": 8, "max_position_embeddings": 12, "model_type": "distilbert"}
    config = config_of({**renamed, **others})
    assert (config.hidden_size, config.num_hidden_layers, config.num_attention_heads) == (8, 3, 4)
    assert {name: config.to_dict()[name] for name in ("dim", "n_layers", "n_heads")} == dict(
        zip(("dim", "n_layers", "n_heads"), renamed.values(), strict=True)
    )
    of_bert = {"layer_norm_eps": 0.1, "hidden_dropout_prob": 0.5, "type_vocab_size": 3, "classifier_dropout": 0.7}
    of_bert |= {"hidden_act": "relu", "is_decoder": True}
    config = config_of({**SMALLEST["distilbert"], **of_bert})
    assert (config.layer_norm_eps, config.hidden_dropout_prob, config.hidden_act) == (1e-12, 0.1, "gelu")
    assert config.head_dropout == 0.1 and not config.is_decoder
    assert of_bert.items() <= config.to_dict().items()


@pytest.mark.parametrize(
    ("model_type", "change", "said"),
    [
        ("bert", {"pad_token_id": None}, "pad_token_id must be a whole number from 0 to vocab_size - 1, got None"),
        ("bert", {"position_embedding_type": "relative_key"}, "position_embedding_type must be 'absolute'"),
        ("bert", {"hidden_act": "swish"}, "hidden_act must be one of"),
        ("bert", {"bos_token_id": 9}, "bos_token_id must be a whole number"),
        ("bert", {"type_vocab_size": 0}, "type_vocab_size must be a whole number from 1"),
        ("bert", {"max_position_embeddings": 3}, "max_position_embeddings leaves no room for text"),
        ("distilbert", {"dim": 0}, "dim must be a whole number from 1 to 32768, got 0"),
        ("distilbert", {"n_heads": 3}, "dim must be a multiple of n_heads, got 4 and 3"),
        ("distilbert", {"activation": "swish"}, "^activation must be one of"),
        ("distilbert", {"dropout": 1.0}, "^dropout must be a number from 0 to below 1"),
        ("distilbert", {"seq_classif_dropout": "0.2"}, "seq_classif_dropout must be a number"),
        ("distilbert", {"hidden_dim": None}, "hidden_dim must be a whole number"),
        (
            "distilbert",
            {"hidden_size": 8},
            "dim and hidden_size are two names of the same field, with different values",
        ),
    ],
    ids=str,
)
def test_config_that_is_wrong(model_type, change, said):
    with pytest.raises(ValueError, match=said):
        config_of({**SMALLEST[model_type], **change})


@pytest.mark.parametrize("name", ["dim", "n_layers", "n_heads", "hidden_dim", "vocab_size"])
def test_missing_fields_are_named(name):
    values = {key: value for key, value in SMALLEST["distilbert"].items() if key != name}
    with pytest.raises(ValueError, match=f"^{name} missing$"):
        config_of(values)
