"""What a failed fit leaves behind."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from skxlmr.utils._sklearn import CALLBACK_ATTRIBUTES


@contextmanager
def all_or_nothing(estimator: Any) -> Iterator[None]:
    """Restore all attributes if the block fails, so that the classes of one fit never meet the weights of another.

    The settings of a fitted encoder, such as the languages of the original XLM, are restored as well. A module that trains in
    place puts its own weights back in a warm start; after a failed ``partial_fit`` it keeps the steps that were taken.
    """
    before = dict(vars(estimator))
    encoder = getattr(before.get("module_"), "backbone", None)  # an ONNX graph has none
    settings = dict(vars(encoder)) if encoder is not None else {}
    try:
        yield
    except BaseException:
        attributes = vars(estimator)
        for name in (attributes.keys() | before.keys()) - CALLBACK_ATTRIBUTES:
            if name in before:
                attributes[name] = before[name]
            else:
                del attributes[name]
        if encoder is not None:
            vars(encoder).update(settings)
        raise
