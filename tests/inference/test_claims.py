"""Each array is computed by one thread or process, and nobody waits for one that is gone."""

import os
import threading
import warnings

import pytest

from skxlmr.inference._stores import claims
from tests import processes
from tests.inference.stores import KEYS, VALUES, assert_right, claim_and_stay, hammer, in_thread, needs_locks


def test_what_is_claimed_is_computed_by_one(store, another):
    """Two stores in one process, and a thread that lives on."""
    started, may_end = threading.Event(), threading.Event()

    def claim_some():
        store.claim(KEYS[:30])
        started.set()
        may_end.wait()
        store.put({name: VALUES[name] for name in KEYS[:10]})
        store.release(KEYS[10:20])

    thread = threading.Thread(target=claim_some)
    thread.start()
    started.wait()
    assert store.claim(KEYS) == KEYS[30:]
    assert store.claim(KEYS) == KEYS[30:], "its own claims are still its own"
    assert in_thread(another.claim, KEYS) == [], "and those of this thread are not another's"
    may_end.set()
    thread.join()
    assert store.claim(KEYS) == KEYS[10:], "ten were put; the thread that claimed the others is gone"


def test_a_thread_that_ended_has_given_up(store):
    assert in_thread(store.claim, KEYS) == KEYS
    assert store.claim(KEYS) == KEYS


@pytest.mark.parametrize("is_same", [True, False])
def test_waiting_ends_when_something_is_put(store, another, is_same):
    """By another thread of the process, or by another process."""
    assert store.claim(KEYS) == KEYS
    begun, found = threading.Event(), {}
    waiting = store if is_same else another

    def wait():
        assert waiting.claim(KEYS) == []
        begun.set()
        waiting.wait(60)
        found.update(waiting.get(KEYS))

    thread = threading.Thread(target=wait)
    thread.start()
    begun.wait()
    store.put(VALUES)
    thread.join(50)
    assert set(found) == set(KEYS)


def test_waiting_sees_what_came_before_it(store, another):
    assert store.claim(KEYS) == KEYS
    claimed, released, found = threading.Event(), threading.Event(), []

    def late():
        found.append(another.claim(KEYS))
        claimed.set()
        released.wait()
        another.wait(60)
        found.append(another.claim(KEYS))

    thread = threading.Thread(target=late)
    thread.start()
    claimed.wait()
    store.release(KEYS)
    released.set()
    thread.join(50)
    assert found == [[], KEYS]


@needs_locks
def test_claims_of_a_killed_process_are_taken_over_at_once(store):
    context = processes.server()
    ready = context.Event()
    process = context.Process(target=claim_and_stay, args=(store.location, KEYS[:40], ready), daemon=True)
    process.start()
    assert ready.wait(60)
    assert store.claim(KEYS) == KEYS[40:]
    assert store.claim(KEYS) == KEYS[40:], "it is alive"
    process.kill()
    process.join()
    assert store.claim(KEYS) == KEYS
    store.put(VALUES)
    assert store._database.read(lambda opened: opened.connection.execute("SELECT * FROM claims").fetchall(), None) == []


@needs_locks
def test_a_process_that_gets_nowhere_loses_its_claims(store, monkeypatch):
    clock = [0.0]
    store._claims = claims.Claims(lambda: clock[0])
    context = processes.server()
    ready = context.Event()
    process = context.Process(target=claim_and_stay, args=(store.location, KEYS[:40], ready), daemon=True)
    process.start()
    assert ready.wait(60)
    assert store.claim(KEYS) == KEYS[40:]
    clock[0] = 599.0
    assert store.claim(KEYS[:40]) == []
    store.put({KEYS[0]: VALUES[KEYS[0]]})  # as if it had
    assert store.claim(KEYS[:40]) == []
    clock[0] = 1190.0
    assert store.claim(KEYS[:40]) == [], "it has put one since"
    clock[0] = 1200.0
    assert store.claim(KEYS[:40]) == KEYS[1:40]
    process.kill()
    process.join()


@needs_locks
def test_a_fork_is_an_owner_of_its_own(store):
    assert store.claim(KEYS[:40]) == KEYS[:40]
    assert store._database._box
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks in processes with threads
        pid = os.fork()
    if not pid:  # the child
        status = 1
        try:
            assert not store._database._box, "no connection crosses a fork"
            assert store.claim(KEYS) == KEYS[40:]
            store.put({name: VALUES[name] for name in KEYS[40:50]})
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0
    assert store.claim(KEYS) == KEYS[:40] + KEYS[50:], "its own, and those of the child, which is gone"
    assert_right(store.get(KEYS[40:50]))


def test_four_threads_compute_each_array_once(store):
    hammer(store.location, 300, 4, 0)
    assert store.info().encoded == store.info().entries == 300
