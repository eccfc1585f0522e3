"""Read a saved estimator."""

import os
import warnings
from pathlib import Path
from typing import Any

import torch

import skxlmr.estimators
from skxlmr.checkpoints import Origin, assign_weights, on_meta, read_model, resolve_checkpoint, sha256_of
from skxlmr.estimators._core.estimator import Estimator
from skxlmr.estimators.heads import PARTS
from skxlmr.persistence._description import ALTERED, FILE, file_names, is_place, read_description
from skxlmr.persistence._model_card import CARD
from skxlmr.persistence._sentence_transformers import MODULES, POOLING, TRANSFORMER
from skxlmr.persistence._values import decode
from skxlmr.utils._device import resolve_device
from skxlmr.utils._errors import CheckpointError
from skxlmr.utils._warnings import outside_stacklevel

MOST_COLUMNS = 1000  # choices per row
NOT_READ = (CARD, MODULES, POOLING, TRANSFORMER)  # for people and other tools: the folder is complete without them


def load(
    folder: str | os.PathLike[str],
    device: str | torch.device | None = None,
    *,
    revision: str | None = None,
    verify: bool = True,
) -> Any:  # the folder says of which class; with the base class, ``load(folder).predict`` would be an error
    """Read an estimator that ``save`` or ``push_to_hub`` wrote, with this version of the library or an older one.

    Parameters
    ----------
    folder : str or path
        The folder, or a name on the Hugging Face hub: ``"org/name"`` or ``"org/name@revision"``.
    device : str or torch.device, optional
        Where to put it; by default what the estimator's own ``device`` parameter says.
    revision : str, optional
        Branch, tag or commit on the hub.
    verify : bool, default=True
        Compare each file with the SHA-256 that was saved with it; a gigabyte takes about a second. If only the model
        card has changed, there is a warning.

    Returns
    -------
    fitted estimator
        Of the class that was saved. Type checkers know it from an annotation:
        ``classifier: XLMRobertaClassifier = load(folder)``.

    Raises
    ------
    CheckpointError
        If a file is missing, broken, not what was saved, or from a later version of the library.
    ValueError
        If the device cannot be used here.

    Examples
    --------
    >>> import tempfile
    >>> from skxlmr import XLMRobertaVectorizer, load, save
    >>> with tempfile.TemporaryDirectory() as parent:
    ...     save(XLMRobertaVectorizer("skxlmr-mini", pooling="cls").fit(["A text."]), parent + "/features")
    ...     load(parent + "/features").pooling
    'cls'
    """
    given, folder = os.fspath(folder), resolve_checkpoint(folder, revision)
    about = read_description(folder / FILE, verify)
    if verify:
        _verify(folder, file_names(about, folder / FILE))
    estimator = getattr(skxlmr.estimators, about["estimator"])()
    try:
        estimator.set_params(**decode(about["params"]))
        vars(estimator).update(_learnt(type(estimator), about["fitted"]))
        if estimator.checkpoint is None:  # it was an estimator or a place on another machine, and the weights are here
            estimator.set_params(checkpoint=str(folder) if is_place(given) else given, revision=revision)
        if device is not None:
            estimator.set_params(device=str(device))
        estimator._validate_params()
        stored = read_model(folder)
        estimator.config_, estimator.tokenizer_ = estimator._read_folder(stored)
        estimator._limit()  # raises if max_length is more than the model allows
        with on_meta():
            module = estimator._build(estimator.config_)
    except CheckpointError:
        raise
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError) as error:
        raise CheckpointError(folder / FILE, f"does not describe a {about['estimator']} ({error})") from error
    try:
        target = resolve_device(estimator.device)
    except (ValueError, TypeError) as error:
        if device is not None:
            raise
        raise CheckpointError(folder / FILE, f"{error}; load(..., device='cpu') puts it elsewhere") from error
    dtype = estimator._weight_dtype()
    tensors, module.mapped_files = stored.mapped_tensors()
    assign_weights(module, tensors, source=folder, head_parts=PARTS, dtype=dtype)
    module.origin = Origin.of(given, revision, folder, estimator.tokenizer_)
    estimator.module_ = module.eval().to(target)
    return estimator


def _learnt(kind: type[Estimator], fitted: dict[str, Any]) -> dict[str, Any]:
    """Attributes that ``fit`` learnt."""
    for name in fitted:
        if callable(getattr(kind, name, None)):
            raise ValueError(f"{name} is a method, not something that fit learns")
    n_columns = fitted.get("n_features_in_", 1)  # from_checkpoint sets none
    most = 2 if kind._check_X is Estimator._check_X else MOST_COLUMNS
    if type(n_columns) is not int or not 1 <= n_columns <= most:
        raise ValueError(f"n_features_in_ must be a whole number from 1 to {most}, got {n_columns!r:.80}")
    return decode(fitted)


def _verify(folder: Path, digests: dict[str, str]) -> None:
    """Compare the files with what was saved."""
    for name, digest in digests.items():
        if name in NOT_READ and not (folder / name).exists():
            continue
        if sha256_of(folder / name) == digest:
            continue
        if name != CARD:
            raise CheckpointError(folder / name, ALTERED)
        warnings.warn(
            f"{folder / name} is not the model card that save wrote: edited since, or damaged (the model is intact)",
            UserWarning,
            stacklevel=outside_stacklevel(),
        )
