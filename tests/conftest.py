"""Fixtures every test may use."""

import copy
import gc
import inspect
import os
from pathlib import Path

import pytest
import torch

import skxlmr
from skxlmr.inference import Engine
from skxlmr.text import SentencePieceTokenizer
from tests import contract
from tests.tiny import train, write_checkpoint, write_xlm_checkpoint, xlm_tokenizer

SHARED = Path(__file__).resolve().parents[1].parent / "shared" / "data"

# Modules this small are slower on several threads, and much slower next to other programs.
torch.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")  # of processes that tests start


def pytest_collection_finish():
    """What imports have made is never garbage, so that no collection needs to look at it again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 10, 10)


@pytest.fixture(autouse=True)
def computed_every_time(request, monkeypatch):
    """Switch the cache of a process off: a test that computes twice means it. ``with_cache`` leaves it on, and empty."""
    if "with_cache" in request.fixturenames:
        return
    monkeypatch.setattr("skxlmr.inference.cache.AUTO", None)


@pytest.fixture
def with_cache():
    """The cache of the process, empty."""
    skxlmr.clear_cache()
    yield
    skxlmr.clear_cache()


@pytest.fixture
def computed(monkeypatch):
    """The number of rows of each call of the engine that computes, in this process."""
    counts = []
    run = Engine._run

    def counting(self, encoded, *rest):
        counts.append(len(encoded))
        return run(self, encoded, *rest)

    monkeypatch.setattr(Engine, "_run", counting)
    return counts


@pytest.fixture
def threads_stay(monkeypatch):
    """Let a test fail if anything sets the number of torch's threads."""

    def forbidden(n):
        raise AssertionError("the number of torch's threads was set")

    for name in ("set_num_threads", "set_num_interop_threads"):
        monkeypatch.setattr(torch, name, forbidden)


@pytest.fixture(scope="session")
def shared_data():
    """Folder of the real multilingual data and fixtures, which lies beside the repository, not in it."""
    if not SHARED.is_dir():
        pytest.skip("needs the real data in ../shared/data, which is not part of the repository")
    return SHARED


@pytest.fixture(scope="session")
def tiny_tokenizer():
    """A tokenizer of about 300 pieces in four languages, for rows of at most 64 tokens."""
    return SentencePieceTokenizer(train(vocab_size=300), model_max_length=64)


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory, tiny_tokenizer):
    """Folder of a checkpoint of two layers, 32 wide; never write to it."""
    return write_checkpoint(tmp_path_factory.mktemp("tiny") / "checkpoint", tiny_tokenizer)


@pytest.fixture(scope="session")
def still_checkpoint(tmp_path_factory, tiny_tokenizer):
    """The same without dropout, for fits that are compared number by number."""
    return write_checkpoint(
        tmp_path_factory.mktemp("still") / "checkpoint",
        tiny_tokenizer,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )


@pytest.fixture(scope="session")
def tiny_xlm(tmp_path_factory):
    """Folder of a checkpoint of the original XLM, two layers, 32 wide, without language embeddings; never write to it."""
    pytest.importorskip("sacremoses", reason="the original XLM needs the extra xlm")
    return write_xlm_checkpoint(tmp_path_factory.mktemp("xlm") / "checkpoint", xlm_tokenizer(model_max_length=64))


@pytest.fixture(scope="session")
def tiny_xlm_languages(tmp_path_factory):
    """The same with embeddings of three languages and fixed positions."""
    pytest.importorskip("sacremoses", reason="the original XLM needs the extra xlm")
    tokenizer = xlm_tokenizer(model_max_length=64, lang2id={"de": 0, "en": 1, "ru": 2})
    folder = tmp_path_factory.mktemp("xlm_languages") / "checkpoint"
    return write_xlm_checkpoint(folder, tokenizer, n_langs=3, sinusoidal_embeddings=True)


@pytest.fixture(scope="session")
def nli_checkpoint(tiny_checkpoint, tmp_path_factory):
    """A checkpoint of natural language inference."""
    texts, labels = contract.TEXTS, ["contradiction", "entailment", "neutral"] * 2
    classifier = skxlmr.XLMRobertaClassifier(tiny_checkpoint, **contract.FAST)
    folder = tmp_path_factory.mktemp("nli") / "checkpoint"
    skxlmr.save(classifier.fit(list(zip(texts, texts[::-1], strict=True)), labels), folder)
    return folder


@pytest.fixture(scope="session")
def make_any(tiny_checkpoint, request):
    """Make any estimator of the library, on a tiny checkpoint that fits it."""

    def make_any(estimator, **params):
        checkpoint = request.getfixturevalue("tiny_xlm") if contract.is_original_xlm(estimator) else tiny_checkpoint
        if estimator is skxlmr.XLMRobertaZeroShotClassifier:
            checkpoint = request.getfixturevalue("nli_checkpoint")
        known = inspect.signature(estimator).parameters
        return estimator(checkpoint, **{name: contract.FAST[name] for name in contract.FAST if name in known} | params)

    return make_any


@pytest.fixture(scope="session")
def fitted(make_any):
    """A copy of any estimator of the library, fitted on the rows of the contract."""
    made = {}

    def fitted(estimator):
        if estimator not in made:
            X, y, _ = contract.inputs(estimator)
            made[estimator] = make_any(estimator).fit(X, y)
        return copy.deepcopy(made[estimator])

    return fitted
