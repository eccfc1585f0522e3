"""Labels in words through entailment: the reference's scores, whatever the checkpoint is, and scikit-learn's tools."""

import json
import pickle
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone, is_classifier
from sklearn.exceptions import DataConversionWarning, NotFittedError
from sklearn.metrics import accuracy_score
from sklearn.model_selection import GridSearchCV, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import get_tags
from sklearn.utils._param_validation import InvalidParameterError

from skxlmr import (
    CheckpointError,
    TruncationWarning,
    XLMClassifier,
    XLMRobertaClassifier,
    XLMRobertaZeroShotClassifier,
    load,
    save,
)
from skxlmr.inspection import attributions
from skxlmr.utils._devices.device import resolve_device
from tests.cross_encoders import MODULE, SCORES
from tests.estimators.conftest import padded
from tests.sentence_encoders import put

LABELS = ["sport", "city", "art"]
NLI = ["contradiction", "neutral", "entailment"]


@pytest.fixture(scope="module")
def nli(make, texts):
    """A classifier of pairs with the labels of inference; what it has learnt does not matter here."""
    pairs = list(zip(texts, texts[::-1], strict=True))
    return make(XLMRobertaClassifier).fit(pairs, NLI * 16)


@pytest.fixture(scope="module")
def nli_folder(nli, tmp_path_factory):
    folder = tmp_path_factory.mktemp("nli") / "saved"
    save(nli, folder)
    return folder


def zero_shot(checkpoint, **params):
    return XLMRobertaZeroShotClassifier(checkpoint, **{"candidate_labels": LABELS, "dtype": "float32"} | params)


def nli_logits(nli, texts, labels, template="This example is {}."):
    """Logits of each text with each hypothesis, (n_texts, n_labels), by the name of the output."""
    pairs = [(text, template.format(label)) for text in texts for label in labels]
    logits = nli.decision_function(pairs).reshape(len(texts), len(labels), 3)
    return {name: logits[..., i] for i, name in enumerate(nli.classes_)}


# Scores ---------------------------------------------------------------------------------------------------------------


def test_recorded_scores_of_the_reference(shared_data):
    cases = json.loads((shared_data / "goldens" / "pipelines.json").read_text(encoding="utf-8"))["zero_shot"]
    for case in cases:
        assert (case["contradiction_id"], case["entailment_id"]) == (0, 2)
        estimator = zero_shot(
            shared_data / "checkpoints" / "seqcls",
            candidate_labels=case["labels"],
            hypothesis_template=case["template"],
            multi_label=case["multi_label"],
            contradiction="LABEL_0",
            entailment="LABEL_2",
        ).fit()
        found = dict(zip(estimator.classes_, estimator.predict_proba([case["text"]])[0], strict=True))
        expected = dict(zip(case["result"]["labels"], case["result"]["scores"], strict=True))
        assert found == pytest.approx(expected, abs=1e-5)
    assert len(cases) == 20


def test_one_label_per_text(nli, texts):
    estimator = zero_shot(nli, hypothesis_template="{} it is").fit(texts)
    probability = estimator.predict_proba(texts)
    assert probability.dtype == np.float32 and estimator.classes_.tolist() == sorted(LABELS)
    entailment = np.exp(nli_logits(nli, texts, sorted(LABELS), "{} it is")["entailment"])
    np.testing.assert_allclose(probability, entailment / entailment.sum(1, keepdims=True), atol=1e-5)
    np.testing.assert_allclose(probability.sum(1), 1, rtol=1e-6)
    predicted = estimator.predict(texts)
    np.testing.assert_array_equal(predicted, np.array(sorted(LABELS))[probability.argmax(1)])
    assert estimator.score(texts, predicted) == 1


