"""The tagger end to end: what it learns, windows, parameters, scikit-learn's tools, folders, and transformers beside it."""

import copy
import json
import random

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import log_softmax
from sklearn.base import clone, is_classifier
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_predict, cross_val_score, cross_validate

from skxlmr import CheckpointError, XLMRobertaTokenClassifier, load, save
from skxlmr.metrics import entity_f1_score
from tests.tiny import WORDS

ENGLISH, GERMAN = (WORDS[language].split() for language in ("en", "de"))
LEARNS = {"max_epochs": 8, "batch_size": 8, "learning_rate": 5e-3}


def rows_and_tags(n, seed=0):
    """English rows in which each run of German words is an entity."""
    rng = random.Random(seed)
    X, y = [], []
    for _ in range(n):
        words, tags = [], []
        for _ in range(rng.randint(1, 3)):
            english = rng.choices(ENGLISH, k=rng.randint(1, 3))
            german = rng.choices(GERMAN, k=rng.randint(1, 2))
            words += english + german
            tags += ["O"] * len(english) + [f"{'BI'[i > 0]}-DE" for i in range(len(german))]
        X.append(words)
        y.append(tags)
    return X, y


def as_texts(X, y):
    """The same as texts with spans."""
    texts, spans = [], []
    for words, tags in zip(X, y, strict=True):
        starts = np.cumsum([0, *(len(word) + 1 for word in words)])
        found = []
        for i, tag in enumerate(tags):
            if tag[0] == "B" or (tag[0] == "I" and (i == 0 or tags[i - 1] == "O")):
                found.append([starts[i], starts[i] + len(words[i]), "DE"])
            elif tag[0] == "I":
                found[-1][1] = starts[i] + len(words[i])
        texts.append(" ".join(words))
        spans.append([(int(start), int(end), label) for start, end, label in found])
    return texts, spans


X, Y = rows_and_tags(24)
LONG = (ENGLISH + GERMAN) * 4


@pytest.fixture(scope="module")
def fitted(make):
    return make(XLMRobertaTokenClassifier, **LEARNS).fit(*rows_and_tags(128))


def rows_equal(found, expected, tolerance=0.0):
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance)


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


def test_long_rows_are_learnt_whole(make):
    """The last words of long rows are what tells: they are learnt from all the same."""
    rows = [["the"] * 60 + [word] for word in ("Haus", "river") * 12]
    y = [["O"] * 60 + [tag] for tag in ("B-DE", "O") * 12]
    tagger = make(XLMRobertaTokenClassifier, max_length=20, stride=6, max_epochs=6, learning_rate=5e-3).fit(rows, y)
    assert tagger.score(rows, y) == 1.0


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
    dicts = [[dict(zip(("start", "end", "label"), span, strict=True)) for span in row] for row in spans]
    tagger.set_params(warm_start=True, max_epochs=1, learning_rate=1e-9).fit(pd.Series(texts), dicts)
    assert [[tuple(span.values()) for span in row] for row in tagger.predict(new_texts)] == found.tolist()
    assert tagger.score(texts, dicts) == tagger.score(texts, spans)


@pytest.mark.parametrize(
    ("scheme", "classes"),
    [
        ("IOB2", ["B-DE", "I-DE", "O"]),
        ("IOBES", ["B-DE", "E-DE", "I-DE", "O", "S-DE"]),
        ("plain", ["DE", "O"]),
    ],
)
def test_spans_become_tags_of_the_scheme(make, scheme, classes):
    texts, spans = as_texts(X, Y)
    tagger = make(XLMRobertaTokenClassifier, scheme=scheme, max_epochs=2).fit(texts, spans)
    assert tagger.classes_.tolist() == classes
    assert {label for row in tagger.predict(texts) for _, _, label in row} <= {"DE"}


def test_fit_decides_what_is_taken(fitted, make):
    with pytest.raises(ValueError, match="X has texts, but XLMRobertaTokenClassifier was fitted on rows of words"):
        fitted.predict(["the Haus"])
    tagger = make(XLMRobertaTokenClassifier).fit(*as_texts(X, Y))
    with pytest.raises(ValueError, match="X has rows of words, but XLMRobertaTokenClassifier was fitted on texts"):
        tagger.predict(X)
    assert fitted.predict_entities(["the Haus"], "first") == fitted.predict_entities([["the", "Haus"]], "first") != [[]]


# Parameters that are its own ------------------------------------------------------------------------------------------


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


def full_batch_losses(make, checkpoint, rows=X, y=Y, **params):
    weight = params.pop("sample_weight", None)
    whole = {"batch_size": 500, "max_epochs": 3, "learning_rate": 1e-3}
    return make(XLMRobertaTokenClassifier, checkpoint, **whole | params).fit(rows, y, weight).loss_curve_


