"""A call that was ended goes on with the parts that are missing, and never mixes those of another call."""

import errno
import json
import os
import signal
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import skxlmr.cli._run
import skxlmr.cli._writers
from skxlmr import load, save
from skxlmr.cli import main
from skxlmr.cli._files import UsageError
from skxlmr.cli._parts import Parts
from tests import processes
from tests.cli.conftest import N_ROWS, SIZE
from tests.contract import TEXTS


def arguments(model, source, output, *options):
    made = [
        "encode",
        "--model",
        model,
        "--input",
        source,
        "--output",
        output,
        "--text",
        "text",
        "--rows-per-part",
        SIZE,
    ]
    return list(map(str, [*made, *options]))


def kill():
    os.kill(os.getpid(), signal.SIGKILL)


def killed_before_part(given, n):
    """Run a call that kills itself when ``n`` parts are complete and the next one is written, but has not its name."""
    add = Parts.add

    def killing(self, path):
        if len(self.done) == n:
            kill()
        add(self, path)

    Parts.add = killing
    main(given)


def killed_while_joining(given):
    def killing(parts, path, *rest):
        path.write_bytes(b"half")
        kill()

    skxlmr.cli._run.join = killing
    main(given)


def killed_before_cleaning_up(given):
    Parts.remove = lambda self: kill()
    main(given)


def run(function, *args):
    done = processes.run(function, *args)
    assert done.exit_code == -signal.SIGKILL, done.stderr


@pytest.fixture
def whole(vectorizer, parquet, tmp_path):
    """What an undisturbed call writes."""
    assert main(arguments(vectorizer, parquet, tmp_path / "whole.parquet", "--quiet")) == 0
    return pq.read_table(tmp_path / "whole.parquet")


@pytest.mark.parametrize("n", [0, 3, 6])
def test_killed_in_a_part(vectorizer, parquet, whole, computed, tmp_path, n):
    given = arguments(vectorizer, parquet, tmp_path / "y.parquet", "--quiet")
    run(killed_before_part, given, n)
    assert not (tmp_path / "y.parquet").exists()
    left = sorted(file.name for file in (tmp_path / "y.parquet.parts").iterdir())
    written = [f"00000-{k * SIZE:012d}-{min(SIZE, N_ROWS - k * SIZE)}.arrow" for k in range(n + 1)]
    assert left == [*written[:n], f"{written[n]}.new", "about.json"]
    computed.clear()
    assert main(given) == 0
    assert sum(computed) == N_ROWS - n * SIZE
    assert pq.read_table(tmp_path / "y.parquet").equals(whole)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["whole.parquet", "x.parquet", "y.parquet"]


@pytest.mark.parametrize("end", [killed_while_joining, killed_before_cleaning_up])
def test_killed_after_the_last_part(vectorizer, parquet, whole, computed, tmp_path, end):
    given = arguments(vectorizer, parquet, tmp_path / "y.parquet", "--quiet")
    run(end, given)
    assert (tmp_path / "y.parquet.parts").exists()
    assert (tmp_path / "y.parquet").exists() == (end is killed_before_cleaning_up)
    computed.clear()
    assert main(given) == 0
    assert not computed
    assert pq.read_table(tmp_path / "y.parquet").equals(whole)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["whole.parquet", "x.parquet", "y.parquet"]


@pytest.mark.parametrize("ending", ["csv", "jsonl.gz"])
def test_other_formats_go_on(vectorizer, parquet, computed, tmp_path, ending):
    first, then = (tmp_path / f"{name}.{ending}" for name in ("first", "then"))
    assert main(arguments(vectorizer, parquet, first, "--quiet")) == 0
    for source in (parquet, first):  # from Parquet, and from the format itself
        output = tmp_path / f"y{source.suffix}.{ending}"
        given = arguments(vectorizer, source, output, "--quiet", "--as", "v")
        assert main([*given[:6], str(then), *given[7:], "--overwrite"]) == 0
        with pytest.MonkeyPatch.context() as patched:
            stop_in_part(patched, 4, KeyboardInterrupt())
            assert main(given) == 130
        computed.clear()
        assert main(given) == 0
        assert sum(computed) == N_ROWS - 4 * SIZE
        assert output.read_bytes() == then.read_bytes()


