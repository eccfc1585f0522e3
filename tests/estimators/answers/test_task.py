"""Where answers lie in the windows of their contexts, and their loss, against the reference's way and transformers."""

import math

import numpy as np
import pytest
import torch

from skxlmr.estimators._answers.task import SpanTask, span_positions
from skxlmr.nn import TokenLayout, losses
from tests.nn.reference import assert_gradients_agree, make_pair, make_rows
from tests.tiny import sentences

QUESTIONS = ["Where is the bird?", "дом", "Was läuft?", "κόκκινο σπίτι σήμερα"]


def long_contexts(n):
    """Contexts of one to four sentences."""
    parts = sentences(4 * n, seed=1)
    return [" ".join(parts[4 * i : 4 * i + 1 + i % 4]) for i in range(n)]


@pytest.fixture(scope="module")
def windows(tiny_tokenizer):
    """Twelve contexts in windows of 40 tokens, some in one, some in several, each after its question."""
    contexts = long_contexts(12)
    questions = [QUESTIONS[i % 4] for i in range(12)]
    encoded = tiny_tokenizer.encode_batch(
        questions, contexts, max_length=40, truncation="only_second", stride=6, return_offsets=True
    )
    assert encoded.n_windows.min() == 1 and encoded.n_windows.max() >= 3
    return contexts, encoded


def draw_spans(contexts, seed=0):
    """Runs of one to three words, in characters."""
    rng, spans = np.random.default_rng(seed), []
    for context in contexts:
        words = context.split(" ")
        first = int(rng.integers(len(words)))
        text = " ".join(words[first : first + int(rng.integers(1, 4))])
        start = len(" ".join(words[:first])) + bool(first)
        assert context[start : start + len(text)] == text
        spans.append((start, start + len(text)))
    return np.array(spans)


def by_reference(encoded, spans):
    """The loops of transformers' run_qa.py."""
    found = []
    for window, row in enumerate(encoded.input_rows):
        part = encoded.span(window)
        offsets, kinds = encoded.offsets[part].tolist(), encoded.sequence_ids[part].tolist()
        start_char, end_char = spans[row]
        first = kinds.index(1)
        last = len(kinds) - 1 - kinds[::-1].index(1)
        if start_char < 0 or not (offsets[first][0] <= start_char and offsets[last][1] >= end_char):
            found.append((0, 0))
            continue
        start, end = first, last
        while start <= last and offsets[start][0] <= start_char:
            start += 1
        while end >= first and offsets[end][1] >= end_char:
            end -= 1
        found.append((start - 1, end + 1))
    return np.array(found)


@pytest.mark.parametrize("seed", range(8))
def test_positions_are_those_of_the_reference(windows, seed):
    contexts, encoded = windows
    spans = draw_spans(contexts, seed)
    found = span_positions(encoded, spans)
    np.testing.assert_array_equal(found, by_reference(encoded, spans))
    shown = np.zeros(len(contexts), bool)
    for window, (start, end) in enumerate(found):
        row = encoded.input_rows[window]
        if end:
            shown[row] = True
            tokens = encoded.offsets[encoded.span(window)][[start, end]]
            assert tokens[0, 0] <= spans[row, 0] and tokens[1, 1] >= spans[row, 1]
    assert shown.sum() >= 10  # neighbours share six tokens: most answers are whole in one of them


def test_no_answer_points_to_the_first_token(windows):
    contexts, encoded = windows
    assert not span_positions(encoded, np.full((len(contexts), 2), -1)).any()


def test_answer_cut_by_every_window_points_to_the_first_token(windows):
    contexts, encoded = windows
    long = int(encoded.n_windows.argmax())
    spans = np.full((len(contexts), 2), -1)
    spans[long] = 0, len(contexts[long])
    assert not span_positions(encoded, spans).any()
    assert SpanTask(encoded, spans, np.ones(len(contexts), np.float32)).n_hidden == 1


def test_rows_without_windows(tiny_tokenizer):
    encoded = tiny_tokenizer.encode_batch(["Wo?", "Was?"], ["das Haus", "ein Vogel"], return_offsets=True)
    np.testing.assert_array_equal(
        span_positions(encoded, np.array([[4, 8], [0, 3]])), by_reference(encoded, [[4, 8], [0, 3]])
    )


