"""What can be asked of an export: the precision of the weights, and the version of the operators."""

import operator
from typing import Any

PRECISIONS = ("float32", "float16", "int8")
OPSET = 17  # the first with an operator for layer normalisation
NEWEST = 23  # the latest that was tested


def check_precision(precision: Any) -> None:
    """Refuse what is not one of ``PRECISIONS``."""
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r:.80}")


def check_opset(opset: Any) -> int:
    """The version of the standard operators; refuses those that lack an operator, or were not tested."""
    if opset is None:
        return OPSET
    try:
        number = -1 if isinstance(opset, bool) else operator.index(opset)
    except TypeError:
        number = -1
    if not OPSET <= number <= NEWEST:
        raise ValueError(f"opset must be a whole number from {OPSET} to {NEWEST}, or None, got {opset!r:.80}")
    return number