def test_several_labels_per_text(nli, texts):
    estimator = zero_shot(nli, multi_label=True).fit()
    assert estimator.classes_.tolist() == LABELS  # as passed: the columns of an indicator matrix have an order
    logits = {name: np.exp(values) for name, values in nli_logits(nli, texts, LABELS).items()}
    probability = estimator.predict_proba(texts)
    np.testing.assert_allclose(
        probability, logits["entailment"] / (logits["entailment"] + logits["contradiction"]), atol=1e-5
    )
    indicator = estimator.predict(texts)
    assert indicator.shape == (48, 3) and set(np.unique(indicator)) <= {0, 1}
    np.testing.assert_array_equal(indicator, probability >= 0.5)
    higher = zero_shot(nli, multi_label=True, threshold=float(np.median(probability))).fit().predict(texts)
    assert 60 <= higher.sum() <= 84  # half of 144
    assert estimator.score(texts, indicator) == 1 == accuracy_score(indicator, estimator.predict(texts))
    one = zero_shot(nli, multi_label=True, candidate_labels=["art"]).fit().predict_proba(texts)
    np.testing.assert_allclose(one, probability[:, 2:], atol=1e-6)


def test_doubled_braces_are_single_ones(nli, texts):
    """As in the reference, whose templates are those of ``str.format``."""
    found, expected = (
        zero_shot(nli, hypothesis_template=template, candidate_labels=labels).fit().predict_proba(texts[:3])
        for template, labels in (("{}: {{x}}", ["a {b}", "c"]), ("{}", ["a {b}: {x}", "c: {x}"]))
    )
    np.testing.assert_array_equal(found, expected)


def test_parameters_are_read_when_predicting(nli, texts):
    """As in scikit-learn's estimators, parameters of predictions need no new fit; the labels are those of the fit."""
    estimator = zero_shot(nli, candidate_labels=sorted(LABELS)).fit()
    for params in ({"multi_label": True}, {"hypothesis_template": "{}!"}, {"contradiction": "neutral"}):
        found = estimator.set_params(**params).predict_proba(texts[:3])
        np.testing.assert_array_equal(found, clone(estimator).fit().predict_proba(texts[:3]))
    with pytest.raises(ValueError, match=r"hypothesis_template must have \{\}"):
        estimator.set_params(hypothesis_template="sport").predict(texts)
    with pytest.raises(ValueError, match="contradiction='no' is not among the labels"):
        estimator.set_params(hypothesis_template="{}", contradiction="no").predict(texts)


@pytest.fixture
def cross_encoder(nli_folder, tmp_path):
    """The same model in a folder that says how texts are read."""
    folder = shutil.copytree(nli_folder, tmp_path / "scorer")
    (folder / "skxlmr.json").unlink()
    put(folder / "modules.json", [{"idx": 0, "name": "0", "path": "", "type": MODULE}])
    put(folder / "sentence_bert_config.json", {**SCORES, "max_seq_length": 40, "do_lower_case": True})
    about = {"model_type": "CrossEncoder", "prompts": {"query": "Das Haus: "}, "default_prompt_name": "query"}
    put(folder / "config_sentence_transformers.json", about)
    return folder


@pytest.mark.parametrize("is_folder", [True, False], ids=["folder", "classifier"])
def test_texts_are_read_as_a_cross_encoder_says(nli, cross_encoder, texts, tmp_path, is_folder):
    texts = [text.upper() for text in texts[:4]]
    checkpoint = cross_encoder if is_folder else XLMRobertaClassifier.from_checkpoint(cross_encoder)
    estimator = zero_shot(checkpoint, hypothesis_template="It is {}.", candidate_labels=sorted(LABELS)).fit()
    spelled = [f"das haus: {text.lower()}" for text in texts]
    entailment = np.exp(nli_logits(nli, spelled, sorted(LABELS), "it is {}.")["entailment"])
    expected = entailment / entailment.sum(1, keepdims=True)
    assert np.abs(zero_shot(nli, hypothesis_template="It is {}.").fit().predict_proba(texts) - expected).max() > 1e-3
    save(estimator, tmp_path / "saved")
    for twin in (estimator, load(tmp_path / "saved"), pickle.loads(pickle.dumps(estimator))):
        np.testing.assert_allclose(twin.predict_proba(texts), expected, atol=1e-6)
        assert twin._limit() == 40
    logits = nli_logits(nli, spelled, ["art"], "it is {}.")["entailment"][:, 0]
    explained = attributions(estimator, texts, target="art", method="occlusion")
    np.testing.assert_allclose([row.prediction for row in explained], logits, atol=1e-5)
    assert explained[0].texts == (texts[0], "It is art.")
    np.testing.assert_array_equal(
        estimator.set_params(checkpoint=nli).fit().predict_proba(texts),  # which says nothing of texts
        zero_shot(nli, hypothesis_template="It is {}.").fit().predict_proba(texts),
    )


