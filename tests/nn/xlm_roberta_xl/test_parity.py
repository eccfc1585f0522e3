"""The modules against transformers: every output, loss and gradient, with every parameter perturbed, and planted faults."""

from dataclasses import replace

import pytest
import torch

from skxlmr import nn
from skxlmr.nn import KeyValueCache, XLMRobertaXLConfig, losses
from skxlmr.nn.kernels.linear import fast_inference
from skxlmr.nn.vocabulary import extend_vocabulary
from skxlmr.nn.xlm_roberta import init_weights
from tests.nn.reference import (
    KINDS_OF,
    N_OUTPUTS,
    TASKS,
    XL,
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
    pack_labels,
    packed,
    reference_outputs,
    task_lengths,
)

DECODER = replace(XL, is_decoder=True, add_cross_attention=True)
DROPOUT = replace(XL, hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.3, classifier_dropout=0.5)
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}
LENGTHS = [11, 4, 8, 11, 2]

dtypes = pytest.mark.parametrize("dtype", TOLERANCE, ids=["fp32", "fp64"])
sides = pytest.mark.parametrize("side", ["right", "left"])


@dtypes
@sides
def test_hidden_states_attentions_and_pooler(dtype, side):
    """The last hidden state is the one after the last layer norm, those before it are not normalised."""
    ours, theirs = make_pair("base", XL, dtype)
    ids, mask = make_rows(XL, LENGTHS, side)
    assert_encoders_agree(ours, theirs, ids, mask, TOLERANCE[dtype], grad=True)
    assert_encoders_agree(ours, theirs, ids, mask, TOLERANCE[dtype])
    with fast_inference():
        assert_encoders_agree(ours, theirs, ids, mask, TOLERANCE[dtype])


@dtypes
@pytest.mark.parametrize("fast", [False, True])
def test_packed_hidden_states(dtype, fast):
    """With spare rows in the fast path: their zeros are normalised too."""
    ours, theirs = make_pair("base", XL, dtype)
    ids, mask = make_rows(XL, LENGTHS)
    with torch.no_grad():
        expected = theirs(ids, attention_mask=mask, output_hidden_states=True)
        if fast:
            with fast_inference():
                found = ours(*packed(ids, mask), output_hidden_states=True)
        else:
            found = ours(*packed(ids, mask), output_hidden_states=True)
    for layer, pair in enumerate(zip(found.hidden_states, expected.hidden_states, strict=True)):
        assert_near(pair[0], pair[1][mask.bool()], TOLERANCE[dtype], f"hidden state {layer}")
    assert_near(found.pooler_output, expected.pooler_output, TOLERANCE[dtype], "pooler output")


@dtypes
@pytest.mark.parametrize("kind", TASKS)
def test_logits_losses_and_gradients(kind, dtype):
    ours, theirs = make_pair(kind, XL, dtype)
    assert_tasks_agree(kind, ours, theirs, XL, LENGTHS, TOLERANCE[dtype])
    ids, mask = make_rows(XL, task_lengths(kind, LENGTHS))
    labels = make_labels(kind, XL, mask)
    ours.zero_grad()
    our_loss(kind, ours(*packed(ids, mask)), pack_labels(kind, labels, mask)).backward()
    assert_gradients_agree(ours, theirs, TOLERANCE[dtype])


@dtypes
@sides
@pytest.mark.parametrize("kind", TASKS)
def test_train_mode_draws_the_same_dropout(kind, dtype, side):
    ours, theirs = make_pair(kind, DROPOUT, dtype)
    ids, mask = make_rows(DROPOUT, task_lengths(kind, LENGTHS), side)
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


def test_gradient_checkpointing():
    """The second forward pass of the highest layer, and of the norm after it, draws the same masks."""
    ours, theirs = make_pair("mlm", DROPOUT, torch.float64)
    ids, mask = make_rows(DROPOUT, LENGTHS)
    labels = make_labels("mlm", DROPOUT, mask)
    torch.manual_seed(7)
    expected = theirs.train()(ids, attention_mask=mask, labels=labels).loss
    expected.backward()
    calls = []
    ours.train().roberta.encoder.layer[2].intermediate.register_forward_hook(lambda *_: calls.append(1))
    ours.roberta.gradient_checkpointing = True
    torch.manual_seed(7)
    our_loss("mlm", ours(ids, attention_mask=mask), labels).backward()
    assert_gradients_agree(ours, theirs, 1e-12)
    assert len(calls) == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"hidden_act": "gelu_new"},
        {"hidden_act": "relu"},
        {"layer_norm_eps": 1e-2},
        {"type_vocab_size": 2},
        {"num_attention_heads": 1},
        {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3},
        {"hidden_size": 160, "num_attention_heads": 2, "max_position_embeddings": 102},  # heads of 80, as of XL
    ],
    ids=str,
)
def test_every_field_of_the_config_means_the_same(changes):
    config = replace(XL, **changes)
    ours, theirs = make_pair("base", config, torch.float64)
    ids, mask = make_rows(config, [config.max_length, 5])
    assert_encoders_agree(ours, theirs, ids, mask, 1e-12)


