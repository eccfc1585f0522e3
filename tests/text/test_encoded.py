"""Rows, windows and tokens of an encoded batch: where they lie, and taking some of them."""

import numpy as np
import pytest

from skxlmr.text import EncodedBatch
from tests.tiny import sentences

PER_TOKEN = ["ids", "offsets", "sequence_ids", "word_ids"]
PER_ROW = ["lengths", "n_dropped", "row_of_window", "window_starts", "second_starts", "n_dropped_is_minimum"]


def make_batch(lengths, row_of_window=None):
    """Rows of these lengths with all optional arrays, whose numbers show where they come from."""
    n_rows, n_tokens = len(lengths), sum(lengths)
    tokens = np.arange(n_tokens)
    return EncodedBatch(
        ids=(tokens + 100).astype(np.int32),
        lengths=np.array(lengths, np.int64),
        n_dropped=np.arange(n_rows) + 50,
        offsets=np.stack([tokens, tokens + 1], 1).astype(np.int32),
        sequence_ids=(tokens % 3 - 1).astype(np.int8),
        word_ids=(tokens + 1000).astype(np.int32),
        row_of_window=None if row_of_window is None else np.array(row_of_window, np.int64),
        window_starts=None if row_of_window is None else np.arange(n_rows) * 7,
        second_starts=np.arange(n_rows) + 20,
        n_dropped_is_minimum=np.arange(n_rows) % 2 == 1,
    )


PLAIN = make_batch([3, 1, 4, 2])
# Rows of the input with 1, 3, 2 and 1 windows.
WINDOWS = make_batch([3, 5, 5, 2, 4, 1, 6], [0, 1, 1, 1, 2, 2, 3])
WINDOWS_OF = [[0], [1, 2, 3], [4, 5], [6]]


def assert_rows(found, batch, rows):
    """``found`` holds these rows of ``batch``, except for the numbers of the rows of the input."""
    places = [place for row in rows for place in range(batch.starts[row], batch.starts[row + 1])]
    for names, chosen in [(PER_TOKEN, places), (PER_ROW, rows)]:
        for name in names:
            values = getattr(batch, name)
            if values is None:
                assert getattr(found, name) is None, name
            elif name != "row_of_window":
                assert getattr(found, name).tolist() == values[chosen].tolist(), name
                assert getattr(found, name).dtype == values.dtype, name


@pytest.mark.parametrize("rows", [[0, 1, 2, 3], [2, 0], [1], [3, 3, 1], []], ids=str)
def test_token_places(rows):
    places = PLAIN.token_places(np.array(rows, np.int64))
    assert places.tolist() == [place for row in rows for place in range(PLAIN.starts[row], PLAIN.starts[row + 1])]
    assert np.array_equal(PLAIN.ids[places], np.concatenate([PLAIN.row(row) for row in rows] or [PLAIN.ids[:0]]))


def test_without_windows_each_row_shows_itself():
    assert PLAIN.input_rows.tolist() == [0, 1, 2, 3]
    assert PLAIN.n_windows.tolist() == [1, 1, 1, 1]
    assert PLAIN.input_rows.dtype == PLAIN.n_windows.dtype == np.int64


def test_windows_of_each_row_of_the_input():
    assert WINDOWS.input_rows.tolist() == [0, 1, 1, 1, 2, 2, 3]
    assert WINDOWS.n_windows.tolist() == [len(windows) for windows in WINDOWS_OF]
    assert WINDOWS.n_windows.dtype == np.int64


def test_input_rows_ascend(tiny_tokenizer):
    texts = [" ".join(sentences(n, seed=n)) if n else "" for n in (3, 0, 1, 6)]
    batch = tiny_tokenizer.encode_batch(texts, max_length=12, stride=3)
    assert (np.diff(batch.input_rows) >= 0).all()
    assert np.bincount(batch.input_rows).tolist() == batch.n_windows.tolist()
    assert batch.n_windows[1] == 1 < batch.n_windows[0] and len(batch.n_windows) == len(texts)


