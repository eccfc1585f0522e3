"""Losses as pure functions: one value a row (or token), so that weights and averages are the caller's choice.

Shape legend: N rows, K classes or targets, D width of a vector.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def cross_entropy(logits_NK: Tensor, target_N: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Cross-entropy of each row, (N,).

    Label smoothing mixes the target with the uniform distribution (Szegedy et al. 2016).
    """
    return F.cross_entropy(logits_NK, target_N, reduction="none", label_smoothing=label_smoothing)


def squared_error(output_NK: Tensor, target_NK: Tensor) -> Tensor:
    """Squared error of each row, averaged over its targets, (N,)."""
    return (output_NK - target_NK).square().mean(1)


def contrastive(vectors_a_ND: Tensor, vectors_b_ND: Tensor, temperature: float = 0.05) -> Tensor:
    """Loss of finding each row's partner among the partners of the whole batch, in both directions, (N,).

    The similarity is the cosine divided by the temperature; the other rows are the negatives (Henderson et al. 2017;
    for translations: Feng et al. 2022, arXiv:2007.01852).
    """
    similarity_NN = F.normalize(vectors_a_ND, dim=1) @ F.normalize(vectors_b_ND, dim=1).T / temperature
    target_N = torch.arange(len(similarity_NN), device=similarity_NN.device)
    forth_N = F.cross_entropy(similarity_NN, target_N, reduction="none")
    back_N = F.cross_entropy(similarity_NN.T, target_N, reduction="none")
    return (forth_N + back_N) / 2
