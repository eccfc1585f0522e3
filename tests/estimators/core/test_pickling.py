"""Pickles hold what was learnt, and name the checkpoint where the rest of the weights is still there."""

import copy
import inspect
import io
import pickle
import shutil
import sys
from pathlib import Path

import joblib
import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from skxlmr import (
    CheckpointError,
    VersionWarning,
    XLMRobertaClassifier,
    XLMRobertaDialogueLM,
    XLMRobertaMaskedLM,
    XLMRobertaVectorizer,
    XLMRobertaZeroShotClassifier,
    load,
    save,
)
from skxlmr.checkpoints import _origin
from tests import contract, lora
from tests.tiny import write_checkpoint

TEXTS, Y = contract.TEXTS, contract.Y
N_LAYERS = 2  # of the tiny checkpoint


def through_joblib(value):
    file = io.BytesIO()
    joblib.dump(value, file)
    file.seek(0)
    return joblib.load(file)


WAYS = {
    "pickle": lambda value: pickle.loads(pickle.dumps(value)),
    "old pickle": lambda value: pickle.loads(pickle.dumps(value, protocol=2)),
    "joblib": through_joblib,
    "cloudpickle": lambda value: pickle.loads(pytest.importorskip("cloudpickle").dumps(value)),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
}


@pytest.fixture
def checkpoint(tmp_path, tiny_checkpoint):
    """A copy to spoil."""
    return shutil.copytree(tiny_checkpoint, tmp_path / "checkpoint")


def classifier(checkpoint, n_frozen_layers=N_LAYERS, **params):
    made = XLMRobertaClassifier(checkpoint, n_frozen_layers=n_frozen_layers, **contract.FAST | params)
    return made.fit(TEXTS, Y)


def n_bytes(module, holds=lambda name: True):
    return sum(tensor.nbytes for name, tensor in module.state_dict().items() if holds(name))


def stored(estimator):
    return estimator.__getstate__()["module_"]


@pytest.mark.parametrize("n_frozen_layers", [N_LAYERS, 0], ids=["frozen", "all trained"])
def test_a_loaded_estimator_names_the_folder_it_was_loaded_from(checkpoint, tmp_path, n_frozen_layers):
    """Where the folder holds all of its weights, the pickle holds none."""
    made = classifier(checkpoint, n_frozen_layers)
    save(made, tmp_path / "saved")
    loaded = load(tmp_path / "saved")
    content = pickle.dumps(loaded)
    assert not stored(loaded).learnt and not stored(loaded).added
    assert len(content) < 20_000 < n_bytes(made.module_)
    np.testing.assert_array_equal(pickle.loads(content).predict_proba(TEXTS), made.predict_proba(TEXTS))
    shutil.rmtree(tmp_path / "saved")
    with pytest.raises(CheckpointError, match="saved"):
        pickle.loads(content)


# What comes back ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("n_frozen_layers", [0, 1, N_LAYERS])
def test_what_comes_back_answers_alike(tiny_checkpoint, way, n_frozen_layers):
    made = classifier(tiny_checkpoint, n_frozen_layers)
    again = WAYS[way](made)
    np.testing.assert_array_equal(again.predict_proba(TEXTS), made.predict_proba(TEXTS))
    assert again.get_params() == made.get_params() and vars(again).keys() == vars(made).keys()
    assert not again.module_.training
    # and once more
    np.testing.assert_array_equal(WAYS[way](again).predict_proba(TEXTS), made.predict_proba(TEXTS))
    with pytest.raises(NotFittedError):
        WAYS[way](clone(made)).predict(TEXTS)


def test_copies_share_what_they_should(tiny_checkpoint):
    made = classifier(tiny_checkpoint)
    assert copy.copy(made).module_ is made.module_
    deep = copy.deepcopy(made)
    with torch.no_grad():
        next(deep.module_.parameters()).mul_(-1)
    assert not np.allclose(deep.predict_proba(TEXTS), made.predict_proba(TEXTS), atol=1e-3)


