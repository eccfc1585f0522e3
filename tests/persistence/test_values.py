"""What `fit` takes as a parameter or a label is saved and comes back, or `save` says why not and replaces nothing."""

import enum
import json
import types
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
import torch

from skxlmr import CheckpointError, XLMRobertaVectorizer, load, save
from skxlmr.persistence._values import decode, encode
from tests.persistence.conftest import TEXTS, contents


class Name(str, enum.Enum):  # noqa: UP042  # as people write it
    A = "a"


def in_file(value):
    return decode(json.loads(json.dumps(encode({"x": value}))))["x"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (pd.Series([1, 2], index=[7, 8]), [1, 2]),
        (pd.Series(["a", "b"], dtype="string[pyarrow]"), ["a", "b"]),
        (pd.Index(["a", "b"]), ["a", "b"]),
        (pd.Categorical(["a", "b"]), ["a", "b"]),
        ({"a": 1, "b": 2}.keys(), ["a", "b"]),
        ({"a": 1, "b": 2}.values(), [1, 2]),
        (range(1, 4), [1, 2, 3]),
        ((0.5, np.float32(0.25)), [0.5, 0.25]),
        (torch.tensor([0.5, 1.0]), [0.5, 1.0]),
        (types.MappingProxyType({"a": np.int64(2)}), {"a": 2}),
        (np.array(0.5), 0.5),
        (np.bool_(True), True),
        (np.str_("a"), "a"),
        (np.longdouble(0.5), 0.5),
        (Fraction(1, 4), 0.25),
        (Name.A, "a"),
        ([Name.A], ["a"]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_fit_takes(value, expected):
    found = in_file(value)
    assert found == expected and type(found) is type(expected)


@pytest.mark.parametrize("module", ["polars", "pyarrow"])
def test_columns_of_other_libraries(module):
    library = pytest.importorskip(module)
    column = library.Series(["a", "b"]) if module == "polars" else library.array(["a", "b"])
    assert in_file(column) == ["a", "b"]


def test_arrays_of_strings_of_any_width():
    array = np.array(["a", "longer"], dtype=np.dtypes.StringDType())
    assert in_file(array).tolist() == ["a", "longer"] and in_file(array).dtype == array.dtype


@pytest.mark.parametrize(
    "value", [b"a", len, object(), 1j, np.datetime64("2020-01-01"), np.array(["2020"], "M8[D]"), iter([])]
)
def test_what_no_folder_holds(value):
    with pytest.raises(TypeError, match=r"^x holds what a folder cannot: (a \w+|code) cannot be saved"):
        encode({"x": value})


def test_a_parameter_of_a_fitted_estimator(tiny_checkpoint, tmp_path):
    vectorizer = XLMRobertaVectorizer(tiny_checkpoint, layers=pd.Series([1, 2]), dtype="float32").fit(TEXTS)
    save(vectorizer, tmp_path / "saved")
    loaded = load(tmp_path / "saved")
    assert loaded.layers == [1, 2]
    np.testing.assert_array_equal(loaded.transform(TEXTS), vectorizer.transform(TEXTS))


def test_whole_numbers_of_numpy_as_a_grid_has_them(tiny_checkpoint, tmp_path):
    params = {"max_length": np.int64(20), "truncate_dim": np.int64(4), "dtype": "float32"}
    vectorizer = XLMRobertaVectorizer(tiny_checkpoint, **params).fit(TEXTS)
    save(vectorizer, tmp_path / "saved")
    loaded = load(tmp_path / "saved")
    assert (loaded.max_length, loaded.truncate_dim) == (20, 4)
    np.testing.assert_array_equal(loaded.transform(TEXTS), vectorizer.transform(TEXTS))


def test_metadata_requests(classifier, tmp_path):
    from sklearn import config_context

    with config_context(enable_metadata_routing=True):
        classifier.set_fit_request(sample_weight=True, X_val="held_out").set_score_request(sample_weight=False)
    save(classifier, tmp_path / "saved")
    loaded = load(tmp_path / "saved")
    expected = classifier.get_metadata_routing()
    assert repr(loaded.get_metadata_routing()) == repr(expected)
    assert loaded.get_metadata_routing().fit.requests["X_val"] == "held_out"
    save(loaded, tmp_path / "saved")
    assert repr(load(tmp_path / "saved").get_metadata_routing()) == repr(expected)


@pytest.mark.parametrize(
    "requests",
    [{"fit": {"color": True}}, {"spam": {"x": True}}, {"fit": {"X_val": "1 2"}}, ["fit"], {"fit": ["X_val"]}],
)
def test_metadata_requests_that_nobody_makes(saved, requests):
    about = json.loads((saved / "skxlmr.json").read_text())
    assert about["metadata_requests"] == {}
    (saved / "skxlmr.json").write_text(json.dumps(about | {"metadata_requests": requests}))
    with pytest.raises(CheckpointError, match="does not describe a XLMRobertaClassifier"):
        load(saved, verify=False)


def with_classes(classifier, classes):
    """The classifier with as many outputs as there are classes."""
    classifier.classes_, classifier.target_type_ = np.array(classes), "multiclass"
    module = classifier._build(classifier.config_).to_empty(device="cpu")
    for parameter in module.parameters():
        torch.nn.init.zeros_(parameter)
    module.load_state_dict(
        {k: v for k, v in classifier.module_.state_dict().items() if "out_proj" not in k}, strict=False
    )
    classifier.module_ = module.eval()
    return classifier


def test_labels_full_of_brackets(classifier, tmp_path):
    """They are not lists."""
    save(with_classes(classifier, ["[" * 300_000, '{,\\"' * 1000, "c"]), tmp_path / "saved")
    assert load(tmp_path / "saved").classes_.tolist() == classifier.classes_.tolist()


@pytest.mark.parametrize(
    ("classes", "said"),
    [
        (
            ["x" * 9000, *map(str, range(1000))],
            r"classes_: an array of 1001 items of dtype '<U9000', which takes 36036000 bytes",
        ),
        (
            [str(i) for i in range(600_000)],
            r"config\.json is not valid JSON for a checkpoint \(more than 1000000 values\)",
        ),
    ],
)
def test_save_refuses_what_load_would_refuse(classifier, saved, classes, said, monkeypatch):
    """And leaves what was there."""
    before = contents(saved)
    classifier.classes_ = np.array(classes)
    if len(classes) > 10_000:
        monkeypatch.setattr(
            type(classifier), "_hub_config", lambda self: {"x": self.classes_.tolist(), "y": [0] * 600_000}
        )
    else:
        monkeypatch.setattr(type(classifier), "_hub_config", lambda self: {})
    with pytest.raises(ValueError, match="cannot be saved, because load could not read it: " + said):
        save(classifier, saved)
    assert contents(saved) == before
    assert [path.name for path in saved.parent.iterdir()] == ["saved"]


def test_a_label_wider_than_the_others_in_an_array_of_objects(classifier, tmp_path):
    classes = np.array(["x" * 9000, *map(str, range(1000))], dtype=object)
    save(with_classes(classifier, classes), tmp_path / "saved")
    assert load(tmp_path / "saved").classes_.tolist() == classes.tolist()


# What a folder may set ------------------------------------------------------------------------------------------------


def change(folder, part, **values):
    about = json.loads((folder / "skxlmr.json").read_text())
    about[part] |= values
    (folder / "skxlmr.json").write_text(json.dumps(about))
    return folder


def test_a_folder_does_not_say_where_to_write(classifier, tmp_path):
    save(classifier.set_params(resume_dir=tmp_path / "states"), tmp_path / "saved")
    assert json.loads((tmp_path / "saved" / "skxlmr.json").read_text())["params"]["resume_dir"] is None
    change(tmp_path / "saved", "params", resume_dir=str(tmp_path / "elsewhere"))
    assert load(tmp_path / "saved", verify=False).resume_dir is None


def test_a_device_without_values(saved, tiny_checkpoint):
    change(saved, "params", device="meta")
    with pytest.raises(CheckpointError, match="device='meta' cannot be used here: it holds no values; load"):
        load(saved, verify=False)
    with pytest.raises(ValueError, match="device='meta' cannot be used here: it holds no values"):
        XLMRobertaVectorizer(tiny_checkpoint, device="meta").fit(TEXTS)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("device", "cuda"),
        ("module_", None),
        ("config_", {}),
        ("_parameter_constraints", {"items": []}),
        ("_weights_have_dtype", True),
        ("_head", None),
        ("__class__", "x"),
        ("_metadata_request", None),
        ("_skl_callbacks", []),
        ("_sklearn_version", "1.0"),
        ("_sklearn_output_config", ["pandas"]),
        ("loss_curve_", ["a"]),
        ("validation_scores_", [None]),
        ("final_loss_", "low"),
        ("collapsed_", 1),
        ("collapse_reason_", ["no"]),
    ],
)
def test_what_fit_does_not_learn(saved, name, value):
    change(saved, "fitted", **{name: value})
    with pytest.raises(CheckpointError, match=f"does not describe a XLMRobertaClassifier .*{name}"):
        load(saved, verify=False)