def test_weights_are_repetitions(make, still_checkpoint):
    weight = np.arange(24) % 3
    repeated = np.repeat(np.arange(24), weight)
    expected = full_batch_losses(make, still_checkpoint, [X[i] for i in repeated], [Y[i] for i in repeated])
    found = full_batch_losses(make, still_checkpoint, sample_weight=weight)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    assert abs(found[0] - full_batch_losses(make, still_checkpoint)[0]) > 1e-4


def test_class_weights(make, still_checkpoint):
    plain = full_batch_losses(make, still_checkpoint)
    heavy = full_batch_losses(make, still_checkpoint, class_weight={"B-DE": 50.0, "I-DE": 1.0, "O": 1.0})
    balanced = full_batch_losses(make, still_checkpoint, class_weight="balanced")
    counts = {tag: sum(row.count(tag) for row in Y) for tag in ("B-DE", "I-DE", "O")}
    by_hand = {tag: sum(counts.values()) / (3 * n) for tag, n in counts.items()}
    np.testing.assert_allclose(balanced, full_batch_losses(make, still_checkpoint, class_weight=by_hand), atol=1e-6)
    assert abs(plain[0] - heavy[0]) > 1e-2 and abs(plain[0] - balanced[0]) > 1e-3


@pytest.mark.parametrize("params", [{"label_all_subwords": True}, {"label_smoothing": 0.3}, {"subword_sampling": 0.1}])
def test_parameter_changes_the_loss(make, still_checkpoint, params):
    assert (
        abs(full_batch_losses(make, still_checkpoint)[0] - full_batch_losses(make, still_checkpoint, **params)[0])
        > 1e-3
    )


def test_stride_and_max_length_change_what_is_seen(fitted):
    def proba(**params):
        return copy.deepcopy(fitted).set_params(**params).predict_proba([LONG])[0]

    whole = proba()
    assert np.abs(proba(max_length=12) - whole).max() > 1e-4
    assert np.abs(proba(max_length=12, stride=0) - proba(max_length=12, stride=4)).max() > 1e-4
    rows_equal([proba(max_length=12, stride=32)], [proba(max_length=12, stride=5)])  # at most half of a window


# Beside transformers --------------------------------------------------------------------------------------------------


def test_saved_folder_gives_the_same_logits(fitted, tmp_path, reference):
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


