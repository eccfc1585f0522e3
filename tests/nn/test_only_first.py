"""Where only first tokens are read, the last layer computes no others, and the same for these."""

from dataclasses import replace

import pytest
import torch

from skxlmr.nn import TokenLayout
from skxlmr.nn.kernels.linear import fast_inference
from skxlmr.nn.sentence.pooling import pool
from tests.nn.reference import TINY, make_ours, make_reference
from tests.nn.test_run_layers import make_encoder
from tests.processors import INT8

LENGTHS = [11, 4, 4, 70, 2, 70, 1]  # with and without the fused kernel of attention
SAVING = {  # the dense layer at the end of each last layer
    "XLM-R": lambda encoder: encoder.encoder.layer[-1].output.dense,
    "BERT": lambda encoder: encoder.encoder.layer[-1].output.dense,
    "DistilBERT": lambda encoder: encoder.transformer.layer[-1].ffn.lin2,
}


def rows(lengths=LENGTHS, seed=0):
    ids = torch.randint(5, 70, (sum(lengths),), generator=torch.Generator().manual_seed(seed))
    return ids, TokenLayout(lengths)


def long_encoder(family):
    if family == "XLM-R":
        config = replace(TINY, max_position_embeddings=80)
        return make_ours("base", config, make_reference("base", config))
    return make_encoder(family)


def lengths_for(encoder):
    longest = min(encoder.config.max_length, 70)
    return [min(length, longest) for length in LENGTHS]


def rows_seen(part, run):
    seen = []
    hook = part.register_forward_hook(lambda _, inputs, output: seen.append(inputs[0].flatten(0, -2).shape[0]))
    try:
        run()
    finally:
        hook.remove()
    return seen


@pytest.mark.parametrize("family", ["XLM-R", "XLM-R XL", "BERT", "DistilBERT", "XLM", "causal XLM"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-6)])
def test_the_same_vectors(family, dtype, tolerance):
    encoder = long_encoder(family).to(dtype).eval()
    ids, layout = rows(lengths_for(encoder))
    for n_layers in (None, 1, 0):
        whole = encoder(ids, layout, n_layers=n_layers)
        with fast_inference():
            found = encoder(ids, layout, n_layers=n_layers, only_first=True)
        torch.testing.assert_close(found.first, layout.first(whole.last_hidden_state), rtol=0, atol=tolerance)
        if whole.pooler_output is not None:
            torch.testing.assert_close(found.pooler_output, whole.pooler_output, rtol=0, atol=tolerance)


@pytest.mark.parametrize("family", SAVING)
def test_the_last_layer_sees_no_others(family):
    encoder = long_encoder(family).eval()
    ids, layout = rows(lengths_for(encoder))
    last, n_tokens, n_rows = SAVING[family](encoder), len(ids), len(LENGTHS)
    n_layers = len(encoder.layers)
    with fast_inference():
        assert rows_seen(last, lambda: encoder(ids, layout, only_first=True)) == [n_rows]
        assert rows_seen(last, lambda: pool(encoder, ids, layout, "cls", [n_layers])) == [n_rows]
        for word in ("mean", ["cls", "mean"]):
            (seen,) = rows_seen(last, lambda word=word: pool(encoder, ids, layout, word, [n_layers]))
            assert seen >= n_tokens
        (seen,) = rows_seen(last, lambda: encoder(ids, layout, only_first=True, output_hidden_states=True))
        assert seen >= n_tokens
        if family != "DistilBERT":  # the second of these pools other tokens
            assert rows_seen(last, lambda: pool(encoder, ids, layout, "cls", [n_layers], 1))[0] >= n_tokens
    of_a_fit = rows(lengths_for(encoder))
    assert rows_seen(last, lambda: encoder(*of_a_fit, only_first=True)) == [n_tokens]


def test_a_decoder_computes_all_tokens():
    config = replace(TINY, is_decoder=True)
    encoder = make_ours("base", config, make_reference("base", config))
    ids, layout = rows([6, 3])
    with fast_inference():
        output = encoder(ids, layout, only_first=True)
    assert not output.only_first
    torch.testing.assert_close(output.first, layout.first(encoder(ids, layout).last_hidden_state))


@pytest.mark.parametrize(
    "in_int8",
    [
        False,
        pytest.param(True, marks=INT8),
    ],
)
def test_neighbours_change_nothing(in_int8):
    encoder = long_encoder("XLM-R").eval()
    ids, layout = rows()
    with fast_inference(in_int8):
        together = encoder(ids, layout, only_first=True).first
        alone = [encoder(part, TokenLayout([len(part)]), only_first=True).first for part in ids.split(LENGTHS)]
        whole = encoder(ids, layout)
    torch.testing.assert_close(torch.cat(alone), together, rtol=0, atol=1e-6)
    torch.testing.assert_close(together, layout.first(whole.last_hidden_state), rtol=0, atol=2e-2 if in_int8 else 2e-6)