def test_a_prompt_takes_room_from_the_hypotheses(cross_encoder):
    classifier = XLMRobertaClassifier.from_checkpoint(cross_encoder)
    n_prompt = classifier.tokenizer_.encode_batch(["das haus:"]).lengths[0] - 2
    n_longest = classifier.tokenizer_.encode_batch(["this example is sport."]).lengths[0] - 2
    estimator = zero_shot(classifier, max_length=int(n_prompt + n_longest + 4), candidate_labels=["sport", "art"])
    with pytest.raises(
        ValueError, match=rf"has {n_longest} tokens, and max_length leaves room for {n_longest} together"
    ):
        estimator.fit()
    estimator.set_params(max_length=int(n_prompt + n_longest + 5)).fit()


def test_neighbours_and_order_do_not_matter(nli, texts):
    expected = zero_shot(nli).fit().predict_proba(texts)
    for params in ({"batch_size": 1}, {"candidate_labels": LABELS[::-1]}, {"candidate_labels": np.array(LABELS)}):
        np.testing.assert_allclose(zero_shot(nli, **params).fit().predict_proba(texts), expected, atol=1e-6)
    found = zero_shot(nli).fit().predict_proba([*texts[40:], texts[0], *texts[:40], texts[0]])
    np.testing.assert_allclose(found, expected[[*range(40, 48), 0, *range(40), 0]], atol=1e-6)


def test_two_labels_of_the_checkpoint(make, texts):
    pairs = list(zip(texts, texts[::-1], strict=True))
    two = make(XLMRobertaClassifier).fit(pairs, ["not_entailment", "entailment"] * 24)
    found = zero_shot(two, multi_label=True).fit().predict_proba(texts[:4])
    hypotheses = [(text, f"This example is {label}.") for text in texts[:4] for label in LABELS]
    np.testing.assert_allclose(found, two.predict_proba(hypotheses)[:, 0].reshape(4, 3), atol=1e-5)


def test_names_of_the_outputs_may_be_passed(nli, texts):
    expected = nli_logits(nli, texts, LABELS)
    found = zero_shot(nli, multi_label=True, entailment="neutral", contradiction="entailment").fit()
    wanted = 1 / (1 + np.exp(expected["entailment"] - expected["neutral"]))
    np.testing.assert_allclose(found.predict_proba(texts), wanted, atol=1e-5)


def test_long_texts_are_cut_next_to_the_whole_hypothesis(nli):
    labels = ["art", "bird", "the old house under the river and the children of the red city"]  # more than half of 64
    estimator = zero_shot(nli, candidate_labels=labels).fit()
    long = "the red house sings " * 40
    with pytest.warns(TruncationWarning, match="1 of 2 texts are, with their hypothesis, longer than 64 tokens"):
        found = estimator.predict_proba([long, "a bird"])
    hypotheses = [f"This example is {label}." for label in labels]
    assert 30 < estimator.tokenizer_.encode_batch(hypotheses).lengths.max() < 60
    kept = padded(estimator.tokenizer_, [long] * 3, hypotheses, max_length=64, truncation="only_first")
    logits = nli.module_(kept["input_ids"], attention_mask=kept["attention_mask"]).detach().numpy()
    entailment = np.exp(logits[:, nli.classes_.tolist().index("entailment")])
    np.testing.assert_allclose(found[0], entailment / entailment.sum(), atol=1e-5)
    shorter = zero_shot(nli, candidate_labels=labels, max_length=58).fit()
    with pytest.warns(TruncationWarning, match="1 of 1 texts .* longer than 58 tokens"):
        assert np.abs(shorter.predict_proba([long]) - found[0]).max() > 1e-6


# Checkpoints ----------------------------------------------------------------------------------------------------------


