"""Entities from tokens: equal to the reference pipeline's on every recorded case, and where they differ on purpose."""

import json
import shutil
import warnings

import numpy as np
import pytest

from skxlmr import XLMRobertaTokenClassifier
from skxlmr.estimators._tokens.entities import find_entities

LABELS = ["B-PER", "I-PER", "B-LOC", "I-LOC", "O"]


@pytest.fixture(scope="module")
def tagger(shared_data):
    return XLMRobertaTokenClassifier.from_checkpoint(shared_data / "checkpoints" / "tokcls", dtype="float32")


def without_space(text, start, end):
    """The ends expected here: transformers 4 counted white space as part of the token after it, or as a token of its own."""
    part = text[start:end]
    if not part.strip():
        return end, end + 1
    return start + len(part) - len(part.lstrip()), start + len(part.rstrip())


@pytest.mark.parametrize("aggregation", ["none", "simple", "first", "average", "max"])
def test_recorded_cases_of_the_pipeline(tagger, shared_data, aggregation):
    cases = json.loads((shared_data / "goldens" / "pipelines.json").read_text(encoding="utf-8"))["ner"]
    cases = [case for case in cases if case["strategy"] == aggregation]
    assert len(cases) == 20
    found = tagger.predict_entities([case["text"] for case in cases], aggregation)
    for case, ours in zip(cases, found, strict=True):
        text, theirs = case["text"], case["entities"]
        assert len(ours) == len(theirs) > 0
        for a, b in zip(ours, theirs, strict=True):
            assert (a["start"], a["end"]) == without_space(text, b["start"], b["end"])
            assert a["word"] == text[a["start"] : a["end"]]
            assert all(a.get(key) == b.get(key) for key in ("entity", "entity_group", "index"))
            assert abs(a["score"] - b["score"]) <= 1e-5
            assert set(a) == set(b)


