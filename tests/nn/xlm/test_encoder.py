"""The original XLM's encoder against transformers', with each option and in both precisions."""

from dataclasses import replace

import pytest
import torch
import transformers

from skxlmr.nn import TokenLayout, XLMEncoder
from tests.nn.reference import assert_near

from .reference import TINY, TOLERANCE, make_inputs, make_pair, run_theirs

OPTIONS = {
    "plain": {},
    "sinusoidal": {"sinusoidal_embeddings": True},
    "languages": {"n_langs": 3},
    "languages without embeddings": {"n_langs": 3, "use_lang_emb": False},
    "relu": {"gelu_activation": False},
    "causal": {"causal": True},
    "other padding id": {"pad_token_id": 0, "bos_token_id": 3},
    "large eps": {"layer_norm_eps": 1e-2},
}
dtypes = pytest.mark.parametrize("dtype", TOLERANCE, ids=str)


@dtypes
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("side", ["right", "left"])
def test_encoder_is_the_references(options, side, dtype):
    ours, theirs = make_pair(dtype=dtype, **options)
    ids, mask, langs = make_inputs(ours.config, side=side)
    with torch.no_grad():
        found = ours(ids, attention_mask=mask, langs=langs, output_hidden_states=True, output_attentions=True)
        expected = run_theirs(
            theirs, dtype, ids, attention_mask=mask, langs=langs, output_hidden_states=True, output_attentions=True
        )
    # at padding too, where the reference has zeros
    assert len(found.hidden_states) == len(expected.hidden_states) == TINY.n_layers + 1
    for layer, pair in enumerate(zip(found.hidden_states, expected.hidden_states, strict=True)):
        assert_near(*pair, TOLERANCE[dtype], f"hidden state {layer}")
    for layer, pair in enumerate(zip(found.attentions, expected.attentions, strict=True)):
        assert_near(*pair, TOLERANCE[dtype], f"attention {layer}")
    assert (found.last_hidden_state[mask == 0] == 0).all() and found.last_hidden_state[mask == 1].abs().min() > 0


@dtypes
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_packed_rows_are_the_references_rows_one_by_one(options, dtype):
    ours, theirs = make_pair(dtype=dtype, **options)
    ids, mask, langs = make_inputs(ours.config, lengths=(9, 4, 7, 9))
    rows = [(ids[i, : mask[i].sum()], langs[i, : mask[i].sum()]) for i in range(len(ids))]
    layout = TokenLayout([len(row) for row, _ in rows])
    with torch.no_grad():
        packed_ids, packed_langs = (torch.cat(part) for part in zip(*rows, strict=True))
        found = ours(packed_ids, layout, langs=packed_langs).last_hidden_state
        expected = [
            run_theirs(theirs, dtype, row[None], langs=of_row[None]).last_hidden_state[0] for row, of_row in rows
        ]
    assert_near(found, torch.cat(expected), TOLERANCE[dtype], "last hidden state")


def test_without_a_mask_rows_end_with_their_last_id_that_is_not_padding():
    ours, theirs = make_pair()
    ids, _, _ = make_inputs(ours.config)
    with torch.no_grad():
        assert_near(ours(ids).last_hidden_state, theirs(ids).last_hidden_state, 1e-5, "last hidden state")
        given = ours.embeddings(ids)
        found = ours(inputs_embeds=given).last_hidden_state
        assert_near(found, theirs(inputs_embeds=given).last_hidden_state, 1e-5, "last hidden state of embeddings")


def test_languages_and_positions_matter_and_may_be_given():
    ours, theirs = make_pair(n_langs=3)
    ids, mask, langs = make_inputs(ours.config)
    positions = torch.arange(ids.shape[1]).flip(0).expand(ids.shape).contiguous()
    inputs = {"attention_mask": mask, "langs": langs, "position_ids": positions}
    with torch.no_grad():
        found = ours(ids, **inputs).last_hidden_state
        assert_near(found, theirs(ids, **inputs).last_hidden_state, 1e-5, "last hidden state")
        for name in ("langs", "position_ids"):
            less = {other: value for other, value in inputs.items() if other != name}
            without = ours(ids, **less).last_hidden_state
            assert (without - found).abs().max() > 0.1
            assert_near(without, theirs(ids, **less).last_hidden_state, 1e-5, f"without {name}")


