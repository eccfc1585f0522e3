"""What a decoder sees as well as its input: keys and values of earlier tokens, and another text.

Shape legend: N sequences, S new tokens, K tokens of another text, C = heads * head size.
"""

from dataclasses import dataclass

from torch import Tensor

from skxlmr.nn.layout import TokenLayout


class LayerCache:
    """Keys and values of one layer, in memory allocated once, for ``capacity`` tokens.

    Attributes
    ----------
    length : int
        Tokens so far.
    source : tuple of two Tensors of shape (N, K, C), or None
        Keys and values of the other text, for cross-attention.
    """

    def __init__(self, capacity: int):
        self.capacity = capacity
        self.length = 0
        self.source: tuple[Tensor, Tensor] | None = None
        self._room: Tensor | None = None  # (2, N, capacity, C)

    def extend(self, k_NSC: Tensor, v_NSC: Tensor) -> tuple[Tensor, Tensor]:
        """Add the keys and values of new tokens; return those of all tokens so far."""
        n_rows, n_new, width = k_NSC.shape
        end = self.length + n_new
        if end > self.capacity:
            raise ValueError(f"a cache for {self.capacity} tokens has no room for {end}")
        if self._room is None:
            self._room = k_NSC.new_empty(2, n_rows, self.capacity, width)
        self._room[0, :, self.length : end] = k_NSC
        self._room[1, :, self.length : end] = v_NSC
        self.length = end
        return self._room[0, :, :end], self._room[1, :, :end]

    def take(self, rows: Tensor) -> None:
        """Keep these rows, in this order; a row may be given more than once."""
        if self._room is not None:
            self._room = self._room[:, rows]
        if self.source is not None:
            k_NKC, v_NKC = self.source
            self.source = k_NKC[rows], v_NKC[rows]


class KeyValueCache:
    """Cache of all layers, for inference only: it is written in place and holds no gradients.

    Parameters
    ----------
    n_layers : int
        Number of layers of the model.
    capacity : int
        Largest number of tokens per sequence, padding included.

    Attributes
    ----------
    layers : list of LayerCache
    """

    def __init__(self, n_layers: int, capacity: int):
        self.layers = [LayerCache(capacity) for _ in range(n_layers)]

    @property
    def length(self) -> int:
        """Number of tokens so far, padding included."""
        return self.layers[0].length

    def take(self, rows: Tensor) -> None:
        """Keep these rows of the batch, (N,), in this order; a row may be given more than once."""
        for layer in self.layers:
            layer.take(rows)


@dataclass(frozen=True)
class DecoderContext:
    """What a layer of a decoder sees as well as its input.

    Attributes
    ----------
    past : LayerCache, or None
        Keys and values of the tokens before the input.
    keys : TokenLayout, or None
        Layout of those tokens together with the input's.
    source_NKD : Tensor, or None
        Vectors of another text, for cross-attention.
    source : TokenLayout, or None
        Their layout.
    """

    past: LayerCache | None
    keys: TokenLayout | None
    source_NKD: Tensor | None
    source: TokenLayout | None