# Loss -----------------------------------------------------------------------------------------------------------------


def in_a_loop(logits, lengths, positions):
    values, start = [], 0
    for length, pair in zip(lengths, positions, strict=True):
        rows = logits[start : start + length]
        start += length
        of_row = []
        for k, position in enumerate(pair):
            position = max(position, 0)
            total = math.log(sum(math.exp(row[k]) for row in rows))
            of_row.append(total - rows[position][k] if position < length else 0.0)
        values.append(of_row)
    return values


def test_span_cross_entropy():
    lengths, positions = [5, 1, 3, 7], [[0, 4], [0, 0], [2, 3], [-5, 100]]
    logits = torch.randn(16, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).mul(3)
    arguments = torch.tensor(lengths), torch.tensor(positions)
    found = losses.span_cross_entropy(logits, *arguments)
    np.testing.assert_allclose(found, in_a_loop(logits.tolist(), lengths, positions), rtol=0, atol=1e-13)
    assert torch.autograd.gradcheck(
        lambda x: losses.span_cross_entropy(x, *arguments), logits.clone().requires_grad_(True)
    )
    # a constant does not matter, nor how large it is
    shifted = losses.span_cross_entropy(logits + 1e4, *arguments)
    torch.testing.assert_close(shifted, found, rtol=0, atol=1e-10)


@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_loss_and_gradients_are_those_of_transformers(dtype, tolerance, mode):
    ours, theirs = make_pair("qa", dtype=dtype)
    for module in (ours, theirs):
        for part in module.modules():
            if isinstance(part, torch.nn.Dropout):
                part.p = 0.0
            if hasattr(part, "dropout_prob"):
                part.dropout_prob = 0.0
        module.train(mode == "train")
    for layer in ours.roberta.encoder.layer:
        layer.attention.self.dropout = 0.0
    lengths = [9, 9, 9, 9, 9]
    ids, mask = make_rows(ours.roberta.config, lengths)
    starts, ends = torch.tensor([0, 3, 8, 9, -2]), torch.tensor([0, 5, 50, 7, 9])
    expected = theirs(ids, attention_mask=mask, start_positions=starts, end_positions=ends)

    layout = TokenLayout(lengths)
    positions = torch.stack([starts, ends], 1)
    logits = ours(ids.flatten(), layout)
    values = losses.span_cross_entropy(logits, layout.lengths_N, positions)
    loss = (values.sum(0) / (positions < 9).sum(0)).mean()
    assert torch.isclose(loss, expected.loss, rtol=0, atol=tolerance)
    assert (logits[:, 0].reshape(5, 9) - expected.start_logits).abs().max() <= tolerance
    loss.backward()
    expected.loss.backward()
    assert_gradients_agree(ours, theirs, tolerance)


# Task -----------------------------------------------------------------------------------------------------------------


def test_batch_and_its_losses(windows):
    contexts, encoded = windows
    spans = draw_spans(contexts)
    weights = np.arange(1, 13, dtype=np.float32)
    task = SpanTask(encoded, spans, weights)
    assert task.n_rows == len(encoded) > len(contexts)
    rows = np.array([3, 0, len(encoded) - 1, 5])
    batch = task.collate(rows, np.random.default_rng(0))
    assert batch.layout.lengths == sorted(encoded.lengths[rows], reverse=True)
    order = rows[np.argsort(-encoded.lengths[rows], kind="stable")]
    input_rows = encoded.input_rows[order]
    np.testing.assert_array_equal(batch.rows["span"], input_rows)
    np.testing.assert_array_equal(batch.targets["positions"], by_reference(encoded, spans)[order])
    # each window weighs as much as its row, however many windows the row has
    np.testing.assert_array_equal(batch.targets["weights"], weights[input_rows])
    assert batch.totals["span"] == weights[input_rows].sum()

    logits = torch.randn(batch.layout.n_tokens, 2, generator=torch.Generator().manual_seed(1))
    (values,) = task.losses(lambda ids, layout: logits, batch).values()
    expected = np.mean(in_a_loop(logits.tolist(), batch.layout.lengths, batch.targets["positions"].tolist()), axis=1)
    np.testing.assert_allclose(values, expected * weights[input_rows], rtol=1e-5)
