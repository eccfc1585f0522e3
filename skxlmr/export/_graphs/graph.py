"""A graph in the making: nodes, small constants, and weights that are read only when the file is written."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

Pieces = Callable[[], Iterator[np.ndarray]]


@dataclass(frozen=True)
class Weight:
    """An initializer whose content is made when it is written.

    Attributes
    ----------
    name : str
    shape : tuple of int
    dtype : numpy.dtype
    pieces : function
        Its content, in arrays that follow one another.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    pieces: Pieces

    @property
    def n_bytes(self) -> int:
        """Bytes of its content."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize


class Graph:
    """Nodes in the order in which they run.

    Every method that adds a node returns the name of its output, which is how nodes refer to each other.

    Parameters
    ----------
    opset : int
        Version of the standard operators.
    """

    def __init__(self, opset: int):
        self.opset = opset
        self.nodes: list[Any] = []
        self.constants: dict[str, np.ndarray] = {}
        self.weights: dict[str, Weight] = {}
        self.inputs: dict[str, tuple[Any, ...]] = {}
        self.outputs: dict[str, tuple[Any, ...]] = {}
        self.types: dict[str, np.dtype[Any]] = {}  # of the outputs
        self._scopes: list[str] = []
        self._counts: dict[str, int] = {}

    @contextmanager
    def scope(self, *names: str) -> Iterator[None]:
        """Around the nodes of a part: their names begin with its name."""
        self._scopes += names
        try:
            yield
        finally:
            del self._scopes[len(self._scopes) - len(names) :]

    def node(self, kind: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        """Add a node with one output."""
        return self._add(kind, inputs, attributes, [output])[0]

    def pair(self, kind: str, *inputs: str, **attributes: Any) -> list[str]:
        """Add a node with two outputs."""
        return self._add(kind, inputs, attributes, [None, None])

    def _add(
        self, kind: str, inputs: Sequence[str], attributes: dict[str, Any], outputs: Sequence[str | None]
    ) -> list[str]:
        from onnx import helper

        stem = "/" + "/".join([*self._scopes, kind])
        self._counts[stem] = count = self._counts.get(stem, 0) + 1
        name = stem if count == 1 else f"{stem}_{count - 1}"
        made = [output or f"{name}_output{i or ''}" for i, output in enumerate(outputs)]
        self.nodes.append(helper.make_node(kind, list(inputs), made, name, **attributes))
        return made

    def constant(self, value: Any, dtype: Any = np.float32) -> str:
        """A small constant; equal ones are one."""
        array = np.asarray(value, dtype)
        name = f"constant_{array.dtype}_{'x'.join(map(str, array.shape))}_{array.tobytes().hex()}"
        self.constants[name] = array
        return name

    def weight(self, name: str, shape: Sequence[int], dtype: Any, pieces: Pieces) -> str:
        """An initializer, to be read when the file is written; one name is one weight.

        Raises
        ------
        ValueError
            If it was added with another shape or type.
        """
        weight = Weight(name, tuple(shape), np.dtype(dtype), pieces)
        known = self.weights.setdefault(name, weight)
        if (known.shape, known.dtype) != (weight.shape, weight.dtype):
            raise ValueError(
                f"{name} is {known.dtype} of shape {known.shape}, and {weight.dtype} of shape {weight.shape}"
            )
        return name

    def input(self, name: str, shape: Sequence[int | str]) -> str:
        """An input of whole numbers."""
        self.inputs[name] = tuple(shape)
        return name

    def output(self, name: str, value: str, shape: Sequence[int | str], dtype: Any = np.float32) -> None:
        """Make a value of this type an output of the graph."""
        with self.unscoped():
            self.node("Identity", value, output=name)
        self.outputs[name] = tuple(shape)
        self.types[name] = np.dtype(dtype)

    @contextmanager
    def unscoped(self) -> Iterator[None]:
        """Around nodes that belong to the whole graph."""
        scopes, self._scopes = self._scopes, []
        try:
            yield
        finally:
            self._scopes = scopes

    # Operators whose inputs depend on the version -------------------------------------------------------------------

    def cast(self, x: str, to: Any) -> str:
        """Change the type."""
        from onnx import helper

        return self.node("Cast", x, to=helper.np_dtype_to_tensor_dtype(np.dtype(to)))

    def axes(self, kind: str, x: str, *axes: int, **attributes: Any) -> str:
        """An operator along axes; those of ReduceMax and ReduceMin were an attribute up to version 17."""
        if kind in ("ReduceMax", "ReduceMin") and self.opset < 18:
            return self.node(kind, x, axes=list(axes), **attributes)
        return self.node(kind, x, self.constant(axes, np.int64), **attributes)

    def halves(self, x: str, axis: int) -> list[str]:
        """The two halves of a value."""
        return self.pair("Split", x, axis=axis, **({} if self.opset < 18 else {"num_outputs": 2}))

    def size(self, x: str, axis: int) -> str:
        """Length of an axis, a scalar."""
        return self.node("Gather", self.node("Shape", x), self.constant(axis, np.int64), axis=0)
