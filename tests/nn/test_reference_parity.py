"""Our modules against transformers on random weights with every parameter perturbed, and proof that the comparison can fail."""

import copy
from dataclasses import replace

import pytest
import torch

from skxlmr.checkpoints import on_meta
from skxlmr.nn import TokenLayout
from skxlmr.nn.kernels.linear import fast_inference

from .conftest import GEOMETRIES, slow
from .reference import (
    KINDS,
    TASKS,
    TINY,
    assert_encoders_agree,
    assert_gradients_agree,
    assert_near,
    assert_tasks_agree,
    make_labels,
    make_ours,
    make_pair,
    make_reference,
    make_rows,
    our_loss,
    outputs_of_encoders,
    reference_outputs,
    task_lengths,
)

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}
LENGTHS = {"tiny": [11, 4, 8, 11, 2], "base": [12, 5, 9]}

dtypes = pytest.mark.parametrize("dtype", TOLERANCE, ids=["fp32", "fp64"])
geometries = pytest.mark.parametrize("geometry", GEOMETRIES)
sides = pytest.mark.parametrize("side", ["right", "left"])


F32, F64 = TOLERANCE


def test_padding_tokens_that_texts_spell(references):
    """They are attended to, and take no position: in a packed batch as in the reference's."""
    theirs = references("base", "tiny", torch.float64)
    ours = make_ours("base", TINY, theirs, share=True)
    rows = [[0, 5, 1, 7, 1, 1, 2], [0, 9, 8, 2], [1, 1, 4, 2], [0, 6, 2]]
    ids = torch.tensor([i for row in rows for i in row])
    found = ours.eval()(ids, TokenLayout([len(row) for row in rows])).last_hidden_state
    expected = torch.cat([theirs.eval()(torch.tensor([row])).last_hidden_state[0] for row in rows])
    assert_near(found, expected, TOLERANCE[F64], "hidden states")
    alone = torch.tensor(rows[1])  # positions of rows without them are the usual ones
    assert_near(ours(alone, TokenLayout([4])).last_hidden_state, expected[7:11], TOLERANCE[F64], "hidden states")


@pytest.mark.parametrize(
    ("geometry", "dtype", "side"),
    [
        *(("tiny", dtype, side) for dtype in TOLERANCE for side in ("right", "left")),
        ("base", F32, "right"),
        slow("base", F32, "left"),
        slow("base", F64, "right"),
        slow("base", F64, "left"),
    ],
)
def test_hidden_states_attentions_and_pooler(references, geometry, dtype, side):
    """In training our linear layers compute as the reference's; the kernel of ``fast_inference`` sums in another order."""
    config = GEOMETRIES[geometry]
    theirs = references("base", geometry, dtype)
    ours = make_ours("base", config, theirs, share=True)
    ids, mask = make_rows(config, LENGTHS[geometry], side)
    assert_encoders_agree(ours, theirs, ids, mask, TOLERANCE[dtype], grad=True)
    assert_encoders_agree(ours, theirs, ids, mask, TOLERANCE[dtype])
    with fast_inference():
        assert_encoders_agree(ours, theirs, ids, mask, TOLERANCE[dtype])


@pytest.mark.parametrize(
    ("kind", "geometry", "dtype"),
    [
        *((kind, "tiny", dtype) for kind in TASKS for dtype in TOLERANCE),
        ("seqcls", "base", F32),
        *(slow(kind, "base", F64) for kind in ("seqcls", "mlm", "tokcls", "qa", "mc")),
        *(slow(kind, "base", F32) for kind in ("mlm", "tokcls", "qa", "mc")),
    ],
)
def test_logits_losses_and_gradients(references, geometry, dtype, kind):
    config = GEOMETRIES[geometry]
    theirs = references(kind, geometry, dtype)
    ours = make_ours(kind, config, theirs, share=True)
    assert_tasks_agree(kind, ours, theirs, config, LENGTHS[geometry], TOLERANCE[dtype])


