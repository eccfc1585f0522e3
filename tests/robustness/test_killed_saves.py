"""Whatever ends a process while it saves, the folder holds the complete old estimator or the complete new one.

In CI: 8 kills at random moments, one at each writing call, and a disk that is full at every third of them or after some
bytes. The full size: ``pytest -m slow tests/robustness/test_killed_saves.py`` (200 kills at random moments, 200 full disks, at
each call too). A full disk is simulated by a limit on the size of files (RLIMIT_FSIZE: the kernel refuses the bytes, also to
the writer of the weights), and by ENOSPC from Python's writing calls.
"""

import random
import signal
import time

import numpy as np
import pytest

from skxlmr import CheckpointError, XLMRobertaClassifier, load, save
from tests import processes
from tests.persistence.conftest import FIT, TEXTS
from tests.robustness.saves import REFUSED, save_over

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs processes that can be killed")
N_CALLS = 40  # more than a save makes


class Place:
    """A folder that holds an old estimator and that a new one is saved to."""

    def __init__(self, root, checkpoint):
        self.context = processes.server()
        self.target, self.old, self.new = root / "target", root / "sources" / "old", root / "sources" / "new"
        self.estimators, self.expected = {}, {}
        for i, folder in enumerate((self.old, self.new)):
            classifier = XLMRobertaClassifier(checkpoint, **FIT | {"random_state": i})
            self.estimators[folder.name] = classifier.fit(TEXTS, [f"{folder.name} {j % 2}" for j in range(6)])
            self.expected[folder.name] = self.estimators[folder.name].predict_proba(TEXTS)
            save(self.estimators[folder.name], folder)

    def save_old(self):
        """Save the old one; nothing else may be left there."""
        save(self.estimators["old"], self.target)
        assert sorted(path.name for path in self.target.parent.iterdir()) == ["sources", "target"]

    def save_new(self, accident=None, place=0, kill_after=None):
        """Save the new one in a process; returns its exit status."""
        ready, done = self.context.Event(), self.context.Event()
        process = self.context.Process(target=save_over, args=(self.new, self.target, ready, done, accident, place))
        process.start()
        assert ready.wait(60)
        began = time.perf_counter()
        if kill_after is not None:
            time.sleep(kill_after)
            process.kill()
        elif accident is None:
            assert done.wait(60)
            self.duration = time.perf_counter() - began
        process.join(60)
        return process.exitcode

    def which(self):
        """Which of the two is there, complete, and whether anything else is."""
        found = load(self.target)
        name = found.classes_[0].partition(" ")[0]
        np.testing.assert_array_equal(found.predict_proba(TEXTS), self.expected[name])
        return name, len(list(self.target.parent.iterdir())) > 2


@pytest.fixture(scope="module")
def place(tmp_path_factory, tiny_checkpoint):
    return Place(tmp_path_factory.mktemp("saves"), tiny_checkpoint)


def kill_at_random(place, n_kills):
    """How often the old one was found, the new one, and leftovers."""
    rng = random.Random(0)
    place.save_old()
    for _ in range(3):  # the first one warms up
        assert place.save_new() == 0
    duration = place.duration
    counts = {"old": 0, "new": 0, "leftovers": 0}
    for i in range(n_kills):
        place.save_old()
        place.save_new(kill_after=1.1 * duration * (i + rng.random()) / n_kills)
        name, leftovers = place.which()
        counts[name] += 1
        counts["leftovers"] += leftovers
    place.save_old()
    return counts


def fill_disk(place, n_limits, step=1):
    """Number of full disks that were simulated."""
    largest = (place.new / "model.safetensors").stat().st_size
    n_cases = 0
    for limit in np.linspace(0, largest - 1, n_limits).astype(int).tolist():
        place.save_old()
        assert place.save_new("limit", limit) == REFUSED
        assert place.which() == ("old", False)
        n_cases += 1
    for call in range(0, N_CALLS, step):
        place.save_old()
        status = place.save_new("full", call)
        name, _ = place.which()
        assert (status, name) in {(0, "new"), (REFUSED, "old"), (REFUSED, "new")}
        if status == 0:
            break
        n_cases += 1
    place.save_old()
    return n_cases


def test_killed_at_random_moments(place):
    counts = kill_at_random(place, 8)
    assert counts["old"] + counts["new"] == 8


def test_killed_at_each_writing_call(place):
    outcomes = []
    for call in range(N_CALLS):
        place.save_old()
        status = place.save_new("kill", call)
        outcomes.append(place.which())
        if status == 0:
            break
        assert status == -signal.SIGKILL
    assert outcomes[0][0] == "old" and outcomes[-1] == ("new", False)
    assert ("old", True) in outcomes and ("new", True) in outcomes
    assert 10 < len(outcomes) < N_CALLS


def test_killed_while_the_folder_is_new(place, tmp_path):
    place.target, target = tmp_path / "nothing" / "target", place.target
    try:
        for call in (1, 5, 9):
            place.save_new("kill", call)
            with pytest.raises(CheckpointError, match="no such folder"):
                load(place.target)
        assert place.save_new() == 0
        assert [path.name for path in place.target.parent.iterdir()] == ["target"]
    finally:
        place.target = target


def test_disk_full(place):
    assert fill_disk(place, 4, step=3) > 8


@pytest.mark.slow
def test_200_kills(place):
    counts = kill_at_random(place, 200)
    assert counts["old"] + counts["new"] == 200
    assert min(counts.values()) >= 5, counts


@pytest.mark.slow
def test_200_full_disks(place):
    assert fill_disk(place, 185) >= 200
