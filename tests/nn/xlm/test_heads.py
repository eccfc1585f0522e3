"""The original XLM's heads against transformers', in both precisions, and gradients."""

from dataclasses import replace

import pytest
import torch

from skxlmr.nn import TokenLayout, XLMForSequenceClassification, losses
from tests.nn.reference import assert_near

from .reference import HEADS, N_OUTPUTS, TINY, TOLERANCE, make_inputs, make_pair, run_theirs
from .test_encoder import OPTIONS

dtypes = pytest.mark.parametrize("dtype", TOLERANCE, ids=str)


LOGITS = ("lm", "sequences", "tokens", "spans")


def logits_of(kind, output):
    if kind == "spans":
        return torch.stack([output.start_logits, output.end_logits], -1)
    return output.logits


def assert_gradients(ours, theirs, dtype, fixed_positions=False):
    of_ours, of_theirs = (
        {name: p.grad for name, p in module.named_parameters() if p.grad is not None} for module in (ours, theirs)
    )
    if fixed_positions:  # the reference trains what the paper fixes
        del of_theirs["transformer.position_embeddings.weight"]
    assert of_ours.keys() == of_theirs.keys()
    largest = max(gradient.abs().max().item() for gradient in of_theirs.values())
    for name, gradient in of_theirs.items():
        assert_near(of_ours[name], gradient, TOLERANCE[dtype] * largest, f"gradient of {name}")


@dtypes
@pytest.mark.parametrize("kind", LOGITS)
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
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
    assert_gradients(ours, theirs, dtype, fixed_positions=options.get("sinusoidal_embeddings", False))


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
    {"summary_activation": "tanh", "summary_first_dropout": 0.4, "summary_last_dropout": 0.3},
    {"summary_first_dropout": 0.0},
    {"summary_proj_to_labels": False, "num_labels": TINY.emb_dim},
    {"summary_use_proj": False, "num_labels": TINY.emb_dim},
]


@dtypes
@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("options", SUMMARIES, ids=str)
def test_summary_options(options, train, dtype, monkeypatch):
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
    torch.manual_seed(3)
    expected = run_theirs(theirs.train(train), dtype, ids).logits
    torch.manual_seed(3)
    found = ours.train(train)(ids)
    assert_near(found, expected, TOLERANCE[dtype], "logits")
    if not train:
        assert_near(ours(ids.flatten(), TokenLayout([7, 7])), expected, TOLERANCE[dtype], "logits of packed rows")
    weights = torch.randn(found.shape, dtype=dtype)
    (found * weights).sum().backward()
    (expected * weights).sum().backward()
    assert_gradients(ours, theirs, dtype)


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


@dtypes
def test_untied_language_model(dtype):
    ours, theirs = make_pair("lm", dtype, tie_word_embeddings=False)
    ids, mask, _ = make_inputs(ours.transformer.config)
    assert not torch.equal(ours.pred_layer.proj.weight, ours.transformer.embeddings.weight)
    found, expected = ours(ids, attention_mask=mask), run_theirs(theirs, dtype, ids, attention_mask=mask).logits
    assert_near(found, expected, TOLERANCE[dtype], "logits")
    losses.cross_entropy(found[mask == 1], ids[mask == 1]).mean().backward()
    torch.nn.functional.cross_entropy(expected[mask == 1], ids[mask == 1]).backward()
    assert_gradients(ours, theirs, dtype)


def transpose_a_weight(ours):
    weight = ours.transformer.attentions[1].k_lin.weight
    weight.copy_(weight.T.clone())


def shift_the_positions(ours):
    weight = ours.transformer.position_embeddings.weight
    weight.copy_(weight.roll(1, 0))


def swap_the_languages(ours):
    weight = ours.transformer.lang_embeddings.weight
    weight.copy_(weight.flip(0))


def swap_the_norms_of_a_layer(ours):
    norms = ours.transformer.layer_norm1, ours.transformer.layer_norm2
    norms[0][1], norms[1][1] = norms[1][1], norms[0][1]


def look_ahead(ours):
    for attention in ours.transformer.attentions:
        attention.causal = False


def take_the_other_activation(ours):
    for ffn in ours.transformer.ffns:
        ffn.gelu = not ffn.gelu


def forget_the_bias(ours):
    ours.pred_layer.proj.bias.zero_()


FAULTS = [
    transpose_a_weight,
    shift_the_positions,
    swap_the_languages,
    swap_the_norms_of_a_layer,
    look_ahead,
    take_the_other_activation,
    forget_the_bias,
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_the_comparison_finds_planted_faults(fault):
    ours, theirs = make_pair("lm", n_langs=2, causal=True)
    ids, mask, langs = make_inputs(ours.transformer.config)
    inputs = {"attention_mask": mask, "langs": langs}
    with torch.no_grad():
        expected = theirs(ids, **inputs).logits
        assert_near(ours(ids, **inputs), expected, 1e-5, "logits")
        fault(ours)
        with pytest.raises(AssertionError, match="logits: differs by"):
            assert_near(ours(ids, **inputs), expected, 1e-5, "logits")


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
