"""Layout of the sequences of a batch: one after another (packed, the native form) or in a padded rectangle.

Shape legend: T tokens of the whole batch, N sequences, S longest sequence, D hidden size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from skxlmr.utils._imports.later import torch
from skxlmr.utils._lazy import lazy

if TYPE_CHECKING:
    from torch import Tensor

# A rectangle of fewer tokens than this also takes shorter sequences, down to this share of its width.
GROUP_TOKENS = 512
GROUP_FILL = 0.75


@dataclass(frozen=True)
class Group:
    """A rectangle of neighbouring sequences.

    Attributes
    ----------
    tokens : slice of the packed batch
    count, width : int
        Number of sequences, and tokens of the longest.
    mask_NS : Tensor of shape (count, width), or None where all sequences have the same length
        Which places of the rectangle hold a token.
    token_of_place : Tensor of shape (count * width,), or None likewise
        Index of the token at each place, counted from the slice's start; arbitrary where the place is not real.
    place_of_token : Tensor of shape (tokens,), or None likewise
        The inverse: the place of each token.
    """

    tokens: slice
    count: int
    width: int
    mask_NS: Tensor | None = None
    token_of_place: Tensor | None = None
    place_of_token: Tensor | None = None


def widen(x: Tensor) -> Tensor:
    """Return the tensor in float32 or wider, as sums and losses need it."""
    return x if x.dtype == torch.float64 else x.float()


def reduce_sequences(x_TD: Tensor, how: str, lengths_N: Tensor) -> Tensor:
    """Sum, mean or maximum over the tokens of each packed sequence, (N, D), in the order of the tokens."""
    # PyTorch has no such kernel for Apple's GPUs: the CPU, which shares their memory, computes it.
    host_TD = x_TD.cpu() if x_TD.device.type == "mps" else x_TD
    return torch.segment_reduce(host_TD, how, lengths=lengths_N.to(host_TD.device), axis=0).to(x_TD.device)


class TokenLayout:
    """Layout of a batch of token sequences.

    A packed batch is one long row of T tokens and the N lengths of its sequences; a padded batch is an (N, S) rectangle
    with an attention mask. Everything but attention and pooling works token by token and needs no layout.

    Parameters
    ----------
    lengths : sequence of int
        Tokens of each sequence, in the order of the batch; of a padded layout they are not read.
    device : torch.device or str
        Device of the batch.
    mask_NS : Tensor of shape (N, S), optional
        Makes the layout a padded one: true (or 1) where a token may be attended to.
    second_starts : sequence of int, optional
        For packed pairs in which each text counts its own positions: where in each sequence the second text begins.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        device: torch.device | str = "cpu",
        mask_NS: Tensor | None = None,
        second_starts: Sequence[int] | None = None,
    ):
        self._lengths = lengths
        self.device = torch.device(device)
        self.mask_NS = mask_NS
        self.second_starts = None if second_starts is None else list(map(int, second_starts))

    @classmethod
    def padded(
        cls, shape: Sequence[int], mask_NS: Tensor | None = None, device: torch.device | str = "cpu"
    ) -> TokenLayout:
        """Return the layout of an (N, S) rectangle; without a mask every place holds a token."""
        n_sequences, width = shape
        if mask_NS is None:
            mask_NS = torch.ones(n_sequences, width, dtype=torch.bool, device=device)
        elif tuple(mask_NS.shape) != (n_sequences, width):
            raise ValueError(f"attention_mask must have shape {(n_sequences, width)}, got {tuple(mask_NS.shape)}")
        return cls((), mask_NS.device, mask_NS.bool())

    @lazy
    def lengths(self) -> list[int]:
        """Tokens of each sequence, of a padded batch with padding."""
        if self.mask_NS is None:
            return list(map(int, self._lengths))
        n_sequences, width = self.mask_NS.shape
        return [width] * n_sequences

    @property
    def longest(self) -> int:
        """Tokens of the longest sequence, of a padded batch with padding."""
        return max(self.lengths, default=0) if self.mask_NS is None else self.mask_NS.shape[1]

    @property
    def is_padded(self) -> bool:
        """Whether the batch is a padded rectangle."""
        return self.mask_NS is not None

    @lazy
    def real_NS1(self) -> Tensor | None:
        """Which places of a padded batch hold tokens, (N, S, 1); None where all do, and for packed batches."""
        if self.mask_NS is None or (not torch.compiler.is_compiling() and bool(self.mask_NS.all())):
            return None
        return self.mask_NS[..., None]

    @lazy
    def unmasked(self) -> TokenLayout:
        """The same layout with padding counted as tokens."""
        if self.mask_NS is None or self.real_NS1 is None:
            return self
        return TokenLayout((), self.device, torch.ones_like(self.mask_NS))

    def without_first(self, n: int) -> tuple[Tensor, TokenLayout]:
        """Which tokens are left without the first ``n`` of each sequence, (T,), and their layout (packed batches).

        The last token of a sequence always stays.
        """
        n_left = [max(length - n, 1) for length in self.lengths]
        left_N = torch.tensor(n_left, dtype=torch.int64, device="cpu").to(self.device, non_blocking=True)
        return self.places >= self._spread(self.lengths_N - left_N), TokenLayout(n_left, self.device)

    def to(self, device: torch.device) -> TokenLayout:
        """Return the same layout for a batch on another device (packed batches)."""
        return TokenLayout(self.lengths, device, second_starts=self.second_starts)

    @property
    def longest_text(self) -> int:
        """Number of positions that the batch needs."""
        if self.second_starts is None:
            return self.longest
        return max((max(n, length - n) for n, length in zip(self.second_starts, self.lengths, strict=True)), default=0)

    @property
    def n_tokens(self) -> int:
        """Number of token places."""
        return sum(self.lengths)

    @lazy
    def groups(self) -> list[Group]:
        """Neighbouring sequences of the same length, for kernels that need rectangles (packed batches).

        On a GPU, where launching a kernel costs more than padding, all sequences share one.
        """
        return self._groups(0)

    @lazy
    def padded_groups(self) -> list[Group]:
        """The same with fewer rectangles: one of few tokens also takes sequences up to a quarter shorter than its longest.

        Batches sorted by length give the fewest and fullest.
        """
        return self._groups(GROUP_TOKENS)

    def _groups(self, few_tokens: int) -> list[Group]:
        groups, first = [], 0
        while first < len(self.lengths):
            last, low, high = first + 1, self.lengths[first], self.lengths[first]
            n_tokens = low
            while last < len(self.lengths):
                length = self.lengths[last]
                new_low, new_high = min(low, length), max(high, length)
                too_uneven = n_tokens >= few_tokens or new_low < GROUP_FILL * new_high
                if new_low != new_high and too_uneven and self.device.type != "cuda":
                    break
                last, low, high, n_tokens = last + 1, new_low, new_high, n_tokens + length
            groups.append(self._group(first, last, n_tokens, low == high))
            first = last
        return groups

    def _group(self, first: int, last: int, n_tokens: int, uniform: bool) -> Group:
        lengths = torch.tensor(self.lengths[first:last], device="cpu")
        width = max(self.lengths[first:last])
        start = sum(self.lengths[:first])
        tokens = slice(start, start + n_tokens)
        if uniform:
            return Group(tokens, last - first, width)
        places_S = torch.arange(width, device="cpu")
        mask_NS = places_S < lengths[:, None]
        index_NS = ((lengths.cumsum(0) - lengths)[:, None] + places_S).clamp(max=n_tokens - 1)
        parts = mask_NS, index_NS.flatten(), mask_NS.flatten().nonzero()[:, 0]
        return Group(tokens, last - first, width, *(part.to(self.device, non_blocking=True) for part in parts))

    @lazy
    def lengths_N(self) -> Tensor:
        """Lengths as int64, on the device."""
        return torch.tensor(self.lengths, dtype=torch.int64, device="cpu").to(self.device, non_blocking=True)

    @lazy
    def counts_N(self) -> Tensor:
        """Tokens of each sequence without padding, on the device."""
        return self.lengths_N if self.mask_NS is None else self.mask_NS.sum(1)

    @lazy
    def bounds(self) -> Tensor:
        """Cumulative lengths with a leading zero, shape (N + 1,), int32: as variable-length kernels take it."""
        host = torch.zeros(len(self.lengths) + 1, dtype=torch.int32, device="cpu")
        torch.cumsum(torch.tensor(self.lengths, dtype=torch.int32, device="cpu"), 0, dtype=torch.int32, out=host[1:])
        return host.to(self.device, non_blocking=True)

    @lazy
    def positions_T(self) -> Tensor:
        """Position of each token in its sequence, or in its text if ``second_starts`` is given, from 0 (packed batches)."""
        if self.second_T is None:
            return self.places
        return self.places - self._spread(self._second_starts_N) * self.second_T

    @lazy
    def places(self) -> Tensor:
        """Place of each token in its sequence, from 0: (T,), or (N, S) of a padded batch."""
        if self.mask_NS is not None:
            return (self.mask_NS.long().cumsum(1) - 1).clamp(min=0)
        places_T = torch.arange(self.n_tokens, device=self.device)
        return places_T if len(self.lengths) == 1 else places_T - self._spread(self.bounds[:-1].long())

    @lazy
    def second_T(self) -> Tensor | None:
        """Whether each token belongs to a second text; None without ``second_starts``."""
        if self.second_starts is None:
            return None
        starts_N = self.bounds[:-1].long() + self._second_starts_N
        return torch.arange(self.n_tokens, device=self.device) >= self._spread(starts_N)

    @property
    def _second_starts_N(self) -> Tensor:
        return torch.tensor(self.second_starts, dtype=torch.int64, device="cpu").to(self.device, non_blocking=True)

    def _spread(self, x_N: Tensor) -> Tensor:
        """Repeat the value of each sequence for each of its tokens, (T,)."""
        return torch.repeat_interleave(x_N, self.lengths_N, output_size=self.n_tokens)

    def running_sum(self, x_T: Tensor) -> Tensor:
        """Sum of each token and those before it in its sequence, (T,), int64 (packed batches)."""
        before_T = x_T.cumsum(0) - x_T.long()
        return before_T + x_T - self._spread(before_T[self.bounds[:-1].long()])

    def first(self, x: Tensor) -> Tensor:
        """Return the vector of the first token of each sequence, (N, D)."""
        if self.mask_NS is None:
            return x[:1] if len(self.lengths) == 1 else x[self.bounds[:-1].long()]
        return x[:, 0]

    def last(self, x: Tensor) -> Tensor:
        """Return the vector of the last token of each sequence, (N, D)."""
        if self.mask_NS is None:
            return x[self.bounds[1:].long() - 1]
        places_S = torch.arange(x.shape[1], device=x.device)
        return x[torch.arange(len(x), device=x.device), (self.mask_NS * places_S).argmax(1)]

    def mean(self, x: Tensor) -> Tensor:
        """Return the mean over the tokens of each sequence, (N, D), summed in float32 or wider."""
        x = widen(x)
        if self.mask_NS is None:
            return reduce_sequences(x, "mean", self.lengths_N)
        mask_NS1 = self.mask_NS[..., None].to(x.dtype)
        return (x * mask_NS1).sum(1) / mask_NS1.sum(1)

    def max(self, x: Tensor) -> Tensor:
        """Return the maximum over the tokens of each sequence, (N, D)."""
        if self.mask_NS is None:
            return reduce_sequences(widen(x), "max", self.lengths_N)
        return x.masked_fill(~self.mask_NS[..., None], -torch.inf).amax(1)
