"""Estimators of scikit-learn that hold estimators of the library are saved without pickle, and predict the same."""

import json
import sys
import zipfile

import numpy as np
import pandas as pd
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestClassifier, StackingClassifier, VotingClassifier
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import LinearSVC

from skxlmr import CheckpointError, XLMRobertaClassifier, XLMRobertaVectorizer, XLMRobertaZeroShotClassifier, load, save
from skxlmr.persistence import _load
from skxlmr.persistence._parts import with_parts
from tests import lora
from tests.persistence.conftest import FIT, TEXTS, contents, names_in

io = pytest.importorskip("skops.io", reason="needs the extra skops")
X = pd.DataFrame({"text": TEXTS * 2, "length": np.arange(12.0)})
Y = ["a", "b"] * 6


@pytest.fixture
def vectorizer(tiny_checkpoint):
    return XLMRobertaVectorizer(str(tiny_checkpoint), dtype="float32")


def columns(vectorizer):
    return ColumnTransformer([("texts", vectorizer, "text"), ("numbers", StandardScaler(), ["length"])])


def search(vectorizer):
    return GridSearchCV(make_pipeline(vectorizer, LogisticRegression()), {"logisticregression__C": [0.1, 1]}, cv=2)


MAKE = {
    "pipeline": lambda v: (make_pipeline(v, StandardScaler(), LogisticRegression()), TEXTS * 2),
    "columns": lambda v: (make_pipeline(columns(v), LogisticRegression()), X),
    "columns as a frame": lambda v: (columns(v).set_output(transform="pandas"), X),
    "union": lambda v: (make_pipeline(make_union(v, TfidfVectorizer()), LogisticRegression()), TEXTS * 2),
    "search": lambda v: (search(v), TEXTS * 2),
    "search in a pipeline": lambda v: (make_pipeline(columns(v), GridSearchCV(LinearSVC(), {"C": [1]}, cv=2)), X),
    "search with scorers": lambda v: (
        search(v).set_params(scoring=["accuracy", "f1_macro"], refit="accuracy", cv=StratifiedKFold(2)),
        TEXTS * 2,
    ),
    "stacking": lambda v: (StackingClassifier([("a", make_pipeline(v, LogisticRegression()))], cv=2), TEXTS * 2),
    "calibration": lambda v: (CalibratedClassifierCV(make_pipeline(v, LinearSVC()), cv=2), TEXTS * 2),
    "nested": lambda v: (make_pipeline(make_pipeline(make_pipeline(v)), LogisticRegression()), TEXTS * 2),
}


FAST = ("pipeline", "columns", "search", "nested")


@pytest.mark.parametrize(
    "kind", [kind if kind in FAST else pytest.param(kind, marks=pytest.mark.slow) for kind in MAKE]
)
def test_round_trip(vectorizer, tmp_path, kind):
    made, rows = MAKE[kind](vectorizer)
    made.fit(rows, Y)
    save(made, tmp_path / "saved")
    assert not any(name.endswith((".pkl", ".pickle", ".joblib")) for name in names_in(tmp_path))
    loaded = load(tmp_path / "saved")
    assert type(loaded) is type(made)
    for method in ("predict_proba", "decision_function", "predict", "transform"):
        if hasattr(made, method):
            found, expected = getattr(loaded, method)(rows), getattr(made, method)(rows)
            assert type(found) is type(expected)
            np.testing.assert_array_equal(found, expected)
    assert repr(loaded) == repr(made)
    save(loaded, tmp_path / "saved")  # once more, and over it
    assert repr(load(tmp_path / "saved")) == repr(made)


def test_a_fine_tuned_classifier_in_a_search(tiny_checkpoint, tmp_path):
    made = GridSearchCV(XLMRobertaClassifier(str(tiny_checkpoint), **FIT), {"weight_decay": [0.1]}, cv=2).fit(
        TEXTS, [0, 1] * 3
    )
    save(made, tmp_path / "saved")
    loaded = load(tmp_path / "saved")
    np.testing.assert_array_equal(loaded.predict_proba(TEXTS), made.predict_proba(TEXTS))
    assert loaded.best_params_ == made.best_params_ and loaded.best_score_ == made.best_score_
    assert not hasattr(loaded.estimator, "module_") and loaded.estimator.get_params() == made.estimator.get_params()
    assert loaded.fit(TEXTS, [0, 1] * 3).best_estimator_.n_iter_ == 1


