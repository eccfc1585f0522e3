"""The examples run as scripts; the quickstart on a user's own table, and it says what is wrong with one it cannot use."""

import importlib.util
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests import processes

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
SCRIPT = EXAMPLES / "quickstart.py"
TUNING = EXAMPLES / "tune_without_waiting.py"
SUBJECTS = {"food": ["soup", "Suppe", "pane"], "travel": ["train", "Zug", "treno"]}


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    rows = [
        {"comment": f"{noun} {adjective}", "topic": topic, "lang": language, "stars": stars, "shop": "web"}
        for topic, nouns in SUBJECTS.items()
        for noun, language in zip(nouns, ["en", "de", "it"], strict=True)
        for adjective, stars in zip(["A", "B", "C", "D", "E"], rng.integers(1, 6, 5), strict=True)
    ]
    frame = pd.DataFrame(rows).astype({"stars": float})
    frame.loc[3, "stars"] = np.nan
    frame.loc[[7, 20], "comment"] = None
    rare = {"comment": "a stone", "topic": "other", "lang": "en", "stars": 1.0, "shop": "web"}
    return pd.concat([frame, pd.DataFrame([rare])], ignore_index=True)


@pytest.fixture(scope="module")
def quickstart():
    spec = importlib.util.spec_from_file_location("quickstart", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(folder, *options, script=SCRIPT):
    """Output of the script, started in a folder that is not the repository."""
    done = processes.run(as_script, script, folder, options, timeout=600)
    assert done.exit_code == 0, done.stderr
    return done.stdout


def as_script(script, folder, options):
    os.chdir(folder)
    sys.argv = [str(script), *options]
    runpy.run_path(str(script), run_name="__main__")


def test_own_table(table, tmp_path, tiny_checkpoint):
    table.to_csv(tmp_path / "own.csv", index=False)
    columns = ["--text", "comment", "--label", "topic", "--group", "lang"]
    output = run(tmp_path, "--data", "own.csv", *columns, "--checkpoint", str(tiny_checkpoint))
    assert "Dropped 2 of 31 rows without 'comment'." in output
    assert "Dropped classes of fewer than 10 rows, 1 in total: other" in output
    assert "28 rows, 2 classes of 'topic'" in output
    assert re.search(r"numeric: +stars\ncategorical: +lang, shop\nnot used: +none\n", output)
    parts = re.split(r"\n(?=\d\. )", output)
    assert [part[:2] for part in parts[1:]] == ["1.", "2.", "3.", "4."]
    features, search, languages, saved = parts[1:]
    for line in ("majority class", "char TF-IDF + other columns", "XLM-R features + other columns"):
        assert re.search(rf"^{re.escape(line)} +[01]\.\d{{3}} ", features, re.MULTILINE)
    assert len(re.findall(r"^ +\de-0\d +[01] +[01]\.\d{3} ", search, re.MULTILINE)) == 4
    assert re.search(r"^fine-tuned XLM-R +[01]\.\d{3}$", search, re.MULTILINE)
    # The largest language comes first, ties by name; the languages it was not trained on are tested.
    trained = re.search(r"Trained on (\w+): (\d+) rows", languages)
    assert trained is not None
    tested = re.findall(r"^(\w+) +(\d+) +[01]\.\d{3}", languages, re.MULTILINE)
    assert {name for name, _ in tested} | {trained[1]} == {"de", "en", "it", "all"}
    assert int(trained[2]) + int(dict(tested)["all"]) == 28
    assert "Largest difference between the probabilities before and after: 0.0e+00" in saved
    assert saved.count("food") + saved.count("travel") >= 8


def test_group_column_may_be_absent(quickstart, table, capsys):
    options = quickstart.parse(["--label", "topic", "--text", "comment", "--group", "country"])
    quickstart.cross_languages(table, None, options)
    assert "Skipped: the data has no column 'country'" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--text", "body"], r"--text: .*own.csv has no column 'body'; it has comment, topic, lang, stars, shop"),
        (["--text", "comment", "--label", "kind"], r"--label: .*own.csv has no column 'kind'"),
        (["--text", "comment", "--label", "comment"], "name the same column, 'comment'"),
        (["--text", "comment", "--label", "stars"], "two or more classes of at least 10 rows each, found 0 among 5"),
        (["--text", "comment", "--label", "topic", "--checkpoint", "./nowhere"], "./nowhere: no such folder"),
    ],
)
def test_unusable_input_is_named(quickstart, table, tmp_path, options, message):
    table.to_csv(tmp_path / "own.csv", index=False)
    with pytest.raises(SystemExit, match=message):
        quickstart.main(["--data", str(tmp_path / "own.csv"), *options])


def test_missing_file_is_named(quickstart, tmp_path):
    with pytest.raises(SystemExit, match=r"cannot read .*none.csv"):
        quickstart.main(["--data", str(tmp_path / "none.csv")])


@pytest.mark.slow
def test_built_in_table(tmp_path):
    output = run(tmp_path)
    assert "360 rows, 3 classes of 'sentiment'" in output
    assert "Trained on de, en, es, fr, it: 180 rows." in output


@pytest.mark.slow
def test_two_processes(tmp_path):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command += [str(EXAMPLES / "torchrun.py"), "--epochs", "1", "--save", "saved"]
    environment = os.environ | {"PYTHONPATH": str(EXAMPLES.parent)}
    done = subprocess.run(command, cwd=tmp_path, timeout=900, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert len(re.findall(r"^288 rows, 2 processes, .* s$", done.stdout, re.MULTILINE)) == 1
    assert (tmp_path / "saved" / "model.safetensors").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["dask", "pyspark", "ray"])
def test_tables_of_engines(tmp_path, engine):
    pytest.importorskip(engine, reason=f"needs {engine}")
    script = EXAMPLES / f"{engine.removeprefix('py')}_tables.py"
    environment = os.environ | {"PYTHONPATH": str(EXAMPLES.parent)}
    command = [sys.executable, str(script), "--folder", str(tmp_path)]
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600)
    assert run.returncode == 0, run.stderr
    assert "360 rows, 8 without text; equal to load: True\n" in run.stdout
    assert "features of 352 texts; equal to load: True\n" in run.stdout
    last = {"dask": "search over 2 processes: best", "pyspark": "pandas UDF: 4 values; counts equal: True", "ray": ""}
    assert last[engine] in run.stdout


@pytest.mark.slow
def test_tuning(tmp_path):
    output = run(tmp_path, "--rows", "60", script=TUNING)
    encoder, frozen, halving = re.split(r"\n\n(?=[AFH])", output)[1:]
    lines = re.findall(r"^ *(.+?) +(\d+\.\d) +(\d+) +(0\.\d{3})$", encoder, re.MULTILINE)
    names, _, rows, scores = zip(*lines, strict=True)
    assert names[:3] == ("kept in the process", "nothing kept", "kept in a folder") and "another process" in names[3]
    assert rows == ("60", "3660", "60", "0") and len(set(scores[:3])) == 1
    assert re.search(
        r"states kept +\d+\.\d +60 +(0\.\d{3})\n *states computed each time +\d+\.\d +\1$", frozen, re.MULTILINE
    )
    assert re.search(r"continues +\d+\.\d +(0\.\d{3})\n *starts again +\d+\.\d +\1$", halving, re.MULTILINE)
