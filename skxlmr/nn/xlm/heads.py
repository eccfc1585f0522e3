"""Task models of the original XLM: heads on top of its encoder.

Shape legend: T packed tokens, N sequences, S tokens of a padded row, D hidden size, V vocabulary, L outputs of a summary.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skxlmr.nn.backbone import LanguageModel
from skxlmr.nn.heads import Projection
from skxlmr.nn.kernels.linear import Linear, OutputLinear
from skxlmr.nn.layers import Dropout
from skxlmr.nn.layout import TokenLayout
from skxlmr.nn.xlm.config import XLMConfig
from skxlmr.nn.xlm.encoder import XLMTask

_ACTIVATIONS: dict[str | None, Callable[[Tensor], Tensor]] = {
    None: lambda x: x,
    "tanh": torch.tanh,
    "gelu": F.gelu,
    "relu": F.relu,
}


class SequenceSummary(nn.Module):
    """One vector per sequence, then dropout, projection, activation and dropout, as the config says.

    Unlike the reference's, it never sees padding: ``last``, ``cls_index`` and ``mean`` take the tokens of the row alone.

    Parameters
    ----------
    config : XLMConfig
        Which vector is taken (``summary_type``), and what is done with it.
    n_outputs : int
        Number of logits.

    Raises
    ------
    ValueError
        If the config makes the number of logits the hidden size, not ``n_outputs``.
    """

    def __init__(self, config: XLMConfig, n_outputs: int):
        super().__init__()
        self.summary_type = config.summary_type
        projects = config.summary_use_proj and config.summary_proj_to_labels
        if not projects and n_outputs != config.emb_dim:
            field = "summary_proj_to_labels" if config.summary_use_proj else "summary_use_proj"
            raise ValueError(
                f"the config's {field} is false, which makes {config.emb_dim} outputs where {n_outputs} are needed: set it to "
                "true in config.json"
            )
        self.first_dropout = Dropout(config.summary_first_dropout)
        self.summary = OutputLinear(config.emb_dim, n_outputs) if config.summary_use_proj else nn.Identity()
        self.activation = config.summary_activation
        self.last_dropout = Dropout(config.summary_last_dropout)

    def forward(self, x: Tensor, layout: TokenLayout) -> Tensor:
        """Return the logits (N, n_outputs) of token vectors (T, D) or (N, S, D)."""
        vector_of = {"mean": layout.mean, "first": layout.first}.get(self.summary_type, layout.last)
        x_ND = self.first_dropout(vector_of(x))
        if isinstance(self.summary, Linear):
            x_ND = self.summary(x_ND.to(self.summary.weight.dtype))
        return self.last_dropout(_ACTIVATIONS[self.activation](x_ND))


class XLMForMaskedLM(XLMTask, LanguageModel):
    """Encoder with the language modelling head; the reference's ``XLMWithLMHeadModel``."""

    head_parts = ("pred_layer",)
    projection = "pred_layer.proj"
    projection_bias = "pred_layer.proj.bias"

    def __init__(self, config: XLMConfig):
        super().__init__(config)
        self.pred_layer = nn.ModuleDict({"proj": Projection(config)})  # Hugging Face's names

    def project(self, x: Tensor) -> Tensor:
        """Return the logits (..., V) of token vectors (..., D)."""
        return self.pred_layer["proj"](x, self.transformer.embeddings.weight)


class XLMForSequenceClassification(XLMTask):
    """Encoder with a summary of each sequence, which ends in logits."""

    head_parts = ("sequence_summary",)

    def __init__(self, config: XLMConfig, n_outputs: int):
        super().__init__(config)
        self.sequence_summary = SequenceSummary(config, n_outputs)

    def forward(self, input_ids: Tensor | None = None, layout: TokenLayout | None = None, **inputs: Any) -> Tensor:
        """Logits (N, n_outputs); the arguments are those of :class:`XLMEncoder`."""
        output = self.transformer(input_ids, layout, **inputs)
        return self.sequence_summary(output.last_hidden_state, output.layout)


class XLMForTokenClassification(XLMTask):
    """Encoder with a projection of each token's vector."""

    head_parts = ("classifier",)

    def __init__(self, config: XLMConfig, n_outputs: int):
        super().__init__(config)
        self.dropout = Dropout(config.dropout)
        self.classifier = Linear(config.emb_dim, n_outputs)

    def forward(self, input_ids: Tensor | None = None, layout: TokenLayout | None = None, **inputs: Any) -> Tensor:
        """Logits (T, n_outputs) or (N, S, n_outputs); the arguments are those of :class:`XLMEncoder`."""
        x = self.dropout(self.transformer(input_ids, layout, **inputs).last_hidden_state)
        return self.classifier(x.to(self.classifier.weight.dtype))


class XLMForQuestionAnsweringSimple(XLMTask):
    """Encoder with two logits per token: that the answer starts there, and that it ends there."""

    head_parts = ("qa_outputs",)

    def __init__(self, config: XLMConfig):
        super().__init__(config)
        self.qa_outputs = Linear(config.emb_dim, 2)

    def forward(self, input_ids: Tensor | None = None, layout: TokenLayout | None = None, **inputs: Any) -> Tensor:
        """Start and end logits (T, 2) or (N, S, 2); the arguments are those of :class:`XLMEncoder`."""
        x = self.transformer(input_ids, layout, **inputs).last_hidden_state
        return self.qa_outputs(x.to(self.qa_outputs.weight.dtype))


class XLMForMultipleChoice(XLMTask):
    """Encoder with one score per sequence, which is a prompt with one of its choices.

    As in the reference the summary has ``n_summary`` outputs (its ``num_labels``); one more projection makes them the score.
    """

    head_parts = ("sequence_summary", "logits_proj")

    def __init__(self, config: XLMConfig, n_summary: int = 2):
        super().__init__(config)
        self.sequence_summary = SequenceSummary(config, n_summary)
        self.logits_proj = OutputLinear(n_summary, 1)

    def forward(self, input_ids: Tensor | None = None, layout: TokenLayout | None = None, **inputs: Any) -> Tensor:
        """Scores (N,); the arguments are those of :class:`XLMEncoder`."""
        output = self.transformer(input_ids, layout, **inputs)
        summary_NL = self.sequence_summary(output.last_hidden_state, output.layout)
        return self.logits_proj(summary_NL.to(self.logits_proj.weight.dtype)).squeeze(1)
