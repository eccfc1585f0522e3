"""Features of texts that are made in several parts, or that go where the caller says with ``out``."""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable
from typing import Any

import numpy as np

from skxlmr.checkpoints import Origin
from skxlmr.estimators._core.truncation import who_cuts
from skxlmr.estimators._vectors.output import ArrayOutput, FileOutput, check_array, path_of
from skxlmr.estimators._vectors.parts import Rows, fill
from skxlmr.inference import Engine
from skxlmr.text import EncodedBatch
from skxlmr.training import digest, in_words
from skxlmr.utils._sklearn import output_config
from skxlmr.utils._validation import Texts

Out = str | os.PathLike[str] | np.ndarray | None
# Parameters that change no feature by more than rounding, or no feature of texts that were read.
NO_MATTER = (
    *("checkpoint", "revision", "batch_size", "device", "dtype", "memory", "missing", "pairs", "verbose"),
    "store_weights_in_pickle",
)


def check_out(estimator: Any, out: Any) -> None:
    """Refuse what can't be ``out``, and a DataFrame beside it.

    Raises
    ------
    TypeError, ValueError, FileNotFoundError
    """
    path_of(out)
    wanted = output_config("transform", estimator)["dense"]
    if wanted != "default":
        raise ValueError(
            f"out takes an array or a file of one, and set_output(transform={wanted!r}) asks for a table: call "
            "set_output(transform='default'), or leave out out"
        )


def features_in_parts(
    estimator: Any,
    engine: Engine,
    texts: Texts,
    shape: tuple[int, int],
    features: Callable[[EncodedBatch], np.ndarray],
    recipe: Hashable,
    out: Out,
) -> np.ndarray:
    """Features of all texts.

    Parameters
    ----------
    estimator : Vectorizer
    engine : Engine
    texts : Texts
        In one dimension.
    shape : tuple of int
        Of the features of all rows, in each of which several texts may be side by side.
    features : callable
        Features of encoded texts, (n_texts, n_features).
    recipe : hashable
        What it computes.
    out : path, ndarray or None
        Where they go; None makes an array.

    Returns
    -------
    ndarray
    """
    n_features = estimator._n_each()
    if isinstance(estimator.memory, str) and estimator.memory == "auto" and out is not None:
        engine.cache = None  # it would copy all to memory, and lose what other calls will look for
    limit = estimator._limit()
    rows = Rows.of(texts)

    def encode(some: Texts) -> EncodedBatch:
        encoded: EncodedBatch = estimator._tokenize(some, limit)
        return encoded

    path = None if out is None else path_of(out)
    if path is None:
        array: np.ndarray = np.empty(shape, np.float32) if out is None else out  # type: ignore[assignment]
        check_array(array, shape)
        cut = fill(ArrayOutput(array.reshape(-1, n_features)), rows, engine, encode, features)
    else:
        about = _about(estimator, engine, rows, shape, recipe)
        with FileOutput(path, shape, n_features, about) as output:
            cut = fill(output, rows, engine, encode, features)
            array = output.finished()
    cut.warn(len(texts.first), limit, "texts", who_cuts(estimator, limit))
    return array


def _about(estimator: Any, engine: Engine, rows: Rows, shape: tuple[int, int], recipe: Hashable) -> dict[str, str]:
    """All that the features depend on, by its name in messages."""
    identity = engine.identity(recipe, Origin.content_hash)
    if identity is None:
        raise ValueError(
            "out can't be a path here: the weights are no longer those of the checkpoint, so that nobody could tell whether a "
            f"file was begun with them. Pass an array, np.lib.format.open_memmap(path, 'w+', 'float32', {shape})"
        )
    weights, *computed_in, beside, recipe = identity
    how = estimator._how(), estimator._limit(), beside, recipe
    tokenizer = estimator.tokenizer_
    parameters = {name: value for name, value in estimator.get_params(deep=False).items() if name not in NO_MATTER}
    return {
        "X": f"{shape[0]} rows, {rows.digest}",
        "the weights": str(weights),
        "the tokenizer": digest(type(tokenizer).__name__, tokenizer.identity()),
        "dtype or device": repr((*computed_in, *engine.settings)),
        "the type of what memory keeps": "float32" if engine.cache is None else engine.cache.dtype,
        **{name: in_words(value) for name, value in sorted(parameters.items())},
        "how the checkpoint makes features": repr(how),
    }
