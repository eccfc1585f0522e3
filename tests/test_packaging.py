"""What an installed package promises before any model is loaded: light import, types, licence, one version."""

import ast
import re
import subprocess
import sys
import tomllib
from importlib.machinery import SourceFileLoader
from pathlib import Path

import pytest
from sklearn.base import clone

import skxlmr
from tests import processes

ROOT = Path(__file__).resolve().parents[1]
HEAVY = {
    "dask",
    "h5py",
    "huggingface_hub",
    "matplotlib",
    "msgpack",
    "onnx",
    "onnxruntime",
    "pandas",
    "polars",
    "pyarrow",
    "pyspark",
    "transformers",
}


@pytest.fixture(scope="module")
def project():
    with open(ROOT / "pyproject.toml", "rb") as file:
        return tomllib.load(file)["project"]


IMPORTED = """
import sys
import torch, sklearn
theirs = {name.partition(".")[0] for name in sys.modules}
whole = set(sys.modules)
import skxlmr
print(*{name.partition(".")[0] for name in sys.modules} - theirs, *set(sys.modules) - whole)
"""
# Needed by some estimators, checkpoints or caches, at their first use
LATER = {
    "huggingface_hub",
    "sentencepiece",
    "sklearn.linear_model",
    "sklearn.metrics",
    "sklearn.model_selection",
    "sklearn.preprocessing",
    "sqlite3",
    "tokenizers",
    "torch._dynamo",
}


def test_import_is_light():
    # torch and scikit-learn import some of these themselves where they are installed.
    run = subprocess.run([sys.executable, "-c", IMPORTED], cwd=ROOT, capture_output=True, text=True, check=True)
    ours = set(run.stdout.split())
    assert "skxlmr" in ours
    assert not ours & HEAVY
    assert not ours & LATER


def use_without_docstrings(checkpoint, folder):
    """Import the package as ``python -OO`` does, without docstrings and asserts, and use it."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "skxlmr"]:
        del sys.modules[name]
    read = SourceFileLoader.get_code

    def get_code(loader, name):
        if name.partition(".")[0] != "skxlmr":
            return read(loader, name)
        return loader.source_to_code(loader.get_data(loader.path), loader.path, _optimize=2)

    SourceFileLoader.get_code = get_code
    use(checkpoint, folder)


def use(checkpoint, folder):
    import skxlmr

    if skxlmr.__doc__:
        sys.exit("docstrings are still there")
    for _, estimator in skxlmr.all_estimators():
        repr(clone(estimator()))
    texts, y = ["a text", "ein Text"] * 4, [0, 1] * 4
    made = skxlmr.XLMRobertaClassifier(checkpoint, max_epochs=1, random_state=0, device="cpu").fit(texts, y)
    skxlmr.save(made, folder)
    if skxlmr.load(folder).predict(texts).tolist() != made.predict(texts).tolist():
        sys.exit("the loaded estimator predicts otherwise")


def test_the_package_needs_neither_docstrings_nor_asserts(tiny_checkpoint, tmp_path):
    done = processes.run(use_without_docstrings, tiny_checkpoint, tmp_path / "saved")
    assert done.exit_code == 0, done.stderr


@pytest.mark.slow  # Python compiles all packages anew for it
def test_python_oo(tiny_checkpoint, tmp_path):
    call = f"from tests.test_packaging import use; use({str(tiny_checkpoint)!r}, {str(tmp_path / 'saved')!r})"
    command = [sys.executable, "-OO", "-W", "ignore", "-c", call]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def test_version_is_the_project_s(project):
    assert skxlmr.__version__ == project["version"]


def test_package_is_typed():
    assert (Path(skxlmr.__file__).parent / "py.typed").is_file()


def test_licence_is_there(project):
    (name,) = project["license-files"]
    text = (ROOT / name).read_text(encoding="utf-8")
    assert project["license"] == "BSD-3-Clause"
    assert text.startswith("BSD 3-Clause License")
    assert "the skxlmr developers" in text


def test_an_extra_exists_once_its_code_does(project):
    """What ``import_extra`` asks for, and what tests, benchmarks and the server of the examples need."""
    calls = [
        [argument.value for argument in node.args[:2]]
        for file in Path(skxlmr.__file__).parent.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "import_extra"
    ]
    extras = {
        extra: packages
        for extra, packages in project["optional-dependencies"].items()
        if extra not in ("test", "bench", "docs", "serve", "dask", "ray")  # the last three are for examples
    }
    assert {extra for _, extra in calls} == extras.keys()
    assert all(module.partition(".")[0] in extras[extra] for module, extra in calls)


def test_lowest_versions_are_those_that_were_seen_to_run(project):
    """``.ci/run`` installs them; torch has a build of its own for each kind of machine."""
    lowest = dict(
        line.split("==") for line in (ROOT / "constraints-lowest.txt").read_text().splitlines() if "==" in line
    )
    declared = dict(requirement.split(">=") for requirement in project["dependencies"])
    declared.pop("torch")
    assert declared == lowest


def test_tested_versions_cover_the_dependencies(project):
    pinned = {line.partition("==")[0] for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line}
    needed = project["dependencies"] + project["optional-dependencies"]["test"]
    assert {re.split("[<>=]", requirement)[0] for requirement in needed} <= pinned
