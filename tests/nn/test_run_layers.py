"""The one layer loop: a part of it equals the same part of a full run, for every family, packed and padded."""

import traceback
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import skxlmr
from skxlmr.nn import TokenLayout, XLMRobertaEncoder, attention
from tests.nn.bert import reference as bert
from tests.nn.reference import TINY, make_ours, make_reference, make_rows, packed
from tests.nn.xlm import reference as xlm
from tests.nn.xlm_roberta_xl.test_parity import XL

LENGTHS = [11, 4, 8, 11, 2]
WHOLE = {"output_hidden_states": True}


def make_encoder(family):
    if family.startswith("XLM-R"):
        config = TINY if family == "XLM-R" else XL
        return make_ours("base", config, make_reference("base", config))
    if family.endswith("BERT"):
        return bert.make_pair(family.lower(), "base")[0].backbone
    return xlm.make_pair(n_langs=2, causal=family == "causal XLM")[0]


def run(encoder, form, **options):
    """Encode rows; ``form`` is the side of the padding, or ``packed``."""
    ids, mask = make_rows(replace(TINY, vocab_size=80), LENGTHS, "right" if form == "packed" else form)
    if form == "packed":
        return encoder(*packed(ids, mask), **options)
    return encoder(ids, attention_mask=mask, **options)


families = pytest.mark.parametrize("family", ["XLM-R", "XLM-R XL", "BERT", "DistilBERT", "XLM", "causal XLM"])
forms = pytest.mark.parametrize("form", ["packed", "right", "left"])


def assert_same(found, expected):
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.equal(ours, theirs)


@families
@forms
def test_from_the_output_of_a_layer(family, form):
    encoder, with_weights = make_encoder(family), {"output_attentions": form != "packed"}
    with torch.no_grad():
        whole = run(encoder, form, **WHOLE, **with_weights)
        n = len(whole.hidden_states) - 1
        for first in range(n + 1):
            tail = encoder.run_layers(whole.hidden_states[first], whole.layout, first, **WHOLE, **with_weights)
            assert_same(tail.hidden_states, whole.hidden_states[first:])
            assert torch.equal(tail.last_hidden_state, whole.last_hidden_state)
            assert tail.layout is whole.layout
            if family.startswith("XLM-R"):
                assert torch.equal(tail.pooler_output, whole.pooler_output)
            if form != "packed":
                assert_same(tail.attentions, whole.attentions[first:])
            for last in range(first, n + 1):
                part = encoder.run_layers(
                    whole.hidden_states[first], whole.layout, first, last, **WHOLE, **with_weights
                )
                assert_same(part.hidden_states, whole.hidden_states[first : last + 1])
                unwatched = encoder.run_layers(whole.hidden_states[first], whole.layout, first, last, **WHOLE)
                for ours, theirs in zip(unwatched.hidden_states, part.hidden_states, strict=True):
                    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


@families
@forms
def test_another_layout_of_the_same_lengths_serves_as_well(family, form):
    """A cache keeps vectors and lengths, not layouts."""
    encoder = make_encoder(family)
    with torch.no_grad():
        whole = run(encoder, form, **WHOLE)
        lengths, mask = whole.layout.lengths, whole.layout.mask_NS
        layout = TokenLayout(lengths) if form == "packed" else TokenLayout.padded(mask.shape, mask)
        tail = encoder.run_layers(whole.hidden_states[1], layout, first=1)
    assert torch.equal(tail.last_hidden_state, whole.last_hidden_state)


@families
@forms
@pytest.mark.parametrize("checkpointing", [False, True])
def test_training_the_upper_layers(family, form, checkpointing):
    """With dropout: the same draws, outputs and gradients as in a full run whose lower layers are frozen."""
    encoder = make_encoder(family).train()
    encoder.gradient_checkpointing = checkpointing
    for block in encoder.blocks[:2]:
        block.requires_grad_(False).eval()
    upper = [parameter for parameter in encoder.parameters() if parameter.requires_grad]
    results = []
    torch.manual_seed(5)
    state = torch.get_rng_state()
    with torch.no_grad():
        kept = run(encoder, form, n_layers=1)
    for whole in (True, False):
        torch.set_rng_state(state)
        output = run(encoder, form) if whole else encoder.run_layers(kept.last_hidden_state, kept.layout, first=1)
        gradients = torch.autograd.grad(output.last_hidden_state.sin().sum(), upper, allow_unused=True)
        results.append([output.last_hidden_state, *(gradient for gradient in gradients if gradient is not None)])
    assert_same(*results)
    assert len(results[0]) > len(upper) // 2
    encoder.eval()
    assert not torch.equal(run(encoder, form).last_hidden_state, results[0][0])


def test_further_inputs_go_to_their_layer():
    encoder = make_encoder("XLM-R")
    ids, mask = make_rows(TINY, LENGTHS)
    factors = torch.rand(3, 4, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        whole = encoder(ids, attention_mask=mask, head_mask=factors, **WHOLE)
        inputs = [(factor, None) for factor in factors[1:]]
        tail = encoder.run_layers(whole.hidden_states[1], whole.layout, 1, inputs=inputs)
        assert torch.equal(tail.last_hidden_state, whole.last_hidden_state)
        for wrong in (inputs[:1], inputs * 2):
            with pytest.raises(ValueError, match="zip"):
                encoder.run_layers(whole.hidden_states[1], whole.layout, 1, inputs=wrong)


@pytest.mark.parametrize(
    ("family", "expected"),
    [
        ("XLM-R", ["forward", "run_layers", "forward", "forward", "attend"]),
        ("XLM", ["forward", "run_layers", "_layer", "forward", "attend"]),
    ],
)
def test_frames_from_the_encoder_to_the_kernel(family, expected, monkeypatch):
    """Encoder, loop, layer, attention, kernel: nothing of ours in between."""
    root, stacks = str(Path(skxlmr.__file__).parent), []
    kernel = attention._attend_groups

    def watched(*args):
        stacks.append([frame.name for frame in traceback.extract_stack() if frame.filename.startswith(root)])
        return kernel(*args)

    monkeypatch.setattr(attention, "_attend_groups", watched)
    with torch.no_grad():
        run(make_encoder(family), "packed")
    assert stacks == [expected] * 3


def test_without_a_pooler():
    encoder = XLMRobertaEncoder(TINY).eval()
    with torch.no_grad():
        whole = run(encoder, "packed", **WHOLE)
        assert encoder.run_layers(whole.hidden_states[2], whole.layout, 2).pooler_output is None
