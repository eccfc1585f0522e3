"""Losses as pure functions: one value per row or token, so that weights and averages are the caller's choice.

Shape legend: N rows, S tokens of a padded row, K classes or targets, V vocabulary, D width of a vector, T packed tokens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from skxlmr.utils._later import F, torch

if TYPE_CHECKING:
    from torch import Tensor


def cross_entropy(logits_NK: Tensor, target_N: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Cross-entropy of each row, (N,).

    Label smoothing mixes the target with the uniform distribution (Szegedy et al. 2016).
    """
    return F.cross_entropy(logits_NK, target_N, reduction="none", label_smoothing=label_smoothing)


def binary_cross_entropy(
    logits_NK: Tensor, target_NK: Tensor, label_smoothing: float = 0.0, weight_2K: Tensor | None = None
) -> Tensor:
    """Cross-entropy of each row's K yes-or-no labels, averaged over the labels, (N,).

    Label smoothing mixes each label with 0.5. ``weight_2K`` holds the weights of labels that are 0 and of labels that are 1.
    """
    target_NK = target_NK.to(logits_NK)
    smoothed_NK = target_NK + label_smoothing * (0.5 - target_NK)
    loss_NK = F.binary_cross_entropy_with_logits(logits_NK, smoothed_NK, reduction="none")
    if weight_2K is not None:
        no_K, yes_K = weight_2K.to(logits_NK)
        loss_NK = loss_NK * torch.where(target_NK > 0.5, yes_K, no_K)
    return loss_NK.mean(1)


def squared_error(output_NK: Tensor, target_NK: Tensor) -> Tensor:
    """Squared error of each row, averaged over its targets, (N,)."""
    return (output_NK - target_NK).square().mean(1)


def span_cross_entropy(logits_T2: Tensor, lengths_N: Tensor, positions_N2: Tensor) -> Tensor:
    """Cross-entropy of the start and the end of a span among the tokens of each sequence, (N, 2).

    Positions count from the sequence's first token. As in the reference, a position before it means the first token,
    and a position after the last token has no loss: it is 0 here and must be left out of a mean.
    """
    starts_N = lengths_N.cumsum(0) - lengths_N
    positions_N2 = positions_N2.clamp(min=0)
    inside_N2 = positions_N2 < lengths_N[:, None]
    token_N2 = torch.where(inside_N2, positions_N2, 0) + starts_N[:, None]
    highest_N2 = torch.segment_reduce(logits_T2.detach(), "max", lengths=lengths_N, axis=0)
    sequence_T = torch.repeat_interleave(lengths_N, output_size=len(logits_T2))
    shifted_T2 = logits_T2 - highest_N2[sequence_T]
    normaliser_N2 = torch.segment_reduce(shifted_T2.exp(), "sum", lengths=lengths_N, axis=0).log()
    return (normaliser_N2 - shifted_T2.gather(0, token_N2)) * inside_N2


def next_token_cross_entropy(logits_NSV: Tensor, labels_NS: Tensor, ignored: int = -100) -> Tensor:
    """Cross-entropy of each token of a padded batch, predicted from the one before it, row by row, (M,).

    As in the reference, the labels are the ids themselves: the first of each row is not predicted, and a label of ``ignored``
    has no loss.
    """
    next_NS = labels_NS[:, 1:]
    counts_NS = next_NS != ignored
    return F.cross_entropy(logits_NSV[:, :-1][counts_NS], next_NS[counts_NS], reduction="none")


def contrastive(vectors_a_ND: Tensor, vectors_b_ND: Tensor, temperature: float = 0.05) -> Tensor:
    """Loss of finding the partner of each row among those of the whole batch, in both directions, (N,).

    The similarity is the cosine divided by the temperature; the other rows are the negatives (Henderson et al. 2017;
    for translations: Feng et al. 2022, arXiv:2007.01852).
    """
    similarity_NN = F.normalize(vectors_a_ND, dim=1) @ F.normalize(vectors_b_ND, dim=1).T / temperature
    target_N = torch.arange(len(similarity_NN), device=similarity_NN.device)
    forth_N = F.cross_entropy(similarity_NN, target_N, reduction="none")
    back_N = F.cross_entropy(similarity_NN.T, target_N, reduction="none")
    return (forth_N + back_N) / 2


def response_contrastive(contexts_ND: Tensor, responses_ND: Tensor) -> Tensor:
    """Loss of finding the response to each context among those of the whole batch, (N,).

    As in TOD-BERT: minus the logarithm of the diagonal of softmax(C Rᵀ), rows being contexts, with the dot product as the
    similarity and the other rows' responses as the negatives (Wu et al. 2020, arXiv:2004.06871, section 3.2).
    """
    target_N = torch.arange(len(contexts_ND), device=contexts_ND.device)
    return F.cross_entropy(contexts_ND @ responses_ND.T, target_N, reduction="none")
