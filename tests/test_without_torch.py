"""``import skxlmr`` does without torch: it is imported when something of it is first needed."""

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from skxlmr.utils._imports.later import is_tensor, names_of

BLOCKED = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torch":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocked())
"""


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)


def test_import_does_without_torch():
    ended = run(
        BLOCKED
        + "import skxlmr\n"
        + "for name in skxlmr.__all__: getattr(skxlmr, name)\n"
        + "estimator = skxlmr.XLMRobertaClassifier('skxlmr-mini', device='cpu', max_epochs=2)\n"
        + "repr(estimator), estimator.get_params(), estimator._repr_html_()\n"
        + "from sklearn.base import clone; clone(estimator)\n"
        + "try: estimator.fit(['a', 'b'], [0, 1])\n"
        + "except ModuleNotFoundError as error: print(error.name)\n"
    )
    assert (ended.returncode, ended.stdout) == (0, "torch\n"), ended.stderr


def test_import_does_not_import_torch_where_it_is_installed():
    heavy = (
        "torch",
        "transformers",
        "onnx",
        "onnxruntime",
        "pyarrow.parquet",
        "fastapi",
        "dask",
        "pyspark",
        "matplotlib",
    )
    ended = run(f"import sys, skxlmr; print([name for name in {heavy} if name in sys.modules])")
    assert (ended.returncode, ended.stdout) == (0, "[]\n"), ended.stderr


def test_names_of_nn_are_those_that_type_checkers_see():
    nn = import_module("skxlmr.nn")
    tree = ast.parse(Path(nn.__file__).read_text(encoding="utf-8"))
    checked = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {alias.name: node.module for node in checked.body for alias in node.names}
    for name in nn.__all__:
        found = getattr(nn, name)
        if name in seen:
            assert found.__module__ == seen[name], name
    with pytest.raises(AttributeError, match=r"module 'skxlmr.nn' has no attribute 'Nothing'"):
        _ = nn.Nothing


def test_a_name_is_resolved_once():
    found = names_of("skxlmr.nn", {"config": "ModelConfig"})("ModelConfig")
    assert found is import_module("skxlmr.nn.config").ModelConfig
    assert vars(import_module("skxlmr.nn"))["ModelConfig"] is found


def test_tensors():
    import torch

    assert is_tensor(torch.zeros(1))
    assert not is_tensor([0.0])
    ended = run(
        "from skxlmr.utils._imports.later import is_tensor; import sys; print(is_tensor(0), 'torch' in sys.modules)"
    )
    assert (ended.returncode, ended.stdout) == (0, "False False\n"), ended.stderr


def test_devices_without_torch():
    code = (
        "import sys\n"
        "from skxlmr.utils._devices.device import Device\n"
        "print(isinstance('cpu', Device), 'torch' in sys.modules)\n"
        "import torch\n"
        "print(isinstance(torch.device('cpu'), Device), isinstance('cpu', Device))\n"
    )
    ended = run(code)
    assert (ended.returncode, ended.stdout) == (0, "False False\nTrue False\n"), ended.stderr