@pytest.mark.parametrize(
    "checkpoint", ["a/b\n---\n# Spam", 'a/b"><script>', "a/[b](c)", "a/b\x85c", "a/b `` | x", "a/b\u2028c"]
)
def test_the_name_of_a_checkpoint_says_nothing_else_in_the_next_card(saved, tmp_path, checkpoint):
    loaded = load(change(saved, "params", checkpoint=checkpoint, revision="<b>\n\n# x"), verify=False)
    save(loaded, tmp_path / "next")
    card = (tmp_path / "next" / "README.md").read_text()
    assert "base_model" not in card and "It started from a local checkpoint." in card
    assert not any(part in card for part in ("Spam", "script", "<b>", "\x85", "\u2028", "(c)"))
    import yaml

    yaml.safe_load(card.split("---\n")[1])


@pytest.mark.parametrize(
    "name", ["model.pkl", "model.joblib", "a.pickle", "m.skops", "m.ONNX", "m.safetensors", "m.pt", "m.zip"]
)
def test_names_of_files(classifier, tmp_path, name):
    stem = name.partition(".")[0]
    with pytest.raises(
        ValueError, match=rf"is the name of a file, and save writes a folder: save\(estimator, '{stem}'\)"
    ):
        save(classifier, tmp_path / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["v1.2", "model", "2024.06.01", "a.b"])
def test_names_of_folders(classifier, tmp_path, name):
    save(classifier, tmp_path / name)
    load(tmp_path / name)