def stop_in_part(monkeypatch, n, error):
    """Let the writing of a part fail once ``n`` are there."""
    counts, write = [], skxlmr.cli._run.write_part

    def failing(path, *rest):
        if len(counts) == n:
            path.write_bytes(b"half")
            raise error
        counts.append(path)
        write(path, *rest)

    monkeypatch.setattr(skxlmr.cli._run, "write_part", failing)


def test_ctrl_c_and_a_full_disk(vectorizer, parquet, whole, computed, tmp_path, monkeypatch, capsys):
    given = arguments(vectorizer, parquet, tmp_path / "y.parquet", "--quiet")
    stop_in_part(monkeypatch, 2, KeyboardInterrupt())
    assert main(given) == 130
    again = "16 rows are done: run the same command again to continue"
    assert capsys.readouterr().err == f"skxlmr encode: interrupted; {again}\n"
    stop_in_part(monkeypatch, 0, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    assert main(given) == 1
    assert capsys.readouterr().err == f"skxlmr encode: [Errno 28] No space left on device; {again}\n"
    monkeypatch.undo()
    assert main(given) == 0
    assert pq.read_table(tmp_path / "y.parquet").equals(whole)


def test_ctrl_c_before_the_first_part(vectorizer, parquet, tmp_path, monkeypatch, capsys):
    stop_in_part(monkeypatch, 0, KeyboardInterrupt())
    assert main(arguments(vectorizer, parquet, tmp_path / "y.parquet", "--quiet")) == 130
    assert capsys.readouterr().err == "skxlmr encode: interrupted; no rows are done\n"
    assert [file.name for file in tmp_path.iterdir()] == ["x.parquet"]


@pytest.fixture
def begun(vectorizer, parquet, tmp_path):
    """The arguments of a call that was ended after two parts."""
    given = arguments(vectorizer, parquet, tmp_path / "y.parquet", "--quiet")
    with pytest.MonkeyPatch.context() as patched:
        stop_in_part(patched, 2, KeyboardInterrupt())
        assert main(given) == 130
    return given


def other_input(given, parquet, vectorizer, tmp_path):
    table = pq.read_table(parquet)
    pq.write_table(table, parquet, row_group_size=10)
    return given, "the input"


def other_model(given, parquet, vectorizer, tmp_path):
    save(load(vectorizer).set_params(pooling="cls").fit(TEXTS), tmp_path / "other")
    return [given[0], "--model", str(tmp_path / "other"), *given[3:]], "the model"


def other_option(given, parquet, vectorizer, tmp_path):
    return [*given, "--rows-per-part", "9", "--dtype", "float32"], "--dtype, --rows-per-part"


def other_columns(given, parquet, vectorizer, tmp_path):
    return [*given, "--columns", "id", "--as", "v"], "the new columns, --columns"


@pytest.mark.parametrize("change", [other_input, other_model, other_option, other_columns])
def test_parts_of_another_call_are_refused(begun, parquet, vectorizer, tmp_path, computed, capsys, change):
    given, differs = change(begun, parquet, vectorizer, tmp_path)
    computed.clear()
    left = sorted(file.name for file in (tmp_path / "y.parquet.parts").iterdir())
    assert main(given) == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"skxlmr encode: {tmp_path / 'y.parquet.parts'} holds parts of another call (it differs in {differs}): pass "
        "--overwrite to start anew, or another --output"
    )
    assert not computed and sorted(file.name for file in (tmp_path / "y.parquet.parts").iterdir()) == left
    assert main([*given, "--overwrite"]) == 0
    assert sum(computed) == N_ROWS
    assert pq.read_table(tmp_path / "y.parquet").num_rows == N_ROWS


