"""The error for a loss or a gradient that is not finite."""

import numpy as np
import torch
from torch import Tensor

from skxlmr.batching import Batch

N_NAMED = 10


class Diverged(FloatingPointError):
    """A loss or a gradient is not finite.

    Parameters
    ----------
    what : str
        Which of them.
    rows : ndarray of int
        Numbers of the rows at fault, or of all rows of the step.
    """

    def __init__(self, what: str, rows: np.ndarray):
        super().__init__(what, rows)  # both arguments, so that the exception survives pickling between processes
        self.what, self.rows = what, rows

    def __str__(self) -> str:
        n_more = len(self.rows) - N_NAMED
        shown = ", ".join(map(str, self.rows[:N_NAMED])) + (f" and {n_more} more" if n_more > 0 else "")
        return (
            f"the {self.what} is not finite at rows {shown} of the training data: lower learning_rate or raise warmup_ratio, "
            "set max_grad_norm or dtype='float32', and look at those rows and their targets"
        )


def diverged(what: str, terms: dict[str, Tensor], *batches: Batch) -> Diverged:
    """The error for a step over these batches; ``terms`` are the losses, where they tell the rows."""
    all_rows = [(name, rows) for batch in batches for name, rows in batch.rows.items()]
    at_fault = [
        rows[~torch.isfinite(terms[name].detach()).cpu().numpy()] if name in terms else rows for name, rows in all_rows
    ]
    # finite losses may add up to infinity: then nobody knows which rows they were
    found = at_fault if sum(map(len, at_fault)) else [rows for _, rows in all_rows]
    return Diverged(what, np.unique(np.concatenate(found)))
