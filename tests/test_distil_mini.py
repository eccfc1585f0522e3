"""The checkpoints that examples/distil_mini.py writes."""

import importlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.preprocessing import normalize

from skxlmr import XLMRobertaVectorizer
from skxlmr.checkpoints import resolve_checkpoint
from skxlmr.datasets import load_reviews
from tests.contract import TEXTS

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


@pytest.fixture
def weights(monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)
    return importlib.import_module("distil_mini_weights")


def vectors(folder, texts=TEXTS, **params):
    vectorizer = XLMRobertaVectorizer(str(folder), device="cpu", dtype="float32", memory=None, **params)
    return vectorizer.fit_transform(texts).astype(float)


def cosines(vectors):
    return normalize(vectors) @ normalize(vectors).T


def test_further_layers_change_next_to_nothing_at_first(weights, tmp_path):
    source = Path(resolve_checkpoint("skxlmr-mini"))
    weights.deepen(source, tmp_path, 8)
    before, after = vectors(source), vectors(tmp_path / "deeper")
    assert (normalize(before) * normalize(after)).sum(1).min() > 0.99 and not np.array_equal(before, after)


def test_the_mean_of_a_checkpoint_and_itself(weights, tmp_path):
    source = Path(resolve_checkpoint("skxlmr-mini"))
    weights.average([source, source], [0.25, 0.75], tmp_path)
    np.testing.assert_array_equal(vectors(tmp_path / "average"), vectors(source))


def test_whitened_means_beside_what_the_layers_made(weights, tmp_path):
    source, texts = Path(resolve_checkpoint("skxlmr-mini")), load_reviews().frame["review"].tolist()
    weights.whiten(source, texts, tmp_path, power=0.75)
    before, after = vectors(source, texts), vectors(tmp_path / "whitened", texts)
    means = vectors(source, texts, pooling="mean")
    left, spread, right = np.linalg.svd(means - means.mean(0), full_matrices=False)
    whitened = left * spread**0.25 @ right
    parts = [part / np.sqrt((part**2).sum(1).mean()) for part in (before, whitened)]
    expected, found = cosines(np.hstack(parts)), cosines(after)
    np.testing.assert_allclose(found, expected, rtol=0, atol=0.05)  # 192 of 384 directions are kept
    assert np.abs(found - expected).mean() < 0.008
    assert np.abs(cosines(before) - expected).max() > 0.2


@pytest.fixture
def names(monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)
    return importlib.import_module("distil_mini_names")


def test_words_of_a_sentence_into_which_a_name_is_put(names):
    rng = np.random.default_rng(0)
    words, tags = names.labelled("I saw ", "Ana de Sousa", "PER", ", too.", "en", rng)
    assert words == ["I", "saw", "Ana", "de", "Sousa", ",", "too", "."]
    assert tags == ["O", "O", "B-PER", "I-PER", "I-PER", "O", "O", "O"]
    words, tags = names.labelled("我住在", "哈尔滨市", "LOC", "。", "zh", rng)
    assert "".join(words) == "我住在哈尔滨市。" and max(map(len, words)) <= 3
    assert "".join(w for w, tag in zip(words, tags, strict=True) if tag != "O") == "哈尔滨市"
    assert tags.count("B-LOC") == 1 and words[tags.index("B-LOC")].startswith("哈")


def test_combining_marks_stay_in_their_words(names):
    assert names.words_of("हिन्दी में लिखो।", "hi", None) == ["हिन्दी", "में", "लिखो", "।"]


def test_only_sentences_without_other_names_are_taken(names):
    english = [
        "He paid for my dinner.",
        "They met Tom in the park.",
        "We flew to Lisbon with Sue.",
        "We live in Lisbon now.",
    ]
    german = [
        "Er bezahlte mein Essen.",
        "Sie trafen Tom im Park.",
        "Wir flogen mit Sue.",
        "Wir leben jetzt in Lissabon.",
    ]
    rows = [[i, "de", "pair", text] for i, text in enumerate(german)]
    pools = {"en": {"LOC": ["Lisbon"]}, "de": {"LOC": ["Lissabon"]}}
    plain, with_name = names.sentences({"english": english, "rows": rows}, pools, np.random.default_rng(0))
    assert plain["de"] == german[:1]
    assert with_name["de"] == [(german[1], (11, 14), "PER"), (german[3], (19, 27), "LOC")]


