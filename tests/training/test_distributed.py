"""Two processes of a group train what one process would: the same losses and weights, whatever the task and the batches.

``python -m tests.training.shared_fits`` prints by how much they differ.
"""

import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from torch import distributed as dist

from skxlmr import CheckpointError, TruncationWarning, XLMRobertaClassifier
from skxlmr.estimators._fine_tuning import fine_tuned
from skxlmr.estimators._sequence.task import SequenceTask
from skxlmr.nn.randomness import Randomness, drawing_from, dropout, host_generator
from skxlmr.training import History, LossScale, Watcher, fit_loop
from skxlmr.training._distributed import Processes
from skxlmr.training._state.resumable import FILE
from skxlmr.training.step import TrainStep
from tests.training.fits import SETTINGS, make_module, make_task, optimizer_for, weights_of
from tests.training.shared_fits import (
    CASES,
    CLASSES,
    EVERYWHERE,
    SHORT,
    TEXTS,
    WITHOUT_GRADIENT,
    deviations,
    each_case,
    fitted,
    result_of,
    run,
)

ROOT = Path(__file__).resolve().parents[2]
FAST = ("classifier", "adapters", "early stopping", "masks", "dialogues, accumulated")


def failed(done):
    return [each.stderr[-3000:] for each in done if each.exit_code]


def test_two_processes_are_one(still_checkpoint, tmp_path):
    check(still_checkpoint, tmp_path, FAST)


@pytest.mark.slow
def test_two_processes_are_one_in_every_task(still_checkpoint, tmp_path):
    check(still_checkpoint, tmp_path, CASES)


@pytest.mark.slow
def test_five_processes_are_one(still_checkpoint, tmp_path):
    """The last batch has one row, or none for most of them."""
    check(still_checkpoint, tmp_path, ("a last batch of one row", "tokens", "dialogues", "alignment"), size=5)


def check(checkpoint, folder, cases, size=2):
    done = run(each_case, checkpoint, folder, list(cases), size=size)
    assert not failed(done)
    for case in cases:
        alone = result_of(fitted(checkpoint, case))
        first, *others = (torch.load(folder / f"{case} {rank}") for rank in range(size))
        of_losses, of_weights = deviations(first, alone, WITHOUT_GRADIENT.get(case, EVERYWHERE))
        assert of_losses < 1e-6 and of_weights < 1e-5, (case, of_losses, of_weights)
        assert first["scores"] == alone["scores"]
        for other in others:
            assert deviations(other, first) == (0, 0) and other["scores"] == first["scores"], case


def test_each_process_draws_its_own_dropout():
    """And the generator of the fit, which is that of all, moves on alike."""
    draws, states = [], []
    for rank in range(2):
        with drawing_from(Randomness(0)):
            for _ in range(2):
                with Processes(rank, 2, False).own_draws():
                    draws.append(dropout(torch.ones(100), 0.5).tolist())
            states.append(host_generator().get_state().tolist())
    assert len(set(map(tuple, draws))) == 4 and states[0] == states[1]


@pytest.mark.parametrize("n_rows", [0, 1, 2, 7, 64])
def test_shares_are_all_rows_once(n_rows):
    for size in (2, 3, 8):
        shares = [np.arange(n_rows)[Processes(rank, size, False).share(n_rows)] for rank in range(size)]
        assert np.concatenate(shares).tolist() == list(range(n_rows))
        assert max(map(len, shares)) - min(map(len, shares)) <= 1


# Of these, several share a pair of processes: to start one takes longer than to fit -----------------------------------------


def test_what_processes_have_in_common(tiny_checkpoint, tmp_path):
    """With dropout, so that a fit of two processes is another one than that of one."""
    done = run(in_common, str(tiny_checkpoint), str(tmp_path))
    assert not failed(done)
    # one bar and one warning for both
    assert "epoch 2/2" in done[0].stderr and not done[1].stderr.strip()
    state = tmp_path / "state" / FILE
    written = state.read_bytes()
    make = XLMRobertaClassifier(str(tiny_checkpoint), resume_dir=state.parent, **SHORT)
    with pytest.raises(CheckpointError, match="differs in the number of processes"):
        make.fit(TEXTS, CLASSES, resume=True)
    assert state.read_bytes() == written


def in_common(rank, checkpoint, folder):
    for part in (
        unseeded,
        other_rows,
        one_fails,
        one_fit_of_a_search_fails,
        diverging,
        warned,
        first_decides,
        overflowing,
        dropout_and_resumed,
        searched,
    ):
        part(rank, checkpoint, Path(folder))


def of_all(value):
    values = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def unseeded(rank, checkpoint, folder):
    """Without a seed all draw that of the first."""
    makes = XLMRobertaClassifier(checkpoint, **SHORT | {"random_state": None, "max_epochs": 1})
    first, second = of_all(makes.fit(TEXTS, CLASSES).loss_curve_)
    assert first == second != makes.fit(TEXTS, CLASSES).loss_curve_
    portion = makes.partial_fit(TEXTS[:9], CLASSES[:9])
    first, second = of_all(portion.loss_curve_)
    assert first == second and len(first) == 2


