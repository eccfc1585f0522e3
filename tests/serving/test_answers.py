"""Real clients on loopback: answers are those of the model, also of concurrent requests and without torch."""

import json
import subprocess
import sys
import tomllib

import numpy as np
import pytest
from sklearn.base import BaseEstimator
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

import skxlmr
from tests.contract import SPANS, TEXTS
from tests.serving.servers import (
    LABELS,
    PAIRS,
    ROOT,
    check_concurrent_requests,
    equal_to_the_last_bit,
    serve_without_torch,
)

pytest.importorskip("fastapi", reason="the server needs the extra serve")
pytest.importorskip("uvicorn", reason="the server needs the extra serve")
KINDS = {
    "several labels": (skxlmr.XLMRobertaClassifier, TEXTS, np.eye(3, dtype=int)[[0, 1, 2] * 2], "predict_proba"),
    "several columns": (skxlmr.XLMRobertaClassifier, TEXTS, np.array([["a", "b"], ["c", "d"]] * 3), "predict_proba"),
    "pairs": (skxlmr.XLMRobertaClassifier, [list(pair) for pair in PAIRS], LABELS, "predict_proba"),
    "numbers": (skxlmr.XLMRobertaRegressor, TEXTS, np.arange(6.0), "predict"),
    "vectors": (skxlmr.XLMRobertaVectorizer, TEXTS, None, "transform"),
    "entities": (skxlmr.XLMRobertaTokenClassifier, TEXTS, np.fromiter(SPANS, object), "predict_entities"),
}


def test_health_says_what_is_served(server):
    found = server.health()
    assert {name: found[name] for name in ("status", "model", "kind", "estimator", "version", "classes")} == {
        "status": "ready",
        "model": "sentiment",
        "kind": "classifier",
        "estimator": "XLMRobertaClassifier",
        "version": skxlmr.__version__,
        "classes": ["a", "b", "c"],
    }


@pytest.mark.parametrize("kind", KINDS)
def test_answers_of_every_kind_are_those_of_the_model(script, make_any, kind):
    from fastapi.responses import JSONResponse

    estimator, X, y, method = KINDS[kind]
    model = make_any(estimator).fit(X, y)
    if kind == "several labels":
        model.set_params(threshold=0.4)  # which some reach
    _, answer = script.what_it_answers(model)
    found = json.loads(JSONResponse(answer(X)).body)
    expected = getattr(model, method)(X)
    if method == "predict_proba":
        labels = model.predict(X)
        assert found.pop("labels") == labels.tolist()
        if kind == "several columns":
            expected = np.stack(expected, 1)
    (values,) = found.values()
    if method == "predict_entities":
        assert any(expected) and values == expected
    else:
        assert equal_to_the_last_bit(values, np.asarray(expected))


def test_pipelines_are_served(script, tiny_checkpoint):
    model = make_pipeline(skxlmr.XLMRobertaVectorizer(tiny_checkpoint, dtype="float32"), LogisticRegression())
    kind, answer = script.what_it_answers(model.fit(TEXTS, LABELS))
    assert kind == "classifier"
    assert answer(TEXTS)["labels"] == model.predict(TEXTS).tolist()
    assert equal_to_the_last_bit(answer(TEXTS)["probabilities"], model.predict_proba(TEXTS))
    without_probabilities = make_pipeline(*[step for _, step in model.steps[:-1]], RidgeClassifier()).fit(TEXTS, LABELS)
    _, answer = script.what_it_answers(without_probabilities)
    assert answer(TEXTS) == {"labels": without_probabilities.predict(TEXTS).tolist()}


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (FunctionTransformer(lambda X: 1 / 0), ZeroDivisionError),
        (
            FunctionTransformer(lambda X: [list(text) for text in X]),
            "FunctionTransformer can't be served, its first pred",
        ),
        (BaseEstimator(), "BaseEstimator is no classifier, regressor, vectorizer or tagger"),
    ],
    ids=["broken", "unfit", "other"],
)
def test_a_model_that_can_not_predict_opens_no_port(script, model, message):
    options = script.parse(["--model", "folder", "--port", "0"])
    with pytest.raises((SystemExit, ZeroDivisionError), match=message if isinstance(message, str) else "zero"):
        script.serve(model, options)


@pytest.mark.parametrize("X", [TEXTS, PAIRS], ids=["texts", "pairs"])
def test_the_fit_says_whether_rows_are_pairs(script, make_any, monkeypatch, X):
    def stop(*args, **kwargs):
        raise InterruptedError

    monkeypatch.setattr(script.uvicorn, "Config", stop)
    options = script.parse(["--model", "folder"])
    with pytest.raises(InterruptedError):  # after the first prediction
        script.serve(make_any(skxlmr.XLMRobertaClassifier).fit(X, LABELS), options)
    assert options.pairs == (X is PAIRS)


def test_rows_of_pairs(script):
    options = script.parse(["--model", "folder", "--pairs", "--max-characters", "5"])
    assert script.read_texts(b'{"texts": [["a", "b"]]}', options) == [["a", "b"]]
    for rows, message in {
        '["a"]': r"texts\[0\] is a string, expected a list of two strings",
        '[["a", "b"], ["a"]]': r"texts\[1\] is a list of 1 items",
        '[["a", null]]': r"texts\[0\]\[1\] is null, expected a string",
        '[["a", "123456"]]': r"texts\[0\]\[1\] has 6 characters",
    }.items():
        with pytest.raises(script.HTTPException, match=message):
            script.read_texts(f'{{"texts": {rows}}}', options)


def test_what_a_server_without_torch_installs():
    """The list of the Dockerfile: the package's dependencies, with ONNX Runtime in the place of torch, and the server."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    expected = {each for each in project["dependencies"] if not each.startswith("torch")}
    expected |= {"onnxruntime", *project["optional-dependencies"]["serve"]}
    lines = (ROOT / "examples" / "serve-requirements.txt").read_text(encoding="utf-8").splitlines()
    assert {line for line in lines if not line.startswith("#")} == expected


def test_the_image_has_its_files_and_its_health_check_works(server):
    lines = (ROOT / "examples" / "serve.Dockerfile").read_text(encoding="utf-8").splitlines()
    copied = [name for line in lines if line.startswith("COPY") for name in line.split()[1:-1]]
    assert len(copied) == 7 and all((ROOT / name).exists() for name in copied)
    (check,) = [json.loads(line.strip().removeprefix("CMD ")) for line in lines if line.strip().startswith("CMD")]
    script = check[2].replace(":8000/", f":{server.port}/")
    assert script != check[2]
    for code, expected in [(script, 0), (script.replace("/health", "/nothing"), 1)]:
        assert subprocess.run([sys.executable, *check[1:2], code], capture_output=True).returncode == expected


def test_onnx_is_served_without_torch(start, classifier, tmp_path):
    pytest.importorskip("onnxruntime", reason="needs the extra onnx")
    skxlmr.export_onnx(classifier, tmp_path / "exported")
    with start("--model", tmp_path / "exported", target=serve_without_torch) as server:
        status, answer = server.predict(*TEXTS)
        assert status == 200 and answer["labels"] == classifier.predict(TEXTS).tolist()
        np.testing.assert_allclose(answer["probabilities"], classifier.predict_proba(TEXTS), rtol=0, atol=1e-5)
        assert server.health()["estimator"] == "XLMRobertaClassifier"


def test_concurrent_requests_are_batched_and_answered_as_offline(server, classifier):
    assert check_concurrent_requests(server, classifier, 50) <= 25
