"""Fitted estimators in threads and processes, and the global settings that they leave unchanged.

The full size lets 8 threads predict for longer: ``pytest -m slow tests/robustness/test_threads_and_processes.py``.
"""

import copy
import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import joblib
import numpy as np
import pytest
import torch
from joblib import Parallel, delayed

from skxlmr import XLMRobertaCausalLM, XLMRobertaClassifier, XLMRobertaMaskedLM, XLMRobertaVectorizer
from tests import contract, processes
from tests.estimators.core.test_callbacks import Recorder
from tests.robustness import forks

N_THREADS = 8


def in_threads(call, n=N_THREADS):
    """What ``call`` returns in each of several threads that start at the same moment."""
    barrier = Barrier(n)

    def run(_):
        barrier.wait()
        return call()

    with ThreadPoolExecutor(n) as pool:
        return list(pool.map(run, range(n)))


def assert_identical(found, expected, where=""):
    """Bit by bit, whatever their types."""
    assert pickle.dumps(found) == pickle.dumps(expected), where


def all_answers(estimator, X):
    """What each of its methods returns, as plain objects that can be compared bit by bit."""
    return {
        name: np.asarray(getattr(estimator, name)(X), dtype=object).tolist() for name in contract.methods_of(estimator)
    }


# Threads ----------------------------------------------------------------------------------------------------------------


def check_threads(made, X, n_rounds):
    expected = all_answers(made, X)
    for _ in range(n_rounds):
        # a copy that has not predicted yet and has nothing cached
        fresh = pickle.loads(pickle.dumps(made))
        for found in in_threads(lambda fresh=fresh: all_answers(fresh, X)):
            assert_identical(found, expected)


@contract.each
def test_one_estimator_predicts_the_same_in_8_threads(fitted, estimator):
    check_threads(fitted(estimator), contract.inputs(estimator)[0], 1)


@pytest.mark.slow
@contract.each
def test_it_does_so_every_time(fitted, estimator):
    check_threads(fitted(estimator), contract.inputs(estimator)[0], 20)


def test_language_models_in_8_threads(tiny_checkpoint):
    masked = XLMRobertaMaskedLM.from_checkpoint(tiny_checkpoint, dtype="bfloat16")
    causal = XLMRobertaCausalLM(tiny_checkpoint, **contract.FAST).fit(contract.TEXTS)
    for call in (
        lambda: masked.fill_mask(["the <mask> sings", "das <mask>"]),
        lambda: masked.transform(contract.TEXTS).tolist(),
        lambda: causal.generate(contract.TEXTS, max_new_tokens=5),
        lambda: causal.generate(contract.TEXTS, max_new_tokens=5, do_sample=True, random_state=0),
    ):
        expected = call()
        for found in in_threads(call):
            assert_identical(found, expected)


@contract.each_that_trains
def test_a_fit_is_the_same_in_threads_and_beside_other_draws(make_any, estimator):
    """And it leaves torch's generator where it would be without the fit."""
    X, y, _ = contract.inputs(estimator)

    def fit(*callbacks):
        made = make_any(estimator).set_callbacks(*callbacks).fit(X, y).partial_fit(X, y)
        return {name: weights.tolist() for name, weights in made.module_.state_dict().items()}, made.loss_curve_

    expected = fit()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        draws = Draws()
        assert fit(draws) == expected
        assert draws.n
        after = torch.rand(3)
        torch.manual_seed(0)
        torch.rand(draws.n)
        assert torch.equal(torch.rand(3), after)
    for found in in_threads(fit, 2):
        assert found == expected


class Draws(Recorder):
    """A callback that draws from torch's generator."""

    n = 0

    def _note(self, *_, **__):
        torch.rand(1)
        self.n += 1


def test_gradients_stay_on_in_other_threads(tiny_checkpoint):
    vectorizer = XLMRobertaVectorizer(tiny_checkpoint).fit(contract.TEXTS)
    seen = []

    def watched(*args):
        seen.append((torch.is_inference_mode_enabled(), *in_threads(torch.is_inference_mode_enabled, 1)))

    vectorizer.module_.backbone.embeddings.register_forward_pre_hook(watched)
    vectorizer.transform(contract.TEXTS)
    assert seen == [(True, False)]


# Processes --------------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork, which this system does not have")
def test_a_fork_after_use_works_and_never_hangs():
    done = processes.run(forks.main, timeout=180)
    assert done.exit_code == 0, done.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork, which this system does not have")