def other_rows(rank, checkpoint, folder):
    """Rows that the script has divided, or parameters that differ, are an error in each process that names them."""
    make = XLMRobertaClassifier(checkpoint, **SHORT)
    with pytest.raises(
        ValueError, match="processes of this fit differ in the training texts, the targets, the weights of the"
    ):
        make.fit(TEXTS[rank * 11 : rank * 11 + 10 + rank], CLASSES[: 10 + rank])
    with pytest.raises(ValueError, match="differ in learning_rate: each has to pass the same rows"):
        XLMRobertaClassifier(checkpoint, **SHORT | {"learning_rate": 1e-3 * (1 + rank)}).fit(TEXTS, CLASSES)
    with pytest.raises(ValueError, match="differ in the classes:"):
        make.fit(TEXTS, CLASSES + rank)
    weights = make.fit(TEXTS, CLASSES).module_.state_dict()
    weights["classifier.out_proj.bias"] += rank
    with pytest.raises(ValueError, match="differ in the weights of the model:"):
        make.set_params(warm_start=True).fit(TEXTS, CLASSES)


def one_fails(rank, checkpoint, folder):
    """Wherever it fails outside of the steps, and whoever fails: the other says why, and the next fit is that of both."""
    make = XLMRobertaClassifier(checkpoint, **SHORT | {"max_epochs": 1})
    losses = make.fit(TEXTS, CLASSES).loss_curve_

    def fails(number, reason, fit, *data):
        heard_of = f"this fit has failed in another of its 2 processes: process {number}: ValueError: {reason}"
        with pytest.raises(ValueError, match=reason) if rank == number else pytest.raises(RuntimeError, match=heard_of):
            fit(*data)
        assert of_all(make.fit(TEXTS, CLASSES).loss_curve_) == [losses] * 2

    def refused_at_the_end(*data):
        def late(*arguments):
            raise ValueError("late")

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(fine_tuned, "collapse", late)
            make.fit(*data)

    for number in range(2):
        own = rank == number
        fails(number, r"Found input variables .*: \[22, 21\]", make.fit, TEXTS, CLASSES[: 22 - own])
        frozen = clone(make).set_params(n_frozen_layers=9 * own)  # refused after the seed was drawn
        fails(number, "n_frozen_layers=9 is more than the 2 layers", frozen.fit, TEXTS, CLASSES)
        fails(number, "late", refused_at_the_end if own else make.fit, TEXTS, CLASSES)
    # each at another place: the second fails first
    frozen = clone(make).set_params(n_frozen_layers=9 * (1 - rank))
    fails(1, "Found input variables", frozen.fit, TEXTS, CLASSES[: 22 - rank])


def one_fit_of_a_search_fails(rank, checkpoint, folder):
    """The others are shared as if it had not been."""

    class Search(XLMRobertaClassifier):
        n_fits = 0

        def fit(self, X, y):
            Search.n_fits += 1
            return super().fit(X, y[:3] if (rank, Search.n_fits) == (1, 2) else y)

    found = []
    for estimator in (XLMRobertaClassifier, Search):
        make = estimator(checkpoint, **SHORT | {"max_epochs": 1})
        with warnings.catch_warnings(action="ignore"):
            search = GridSearchCV(make, {"learning_rate": [1e-4, 1e-3, 3e-3]}, cv=2, refit=False).fit(TEXTS, CLASSES)
        found.append([search.cv_results_[f"split{split}_test_score"].tolist() for split in range(2)])
    (first, second), (first_again, second_again) = found
    assert first_again == first and np.isnan(second_again[0]) and second_again[1:] == second[1:]


def diverging(rank, checkpoint, folder):
    """The first process has row 3 and the second row 17; both name both."""
    compute = SequenceTask.losses

    def losses(self, module, batch):
        lost = torch.from_numpy(np.isin(batch.rows["loss"], [3, 17]))
        return {"loss": compute(self, module, batch)["loss"].masked_fill(lost, torch.inf)}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SequenceTask, "losses", losses)
        with pytest.raises(FloatingPointError, match="the loss is not finite at rows 3, 17 of the training data"):
            XLMRobertaClassifier(checkpoint, **SHORT | {"batch_size": 22}).fit(TEXTS, CLASSES)


