"""A fit that is killed or stopped at any moment and resumed equals an undisturbed one, bit for bit.

The slow tests kill 20 fits and resume each in a process of its own, and kill a search again and again:
``pytest -m slow tests/robustness/test_killed_fits.py``.
"""

import os
import signal
from contextlib import suppress

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.model_selection import HalvingGridSearchCV

from skxlmr import XLMRobertaClassifier, XLMRobertaDialogueLM, XLMRobertaMaskedLM
from skxlmr.training._state.resumable import FILE
from skxlmr.training.step import TrainStep
from tests import processes
from tests.tiny import sentences

TEXTS = sentences(12)
LABELS = np.arange(12) % 2
DIALOGUES = [[("user", a), ("system", b), ("user", c)] for a, b, c in zip(TEXTS, TEXTS[3:], TEXTS[6:], strict=False)]
SHORT = {"max_epochs": 2, "batch_size": 4, "learning_rate": 3e-3, "dtype": "float32", "random_state": 0}

# Every part of a fit whose state carries over from step to step
FITS = {
    "vocabulary, early stopping": (
        XLMRobertaClassifier,
        (TEXTS, LABELS),
        {"early_stopping": True, "validation_fraction": 0.34, "n_iter_no_change": 1, "max_epochs": 4},
    ),
    "segmentations, accumulation": (
        XLMRobertaClassifier,
        (TEXTS, LABELS),
        {"subword_sampling": 0.2, "batch_size": 2, "accumulate": 2},
    ),
    "frozen layers, mixed precision": (
        XLMRobertaClassifier,
        (TEXTS, LABELS),
        {"n_frozen_layers": 1, "dtype": "bfloat16"},
    ),
    "masks, several rates": (
        XLMRobertaMaskedLM,
        (TEXTS,),
        {"layer_decay": 0.9, "head_learning_rate": 1e-2, "schedule": "cosine"},
    ),
    "gradient caching": (XLMRobertaDialogueLM, (DIALOGUES,), {"batch_size": 1, "accumulate": 2}),
}


def run(checkpoint, kind, folder=None, resume=False, every=1):
    estimator, data, options = FITS[kind]
    kept = estimator(checkpoint, resume_dir=folder, resume_every=every, **SHORT | options)
    return kept.fit(*data, resume=resume)


def result_of(fitted):
    """The whole result of a fit, as tensors."""
    curves = torch.tensor([fitted.loss_curve_, fitted.validation_scores_ or fitted.loss_curve_], dtype=torch.float64)
    return {"curves": curves, **{name: value.contiguous() for name, value in fitted.module_.state_dict().items()}}


def assert_equal(found, expected):
    assert found.keys() == expected.keys()
    assert not [name for name in found if not torch.equal(found[name], expected[name])]


class Events:
    """Counts the steps and the calls that write a state; ``at`` is called with the number of each before it happens."""

    def __init__(self, monkeypatch, at):
        self.count, self.at = 0, at
        for module, name in ((TrainStep, "run"), (os, "fsync"), (os, "replace")):
            monkeypatch.setattr(module, name, self._counted(getattr(module, name)))

    def _counted(self, function):
        def call(*arguments, **options):
            self.count += 1
            self.at(self.count)
            return function(*arguments, **options)

        return call


@pytest.fixture(scope="module")
def left_alone(tiny_checkpoint):
    """The result of each undisturbed fit and its number of events, computed when first asked for."""
    made = {}

    def get(kind, folder):
        if kind not in made:
            with pytest.MonkeyPatch.context() as patch:
                counting = Events(patch, lambda number: None)
                expected = result_of(run(tiny_checkpoint, kind, folder / "left alone"))
            assert_equal(result_of(run(tiny_checkpoint, kind)), expected)  # keeping the state changes nothing
            made[kind] = expected, counting.count
        return made[kind]

    return get


# Stopped within this process ------------------------------------------------------------------------------------------


class Stop(Exception):
    """Ends a fit; nothing catches it."""