@dtypes
def test_gradient_through_the_pooler(dtype):
    ours, theirs = make_pair("base", dtype=dtype)
    ids, mask = make_rows(TINY, LENGTHS["tiny"])
    for module in ours, theirs:
        output = module(ids, attention_mask=mask)
        (output.pooler_output.square().sum() + output.last_hidden_state.sin().sum()).backward()
    assert_gradients_agree(ours, theirs, TOLERANCE[dtype])


@dtypes
@sides
def test_rows_long_enough_for_the_fused_kernel(dtype, side):
    config = replace(TINY, max_position_embeddings=102)
    ours, theirs = make_pair("base", config, dtype)
    ids, mask = make_rows(config, [100, 65, 3], side)
    with torch.no_grad():
        found, expected = ours(ids, attention_mask=mask), theirs(ids, attention_mask=mask)
    assert_near(found.last_hidden_state, expected.last_hidden_state, TOLERANCE[dtype], "last hidden state")


def test_without_a_mask_every_place_is_attended_to():
    ours, theirs = make_pair("base", dtype=torch.float64)
    ids, _ = make_rows(TINY, [9, 5])  # padding in the ids, not in the mask: it has no positions, but attention sees it
    assert_encoders_agree(ours, theirs, ids, None, 1e-12)


def test_masks_with_holes_and_rows_without_a_token():
    ours, theirs = make_pair("base", dtype=torch.float64)
    ids, mask = make_rows(TINY, [9, 5, 7])
    mask[0, 3] = mask[2, 0] = 0
    mask[1] = 0
    assert_encoders_agree(ours, theirs, ids, mask, 1e-12)


