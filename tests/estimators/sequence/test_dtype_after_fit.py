"""``dtype`` of a vectorizer, the type of its weights too, may be set after fit: the object, its pickle and its folder agree."""

import copy
import pickle
import shutil

import numpy as np
import pytest
import torch

import skxlmr
from skxlmr import XLMRobertaVectorizer
from tests.processors import INT8
from tests.tiny import write_checkpoint

TEXTS = ["ein Haus", "the old house", "река", "ein Haus am See"]
GONE = (
    "dtype='float32' was set after fit, whose weights are bfloat16, and there is no unchanged checkpoint .*: fit again"
)


def vectorizer(checkpoint, dtype, **params):
    return XLMRobertaVectorizer(checkpoint, dtype=dtype, device="cpu", memory=None, **params).fit(TEXTS)


@pytest.fixture
def own_checkpoint(tiny_checkpoint, tmp_path):
    return shutil.copytree(tiny_checkpoint, tmp_path / "own")


@pytest.mark.parametrize("device", ["cpu", "auto"])
@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("float32", "bfloat16"),
        ("bfloat16", "float32"),
        ("bfloat16", "auto"),
        pytest.param("int8", "bfloat16", marks=INT8),
        pytest.param("bfloat16", "int8", marks=INT8),
    ],
)
def test_everything_computes_in_what_was_set(tiny_checkpoint, tmp_path, before, after, device):
    if device == "auto" and torch.cuda.is_available():
        pytest.skip("'auto' is the GPU")
    expected = vectorizer(tiny_checkpoint, after).transform(TEXTS)
    assert not np.array_equal(expected, vectorizer(tiny_checkpoint, before).transform(TEXTS))

    def changed(**params):
        return vectorizer(tiny_checkpoint, before).set_params(dtype=after, device=device, **params)

    skxlmr.save(changed(), tmp_path / "saved")
    found = {
        "object": changed(),
        "copy": copy.deepcopy(changed()),
        "pickle": pickle.loads(pickle.dumps(changed())),
        "whole pickle": pickle.loads(pickle.dumps(changed(store_weights_in_pickle=True))),
        "folder": skxlmr.load(tmp_path / "saved"),
    }
    for name, each in found.items():
        np.testing.assert_array_equal(each.transform(TEXTS), expected, err_msg=name)
    back = found["object"].set_params(dtype=before)
    np.testing.assert_array_equal(back.transform(TEXTS), vectorizer(tiny_checkpoint, before).transform(TEXTS))


def test_the_weights_are_those_of_the_checkpoint_of_the_fit(tiny_checkpoint, tiny_tokenizer, tmp_path):
    other = write_checkpoint(tmp_path / "other", tiny_tokenizer, seed=1)
    made = vectorizer(tiny_checkpoint, "bfloat16").set_params(checkpoint=other, dtype="float32")
    expected = vectorizer(tiny_checkpoint, "float32").transform(TEXTS)
    for _ in range(2):
        np.testing.assert_array_equal(made.transform(TEXTS), expected)
        made = pickle.loads(pickle.dumps(made))


def test_a_checkpoint_that_is_gone(own_checkpoint, tiny_checkpoint, tmp_path):
    half, full = (vectorizer(own_checkpoint, dtype) for dtype in ("bfloat16", "float32"))
    sibling, expected = copy.copy(full), full.transform(TEXTS)
    shutil.rmtree(own_checkpoint)
    half.set_params(dtype="float32")
    whole = copy.deepcopy(half).set_params(store_weights_in_pickle=True)
    for call in (
        lambda: half.transform(TEXTS),
        lambda: skxlmr.save(half, tmp_path / "saved"),
        lambda: pickle.dumps(whole),
    ):
        with pytest.raises(ValueError, match=GONE):
            call()
    found = full.set_params(dtype="bfloat16").transform(TEXTS)  # those at hand are not rounded
    np.testing.assert_array_equal(found, vectorizer(tiny_checkpoint, "bfloat16").transform(TEXTS))
    np.testing.assert_array_equal(sibling.transform(TEXTS), expected)  # which shared the module


def test_weights_of_the_caller_are_kept(tiny_checkpoint):
    made = vectorizer(tiny_checkpoint, "float32")
    original = vectorizer(tiny_checkpoint, "bfloat16").transform(TEXTS)
    with torch.no_grad():
        made.module_.backbone.get_input_embeddings().weight.mul_(2)
    expected = copy.deepcopy(made).module_.bfloat16().state_dict()
    found = made.set_params(dtype="bfloat16").transform(TEXTS)
    assert not np.array_equal(found, original)
    for name, tensor in made.module_.state_dict().items():
        assert torch.equal(tensor, expected[name]), name
    with pytest.raises(ValueError, match=GONE):
        made.set_params(dtype="float32").transform(TEXTS)


@pytest.mark.parametrize("params", [{"device": "cuda:99"}, {"dtype": "float16"}], ids=["device", "precision"])
def test_what_another_machine_computes_is_stored(tiny_checkpoint, own_checkpoint, tmp_path, params):
    """Its own weights are found there, or it says that there are none."""
    made = vectorizer(own_checkpoint, "bfloat16").set_params(**{"dtype": "float32", **params})
    again = pickle.loads(pickle.dumps(made)).set_params(device="cpu", dtype="float32")
    expected = vectorizer(tiny_checkpoint, "float32").transform(TEXTS)
    np.testing.assert_array_equal(again.transform(TEXTS), expected)
    shutil.rmtree(own_checkpoint)
    skxlmr.save(made, tmp_path / "saved")
    assert skxlmr.load(tmp_path / "saved", device="cpu").set_params(dtype="auto").transform(TEXTS).shape == (4, 32)
