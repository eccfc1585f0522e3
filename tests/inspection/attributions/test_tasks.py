"""What is explained of each kind of estimator: the number that it predicts with, and which words matter to it."""

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

import skxlmr
from skxlmr.inspection import attributions
from skxlmr.text import EncodedBatch
from skxlmr.utils._warnings import TruncationWarning
from tests.contract import TEXTS, Y
from tests.inspection.attributions.reference import gradients
from tests.tiny import write_checkpoint

PAIRS = list(zip(TEXTS, TEXTS[::-1], strict=True))
METHODS = ("integrated_gradients", "gradient_x_input", "occlusion", "shapley")
LONG = " ".join(TEXTS * 5)  # of more than 64 tokens
CLOSE = 1e-5


@pytest.fixture(params=METHODS)
def method(request):
    return request.param


def explained(estimator, X, method="integrated_gradients", share=1e-3, **options):
    """Attributions, after a check of what holds for all; ``share`` is what the sum may lack."""
    found = attributions(estimator, X, method, random_state=0, n_permutations=2, **options)
    for row in found:
        assert len(row.spans) and all(word.strip() == word != "" for word in row.words)
        assert list(row.spans) == sorted(row.spans)
        assert np.isfinite(row.values).all() and np.abs(row.values).max() > 1e-4
        if method == "integrated_gradients":
            assert abs(row.completeness_gap) < share * np.abs(row.values).sum() + CLOSE
        if method == "shapley":
            assert abs(row.completeness_gap) < 1e-9
    return found


def numbers(found):
    return [row.prediction for row in found]


def test_classes(fitted, method):
    classifier = fitted(skxlmr.XLMRobertaClassifier)
    logits = classifier._logits(TEXTS)
    found = explained(classifier, pd.Series(TEXTS), method)
    assert [row.target for row in found] == classifier.predict(TEXTS).tolist()
    np.testing.assert_allclose(numbers(found), logits.max(1), atol=CLOSE)
    np.testing.assert_allclose(
        numbers(explained(classifier, TEXTS, method, target=np.array(Y))), logits[range(6), Y], atol=CLOSE
    )


def test_pairs(make_any, method):
    classifier = make_any(skxlmr.XLMRobertaClassifier).fit(PAIRS, ["a", "b"] * 3)
    found = explained(classifier, PAIRS, method, target="b")
    np.testing.assert_allclose(numbers(found), classifier._logits(PAIRS)[:, 1], atol=CLOSE)
    for pair, row in zip(PAIRS, found, strict=True):
        assert row.texts == pair and row.words == tuple(" ".join(pair).split())
        assert {number for number, _, _ in row.spans} == {0, 1}


def test_several_labels(make_any, method):
    y = pd.DataFrame({"a": [0, 1] * 3, "b": [1, 1, 0] * 2, "c": [0, 0, 0, 1, 1, 1]})
    classifier = make_any(skxlmr.XLMRobertaClassifier).fit(TEXTS, y)
    logits = classifier.decision_function(TEXTS)
    np.testing.assert_allclose(numbers(explained(classifier, TEXTS, method, target="b")), logits[:, 1], atol=CLOSE)
    found = explained(classifier, TEXTS, method)
    assert [row.target for row in found] == np.array(["a", "b", "c"])[logits.argmax(1)].tolist()


def test_several_columns_of_classes(make_any):
    y = np.array([["x", "y", "z"] * 2, ["u", "v"] * 3]).T
    classifier = make_any(skxlmr.XLMRobertaClassifier).fit(TEXTS, y)
    found = explained(classifier, TEXTS, target=(1, "v"))
    np.testing.assert_allclose(numbers(found), classifier._logits(TEXTS)[:, 4], atol=CLOSE)
    assert found[0].target == (1, "v")
    for wrong, message in (
        (None, "pass \\(column, class\\)"),
        ((1, "x"), "'x' is not a class"),
        ((2, "x"), "2 columns"),
    ):
        with pytest.raises(ValueError, match=message):
            attributions(classifier, TEXTS, target=wrong)


