"""The tagger fitted: what it predicts, windows, parameters, folders, and transformers on the same folder."""

import copy
import json

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import log_softmax

from skxlmr import CheckpointError, XLMRobertaTokenClassifier, load, save
from skxlmr.metrics import entity_f1_score
from tests.estimators.tokens.tags import LEARNS, LONG, X, Y, as_texts, rows_and_tags, rows_equal


@pytest.fixture(scope="module")
def fitted(make):
    return make(XLMRobertaTokenClassifier, **LEARNS).fit(*rows_and_tags(128))


# Words ----------------------------------------------------------------------------------------------------------------


def test_learns_words(fitted):
    X_new, y_new = rows_and_tags(16, seed=1)
    assert fitted.score(X_new, y_new) > 0.65 > entity_f1_score(y_new, [["O"] * len(row) for row in y_new])
    assert fitted.score(X_new, y_new) == entity_f1_score(y_new, fitted.predict(X_new))
    assert fitted.loss_curve_[-1] < 0.5 * fitted.loss_curve_[0]
    assert fitted.classes_.tolist() == ["B-DE", "I-DE", "O"] and fitted.n_truncated_ == 0


def test_predict_is_the_argmax_in_input_order(fitted):
    rows = [*X[:5], [], [""], ["Haus"], np.array(["the", "Haus"])]
    probabilities, predicted = fitted.predict_proba(rows), fitted.predict(rows)
    assert predicted.shape == (9,) and predicted.dtype == object
    for words, found, tags in zip(rows, probabilities, predicted, strict=True):
        assert found.shape == (len(words), 3) and found.dtype == np.float32
        np.testing.assert_allclose(found.sum(1), 1, atol=1e-6)
        assert tags == [fitted.classes_[code] for code in found.argmax(1)]
    assert predicted[5] == [] and fitted.predict([[], []]).tolist() == [[], []]
    order = np.random.default_rng(0).permutation(len(rows))
    rows_equal(fitted.predict_proba([rows[i] for i in order]), [probabilities[i] for i in order], 1e-5)
    small = copy.deepcopy(fitted).set_params(batch_size=1)
    rows_equal(small.predict_proba(rows), probabilities, 1e-5)
    rows_equal(fitted.predict_proba(rows[2:3]), probabilities[2:3], 1e-5)


@pytest.mark.parametrize("container", [tuple, pd.Series, lambda rows: np.array(rows, dtype=object)])
def test_containers(make, container):
    expected = make(XLMRobertaTokenClassifier).fit(X, Y).predict_proba(X)
    found = make(XLMRobertaTokenClassifier).fit(container(X), container(Y))
    rows_equal(found.predict_proba(container(X)), expected)


def test_other_tags(make):
    for convert in (lambda tag: "OBI".index(tag[0]), lambda tag: {"O": "DET", "B": "NOUN", "I": "VERB"}[tag[0]]):
        y = [[convert(tag) for tag in row] for row in Y]
        tagger = make(XLMRobertaTokenClassifier).fit(X, y)
        assert tagger.classes_.tolist() == sorted({tag for row in y for tag in row})
        tags = tagger.predict(X)
        assert {type(tag) for row in tags for tag in row} == {type(y[0][0])}
        same = [a == b for row, true in zip(tags, y, strict=True) for a, b in zip(row, true, strict=True)]
        assert tagger.score(X, y) == np.mean(same)  # accuracy of words


# Long rows ------------------------------------------------------------------------------------------------------------


def test_no_word_is_dropped(fitted):
    short = copy.deepcopy(fitted).set_params(max_length=12, stride=4)
    very_long = "Haus" * 40
    rows = [LONG, [very_long, "the", very_long], ["the"] * 200]
    assert [len(row) for row in short.predict_proba(rows)] == list(map(len, rows))
    assert [len(tags) for tags in fitted.predict(rows)] == list(map(len, rows))


