"""An estimator on ONNX Runtime gives what the one with torch gives, for every estimator and every row."""

import copy
import pickle
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

import skxlmr
from skxlmr import (
    CheckpointError,
    TruncationWarning,
    XLMRobertaCausalLM,
    XLMRobertaClassifier,
    XLMRobertaMaskedLM,
    XLMRobertaRegressor,
    XLMRobertaVectorizer,
    XLMRobertaZeroShotClassifier,
    export_onnx,
    load_onnx,
    save,
)
from skxlmr.inference import OnnxEngine, OnnxModule
from tests import hub, sentence_encoders
from tests.contract import FAST, TEXTS, each, infer, inputs
from tests.export.rows import EMPTY, LONG, ODD, assert_equal_up_to_rounding, every_answer
from tests.persistence.conftest import names_in

pytestmark = pytest.mark.filterwarnings("ignore::skxlmr.TruncationWarning")


@pytest.fixture(scope="module")
def loaded(exported):
    """An estimator on its graph."""
    return lambda estimator: load_onnx(exported(estimator), threads=1)


@each
def test_every_method_of_every_estimator(estimator, fitted, loaded):
    expected = every_answer(fitted(estimator))
    found = loaded(estimator)
    assert type(found) is estimator and isinstance(found.module_, OnnxModule)
    assert_equal_up_to_rounding(every_answer(found), expected)


@each
def test_pickles_and_copies(estimator, loaded):
    found, (X, _, _) = loaded(estimator), inputs(estimator)
    expected = infer(found, X)
    packed = pickle.dumps(found)
    assert len(pickle.dumps(found.module_)) < 1000
    for other in (pickle.loads(packed), copy.deepcopy(found), copy.copy(found)):
        assert_equal_up_to_rounding(infer(other, X), expected)
    assert not hasattr(clone(found), "module_")


@pytest.fixture(scope="module")
def vectorizer(tiny_checkpoint):
    return XLMRobertaVectorizer(tiny_checkpoint).fit(TEXTS)


def both(estimator, folder, **params):
    """The estimator with torch, exported; and the one on the graph."""
    export_onnx(estimator, folder)
    return estimator, load_onnx(folder, threads=1, **params)


@pytest.mark.parametrize(
    "params",
    [
        {"pooling": ["cls", "max", "mean"]},
        {"pooling": "pooler"},
        {"layers": [-2]},
        {"layers": [0, 1, -1], "pooling": ["lasttoken", "weightedmean"]},
        {"normalize": True, "truncate_dim": 7},
        {"prompt": "ein Haus: ", "pooling": "mean_sqrt_len_tokens"},
        {"long_text": "window", "normalize": np.True_, "truncate_dim": 9},
        {"long_text": "window", "pooling": "pooler", "stride": 8},
        {"pairs": False},
        {"max_length": 9},
    ],
    ids=str,
)
def test_features(params, tiny_checkpoint, tmp_path):
    ours = XLMRobertaVectorizer(tiny_checkpoint, **params).fit(TEXTS)
    torch, onnx = both(ours, tmp_path / "out")
    for X in (TEXTS, [*ODD, *EMPTY]):
        np.testing.assert_allclose(onnx.transform(X), torch.transform(X), rtol=0, atol=1e-5)
    assert onnx.get_params().keys() == torch.get_params().keys()


PROMPT = {"prompts": {"query": "the small bird: "}, "default_prompt_name": "query"}


@pytest.mark.parametrize("long_text", ["truncate", "window"])
@pytest.mark.parametrize("params", [{}, {"truncate_dim": 10}, {"normalize": True, "truncate_dim": 10}], ids=str)
def test_sentence_encoders(tiny_checkpoint, tmp_path, params, long_text):
    """A prompt that is not pooled, layers after the pooling, unit length: in the graph, and over windows after their mean."""
    how = sentence_encoders.one_key(["mean"], include_prompt=False)
    layers = [("Dense", sentence_encoders.dense(n_out=24)), ("Normalize", {})]
    sentence_encoders.write(tmp_path / "sentences", tiny_checkpoint, how, layers, prompts=PROMPT)
    ours = XLMRobertaVectorizer(tmp_path / "sentences", long_text=long_text, **params).fit(TEXTS)
    torch, onnx = both(ours, tmp_path / "out")
    X = [*ODD, *EMPTY]
    np.testing.assert_allclose(onnx.transform(X), torch.transform(X), rtol=0, atol=1e-5)
    onnx.set_params(prompt="another: ")
    with pytest.raises(ValueError, match="other features than the sentence_embedding"):
        onnx.transform(X)


