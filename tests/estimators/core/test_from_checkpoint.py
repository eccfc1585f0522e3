"""Checkpoints that others fine-tuned predict without fit: classifier and regressor."""

import json
import pickle

import numpy as np
import pytest
import torch

from skxlmr import CheckpointError, XLMRobertaClassifier, XLMRobertaRegressor, load, save
from skxlmr.batching import pack
from skxlmr.checkpoints import read_tensors, write_folder
from skxlmr.text import EncodedBatch
from tests.estimators.conftest import padded


@pytest.fixture
def published(tmp_path, tiny_checkpoint, tiny_tokenizer):
    """Write a checkpoint with a head of ``n_outputs`` and whatever ``config.json`` shall say of it."""

    def publish(n_outputs, **about):
        tensors = {name: x for name, x in read_tensors(tiny_checkpoint).items() if not name.startswith("lm_head")}
        generator = torch.Generator().manual_seed(0)
        shapes = {"dense.weight": (32, 32), "dense.bias": (32,), "out_proj.weight": (n_outputs, 32)}
        tensors["classifier.out_proj.bias"] = torch.zeros(n_outputs)
        for name, shape in shapes.items():
            tensors[f"classifier.{name}"] = torch.randn(shape, generator=generator)
        config = json.loads((tiny_checkpoint / "config.json").read_text())
        config = {**config, "architectures": ["XLMRobertaForSequenceClassification"], **about}
        write_folder(tmp_path / "published", config=config, tensors=tensors, tokenizer=tiny_tokenizer)
        return tmp_path / "published"

    return publish


def id2label(*labels):
    return {"id2label": {str(i): label for i, label in enumerate(labels)}}


@torch.no_grad()
def reference_logits(reference, folder, tokenizer, texts):
    return reference("AutoModelForSequenceClassification", folder)(**padded(tokenizer, texts)).logits


# Recorded by the reference --------------------------------------------------------------------------------------------


def test_recorded_logits(shared_data):
    golden = np.load(shared_data / "checkpoints" / "seqcls" / "golden.npz")
    classifier = XLMRobertaClassifier.from_checkpoint(shared_data / "checkpoints" / "seqcls", device="cpu")
    lengths = golden["attention_mask"].sum(1)
    ids = golden["input_ids"][golden["attention_mask"] == 1].astype(np.int32)
    found = classifier.module_(*pack(EncodedBatch(ids, lengths, np.zeros_like(lengths))))
    np.testing.assert_allclose(found.detach().numpy(), golden["logits"], rtol=0, atol=1e-5)


def test_recorded_answers_of_the_pipeline(shared_data):
    recorded = json.loads((shared_data / "goldens" / "pipelines.json").read_text(encoding="utf-8"))
    recorded = recorded["text_classification"]
    assert len(recorded) == 10
    classifier = XLMRobertaClassifier.from_checkpoint(shared_data / "checkpoints" / "seqcls", dtype="float32")
    proba = classifier.predict_proba([case["text"] for case in recorded])
    expected = [{answer["label"]: answer["score"] for answer in case["result"][0]} for case in recorded]
    expected = [[scores[label] for label in classifier.classes_] for scores in expected]
    np.testing.assert_allclose(proba, expected, rtol=0, atol=1e-5)


# Kinds of head --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("said", [{}, {"problem_type": "single_label_classification"}], ids=["unsaid", "said"])
def test_one_class(reference, published, tiny_tokenizer, texts, said):
    folder = published(3, **id2label("joy", "anger", "fear"), **said)
    classifier = XLMRobertaClassifier.from_checkpoint(folder, dtype="float32")
    expected = reference_logits(reference, folder, tiny_tokenizer, texts)
    assert classifier.classes_.tolist() == ["joy", "anger", "fear"]  # in the order of the outputs
    np.testing.assert_allclose(classifier.decision_function(texts), expected, rtol=2e-6, atol=1e-5)
    np.testing.assert_allclose(classifier.predict_proba(texts), expected.softmax(1), atol=1e-5)
    assert classifier.predict(texts).tolist() == [classifier.classes_[i] for i in expected.argmax(1)]
    assert len(set(classifier.predict(texts))) > 1
    assert not hasattr(classifier, "n_features_in_") and not hasattr(classifier, "loss_curve_")
    assert classifier.predict([("pairs", "too")]).shape == (1,)