def test_padding_tokens_that_texts_spell_own_positions_and_vectors():
    ours, theirs = make_pair("base", XL, torch.float64)
    ids, mask = make_rows(XL, [9, 9])
    ids[0, 3] = ids[1, 5] = XL.pad_token_id
    generator = torch.Generator().manual_seed(1)
    positions = torch.randint(0, XL.max_position_embeddings, ids.shape, generator=generator)
    vectors = torch.randn(2, 9, XL.hidden_size, dtype=torch.float64, generator=generator)
    with torch.no_grad():
        for inputs in ({"input_ids": ids}, {"input_ids": ids, "position_ids": positions}, {"inputs_embeds": vectors}):
            found = ours(attention_mask=mask, **inputs).last_hidden_state
            assert_near(found, theirs(attention_mask=mask, **inputs).last_hidden_state, 1e-12, str(list(inputs)))
        found = ours(*packed(ids, mask)).last_hidden_state
        assert_near(found, theirs(ids, attention_mask=mask).last_hidden_state[mask.bool()], 1e-12, "packed rows")


@pytest.mark.slow
def test_the_published_width():
    """Two layers of 2560 units with 32 heads of 80."""
    config = XLMRobertaXLConfig(vocab_size=100, num_hidden_layers=2)
    theirs = make_reference("base", config)
    ours = make_ours("base", config, theirs, share=True)
    ids, mask = make_rows(config, [70, 12, 5])
    assert_encoders_agree(ours, theirs, ids, mask, 1e-5)
    with torch.no_grad(), fast_inference():
        found = ours(*packed(ids, mask)).last_hidden_state
    expected = theirs(ids, attention_mask=mask).last_hidden_state[mask.bool()]
    assert_near(found, expected.detach(), 1e-5, "packed rows by the fastest kernel")


# Layers ---------------------------------------------------------------------------------------------------------------


def test_only_the_highest_layer_is_normalised():
    """Fewer layers end before the last layer norm, as the reference's hidden states do."""
    ours, theirs = make_pair("base", XL, torch.float64)
    ids, mask = make_rows(XL, LENGTHS)
    norm = ours.encoder.LayerNorm
    with torch.no_grad():
        states = theirs(ids, attention_mask=mask, output_hidden_states=True).hidden_states
        for n_layers, expected in enumerate(states):
            found = ours(ids, attention_mask=mask, n_layers=n_layers)
            assert_near(found.last_hidden_state, expected, 1e-12, f"{n_layers} layers")
            assert_near(found.pooler_output, ours.pooler(expected[:, 0]), 1e-12, f"pooler after {n_layers} layers")
        layout = ours(ids, attention_mask=mask).layout
        x, _ = ours.encoder.layer[2](states[2], layout)
        assert_near(norm(x), states[3], 1e-12, "the norm after the highest layer")
        assert torch.equal(ours.run_layers(states[3], layout, first=3).last_hidden_state, states[3])


def test_blocks_hold_every_parameter_once():
    encoder = nn.XLMRobertaXLEncoder(XL)
    assert len(encoder.blocks) == XL.num_hidden_layers + 1
    found = [parameter for block in encoder.blocks for parameter in block.parameters()]
    assert len(found) == len(set(found)) and set(found) == set(encoder.parameters())
    assert encoder.encoder.LayerNorm.weight in set(encoder.blocks[-1].parameters())


# Decoder --------------------------------------------------------------------------------------------------------------


def make_source(dtype):
    """Vectors of another text, the second row shorter."""
    vectors = torch.randn(3, 6, XL.hidden_size, generator=torch.Generator().manual_seed(5)).to(dtype)
    return {"encoder_hidden_states": vectors, "encoder_attention_mask": (torch.arange(18).view(3, 6) != 11).long()}


@dtypes
@pytest.mark.parametrize("config", [replace(XL, is_decoder=True), DECODER], ids=["causal", "cross"])
def test_causal_language_model(config, dtype):
    ours, theirs = make_pair("clm", config, dtype)
    ids, mask = make_rows(config, [11, 11, 11])
    source = make_source(dtype) if config.add_cross_attention else {}
    for module in ours, theirs:
        module.train()
    torch.manual_seed(3)
    expected = theirs(ids, attention_mask=mask, **source).logits
    torch.manual_seed(3)
    found = ours(ids, attention_mask=mask, **source)
    assert_near(found, expected, TOLERANCE[dtype], "logits")
    for logits in found, expected:
        losses.next_token_cross_entropy(logits, ids).mean().backward()
    assert_gradients_agree(ours, theirs, TOLERANCE[dtype])

    cache, past, start = KeyValueCache(config.num_hidden_layers, 11), None, 0
    ours.eval(), theirs.eval()
    with torch.no_grad():
        whole = ours(ids, attention_mask=mask, **source)
        for end in (6, 8, 9, 11):
            expected = theirs(
                ids[:, start:end], attention_mask=mask[:, :end], past_key_values=past, use_cache=True, **source
            )
            past = expected.past_key_values
            found = ours(ids[:, start:end], attention_mask=mask[:, :end], cache=cache, **source)
            assert_near(found, expected.logits, TOLERANCE[dtype], f"cached logits up to {end}")
            assert_near(found, whole[:, start:end], TOLERANCE[dtype], f"uncached logits up to {end}")
            start = end


