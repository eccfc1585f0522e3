"""BERT and DistilBERT against transformers, with every parameter perturbed, and proof that the comparison can fail."""

from dataclasses import replace
from unittest import mock

import pytest
import torch

from skxlmr.nn import TokenLayout
from skxlmr.nn.kernels.linear import fast_inference
from tests.nn.reference import assert_near

from .reference import TASKS, TOLERANCE, make_pair, make_pairs_of_texts, named_parameters, packed, reference_output

LENGTHS = [11, 4, 8, 11, 2, 6]

dtypes = pytest.mark.parametrize("dtype", TOLERANCE, ids=["fp32", "fp64"])
families = pytest.mark.parametrize("model_type", ["bert", "distilbert"])
kinds = pytest.mark.parametrize("kind", TASKS)


def inputs_of(model_type, types):
    return {"token_type_ids": types} if model_type == "bert" else {}


def assert_task_agrees(model_type, kind, ours, theirs, tolerance):
    """Logits of padded and packed rows, and gradients of all parameters of a sum that weighs each logit by its place."""
    ids, mask, types, starts = make_pairs_of_texts(LENGTHS)
    expected = reference_output(kind, theirs, ids, mask, **inputs_of(model_type, types))
    found = ours(ids, attention_mask=mask, **inputs_of(model_type, types))
    assert_near(found, expected, tolerance, "logits of padded rows")
    of_tokens = kind in ("tokcls", "qa", "mlm")
    expected = expected[mask.bool()] if of_tokens else expected
    found = ours(*packed(ids, mask, starts))
    assert_near(found, expected, tolerance, "logits of packed rows")
    weights = torch.linspace(-1, 1, expected.numel(), dtype=expected.dtype).reshape(expected.shape)
    for logits in (found, expected):
        (logits * weights).sum().backward()
    gradients = {name: parameter.grad for name, parameter in named_parameters(theirs).items()}
    assert dict(ours.named_parameters()).keys() == gradients.keys()
    missing = {name for name, gradient in gradients.items() if gradient is None}
    assert missing <= {f"{model_type}.pooler.dense.{end}" for end in ("weight", "bias")}
    largest = max(gradient.abs().max().item() for gradient in gradients.values() if gradient is not None)
    for name, parameter in ours.named_parameters():
        if name not in missing:
            assert_near(parameter.grad, gradients[name], tolerance * largest, f"gradient of {name}")
    with fast_inference():
        assert_near(ours(*packed(ids, mask, starts)), expected.detach(), tolerance, "logits of the fast kernels")


@families
@kinds
@dtypes
def test_tasks(model_type, kind, dtype):
    ours, theirs = make_pair(model_type, kind, dtype)
    assert_task_agrees(model_type, kind, ours, theirs, TOLERANCE[dtype])


@pytest.mark.parametrize(
    ("model_type", "kind", "changes"),
    [
        ("bert", "mlm", {"hidden_act": "relu", "tie_word_embeddings": False, "pad_token_id": 3}),
        ("bert", "seqcls", {"hidden_act": "gelu_new", "layer_norm_eps": 1e-3, "type_vocab_size": 4}),
        ("distilbert", "mlm", {"activation": "relu", "tie_word_embeddings": False, "sinusoidal_pos_embds": True}),
        ("distilbert", "mc", {"activation": "gelu_new", "pad_token_id": 3}),
    ],
    ids=str,
)
def test_other_geometries(model_type, kind, changes):
    ours, theirs = make_pair(model_type, kind, torch.float64, **changes)
    assert_task_agrees(model_type, kind, ours, theirs, 1e-10)


def scaled(x, p=0.5, training=True, inplace=False):
    """In place of dropout: what both sides draw would differ."""
    return x * (1 - p) if training and p else x


@families
@kinds
def test_train_mode(model_type, kind):
    """Each dropout has its own rate and place: all become factors, which the outputs of both sides show."""
    names = {"bert": ("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout")}
    names["distilbert"] = ("dropout", "attention_dropout", "seq_classif_dropout", "qa_dropout")
    rates = dict(zip(names[model_type], (0.11, 0.23, 0.37, 0.41), strict=False))
    ours, theirs = make_pair(model_type, kind, torch.float64, **rates)
    ids, mask, types, starts = make_pairs_of_texts(LENGTHS)
    ours.train(), theirs.train()
    with mock.patch("torch.nn.functional.dropout", scaled):
        expected = reference_output(kind, theirs, ids, mask, **inputs_of(model_type, types))
        expected = expected[mask.bool()] if kind in ("tokcls", "qa", "mlm") else expected
        found = ours(*packed(ids, mask, starts))
    assert_near(found, expected, 1e-10, "logits in train mode")
    ours.eval()
    with pytest.raises(AssertionError, match="differs by"):
        assert_near(ours(*packed(ids, mask, starts)), expected, 1e-10, "logits in eval mode")


