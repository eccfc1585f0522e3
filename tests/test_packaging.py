"""What an installed package promises before any model is loaded: light import, types, licence, one version."""

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


def modules_after(statement):
    """Top-level modules that a fresh interpreter holds after one statement."""
    program = f"import sys; {statement}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(run.stdout.split())


def test_import_is_light():
    # torch and scikit-learn import some of these themselves where they are installed.
    theirs = modules_after("import torch, sklearn")
    ours = modules_after("import skxlmr")
    assert "skxlmr" in ours
    assert not (ours - theirs) & HEAVY


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


@pytest.mark.parametrize("extra", ["test", "bench", "plot", "onnx", "tf", "flax", "xlm", "dask", "docs"])
def test_extra_is_declared(project, extra):
    assert project["optional-dependencies"][extra]


def test_tested_versions_cover_the_dependencies(project):
    pinned = {line.partition("==")[0] for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line}
    needed = project["dependencies"] + project["optional-dependencies"]["test"]
    assert {requirement.partition(">=")[0] for requirement in needed} <= pinned
