"""Multiple choice: rows of different lengths, answers that depend on no other row, and the saved head elsewhere."""

import re
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file
from sklearn.base import clone, is_classifier
from sklearn.exceptions import DataConversionWarning
from sklearn.metrics import accuracy_score
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score

from skxlmr import (
    CheckpointError,
    TruncationWarning,
    XLMRobertaClassifier,
    XLMRobertaMultipleChoiceClassifier,
    load,
    save,
)
from tests.estimators.conftest import LEARNS, differing, padded, weights_of
from tests.tiny import WORDS, sentences


def toy(n, n_choices=(2, 3, 4), seed=0):
    """A sentence, and choices of which one is Greek."""
    rng = np.random.default_rng(seed)
    X, y = [], []
    for row, prompt in enumerate(sentences(n, seed)):
        k = n_choices[row % len(n_choices)]
        answer = int(rng.integers(k))
        chosen = np.insert(rng.permutation(["de", "en", "ru"])[: k - 1], answer, "el")
        X.append({"prompt": prompt, "choices": [" ".join(rng.choice(WORDS[name].split(), 4)) for name in chosen]})
        y.append(answer)
    return X, np.array(y)


@pytest.fixture(scope="module")
def rows():
    return toy(24)


@pytest.fixture(scope="module")
def fitted(make, rows):
    return make(XLMRobertaMultipleChoiceClassifier, max_epochs=2).fit(*rows)


def probabilities(estimator, X):
    """Of each row its own choices."""
    return [line[: len(row["choices"])] for line, row in zip(estimator.predict_proba(X), X, strict=True)]


# What it learns -------------------------------------------------------------------------------------------------------


def test_learns_a_toy_task(make, still_checkpoint):
    X, y = toy(160)
    chooser = make(XLMRobertaMultipleChoiceClassifier, still_checkpoint, **LEARNS).fit(X[:128], y[:128])
    assert chooser.score(X[128:], y[128:]) > 0.7  # by chance 0.36
    assert chooser.loss_curve_[-1] < 0.7 * chooser.loss_curve_[0]
    assert chooser.score(X[128:], y[128:]) == accuracy_score(y[128:], chooser.predict(X[128:]))


def test_probabilities_of_ragged_rows(fitted, rows):
    X, _ = rows
    scores, probability, predicted = fitted.decision_function(X), fitted.predict_proba(X), fitted.predict(X)
    assert scores.shape == probability.shape == (24, 4) and probability.dtype == np.float32
    np.testing.assert_array_equal(predicted, probability.argmax(1))
    np.testing.assert_allclose(probability.sum(1), 1, rtol=1e-6)
    for row, line, score in zip(X, probability, scores, strict=True):
        k = len(row["choices"])
        assert (line[:k] > 0).all() and (line[k:] == 0).all() and (score[k:] == -np.inf).all()
        np.testing.assert_allclose(line[:k], np.exp(score[:k]) / np.exp(score[:k]).sum(), rtol=1e-5)
    assert fitted.classes_.tolist() == [0, 1, 2, 3]


def test_a_column_per_class_whatever_the_rows_of_the_call(fitted, rows):
    """A row has the same line alone as beside rows with more choices."""
    X, _ = rows
    for method, fill in ((fitted.predict_proba, 0), (fitted.decision_function, -np.inf)):
        alone, beside = method(X[:1]), method(X)[:1]
        assert alone.shape == (1, 4) and (alone[0, 2:] == fill).all()
        np.testing.assert_allclose(alone, beside, atol=1e-6)
        more = [{"prompt": "the bird", "choices": list("abcdef")}]  # more than any row of fit
        assert method(more).shape == (1, 6) and method([]).shape == (0, 4)


