"""Early layouts, pickles, saved and converted folders of sentence encoders."""

import json
import pickle
import shutil

import numpy as np
import pytest
import torch

from skxlmr import CheckpointError, XLMRobertaClassifier, XLMRobertaVectorizer, convert, load, save
from skxlmr.checkpoints import content_hash, read_model, read_tensors
from tests.estimators.sequence.sentence_encoders.layouts import (
    LABSE,
    TEXTS,
    ours,
    resolved,
    says,
)
from tests.sentence_encoders import NEW, flags, one_key, write


@pytest.mark.parametrize(
    "wrapper", ["auto_model.", "module.", "model.", "0.auto_model.", "_orig_mod.", "module.roberta."]
)
def test_names_that_wrappers_put_before_all(tiny_checkpoint, tmp_path, wrapper):
    extra = {wrapper + "embeddings.position_ids": torch.arange(66)[None]}
    folder = write(tmp_path / "published", tiny_checkpoint, wrapper=wrapper, extra=extra)
    assert "roberta.pooler.dense.weight" in read_model(folder).tensors()
    expected = ours(tiny_checkpoint).fit_transform(TEXTS[:4])
    np.testing.assert_array_equal(ours(folder).fit_transform(TEXTS[:4]), expected)


def test_other_extra_tensors_are_still_refused(tiny_checkpoint, tmp_path):
    folder = write(
        tmp_path / "published", tiny_checkpoint, wrapper="auto_model.", extra={"2.linear.weight": torch.ones(2)}
    )
    with pytest.raises(CheckpointError, match=r"1 tensor unexpected \(2\.linear\.weight"):
        ours(folder).fit(["a"])


def test_a_classifier_starts_from_an_early_layout(tiny_checkpoint, tmp_path):
    folder = write(tmp_path / "published", tiny_checkpoint, place="0_Transformer", form="bin")
    classifier = XLMRobertaClassifier(folder, max_epochs=1, random_state=0, dtype="float32", device="cpu")
    plain = XLMRobertaClassifier(tiny_checkpoint, max_epochs=1, random_state=0, dtype="float32", device="cpu")
    for made in (classifier, plain):
        made.fit(TEXTS[:4], [0, 1, 0, 1])
    np.testing.assert_array_equal(classifier.predict_proba(TEXTS[:4]), plain.predict_proba(TEXTS[:4]))
    again = pickle.loads(pickle.dumps(classifier))
    np.testing.assert_array_equal(again.predict_proba(TEXTS[:4]), plain.predict_proba(TEXTS[:4]))


@pytest.mark.parametrize("place", ["", "0_Transformer"])
def test_pickles_keep_it_and_know_when_the_folder_changes(tiny_checkpoint, tmp_path, place):
    folder = write(tmp_path / "published", tiny_checkpoint, layers=LABSE, prompts=says("query"), place=place)
    vectorizer = ours(folder).fit(TEXTS[:4])
    expected, packed, digest = vectorizer.transform(TEXTS[:4]), pickle.dumps(vectorizer), content_hash(folder)
    assert len(packed) < 20_000  # the weights are the checkpoint's
    again = pickle.loads(packed)
    np.testing.assert_array_equal(again.transform(TEXTS[:4]), expected)
    assert resolved(again) == resolved(vectorizer)
    whole = pickle.dumps(vectorizer.set_params(store_weights_in_pickle=True))
    for name in (
        "modules.json",
        "config_sentence_transformers.json",
        "1_Pooling/config.json",
        "2_Dense/model.safetensors",
    ):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content + b" ")
        assert content_hash(folder) != digest, name
        with pytest.raises(CheckpointError, match="the checkpoint with the content hash"):
            pickle.loads(packed)
        (folder / name).write_bytes(content)
    np.testing.assert_array_equal(pickle.loads(packed).transform(TEXTS[:4]), expected)
    (folder / "modules.json").unlink()
    np.testing.assert_array_equal(pickle.loads(whole).transform(TEXTS[:4]), expected)


@pytest.mark.parametrize(
    "params",
    [{"long_text": "window"}, {"layers": [0, -1]}, {"pooling": "pooler"}],
    ids=str,
)
def test_what_other_tools_cannot_do_is_saved_and_read_too(theirs, arctic, tmp_path, params):
    """The folder still says what the checkpoint said; the parameters say the rest."""
    vectorizer = ours(arctic, **params).fit(TEXTS[:4])
    save(vectorizer, tmp_path / "saved")
    loaded = load(tmp_path / "saved")
    np.testing.assert_allclose(loaded.transform(TEXTS[:4]), vectorizer.transform(TEXTS[:4]), atol=1e-6)
    assert resolved(loaded) == resolved(vectorizer)
    assert "sentence_transformers" not in (tmp_path / "saved" / "README.md").read_text()
    np.testing.assert_allclose(theirs(tmp_path / "saved", TEXTS[:4]), theirs(arctic, TEXTS[:4]), atol=1e-6)


