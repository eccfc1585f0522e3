"""The states of many fits in one folder: which of them a fit continues from, and when it writes none."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from skxlmr.checkpoints._atomic_replace import lock_folder
from skxlmr.training import LossScale, OwnFolderKeeper, fit_loop
from skxlmr.training._state.resumable import FILE
from skxlmr.utils._errors import CheckpointError

from .fits import SETTINGS, Watched, assert_same_weights, make_module, make_task, optimizer_for, weights_of
from .test_resumable_state import ABOUT, LIVELY, Stop, first_weight, header, rewritten, setting, stopping_at

STEPS = 3  # of an epoch


def fit(
    folder,
    max_epochs,
    before_batch=lambda number: None,
    *,
    every=None,
    about=ABOUT,
    lr=1e-3,
    seed=5,
    change=id,
    **changes,
):
    """Module, history, loss scale and number of steps of a fit with dropout, at a constant rate unless said otherwise."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module = make_module(torch.float32, LIVELY)
        change(module)
        optimizer, rng, scale = optimizer_for(module, lr), np.random.default_rng(seed), LossScale(steps_to_grow=2)
        settings = replace(SETTINGS, max_epochs=max_epochs, **changes)
        keeper = None
        if settings.schedule != "constant":
            about = about | {"max_epochs": str(max_epochs), "schedule": "'linear'", "warmup_ratio": "0.0"}
        if folder is not None:
            keeper = OwnFolderKeeper(folder, every, max_epochs, {"the callbacks": "[]"})
            keeper.seed(seed)
        task = Watched(make_task(12), before_batch)
        score = (lambda: first_weight(module)) if settings.early_stopping else None
        try:
            if keeper is not None:
                keeper.attach(module, optimizer, rng, about, scale)
            history = fit_loop(module, task, optimizer, settings, rng, score, None, keeper, None, scale)
        finally:
            if keeper is not None:
                keeper.close()
    return module, history, scale, len(task.step_losses)


def assert_same(found, expected):
    assert_same_weights(found[0], weights_of(expected[0]))
    assert found[1] == expected[1] and found[1].record == expected[1].record
    assert found[2].state() == expected[2].state() and found[1].n_skipped == expected[1].n_skipped


def states(folder):
    return sorted(path.parent.name for path in folder.glob(f"*/*/{FILE}"))


@pytest.mark.parametrize("changes", [{}, {"early_stopping": True, "n_iter_no_change": 9}], ids=["all", "best epoch"])
def test_each_rung_equals_training_through(tmp_path, changes):
    """Weights, moments, dropout, loss scale, scores, best epoch and record, with each step computed once."""
    n_steps = []
    for epochs in (1, 3, 5):
        found = fit(tmp_path, epochs, **changes)
        assert_same(found, fit(None, epochs, **changes))
        n_steps.append(found[3])
    assert n_steps == [STEPS, 2 * STEPS, 2 * STEPS]
    scores = found[1].validation_scores
    assert found[1].record.kept.number == (np.argmax(scores) if changes else 4) and np.argmax(scores or [1]) < 4
    assert states(tmp_path) == ["epochs-1", "epochs-3", "epochs-5"]
    for epochs in (5, 1, 3):  # again: nothing is computed
        found = fit(tmp_path, epochs, **changes)
        assert_same(found, fit(None, epochs, **changes))
        assert found[3] == 0
    assert fit(tmp_path, 4, **changes)[3] == STEPS  # from the third epoch, not from the fifth


def test_a_fit_that_stopped_early_is_over_for_longer_ones(tmp_path):
    changes = {"early_stopping": True, "n_iter_no_change": 1}
    expected = fit(tmp_path, 9, **changes)
    n_epochs = len(expected[1].loss_curve)
    assert n_epochs < 9
    for epochs in (n_epochs, n_epochs + 1, 20):
        found = fit(tmp_path, epochs, **changes)
        assert found[3] == 0
        assert_same(found, expected)
    assert fit(tmp_path, n_epochs - 1, **changes)[3] == STEPS * (n_epochs - 1)


