"""Labels of words: which token of which window has them, and that losses and gradients are those of the reference."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from skxlmr.estimators._tokens.task import TokenTask, best_places, starts_of_words
from skxlmr.nn import losses
from skxlmr.text import EncodedBatch
from skxlmr.text._truncation import windows
from tests.batching.rows import BOS, EOS, padded
from tests.nn.reference import TINY, assert_gradients_agree, make_pair


def windowed(words_of_rows, budget, stride, seed=0):
    """Rows whose words have these numbers of tokens, in windows of ``budget`` tokens without the special ones."""
    rng = np.random.default_rng(seed)
    tokens = [rng.integers(4, 99, sum(row), dtype=np.int32) for row in words_of_rows]
    words = [np.repeat(np.arange(len(row)), row).astype(np.int32) for row in words_of_rows]
    n_N = np.array([len(row) for row in tokens])
    row_W, part = windows(n_N, n_N * 0, budget, stride)
    ids, word_ids = [], []
    for row, start, kept in zip(row_W, part.start_W, part.kept_W, strict=True):
        ids.append([BOS, *tokens[row][start : start + kept], EOS])
        word_ids.append([-1, *words[row][start : start + kept], -1])
    lengths = np.array([len(row) for row in ids])
    zeros = np.zeros(len(ids), np.int64)
    return EncodedBatch(
        np.concatenate(ids).astype(np.int32),
        lengths,
        zeros,
        word_ids=np.concatenate(word_ids).astype(np.int32),
        row_of_window=row_W,
        window_starts=part.start_W,
    ), tokens


def ragged(rows, dtype):
    return np.fromiter([np.array(row, dtype) for row in rows], dtype=object, count=len(rows))


ROWS = [[1, 3, 1, 2, 4, 1, 1, 2], [2, 1], [], [12], [1] * 9]


@pytest.mark.parametrize(("budget", "stride"), [(5, 2), (4, 0), (8, 4), (50, 3), (1, 0)])
def test_every_token_stands_once_where_it_has_the_most_context(budget, stride):
    encoded, tokens = windowed(ROWS, budget, stride)
    places = best_places(encoded)
    np.testing.assert_array_equal(encoded.ids[places], np.concatenate(tokens))
    rows = np.repeat(encoded.input_rows, encoded.lengths)[places]
    np.testing.assert_array_equal(rows, np.repeat(np.arange(len(ROWS)), [len(row) for row in tokens]))
    # by hand: every window that shows a token, and the one that was chosen
    window = np.repeat(np.arange(len(encoded)), encoded.lengths)
    every_token = [(row, position) for row, ids in enumerate(tokens) for position in range(len(ids))]
    for (row, position), place in zip(every_token, places, strict=True):
        context = {}
        for w in np.flatnonzero(encoded.input_rows == row):
            before = position - encoded.window_starts[w]
            after = encoded.lengths[w] - 3 - before
            if before >= 0 and after >= 0:
                context[w] = min(before, after)
        assert context[window[place]] == max(context.values())
        assert window[place] == min(w for w in context if context[w] == max(context.values()))


def test_words_are_found_again_whatever_rows_are_taken():
    encoded, _ = windowed(ROWS, 5, 2)
    assert starts_of_words(encoded, best_places(encoded)).sum() == sum(map(len, ROWS))
    taken = encoded.take_input_rows(np.array([4, 0]))
    places = best_places(taken)
    is_start = starts_of_words(taken, places)
    assert taken.word_ids[places[is_start]].tolist() == [*range(9), *range(8)]


@pytest.mark.parametrize("all_subwords", [False, True])
def test_each_word_is_labelled_once(all_subwords):
    encoded, _ = windowed(ROWS, 5, 2)
    targets = ragged([np.arange(len(row)) + 20 * i for i, row in enumerate(ROWS)], np.int64)
    weights = ragged([np.full(len(row), i + 1) for i, row in enumerate(ROWS)], np.float32)
    task = TokenTask(encoded, targets, weights, losses.cross_entropy, all_subwords)
    batch = task.collate(np.arange(len(encoded))[::-1], np.random.default_rng(0))
    n_tokens = [sum(row) if all_subwords else len(row) for row in ROWS]
    labels, counts = np.unique(batch.targets["labels"].numpy(), return_counts=True)
    assert labels.tolist() == np.concatenate(targets).tolist()
    assert counts.tolist() == ([n for row in ROWS for n in row] if all_subwords else [1] * len(labels))
    np.testing.assert_array_equal(batch.targets["weights"], batch.rows["loss"] + 1.0)
    np.testing.assert_array_equal(batch.targets["labels"].numpy() // 20, batch.rows["loss"])
    assert batch.totals == {"loss": sum(n * (i + 1) for i, n in enumerate(n_tokens))}
    assert batch.layout.lengths == sorted(batch.layout.lengths, reverse=True)
    # the labelled token belongs to the word that the label names
    lengths = encoded.lengths
    order = np.arange(len(encoded))[::-1]
    order = order[np.argsort(-lengths[order], kind="stable")]
    words = encoded.word_ids[encoded.token_places(order)][batch.targets["positions"]]
    np.testing.assert_array_equal(words, batch.targets["labels"].numpy() % 20)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_loss_and_gradients_equal_the_reference(dtype, tolerance):
    """transformers' loss over the same windows, with -100 at every token that has no label."""
    ours, theirs = make_pair("tokcls", TINY, dtype)
    encoded, _ = windowed(ROWS, 6, 3)
    rng = np.random.default_rng(0)
    targets = ragged([rng.integers(0, 3, len(row)) for row in ROWS], np.int64)
    weights = ragged([np.ones(len(row)) for row in ROWS], np.float32)
    task = TokenTask(encoded, targets, weights, losses.cross_entropy)
    batch = task.collate(np.arange(len(encoded)), rng)
    (values,) = task.losses(ours, batch).values()
    loss = values.sum() / batch.totals["loss"]
    loss.backward()

    ids, mask = padded(batch.ids.split(batch.layout.lengths))
    flat = torch.full(batch.ids.shape, -100)
    flat[batch.targets["positions"]] = batch.targets["labels"]
    labels = torch.full(ids.shape, -100)
    labels[mask.bool()] = flat
    expected = theirs(ids, attention_mask=mask, labels=labels).loss
    expected.backward()
    torch.testing.assert_close(loss, expected, rtol=0, atol=tolerance)
    assert_gradients_agree(ours, theirs, tolerance)


def test_a_batch_without_words_has_nothing_to_learn_from():
    encoded, _ = windowed([[], [1, 1]], 5, 2)
    task = TokenTask(encoded, ragged([[], [0, 1]], np.int64), ragged([[], [1, 1]], np.float32), losses.cross_entropy)
    ours, _ = make_pair("tokcls", TINY)
    batch = task.collate(np.array([0]), np.random.default_rng(0))
    assert batch.totals == {"loss": 0.0} and task.losses(ours, batch)["loss"].shape == (0,)
    only_empty, _ = windowed([[]], 5, 2)
    assert TokenTask(only_empty, ragged([[]], np.int64), ragged([[]], np.float32), F.cross_entropy).n_rows == 1
