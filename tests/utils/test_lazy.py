"""Properties that are computed once."""

import threading
from pathlib import Path

import pytest

import skxlmr
from skxlmr.nn import TokenLayout
from skxlmr.utils._lazy import lazy


class Counter:
    calls = 0

    @lazy
    def nothing(self):
        """Is None."""
        self.calls += 1


def test_a_value_is_computed_once_for_each_instance():
    first, second = Counter(), Counter()
    assert first.nothing is first.nothing is None and first.calls == 1 and second.calls == 0
    assert second.nothing is None and second.calls == 1


def test_it_is_documented():
    assert Counter.nothing.__doc__ == "Is None."


def test_no_property_of_the_package_waits_for_a_lock():
    """``functools.cached_property`` has one for the whole class in Python 3.11."""
    for file in Path(skxlmr.__file__).parent.rglob("*.py"):
        assert "import cached_property" not in file.read_text(encoding="utf-8"), file


def test_an_error_is_not_kept():
    layout = TokenLayout([2])
    layout.lengths = ["a"]
    with pytest.raises((TypeError, ValueError)):
        layout.lengths_N  # noqa: B018 - the read is what fails
    layout.lengths = [2]
    assert layout.lengths_N.tolist() == [2]


def test_no_thread_waits_for_another(monkeypatch):
    """With a lock for the class, as in Python 3.11's own, a fork in the meantime would leave a child waiting forever."""
    busy, may_end = threading.Event(), threading.Event()
    compute = TokenLayout._group

    def slow(layout, *args):
        if layout.lengths == [1]:
            busy.set()
            may_end.wait(60)
        return compute(layout, *args)

    monkeypatch.setattr(TokenLayout, "_group", slow)
    slow_thread = threading.Thread(target=lambda: TokenLayout([1]).groups)
    other_thread = threading.Thread(target=lambda: TokenLayout([2]).groups, daemon=True)
    slow_thread.start()
    assert busy.wait(60)
    other_thread.start()
    other_thread.join(20)
    waited = other_thread.is_alive()
    may_end.set()
    slow_thread.join()
    assert not waited