@pytest.mark.parametrize("aggregation", ["none", "simple", "first", "average", "max"])
def test_current_pipeline_with_tags_of_entities(shared_data, tmp_path, aggregation):
    """The recorded cases have plain labels. An entity that ends with the mark of the next word's beginning has a character of
    this word there, and none here."""
    transformers = pytest.importorskip("transformers")
    source, folder = shared_data / "checkpoints" / "tokcls", tmp_path / "tagger"
    folder.mkdir()
    for name in ("model.safetensors", "sentencepiece.bpe.model"):
        shutil.copyfile(source / name, folder / name)
    names = {"id2label": dict(enumerate(LABELS)), "label2id": {label: i for i, label in enumerate(LABELS)}}
    (folder / "config.json").write_text(json.dumps(json.loads((source / "config.json").read_text()) | names))
    cases = json.loads((shared_data / "goldens" / "pipelines.json").read_text(encoding="utf-8"))["ner"]
    texts = sorted({case["text"] for case in cases})
    tagger = XLMRobertaTokenClassifier.from_checkpoint(folder, dtype="float32", device="cpu")
    pipeline = transformers.pipeline(
        "token-classification", model=str(folder), aggregation_strategy=aggregation, device="cpu"
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Tokenizer does not support real words")
        expected = pipeline(texts)
    kinds = set()
    for text, ours, theirs in zip(texts, tagger.predict_entities(texts, aggregation), expected, strict=True):
        name = "entity" if aggregation == "none" else "entity_group"
        assert [entity[name] for entity in ours] == [entity[name] for entity in theirs]
        for a, b in zip(ours, theirs, strict=True):
            with_mark = b["end"] - 2 if text[b["end"] - 2 : b["end"] - 1].isspace() else b["end"]
            assert a["start"] == b["start"] and a["end"] in (b["end"], with_mark)
        np.testing.assert_allclose([e["score"] for e in ours], [e["score"] for e in theirs], atol=1e-5)
        kinds |= {entity[name] for entity in ours}
    assert len(kinds) > 1


def entities_of(text, tags, aggregation="simple", places=None, unknown=(), ignore=("O",), proba=None):
    """Entities of tokens that are certain of their tags."""
    if places is None:
        places = [(i, i + 1) for i in range(len(tags))]
    if proba is None:
        proba = np.full((len(tags), 5), 0.05)
        proba[np.arange(len(tags)), [LABELS.index(tag) for tag in tags]] = 0.8
    is_unknown = np.isin(np.arange(len(tags)), unknown)
    return find_entities(
        text,
        np.array(places),
        is_unknown,
        proba,
        LABELS,
        scheme="BIO",
        aggregation=aggregation,
        choose=lambda scores: scores.argmax(1),
        ignore_labels=ignore,
    )


def groups(found):
    return [(entity["entity_group"], entity["start"], entity["end"]) for entity in found]


def test_neighbours_of_one_type_are_one_entity():
    assert groups(entities_of("abcd", ["B-PER", "I-PER", "B-PER", "I-LOC"])) == [
        ("PER", 0, 2),
        ("PER", 2, 3),
        ("LOC", 3, 4),
    ]
    assert groups(entities_of("ab", ["O", "O"])) == []
    assert groups(entities_of("ab", ["O", "B-LOC"], ignore=())) == [("O", 0, 1), ("LOC", 1, 2)]
    assert groups(entities_of("ab", ["B-PER", "B-LOC"], ignore=("PER",))) == [("LOC", 1, 2)]
    found = entities_of("ab", ["B-PER", "O"], "none")
    assert found == [{"entity": "B-PER", "score": 0.8, "word": "a", "start": 0, "end": 1, "index": 1}]


@pytest.mark.parametrize(
    ("scheme", "prefixes", "found"),
    [("IOBES", "BIEESBEOSI", ["abc", "d", "e", "fg", "i", "j"]), ("BILOU", "BILLUOB", ["abc", "d", "e", "g"])],
)
def test_entities_end_with_their_last_tag(scheme, prefixes, found):
    """The reference does not know E-, S-, L- and U-: it treats them as types."""
    labels = [f"{prefix}-X" for prefix in scheme if prefix != "O"] + ["O"]
    tags = [prefix if prefix == "O" else f"{prefix}-X" for prefix in prefixes]
    n = len(tags)
    entities = find_entities(
        "abcdefghij"[:n],
        np.array([(i, i + 1) for i in range(n)]),
        np.zeros(n, bool),
        np.eye(5)[[labels.index(tag) for tag in tags]],
        labels,
        scheme=scheme,
        aggregation="simple",
        choose=lambda scores: scores.argmax(1),
        ignore_labels=("O",),
    )
    assert [entity["word"] for entity in entities] == found
    assert {entity["entity_group"] for entity in entities} == {"X"}


@pytest.mark.parametrize("space", [" ", "\n ", "\u200b", "\u200b \ufeff"])
def test_a_mark_of_a_word_stands_for_the_character_after_it(space):
    """And not for the white space before, which belongs to no entity; an entity ends before the mark of the next word."""
    text, n = f"ab{space}cd", len(space)
    places = [(0, 2), (2, 2 + n), (2 + n, 4 + n)]
    assert groups(entities_of(text, ["O", "B-PER", "O"], places=places)) == [("PER", 2 + n, 3 + n)]
    assert groups(entities_of(text, ["B-PER", "I-PER", "O"], places=places)) == [("PER", 0, 2)]
    assert groups(entities_of(text, ["O", "B-PER", "I-PER"], places=places)) == [("PER", 2 + n, 4 + n)]
    assert groups(entities_of(f"ab{space}", ["O", "B-PER"], places=places[:2])) == [
        ("PER", 2, 2 + n)
    ]  # nothing after it


def test_words_end_at_white_space_of_any_kind_and_before_unknown_tokens():
    tags, places = ["B-PER", "O", "B-LOC", "O"], [(0, 2), (2, 3), (4, 5), (5, 6)]
    for space in " \n\t\u3000\u200b":
        assert groups(entities_of(f"abc{space}de", tags, "first", places)) == [("PER", 0, 3), ("LOC", 4, 6)]
    assert groups(entities_of("abc de", tags, "first", places, unknown=[1])) == [("PER", 0, 2), ("LOC", 4, 6)]


def test_how_a_word_gets_its_tag():
    proba = np.array([[0.5, 0.1, 0.4, 0, 0], [0.1, 0.2, 0.6, 0, 0.1], [0.0, 0.05, 0.05, 0, 0.9]])
    for aggregation, label, score in (("first", "PER", 0.5), ("max", "O", 0.9), ("average", "LOC", 0.35)):
        (entity,) = entities_of("abc", ["O"] * 3, aggregation, ignore=(), proba=proba)
        assert entity["entity_group"] == label and (entity["start"], entity["end"]) == (0, 3)
        assert entity["score"] == pytest.approx(score)


def test_score_is_the_mean_of_what_was_grouped():
    proba = np.array([[0.5, 0.1, 0.2, 0.1, 0.1], [0.1, 0.7, 0.1, 0.1, 0.0]])
    (entity,) = entities_of("ab", ["B-PER", "I-PER"], proba=proba)
    assert entity["score"] == pytest.approx(0.6)


def test_long_texts_words_and_odd_rows(tagger, shared_data):
    rows = [json.loads(line) for line in (shared_data / "ner" / "uner.jsonl").read_text(encoding="utf-8").splitlines()]
    text = " ".join(row["text"] for row in rows[:12])
    (whole,) = tagger.predict_entities([text], "none")
    assert len(whole) > 256 and [entity["index"] for entity in whole] == list(range(1, len(whole) + 1))
    starts = [entity["start"] for entity in whole]
    assert starts == sorted(starts) and whole[-1]["end"] == len(text)
    assert tagger.predict_entities([["Anna", "lebt", "in", "Rom"]]) == tagger.predict_entities(["Anna lebt in Rom"])
    assert tagger.predict_entities(["", "   ", "Rom"])[:2] == [[], []]
    # the same whatever the neighbours
    alone = [tagger.predict_entities([row["text"]], "max")[0] for row in rows[:5]]
    together = tagger.predict_entities([row["text"] for row in rows[:5]], "max")
    for ours, theirs in zip(alone, together, strict=True):
        np.testing.assert_allclose([e.pop("score") for e in ours], [e.pop("score") for e in theirs], atol=1e-5)
        assert ours == theirs


def test_what_is_refused(tagger):
    with pytest.raises(
        ValueError, match="aggregation must be one of auto, none, simple, first, average, max, word; found 'mean'"
    ):
        tagger.predict_entities(["a"], "mean")
    with pytest.raises(TypeError, match="ignore_labels must be a collection of labels, got 'O'"):
        tagger.predict_entities(["a"], ignore_labels="O")
    with pytest.raises(TypeError, match="got a single str"):
        tagger.predict_entities("a")
