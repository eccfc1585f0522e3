"""What a decoder remembers of the tokens it has seen: their keys and values, layer by layer.

Shape legend: N sequences, S new tokens, K tokens of another text, C = heads * head size.
"""

from torch import Tensor


class LayerCache:
    """Keys and values of one layer, in room that is taken once, for ``capacity`` tokens.

    Attributes
    ----------
    length : int
        Tokens so far.
    source : tuple of two Tensors of shape (N, K, C), or None
        Keys and values of the other text that cross-attention looks at.
    """

    def __init__(self, capacity: int):
        self.capacity = capacity
        self.length = 0
        self.source: tuple[Tensor, Tensor] | None = None
        self._room: Tensor | None = None  # (2, N, capacity, C)

    def extend(self, k_NSC: Tensor, v_NSC: Tensor) -> tuple[Tensor, Tensor]:
        """Add the keys and values of new tokens; returns those of all tokens so far."""
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
        """Keep these rows, in this order; a row may be named more than once."""
        if self._room is not None:
            self._room = self._room[:, rows]
        if self.source is not None:
            k_NKC, v_NKC = self.source
            self.source = k_NKC[rows], v_NKC[rows]


class KeyValueCache:
    """Cache of all layers. It is written in place and holds no gradients: a means of inference.

    Parameters
    ----------
    n_layers : int
        Layers of the model.
    capacity : int
        Most tokens of a sequence, padding included.

    Attributes
    ----------
    layers : list of LayerCache
    """

    def __init__(self, n_layers: int, capacity: int):
        self.layers = [LayerCache(capacity) for _ in range(n_layers)]

    @property
    def length(self) -> int:
        """Tokens so far, padding included."""
        return self.layers[0].length

    def take(self, rows: Tensor) -> None:
        """Keep these rows of the batch, (N,), in this order; a row may be named more than once."""
        for layer in self.layers:
            layer.take(rows)