def test_training_goes_on_alike_and_the_checkpoint_stays(checkpoint):
    before = (checkpoint / "model.safetensors").read_bytes()
    made = classifier(checkpoint, 1, warm_start=True)
    twins = [pickle.loads(pickle.dumps(made)).fit(TEXTS, Y) for _ in range(2)]
    untouched = pickle.loads(pickle.dumps(made))
    np.testing.assert_array_equal(*(twin.predict_proba(TEXTS) for twin in twins))
    np.testing.assert_array_equal(untouched.predict_proba(TEXTS), made.predict_proba(TEXTS))
    assert (checkpoint / "model.safetensors").read_bytes() == before


def test_a_zero_shot_classifier_shares_its_module_on(tiny_checkpoint):
    pairs = list(zip(TEXTS, TEXTS[::-1], strict=True))
    nli = XLMRobertaClassifier(tiny_checkpoint, **contract.FAST)
    nli.fit(pairs, ["contradiction", "entailment", "neutral"] * 2)
    made = XLMRobertaZeroShotClassifier(nli, candidate_labels=["art", "sport"]).fit()
    again = pickle.loads(pickle.dumps(made))
    assert again.module_ is again.checkpoint.module_ and again.tokenizer_ is again.checkpoint.tokenizer_
    np.testing.assert_array_equal(again.predict_proba(TEXTS), made.predict_proba(TEXTS))
    assert len(pickle.dumps(made)) < len(pickle.dumps(nli)) + 2000


# How much it takes ----------------------------------------------------------------------------------------------------------


@contract.each_that(lambda cls: cls.__name__ != "XLMRobertaEmbedder")  # which trains nothing but the encoder
def test_a_frozen_encoder_is_not_stored(make_any, estimator):
    frozen = {"n_frozen_layers": N_LAYERS} if "n_frozen_layers" in inspect.signature(estimator).parameters else {}
    X, y, _ = contract.inputs(estimator)
    made = make_any(estimator, **frozen).fit(X, y)
    held = stored(made)
    grown = set(held.added)  # of the dialogue language model
    frozen_parts = {f"{made.module_.backbone_name}.{name}" for name, _ in made.module_.backbone.named_parameters()}
    frozen_parts -= {name for name in frozen_parts if ".pooler." in name}  # which belongs to the head
    assert frozen_parts <= set(held.borrowed) and held.borrows_tokenizer
    assert "tokenizer_" not in made.__getstate__()
    learnt = n_bytes(made.module_, lambda name: name in held.learnt or name in grown)
    assert len(pickle.dumps(made)) < learnt + 10_000
    contract.assert_same(contract.infer(pickle.loads(pickle.dumps(made))), contract.infer(made))


def test_what_learnt_nothing_is_small():
    for made in (
        XLMRobertaVectorizer("skxlmr-mini").fit(TEXTS),
        XLMRobertaVectorizer("skxlmr-mini", dtype="bfloat16", layers=[0, -1], pooling="max").fit(TEXTS),
        XLMRobertaMaskedLM.from_checkpoint("skxlmr-mini"),
    ):
        content = pickle.dumps(made)
        assert len(content) < 10_000
        again = pickle.loads(content)
        np.testing.assert_array_equal(again.transform(TEXTS), made.transform(TEXTS))
        assert next(again.module_.parameters()).dtype == next(made.module_.parameters()).dtype


def test_the_layers_that_learnt_are_stored(tiny_checkpoint):
    held = stored(classifier(tiny_checkpoint, 1))
    top = "roberta.encoder.layer.1."
    assert {name for name in held.learnt if not name.startswith("classifier.")} <= {
        name for name in classifier(tiny_checkpoint, 1).module_.state_dict() if name.startswith(top)
    }
    assert f"{top}output.dense.weight" in held.learnt and "roberta.encoder.layer.0.output.dense.weight" in held.borrowed