def test_default_language_stands_for_one_that_is_given():
    ours, _ = make_pair(n_langs=3)
    ids, mask, _ = make_inputs(ours.config)
    with torch.no_grad():
        expected = ours(ids, attention_mask=mask, langs=torch.full_like(ids, 2)).last_hidden_state
        ours.lang_ids = (2,)
        torch.testing.assert_close(ours(ids, attention_mask=mask).last_hidden_state, expected)
        given = ours(ids, attention_mask=mask, langs=torch.ones_like(ids)).last_hidden_state
    assert (given - expected).abs().max() > 0.1


def test_second_texts_have_their_own_language_and_positions():
    ours, theirs = make_pair(n_langs=3)
    ours.lang_ids = (2, 1)
    layout = TokenLayout([9, 6], second_starts=[5, 2])
    ids = make_inputs(ours.config, (15,))[0][0]
    positions = torch.tensor([0, 1, 2, 3, 4, 0, 1, 2, 3, 0, 1, 0, 1, 2, 3])
    langs = torch.tensor([2] * 5 + [1] * 4 + [2] * 2 + [1] * 4)
    assert layout.positions_T.tolist() == positions.tolist() and layout.longest_text == 5
    with torch.no_grad():
        found = ours(ids, layout).last_hidden_state
        for row in (slice(0, 9), slice(9, 15)):
            inputs = {"langs": langs[None, row], "position_ids": positions[None, row]}
            assert_near(found[row], theirs(ids[None, row], **inputs).last_hidden_state[0], 1e-5, "last hidden state")


def test_two_texts_may_share_the_positions_that_one_may_not():
    ours, _ = make_pair()
    ids = make_inputs(ours.config, (25,))[0][0]
    assert ours(ids, TokenLayout([25], second_starts=[12])).last_hidden_state.shape == (25, 32)
    with pytest.raises(ValueError, match="a text of 25 tokens is longer than the 24 positions"):
        ours(ids, TokenLayout([25]))
    with pytest.raises(ValueError, match="a text of 25 tokens is longer"):
        ours(ids[None])


def test_a_causal_model_never_looks_ahead():
    ours, _ = make_pair(causal=True)
    ids = make_inputs(ours.config, (9,))[0][0]
    changed = ids.clone()
    changed[5] += 1
    with torch.no_grad():
        before, after = (ours(row, TokenLayout([9])).last_hidden_state for row in (ids, changed))
    assert torch.equal(before[:5], after[:5]) and (before[5:] - after[5:]).abs().amax(1).min() > 1e-3


def test_fewer_layers_and_wrong_calls():
    ours, _ = make_pair()
    ids, mask, _ = make_inputs(ours.config)
    with torch.no_grad():
        states = ours(ids, attention_mask=mask, output_hidden_states=True).hidden_states
        torch.testing.assert_close(ours(ids, attention_mask=mask, n_layers=2).last_hidden_state, states[2])
    with pytest.raises(ValueError, match="pass either input_ids or inputs_embeds"):
        ours()
    with pytest.raises(ValueError, match="pass either input_ids or inputs_embeds"):
        ours(ids, inputs_embeds=ours.embeddings(ids))
    with pytest.raises(ValueError, match="attention_mask belongs to padded batches"):
        ours(ids[0], TokenLayout([9]), attention_mask=mask)


def test_sinusoidal_positions_are_the_references_and_fixed():
    ours, theirs = (
        XLMEncoder(replace(TINY, sinusoidal_embeddings=True)),
        transformers.XLMModel(transformers.XLMConfig(**replace(TINY, sinusoidal_embeddings=True).to_dict())),
    )
    expected = theirs.position_embeddings.weight.detach()
    assert_near(ours.position_embeddings.weight, expected, 1e-6, "positions")
    assert "position_embeddings.weight" in ours.state_dict()
    assert "position_embeddings.weight" not in dict(ours.named_parameters())


def test_blocks_hold_every_parameter_once():
    ours, _ = make_pair("lm", n_langs=2)
    blocks = ours.backbone.blocks
    held = [parameter for block in blocks for parameter in block.parameters()]
    assert len(blocks) == TINY.n_layers + 1
    assert len(held) == len(set(held)) and set(held) == set(ours.transformer.parameters())
    assert set(blocks[2].parameters()) >= set(ours.transformer.ffns[1].parameters())
