"""Layouts, truncation and packing: what every tokenizer promises, whatever its vocabulary."""

import dataclasses
import itertools

import numpy as np
import pandas as pd
import pyarrow
import pytest
from sentencepiece import SentencePieceProcessor

from skxlmr.text import EncodedBatch
from tests.tiny import sentences


@pytest.fixture(scope="module")
def reference(tiny_proto):
    """transformers' tokenizer over the tiny vocabulary (plain ASCII texts below: it has no normaliser)."""
    transformers = pytest.importorskip("transformers", reason="the reference tokenizer is in transformers")
    processor = SentencePieceProcessor()
    processor.LoadFromSerializedProto(tiny_proto)
    pieces = [(processor.id_to_piece(i), processor.get_score(i)) for i in range(3, processor.get_piece_size())]
    special = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    return transformers.XLMRobertaTokenizer(vocab=[*special, *pieces, ("<mask>", 0.0)])


def rows(batch):
    return [batch.row(i).tolist() for i in range(len(batch))]


def words(n, first):
    """A text of `n` words."""
    return " ".join(itertools.islice(itertools.cycle([first, "house", "bird", "river", "sings"]), n))


LENGTHS = [1, 2, 3, 4, 7, 12]
GRID = [(words(a, "the"), words(b, "under")) for a in LENGTHS for b in LENGTHS]


def test_layout_of_one_text_and_of_a_pair(tiny):
    a, b = rows(tiny.encode_batch(["the house", "a bird"]))
    assert a[0] == b[0] == 0
    assert a[-1] == b[-1] == 2
    assert rows(tiny.encode_batch(["the house"], ["a bird"])) == [[*a, 2, *b[1:]]]
    assert (tiny.n_special(pair=False), tiny.n_special(pair=True)) == (2, 4)
    assert rows(tiny.encode_batch(["", " "])) == [[0, 2], [0, 2]]
    assert rows(tiny.encode_batch(["", "the house"], ["the house", ""])) == [[0, 2, 2, *a[1:]], [*a, 2, 2]]


@pytest.mark.parametrize("truncation", ["longest_first", "only_first", "only_second"])
def test_truncated_pairs_equal_the_reference(tiny, reference, truncation):
    n_fit = n_unfit = 0
    for max_length in [*range(4, 24), 30, 64]:
        for text, pair in GRID:
            try:
                batch = tiny.encode_batch([text], [pair], max_length=max_length, truncation=truncation)
            except ValueError:
                n_unfit += 1
                if max_length > 4:
                    with pytest.raises(Exception, match="too short to respect the provided max_length"):
                        reference(text, pair, truncation=truncation, max_length=max_length)
                continue  # without any room the reference drops both texts, although only one may be cut
            n_fit += 1
            expected = reference(text, pair, truncation=truncation, max_length=max_length)["input_ids"]
            assert rows(batch) == [expected], (max_length, text, pair)
            assert batch.n_dropped[0] == len(reference(text, pair)["input_ids"]) - len(expected)
    assert n_fit > 150
    assert n_unfit > 50 if truncation != "longest_first" else n_unfit == 0


@pytest.mark.parametrize("truncation", ["longest_first", "only_first"])
def test_truncated_texts_equal_the_reference(tiny, reference, truncation):
    texts = [text for text, _ in GRID]
    for max_length in range(2, 16):
        expected = reference(texts, truncation=truncation, max_length=max_length)["input_ids"]
        assert rows(tiny.encode_batch(texts, max_length=max_length, truncation=truncation)) == expected


def test_a_batch_of_pairs_equals_its_rows(tiny):
    texts, pairs = zip(*GRID, strict=True)
    for max_length in (None, 9, 14):
        together = tiny.encode_batch(texts, pairs, max_length=max_length)
        assert rows(together) == [
            row for a, b in GRID for row in rows(tiny.encode_batch([a], [b], max_length=max_length))
        ]


