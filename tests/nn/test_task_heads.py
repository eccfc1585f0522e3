"""Heads for tags, spans and choices against transformers: packed rows, dropout, and faults that must show."""

from dataclasses import replace

import pytest
import torch

from skxlmr.nn import TokenLayout, losses

from .reference import (
    N_CHOICES,
    N_OUTPUTS,
    N_TAGS,
    TASK_FAULTS,
    TINY,
    assert_near,
    assert_tasks_agree,
    make_labels,
    make_pair,
    make_rows,
    our_loss,
    reference_outputs,
    task_lengths,
)

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}
HEADS = ["tokcls", "qa", "mc"]
LENGTHS = [11, 4, 8, 11, 2, 7]  # two sets of choices

dtypes = pytest.mark.parametrize("dtype", TOLERANCE, ids=["fp32", "fp64"])
heads = pytest.mark.parametrize("kind", HEADS)


def tokens_of(ids, mask):
    return ids[mask.bool()], TokenLayout(mask.sum(1).tolist())


def of_tokens(kind, logits, mask):
    """Of padded outputs those of real tokens, in the form of packed outputs."""
    return logits if kind == "mc" else logits[mask.bool()]


@heads
@dtypes
def test_packed_rows_of_uneven_length(kind, dtype):
    ours, theirs = make_pair(kind, dtype=dtype)
    ids, mask = make_rows(TINY, LENGTHS)
    with torch.no_grad():
        expected, _ = reference_outputs(kind, theirs, ids, mask)
        found = ours(*tokens_of(ids, mask))
        padded = ours(ids, attention_mask=mask)
    assert_near(found, of_tokens(kind, expected, mask), TOLERANCE[dtype], "packed logits")
    assert_near(padded, expected, TOLERANCE[dtype], "padded logits")
    assert found.shape == {"tokcls": (43, N_TAGS), "qa": (43, 2), "mc": (6,)}[kind]


@dtypes
def test_regression_on_several_targets(dtype):
    ours, theirs = make_pair("seqcls", dtype=dtype)
    theirs.config.problem_type = "regression"
    ids, mask = make_rows(TINY, LENGTHS)
    targets = torch.randn(len(LENGTHS), N_OUTPUTS, dtype=dtype, generator=torch.Generator().manual_seed(0))
    _, expected = reference_outputs("seqcls", theirs, ids, mask, targets)
    found = losses.squared_error(ours(ids, attention_mask=mask), targets).mean()
    assert_near(found, expected, TOLERANCE[dtype], "loss")


# Dropout --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("classifier_dropout", "expected"), [(0.3, 0.3), (None, 0.1), (0.0, 0.0)])
def test_rates_of_the_heads(classifier_dropout, expected):
    """The head for tags has its own rate, the head for choices that of the encoder, as in the reference."""
    config = replace(TINY, hidden_dropout_prob=0.1, classifier_dropout=classifier_dropout)
    for kind, rate in [("tokcls", expected), ("mc", 0.1)]:
        ours, theirs = make_pair(kind, config)
        assert ours.dropout.p == theirs.dropout.p == rate