def test_vectors_that_are_cut_and_then_scaled_keep_their_directions(theirs, arctic, tmp_path):
    vectorizer = ours(arctic, normalize=True, truncate_dim=7).fit(TEXTS[:4])
    with pytest.warns(UserWarning, match="cut to 7 features and then scaled to unit length"):
        save(vectorizer, tmp_path / "saved")
    expected, loaded = vectorizer.transform(TEXTS[:4]), load(tmp_path / "saved")
    np.testing.assert_allclose(loaded.transform(TEXTS[:4]), expected, atol=1e-6)
    assert resolved(loaded) == resolved(vectorizer)
    assert "sentence_transformers" not in (tmp_path / "saved" / "README.md").read_text()
    found = theirs(tmp_path / "saved", TEXTS[:4])
    assert found.shape == (4, 7) and np.linalg.norm(found, axis=1).max() < 0.999
    np.testing.assert_allclose(found / np.linalg.norm(found, axis=1, keepdims=True), expected, atol=1e-6)


def test_a_saved_folder_is_complete_with_what_it_says(arctic, tmp_path):
    save(ours(arctic).fit(["a"]), tmp_path / "saved")
    for name, content in (
        ("1_Pooling/config.json", flags("mean")),
        ("config_sentence_transformers.json", {"prompts": {}}),
    ):
        file = tmp_path / "saved" / name
        before = file.read_text()
        file.write_text(json.dumps(content))
        with pytest.raises(CheckpointError, match="is not what save wrote"):
            load(tmp_path / "saved")
        file.unlink()
        with pytest.raises(CheckpointError, match="is missing"):
            load(tmp_path / "saved")
        file.write_text(before)
    (tmp_path / "saved" / "3_Dense").mkdir()
    (tmp_path / "saved" / "3_Dense" / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="would be read, but save did not write it"):
        load(tmp_path / "saved")


def test_folders_of_format_3_say_all_with_their_parameters(tiny_checkpoint, tmp_path):
    save(ours(tiny_checkpoint, pooling="max", normalize=True).fit(["a"]), tmp_path / "saved")
    file = tmp_path / "saved" / "skxlmr.json"
    about = json.loads(file.read_text())
    for name in ("prompt", "truncate_dim"):
        del about["params"][name]
    file.write_text(json.dumps(about | {"format": 3}))
    expected = ours(tiny_checkpoint, pooling="max", normalize=True).fit_transform(TEXTS[:4])
    np.testing.assert_allclose(load(tmp_path / "saved", verify=False).transform(TEXTS[:4]), expected, atol=1e-6)
    (tmp_path / "saved" / "1_Pooling" / "config.json").unlink()
    (tmp_path / "saved" / "modules.json").unlink()
    np.testing.assert_allclose(load(tmp_path / "saved", verify=False).transform(TEXTS[:4]), expected, atol=1e-6)


@pytest.mark.parametrize("place", ["", "0_Transformer"])
def test_converted_folders_say_the_same(tiny_checkpoint, tmp_path, place):
    folder = write(
        tmp_path / "published", tiny_checkpoint, layers=LABSE, prompts=says("query"), place=place, form="bin"
    )
    convert(folder, tmp_path / "converted", "safetensors")
    expected = ours(folder).fit_transform(TEXTS[:4])
    np.testing.assert_allclose(ours(tmp_path / "converted").fit_transform(TEXTS[:4]), expected, atol=1e-6)


def test_layers_are_stored_and_computed_in_half_precision_too(tiny_checkpoint, tmp_path):
    folder = write(tmp_path / "published", tiny_checkpoint, layers=LABSE)
    vectorizer = ours(folder).fit(["a"])
    save(vectorizer, tmp_path / "saved", dtype="bfloat16")
    assert {x.dtype for x in read_tensors(tmp_path / "saved" / "2_Dense").values()} == {torch.bfloat16}
    expected = vectorizer.transform(TEXTS[:4])
    for made in (load(tmp_path / "saved"), XLMRobertaVectorizer(folder, dtype="bfloat16", device="cpu")):
        assert 1e-5 < np.abs(made.transform(TEXTS[:4]) - expected).max() < 0.05


def test_the_value_is_a_key(tiny_checkpoint, tmp_path):
    """Equal folders make equal values, whatever wrote them; caches may have them as keys."""
    one = write(tmp_path / "one", tiny_checkpoint, pooling=flags("cls"), layers=LABSE, prompts=says("query"))
    two = write(
        tmp_path / "two", tiny_checkpoint, pooling=one_key("cls"), layers=LABSE, prompts=says("query"), package=NEW
    )
    three = write(tmp_path / "three", tiny_checkpoint, layers=LABSE, prompts=says("query"))
    values = [read_model(folder).sentence_encoder() for folder in (one, two, three)]
    assert len(set(values)) == 2 and values[0] == values[1]
    assert read_model(tiny_checkpoint).sentence_encoder() is None


@pytest.mark.parametrize("name", ["modules.json", "config_sentence_transformers.json", "sentence_bert_config.json"])
def test_a_link_to_nothing_is_not_a_plain_model(arctic, tmp_path, name):
    folder = shutil.copytree(arctic, tmp_path / "copy")
    (folder / name).unlink()
    (folder / name).symlink_to("absent")
    with pytest.raises(CheckpointError, match=rf"{name}: cannot be read"):
        read_model(folder).sentence_encoder()
