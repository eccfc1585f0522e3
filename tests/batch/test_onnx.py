"""Folders with an ONNX graph: which engine computes, and tables and files in a process without torch."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from skxlmr import BatchPredictor, XLMRobertaClassifier, XLMRobertaVectorizer, export_onnx, load, load_onnx, save
from skxlmr.batch import _loaded
from skxlmr.inference import OnnxModule
from tests.contract import FAST, TEXTS
from tests.test_without_torch import BLOCKED

pytest.importorskip("pyarrow")
ROWS = pd.DataFrame({"text": pd.Series([TEXTS[0], None, *TEXTS[1:]], dtype="str")})


@pytest.fixture(autouse=True)
def nothing_loaded():
    _loaded._loaded.clear()
    yield
    _loaded._loaded.clear()


@pytest.fixture(scope="module")
def folders(tiny_checkpoint, tmp_path_factory):
    """A vectorizer with a graph alone, and one with weights beside it; a classifier with a graph alone."""
    parent = tmp_path_factory.mktemp("graphs")
    vectorizer = XLMRobertaVectorizer(tiny_checkpoint).fit(TEXTS)
    export_onnx(vectorizer, parent / "graph")
    save(vectorizer, parent / "both", onnx=True)
    export_onnx(XLMRobertaClassifier(tiny_checkpoint, **FAST).fit(TEXTS, ["a", "b"] * 3), parent / "classes")
    return parent


@pytest.mark.parametrize(
    ("name", "onnx", "on_graph"), [("graph", "auto", True), ("both", "auto", False), ("both", np.True_, True)]
)
def test_which_engine_computes(folders, name, onnx, on_graph):
    predictor = BatchPredictor(folders / name, text="text", missing="null", onnx=onnx, batch_size=2, device="cpu")
    made = predictor(ROWS)["features"]
    part = predictor._prepared().estimator
    assert isinstance(part.module_, OnnxModule) == on_graph
    assert (part.batch_size, part.memory, part.verbose) == (2, None, 0)
    expected = (load_onnx if on_graph else load)(folders / name).transform(TEXTS)
    assert made[1] is None
    np.testing.assert_allclose(np.stack(made.drop(1)), expected, rtol=0, atol=1e-6)


def test_what_is_for_torch_is_refused(folders):
    with pytest.raises(ValueError, match="dtype='bfloat16' is for torch"):
        BatchPredictor(folders / "graph", text="text", dtype="bfloat16")(ROWS)
    with pytest.raises(ValueError, match="load_onnx"):
        BatchPredictor(folders / "graph", text="text", onnx=False)(ROWS)


def test_tables_and_files_without_torch(folders, tmp_path):
    ROWS.to_parquet(tmp_path / "x.parquet")
    script = f"""
import pandas as pd
from skxlmr import BatchPredictor
from skxlmr.cli import main
rows = pd.read_parquet("x.parquet")
BatchPredictor({str(folders / "classes")!r}, text="text", missing="null")(rows).to_parquet("table.parquet")
files = ["--input", "x.parquet", "--text", "text", "--missing", "null", "--quiet"]
sys.exit(main(["predict", "--model", {str(folders / "classes")!r}, *files, "--output", "file.parquet"]))
"""
    command = [sys.executable, "-c", BLOCKED + script]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert (ended.returncode, ended.stderr) == (0, "")
    table, file = (pd.read_parquet(tmp_path / f"{name}.parquet") for name in ("table", "file"))
    assert table.equals(file)
    assert table["prediction"].drop(1).tolist() == load_onnx(folders / "classes").predict(TEXTS).tolist()
    assert table["prediction"].isna().tolist() == [row == 1 for row in range(7)]
