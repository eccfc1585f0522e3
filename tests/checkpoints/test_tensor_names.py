import pytest
import torch

from skxlmr.checkpoints import normalize_names
from skxlmr.checkpoints._tensor_names import published_names
from skxlmr.nn.families import BERT, DISTILBERT, XLM
from skxlmr.utils._errors import CheckpointError

WORDS = "roberta.embeddings.word_embeddings.weight"
DECODER = "lm_head.decoder.weight"


def numbered(*names):
    return {name: torch.full((2,), float(i)) for i, name in enumerate(names)}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("roberta.embeddings.LayerNorm.gamma", "roberta.embeddings.LayerNorm.weight"),
        ("roberta.encoder.layer.0.output.LayerNorm.beta", "roberta.encoder.layer.0.output.LayerNorm.bias"),
        ("embeddings.LayerNorm.gamma", "roberta.embeddings.LayerNorm.weight"),
        ("embeddings.word_embeddings.weight", WORDS),
        ("encoder.layer.0.output.dense.bias", "roberta.encoder.layer.0.output.dense.bias"),
        ("pooler.dense.weight", "roberta.pooler.dense.weight"),
        ("roberta.pooler.dense.weight", "roberta.pooler.dense.weight"),
        ("classifier.out_proj.weight", "classifier.out_proj.weight"),
        ("classifier.gamma", "classifier.gamma"),
    ],
)
def test_names(old, new):
    tensor = torch.ones(2)
    renamed = normalize_names({old: tensor})
    assert list(renamed) == [new]
    assert renamed[new] is tensor


def test_original_xlm():
    bare = [
        "attentions.0.q_lin.weight",
        "layer_norm1.0.bias",
        "ffns.0.lin1.weight",
        "embeddings.weight",
        "lang_embeddings.weight",
    ]
    named = numbered(*bare, "position_ids", "transformer.layer_norm_emb.bias", "pred_layer.proj.bias", "encoder.x")
    kept = [f"transformer.{name}" for name in bare]
    kept += ["transformer.layer_norm_emb.bias", "pred_layer.proj.bias", "encoder.x"]
    assert list(normalize_names(named, XLM)) == kept


@pytest.mark.parametrize(
    ("family", "old", "new"),
    [
        (BERT, "embeddings.LayerNorm.gamma", "bert.embeddings.LayerNorm.weight"),
        (BERT, "bert.encoder.layer.0.output.LayerNorm.beta", "bert.encoder.layer.0.output.LayerNorm.bias"),
        (BERT, "module.bert.pooler.dense.bias", "bert.pooler.dense.bias"),
        (BERT, "0.auto_model.encoder.layer.0.output.dense.bias", "bert.encoder.layer.0.output.dense.bias"),
        (BERT, "cls.predictions.transform.LayerNorm.gamma", "cls.predictions.transform.LayerNorm.weight"),
        (BERT, "cls.predictions.decoder.bias", "cls.predictions.bias"),
        (BERT, "cls.seq_relationship.weight", "cls.seq_relationship.weight"),
        (DISTILBERT, "transformer.layer.0.ffn.lin1.bias", "distilbert.transformer.layer.0.ffn.lin1.bias"),
        (DISTILBERT, "model.embeddings.LayerNorm.gamma", "distilbert.embeddings.LayerNorm.weight"),
        (DISTILBERT, "vocab_projector.bias", "vocab_projector.bias"),
        (DISTILBERT, "encoder.layer.0.output.dense.bias", "encoder.layer.0.output.dense.bias"),
    ],
)
def test_bert(family, old, new):
    assert list(normalize_names(numbered(old, f"{family.prefix}.embeddings.position_ids"), family)) == [new]