def warned(rank, checkpoint, folder):
    """Of what all have in common the first warns, and the first shows the bar."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        XLMRobertaClassifier(checkpoint, **SHORT | {"max_length": 5, "verbose": 1}).fit(TEXTS, CLASSES)
    assert [each.category for each in caught] == [TruncationWarning] * (1 - rank)


def first_decides(rank, checkpoint, folder):
    """What a score is, and when to stop."""
    stops = XLMRobertaClassifier(
        checkpoint, **SHORT | {"max_epochs": 4}, early_stopping=True, n_iter_no_change=1, scoring=lambda *_: float(rank)
    )
    assert stops.fit(TEXTS, CLASSES).validation_scores_ == [0.0, 0.0]

    class Watching(Watcher):
        def step_ends(self):
            return rank == 1

        def epoch_ends(self, history):
            return rank == 0

    watcher = Processes(rank, 2, False).watching(Watching())
    assert not watcher.step_ends() and watcher.epoch_ends(History())


def overflowing(rank, checkpoint, folder):
    """Where the gradients of one overflow float16, all skip the step."""
    module, task, loss_scale = make_module(torch.float32), make_task(), LossScale()
    loss_scale.scale, compute, n_batches = 2.0**60, SequenceTask.losses, []

    def losses(self, module, batch):
        n_batches.append(1)
        factor = 1e30 if rank == 1 and len(n_batches) == 1 else 1.0
        return {"loss": factor * compute(self, module, batch)["loss"]}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SequenceTask, "losses", losses)
        fit_loop(
            module,
            task,
            optimizer_for(module),
            SETTINGS,
            np.random.default_rng(0),
            loss_scale=loss_scale,
            processes=Processes(rank, 2, False),
        )
    assert (loss_scale.n_skipped, loss_scale.scale, len(n_batches)) == (1, 2.0**59, 6)
    first, second = of_all(weights_of(module))
    assert not [name for name, value in first.items() if not torch.equal(value, second[name])]


def dropout_and_resumed(rank, checkpoint, folder):
    """Each process draws its own dropout; a resumed fit is the undisturbed one, to the last bit."""
    expected = XLMRobertaClassifier(checkpoint, **SHORT).fit(TEXTS, CLASSES)
    again = XLMRobertaClassifier(checkpoint, **SHORT).fit(TEXTS, CLASSES)
    assert again.loss_curve_ == expected.loss_curve_
    kept = XLMRobertaClassifier(checkpoint, **SHORT, resume_dir=folder / "state", resume_every=1)
    run_step, steps = TrainStep.run, []

    def failing(self, *args):
        if len(steps) == 4:
            raise RuntimeError("power cut")
        steps.append(None)
        return run_step(self, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainStep, "run", failing)
        with pytest.raises(RuntimeError, match="power cut"):
            kept.fit(TEXTS, CLASSES)
    replaced = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "replace", lambda *files, replace=os.replace: replaced.append(files) or replace(*files))
        kept.fit(TEXTS, CLASSES, resume=True)
    assert bool(replaced) == (rank == 0)
    assert deviations(result_of(kept), result_of(expected)) == (0, 0)
    own = kept.set_params(resume_dir=folder / "own")
    for _ in range(2):  # the second reads the result of the first
        own.fit(TEXTS, CLASSES, resume="auto")
        assert deviations(result_of(own), result_of(expected)) == (0, 0)


def searched(rank, checkpoint, folder):
    """A search in this process shares each fit; its worker processes and threads fit alone."""
    data, grid = (TEXTS, CLASSES), {"learning_rate": [1e-3, 3e-3]}
    make = XLMRobertaClassifier(checkpoint, **SHORT | {"max_epochs": 1})
    first, second = of_all(GridSearchCV(make, grid, cv=2).fit(*data).cv_results_["mean_test_score"].tolist())
    assert first == second


@pytest.mark.slow
@pytest.mark.parametrize(("how", "exit_code"), [("caught", 0), ("killed", 1), ("restarted", 0), ("interrupted", 0)])
def test_under_torchrun(tiny_checkpoint, how, exit_code):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command += ["--max-restarts=1"] if how == "restarted" else []
    command += ["-m", "tests.training.under_torchrun", str(tiny_checkpoint), how]
    environment = os.environ | {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}  # see docs/distributed.md
    done = subprocess.run(command, cwd=ROOT, timeout=900, capture_output=True, text=True, env=environment)
    assert done.returncode == exit_code, done.stderr
    assert done.stdout.count("is done") == 2 - 2 * exit_code


@pytest.mark.slow
def test_a_killed_process_ends_the_other(tiny_checkpoint):
    done = run(killed_in_a_step, str(tiny_checkpoint))
    assert done[1].exit_code == -signal.SIGKILL
    assert done[0].exit_code == 1 and "process 0 of 2 waits in vain" in done[0].stderr
    assert "Timed out" not in done[0].stderr  # the connection is closed: nothing waits for the time limit of the group


def killed_in_a_step(rank, checkpoint):
    run_step, steps = TrainStep.run, []

    def killing(self, *args):
        steps.append(None)
        if rank == 1 and len(steps) == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return run_step(self, *args)

    TrainStep.run = killing
    XLMRobertaClassifier(checkpoint, **SHORT).fit(TEXTS, CLASSES)