# Vocabulary and initialisation ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("tied", [True, False])
def test_more_words(tied):
    config = replace(XL, tie_word_embeddings=tied)
    torch.manual_seed(0)
    ours = nn.XLMRobertaXLForMaskedLM(config).eval()
    ids, mask = make_rows(config, LENGTHS)
    with torch.no_grad():
        before = ours(ids, attention_mask=mask)
        extend_vocabulary(ours, 105, 0.02)
        after = ours(ids, attention_mask=mask)
    assert after.shape[-1] == 105 and torch.equal(after[..., :100], before)


def test_init_weights():
    module = nn.XLMRobertaXLForMaskedLM(replace(XL, hidden_size=512, vocab_size=1000))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.fill_(9.0)
    init_weights(module, 0.02, torch.Generator().manual_seed(0))
    for name, parameter in module.named_parameters():
        if name.endswith("bias"):
            assert not parameter.any(), name
        elif "norm" in name.lower():
            assert (parameter == 1).all(), name
        elif "token_type" not in name:
            assert parameter.std().item() == pytest.approx(0.02, rel=0.03), name


# Planted faults -------------------------------------------------------------------------------------------------------


def leave_out_the_last_norm(ours, patch):
    patch.setattr(type(ours.encoder), "top", lambda stack, x, *inputs: stack.layer[-1](x, *inputs))


def norm_before_the_residual(ours, patch):
    def normalised(attention, x, *inputs):
        x = attention.self_attn_layer_norm(x)
        attended, weights = attention.self(x, *inputs)
        return attention.output(attended, x), weights

    patch.setattr(type(ours.encoder.layer[0].attention), "forward", normalised)


def norm_every_layer(ours, patch):
    ours.encoder.layer[0].register_forward_hook(
        lambda _, inputs, output: (ours.encoder.LayerNorm(output[0]), output[1])
    )


def norm_the_embeddings(ours, patch):
    ours.embeddings.register_forward_hook(lambda _, inputs, x: torch.nn.functional.layer_norm(x, x.shape[-1:]))


def swap_the_norms(ours, patch):
    layer = ours.encoder.layer[1]
    layer.LayerNorm, layer.attention.self_attn_layer_norm = layer.attention.self_attn_layer_norm, layer.LayerNorm


def use_another_epsilon(ours, patch):
    ours.encoder.LayerNorm.eps = 1e-3


def shift_the_positions(ours, patch):
    weight = ours.embeddings.position_embeddings.weight
    weight.copy_(weight.roll(1, 0))


FAULTS = [
    *(leave_out_the_last_norm, norm_before_the_residual, norm_every_layer, norm_the_embeddings),
    *(swap_the_norms, use_another_epsilon, shift_the_positions),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
@dtypes
def test_the_comparison_finds_planted_faults(fault, dtype, monkeypatch):
    ours, theirs = make_pair("base", XL, dtype)
    ids, mask = make_rows(XL, LENGTHS)
    assert_encoders_agree(ours, theirs, ids, mask, TOLERANCE[dtype])
    with torch.no_grad():
        fault(ours, monkeypatch)
    with pytest.raises(AssertionError, match="differs by"):
        assert_encoders_agree(ours, theirs, ids, mask, TOLERANCE[dtype])


@pytest.mark.parametrize("fault", ["dropout after the feed-forward half", "no dropout after the attention"])
def test_the_comparison_of_train_mode_finds_planted_faults(fault):
    ours, theirs = make_pair("seqcls", DROPOUT, torch.float64)
    ids, mask = make_rows(DROPOUT, LENGTHS)
    layer = ours.roberta.encoder.layer[1]
    (layer.output if fault.startswith("dropout") else layer.attention.output).dropout.p = 0.1 * fault.startswith("d")
    torch.manual_seed(7)
    expected, _ = reference_outputs("seqcls", theirs.train(), ids, mask)
    torch.manual_seed(7)
    with pytest.raises(AssertionError, match="logits: differs by"):
        assert_near(ours.train()(ids, attention_mask=mask), expected, 1e-12, "logits")


def test_perturbed_weights_leave_nothing_at_zero():
    for kind in KINDS_OF[XLMRobertaXLConfig]:
        _, theirs = make_pair(kind, DECODER if kind == "clm" else XL)
        assert all(parameter.ne(0).all() for parameter in theirs.parameters())
    ours, _ = make_pair("seqcls", XL)
    assert ours(*packed(*make_rows(XL, LENGTHS))).shape == (len(LENGTHS), N_OUTPUTS)
