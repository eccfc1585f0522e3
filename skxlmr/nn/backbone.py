"""What every encoder and every task model offers, whatever its family. Other rooms rely on nothing else."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from skxlmr.nn.config import PUBLISHED_AS
from skxlmr.nn.kernels.int8 import computes_in_int8
from skxlmr.nn.kernels.linear import fast_kernels, on_fast_cpu, with_spare_rows
from skxlmr.nn.layout import TokenLayout, widen
from skxlmr.nn.randomness import current_randomness, repeatable

# (vectors, layout, whether to return attention weights, further inputs) -> (vectors, attention weights or None)
LayerCall = Callable[..., tuple[Tensor, Tensor | None]]


@dataclass
class EncoderOutput:
    """What an encoder returns.

    Attributes
    ----------
    last_hidden_state : Tensor of shape (T, D) or (N, S, D); (N, D) if it is that of the first tokens only
    pooler_output : Tensor of shape (N, D), or None without a pooler
    hidden_states : tuple of Tensor, the first layer's input and each layer's output, or None unless asked for
    attentions : tuple of Tensor of shape (N, H, S, S), each layer's weights, or None unless asked for
    layout : TokenLayout of the batch
    only_first : bool, whether only the first tokens went through the last layer
    """

    last_hidden_state: Tensor
    pooler_output: Tensor | None
    hidden_states: tuple[Tensor, ...] | None
    attentions: tuple[Tensor, ...] | None
    layout: TokenLayout
    only_first: bool = False

    @property
    def first(self) -> Tensor:
        """The vector of each sequence's first token, (N, D)."""
        return self.last_hidden_state if self.only_first else self.layout.first(self.last_hidden_state)


class Prefix(Protocol):
    """Returns the states after the embeddings and the lowest layers of an encoder, which a fit leaves as they are.

    Attributes
    ----------
    backbone : Backbone
        The encoder.
    n_layers : int
        Number of the lowest layers.
    """

    backbone: "Backbone"
    n_layers: int

    def states(self, ids: Tensor, layout: TokenLayout) -> Tensor:
        """States (T, D), in float32 or wider, of a packed batch of ids (T,)."""
        ...


_current: "ContextVar[Prefix | None]" = ContextVar("prefix", default=None)


