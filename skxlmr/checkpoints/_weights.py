"""Give the weights of a checkpoint to a module that was built on the meta device, without memory."""

from __future__ import annotations

import os
from collections.abc import Hashable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

from skxlmr.checkpoints._formats.mapped_file import Tensors
from skxlmr.checkpoints._opened.converted import converted, is_converted
from skxlmr.utils._devices.fork import will_compute
from skxlmr.utils._errors import CheckpointError
from skxlmr.utils._imports.later import nn, torch

N_NAMED = 3  # tensors of each kind that an error names
# Most bytes of a tensor that is checked when it is read. Larger ones stay on disk until they are used.
CHEAP, CHEAP_IN_HEAD = 2**20, 2**26


@cache
def _skip_normal() -> Any:
    """The class of a mode in which nothing is drawn from the normal distribution.

    On the meta device there is nothing to draw, yet torch imports its whole compiler for it: 0.8 s, once per process.
    """
    from torch.overrides import TorchFunctionMode

    class SkipNormal(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            kwargs = kwargs or {}
            if func in (nn.init.normal_, torch.Tensor.normal_):
                return args[0] if args else kwargs["tensor"]
            return func(*args, **kwargs)

    return SkipNormal


@contextmanager
def on_meta() -> Iterator[None]:
    """Build modules without memory: parameters made here have shapes but no values. :func:`assign_weights` supplies those.

    Examples
    --------
    >>> from torch import nn
    >>> from skxlmr.checkpoints import on_meta
    >>> with on_meta():
    ...     layer = nn.Linear(3, 2)
    >>> layer.weight.is_meta
    True
    """
    with torch.device("meta"), _skip_normal()():
        yield


def assign_weights(
    module: nn.Module,
    tensors: Tensors,
    *,
    source: str | os.PathLike[str],
    new_parts: Iterable[str] = (),
    head_parts: Iterable[str] = (),
    dtype: torch.dtype | None = None,
    remark: str = "",
    absent_head: str = "",
    files: Hashable = None,
) -> list[str]:
    """Make tensors the parameters and buffers of a module, strictly. Nothing is copied unless its dtype changes.

    Parameters
    ----------
    module : nn.Module
        Built under :func:`on_meta`. Tensors named in its optional attribute ``tied_names`` are ignored; its optional
        method ``tie_weights()`` is called at the end.
    tensors : dict of str to Tensor
        Under the module's names (see :meth:`StoredModel.tensors`).
    source : str or path
        The file or folder they come from, for errors.
    new_parts : iterable of str
        Submodules that may start from scratch, such as ``"classifier"``. A part that is missing, or has another shape, is
        left on the meta device as a whole.
    head_parts : iterable of str
        Submodules that are heads: ``tensors`` may hold them where the module has none.
    dtype : torch.dtype, optional
        Dtype of the floating tensors; by default float32, also for half-precision files.
    remark : str
        End of the message about tensors that do not fit.
    absent_head : str
        What that message advises where the whole head is missing.
    files : hashable, optional
        Tells the files that all the tensors were read from, see :func:`converted`.

    Returns
    -------
    list of str
        Names of the parameters that were left on the meta device, for the caller to initialise.

    Raises
    ------
    CheckpointError
        If a tensor is missing, unexpected, or has another shape or kind of dtype; if a weight is NaN or infinite, as far
        as it is checked here: in heads up to 64 MiB, in other tensors up to 1 MiB, and in all that are converted.
        :func:`check_finite` checks the others too.
    """
    heads = tuple(head_parts)
    tied = set(getattr(module, "tied_names", ()))
    wanted = {name: tensor for name, tensor in module.state_dict(keep_vars=True).items() if name not in tied}
    absent_heads = [part for part in heads if not any(_in(name, part) for name in wanted)]
    given = {name: tensor for name, tensor in tensors.items() if name not in tied and not _in(name, *absent_heads)}

    new: list[str] = []
    for part in new_parts:
        expected = {name: tensor.shape for name, tensor in wanted.items() if _in(name, part)}
        if expected != {name: tensor.shape for name, tensor in given.items() if _in(name, part)}:
            new += expected
            wanted = {name: tensor for name, tensor in wanted.items() if name not in expected}
            given = {name: tensor for name, tensor in given.items() if not _in(name, part)}

    _check(wanted, given, source, heads, remark, absent_head)
    target = torch.float32 if dtype is None else dtype
    will_compute()
    known = is_converted(set(given), target, files)  # and was checked
    check_finite(
        {n: tensor for n, tensor in given.items() if n not in known and _is_cheap(n, tensor, target, heads)}, source
    )
    fitted = converted(given, target, files)
    if new:
        module.to(target)  # parts that start from scratch compute in the same dtype
    _assign(module, fitted)
    if callable(tie_weights := getattr(module, "tie_weights", None)):
        tie_weights()
    return new


def _assign(module: nn.Module, tensors: Tensors) -> None:
    """What ``load_state_dict(assign=True)`` does of tensors that fit, in a third of its time."""
    for path, part in module.named_modules():
        start = f"{path}." if path else ""
        for key, parameter in part._parameters.items():
            if parameter is not None and (tensor := tensors.get(start + key)) is not None:
                part._parameters[key] = nn.Parameter(tensor, parameter.requires_grad)
        for key in part._buffers:
            if start + key in tensors:
                part._buffers[key] = tensors[start + key]


def check_finite(tensors: Mapping[str, torch.Tensor], source: str | os.PathLike[str]) -> None:
    """Check that no weight is NaN or infinite.

    Parameters
    ----------
    tensors : dict of str to Tensor
        All of them are read.
    source : str or path
        The file or folder they come from, for errors.

    Raises
    ------
    CheckpointError
        If one is; names the tensors.
    """
    floating = {name: tensor.detach() for name, tensor in tensors.items() if tensor.is_floating_point()}
    # A sum needs no memory. Finite numbers may sum up to infinity; only then is each one checked.
    sums = torch.tensor([0.0, *(tensor.sum() for tensor in floating.values())], device="cpu", dtype=torch.float64)
    doubtful = [name for name, is_finite in zip(floating, sums.isfinite()[1:].tolist(), strict=True) if not is_finite]
    broken = [name for name in doubtful if not torch.isfinite(floating[name]).all()]
    if broken:
        named = ", ".join(sorted(broken)[:N_NAMED]) + (", ..." if len(broken) > N_NAMED else "")
        raise CheckpointError(source, f"holds weights that are NaN or infinite, in {named}")


def _is_cheap(name: str, tensor: torch.Tensor, target: torch.dtype, heads: tuple[str, ...]) -> bool:
    is_read_anyway = tensor.dtype != target
    # A head may turn an infinite weight into a finite output; the encoder's normalisation makes it NaN, which shows.
    in_head = _in(name, *heads)
    return is_read_anyway or tensor.nbytes <= (CHEAP_IN_HEAD if in_head else CHEAP)


def _check(
    wanted: Tensors,
    given: Tensors,
    source: str | os.PathLike[str],
    heads: tuple[str, ...],
    remark: str,
    absent_head: str,
) -> None:
    missing = [f"{name} {tuple(tensor.shape)}" for name, tensor in wanted.items() if name not in given]
    unexpected = [f"{name} {tuple(tensor.shape)}" for name, tensor in given.items() if name not in wanted]
    if absent_head and missing and wanted.keys() - given.keys() == {name for name in wanted if _in(name, *heads)}:
        remark += f"; {absent_head}"
    misshaped, mistyped = [], []
    for name in wanted.keys() & given.keys():
        expected, found = wanted[name], given[name]
        if expected.shape != found.shape:
            misshaped.append(f"{name} expected {tuple(expected.shape)}, found {tuple(found.shape)}")
        elif expected.is_floating_point() != found.is_floating_point():
            mistyped.append(f"{name} expected {expected.dtype}, found {found.dtype}")
    kinds = {"missing": missing, "unexpected": unexpected, "of another shape": misshaped, "of another dtype": mistyped}
    faults = "; ".join(summary(kind, names) for kind, names in kinds.items() if names)
    if faults:
        raise CheckpointError(source, f"does not fit the model: {faults}{remark}")


def summary(kind: str, names: list[str]) -> str:
    """How many tensors have this fault, and the first of them."""
    named = ", ".join(sorted(names)[:N_NAMED]) + (", ..." if len(names) > N_NAMED else "")
    return f"{len(names)} {'tensor' if len(names) == 1 else 'tensors'} {kind} ({named})"


def _in(name: str, *parts: str) -> bool:
    """Whether a tensor belongs to one of these parts of a module."""
    return any(name.startswith(part) and name[len(part) : len(part) + 1] in ("", ".") for part in parts)
