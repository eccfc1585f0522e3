"""LoRA (Hu et al. 2021, arXiv:2106.09685): low-rank updates that train beside the frozen weights of linear layers.

Computed as in peft: the outputs of an adapted layer are those of its own weight W, plus ``alpha / rank * B @ A`` times its
inputs. A starts from random values and B from zeros, so that nothing changes before the first step.

A module has adapters only while it trains. Then they are merged: the layer is a plain one again, and its weight is
``W + alpha / rank * B @ A``. What was learnt stays at hand as the module's :class:`LoraWeights`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from skxlmr.nn.kernels import int8
from skxlmr.nn.kernels.linear import ACTIVATIONS, LayerLinear, Linear
from skxlmr.nn.layers import Dropout
from skxlmr.nn.randomness import host_generator

if TYPE_CHECKING:
    from skxlmr.nn.backbone import TaskModule

A, B = ".lora_A.weight", ".lora_B.weight"  # after the name of the adapted module
AUTO = (
    "query",
    "value",
    "q_lin",
    "v_lin",
)  # as in peft: projections to queries and values, under the names of all families
ALL_LINEAR = "all-linear"


@dataclass(frozen=True, eq=False)
class LoraWeights:
    """The adapters that are merged into a module's weights; the attribute ``lora`` of the module.

    A value: no tensor of it ever changes in place, and copies of a module share it.

    Attributes
    ----------
    rank : int
    alpha : float
    dropout : float
        Of the adapters' inputs, in the fit.
    targets : tuple of str
        Ends of the names of the layers, as they were asked for; ``("all-linear",)`` for every one of the encoder.
    tensors : dict of str to Tensor
        ``<module>.lora_A.weight`` (rank, n_inputs) and ``<module>.lora_B.weight`` (n_outputs, rank) of each adapted module, on
        the CPU. Names are those of the module's own parameters.
    whole : tuple of str
        Names of the modules that trained in full: the head, and whatever the checkpoint lacked.
    base : dict of str to Tensor
        ``<module>.weight`` as it was before the merge, where that is known; mapped from a checkpoint it takes no memory. No
        pickle has it.
    """

    rank: int
    alpha: float
    dropout: float
    targets: tuple[str, ...]
    tensors: dict[str, Tensor] = field(repr=False)
    whole: tuple[str, ...] = ()
    base: dict[str, Tensor] = field(default_factory=dict, repr=False)

    @property
    def scaling(self) -> float:
        """Factor of ``B @ A``."""
        return self.alpha / self.rank

    @property
    def modules(self) -> tuple[str, ...]:
        """Names of the adapted modules, in the module's order."""
        return tuple(name.removesuffix(A) for name in self.tensors if name.endswith(A))

    def update(self, name: str, like: Tensor) -> Tensor:
        """What the merge adds to the weight (n_outputs, n_inputs) of an adapted module, of the type and device of ``like``."""
        a, b = (self.tensors[name + end].to(like.device) for end in (A, B))
        return update(a, b, self.scaling).to(like.dtype)

    def __deepcopy__(self, memo: dict[int, Any]) -> LoraWeights:
        return self

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"base": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)


