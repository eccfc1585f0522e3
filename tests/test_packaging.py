"""What an installed package promises before any model is loaded: light import, types, licence, one version."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import skxlmr

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
import skxlmr
print(*{name.partition(".")[0] for name in sys.modules} - theirs)
"""


def test_import_is_light():
    # torch and scikit-learn import some of these themselves where they are installed.
    run = subprocess.run([sys.executable, "-c", IMPORTED], cwd=ROOT, capture_output=True, text=True, check=True)
    ours = set(run.stdout.split())
    assert "skxlmr" in ours
    assert not ours & HEAVY


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
    """What ``import_extra`` asks for, and what tests and benchmarks need."""
    calls = [
        [argument.value for argument in node.args[:2]]
        for file in Path(skxlmr.__file__).parent.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "import_extra"
    ]
    extras = {
        extra: packages
        for extra, packages in project["optional-dependencies"].items()
        if extra not in ("test", "bench")
    }
    assert {extra for _, extra in calls} == extras.keys()
    assert all([module.partition(".")[0]] == extras[extra] for module, extra in calls)


def test_tested_versions_cover_the_dependencies(project):
    pinned = {line.partition("==")[0] for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line}
    needed = project["dependencies"] + project["optional-dependencies"]["test"]
    assert {re.split("[<>=]", requirement)[0] for requirement in needed} <= pinned
