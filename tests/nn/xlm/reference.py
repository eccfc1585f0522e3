"""The original XLM of transformers as a reference: pairs of modules with the same weights, and inputs for both.

Every parameter of every pair is perturbed. The reference rounds its attention weights to float32 in every precision;
``exact_softmax`` keeps them in double precision.
"""

import contextlib
from dataclasses import replace

import pytest
import torch
import transformers

from skxlmr.checkpoints import on_meta
from skxlmr.nn import (
    XLMConfig,
    XLMEncoder,
    XLMForMaskedLM,
    XLMForMultipleChoice,
    XLMForQuestionAnswering,
    XLMForQuestionAnsweringSimple,
    XLMForSequenceClassification,
    XLMForTokenClassification,
)

N_OUTPUTS = 3
TINY = XLMConfig(vocab_size=80, emb_dim=32, n_layers=3, n_heads=4, max_position_embeddings=24)


HEADS = {
    "encoder": (XLMEncoder, transformers.XLMModel),
    "lm": (XLMForMaskedLM, transformers.XLMWithLMHeadModel),
    "sequences": (
        lambda config: XLMForSequenceClassification(config, N_OUTPUTS),
        transformers.XLMForSequenceClassification,
    ),
    "tokens": (lambda config: XLMForTokenClassification(config, N_OUTPUTS), transformers.XLMForTokenClassification),
    "spans": (XLMForQuestionAnsweringSimple, transformers.XLMForQuestionAnsweringSimple),
    "search": (XLMForQuestionAnswering, transformers.XLMForQuestionAnswering),
    "choices": (XLMForMultipleChoice, transformers.XLMForMultipleChoice),
}
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}


@contextlib.contextmanager
def exact_softmax(dtype):
    """Let the reference's attention keep double precision, which it casts to float32."""
    with pytest.MonkeyPatch.context() as patch:
        if dtype == torch.float64:
            patch.setattr(torch.Tensor, "float", lambda tensor: tensor)
        yield


def make_pair(kind="encoder", dtype=torch.float32, num_labels=N_OUTPUTS, **options):
    """(ours, theirs) with the same weights, all of them perturbed; the names must be the same."""
    config = replace(TINY, **options)
    num_labels = 2 if kind in ("spans", "choices") else num_labels
    torch.manual_seed(0)
    theirs = HEADS[kind][1](transformers.XLMConfig(**config.to_dict(), num_labels=num_labels)).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    theirs = theirs.to(dtype)
    with on_meta():
        ours = HEADS[kind][0](config)
    weights = {name: parameter.detach().clone() for name, parameter in theirs.named_parameters()}
    ours.load_state_dict(weights, strict=True, assign=True)
    return ours.requires_grad_(True).eval(), theirs


def make_inputs(config, lengths=(9, 4, 7), side="right"):
    """Padded ids, mask and languages, (N, S)."""
    generator = torch.Generator().manual_seed(1)
    width = max(lengths)
    ids = torch.randint(4, config.vocab_size, (len(lengths), width), generator=generator)
    places, lengths_N1 = torch.arange(width), torch.tensor(lengths)[:, None]
    mask = places < lengths_N1 if side == "right" else places >= width - lengths_N1
    ids[~mask] = config.pad_token_id
    langs = torch.randint(config.n_langs, ids.shape, generator=generator)
    return ids, mask.long(), langs


def run_theirs(theirs, dtype, ids, **inputs):
    with exact_softmax(dtype):
        return theirs(input_ids=ids, **inputs)
