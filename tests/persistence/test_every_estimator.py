"""Whatever is fitted comes back, and `transformers` opens its folder with the weights that it expects."""

import json

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard

from skxlmr import XLMRobertaClassifier, load, save
from tests.contract import answers, each, inputs
from tests.persistence.conftest import FIT, TEXTS, names_in


def equal(found, expected):
    """Equal to the last bit, through lists and dicts."""
    if isinstance(expected, dict):
        return found.keys() == expected.keys() and all(equal(found[key], expected[key]) for key in expected)
    if isinstance(expected, list | tuple):
        return len(found) == len(expected) and all(map(equal, found, expected))
    return type(found) is type(expected) and np.array_equal(found, expected)


@each
def test_round_trip(estimator, fitted, tmp_path):
    before = fitted(estimator)
    save(before, tmp_path / "saved")
    assert not any(name.endswith((".pkl", ".pickle", ".joblib", ".bin", ".pt")) for name in names_in(tmp_path))
    after = load(tmp_path / "saved")
    X, _, _ = inputs(estimator)
    expected = answers(before, X)
    assert expected or estimator.__name__ == "XLMRobertaDialogueLM"
    assert equal(answers(after, X), expected)


@pytest.mark.filterwarnings("ignore")  # theirs
@each
def test_the_class_that_the_card_names_opens_the_folder(estimator, fitted, tmp_path):
    transformers = pytest.importorskip("transformers")
    save(fitted(estimator), tmp_path / "saved")
    card = ModelCard.load(tmp_path / "saved" / "README.md")
    assert card.data.pipeline_tag == estimator._head.pipeline_tag
    auto_class = estimator._head.auto_class
    assert f"`transformers.{auto_class}.from_pretrained(" in card.text
    options = {"add_pooling_layer": False} if auto_class == "AutoModel" and "XLMR" in estimator.__name__ else {}
    model, report = getattr(transformers, auto_class).from_pretrained(
        tmp_path / "saved", output_loading_info=True, **options
    )
    assert not report["missing_keys"]
    prefix = fitted(estimator).config_.base_prefix + "." if auto_class == "AutoModel" else ""
    expected = {name.removeprefix(prefix): tensor for name, tensor in fitted(estimator).module_.state_dict().items()}
    found = model.state_dict()
    assert expected.keys() <= found.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    assert transformers.AutoTokenizer.from_pretrained(tmp_path / "saved") is not None


def test_after_partial_fit(tiny_checkpoint, tmp_path):
    classifier = XLMRobertaClassifier(tiny_checkpoint, **FIT).partial_fit(TEXTS, [0, 1] * 3, classes=[0, 1])
    save(classifier, tmp_path / "saved")
    loaded = load(tmp_path / "saved")
    np.testing.assert_array_equal(loaded.predict_proba(TEXTS), classifier.predict_proba(TEXTS))
    assert loaded.partial_fit(TEXTS, [0, 1] * 3).n_iter_ == 2


def test_shards(fitted_classifier, tmp_path):
    save(fitted_classifier, tmp_path / "saved", max_shard_size=50_000)
    shards = [name for name in names_in(tmp_path / "saved") if name.startswith("model-")]
    assert len(shards) > 2 and "model.safetensors" not in names_in(tmp_path / "saved")
    assert set(shards) < set(json.loads((tmp_path / "saved" / "skxlmr.json").read_text())["files"])
    loaded = load(tmp_path / "saved")
    np.testing.assert_array_equal(loaded.predict_proba(TEXTS), fitted_classifier.predict_proba(TEXTS))
    save(fitted_classifier, tmp_path / "saved")
    assert "model.safetensors" in names_in(tmp_path / "saved") and not set(shards) & set(names_in(tmp_path / "saved"))
