"""While other processes save to a folder, `load` gives one of the estimators that were saved there, never parts of two."""

import json
import os
import pickle
import random
import signal
import time
from multiprocessing import get_context

import pytest

from skxlmr import CheckpointError, XLMRobertaClassifier, XLMRobertaVectorizer, load, save
from skxlmr.checkpoints import Origin, identity
from skxlmr.persistence import _load, _save
from tests.persistence.conftest import FIT, TEXTS

HEAD = "classifier.out_proj.weight"


@pytest.fixture(scope="module")
def other(tiny_checkpoint):
    return XLMRobertaClassifier(tiny_checkpoint, **FIT | {"random_state": 1}).fit(TEXTS, ["x", "y", "z"] * 2)


def assert_is_one_of(loaded, *estimators):
    (match,) = (each for each in estimators if each.classes_.tolist() == loaded.classes_.tolist())
    assert (loaded.module_.state_dict()[HEAD] == match.module_.state_dict()[HEAD]).all()


def before(monkeypatch, place, name, act):
    """Do something each time before the function is called."""
    function = getattr(place, name)

    def acting(*args, **kwargs):
        act()
        return function(*args, **kwargs)

    monkeypatch.setattr(place, name, acting)


@pytest.mark.parametrize("moment", ["file_names", "read_model", "assign_weights", "resolve_device"])
def test_a_folder_that_is_replaced_meanwhile_is_read_again(saved, fitted_classifier, other, monkeypatch, moment):
    left = [other]
    before(monkeypatch, _load, moment, lambda: left and save(left.pop(), saved))
    loaded = load(saved)
    assert not left and loaded.classes_.tolist() == ["x", "y", "z"]
    assert_is_one_of(loaded, fitted_classifier, other)


def test_a_file_that_is_rewritten_meanwhile_is_noticed(saved, monkeypatch):
    """In its place, as `cp` does it."""
    file = saved / "model.safetensors"
    content = file.read_bytes()
    changed = content[:-4] + bytes(4)
    before(monkeypatch, _load, "assign_weights", lambda: file.write_bytes(changed))
    with pytest.raises(CheckpointError, match=r"model\.safetensors: is not what save wrote"):
        load(saved)


def test_a_link_that_leads_elsewhere_and_back_meanwhile(saved, fitted_classifier, other, tmp_path, monkeypatch):
    """It looks the same before and after."""
    save(other, tmp_path / "second")
    link = tmp_path / "current"
    link.symlink_to(saved)

    def lead(to):
        (tmp_path / "new").symlink_to(to)
        (tmp_path / "new").rename(link)

    before(monkeypatch, _load, "read_model", lambda: lead(tmp_path / "second"))
    before(monkeypatch, _load, "assign_weights", lambda: lead(saved))
    for verify in (True, False):
        loaded = load(link, verify=verify)
        assert loaded.classes_.tolist() == ["a", "b", "c"]
        assert_is_one_of(loaded, fitted_classifier)


def test_a_folder_that_is_replaced_again_and_again(saved, fitted_classifier, monkeypatch):
    monkeypatch.setattr(_load, "TRIES", 3)
    before(monkeypatch, _load, "read_model", lambda: save(fitted_classifier, saved))
    with pytest.raises(CheckpointError, match="is being replaced by other processes again and again"):
        load(saved)


def test_a_folder_that_is_away_for_a_moment(saved, monkeypatch):
    """Between the two renames of a swap; the hub is not asked for its name."""
    monkeypatch.chdir(saved.parent)
    saved.rename("away")
    monkeypatch.setattr(
        "skxlmr.checkpoints._hub.surviving", lambda target: (saved.parent / "away").rename(target) and None
    )
    assert load("saved").classes_.tolist() == ["a", "b", "c"]


def test_a_checkpoint_that_is_replaced_while_fit_opens_it(saved, other, monkeypatch):
    before(monkeypatch, XLMRobertaVectorizer, "_load_module", lambda: save(other, saved))
    with pytest.raises(CheckpointError, match="saved: was replaced or changed while it was being read: try again"):
        XLMRobertaVectorizer(saved).fit(TEXTS)


