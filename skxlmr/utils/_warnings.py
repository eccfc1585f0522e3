"""Warnings of the library, and the line they point to."""

import sys
import warnings
from collections.abc import Hashable, Iterator, Mapping
from multiprocessing import current_process
from threading import get_ident
from types import FrameType
from typing import Any

from sklearn.exceptions import ConvergenceWarning


class TruncationWarning(UserWarning):
    """Texts were longer than ``max_length`` tokens and were cut.

    See Also
    --------
    XLMRobertaClassifier.coverage : How much of each text is read.
    XLMRobertaVectorizer : Its ``max_length`` and ``long_text`` say how much is read.

    Examples
    --------
    Let it be an error where a text that is cut is a mistake:

    >>> import warnings
    >>> from skxlmr import TruncationWarning, XLMRobertaVectorizer
    >>> vectorizer = XLMRobertaVectorizer("skxlmr-mini", max_length=8)
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("error", TruncationWarning)
    ...     vectorizer.fit_transform(["This text has many more words than fit into eight tokens."])  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    skxlmr.utils._warnings.TruncationWarning: 1 of 1 texts are longer than 8 tokens and were cut; ...

    Or read all of the text, in windows:

    >>> vectorizer.set_params(long_text="window").fit_transform(["A text that is longer. " * 9]).shape
    (1, 192)
    """


class FitQualityWarning(ConvergenceWarning):
    """A fit hardly learnt, or predicts one class only; or no label reaches the threshold anywhere.

    See Also
    --------
    skxlmr.metrics.search_scoring : Says in the table of a search which fits hardly learnt.
    sklearn.exceptions.ConvergenceWarning : The class that it is a kind of.
    skxlmr.inspection.LossCurveDisplay : Draws the loss of a fit by epoch.

    Examples
    --------
    >>> import warnings
    >>> from skxlmr import FitQualityWarning, XLMRobertaClassifier
    >>> texts, labels = ["Guter Film", "Bad film"] * 10, ["good", "bad"] * 10
    >>> classifier = XLMRobertaClassifier("skxlmr-mini", learning_rate=1e-9, max_epochs=2, batch_size=4, random_state=0)
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always", FitQualityWarning)
    ...     classifier = classifier.fit(texts, labels)
    >>> [warning.category.__name__ for warning in caught], classifier.collapsed_
    (['FitQualityWarning'], True)
    >>> print(classifier.collapse_reason_)  # doctest: +ELLIPSIS
    the training loss ...: set learning_rate='auto', which is 0.0003 for this checkpoint (it was 1e-09), ...
    """


class OutOfMemoryWarning(UserWarning):
    """A batch did not fit into the GPU's memory, and smaller ones are used instead.

    See Also
    --------
    XLMRobertaClassifier : Its ``batch_size``, ``accumulate`` and ``gradient_checkpointing`` say how much memory a fit takes.

    Examples
    --------
    Results are those of enough memory up to rounding, so that a program may leave the warning out:

    >>> import warnings
    >>> from skxlmr import OutOfMemoryWarning, XLMRobertaVectorizer
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("ignore", OutOfMemoryWarning)
    ...     XLMRobertaVectorizer("skxlmr-mini").fit_transform(["Good morning."]).shape
    (1, 192)
    """


class VersionWarning(UserWarning):
    """A pickle was written by another version of the library.

    Parameters
    ----------
    estimator_name : str
        Class of the estimator.
    current_version : str
        Version of the library that reads the pickle.
    original_version : str
        Version that wrote it.

    See Also
    --------
    save : Writes a folder that later versions read.
    sklearn.exceptions.InconsistentVersionWarning : The same for scikit-learn's own pickles.

    Examples
    --------
    >>> from skxlmr import VersionWarning
    >>> warning = VersionWarning("XLMRobertaClassifier", current_version="0.9", original_version="0.8")
    >>> print(warning)  # doctest: +ELLIPSIS
    this pickle of a XLMRobertaClassifier was written by skxlmr 0.8 and is read by 0.9, which may interpret it differently: ...
    >>> warning.original_version
    '0.8'
    """

    def __init__(self, estimator_name: str, current_version: str, original_version: str):
        self.estimator_name = estimator_name
        self.current_version = current_version
        self.original_version = original_version
        super().__init__(estimator_name, current_version, original_version)  # survives pickling between processes

    def __str__(self) -> str:
        return (
            f"this pickle of a {self.estimator_name} was written by skxlmr {self.original_version} and is read by "
            f"{self.current_version}, which may interpret it differently: fit again, or load it with that version and "
            "write it with skxlmr.save, whose folders later versions can read"
        )


