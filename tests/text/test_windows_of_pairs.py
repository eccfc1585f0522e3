"""The longer text of a pair is split into windows, each next to the whole other text: every tokenizer, against lists."""

import itertools
import json
import pickle

import numpy as np
import pytest

from skxlmr.text import SubwordSampling
from tests.text.windows import windows_by_hand
from tests.tiny import sentences

LONG = [" ".join(sentences(9, seed=i)) for i in range(6)]
SHORT = sentences(6)
# the longer text is the first, then the second, then neither
PAIRS = [*zip(LONG, SHORT, strict=True), *zip(SHORT, LONG, strict=True), ("the", "house"), ("", LONG[0]), ("", "")]


def rows(batch):
    return [batch.row(i).tolist() for i in range(len(batch))]


@pytest.mark.parametrize(("room", "stride"), [(90, 0), (90, 20), (40, 3), (1, 0)])
def test_the_longer_text_becomes_windows(tokenizer, room, stride):
    """Windows leave `room` tokens next to the longest of the shorter texts."""
    firsts, seconds = zip(*PAIRS, strict=True)
    n_first, n_second = (tokenizer.encode_batch(side).lengths - 2 for side in (firsts, seconds))
    max_length = int(np.minimum(n_first, n_second).max()) + room + tokenizer.n_special(pair=True)
    batch = tokenizer.encode_batch(firsts, seconds, max_length=max_length, stride=stride)
    expected = [windows_by_hand(tokenizer, *pair, max_length, stride) for pair in PAIRS]
    assert rows(batch) == [row for of_pair in expected for row in of_pair]
    assert batch.n_windows.tolist() == [len(of_pair) for of_pair in expected]
    assert batch.lengths.max() == max_length and not batch.n_dropped.any()
    assert batch.n_windows[:12].min() > 1 or room > 40
    # naming the text that is cut gives the same windows
    for truncation, of_those in (("only_first", slice(0, 6)), ("only_second", slice(6, 12))):
        named = tokenizer.encode_batch(
            firsts[of_those], seconds[of_those], max_length=max_length, stride=stride, truncation=truncation
        )
        chosen = batch.take(np.isin(batch.row_of_window, range(15)[of_those]))
        assert rows(named) == rows(chosen)
        np.testing.assert_array_equal(named.window_starts, chosen.window_starts)


def test_places_of_the_tokens(tokenizer):
    firsts, seconds = zip(*PAIRS, strict=True)
    longest = max(len(tokenizer.encode_batch([text]).ids) for text in SHORT)
    batch = tokenizer.encode_batch(firsts, seconds, max_length=longest + 20, stride=4, return_offsets=True)
    whole = tokenizer.encode_batch(firsts, seconds, return_offsets=True)
    assert batch.n_windows.max() > 3
    for window, row in enumerate(batch.row_of_window):
        n_of_text = [np.count_nonzero(whole.sequence_ids[whole.span(row)] == k) for k in (0, 1)]
        cut = int(n_of_text[1] > n_of_text[0])
        for k in (0, 1):
            shown = np.flatnonzero(batch.sequence_ids[batch.span(window)] == k)
            of_text = np.flatnonzero(whole.sequence_ids[whole.span(row)] == k)
            start = batch.window_starts[window] if k == cut else 0
            kept = of_text[start : start + len(shown)]
            np.testing.assert_array_equal(batch.row(window)[shown], whole.row(row)[kept])
            np.testing.assert_array_equal(
                batch.offsets[batch.span(window)][shown], whole.offsets[whole.span(row)][kept]
            )
            assert k == cut or len(shown) == len(of_text)


def test_of_equally_long_texts_the_first_is_cut(tokenizer):
    text = LONG[0]
    n = len(tokenizer.encode_batch([text]).ids) - 2
    batch = tokenizer.encode_batch([text], [text], max_length=n + 10 + tokenizer.n_special(pair=True), stride=2)
    inner = tokenizer.encode_batch([text]).row(0)[1:-1].tolist()
    assert len(batch) == 1 + -(-(n - 10) // 8)
    assert all(row[-n - 1 : -1] == inner for row in rows(batch))


def test_pairs_that_fit_stay_as_they_are(tokenizer):
    firsts, seconds = zip(*PAIRS, strict=True)
    plain = tokenizer.encode_batch(firsts, seconds)
    batch = tokenizer.encode_batch(firsts, seconds, max_length=int(plain.lengths.max()), stride=0)
    np.testing.assert_array_equal(batch.ids, plain.ids)
    np.testing.assert_array_equal(batch.lengths, plain.lengths)
    assert batch.row_of_window.tolist() == list(range(len(PAIRS))) and not batch.window_starts.any()


def test_drawn_segmentations_decide_which_text_is_longer(tiny):
    sampling = SubwordSampling(-1, 0.1, 3)
    options = {"sampling": sampling, "return_offsets": True}
    whole = tiny.encode_batch(LONG, SHORT, **options)
    batch = tiny.encode_batch(LONG, SHORT, max_length=90, stride=0, **options)
    for row in range(6):
        shown = np.concatenate(
            [batch.row(w)[batch.sequence_ids[batch.span(w)] == 0] for w in np.flatnonzero(batch.row_of_window == row)]
        )
        assert shown.tolist() == whole.row(row)[whole.sequence_ids[whole.span(row)] == 0].tolist()


@pytest.mark.parametrize("order", [1, -1])
def test_shorter_text_that_leaves_no_room(tokenizer, order):
    pairs = [("the", "house"), ("children " * 15, "slowly " * 30)]
    n = len(tokenizer.encode_batch(["children " * 15]).ids) - 2
    budget = n + 3
    said = (
        "row 1: a pair's shorter text must leave room for windows on the longer one: "
        "'children children children children chil'... "
        f"has {n} tokens, of the {budget} that max_length={budget + tokenizer.n_special(True)} leaves, and windows share "
        "stride=3"
    )
    options = {"max_length": budget + tokenizer.n_special(pair=True)}
    columns = list(zip(*pairs, strict=True))[::order]
    with pytest.raises(ValueError, match=said) as caught:
        tokenizer.encode_batch(*columns, stride=3, **options)
    assert str(caught.value) == str(pickle.loads(pickle.dumps(caught.value))) == said
    assert tokenizer.encode_batch(*columns, stride=2, **options).n_windows.min() == 1


def test_real_pairs(xlmr, shared_data):
    """Premises are mostly longer than hypotheses; in reverse order the second text is split into windows."""
    pairs = []
    for name in ("indonli", "jnli", "americasnli"):
        with (shared_data / "nli" / f"{name}.jsonl").open(encoding="utf-8") as lines:
            pairs += [(row["premise"], row["hypothesis"]) for row in map(json.loads, itertools.islice(lines, 100))]
    for columns in (list(zip(*pairs, strict=True)), list(zip(*pairs, strict=True))[::-1]):
        lengths = [xlmr.encode_batch(column).lengths - 2 for column in columns]
        max_length = int(np.minimum(*lengths).max()) + 4 + 9
        batch = xlmr.encode_batch(*columns, max_length=max_length, stride=4)
        expected = [windows_by_hand(xlmr, *pair, max_length, 4) for pair in zip(*columns, strict=True)]
        assert rows(batch) == [row for of_pair in expected for row in of_pair]
        assert (batch.n_windows > 1).sum() > 20