def test_a_prompt_that_is_not_pooled(tiny_checkpoint, tmp_path):
    how = sentence_encoders.one_key(["mean"], include_prompt=False)
    sentence_encoders.write(tmp_path / "sentences", tiny_checkpoint, how, prompts=PROMPT)
    torch, onnx = both(XLMRobertaVectorizer(tmp_path / "sentences").fit(TEXTS), tmp_path / "out")
    for prompt in ("auto", "another prompt, of another length: ", None):
        found = onnx.set_params(prompt=prompt).transform(ODD)
        np.testing.assert_allclose(found, torch.set_params(prompt=prompt).transform(ODD), rtol=0, atol=1e-5)


def test_token_vectors_of_a_lower_layer(tiny_checkpoint, tmp_path):
    """Then the graph ends there: nothing of it is the last layer's."""
    torch, onnx = both(XLMRobertaVectorizer(tiny_checkpoint, layers=[-2]).fit(TEXTS), tmp_path / "out")
    for ours in (torch, onnx):
        ours.set_params(pooling="max")
    np.testing.assert_allclose(onnx.transform(ODD), torch.transform(ODD), rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match="other features than the sentence_embedding"):
        onnx.set_params(layers=-1).transform(ODD)


def test_token_vectors_of_the_embeddings(tiny_checkpoint, tmp_path):
    """Layer 0 is a layer: the graph ends before the first of the encoder."""
    torch, onnx = both(XLMRobertaVectorizer(tiny_checkpoint, layers=0).fit(TEXTS), tmp_path / "out")
    for params in ({}, {"pooling": "cls"}, {"pooling": ["max", "mean"], "normalize": True}):
        found = onnx.set_params(**params).transform(ODD)
        np.testing.assert_allclose(found, torch.set_params(**params).transform(ODD), rtol=0, atol=1e-5)
    for other in (load_onnx(tmp_path / "out", layers=-1), load_onnx(tmp_path / "out").set_params(layers=-1)):
        with pytest.raises(ValueError, match="other features than the sentence_embedding"):
            other.transform(ODD)


def test_parameters_that_are_set_later(vectorizer, tmp_path):
    """What token vectors suffice for is made of them; what the graph does not have is refused."""
    torch, onnx = both(copy.deepcopy(vectorizer), tmp_path / "out", batch_size=2)
    assert onnx.batch_size == 2
    for params in ({"pooling": "max"}, {"long_text": "window"}, {"normalize": True}, {"truncate_dim": 3}):
        found = onnx.set_params(**params).transform(ODD)
        np.testing.assert_allclose(found, torch.set_params(**params).transform(ODD), rtol=0, atol=1e-5)
    onnx.set_params(layers=[0])
    with pytest.raises(ValueError, match="other features"):
        onnx.transform(ODD)
    for other in (onnx.set_params(layers=-1, pooling="pooler"), load_onnx(tmp_path / "out", pooling="pooler")):
        with pytest.raises(ValueError, match=r"model\.onnx was exported without the pooler: export it again"):
            other.transform(ODD)


def test_frames_pairs_and_output(tiny_checkpoint, tmp_path):
    frame = pd.DataFrame({"first": ODD, "second": ODD[::-1]}, index=range(5, 5 + len(ODD)))
    y = [0, 1, 2] * 5
    torch, onnx = both(XLMRobertaClassifier(tiny_checkpoint, **FAST).fit(frame, y[: len(ODD)]), tmp_path / "pairs")
    np.testing.assert_allclose(onnx.predict_proba(frame), torch.predict_proba(frame), rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match="feature names should match"):
        onnx.predict(frame.rename(columns={"first": "other"}))
    with pytest.raises(ValueError, match="1 column"):
        onnx.predict(TEXTS)
    torch, onnx = both(XLMRobertaVectorizer(tiny_checkpoint, pairs=False).fit(frame), tmp_path / "columns")
    found = onnx.set_output(transform="pandas").transform(frame)
    pd.testing.assert_frame_equal(found, torch.set_output(transform="pandas").transform(frame), atol=1e-5)


