"""Interrupts while rows are encoded."""

from threading import Thread

import pytest

from skxlmr import XLMRobertaVectorizer
from skxlmr.inference import Engine, cache_of

TEXTS = ["Good morning.", "Guten Morgen."]


@pytest.fixture(autouse=True)
def _cache(with_cache):
    """All tests here are with the cache."""


def vectorizer(checkpoint, memory="auto"):
    return XLMRobertaVectorizer(checkpoint, memory=memory, device="cpu").fit(TEXTS)


@pytest.mark.parametrize("interrupted", ["claim", "release"])
@pytest.mark.parametrize("in_a_folder", [False, True])
def test_an_interrupt_at_any_moment_leaves_no_row_to_wait_for(
    monkeypatch, tiny_checkpoint, tmp_path, interrupted, in_a_folder
):
    one = vectorizer(tiny_checkpoint, tmp_path if in_a_folder else "auto")
    store = cache_of(one.memory)._store()

    def stopping(self, *args):
        method(self, *args)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        if interrupted == "release":  # the second interrupt
            patched.setattr(Engine, "_run", lambda *args: 1 / 0)
        method = getattr(type(store), interrupted)
        patched.setattr(type(store), interrupted, stopping)
        with pytest.raises(KeyboardInterrupt):
            one.transform(TEXTS)
    shapes = []
    other = Thread(target=lambda: shapes.append(one.transform(TEXTS).shape), daemon=True)
    other.start()
    other.join(20)
    assert shapes == [(2, 32)]


def test_claims_that_an_interrupt_left_are_this_threads(tiny_checkpoint):
    one = vectorizer(tiny_checkpoint)
    store = cache_of("auto")._store()
    claim = store.claim
    store.claim = lambda keys: claim(claim(keys))  # as after an interrupt that came before anyone could give them up
    try:
        assert one.transform(TEXTS).shape == (2, 32)
    finally:
        del store.claim
    assert not store._claims