def test_workers_that_joblib_forks_divide_the_cores():
    done = processes.run(forks.in_joblibs_forked_workers)
    assert done.exit_code == 0, done.stderr


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork, which this system does not have")
def test_a_fork_while_other_threads_predict_never_hangs():
    done = processes.run(forks.beside_threads, timeout=180)
    assert done.exit_code == 0, done.stderr


@pytest.fixture(scope="module")
def classifiers(tiny_checkpoint):
    """One that stores all its weights, and one that takes its frozen layers from the checkpoint."""
    return [
        XLMRobertaClassifier(tiny_checkpoint, n_frozen_layers=n, **contract.FAST).fit(contract.TEXTS, contract.Y)
        for n in (0, 2)
    ]


def test_loky_workers_predict(classifiers):
    expected = [classifier.predict_proba(contract.TEXTS) for classifier in classifiers]
    found = Parallel(n_jobs=2, backend="loky")(delayed(c.predict_proba)(contract.TEXTS) for c in classifiers)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)  # the workers may have another number of threads


def threads_of(classifier):
    classifier.predict_proba(contract.TEXTS)
    return torch.get_num_threads()


@pytest.mark.slow
@pytest.mark.parametrize("n_jobs", [2, 3])
def test_loky_workers_divide_the_cores(classifiers, monkeypatch, n_jobs):
    """As joblib has it for scikit-learn, and the parent keeps its threads."""
    monkeypatch.delenv("OMP_NUM_THREADS")  # else it counts
    before = torch.get_num_threads()
    found = Parallel(n_jobs=n_jobs, backend="loky")(delayed(threads_of)(classifier) for classifier in classifiers * 2)
    assert set(found) == {max(joblib.cpu_count() // n_jobs, 1)}
    assert torch.get_num_threads() == before


def test_workers_without_loky_predict(classifiers):
    with processes.server().Pool(1) as pool:
        for classifier in classifiers:
            found = pool.apply_async(classifier.predict_proba, (contract.TEXTS,)).get(timeout=120)
            np.testing.assert_allclose(found, classifier.predict_proba(contract.TEXTS), atol=1e-6)


# Settings of the whole process ----------------------------------------------------------------------------------------


def settings():
    """Torch's settings that last beyond a call."""
    return {
        "threads": (torch.get_num_threads(), torch.get_num_interop_threads()),
        "defaults": (torch.get_default_dtype(), torch.get_default_device()),
        "gradients": (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_anomaly_enabled()),
        "determinism": (
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
            torch.backends.cudnn.deterministic,
            torch.backends.cudnn.benchmark,
        ),
        "matrix products": (torch.get_float32_matmul_precision(), torch.backends.cuda.matmul.allow_tf32),
        "oneDNN": torch.backends.mkldnn.enabled,
        "autocast": (
            torch.is_autocast_enabled("cpu"),
            torch.get_autocast_dtype("cpu"),
            torch.is_autocast_cache_enabled(),
        ),
        "generator": torch.get_rng_state().tolist(),
        "environment": dict(os.environ),
    }


@contract.each
def test_no_setting_of_torch_is_changed(make_any, threads_stay, estimator):
    before = settings()
    X, y, _ = contract.inputs(estimator)
    made = make_any(estimator, dtype="bfloat16").fit(X, y)
    for use in (
        lambda made: contract.answers(made, X),
        lambda made: made.score(X, y) if hasattr(made, "score") else None,
        lambda made: made.partial_fit(X, y) if hasattr(made, "partial_fit") else None,
        lambda made: pickle.loads(pickle.dumps(made)),
        copy.deepcopy,
    ):
        use(made)
        assert settings() == before


@contract.each
def test_no_setting_is_changed_by_a_call_that_fails(fitted, threads_stay, estimator):
    made, (X, y, _) = fitted(estimator), contract.inputs(estimator)
    before = settings()

    def fail(*_):
        raise ConnectionError("in the middle of it")

    made.module_.backbone.register_forward_pre_hook(fail)
    for name in contract.methods_of(made):
        with pytest.raises(ConnectionError):
            getattr(made, name)(X)
    if hasattr(made, "partial_fit"):
        with pytest.raises(ConnectionError):
            made.partial_fit(X, y)
    assert settings() == before