@pytest.fixture
def pipeline(vectorizer):
    return make_pipeline(vectorizer, LogisticRegression()).fit(TEXTS, [0, 1] * 3)


@pytest.fixture
def folder(pipeline, tmp_path):
    save(pipeline, tmp_path / "saved")
    return tmp_path / "saved"


def test_the_same_estimator_in_two_places_is_written_once(vectorizer, tmp_path):
    vectorizer.fit(TEXTS)
    union = make_union(vectorizer, vectorizer).fit(TEXTS)
    union.transformer_list = [(name, vectorizer) for name, _ in union.transformer_list]
    save(union, tmp_path / "saved")
    assert [path.name for path in (tmp_path / "saved" / "estimators").iterdir()] == ["0"]
    (_, a), (_, b) = load(tmp_path / "saved").transformer_list
    assert a is b


def test_each_estimator_has_a_folder_that_others_open(folder, pipeline):
    assert {"README.md", "pipeline.skops", "skxlmr.json", "estimators/0/model.safetensors"} <= set(names_in(folder))
    part = load(folder / "estimators" / "0")
    np.testing.assert_array_equal(part.transform(TEXTS), pipeline[0].transform(TEXTS))
    assert load(folder, device="cpu")[0].device == "cpu"


@pytest.mark.parametrize(
    "name", ["pipeline.skops", "skxlmr.json", "estimators/0/skxlmr.json", "estimators/0/model.safetensors"]
)
def test_all_files_have_checksums(folder, name):
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        load(folder)
    assert caught.value.file == str(folder / name)
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match="is missing"):
        load(folder)


def test_an_added_file_is_refused_in_each_folder(folder):
    (folder / "estimators" / "0" / "special_tokens_map.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"special_tokens_map\.json: would be read, but save did not write it"):
        load(folder)


def test_an_edited_card_is_a_warning(folder):
    (folder / "README.md").write_text("mine")
    with pytest.warns(UserWarning, match="is not the model card that save wrote"):
        load(folder)


def test_the_folder_of_a_part_that_is_replaced_meanwhile(folder, classifier, tiny_checkpoint, monkeypatch):
    other = XLMRobertaVectorizer(str(tiny_checkpoint), pooling="max").fit(TEXTS)
    read = _load.read_composite

    def late(folder_, parts, read_part):
        save(other, folder_ / "estimators" / "0")
        return read(folder_, parts, read_part)

    monkeypatch.setattr(_load, "read_composite", late)
    with pytest.raises(CheckpointError, match=r"skxlmr.json: is not what save wrote"):
        load(folder)


def test_pipelines_and_estimators_replace_each_other(folder, pipeline, classifier):
    for each in (classifier, pipeline, classifier):
        save(each, folder)
        assert type(load(folder)) is type(each)
    assert not (folder / "estimators").exists()
    save(pipeline, folder)
    (folder / "estimators" / "0" / "notes.txt").write_text("mine")
    before = contents(folder)
    with pytest.raises(CheckpointError, match=r"also holds what replacing it would delete \(notes\.txt\)"):
        save(classifier, folder)
    (folder / "estimators" / "0" / "notes.txt").unlink()
    (folder / "estimators" / "0" / "README.md").write_text("mine")
    with pytest.raises(CheckpointError, match=r"README\.md: was not written by save, or edited since"):
        save(classifier, folder)
    assert contents(folder).keys() <= before.keys()


class OfTheUser(XLMRobertaVectorizer):
    """Which load would not find."""


def twice(values):
    return values * 2


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        (
            lambda v: [v, FunctionTransformer(twice)],
            r"its step 'functiontransformer', a FunctionTransformer, holds what",
        ),
        (
            lambda v: [v, RandomForestClassifier(2)],
            r"a DecisionTreeClassifier, holds what .* \(sklearn\.tree",
        ),
        (
            lambda v: [OfTheUser(v.checkpoint)],
            "the step 'oftheuser' of the Pipeline cannot be saved: .* got a OfTheUser",
        ),
    ],
)
def test_what_cannot_be_saved_names_the_step(vectorizer, folder, steps, said):
    before = contents(folder)
    made = make_pipeline(*steps(vectorizer)).fit(TEXTS, [0, 1] * 3)
    with pytest.raises(TypeError, match=said):
        save(made, folder)
    assert contents(folder) == before