def test_rows_without_text_may_be_allowed_later_and_not_forbidden(vectorizer, parquet, tmp_path, computed, capsys):
    given = arguments(vectorizer, parquet, tmp_path / "y.parquet", "--quiet")
    for n, missing in enumerate(["error", "null"], 1):
        with pytest.MonkeyPatch.context() as patched:
            stop_in_part(patched, n, KeyboardInterrupt())
            assert main([*given, "--missing", missing]) == 130
    assert main(given) == 2
    assert "(it differs in --missing)" in capsys.readouterr().err
    computed.clear()
    assert main([*given, "--missing", "null"]) == 0
    assert sum(computed) == N_ROWS - 3 * SIZE


def test_the_size_of_batches_may_change(begun, whole, computed, tmp_path):
    computed.clear()
    assert main([*begun, "--batch-size", "3"]) == 0
    assert sum(computed) == N_ROWS - 2 * SIZE


def test_parts_after_a_missing_one_are_not_used(begun, whole, tmp_path, computed):
    (tmp_path / "y.parquet.parts" / f"00000-{0:012d}-{SIZE}.arrow").unlink()
    computed.clear()
    assert main(begun) == 0
    assert sum(computed) == N_ROWS and pq.read_table(tmp_path / "y.parquet").equals(whole)


def test_a_folder_of_somebody_else_is_left_alone(vectorizer, parquet, tmp_path, capsys):
    (tmp_path / "y.parquet.parts").mkdir()
    (tmp_path / "y.parquet.parts" / "thesis.txt").write_text("mine")
    assert main([*arguments(vectorizer, parquet, tmp_path / "y.parquet"), "--overwrite"]) == 2
    assert "is not a folder of this command: remove it, or pass another --output" in capsys.readouterr().err
    assert (tmp_path / "y.parquet.parts" / "thesis.txt").read_text() == "mine"


def test_one_process_at_a_time(begun, tmp_path, capsys):
    about = json.loads((tmp_path / "y.parquet.parts" / "about.json").read_text())
    del about["format"]
    with Parts(tmp_path / "y.parquet", about, ".arrow", overwrite=False) as parts:
        assert len(parts.done) == 2
        assert main(begun) == 2
        assert capsys.readouterr().err.endswith("y.parquet: another process is writing it\n")
    assert main(begun) == 0


@pytest.mark.parametrize("step", ["os.open", "fcntl.flock"])
def test_a_folder_that_the_call_before_removes_meanwhile(tmp_path, monkeypatch, step):
    pytest.importorskip("fcntl", reason="needs locks of files")
    (tmp_path / "y.csv.parts").mkdir()
    module, name = step.split(".")
    before = getattr(sys.modules[module], name)

    def late(*args):
        monkeypatch.setattr(step, before)
        (tmp_path / "y.csv.parts").rmdir()
        return before(*args)

    monkeypatch.setattr(step, late)
    with Parts(tmp_path / "y.csv", {}, ".csv", overwrite=False) as parts:
        assert (parts.folder / "about.json").exists()
        with pytest.raises(UsageError, match="another process is writing it"):
            Parts(tmp_path / "y.csv", {}, ".csv", overwrite=False).__enter__()


def test_a_call_that_ends_leaves_the_folder_of_the_next_one(tmp_path):
    with Parts(tmp_path / "y.csv", {}, ".csv", overwrite=False) as first:
        first.remove()
        second = Parts(tmp_path / "y.csv", {}, ".csv", overwrite=False).__enter__()
    assert (second.folder / "about.json").exists()
    second.__exit__()
    assert not second.folder.exists()


def test_an_input_that_changes_meanwhile(vectorizer, parquet, tmp_path, monkeypatch, capsys):
    write = skxlmr.cli._run.write_part

    def touching(path, *rest):
        os.utime(parquet, ns=(1, len(path.name)))
        write(path, *rest)

    monkeypatch.setattr(skxlmr.cli._run, "write_part", touching)
    assert main(arguments(vectorizer, parquet, tmp_path / "y.parquet", "--quiet")) == 2
    assert "the input has changed while it was read: run the command again" in capsys.readouterr().err
    assert [Path(file).name for file in tmp_path.iterdir()] == ["x.parquet"]
