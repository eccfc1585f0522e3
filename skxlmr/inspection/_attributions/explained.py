"""What is explained: rows as the engine reads them, and how a number of each row is read from its outputs.

Shape legend: V variants of a row (some of its words masked, or a place on the way from the baseline), X its windows, or its
tokens where outputs are per token, K outputs of each, D features, W windows and T tokens of all rows together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np

from skxlmr.inspection._attributions.units import Span
from skxlmr.inspection._attributions.value import Place
from skxlmr.text import EncodedBatch

if TYPE_CHECKING:
    from torch import Tensor

    from skxlmr.nn import TaskModule, TokenLayout


class Reader(Protocol):
    """How a number is read from the outputs of a row's windows or tokens."""

    def values(self, row: int, outputs_VXK: np.ndarray) -> np.ndarray:
        """The number in each variant of the row, (V,) float64."""
        ...

    def slopes(self, row: int, outputs_VXK: np.ndarray) -> np.ndarray:
        """Derivatives of the number with respect to the outputs, (V or 1, X, K)."""
        ...

    def take(self, rows: Sequence[int]) -> Self:
        """The reader of these rows."""
        ...


@dataclass(frozen=True)
class WeightedSum:
    """A sum of some outputs, such as the logit of a class, or the mean of a class's logits over windows.

    Attributes
    ----------
    entries : list of (ndarray, ndarray, ndarray)
        For each row the windows or tokens, counted from its first; the outputs; the weights.
    """

    entries: list[tuple[np.ndarray, np.ndarray, np.ndarray]]

    def values(self, row: int, outputs_VXK: np.ndarray) -> np.ndarray:
        places, columns, weights = self.entries[row]
        summed: np.ndarray = outputs_VXK[:, places, columns].astype(np.float64) @ weights
        return summed

    def slopes(self, row: int, outputs_VXK: np.ndarray) -> np.ndarray:
        places, columns, weights = self.entries[row]
        slopes_1XK = np.zeros((1, *outputs_VXK.shape[1:]))
        np.add.at(slopes_1XK[0], (places, columns), weights)
        return slopes_1XK

    def take(self, rows: Sequence[int]) -> WeightedSum:
        return WeightedSum([self.entries[row] for row in rows])


