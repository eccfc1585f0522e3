"""Rows of all formats in and out: equal to those of ``load``, with columns as they were."""

import csv
import gzip
import json
import os
import sys

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest

from skxlmr import TruncationWarning, XLMRobertaRegressor, XLMRobertaTokenClassifier, load, save
from skxlmr.cli import main
from tests.cli.conftest import N_ROWS, SIZE
from tests.contract import FAST, TEXTS

GAPS = (11, 13, 15, 49)


@pytest.mark.parametrize("size", [SIZE, 11, 1000])
def test_parquet(done, classifier, parquet, rows, texts, tmp_path, size):
    done("predict", classifier, parquet, tmp_path / "y.parquet", size=size)
    made = pq.read_table(tmp_path / "y.parquet")
    assert made.column_names == ["id", "text", "even", "prediction", "prediction_probability"]
    assert made.select(rows.column_names).equals(rows)
    estimator = load(classifier)
    assert made["prediction"].to_pylist() == estimator.predict(texts).tolist()
    np.testing.assert_array_equal(made["prediction_probability"].to_numpy(), estimator.predict_proba(texts).max(1))


def test_features(done, vectorizer, parquet, texts, tmp_path):
    done("encode", vectorizer, parquet, tmp_path / "y.parquet", "--columns", "id", "--as", "v")
    made = pq.read_table(tmp_path / "y.parquet")
    expected = load(vectorizer).transform(texts)
    assert made.schema.field("v").type == pa.list_(pa.float32(), expected.shape[1]) and made.num_columns == 2
    np.testing.assert_array_equal(np.stack(made["v"].to_pylist()).astype(np.float32), expected)


def test_probabilities_and_no_columns_kept(done, classifier, parquet, texts, tmp_path):
    done("predict", classifier, parquet, tmp_path / "y.parquet", "--probabilities", "--columns")
    made = pq.read_table(tmp_path / "y.parquet").to_pandas()
    assert list(made) == ["probability_a", "probability_b"]
    np.testing.assert_array_equal(made.to_numpy(), load(classifier).predict_proba(texts))


@pytest.mark.parametrize("ending", [".csv", ".csv.gz"])
def test_csv_is_written_as_it_was(done, classifier, tmp_path, texts, ending):
    """No value changes its form: numbers with zeros in front, empty texts, empty fields, quotes and line ends."""
    opened = gzip.open if ending.endswith(".gz") else open
    odd = ['say "x", then', "two\nlines", "007", "1.50", "", "a,b"] * 9
    with opened(tmp_path / f"x{ending}", "wt", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL)
        writer.writerow(["text", "odd"])
        writer.writerows(zip(texts, odd, strict=False))
        file.write('"the bird",\n')  # nothing is not an empty text
    done("predict", classifier, tmp_path / f"x{ending}", tmp_path / f"y{ending}")
    made = pd.read_csv(tmp_path / f"y{ending}", dtype=str, keep_default_na=False)
    assert list(made) == ["text", "odd", "prediction", "prediction_probability"]
    assert made["text"].tolist() == [*texts, "the bird"] and made["odd"].tolist() == [*odd[:N_ROWS], ""]
    assert made["prediction"].tolist() == load(classifier).predict([*texts, "the bird"]).tolist()
    probability = np.array([np.float32(value) for value in made["prediction_probability"]])
    np.testing.assert_array_equal(probability, load(classifier).predict_proba([*texts, "the bird"]).max(1))
    with opened(tmp_path / f"y{ending}", "rt", encoding="utf-8", newline="") as file:
        content = file.read()
    assert content.count(',"",') == 8 and '\n"the bird",,' in content  # an empty text, and nothing


def test_features_in_csv_have_a_column_each(done, vectorizer, parquet, texts, tmp_path):
    done("encode", vectorizer, parquet, tmp_path / "y.csv", "--columns", "id")
    made = pd.read_csv(tmp_path / "y.csv", dtype={f"features_{k}": np.float32 for k in range(32)})
    assert list(made) == ["id", *(f"features_{k}" for k in range(32))]
    np.testing.assert_array_equal(made.iloc[:, 1:].to_numpy(), load(vectorizer).transform(texts))