class LoraLinear(LayerLinear):
    """A linear layer with an adapter; its own weight and bias are those of the plain layer.

    Parameters
    ----------
    plain : Linear
        Neither copied nor changed.
    rank, alpha, dropout : as for :class:`LoraWeights`
    """

    def __init__(self, plain: nn.Linear, rank: int, alpha: float, dropout: float):
        nn.Module.__init__(self)
        self.in_features, self.out_features = plain.in_features, plain.out_features
        self.weight, self.bias = plain.weight, plain.bias
        self.scaling = alpha / rank
        self.is_of_layers = isinstance(plain, LayerLinear)  # a pooler's are not
        self.lora_dropout = Dropout(dropout)
        like: dict[str, Any] = {"device": plain.weight.device, "dtype": plain.weight.dtype}
        with torch.device("meta"):  # a layer draws its first values from torch's own generator
            self.lora_A, self.lora_B = Linear(plain.in_features, rank, False), Linear(rank, plain.out_features, False)
        bound = 1 / math.sqrt(plain.in_features)  # Kaiming uniform with a = sqrt(5)
        a = torch.empty(rank, plain.in_features, dtype=torch.float32, device="cpu")
        self.lora_A.weight = nn.Parameter(a.uniform_(-bound, bound, generator=host_generator()).to(**like))
        self.lora_B.weight = nn.Parameter(torch.zeros(plain.out_features, rank, **like))

    def forward(self, x: Tensor, activation: str = "none", residual: Tensor | None = None) -> Tensor:
        """Outputs (..., n_outputs) of inputs (..., n_inputs), through an activation or with a residual added."""
        if self.is_of_layers and int8.computes_in_int8():  # as after the merge, whose weights round in another way
            return plain_layer(self)(x, activation, residual)
        y = super().forward(x) if self.is_of_layers else Linear.forward(self, x)
        y = y + self.lora_B(self.lora_A(self.lora_dropout(x))) * self.scaling
        y = ACTIVATIONS[activation][0](y)
        return y if residual is None else y + residual

    @torch.no_grad()
    def continue_from(self, learnt: LoraWeights, name: str) -> Tensor:
        """Take over adapters that are merged into the present weight, and the weight below them; returns that one."""
        device, merged = self.weight.device, self.weight
        for each in ("lora_A", "lora_B"):
            getattr(self, each).weight = nn.Parameter(learnt.tensors[f"{name}.{each}.weight"].to(device, copy=True))
        base = learnt.base.get(f"{name}.weight")
        below = merged if base is None else base.to(device, merged.dtype)  # a checkpoint's file may hold halves
        self.weight = nn.Parameter(below, requires_grad=False)
        if base is None or not torch.equal(self.merged(), merged):  # not known, or the weight was changed since
            base = merged - update(self.lora_A.weight, self.lora_B.weight, self.scaling)
            self.weight = nn.Parameter(base, requires_grad=False)
        return base

    @torch.no_grad()
    def merged(self) -> Tensor:
        """The weight of the plain layer with the same outputs."""
        return self.weight + update(self.lora_A.weight, self.lora_B.weight, self.scaling)


def update(a: Tensor, b: Tensor, scaling: float) -> Tensor:
    """What an adapter adds to a weight (n_outputs, n_inputs), in the precision of its matrices."""
    with torch.autocast(b.device.type, enabled=False):  # of the caller
        return (b @ a) * scaling


def linear_layers(module: TaskModule) -> dict[str, nn.Linear]:
    """The linear layers of the encoder, by their names in the module."""
    prefix = module.backbone_name + "."
    found = {prefix + name: part for name, part in module.backbone.named_modules() if isinstance(part, nn.Linear)}
    return {name: part for name, part in found.items() if not name.endswith((".lora_A", ".lora_B"))}


def target_layers(module: TaskModule, targets: Sequence[str]) -> dict[str, nn.Linear]:
    """The linear layers of the encoder that adapters are asked for, by their names; ends of names, as peft compares them.

    Raises
    ------
    ValueError
        If one matches nothing; says which names there are.
    """
    layers = linear_layers(module)
    if tuple(targets) == (ALL_LINEAR,):
        return layers
    if tuple(targets) == ("auto",):
        return {name: part for name, part in layers.items() if any(_ends(name, target) for target in AUTO)}
    unknown = [target for target in targets if not any(_ends(name, target) for name in layers)]
    if unknown:
        names = dict.fromkeys(map(_in_layer, layers))
        raise ValueError(
            f"lora_targets has {', '.join(map(repr, unknown))}, and no linear layer of this encoder has a name that ends so: "
            f"they are {', '.join(names)}"
        )
    return {name: part for name, part in layers.items() if any(_ends(name, target) for target in targets)}


def _ends(name: str, target: str) -> bool:
    return name == target or name.endswith("." + target)


def _in_layer(name: str) -> str:
    """The part of a name after the number of the layer."""
    parts = name.split(".")
    numbers = [i for i, part in enumerate(parts) if part.isdigit()]
    return ".".join(parts[numbers[-1] + 1 if numbers else 1 :])


def lora_layers(module: nn.Module) -> dict[str, LoraLinear]:
    """The layers that have an adapter now, by their names."""
    return {name: part for name, part in module.named_modules() if isinstance(part, LoraLinear)}


def plain_layer(layer: LoraLinear) -> nn.Linear:
    """The layer with its adapter merged into the weight; the bias is the same one."""
    kind = LayerLinear if layer.is_of_layers else Linear
    with torch.device("meta"):
        plain = kind(layer.in_features, layer.out_features, layer.bias is not None)
    plain.weight, plain.bias = nn.Parameter(layer.merged()), layer.bias
    return plain