def test_a_vectorizer_keeps_its_graph_in_a_fit(loaded, exported):
    """It learns nothing: a pipeline around it is fitted on the graph's features."""
    found = loaded(XLMRobertaVectorizer)
    expected, module = found.transform(TEXTS), found.module_
    pipeline = make_pipeline(found, LogisticRegression()).fit(TEXTS, [0, 1] * 3)
    assert found.module_ is module
    np.testing.assert_array_equal(pipeline[0].transform(TEXTS), expected)
    assert load_onnx(exported(XLMRobertaVectorizer)).fit(pd.DataFrame({"text": TEXTS})).n_features_in_ == 1
    again = pickle.loads(pickle.dumps(found)).fit(TEXTS)
    assert isinstance(again.module_, OnnxModule)
    assert not isinstance(found.set_params(checkpoint="skxlmr-mini").fit(TEXTS).module_, OnnxModule)


def test_windows_of_long_texts(tiny_checkpoint, tmp_path):
    classifier = XLMRobertaClassifier(tiny_checkpoint, long_text="window", stride=7, **FAST).fit(
        ODD, [0, 1, 2] * 4 + [0, 1]
    )
    torch, onnx = both(classifier, tmp_path / "out")
    X = [*ODD, *EMPTY]
    np.testing.assert_allclose(onnx.decision_function(X), torch.decision_function(X), rtol=0, atol=1e-5)


def test_ranking(tiny_checkpoint, tmp_path):
    pairs = [("Haus", "a house"), ("Haus", "a bird"), ("Vogel", "a bird"), ("Vogel", "a house")]
    torch, onnx = both(XLMRobertaRegressor(tiny_checkpoint, **FAST).fit(pairs, [1.0, 0, 1, 0]), tmp_path / "out")
    pd.testing.assert_frame_equal(onnx.rank("Fluss", ODD, top_k=4), torch.rank("Fluss", ODD, top_k=4), atol=1e-5)


ZERO_SHOT = [
    {"candidate_labels": ["река", "Haus", "bird", "art"]},
    {"candidate_labels": ["река", "Haus"], "multi_label": True},
    {"multi_label": True},
    {"entailment": "neutral"},
    {"hypothesis_template": "{}?", "batch_size": 2},
]


@pytest.mark.parametrize("params", ZERO_SHOT, ids=str)
def test_labels_of_a_zero_shot_classifier_that_are_set_when_it_is_loaded(params, nli_checkpoint, tmp_path):
    """They are those of a fit with these parameters."""
    given = {"candidate_labels": ["Vogel", "Fluss", "Haus"], "contradiction": "contradiction"}
    _, onnx = both(XLMRobertaZeroShotClassifier(nli_checkpoint, **given).fit(), tmp_path / "out", **params)
    torch = XLMRobertaZeroShotClassifier(nli_checkpoint, **given | params).fit()
    assert onnx.classes_.tolist() == torch.classes_.tolist()
    np.testing.assert_allclose(onnx.predict_proba(ODD), torch.predict_proba(ODD), rtol=0, atol=1e-5)
    np.testing.assert_array_equal(onnx.predict(TEXTS), torch.predict(TEXTS))


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"candidate_labels": ["Haus", "Haus"]}, "candidate_labels has 'Haus' twice"),
        ({"entailment": "yes"}, "entailment='yes' is not among the labels"),
        ({"hypothesis_template": "none"}, "hypothesis_template must have"),
        ({"candidate_labels": ["Haus " * 60, "Fluss"]}, "shorten the label or hypothesis_template"),
    ],
    ids=["twice", "entailment", "template", "long"],
)
def test_labels_of_a_zero_shot_classifier_that_do_not_fit(params, message, nli_checkpoint, tmp_path):
    """The labels come from y, and stay where no others are named."""
    zero_shot = XLMRobertaZeroShotClassifier(nli_checkpoint).fit(TEXTS, ["Vogel", "Fluss", "Haus"] * 2)
    _, onnx = both(zero_shot, tmp_path / "out", multi_label=True)
    assert onnx.classes_.tolist() == ["Fluss", "Haus", "Vogel"]
    with pytest.raises(ValueError, match=message):
        load_onnx(tmp_path / "out", **params)


@pytest.mark.parametrize("precision", ["float16", "int8"])
def test_other_precisions(precision, vectorizer, tmp_path):
    export_onnx(vectorizer, tmp_path / "out", precision=precision)
    found, expected = load_onnx(tmp_path / "out", threads=1).transform(TEXTS), vectorizer.transform(TEXTS)
    assert 1e-6 < np.abs(found - expected).max() < (0.02 if precision == "float16" else 0.2)


