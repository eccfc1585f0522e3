"""Children of a process that has computed on two threads: each is forked, computes on one thread, and does not hang."""

import multiprocessing
import os
import signal
import threading
import warnings

import numpy as np
import torch

from skxlmr import XLMRobertaClassifier, XLMRobertaVectorizer

TEXTS = [f"a text that is a little longer than the others, number {i}" for i in range(60)]
TRAINING = TEXTS[:8], [0, 1] * 4


def compute(vectorizer, classifier):
    return vectorizer.transform(TEXTS), classifier.fit(*TRAINING).predict_proba(TEXTS)


def work(queue, estimators):
    queue.put((torch.get_num_threads(), compute(*estimators) if estimators else ()))


def in_child(estimators):
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=work, args=(queue, estimators))
    child.start()
    try:
        return queue.get(timeout=60)
    finally:
        child.kill()


def in_joblibs_forked_workers():
    """Of a process that has not computed: the workers divide the cores, and whoever else forks keeps its threads."""
    from joblib import Parallel, cpu_count, delayed, parallel_config

    multiprocessing.set_start_method("fork", force=True)
    torch.set_num_threads(64)
    n_workers = 2
    with parallel_config(backend="multiprocessing"):
        found = Parallel(n_jobs=n_workers)(delayed(torch.get_num_threads)() for _ in range(4))
    assert set(found) == {max(cpu_count() // n_workers, 1)}, found
    assert in_child(None)[0] == torch.get_num_threads() == 64


def check(n_threads, found, expected):
    assert n_threads == 1, n_threads
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-4)


def beside_threads(n_threads=10, n_children=40):
    """Fork while other threads predict: each child predicts, or is ended by its alarm."""
    warnings.simplefilter("ignore", DeprecationWarning)
    torch.set_num_threads(1)
    vectorizer = XLMRobertaVectorizer("skxlmr-mini", dtype="float32").fit(TEXTS)
    stop = threading.Event()

    def predict():
        while not stop.is_set():
            vectorizer.transform(TEXTS[:2])

    threads = [threading.Thread(target=predict) for _ in range(n_threads)]
    for thread in threads:
        thread.start()
    hung = 0
    for _ in range(n_children):
        child = os.fork()
        if not child:
            signal.alarm(30)
            vectorizer.transform(TEXTS[:3])
            os._exit(0)
        hung += os.waitpid(child, 0)[1] != 0
    stop.set()
    for thread in threads:
        thread.join()
    assert not hung, f"{hung} of {n_children} children hung"


def main():
    warnings.simplefilter("ignore", DeprecationWarning)  # of Python, about forks in general
    torch.set_num_threads(2)
    assert in_child(())[0] == 2, "nothing has been opened yet: the child may use all threads"
    params = {"max_epochs": 1, "warmup_ratio": 0.0, "dtype": "float32", "random_state": 0}
    estimators = (
        XLMRobertaVectorizer("skxlmr-mini", dtype="float32").fit(TEXTS),
        XLMRobertaClassifier("skxlmr-mini", **params),
    )
    of_opened = in_child(estimators)
    expected = compute(*estimators)
    check(*of_opened, expected)
    check(*in_child(estimators), expected)
    assert torch.get_num_threads() == 2, "the parent keeps its threads"