def warn_once_per_call(
    message: str | Warning,
    category: type[Warning] = UserWarning,
    about: Hashable = None,
    part: str = "",
    most: int | None = None,
) -> None:
    """Warn, unless the call that the user made has already given a warning of this kind.

    That call is the outermost one into the library or scikit-learn: a search over many fits warns once, a loop of
    ``predict`` in each turn. Tasks that scikit-learn runs in other threads belong to the call that started them. A worker
    process does not know that call, and gives each kind of warning once.

    Parameters
    ----------
    message : str or Warning
    category : type of Warning
        The class of ``message`` if that is a ``Warning``.
    about : hashable, optional
        Tells kinds of the same category apart, such as the name of what was cut.
    part : str
        Follows the message where the call may go on to fit or predict other rows: in a search, a pipeline and the like.
    most : int, optional
        How many of these kinds to warn of: those of the same category whose ``about`` is a tuple with the same first item.
        The last one says so.
    """
    caller = sys._getframe(1)  # not this frame: one that refers to itself outlives its call
    frames = _library_frames(caller) or [(caller, 0)]
    call, level = frames[-1]
    given, kind, claim = _given_in(call), (category, about), object()
    if given.setdefault(kind, claim) is not claim:
        return
    if most is not None:
        number = 1 + _like(kind, given).index(kind)
        if number > most:
            return
        part += f". It is warning {most} of this kind, and the last in this call" if number == most else ""
    if part and all(_package(frame) == "sklearn" for frame, _ in frames[-2:]):  # its decorator around our method is one
        message = f"{message}{part}"
    try:
        warnings.warn(message, category, stacklevel=level + 2)
    except Warning:  # an error by the user's filters: the next fold of a search must not pass
        given.pop(kind, None)
        raise
    except (OSError, ValueError):  # standard error is closed: no reason to end a fit
        pass


def begin_anew() -> None:
    """Let what follows be a call of its own for :func:`warn_once_per_call`, as a part of a long call may be."""
    _given_in(_library_frames(sys._getframe(1))[-1][0]).clear()


def outside_stacklevel() -> int:
    """Stack level, for ``warnings.warn``, of the user's line that called into the library or scikit-learn."""
    return _library_frames(sys._getframe(1))[-1][1] + 1


# The call that the user made ----------------------------------------------------------------------------------------------

_GIVEN = "__skxlmr_warnings_given__"
_given_in_process: dict[Hashable, object] = {}


def _like(kind: tuple[type[Warning], Any], given: Mapping[Hashable, object]) -> list[Hashable]:
    """The kinds of the same category with the same first item, in the order in which they came."""
    category, about = kind
    return [
        each
        for each in list(given)
        if isinstance(each, tuple) and each[0] is category and isinstance(each[1], tuple) and each[1][:1] == about[:1]
    ]


def _package(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]


def _library_frames(frame: FrameType | None) -> list[tuple[FrameType, int]]:
    """The frames of the library and scikit-learn from this one outwards, with their stack levels."""
    return [(at, level) for level, at in enumerate(_outwards(frame), 1) if _package(at) in ("skxlmr", "sklearn")]


def _outwards(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def _given_in(call: FrameType) -> dict[Hashable, object]:
    """The kinds of warning that were given in a call."""
    while _runs(call, "_FuncWrapper.__call__"):  # a task that scikit-learn started in a thread or process of its own
        started_by = _parallel(call.f_locals.get("config"))
        if started_by is None:
            if current_process().name != "MainProcess":
                return _given_in_process
            break
        call = _library_frames(started_by)[-1][0]
    # A frame can't be referred to weakly, and its address is used again. A name beside its local variables, which its
    # code can't see, lives exactly as long as the call.
    return call.f_locals.setdefault(_GIVEN, {})


def _parallel(config: object) -> FrameType | None:
    """The call of scikit-learn's ``Parallel``, in another thread, that gave its tasks this very dict."""
    others = sys._current_frames()
    del others[get_ident()]
    for frame in others.values():
        for at in _outwards(frame):
            if _runs(at, "Parallel.__call__") and at.f_locals.get("config") is config:
                return at
    return None


def _runs(frame: FrameType, name: str) -> bool:
    """Whether the frame runs this method of scikit-learn's parallel module."""
    return frame.f_code.co_qualname == name and frame.f_globals.get("__name__") == "sklearn.utils.parallel"
