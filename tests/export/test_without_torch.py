"""Every estimator loads and predicts on ONNX Runtime in a process without torch, and imports none where there is one."""

import pickle
import subprocess
import sys

import pytest

from tests.contract import ESTIMATORS, infer
from tests.export.rows import assert_equal_up_to_rounding, every_answer
from tests.test_without_torch import BLOCKED

# One process for all estimators: what a script of a user does, and what goes to other processes
SCRIPT = """
import pickle, sys, warnings
from skxlmr import load_onnx
from tests.contract import infer
from tests.export.rows import every_answer
warnings.simplefilter("ignore")
answers = {}
for name, folder in pickle.load(open(sys.argv[1], "rb")).items():
    loaded = load_onnx(folder, threads=1)
    if name.endswith("Vectorizer"):
        loaded.fit(["a text"])
    answers[name] = {answer}(pickle.loads(pickle.dumps(loaded)))
pickle.dump((answers, "torch" in sys.modules), open(sys.argv[2], "wb"))
"""


@pytest.mark.filterwarnings("ignore::skxlmr.TruncationWarning")
def test_every_estimator_without_torch_and_beside_it(fitted, exported, tmp_path):
    (tmp_path / "folders").write_bytes(pickle.dumps({cls.__name__: str(exported(cls)) for cls in ESTIMATORS}))
    kinds = {"blocked": (BLOCKED, every_answer), "beside": ("", infer)}
    processes = {}
    for kind, (start, answer) in kinds.items():
        code = start + SCRIPT.replace("{answer}", answer.__name__)
        command = [sys.executable, "-c", code, str(tmp_path / "folders"), str(tmp_path / kind)]
        processes[kind] = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    for kind, (_, answer) in kinds.items():
        expected = {cls.__name__: answer(fitted(cls)) for cls in ESTIMATORS}
        _, said = processes[kind].communicate(timeout=300)
        assert processes[kind].returncode == 0, f"{kind}: {said}"
        answers, has_torch = pickle.loads((tmp_path / kind).read_bytes())
        assert not has_torch, kind
        assert_equal_up_to_rounding(answers, expected, kind)