@dataclass(frozen=True)
class Cosine:
    """The cosine of two vectors, each the mean of the vectors of a text's windows.

    Attributes
    ----------
    weights : list of (ndarray, ndarray)
        For each row the weights of the windows of its first and of its second text, which sum to one.
    n_features : int
        How many of the first features count.
    """

    weights: list[tuple[np.ndarray, np.ndarray]]
    n_features: int

    def _vectors(self, row: int, outputs_VXD: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        first, second = self.weights[row]
        x = outputs_VXD[..., : self.n_features].astype(np.float64)
        return np.einsum("x,vxd->vd", first, x[:, : len(first)]), np.einsum("x,vxd->vd", second, x[:, len(first) :])

    def values(self, row: int, outputs_VXK: np.ndarray) -> np.ndarray:
        u_VD, v_VD = self._vectors(row, outputs_VXK)
        cosines: np.ndarray = (u_VD * v_VD).sum(1) / _norms(u_VD) / _norms(v_VD)
        return cosines

    def slopes(self, row: int, outputs_VXK: np.ndarray) -> np.ndarray:
        u_VD, v_VD = self._vectors(row, outputs_VXK)
        cosine_V1 = self.values(row, outputs_VXK)[:, None]
        u_norm_V1, v_norm_V1 = _norms(u_VD)[:, None], _norms(v_VD)[:, None]
        u_VD, v_VD = u_VD / u_norm_V1, v_VD / v_norm_V1
        of_first_VD, of_second_VD = (v_VD - cosine_V1 * u_VD) / u_norm_V1, (u_VD - cosine_V1 * v_VD) / v_norm_V1
        first, second = self.weights[row]
        slopes = np.zeros(outputs_VXK.shape)
        slopes[..., : self.n_features] = np.concatenate(
            [first[:, None] * of_first_VD[:, None], second[:, None] * of_second_VD[:, None]], axis=1
        )
        return slopes

    def take(self, rows: Sequence[int]) -> Cosine:
        return replace(self, weights=[self.weights[row] for row in rows])


def _norms(x_VD: np.ndarray) -> np.ndarray:
    """Lengths of vectors, (V,); 1 for a vector of zeros, whose cosines are 0."""
    norms = np.linalg.norm(x_VD, axis=1)
    return np.where(norms > 0, norms, 1.0)


@dataclass(frozen=True)
class Explained:
    """Rows, and the number of each that is explained.

    Attributes
    ----------
    texts : list of tuple of str
        The texts of each row.
    names : tuple of str
        What they are.
    targets : list
        What each row's number is about.
    encoded : EncodedBatch
        The windows, those of a row one after another.
    row_W : ndarray of int
        Row of each window.
    text_T : ndarray of int
        Which text of its row each token belongs to; -1 for those that always stay: special tokens and the prompt.
    places_T2 : ndarray of int
        Where each token lies in that text.
    words : list of list of list of (start, end)
        For each row and text where words begin and end.
    n_dropped : ndarray of int
        Tokens that each row lost.
    reader : Reader
    forward : callable
        (module, embeddings of the words (T, D), layout) -> outputs, with a graph.
    run : object
        What the engine runs on ids, see :meth:`skxlmr.inference.Engine.rows`.
    per_token : bool
        Whether there is an output per token.
    marks : list
        The part of a text that each row's number is about, or None.
    """

    texts: list[tuple[str, ...]]
    names: tuple[str, ...]
    targets: list[Any]
    encoded: EncodedBatch
    row_W: np.ndarray
    text_T: np.ndarray
    places_T2: np.ndarray
    words: list[list[list[Span]]]
    n_dropped: np.ndarray
    reader: Reader
    forward: Callable[[TaskModule, Tensor, TokenLayout], Tensor]
    run: Any = None
    per_token: bool = False
    marks: list[Place | None] | None = None

    def __len__(self) -> int:
        return len(self.texts)

    def windows(self, row: int) -> slice:
        """Where the windows of a row are."""
        first, last = np.searchsorted(self.row_W, [row, row + 1]).tolist()
        return slice(first, last)

    def tokens(self, row: int) -> slice:
        """Where the tokens of a row are."""
        windows = self.windows(row)
        return slice(int(self.encoded.starts[windows.start]), int(self.encoded.starts[windows.stop]))

    def parts(self, row: int) -> slice:
        """Where the outputs of a row are: those of its windows, or of its tokens."""
        return self.tokens(row) if self.per_token else self.windows(row)

    @property
    def n_tokens(self) -> list[int]:
        """Tokens of each row, all windows together."""
        return np.bincount(self.row_W, self.encoded.lengths, minlength=len(self)).astype(int).tolist()

    def take(self, rows: Sequence[int]) -> Explained:
        """These rows alone."""
        windows = np.concatenate([np.arange(len(self.row_W))[self.windows(row)] for row in rows])
        tokens = self.encoded.token_places(windows)
        return replace(
            self,
            texts=[self.texts[row] for row in rows],
            targets=[self.targets[row] for row in rows],
            encoded=self.encoded.take(windows),
            row_W=np.repeat(np.arange(len(rows)), [len(range(*self.windows(row).indices(10**9))) for row in rows]),
            text_T=self.text_T[tokens],
            places_T2=self.places_T2[tokens],
            words=[self.words[row] for row in rows],
            n_dropped=self.n_dropped[list(rows)],
            reader=self.reader.take(rows),
            marks=None if self.marks is None else [self.marks[row] for row in rows],
        )

    def copies(self, n: int) -> EncodedBatch:
        """All windows so many times, one copy after the other, without what only texts need."""
        encoded = self.encoded
        lengths, second_starts = np.tile(encoded.lengths, n), encoded.second_starts
        second_starts = None if second_starts is None else np.tile(second_starts, n)
        return EncodedBatch(np.tile(encoded.ids, n), lengths, np.zeros_like(lengths), second_starts=second_starts)