def test_neighbours_and_batches_do_not_matter(make, fitted, rows):
    X, _ = rows
    expected = probabilities(fitted, X)
    order = np.random.default_rng(1).permutation(len(X))
    for found, row in zip(probabilities(fitted, [X[i] for i in order]), order, strict=True):
        np.testing.assert_allclose(found, expected[row], atol=1e-6)
    small = clone(fitted).set_params(batch_size=1)
    vars(small).update({name: value for name, value in vars(fitted).items() if name not in fitted.get_params()})
    for found, line in zip(probabilities(small, X), expected, strict=True):
        np.testing.assert_allclose(found, line, atol=1e-6)


def test_order_of_the_choices_goes_with_the_probabilities(fitted, rows):
    X, _ = rows
    turned = [{**row, "choices": row["choices"][::-1]} for row in X]
    for found, expected in zip(probabilities(fitted, turned), probabilities(fitted, X), strict=True):
        np.testing.assert_allclose(found[::-1], expected, atol=1e-6)


def test_weights_count_like_repeated_rows(make, still_checkpoint, rows):
    X, y = rows
    made = make(XLMRobertaMultipleChoiceClassifier, still_checkpoint, batch_size=100)
    twice = clone(made).fit(X + X[:6], np.r_[y, y[:6]])
    weighted = clone(made).fit(X, y, sample_weight=np.r_[np.full(6, 2.0), np.ones(18)])
    assert weighted.loss_curve_ == pytest.approx(twice.loss_curve_, rel=1e-5)
    assert made.fit(X, y).loss_curve_ != pytest.approx(weighted.loss_curve_, rel=1e-5)


def test_validation_and_early_stopping(make, rows):
    X, y = rows
    watched = make(XLMRobertaMultipleChoiceClassifier, max_epochs=2).fit(X, y, X_val=X[:10], y_val=y[:10])
    assert watched.validation_scores_[-1] == watched.score(X[:10], y[:10])
    stopped = make(XLMRobertaMultipleChoiceClassifier, max_epochs=2, early_stopping=True, validation_fraction=0.25)
    scores = stopped.fit(X, y).validation_scores_
    assert len(scores) == 2 and all(score * 6 == pytest.approx(round(score * 6)) for score in scores)  # of 6 rows


def test_segmentations_are_drawn(make, rows):
    plain = make(XLMRobertaMultipleChoiceClassifier).fit(*rows)
    drawn = make(XLMRobertaMultipleChoiceClassifier, subword_sampling=0.1).fit(*rows)
    assert drawn.loss_curve_ != plain.loss_curve_ and len(drawn.predict(rows[0])) == 24


def test_long_prompts_are_cut_and_counted(make):
    X = [{"prompt": "the red house " * 40, "choices": ["sings", "walks"]}, {"prompt": "a", "choices": ["b", "c"]}]
    chooser = make(XLMRobertaMultipleChoiceClassifier)
    with pytest.warns(TruncationWarning, match="2 of 4 texts are longer than 64 tokens"):
        chooser.fit(X, [0, 1])
    assert chooser.n_truncated_ == 2


# Checkpoints ----------------------------------------------------------------------------------------------------------


def test_pooler_is_kept_and_the_head_is_new(make, tiny_checkpoint, tmp_path, rows):
    made = make(XLMRobertaMultipleChoiceClassifier, n_frozen_layers=2, learning_rate=1e-9).fit(*rows)
    before = load_file(tiny_checkpoint / "model.safetensors")
    torch.testing.assert_close(
        weights_of(made)["roberta.pooler.dense.weight"], before["roberta.pooler.dense.weight"], atol=1e-6, rtol=0
    )
    shutil.copytree(tiny_checkpoint, tmp_path / "bare")
    save_file({k: v for k, v in before.items() if "pooler" not in k}, tmp_path / "bare" / "model.safetensors")
    new = make(XLMRobertaMultipleChoiceClassifier, tmp_path / "bare", n_frozen_layers=2, learning_rate=1e-9).fit(*rows)
    assert not torch.allclose(
        weights_of(new)["roberta.pooler.dense.weight"], before["roberta.pooler.dense.weight"], atol=1e-2
    )
    save(made, tmp_path / "trained")
    with pytest.warns(UserWarning, match="has a head of its own"):
        make(XLMRobertaMultipleChoiceClassifier, tmp_path / "trained").fit(*rows)


