"""What a call of ``fit`` that fails leaves behind."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from skxlmr.utils._sklearn import CALLBACK_ATTRIBUTES


@contextmanager
def all_or_nothing(estimator: Any) -> Iterator[None]:
    """Put all attributes back if the block fails: no classes of one fit with the weights of another.

    The model of the fit before, if there was one, predicts as it did.
    """
    before = dict(vars(estimator))
    try:
        yield
    except BaseException:
        attributes = vars(estimator)
        for name in (attributes.keys() | before.keys()) - CALLBACK_ATTRIBUTES:
            if name in before:
                attributes[name] = before[name]
            else:
                del attributes[name]
        raise
