"""The state of a fit on disk: when it is written, how a fit is resumed from it, and files that are not a state."""

import json
import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from skxlmr.training import StateKeeper, fit_loop
from skxlmr.training._state import resumable
from skxlmr.training._state.fit import FitState
from skxlmr.training._state.resumable import _UNFINISHED, FILE, read_header
from skxlmr.utils._errors import CheckpointError
from tests.nn.reference import TINY

from .fits import SETTINGS, Watched, assert_same_weights, make_module, make_task, moved, optimizer_for, weights_of

LIVELY = replace(TINY, num_hidden_layers=1, hidden_dropout_prob=0.2, attention_probs_dropout_prob=0.2)
ABOUT = {"learning_rate": "0.001", "the training texts": "0" * 64}


class Stop(Exception):
    """Ends a fit; nothing catches it."""


def stopping_at(number, error=Stop):
    def stop(batch):
        if batch == number:
            raise error

    return stop


def forbidden(batch):
    raise AssertionError("a batch was computed")


def kept_fit(
    folder, before_batch=lambda number: None, *, resume=False, every=None, about=ABOUT, validate=None, seed=5, **changes
):
    """Module and history of a fit of three epochs of three steps, which keeps its state in the folder unless that is None."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module = make_module(torch.float32, LIVELY)
        optimizer, rng = optimizer_for(module), np.random.default_rng(seed)
        keeper = None
        if folder is not None:
            keeper = StateKeeper(folder, every, resume)
            keeper.seed(seed)
            keeper.attach(module, optimizer, rng, about)
        settings = replace(SETTINGS, **{"max_epochs": 3, "schedule": "linear", "warmup_ratio": 0.2} | changes)
        score = validate and (lambda: validate(module))
        history = fit_loop(module, Watched(make_task(12), before_batch), optimizer, settings, rng, score, None, keeper)
    return module, history


# Resuming -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("every", [None, 1, 2, 4])
@pytest.mark.parametrize("error", [Stop, KeyboardInterrupt])
def test_a_fit_stopped_at_any_step_resumes_bit_for_bit(tmp_path, every, error):
    expected, told = kept_fit(None)
    for step in (0, 2, 3, 5, 8) if every in (None, 1) else (1, 4, 6, 7):
        folder = tmp_path / str(step)
        try:
            _, history = kept_fit(folder, stopping_at(step, error), every=every)
            assert history.interrupted
        except error:
            pass
        # from other random states than those of the start, if there is a file: all of them come from it
        module, history = kept_fit(folder, resume=True, every=every, seed=5 if step < (every or 3) else 77)
        assert_same_weights(module, weights_of(expected))
        assert history.loss_curve == told.loss_curve, step


def test_stopped_again_and_again(tmp_path):
    expected, told = kept_fit(None)
    for _ in range(9):
        with pytest.raises(Stop):
            kept_fit(tmp_path, stopping_at(1), resume=True, every=1)
        left = json.loads(header(tmp_path))["state"]
        if (left["epoch"], left["step"]) == (2, 2):
            break
    module, history = kept_fit(tmp_path, resume=True, every=1)
    assert_same_weights(module, weights_of(expected))
    assert history.loss_curve == told.loss_curve


def first_weight(module):
    """A score that goes up and down: a digit of a weight."""
    return float(next(module.parameters()).detach().double().sum() * 1000 % 1)


@pytest.mark.parametrize("patience", [1, 2, 9])
def test_early_stopping_resumes_with_the_best_epoch(tmp_path, patience):
    options = {"validate": first_weight, "early_stopping": True, "n_iter_no_change": patience, "max_epochs": 5}
    expected, told = kept_fit(None, **options)
    last = kept_fit(None, **options | {"early_stopping": False})[0]
    assert patience == 1 or moved(last, weights_of(expected))  # the best epoch is not the last
    for step in range(1, 3 * len(told.loss_curve), 4):  # first, second and third steps of an epoch
        with pytest.raises(Stop):
            kept_fit(tmp_path / str(step), stopping_at(step), every=1, **options)
        module, history = kept_fit(tmp_path / str(step), resume=True, every=1, **options)
        assert_same_weights(module, weights_of(expected))
        assert history.validation_scores == told.validation_scores


def test_an_interrupt_after_resuming_puts_back_the_last_finished_epoch(tmp_path):
    expected = kept_fit(None, stopping_at(3, KeyboardInterrupt))[0]  # after one epoch
    with pytest.raises(Stop):
        kept_fit(tmp_path, stopping_at(4), every=1)
    module, history = kept_fit(tmp_path, stopping_at(1, KeyboardInterrupt), resume=True, every=1)
    assert history.interrupted and len(history.loss_curve) == 1
    assert_same_weights(module, weights_of(expected))


def test_a_finished_fit_is_not_run_again(tmp_path):
    for options in ({}, {"validate": first_weight, "early_stopping": True, "n_iter_no_change": 1, "max_epochs": 9}):
        expected, told = kept_fit(tmp_path, **options)
        module, history = kept_fit(tmp_path, forbidden, resume=True, **options)
        assert_same_weights(module, weights_of(expected))
        assert history == told


def test_more_epochs_at_a_constant_rate(tmp_path):
    expected, told = kept_fit(None, max_epochs=5, schedule="constant", warmup_ratio=0.0)
    kept_fit(tmp_path, max_epochs=2, schedule="constant", warmup_ratio=0.0)
    module, history = kept_fit(tmp_path, resume=True, max_epochs=5, schedule="constant", warmup_ratio=0.0)
    assert_same_weights(module, weights_of(expected))
    assert history.loss_curve == told.loss_curve


def test_fewer_epochs_than_there_were_are_refused(tmp_path):
    constant = {"schedule": "constant", "warmup_ratio": 0.0}
    with pytest.raises(Stop):
        kept_fit(tmp_path, stopping_at(4), every=1, **constant)
    before = (tmp_path / FILE).read_bytes()
    with pytest.raises(
        CheckpointError, match="state after 1 epochs and 1 steps, more than max_epochs=1: fit with resume"
    ):
        kept_fit(tmp_path, forbidden, resume=True, max_epochs=1, **constant)
    assert (tmp_path / FILE).read_bytes() == before
    kept_fit(tmp_path, resume=True, max_epochs=2, **constant)
    kept_fit(tmp_path, forbidden, resume=True, max_epochs=2, **constant)
    with pytest.raises(CheckpointError, match="state after 2 epochs and 0 steps, more than max_epochs=1"):
        kept_fit(tmp_path, forbidden, resume=True, max_epochs=1, **constant)


def test_without_a_state_or_without_resume_a_fit_starts_from_scratch(tmp_path):
    expected = weights_of(kept_fit(None)[0])
    assert_same_weights(kept_fit(tmp_path / "a" / "b", resume=True)[0], expected)
    ran = []
    module, _ = kept_fit(tmp_path / "a" / "b", ran.append)  # and over an earlier state
    assert len(ran) == 9
    assert_same_weights(module, expected)


def test_a_best_epoch_kept_without_early_stopping_is_dropped(tmp_path):
    """Earlier versions kept it whenever there were validation scores."""
    expected, told = kept_fit(None, validate=first_weight)
    with pytest.raises(Stop):
        kept_fit(tmp_path, stopping_at(4), every=1, validate=first_weight)

    def with_best(held):
        held |= {
            name.replace("weight/", "best/", 1): tensor.clone() for name, tensor in held.items() if "weight/" in name
        }

    rewritten(tmp_path / FILE, setting("best", value="apart"), with_best)
    module, history = kept_fit(tmp_path, resume=True, every=1, validate=first_weight)
    assert_same_weights(module, weights_of(expected))
    assert history == told
    assert json.loads(header(tmp_path))["best"] == "none"


# Writing --------------------------------------------------------------------------------------------------------------


def header(folder):
    with safe_open(folder / FILE, framework="pt") as opened:
        return opened.metadata()["fit"]


@pytest.mark.parametrize(
    ("every", "expected"),
    [
        (None, [(1, 0), (2, 0), (3, 0)]),
        (1, [(0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (2, 2), (3, 0)]),
        (4, [(1, 1), (2, 2), (3, 0)]),
        (100, [(3, 0)]),
    ],
)
def test_when_it_is_written(tmp_path, monkeypatch, every, expected):
    written, replace_file = [], os.replace

    def watched(source, target):
        replace_file(source, target)
        state = json.loads(header(tmp_path))["state"]
        written.append((state["epoch"], state["step"]))

    monkeypatch.setattr(os, "replace", watched)
    kept_fit(tmp_path, every=every)
    assert written == expected
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


@pytest.mark.parametrize("broken", ["replace", "fsync", "mkdir"])  # the last as on a read-only file system
def test_a_state_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch, broken):
    with pytest.raises(Stop):
        kept_fit(tmp_path, stopping_at(4), every=1)
    before = (tmp_path / FILE).read_bytes()

    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, broken, full)
    with pytest.raises(CheckpointError, match=r"fit.safetensors: cannot be written .*No space left"):
        kept_fit(tmp_path, resume=True, every=1)
    assert (tmp_path / FILE).read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == [FILE]  # half a state would keep the disk full
    monkeypatch.undo()
    assert_same_weights(kept_fit(tmp_path, resume=True, every=1)[0], weights_of(kept_fit(None)[0]))
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_weights_that_are_not_finite_are_not_written(tmp_path):
    with pytest.raises(Stop):
        kept_fit(tmp_path, stopping_at(2), every=1)
    before = (tmp_path / FILE).read_bytes()
    module = make_module(torch.float32, LIVELY)
    keeper = StateKeeper(tmp_path, 1, False)
    keeper.seed(5)
    keeper.attach(module, optimizer_for(module), np.random.default_rng(5), ABOUT)
    with torch.no_grad():
        next(module.parameters()).view(-1)[0] = torch.nan
    keeper.write(FitState())
    assert (tmp_path / FILE).read_bytes() == before  # the last good state: the next step of the fit raises


def test_leftovers_of_killed_writes_are_removed_by_the_next_one(tmp_path):
    unfinished = tmp_path / _UNFINISHED
    unfinished.mkdir()
    for name in (FILE, ".tmpAbC123"):  # as safetensors names the file that it writes to
        (unfinished / name).write_bytes(b"half a state")
    kept_fit(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_a_folder_that_cannot_be_created(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CheckpointError, match="file: cannot be created as a folder"):
        StateKeeper(tmp_path / "file", None, False)


# Other fits, and files that are not a state ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"learning_rate": "0.1"}, r"differs in learning_rate \(then 0.001, now 0.1\):"),
        ({"the training texts": "1" * 64}, "differs in the training texts:"),
        ({"tol": "0.1"}, "differs in tol:"),
        (
            {"learning_rate": "1", "the training texts": "1" * 64},
            r"differs in learning_rate \(.*\), the training texts:",
        ),
    ],
)
def test_another_fit_is_refused_and_what_differs_named(tmp_path, change, named):
    kept_fit(tmp_path)
    before = (tmp_path / FILE).read_bytes()
    with pytest.raises(CheckpointError, match=f"is the state of another fit, which {named}"):
        kept_fit(tmp_path, forbidden, resume=True, about=ABOUT | change)
    assert (tmp_path / FILE).read_bytes() == before


def rewritten(file, change=None, tensors=None):
    """Write the file again with a changed header or changed tensors."""
    saved = json.loads(header(file.parent))
    change and change(saved)
    held = load_file(file)
    tensors and tensors(held)
    save_file(held, file, {"fit": json.dumps(saved)})


def setting(*path, value):
    """Set a value deep in the header."""

    def change(saved):
        for key in path[:-1]:
            saved = saved[key]
        saved[path[-1]] = value

    return change


HEADERS = {
    "format": setting("format", value=99),
    "no seed": lambda saved: saved.pop("seed"),
    "seed": setting("seed", value=-1),
    "about": setting("about", value=[]),
    "state": setting("state", value=None),
    "epoch": setting("state", "epoch", value=7),
    "negative": setting("state", "step", value=-1),
    "kind": setting("state", "stopped", value="no"),
    "losses": setting("loss_curve", value=["nan"]),
    "no losses": lambda saved: saved.pop("loss_curve"),
    "scores": setting("validation_scores", value={"a": 1}),
    "rng": setting("rng", value=None),
    "rng kind": setting("rng", "bit_generator", value="MT19937"),
    "rng size": setting("rng", "state", "state", value=2**999),
    "rng negative": setting("rng", "state", "inc", value=-1),
    "epoch rng": setting("epoch_rng", value={}),
    "best": setting("best", value="apart"),
}


def weight_of(held):
    return next(name for name in held if name.startswith("weight/"))


TENSORS = {
    "missing": lambda held: held.pop(weight_of(held)),
    "shape": lambda held: held.update({weight_of(held): torch.zeros(3)}),
    "dtype": lambda held: held.update({weight_of(held): held[weight_of(held)].half()}),
    "moments": lambda held: held.pop(next(name for name in held if name.startswith("optimizer/exp_avg_sq/"))),
    "finished": lambda held: held.pop(next(name for name in held if name.startswith("finished/"))),
    "generator": lambda held: held.pop("generator/0"),
    "generator size": lambda held: held.update({"generator/0": held["generator/0"][:100].clone()}),
    "generator content": lambda held: held.update({"generator/0": torch.full_like(held["generator/0"], 255)}),
    "generator dtype": lambda held: held.update({"generator/0": held["generator/0"].float()}),
}


@pytest.mark.parametrize(
    ("part", "change"),
    [*(("change", change) for change in HEADERS.values()), *(("tensors", change) for change in TENSORS.values())],
    ids=[*HEADERS, *TENSORS],
)
def test_broken_states_are_named(tmp_path, part, change):
    with pytest.raises(Stop):
        kept_fit(tmp_path, stopping_at(4), every=1)
    rewritten(tmp_path / FILE, **{part: change})
    with pytest.raises(CheckpointError) as error:
        kept_fit(tmp_path, forbidden, resume=True)
    assert error.value.file.endswith(FILE)


@pytest.mark.parametrize("kind", ["weight", "finished", "optimizer/exp_avg_sq"])
@pytest.mark.parametrize("value", [torch.nan, -torch.inf])
def test_values_that_are_not_finite_are_refused(tmp_path, kind, value):
    with pytest.raises(Stop):
        kept_fit(tmp_path, stopping_at(4), every=1)

    def spoil(held):
        held[next(name for name in held if name.startswith(f"{kind}/"))].view(-1)[-1] = value

    rewritten(tmp_path / FILE, tensors=spoil)
    with pytest.raises(CheckpointError, match=f"NaN or infinite, in {kind}/.*: fit with resume=False to start"):
        kept_fit(tmp_path, forbidden, resume=True)


def test_a_state_larger_than_the_fit_s_is_refused_before_it_is_read(tmp_path, monkeypatch):
    kept_fit(tmp_path)
    rewritten(tmp_path / FILE, tensors=lambda held: held.update(more=torch.zeros(2**22)))  # 16 MB
    monkeypatch.setattr(resumable, "read_safetensors", forbidden)
    with pytest.raises(CheckpointError, match=r"it has \d+ bytes, expected at most \d+\): fit with resume=False"):
        kept_fit(tmp_path, forbidden, resume=True)


def test_files_that_are_not_a_state(tmp_path):
    kept_fit(tmp_path)
    file = tmp_path / FILE
    whole = file.read_bytes()
    for content in (b"", b"{}", whole[:100], whole[:-1], b"\xff" * 8 + whole[8:], b"pickle" * 100):
        file.write_bytes(content)
        with pytest.raises(CheckpointError):
            kept_fit(tmp_path, forbidden, resume=True)
    for metadata in (None, {"fit": "["}, {"fit": "[" * 100_000}, {"fit": "3"}, {"other": "{}"}):
        save_file({"a": torch.zeros(1)}, file, metadata)
        with pytest.raises(CheckpointError):
            kept_fit(tmp_path, forbidden, resume=True)
    file.unlink()
    if hasattr(os, "mkfifo"):
        os.mkfifo(file)  # which must not be waited for
        with pytest.raises(CheckpointError, match=r"it is not a file.: fit with resume=False to start from scratch"):
            kept_fit(tmp_path, forbidden, resume=True)
        file.unlink()
    file.mkdir()
    with pytest.raises(CheckpointError):
        kept_fit(tmp_path, forbidden, resume=True)


def test_what_to_do_with_a_broken_state(tmp_path):
    (tmp_path / "fit.safetensors").write_bytes(b"broken")
    with pytest.raises(
        CheckpointError, match=r"is not the state of a fit \(.*\): fit with resume=False to start from scratch"
    ):
        read_header(tmp_path / "fit.safetensors")