def test_truncation_counts_what_it_drops(tiny):
    texts = ["the house", words(12, "the"), ""]
    whole, cut = tiny.encode_batch(texts), tiny.encode_batch(texts, max_length=6)
    assert whole.n_dropped.tolist() == [0, 0, 0]
    assert (cut.lengths <= 6).all()
    assert (cut.lengths + cut.n_dropped == whole.lengths).all()
    assert cut.n_dropped[1] > 0
    assert cut.row(1)[-1] == 2


def test_encoded_batch_is_packed(tiny):
    batch = tiny.encode_batch(sentences(20))
    assert (batch.ids.dtype, batch.lengths.dtype, batch.n_dropped.dtype) == (np.int32, np.int64, np.int64)
    assert len(batch) == 20
    assert batch.starts.tolist() == [0, *np.cumsum(batch.lengths)] == [*batch.starts]
    assert np.array_equal(np.concatenate([batch.row(i) for i in range(20)]), batch.ids)
    assert np.shares_memory(batch.row(3), batch.ids)
    assert np.array_equal(batch.row(-1), batch.row(19))
    with pytest.raises(IndexError):
        batch.row(20)
    with pytest.raises(dataclasses.FrozenInstanceError):
        batch.ids = batch.ids[:1]


@pytest.mark.parametrize("chosen", [[3, 0, 3, -1], [], slice(None, None, -1), np.arange(20) % 3 == 0])
def test_take_chooses_rows_in_order(tiny, chosen):
    batch = tiny.encode_batch(sentences(20), max_length=10)
    assert batch.n_dropped.any()
    taken, numbers = batch.take(chosen), np.arange(20)[chosen]
    assert isinstance(taken, EncodedBatch)
    assert rows(taken) == [batch.row(i).tolist() for i in numbers]
    assert taken.n_dropped.tolist() == batch.n_dropped[numbers].tolist()


def test_no_rows_make_an_empty_batch(tiny):
    for batch in (tiny.encode_batch([]), tiny.encode_batch([], [], max_length=8, parse_special=True)):
        assert len(batch) == 0
        assert batch.ids.shape == (0,)
        assert batch.starts.tolist() == [0]
        assert batch.ids.dtype == np.int32


def test_any_iterable_of_str_is_accepted(tiny):
    expected = rows(tiny.encode_batch(["the house", "a bird"]))
    assert rows(tiny.encode_batch(np.array(["the house", "a bird"]))) == expected
    assert rows(tiny.encode_batch(np.array(["the house", "a bird"], dtype=object))) == expected
    assert rows(tiny.encode_batch(text for text in ("the house", "a bird"))) == expected
    assert rows(tiny.encode_batch(dict.fromkeys(["the house", "a bird"]).keys())) == expected


TABLE = pd.DataFrame({"text": ["the house"], "other": ["a bird"]})


@pytest.mark.parametrize("kind", [pd.DataFrame, pyarrow.Table.from_pandas, dict], ids=["pandas", "arrow", "dict"])
def test_tables_are_no_texts(tiny, kind):
    table = kind(TABLE)
    of_columns = r"found a (DataFrame|Table|dict): pass one of its columns, such as {}\['text'\]"
    with pytest.raises(TypeError, match=of_columns.format("texts")):
        tiny.encode_batch(table)
    with pytest.raises(TypeError, match=of_columns.format("pairs")):
        tiny.encode_batch(["a", "b"], table)
    with pytest.raises(TypeError, match=of_columns.format("rows")):
        tiny.encode_words(table)


