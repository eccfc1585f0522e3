"""What texts may be, what the parameters do, what the report says, and what is refused."""

import hashlib
import json
import shutil

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from skxlmr import CheckpointError, TrimReport, trim_vocabulary
from skxlmr.checkpoints import read_tensors
from skxlmr.text import SentencePieceTokenizer, load_tokenizer
from skxlmr.trimming import _corpus
from skxlmr.trimming._corpus import Corpus
from skxlmr.trimming._report import Coverage
from tests.tiny import train, write_checkpoint
from tests.trimming.kinds import sentencepiece
from tests.trimming.texts import CORPUS, OTHERS, TEXTS, rows


@pytest.fixture
def whole(checkpoints):
    return checkpoints("xlm-roberta")


def contents(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


class Batches:
    """Something that can be iterated and nothing else."""

    def __init__(self, texts):
        self.texts = texts

    def __iter__(self):
        yield self.texts[:7]
        yield pd.DataFrame({"a": self.texts[7:20], "b": self.texts[7:20]})
        yield []
        yield pa.array(self.texts[20:])


FORMS = {
    "tuple": tuple,
    "array": lambda texts: np.array(texts, object),
    "Series": lambda texts: pd.Series(texts, index=range(5, 5 + len(texts))),
    "frame": lambda texts: pd.DataFrame({"text": texts}),
    "polars": lambda texts: pl.Series(texts),
    "pairs": lambda texts: list(zip(texts[::2], texts[1::2], strict=True)),
    "rows of words": lambda texts: [texts[:1], [], tuple(texts[1:6]), np.array(texts[6:], object)],
    "frame of words": lambda texts: pd.DataFrame({"words": [texts[:5], texts[5:]]}),
    "Arrow lists": lambda texts: pa.table({"words": [texts[:5], texts[5:]]}),
    "iterator of rows of words": lambda texts: iter([texts[:1], texts[1:6], texts[6:]]),
    "batches of rows of words": lambda texts: iter([[texts[:1], texts[1:6]], pd.DataFrame({"words": [texts[6:]]})]),
    "iterator of texts": iter,
    "generator of batches": lambda texts: (texts[i : i + 4] for i in range(0, len(texts), 4)),
    "iterable": Batches,
    "mapping": lambda texts: {"a": texts[:9], "b": iter(texts[9:])},
}


@pytest.mark.parametrize("form", FORMS)
def test_all_forms_of_texts(form, whole, tmp_path):
    texts = [text for text in TEXTS if "\ud800" not in text]
    report = trim_vocabulary(whole, FORMS[form](texts), tmp_path / "a")
    expected = trim_vocabulary(whole, texts, tmp_path / "b")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    n_texts = sum(each.n_texts for each in report.coverage.values())
    assert n_texts == len(texts) + 13 * (form == "iterable")
    assert all(each.identical == 1 for each in [*report.coverage.values(), *expected.coverage.values()])


def test_a_corpus_is_read_in_batches_and_twice(monkeypatch):
    monkeypatch.setattr(_corpus, "BATCH", 10)
    for texts in (TEXTS, iter(TEXTS), ([text] for text in TEXTS)):
        with Corpus({"x": texts, "empty": []}) as corpus:
            batches = [list(corpus.batches()) for _ in range(2)]
        assert batches[0] == batches[1]
        assert [text for _, batch in batches[0] for text in batch] == TEXTS
        assert max(len(batch) for _, batch in batches[0]) <= 10 and {name for name, _ in batches[0]} == {"x"}


def test_an_iterator_is_not_held_in_memory(monkeypatch):
    """No more than one batch is alive at a time."""
    monkeypatch.setattr(_corpus, "BATCH", 4)
    n_made = 0

    def texts():
        nonlocal n_made
        for text in TEXTS:
            n_made += 1
            yield text

    seen = 0
    with Corpus(texts()) as corpus:
        for _, batch in corpus.batches():
            seen += len(batch)
            assert n_made - seen <= 1


@pytest.mark.parametrize(
    ("texts", "error", "message"),
    [
        ([], ValueError, "texts has no tokens: there is no text in it, or only empty ones"),
        (["", " "], ValueError, "texts has no tokens"),
        (iter([]), ValueError, "texts has no tokens"),
        ({}, ValueError, "texts has no languages"),
        ({1: ["a"]}, TypeError, "the keys of texts must be names of languages, got 1 of type int"),
        ("a text", TypeError, "texts must hold one text per row, got a single str"),
        ({"de": "a text"}, TypeError, r"texts\['de'\] must hold one text per row"),
        ({"de": ["a", None]}, ValueError, r"texts\['de'\] row 1: expected a text, got None \(a missing value\)"),
        ([3, 4], ValueError, "texts row 0: expected a text, got 3 of type int"),
        (iter([["a"], ["b", 2.5]]), ValueError, "batch 1 of texts row 1: expected a text, got 2.5"),
        (iter(["a", ["b"]]), ValueError, "texts item 1: expected a text as before it, got list"),
        ([["a"], ["b", 2]], ValueError, "texts row 1, word 1: expected a word, got 2 of type int"),
        ([["a"], None], ValueError, "texts row 1: expected 1 texts as in row 0, got None"),
        (7, TypeError, "texts must be a list, array, Series or DataFrame of texts, got a int"),
        (np.int64(7), TypeError, "texts must be a list, array, Series or DataFrame of texts, got a int64"),
        (np.array("a text"), ValueError, r"texts must have one text per row, got a ndarray of shape \(\)"),
        ({"a", "b"}, TypeError, "got a set"),
    ],
)
def test_wrong_texts(texts, error, message, whole, tmp_path):
    with pytest.raises(error, match=message):
        trim_vocabulary(whole, texts, tmp_path / "small")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_count": 0}, "min_count must be a whole number from 1, got 0"),
        ({"min_count": 1.5}, r"min_count must be a whole number from 1, got 1\.5"),
        ({"min_count": True}, "min_count must be"),
        ({"min_count": 10**6}, r"min_count=1000000 would leave nothing: no token occurs in texts more than \d+ times"),
        ({"keep": "all"}, "keep must be one of characters, used, got 'all'"),
        ({"keep_texts": [1]}, "keep_texts row 0: expected a text"),
    ],
)
def test_wrong_parameters(options, message, whole, tmp_path):
    with pytest.raises(ValueError, match=message):
        trim_vocabulary(whole, TEXTS, tmp_path / "small", **options)
    assert list(tmp_path.iterdir()) == []


