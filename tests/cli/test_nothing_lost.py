"""Nothing of what is read is lost or rounded, whatever the parts and files that it stands in, and whatever ends a call."""

import datetime
import json
import pathlib

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import skxlmr
from skxlmr.cli._parts import ABOUT, Parts
from tests.contract import TEXTS


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        (
            '{"x": 1}',
            '{"x": 3, "y": 4}',
            "'m' is struct<x: int64, y: int64> and was struct<x: int64> in the first part",
        ),
        ('[{"x": 1}]', '[{"y": 4}]', "'m' is list<item: struct<y: int64>> and was list<item: struct<x: int64>>"),
        ("1.5", "true", "'m' is bool and was double"),
        ("1", "1.5", "'m' is double and was int64"),
        ('{"x": [1]}', '{"x": [1.5]}', "'m' is struct<x: list<item: double>> and was struct<x: list<item: int64>>"),
        ("[]", "[1]", "'m' is list<item: int64> and was list<item: null> in the first part"),
        ('"a"', '"\\ud800"', "surrogates not allowed"),
    ],
)
def test_json_that_a_table_would_not_hold(refused, done, classifier, tmp_path, first, second, said):
    source, y = tmp_path / "x.jsonl", tmp_path / "y.parquet"
    source.write_text(f'{{"text": "a", "m": {first}}}\n{{"text": "b", "m": {second}}}\n')
    line = refused("predict", classifier, source, y, size=1)
    assert f"{source} rows 1 to 1: a column holds values of several types" in line and said in line
    source.write_text(f'{{"text": "a", "m": {first}}}\n{{"text": "b", "m": null}}\n{{"text": "c"}}\n')
    done("predict", classifier, source, y, "--overwrite", size=1)
    assert [value is None for value in pq.read_table(y)["m"].to_pylist()] == [False, True, True]


def test_floats_are_as_wide_as_in_any_file(done, classifier, tmp_path):
    files = []
    for name, kind, number in (("a", pa.float32(), 0.5), ("b", pa.float64(), 16777217.0), ("c", pa.float32(), 1.5)):
        files.append(tmp_path / f"{name}.parquet")
        pq.write_table(pa.table({"text": ["a"], "number": pa.array([number], kind)}), files[-1])
    done("predict", classifier, files, tmp_path / "y.parquet")
    found = pq.read_table(tmp_path / "y.parquet")["number"]
    assert found.type == pa.float64() and found.to_pylist() == [0.5, 16777217.0, 1.5]


@pytest.mark.parametrize("values", [("1.5", "true"), ("[0.5]", "[false]"), ('{"x": [1.5]}', '{"x": [null, true]}')])
def test_truth_values_among_floats_of_a_part(refused, classifier, tmp_path, values):
    lines = [f'{{"text": "a", "m": {value}}}\n' for value in values]
    (tmp_path / "x.jsonl").write_text("".join([*lines, *lines[::-1]]))
    for size in (2, 3):
        line = refused("predict", classifier, tmp_path / "x.jsonl", tmp_path / "y.parquet", size=size)
        assert "'m' has truth values among numbers" in line