def test_out_goes_to_a_file(vectorizer, tmp_path):
    torch, onnx = both(vectorizer, tmp_path / "out")
    found = onnx.transform(ODD, out=tmp_path / "features.npy")
    np.testing.assert_allclose(found, torch.transform(ODD), rtol=0, atol=1e-5)


def test_graphs_beside_weights(vectorizer, tmp_path):
    """``save(..., onnx=True)``: each reader looks at its own files."""
    save(vectorizer, tmp_path / "both", onnx=True)
    (tmp_path / "both" / "model.safetensors").write_bytes(b"")
    np.testing.assert_allclose(load_onnx(tmp_path / "both").transform(TEXTS), vectorizer.transform(TEXTS), atol=1e-5)


# How much is run


@pytest.fixture
def shapes(monkeypatch):
    """Shapes of the batches that graphs run."""
    shapes, run = [], OnnxModule.run

    def counting(self, outputs, feed):
        shapes.append(feed["input_ids"].shape)
        return run(self, outputs, feed)

    monkeypatch.setattr(OnnxModule, "run", counting)
    return shapes


def test_each_distinct_row_runs_once_in_one_session(loaded, shapes, monkeypatch):
    classifier = loaded(XLMRobertaClassifier)
    sessions = []
    monkeypatch.setattr(OnnxModule, "_open", lambda self: sessions.append(self))
    del shapes[:]  # of the look at a new graph
    classifier.predict([*TEXTS, *TEXTS, LONG])
    assert sum(n for n, _ in shapes) == len(TEXTS) + 1 and shapes == [(7, 64)]
    assert not sessions


def test_what_was_computed_is_not_computed_again(loaded, shapes, with_cache):
    vectorizer = loaded(XLMRobertaVectorizer)
    del shapes[:]
    vectorizer.transform(TEXTS)
    n = len(shapes)
    vectorizer.transform(TEXTS[::-1])
    assert 0 < n == len(shapes)


def test_logits_over_the_vocabulary_are_bounded(loaded, shapes, monkeypatch):
    lm = loaded(XLMRobertaCausalLM)
    del shapes[:]
    monkeypatch.setattr("skxlmr.inference.onnx_engine.LOGITS", 70 * lm.config_.vocab_size)
    lm.score_samples([LONG, *TEXTS])
    assert all(n * width <= 70 for n, width in shapes) and len(shapes) > 1


# What needs weights, and what is for torch


def test_what_needs_weights_is_refused(loaded, tmp_path):
    classifier = loaded(XLMRobertaClassifier)
    with pytest.raises(ValueError, match=r"training further needs the weights in torch.*skxlmr\.load"):
        classifier.partial_fit(TEXTS, [0, 1] * 3)
    with pytest.raises(ValueError, match="training further needs the weights"):
        classifier.set_params(warm_start=True).fit(TEXTS, [0, 1] * 3)
    for write in (save, export_onnx):
        with pytest.raises(ValueError, match="save needs the weights in torch"):
            write(classifier, tmp_path / "again")
    with pytest.raises(ValueError, match="generate needs the weights in torch"):
        loaded(XLMRobertaCausalLM).generate(["das"])
    with pytest.raises(ValueError, match="a vector or weight of each token needs the weights"):
        loaded(XLMRobertaVectorizer).transform_tokens(TEXTS)
    again = classifier.set_params(warm_start=False).fit(TEXTS, [0, 1] * 3)  # from the checkpoint
    assert not isinstance(again.module_, OnnxModule)


def test_device_and_dtype_are_for_torch(vectorizer, exported, tmp_path):
    for params in ({"device": "cuda"}, {"dtype": "bfloat16"}):
        with pytest.raises(ValueError, match="is for torch, and ONNX Runtime runs a graph"):
            load_onnx(exported(XLMRobertaVectorizer), **params)
        with pytest.raises(ValueError, match="is for torch, and ONNX Runtime runs a graph"):
            load_onnx(exported(XLMRobertaVectorizer)).set_params(**params).transform(TEXTS)
    half = copy.deepcopy(vectorizer).set_params(dtype="bfloat16")
    _, onnx = both(half, tmp_path / "out")
    assert onnx.dtype == "auto" and onnx.transform(TEXTS).dtype == np.float32


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"threads": 0}, "threads must be a positive int"),
        ({"threads": True}, "threads must be a positive int"),
        ({"threads": 2**70}, "threads must be a positive int"),
        ({"providers": "CPUExecutionProvider"}, "providers must be a list"),
        ({"providers": 1}, "providers must be a list"),
        ({"providers": ["NoExecutionProvider"]}, "'NoExecutionProvider' is not one of this onnxruntime"),
        ({"file_name": "../model.onnx"}, "file_name must be the name of a file"),
        ({"file_name": "model.safetensors"}, "file_name must be the name of a file"),
        ({"estimator": XLMRobertaClassifier}, "the folder holds a XLMRobertaVectorizer"),
        ({"poling": "max"}, "poling"),
        ({"pooling": 3}, "pooling"),
        ({"max_length": 9999}, "max_length"),
    ],
    ids=str,
)
def test_arguments(params, message, exported):
    with pytest.raises(ValueError, match=message) as caught:
        load_onnx(exported(XLMRobertaVectorizer), **params)
    assert not isinstance(caught.value, CheckpointError)