def test_numbers(make_any, method):
    one = make_any(skxlmr.XLMRobertaRegressor).fit(TEXTS, np.arange(6.0))
    found = explained(one, TEXTS, method)
    np.testing.assert_allclose(numbers(found), one.predict(TEXTS), atol=CLOSE)
    assert found[0].target is None
    two = make_any(skxlmr.XLMRobertaRegressor).fit(TEXTS, np.arange(12.0).reshape(6, 2))
    np.testing.assert_allclose(numbers(explained(two, TEXTS, method, target=1)), two.predict(TEXTS)[:, 1], atol=CLOSE)
    with pytest.raises(ValueError, match="has 2 outputs: pass target"):
        attributions(two, TEXTS)
    with pytest.raises(ValueError, match="target of row 0: expected the number of an output, 0 to 1, got 2"):
        attributions(two, TEXTS, target=2)


def test_tags_of_texts_and_of_words(make_any, method):
    rows = [text.split() for text in TEXTS]
    tagger = make_any(skxlmr.XLMRobertaTokenClassifier).fit(rows, [["A", *"B" * (len(row) - 1)] for row in rows])
    found = explained(tagger, rows, method, word=1)
    expected = [np.log(proba[1]) for proba in tagger.predict_proba(rows)]
    other = explained(tagger, rows, method, word=1, target="A")
    assert [row.target for row in found] == [tags[1] for tags in tagger.predict(rows)]
    for row, words, log_proba, of_a in zip(found, rows, expected, other, strict=True):
        assert row.words == tuple(words) and row.texts == (" ".join(words),)
        assert row.words[1] == row.texts[0][row.explained[1] : row.explained[2]]
        assert of_a.prediction - row.prediction == pytest.approx(log_proba[0] - log_proba.max(), abs=CLOSE)
    texts = make_any(skxlmr.XLMRobertaTokenClassifier).fit(TEXTS, [[(0, 3, "X")], *[[]] * 4, [(0, 3, "X")]])
    found = explained(texts, TEXTS, method, word=[0, 1, 0, 1, 0, 1], target="B-X")
    assert [row.explained for row in found] == [
        (0, *span) for span in ((0, 3), (4, 8), (0, 4), (8, 13), (0, 8), (4, 9))
    ]
    for wrong, message in ((None, "pass word"), (2, "word of row 1: expected the number of a word, 0 to 1, got 2")):
        with pytest.raises(ValueError, match=message):
            attributions(texts, TEXTS, word=wrong)


def test_words_with_spaces_are_words_of_their_row(make_any):
    """Rows of the same text, cut into other words."""
    tagger = make_any(skxlmr.XLMRobertaTokenClassifier).fit([["das", "Haus"], ["der", "Vogel"]], [["O", "A"]] * 2)
    rows = [["das Haus", "läuft", "schnell"], ["das", "Haus", "läuft", "schnell"]]
    found = attributions(tagger, rows, "occlusion", word=[1, 2], target="O")
    assert [row.words for row in found] == list(map(tuple, rows))
    for row, words, place in zip(found, rows, (1, 2), strict=True):
        (alone,) = attributions(tagger, [words], "occlusion", word=[place], target="O")
        np.testing.assert_allclose(row.values, alone.values, atol=CLOSE)