def test_saved_folder_and_transformers_have_the_same_scores(fitted, reference, tmp_path):
    X, y = toy(9, (3,), seed=1)
    save(fitted, tmp_path / "saved")
    for found in (
        load(tmp_path / "saved"),
        XLMRobertaMultipleChoiceClassifier.from_checkpoint(tmp_path / "saved", dtype="float32"),
    ):
        np.testing.assert_array_equal(found.decision_function(X)[:, :3], fitted.decision_function(X)[:, :3])
        assert found.score(X, y) == fitted.score(X, y)
    model = reference("AutoModelForMultipleChoice", tmp_path / "saved")
    inputs = padded(
        fitted.tokenizer_,
        [row["prompt"] for row in X for _ in row["choices"]],
        [choice for row in X for choice in row["choices"]],
    )
    with torch.no_grad():
        expected = model(**{name: tensor.view(9, 3, -1) for name, tensor in inputs.items()}).logits
    np.testing.assert_allclose(fitted.decision_function(X)[:, :3], expected, atol=1e-5)


def test_recorded_outputs_of_the_reference(shared_data):
    golden = np.load(shared_data / "checkpoints" / "mc" / "golden.npz")
    chooser = XLMRobertaMultipleChoiceClassifier.from_checkpoint(shared_data / "checkpoints" / "mc", dtype="float32")
    ids, mask = (torch.from_numpy(golden[name][0]) for name in ("input_ids", "attention_mask"))
    with torch.no_grad():
        found = chooser.module_(ids, attention_mask=mask).numpy()
    np.testing.assert_allclose(found, golden["logits"][0], atol=1e-5)


def test_checkpoint_without_the_head(tiny_checkpoint):
    with pytest.raises(
        CheckpointError, match=r"describes an XLMRobertaForMaskedLM, .* no head for choices: use XLMRobertaMa"
    ):
        XLMRobertaMultipleChoiceClassifier.from_checkpoint(tiny_checkpoint)


def test_warm_start_continues(make, rows):
    chooser = make(XLMRobertaMultipleChoiceClassifier, warm_start=True).fit(*rows)
    before = weights_of(chooser)
    chooser.set_params(learning_rate=1e-9).fit(*rows)
    after = weights_of(chooser)
    assert all(torch.allclose(after[name], before[name], atol=1e-6) for name in before)
    fresh = clone(chooser).fit(*rows)
    assert "classifier.weight" in differing(weights_of(fresh), after)


# scikit-learn's tools -------------------------------------------------------------------------------------------------


def test_tools_of_scikit_learn(make, rows):
    X, y = rows
    made = make(XLMRobertaMultipleChoiceClassifier)
    assert is_classifier(made)
    frame = pd.DataFrame(X, index=range(100, 124))
    scores = cross_val_score(made, X, y, cv=2, error_score="raise")
    np.testing.assert_array_equal(cross_val_score(made, frame, y, cv=2, error_score="raise"), scores)
    pairs = [(row["prompt"], row["choices"]) for row in X]
    np.testing.assert_array_equal(cross_val_score(made, pairs, pd.Series(y), cv=2, error_score="raise"), scores)
    search = GridSearchCV(made, {"learning_rate": [1e-9, 3e-3]}, cv=2, error_score="raise").fit(frame, y)
    assert search.predict(frame).shape == (24,) and search.best_score_ >= 0


def test_cross_validated_probabilities(make):
    X, y = toy(20, (2,))
    frame = pd.DataFrame({"prompt": [row["prompt"] for row in X]})
    frame[["first", "second"]] = [row["choices"] for row in X]
    made = make(XLMRobertaMultipleChoiceClassifier)
    found = cross_val_predict(made, frame, y, cv=2, method="predict_proba")
    np.testing.assert_allclose(found, cross_val_predict(made, X, y, cv=2, method="predict_proba"), atol=1e-6)
    assert made.fit(frame, y).n_features_in_ == 3
    assert made.feature_names_in_.tolist() == ["prompt", "first", "second"]
    with pytest.raises(ValueError, match="feature names should match"):
        made.predict(frame.rename(columns={"first": "1st"}))
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        made.predict(X)


