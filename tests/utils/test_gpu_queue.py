"""Workers that share a GPU take turns. A CPU stands in for the GPU: no test here has seen one."""

import json
import os
import tempfile
import time
from itertools import chain, pairwise

import pytest
import torch

from skxlmr import XLMRobertaClassifier, XLMRobertaVectorizer
from skxlmr.inference import _batch_queue
from skxlmr.training.step import TrainStep
from skxlmr.utils._devices import gpu_queue
from tests.processes import server

pytest.importorskip("fcntl", reason="needs locks that Windows does not have")

CPU = torch.device("cpu")
TEXTS = ["das kleine Haus", "the river", "σπίτι", "дом"]


def as_gpu(folder):
    """In this worker process, take the CPU for a GPU."""
    tempfile.tempdir = str(folder)
    assert gpu_queue.current_process().name != "MainProcess"
    gpu_queue._takes_turns = lambda device: True
    gpu_queue._name_of = lambda device: "stand-in"


def is_locked(folder):
    """Whether the lock is held, by anybody."""
    import fcntl

    for lock in folder.glob("*.lock"):
        with lock.open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
    return False


def work_in_turns(folder, out, checkpoint):
    """Write down when each run on the stand-in begins and ends."""
    as_gpu(folder)
    spans, run = [], _batch_queue.BatchQueue.__iter__

    def batches(queue):
        spans.append([time.monotonic_ns(), 0])
        yield from run(queue)
        spans[-1][1] = time.monotonic_ns()

    _batch_queue.BatchQueue.__iter__ = batches
    for _ in range(20):
        XLMRobertaVectorizer(checkpoint, device="cpu", memory=None).fit(TEXTS).transform(TEXTS)
    out.write_text(json.dumps(spans))


def start(function, *arguments):
    process = server().Process(target=function, args=arguments)
    process.start()
    return process


def test_workers_take_turns(tmp_path, tiny_checkpoint):
    locks = tmp_path / "locks"
    locks.mkdir()
    outs = [tmp_path / name for name in "ab"]
    for worker in [start(work_in_turns, locks, out, tiny_checkpoint) for out in outs]:
        worker.join(60)
        assert worker.exitcode == 0
    spans = [sorted(json.loads(out.read_text())) for out in outs]
    assert [len(each) for each in spans] == [20, 20]
    assert all(end <= start for (_, end), (start, _) in pairwise(sorted(chain(*spans))))
    assert len(list(locks.glob("*.lock"))) == 1
    assert not is_locked(locks)


def hold(folder, started):
    as_gpu(folder)
    with gpu_queue.turn(CPU), gpu_queue.turn(CPU):
        started.touch()
        time.sleep(60)


def take(folder, out):
    as_gpu(folder)
    with gpu_queue.turn(CPU):
        out.touch()


def wait_for(file):
    while not file.exists():
        time.sleep(0.01)


def test_a_worker_that_is_killed_gives_its_turn_back(tmp_path):
    locks, started, out = tmp_path / "locks", tmp_path / "started", tmp_path / "out"
    locks.mkdir()
    holder = start(hold, locks, started)
    wait_for(started)
    waiting = start(take, locks, out)
    waiting.join(0.3)
    assert waiting.is_alive()
    assert not out.exists()
    holder.kill()
    waiting.join(30)
    assert (waiting.exitcode, out.exists()) == (0, True)


def test_nothing_is_locked_on_a_cpu_or_outside_workers(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with gpu_queue.turn(CPU):
        assert os.listdir(tmp_path) == []
    assert not gpu_queue._takes_turns(torch.device("cuda"))  # this is no worker
    monkeypatch.setattr(gpu_queue, "current_process", lambda: type("Process", (), {"name": "LokyProcess-1"}))
    assert gpu_queue._takes_turns(torch.device("cuda", 1))
    assert not gpu_queue._takes_turns(CPU)


def test_errors_give_the_turn_back(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(gpu_queue, "_takes_turns", lambda device: True)
    monkeypatch.setattr(gpu_queue, "_name_of", lambda device: "stand-in")
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), gpu_queue.turn(CPU):
            is_locked(tmp_path) / 0
        assert not is_locked(tmp_path)


def test_a_fit_is_one_turn_whatever_it_validates(tmp_path, monkeypatch, tiny_checkpoint):
    taken, given_back, step = [], [], TrainStep.run
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(gpu_queue, "_takes_turns", lambda device: True)
    monkeypatch.setattr(gpu_queue, "_name_of", lambda device: taken.append(device) or "stand-in")
    monkeypatch.setattr(gpu_queue, "release_memory", given_back.append)
    monkeypatch.setattr(TrainStep, "run", lambda *args: is_locked(tmp_path) and step(*args))
    XLMRobertaClassifier(tiny_checkpoint, device="cpu", max_epochs=2, early_stopping=True, validation_fraction=0.5).fit(
        TEXTS, list("abab")
    )
    assert len(taken) > 2  # the loop, and the predictions within it
    assert len(given_back) == 1
