"""Names of outputs as config.json gives them: in the order of their ids, and never guessed from a broken file."""

import json

import pytest
from transformers import XLMRobertaConfig

from skxlmr.estimators._core.output_labels import output_labels
from skxlmr.utils._errors import CheckpointError

FILE = "folder/config.json"


def test_labels_stand_in_the_order_of_their_ids():
    named = {str(i): f"tag {i}" for i in range(12)}
    assert output_labels({"id2label": dict(sorted(named.items()))}, FILE) == list(named.values())  # "10" before "2"
    assert output_labels({"id2label": dict(reversed(named.items()))}, FILE) == list(named.values())
    assert output_labels({"id2label": {"0": "nein", "1": "да"}, "num_labels": 7}, FILE) == ["nein", "да"]


@pytest.mark.parametrize(
    ("config", "n_labels"), [({}, 2), ({"num_labels": 1}, 1), ({"num_labels": 5, "id2label": None}, 5)]
)
def test_outputs_without_names(config, n_labels):
    assert output_labels(config, FILE) == [f"LABEL_{i}" for i in range(n_labels)]


def test_labels_that_the_reference_writes(tmp_path):
    written = [XLMRobertaConfig(num_labels=3), XLMRobertaConfig(id2label={1: "no", 0: "yes"}), XLMRobertaConfig()]
    for config, expected in zip(written, [["LABEL_0", "LABEL_1", "LABEL_2"], ["yes", "no"], None], strict=True):
        config.save_pretrained(tmp_path)
        read = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
        assert output_labels(read, tmp_path) == (expected or ["LABEL_0", "LABEL_1"])


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"num_labels": 0}, "num_labels must be a whole number from 1 to 100000, got 0"),
        ({"num_labels": 10**12}, "num_labels must be a whole number from 1 to 100000, got 1000000000000"),
        ({"num_labels": True}, "num_labels must be a whole number .*, got True"),
        ({"num_labels": "3"}, "num_labels must be a whole number .*, got '3'"),
        ({"id2label": {}}, "id2label must be an object of labels, got {}"),
        ({"id2label": ["a", "b"]}, r"id2label must be an object of labels, got \['a', 'b'\]"),
        ({"id2label": {"0": "a", "2": "b"}}, "id2label must have a text for each id from 0 to 1"),
        ({"id2label": {"1": "a", "2": "b"}}, "id2label must have a text for each id from 0 to 1"),
        ({"id2label": {"0": "a", "1": 7}}, "id2label must have a text for each id from 0 to 1"),
        ({"id2label": {"0": "a", "1": None}}, "id2label must have a text for each id from 0 to 1"),
        ({"id2label": {"0": "a", "1": "b", "2": "a"}}, "id2label gives two outputs the same label"),
    ],
    ids=str,
)
def test_broken_labels(config, message):
    with pytest.raises(CheckpointError, match=f"^{FILE}: {message}"):
        output_labels(config, FILE)


def test_labels_that_would_fill_the_memory():
    many = {str(i): str(i) for i in range(99)} | {"99": "x" * 200_000}  # each as wide as the longest in an array
    with pytest.raises(CheckpointError, match="id2label is too large: 100 labels of up to 200000 characters"):
        output_labels({"id2label": many}, FILE)


def test_a_long_broken_value_is_not_quoted_whole():
    with pytest.raises(CheckpointError) as error:
        output_labels({"id2label": ["label"] * 10_000}, FILE)
    assert len(str(error.value)) < 200
