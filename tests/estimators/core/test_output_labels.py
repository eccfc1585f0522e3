"""Names of outputs as config.json gives them: in the order of their ids, and never guessed from a broken file."""

import json

import numpy as np
import pytest
from transformers import XLMRobertaConfig

from skxlmr.estimators._core.output_labels import output_classes, output_labels
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
        ({"id2label": {"0": "a", "2": "b"}}, "id2label must have a label for each id from 0 to 1, got 0, 2"),
        ({"id2label": {"1": "a", "2": "b"}}, "id2label must have a label for each id from 0 to 1, got 1, 2"),
        ({"id2label": {"a": 0, "b": 1}}, r"id2label must have numbers as names \(.* 'a'\)"),
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


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([7, 0, 3], np.array([7, 0, 3])),
        ([1.0, 2, 5.0], np.array([1.0, 2.0, 5.0])),
        ([True, False], np.array([True, False])),
        ([0, True, "b"], np.array(["0", "true", "b"])),
        (["a", None, ["c", 1]], np.array(["a", "null", '["c", 1]'])),
        ([0.5, 1.5], np.array(["0.5", "1.5"])),  # scikit-learn takes such numbers for a regression's
        ([float("inf"), 1.0], np.array(["Infinity", "1.0"])),
        ([2**70, 1], np.array([str(2**70), "1"])),
    ],
    ids=str,
)
def test_labels_that_are_no_texts(values, expected):
    """The reference takes any value as a label: whole numbers and bools stay such, others are spelled out."""
    config = {"id2label": {str(i): value for i, value in enumerate(values)}}
    found = output_classes(config, FILE)
    assert found.dtype == expected.dtype and found.tolist() == expected.tolist()
    assert output_labels(config, FILE) == [value if isinstance(value, str) else json.dumps(value) for value in values]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["a", "b", "a", "a"], ["a", "b", "a (2)", "a (3)"]),
        (["a", "a", "a (1)"], ["a", "a (1) (1)", "a (1)"]),
        ([1, 1, 2], ["1", "1 (1)", "2"]),
        ([False, True, False], ["false", "true", "false (2)"]),
        (["", ""], ["", " (1)"]),
    ],
    ids=str,
)
def test_labels_that_occur_twice(values, expected):
    config = {"id2label": {str(i): value for i, value in enumerate(values)}}
    with pytest.warns(UserWarning, match=f"{FILE}: id2label gives several outputs the label '.*': all but the first"):
        assert output_classes(config, FILE).tolist() == expected


def test_ids_and_label2id_are_read_as_the_reference_does():
    """An id is what int() reads, and label2id says nothing about outputs."""
    config = {"id2label": {"00": "a", " 1": "b"}, "label2id": {"a": 1, "b": 0}}
    assert output_labels(config, FILE) == list(XLMRobertaConfig(**config).id2label.values()) == ["a", "b"]