def test_only_unknown_characters(whole, tmp_path):
    report = trim_vocabulary(whole, ["漢字", "語"], tmp_path / "small", keep="used")
    assert report.n_rows_after < 12
    assert report.coverage["all texts"] == Coverage(2, 2, 4, 4, 2, 2)


def test_min_count_and_keep(whole, tmp_path):
    tokenizer = load_tokenizer(whole)
    counts = np.bincount(tokenizer.encode_batch(TEXTS).ids, minlength=tokenizer.vocab_size)
    kept = {}
    for name, options in {
        "1": {},
        "3": {"min_count": 3},
        "used": {"keep": "used"},
        "used 3": {"keep": "used", "min_count": 3},
    }.items():
        report = trim_vocabulary(whole, CORPUS, tmp_path / name, **options)
        kept[name] = set(report.old_ids.tolist())
        coverage = report.coverage["de"].plus(report.coverage["en"])
        lost = [any(i not in kept[name] for i in row) for row in rows(tokenizer, TEXTS)]
        assert coverage.n_texts - coverage.n_identical == sum(lost)
        assert coverage.n_tokens - coverage.n_kept == sum(
            i not in kept[name] for row in rows(tokenizer, TEXTS) for i in row
        )
    pieces = tokenizer.convert_ids_to_pieces(range(tokenizer.vocab_size))
    characters = {i for i, piece in enumerate(pieces) if len(piece) == 1}
    ends = kept["used"] - set(np.flatnonzero(counts).tolist())
    assert kept["1"] == kept["used"] | characters and kept["3"] == kept["used 3"] | characters
    assert len(ends) <= 6  # special tokens that no text spells, and the pieces with the lowest and highest score
    assert {i for i in range(len(pieces)) if counts[i] >= 3} <= kept["used 3"] < kept["used"]
    assert coverage.n_unknown_after > coverage.n_unknown_before


def test_texts_that_are_kept(whole, tmp_path):
    tokenizer = load_tokenizer(whole)
    plain = trim_vocabulary(whole, TEXTS, tmp_path / "plain", min_count=3)
    report = trim_vocabulary(whole, TEXTS, tmp_path / "small", min_count=3, keep_texts=pd.Series(OTHERS))
    assert set(tokenizer.encode_batch(OTHERS).ids.tolist()) <= set(report.old_ids.tolist())
    assert report.n_rows_after > plain.n_rows_after
    assert report.coverage["all texts"].n_texts == len(TEXTS)


def test_the_report(whole, tmp_path):
    report = trim_vocabulary(whole, CORPUS, tmp_path / "small", min_count=3, keep="used")
    assert isinstance(report, TrimReport) and report.folder == tmp_path / "small"
    weights = (whole / "model.safetensors", report.folder / "model.safetensors")
    assert (report.n_bytes_before, report.n_bytes_after) == tuple(file.stat().st_size for file in weights)
    assert report.n_rows_after == len(report.old_ids) == len(set(report.new_ids().tolist())) - 1
    assert np.array_equal(report.new_ids()[report.old_ids], np.arange(report.n_rows_after))
    frame = report.to_frame()
    assert frame.index.tolist() == ["de", "en"] and frame.index.name == "language"
    assert frame.loc["de", "n_texts"] == len(CORPUS["de"]) and 0 < frame.loc["de", "identical"] < 1
    text = repr(report)
    assert f"{report.n_rows_before:,}" in text and "en" in text and f"{report.coverage['en'].kept:.1%}" in text
    assert Coverage().identical == Coverage().kept == 1