def test_folder_and_classifier_predict_the_same(nli, nli_folder, texts):
    shared = zero_shot(nli).fit()
    expected = shared.predict_proba(texts)
    assert shared.module_ is nli.module_
    np.testing.assert_array_equal(zero_shot(nli_folder).fit().predict_proba(texts), expected)
    ready = XLMRobertaZeroShotClassifier.from_checkpoint(str(nli_folder), candidate_labels=LABELS, dtype="float32")
    np.testing.assert_array_equal(ready.predict_proba(pd.DataFrame({"text": texts})), expected)


def test_saved_and_loaded(nli, nli_folder, texts, tmp_path):
    for checkpoint in (nli, nli_folder):
        fitted = zero_shot(checkpoint, multi_label=True, hypothesis_template="{}!").fit(pd.Series(texts))
        save(fitted, tmp_path / "saved")
        loaded = load(tmp_path / "saved")
        np.testing.assert_array_equal(loaded.predict_proba(texts), fitted.predict_proba(texts))
        np.testing.assert_array_equal(loaded.classes_, fitted.classes_)
        source = str(tmp_path / "saved" if checkpoint is nli else nli_folder)
        assert loaded.get_params() == fitted.get_params(deep=False) | {"checkpoint": source}
        np.testing.assert_array_equal(loaded.fit().predict_proba(texts), fitted.predict_proba(texts))
        # the folder is a checkpoint of inference, for others too
        again = XLMRobertaClassifier(tmp_path / "saved", max_epochs=1)
        assert set(NLI) == set(json.loads((tmp_path / "saved" / "config.json").read_text())["label2id"])
        with pytest.warns(UserWarning, match="has a head of its own"):
            again.fit([("a", "b"), ("c", "d")], ["x", "y"])
        shutil.rmtree(tmp_path / "saved")


def test_clones_and_pickles_share_a_fitted_classifier(nli, texts):
    estimator = zero_shot(nli, batch_size=3)
    copy = clone(estimator)
    assert copy is not estimator and copy.checkpoint is nli and copy.get_params() == estimator.get_params()
    assert not hasattr(clone(estimator.fit()), "module_")
    expected = estimator.predict_proba(texts)
    np.testing.assert_array_equal(clone(estimator).fit().predict_proba(texts), expected)
    again = pickle.loads(pickle.dumps(estimator))
    np.testing.assert_array_equal(again.predict_proba(texts), expected)
    assert again.module_ is again.checkpoint.module_
    assert "checkpoint=XLMRobertaClassifier(" in repr(estimator) and "XLMRobertaClassifier" in estimator._repr_html_()


def test_another_device_copies_the_module_of_the_classifier(nli, texts, monkeypatch):
    """The classifier keeps its module where it is, and predicts as before."""
    monkeypatch.setattr(
        "skxlmr.estimators._core.estimator.resolve_device",
        lambda device: torch.device("meta") if device == "meta" else resolve_device(device),
    )
    expected = nli.predict_proba(list(zip(texts, texts, strict=True)))
    elsewhere, here = zero_shot(nli, device="meta").fit(), zero_shot(nli).fit()
    assert elsewhere.module_ is here.module_ is nli.module_
    moved = elsewhere._engine().module
    assert moved is elsewhere.module_ and moved is not nli.module_
    assert {parameter.device.type for parameter in moved.parameters()} == {"meta"}
    assert {parameter.device.type for parameter in nli.module_.parameters()} == {here._engine().device.type} != {"meta"}
    assert here.module_ is nli.module_
    np.testing.assert_array_equal(nli.predict_proba(list(zip(texts, texts, strict=True))), expected)
    assert elsewhere._engine().module is moved  # copied once


def test_classifier_of_another_family_is_refused(make_xlm, texts):
    """``load`` could not open what ``save`` would write of it."""
    pairs = list(zip(texts, texts[::-1], strict=True))
    original = make_xlm(XLMClassifier).fit(pairs, NLI * 16)
    said = (
        r"The 'checkpoint' parameter of .* must be .* or an instance of '\S*XLMRobertaClassifier'\. Got XLMClassifier"
    )
    with pytest.raises(InvalidParameterError, match=said):
        zero_shot(original).fit()


# scikit-learn's tools -------------------------------------------------------------------------------------------------


