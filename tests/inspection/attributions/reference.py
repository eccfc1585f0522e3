"""Attributions computed plainly: one text at a time, padded, in float64, from the definitions."""

import copy
import math
from itertools import combinations

import numpy as np
import torch


def logits(module, ids, embeddings, first_of_second=None):
    """Outputs for one row of embeddings (S, D)."""
    inputs = {}
    if first_of_second is not None:
        inputs["token_type_ids"] = (torch.arange(len(ids)) >= first_of_second).long()[None]
    return module(inputs_embeds=embeddings[None], **inputs)


def gradients(estimator, ids, is_text, number, n_steps=32, first_of_second=None):
    """Integrated gradients of each token; and the numbers of the text and of the baseline.

    ``number`` reads a scalar from the outputs of a row.
    """
    module = copy.deepcopy(estimator.module_).double()
    words = module.backbone.get_input_embeddings()
    ids = torch.as_tensor(np.asarray(ids), dtype=torch.long)
    masked = torch.where(torch.as_tensor(is_text), estimator.tokenizer_.mask_token_id, ids)
    x, baseline = words(ids).detach(), words(masked).detach()
    points, weights = np.polynomial.legendre.leggauss(n_steps)
    total = torch.zeros_like(x)
    for point, weight in zip((points + 1) / 2, weights / 2, strict=True):
        z = (baseline + point * (x - baseline)).requires_grad_()
        total += weight * torch.autograd.grad(number(logits(module, ids, z, first_of_second)), z)[0]
    z = x.clone().requires_grad_()
    at_text = torch.autograd.grad(number(logits(module, ids, z, first_of_second)), z)[0]
    ends = [number(logits(module, ids, e, first_of_second)).item() for e in (x, baseline)]
    return ((x - baseline) * total).sum(1).numpy(), ((x - baseline) * at_text).sum(1).numpy(), *ends


def is_part_of(text, token, word):
    """Whether a token belongs to a word; one of white space or of nothing belongs to the word that follows."""
    a, b = token
    if not text[a:b].strip():
        a, b = b, b + 1
    return a < word[1] and b > word[0]


def by_word(attribution, offsets, values):
    """Sums of the values of tokens (of one text, with their offsets) for the words of an attribution."""
    text = attribution.texts[0]
    return [
        sum(value for token, value in zip(offsets, values, strict=True) if is_part_of(text, token, (start, end)))
        for _, start, end in attribution.spans
    ]


def shapley_values(n, value_of):
    """Shapley values of ``n`` players by enumeration; ``value_of`` takes a frozenset of players."""
    values = np.zeros(n)
    for player in range(n):
        others = [other for other in range(n) if other != player]
        for size in range(n):
            weight = math.factorial(size) * math.factorial(n - size - 1) / math.factorial(n)
            for group in combinations(others, size):
                values[player] += weight * (value_of(frozenset({*group, player})) - value_of(frozenset(group)))
    return values
