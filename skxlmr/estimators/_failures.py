"""What a call of ``fit`` that fails leaves behind."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from skxlmr.utils._sklearn import CALLBACK_ATTRIBUTES


@contextmanager
def consistent(estimator: Any) -> Iterator[None]:
    """Keep what was learnt in one piece where the block fails: no classes of one fit beside the weights of another.

    Before a new module is in place all attributes are put back, so that the model of the fit before goes on to predict.
    Afterwards that one is gone, and the fit leaves none.
    """
    before = dict(vars(estimator))
    try:
        yield
    except BaseException:
        attributes = vars(estimator)
        if attributes.get("module_") is not before.get("module_"):
            del attributes["module_"]
            raise
        for name in (attributes.keys() | before.keys()) - CALLBACK_ATTRIBUTES:
            if name in before:
                attributes[name] = before[name]
            else:
                del attributes[name]
        raise