def test_grid_search_over_templates(nli, texts):
    y = zero_shot(nli, hypothesis_template="{} it is").fit().predict(texts)
    templates = ["This example is {}.", "{} it is", "the {} of the city"]
    search = GridSearchCV(
        make_pipeline(FunctionTransformer(), zero_shot(nli)),
        {"xlmrobertazeroshotclassifier__hypothesis_template": templates},
        scoring="accuracy",
        cv=2,
        error_score="raise",
    )
    search.fit(texts, y)
    assert search.best_params_["xlmrobertazeroshotclassifier__hypothesis_template"] == "{} it is"
    assert search.best_score_ == 1 and search.cv_results_["mean_test_score"].min() < 1


def test_cross_validated_probabilities(nli_folder, texts):
    estimator = zero_shot(nli_folder)
    y = np.array(LABELS)[np.arange(48) % 3]
    found = cross_val_predict(estimator, pd.Series(texts), y, cv=2, method="predict_proba")
    np.testing.assert_allclose(found, estimator.fit().predict_proba(texts), atol=1e-6)


def test_labels_from_y(nli, texts):
    y = np.array(["sport", "art", "art", "city"] * 12, dtype=object)
    for labels in (y, pd.Series(y), list(y)):
        estimator = zero_shot(nli, candidate_labels=None).fit(texts, labels)
        assert estimator.classes_.tolist() == ["art", "city", "sport"]
    assert zero_shot(nli).fit(y=["tea", "milk"]).classes_.tolist() == ["art", "city", "sport"]


def test_tags_say_what_is_needed(nli):
    assert is_classifier(zero_shot(nli)) and not get_tags(zero_shot(nli)).target_tags.required
    assert get_tags(zero_shot(nli, candidate_labels=None)).target_tags.required
    assert get_tags(zero_shot(nli, multi_label=True)).classifier_tags.multi_label


def test_columns(nli, texts):
    estimator = zero_shot(nli).fit(pd.DataFrame({"text": texts}))
    assert estimator.n_features_in_ == 1 and estimator.feature_names_in_.tolist() == ["text"]
    with pytest.raises(ValueError, match="feature names should match"):
        estimator.predict(pd.DataFrame({"title": texts}))
    assert not hasattr(estimator.fit(), "n_features_in_") and not hasattr(estimator, "feature_names_in_")
    for X in ([("a", "b")], pd.DataFrame({"a": ["b"], "c": ["d"]})):
        with pytest.raises(ValueError, match=r"X has pairs of texts \(2 columns\): .* takes single texts"):
            estimator.fit().predict(X)
    with pytest.raises(ValueError, match="X row 1: expected a text, got None"):
        estimator.predict(["a", None])


# What cannot work -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "y", "said"),
    [
        ({"candidate_labels": []}, None, r"two candidate labels or more .* got none"),
        ({"candidate_labels": [], "multi_label": True}, None, r"two candidate labels or more .* got none"),
        ({"candidate_labels": ["a"]}, None, r"two candidate labels or more .* got one class, 'a'"),
        ({"candidate_labels": ["a", "b", "a"]}, None, "candidate_labels has 'a' twice"),
        ({"candidate_labels": ["a", 5]}, None, "candidate_labels must be texts, got 5 at place 1"),
        ({"candidate_labels": ["a", None]}, None, "candidate_labels must be texts, got None at place 1"),
        ({"candidate_labels": ["a", " "]}, None, "candidate_labels must be texts, got ' ' at place 1"),
        ({"candidate_labels": "sport"}, None, "The 'candidate_labels' parameter"),
        (
            {"candidate_labels": None},
            None,
            "without candidate_labels requires y to be passed, but the target y is None: pass candidate_l",
        ),
        ({"candidate_labels": None}, ["a", "a"], "two candidate labels or more"),
        ({"candidate_labels": None}, ["a", 5], "y row 1: expected a label that is a text, got 5"),
        ({"candidate_labels": None}, [0, 1], "row 0: .* got 0: set candidate_labels where a tool numbers the classes"),
        ({"candidate_labels": None}, [0.5], "y row 0: expected a label that is a text, got a continuous target, 0.5"),
        (
            {"candidate_labels": None},
            [[0, 1], [1, 0]],
            r"y has the shape \(2, 2\), expected one label per row: set candidate_labels",
        ),
        (
            {"hypothesis_template": "This is it."},
            None,
            r"hypothesis_template must have \{\} where the label goes, once",
        ),
        *(
            ({"hypothesis_template": template}, None, "hypothesis_template must have .* other braces doubled, got")
            for template in ("{}{}", "{} {", "{0}", "{!r}", "{:>5}", "{{}}")
        ),
        (
            {"entailment": "yes"},
            None,
            "entailment='yes' is not among the labels of the checkpoint, 'contradiction', 'ent",
        ),
        ({"multi_label": True, "contradiction": "no"}, None, "contradiction='no' is not among the labels"),
        (
            {"multi_label": True, "contradiction": "entailment"},
            None,
            "entailment and contradiction are both 'entailment'",
        ),
        ({"max_length": 65}, None, "max_length=65 is more than the 64 tokens"),
        ({"max_length": 8}, None, "the hypothesis for '.*' has .* tokens, and max_length leaves room for 4 together"),
    ],
)
def test_what_cannot_be_fitted(nli, params, y, said):
    estimator = zero_shot(nli, **params)
    with pytest.raises(ValueError, match=said):
        estimator.fit(y=y)
    assert not hasattr(estimator, "module_")