def test_a_checkpoint_that_is_replaced_by_another_model_while_fit_opens_it(
    saved, tiny_checkpoint, tmp_path, monkeypatch
):
    """It is not said that its weights do not fit, since those of neither model do."""
    config = json.loads((saved / "config.json").read_text()) | {"num_hidden_layers": 1}

    def replaced():
        (tmp_path / "new").write_text(json.dumps(config))
        (tmp_path / "new").rename(saved / "config.json")
        (saved / "model.safetensors").unlink()

    before(monkeypatch, XLMRobertaVectorizer, "_load_module", replaced)
    with pytest.raises(CheckpointError, match="saved: was replaced or changed while it was being read: try again"):
        XLMRobertaVectorizer(saved).fit(TEXTS)


def test_a_checkpoint_that_is_replaced_while_a_pickle_is_made(saved, tiny_checkpoint, monkeypatch):
    """The pickle then holds all weights, not the name and the hash of the other checkpoint."""
    vectorizer = XLMRobertaVectorizer(saved, pooling="cls", dtype="float32").fit(TEXTS)
    other = XLMRobertaVectorizer(tiny_checkpoint, pooling="max").fit(TEXTS)
    left = [other]
    before(monkeypatch, Origin, "content_hash", lambda: left and save(left.pop(), saved))
    content = pickle.dumps(vectorizer)
    assert not left
    assert (pickle.loads(content).transform(TEXTS) == vectorizer.transform(TEXTS)).all()


def test_a_folder_that_is_replaced_while_save_looks_at_it(saved, fitted_classifier, other, monkeypatch):
    """Its model card and its description may then be those of two models."""
    left = [other]
    before(monkeypatch, _save, "read_description", lambda: left and save(left.pop(), saved))
    save(fitted_classifier, saved)
    assert not left
    assert_is_one_of(load(saved), fitted_classifier)


def test_identity(saved, fitted_classifier):
    first = identity(saved)
    (saved / "notes.txt").write_text("of no reader")
    assert identity(saved) == first
    (saved / "special_tokens_map.json").write_text("{}")
    assert identity(saved) != first
    os.unlink(saved / "special_tokens_map.json")
    assert identity(saved) == first
    os.utime(saved / "config.json")
    assert identity(saved) != first
    assert identity(saved / "absent") == ()


def test_identity_of_a_folder_that_vanishes_meanwhile(saved, monkeypatch):
    def vanished(path, pattern):
        raise FileNotFoundError(2, "No such file or directory", str(path))

    whole = identity(saved)
    monkeypatch.setattr(type(saved), "glob", vanished)
    assert set(identity(saved)) <= set(whole)


def _write(estimators, folder):
    rng = random.Random(os.getpid())
    while True:
        try:
            save(rng.choice(estimators), folder)
        except CheckpointError as error:
            if "again and again" not in str(error):
                raise


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and signals")
@pytest.mark.parametrize(("n_writers", "kills"), [(1, False), (4, True)])
def test_writers_and_a_reader(saved, fitted_classifier, other, n_writers, kills):
    context, estimators = get_context("fork"), [fitted_classifier, other]

    def start():
        process = context.Process(target=_write, args=(estimators, saved), daemon=True)
        process.start()
        return process

    writers, n_read, rng = [start() for _ in range(n_writers)], 0, random.Random(0)
    try:
        end = time.monotonic() + 15
        while n_read < 10 or time.monotonic() < end:
            try:
                assert_is_one_of(load(saved), *estimators)
                n_read += 1
            except CheckpointError as error:
                if "again and again" not in str(error) and "no such folder" not in str(error):
                    raise
            if kills:
                i = rng.randrange(n_writers)
                os.kill(writers[i].pid, signal.SIGKILL)
                writers[i].join()
                writers[i] = start()
    finally:
        for writer in writers:
            writer.kill()
            writer.join()
    save(other, saved)
    assert_is_one_of(load(saved), other)
    assert [path.name for path in saved.parent.iterdir()] == ["saved"]
