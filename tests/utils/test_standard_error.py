"""No state of standard error ends the work that is told about."""

import io
import sys
import warnings

import pytest

from skxlmr.utils._standard_error import say, show_line
from skxlmr.utils._warnings import warn_once_per_call


class Broken(io.StringIO):
    def __init__(self, error):
        super().__init__()
        self.error = error

    def write(self, text):
        raise self.error


class WithoutFlush:
    def __init__(self):
        self.text = ""

    def write(self, text):
        self.text += text


def closed():
    stream = io.StringIO()
    stream.close()
    return stream


@pytest.mark.parametrize(
    "stream",
    [
        None,
        closed(),
        Broken(OSError(5, "Input/output error")),
        Broken(BrokenPipeError()),
        Broken(RuntimeError("a widget that is gone")),
        object(),
        WithoutFlush(),
    ],
    ids=["None", "closed", "EIO", "broken pipe", "another error", "no write", "no flush"],
)
def test_a_stream_that_takes_nothing_is_no_error(monkeypatch, capsys, stream):
    monkeypatch.setattr(sys, "stderr", stream)
    show_line("epoch 1/2")
    show_line("epoch 2/2", last=True)
    say("one epoch more\n")
    monkeypatch.undo()
    assert capsys.readouterr() == ("", "")  # nor does standard output get it
    if isinstance(stream, WithoutFlush):
        assert stream.text.startswith(f"\r{'epoch 1/2':<79}\r{'epoch 2/2':<79}\none epoch more\n")


def test_a_warning_that_cannot_be_shown_is_no_error(monkeypatch):
    monkeypatch.setattr(warnings, "showwarning", lambda *about: closed().write("cut"))  # as Python does
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warn_once_per_call("cut")


def test_a_longer_line_is_covered(capsys):
    show_line("x" * 60)
    show_line("y", last=True)
    before, after = capsys.readouterr().err.strip("\r").split("\r")
    assert before.strip() == "x" * 60 and after == "y" + " " * 78 + "\n"