class Backbone(nn.Module):
    """An encoder: embeddings, and layers that run one after the other.

    A family adds ``forward``, which embeds a batch and calls :meth:`run_layers`, and the members that raise here.
    """

    gradient_checkpointing = False
    n_frozen_blocks = 0  # the lowest of `blocks`, which a fit leaves as they are, without dropout
    pooler: nn.Module | None
    words_name: ClassVar[str]  # of the word embeddings, as in get_submodule
    pooler_is_pretrained: ClassVar[bool] = False  # whether published checkpoints have one that is worth to keep
    part_names: ClassVar[tuple[str, ...]]  # of its modules; all names of its parameters begin with one of them

    @property
    def layers(self) -> Sequence[LayerCall]:
        """The layers from the lowest to the highest, to be called as in :meth:`run_layers`."""
        raise NotImplementedError

    @property
    def blocks(self) -> Sequence[nn.Module]:
        """The modules of the embeddings, then those of each layer, from the lowest to the highest."""
        raise NotImplementedError

    @property
    def widest(self) -> int:
        """Width of the widest states of a layer, those inside its feed-forward half."""
        raise NotImplementedError

    def get_input_embeddings(self) -> nn.Embedding:
        """Return the word embeddings."""
        return self.get_submodule(self.words_name)  # type: ignore[return-value]  # torch knows it as a Module only

    def set_input_embeddings(self, embeddings: nn.Embedding) -> None:
        """Replace the word embeddings."""
        self.set_submodule(self.words_name, embeddings)

    def _prefix(self, layout: TokenLayout, n_layers: int | None, *others: Any) -> Prefix | None:
        """What has the states of the lowest layers, if a batch starts there: a packed one of ids and nothing else."""
        prefix = None if torch.compiler.is_compiling() else _current.get()  # which the compiler can't read
        if prefix is None or prefix.backbone is not self or layout.is_padded:
            return None
        is_plain = all(other is None or other is False for other in others)
        return prefix if is_plain and (n_layers is None or n_layers >= prefix.n_layers) else None

    def run_layers(
        self,
        x: Tensor,
        layout: TokenLayout,
        first: int = 0,
        last: int | None = None,
        *,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
        inputs: Sequence[tuple[Any, ...]] | None = None,
        only_first: bool = False,
    ) -> EncoderOutput:
        """Run the layers from ``first`` to before ``last``.

        The output of the first k layers can be kept: running the others on it equals running all, to the last bit.

        Parameters
        ----------
        x : Tensor of shape (T, D) or (N, S, D)
            Input of layer ``first``: the output of the embeddings or of the layer before.
        layout : TokenLayout
            Layout of the batch.
        first, last : int
            Layers, counted from 0; by default all.
        output_hidden_states, output_attentions : bool
            Return every layer's vectors, every layer's attention weights (padded batches only).
        inputs : sequence of tuple, optional
            Further inputs of each layer that is run.
        only_first : bool
            Nothing but the vectors of the first tokens is wanted of the last of these layers. Inside ``fast_kernels()`` a layer
            that knows how computes no others: on a CPU, and in packed batches, of which no more is asked.

        Returns
        -------
        EncoderOutput
            A pooler, if there is one, sees the last of these layers.
        """
        layers = list(self.layers[first:last])
        checkpointing = self.gradient_checkpointing and self.training and torch.is_grad_enabled()
        hidden_states, attentions = [x], []
        real = slice(None) if layout.is_padded else slice(len(x))  # rows of x, without spare ones
        if not layout.is_padded and not computes_in_int8():  # where each layer does with fewer
            x = with_spare_rows(x)
        only_first = only_first and not output_hidden_states and self._leaves_out(layers, layout, x)
        if only_first:
            layers[-1] = partial(layers[-1], from_first=True)
        for layer, further in zip(layers, [()] * len(layers) if inputs is None else inputs, strict=True):
            if checkpointing:
                x, weights = checkpoint(
                    repeatable(layer, x.device),
                    x,
                    layout,
                    output_attentions,
                    *further,
                    use_reentrant=False,
                    preserve_rng_state=current_randomness() is None,  # otherwise the layer repeats its own draws
                )
            else:
                x, weights = layer(x, layout, output_attentions, *further)
            if output_hidden_states:
                hidden_states.append(x[real])
            if output_attentions:
                attentions.append(weights)
        output = EncoderOutput(
            last_hidden_state=x if only_first else x[real],
            pooler_output=None,
            hidden_states=tuple(hidden_states) if output_hidden_states else None,
            attentions=tuple(attentions) if output_attentions else None,
            layout=layout,
            only_first=only_first,
        )
        if self.pooler is not None:
            output.pooler_output = self.pooler(output.first)
        return output

    @staticmethod
    def _leaves_out(layers: Sequence[LayerCall], layout: TokenLayout, x: Tensor) -> bool:
        """Whether the last of these layers can be computed for the first tokens alone."""
        return (
            bool(layers) and getattr(layers[-1], "knows_from_first", False) and not layout.is_padded and on_fast_cpu(x)
        )


@contextmanager
def starting_from(prefix: Prefix | None) -> Iterator[None]:
    """Inside the block, and in this thread only, packed batches start from these states in the encoder they belong to."""
    token = _current.set(prefix)
    try:
        yield
    finally:
        _current.reset(token)


def lowest_states(backbone: Backbone, ids: Tensor, layout: TokenLayout, n_layers: int) -> Tensor:
    """States after the embeddings and the lowest layers, without a graph; on a CPU those of a row depend on that row alone.

    No product, activation or attention of a packed batch makes a row's numbers depend on the others: oneDNN sums each of two
    or more rows in the same order (with AMX, in bfloat16, in parts of one size), and attention takes rectangles of sequences of
    one length. Measured with one to three threads in float32 and bfloat16 on processors with AVX512, with and without AMX, and
    on one with AVX2 alone (AMD EPYC), for heads whose size is a multiple of 4;
    :class:`skxlmr.inference.FrozenPrefix` checks it where it matters. On a GPU, states differ by rounding.

    Parameters
    ----------
    backbone : Backbone
        With dropout switched off in these layers.
    ids : Tensor of int, (T,)
    layout : TokenLayout
        Of a packed batch.
    n_layers : int
        Number of the lowest layers.

    Returns
    -------
    Tensor of shape (T, D), float32 or wider
    """
    with torch.no_grad(), fast_kernels(alone=True), starting_from(None):
        # as its class says, without hooks of the caller: these see the whole encoder, once
        output = type(backbone).forward(backbone, ids, layout, n_layers=n_layers)
    return widen(output.last_hidden_state)


