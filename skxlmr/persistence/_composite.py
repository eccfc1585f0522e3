"""Pipelines, searches and other estimators of scikit-learn that hold estimators of this library.

Each estimator of this library has a folder of its own. The rest is a file of skops, which is read without executing code, with
a string in the place of each of these estimators.
"""

import io
import json
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zipfile import ZIP_STORED, BadZipFile, ZipFile

from sklearn.utils.validation import check_is_fitted

from skxlmr.checkpoints import PARTS, SKOPS_FILE, sha256_of
from skxlmr.estimators._core.estimator import Estimator
from skxlmr.persistence._description import COMPOSITE, FILE, parameters_json, sealed, unfitted_from, versions
from skxlmr.persistence._model_card import CARD
from skxlmr.persistence._parts import parts_of, steps_of, with_parts, without_parts
from skxlmr.utils._errors import CheckpointError
from skxlmr.utils._files import read_bytes
from skxlmr.utils._imports.optional import import_extra
from skxlmr.utils._sklearn import metadata_requests

MOST_BYTES = 512 * 2**20
INSTALL = 'pip install "skxlmr[skops]"'
# What skops does not trust by itself, and what holds nothing but parameters and results
_SKLEARN = {
    "sklearn.metrics._scorer": "_PassthroughScorer _Scorer _MultimetricScorer _CurveScorer",
    "sklearn.model_selection._split": "KFold StratifiedKFold GroupKFold StratifiedGroupKFold ShuffleSplit GroupShuffleSplit "
    "StratifiedShuffleSplit TimeSeriesSplit PredefinedSplit LeaveOneOut LeavePOut LeaveOneGroupOut LeavePGroupsOut "
    "RepeatedKFold RepeatedStratifiedKFold",
    "sklearn.calibration": "_CalibratedClassifier _SigmoidCalibration",
    "sklearn.utils._bunch": "Bunch",
    "sklearn.utils._metadata_requests": "MetadataRequest MethodMetadataRequest",
}


def write_composite(whole: Any, folder: Path, write_part: Callable[[Estimator, Path], None]) -> None:
    """Fill an empty folder.

    Raises
    ------
    TypeError, ValueError, NotFittedError
        If a step cannot be saved; names it.
    ImportError
        If skops is not installed.
    """
    check_is_fitted(whole)
    io_of_skops = _skops()
    nonce, places = secrets.token_hex(8), {}
    parts: dict[str, dict[str, Any]] = {}
    for where, part in parts_of(whole):
        places[id(part)] = place = f"skxlmr:{nonce}:{len(parts)}"
        if hasattr(part, "module_"):
            parts[place] = {"folder": f"{PARTS}/{len(parts)}"}
            try:
                write_part(part, folder / parts[place]["folder"])
            except (TypeError, ValueError) as error:
                raise TypeError(f"the step {where!r} of the {type(whole).__name__} cannot be saved: {error}") from error
        elif isinstance(part.checkpoint, Estimator):
            raise TypeError(
                f"the step {where!r} of the {type(whole).__name__} cannot be saved: it is not fitted, and its checkpoint is an "
                "estimator: save that one, and pass its folder as checkpoint"
            )
        else:  # what a search or a ColumnTransformer makes its copies of
            params = {"params": parameters_json(part), "metadata_requests": metadata_requests(part)}
            parts[place] = {"estimator": type(part).__name__, **params}
    (folder / SKOPS_FILE).write_bytes(_dumped(io_of_skops, without_parts(whole, places)))
    (folder / CARD).write_text(_card(whole, [part for _, part in parts_of(whole)]), encoding="utf-8")
    names = [CARD, SKOPS_FILE, *(f"{part['folder']}/{FILE}" for part in parts.values() if "folder" in part)]
    about = {"estimator": COMPOSITE, "class": type(whole).__name__, "parts": parts}
    text = sealed(about | {"files": {name: sha256_of(folder / name) for name in names}})
    (folder / FILE).write_text(text, encoding="utf-8")