def test_a_fine_tuned_estimator_needs_no_checkpoint(checkpoint):
    made = classifier(checkpoint, 0)
    content, expected = pickle.dumps(made), made.predict_proba(TEXTS)
    shutil.rmtree(checkpoint)
    np.testing.assert_array_equal(pickle.loads(content).predict_proba(TEXTS), expected)
    assert stored(made).checkpoint is None
    # each weight once, although all of them were mapped from one file
    learnt = n_bytes(made.module_) + len(pickle.dumps(made.tokenizer_))
    assert learnt < len(content) < learnt + 50_000


def test_a_saved_estimator_needs_no_folder(tiny_checkpoint, tmp_path):
    save(classifier(tiny_checkpoint), tmp_path / "saved")
    loaded = load(tmp_path / "saved")
    expected = loaded.predict_proba(TEXTS)
    shutil.rmtree(tmp_path / "saved")
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(loaded)).predict_proba(TEXTS), expected)


def test_words_of_its_own_are_stored(tiny_checkpoint):
    dialogues = contract.inputs(XLMRobertaDialogueLM)[0]
    made = XLMRobertaDialogueLM(tiny_checkpoint, n_frozen_layers=N_LAYERS, **contract.FAST).fit(dialogues)
    held = stored(made)
    assert {len(rows) for rows in held.added.values()} == {2}
    assert made.tokenizer_ == pickle.loads(pickle.dumps(made)).tokenizer_


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_weights_are_mapped_from_the_checkpoint(tiny_checkpoint):
    """So that the processes of a machine share their pages."""
    again = pickle.loads(pickle.dumps(XLMRobertaVectorizer(tiny_checkpoint).fit(TEXTS)))
    maps = [line.split() for line in Path("/proc/self/maps").read_text().splitlines() if "model.safetensors" in line]
    ranges = [[int(end, 16) for end in line[0].split("-")] for line in maps]
    for name, parameter in again.module_.named_parameters():
        assert any(start <= parameter.data_ptr() < end for start, end in ranges), name


# The checkpoint -------------------------------------------------------------------------------------------------------------


