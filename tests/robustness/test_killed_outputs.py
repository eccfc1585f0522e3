"""Whatever ends a process while it fills a file with features, the next one goes on, and the file is complete or not there.

``pytest -m slow tests/robustness/test_killed_outputs.py``: a kill and a full disk at each writing call, and kills at
random moments.
"""

import random
import signal
import sys
import time

import numpy as np
import pytest

from skxlmr import XLMRobertaVectorizer
from skxlmr.estimators._vectors import parts
from tests import processes
from tests.robustness.saves import _watch
from tests.tiny import sentences

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs processes that can be killed"),
]
N_CALLS = 60  # more than a call makes
FULL = 3


def rows():
    """Ten parts; some rows come again in later ones."""
    texts = sentences(40)
    return [*texts, *texts[::4]]


def features(checkpoint, out=None):
    parts.ROWS = 5
    return XLMRobertaVectorizer(checkpoint, memory=None, device="cpu").transform(rows(), out=out)


def fill(checkpoint, out, ready, accident=None, place=0):
    if accident is not None:
        _watch(accident, place)
    ready.set()
    try:
        features(checkpoint, out)
    except OSError:
        sys.exit(FULL)


def run(checkpoint, out, accident=None, place=0, kill_after=None):
    """Exit status of a process that fills the file."""
    context = processes.server()
    ready = context.Event()
    process = context.Process(target=fill, args=(checkpoint, out, ready, accident, place))
    process.start()
    assert ready.wait(60)
    if kill_after is not None:
        time.sleep(kill_after)
        process.kill()
    process.join(120)
    return process.exitcode


@pytest.fixture
def expected(tiny_checkpoint, monkeypatch):
    monkeypatch.setattr(parts, "ROWS", 5)
    return features(tiny_checkpoint)


@pytest.fixture
def file(tmp_path):
    (tmp_path / "there").mkdir()
    return tmp_path / "there" / "features.npy"


@pytest.mark.parametrize(("accident", "status"), [("kill", -9), ("full", FULL)])
def test_at_each_writing_call(tiny_checkpoint, file, expected, accident, status):
    """Each process comes a few calls further than the one before."""
    n_ended = 0
    while (code := run(tiny_checkpoint, file, accident, 9 + n_ended % 5)) == status:
        n_ended += 1
        assert n_ended < N_CALLS
        if file.exists():  # it was ended between its last two steps
            code = run(tiny_checkpoint, file)
            break
    assert code == 0 and n_ended > 3
    np.testing.assert_array_equal(np.load(file), expected)
    others = {
        path.name for path in file.parent.iterdir() if ".progress." not in path.name
    }  # one that was being written
    assert others == {file.name}


def test_at_random_moments(tiny_checkpoint, file, expected):
    draw = random.Random(0)
    for _ in range(15):
        code = run(tiny_checkpoint, file, kill_after=draw.uniform(0, 0.3))
        assert code == -signal.SIGKILL or (code == 0 and file.exists())
        if not file.exists():
            assert run(tiny_checkpoint, file) == 0
        np.testing.assert_array_equal(np.load(file), expected)
        for path in file.parent.iterdir():
            path.unlink()