def test_only_what_is_fitted_is_saved(vectorizer, tmp_path):
    with pytest.raises(NotFittedError):
        save(make_pipeline(vectorizer, LogisticRegression()), tmp_path / "saved")
    assert not list(tmp_path.iterdir())


def test_without_skops(folder, pipeline, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "skops", None)
    monkeypatch.setitem(sys.modules, "skops.io", None)
    for act in (lambda: save(pipeline, tmp_path / "other"), lambda: load(folder)):
        with pytest.raises(ImportError, match=r'needs skops, which is not installed: pip install "skxlmr\[skops\]"'):
            act()
    assert not (tmp_path / "other").exists()


def test_types_that_are_not_trusted(folder):
    content = io.dumps(FunctionTransformer(twice))
    (folder / "pipeline.skops").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"pipeline\.skops: is not what save wrote"):
        load(folder)
    with pytest.raises(CheckpointError, match=r"holds what load does not trust, and save does not write \(.*twice\)"):
        load(folder, verify=False)


@pytest.mark.parametrize("content", [b"", b"PK", b"{}"])
def test_broken_files(folder, content):
    (folder / "pipeline.skops").write_bytes(content)
    with pytest.raises(CheckpointError, match="is not a whole file of skops"):
        load(folder, verify=False)


def test_compressed_files(folder, pipeline):
    with zipfile.ZipFile(folder / "pipeline.skops", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("schema.json", "{}" + " " * 10**6)
    with pytest.raises(CheckpointError, match="is compressed, which save does not do"):
        load(folder, verify=False)


@pytest.mark.parametrize("part", [None, {}, {"folder": "../0"}, {"folder": 3}, {"estimator": "Popen", "params": {}}])
def test_parts_that_cannot_be(folder, part):
    about = json.loads((folder / "skxlmr.json").read_text())
    (folder / "skxlmr.json").write_text(json.dumps(about | {"parts": {"x": part}}))
    with pytest.raises(CheckpointError, match="does not describe its estimators"):
        load(folder, verify=False)


def test_a_folder_does_not_say_where_a_pipeline_writes(vectorizer, tmp_path):
    made = make_pipeline(vectorizer, LogisticRegression(), memory=str(tmp_path / "cache")).fit(TEXTS, [0, 1] * 3)
    save(made, tmp_path / "saved")
    assert made.memory is not None and load(tmp_path / "saved").memory is None
    with_memory = make_pipeline("passthrough", memory="elsewhere")
    assert with_parts(with_memory, {}).memory is None


def test_a_card_that_says_how_to_load_it(folder):
    text = (folder / "README.md").read_text()
    assert "skops" in text and "`XLMRobertaVectorizer`" in text and str(folder.parent) not in text


def test_an_unfitted_step_on_top_of_another_estimator(nli_checkpoint, tmp_path):
    step = XLMRobertaZeroShotClassifier(
        XLMRobertaClassifier.from_checkpoint(nli_checkpoint), candidate_labels=["a", "b"]
    )
    made = VotingClassifier([("zero", step)])
    made.estimators_ = []
    with pytest.raises(TypeError, match=r"step 'zero' .* its checkpoint is an estimator: save that one, and pass"):
        save(made, tmp_path / "saved")


def test_estimators_with_lora_become_adapters(tiny_checkpoint, vectorizer, tmp_path):
    classifier = XLMRobertaClassifier(str(tiny_checkpoint), **lora.FIT, **lora.LORA)
    both = VotingClassifier([("a", classifier), ("b", make_pipeline(vectorizer, LogisticRegression()))], voting="soft")
    both.fit(TEXTS * 2, Y)
    lora.save(both, tmp_path / "both")
    names = names_in(tmp_path / "both")
    assert sum(name.endswith("/adapter_model.safetensors") for name in names) == 1
    assert sum(name.endswith("/model.safetensors") for name in names) == 1
    np.testing.assert_array_equal(load(tmp_path / "both").predict_proba(TEXTS), both.predict_proba(TEXTS))
    lora.save(both, tmp_path / "both")
    with pytest.raises(ValueError, match="no estimator in this Pipeline has an adapter"):
        save(both.estimators_[1], tmp_path / "one", adapter=True)