def _card(whole: Any, parts: list[Estimator]) -> str:
    """A short model card, which names no place on this machine."""
    head = {"library_name": "skxlmr", "tags": ["skxlmr", "scikit-learn"]}
    front = "\n".join(f"{key}: {json.dumps(value)}" for key, value in head.items())
    held = ", ".join(sorted({f"`{type(part).__name__}`" for part in parts})) or "none"
    table = "\n".join(f"| {name} | {version} |" for name, version in versions().items())
    return (
        f"---\n{front}\n---\n\n# {type(whole).__name__}\n\nA fitted `{type(whole).__name__}` of scikit-learn. Estimators of "
        f'skxlmr in it: {held}.\n\n## Use\n\n```python\nfrom skxlmr import load\n\nmodel = load("FOLDER")\n```\n\nIt needs '
        f"`{INSTALL}`.\n\n## Versions\n\n| package | version |\n| --- | --- |\n{table}\n"
    )


def read_composite(folder: Path, parts: dict[str, Any], read_part: Callable[[str], Any]) -> Any:
    """The estimator of scikit-learn, with the estimators of this library in their places."""
    io_of_skops = _skops()
    content = read_bytes(folder / SKOPS_FILE, MOST_BYTES)
    found = {}
    folders = {f"{PARTS}/{i}" for i in range(len(parts))}
    for place, part in parts.items():
        try:
            if "folder" not in part:
                found[place] = unfitted_from(part)
            elif part["folder"] not in folders:
                raise ValueError(f"{part['folder']!r:.80} cannot be one of its folders")
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            raise CheckpointError(folder / FILE, f"does not describe its estimators ({error})") from error
        if "folder" in part:
            found[place] = read_part(part["folder"])
    return with_parts(_loaded(io_of_skops, folder / SKOPS_FILE, content), found)


def _dumped(io_of_skops: Any, stripped: Any) -> bytes:
    """Bytes of the file of skops; refuses what ``load`` would not trust."""
    try:
        content = io_of_skops.dumps(stripped)
        if not (untrusted := _untrusted(io_of_skops, content)):
            return bytes(content)
    except Exception as error:  # skops has none of its own for what it cannot write
        untrusted = [f"{type(error).__name__}: {error!s:.200}"]
    where, kind = "", type(stripped).__name__
    for name, step in steps_of(stripped):  # the innermost that cannot be saved alone
        try:
            is_whole = not _untrusted(io_of_skops, io_of_skops.dumps(step))
        except Exception:
            is_whole = False
        if not is_whole:
            where, kind = name, type(step).__name__
    raise TypeError(
        f"the {type(stripped).__name__} cannot be saved without pickle: {f'its step {where!r}, a {kind},' if where else 'it'} "
        f"holds what load would not trust ({', '.join(untrusted)}). Save it with joblib.dump, which is pickle, or save its "
        "estimators of this library one by one"
    )


def _loaded(io_of_skops: Any, file: Path, content: bytes) -> Any:
    try:
        with ZipFile(io.BytesIO(content)) as archive:
            entries = archive.infolist()
            if any(entry.compress_type != ZIP_STORED for entry in entries) or sum(e.file_size for e in entries) > len(
                content
            ):
                raise CheckpointError(file, "is compressed, which save does not do")
        if untrusted := _untrusted(io_of_skops, content):
            raise CheckpointError(
                file,
                f"holds what load does not trust, and save does not write ({', '.join(untrusted)}): whoever made it may run "
                "code on this machine. If you trust them, look at it with skops.io.get_untrusted_types",
            )
        return io_of_skops.loads(content, trusted=_trusted())
    except CheckpointError:
        raise
    except (BadZipFile, RecursionError, MemoryError, Exception) as error:  # skops checks types, not every value
        raise CheckpointError(file, f"is not a whole file of skops ({type(error).__name__}: {error!s:.200})") from error


def _trusted() -> list[str]:
    names = [f"{module}.{name}" for module, found in _SKLEARN.items() for name in found.split()]
    from sklearn.metrics import get_scorer, get_scorer_names

    scorers = map(get_scorer, get_scorer_names())
    return names + sorted({f"{s._score_func.__module__}.{s._score_func.__name__}" for s in scorers})


def _untrusted(io_of_skops: Any, content: bytes) -> list[str]:
    return sorted(set(io_of_skops.get_untrusted_types(data=bytes(content))) - set(_trusted()))


def _skops() -> Any:
    """Its module for files; an error says how to install it."""
    import_extra("skops", "skops", "a folder of a scikit-learn estimator")
    import skops.io

    return skops.io