def test_whole_numbers_of_any_kind_are_accepted(tiny):
    expected = tiny.encode_batch([words(9, "the")], max_length=6, stride=2)
    for number in (np.int64, np.uint8, float, np.float32):
        found = tiny.encode_batch([words(9, "the")], max_length=number(6), stride=number(2))
        assert rows(found) == rows(expected) and found.window_starts.tolist() == expected.window_starts.tolist()
    ids = expected.row(0)
    for given in (ids.tolist(), ids.astype(np.uint16), ids.astype(float), np.array(ids.tolist(), object)):
        assert tiny.decode(given) == tiny.decode(ids) and tiny.decode([]) == ""


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda t: t.encode_batch(5), "texts must be a list of str, found a int"),
        (lambda t: t.encode_batch({"a", "b"}), "texts must be a list of str, found a set"),
        (lambda t: t.encode_batch(["a"], max_length="3"), "max_length must be a whole number, found '3'"),
        (lambda t: t.encode_batch(["a"], max_length=3.5), "max_length must be a whole number, found 3.5"),
        (lambda t: t.encode_batch(["a"], max_length=True), "max_length must be a whole number, found True"),
        (lambda t: t.encode_batch(["a"], max_length=4, stride=[1]), r"stride must be a whole number, found \[1\]"),
        (lambda t: t.encode_batch(["a"], sampling=0.1), "sampling must be a SubwordSampling or None, found 0.1"),
        (lambda t: t.encode_words([["a"]], max_length="3"), "max_length must be a whole number, found '3'"),
        (lambda t: t.encode_words([["a"], 5]), "rows must be lists of words, found one int in row 1"),
        (lambda t: t.encode_words([{"a": 1}]), "rows must be lists of words, found one dict in row 0"),
        (lambda t: t.encode_words([iter(["a"])]), "rows must be lists of words, found one list_iterator in row 0"),
        (
            lambda t: t.decode([[0, 5, 2]]),
            "ids must be one row of whole numbers, found several rows: pass one at a time",
        ),
        (lambda t: t.decode([[0, 5, 2], [0]], False), "ids must be one row of whole numbers, found several rows"),
        (lambda t: t.decode(5), "ids must be one row of whole numbers, found 5"),
        (lambda t: t.decode([5, 5.7]), r"ids\[1\] must be a whole number, found 5.7"),
        (lambda t: t.decode(["5"], False), r"ids\[0\] must be a whole number, found '5'"),
        (lambda t: t.convert_ids_to_pieces([True]), r"ids\[0\] must be a whole number, found True"),
        (lambda t: t.get_special_tokens_mask([[0]], None, True), "ids must be one row of whole numbers"),
    ],
)
def test_wrong_types_are_named(tokenizer, call, message):
    with pytest.raises(TypeError, match=message):
        call(tokenizer)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        ({"texts": "the house"}, TypeError, "texts must be a list of str, found one str"),
        ({"texts": ["a", None]}, TypeError, "texts must be str, found NoneType in row 1"),
        ({"texts": ["a"], "pairs": [b"a"]}, TypeError, "pairs must be str, found bytes in row 0"),
        ({"texts": ["a"], "pairs": []}, ValueError, r"as many rows as texts \(1\), found 0"),
        ({"texts": ["a"], "truncation": "longest"}, ValueError, "one of longest_first, .*found 'longest'"),
        ({"texts": ["a"], "truncation": "only_second"}, ValueError, "needs pairs"),
        ({"texts": ["a"], "max_length": 1}, ValueError, "max_length=1 cannot hold the 2 special tokens of row 0"),
        ({"texts": ["a"], "pairs": ["a"], "max_length": 3}, ValueError, "cannot hold the 4 special tokens of row 0"),
        (
            {"texts": ["a", "bird " * 9], "pairs": ["a", "house " * 9], "max_length": 8, "truncation": "only_first"},
            ValueError,
            "leaves no token of the first text of row 1: the second text takes all 4 tokens that max_length leaves",
        ),
    ],
)
def test_errors_name_the_row_or_the_parameter(tiny, call, error, message):
    with pytest.raises(error, match=message):
        tiny.encode_batch(**call)


def test_many_texts_are_few_calls_to_sentencepiece(tiny, monkeypatch):
    calls = []

    def encode(self, texts, *args, _encode=SentencePieceProcessor.encode, **options):
        if not isinstance(texts, str):  # a few texts are encoded one by one, without a pool of threads
            calls.append(len(texts))
        return _encode(self, texts, *args, **options)

    monkeypatch.setattr(SentencePieceProcessor, "encode", encode)
    batch = tiny.encode_batch([f"{i} birds" for i in range(40_000)], max_length=64)
    assert len(batch) == 40_000 and calls == [2**14, 2**14, 40_000 - 2**15]
