"""Properties that are computed once, without a lock."""

from collections.abc import Callable
from typing import Any, Generic, TypeVar

Value = TypeVar("Value")


class lazy(Generic[Value]):
    """A property that is computed on first access and then kept on the instance.

    ``functools.cached_property`` of Python 3.11 holds a lock for the whole class while it computes. A child forked by another
    thread at that moment would wait for it forever. Without a lock two threads may compute the same value twice.

    An instance whose attribute ``_core`` is another instance takes that one's value.
    """

    def __init__(self, compute: Callable[[Any], Value]):
        self.compute = compute
        self.__doc__ = compute.__doc__

    def __get__(self, instance: Any, owner: type) -> Value:
        if instance is None:
            return self  # type: ignore[return-value]  # of the class, as documentation tools read it
        name, core = self.compute.__name__, instance.__dict__.get("_core")
        value = instance.__dict__[name] = self.compute(instance) if core is None else getattr(core, name)
        return value
