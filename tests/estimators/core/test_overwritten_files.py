"""Weights are mapped from files: what happens to an estimator whose files change."""

import copy
import os
import pickle
import shutil

import joblib
import numpy as np
import pytest

from skxlmr import (
    CheckpointError,
    XLMRobertaClassifier,
    XLMRobertaMaskedLM,
    XLMRobertaVectorizer,
    load,
    save,
)
from skxlmr.checkpoints import StoredModel
from tests import contract
from tests.tiny import write_checkpoint

TEXTS, Y = contract.TEXTS, contract.Y
WEIGHTS = "model.safetensors"


@pytest.fixture
def checkpoint(tmp_path, tiny_checkpoint):
    """A copy to spoil."""
    return shutil.copytree(tiny_checkpoint, tmp_path / "checkpoint")


@pytest.fixture(scope="module")
def other(tmp_path_factory, tiny_tokenizer):
    """Other weights, in a file of the same size."""
    return write_checkpoint(tmp_path_factory.mktemp("other") / "checkpoint", tiny_tokenizer, seed=1) / WEIGHTS


def classifier(checkpoint, **params):
    return XLMRobertaClassifier(checkpoint, **contract.FAST | params).fit(TEXTS, Y)


def frozen(checkpoint):
    return classifier(checkpoint, n_frozen_layers=2)


def loaded(checkpoint):
    save(frozen(checkpoint), checkpoint.parent / "saved")
    shutil.rmtree(checkpoint)
    (checkpoint.parent / "saved").rename(checkpoint)
    return load(checkpoint)


def opened(vectorizer):
    vectorizer.transform(TEXTS)
    return vectorizer


MADE = {
    "vectorizer": lambda folder: XLMRobertaVectorizer(folder).fit(TEXTS),
    "vectorizer without fit": lambda folder: opened(XLMRobertaVectorizer(folder)),
    "from_checkpoint": XLMRobertaMaskedLM.from_checkpoint,
    "frozen": frozen,
    "rare words": classifier,  # training leaves the embeddings of all other words as they are
    "unpickled": lambda folder: pickle.loads(pickle.dumps(frozen(folder))),
    "loaded": loaded,
}


def overwrite(file, content):
    """As ``cp`` does: the file stays the same, with another content."""
    with open(file, "r+b") as opened:
        opened.write(content)
        opened.truncate()


@pytest.mark.parametrize("way", MADE)
def test_predicting_from_an_overwritten_file_is_refused(checkpoint, other, way):
    made, file = MADE[way](checkpoint), checkpoint / WEIGHTS
    whole = file.read_bytes()
    content = other.read_bytes()
    overwrite(file, content[: len(whole)].ljust(len(whole), b"\0"))
    with pytest.raises(
        CheckpointError, match=r"was overwritten .*its modification time differs.*fit or load again"
    ) as said:
        contract.infer(made, TEXTS)
    assert said.value.file == str(file)


def test_a_file_that_was_cut_is_refused_before_it_is_read(checkpoint):
    """Reading pages that are gone would end the process."""
    made, size = frozen(checkpoint), (checkpoint / WEIGHTS).stat().st_size
    os.truncate(checkpoint / WEIGHTS, 4096)
    uses = {
        "predict": lambda: made.predict(TEXTS),
        "score": lambda: made.score(TEXTS, Y),
        "pickle": lambda: pickle.dumps(made),
        "deepcopy": lambda: copy.deepcopy(made),
        "save": lambda: save(made, checkpoint.parent / "saved"),
        "partial_fit": lambda: made.partial_fit(TEXTS, Y),
        "warm start": lambda: made.set_params(warm_start=True).fit(TEXTS, Y),
    }
    for use in uses.values():
        with pytest.raises(CheckpointError, match=f"it had {size} bytes, and now has 4096"):
            use()


