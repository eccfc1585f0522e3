"""Weights leave an estimator as NumPy arrays: what other tools make of its pickle, and that equal fits are equal there."""

import pickle
import shutil
import sys
from pathlib import Path

import joblib
import numpy as np
import pytest
import torch
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skxlmr import CheckpointError, XLMRobertaClassifier, XLMRobertaVectorizer, XLMRobertaZeroShotClassifier, load, save
from tests import contract

TEXTS, Y = contract.TEXTS, contract.Y


def classifier(checkpoint, **params):
    return XLMRobertaClassifier(checkpoint, **contract.FAST | params).fit(TEXTS, Y)


def through_skops(value):
    io = pytest.importorskip("skops.io", reason="needs the extra skops")
    content = io.dumps(value)
    return io.loads(content, trusted=io.get_untrusted_types(data=content))


def assert_equal(found, expected):
    """To the last bit."""
    if isinstance(expected, list | tuple):
        assert len(found) == len(expected)
        for a, b in zip(found, expected, strict=True):
            assert_equal(a, b)
    else:
        assert type(found) is type(expected) and np.array_equal(found, expected)


# skops ------------------------------------------------------------------------------------------------------------------------


@contract.each
def test_skops_reads_what_it_wrote(fitted, estimator):
    made = fitted(estimator)
    again = through_skops(made)
    assert_equal(contract.infer(again), contract.infer(made))
    assert joblib.hash(again) == joblib.hash(made)


@pytest.mark.parametrize(
    "params", [{"dtype": "bfloat16"}, {"dtype": "bfloat16", "store_weights_in_pickle": True}], ids=str
)
def test_skops_and_bfloat16(tiny_checkpoint, params):
    made = XLMRobertaVectorizer(tiny_checkpoint, **params).fit(TEXTS)
    again = through_skops(make_pipeline(made, StandardScaler()).fit(TEXTS))[0]
    assert next(again.module_.parameters()).dtype == torch.bfloat16
    for name, weight in made.module_.state_dict().items():
        assert torch.equal(again.module_.state_dict()[name], weight), name
    assert_equal(again.transform(TEXTS), made.transform(TEXTS))


def test_skops_and_what_was_opened_without_fit(tiny_checkpoint):
    made = XLMRobertaVectorizer(tiny_checkpoint)
    features = made.transform(TEXTS)
    assert_equal(through_skops(made).transform(TEXTS), features)


def test_skops_keeps_a_shared_module_shared(nli_checkpoint):
    made = XLMRobertaZeroShotClassifier(
        XLMRobertaClassifier.from_checkpoint(nli_checkpoint), candidate_labels=["a", "b"]
    ).fit()
    again = through_skops(made)
    assert again.module_ is again.checkpoint.module_
    assert_equal(again.predict_proba(TEXTS), made.predict_proba(TEXTS))


# Equal fits -------------------------------------------------------------------------------------------------------------------


@contract.each
def test_equal_fits_pickle_to_equal_bytes(fitted, make_any, estimator):
    X, y, _ = contract.inputs(estimator)
    first, second = fitted(estimator), make_any(estimator).fit(X, y)
    content = pickle.dumps(first)
    assert content == pickle.dumps(second)
    assert joblib.hash(first) == joblib.hash(second) == joblib.hash(pickle.loads(content))
    for name in contract.methods_of(estimator):  # which leave nothing behind
        getattr(second, name)(X)
    assert content == pickle.dumps(second)


def test_other_fits_have_other_hashes(tiny_checkpoint):
    made = [classifier(tiny_checkpoint, random_state=seed) for seed in range(2)]
    assert joblib.hash(made[0]) != joblib.hash(made[1])


def test_it_does_not_matter_what_was_fitted_before(tiny_checkpoint):
    fresh = XLMRobertaVectorizer(tiny_checkpoint).fit(TEXTS)
    used = XLMRobertaVectorizer(tiny_checkpoint)
    used.transform(TEXTS)
    assert pickle.dumps(used.fit(TEXTS)) == pickle.dumps(fresh)


# Memory -----------------------------------------------------------------------------------------------------------------------


def test_protocol_5_passes_weights_on_without_a_copy(tiny_checkpoint):
    made = classifier(tiny_checkpoint)
    buffers = []
    content = pickle.dumps(made, protocol=5, buffer_callback=buffers.append)
    weights = dict(made.module_.named_parameters())
    assert len(buffers) >= len(weights)
    assert sum(buffer.raw().nbytes for buffer in buffers) >= sum(weight.nbytes for weight in weights.values())
    assert len(content) < len(pickle.dumps(made.tokenizer_)) + 10_000
    received = [bytearray(buffer.raw()) for buffer in buffers]
    again = pickle.loads(content, buffers=received)
    expected = again.predict_proba(TEXTS)
    assert_equal(expected, made.predict_proba(TEXTS))
    for buffer in received:
        buffer[:] = bytes(len(buffer))
    assert not np.array_equal(again.predict_proba(TEXTS), expected)  # the weights lie in what was received