@pytest.mark.parametrize("all_subwords", [False, True])
def test_steps_follow_a_plain_loop(make, still_checkpoint, tmp_path, reference, all_subwords):
    settings = {"batch_size": 500, "weight_decay": 0.0, "schedule": "constant", "learning_rate": 1e-3, "max_epochs": 1}
    tagger = make(XLMRobertaTokenClassifier, still_checkpoint, label_all_subwords=all_subwords, **settings).fit(X, Y)
    save(tagger, tmp_path / "start")
    tagger.set_params(warm_start=True, max_epochs=5).fit(X, Y)

    theirs = reference("XLMRobertaForTokenClassification", tmp_path / "start").train()
    optimizer = torch.optim.AdamW(theirs.parameters(), lr=1e-3, weight_decay=0.0)
    encoded = tagger.tokenizer_.encode_words(X)
    ids = torch.full((len(X), int(encoded.lengths.max())), tagger.tokenizer_.pad_token_id)
    labels = torch.full_like(ids, -100)
    for i, tags in enumerate(Y):
        row, words = encoded.row(i).astype(np.int64), encoded.word_ids[encoded.span(i)]
        ids[i, : len(row)] = torch.from_numpy(row)
        for k in range(1, len(row) - 1):
            if all_subwords or words[k] != words[k - 1]:
                labels[i, k] = tagger.classes_.tolist().index(tags[words[k]])
    losses = []
    for _ in range(5):
        loss = theirs(ids, attention_mask=(ids != 1).long(), labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(theirs.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    np.testing.assert_allclose(tagger.loss_curve_, losses, rtol=0, atol=1e-5)
    assert losses[-1] < losses[0] - 0.01


# scikit-learn's tools -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("container", [list, pd.Series, lambda rows: np.array(rows, dtype=object)])
def test_cross_validation_takes_ragged_targets(make, container):
    tagger = make(XLMRobertaTokenClassifier)
    rows, y = container(X), container(Y)
    assert not is_classifier(tagger)  # nobody then looks for the classes of a fold in ragged targets
    scores = cross_val_score(tagger, rows, y, cv=2, error_score="raise")
    assert scores.shape == (2,)
    found = cross_val_predict(tagger, rows, y, cv=2)
    assert [len(tags) for tags in found] == list(map(len, X))
    halves = [clone(tagger).fit(X[12:], Y[12:]).predict(X[:12]), clone(tagger).fit(X[:12], Y[:12]).predict(X[12:])]
    assert found.tolist() == [tags for half in halves for tags in half]


def test_grid_search_groups_and_scorers(make):
    groups = np.arange(24) % 4
    search = GridSearchCV(
        make(XLMRobertaTokenClassifier, batch_size=4, max_epochs=4, scheme="plain"),
        {"learning_rate": [1e-7, 5e-3]},
        cv=GroupKFold(2),
        error_score="raise",
    ).fit(X, Y, groups=groups)
    assert (
        search.best_params_ == {"learning_rate": 5e-3} and search.best_score_ > search.cv_results_["mean_test_score"][0]
    )
    assert search.score(X, Y) == search.best_estimator_.score(X, Y)
    own = cross_validate(
        make(XLMRobertaTokenClassifier, learning_rate=5e-3, batch_size=4, max_epochs=4),
        X,
        Y,
        cv=2,
        scoring={"own": lambda tagger, X, y: entity_f1_score(y, tagger.predict(X), scheme="IOB2")},
        error_score="raise",
    )
    assert own["test_own"].max() > 0
    texts, spans = as_texts(X, Y)
    assert cross_val_score(make(XLMRobertaTokenClassifier), texts, spans, cv=2, error_score="raise").shape == (2,)


def test_validation_and_early_stopping(make):
    watched = make(XLMRobertaTokenClassifier, **LEARNS | {"max_epochs": 4}).fit(X, Y, X_val=X[:12], y_val=Y[:12])
    assert len(watched.validation_scores_) == 4 and watched.validation_scores_[-1] == watched.score(X[:12], Y[:12]) > 0
    still = make(XLMRobertaTokenClassifier, max_epochs=9, learning_rate=1e-9, early_stopping=True).fit(X, Y)
    assert still.n_iter_ == 3  # the first epoch, and two that were no better
    texts, spans = as_texts(X, Y)
    other = make(XLMRobertaTokenClassifier, max_epochs=2).fit(texts, spans, X_val=texts, y_val=spans)
    assert other.validation_scores_[-1] == other.score(texts, spans)


# Folders --------------------------------------------------------------------------------------------------------------


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
    with pytest.raises(CheckpointError, match=r"classifier\.(weight|bias)"):
        XLMRobertaTokenClassifier.from_checkpoint(tiny_checkpoint)


# What is refused ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("X", "y", "params", "said"),
    [
        ([[], []], [[], []], {}, "X has no words"),
        ([["a"]], [["O"]], {}, "y has only one tag, 'O': at least two are needed"),
        (["a"], [[]], {}, "y has only one tag, 'O'"),
        ([["a"]], None, {}, "XLMRobertaTokenClassifier requires y to be passed, but the target y is None"),
        (X, [*Y[:-1], ["O"]], {}, f"y row 23: 1 tags for {len(X[23])} words"),
        (
            X,
            Y,
            {"scheme": "IOBES", "X_val": X[:1], "y_val": [["B-FR"] * len(X[0])]},
            "y_val row 0: tag 'B-FR' is not among",
        ),
        (X, Y, {"X_val": X[:2], "y_val": [Y[0], ["O"]]}, "y_val row 1: 1 tags for"),
        (X, Y, {"X_val": X}, "X_val and y_val belong together"),
        (X, [["NOUN"] * len(row) for row in X], {"scheme": "IOB2"}, "y has only one tag"),
        ([["a", "b"]], [["NOUN", "VERB"]], {"scheme": "IOB2"}, "'NOUN' is no tag of the scheme 'IOB2'"),
        ([["a", "b"]], [["NOUN", "VERB"]], {"constrained": True}, "constrained=True needs tags with a scheme"),
        (["a b"], [[(0, 3, "PER")]], {"constrained": True, "scheme": "plain"}, "constrained=True needs tags"),
    ],
)
def test_fit_refuses(make, X, y, params, said):
    validation = {name: params[name] for name in ("X_val", "y_val") if name in params}
    own = {name: value for name, value in params.items() if name not in validation}
    with pytest.raises(ValueError, match=said):
        make(XLMRobertaTokenClassifier, **own).fit(X, y, **validation)


def test_warm_start_keeps_the_tags(make):
    tagger = make(XLMRobertaTokenClassifier, warm_start=True).fit(X, Y)
    tagger.fit(X[:2], Y[:2])
    with pytest.raises(
        ValueError, match="y row 1: tag 'B-FR' is not among the classes of the fit, 'B-DE', 'I-DE', 'O'"
    ):
        tagger.fit(X[:2], [Y[0], ["B-FR"] * len(X[1])])


def test_scores_of_unknown_tags_are_misses(fitted):
    y = [[tag.replace("DE", "FR") for tag in row] for row in Y]
    assert fitted.score(X, y) == 0.0
    with pytest.raises(ValueError, match="y row 0: 1 tags for"):
        fitted.score(X, [["O"]] * len(X))
