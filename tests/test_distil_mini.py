"""The checkpoints that examples/distil_mini.py writes."""

import importlib
from pathlib import Path

import numpy as np
import pytest

from skxlmr import XLMRobertaVectorizer
from skxlmr.checkpoints import resolve_checkpoint
from tests.contract import TEXTS

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


@pytest.fixture
def weights(monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)
    return importlib.import_module("distil_mini_weights")


def vectors(folder):
    return XLMRobertaVectorizer(str(folder), device="cpu", dtype="float32", memory=None).fit_transform(TEXTS)


def test_further_layers_change_next_to_nothing_at_first(weights, tmp_path):
    source = Path(resolve_checkpoint("skxlmr-mini"))
    weights.deepen(source, tmp_path, 8)
    before, after = vectors(source), vectors(tmp_path / "deeper")
    cosines = (before * after).sum(1) / np.linalg.norm(before, axis=1) / np.linalg.norm(after, axis=1)
    assert cosines.min() > 0.99 and not np.array_equal(before, after)


def test_the_mean_of_a_checkpoint_and_itself(weights, tmp_path):
    source = Path(resolve_checkpoint("skxlmr-mini"))
    weights.average([source, source], [0.25, 0.75], tmp_path)
    np.testing.assert_array_equal(vectors(tmp_path / "average"), vectors(source))