@pytest.mark.parametrize(
    ("family", "decoder"), [(BERT, "cls.predictions.decoder.weight"), (DISTILBERT, "vocab_projector.weight")]
)
def test_bert_ties_its_projection(family, decoder):
    words = torch.ones(3, 2)
    assert list(normalize_names({decoder: words}, family)) == [family.words]
    assert list(normalize_names({family.words: words, decoder: words.clone()}, family)) == [family.words]
    assert len(normalize_names({family.words: words, decoder: words + 1}, family)) == 2  # assign_weights refuses it
    assert len(normalize_names({family.words: words, decoder: words}, family, tied=False)) == 2


@pytest.mark.parametrize("tied", [True, False])
def test_original_xlm_ties_its_projection(tied):
    weight = torch.ones(2)
    names = {"transformer.embeddings.weight": weight, "pred_layer.proj.weight": weight.clone()}
    assert len(normalize_names(names, XLM, tied=tied)) == (1 if tied else 2)
    names["pred_layer.proj.weight"] += 1  # another matrix: assign_weights refuses it
    assert len(normalize_names(names, XLM, tied=tied)) == 2


def test_buffers_are_dropped():
    names = ["roberta.embeddings.position_ids", "embeddings.token_type_ids", "embeddings.token_type_embeddings.weight"]
    assert list(normalize_names(numbered(*names))) == ["roberta.embeddings.token_type_embeddings.weight"]


def test_the_input_does_not_change():
    tensors = numbered("embeddings.position_ids", "encoder.x", "lm_head.decoder.bias")
    normalize_names(tensors)
    assert list(tensors) == ["embeddings.position_ids", "encoder.x", "lm_head.decoder.bias"]


def test_two_names_for_one_tensor():
    with pytest.raises(CheckpointError, match=r"here: holds tensor roberta\.encoder\.x twice.*encoder\.x"):
        normalize_names(numbered("roberta.encoder.x", "encoder.x"), source="here")


@pytest.mark.parametrize(
    ("names", "kept"),
    [
        (["lm_head.bias"], 0.0),
        (["lm_head.decoder.bias"], 0.0),
        (["lm_head.bias", "lm_head.decoder.bias"], 1.0),
        (["lm_head.decoder.bias", "lm_head.bias"], 0.0),
    ],
)
def test_one_bias(names, kept):
    renamed = normalize_names(numbered(*names))
    assert list(renamed) == ["lm_head.bias"]
    assert renamed["lm_head.bias"][0] == kept


@pytest.mark.parametrize("other", ["same object", "same values"])
def test_tied_weight_is_dropped(other):
    words = torch.randn(3, 2, generator=torch.Generator().manual_seed(0))
    decoder = words if other == "same object" else words.clone()
    assert list(normalize_names({WORDS: words, DECODER: decoder})) == [WORDS]
    assert list(normalize_names({WORDS: words, DECODER: decoder}, tied=False)) == [WORDS, DECODER]


def test_tied_weight_only_under_the_name_of_the_decoder():
    words = torch.ones(3, 2)
    renamed = normalize_names({DECODER: words})
    assert list(renamed) == [WORDS]
    assert renamed[WORDS] is words


@pytest.mark.parametrize("decoder", [torch.zeros(3, 2), torch.ones(4, 2), torch.ones(3, 2, dtype=torch.float16)])
def test_a_weight_that_is_not_tied_is_kept(decoder):
    assert list(normalize_names({WORDS: torch.ones(3, 2), DECODER: decoder})) == [WORDS, DECODER]


def test_published_names():
    tied = numbered("lm_head.bias", WORDS)
    assert list(published_names(tied)) == list(tied)
    untied = numbered("lm_head.bias", DECODER)
    published = published_names(untied)
    assert torch.equal(published["lm_head.decoder.bias"], untied["lm_head.bias"])
    assert "lm_head.decoder.bias" not in untied
    untied = numbered("cls.predictions.bias", "cls.predictions.decoder.weight")
    assert torch.equal(published_names(untied)["cls.predictions.decoder.bias"], untied["cls.predictions.bias"])
    untied = numbered("vocab_projector.bias", "vocab_projector.weight")
    assert list(published_names(untied)) == list(untied)
