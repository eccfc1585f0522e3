"""SetFit's loss and its pairs, written again: it is no requirement of the tests.

The loss is from the paper. Both were compared once with setfit 1.2.0: value and gradients of the loss are those of
``setfit.losses.SupConLoss`` within 1e-12 in float64, and the pairs are those of ``setfit.sampler.ContrastiveDataset``.
"""

import numpy as np
import torch


def supcon_of_setfit(model, temperature=0.07):
    """Mean of L_out (Khosla et al. 2020, equation 2), term by term."""

    def loss(features, labels):
        z = model(features[0])["sentence_embedding"]
        z = z / z.norm(dim=1, keepdim=True)
        values = []
        for i in range(len(z)):
            others = [a for a in range(len(z)) if a != i]
            normaliser = sum((z[i] @ z[a] / temperature).exp() for a in others)
            partners = [p for p in others if labels[p] == labels[i]]
            values.append(
                -sum(((z[i] @ z[p] / temperature).exp() / normaliser).log() for p in partners) / len(partners)
            )
        return torch.stack(values).mean()

    return loss


def pairs_of_setfit(labels):
    """Places and labels (1 or 0) of the pairs that SetFit trains on by default ("oversampling").

    All pairs of texts, each also with itself, in an order drawn with the seed 42; those of one class and those of two take
    turns, and the fewer ones begin anew.
    """
    drawn = np.stack(np.triu_indices(len(labels)), 1)
    drawn = drawn[np.random.RandomState(42).permutation(len(drawn))]
    same = [(i, j, 1.0) for i, j in drawn if labels[i] == labels[j]]
    other = [(i, j, 0.0) for i, j in drawn if labels[i] != labels[j]]
    n_each = max(len(same), len(other))
    return [pair for k in range(n_each) for pair in (same[k % len(same)], other[k % len(other)])]