@families
@dtypes
def test_hidden_states_and_attentions(model_type, dtype):
    ours, theirs = make_pair(model_type, "pooler" if model_type == "bert" else "base", dtype)
    ids, mask, types, _ = make_pairs_of_texts(LENGTHS)
    options = {"attention_mask": mask, "output_hidden_states": True, "output_attentions": True}
    found = ours(ids, **options, **inputs_of(model_type, types))
    expected = theirs(ids, **options, **inputs_of(model_type, types))
    for name in ("hidden_states", "attentions"):
        for mine, their in zip(getattr(found, name), expected[name], strict=True):
            assert_near(mine, their, TOLERANCE[dtype], name)
    if model_type == "bert":
        assert_near(found.pooler_output, expected.pooler_output, TOLERANCE[dtype], "pooler output")
    positions = torch.arange(11).flip(0).expand(ids.shape)
    vectors = ours.backbone.get_input_embeddings()(ids)
    for inputs in ({"input_ids": ids, "position_ids": positions}, {"inputs_embeds": vectors}):
        found = ours(attention_mask=mask, **inputs).last_hidden_state
        expected = theirs(attention_mask=mask, **inputs).last_hidden_state
        assert_near(found, expected, TOLERANCE[dtype], f"of {sorted(inputs)}")


@families
def test_positions_do_not_depend_on_padding(model_type):
    """Ids of padding that a text spells, and padding on the left, count as any other place, as in the reference."""
    ours, theirs = make_pair(model_type, "base", torch.float64)
    ids = torch.tensor([[5, 0, 7, 0, 0, 9], [0, 0, 8, 4, 2, 1]])
    mask = torch.tensor([[1, 1, 1, 1, 1, 1], [0, 0, 1, 1, 1, 1]])
    found = ours(ids, attention_mask=mask).last_hidden_state
    assert_near(found, theirs(ids, attention_mask=mask).last_hidden_state, 1e-10, "hidden states")
    alone = ours(ids[0], TokenLayout([6])).last_hidden_state
    assert_near(alone, found[0], 1e-10, "a packed row")


# Planted faults --------------------------------------------------------------------------------------------------------


def shift_the_positions(ours):
    weight = ours.backbone.embeddings.position_embeddings.weight
    weight.copy_(weight.roll(1, 0))


def forget_the_token_types(ours):
    ours.backbone.embeddings.token_type_embeddings.weight[1] = ours.backbone.embeddings.token_type_embeddings.weight[0]


def skip_the_pooler(ours):
    ours.bert.pooler = None
    ours.forward = lambda *args, **inputs: ours.classifier(_first(ours.bert(*args, **inputs)))


def _first(output):
    return output.layout.first(output.last_hidden_state)


def approximate_the_gelu(ours):
    for part in ours.modules():
        if hasattr(part, "activation"):
            part.activation = "gelu_pytorch_tanh"


def other_epsilon(ours):
    for part in ours.modules():
        if isinstance(part, torch.nn.LayerNorm):
            part.eps = 1e-5


def transpose_a_weight(ours):
    layer = ours.backbone.layers[1]
    weight = layer.attention.self.key.weight if hasattr(layer.attention, "self") else layer.attention.k_lin.weight
    weight.copy_(weight.T.clone())


def tanh_for_relu(ours):
    ours.pre_classifier.forward = lambda x: torch.nn.functional.linear(x, ours.pre_classifier.weight)


def swap_the_layer_norms(ours):
    layer = ours.backbone.layers[0]
    layer.sa_layer_norm, layer.output_layer_norm = layer.output_layer_norm, layer.sa_layer_norm


FAULTS = [
    *((model_type, "tokcls", shift_the_positions) for model_type in ("bert", "distilbert")),
    *((model_type, "seqcls", transpose_a_weight) for model_type in ("bert", "distilbert")),
    *((model_type, "mlm", approximate_the_gelu) for model_type in ("bert", "distilbert")),
    *((model_type, "qa", other_epsilon) for model_type in ("bert", "distilbert")),
    ("bert", "qa", forget_the_token_types),
    ("bert", "seqcls", skip_the_pooler),
    ("distilbert", "seqcls", tanh_for_relu),
    ("distilbert", "mc", swap_the_layer_norms),
]


@pytest.mark.parametrize(("model_type", "kind", "fault"), FAULTS)
def test_the_comparison_finds_planted_faults(model_type, kind, fault):
    ours, theirs = make_pair(model_type, kind, torch.float64)
    with torch.no_grad():
        fault(ours)
    with pytest.raises(AssertionError, match=r"logits of .* rows: differs by"):
        assert_task_agrees(model_type, kind, ours, theirs, 1e-10)


# What can't be computed ------------------------------------------------------------------------------------------------


def test_too_long_or_without_types():
    ours, _ = make_pair("bert", "base")
    with pytest.raises(ValueError, match="a sequence of 25 tokens is longer than the 24 positions of the model"):
        ours(torch.ones(25, dtype=torch.int64), TokenLayout([25]))
    assert ours(torch.ones(24, dtype=torch.int64), TokenLayout([24])).last_hidden_state.shape == (24, 32)
    distilled, _ = make_pair("distilbert", "base")
    with pytest.raises(ValueError, match="DistilBERT has no token types: leave out token_type_ids"):
        distilled(torch.ones(1, 3, dtype=torch.int64), token_type_ids=torch.zeros(1, 3, dtype=torch.int64))
    with pytest.raises(ValueError, match="DistilBERT has no pooler"):
        type(distilled)(distilled.backbone.config, True)
    config = replace(ours.backbone.config, type_vocab_size=1)
    single = type(ours)(config)
    assert single(torch.ones(3, dtype=torch.int64), TokenLayout([3])).last_hidden_state.shape == (3, 32)
    with pytest.raises(ValueError, match="gives second texts the token type 1, but the model has one type only"):
        single(torch.ones(3, dtype=torch.int64), TokenLayout([3], second_starts=[1]))