def test_words_are_predicted_where_they_have_the_most_context(fitted):
    """Each window by hand, as a row of its own."""
    tagger = copy.deepcopy(fitted).set_params(max_length=14, stride=5)
    words = LONG[:40]
    tokenizer, room = tagger.tokenizer_, 12
    tokens, owner = [], []
    for i, word in enumerate(words):
        ids = tokenizer.encode_words([[word]]).ids[1:-1].tolist()
        tokens += ids
        owner += [i] * len(ids)
    best = {}
    for start in range(0, len(tokens) - 5, room - 5):
        shown = tokens[start : start + room]
        ids = torch.tensor([[tokenizer.bos_token_id, *shown, tokenizer.eos_token_id]])
        with torch.no_grad():
            logits = tagger.module_(ids, attention_mask=torch.ones_like(ids))[0, 1:-1].numpy()
        for k in range(len(shown)):
            word, context = owner[start + k], min(k, len(shown) - 1 - k)
            if owner.index(word) == start + k and context > best.get(word, (-1,))[0]:
                best[word] = context, np.exp(log_softmax(logits[k]))
    assert sorted(best) == list(range(40)) and len(tokens) > 3 * room
    rows_equal(tagger.predict_proba([words]), [np.array([best[i][1] for i in range(40)])], 1e-5)


# Texts ----------------------------------------------------------------------------------------------------------------


def test_texts_with_spans(make, fitted):
    texts, spans = as_texts(*rows_and_tags(128))
    tagger = make(XLMRobertaTokenClassifier, **LEARNS).fit(texts, spans)
    assert tagger.classes_.tolist() == ["B-DE", "I-DE", "O"]
    words, tags = rows_and_tags(16, seed=1)
    new_texts, new_spans = as_texts(words, tags)
    # the same words, the same fit: the same probabilities
    rows_equal(tagger.predict_proba(new_texts), fitted.predict_proba(words), 1e-5)
    found = tagger.predict(new_texts)
    _, expected = as_texts(words, fitted.predict(words))
    assert [span for row in found for span in row if row in expected] and found.dtype == object
    common = sum(len(set(a) & set(b)) for a, b in zip(found, new_spans, strict=True))
    f1 = 2 * common / (sum(map(len, found)) + sum(map(len, new_spans)))
    assert tagger.score(new_texts, new_spans) == pytest.approx(f1) and f1 > 0.65
    spaced = [[(max(start - 1, 0), end + (end < len(text)), label) for start, end, label in row]
              for text, row in zip(new_texts, new_spans, strict=True)]  # fmt: skip
    assert tagger.score(new_texts, spaced) == tagger.score(new_texts, new_spans)
    inside = [[(start + 1, end, label) for start, end, label in row] for row in new_spans]
    with pytest.warns(UserWarning, match="begin or end inside a word and were expanded"):
        assert tagger.set_params(span_edges="expand").score(new_texts, inside) == tagger.score(new_texts, new_spans)
    dicts = [[dict(zip(("start", "end", "label"), span, strict=True)) for span in row] for row in spans]
    tagger.set_params(warm_start=True, max_epochs=1, learning_rate=1e-9).fit(pd.Series(texts), dicts)
    assert [[tuple(span.values()) for span in row] for row in tagger.predict(new_texts)] == found.tolist()
    assert tagger.score(texts, dicts) == tagger.score(texts, spans)


@pytest.mark.parametrize("constrained", [False, True])
def test_entities_of_words_are_those_of_predict(make, fitted, constrained):
    """Also where a word's first token is only the mark of its beginning, which token strategies take for a word."""
    texts, spans = as_texts(X, Y)
    finder = make(XLMRobertaTokenClassifier, **LEARNS, constrained=constrained).fit(texts, spans)
    texts += ["", " ".join(LONG), "Ωraios Vogel"]
    found = finder.predict_entities(texts, "word")
    expected = finder.predict(texts).tolist()
    assert [[(e["start"], e["end"], e["entity_group"]) for e in row] for row in found] == expected
    assert sum(map(len, expected)) > 20
    assert all(text[e["start"] : e["end"]] == e["word"] for text, row in zip(texts, found, strict=True) for e in row)
    # rows of words, and scores: the mean probability of the words' tags
    rows = [*X, [], ["", "Vogel"]]
    tags, proba = fitted.predict(rows), fitted.predict_proba(rows)
    codes = [[fitted.classes_.tolist().index(tag) for tag in row] for row in tags]
    for words, row, row_codes, row_proba in zip(rows, fitted.predict_entities(rows, "word"), codes, proba, strict=True):
        first_words = np.cumsum([0, *(len(word) + 1 for word in words)])
        for entity in row:
            first = int(np.searchsorted(first_words, entity["start"]))
            inside = range(first, first + len(entity["word"].split(" ")))
            assert entity["word"] == " ".join(words[i] for i in inside) and entity["entity_group"] == "DE"
            assert entity["score"] == pytest.approx(np.mean([row_proba[i, row_codes[i]] for i in inside]), abs=1e-5)