def tokens_of(
    input_ids: Tensor | None, inputs_embeds: Tensor | None, layout: TokenLayout | None, attention_mask: Tensor | None
) -> Tensor:
    """Return the ids of a batch, or the vectors given in their place.

    Raises
    ------
    ValueError
        If both or neither are given, a packed batch comes with a mask, or its shape is not that of its layout.
    """
    given = input_ids if inputs_embeds is None else inputs_embeds
    if given is None or (input_ids is not None and inputs_embeds is not None):
        raise ValueError("pass either input_ids or inputs_embeds")
    if layout is None:
        return given
    if attention_mask is not None:
        raise ValueError("attention_mask belongs to padded batches: a packed batch has a layout instead")
    if not layout.is_padded and given.shape[: 1 if inputs_embeds is not None else None] != (layout.n_tokens,):
        raise ValueError(
            f"a packed batch whose sequences have {layout.n_tokens} tokens takes ids of shape ({layout.n_tokens},), got "
            f"{tuple(given.shape)}"
        )
    return given


class TaskModule(nn.Module):
    """What all task models have: the encoder, under the name that Hugging Face gives it.

    ``origin`` is the checkpoint that the weights came from, if a pickle may name it instead of holding the weights;
    ``mapped_files`` are the files that the weights may still be read from; ``loaded`` tells which still are the checkpoint's;
    ``new_parts`` are the submodules that started from scratch; ``lora`` are the adapters that a fit merged into the weights.

    Attributes
    ----------
    backbone_name : str
        Name of the encoder.
    encoder_class : type of Backbone
        Its class.
    head_parts : tuple of str
        Submodules that belong to the head. A first fit starts them from scratch where there are targets.
    optional_parts : tuple of str
        Submodules of the encoder that a checkpoint may lack: then they start from scratch.
    """

    backbone_name: ClassVar[str]
    encoder_class: ClassVar[type[Backbone]]
    head_parts: ClassVar[tuple[str, ...]] = ()
    optional_parts: ClassVar[tuple[str, ...]] = ()
    origin: Any = None
    mapped_files: Any = None
    loaded: Any = None
    new_parts: tuple[str, ...] = ()
    lora: Any = None

    @classmethod
    def architecture(cls) -> str:
        """What ``config.json`` calls such a model (``architectures``)."""
        return PUBLISHED_AS.get(cls.__name__, cls.__name__)

    @property
    def backbone(self) -> Backbone:
        """The encoder."""
        return self.get_submodule(self.backbone_name)  # type: ignore[return-value]  # likewise

    def forward(self, input_ids: Tensor | None = None, layout: TokenLayout | None = None, **inputs: Any) -> Any:
        """Encode a batch; the arguments are those of the encoder. Task models return what their head makes of it."""
        return self.backbone(input_ids, layout, **inputs)


class LanguageModel(TaskModule):
    """A task model with a head that returns logits over the vocabulary.

    Attributes
    ----------
    projection : str
        Name of the projection on the vocabulary. Its weight is the word embeddings, or its own if the config says so.
    projection_bias : str
        Name of the bias of the projection. Files may hold it as ``<projection>.bias`` too.
    """

    projection: ClassVar[str]
    projection_bias: ClassVar[str]

    def forward(
        self,
        input_ids: Tensor | None = None,
        layout: TokenLayout | None = None,
        *,
        positions: Tensor | None = None,
        **inputs: Any,
    ) -> Tensor:
        """Logits over the vocabulary.

        Parameters
        ----------
        input_ids, layout, **inputs
            As for the encoder.
        positions : Tensor of int, (M,), optional
            Tokens of a packed batch to return logits for; the head, the most expensive part, runs only on these.

        Returns
        -------
        Tensor of shape (T, V), (N, S, V) or (M, V)
        """
        x = self.backbone(input_ids, layout, **inputs).last_hidden_state
        return self.project(x if positions is None else x[positions])

    def project(self, x: Tensor) -> Tensor:
        """Return the logits (..., V) of token vectors (..., D)."""
        raise NotImplementedError