@pytest.mark.parametrize("kind", ["tokcls", "mc"])
@pytest.mark.parametrize("layout", ["packed", "padded"])
def test_dropout_of_the_head_is_on_in_training_and_off_in_evaluation(kind, layout):
    config = replace(TINY, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    ours, _ = make_pair(kind, config, torch.float64)
    ids, mask = make_rows(TINY, LENGTHS)

    def run():
        with torch.no_grad():
            return ours(ids, attention_mask=mask) if layout == "padded" else ours(*tokens_of(ids, mask))

    without = run()
    ours.train()
    assert torch.equal(run(), without)
    ours.dropout.p = 0.5
    torch.manual_seed(0)
    first, second = run(), run()
    torch.manual_seed(0)
    assert torch.equal(run(), first)
    assert (first - second).abs().max() > 1e-3 and (first - without).abs().max() > 1e-3
    ours.eval()
    assert torch.equal(run(), without)


# What the losses ignore -----------------------------------------------------------------------------------------------


def test_labels_cover_what_is_ignored():
    _, mask = make_rows(TINY, LENGTHS)
    tags = make_labels("tokcls", TINY, mask)
    assert set(tags.unique().tolist()) == {-100, *range(N_TAGS)}
    assert (tags[mask.bool()] == -100).any() and (tags[~mask.bool()] == -100).all()
    places = make_labels("qa", TINY, mask)
    beyond = places >= mask.shape[1]
    assert beyond.any(0).all() and not beyond.all(1).any() and (~beyond).all(1).any()
    assert set(make_labels("mc", TINY, mask).tolist()) <= set(range(N_CHOICES))


@dtypes
def test_a_place_beyond_the_row_leaves_the_other_end_in_the_loss(dtype):
    """Starts and ends are averaged separately, each over the rows that have one, and then with equal weight."""
    ours, theirs = make_pair("qa", dtype=dtype)
    ids, mask = make_rows(TINY, [7, 7, 7])
    labels = torch.tensor([[2, 7], [500, 3], [1, 99]])
    with torch.no_grad():
        logits, loss = reference_outputs("qa", theirs, ids, mask, labels)
        log_p = ours(*tokens_of(ids, mask)).view(3, 7, 2).log_softmax(1)
    starts, ends = -(log_p[0, 2, 0] + log_p[2, 1, 0]) / 2, -log_p[1, 3, 1]
    assert_near((starts + ends) / 2, loss, TOLERANCE[dtype], "loss")
    assert_near(our_loss("qa", logits, labels), loss, TOLERANCE[dtype], "loss of the reference's logits")


@dtypes
def test_spans_of_packed_rows_cost_what_each_costs_alone(dtype):
    """The reference's softmax would run over padding, so it gets one row at a time. For both, a position before the row means
    its first token."""
    ours, theirs = make_pair("qa", dtype=dtype)
    ids, mask = make_rows(TINY, LENGTHS)
    labels = torch.tensor([[2, 5], [0, 3], [7, 7], [-4, 10], [1, 1], [0, -1]])
    tokens, layout = tokens_of(ids, mask)
    with torch.no_grad():
        loss_N2 = losses.span_cross_entropy(ours(tokens, layout), layout.lengths_N, labels)
        for row, length in enumerate(LENGTHS):
            alone = ids[row : row + 1, :length]
            _, expected = reference_outputs("qa", theirs, alone, torch.ones_like(alone), labels[row : row + 1])
            assert_near(loss_N2[row].mean(), expected, TOLERANCE[dtype], f"loss of row {row}")


# Planted faults -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "fault"), TASK_FAULTS)
@dtypes
def test_the_comparison_finds_planted_faults(kind, fault, dtype):
    ours, theirs = make_pair(kind, dtype=dtype)
    assert_tasks_agree(kind, ours, theirs, TINY, LENGTHS, TOLERANCE[dtype])
    with torch.no_grad():
        fault(ours)
    with pytest.raises(AssertionError, match="logits: differs by"):
        assert_tasks_agree(kind, ours, theirs, TINY, LENGTHS, TOLERANCE[dtype])


WRONG_LABELS = {
    "ends as starts": ("qa", lambda labels: labels.flip(1)),
    "places shifted by <s>": ("qa", lambda labels: labels - (labels > 0).long()),
    "tags shifted by a token": ("tokcls", lambda labels: labels.roll(1, 1)),
    "ignored tokens counted": ("tokcls", lambda labels: labels.clamp(min=0)),
    "another choice": ("mc", lambda labels: (labels + 1) % N_CHOICES),
    "labels of the row before": ("multilabel", lambda labels: labels.roll(1, 0)),
}


@pytest.mark.parametrize("fault", WRONG_LABELS)
def test_the_comparison_of_losses_finds_wrong_labels(fault):
    kind, spoil = WRONG_LABELS[fault]
    _, theirs = make_pair(kind, dtype=torch.float64)
    ids, mask = make_rows(TINY, task_lengths(kind, LENGTHS))
    labels = make_labels(kind, TINY, mask)
    with torch.no_grad():
        logits, expected = reference_outputs(kind, theirs, ids, mask, labels)
    assert_near(our_loss(kind, logits, labels), expected, 1e-12, "loss")
    with pytest.raises(AssertionError, match="loss: differs by"):
        assert_near(our_loss(kind, logits, spoil(labels)), expected, 1e-12, "loss")