@pytest.mark.parametrize(
    ("scheme", "classes"),
    [
        ("IOB2", ["B-DE", "I-DE", "O"]),
        ("IOBES", ["B-DE", "E-DE", "I-DE", "O", "S-DE"]),
        ("BILOU", ["B-DE", "I-DE", "L-DE", "O", "U-DE"]),
        ("BMES", ["B-DE", "E-DE", "M-DE", "O", "S-DE"]),
        ("plain", ["DE", "O"]),
    ],
)
def test_spans_become_tags_of_the_scheme(make, scheme, classes):
    texts, spans = as_texts(X, Y)
    tagger = make(XLMRobertaTokenClassifier, scheme=scheme, max_epochs=2).fit(texts, spans)
    assert tagger.classes_.tolist() == classes
    assert {label for row in tagger.predict(texts) for _, _, label in row} <= {"DE"}
    assert {entity["entity_group"] for row in tagger.predict_entities(texts) for entity in row} <= {"DE"}


def test_kind_of_rows_is_that_of_fit(fitted, make):
    with pytest.raises(
        ValueError, match="X has texts, but XLMRobertaTokenClassifier was fitted on rows of words: predict_entities"
    ):
        fitted.predict(["the Haus"])
    tagger = make(XLMRobertaTokenClassifier).fit(*as_texts(X, Y))
    with pytest.raises(ValueError, match="X has rows of words, but XLMRobertaTokenClassifier was fitted on texts"):
        tagger.predict(X)
    assert fitted.predict_entities(["the Haus"]) == fitted.predict_entities(["the Haus"], "word")
    assert fitted.predict_entities(["the Haus"], "first") == fitted.predict_entities([["the", "Haus"]], "first") != [[]]


# Parameters of the tagger alone ---------------------------------------------------------------------------------------


def test_constrained_tags_keep_the_rules(fitted):
    free = copy.deepcopy(fitted)
    with torch.no_grad():
        free.module_.classifier.bias[1] += 3.0  # many an I-DE after O
    constrained = copy.deepcopy(free).set_params(constrained=True)
    rows = rows_and_tags(30, seed=2)[0]
    rows_equal(free.predict_proba(rows), constrained.predict_proba(rows))

    def breaks(rows):
        return sum(
            tag == "I-DE" and before == "O" for row in rows for before, tag in zip(["O", *row], row, strict=False)
        )

    assert breaks(free.predict(rows)) > 0 == breaks(constrained.predict(rows))
    as_tokens = constrained.predict_entities(rows, "none", ignore_labels=())
    assert breaks([[entity["entity"] for entity in row] for row in as_tokens]) == 0
    assert breaks([[e["entity"] for e in row] for row in free.predict_entities(rows, "none", ignore_labels=())]) > 0


def test_scheme_decides_the_score(fitted):
    y = [["I-DE" if tag[0] in "BI" else "O" for tag in row] for row in Y]
    lenient = fitted.score(X, y)
    strict = copy.deepcopy(fitted).set_params(scheme="IOB2").score(X, y)
    plain = copy.deepcopy(fitted).set_params(scheme="plain").score(X, y)
    assert strict == 0 < lenient and plain not in (strict, lenient)


def test_stride_and_max_length_change_what_is_seen(fitted):
    def proba(**params):
        return copy.deepcopy(fitted).set_params(**params).predict_proba([LONG])[0]

    whole = proba()
    assert np.abs(proba(max_length=12) - whole).max() > 1e-4
    assert np.abs(proba(max_length=12, stride=0) - proba(max_length=12, stride=4)).max() > 1e-4
    rows_equal([proba(max_length=12, stride=32)], [proba(max_length=12, stride=5)])  # at most half of a window


def test_scores_of_unknown_tags_are_misses(fitted):
    y = [[tag.replace("DE", "FR") for tag in row] for row in Y]
    assert fitted.score(X, y) == 0.0
    with pytest.raises(ValueError, match="y row 0: 1 tags for"):
        fitted.score(X, [["O"]] * len(X))


# Folders --------------------------------------------------------------------------------------------------------------