def test_a_tag_in_a_long_row_is_explained_where_it_is_predicted(fitted):
    tagger = fitted(skxlmr.XLMRobertaTokenClassifier)
    n_words = len(tagger.predict_proba([LONG])[0])
    for word in (0, n_words // 2, n_words - 1):
        (row,) = explained(tagger, [LONG], word=word, target="O")
        (other,) = explained(tagger, [LONG], word=word, target="B-word")
        log_odds = np.diff(np.log(tagger.predict_proba([LONG])[0][word]))[[0]]
        codes = [tagger.classes_.tolist().index(tag) for tag in ("B-word", "O")]
        log_odds = np.subtract(*np.log(tagger.predict_proba([LONG])[0][word])[codes])
        assert other.prediction - row.prediction == pytest.approx(log_odds, abs=CLOSE)
        assert row.explained in row.spans and len(row.spans) < n_words


@pytest.mark.parametrize("edge", ["both", "start", "end"])
def test_answers(fitted, method, edge):
    answerer = fitted(skxlmr.XLMRobertaQuestionAnswerer)
    X = [(text, LONG) for text in TEXTS[:2]] + [(TEXTS[2], TEXTS[0])]
    found = explained(answerer, X, method, edge=edge)
    best = [row[0] for row in answerer.predict_spans(X)]
    encoded = answerer._encode(answerer._check_X(X, reset=False))
    logits = answerer._engine().tokens(encoded)
    of_edge = {"both": [0, 1], "start": [0], "end": [1]}[edge]
    for row, answer in zip(found, best, strict=True):
        assert row.target == answer["answer"] and row.explained == (1, answer["start"], answer["end"])
        assert any(np.abs(logits[:, k] - row.prediction).min() < CLOSE for k in of_edge) or edge == "both"
    one = found[2]  # in one window
    span = encoded.span(len(encoded) - 1)
    inside = (encoded.offsets[span, 0] < one.explained[2]) & (encoded.offsets[span, 1] > one.explained[1])
    places = np.flatnonzero(inside & (encoded.sequence_ids[span] == 1))[[0, -1]]
    expected = sum(logits[span][places[k], k] for k in of_edge)
    assert one.prediction == pytest.approx(expected, abs=CLOSE)


def test_answers_that_are_asked_for(fitted):
    answerer = fitted(skxlmr.XLMRobertaQuestionAnswerer)
    X = [(TEXTS[1], TEXTS[0])]
    by_text, by_place = explained(answerer, X, target="bird"), explained(answerer, X, target=(4, 8))
    assert by_text[0].prediction == by_place[0].prediction and by_place[0].target == "bird"
    (none,) = explained(answerer, X, target="")
    first = answerer._engine().tokens(answerer._encode(answerer._check_X(X, reset=False)))[0]
    assert none.prediction == pytest.approx(first.sum(), abs=CLOSE) and none.explained is None
    for wrong, message in (
        ("fish", "'fish' is not in the context"),
        ((5, 99), "characters"),
        (3, "expected an answer"),
    ):
        with pytest.raises(ValueError, match=f"target of row 0: .*{message}"):
            attributions(answerer, X, target=wrong)


def test_choices(fitted, method):
    chooser = fitted(skxlmr.XLMRobertaMultipleChoiceClassifier)
    X = [(text, TEXTS[:2]) for text in TEXTS]
    scores = chooser.decision_function(X)
    found = explained(chooser, X, method)
    assert [row.target for row in found] == chooser.predict(X).tolist()
    np.testing.assert_allclose(numbers(found), scores.max(1), atol=CLOSE)
    assert found[3].texts == (TEXTS[3], TEXTS[found[3].target]) and found[3].names == ("prompt", "choice")
    np.testing.assert_allclose(numbers(explained(chooser, X, method, target=1)), scores[:, 1], atol=CLOSE)
    with pytest.raises(ValueError, match="the number of a choice, 0 to 1, got 2"):
        attributions(chooser, X, target=2)


@pytest.mark.parametrize("multi_label", [False, True])
def test_labels_in_words(fitted, method, multi_label):
    zero_shot = fitted(skxlmr.XLMRobertaZeroShotClassifier).set_params(multi_label=multi_label)
    proba = zero_shot.predict_proba(TEXTS)
    art, sport = (explained(zero_shot, TEXTS, method, target=label) for label in ("art", "sport"))
    if multi_label:
        np.testing.assert_allclose(numbers(art), np.log(proba[:, 0] / (1 - proba[:, 0])), atol=1e-4)
    else:
        log_odds = np.log(proba[:, 0] / proba[:, 1])
        np.testing.assert_allclose(np.subtract(numbers(art), numbers(sport)), log_odds, atol=1e-4)
    assert art[0].texts == (TEXTS[0], "This example is art.")
    best = explained(zero_shot, TEXTS, method)
    assert [row.target for row in best] == zero_shot.classes_[proba.argmax(1)].tolist()


@pytest.mark.parametrize(
    "params", [{}, {"pooling": "cls"}, {"pooling": ["mean", "lasttoken"], "layers": [1, 2]}, {"prompt": "das: "}]
)
def test_similarity(tiny_checkpoint, method, params):
    vectorizer = skxlmr.XLMRobertaVectorizer(tiny_checkpoint, dtype="float32", **params)
    found = explained(vectorizer, PAIRS, method)
    first, second = (vectorizer.transform(list(column)) for column in zip(*PAIRS, strict=True))
    cosines = (first * second).sum(1) / np.linalg.norm(first, axis=1) / np.linalg.norm(second, axis=1)
    np.testing.assert_allclose(numbers(found), cosines, atol=CLOSE)
    for pair, row in zip(PAIRS, found, strict=True):
        assert row.texts == pair and row.words == tuple(" ".join(pair).split())
    with pytest.raises(ValueError, match="X must have pairs of texts"):
        attributions(vectorizer, TEXTS, method)
    with pytest.raises(ValueError, match="has no target"):
        attributions(vectorizer, PAIRS, method, target=1)


@pytest.fixture(scope="session")
def xl(tmp_path_factory, tiny_tokenizer):
    """A checkpoint of XLM-R XL."""
    return write_checkpoint(tmp_path_factory.mktemp("xl") / "checkpoint", tiny_tokenizer, model_type="xlm-roberta-xl")


@pytest.mark.parametrize("body", ["bert", "distilbert", "xl"])
def test_relatives(bodies, xl, body, method):
    classifier = skxlmr.XLMRobertaClassifier({**bodies, "xl": xl}[body], max_epochs=1, dtype="float32", random_state=0)
    classifier.fit(PAIRS, Y)
    # the ReLU of DistilBERT's head bends the way
    found = explained(classifier, PAIRS, method, 3e-2 if body == "distilbert" else 1e-3, target=0)
    np.testing.assert_allclose(numbers(found), classifier._logits(PAIRS)[:, 0], atol=CLOSE)
    if method == "integrated_gradients":
        made = classifier.tokenizer_.encode_batch(*map(list, zip(*PAIRS[:1], strict=True)), return_offsets=True)
        second = None if made.second_starts is None or body == "distilbert" else made.second_starts[0]
        is_text = made.sequence_ids >= 0
        ig, _, prediction, baseline = gradients(
            classifier, made.ids, is_text, lambda out: out[0, 0], first_of_second=second
        )
        assert found[0].values.sum() == pytest.approx(ig[is_text].sum(), abs=2e-5)
        assert (found[0].prediction, found[0].baseline) == pytest.approx((prediction, baseline), abs=2e-5)


def test_the_original_xlm(tiny_xlm_languages, method):
    classifier = skxlmr.XLMClassifier(tiny_xlm_languages, lang="de", max_epochs=1, dtype="float32", random_state=0)
    classifier.fit(TEXTS, Y)
    found = explained(classifier, TEXTS, method, target=1)
    np.testing.assert_allclose(numbers(found), classifier._logits(TEXTS)[:, 1], atol=CLOSE)
    assert [row.words for row in found] == [tuple(text.split()) for text in TEXTS]
    vectorizer = skxlmr.XLMVectorizer(tiny_xlm_languages, lang="ru", dtype="float32")
    assert len(explained(vectorizer, PAIRS, method)) == 6


def test_long_texts_in_windows(fitted, method):
    classifier = fitted(skxlmr.XLMRobertaClassifier).set_params(long_text="window", stride=8)
    found = explained(classifier, [LONG, TEXTS[0]], method, target=0)
    np.testing.assert_allclose(numbers(found), classifier._logits([LONG, TEXTS[0]])[:, 0], atol=CLOSE)
    assert found[0].words == tuple(LONG.split()) and found[0].n_dropped == 0


def test_what_was_cut_has_no_value(fitted, method):
    classifier = fitted(skxlmr.XLMRobertaClassifier)
    with pytest.warns(TruncationWarning, match="1 of 2 texts are longer than 64 tokens"):
        found = explained(classifier, [LONG, TEXTS[0]], method)
    assert found[0].words == tuple(LONG.split())[: len(found[0].words)]
    assert found[0].n_dropped > 0 == found[1].n_dropped


def test_texts_in_lower_case(fitted, method):
    from skxlmr.checkpoints import CrossEncoder

    classifier = fitted(skxlmr.XLMRobertaClassifier)
    (plain,) = explained(classifier, ["das haus i\u0307 über"], method, target=0)
    classifier._said = CrossEncoder(lower_case=True)
    (row,) = explained(classifier, ["Das HAUS \u0130 ÜBER"], method, target=0)  # the dotted letter becomes two
    assert row.words == ("Das", "HAUS", "\u0130", "ÜBER")
    np.testing.assert_allclose(row.values, plain.values, atol=CLOSE)


def test_windows_that_begin_with_a_prompt_are_refused(tiny_checkpoint):
    vectorizer = skxlmr.XLMRobertaVectorizer(tiny_checkpoint, prompt="das: ", long_text="window", stride=8)
    with pytest.raises(ValueError, match="X row 1 is read in windows that each begin with the prompt"):
        attributions(vectorizer, [(TEXTS[0], TEXTS[1]), (TEXTS[0], LONG)])


def test_pipelines_and_searches(fitted):
    classifier = fitted(skxlmr.XLMRobertaClassifier)
    pipeline = make_pipeline(FunctionTransformer(lambda X: [text.title() for text in X]), classifier)
    search = GridSearchCV(pipeline, {"xlmrobertaclassifier__batch_size": [8]})
    search.best_estimator_ = pipeline
    (row,) = explained(search, ["the bird"], "occlusion")
    assert row.words == ("The", "Bird") and row.prediction == pytest.approx(classifier._logits(["The Bird"]).max())


def test_other_estimators_are_refused(fitted):
    with pytest.raises(TypeError, match=r"can't explain a XLMRobertaMaskedLM: it takes .*classifiers, .*lime and shap"):
        attributions(fitted(skxlmr.XLMRobertaMaskedLM), TEXTS)
    with pytest.raises(TypeError, match="can't explain a FunctionTransformer"):
        attributions(make_pipeline(FunctionTransformer()), TEXTS)


def test_no_rows_and_no_words(fitted, method):
    classifier = fitted(skxlmr.XLMRobertaClassifier)
    assert attributions(classifier, [], method) == []
    (empty,) = attributions(classifier, [""], method)
    assert empty.words == () and empty.prediction == pytest.approx(empty.baseline, abs=1e-6)
    assert empty.completeness_gap == pytest.approx(0, abs=1e-6)


def test_tokens_get_values_too(fitted, method):
    classifier = fitted(skxlmr.XLMRobertaClassifier)
    words, tokens = (explained(classifier, ["ein Vogel läuft"], method, level=level)[0] for level in ("word", "token"))
    assert words.words == ("ein", "Vogel", "läuft") and tokens.words == ("ein", "V", "ogel", "läuft")
    if "grad" in method:
        assert words.values[1] == pytest.approx(tokens.values[1:3].sum())


def test_a_prompt_stays(tiny_checkpoint):
    vectorizer = skxlmr.XLMRobertaVectorizer(tiny_checkpoint, dtype="float32", prompt="das Haus ")
    (row,) = attributions(vectorizer, PAIRS[:1], "occlusion")
    engine, vectors = vectorizer._engine(), []
    for text in PAIRS[0]:
        made = vectorizer.tokenizer_.encode_batch(["das Haus " + text], return_offsets=True)
        is_text = (made.sequence_ids == 0) & (made.offsets[:, 1] > len("das Haus "))
        ids = np.where(is_text, vectorizer.tokenizer_.mask_token_id, made.ids).astype(np.int32)
        vectors.append(
            engine.rows(
                EncodedBatch(ids, made.lengths, made.n_dropped),
                vectorizer._computation(engine, vectorizer._how(), False)[0],
            )[0]
        )
    first, second = vectors
    assert row.baseline == pytest.approx(first @ second / np.linalg.norm(first) / np.linalg.norm(second), abs=CLOSE)
    assert row.words == tuple(" ".join(PAIRS[0]).split())