def test_own_position_ids():
    ours, theirs = make_pair("base", dtype=torch.float64)
    ids, mask = make_rows(TINY, [9, 5])
    position_ids = torch.randint(0, TINY.max_position_embeddings, ids.shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        found = ours(ids, attention_mask=mask, position_ids=position_ids).last_hidden_state
        expected = theirs(ids, attention_mask=mask, position_ids=position_ids).last_hidden_state
        assert (found - ours(ids, attention_mask=mask).last_hidden_state).abs().max() > 0.01
    assert_near(found, expected, 1e-12, "last hidden state")


@sides
def test_inputs_embeds(side):
    ours, theirs = make_pair("base", dtype=torch.float64)
    _, mask = make_rows(TINY, [9, 5], side)
    embeds = torch.randn(2, 9, TINY.hidden_size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        found = ours(inputs_embeds=embeds, attention_mask=mask).last_hidden_state
        expected = theirs(inputs_embeds=embeds, attention_mask=mask).last_hidden_state
    assert_near(found, expected, 1e-12, "last hidden state")


@pytest.mark.parametrize(
    "changes",
    [
        {"hidden_act": "gelu_new"},
        {"hidden_act": "gelu_pytorch_tanh"},
        {"hidden_act": "relu"},
        {"layer_norm_eps": 1e-2},
        {"type_vocab_size": 2},
        {"num_attention_heads": 1},
        {"pad_token_id": 3, "bos_token_id": 5},
        {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3},
    ],
    ids=str,
)
def test_every_field_of_the_config_means_the_same(changes):
    config = replace(TINY, **changes)
    ours, theirs = make_pair("base", config, torch.float64)
    ids, mask = make_rows(config, [9, 5])
    assert_encoders_agree(ours, theirs, ids, mask, 1e-12)


def test_untied_language_modelling_head():
    config = replace(TINY, tie_word_embeddings=False)
    theirs = make_reference("mlm", config).double()
    with on_meta():
        ours = KINDS["mlm"][0](config)
    weights = {name: parameter.detach().clone() for name, parameter in theirs.named_parameters()}
    weights["lm_head.bias"] = weights.pop("lm_head.decoder.bias", weights.get("lm_head.bias"))
    ours.load_state_dict(weights, strict=True, assign=True)
    assert not torch.equal(weights["lm_head.decoder.weight"], weights["roberta.embeddings.word_embeddings.weight"])
    ids, mask = make_rows(config, [9, 5])
    with torch.no_grad():
        found, expected = ours.eval()(ids, attention_mask=mask), theirs(ids, attention_mask=mask).logits
    assert_near(found, expected, 1e-12, "logits")


def test_head_mask_is_a_factor_on_the_attention_weights():
    """The reference dropped head masks in version 5. In 4.46 they multiply the weights, which equals scaling the values of
    the head."""
    ours, theirs = make_pair("base", dtype=torch.float64)
    ids, mask = make_rows(TINY, [9, 5, 7])
    factors = torch.tensor([[1, 0, 0.5, 2], [0, 1, 1, 1], [0.25, 1, 3, 0]], dtype=torch.float64)
    scaled = copy.deepcopy(theirs)
    with torch.no_grad():
        for layer, factor in zip(scaled.encoder.layer, factors, strict=True):
            value = layer.attention.self.value
            per_channel = factor.repeat_interleave(TINY.head_size)
            value.weight.mul_(per_channel[:, None])
            value.bias.mul_(per_channel)
        found = ours(ids, attention_mask=mask, head_mask=factors, output_hidden_states=True, output_attentions=True)
        expected = scaled(ids, attention_mask=mask, output_hidden_states=True, output_attentions=True)
        one_for_all = ours(ids, attention_mask=mask, head_mask=factors[2]).last_hidden_state
        repeated = ours(ids, attention_mask=mask, head_mask=factors[2].expand(3, -1)).last_hidden_state
    for layer, pair in enumerate(zip(found.hidden_states, expected.hidden_states, strict=True)):
        assert_near(*pair, 1e-12, f"hidden state {layer}")
    for layer, (weights, unscaled) in enumerate(zip(found.attentions, expected.attentions, strict=True)):
        assert_near(weights, unscaled * factors[layer][:, None, None], 1e-12, f"attentions {layer}")
    assert torch.equal(one_for_all, repeated)
    assert (one_for_all - found.last_hidden_state).abs().max() > 0.01


# Train mode -----------------------------------------------------------------------------------------------------------

DROPOUT = replace(TINY, hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.3, classifier_dropout=0.5)


@dtypes
@sides
@pytest.mark.parametrize("kind", TASKS)
def test_train_mode_draws_the_same_dropout(kind, dtype, side):
    """From the same seed both draw the same masks in the same order, so that losses and gradients agree with dropout on."""
    ours, theirs = make_pair(kind, DROPOUT, dtype)
    ids, mask = make_rows(DROPOUT, task_lengths(kind, LENGTHS["tiny"]), side)
    labels = make_labels(kind, DROPOUT, mask)
    torch.manual_seed(7)
    expected_logits, expected = reference_outputs(kind, theirs.train(), ids, mask, labels)
    torch.manual_seed(7)
    logits = ours.train()(ids, attention_mask=mask)
    loss = our_loss(kind, logits, labels)
    assert_near(logits, expected_logits, TOLERANCE[dtype], "logits")
    assert_near(loss, expected, TOLERANCE[dtype], "loss")
    assert (logits - ours.eval()(ids, attention_mask=mask)).abs().max() > 0.01
    expected.backward()
    loss.backward()
    assert_gradients_agree(ours, theirs, TOLERANCE[dtype])


@pytest.mark.parametrize("kind", ["seqcls", "mlm"])
def test_gradient_checkpointing_is_the_references(kind):
    ours, theirs = make_pair(kind, DROPOUT, torch.float64)
    ids, mask = make_rows(DROPOUT, LENGTHS["tiny"])
    labels = make_labels(kind, DROPOUT, mask)
    enable = getattr(theirs.train(), "activation_checkpointing_enable", None) or theirs.gradient_checkpointing_enable
    enable()
    ours.train().roberta.gradient_checkpointing = True
    torch.manual_seed(7)
    expected = theirs(ids, attention_mask=mask, labels=labels).loss
    expected.backward()
    torch.manual_seed(7)
    loss = our_loss(kind, ours(ids, attention_mask=mask), labels)
    loss.backward()
    assert_near(loss, expected, 1e-12, "loss")
    assert_gradients_agree(ours, theirs, 1e-12)


# Planted faults -------------------------------------------------------------------------------------------------------


def transpose_a_weight(ours):
    weight = ours.encoder.layer[1].attention.self.key.weight
    weight.copy_(weight.T.clone())


def shift_the_positions(ours):
    weight = ours.embeddings.position_embeddings.weight
    weight.copy_(weight.roll(1, 0))


def zero_a_bias(ours):
    ours.encoder.layer[2].intermediate.dense.bias.zero_()


def forget_the_token_type(ours):
    ours.embeddings.token_type_embeddings.weight.zero_()


def use_another_epsilon(ours):
    ours.encoder.layer[0].output.LayerNorm.eps = 1e-3


FAULTS = [transpose_a_weight, shift_the_positions, zero_a_bias, forget_the_token_type, use_another_epsilon]


@pytest.mark.parametrize("fault", FAULTS)
@dtypes
def test_the_comparison_finds_planted_faults(fault, dtype):
    ours, theirs = make_pair("base", dtype=dtype)
    ids, mask = make_rows(TINY, LENGTHS["tiny"])
    assert_encoders_agree(ours, theirs, ids, mask, TOLERANCE[dtype])
    with torch.no_grad():
        fault(ours)
    with pytest.raises(AssertionError, match="differs by"):
        assert_encoders_agree(ours, theirs, ids, mask, TOLERANCE[dtype])


@dtypes
def test_the_comparison_finds_a_dropped_mask(dtype):
    ours, theirs = make_pair("base", dtype=dtype)
    ids, mask = make_rows(TINY, LENGTHS["tiny"])

    def maskless(ids, attention_mask, **outputs):
        return ours(ids, **outputs)

    with pytest.raises(AssertionError, match="differs by"):
        assert_encoders_agree(maskless, theirs, ids, mask, TOLERANCE[dtype])


def test_the_comparison_of_gradients_finds_a_planted_fault():
    """A branch without a gradient does not change the loss."""
    ours, theirs = make_pair("seqcls", dtype=torch.float64)
    ids, mask = make_rows(TINY, LENGTHS["tiny"])
    labels = make_labels("seqcls", TINY, mask)
    ours.roberta.encoder.layer[0].intermediate.register_forward_hook(
        lambda module, inputs, output: output.detach() + 0 * output
    )
    expected = theirs(ids, attention_mask=mask, labels=labels).loss
    found = our_loss("seqcls", ours(ids, attention_mask=mask), labels)
    assert_near(found, expected, 1e-12, "loss")
    expected.backward()
    found.backward()
    with pytest.raises(AssertionError, match=r"gradient of .* differs by"):
        assert_gradients_agree(ours, theirs, 1e-12)


def test_perturbed_weights_leave_nothing_at_zero():
    _, theirs = make_pair("base")
    assert all(parameter.ne(0).all() for parameter in theirs.parameters())
    assert set(outputs_of_encoders(*make_pair("base"), *make_rows(TINY, [5, 3]))) >= {"hidden_states 3", "attentions 2"}


@geometries
def test_perturbed_weights_keep_tokens_apart(references, geometry):
    config = GEOMETRIES[geometry]
    ids, mask = make_rows(config, [9, 9])
    with torch.no_grad():
        x = references("base", geometry)(ids, attention_mask=mask).last_hidden_state
    assert (x - x.mean(1, keepdim=True)).std() > 0.1