def test_saved_folder_has_the_same_logits(fitted, tmp_path, reference):
    save(fitted, tmp_path / "saved")
    theirs = reference("XLMRobertaForTokenClassification", tmp_path / "saved")
    assert theirs.config.id2label == {0: "B-DE", 1: "I-DE", 2: "O"}
    assert json.loads((tmp_path / "saved" / "config.json").read_text())["architectures"] == [
        "XLMRobertaForTokenClassification"
    ]
    encoded = fitted.tokenizer_.encode_words(X)
    for i, found in enumerate(fitted.predict_proba(X)):
        words = encoded.word_ids[encoded.span(i)]
        with torch.no_grad():
            logits = theirs(torch.from_numpy(encoded.row(i).astype(np.int64))[None]).logits[0].numpy()
        first = [int(np.flatnonzero(words == word)[0]) for word in range(len(X[i]))]
        np.testing.assert_allclose(found, np.exp(log_softmax(logits[first], axis=1)), rtol=0, atol=1e-5)


def test_folder_round_trip(fitted, make, tmp_path):
    texts, spans = as_texts(X, Y)
    dicts = [[dict(zip(("start", "end", "label"), span, strict=True)) for span in row] for row in spans]
    for tagger, rows in (
        (fitted, X),
        (make(XLMRobertaTokenClassifier, max_epochs=3).fit(texts, dicts), texts),
        (make(XLMRobertaTokenClassifier).fit(X, [[len(tag) for tag in row] for row in Y]), X),
    ):
        save(tagger, tmp_path / "saved")
        loaded = load(tmp_path / "saved")
        rows_equal(loaded.predict_proba(rows), tagger.predict_proba(rows))
        assert loaded.predict(rows).tolist() == tagger.predict(rows).tolist()
        learnt = {name for name in vars(tagger) if name not in tagger.get_params()}
        assert {name for name in vars(loaded) if name not in loaded.get_params()} == learnt


def test_numbers_as_tags(make, tmp_path):
    """In `partial_fit` as in `fit`, and from a checkpoint that has numbers as labels."""
    words, tags = [["a", "house"], ["the", "river"]], [[0, 1], [1, 0]]
    tagger = make(XLMRobertaTokenClassifier).partial_fit(words, tags, classes=[0, 1])
    assert tagger.classes_.tolist() == [0, 1]
    save(tagger, tmp_path / "saved")
    (tmp_path / "saved" / "skxlmr.json").unlink()
    file = tmp_path / "saved" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"id2label": {"0": 0, "1": 1}}))
    adopted = XLMRobertaTokenClassifier.from_checkpoint(tmp_path / "saved", dtype="float32")
    assert adopted.classes_.tolist() == [0, 1]
    assert adopted.score(words, tags) == tagger.score(words, tags)


def test_classes_of_spans_are_no_tags(make):
    with pytest.raises(ValueError, match="classes has 'O': for spans it must have their labels, such as 'PER'"):
        make(XLMRobertaTokenClassifier).partial_fit(["Anna Lee"], [[(0, 8, "PER")]], classes=["B-PER", "I-PER", "O"])


def test_from_checkpoint(fitted, tmp_path, tiny_checkpoint):
    save(fitted, tmp_path / "saved")
    (tmp_path / "saved" / "skxlmr.json").unlink()
    adopted = XLMRobertaTokenClassifier.from_checkpoint(tmp_path / "saved", dtype="float32")
    assert adopted.classes_.tolist() == ["B-DE", "I-DE", "O"]
    rows_equal(adopted.predict_proba(X), fitted.predict_proba(X))
    texts, _ = as_texts(X, Y)
    _, spans = as_texts(X, [["B-DE" if tag == "I-DE" else tag for tag in row] for row in fitted.predict(X)])
    found = adopted.predict(texts)  # it takes words and texts
    assert {(start, end) for row in found for start, end, _ in row} & {span[:2] for row in spans for span in row}
    assert adopted.score(X, Y) == fitted.score(X, Y)
    assert (
        adopted.predict_entities(texts) == adopted.predict_entities(texts, "simple") != fitted.predict_entities(texts)
    )
    with pytest.raises(
        CheckpointError, match=r"describes an XLMRobertaForMaskedLM, which has no head for the words of a text"
    ):
        XLMRobertaTokenClassifier.from_checkpoint(tiny_checkpoint)
