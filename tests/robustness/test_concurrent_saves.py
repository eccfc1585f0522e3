"""Processes that save to one folder at the same time: one of them wins, with a complete folder and no leftovers.

The full size: ``pytest -m slow tests/robustness/test_concurrent_saves.py``.
"""

import sys

import numpy as np
import pytest

import skxlmr
from skxlmr import XLMRobertaVectorizer
from tests import processes
from tests.persistence.conftest import TEXTS

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs locks on folders, which Windows does not have")
POOLINGS = ["mean", "cls", "max"]


def save_repeatedly(source, target, n_saves, barrier, refused):
    """Save the estimator of one folder to another ``n_saves`` times; count the refusals."""
    estimator = skxlmr.load(source)
    barrier.wait(60)
    for _ in range(n_saves):
        try:
            skxlmr.save(estimator, target)
        except skxlmr.CheckpointError:
            with refused:
                refused.value += 1


def check(root, checkpoint, n_rounds, n_saves):
    expected = {}
    for pooling in POOLINGS:
        vectorizer = XLMRobertaVectorizer(checkpoint, pooling=pooling, dtype="float32").fit(TEXTS)
        skxlmr.save(vectorizer, root / "sources" / pooling)
        expected[pooling] = vectorizer.transform(TEXTS)
    context = processes.server()
    target, refused, winners = root / "targets" / "target", context.Value("i", 0), []
    for _ in range(n_rounds):
        barrier = context.Barrier(len(POOLINGS))
        savers = [
            context.Process(
                target=save_repeatedly, args=(root / "sources" / pooling, target, n_saves, barrier, refused)
            )
            for pooling in POOLINGS
        ]
        for saver in savers:
            saver.start()
        for saver in savers:
            saver.join(120)
        assert [saver.exitcode for saver in savers] == [0] * len(POOLINGS)
        assert [path.name for path in target.parent.iterdir()] == ["target"]
        found = skxlmr.load(target)
        np.testing.assert_array_equal(found.transform(TEXTS), expected[found.pooling])
        winners.append(found.pooling)
    # refused if it reads the model card at the moment when another process replaces it
    assert refused.value <= 0.2 * n_rounds * n_saves * len(POOLINGS)
    return winners


def test_one_of_three_wins(tmp_path, tiny_checkpoint):
    check(tmp_path, tiny_checkpoint, 1, 10)


@pytest.mark.slow
def test_100_times(tmp_path, tiny_checkpoint):
    winners = check(tmp_path, tiny_checkpoint, 20, 5)
    assert len(set(winners)) > 1, winners