@pytest.mark.parametrize("kind", FITS)
def test_stopped_at_any_step(tiny_checkpoint, tmp_path, kind, left_alone):
    expected, n_events = left_alone(kind, tmp_path)
    n_stopped = 0
    for number in range(1, n_events + 1, 9):  # four events per step: each kind takes its turn
        folder, error = tmp_path / str(number), (Stop, KeyboardInterrupt)[number % 2]

        def stop(count, number=number, error=error):
            if count == number:
                raise error

        with pytest.MonkeyPatch.context() as patch, suppress(Stop, KeyboardInterrupt):
            Events(patch, stop)
            run(tiny_checkpoint, kind, folder)
            pytest.fail("it ran to its end")
        assert_equal(result_of(run(tiny_checkpoint, kind, folder, resume=True)), expected)
        n_stopped += 1
    assert n_stopped >= 3


# Killed in a process of its own ---------------------------------------------------------------------------------------


def killed(checkpoint, kind, folder, number):
    """Run a fit in this process and kill it at an event."""

    def kill(count):
        if count == number:
            os.kill(os.getpid(), signal.SIGKILL)

    Events(pytest.MonkeyPatch(), kill)
    run(checkpoint, kind, folder)


def resumed(checkpoint, kind, folder, file):
    """Resume in this process and leave the result in a file."""
    save_file(result_of(run(checkpoint, kind, folder, resume=True)), file)


def in_a_process(target, *arguments):
    """Exit code of a process that runs the target."""
    process = processes.server().Process(target=target, args=arguments)
    process.start()
    process.join(120)
    return process.exitcode


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL, which Windows lacks")
@pytest.mark.parametrize(("kind", "moment"), [*zip(FITS, (0.15, 0.4, 0.6, 0.75, 0.95), strict=True)])
def test_killed_and_resumed(tiny_checkpoint, tmp_path, kind, moment, left_alone):
    expected, n_events = left_alone(kind, tmp_path)
    folder = tmp_path / "state"
    assert in_a_process(killed, tiny_checkpoint, kind, folder, round(moment * n_events)) == -signal.SIGKILL
    assert_equal(result_of(run(tiny_checkpoint, kind, folder, resume=True)), expected)
    assert os.listdir(folder) == [FILE]  # nothing is left of a write that was killed


@pytest.mark.slow  # pytest -m slow tests/robustness/test_killed_fits.py
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL, which Windows lacks")
@pytest.mark.parametrize("point", range(20))
def test_killed_at_20_points(tiny_checkpoint, tmp_path, point, left_alone):
    kind = list(FITS)[point % len(FITS)]
    expected, n_events = left_alone(kind, tmp_path)
    number = 1 + point * (n_events - 1) // 19
    assert in_a_process(killed, tiny_checkpoint, kind, tmp_path / "state", number) == -signal.SIGKILL
    assert in_a_process(resumed, tiny_checkpoint, kind, tmp_path / "state", tmp_path / "result") == 0
    assert_equal(load_file(tmp_path / "result"), expected)


# Searches -------------------------------------------------------------------------------------------------------------


def searched(checkpoint, folder=None):
    """The result of a halving search over epochs, as tensors."""
    constant = {"schedule": "constant", "warmup_ratio": 0, "resume_dir": folder, "resume_every": 1}
    search = HalvingGridSearchCV(
        XLMRobertaClassifier(checkpoint, **SHORT | constant),
        {"learning_rate": [1e-6, 1e-3, 3e-3]},
        resource="max_epochs",
        min_resources=1,
        max_resources=4,
        factor=2,
        cv=2,
        error_score="raise",
    )
    search.fit(TEXTS, LABELS, **({"resume": "auto"} if folder else {}))
    return {"scores": torch.tensor(search.cv_results_["mean_test_score"]), **result_of(search.best_estimator_)}


def searched_until(number, checkpoint, folder):
    """Run a search in this process and kill it at an event."""

    def kill(count):
        if count == number:
            os.kill(os.getpid(), signal.SIGKILL)

    Events(pytest.MonkeyPatch(), kill)
    searched(checkpoint, folder)


@pytest.mark.slow  # pytest -m slow tests/robustness/test_killed_fits.py
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL, which Windows lacks")
def test_a_search_killed_again_and_again(tiny_checkpoint, tmp_path):
    expected, folder, n_killed = searched(tiny_checkpoint), tmp_path / "states", 0
    while (code := in_a_process(searched_until, 19, tiny_checkpoint, folder)) == -signal.SIGKILL:
        n_killed += 1
        assert n_killed < 20
    assert code == 0 and n_killed > 3
    assert_equal(searched(tiny_checkpoint, folder), expected)
