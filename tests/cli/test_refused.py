"""Each wrong call ends with status 2 and one line that says what is wrong; before a model is read where that is possible."""

import gzip
import os
import runpy

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import skxlmr
from skxlmr.batch import _loaded
from skxlmr.cli import main


def test_files_and_columns(refused, classifier, parquet, tmp_path, monkeypatch):
    monkeypatch.setattr(_loaded, "_load", None)  # nothing is loaded
    y = tmp_path / "y.parquet"
    assert (
        refused("predict", classifier, tmp_path / "none.parquet", y)
        == f"--input: there is no file {tmp_path}/none.parquet"
    )
    os.mkfifo(tmp_path / "pipe.csv")
    assert (
        refused("predict", classifier, tmp_path / "pipe.csv", y) == f"--input: {tmp_path}/pipe.csv is no regular file"
    )
    assert "the folder" in refused("predict", classifier, classifier, y)
    assert refused("predict", classifier, parquet, tmp_path / "y.txt").startswith(
        f"{tmp_path}/y.txt: the name must end in .parq"
    )
    assert refused("predict", classifier, parquet, tmp_path / "y.parquet.gz").startswith(
        f"{tmp_path}/y.parquet.gz: the name must"
    )
    assert (
        refused("predict", classifier, parquet, parquet) == f"--output: {parquet} is the input: write to another file"
    )
    (tmp_path / "link.parquet").symlink_to(parquet)
    assert "is the input" in refused("predict", classifier, parquet, tmp_path / "link.parquet")
    assert "lies in the folder of --input" in refused("predict", classifier, tmp_path, y)
    assert (
        refused("predict", classifier, parquet, tmp_path / "no" / "y.csv")
        == f"--output: there is no folder {tmp_path}/no"
    )
    said = f"{parquet} has no column 'txt'; it has 'id', 'text', 'even'"
    assert refused("predict", classifier, parquet, y, text="txt") == said
    assert refused("predict", classifier, parquet, y, "--columns", "txt") == said
    (tmp_path / "x.csv").write_text("text\na\n")
    assert "must have one format" in refused("predict", classifier, [parquet, tmp_path / "x.csv"], y)
    y.write_text("old")
    assert (
        refused("predict", classifier, parquet, y)
        == f"{y} exists already: pass --overwrite to replace it, or another --output"
    )
    assert y.read_text() == "old"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("x.parquet", b"PAR1", "can't be read: "),
        ("x.csv", b"", "can't be read: Empty CSV file"),
        ("x.csv", b"text,b\na,b\nc\n", "can't be read: CSV parse error: Row #3: Expected 2 columns, got 1"),
        ("x.csv", b"text\n\xff\n", "can't be read: "),
        ("x.csv", b"text,text\na,b\n", "two columns have the name 'text'"),
        ("x.csv", "Größe,text\n1,a\n".encode("latin-1"), "can't be read: "),
        ("x.csv.gz", b"text\na\n", "can't be read: Not a gzipped file"),
        ("x.jsonl.gz", gzip.compress(b'{"text": "a"}\n' * 99, mtime=0)[:10] + b"\xff" * 40, "can't be read: Error -3"),
        ("x.jsonl", b'{"text": "a"}\n{"text": \n', "line 2: is not JSON (Expecting value"),
        ("x.jsonl", b'{"text": "a"}\n\n["a"]\n', "line 3: expected a JSON object, got a list"),
        ("x.jsonl", b'{"text": "a", "m": ' + b"[" * 99_999, "line 1: is not JSON (maximum recursion depth"),
        ("x.jsonl", b'{"body": "a"}\n', "has no column 'text'; it has 'body'"),
        (
            "x.jsonl",
            b'{"text": "a"}\n{"text": 3}\n',
            "row 1 (counted from 0): column 'text': expected a text, got 3 of type int",
        ),
        (
            "x.jsonl",
            b'{"text": "a", "prediction": 1}\n',
            "the input has a column 'prediction' already: choose another name with",
        ),
    ],
)
def test_content(refused, classifier, tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    line = refused("predict", classifier, tmp_path / name, tmp_path / "y.jsonl")
    assert said in line and (name in line or "the input" in line)
    assert [file.name for file in tmp_path.iterdir()] == [name]


def test_json_lines_that_do_not_fit_into_a_table(refused, done, classifier, tmp_path):
    source, y = tmp_path / "x.jsonl", tmp_path / "y.parquet"
    lines = [f'{{"text": "the bird", "k": {k if k < 9 else chr(34) + "x" + chr(34)}}}\n' for k in range(10)]
    source.write_text("".join(lines))
    assert f"{source} rows 8 to 9: a column holds values of several types" in refused("predict", classifier, source, y)
    source.write_text("".join([*lines[:8], '{"text": "a", "new": 1}\n']))
    assert f"{source} row 8: has 'new', which no row of the first part has" in refused(
        "predict", classifier, source, tmp_path / "z.parquet"
    )
    done("predict", classifier, source, y, "--columns", "text", "--overwrite")
    assert pq.read_table(y).num_rows == 9


def test_models(refused, vectorizer, classifier, parquet, tmp_path, tiny_checkpoint, monkeypatch):
    y = tmp_path / "y.parquet"
    assert "XLMRobertaVectorizer does not predict: use encode" in refused("predict", vectorizer, parquet, y)
    assert "XLMRobertaClassifier has no transform" in refused("encode", classifier, parquet, y)
    assert "was not written by skxlmr.save" in refused("predict", tiny_checkpoint, parquet, y)
    assert "nowhere" in refused("predict", tmp_path / "nowhere", parquet, y)
    assert "float31" in refused("predict", classifier, parquet, y, "--dtype", "float31")
    with monkeypatch.context() as patch:
        patch.setattr("skxlmr.utils._devices.device.multiplies_int8", lambda: False)
        said = refused("predict", classifier, parquet, y, "--dtype", "int8")
    assert "dtype='int8' needs a CPU with" in said and "--dtype auto" in said and "rows 0" not in said
    assert "text (--text) is needed" in refused("predict", classifier, parquet, y, text=None)


def test_a_column_that_csv_cannot_hold(refused, done, classifier, rows, tmp_path):
    pq.write_table(rows.append_column("tags", pa.array([["a"]] * len(rows))), tmp_path / "x.parquet")
    said = refused("predict", classifier, tmp_path / "x.parquet", tmp_path / "y.csv")
    assert "CSV can't hold the column 'tags' (list<" in said
    done("predict", classifier, tmp_path / "x.parquet", tmp_path / "y.csv", "--columns", "id")
    done("predict", classifier, tmp_path / "x.parquet", tmp_path / "y.jsonl")


@pytest.mark.parametrize(
    "given", [[], ["encode"], ["predict", "--missing", "drop"], ["encode", "--rows-per-part", "0"]]
)
def test_usage(given, capsys):
    with pytest.raises(SystemExit) as ended:
        main(given)
    assert ended.value.code == 2
    assert "usage: python -m skxlmr" in capsys.readouterr().err


@pytest.mark.parametrize("given", [["--help"], ["encode", "--help"], ["predict", "--help"]])
def test_help(given, capsys):
    with pytest.raises(SystemExit) as ended:
        main(given)
    said = capsys.readouterr().out
    assert ended.value.code == 0 and max(map(len, said.splitlines())) <= 128


def test_as_a_module(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["skxlmr", "--version"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("skxlmr", run_name="__main__")
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"skxlmr {skxlmr.__version__}\n"