@contract.each
def test_every_use_of_the_weights_checks(fitted, estimator):
    class Overwritten:
        def check(self, module):
            raise CheckpointError("model.safetensors", "was overwritten")

    made = fitted(estimator)
    made.module_.mapped_files = Overwritten()
    X, y, _ = contract.inputs(estimator)
    uses = {name: lambda name=name: getattr(made, name)(X) for name in contract.methods_of(estimator)}
    if hasattr(made, "score"):
        uses["score"] = lambda: made.score(X, y)
    if hasattr(made, "generate"):
        uses["generate"] = lambda: made.generate(TEXTS, max_new_tokens=2)
    if hasattr(made, "fill_mask"):
        uses["fill_mask"] = lambda: made.fill_mask(["the <mask>"])
    if hasattr(made, "rank_responses"):
        uses["rank_responses"] = lambda: made.rank_responses([X[0]["turns"][:1]], [TEXTS])
    for use in uses.values():
        with pytest.raises(CheckpointError, match="was overwritten"):
            use()


@pytest.mark.parametrize("what", ["renamed over", "deleted", "saved to", "touched card"])
def test_another_file_in_its_place_does_no_harm(checkpoint, other, what):
    made = frozen(checkpoint)
    expected = made.predict_proba(TEXTS)
    if what == "renamed over":
        os.replace(shutil.copy(other, checkpoint / "new"), checkpoint / WEIGHTS)
    elif what == "deleted":
        shutil.rmtree(checkpoint)
    elif what == "saved to":
        save(classifier(checkpoint, random_state=1), checkpoint)
    else:
        (checkpoint / "README.md").write_text("new")
    np.testing.assert_array_equal(made.predict_proba(TEXTS), expected)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(made)).predict_proba(TEXTS), expected)


def test_weights_in_memory_of_their_own_do_not_depend_on_the_file(checkpoint):
    converted = XLMRobertaVectorizer(checkpoint, dtype="bfloat16").fit(TEXTS)
    copied = copy.deepcopy(classifier(checkpoint))
    expected = [contract.infer(made) for made in (converted, copied)]
    os.truncate(checkpoint / WEIGHTS, 4096)
    for made, answers in zip((converted, copied), expected, strict=True):
        np.testing.assert_array_equal(contract.infer(made), answers)


def test_a_prediction_looks_at_the_file_once(checkpoint, monkeypatch):
    made, looked, stat = frozen(checkpoint), [], os.stat
    monkeypatch.setattr(os, "stat", lambda file, *args, **kwargs: looked.append(file) or stat(file, *args, **kwargs))
    made.predict_proba(TEXTS)
    assert looked.count(str(checkpoint / WEIGHTS)) == 1


def test_shards_are_looked_at_too(checkpoint, tmp_path):
    save(frozen(checkpoint), tmp_path / "shards", max_shard_size="50KB")
    made = load(tmp_path / "shards")
    shards = sorted((tmp_path / "shards").glob("*.safetensors"))
    assert len(shards) > 2
    overwrite(shards[-1], shards[-1].read_bytes())
    with pytest.raises(CheckpointError, match="was overwritten") as said:
        made.predict(TEXTS)
    assert said.value.file == str(shards[-1])


def test_a_checkpoint_overwritten_while_a_pickle_is_read(checkpoint, other, monkeypatch):
    """What was hashed is not what is mapped."""
    content = pickle.dumps(frozen(checkpoint))
    mapped_tensors = StoredModel.mapped_tensors

    def late(self):
        overwrite(checkpoint / WEIGHTS, other.read_bytes())
        return mapped_tensors(self)

    monkeypatch.setattr(StoredModel, "mapped_tensors", late)
    with pytest.raises(CheckpointError, match="needs the checkpoint with the content hash"):
        pickle.loads(content)


def test_a_mapped_pickle_that_was_overwritten(checkpoint, tmp_path):
    file = tmp_path / "classifier.joblib"
    joblib.dump(classifier(checkpoint), file)
    made = joblib.load(file, mmap_mode="r")
    shutil.rmtree(checkpoint)
    made.predict(TEXTS)
    os.truncate(file, 4096)
    with pytest.raises(CheckpointError, match=r"classifier\.joblib: was overwritten"):
        made.predict(TEXTS)