ORDERS = [[0, 1, 2, 3], [3, 1], [1], [2, 3, 0, 1], []]


@pytest.mark.parametrize("rows", ORDERS, ids=str)
def test_taken_rows_keep_all_their_windows(rows):
    taken = WINDOWS.take_input_rows(np.array(rows, np.int64))
    assert_rows(taken, WINDOWS, [window for row in rows for window in WINDOWS_OF[row]])
    assert taken.row_of_window.tolist() == [new for new, row in enumerate(rows) for _ in WINDOWS_OF[row]]
    assert taken.n_windows.tolist() == [len(WINDOWS_OF[row]) for row in rows]
    assert taken.input_rows is taken.row_of_window


@pytest.mark.parametrize("rows", ORDERS, ids=str)
def test_taken_rows_without_windows(rows):
    taken = PLAIN.take_input_rows(np.array(rows, np.int64))
    assert_rows(taken, PLAIN, rows)
    assert taken.row_of_window is None and taken.input_rows.tolist() == list(range(len(rows)))


def test_taking_twice_is_taking_once():
    twice = WINDOWS.take_input_rows(np.array([3, 1, 0])).take_input_rows(np.array([1, 0]))
    once = WINDOWS.take_input_rows(np.array([1, 3]))
    for name in PER_TOKEN + PER_ROW:
        assert getattr(twice, name).tolist() == getattr(once, name).tolist(), name


def test_parts_of_a_split_equal_what_each_encodes_alone(tiny_tokenizer):
    texts = [" ".join(sentences(n, seed=n)) for n in (2, 5, 1, 4, 3)]
    batch = tiny_tokenizer.encode_batch(texts, max_length=14, stride=4, return_offsets=True)
    rows = np.array([4, 0, 3])
    alone = tiny_tokenizer.encode_batch([texts[i] for i in rows], max_length=14, stride=4, return_offsets=True)
    taken = batch.take_input_rows(rows)
    for name in ("ids", "lengths", "offsets", "sequence_ids", "row_of_window", "window_starts"):
        assert np.array_equal(getattr(taken, name), getattr(alone, name)), name


@pytest.mark.parametrize(
    ("indices", "rows"),
    [
        ([2, 0], [2, 0]),
        (np.array([False, True, True, False]), [1, 2]),
        (slice(1, None, 2), [1, 3]),
        (np.array([-1]), [3]),
    ],
    ids=["integers", "mask", "slice", "from the end"],
)
def test_take(indices, rows):
    assert_rows(PLAIN.take(indices), PLAIN, rows)


def test_taken_windows_keep_the_row_that_they_show():
    taken = WINDOWS.take([5, 0, 2])
    assert_rows(taken, WINDOWS, [5, 0, 2])
    assert taken.row_of_window.tolist() == [2, 0, 1]


@pytest.mark.parametrize(
    ("n_dropped", "is_minimum", "said"),
    [
        ([], None, "0 tokens"),
        ([0, 1], None, "1 token"),
        ([7, 10_062, 8], None, "10,062 tokens"),
        ([7, 10_062, 8], [False, False, False], "10,062 tokens"),
        ([7, 3307, 8], [False, True, False], "at least 3,307 tokens"),
        # a row with a lower bound may have lost more than the row with the largest count
        ([7, 3307, 8], [True, False, False], "at least 3,307 tokens"),
    ],
)
def test_longest_loss_in_words(n_dropped, is_minimum, said):
    lengths, n_dropped = np.ones(len(n_dropped), np.int64), np.array(n_dropped, np.int64)
    is_minimum = None if is_minimum is None else np.array(is_minimum)
    ids = np.zeros(len(lengths), np.int32)
    assert EncodedBatch(ids, lengths, n_dropped, n_dropped_is_minimum=is_minimum).describe_longest_loss() == said


def test_row_and_span():
    assert PLAIN.span(2) == slice(4, 8) and PLAIN.row(-1).tolist() == [108, 109]
    assert np.shares_memory(PLAIN.row(1), PLAIN.ids)
    with pytest.raises(IndexError):
        PLAIN.row(4)
