"""A saved embedder is a sentence encoder: for sentence-transformers, for `load`, and as a checkpoint of other estimators."""

import json

import numpy as np
import pytest
import torch

from skxlmr import XLMRobertaClassifier, XLMRobertaEmbedder, XLMRobertaVectorizer, load, save
from tests.tiny import sentences

TEXTS = sentences(12)
LABELS = [0, 1, 2] * 4
TEACHER = np.random.default_rng(0).normal(size=(12, 20))
CASES = {
    "plain": ({}, LABELS),
    "scaled": ({"normalize": True}, LABELS),
    "another pooling, a prompt": ({"pooling": ["cls", "max"], "prompt": "das: "}, LABELS),
    "a dense layer": ({}, TEACHER),
    "a dense layer, scaled": ({"normalize": True, "matryoshka_dims": [20, 5]}, TEACHER),
}


@pytest.fixture(scope="module")
def perturbed(tiny_checkpoint):
    """Fitted estimators by their cases, each weight moved at random."""

    def fit(case):
        params, y = CASES[case]
        made = XLMRobertaEmbedder(tiny_checkpoint, max_epochs=1, dtype="float32", random_state=0, **params).fit(
            TEXTS, y
        )
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for parameter in made.module_.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.05)
        return made

    return {case: fit(case) for case in CASES}


@pytest.mark.filterwarnings("ignore")  # theirs
@pytest.mark.parametrize("case", CASES)
def test_sentence_transformers_has_equal_vectors(perturbed, tmp_path, case):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    made = perturbed[case]
    save(made, tmp_path / "saved")
    expected = made.transform(TEXTS)
    found = sentence_transformers.SentenceTransformer(str(tmp_path / "saved"), device="cpu").encode(TEXTS)
    np.testing.assert_allclose(found, expected, atol=2e-6 * np.abs(expected).max())
    listed = json.loads((tmp_path / "saved" / "modules.json").read_text())
    assert [part["path"] for part in listed][2:] == (
        (["2_Dense"] if "dense" in case else [])
        + (["3_Normalize" if "dense" in case else "2_Normalize"] if "scaled" in case else [])
    )


@pytest.mark.parametrize("case", CASES)
def test_the_folder_opens_as_what_it_was_and_as_a_checkpoint(perturbed, tmp_path, case):
    made = perturbed[case]
    save(made, tmp_path / "saved")
    expected = made.transform(TEXTS)
    loaded = load(tmp_path / "saved")
    np.testing.assert_array_equal(loaded.transform(TEXTS), expected)
    assert loaded.loss_ == made.loss_ and loaded.get_params()["matryoshka_dims"] == made.matryoshka_dims
    np.testing.assert_array_equal(XLMRobertaVectorizer(tmp_path / "saved").transform(TEXTS), expected)
    np.testing.assert_array_equal(XLMRobertaEmbedder.from_checkpoint(tmp_path / "saved").transform(TEXTS), expected)
    loaded.set_params(max_epochs=1, warm_start=True).fit(TEXTS, CASES[case][1])
    assert not np.array_equal(loaded.transform(TEXTS), expected)


def test_fewer_features_of_a_saved_folder(perturbed, tmp_path):
    made = perturbed["a dense layer, scaled"]
    whole = made.transform(TEXTS)
    save(made.set_params(truncate_dim=5, normalize="auto"), tmp_path / "saved")
    try:
        assert made.transform(TEXTS).shape == (12, 5)
        np.testing.assert_array_equal(XLMRobertaVectorizer(tmp_path / "saved").transform(TEXTS), made.transform(TEXTS))
    finally:
        made.set_params(truncate_dim=None, normalize=True)
    np.testing.assert_array_equal(made.transform(TEXTS), whole)


@pytest.mark.parametrize("case", ["plain", "another pooling, a prompt"])
@pytest.mark.filterwarnings("ignore")  # theirs
@pytest.mark.parametrize("normalize", [True, np.True_], ids=repr)  # NumPy's, as a search gives it
def test_what_is_cut_and_then_scaled_has_the_same_directions(perturbed, tmp_path, case, normalize):
    made = perturbed[case]
    made.set_params(truncate_dim=5, normalize=normalize)
    try:
        with pytest.warns(UserWarning, match="vectors are cut to 5 features and then scaled to unit length"):
            save(made, tmp_path / "saved")
        expected = made.transform(TEXTS)
    finally:
        made.set_params(truncate_dim=None, normalize="auto")
    np.testing.assert_allclose(np.linalg.norm(expected, axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(load(tmp_path / "saved").transform(TEXTS), expected)
    found = XLMRobertaVectorizer(tmp_path / "saved", normalize=True).transform(TEXTS)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    others = XLMRobertaVectorizer(tmp_path / "saved").transform(TEXTS)
    assert np.linalg.norm(others, axis=1).max() < 0.999
    np.testing.assert_allclose(others / np.linalg.norm(others, axis=1, keepdims=True), expected, atol=1e-6)
    sentence_transformers = pytest.importorskip("sentence_transformers")
    model = sentence_transformers.SentenceTransformer(str(tmp_path / "saved"), device="cpu")
    np.testing.assert_allclose(model.encode(TEXTS), others, atol=2e-6)
    np.testing.assert_allclose(model.encode(TEXTS, normalize_embeddings=True), expected, atol=2e-6)


def test_a_classifier_starts_from_it(perturbed, tmp_path):
    save(perturbed["a dense layer"], tmp_path / "saved")
    assert XLMRobertaClassifier(tmp_path / "saved", max_epochs=1).fit(TEXTS, LABELS).predict(TEXTS).shape == (12,)
