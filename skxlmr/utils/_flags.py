"""Parameters of functions that are either true or false."""

from typing import Any

import numpy as np


def check_flags(**flags: Any) -> None:
    """Refuse another value than True or False: the name of a precision, say, would count as True.

    Raises
    ------
    TypeError
        Names the parameter.
    """
    for name, value in flags.items():
        if not isinstance(value, bool | np.bool_):
            raise TypeError(f"{name} must be True or False, got {value!r:.80}")