def test_cross_validated_probabilities_of_ragged_rows(make):
    """A fold may have no row with the most choices."""
    X, y = toy(12, (3, 2))
    folds = [(np.r_[0:8], np.r_[9, 11]), (np.r_[0:6, 9, 11], np.r_[6, 7, 8, 10]), (np.r_[6:12], np.r_[0:6])]
    made = make(XLMRobertaMultipleChoiceClassifier)
    found = cross_val_predict(made, X, y, cv=folds, method="predict_proba")
    assert found.shape == (12, 3) and (found[1::2, 2] == 0).all() and (found[::2] > 0).all()
    np.testing.assert_allclose(found.sum(1), 1, rtol=1e-6)


def test_names_of_columns_are_those_that_are_read(make, rows):
    X, y = rows
    frame = pd.DataFrame(X).assign(language="de")
    chooser = make(XLMRobertaMultipleChoiceClassifier).fit(frame, y)
    assert chooser.n_features_in_ == 2 and chooser.feature_names_in_.tolist() == ["prompt", "choices"]
    np.testing.assert_array_equal(chooser.predict_proba(frame.drop(columns="language")), chooser.predict_proba(frame))


# What cannot work -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ([0, 2, 0], "y row 1: expected the index of a choice, 0 to 1, got 2"),
        ([0, 1, -1], "y row 2: expected the index of a choice, 0 to 2, got -1"),
        ([0, 1, 1.5], "y row 2: expected the index of a choice, 0 to 2, got a continuous target, 1.5"),
        ([0, None, 0], "y row 1: expected the index of a choice, 0 to 1, got None"),
        (["a", "b", "a"], "y row 0: expected the index of a choice, 0 to 1, got 'a'"),
        ([True, False, True], "y row 0: expected the index of a choice, 0 to 1, got True"),
        ([0, 1], "inconsistent numbers of samples"),
        (None, "requires y to be passed, but the target y is None"),
    ],
)
def test_answers_that_are_not_choices(make, answers, said):
    X = [("a", ["b", "c"]), ("d", ["e", "f"]), ("g", ["h", "i", "j"])]
    made = make(XLMRobertaMultipleChoiceClassifier)
    with pytest.raises(ValueError, match=said):
        made.fit(X, answers)
    assert not hasattr(made, "module_")


def test_validation_data_is_checked(make, rows):
    X, y = rows
    made = make(XLMRobertaMultipleChoiceClassifier)
    with pytest.raises(ValueError, match="y_val row 0: expected the index of a choice, 0 to 1, got 3"):
        made.fit(X, y, X_val=[("a", ["b", "c"])], y_val=[3])
    with pytest.raises(ValueError, match="X_val row 0: expected two or more choices, got 1"):
        made.fit(X, y, X_val=[("a", ["b"])], y_val=[0])
    with pytest.raises(ValueError, match="X_val and y_val belong together"):
        made.fit(X, y, X_val=X)
    with pytest.warns(DataConversionWarning, match=r"A column-vector y_val was passed .* change the shape of y_val"):
        made.fit(X, y, X_val=X, y_val=np.reshape(y, (-1, 1)))


def test_whole_numbers_of_another_dtype(make, fitted, rows):
    X, y = rows
    again = make(XLMRobertaMultipleChoiceClassifier, max_epochs=2).fit(X, y.astype(float))
    np.testing.assert_array_equal(again.decision_function(X), fitted.decision_function(X))
    assert again.predict(X).dtype.kind == "i"


