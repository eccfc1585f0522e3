"""How declared parameters, and fitted attributes that several estimators share, read in docstrings."""

import os
from collections.abc import Iterable
from numbers import Integral, Real
from textwrap import fill
from typing import Any

from skxlmr.utils._devices.device import Device
from skxlmr.utils._sklearn import Interval, StrOptions

WIDTH = 120  # of a docstring
_KINDS = {  # what docstrings call a constraint
    Integral: "int",
    Real: "float",
    os.PathLike: "path",
    Device: "torch.device",
    "boolean": "bool",
    "random_state": "int, RandomState instance or None",
    "verbose": "int",
}
_OF_A_FIT = (  # fitted attributes that say how the fit went, in docstrings
    "n_iter_ : int",
    "    Number of epochs.",
    "final_loss_ : float",
    "    Training loss of the epoch whose weights were kept: the last one, with early stopping the best.",
    "collapsed_ : bool",
    "    Whether the fit hardly learnt: it predicts one class only, or its loss did not fall. False also where this is not",
    "    judged: with fewer than 10 steps or 20 rows, after ``partial_fit``, and with ``warm_start`` after an earlier fit.",
    "collapse_reason_ : str or None",
    "    What was found, and what to try; None unless ``collapsed_``.",
    "learning_rate_ : float",
    "    Learning rate of the last fit: ``learning_rate``, or what ``'auto'`` chose.",
)
_OF_VECTORS = (  # fitted attributes that say how the vector of a text is made
    "pooling_ : str or tuple of str",
    "    How token vectors become one: ``pooling``, or what the checkpoint says; several words stand side by side.",
    "normalize_ : bool",
    "    Whether rows are scaled to unit length: ``normalize``, or what the checkpoint says.",
    "prompt_ : str or None",
    "    The text that is put before each text: ``prompt``, or what the checkpoint says.",
    "max_length_ : int",
    "    Most tokens of a row: ``max_length``, or what the checkpoint allows.",
)


def completed(docstring: str, declared: Iterable[Any]) -> str:
    """The docstring of an estimator with its parts in braces filled in."""
    docstring = docstring.replace("{parameters}", "\n\n    ".join(map(_entry, declared)))
    docstring = docstring.replace("{of_a_fit}", "\n    ".join(_OF_A_FIT))
    return docstring.replace("{of_vectors}", "\n    ".join(_OF_VECTORS))


def _entry(declared: Any) -> str:
    """The entry of a parameter in a numpydoc section."""
    kinds = [_kind(each, declared.default) for each in declared.metadata["constraint"]]
    kind = " or ".join(part for part in (", ".join(kinds[:-1]), kinds[-1]) if part)
    text = fill(declared.metadata["text"], WIDTH, initial_indent=" " * 8, subsequent_indent=" " * 8)
    return f"{declared.name} : {kind}, default={declared.default!r}\n{text}"


def _kind(constraint: Any, default: Any) -> str:
    """How the docstring states one constraint."""
    if isinstance(constraint, StrOptions):
        options = sorted(constraint.options, key=lambda option: (option != default, option))
        return repr(options[0]) if len(options) == 1 else f"{{{', '.join(map(repr, options))}}}"
    constraint = constraint.type if isinstance(constraint, Interval) else constraint
    return _KINDS.get(constraint, str(getattr(constraint, "__name__", constraint)))
