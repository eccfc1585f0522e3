"""float16 on a CPU, which emulates what GPUs compute: near float32 in outputs and gradients, all parameters perturbed."""

from dataclasses import replace

import pytest
import torch

from skxlmr.nn.sentence.pooling import POOLINGS, pool
from tests.nn.reference import (
    KINDS,
    TASKS,
    TINY,
    make_labels,
    make_pair,
    make_rows,
    our_loss,
    pack_labels,
    packed,
    task_lengths,
    transpose_a_weight,
)

LENGTHS = [31, 4, 18, 31, 2, 9]
# In norm: float16 has 11 binary digits, so that each number is rounded by up to 5e-4 of itself
OUTPUTS, GRADIENTS = 5e-3, 1e-2
STILL = replace(TINY, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)


def pair(kind):
    """Two equal modules, whose attention looks at some tokens much more than at others."""
    modules = [make_pair(kind, STILL)[0] for _ in range(2)]
    with torch.no_grad():
        for module in modules:
            for name, parameter in module.named_parameters():
                if "self.query.weight" in name or "self.key.weight" in name:
                    parameter.mul_(8)
    return modules


def relative(found, expected):
    return ((found - expected).norm() / expected.norm()).item()


def outputs_and_gradients(kind, module, half):
    ids, mask = make_rows(STILL, task_lengths(kind, LENGTHS))
    with torch.autocast("cpu", torch.float16, enabled=half):
        logits = module(*packed(ids, mask))
        loss = our_loss(kind, logits.float(), pack_labels(kind, make_labels(kind, STILL, mask), mask))
    (loss * 2.0**12).backward()  # scaled, as in training: unscaled gradients would round to zero
    gradients = torch.cat([p.grad.flatten() / 2.0**12 for p in module.parameters() if p.grad is not None])
    return logits.detach(), gradients


@pytest.mark.parametrize("train", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("kind", TASKS)
def test_logits_and_gradients(kind, train):
    exact, mixed = (module.train(train) for module in pair(kind))
    expected, expected_gradients = outputs_and_gradients(kind, exact, half=False)
    logits, gradients = outputs_and_gradients(kind, mixed, half=True)
    are_of_texts = kind in ("seqcls", "multilabel", "regression", "mc")
    assert logits.dtype == (torch.float32 if are_of_texts and not train else torch.float16)
    assert 0 < relative(logits.float(), expected) < OUTPUTS
    assert 0 < relative(gradients, expected_gradients) < GRADIENTS
    mixed.zero_grad()
    with torch.no_grad():
        transpose_a_weight(mixed)
    wrong, wrong_gradients = outputs_and_gradients(kind, mixed, half=True)
    assert relative(wrong.float(), expected) > 2 * OUTPUTS
    assert relative(wrong_gradients, expected_gradients) > 2 * GRADIENTS


@pytest.mark.parametrize("words", [*POOLINGS, ("cls", "mean", "max")], ids=str)
def test_features_with_weights_in_float16(words):
    """As a vectorizer on a GPU computes them; pooled in float32."""
    exact, half = (module.eval() for module in pair("base"))
    half.half()
    ids, layout = packed(*make_rows(STILL, LENGTHS))
    with torch.no_grad():
        expected, found = (pool(module, ids, layout, words, [STILL.num_hidden_layers]) for module in (exact, half))
        assert found.dtype == torch.float32
        assert 0 < relative(found, expected) < OUTPUTS
        transpose_a_weight(type("Task", (), {"roberta": half}))
        assert relative(pool(half, ids, layout, words, [STILL.num_hidden_layers]), expected) > 2 * OUTPUTS


def test_there_is_a_case_for_every_head():
    assert set(TASKS) == KINDS.keys() - {"base"}