@pytest.mark.parametrize("ending", [".jsonl", ".ndjson.gz"])
def test_json_lines_keep_what_each_row_has(done, vectorizer, tmp_path, texts, ending):
    opened = gzip.open if ending.endswith(".gz") else open
    rows = [
        {"text": text, "n": k if k % 3 else 1.5} | ({"more": {"a": [k]}} if k % 5 == 4 else {})
        for k, text in enumerate(texts)
    ]
    with opened(tmp_path / f"x{ending}", "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" + "\n" * (k == 7) for k, row in enumerate(rows))
    done("encode", vectorizer, tmp_path / f"x{ending}", tmp_path / f"y{ending}")
    with opened(tmp_path / f"y{ending}", "rt", encoding="utf-8") as file:
        made = list(map(json.loads, file))
    features = np.array([row.pop("features") for row in made], np.float32)
    assert made == rows
    np.testing.assert_array_equal(features, load(vectorizer).transform(texts))
    done("encode", vectorizer, tmp_path / f"x{ending}", tmp_path / "few.jsonl", "--columns", "more")
    few = [json.loads(line).keys() for line in (tmp_path / "few.jsonl").read_text().splitlines()]
    assert few[:5] == [{"features"}] * 4 + [{"more", "features"}]


def test_from_one_format_to_another(done, refused, classifier, parquet, rows, tmp_path):
    names = [tmp_path / f"y.{ending}" for ending in ("parquet", "jsonl", "csv")]
    for name in names:
        done("predict", classifier, parquet, name)
    parquet_rows, json_rows = (
        pq.read_table(names[0]).to_pylist(),
        [json.loads(line) for line in names[1].read_text().splitlines()],
    )
    assert parquet_rows == json_rows
    csv_rows = pd.read_csv(names[2], dtype={"prediction_probability": np.float32}).to_dict("records")
    assert csv_rows == [
        row | {"prediction_probability": np.float32(row["prediction_probability"])} for row in parquet_rows
    ]
    done("predict", classifier, names[1], tmp_path / "z.parquet", "--as", "again")
    assert pq.read_table(tmp_path / "z.parquet").select(["id", "text", "even"]).to_pylist() == rows.to_pylist()
    done("predict", classifier, names[2], tmp_path / "w.parquet", "--as", "again")
    assert pq.read_table(tmp_path / "w.parquet")["id"].to_pylist() == list(map(str, range(N_ROWS)))  # texts stay texts


