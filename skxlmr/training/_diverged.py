"""The error for a loss or a gradient that is not finite."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from skxlmr.utils._imports.later import torch

if TYPE_CHECKING:
    from torch import Tensor

N_NAMED = 10
# of each batch the rows, and their losses, by term
Losses: TypeAlias = "Sequence[tuple[dict[str, np.ndarray], dict[str, Tensor]]]"


class Diverged(FloatingPointError):
    """A loss or a gradient is not finite.

    Parameters
    ----------
    what : str
        "loss" or "gradient".
    rows : ndarray of int
        Numbers of the rows at fault, or of all rows of the step.
    precision : torch.dtype, optional
        Type of mixed precision, if there is any.
    """

    def __init__(self, what: str, rows: np.ndarray, precision: torch.dtype | None = None):
        super().__init__(what, rows, precision)  # all of them, so that it survives pickling between processes
        self.what, self.rows, self.precision = what, rows, precision

    def __str__(self) -> str:
        n_more = len(self.rows) - N_NAMED
        shown = ", ".join(map(str, self.rows[:N_NAMED])) + (f" and {n_more} more" if n_more > 0 else "")
        range_of_half = " (float16 ends at 65504)" if self.precision == torch.float16 else ""
        return (
            f"the {self.what} is not finite at rows {shown} of the training data{range_of_half}: lower learning_rate or raise "
            "warmup_ratio, set max_grad_norm or dtype='float32', and look at those rows and their targets"
        )


def diverged(what: str, losses: Losses, precision: torch.dtype | None = None) -> Diverged:
    """The error for a step over these batches, which names the rows whose losses are not finite, or else all rows."""
    every = [(terms.get(name), rows) for rows_of, terms in losses for name, rows in rows_of.items()]
    at_fault = [rows if values is None else rows[~torch.isfinite(values).cpu().numpy()] for values, rows in every]
    # finite losses may add up to infinity: then no row can be singled out
    named = at_fault if any(map(len, at_fault)) else [rows for _, rows in every]
    return Diverged(what, np.unique(np.concatenate(named)), precision)
