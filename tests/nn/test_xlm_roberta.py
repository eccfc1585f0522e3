"""The encoder beyond the reference: packed batches, fewer layers, gradient checkpointing, dropout, errors."""

from dataclasses import replace

import pytest
import torch

from skxlmr.nn import TokenLayout, XLMRobertaEncoder, XLMRobertaForMaskedLM, XLMRobertaModel
from skxlmr.nn.xlm_roberta import init_weights

from .conftest import GEOMETRIES, slow
from .reference import (
    BASE,
    N_OUTPUTS,
    TASKS,
    TINY,
    assert_gradients_agree,
    assert_near,
    make_labels,
    make_ours,
    make_pair,
    make_rows,
    our_loss,
    pack_labels,
    packed,
    reference_outputs,
    task_lengths,
)

LENGTHS = [11, 4, 8, 11, 2]
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}


@pytest.fixture
def encoder():
    return make_pair("base", dtype=torch.float64)[0]


# Packed equals padded -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("geometry", "dtype", "side"),
    [
        *(("tiny", dtype, side) for dtype in TOLERANCE for side in ("right", "left")),
        ("base", torch.float32, "right"),
        slow("base", torch.float32, "left"),
        slow("base", torch.float64, "right"),
        slow("base", torch.float64, "left"),
    ],
)
def test_packed_equals_padded_and_the_reference(references, geometry, dtype, side):
    config, theirs = GEOMETRIES[geometry], references("base", geometry, dtype)
    ours = make_ours("base", config, theirs, share=True)
    ids, mask = make_rows(config, LENGTHS, side)
    with torch.no_grad():
        expected = theirs(ids, attention_mask=mask, output_hidden_states=True)
        output = ours(*packed(ids, mask), output_hidden_states=True)
        padded = ours(ids, attention_mask=mask).last_hidden_state
    for layer, (found, reference) in enumerate(zip(output.hidden_states, expected.hidden_states, strict=True)):
        assert_near(found, reference[mask.bool()], TOLERANCE[dtype], f"hidden state {layer}")
    assert_near(output.last_hidden_state, padded[mask.bool()], TOLERANCE[dtype], "last hidden state")
    if side == "right":  # the reference pools the first place of a row, which on the left is padding
        assert_near(output.pooler_output, expected.pooler_output, TOLERANCE[dtype], "pooler output")
    assert output.attentions is None


@pytest.mark.parametrize("kind", TASKS)
def test_packed_gradients_equal_the_reference(kind):
    ours, theirs = make_pair(kind, dtype=torch.float64)
    ids, mask = make_rows(TINY, task_lengths(kind, LENGTHS))
    labels = make_labels(kind, TINY, mask)
    expected = reference_outputs(kind, theirs, ids, mask, labels)[1]
    loss = our_loss(kind, ours(*packed(ids, mask)), pack_labels(kind, labels, mask))
    assert_near(loss, expected, 1e-12, "loss")
    expected.backward()
    loss.backward()
    assert_gradients_agree(ours, theirs, 1e-12)


def test_packed_rows_do_not_see_their_neighbours(encoder):
    ids, mask = make_rows(TINY, LENGTHS)
    with torch.no_grad():
        together = encoder(*packed(ids, mask)).last_hidden_state.split(LENGTHS)
        for row, length in enumerate(LENGTHS):
            alone = encoder(ids[row, :length], TokenLayout([length])).last_hidden_state
            assert_near(together[row], alone, 1e-12, f"row {row}")