def test_the_checkpoint_is_found_from_another_directory(checkpoint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    content = pickle.dumps(XLMRobertaVectorizer("checkpoint").fit(TEXTS))
    monkeypatch.chdir("/")
    assert pickle.loads(content).transform(TEXTS).shape == (6, 32)


def test_a_checkpoint_that_is_gone(checkpoint):
    content = pickle.dumps(classifier(checkpoint))
    shutil.rmtree(checkpoint)
    with pytest.raises(
        CheckpointError, match="this pickle of a XLMRobertaClassifier holds only the learnt weights and needs"
    ) as said:
        pickle.loads(content)
    assert str(checkpoint) in str(said.value) and "no such folder" in str(said.value)


@pytest.mark.parametrize("what", ["weights", "tokenizer"])
def test_a_checkpoint_that_is_another_one(checkpoint, tiny_tokenizer, what):
    content = pickle.dumps(classifier(checkpoint))
    if what == "weights":
        shutil.rmtree(checkpoint)
        write_checkpoint(checkpoint, tiny_tokenizer, seed=1)
    else:
        (checkpoint / "tokenizer_config.json").write_text('{"model_max_length": 60}')
    with pytest.raises(
        CheckpointError, match=r"needs the checkpoint with the content hash [0-9a-f]{64}, but this one has"
    ):
        pickle.loads(content)


@pytest.mark.parametrize("what", ["gone", "weights", "tokenizer"])
def test_a_checkpoint_that_changed_before_the_pickle_is_not_named(checkpoint, tiny_tokenizer, what):
    made = classifier(checkpoint)
    expected = made.predict_proba(TEXTS)
    if what == "tokenizer":
        (checkpoint / "tokenizer_config.json").write_text('{"model_max_length": 60}')
    else:
        shutil.rmtree(checkpoint)
    if what == "weights":
        write_checkpoint(checkpoint, tiny_tokenizer, seed=1)
    content = pickle.dumps(made)
    shutil.rmtree(checkpoint, ignore_errors=True)
    np.testing.assert_array_equal(pickle.loads(content).predict_proba(TEXTS), expected)


def test_a_checkpoint_is_hashed_once_a_process(checkpoint, monkeypatch):
    hashed, content_hash = [], _origin.content_hash
    monkeypatch.setattr(_origin, "content_hash", lambda folder: hashed.append(folder) or content_hash(folder))
    made = classifier(checkpoint)
    assert not hashed
    for _ in range(3):
        made = pickle.loads(pickle.dumps(made))
    assert hashed == [str(checkpoint)]


# Other machines and versions --------------------------------------------------------------------------------------------------


def test_a_pickle_of_another_version_warns(tiny_checkpoint, monkeypatch):
    content = pickle.dumps(classifier(tiny_checkpoint))
    monkeypatch.setattr("skxlmr.estimators._core.estimator.__version__", "7.1")
    monkeypatch.setattr("skxlmr.estimators._core.pickling.__version__", "7.1")
    with pytest.warns(
        VersionWarning, match=r"a XLMRobertaClassifier was written by skxlmr 0\.1\.0 and is read by 7\.1"
    ) as said:
        again = pickle.loads(content)
    assert said[0].filename == __file__
    assert "_skxlmr_version" not in vars(again)
    assert str(pickle.loads(pickle.dumps(said[0].message))) == str(said[0].message)
    pickle.loads(pickle.dumps(again))  # by now it is this version's


def test_weights_leave_their_device(tiny_checkpoint, monkeypatch):
    """Each stored tensor has been brought to the CPU, and a device that is not here is told of when it is used."""
    made = classifier(tiny_checkpoint, 1)
    brought, cpu = [], torch.Tensor.cpu
    monkeypatch.setattr(torch.Tensor, "cpu", lambda self: brought.append(self.shape) or cpu(self))
    held = stored(made)
    assert len(brought) >= len(held.learnt) and all(type(t) is np.ndarray for t in held.learnt.values())
    made.device = "cuda:99"
    again = pickle.loads(pickle.dumps(made))
    with pytest.raises(ValueError, match="device='cuda:99' cannot be used here"):
        again.predict(TEXTS)
    made.device = "cpu"
    np.testing.assert_array_equal(again.set_params(device="cpu").predict(TEXTS), made.predict(TEXTS))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("n_frozen_layers", [0, N_LAYERS])
def test_a_pickle_from_a_gpu_is_read_on_the_cpu(tiny_checkpoint, n_frozen_layers):
    made = classifier(tiny_checkpoint, n_frozen_layers, device="cuda")
    again = pickle.loads(pickle.dumps(made))
    assert {parameter.device.type for parameter in again.module_.parameters()} == {"cpu"}
    assert {parameter.device.type for parameter in made.module_.parameters()} == {"cuda"}
    again.set_params(device="cpu")
    np.testing.assert_allclose(again.predict_proba(TEXTS), made.predict_proba(TEXTS), atol=1e-4)


# LoRA -----------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def with_lora(tiny_checkpoint):
    return lora.fitted("XLMRobertaClassifier", str(tiny_checkpoint), warm_start=True)


def test_adapters_are_stored_in_the_place_of_what_they_were_merged_into(with_lora):
    held = stored(with_lora)
    adapted = {f"{name}.weight" for name in with_lora.module_.lora.modules}
    assert set(held.merged) == adapted and len(adapted) == 2 * N_LAYERS
    assert all(name.startswith("classifier.") for name in held.learnt)
    n_learnt = n_bytes(with_lora.module_, lambda name: name.startswith("classifier."))
    n_learnt += sum(tensor.nbytes for tensor in with_lora.module_.lora.tensors.values())
    assert len(pickle.dumps(with_lora)) < n_learnt + 10_000 < n_bytes(with_lora.module_) / 4
    whole = copy.copy(with_lora).set_params(store_weights_in_pickle=True)
    assert not stored(whole).merged and len(pickle.dumps(whole)) > n_bytes(with_lora.module_)


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_adapters_are_merged_again_into_the_same_bits(with_lora, way, whole):
    made = copy.copy(with_lora).set_params(store_weights_in_pickle=whole)
    again = WAYS[way](WAYS[way](made))
    for (name, expected), found in zip(
        made.module_.state_dict().items(), again.module_.state_dict().values(), strict=True
    ):
        assert torch.equal(found, expected), name
    ours, theirs = again.module_.lora, made.module_.lora
    assert ours.tensors.keys() == theirs.tensors.keys() and (ours.rank, ours.alpha) == (theirs.rank, theirs.alpha)
    assert all(torch.equal(ours.tensors[name], tensor) for name, tensor in theirs.tensors.items())


def test_adapters_are_merged_again_inside_autocast(with_lora):
    """A product in bfloat16 would change the weights without a word."""
    stored = pickle.dumps(with_lora)
    with torch.autocast("cpu", torch.bfloat16):
        again = pickle.loads(stored)
        again.predict(TEXTS[:1])
    state, expected = again.module_.state_dict(), with_lora.module_.state_dict()
    assert all(torch.equal(state[name], expected[name]) for name in expected)


def test_adapters_train_further_alike(with_lora):
    made = copy.deepcopy(with_lora)
    again = pickle.loads(pickle.dumps(made))
    for each in (made, again):
        each.fit(TEXTS, list("abcabc"))
    assert stored(made).merged == stored(again).merged  # still exact
    np.testing.assert_array_equal(again.predict_proba(TEXTS), made.predict_proba(TEXTS))


def test_joblib_maps_the_rest(with_lora, tmp_path):
    joblib.dump(with_lora, tmp_path / "classifier.joblib")
    again = joblib.load(tmp_path / "classifier.joblib", mmap_mode="r")
    np.testing.assert_array_equal(again.predict_proba(TEXTS), with_lora.predict_proba(TEXTS))
    again.fit(TEXTS, list("abcabc"))
    assert joblib.load(tmp_path / "classifier.joblib").module_.lora is not None


def test_weights_that_no_merge_gives_are_stored(with_lora):
    made = copy.deepcopy(with_lora)
    name = f"{made.module_.lora.modules[0]}.weight"
    parameter = made.module_.get_parameter(name)
    parameter.data = parameter.data + 1e-6  # as if it was merged on another machine
    assert name in stored(made).learnt and name not in stored(made).merged and stored(made).merged
    assert torch.equal(pickle.loads(pickle.dumps(made)).module_.get_parameter(name), parameter)


def test_adapters_without_their_checkpoint(checkpoint):
    made = lora.fitted("XLMRobertaClassifier", str(checkpoint), max_epochs=1)
    content = pickle.dumps(made)
    shutil.rmtree(checkpoint)
    with pytest.raises(CheckpointError, match="holds only the learnt weights and needs this checkpoint"):
        pickle.loads(content)
    again = pickle.loads(pickle.dumps(made))  # which now holds all
    np.testing.assert_array_equal(again.predict_proba(TEXTS), made.predict_proba(TEXTS))


@pytest.mark.parametrize(("fitted", "then"), [("pooler", "mean"), ("mean", "pooler")])
@pytest.mark.parametrize("whole", [False, True])
def test_pooling_that_was_set_after_fit_leaves_pickles_readable(tiny_checkpoint, fitted, then, whole):
    made = XLMRobertaVectorizer(tiny_checkpoint, pooling=fitted, store_weights_in_pickle=whole).fit(TEXTS)
    expected = made.transform(TEXTS)
    restored = pickle.loads(pickle.dumps(made.set_params(pooling=then)))
    assert restored.pooling == then
    assert np.array_equal(restored.set_params(pooling=fitted).transform(TEXTS), expected)