@pytest.mark.filterwarnings("ignore:.*id2label gives several outputs")
@pytest.mark.parametrize("labels", [(4, 2, 0), (1.0, 0.0, 2.0), (True, False, True), ("a", "b", "a"), (None, 1, "x")])
def test_labels_of_any_kind(reference, published, tiny_tokenizer, texts, labels, tmp_path):
    folder = published(3, **id2label(*labels))
    classifier = XLMRobertaClassifier.from_checkpoint(folder, dtype="float32")
    expected = reference_logits(reference, folder, tiny_tokenizer, texts).argmax(1)
    assert classifier.predict(texts).tolist() == classifier.classes_[expected].tolist()
    assert len(set(classifier.classes_.tolist())) == 3
    assert 0 <= classifier.score(texts, classifier.classes_[[0, 1] * 24]) <= 1
    save(classifier, tmp_path / "saved")
    again = load(tmp_path / "saved")
    assert again.classes_.tolist() == classifier.classes_.tolist() and again.classes_.dtype == classifier.classes_.dtype


def test_several_labels(reference, published, tiny_tokenizer, texts):
    folder = published(3, **id2label("joy", "anger", "fear"), problem_type="multi_label_classification")
    classifier = XLMRobertaClassifier.from_checkpoint(folder, dtype="float32", threshold=0.4)
    expected = reference_logits(reference, folder, tiny_tokenizer, texts).sigmoid()
    assert classifier.classes_.tolist() == ["joy", "anger", "fear"]
    np.testing.assert_allclose(classifier.predict_proba(texts), expected, atol=1e-5)
    np.testing.assert_array_equal(classifier.predict(texts), (expected >= 0.4).long())


def test_one_of_several_labels_may_be_the_only_one(published, texts):
    folder = published(1, **id2label("spam"), problem_type="multi_label_classification")
    assert XLMRobertaClassifier.from_checkpoint(folder).predict_proba(texts).shape == (48, 1)


@pytest.mark.parametrize(
    ("n_outputs", "said"),
    [
        (1, {"num_labels": 1, "problem_type": "regression"}),
        (1, id2label("LABEL_0") | {"problem_type": "regression"}),
        (2, {"problem_type": "regression"}),
    ],
    ids=["num_labels", "one label", "several"],
)
def test_numbers(reference, published, tiny_tokenizer, texts, n_outputs, said):
    folder = published(n_outputs, **said)
    regressor = XLMRobertaRegressor.from_checkpoint(folder, dtype="float32")
    expected = reference_logits(reference, folder, tiny_tokenizer, texts).numpy()
    assert regressor.n_outputs_ == n_outputs
    assert regressor.predict(texts).shape == ((48,) if n_outputs == 1 else (48, 2))
    np.testing.assert_allclose(regressor.predict(texts).reshape(48, -1), expected, rtol=2e-6, atol=1e-5)
    pairs = list(zip(texts, texts, strict=True))
    assert np.isfinite(regressor.score(pairs, expected + np.arange(48)[:, None]))