def test_packed_position_ids_and_embeddings(encoder):
    ids, mask = make_rows(TINY, LENGTHS)
    tokens, layout = packed(ids, mask)
    position_ids = torch.randint(0, 40, ids.shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = encoder(ids, attention_mask=mask, position_ids=position_ids).last_hidden_state[mask.bool()]
        assert_near(
            encoder(tokens, layout, position_ids=position_ids[mask.bool()]).last_hidden_state, expected, 1e-12, "own"
        )
        by_ids = encoder(tokens, layout).last_hidden_state
        embeds = encoder.embeddings.word_embeddings(tokens)
        assert torch.equal(encoder(inputs_embeds=embeds, layout=layout).last_hidden_state, by_ids)


def test_language_model_computes_only_the_positions_asked_for():
    ours, _ = make_pair("mlm", dtype=torch.float64)
    tokens, layout = packed(*make_rows(TINY, LENGTHS))
    positions = torch.tensor([30, 0, 12])
    with torch.no_grad():
        logits = ours(tokens, layout, positions=positions)
        assert logits.shape == (3, TINY.vocab_size)
        assert_near(logits, ours(tokens, layout)[positions], 1e-12, "logits")


def test_model_without_a_head_returns_the_encoder_output():
    model = XLMRobertaModel(TINY, add_pooler=True).eval()
    ids, mask = make_rows(TINY, LENGTHS)
    with torch.no_grad():
        found, expected = model(ids, attention_mask=mask), model.roberta(ids, attention_mask=mask)
    assert torch.equal(found.pooler_output, expected.pooler_output)
    assert {name.split(".")[0] for name in model.state_dict()} == {"roberta"}


# Fewer layers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_layers", [0, 1, 2, 3])
def test_n_layers(encoder, n_layers):
    ids, mask = make_rows(TINY, LENGTHS)
    with torch.no_grad():
        states = encoder(ids, attention_mask=mask, output_hidden_states=True).hidden_states
        output = encoder(ids, attention_mask=mask, n_layers=n_layers, output_hidden_states=True, output_attentions=True)
        assert torch.equal(output.last_hidden_state, states[n_layers])
        assert torch.equal(output.pooler_output, encoder.pooler(states[n_layers][:, 0]))
    assert len(output.hidden_states) == n_layers + 1 and len(output.attentions) == n_layers


def test_outputs_are_left_out_unless_asked_for():
    output = XLMRobertaEncoder(TINY)(*packed(*make_rows(TINY, LENGTHS)))
    assert output.pooler_output is output.hidden_states is output.attentions is None


# Gradient checkpointing -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["packed", "padded"])
def test_gradient_checkpointing_gives_identical_gradients(layout):
    """With dropout on: the second forward pass draws the same masks."""
    ids, mask = make_rows(TINY, LENGTHS)
    labels = make_labels("seqcls", TINY, mask)
    gradients, n_calls = [], []
    for checkpointing in (False, True):
        ours, _ = make_pair("seqcls", dtype=torch.float64)
        ours.roberta.gradient_checkpointing = checkpointing
        calls = []
        ours.roberta.encoder.layer[0].intermediate.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        torch.manual_seed(3)
        ours.train()
        logits = ours(ids, attention_mask=mask) if layout == "padded" else ours(*packed(ids, mask))
        our_loss("seqcls", logits, labels).backward()
        gradients.append({name: parameter.grad for name, parameter in ours.named_parameters()})
        n_calls.append(len(calls))
        ours.eval()
        with torch.no_grad():
            ours(ids, attention_mask=mask)
        assert len(calls) == n_calls[-1] + 1
    assert n_calls == [1, 2]
    for name, gradient in gradients[0].items():
        assert torch.equal(gradient, gradients[1][name]), name


# Dropout --------------------------------------------------------------------------------------------------------------

PLACES = {
    "embeddings": lambda module: (module.roberta.embeddings.dropout, "p"),
    "attention": lambda module: (module.roberta.encoder.layer[1].attention.self, "dropout"),
    "attention output": lambda module: (module.roberta.encoder.layer[1].attention.output.dropout, "p"),
    "feed-forward output": lambda module: (module.roberta.encoder.layer[1].output.dropout, "p"),
    "classifier": lambda module: (module.classifier.dropout, "p"),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("layout", ["packed", "padded"])
def test_dropout_is_on_in_training_and_off_in_evaluation(place, layout):
    config = replace(TINY, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    ours, _ = make_pair("seqcls", config, torch.float64)
    ids, mask = make_rows(TINY, LENGTHS)

    def run():
        with torch.no_grad():
            return ours(ids, attention_mask=mask) if layout == "padded" else ours(*packed(ids, mask))

    without = run()
    ours.train()
    assert torch.equal(run(), without)
    setattr(*PLACES[place](ours), 0.5)
    torch.manual_seed(0)
    first, second = run(), run()
    torch.manual_seed(0)
    assert torch.equal(run(), first)
    assert (first - second).abs().max() > 1e-4 and (first - without).abs().max() > 1e-4
    ours.eval()
    assert torch.equal(run(), without)


@pytest.mark.parametrize(("classifier_dropout", "expected"), [(0.3, 0.3), (None, 0.1), (0.0, 0.0)])
def test_each_dropout_takes_its_rate_from_the_config(classifier_dropout, expected):
    config = replace(
        TINY, hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.2, classifier_dropout=classifier_dropout
    )
    ours, _ = make_pair("seqcls", config)
    rates = {place: getattr(*get(ours)) for place, get in PLACES.items()}
    assert rates == {
        "embeddings": 0.1,
        "attention": 0.2,
        "attention output": 0.1,
        "feed-forward output": 0.1,
        "classifier": expected,
    }


# Initialisation -------------------------------------------------------------------------------------------------------


def test_init_weights():
    module = XLMRobertaForMaskedLM(replace(BASE, num_hidden_layers=1))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.fill_(9.0)
    init_weights(module, 0.02, torch.Generator().manual_seed(0))
    for name, parameter in module.named_parameters():
        if name.endswith("bias"):
            assert not parameter.any(), name
        elif "LayerNorm" in name or "layer_norm" in name:
            assert (parameter == 1).all(), name
        elif "token_type" not in name:  # a single row: too few draws to tell their spread
            assert parameter.std().item() == pytest.approx(0.02, rel=0.02), name
    assert not module.roberta.embeddings.word_embeddings.weight[BASE.pad_token_id].any()
    assert not module.roberta.embeddings.position_embeddings.weight[BASE.pad_token_id].any()
    first = module.lm_head.dense.weight.clone()
    init_weights(module, 0.02, torch.Generator().manual_seed(0))
    assert torch.equal(module.lm_head.dense.weight, first)


# Errors ---------------------------------------------------------------------------------------------------------------


def test_a_sequence_of_exactly_the_limit_runs_and_one_more_does_not(encoder):
    limit = TINY.max_length
    assert limit == 38
    ids = torch.full((1, limit + 1), 5)
    with torch.no_grad():
        padded = encoder(ids[:, :limit]).last_hidden_state[0]
        assert_near(encoder(ids[0, :limit], TokenLayout([limit])).last_hidden_state, padded, 1e-12, "last hidden state")
    message = r"a sequence of 39 tokens is longer than the 38 positions of the model"
    with pytest.raises(ValueError, match=message):
        encoder(ids)
    with pytest.raises(ValueError, match=message):
        encoder(ids[0], TokenLayout([limit + 1]))
    with pytest.raises(ValueError, match=message):
        encoder(inputs_embeds=torch.zeros(1, limit + 1, TINY.hidden_size, dtype=torch.float64))


def test_padding_takes_no_position():
    """Rows padded beyond the model's positions run, as in the reference."""
    ours, theirs = make_pair("base", dtype=torch.float64)
    ids, mask = make_rows(TINY, [TINY.max_length, 7])
    ids = torch.nn.functional.pad(ids, (0, 12), value=TINY.pad_token_id)
    mask = torch.nn.functional.pad(mask, (0, 12))
    with torch.no_grad():
        found, expected = (module(ids, attention_mask=mask).last_hidden_state for module in (ours, theirs))
    assert_near(found, expected, 1e-12, "last hidden state")
    ids[0, TINY.max_length] = 5  # one more than there are positions, next to a short row
    with pytest.raises(ValueError, match=r"a sequence of 39 tokens is longer than the 38 positions of the model"):
        ours(ids)


def test_a_packed_batch_has_as_many_tokens_as_its_layout(encoder):
    message = r"a packed batch whose sequences have 5 tokens takes ids of shape \(5,\), got "
    with pytest.raises(ValueError, match=message + r"\(4,\)"):
        encoder(torch.full((4,), 5), TokenLayout([2, 3]))
    with pytest.raises(ValueError, match=message + r"\(1, 5\)"):
        encoder(torch.full((1, 5), 5), TokenLayout([2, 3]))
    with pytest.raises(ValueError, match=message + r"\(4, 32\)"):
        encoder(inputs_embeds=torch.zeros(4, 32, dtype=torch.float64), layout=TokenLayout([2, 3]))


def test_ids_and_embeddings_exclude_each_other(encoder):
    ids = torch.full((1, 4), 5)
    with pytest.raises(ValueError, match="either input_ids or inputs_embeds"):
        encoder(ids, inputs_embeds=torch.zeros(1, 4, TINY.hidden_size))
    with pytest.raises(ValueError, match="either input_ids or inputs_embeds"):
        encoder()


def test_mask_of_another_shape(encoder):
    with pytest.raises(ValueError, match=r"attention_mask must have shape \(2, 4\), got \(2, 5\)"):
        encoder(torch.full((2, 4), 5), attention_mask=torch.ones(2, 5))


def test_a_packed_batch_has_no_attention_mask(encoder):
    with pytest.raises(ValueError, match="a packed batch has a layout instead"):
        encoder(torch.full((4,), 5), TokenLayout([4]), attention_mask=torch.ones(1, 4))


@pytest.mark.parametrize(
    "wanted", [{"output_attentions": True}, {"head_mask": torch.ones(4)}], ids=["attentions", "head_mask"]
)
def test_attentions_need_a_padded_batch(encoder, wanted):
    with pytest.raises(ValueError, match="need a padded batch"):
        encoder(torch.full((4,), 5), TokenLayout([4]), **wanted)


def test_number_of_outputs():
    ours, _ = make_pair("seqcls")
    assert ours(*packed(*make_rows(TINY, LENGTHS))).shape == (len(LENGTHS), N_OUTPUTS)
