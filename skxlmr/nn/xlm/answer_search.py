"""The original XLM's head that finds answers by beam search, taken from XLNet (Yang et al. 2019, arXiv:1906.08237).

The end of an answer is predicted from the vectors of each token and of the token where the answer starts; whether there is an
answer, from the mean vector of the starts and one token of the row. All of it is computed on padded rectangles.

Shape legend: N sequences, S tokens of a padded row, D hidden size, K starts, E ends of each start.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from skxlmr.nn.kernels.linear import Linear
from skxlmr.nn.layout import TokenLayout
from skxlmr.nn.xlm.config import XLMConfig
from skxlmr.nn.xlm.encoder import XLMTask


@dataclass
class AnswerLogits:
    """The logits that are trained, where the start of the answer is given.

    Attributes
    ----------
    start_NS, end_NS : Tensor
        Logits of each token, the lowest number of their type where no answer can be.
    no_answer_N : Tensor
        Logit that there is no answer, the reference's ``cls_logits``.
    """

    start_NS: Tensor
    end_NS: Tensor
    no_answer_N: Tensor


@dataclass
class AnswerBeams:
    """The best starts of each sequence, and the best ends of each of these.

    Attributes
    ----------
    starts_NK, ends_NEK : Tensor of int64
        Indices of tokens in their row, best first.
    start_proba_NK, end_proba_NEK : Tensor
        Probability of each start, and of each end given its start. The reference calls them ``log_probs``, wrongly.
    no_answer_N : Tensor
        As in `AnswerLogits`, from the mean vector of the starts.
    """

    starts_NK: Tensor
    start_proba_NK: Tensor
    ends_NEK: Tensor
    end_proba_NEK: Tensor
    no_answer_N: Tensor


class StartLogits(nn.Module):
    """Logit per token that an answer starts there, the lowest number where none can."""

    def __init__(self, config: XLMConfig):
        super().__init__()
        self.dense = Linear(config.emb_dim, 1)

    def forward(self, x_NSD: Tensor, shut_NS: Tensor) -> Tensor:
        return _shut(self.dense(x_NSD).squeeze(-1), shut_NS)


class EndLogits(nn.Module):
    """Logit per token that an answer with this start ends there, the lowest number where none can."""

    def __init__(self, config: XLMConfig):
        super().__init__()
        self.dense_0 = Linear(2 * config.emb_dim, config.emb_dim)
        self.LayerNorm = nn.LayerNorm(config.emb_dim, eps=config.layer_norm_eps)
        self.dense_1 = Linear(config.emb_dim, 1)

    def forward(self, x_NSD: Tensor, start_NKD: Tensor, shut_NS: Tensor) -> Tensor:
        """Return the logits, (N, S, K)."""
        shape = (*x_NSD.shape[:2], *start_NKD.shape[1:])
        pairs = torch.cat([x_NSD[:, :, None].expand(shape), start_NKD[:, None].expand(shape)], -1)
        logits_NSK = self.dense_1(self.LayerNorm(self.dense_0(pairs).tanh())).squeeze(-1)
        return _shut(logits_NSK, shut_NS[..., None])


def _shut(logits: Tensor, is_shut: Tensor) -> Tensor:
    """Logits where an answer can be, elsewhere the lowest number: minus infinity in a whole row would become NaN."""
    return logits.masked_fill(is_shut, torch.finfo(logits.dtype).min)


class Answerable(nn.Module):
    """Logit per sequence, from the vectors of a start and of one more token."""

    def __init__(self, config: XLMConfig):
        super().__init__()
        self.dense_0 = Linear(2 * config.emb_dim, config.emb_dim)
        self.dense_1 = Linear(config.emb_dim, 1, bias=False)

    def forward(self, start_ND: Tensor, token_ND: Tensor) -> Tensor:
        return self.dense_1(self.dense_0(torch.cat([start_ND, token_ND], 1)).tanh()).squeeze(1)


class XLMForQuestionAnswering(XLMTask):
    """Encoder with a head that finds the answers to a question by beam search."""

    head_parts = ("qa_outputs",)

    def __init__(self, config: XLMConfig):
        super().__init__(config)
        self.beam = config.beam
        # Hugging Face's names
        self.qa_outputs = nn.ModuleDict(
            {"start_logits": StartLogits(config), "end_logits": EndLogits(config), "answer_class": Answerable(config)}
        )

    def forward(
        self,
        input_ids: Tensor | None = None,
        layout: TokenLayout | None = None,
        *,
        impossible: Tensor | None = None,
        cls_index: Tensor | None = None,
        n_starts: int | None = None,
        n_ends: int | None = None,
        **inputs: Any,
    ) -> AnswerBeams:
        """Find the best answers.

        Parameters
        ----------
        input_ids, layout, **inputs
            As for :class:`XLMEncoder`; the batch is padded.
        impossible : Tensor of shape (N, S), optional
            True (or 1) where no answer can start or end, such as in the question. Padding never holds an answer.
        cls_index : Tensor of shape (N,), optional
            The token that shows whether there is an answer; by default the last of each sequence.
        n_starts, n_ends : int, optional
            Widths of the beam, at most the length of the rows; by default the config's ``start_n_top`` and ``end_n_top``.

        Raises
        ------
        ValueError
            If the batch is packed.
        """
        n_starts = self.beam[0] if n_starts is None else n_starts
        n_ends = self.beam[1] if n_ends is None else n_ends
        x_NSD, token_ND, shut_NS = self._read(input_ids, layout, impossible, cls_index, inputs)
        start_proba_NS = self.qa_outputs["start_logits"](x_NSD, shut_NS).softmax(1)
        width = x_NSD.shape[1]
        start_proba_NK, starts_NK = start_proba_NS.topk(min(n_starts, width), dim=1)
        start_NKD = x_NSD.gather(1, starts_NK[..., None].expand(-1, -1, x_NSD.shape[2]))
        end_proba_NSK = self.qa_outputs["end_logits"](x_NSD, start_NKD, shut_NS).softmax(1)
        end_proba_NEK, ends_NEK = end_proba_NSK.topk(min(n_ends, width), dim=1)
        mean_ND = torch.einsum("nsd,ns->nd", x_NSD, start_proba_NS)
        no_answer_N = self.qa_outputs["answer_class"](mean_ND, token_ND)
        return AnswerBeams(starts_NK, start_proba_NK, ends_NEK, end_proba_NEK, no_answer_N)

    def logits(
        self,
        input_ids: Tensor | None = None,
        layout: TokenLayout | None = None,
        *,
        starts: Tensor,
        impossible: Tensor | None = None,
        cls_index: Tensor | None = None,
        **inputs: Any,
    ) -> AnswerLogits:
        """Return the logits that are trained, where the first tokens of the answers are known.

        Parameters
        ----------
        starts : Tensor of shape (N,)
            Indices of the answers' first tokens.
        input_ids, layout, impossible, cls_index, **inputs
            As in ``forward``.
        """
        x_NSD, token_ND, shut_NS = self._read(input_ids, layout, impossible, cls_index, inputs)
        start_N1D = x_NSD.gather(1, starts[:, None, None].expand(-1, 1, x_NSD.shape[2]))
        return AnswerLogits(
            self.qa_outputs["start_logits"](x_NSD, shut_NS),
            self.qa_outputs["end_logits"](x_NSD, start_N1D, shut_NS).squeeze(2),
            self.qa_outputs["answer_class"](start_N1D.squeeze(1), token_ND),
        )

    def _read(
        self, input_ids: Any, layout: Any, impossible: Any, cls_index: Any, inputs: dict[str, Any]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Vectors of all tokens, of those that show whether there is an answer, and where none can be."""
        output = self.transformer(input_ids, layout, **inputs)
        if output.layout.mask_NS is None:
            raise ValueError("answers are searched in padded rows: pass a padded batch")
        x_NSD = output.last_hidden_state.to(next(self.qa_outputs.parameters()).dtype)
        shut_NS = ~output.layout.mask_NS
        if impossible is not None:
            shut_NS = shut_NS | impossible.bool()
        if cls_index is None:
            return x_NSD, output.layout.last(x_NSD), shut_NS
        return x_NSD, x_NSD[torch.arange(len(x_NSD), device=x_NSD.device), cls_index], shut_NS
