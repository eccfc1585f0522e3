"""The scripts of the gallery: each says what it shows, uses what there is, and leaves nothing behind.

The site runs them all; the slow tests here run each in a fresh process, in an empty folder, with warnings as errors.
"""

import ast
import importlib
import inspect
import os
import re
import subprocess
import sys
import types
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = sorted((ROOT / "examples" / "gallery").glob("plot_*.py"))
LAST = "With XLM-R base"
ROLE = re.compile(r":(class|func|meth|mod):`~?(skxlmr[\w.]*)`")
PAGE = re.compile(r":doc:`(?:[^`<]*<)?/([\w./-]+)>?`")
ABSOLUTE_PATH = re.compile(r"(?<![\w.:/<])/(?:tmp|home|root|work|usr|var|opt|Users)/")
# Runs a script as `python script` does, and counts its figures before they are gone.
RUN = """
import runpy, sys
import matplotlib
matplotlib.use("agg")
import matplotlib.pyplot as plt
sys.argv = [sys.argv[1]]
runpy.run_path(sys.argv[0], run_name="__main__")
print("figures:", len(plt.get_fignums()))
"""
gallery = pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem.removeprefix("plot_"))


def headings(text):
    """Titles of a text in RST: lines with a line of the same length below."""
    lines = text.splitlines()
    return [
        above.strip()
        for above, below in pairwise(lines)
        if above.strip() and re.fullmatch(r"([-=~])\1+", below.strip()) and len(below.strip()) >= len(above.strip())
    ]


def prose(source):
    """The text of the comments that follow ``# %%``."""
    found = re.findall(r"^# %%.*\n((?:#.*\n?)*)", source, re.MULTILINE)
    return "\n".join(line[2:] for block in found for line in [*block.splitlines(), ""])


def missing_names(source):
    """Names that a script imports, or reads as attributes of a module or class that it imported, and that do not exist."""
    found, missing = {}, []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                module = importlib.import_module(alias.name)
                found[alias.asname or alias.name.split(".")[0]] = (
                    module if alias.asname else sys.modules[alias.name.split(".")[0]]
                )
        elif isinstance(node, ast.ImportFrom):
            module = importlib.import_module(node.module)
            for alias in node.names:
                if hasattr(module, alias.name):
                    found[alias.asname or alias.name] = getattr(module, alias.name)
                else:
                    missing.append(f"{node.module}.{alias.name}")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            owner = found.get(node.value.id)
            if isinstance(owner, (types.ModuleType, type)) and not hasattr(owner, node.attr):
                missing.append(f"{node.value.id}.{node.attr}")
    return missing


def unknown_parameters(source):
    """Keywords in calls of estimators of this package that their constructors do not have."""
    skxlmr, unknown = importlib.import_module("skxlmr"), []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in skxlmr.__all__:
            known = inspect.signature(getattr(skxlmr, node.func.id)).parameters
            if not any(each.kind is each.VAR_KEYWORD for each in known.values()):
                unknown += [
                    f"{node.func.id}({word.arg}=)" for word in node.keywords if word.arg and word.arg not in known
                ]
    return unknown


def test_there_are_scripts():
    assert len(SCRIPTS) >= 10


@gallery
def test_begins_with_a_title_and_ends_with_the_full_size(script):
    source = script.read_text(encoding="utf-8")
    docstring = ast.get_docstring(ast.parse(source))
    assert len(headings(docstring)) == 1, "the docstring needs one title"
    assert len(docstring.split("\n\n", 1)[1].split()) > 20, "the docstring says what one will see"
    assert headings(prose(source))[-1] == LAST
    assert prose(source).split(LAST)[1].split("\n", 2)[2].strip(), f"nothing below {LAST!r}"


@gallery
def test_names_exist(script):
    source = script.read_text(encoding="utf-8")
    assert not missing_names(source)
    assert not unknown_parameters(source)
    for _, name in ROLE.findall(source):
        module, *rest = name.split(".")
        here = importlib.import_module(module)
        for part in rest:
            if not hasattr(here, part) and isinstance(here, types.ModuleType):
                importlib.import_module(f"{here.__name__}.{part}")
            here = getattr(here, part)
    for page in PAGE.findall(source):
        assert list((ROOT / "docs").glob(f"{page}.*")) or page.startswith("gallery/"), f"no page {page}"


@gallery
def test_names_no_folder_of_a_machine(script):
    assert not ABSOLUTE_PATH.search(script.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("source", "missing"),
    [
        ("from skxlmr import XLMRobertaVectoriser", ["skxlmr.XLMRobertaVectoriser"]),
        ("import numpy as np\nnp.nmean([1])", ["np.nmean"]),
        ("from skxlmr import XLMRobertaVectorizer as V\nV.fit_transfrom", ["V.fit_transfrom"]),
        ("import os.path\nos.path.join('a')", []),
    ],
)
def test_missing_names_are_found(source, missing):
    assert missing_names(source) == missing


def test_unknown_parameters_are_found():
    assert unknown_parameters("XLMRobertaVectorizer('skxlmr-mini', poolin='mean')") == ["XLMRobertaVectorizer(poolin=)"]


@pytest.mark.slow
@gallery
def test_runs_alone(script, tmp_path):
    here, temporary = tmp_path / "empty", tmp_path / "temporary"
    here.mkdir()
    temporary.mkdir()
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(temporary), "PYTHONUTF8": "1"}
    command = [sys.executable, "-W", "error", "-c", RUN, str(script)]
    done = subprocess.run(
        command, cwd=here, env=environment, capture_output=True, text=True, encoding="utf-8", timeout=900
    )
    assert done.returncode == 0, done.stderr
    assert int(re.search(r"^figures: (\d+)$", done.stdout, re.MULTILINE)[1]) >= 1
    assert len(done.stdout.splitlines()) <= 80, "it prints a lot"
    assert not ABSOLUTE_PATH.search(done.stdout) and str(tmp_path) not in done.stdout
    of_others = (".ses", "torchinductor_")  # ONNX Runtime and torch leave these there, whatever a script does
    left = [*here.iterdir(), *(file for file in temporary.iterdir() if not file.name.startswith(of_others))]
    assert not left
