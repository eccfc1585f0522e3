"""What only torchrun's own processes show; ``test_distributed`` starts this script with it."""

import os
import signal
import sys
import threading
import warnings

import joblib
import pytest
import torch
from sklearn.model_selection import GridSearchCV
from torch import distributed as dist

from skxlmr import XLMRobertaClassifier
from skxlmr.training.step import TrainStep
from tests.training.shared_fits import CLASSES, SHORT, TEXTS, deviations, result_of

RANK = int(os.environ["RANK"])


def main(checkpoint, how):
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    make = XLMRobertaClassifier(checkpoint, **SHORT | {"max_epochs": 1})
    if how == "killed":
        fail_in_second_step(lambda: os.kill(os.getpid(), signal.SIGKILL))
        make.fit(TEXTS, CLASSES)
        return
    if how == "restarted":
        continues_after_a_kill(checkpoint)
        return
    if how == "interrupted":
        interrupted(checkpoint)
        return
    others_fit_alone(make)
    assert not dist.is_initialized()
    shared = make.fit(TEXTS, CLASSES).loss_curve_
    assert dist.get_world_size() == 2
    others_fit_alone(make)
    assert shared == make.fit(TEXTS, CLASSES).loss_curve_
    one_fails(make)
    print(f"process {RANK} is done")


def others_fit_alone(make):
    """Worker processes of either kind, and threads; the first process alone starts some, and nobody waits."""
    if RANK == 0:
        for backend in ("loky", "multiprocessing", "threading"):
            with joblib.parallel_config(backend, n_jobs=2):
                GridSearchCV(make, {"learning_rate": [1e-3, 3e-3]}, cv=2, refit=False, error_score="raise").fit(
                    TEXTS, CLASSES
                )
        thread = threading.Thread(target=make.fit, args=(TEXTS, CLASSES))
        thread.start()
        thread.join()


def continues_after_a_kill(checkpoint):
    """torchrun starts both processes again, and the fit ends as one that nobody killed."""
    kept = XLMRobertaClassifier(checkpoint, **SHORT, resume_dir=f"{checkpoint}-state", resume_every=1)
    if os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
        fail_in_second_step(lambda: os.kill(os.getpid(), signal.SIGKILL))
    kept.fit(TEXTS, CLASSES, resume=True)
    undisturbed = XLMRobertaClassifier(checkpoint, **SHORT).fit(TEXTS, CLASSES)
    assert deviations(result_of(kept), result_of(undisturbed)) == (0, 0)
    print(f"process {RANK} is done")


def interrupted(checkpoint):
    """Ctrl-C reaches both processes: each raises it, and has the weights of the first epoch."""
    run_step, steps = TrainStep.run, []

    def interrupting(self, *args):
        steps.append(None)
        if len(steps) == 5:
            raise KeyboardInterrupt
        return run_step(self, *args)

    TrainStep.run = interrupting
    classifier = XLMRobertaClassifier(checkpoint, **SHORT)
    with pytest.raises(KeyboardInterrupt):
        classifier.fit(TEXTS, CLASSES)
    assert classifier.n_iter_ == 1
    print(f"process {RANK} is done")


def one_fails(make):
    """A failure that the script catches is one of both processes, and no later fit mistakes one for another."""
    fail_in_second_step(lambda: 1 / 0)
    own = pytest.raises(ZeroDivisionError), pytest.raises(RuntimeError, match="waits in vain")
    with own[1 - RANK]:
        make.fit(TEXTS, CLASSES)
    with pytest.raises(RuntimeError, match="start the script again"):
        make.fit(TEXTS, CLASSES)


def fail_in_second_step(fail):
    run_step, steps = TrainStep.run, []

    def failing(self, *args):
        steps.append(None)
        if RANK == 1 and len(steps) == 2:
            fail()
        return run_step(self, *args)

    TrainStep.run = failing


if __name__ == "__main__":
    main(*sys.argv[1:])
