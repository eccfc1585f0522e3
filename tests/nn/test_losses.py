"""Losses against torch's own and against direct loops."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from skxlmr.nn import losses


def draw(*shape, seed=0, requires_grad=False):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).requires_grad_(
        requires_grad
    )


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1, 0.9])
def test_cross_entropy(label_smoothing):
    logits, target = draw(6, 4, requires_grad=True), torch.tensor([0, 3, 1, 1, 2, 0])
    found = losses.cross_entropy(logits, target, label_smoothing)
    log_probabilities = logits.detach().numpy() - np.logaddexp.reduce(logits.detach().numpy(), axis=1, keepdims=True)
    goals = (1 - label_smoothing) * np.eye(4)[target] + label_smoothing / 4
    np.testing.assert_allclose(found.detach(), -(goals * log_probabilities).sum(1), atol=1e-13)
    expected = F.cross_entropy(logits, target, label_smoothing=label_smoothing)
    assert torch.isclose(found.mean(), expected, rtol=0, atol=1e-13)
    assert torch.autograd.gradcheck(lambda x: losses.cross_entropy(x, target, label_smoothing), logits)


def test_next_token_cross_entropy():
    logits = draw(2, 4, 5, requires_grad=True)
    labels = torch.tensor([[3, 1, -100, 2], [-100, -100, 0, 4]])
    found = losses.next_token_cross_entropy(logits, labels)
    places = [(0, 0, 1), (0, 2, 2), (1, 1, 0), (1, 2, 4)]  # (row, token, next token)
    log_probabilities = logits.log_softmax(2)
    torch.testing.assert_close(found, torch.stack([-log_probabilities[place] for place in places]))
    assert torch.autograd.gradcheck(lambda x: losses.next_token_cross_entropy(x, labels), logits)
    assert losses.next_token_cross_entropy(logits, torch.full_like(labels, -100)).shape == (0,)


@pytest.mark.parametrize("n_targets", [1, 3])
def test_squared_error(n_targets):
    output, target = draw(5, n_targets), draw(5, n_targets, seed=1)
    found = losses.squared_error(output, target)
    assert found.shape == (5,)
    np.testing.assert_allclose(found, ((output - target).numpy() ** 2).mean(1), atol=1e-15)
    assert torch.isclose(found.mean(), F.mse_loss(output, target), rtol=0, atol=1e-15)


def contrastive_in_a_loop(a, b, temperature):
    values = []
    for i in range(len(a)):
        similarities = [[x @ y / np.linalg.norm(x) / np.linalg.norm(y) / temperature for y in b] for x in a]
        forth = -similarities[i][i] + math.log(sum(math.exp(similarities[i][j]) for j in range(len(b))))
        back = -similarities[i][i] + math.log(sum(math.exp(similarities[j][i]) for j in range(len(a))))
        values.append((forth + back) / 2)
    return values


@pytest.mark.parametrize("temperature", [0.05, 1.0])
@pytest.mark.parametrize("n_rows", [1, 2, 5])
def test_contrastive(temperature, n_rows):
    a, b = draw(n_rows, 3), draw(n_rows, 3, seed=1)
    found = losses.contrastive(a, b, temperature)
    np.testing.assert_allclose(found, contrastive_in_a_loop(a.numpy(), b.numpy(), temperature), rtol=1e-12, atol=1e-12)


def test_contrastive_is_low_for_partners_and_the_same_in_both_directions():
    a, b = draw(4, 8), draw(4, 8, seed=1)
    assert losses.contrastive(a, 3 * a).max() < losses.contrastive(a, a.roll(1, 0)).min()
    torch.testing.assert_close(losses.contrastive(a, b), losses.contrastive(b, a), rtol=0, atol=1e-13)


def test_gradient_of_contrastive():
    a, b = draw(4, 3, requires_grad=True), draw(4, 3, seed=1, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, y: losses.contrastive(x, y, 0.5), (a, b))


def response_contrastive_by_the_formula(contexts, responses):
    """-log M_ii with M = softmax(C Rᵀ), each entry written out (Wu et al. 2020, section 3.2)."""
    values = []
    for i, context in enumerate(contexts):
        products = [sum(c * r for c, r in zip(context, row, strict=True)) for row in responses]
        values.append(-math.log(math.exp(products[i]) / sum(math.exp(product) for product in products)))
    return values


@pytest.mark.parametrize("n_rows", [1, 2, 5])
def test_response_contrastive(n_rows):
    contexts, responses = draw(n_rows, 3), draw(n_rows, 3, seed=1)
    found = losses.response_contrastive(contexts, responses)
    expected = response_contrastive_by_the_formula(contexts.tolist(), responses.tolist())
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)
    if n_rows > 1:  # one direction only: contexts look for responses
        assert not torch.allclose(found, losses.response_contrastive(responses, contexts))


def test_gradient_of_response_contrastive():
    contexts, responses = draw(4, 3, requires_grad=True), draw(4, 3, seed=1, requires_grad=True)
    assert torch.autograd.gradcheck(losses.response_contrastive, (contexts, responses))
    assert torch.autograd.gradgradcheck(losses.response_contrastive, (contexts, responses))


def test_response_contrastive_of_no_rows():
    assert losses.response_contrastive(draw(0, 3), draw(0, 3)).shape == (0,)