# Folders that are not what was written


@pytest.fixture
def folder(exported, tmp_path):
    """A copy of a classifier's folder, to change."""
    return shutil.copytree(exported(XLMRobertaClassifier), tmp_path / "copy")


@pytest.mark.parametrize("name", ["onnx/model.onnx", "onnx/model.onnx_data", "config.json", "sentencepiece.bpe.model"])
def test_changed_files_are_refused(name, folder):
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=r"is not what save wrote \(its SHA-256 differs\)") as caught:
        load_onnx(folder)
    assert caught.value.file == str(folder / name)


@pytest.mark.parametrize("name", ["onnx/model.onnx", "onnx/model.onnx_data", "config.json", "sentencepiece.bpe.model"])
def test_missing_files_are_named(name, folder):
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match=name.rpartition("/")[2]):
        load_onnx(folder)


def test_added_files_are_refused(folder):
    shutil.copyfile(folder / "onnx" / "model.onnx", folder / "onnx" / "other.onnx")
    with pytest.raises(CheckpointError, match=r"other\.onnx: would be read, but save did not write it"):
        load_onnx(folder, file_name="other.onnx")
    load_onnx(folder, file_name="other.onnx", verify=False)
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(CheckpointError, match="save did not write it"):
        load_onnx(folder)


def test_the_card_may_be_edited(folder):
    (folder / "README.md").write_text("mine")
    with pytest.warns(UserWarning, match="is not the model card"):
        load_onnx(folder)


def test_a_graph_of_another_estimator_is_refused(folder, exported):
    for other, message in (
        (XLMRobertaVectorizer, "needs logits"),
        (XLMRobertaMaskedLM, "makes logits of 3 dimensions"),
    ):
        for name in ("model.onnx", "model.onnx_data"):
            shutil.copyfile(exported(other) / "onnx" / name, folder / "onnx" / name)
        with pytest.raises(CheckpointError, match=message):
            load_onnx(folder, verify=False)


def test_folders_without_a_graph(tmp_path, tiny_checkpoint):
    with pytest.raises(CheckpointError, match="no such folder"):
        load_onnx(tmp_path / "nowhere")
    with pytest.raises(
        CheckpointError, match=r"has neither onnx/model\.onnx nor model\.onnx: write one with export_onnx"
    ):
        load_onnx(tiny_checkpoint)


def test_folders_on_the_hub(exported, vectorizer, monkeypatch, tmp_path):
    """Only what the graph needs is downloaded."""
    folder = exported(XLMRobertaVectorizer)
    files = {name: (folder / name).read_bytes() for name in names_in(folder)}
    others = {
        "model.safetensors": b"weights",
        "onnx/model_int8.onnx": b"another graph",
        "onnx/model_int8.onnx_data": b"1",
    }
    with hub.running(monkeypatch, tmp_path / "cache") as running:
        running.repositories["org/name"] = {"main": {}, "v1": files | others}
        loaded = load_onnx("org/name", revision="v1")
        with pytest.raises(CheckpointError, match="has no file of a checkpoint"):
            load_onnx("org/name")
    np.testing.assert_allclose(loaded.transform(TEXTS), vectorizer.transform(TEXTS), rtol=0, atol=1e-5)
    downloaded = set(names_in(Path(loaded.module_.file).parents[1]))
    assert downloaded == set(files)


def test_rows_that_are_cut_are_said(loaded):
    with pytest.warns(TruncationWarning, match="1 of 2 texts"):
        loaded(XLMRobertaClassifier).predict([LONG, "a"])


def test_public_names():
    assert skxlmr.load_onnx is load_onnx and OnnxEngine.__module__ == "skxlmr.inference.onnx_engine"
