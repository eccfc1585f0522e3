"""Outputs of single tokens: their weights as words, and their vectors."""

import torch
from torch import nn

from skxlmr.nn import FAMILIES, TokenLayout, config_of
from skxlmr.nn.sentence.pooling import lexical_weights, token_vectors
from tests.nn.geometry import SMALLEST


def setting(n_outputs):
    torch.manual_seed(0)
    config = config_of(SMALLEST["xlm-roberta"])
    encoder = FAMILIES["xlm-roberta"].modules["Model"](config).double().eval().backbone
    layer = nn.Linear(config.hidden_size, n_outputs).double()
    return encoder, layer, torch.tensor([0, 5, 6, 2, 0, 7, 2]), TokenLayout([4, 3])


def test_a_weight_below_zero_is_none():
    encoder, layer, ids, layout = setting(1)
    raw_T = layer(encoder(ids, layout).last_hidden_state)[:, 0]
    layer.bias.data -= raw_T.detach().median()  # one half of the tokens has a weight
    weights_T = lexical_weights(encoder, layer, ids, layout)
    expected_T = [max(value, 0.0) for value in layer(encoder(ids, layout).last_hidden_state)[:, 0].tolist()]
    assert 0 < sum(value > 0 for value in expected_T) < len(expected_T)
    torch.testing.assert_close(weights_T, torch.tensor(expected_T, dtype=torch.float64), rtol=0, atol=1e-12)


def test_vectors_of_tokens_have_unit_length_and_the_direction_of_the_layer():
    encoder, layer, ids, layout = setting(3)
    vectors_TE = token_vectors(encoder, layer, ids, layout)
    raw_TE = layer(encoder(ids, layout).last_hidden_state)
    torch.testing.assert_close(vectors_TE * raw_TE.norm(dim=1, keepdim=True), raw_TE, rtol=0, atol=1e-12)
    torch.testing.assert_close(vectors_TE.norm(dim=1), torch.ones(7, dtype=torch.float64), rtol=0, atol=1e-12)