DAY = datetime.datetime(2024, 1, 1)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (pa.array([True]), pa.array([7])),
        (pa.array([7]), pa.array(["007"])),
        (pa.array([7]), pa.array(["007"]).dictionary_encode()),
        (pa.array([7]), pa.array([DAY])),
        (pa.array([7]), pa.array([1.5])),
        (pa.array([DAY]), pa.array([DAY], pa.timestamp("us", "Europe/Berlin"))),
        (pa.array([[0.5]], pa.list_(pa.float32())), pa.array([[0.1]])),
    ],
)
def test_files_whose_types_do_not_fit(refused, done, classifier, tmp_path, first, second):
    files = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    for file, column in zip(files, (first, second), strict=True):
        pq.write_table(pa.table({"text": ["a"], "k": column}), file)
    said = refused("predict", classifier, files, tmp_path / "y.parquet")
    kind = pq.read_schema(files[0]).field("k").type
    assert said.startswith(f"{files[1]}: the column 'k' is ") and f", and in {files[0]} {kind}, which" in said
    done("predict", classifier, files, tmp_path / "y.parquet", "--columns", "text")


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (pa.array(["a"]), pa.array(["b"], pa.large_string())),
        (pa.array(["a"]), pa.array(["b"]).dictionary_encode()),
        (pa.array([7]), pa.array([8], pa.int32())),
        (pa.array([7.5]), pa.array([8])),
        (pa.array([[7.5]]), pa.array([[0.5]], pa.list_(pa.float32(), 1))),
        (pa.array([DAY]), pa.array([DAY], pa.timestamp("s"))),
        (pa.array([{"x": 1}]), pa.nulls(1)),
        (pa.nulls(1), pa.array(["a"]).dictionary_encode()),
        (pa.nulls(1), pa.array([DAY])),
    ],
)
def test_files_whose_types_fit(done, classifier, tmp_path, first, second):
    files = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    for file, column in zip(files, (first, second), strict=True):
        pq.write_table(pa.table({"text": ["a"], "k": column}), file)
    done("predict", classifier, files, tmp_path / "y.parquet")
    found = pq.read_table(tmp_path / "y.parquet")["k"]
    kind = second.type if pa.types.is_null(first.type) else first.type
    assert found.type == kind and found.to_pylist() == first.to_pylist() + second.to_pylist()


@pytest.mark.parametrize("value", ["{}", '[{"x": {}}]'])
def test_objects_without_keys_are_refused_before_the_work(refused, done, classifier, tmp_path, value, computed):
    (tmp_path / "x.jsonl").write_text(f'{{"text": "a", "m": {value}}}\n')
    said = refused("predict", classifier, tmp_path / "x.jsonl", tmp_path / "y.parquet")
    assert "Parquet can't hold the column 'm' (" in said and said.endswith("--columns") and not computed
    done("predict", classifier, tmp_path / "x.jsonl", tmp_path / "y.jsonl")


@pytest.mark.parametrize("size", [1, 3, 100])
def test_categories_that_differ_between_row_groups(done, classifier, tmp_path, size):
    groups = [
        pa.table({"text": ["a", "b"], "language": pa.array(two).dictionary_encode()})
        for two in (["de", "en"], ["fr", "it"])
    ]
    with pq.ParquetWriter(tmp_path / "x.parquet", groups[0].schema) as writer:
        for group in groups:
            writer.write_table(group)
    done("predict", classifier, tmp_path / "x.parquet", tmp_path / "y.parquet", size=size)
    assert pq.read_table(tmp_path / "y.parquet")["language"].to_pylist() == ["de", "en", "fr", "it"]


@pytest.fixture
def files(tmp_path):
    """One with a row, one without, one with three."""
    made = []
    for name, texts in (("a", TEXTS[:1]), ("b", []), ("c", TEXTS[1:4])):
        made.append(tmp_path / f"{name}.csv")
        made[-1].write_text("\n".join(["text", *texts, ""]), encoding="utf-8")
    return made


def ended(patch, n):
    """Ctrl+C once a call has made this number of parts."""
    add, left = Parts.add, iter(range(n))

    def adding(self, path):
        if next(left, None) is None:
            raise KeyboardInterrupt
        add(self, path)

    patch.setattr(Parts, "add", adding)


def test_an_empty_file_between_others(command, done, vectorizer, computed, files, tmp_path, monkeypatch):
    done("encode", vectorizer, files, tmp_path / "whole.csv", size=1)
    y = tmp_path / "y.csv"
    for n_parts, n_rows in ((2, 1), (1, 1), (1, 1)):  # the empty one is a part too
        computed.clear()
        with monkeypatch.context() as patch:
            ended(patch, n_parts)
            assert command("encode", vectorizer, files, y, size=1)[0] == 130
        assert sum(computed) <= n_rows + 1
    computed.clear()
    done("encode", vectorizer, files, y, size=1)
    assert sum(computed) == 1
    assert y.read_bytes() == (tmp_path / "whole.csv").read_bytes()