def test_several_files_and_a_folder(done, refused, classifier, rows, texts, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    for name, part in (("b", rows[:20]), ("c", rows[:0]), ("d", rows[20:])):
        pq.write_table(part, folder / f"{name}.parquet")
    (folder / "_SUCCESS").touch()
    done("predict", classifier, folder, tmp_path / "y.parquet")
    done("predict", classifier, [folder / "d.parquet", folder / "b.parquet"], tmp_path / "z.parquet")
    expected = load(classifier).predict(texts).tolist()
    assert pq.read_table(tmp_path / "y.parquet")["prediction"].to_pylist() == expected
    assert pq.read_table(tmp_path / "z.parquet")["prediction"].to_pylist() == expected[20:] + expected[:20]
    pq.write_table(rows.drop_columns("even"), folder / "e.parquet")
    assert "e.parquet has the columns id, text, and" in refused("predict", classifier, folder, tmp_path / "w.parquet")


def test_pairs_and_the_column_of_the_fit(done, tiny_checkpoint, tmp_path, rows):
    pairs = pd.DataFrame({"q": TEXTS, "d": TEXTS[::-1]})
    regressor = XLMRobertaRegressor(tiny_checkpoint, **FAST).fit(pairs, [0.0, 1.0] * 3)
    save(regressor, tmp_path / "model")
    pairs.assign(k=1).to_parquet(tmp_path / "x.parquet")
    done("predict", tmp_path / "model", tmp_path / "x.parquet", tmp_path / "y.parquet", text=None)
    done("predict", tmp_path / "model", tmp_path / "x.parquet", tmp_path / "z.parquet", "--text", "q", text="d")
    for name in ("y", "z"):
        made = pd.read_parquet(tmp_path / f"{name}.parquet")
        np.testing.assert_array_equal(made["prediction"], regressor.predict(pairs))


def test_entities(done, refused, tiny_checkpoint, fitted, parquet, texts, tmp_path):
    save(fitted(XLMRobertaTokenClassifier), tmp_path / "model")
    done("predict", tmp_path / "model", parquet, tmp_path / "y.parquet")
    entities = load(tmp_path / "model").predict_entities(texts)
    assert any(entities) and pq.read_table(tmp_path / "y.parquet")["entities"].to_pylist() == entities
    said = refused("predict", tmp_path / "model", parquet, tmp_path / "y.csv")
    assert "CSV can't hold the column 'entities'" in said and not (tmp_path / "y.csv").exists()
    assert said.endswith(": write Parquet or JSON Lines")  # --columns is for those of the input


@pytest.mark.parametrize("ending", ["parquet", "csv", "jsonl"])
def test_rows_without_text(done, refused, vectorizer, texts, tmp_path, computed, ending):
    given = [None if k in GAPS else text for k, text in enumerate(texts)]
    source = tmp_path / f"x.{ending}"
    frame = pd.DataFrame({"text": given, "k": 1})
    if ending == "parquet":
        frame.to_parquet(source)
    elif ending == "csv":
        frame.to_csv(source, index=False)
    else:
        frame.to_json(source, orient="records", lines=True)
    said = refused("encode", vectorizer, source, tmp_path / "y.parquet")
    assert said.startswith(
        f"{source} row 11 (counted from 0): column 'text' has no text, but None (a missing value): fill it"
    )
    assert said.endswith("pass --missing null for null in its result")
    computed.clear()
    done("encode", vectorizer, source, tmp_path / "y.parquet", "--missing", "null")  # goes on after the first part
    assert sum(computed) == N_ROWS - SIZE - len(GAPS)
    features = pq.read_table(tmp_path / "y.parquet")["features"].to_pylist()
    assert [k for k, value in enumerate(features) if value is None] == list(GAPS)
    there = [k for k in range(N_ROWS) if k not in GAPS]
    found = np.array([features[k] for k in there], np.float32)
    np.testing.assert_array_equal(found, load(vectorizer).transform([texts[k] for k in there]))
    done("encode", vectorizer, source, tmp_path / "y.csv", "--missing", "null")
    assert pd.read_csv(tmp_path / "y.csv").loc[list(GAPS), "features_0":].isna().all(axis=None)
    done("encode", vectorizer, source, tmp_path / "y.jsonl", "--missing", "null")
    assert json.loads((tmp_path / "y.jsonl").read_text().splitlines()[GAPS[0]])["features"] is None


@pytest.mark.parametrize("ending", ["parquet", "csv", "jsonl"])
def test_no_rows(done, vectorizer, rows, tmp_path, ending):
    source = tmp_path / f"x.{ending}"
    if ending == "parquet":
        pq.write_table(rows[:0], source)
    else:
        source.write_text("id,text\n" if ending == "csv" else "")
    for to in ("parquet", "csv", "jsonl"):
        done("encode", vectorizer, source, tmp_path / f"y.{to}")
    kept = {"parquet": ["id", "text", "even"], "csv": ["id", "text"], "jsonl": []}[ending]
    assert pq.read_table(tmp_path / "y.parquet").column_names == [*kept, "features"]
    assert (tmp_path / "y.csv").read_text().startswith(",".join(f'"{name}"' for name in [*kept, "features_0"]))
    assert (tmp_path / "y.jsonl").read_text() == ""


@pytest.mark.parametrize("header", [b"text", b"\xef\xbb\xbfid,text", b"\n\r\ntext", b"\n\nid,text"])
@pytest.mark.parametrize("ending", [".csv", ".csv.gz"])
def test_a_header_alone_or_below_empty_lines(done, classifier, tmp_path, header, ending):
    source, names = tmp_path / f"x{ending}", header.decode("utf-8-sig").strip().split(",")
    for n_rows in (0, 2):
        content = header + f"\n{','.join(TEXTS[: len(names)])}".encode() * n_rows
        source.write_bytes(gzip.compress(content) if ending.endswith(".gz") else content)
        done("predict", classifier, source, tmp_path / "y.parquet", "--overwrite")
        made = pq.read_table(tmp_path / "y.parquet")
        assert (made.column_names[:-2], len(made)) == (names, n_rows)


def test_a_row_per_line_of_a_csv_with_one_column(done, classifier, tmp_path):
    (tmp_path / "x.csv").write_text("text\nthe bird\n\ndas Haus\n")
    done("predict", classifier, tmp_path / "x.csv", tmp_path / "y.jsonl", "--missing", "null")
    made = [json.loads(line) for line in (tmp_path / "y.jsonl").read_text().splitlines()]
    assert [row["text"] for row in made] == ["the bird", None, "das Haus"] and made[1]["prediction"] is None


def test_warnings_are_said_once_and_counted(command, classifier, tmp_path):
    long = pa.table({"text": ["the bird " * 60 if k % 10 == 0 else "the bird" for k in range(N_ROWS)]})
    pq.write_table(long, tmp_path / "x.parquet")
    status, said = command("predict", classifier, tmp_path / "x.parquet", tmp_path / "y.parquet", "--quiet", size=10)
    first, last = said.splitlines()
    assert status == 0
    assert first.startswith(
        f"skxlmr predict: TruncationWarning in {tmp_path / 'x.parquet'} rows 0 to 9: 1 of 10 texts are longer"
    )
    assert last == f"skxlmr predict: {TruncationWarning.__name__}s in 5 parts in total"


def test_what_cannot_be_said_ends_no_call(classifier, tmp_path, capsys, monkeypatch):
    pq.write_table(pa.table({"text": ["the bird " * 60, "the bird"]}), tmp_path / "x.parquet")
    call = ["predict", "--model", classifier, "--input", tmp_path / "x.parquet", "--text", "text", "--output"]
    monkeypatch.setattr("sys.stderr", None)  # closed before Python began
    assert main(list(map(str, [*call, tmp_path / "y.parquet"]))) == 0
    assert main(list(map(str, [*call, tmp_path / "y.parquet"]))) == 2
    assert pq.read_table(tmp_path / "y.parquet").num_rows == 2 and capsys.readouterr().out == ""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
@pytest.mark.parametrize("ending", ["parquet", "csv", "jsonl"])
def test_names_that_are_not_utf8(done, classifier, rows, tmp_path, ending):
    source, made = (tmp_path / os.fsdecode(b"%s\xff.%s" % (name, ending.encode())) for name in (b"x", b"y"))
    with open(source, "wb") as file:
        if ending == "parquet":
            pq.write_table(rows, file)
        elif ending == "csv":
            pa_csv.write_csv(rows, file)
        else:
            file.writelines(json.dumps(row).encode() + b"\n" for row in rows.to_pylist())
    done("predict", classifier, source, made)
    done("predict", classifier, source, tmp_path / f"z.{ending}")
    assert made.read_bytes() == (tmp_path / f"z.{ending}").read_bytes()


def test_progress(done, command, classifier, parquet, tmp_path, monkeypatch):
    monkeypatch.setattr("skxlmr.cli._progress.INTERVAL_IN_LOG", 0.0)
    said = done("predict", classifier, parquet, tmp_path / "y.parquet")
    assert "\rrows 8/50 [===                 ] " in said and "\rrows 50/50 [====================] " in said
    assert said.splitlines()[-1].startswith("rows 50: 50 in ")
    assert done("predict", classifier, parquet, tmp_path / "z.parquet", "--quiet") == ""


def test_parts_become_row_groups(done, classifier, parquet, tmp_path, monkeypatch):
    monkeypatch.setattr("skxlmr.cli._writers.GROUP_ROWS", 20)
    done("predict", classifier, parquet, tmp_path / "y.parquet")
    metadata = pq.ParquetFile(tmp_path / "y.parquet").metadata
    assert [metadata.row_group(k).num_rows for k in range(metadata.num_row_groups)] == [24, 24, 2]
