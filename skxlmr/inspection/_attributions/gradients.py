"""Contributions by gradients with respect to the embeddings of the words.

Shape legend: P points between the baseline and the text, W windows, T tokens of all rows together, D width of the embeddings.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from skxlmr.inspection._attributions.explained import Explained
from skxlmr.utils._imports.later import torch

if TYPE_CHECKING:
    from torch import Tensor

    from skxlmr.nn import TaskModule, TokenLayout


def integrated_gradients(
    engine: Any, explained: Explained, mask_id: int, n_steps: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Integrals of the gradients on the straight way from masked words to the text (Sundararajan et al. 2017).

    The points and weights are those of Gauss and Legendre.

    Returns
    -------
    contributions_T, prediction_N, baseline_N : ndarray of float64
    """
    points, weights = np.polynomial.legendre.leggauss(n_steps)
    return _contributions(engine, explained, mask_id, (points + 1) / 2, weights / 2)


def gradient_x_input(engine: Any, explained: Explained, mask_id: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Product of the gradient with what the embeddings differ by from those of the mask token: one step of the integral.

    See :func:`integrated_gradients` for what is returned.
    """
    return _contributions(engine, explained, mask_id, np.ones(1), np.ones(1))


def _contributions(
    engine: Any,
    explained: Explained,
    mask_id: int,
    points: np.ndarray,
    weights: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    ends = _outputs(engine, explained, mask_id, np.array([0.0, 1.0]))
    numbers = [explained.reader.values(row, ends[:, explained.parts(row)]) for row in range(len(explained))]
    # a number that is not a sum of outputs has other derivatives at each point
    is_sum = len(explained.reader.slopes(0, ends[:, explained.parts(0)])) == 1
    outputs = ends if is_sum else _outputs(engine, explained, mask_id, points)
    each = [explained.reader.slopes(row, outputs[:, explained.parts(row)]) for row in range(len(explained))]
    slopes = np.concatenate(each, axis=1).astype(np.float32)

    def run(module: TaskModule, rows: np.ndarray, ids: Tensor, layout: TokenLayout) -> Tensor:
        x, baseline, points_T = _ends(module, explained, mask_id, points, rows, ids)
        way = x - baseline
        z = (baseline + points_T[:, None] * way).requires_grad_()
        output = explained.forward(module, z, layout)
        n_windows = len(explained.row_W)
        windows, copy = rows % n_windows, np.zeros_like(rows) if is_sum else rows // n_windows
        if explained.per_token:
            lengths = explained.encoded.lengths[windows]
            windows, copy = explained.encoded.token_places(windows), np.repeat(copy, lengths)
        slope = torch.from_numpy(slopes[copy, windows]).to(output).reshape(output.shape)
        (gradient,) = torch.autograd.grad(output, z, slope)
        return (gradient * way).sum(1)

    n_points = len(points)
    at_points = engine.with_graph(explained.copies(n_points), run, per_token=True).reshape(n_points, -1)
    contributions_T: np.ndarray = weights @ at_points.astype(np.float64)
    baseline_N, prediction_N = np.stack(numbers, axis=1)
    return contributions_T, prediction_N, baseline_N


def _outputs(engine: Any, explained: Explained, mask_id: int, points: np.ndarray) -> np.ndarray:
    """Outputs at each point, (P, W or T, K)."""

    def run(module: TaskModule, rows: np.ndarray, ids: Tensor, layout: TokenLayout) -> Tensor:
        with torch.no_grad():
            x, baseline, points_T = _ends(module, explained, mask_id, points, rows, ids)
            return explained.forward(module, baseline + points_T[:, None] * (x - baseline), layout)

    made = engine.with_graph(explained.copies(len(points)), run, explained.per_token)
    n_each = len(made) // len(points)
    outputs: np.ndarray = made.reshape(len(points), n_each, -1)
    return outputs


def _ends(
    module: TaskModule, explained: Explained, mask_id: int, points: np.ndarray, rows: np.ndarray, ids: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Embeddings of the words of some rows and of their baseline, (T, D), and the point of each token, (T,)."""
    encoded, n_windows = explained.encoded, len(explained.row_W)
    windows = rows % n_windows
    is_text = torch.from_numpy(explained.text_T[encoded.token_places(windows)] >= 0).to(ids.device)
    with torch.no_grad():
        words = module.backbone.get_input_embeddings()
        x = words(ids)
        baseline = words(torch.where(is_text, mask_id, ids))
    points_T = np.repeat(points[rows // n_windows], encoded.lengths[windows])
    return x, baseline, torch.from_numpy(points_T).to(x)
