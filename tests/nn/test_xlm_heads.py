"""The older XLM's heads against transformers', in both precisions, and gradients."""

from dataclasses import replace

import pytest
import torch

from skxlmr.nn import TokenLayout, XLMForSequenceClassification, losses

from .reference import assert_near
from .xlm_reference import HEADS, N_OUTPUTS, TINY, TOLERANCE, make_inputs, make_pair, run_theirs

dtypes = pytest.mark.parametrize("dtype", TOLERANCE, ids=str)


LOGITS = ("lm", "sequences", "tokens", "spans")


def logits_of(kind, output):
    if kind == "spans":
        return torch.stack([output.start_logits, output.end_logits], -1)
    return output.logits


@dtypes
@pytest.mark.parametrize("kind", LOGITS)
@pytest.mark.parametrize("options", [{}, {"sinusoidal_embeddings": True, "n_langs": 2}, {"causal": True}], ids=str)
def test_heads_and_gradients_are_the_references(kind, options, dtype):
    ours, theirs = make_pair(kind, dtype, **options)
    ids, mask, langs = make_inputs(ours.transformer.config, (7, 7, 7) if kind == "sequences" else (9, 4, 7))
    found = ours(ids, attention_mask=mask, langs=langs)
    expected = logits_of(kind, run_theirs(theirs, dtype, ids, attention_mask=mask, langs=langs))
    assert_near(found.detach(), expected.detach(), TOLERANCE[dtype], "logits")
    if kind != "sequences":
        found, expected = found[mask == 1], expected[mask == 1]
    labels = torch.arange(found.numel() // found.shape[-1]) % found.shape[-1]
    losses.cross_entropy(found, labels).mean().backward()
    torch.nn.functional.cross_entropy(expected, labels).backward()
    of_ours, of_theirs = (
        {name: p.grad for name, p in module.named_parameters() if p.grad is not None} for module in (ours, theirs)
    )
    if options.get("sinusoidal_embeddings"):  # they train what the paper fixes
        del of_theirs["transformer.position_embeddings.weight"]
    assert of_ours.keys() == of_theirs.keys()
    largest = max(gradient.abs().max().item() for gradient in of_theirs.values())
    for name, gradient in of_theirs.items():
        assert_near(of_ours[name], gradient, TOLERANCE[dtype] * largest, f"gradient of {name}")


@pytest.mark.parametrize("kind", LOGITS)
def test_heads_draw_the_same_dropout(kind):
    options = {"dropout": 0.3, "attention_dropout": 0.2, "summary_first_dropout": 0.5}
    ours, theirs = make_pair(kind, **options)
    ids, mask, _ = make_inputs(ours.transformer.config, (7, 7, 7) if kind == "sequences" else (9, 4, 7))
    results = []
    for module in (ours.train(), theirs.train()):
        torch.manual_seed(3)
        output = module(ids, attention_mask=mask)
        results.append(output if module is ours else logits_of(kind, output))
    assert_near(results[0].detach(), results[1].detach(), 1e-5, "logits in training")
    assert (ours.eval()(ids, attention_mask=mask) - results[0]).abs().max() > 0.01


SUMMARIES = [
    {"summary_type": "last"},
    {"summary_type": "mean"},
    {"summary_type": "cls_index"},
    {"summary_activation": "tanh"},
    {"summary_activation": "gelu"},
    {"summary_activation": "relu"},
    {"summary_proj_to_labels": False, "num_labels": TINY.emb_dim},
    {"summary_use_proj": False, "num_labels": TINY.emb_dim},
]


@dtypes
@pytest.mark.parametrize("options", SUMMARIES, ids=str)
def test_summary_options(options, dtype, monkeypatch):
    monkeypatch.setitem(
        HEADS,
        "sequences",
        (
            lambda config: XLMForSequenceClassification(config, options.get("num_labels", N_OUTPUTS)),
            HEADS["sequences"][1],
        ),
    )
    ours, theirs = make_pair("sequences", dtype, **options)
    ids, _, _ = make_inputs(ours.transformer.config, (7, 7))
    with torch.no_grad():
        expected = run_theirs(theirs, dtype, ids).logits
        assert_near(ours(ids), expected, TOLERANCE[dtype], "logits")
        assert_near(ours(ids.flatten(), TokenLayout([7, 7])), expected, TOLERANCE[dtype], "logits of packed rows")


@pytest.mark.parametrize("summary_type", ["first", "last", "mean", "cls_index"])
def test_summary_of_a_padded_row_is_that_of_the_row_alone(summary_type):
    ours, theirs = make_pair("sequences", summary_type=summary_type)
    ids, mask, _ = make_inputs(ours.transformer.config)
    with torch.no_grad():
        found = ours(ids, attention_mask=mask)
        alone = [theirs(row[of_row == 1][None]).logits[0] for row, of_row in zip(ids, mask, strict=True)]
    assert_near(found, torch.stack(alone), 1e-5, "logits")


def test_last_dropout_of_the_summary():
    ours, _ = make_pair(
        "sequences", summary_last_dropout=0.5, summary_first_dropout=0.0, dropout=0.0, attention_dropout=0.0
    )
    ids, _, _ = make_inputs(ours.transformer.config, (7,) * 20)
    with torch.no_grad():
        expected = ours(ids)
        found = ours.train()(ids)
    dropped = found == 0
    assert 10 < dropped.sum() < 50
    torch.testing.assert_close(found[~dropped], 2 * expected[~dropped])


def test_summary_that_cannot_give_the_outputs_is_refused():
    for field in ("summary_use_proj", "summary_proj_to_labels"):
        with pytest.raises(
            ValueError, match=f"the config's {field} is false, which makes 32 outputs where 3 are needed"
        ):
            XLMForSequenceClassification(replace(TINY, **{field: False}), 3)


def test_untied_language_model():
    ours, theirs = make_pair("lm", tie_word_embeddings=False)
    ids, mask, _ = make_inputs(ours.transformer.config)
    assert not torch.equal(ours.pred_layer.proj.weight, ours.transformer.embeddings.weight)
    with torch.no_grad():
        assert_near(ours(ids, attention_mask=mask), theirs(ids, attention_mask=mask).logits, 1e-5, "logits")


def test_gradient_checkpointing_changes_nothing():
    gradients = []
    for checkpointing in (False, True):
        ours, _ = make_pair("tokens", dropout=0.2)
        ours.backbone.gradient_checkpointing = checkpointing
        torch.manual_seed(0)
        ids, _, _ = make_inputs(ours.transformer.config)
        ours.train()(ids.flatten(), TokenLayout([9, 9, 9])).square().sum().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in ours.parameters() if p.grad is not None]))
    torch.testing.assert_close(*gradients)
