"""Losses as pure functions: one value per row or token, so that weights and averages are the caller's choice.

Shape legend: N rows, S tokens of a padded row, K classes or targets, V vocabulary, D width of a vector, T packed tokens,
M vectors that belong to no row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from skxlmr.nn.layout import reduce_sequences
from skxlmr.utils._imports.later import F, torch

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
    highest_N2 = reduce_sequences(logits_T2.detach(), "max", lengths_N)
    sequence_T = torch.repeat_interleave(lengths_N, output_size=len(logits_T2))
    shifted_T2 = logits_T2 - highest_N2[sequence_T]
    normaliser_N2 = reduce_sequences(shifted_T2.exp(), "sum", lengths_N).log()
    return (normaliser_N2 - shifted_T2.gather(0, token_N2)) * inside_N2


def next_token_cross_entropy(logits_NSV: Tensor, labels_NS: Tensor, ignored: int = -100) -> Tensor:
    """Cross-entropy of each token of a padded batch, predicted from the one before it, row by row, (M,).

    As in the reference, the labels are the ids themselves: the first of each row is not predicted, and a label of ``ignored``
    has no loss.
    """
    next_NS = labels_NS[:, 1:]
    counts_NS = next_NS != ignored
    return F.cross_entropy(logits_NSV[:, :-1][counts_NS], next_NS[counts_NS], reduction="none")


def response_contrastive(contexts_ND: Tensor, responses_ND: Tensor) -> Tensor:
    """Loss of finding the response to each context among those of the whole batch, (N,).

    As in TOD-BERT: minus the logarithm of the diagonal of softmax(C Rᵀ), rows being contexts, with the dot product as the
    similarity and the other rows' responses as the negatives (Wu et al. 2020, arXiv:2004.06871, section 3.2).
    """
    return _own_among_all(contexts_ND @ responses_ND.T)


def multiple_negatives_ranking(
    anchors_ND: Tensor,
    positives_ND: Tensor,
    negatives_MD: Tensor | None = None,
    *,
    scale: float = 20.0,
    symmetric: bool = True,
) -> Tensor:
    """Loss of finding the positive of each anchor among all vectors of the batch, (N,).

    The similarity is the cosine times the scale; the other rows' positives are the negatives (Henderson et al. 2017,
    arXiv:1705.00652). ``negatives_MD`` holds further ones, for all rows: any number of hard negatives, in any order. With
    ``symmetric`` the value is the mean with that of finding the anchor of each positive among all anchors, as it is trained
    for translations (Feng et al. 2022, arXiv:2007.01852); negatives have no anchor.

    A value depends on all rows, and on the other rows whatever their weights are.
    """
    anchors_ND, positives_ND = F.normalize(anchors_ND, dim=1), F.normalize(positives_ND, dim=1)
    similarity_NN = anchors_ND @ positives_ND.T * scale
    found_among = similarity_NN
    if negatives_MD is not None:
        found_among = torch.cat([similarity_NN, anchors_ND @ F.normalize(negatives_MD, dim=1).T * scale], 1)
    forth_N = _own_among_all(found_among)
    return (forth_N + _own_among_all(similarity_NN.T)) / 2 if symmetric else forth_N


def supervised_contrastive(vectors_ND: Tensor, label_N: Tensor, temperature: float = 0.07) -> Tensor:
    """Loss of finding the other rows of the same label among all other rows of the batch, (N,).

    The similarity is the cosine divided by the temperature; a row's value is the mean over those with its label (Khosla et
    al. 2020, arXiv:2004.11362, the loss "out"). A row that is alone with its label has the loss 0; the others tell it apart.
    """
    vectors_ND = F.normalize(vectors_ND, dim=1)
    itself_NN = torch.eye(len(label_N), dtype=torch.bool, device=label_N.device)
    similarity_NN = vectors_ND @ vectors_ND.T / temperature
    similarity_NN = similarity_NN.masked_fill(itself_NN, torch.finfo(similarity_NN.dtype).min)
    log_share_NN = similarity_NN - similarity_NN.logsumexp(1, keepdim=True)
    partner_NN = (label_N[:, None] == label_N) & ~itself_NN
    return -torch.where(partner_NN, log_share_NN, 0).sum(1) / partner_NN.sum(1).clamp(min=1)


def cosent(
    vectors_a_ND: Tensor, vectors_b_ND: Tensor, score_N: Tensor, scale: float = 20.0, weight_N: Tensor | None = None
) -> Tensor:
    """Loss of the order of the pairs' cosines, if it is to be that of their scores, (N,).

    It is log(1 + sum over all pairs of rows with score_i < score_j of exp(scale (cos_i - cos_j))), one value for the whole
    batch (CoSENT, Huang et al. 2024, doi:10.1109/TASLP.2024.3402087). Each row has this value, so that any weighted mean over
    the rows is the value again. Weights therefore count inside it: a row of weight w is w equal rows.
    """
    cosine_N = F.cosine_similarity(vectors_a_ND, vectors_b_ND) * scale
    excess_NN = cosine_N[:, None] - cosine_N
    if weight_N is not None:
        log_N = weight_N.to(cosine_N).log()
        excess_NN = excess_NN + log_N[:, None] + log_N
    excess_NN = excess_NN.masked_fill(score_N[:, None] >= score_N, -torch.inf)
    return torch.cat([excess_NN.new_zeros(1), excess_NN.flatten()]).logsumexp(0).expand(len(score_N))


def cosine_squared_error(vectors_a_ND: Tensor, vectors_b_ND: Tensor, score_N: Tensor) -> Tensor:
    """Squared difference of each pair's cosine and its score, (N,).

    The score is within the range of a cosine: for two texts of one class 1, of two classes 0.
    """
    return (F.cosine_similarity(vectors_a_ND, vectors_b_ND) - score_N.to(vectors_a_ND)).square()


def distillation(vectors_ND: Tensor, teacher_ND: Tensor) -> Tensor:
    """Squared difference of each row's vector and its teacher's, averaged over the features, (N,).

    For texts and their translations, the teacher's vector of the text is the target of both (Reimers & Gurevych 2020,
    arXiv:2004.09813).
    """
    return squared_error(vectors_ND, teacher_ND.to(vectors_ND))


def matryoshka(
    loss: Callable[[Tensor], Tensor], vectors: Tensor, dims: Sequence[int], weights: Sequence[float] | None = None
) -> Tensor:
    """Weighted sum of a loss over vectors of several widths, (N,) as the loss (Kusupati et al. 2022, arXiv:2205.13147).

    The loss is called with the first features of the vectors (..., D), scaled to unit length, for each width. If it compares
    them with other vectors, those are for the loss to shorten: it sees the width.
    """
    total: Tensor | None = None
    for width, weight in zip(dims, [1.0] * len(dims) if weights is None else weights, strict=True):
        if not 0 < width <= vectors.shape[-1]:
            raise ValueError(f"vectors of {vectors.shape[-1]} features have no first {width}")
        value = weight * loss(F.normalize(vectors[..., :width], dim=-1))
        total = value if total is None else total + value
    if total is None:
        raise ValueError("dims is empty: there is no width to compute the loss of")
    return total


def _own_among_all(similarity_NX: Tensor) -> Tensor:
    """Cross-entropy of each row's own column among all, (N,); there may be more columns than rows."""
    own_N = torch.arange(len(similarity_NX), device=similarity_NX.device)
    return cross_entropy(similarity_NX, own_N)
