"""The pickle inside a PyTorch file, read as a description of tensors by an interpreter that runs no code.

The interpreter knows the instructions that make up a dict of tensors, and the meaning of each global name in them. Python's
own unpickler is not involved, and nothing is imported, called or allocated because the file says so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pickletools import genops
from typing import Any, BinaryIO

from skxlmr.utils._imports.later import torch

MOST_OPERATIONS = 1_000_000  # about 35 per tensor; each makes less than 100 bytes of Python objects
DTYPES = {  # names of torch's
    "torch DoubleStorage": "float64",
    "torch FloatStorage": "float32",
    "torch HalfStorage": "float16",
    "torch BFloat16Storage": "bfloat16",
    "torch LongStorage": "int64",
    "torch IntStorage": "int32",
    "torch ShortStorage": "int16",
    "torch CharStorage": "int8",
    "torch ByteStorage": "uint8",
    "torch BoolStorage": "bool",
}
OTHER_TYPES = "torch._utils _rebuild_tensor_v3"  # makes the tensors whose types are newer than these
_VALUES = {"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINSTRING"}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_EMPTY: dict[str, Callable[[], Any]] = {"EMPTY_DICT": dict, "EMPTY_LIST": list}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class Unreadable(ValueError):
    """The file is broken. The message completes a sentence that starts with its name."""


class NeedsCode(Unreadable):
    """The file asks for code to be run. The message is the name of that code."""


class NoStateDict(Unreadable):
    """The file is whole, and holds something else than named tensors."""


class _Name(str):
    """A global name of the pickle, "module name"."""


@dataclass(frozen=True)
class Storage:
    """A run of ``size`` numbers, stored under ``key``."""

    key: str
    dtype: torch.dtype
    size: int


@dataclass(frozen=True)
class Slice:
    """A tensor of ``shape`` in a storage. No two of its numbers share memory, and all are within the storage."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def read_pickle(stream: BinaryIO) -> Any:
    """Read one pickle as dicts, lists, tuples, numbers, strings and slices of storages.

    Parameters
    ----------
    stream : binary file
        Read up to the end of the pickle.

    Returns
    -------
    object
        What the pickle describes.

    Raises
    ------
    Unreadable
        If it is broken, too long, or describes an impossible tensor.
    NeedsCode
        If it asks for anything other than plain tensors.
    """
    try:
        return _run(stream)
    except Unreadable:
        raise
    except (LookupError, TypeError, ValueError) as error:  # from the stack, its values or the stream
        raise Unreadable("has a broken pickle") from error


def _run(stream: BinaryIO) -> Any:
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[int, Any] = {}

    def take(place: int) -> list[Any]:
        items = stack[place:]
        del stack[place:]
        return items

    argument: Any
    for n, (operation, argument, _) in enumerate(genops(stream)):
        if n == MOST_OPERATIONS:
            raise Unreadable(f"has a pickle of more than {MOST_OPERATIONS} instructions")
        name = operation.name
        if name in _VALUES:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in ("BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name == "MARK":
            marks.append(len(stack))
        elif name == "TUPLE":
            stack.append(tuple(take(marks.pop())))
        elif name in _TUPLES:
            stack.append(tuple(take(-_TUPLES[name])))
        elif name in _EMPTY:
            stack.append(_EMPTY[name]())
        elif name in ("SETITEM", "SETITEMS"):
            items = take(-2 if name == "SETITEM" else marks.pop())
            _add(stack[-1], items)
        elif name in ("APPEND", "APPENDS"):
            items = take(-1 if name == "APPEND" else marks.pop())
            _extend(stack[-1], items)
        elif name == "GLOBAL":
            if argument == OTHER_TYPES:
                raise NoStateDict(
                    "holds a tensor of a type that no weight has here, such as float8: save it as float32"
                )
            if argument not in DTYPES and argument not in _CALLS:
                raise NeedsCode(argument.replace(" ", "."))
            stack.append(_Name(argument))
        elif name == "REDUCE":
            arguments, called = stack.pop(), stack.pop()
            if not isinstance(called, _Name) or called not in _CALLS:
                raise NeedsCode("an object of the file")
            stack.append(_CALLS[called](*arguments))
        elif name == "BUILD":  # attributes of the dict, such as the versions of the modules
            stack.pop()
            if not isinstance(stack[-1], dict):
                raise NeedsCode("the state of an object")
        elif name == "BINPERSID":
            stack.append(_storage(*stack.pop()))
        elif name == "STOP":
            return stack.pop()
        elif name != "PROTO":
            raise NeedsCode(f"the instruction {name}")
    raise Unreadable("has a pickle that does not end")


def _add(target: Any, items: list[Any]) -> None:
    if not isinstance(target, dict) or len(items) % 2:
        raise TypeError
    for key, value in zip(items[::2], items[1::2], strict=True):
        if type(key) not in (str, int):  # hashing a nested tuple may take forever
            raise Unreadable(f"names a tensor by a {type(key).__name__}")
        if key in target:
            raise Unreadable(f"holds {key!r:.80} twice")
        target[key] = value


def _extend(target: Any, items: list[Any]) -> None:
    if not isinstance(target, list):
        raise TypeError
    target += items


def _storage(kind: Any, dtype: Any, key: Any, _location: Any, size: Any, view: Any = None) -> Storage:
    # The type first: hashing a tuple of tuples of tuples may take forever, or overflow the stack.
    if kind != "storage" or not isinstance(dtype, _Name) or dtype not in DTYPES or not isinstance(key, str):
        raise NeedsCode("an object other than its tensors")
    if not _are_sizes((size,)) or view is not None:
        raise Unreadable("has a storage without a size")
    return Storage(key, getattr(torch, DTYPES[dtype]), size)


def _tensor(
    storage: Any,
    offset: Any,
    shape: Any,
    strides: Any,
    _requires_grad: Any = None,
    _hooks: Any = None,
    metadata: Any = None,
) -> Slice:
    sizes = isinstance(storage, Storage) and isinstance(shape, tuple) and isinstance(strides, tuple)
    if not sizes or len(shape) != len(strides) or not _are_sizes((offset, *shape, *strides)):
        raise Unreadable("describes an impossible tensor")
    if metadata:
        raise NoStateDict(
            "holds a view of negated or conjugated numbers: save it after resolve_neg() or resolve_conj()"
        )
    reach = 1
    for stride, length in sorted((s, n) for s, n in zip(strides, shape, strict=True) if n > 1):
        if stride < reach:
            what = f"a tensor of shape {shape!s:.80} whose numbers share memory"
            raise NoStateDict(f"holds {what}, as expand() makes them: save it after contiguous()")
        reach = stride * (length - 1) + reach
    if 0 not in shape and offset + reach > storage.size:
        what = f"a tensor of shape {shape!s:.80} that is larger than its storage of {storage.size} numbers"
        raise Unreadable(f"describes {what}")
    return Slice(storage, offset, shape, strides)


def _parameter(tensor: Any, _requires_grad: Any, _hooks: Any) -> Any:
    return tensor


def _are_sizes(numbers: tuple[Any, ...]) -> bool:
    return len(numbers) < 64 and all(type(number) is int and 0 <= number < 2**60 for number in numbers)


_CALLS: dict[str, Callable[..., Any]] = {
    "collections OrderedDict": lambda: {},
    "torch._utils _rebuild_tensor_v2": _tensor,
    "torch._utils _rebuild_parameter": _parameter,
}
