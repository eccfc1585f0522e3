"""The original XLM's config: published ones, defaults, and what is wrong."""

import pytest
import transformers

from skxlmr.nn import ModelConfig, XLMConfig, config_of

PUBLISHED = {
    "model_type": "xlm", "asm": False, "attention_dropout": 0.1, "bos_index": 0, "causal": False, "dropout": 0.1,
    "emb_dim": 1024, "embed_init_std": 0.02, "eos_index": 1, "gelu_activation": True, "id2lang": {"0": "de", "1": "en"},
    "init_std": 0.02, "is_encoder": True, "lang2id": {"de": 0, "en": 1}, "layer_norm_eps": 1e-12, "n_heads": 8,
    "n_langs": 2, "n_layers": 6, "n_words": 64699, "pad_index": 2, "sinusoidal_embeddings": False, "summary_type": "first",
    "unk_index": 3, "use_lang_emb": True, "max_position_embeddings": 512,
}  # fmt: skip


def test_config_of_a_published_checkpoint():
    config = config_of(PUBLISHED)
    assert isinstance(config, XLMConfig) and config.vocab_size == 64699 and config.pad_token_id == 2
    assert config.has_lang_embeddings and config.lang2id == {"de": 0, "en": 1} and config.max_length == 512
    assert (config.hidden_size, config.num_hidden_layers, config.head_size) == (1024, 6, 128)
    assert config.extra["unk_index"] == 3 and config.extra["id2lang"] == {"0": "de", "1": "en"}
    assert XLMConfig.from_dict(config.to_dict()) == config
    theirs = transformers.XLMConfig(**config.to_dict())
    assert (theirs.vocab_size, theirs.n_langs, theirs.pad_token_id, theirs.emb_dim) == (64699, 2, 2, 1024)


def test_an_empty_string_means_no_activation():
    assert config_of({**PUBLISHED, "summary_activation": ""}).summary_activation is None
    assert config_of({**PUBLISHED, "summary_activation": "tanh"}).summary_activation == "tanh"


def test_defaults_are_the_references():
    theirs = transformers.XLMConfig()
    for name, value in XLMConfig().to_dict().items():
        if name != "summary_last_dropout":
            assert getattr(theirs, name) == value, name


def test_the_model_type_chooses_the_family():
    assert isinstance(config_of(ModelConfig().to_dict()), ModelConfig)
    with pytest.raises(ValueError, match="model_type must be one of"):
        config_of({**ModelConfig().to_dict(), "model_type": ["xlm"]})
    with pytest.raises(ValueError, match="model_type is missing"):
        config_of({})
    with pytest.raises(ValueError, match="model_type is missing"):
        XLMConfig.from_dict({})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"asm": True}, "asm is true, and adaptive softmax is not supported"),
        ({"is_encoder": False}, "is_encoder is false, and XLM decoders are not supported"),
        ({"n_heads": 3}, "emb_dim must be a multiple of n_heads, got 1024 and 3"),
        ({"n_layers": 0}, "n_layers must be a whole number from 1 to 512, got 0"),
        ({"n_langs": True}, "n_langs must be a whole number"),
        ({"emb_dim": None}, "emb_dim must be a whole number"),
        ({"max_position_embeddings": 3}, "max_position_embeddings leaves no room"),
        ({"eos_token_id": [1, 2], "eos_index": [1, 2]}, "eos_token_id must be a whole number from 0"),
        ({"dropout": 1.0}, "dropout must be a number from 0 to below 1"),
        ({"layer_norm_eps": 0}, "layer_norm_eps must be a number above 0"),
        ({"causal": 1}, "causal must be true or false, got 1"),
        ({"model_type": "flaubert"}, "model_type must be one of xlm, got 'flaubert'"),
        ({"summary_type": "attn"}, "summary_type must be one of .* got 'attn'"),
        ({"summary_activation": "mish"}, "summary_activation must be null or one of"),
        ({"lang2id": ["de"]}, "lang2id must be an object of language ids"),
        ({"lang2id": {"de": 2}}, "lang2id must give ids from 0 to n_langs - 1, got 2 for 'de'"),
        ({"vocab_size": 5}, "vocab_size stands under two names with different values"),
    ],
    ids=str,
)
def test_config_that_is_wrong(change, said):
    with pytest.raises(ValueError, match=said):
        XLMConfig.from_dict({**PUBLISHED, **change})


@pytest.mark.parametrize("name", ["n_words", "emb_dim", "n_layers", "n_heads"])
def test_config_that_lacks_a_size(name):
    with pytest.raises(ValueError, match="missing"):
        XLMConfig.from_dict({key: value for key, value in PUBLISHED.items() if key != name})