def test_a_stopped_fit_continues_where_it_was(tmp_path):
    with pytest.raises(Stop):
        fit(tmp_path, 3, stopping_at(4), every=1)
    found = fit(tmp_path, 3, every=1)
    assert found[3] == 5
    assert_same(found, fit(None, 3))
    # one of another length ends elsewhere: only what is finished is read by others
    with pytest.raises(Stop):
        fit(tmp_path, 9, stopping_at(4), every=1, lr=1e-4, about={"learning_rate": "0.0001"})
    assert fit(tmp_path, 3, lr=1e-4, about={"learning_rate": "0.0001"})[3] == 9
    found = fit(tmp_path, 9, lr=1e-4, about={"learning_rate": "0.0001"})
    assert found[3] == 18  # from the third epoch of the other, not from the fourth step of its own
    assert_same(found, fit(None, 9, lr=1e-4))


def test_every_fit_has_a_folder_of_its_own(tmp_path):
    fit(tmp_path, 1)
    for other in ({"about": ABOUT | {"tol": "1"}}, {"seed": 6}):
        assert fit(tmp_path, 1, **other)[3] == STEPS
    assert len(list(tmp_path.iterdir())) == 3 and not (tmp_path / FILE).exists()


def test_other_weights_to_start_from_are_another_fit(tmp_path):
    fit(tmp_path, 1)
    assert fit(tmp_path, 1, change=lambda module: torch.nn.init.ones_(next(module.parameters())))[3] == STEPS


def test_in_other_schedules_a_longer_fit_starts_from_scratch_and_says_why(tmp_path):
    linear = {"schedule": "linear"}
    fit(tmp_path, 1, **linear)
    with pytest.warns(
        UserWarning, match=r"schedule='linear' and warmup_ratio=0.0 .* Set schedule='constant' and"
    ) as said:
        found = fit(tmp_path, 3, stopping_at(99), **linear)
    assert len(said) == 1 and found[3] == 3 * STEPS
    assert_same(found, fit(None, 3, **linear))
    for epochs in (3, 1):  # its own state is there: nothing to say
        assert fit(tmp_path, epochs, **linear)[3] == 0


def test_while_the_same_fit_runs_elsewhere_nothing_is_written(tmp_path):
    expected, locks = fit(None, 3), []

    def meanwhile(number):
        if number == 4:
            before = (own / FILE).read_bytes()
            found = fit(tmp_path, 3, every=1)  # from scratch: a state that is being replaced is not read
            assert found[3] == 9 and (own / FILE).read_bytes() == before
            assert_same(found, expected)
            with pytest.raises(BlockingIOError):
                lock_folder(own)
            locks.append(number)

    fit(tmp_path, 2)
    own = next(tmp_path.iterdir()) / "epochs-3"
    next(own.parent.glob("epochs-2/*")).unlink()
    assert_same(fit(tmp_path, 3, meanwhile, every=1), expected)
    assert locks == [4]
    assert fit(tmp_path, 3)[3] == 0


def test_without_locks_states_are_kept_all_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr("skxlmr.checkpoints._atomic_replace.fcntl", None)  # as on Windows
    fit(tmp_path, 1)
    assert fit(tmp_path, 2)[3] == STEPS


def test_the_lock_ends_with_the_fit_however_it_ends(tmp_path):
    with pytest.raises(Stop):
        fit(tmp_path, 3, stopping_at(4))
    (state,) = tmp_path.glob(f"*/*/{FILE}")
    before = json.loads(header(state.parent))["state"]["epoch"]
    fit(tmp_path, 3)
    assert before == 1 and json.loads(header(state.parent))["state"]["epoch"] == 3


@pytest.mark.parametrize(
    "change",
    [
        setting("state", "epoch", value="1"),
        setting("record", value=3),
        setting("record", "kept", "n_steps", value=-1),
        setting("record", "first", value=[1]),
        lambda saved: saved["record"].pop("kept"),
        setting("loss_curve", value=None),
    ],
)
def test_a_broken_state_is_named_with_what_to_do(tmp_path, change):
    fit(tmp_path, 1)
    (state,) = tmp_path.glob(f"*/*/{FILE}")
    rewritten(state, change)
    with pytest.raises(CheckpointError, match=r"is not a complete state of a fit .*: delete it to start from scratch"):
        fit(tmp_path, 1)
    state.write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"is not the state of a fit .*: delete it to start from scratch"):
        fit(tmp_path, 3)
    state.unlink()
    assert fit(tmp_path, 1)[3] == STEPS


def test_a_state_of_earlier_versions_has_no_record(tmp_path):
    fit(tmp_path, 1)
    (state,) = tmp_path.glob(f"*/*/{FILE}")
    rewritten(state, lambda saved: saved.pop("record"))
    assert not fit(tmp_path, 3)[1].record.from_start
