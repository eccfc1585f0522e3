"""Saved estimators and a table for the command line, and calls of it in this process."""

import re

import pytest

import skxlmr
from skxlmr.batch import _loaded
from skxlmr.cli import main
from tests.contract import FAST, TEXTS
from tests.tiny import sentences

pa = pytest.importorskip("pyarrow")
N_ROWS, SIZE = 50, 8


@pytest.fixture(autouse=True)
def nothing_loaded():
    _loaded._loaded.clear()
    yield
    _loaded._loaded.clear()


@pytest.fixture(scope="session")
def classifier(tiny_checkpoint, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "classifier"
    skxlmr.save(skxlmr.XLMRobertaClassifier(tiny_checkpoint, **FAST).fit(TEXTS, ["a", "b"] * 3), folder)
    return folder


@pytest.fixture(scope="session")
def vectorizer(tiny_checkpoint, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "vectorizer"
    skxlmr.save(skxlmr.XLMRobertaVectorizer(tiny_checkpoint).fit(TEXTS), folder)
    return folder


@pytest.fixture(scope="session")
def texts():
    """Of several lengths, some twice in a part or in two parts."""
    made = sentences(N_ROWS - 10)
    return [*made[:20], *made[:5], *made[20:], *made[:5]]


@pytest.fixture
def rows(texts):
    numbers = list(range(N_ROWS))
    return pa.table(
        {"id": pa.array(numbers, pa.int32()), "text": texts, "even": [number % 2 == 0 for number in numbers]}
    )


@pytest.fixture
def parquet(rows, tmp_path):
    import pyarrow.parquet as pq

    pq.write_table(rows, tmp_path / "x.parquet", row_group_size=11)
    return tmp_path / "x.parquet"


@pytest.fixture
def command(capsys):
    """Call the command line; returns its exit status and what it says on standard error."""

    def command(name, model, source, output, *options, text="text", size=SIZE):
        arguments = [name, "--model", model, "--input", *(source if isinstance(source, list) else [source])]
        arguments += ["--output", output, "--rows-per-part", size, *options]
        arguments += [] if text is None else ["--text", text]
        status = main(list(map(str, arguments)))
        captured = capsys.readouterr()
        assert captured.out == ""
        return status, captured.err

    return command


@pytest.fixture
def done(command):
    """The same for calls that must succeed; nothing is left but the output."""

    def done(name, model, source, output, *options, **more):
        status, said = command(name, model, source, output, *options, **more)
        assert status == 0, said
        assert not output.with_name(output.name + ".parts").exists()
        return said

    return done


@pytest.fixture
def refused(command):
    """The one line that a call says that must end with status 2; it leaves no parts."""

    def refused(name, model, source, output, *options, **more):
        status, said = command(name, model, source, output, *options, **more)
        assert status == 2, said
        (line,) = said.splitlines()
        assert re.match(r"skxlmr (encode|predict): ", line), line
        return line.partition(": ")[2]

    return refused