@pytest.mark.parametrize("n", [1, 2, 3])
def test_ended_while_the_parts_are_removed(command, done, vectorizer, tmp_path, monkeypatch, n):
    """Whatever the order in which the system lists them: the end of a file must not go before the next one."""
    files, y = [tmp_path / "a.csv", tmp_path / "b.csv"], tmp_path / "y.csv"
    for file, texts in zip(files, (TEXTS[:2], TEXTS[2:4]), strict=True):
        file.write_text("\n".join(["text", *texts, ""]), encoding="utf-8")
    glob, unlink, left = pathlib.Path.glob, pathlib.Path.unlink, iter(range(n))

    def listed(path, pattern):
        found = sorted(glob(path, pattern))
        return [*found[1:], *found[:1]]

    def unlinking(path, missing_ok=False):
        if path.parent.name == "y.csv.parts" and path.suffix == ".csv" and next(left, None) is None:
            raise KeyboardInterrupt
        unlink(path, missing_ok)

    with monkeypatch.context() as patch:
        patch.setattr(pathlib.Path, "glob", listed)
        patch.setattr(pathlib.Path, "unlink", unlinking)
        assert command("encode", vectorizer, files, y, size=1)[0] == 130
    assert (tmp_path / "y.csv.parts" / ABOUT).exists()
    expected = y.read_bytes()
    y.unlink()
    done("encode", vectorizer, files, y, size=1)
    assert y.read_bytes() == expected


def test_empty_texts_and_missing_ones_are_not_mixed(command, tiny_checkpoint, tmp_path, monkeypatch):
    skxlmr.save(skxlmr.XLMRobertaVectorizer(tiny_checkpoint, missing="empty").fit(TEXTS), tmp_path / "model")
    (tmp_path / "x.csv").write_text("id,text\n0,\n1,b\n2,\n")
    given = "encode", tmp_path / "model", tmp_path / "x.csv", tmp_path / "y.csv"
    with monkeypatch.context() as patch:
        ended(patch, 1)
        assert command(*given, size=1)[0] == 130
    status, said = command(*given, "--missing", "null", size=1)
    assert status == 2 and "holds parts of another call (it differs in --missing)" in said


def test_columns_that_no_row_has(refused, classifier, tmp_path):
    (tmp_path / "x.jsonl").write_text('{"text": "a", "id": 1}\n{"text": "b"}\n')
    line = refused("predict", classifier, tmp_path / "x.jsonl", tmp_path / "y.jsonl", "--columns", "idd")
    assert "x.jsonl has no column 'idd'; it has 'text', 'id' in the first part" in line


def test_numbers_that_json_lacks(refused, done, classifier, tmp_path):
    nan, inf, source, y = float("nan"), float("inf"), tmp_path / "x.parquet", tmp_path / "y.jsonl"
    pairs = pa.array([[("k", nan)], None], pa.map_(pa.string(), pa.float64()))
    columns = {"text": ["a", "b"], "x": [nan, 1.5], "m": [{"n": [0.5, nan]}, None], "pairs": pairs}
    pq.write_table(pa.table(columns), source)
    done("predict", classifier, source, y, size=1)
    made = [json.loads(line, parse_constant=pytest.fail) for line in y.read_text().splitlines()]
    assert [(row["x"], row["m"]) for row in made] == [(None, {"n": [0.5, None]}), (1.5, None)]
    assert [row["pairs"] for row in made] == [[["k", None]], None]
    pq.write_table(pa.table({"text": ["a", "b"], "x": [0.5, -inf]}), source)
    said = refused("predict", classifier, source, y, "--overwrite")
    assert said.startswith(f"{source} row 1 (counted from 0): column 'x' has an infinite number, which JSON can't hold")
    done("predict", classifier, source, y, "--overwrite", "--columns", "text")


def test_bytes_are_for_parquet(refused, done, classifier, tmp_path):
    pq.write_table(pa.table({"text": ["a"], "raw": [b"\xff\x00"]}), tmp_path / "x.parquet")
    for name, kind in (("y.jsonl", "JSON Lines"), ("y.csv", "CSV")):
        said = f"{kind} can't hold the column 'raw' (binary): write Parquet, or choose other columns"
        assert said in refused("predict", classifier, tmp_path / "x.parquet", tmp_path / name)
    done("predict", classifier, tmp_path / "x.parquet", tmp_path / "y.parquet")
    assert pq.read_table(tmp_path / "y.parquet")["raw"].to_pylist() == [b"\xff\x00"]
