"""From which state a fit continues, and where it keeps its own."""

import os
from inspect import signature
from numbers import Real
from typing import Any, Literal

from skxlmr.training import OwnFolderKeeper, StateKeeper, in_words
from skxlmr.utils._files import check_name
from skxlmr.utils._warnings import warn_once_per_call

AUTO = "auto"


def check_resume(resume: Any, resume_dir: Any) -> None:
    """Refuse a value of ``resume`` that is none, or that has no folder, and a folder without a name.

    Raises
    ------
    ValueError
    """
    if not (resume == AUTO if isinstance(resume, str) else resume in (True, False)):
        raise ValueError(f"resume must be True, False or {AUTO!r}, got {resume!r:.80}")
    if resume_dir is not None:
        check_name(resume_dir, "resume_dir")
        if not os.fspath(resume_dir):
            raise ValueError("resume_dir must name a folder, got '': '.' is the current one, and None keeps no state")
    if resume and resume_dir is None:
        raise ValueError(f"resume={resume!r} continues from the state in resume_dir, which is None: set it to a folder")


def keeper_of(estimator: Any, resume: bool | Literal["auto"]) -> StateKeeper | None:
    """Keeper of the state of a fit; None if none is kept."""
    if estimator.resume_dir is None:
        return None
    if resume != AUTO:
        if resume and _is_nameless(estimator.scoring):
            warn_once_per_call(
                "resume=True cannot tell whether the state has the scores of this scoring, which is or holds a function "
                "without a name: leave it as it was, or define it in a module",
                about="resume",
            )
        return StateKeeper(estimator.resume_dir, estimator.resume_every, bool(resume))
    if reason := _no_name(estimator):
        warn_once_per_call(f"resume='auto' keeps no state of this fit: {reason}", about="resume")
        return None
    callbacks = [_callback(each) for each in getattr(estimator, "_skl_callbacks", ())]  # which may end the fit
    about = {"the callbacks": in_words(callbacks)}
    return OwnFolderKeeper(estimator.resume_dir, estimator.resume_every, estimator.max_epochs, about)


def _callback(callback: Any) -> tuple[type, dict[str, Any]]:
    """Its class and its settings: arguments of the constructor that it keeps, of types that no fit changes in place."""
    kept = {name: getattr(callback, name, None) for name in signature(type(callback)).parameters}
    return type(callback), {name: value for name, value in kept.items() if isinstance(value, Real | str)}


def _no_name(estimator: Any) -> str | None:
    """Why it can't be told whether a later fit is the same one, if it can't."""
    if estimator.random_state is None:
        return "with random_state=None every fit is another one. Set random_state to an int"
    if _is_nameless(estimator.scoring):
        return "its scoring has no name, so that another function could not be told from it. Define it in a module"
    return None


def _is_nameless(scoring: Any) -> bool:
    """Whether it is, or holds, what can't be told from others of its kind, such as a lambda or a local function."""
    return "<" in in_words(scoring)