def test_shares_are_not_rounded_to_all_or_none():
    coverage = {"a": Coverage(100_000, 99_999, 10, 10, 0, 0), "b": Coverage(100_000, 1, 10, 0, 0, 0), "c": Coverage()}
    text = repr(TrimReport("x", 10, 5, 10, 5, coverage, np.arange(5)))
    assert "> 99.9%" in text and "< 0.1%" in text and "100.0%" in text and " 0.0%" in text and " - " in text


def test_it_is_deterministic(whole, tmp_path):
    for name in ("a", "b"):
        trim_vocabulary(whole, CORPUS if name == "a" else dict(reversed(CORPUS.items())), tmp_path / name, min_count=2)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_trimming_again_to_the_same_texts_changes_nothing(whole, tmp_path):
    trim_vocabulary(whole, TEXTS, tmp_path / "a")
    report = trim_vocabulary(tmp_path / "a", TEXTS, tmp_path / "b")
    assert report.n_rows_before == report.n_rows_after
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_the_target(whole, tmp_path):
    before = contents(whole)
    (tmp_path / "link").symlink_to(whole)
    for target in (whole, tmp_path / "link"):
        with pytest.raises(CheckpointError, match="is the source: trim to another folder"):
            trim_vocabulary(whole, TEXTS, target)
    part = shutil.copytree(whole, tmp_path / "pipeline" / "estimators" / "0")
    shutil.copy(whole / "config.json", tmp_path / "pipeline")
    with pytest.raises(CheckpointError, match=r"pipeline: holds what is read, .*: trim to another folder"):
        trim_vocabulary(part, TEXTS, tmp_path / "pipeline")
    assert contents(part) == before
    trim_vocabulary(whole, TEXTS, tmp_path / "small")
    trim_vocabulary(whole, OTHERS, tmp_path / "small")
    (tmp_path / "small" / "thesis.tex").touch()
    with pytest.raises(CheckpointError, match=r"would delete \(thesis\.tex\)"):
        trim_vocabulary(whole, TEXTS, tmp_path / "small")
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="is a file"):
        trim_vocabulary(whole, TEXTS, tmp_path / "file")
    assert contents(whole) == before


def test_a_full_disk_leaves_what_was_there(whole, tmp_path, monkeypatch):
    trim_vocabulary(whole, OTHERS, tmp_path / "small")
    before = contents(tmp_path / "small")

    def refuse(*args, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("skxlmr.conversion.shutil.copyfile", refuse)
    with pytest.raises(CheckpointError, match=r"small: cannot be written \(.*No space left on device"):
        trim_vocabulary(whole, TEXTS, tmp_path / "small")
    assert contents(tmp_path / "small") == before
    assert [path.name for path in tmp_path.iterdir()] == ["small"]


def test_sources_that_are_refused(whole, tmp_path):
    with pytest.raises(CheckpointError, match="no such folder"):
        trim_vocabulary(tmp_path / "absent", TEXTS, tmp_path / "small")
    shutil.copytree(whole, tmp_path / "bpe")
    (tmp_path / "bpe" / "sentencepiece.bpe.model").write_bytes(train(vocab_size=300, model_type="bpe"))
    with pytest.raises(CheckpointError, match=r"sentencepiece\.bpe\.model: is not a Unigram model"):
        trim_vocabulary(tmp_path / "bpe", TEXTS, tmp_path / "small")
    shutil.copytree(whole, tmp_path / "two")
    sentencepiece().save_conversion(tmp_path / "two")
    content = json.loads((tmp_path / "two" / "tokenizer.json").read_text())
    content["model"]["vocab"][9][0] = "other"
    (tmp_path / "two" / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(
        CheckpointError, match="with id 9, and another file of the tokenizer has 'other': remove the files"
    ):
        trim_vocabulary(tmp_path / "two", TEXTS, tmp_path / "small")
    (tmp_path / "two" / "tokenizer.json").unlink()
    shutil.copytree(tmp_path / "two", tmp_path / "other")
    SentencePieceTokenizer(train(vocab_size=250)).save_conversion(tmp_path / "other")
    with pytest.raises(CheckpointError, match=r"sentencepiece\.bpe\.model: has '.*' with id \d+, and another file"):
        trim_vocabulary(tmp_path / "other", TEXTS, tmp_path / "small")
    assert not (tmp_path / "small").exists()


def test_rows_that_no_token_has_go(tmp_path):
    """Some checkpoints have more word embeddings than tokens."""
    write_checkpoint(tmp_path / "whole", sentencepiece(), vocab_size=320)
    report = trim_vocabulary(tmp_path / "whole", TEXTS, tmp_path / "small")
    tokenizer = load_tokenizer(report.folder)
    assert report.n_rows_before == 320 and report.n_rows_after == tokenizer.vocab_size
    assert read_tensors(report.folder)["lm_head.bias"].shape == (tokenizer.vocab_size,)
