"""Estimators of this library inside others: found, and put in and out of a pipeline, a search or the like."""

import copy
from collections.abc import Callable, Iterator
from types import FunctionType, ModuleType
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator

from skxlmr.estimators._core.estimator import Estimator


def parts_of(whole: Any) -> list[tuple[str, Estimator]]:
    """Each estimator of this library in an object once, after the names of the steps that lead to it."""
    found: dict[int, tuple[str, Estimator]] = {}

    def look(value: Any, where: str) -> Any:
        if isinstance(value, Estimator):
            found.setdefault(id(value), (where, value))
        return value

    _walk(whole, look, "", {})
    return list(found.values())


def without_parts(whole: Any, instead: dict[int, str]) -> Any:
    """A copy with a string in the place of each estimator, by its id, and without folders for scikit-learn's caches."""
    copied = copy.deepcopy(whole, dict(instead))
    _walk(copied, _without_memory, "", {})
    return copied


def with_parts(whole: Any, parts: dict[str, Estimator]) -> Any:
    """Put estimators in the place of strings, and remove folders in which a later fit would write."""

    def put(value: Any, where: str) -> Any:
        return parts.get(value, value) if type(value) is str else _without_memory(value, where)

    return _walk(whole, put, "", {})


def steps_of(whole: Any) -> Iterator[tuple[str, Any]]:
    """Other estimators in an object, the innermost last, after the names of the steps that lead to them."""
    found: list[tuple[str, Any]] = []

    def look(value: Any, where: str) -> Any:
        if isinstance(value, BaseEstimator):
            found.append((where, value))
        return value

    _walk(whole, look, "", {})
    yield from found


def _without_memory(value: Any, where: str) -> Any:
    if (
        isinstance(value, BaseEstimator)
        and not isinstance(value, Estimator)
        and getattr(value, "memory", None) is not None
    ):
        value.memory = None
    return value


def _walk(value: Any, visit: Callable[[Any, str], Any], where: str, seen: dict[int, Any]) -> Any:
    """The value as ``visit`` changes it, with all that it holds changed in place; tuples are made anew."""
    if id(value) in seen:
        return seen[id(value)][1]
    new = visit(value, where)
    if isinstance(new, Estimator) or isinstance(value, type | str | bytes):
        return new
    if isinstance(value, tuple):
        inner = f"{where}.{value[0]}".lstrip(".") if value and isinstance(value[0], str) else where
        items = [_walk(item, visit, inner, seen) for item in value]
        new = items if all(a is b for a, b in zip(items, value, strict=True)) else None
        new = value if new is not None else type(value)(*items) if hasattr(value, "_fields") else tuple(items)
        seen[id(value)] = value, new
        return new
    seen[id(value)] = value, new  # keeps the value, so that no other gets its id
    if isinstance(value, dict):
        for key, item in list(value.items()):
            value[key] = _walk(item, visit, where, seen)
    elif isinstance(value, list):
        value[:] = [_walk(item, visit, where, seen) for item in value]
    elif isinstance(value, np.ndarray) and value.dtype == object:
        for i, item in np.ndenumerate(value):
            changed = _walk(item, visit, where, seen)
            if changed is not item:
                value[i] = changed
    elif hasattr(value, "__dict__") and not isinstance(value, np.ndarray | ModuleType | FunctionType):
        attributes = vars(value)
        for name, item in list(attributes.items()):
            attributes[name] = _walk(item, visit, where, seen)
    return new