@pytest.mark.parametrize(
    ("estimator", "n_outputs", "about", "said"),
    [
        (XLMRobertaClassifier, 1, {"num_labels": 1}, "describes a regression: use XLMRobertaRegressor.from_checkpoint"),
        (XLMRobertaClassifier, 2, {"problem_type": "regression"}, "use XLMRobertaRegressor.from_checkpoint"),
        (XLMRobertaRegressor, 2, {}, r"describes 2 classes \(single_label.*use XLMRobertaClassifier.from_checkpoint"),
        (
            XLMRobertaClassifier,
            1,
            {"num_labels": 1, "problem_type": "single_label_classification"},
            "names only one class, 'LABEL_0'",
        ),
        (XLMRobertaClassifier, 2, {"problem_type": "ranking"}, "problem_type must be one of .*, got 'ranking'"),
        (
            XLMRobertaClassifier,
            2,
            {"architectures": ["XLMRobertaForTokenClassification"]},
            "describes an XLMRobertaForTokenClassification, .* use XLMRobertaTokenClassifier.from_checkpoint",
        ),
        (
            XLMRobertaRegressor,
            2,
            {"architectures": ["XLMRobertaModel"]},
            "has no head for whole texts: .*Regressor.checkpoint..fit trains one",
        ),
        (XLMRobertaClassifier, 3, id2label("a", "b"), "classifier.out_proj.weight"),
    ],
)
def test_heads_of_another_kind(published, estimator, n_outputs, about, said):
    folder = published(n_outputs, **about)
    with pytest.raises(CheckpointError, match=said) as caught:
        estimator.from_checkpoint(folder)
    assert str(folder) in str(caught.value)


# What comes after -----------------------------------------------------------------------------------------------------


def test_parameters_are_those_of_the_constructor(published):
    folder = published(2)
    assert XLMRobertaClassifier.from_checkpoint(folder, max_length=16).max_length == 16
    with pytest.raises(ValueError, match="'batch_size' parameter"):
        XLMRobertaClassifier.from_checkpoint(folder, batch_size=0)
    with pytest.raises(TypeError, match="label"):
        XLMRobertaClassifier.from_checkpoint(folder, labels=3)


def test_saved_and_pickled(published, texts, tmp_path):
    classifier = XLMRobertaClassifier.from_checkpoint(published(3, num_labels=3), dtype="float32")
    save(classifier, tmp_path / "saved")
    for twin in (load(tmp_path / "saved"), pickle.loads(pickle.dumps(classifier))):
        assert not hasattr(twin, "n_features_in_")
        np.testing.assert_array_equal(twin.predict_proba(texts), classifier.predict_proba(texts))
    regressor = XLMRobertaRegressor.from_checkpoint(published(1, num_labels=1), dtype="float32")
    save(regressor, tmp_path / "saved")
    np.testing.assert_array_equal(load(tmp_path / "saved").predict(texts), regressor.predict(texts))


def test_what_we_saved_is_such_a_checkpoint(make, texts, languages, tmp_path):
    fitted = make(XLMRobertaClassifier).fit(texts, languages)
    save(fitted, tmp_path / "saved")
    classifier = XLMRobertaClassifier.from_checkpoint(tmp_path / "saved", dtype="float32")
    assert classifier.classes_.tolist() == fitted.classes_.tolist()
    np.testing.assert_array_equal(classifier.predict_proba(texts), fitted.predict_proba(texts))
    regressor = make(XLMRobertaRegressor).fit(texts, np.arange(48) * 100)
    save(regressor, tmp_path / "saved")
    again = XLMRobertaRegressor.from_checkpoint(tmp_path / "saved", dtype="float32")
    np.testing.assert_array_equal(again.predict(texts), regressor.predict(texts))


def test_warm_start_goes_on_with_the_head(published, texts):
    folder = published(3, **id2label("x", "y", "z"))
    classifier = XLMRobertaClassifier.from_checkpoint(folder, warm_start=True, learning_rate=1e-9, max_epochs=1)
    before = classifier.predict_proba(texts)
    classifier.fit(texts, np.array(["x", "z"] * 24))
    np.testing.assert_allclose(classifier.predict_proba(texts), before, atol=1e-4)
    assert classifier.classes_.tolist() == ["x", "y", "z"] and not hasattr(classifier, "n_features_in_")
    regressor = XLMRobertaRegressor.from_checkpoint(
        published(1, num_labels=1), problem_type="regression", warm_start=True, learning_rate=1e-9
    )
    numbers = regressor.predict(texts)
    np.testing.assert_allclose(regressor.fit(texts, numbers + 7).predict(texts), numbers, atol=1e-4)