def test_buffers_that_must_not_change_are_copied(tiny_checkpoint):
    made, buffers = classifier(tiny_checkpoint), []
    content = pickle.dumps(made, protocol=5, buffer_callback=buffers.append)
    received = [bytes(buffer.raw()) for buffer in buffers]
    before = [bytearray(buffer) for buffer in received]
    pickle.loads(content, buffers=received).partial_fit(TEXTS, Y)
    assert before == received


@pytest.mark.parametrize("mmap_mode", ["r", "r+", "c"])
def test_joblib_maps_weights_and_training_leaves_its_file_alone(tiny_checkpoint, tmp_path, mmap_mode):
    made, file = classifier(tiny_checkpoint), tmp_path / "classifier.joblib"
    joblib.dump(made, file)
    before = file.read_bytes()
    again = joblib.load(file, mmap_mode=mmap_mode)
    assert_equal(again.predict_proba(TEXTS), made.predict_proba(TEXTS))
    if sys.platform == "linux":
        maps = [line.split()[0] for line in Path("/proc/self/maps").read_text().splitlines() if str(file) in line]
        ranges = [[int(end, 16) for end in line.split("-")] for line in maps]
        for name, weight in again.module_.named_parameters():
            assert any(start <= weight.data_ptr() < end for start, end in ranges), name
    again.partial_fit(TEXTS, Y)
    assert_equal(again.predict_proba(TEXTS), made.partial_fit(TEXTS, Y).predict_proba(TEXTS))
    assert file.read_bytes() == before


# All weights ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("made_by", ["fit", "from_checkpoint", "load", "vectorizer"])
def test_store_weights_in_pickle(tiny_checkpoint, nli_checkpoint, tmp_path, made_by):
    checkpoint = shutil.copytree(nli_checkpoint, tmp_path / "checkpoint")
    made = {
        "fit": lambda: classifier(shutil.copytree(tiny_checkpoint, checkpoint, dirs_exist_ok=True), n_frozen_layers=2),
        "from_checkpoint": lambda: XLMRobertaClassifier.from_checkpoint(checkpoint),
        "load": lambda: load(checkpoint),
        "vectorizer": lambda: XLMRobertaVectorizer(checkpoint).fit(TEXTS),
    }[made_by]()
    X = TEXTS if made_by in ("fit", "vectorizer") else list(zip(TEXTS, TEXTS, strict=True))
    expected, small = contract.infer(made, X), pickle.dumps(made)
    whole = pickle.dumps(made.set_params(store_weights_in_pickle=True))
    n_bytes = sum(weight.nbytes for weight in made.module_.state_dict().values())
    assert len(small) < n_bytes < len(whole)
    shutil.rmtree(checkpoint)
    again = pickle.loads(whole)
    assert_equal(contract.infer(again, X), expected)
    assert len(pickle.dumps(again)) > n_bytes  # and once more
    with pytest.raises(
        CheckpointError, match=r"cannot be opened .*set_params\(store_weights_in_pickle=True\), or use save"
    ) as said:
        pickle.loads(small)
    assert str(checkpoint) in str(said.value)


def test_the_parameter_is_saved(tiny_checkpoint, tmp_path):
    save(classifier(tiny_checkpoint, store_weights_in_pickle=True), tmp_path / "saved")
    loaded = load(tmp_path / "saved")
    assert loaded.store_weights_in_pickle is True
    content = pickle.dumps(loaded)
    shutil.rmtree(tmp_path / "saved")
    assert pickle.loads(content).predict(TEXTS).shape == (6,)


# MLflow -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # MLflow gives many of its own
@pytest.mark.parametrize("kind", ["classifier", "pipeline"])
def test_mlflow_logs_and_loads(tiny_checkpoint, tmp_path, monkeypatch, kind):
    mlflow_sklearn = pytest.importorskip("mlflow.sklearn", reason="needs mlflow, which no extra installs")
    import mlflow
    import skops.io

    made = classifier(tiny_checkpoint)
    if kind == "pipeline":
        from sklearn.linear_model import LogisticRegression

        made = make_pipeline(XLMRobertaVectorizer(tiny_checkpoint), StandardScaler(), LogisticRegression()).fit(
            TEXTS, Y
        )
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.chdir(tmp_path)
    trusted = skops.io.get_untrusted_types(data=skops.io.dumps(made))
    with mlflow.start_run():
        logged = mlflow_sklearn.log_model(made, name="model", serialization_format="skops", skops_trusted_types=trusted)
    assert_equal(mlflow_sklearn.load_model(logged.model_uri).predict_proba(TEXTS), made.predict_proba(TEXTS))
