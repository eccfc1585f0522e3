"""Loss scaling for float16 (Micikevicius et al. 2018, arXiv:1710.03740).

float16 has no numbers below 6e-8, and gradients are often smaller. So the loss is multiplied by a large power of two before
the backward pass, and the gradients, which are float32 there, are divided by it afterwards. The scale looks for the largest
value that fits: a step whose gradients overflow is skipped and halves it, many steps in a row without overflow double it.
The rules and numbers are those of ``torch.amp.GradScaler``. Here the host decides, from the norm of the gradient, which the
step reads anyway: nothing waits for the device a second time.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from skxlmr.utils._imports.later import torch

if TYPE_CHECKING:
    from torch import Tensor

START = 2.0**16
HIGHEST = 2.0**96  # beyond which its inverse is no ordinary float32
STEPS_TO_GROW = 2000
_COUNTS = ("n_good", "n_skipped")


class LossScale:
    """The scale of the loss, and what it depends on.

    Attributes
    ----------
    scale : float
        A power of two, at least 1.
    n_good : int
        Steps since it last changed.
    n_skipped : int
        Steps that were skipped in the whole fit.
    """

    def __init__(self, steps_to_grow: int = STEPS_TO_GROW):
        self.scale, self.n_good, self.n_skipped, self.steps_to_grow = START, 0, 0, steps_to_grow

    def unscale(self, parameters: Iterable[Tensor]) -> None:
        """Divide the gradients by the scale."""
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        torch._foreach_mul_(gradients, 1 / self.scale)

    @property
    def is_lowest(self) -> bool:
        """Whether the loss is not scaled any more: gradients that overflow all the same are not the scale's fault."""
        return self.scale <= 1

    def end_step(self) -> None:
        """Count a step whose gradients are finite."""
        self.n_good += 1
        if self.n_good >= self.steps_to_grow:
            self.scale, self.n_good = min(2 * self.scale, HIGHEST), 0

    def skip_step(self) -> None:
        """Count a step whose gradients are not finite."""
        self.scale, self.n_good, self.n_skipped = max(self.scale / 2, 1.0), 0, self.n_skipped + 1

    def state(self) -> dict[str, float | int]:
        """What a resumed fit needs to know."""
        return {"scale": self.scale, **{name: getattr(self, name) for name in _COUNTS}}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over such a state.

        Raises
        ------
        KeyError, TypeError, ValueError
            If it is none.
        """
        scale, counts = state["scale"], {name: state[name] for name in _COUNTS}
        if type(scale) is not float or not 1 <= scale <= HIGHEST or math.frexp(scale)[0] != 0.5:
            raise ValueError(f"the scale of the loss is {scale!r:.80}")
        for name, count in counts.items():
            if type(count) is not int or count < 0:
                raise ValueError(f"{name} of the loss scale is {count!r:.80}")
        self.scale = scale
        vars(self).update(counts)
