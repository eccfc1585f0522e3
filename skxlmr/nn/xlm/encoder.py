"""The original XLM encoder (Lample & Conneau 2019, arXiv:1901.07291).

Modules and parameters have Hugging Face's names, so that a checkpoint needs no map. Token vectors are (T, D) when packed and
(N, S, D) when padded.

Shape legend: T packed tokens, N sequences, S tokens of a padded row, D hidden size, P positions.
"""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skxlmr.nn.attention import attend
from skxlmr.nn.backbone import Backbone, EncoderOutput, LayerCall, TaskModule, tokens_of
from skxlmr.nn.kernels.linear import LayerLinear, row_by_row, together
from skxlmr.nn.layout import TokenLayout
from skxlmr.nn.randomness import dropout
from skxlmr.nn.xlm.config import XLMConfig


class SinusoidalPositions(nn.Module):
    """Fixed position embeddings (Vaswani et al. 2017), a buffer under the name of the learned ones."""

    weight: Tensor

    def __init__(self, n_positions: int, width: int):
        super().__init__()
        columns_D = torch.arange(width, dtype=torch.float64)
        angles_PD = torch.arange(n_positions, dtype=torch.float64)[:, None] / 10_000 ** (2 * (columns_D // 2) / width)
        table_PD = torch.where(columns_D % 2 == 0, angles_PD.sin(), angles_PD.cos())
        self.register_buffer("weight", table_PD.float())

    def forward(self, position_ids: Tensor) -> Tensor:
        """Return the embeddings (..., D) of positions (...)."""
        return F.embedding(position_ids, self.weight)


class MultiHeadAttention(nn.Module):
    """Attention half of a layer, including the dropout at its end."""

    def __init__(self, config: XLMConfig):
        super().__init__()
        self.head_size, self.causal = config.head_size, config.causal
        self.dropout, self.attention_dropout = config.dropout, config.attention_dropout
        self.q_lin = LayerLinear(config.emb_dim, config.emb_dim)
        self.k_lin = LayerLinear(config.emb_dim, config.emb_dim)
        self.v_lin = LayerLinear(config.emb_dim, config.emb_dim)
        self.out_lin = LayerLinear(config.emb_dim, config.emb_dim)

    def forward(self, x: Tensor, layout: TokenLayout, need_weights: bool = False) -> tuple[Tensor, Tensor | None]:
        q, k, v = together((self.q_lin, self.k_lin, self.v_lin), x)
        context, weights = attend(
            q,
            k,
            v,
            layout,
            head_size=self.head_size,
            dropout=self.attention_dropout if self.training else 0.0,
            need_weights=need_weights,
            causal=self.causal,
        )
        return dropout(self.out_lin(context), self.dropout, self.training), weights


class FeedForward(nn.Module):
    """Feed-forward half of a layer, including the dropout at its end."""

    def __init__(self, config: XLMConfig):
        super().__init__()
        self.dropout, self.gelu = config.dropout, config.gelu_activation
        self.lin1 = LayerLinear(config.emb_dim, 4 * config.emb_dim)
        self.lin2 = LayerLinear(4 * config.emb_dim, config.emb_dim)

    def forward(self, x: Tensor) -> Tensor:
        x = self.lin1(x, "gelu" if self.gelu else "relu")
        return dropout(self.lin2(x), self.dropout, self.training)


class XLMEncoder(Backbone):
    """The encoder: embeddings of words, positions and languages, then layers with a norm after each half.

    Parameters
    ----------
    config : XLMConfig
        Geometry.

    Attributes
    ----------
    lang_ids : tuple of int
        Language of all tokens, or of first and second texts, if the call gives none. Without any, no language embedding is
        added, as in the reference.
    """

    words_name = "embeddings"
    part_names = (
        *("embeddings", "position_embeddings", "lang_embeddings", "layer_norm_emb"),
        *("attentions", "layer_norm1", "ffns", "layer_norm2"),
    )

    def __init__(self, config: XLMConfig):
        super().__init__()
        self.config = config
        self.lang_ids: tuple[int, ...] = ()
        self.pooler = None
        n_positions, width, eps = config.max_position_embeddings, config.emb_dim, config.layer_norm_eps
        self.position_embeddings: nn.Module = (
            SinusoidalPositions(n_positions, width)
            if config.sinusoidal_embeddings
            else nn.Embedding(n_positions, width)
        )
        self.lang_embeddings = nn.Embedding(config.n_langs, width) if config.has_lang_embeddings else None
        self.embeddings = nn.Embedding(config.vocab_size, width, padding_idx=config.pad_token_id)
        self.layer_norm_emb = nn.LayerNorm(width, eps=eps)
        layers = range(config.n_layers)
        self.attentions = nn.ModuleList(MultiHeadAttention(config) for _ in layers)
        self.layer_norm1 = nn.ModuleList(nn.LayerNorm(width, eps=eps) for _ in layers)
        self.ffns = nn.ModuleList(FeedForward(config) for _ in layers)
        self.layer_norm2 = nn.ModuleList(nn.LayerNorm(width, eps=eps) for _ in layers)

    @property
    def widest(self) -> int:
        """Width of the states inside the feed-forward half of a layer."""
        return 4 * self.config.emb_dim

    @property
    def layers(self) -> Sequence[LayerCall]:
        """The layers, from the lowest to the highest."""
        return [partial(self._layer, i) for i in range(len(self.attentions))]

    @property
    def blocks(self) -> Sequence[nn.Module]:
        """The embeddings, then each layer."""
        embeddings = [self.embeddings, self.position_embeddings, self.layer_norm_emb]
        if self.lang_embeddings is not None:
            embeddings.append(self.lang_embeddings)
        layers = zip(self.attentions, self.layer_norm1, self.ffns, self.layer_norm2, strict=True)
        return [nn.ModuleList(parts) for parts in (embeddings, *layers)]

    def forward(
        self,
        input_ids: Tensor | None = None,
        layout: TokenLayout | None = None,
        *,
        attention_mask: Tensor | None = None,
        langs: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
        n_layers: int | None = None,
        only_first: bool = False,
    ) -> EncoderOutput:
        """Encode a batch.

        Parameters
        ----------
        input_ids : Tensor of int, (T,) packed with a layout, (N, S) padded without one
        layout : TokenLayout, optional
            Lengths of the sequences of a packed batch.
        attention_mask : Tensor of shape (N, S), optional
            For padded batches: 1 for tokens, 0 for padding, where the vectors become zero. By default, as in the reference, a
            row has as many tokens, from its start, as ids other than padding. A causal model attends to padding too.
        langs : Tensor of int of input_ids' shape, optional
            Language of each token; by default from ``lang_ids``.
        position_ids : Tensor of input_ids' shape, optional
            By default positions in the sequence, or in the text if the layout has second texts.
        inputs_embeds : Tensor of shape (T, D) or (N, S, D), optional
            In place of ``input_ids``.
        output_hidden_states, output_attentions : bool
            Return every layer's vectors, every layer's attention weights (padded batches only).
        n_layers : int, optional
            Stop after this number of layers.
        only_first : bool
            Nothing but ``first`` is read from what is returned; it changes nothing here.

        Returns
        -------
        EncoderOutput

        Raises
        ------
        ValueError
            If both or neither of ``input_ids`` and ``inputs_embeds`` are given, shapes disagree, or a text is too long.
        """
        given = tokens_of(input_ids, inputs_embeds, layout, attention_mask)
        if layout is None:
            if attention_mask is None and input_ids is not None:
                lengths_N1 = (input_ids != self.config.pad_token_id).sum(1, keepdim=True)
                attention_mask = torch.arange(input_ids.shape[1], device=input_ids.device) < lengths_N1
            layout = TokenLayout.padded(given.shape[:2], attention_mask, given.device)
        prefix = self._prefix(
            layout, n_layers, langs, position_ids, inputs_embeds, output_hidden_states, output_attentions
        )
        if prefix is None:
            x = self._embed(
                self.embeddings(input_ids) if inputs_embeds is None else inputs_embeds, layout, langs, position_ids
            )
        else:
            x = prefix.states(given, layout)
        return self.run_layers(
            x,
            layout,
            0 if prefix is None else prefix.n_layers,
            n_layers,
            output_hidden_states=output_hidden_states,
            output_attentions=output_attentions,
        )

    def _embed(self, x: Tensor, layout: TokenLayout, langs: Tensor | None, position_ids: Tensor | None) -> Tensor:
        """Input of the lowest layer, from the embeddings of the words."""
        if position_ids is None:
            longest, n_positions = layout.longest_text, self.config.max_position_embeddings
            if longest > n_positions:
                raise ValueError(f"a text of {longest} tokens is longer than the {n_positions} positions of the model")
            position_ids = torch.arange(x.shape[1], device=x.device) if layout.is_padded else layout.positions_T
        x = x + self.position_embeddings(position_ids)
        if self.lang_embeddings is not None:
            if langs is not None:
                x = x + self.lang_embeddings(langs)
            elif self.lang_ids:
                x = x + self._lang_embeddings(layout)
        x = dropout(self.layer_norm_emb(x), self.config.dropout, self.layer_norm_emb.training)
        return _without_padding(x, layout)

    def _lang_embeddings(self, layout: TokenLayout) -> Tensor:
        """Embeddings of ``lang_ids``: (D,) for one language, (T, D) if second texts have another."""
        assert self.lang_embeddings is not None
        if layout.second_T is None:
            return self.lang_embeddings.weight[self.lang_ids[0]]
        first, second = self.lang_ids[0], self.lang_ids[-1]
        return self.lang_embeddings(torch.where(layout.second_T, second, first))

    def _layer(
        self, i: int, x: Tensor, layout: TokenLayout, need_weights: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        # The reference's causal attention ignores the mask, which matters where rows are padded on the left.
        attended, weights = self.attentions[i](x, layout.unmasked if self.config.causal else layout, need_weights)
        x = self.layer_norm1[i](x + attended)
        return _without_padding(self.layer_norm2[i](x + row_by_row(self.ffns[i], x)), layout), weights


def _without_padding(x: Tensor, layout: TokenLayout) -> Tensor:
    """Put zeros in place of padding."""
    return x if layout.real_NS1 is None else x * layout.real_NS1.to(x.dtype)


class XLMTask(TaskModule):
    """What all task models of this family have."""

    backbone_name = "transformer"
    encoder_class = XLMEncoder

    def __init__(self, config: XLMConfig):
        super().__init__()
        self.transformer = XLMEncoder(config)


class XLMModel(XLMTask):
    """The encoder alone, under the name that task checkpoints give it."""
