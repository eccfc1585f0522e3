"""``skxlmr.json``: which estimator a folder holds, with its parameters, what ``fit`` learnt and the files next to it."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import sklearn

import skxlmr.estimators
from skxlmr._version import __version__
from skxlmr.checkpoints import BUILTIN, looks_like_path, sha256_of
from skxlmr.estimators._core.estimator import Estimator
from skxlmr.persistence._values import decode, encode
from skxlmr.utils._errors import CheckpointError
from skxlmr.utils._files import parse_json, read_bytes
from skxlmr.utils._imports.later import torch
from skxlmr.utils._sklearn import CALLBACK_ATTRIBUTES, metadata_requests, set_metadata_requests

FILE = "skxlmr.json"
# 1 had no checksums; both 1 and 2 had other names for some parameters and target types; up to 3, vectorizers said all of
# their pooling with their parameters, up to 4 language models
FORMAT = 5
MOST_BYTES = 16 * 2**20
MOST_COLUMNS = 1000  # choices per row
COMPOSITE = (
    "scikit-learn"  # in place of the name of an estimator: one of scikit-learn that holds estimators of this library
)
# Parameters that a folder never sets: a fit or a prediction would write where somebody else says. The latter are not in it.
NOT_SET, NOT_SAVED = ("resume_dir",), ("memory",)
_NOT_IN_JSON = {
    "module_",
    "tokenizer_",
    "config_",
    "_adam_state",
    "_opened",
    "_sklearn_version",
    "_metadata_request",
    "_said",
    "_outputs",
}
_NOT_IN_JSON |= CALLBACK_ATTRIBUTES
_OUTPUT = "_sklearn_output_config"  # of set_output
_CURVES = ("loss_curve_", "validation_scores_")
_OF_A_FIT: dict[str, tuple[Any, str]] = {
    "final_loss_": (int | float, "a number"),
    "collapsed_": (bool, "true or false"),
    "collapse_reason_": (str, "a text or null"),
}
# Names in formats 1 and 2, and the name now.
RENAMED = {"checkpoint_dir": "resume_dir", "checkpoint_every": "resume_every"}
TARGET_TYPES = {"multi_label": "multilabel-indicator", "multi_output": "multiclass-multioutput"}
NOT_READABLE = "the estimator cannot be saved, because load could not read it"
_UNSEALED = '"sha256": ""'
ALTERED = "is not what save wrote (its SHA-256 differs): damaged or edited since; with verify=False it is read anyway"


def versions() -> dict[str, str]:
    """What the estimator was fitted or saved with."""
    return {
        "skxlmr": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "scikit-learn": sklearn.__version__,
        "numpy": np.__version__,
    }


def describe(estimator: Estimator, folder: Path, with_paths: bool, more: dict[str, Any]) -> str:
    """Content of ``skxlmr.json`` for an estimator whose other files lie in the folder, with ``more`` beside.

    Without ``with_paths`` no parameter names a place on this machine: the folder itself is the checkpoint.
    """
    params = parameters_json(estimator)
    left_out = estimator.get_params(deep=False).keys() | _NOT_IN_JSON
    learnt = {name: value for name, value in vars(estimator).items() if name not in left_out}
    if not with_paths and is_place(params["checkpoint"]):
        params["checkpoint"] = None
    written = sorted(path for path in folder.rglob("*") if path.is_file())
    about = {
        "estimator": type(estimator).__name__,
        "params": params,
        "fitted": encode(learnt),
        "metadata_requests": metadata_requests(estimator),
        "tokenizer_max_length": int(estimator.tokenizer_.model_max_length),
        "files": {path.relative_to(folder).as_posix(): sha256_of(path) for path in written},
    }
    return sealed(about | more)


def parameters_json(estimator: Estimator) -> dict[str, Any]:
    """The parameters that a folder may set."""
    return encode(
        {
            name: None if name in NOT_SET else value
            for name, value in estimator.get_params(deep=False).items()
            if name not in NOT_SAVED
        }
    )


def sealed(about: dict[str, Any]) -> str:
    """Content of ``skxlmr.json``: what it says, the versions, and its own SHA-256.

    Raises
    ------
    ValueError
        If ``load`` would refuse to read it.
    """
    head = {"sha256": "", "format": FORMAT, "skxlmr": __version__, "versions": versions()}
    text = json.dumps(head | about, ensure_ascii=False, indent=1) + "\n"
    _check_readable(text)
    return text.replace(_UNSEALED, f'"sha256": "{_digest(text)}"', 1)


def _check_readable(text: str) -> None:
    file = Path(FILE)
    try:
        content = text.encode()
        if len(content) > MOST_BYTES:
            raise CheckpointError(file, f"would have {len(content)} bytes, and load reads at most {MOST_BYTES}")
        about = parse_json(file, content)
        for part in ("params", "fitted"):
            decode(about.get(part, {}))
    except CheckpointError as error:
        raise ValueError(f"{NOT_READABLE}: {error.file} {error.reason}") from error
    except ValueError as error:
        if isinstance(error, UnicodeEncodeError):
            raise
        raise ValueError(
            f"{NOT_READABLE}: {error}. Fit it with shorter labels, or with "
            "labels of dtype object, whose width is not that of the longest"
        ) from error


def is_place(value: Any) -> bool:
    """Whether the value of ``checkpoint`` is a folder on this machine, not a name on the hub."""
    if isinstance(value, os.PathLike):
        return True
    return isinstance(value, str) and value != BUILTIN and (looks_like_path(value) or os.path.isdir(value))


def read_description(file: Path, verify: bool) -> dict[str, Any]:
    """Parsed ``skxlmr.json`` of any format up to the current one, with the names of the current one.

    Raises
    ------
    CheckpointError
        If it is missing, broken, or from a later version; with ``verify`` also if it is not what was written.
    """
    if not file.exists():
        raise CheckpointError(
            file,
            "is missing: the folder was not written by skxlmr.save. Pass it to an estimator as its checkpoint, or to "
            "from_checkpoint to predict with its head",
        )
    content = read_bytes(file, MOST_BYTES)
    about, text = parse_json(file, content), content.decode("utf-8")
    if type(about.get("format")) is not int or about["format"] < 1:
        raise CheckpointError(file, "is not a description of an estimator")
    if about["format"] > FORMAT:
        raise CheckpointError(
            file, f"was written by the later version {about.get('skxlmr')} of skxlmr: upgrade to read it"
        )
    if about.get("estimator") not in (COMPOSITE, *skxlmr.estimators.__all__):
        raise CheckpointError(file, f"names an unknown estimator, {about.get('estimator')!r}")
    expected = ("params", "fitted") if about["format"] == 1 else ("params", "fitted", "files")
    for part in ("parts", "files") if about["estimator"] == COMPOSITE else expected:
        if not isinstance(about.get(part), dict):
            raise CheckpointError(file, f"has no object {part!r}")
    if verify and about["format"] > 1:
        seal = about.get("sha256")
        if not isinstance(seal, str) or _digest(text.replace(f'"sha256": "{seal}"', _UNSEALED, 1)) != seal:
            raise CheckpointError(file, ALTERED)
    return _renamed(about) if about["format"] < FORMAT else about


def _renamed(about: dict[str, Any]) -> dict[str, Any]:
    """The content of a file of format 1 or 2, with the names of the current format."""
    params = {RENAMED.get(name, name): value for name, value in about["params"].items()}
    fitted = dict(about["fitted"])
    if fitted.get("target_type_") == "single_label":
        classes = fitted.get("classes_")
        n_classes = len(classes.get("array", ())) if isinstance(classes, dict) else 0
        fitted["target_type_"] = "binary" if n_classes == 2 else "multiclass"
    elif "target_type_" in fitted:
        fitted["target_type_"] = TARGET_TYPES.get(fitted["target_type_"], fitted["target_type_"])
    return {**about, "params": params, "fitted": fitted}


def parameters_of(about: dict[str, Any]) -> dict[str, Any]:
    """Parameters that a folder may set."""
    # before there was an activation, a regressor had none, whatever the config.json of its checkpoint said of the old head
    older = {"activation": "identity"} if about["estimator"] == "XLMRobertaRegressor" else {}
    params = older | decode(about["params"])
    return {name: value for name, value in params.items() if name not in (*NOT_SET, *NOT_SAVED)}


def unfitted_from(about: dict[str, Any]) -> Any:
    """An estimator with the parameters and metadata requests of a description.

    Raises
    ------
    ValueError, TypeError, LookupError, AttributeError
        If it cannot be one.
    """
    if about["estimator"] not in skxlmr.estimators.__all__:
        raise ValueError(f"{about['estimator']!r:.80} is no estimator")
    estimator = getattr(skxlmr.estimators, about["estimator"])()
    estimator.set_params(**parameters_of(about))
    set_metadata_requests(estimator, about.get("metadata_requests", {}))
    return estimator


def learnt_of(about: dict[str, Any], kind: type[Estimator]) -> dict[str, Any]:
    """Attributes that ``fit`` learnt.

    Raises
    ------
    ValueError, TypeError, KeyError
        If a name is not one of them, or a value cannot be.
    """
    params = kind().get_params(deep=False)
    for name in about["fitted"]:
        if callable(getattr(kind, name, None)):
            raise ValueError(f"{name} is a method, not something that fit learns")
        of_the_class = name.startswith("__") or getattr(kind, name, None) is not None
        of_the_class |= not (name.startswith("_") or name.endswith("_"))
        if of_the_class or name in params or name in _NOT_IN_JSON or (name.startswith("_sk") and name != _OUTPUT):
            raise ValueError(f"{name} is not something that fit learns")
    texts_or_pairs = kind._check_X is Estimator._check_X and kind._read_texts is Estimator._read_texts
    most = 2 if texts_or_pairs else MOST_COLUMNS
    for name in ("n_features_in_", "_n_columns"):
        n_columns = about["fitted"].get(name, 1)  # from_checkpoint sets none
        if type(n_columns) is not int or not 1 <= n_columns <= most:
            raise ValueError(f"{name} must be a whole number from 1 to {most}, got {n_columns!r:.80}")
    learnt = decode(about["fitted"])
    if not isinstance(learnt.get("learning_rate_", 1.0), int | float):
        raise ValueError(f"learning_rate_ must be a number, got {learnt['learning_rate_']!r:.80}")
    for name in _CURVES:
        if not all(isinstance(value, int | float) for value in learnt.get(name) or ()):
            raise ValueError(f"{name} must be a list of numbers, got {learnt[name]!r:.80}")
    for name, (allowed, what) in _OF_A_FIT.items():
        if not isinstance(learnt.get(name), allowed | None):
            raise ValueError(f"{name} must be {what}, got {learnt[name]!r:.80}")
    output = learnt.get(_OUTPUT, {})
    if not isinstance(output, dict) or not all(isinstance(part, str) for pair in output.items() for part in pair):
        raise ValueError(f"{_OUTPUT} must be what set_output sets, got {output!r:.80}")
    return learnt


def file_names(about: dict[str, Any], file: Path) -> dict[str, str]:
    """SHA-256 by file name, each a plain path inside the folder; empty for format 1.

    Raises
    ------
    CheckpointError
        If a name leads out of the folder.
    """
    digests = about.get("files", {})
    for name, digest in digests.items():
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or set(name) & set("\\:\0") or not isinstance(digest, str):
            raise CheckpointError(file, f"names a file that cannot be in the folder, {name!r}")
    return digests


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
