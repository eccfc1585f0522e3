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


def ranking_in_a_loop(anchors, positives, negatives, scale):
    """Both directions of each row: (N, 2)."""

    def similarity(x, y):
        return scale * (x @ y / np.linalg.norm(x) / np.linalg.norm(y))

    values = []
    for anchor, positive in zip(anchors, positives, strict=True):
        own = similarity(anchor, positive)
        forth = math.log(sum(math.exp(similarity(anchor, other)) for other in [*positives, *negatives]))
        back = math.log(sum(math.exp(similarity(other, positive)) for other in anchors))
        values.append([forth - own, back - own])
    return np.array(values)


@pytest.mark.parametrize("n_negatives", [0, 2, 7])
@pytest.mark.parametrize("scale", [1.0, 20.0])
@pytest.mark.parametrize("n_rows", [1, 2, 5])
def test_multiple_negatives_ranking(scale, n_rows, n_negatives):
    a, b, c = draw(n_rows, 3), draw(n_rows, 3, seed=1), draw(n_negatives, 3, seed=2)
    expected = ranking_in_a_loop(a.numpy(), b.numpy(), c.numpy(), scale)
    for symmetric, values in (True, expected.mean(1)), (False, expected[:, 0]):
        found = losses.multiple_negatives_ranking(a, b, c, scale=scale, symmetric=symmetric)
        np.testing.assert_allclose(found, values, rtol=1e-12, atol=1e-12)
    if not n_negatives:
        assert torch.equal(found, losses.multiple_negatives_ranking(a, b, scale=scale, symmetric=False))


def test_ranking_is_low_for_partners_and_the_same_in_both_directions():
    a, b = draw(4, 8), draw(4, 8, seed=1)
    ranking = losses.multiple_negatives_ranking
    assert ranking(a, 3 * a).max() < ranking(a, a.roll(1, 0)).min()
    torch.testing.assert_close(ranking(a, b), ranking(b, a), rtol=0, atol=1e-13)


def test_gradient_of_multiple_negatives_ranking():
    vectors = [draw(4, 3, seed=seed, requires_grad=True) for seed in range(3)]
    assert torch.autograd.gradcheck(lambda *x: losses.multiple_negatives_ranking(*x, scale=2.0), vectors)


def test_cosent_in_a_loop():
    a, b, score = draw(5, 3), draw(5, 3, seed=1), torch.tensor([0.5, -1.0, 2.0, 0.5, 0.0])
    cosine = [x @ y / x.norm() / y.norm() for x, y in zip(a, b, strict=True)]
    terms = [math.exp(3 * (cosine[i] - cosine[j])) for i in range(5) for j in range(5) if score[i] < score[j]]
    assert len(terms) == 9
    found = losses.cosent(a, b, score, scale=3.0)
    np.testing.assert_allclose(found, [math.log(1 + sum(terms))] * 5, rtol=0, atol=1e-13)
    ordered = losses.cosent(a, b, torch.stack(cosine), scale=100.0)
    assert ordered.max() < 1 < losses.cosent(a, b, -torch.stack(cosine), scale=100.0).min()
    assert losses.cosent(a, b, torch.ones(5)).tolist() == [0.0] * 5  # nothing to order


def test_weights_of_cosent_are_repeated_rows():
    a, b, score = draw(4, 3, requires_grad=True), draw(4, 3, seed=1), torch.tensor([0.5, -1.0, 2.0, 0.0])
    weight = torch.tensor([2, 1, 0, 3])
    found = losses.cosent(a, b, score, weight_N=weight)
    repeated = losses.cosent(*(x.repeat_interleave(weight, 0) for x in (a, b, score)))
    torch.testing.assert_close(found, repeated[:1].expand(4), rtol=0, atol=1e-13)
    gradients = [torch.autograd.grad(value[0], a)[0] for value in (found, repeated)]
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-12)
    assert (found - losses.cosent(a, b, score)).abs().min() > 0.01


def test_a_row_alone_with_its_label():
    """It has no loss of its own, and the others' losses tell them from it."""
    vectors, labels = draw(4, 3, requires_grad=True), torch.tensor([1, 0, 1, 1])
    found = losses.supervised_contrastive(vectors, labels)
    assert found[1] == 0 and (found[[0, 2, 3]] > 0.1).all()
    without = losses.supervised_contrastive(vectors[[0, 2, 3]], labels[[0, 2, 3]])
    assert (without < found[[0, 2, 3]]).all()
    assert torch.autograd.gradcheck(lambda x: losses.supervised_contrastive(x, labels, 0.5), vectors)


def test_matryoshka_is_the_weighted_sum_over_first_features():
    vectors, teacher = draw(3, 2, 6), draw(3, 6, seed=1)

    def loss(x):
        return losses.distillation(x[:, 0], teacher[:, : x.shape[-1]]) + x[:, 1].pow(3).sum(1)

    expected = [2 * loss(F.normalize(vectors[..., :4], dim=2)) + loss(F.normalize(vectors, dim=2))]
    expected += [loss(F.normalize(vectors[..., :4], dim=2)) + loss(F.normalize(vectors, dim=2))]
    found = [losses.matryoshka(loss, vectors, [4, 6], weights) for weights in ([2, 1], None)]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize(
    ("dims", "message"), [([4, 7], "of 6 features have no first 7"), ([0], "no first 0"), ([], "dims is empty")]
)
def test_matryoshka_of_impossible_widths(dims, message):
    with pytest.raises(ValueError, match=message):
        losses.matryoshka(lambda x: x.sum(1), draw(3, 6), dims)


@pytest.mark.parametrize("n_rows", [0, 1, 2])
def test_few_rows_have_finite_losses_and_gradients(n_rows):
    a, b = draw(n_rows, 3, requires_grad=True), draw(n_rows, 3, seed=1)
    label = torch.zeros(n_rows)
    for found in (
        losses.multiple_negatives_ranking(a, b),
        losses.multiple_negatives_ranking(a, b, draw(0, 3)),
        losses.supervised_contrastive(a, label),
        losses.cosent(a, b, label),
        losses.cosent(a, b, torch.arange(n_rows), weight_N=torch.zeros(n_rows)),
        losses.cosine_squared_error(a, b, label),
        losses.distillation(a, b),
    ):
        (gradient,) = torch.autograd.grad(found.sum(), a, allow_unused=True)
        assert found.shape == (n_rows,) and found.isfinite().all()
        assert gradient is None or gradient.isfinite().all()


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