def test_portions_need_no_classes(make, rows):
    X, y = rows
    made = make(XLMRobertaMultipleChoiceClassifier).partial_fit(X, y, classes=[0, 1])
    assert made.classes_.tolist() == [0, 1, 2, 3]
    without = make(XLMRobertaMultipleChoiceClassifier).partial_fit(X, y)
    np.testing.assert_array_equal(made.decision_function(X), without.decision_function(X))
    for others in ([0, 4], ["0"]):
        said = f"classes must be among those of earlier calls, array([0, 1, 2, 3]), got {others!r}"
        with pytest.raises(ValueError, match=f"^{re.escape(said)}$"):
            made.partial_fit(X, y, classes=others)


def test_classes_of_later_portions(make, rows):
    X, y = toy(12, (2,))
    made = make(XLMRobertaMultipleChoiceClassifier).partial_fit(X, y, classes=range(4))
    assert made.classes_.tolist() == [0, 1, 2, 3]
    made.partial_fit(*rows, classes=[3, 0]).partial_fit(*rows)
    assert len(made.loss_curve_) == 3 and made.classes_.tolist() == [0, 1, 2, 3]
    for wrong in (["0", "1"], [-1, 0], [0.5], [True, False]):
        said = f"classes must be indices of choices, whole numbers from 0, got {wrong!r}"
        with pytest.raises(ValueError, match=f"^{re.escape(said)}$"):
            make(XLMRobertaMultipleChoiceClassifier).partial_fit(X, y, classes=wrong)


def test_portions_after_a_checkpoint(fitted, rows, tmp_path):
    """The classes of a checkpoint are learnt from the rows of the first call, as in a first call without one."""
    X, y = toy(12, (2,))
    save(fitted, tmp_path / "saved")
    ready = XLMRobertaMultipleChoiceClassifier.from_checkpoint(
        tmp_path / "saved", dtype="float32", random_state=0, learning_rate=3e-3
    )
    assert not hasattr(ready, "classes_")
    assert [ready.decision_function(rows[0][k : k + 1]).shape for k in range(3)] == [(1, 2), (1, 3), (1, 4)]
    before = weights_of(ready)
    ready.partial_fit(X, y, classes=[0, 1])
    assert ready.classes_.tolist() == [0, 1] and len(ready.loss_curve_) == 1
    after, scores = weights_of(ready), ready.decision_function(X)
    assert "classifier.weight" in differing(after, before)
    ready.partial_fit(X, y, classes=[1, 0]).partial_fit(X, y, classes=[1])
    assert len(ready.loss_curve_) == 3 and differing(weights_of(ready), after)
    kept, scores = weights_of(ready), ready.decision_function(X)
    with pytest.raises(ValueError, match=r"classes must be among those of earlier calls, .*got \[0, 1, 2\]"):
        ready.partial_fit(X, y, classes=[0, 1, 2])
    assert not differing(weights_of(ready), kept) and ready.classes_.tolist() == [0, 1]
    np.testing.assert_array_equal(ready.decision_function(X), scores)


def test_rows_with_one_choice(make, fitted):
    said = "X row 1: expected two or more choices, got 1"
    X = [("a", ["b", "c"]), ("d", ["e"])]
    with pytest.raises(ValueError, match=said):
        make(XLMRobertaMultipleChoiceClassifier).fit(X, [0, 0])
    with pytest.raises(ValueError, match=said):
        fitted.predict(X)


def test_checkpoint_of_another_task(make, texts, languages, tmp_path, rows):
    save(make(XLMRobertaClassifier).fit(texts, languages), tmp_path / "classifier")
    with pytest.raises(CheckpointError, match=r"no head for choices: use XLMRobertaClassifier.from_checkpoint"):
        XLMRobertaMultipleChoiceClassifier.from_checkpoint(tmp_path / "classifier")


def test_answers_of_any_dtype_are_scored():
    chooser = XLMRobertaMultipleChoiceClassifier()
    chooser.predict = lambda X: np.array([0, 1, 1])
    for dtype in ("Int64", "int64[pyarrow]", "category", "object"):
        assert chooser.score("abc", pd.Series([0, 1, 1]).astype(dtype)) == 1