def test_labels_are_those_of_the_rows(nli):
    estimator = zero_shot(nli, candidate_labels=None)
    with pytest.raises(ValueError, match=r"inconsistent numbers of samples: \[3, 2\]"):
        estimator.fit(["a", "b", "c"], ["art", "sport"])
    with pytest.warns(DataConversionWarning, match="A column-vector y was passed"):
        estimator.fit(["a", "b"], [["art"], ["sport"]])
    assert estimator.classes_.tolist() == ["art", "sport"]


def test_checkpoints_without_entailment(make, tiny_checkpoint, texts, languages, tmp_path):
    said = r"no label of the checkpoint starts with 'entail' \('LABEL_0', 'LABEL_1'\)"
    with pytest.raises(ValueError, match=said):
        zero_shot(tiny_checkpoint).fit()
    with pytest.raises(CheckpointError, match=r"4 tensors missing .*; these .* head: use a checkpoint trained for"):
        zero_shot(tiny_checkpoint, entailment="LABEL_1").fit()
    with pytest.raises(NotFittedError):
        zero_shot(make(XLMRobertaClassifier)).fit()
    single = make(XLMRobertaClassifier).fit(texts, languages)
    with pytest.raises(ValueError, match="checkpoint is a classifier of single texts"):
        zero_shot(single).fit()
    indicator = np.eye(2, dtype=int)[np.arange(48) % 2]
    with pytest.raises(ValueError, match=r"another kind of target \(multilabel-indicator\)"):
        zero_shot(make(XLMRobertaClassifier).fit(list(zip(texts, texts, strict=True)), indicator)).fit()
    of_pairs = make(XLMRobertaClassifier).fit(list(zip(texts, texts, strict=True)), ["entailed", "entails", "x"] * 16)
    with pytest.raises(ValueError, match="more than one label of the checkpoint starts with 'entail'"):
        zero_shot(of_pairs).fit()
    with pytest.raises(ValueError, match="no label of the checkpoint starts with 'contradict'"):
        zero_shot(of_pairs, entailment="entails", multi_label=True).fit()
    with pytest.raises(NotFittedError):
        zero_shot(tiny_checkpoint).predict(texts)


def test_labels_of_any_dtype_are_scored():
    zero_shot = XLMRobertaZeroShotClassifier()
    zero_shot.classes_ = np.array(["a", "b"])
    zero_shot.predict = lambda X: np.array(["a", "b"])
    labels = pd.Series(["a", "b"])
    for y in (np.array(["a", "b"], dtype=np.dtypes.StringDType()), labels.astype("string"), labels.astype("category")):
        assert zero_shot.score(["x", "y"], y) == 1
    zero_shot.set_params(multi_label=True).predict = lambda X: np.eye(2, dtype=int)
    assert zero_shot.score(["x", "y"], pd.DataFrame(np.eye(2)).astype("Int64")) == 1
