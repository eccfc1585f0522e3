"""Progress of predictions: shown for long work only, and never in the way of the result."""

import numpy as np
import pytest
import torch

from skxlmr.inference import _progress
from skxlmr.inference._batch_queue import BatchQueue

LENGTHS = np.full(9, 5)


def run_batches(verbose, fails=()):
    progress = _progress.Progress(verbose, len(LENGTHS), int(LENGTHS.sum()))
    queue, done = BatchQueue(LENGTHS, 12, torch.device("cpu"), 128, progress), []
    for number, rows in enumerate(queue):
        with queue:
            if number in fails:
                raise torch.OutOfMemoryError("full")
            done += rows.tolist()
    return done


@pytest.fixture
def clock(monkeypatch):
    """A second passes each time the clock is read."""
    ticks = iter(range(1000))
    monkeypatch.setattr(_progress.time, "monotonic", lambda: float(next(ticks)))


def test_rows_done_and_the_time_left(clock, capsys):
    assert sorted(run_batches(verbose=1)) == list(range(9))
    out, err = capsys.readouterr()
    lines = [line.rstrip(" ") for line in err.split("\r")[1:]]
    assert out == "" and lines[0] == "rows 4/9 [========            ] 3 s left"
    assert lines[-1] == "rows 9/9 5.0 s" + " " * 65 + "\n"


def test_rows_of_a_batch_that_failed_are_counted_when_they_are_done(clock, capsys):
    with pytest.warns(match="out of memory"):
        assert sorted(run_batches(verbose=1, fails=[1])) == list(range(9))
    assert "rows 9/9 " in capsys.readouterr().err


def test_the_last_line_comes_even_if_one_was_just_shown(clock, monkeypatch, capsys):
    monkeypatch.setattr(_progress, "INTERVAL", 100)
    run_batches(verbose=1)
    assert capsys.readouterr().err.count("\r") == 1


def test_silent_unless_verbose_and_for_short_work(clock, monkeypatch, capsys):
    run_batches(verbose=0)
    monkeypatch.setattr(_progress.time, "monotonic", lambda: 0.0)
    run_batches(verbose=1)
    assert capsys.readouterr() == ("", "")
