"""``problem_type=`` says what the outputs of a head are where ``config.json`` does not, or says it wrong."""

import pickle

import numpy as np
import pytest
import torch
from scipy.special import expit, softmax
from sklearn.base import clone

from skxlmr import CheckpointError, XLMRobertaClassifier, XLMRobertaRegressor, load, save
from skxlmr.batching import pack
from tests.cross_encoders import labels, write
from tests.estimators.sequence.cross_encoders.layouts import ours
from tests.tiny import sentences

SINGLE, MULTI, NUMBERS = "single_label_classification", "multi_label_classification", "regression"
TOXICITY = labels(
    *("toxicity severe_toxicity obscene identity_attack insult threat sexual_explicit".split()),
    *(f"LABEL_{i}" for i in range(7, 16)),
)
TEXTS = sentences(12)


def logits_of(estimator):
    with torch.no_grad():
        return estimator.module_(*pack(estimator.tokenizer_.encode_batch(TEXTS))).numpy()


def test_labels_of_a_checkpoint_that_does_not_say_so(reference, tiny_checkpoint, tiny_tokenizer, tmp_path):
    """As unitary/multilingual-toxic-xlm-roberta: 16 labels, and no word of the problem."""
    folder = write(tmp_path / "published", tiny_checkpoint, n_outputs=16, **TOXICITY)
    transformers = pytest.importorskip("transformers")
    model = reference("AutoModelForSequenceClassification", folder)
    pipeline = transformers.pipeline(
        "text-classification",
        model=model,
        tokenizer=transformers.AutoTokenizer.from_pretrained(folder),
        device="cpu",
        top_k=None,
        function_to_apply="sigmoid",
    )
    classifier = ours(folder, XLMRobertaClassifier, problem_type=MULTI)
    assert classifier.target_type_ == "multilabel-indicator" and classifier.classes_[2] == "obscene"
    answers = [{answer["label"]: answer["score"] for answer in answers} for answers in pipeline(TEXTS)]
    expected = [[scores[label] for label in classifier.classes_] for scores in answers]
    np.testing.assert_allclose(classifier.predict_proba(TEXTS), expected, rtol=0, atol=1e-5)
    save(classifier, tmp_path / "saved")
    for twin in (
        load(tmp_path / "saved"),
        pickle.loads(pickle.dumps(classifier)),
        ours(tmp_path / "saved", type(classifier)),
    ):
        assert twin.target_type_ == "multilabel-indicator"
        np.testing.assert_array_equal(twin.predict_proba(TEXTS), classifier.predict_proba(TEXTS))
    assert not hasattr(clone(classifier), "classes_")
    plain = ours(folder, XLMRobertaClassifier)
    np.testing.assert_allclose(plain.predict_proba(TEXTS), softmax(logits_of(plain), axis=1), rtol=0, atol=1e-5)


@pytest.mark.parametrize("said", [None, SINGLE, MULTI, NUMBERS])
@pytest.mark.parametrize("told", [SINGLE, MULTI])
@pytest.mark.parametrize("n_outputs", [1, 3])
def test_what_is_told_counts_for_classifiers(tiny_checkpoint, tmp_path, said, told, n_outputs):
    folder = write(tmp_path / "published", tiny_checkpoint, n_outputs=n_outputs, problem_type=said)
    if n_outputs == 1 and told == SINGLE:
        with pytest.raises(
            ValueError, match=r"needs two outputs or more, and the checkpoint has one.*pass problem_type='multi"
        ):
            ours(folder, XLMRobertaClassifier, problem_type=told)
        return
    classifier = ours(folder, XLMRobertaClassifier, problem_type=told)
    logits = logits_of(classifier)
    expected = expit(logits) if told == MULTI else softmax(logits, axis=1)
    np.testing.assert_allclose(classifier.predict_proba(TEXTS), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("said", [None, SINGLE, MULTI, NUMBERS])
@pytest.mark.parametrize("n_outputs", [1, 3])
def test_what_is_told_counts_for_regressors(tiny_checkpoint, tmp_path, said, n_outputs):
    folder = write(tmp_path / "published", tiny_checkpoint, n_outputs=n_outputs, problem_type=said)
    regressor = ours(folder, problem_type=NUMBERS)
    assert regressor.activation_ == "identity"
    np.testing.assert_allclose(regressor.predict(TEXTS).reshape(12, -1), logits_of(regressor), rtol=0, atol=1e-5)
    save(regressor, tmp_path / "saved")
    np.testing.assert_array_equal(load(tmp_path / "saved").predict(TEXTS), regressor.predict(TEXTS))


@pytest.mark.parametrize(
    ("kind", "told", "reason"),
    [
        (XLMRobertaClassifier, NUMBERS, "'regression' is not for XLMRobertaClassifier: use XLMRobertaRegressor.from_"),
        (XLMRobertaRegressor, SINGLE, "is not for XLMRobertaRegressor: use XLMRobertaClassifier.from_checkpoint"),
        (XLMRobertaRegressor, MULTI, "is not for XLMRobertaRegressor: use XLMRobertaClassifier.from_checkpoint"),
        (
            XLMRobertaClassifier,
            "multilabel",
            "must be None or 'single_label_classification' or 'multi_label_.*got 'multilab",
        ),
        (XLMRobertaRegressor, True, "must be None or 'regression' for XLMRobertaRegressor, got True"),
    ],
)
def test_what_it_may_be(tmp_path, kind, told, reason):
    with pytest.raises(ValueError, match=reason):  # before anything is read
        kind.from_checkpoint(tmp_path / "nothing", problem_type=told)


@pytest.mark.parametrize(
    ("kind", "n_outputs", "said", "hint"),
    [
        (XLMRobertaClassifier, 1, None, "or pass problem_type='multi_label_classification' if its outputs are logits"),
        (XLMRobertaClassifier, 3, NUMBERS, "or pass problem_type='single_label_classification' if its outputs"),
        (XLMRobertaClassifier, 1, SINGLE, "pass problem_type='multi_label_classification' if it is a label that holds"),
        (XLMRobertaRegressor, 3, None, "or pass problem_type='regression' if its outputs are numbers"),
    ],
)
def test_errors_name_it(tiny_checkpoint, tmp_path, kind, n_outputs, said, hint):
    folder = write(tmp_path / "published", tiny_checkpoint, n_outputs=n_outputs, problem_type=said)
    with pytest.raises(CheckpointError, match=hint):
        ours(folder, kind)
