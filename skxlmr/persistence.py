"""Write a fitted estimator to a folder and read it back, without pickle.

The folder is a Hugging Face-style checkpoint (``config.json``, ``model.safetensors``, tokenizer files), which
``transformers`` and every estimator of this library open, plus ``skxlmr.json`` with the parameters and what ``fit`` learnt.
"""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted

import skxlmr.estimators
from skxlmr.checkpoints import emplace, normalize_names, on_meta, read_tensors, write_folder
from skxlmr.estimators._base import BaseXLMRoberta
from skxlmr.utils._device import resolve_device
from skxlmr.utils._errors import CheckpointError

FILE = "skxlmr.json"
FORMAT = 1
_NOT_IN_JSON = {"module_", "tokenizer_", "config_", "_sklearn_version"}


def save(estimator: BaseXLMRoberta, folder: str | os.PathLike) -> None:
    """Write a fitted estimator to a folder, as a whole or not at all.

    Parameters
    ----------
    estimator : fitted estimator of this library
    folder : str or path
        Made if need be; a checkpoint folder that is there is replaced.

    Raises
    ------
    NotFittedError
        If the estimator is not fitted.
    CheckpointError
        If the folder holds something else, or cannot be written.

    Notes
    -----
    A ``random_state`` that is a generator, not an int or None, is saved as None. Where ``checkpoint`` is an estimator, the
    folder itself takes its place: ``load`` sets ``checkpoint`` to the folder.
    """
    check_is_fitted(estimator, "module_")
    from skxlmr import __version__

    params = {name: _encode(value) for name, value in estimator.get_params(deep=False).items()}
    fitted = {name: _encode(value) for name, value in vars(estimator).items() if _is_learnt(estimator, name)}
    about = {
        "format": FORMAT,
        "skxlmr": __version__,
        "estimator": type(estimator).__name__,
        "params": params,
        "fitted": fitted,
    }
    write_folder(
        folder,
        config={**estimator.config_.to_dict(), **estimator._hub_config()},
        tensors=estimator.module_.state_dict(),
        tokenizer=estimator.tokenizer_,
        extra_files={FILE: json.dumps(about, ensure_ascii=False, indent=1)},
    )


def load(folder: str | os.PathLike, device: str | torch.device | None = None) -> Any:
    """Read an estimator that ``save`` wrote.

    Parameters
    ----------
    folder : str or path
    device : str or torch.device, optional
        Where to put it; by default what the estimator's own ``device`` parameter says.

    Returns
    -------
    fitted estimator

    Raises
    ------
    CheckpointError
        If a file is missing, broken or from a later version of the library.
    """
    folder = Path(folder).expanduser()
    about = _read_about(folder / FILE)
    estimator = getattr(skxlmr.estimators, about["estimator"])()
    try:
        estimator.set_params(**{name: _decode(value) for name, value in about["params"].items()})
        vars(estimator).update({name: _decode(value) for name, value in about["fitted"].items()})
        if estimator.checkpoint is None:  # it was an estimator, whose weights are here
            estimator.set_params(checkpoint=str(folder))
        if device is not None:
            estimator.set_params(device=str(device))
        estimator.config_, estimator.tokenizer_ = estimator._read_folder(folder)
        with on_meta():
            module = estimator._build(estimator.config_)
    except CheckpointError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise CheckpointError(folder / FILE, f"does not describe a {about['estimator']} ({error})") from error
    config = estimator.config_
    tensors = normalize_names(
        read_tensors(folder), config.base_prefix, tied=config.tie_word_embeddings, source=str(folder)
    )
    emplace(module, tensors, source=folder, dtype=estimator._weight_dtype())
    estimator.module_ = module.eval().to(resolve_device(estimator.device))
    return estimator


def _is_learnt(estimator: BaseXLMRoberta, name: str) -> bool:
    return name not in _NOT_IN_JSON and name not in estimator.get_params(deep=False)


def _read_about(file: Path) -> dict[str, Any]:
    try:
        about = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(file, "is missing: the folder was not written by skxlmr.save") from None
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(file, f"cannot be read ({error})") from error
    if not isinstance(about, dict) or not isinstance(about.get("format"), int):
        raise CheckpointError(file, "is not a description of an estimator")
    if about["format"] > FORMAT:
        raise CheckpointError(
            file, f"was written by the later version {about.get('skxlmr')} of skxlmr: upgrade to read it"
        )
    if about.get("estimator") not in skxlmr.estimators.__all__:
        raise CheckpointError(file, f"names an unknown estimator, {about.get('estimator')!r}")
    for part in ("params", "fitted"):
        if not isinstance(about.get(part), dict):
            raise CheckpointError(file, f"has no object {part!r}")
    return about


def _encode(value: Any) -> Any:
    """JSON for a parameter or a learnt attribute."""
    if isinstance(value, np.random.RandomState | BaseXLMRoberta):
        return None
    if isinstance(value, os.PathLike | torch.device):
        return str(value)
    if isinstance(value, np.ndarray):
        return {"array": [_encode(item) for item in value.tolist()], "dtype": value.dtype.str}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, dict):
        return {"items": [[_encode(key), _encode(item)] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        return [_encode(item) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"a {type(value).__name__} cannot be saved: {value!r}")


def _decode(value: Any) -> Any:
    if isinstance(value, dict) and "array" in value:
        items, dtype = [_decode(item) for item in value["array"]], np.dtype(value["dtype"])
        return np.array(items, dtype=dtype)
    if isinstance(value, dict):
        return {_decode(key): _decode(item) for key, item in value["items"]}
    if isinstance(value, list):
        return [_decode(item) for item in value]
    return value