def test_kinds_of_names_in_wordnet(names, tmp_path):
    lines = [
        "00000001 18 n 01 Curie 0 001 @i 00000009 n 0000 | French chemist",
        "00000002 15 n 01 Kenya 0 001 @i 00000009 n 0000 | a republic in eastern Africa",
        "00000003 15 n 01 seaside 0 001 @ 00000009 n 0000 | the shore of a sea",
        "00000006 18 n 01 Briton 0 001 @ 00000009 n 0000 | an inhabitant of Great Britain",
        "00000004 14 n 01 Red_Cross 0 001 @ 00000009 n 0000 | an international organization",
        "00000005 14 n 01 Rosaceae 0 001 @ 00000009 n 0000 | a large family of dicotyledonous plants",
    ]
    (tmp_path / "data.noun").write_text("\n".join(lines))
    synsets = {f"{line[:8]}-n": ([line.split(" ")[4]], line.partition(" | ")[2], []) for line in lines}
    kinds = {"00000001-n": "PER", "00000002-n": "LOC", "00000004-n": "ORG"}
    assert names.instances(synsets, tmp_path) == kinds


def test_a_tag_is_learnt_at_the_first_token_of_its_word(names, tiny_tokenizer):
    words, tags = ["Przemysław", "Gierszewski", "slept"], ["B-PER", "I-PER", "O"]
    batch = names.names_task(tiny_tokenizer, [("pl", words, tags)]).collate(np.array([0]), np.random.default_rng(0))
    n_tokens = [len(tiny_tokenizer.encode_words([[word]]).ids) - 2 for word in words]
    assert max(n_tokens) > 1
    assert batch.targets["positions"].tolist() == [1, 1 + n_tokens[0], 1 + sum(n_tokens[:2])]
    assert [names.LABELS[label] for label in batch.targets["labels"]] == tags


def test_a_text_is_tagged_where_all_of_its_names_are_known(names):
    known = {"PER": ["Ada Lovelace", "Rose"], "LOC": ["Kenya", "New York"], "ORG": ["NATO"]}
    gazetteer = names.Gazetteer(known, ["A rose is a rose."])

    def tags(text):
        return gazetteer.tags(text.split())

    assert tags("She saw Ada Lovelace in Kenya") == ["O", "O", "B-PER", "I-PER", "O", "B-LOC"]
    assert tags("New York joins NATO in May") == ["B-LOC", "I-LOC", "O", "B-ORG", "O", "O"]
    assert tags("We met Ada Lovelace King") == ["O", "O", "B-PER", "I-PER", "I-PER"]
    assert tags("Kenya is far") == ["O", "O", "O"]  # it may be another word that begins a sentence
    assert tags("We met Rose") is None and tags("We met Sue in Kenya") is None


def test_tags_stand_at_the_names_that_were_put_in(names):
    own = {"PER": "Ada Lovelace", "LOC": "Kenya", "ORG": "NATO"}
    expected = {"Ada": "B-PER", "Lovelace": "I-PER", "Kenya": "B-LOC", "NATO": "B-ORG"}
    drawn = SimpleNamespace(one=lambda language, kind: own[kind])
    sentence = "we all like it here".split()
    lengths = set()
    for seed in range(20):
        rng = np.random.default_rng(seed)
        words, tags = names.with_names_put_in(sentence, "en", "PER", drawn, rng)
        assert tags == [expected.get(word, "O") for word in words]
        assert [word for word in words if word not in expected] == sentence
        lengths.add(len(words))
    assert len(lengths) > 1  # one name and two
