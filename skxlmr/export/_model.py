"""A fitted estimator as an ONNX model in a folder."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch

from skxlmr._version import __version__
from skxlmr.checkpoints import ONNX_FOLDER
from skxlmr.estimators._vectors.transformer import Transformer
from skxlmr.export._graphs.build import build
from skxlmr.export._graphs.features import Features
from skxlmr.export._graphs.file import write_graph
from skxlmr.export._graphs.graph import Graph
from skxlmr.export._graphs.precisions import WEIGHTS
from skxlmr.utils._errors import CheckpointError
from skxlmr.utils._optional import import_extra


class ModelWriter:
    """Writes ``onnx/`` into the folder of an estimator.

    Parameters
    ----------
    estimator : fitted estimator
    precision : str
        A key of ``WEIGHTS``.
    opset : int
    """

    def __init__(self, estimator: Any, precision: str, opset: int):
        import_extra("onnx", "onnx", "an ONNX model")
        self.estimator, self.precision, self.opset = estimator, precision, opset

    def __call__(self, folder: Path) -> None:
        """Write the model, and copies of ``config.json`` and the tokenizer's files, which lie in the folder already."""
        place = folder / ONNX_FOLDER
        place.mkdir()
        for path in sorted(folder.iterdir()):
            if path.is_file() and path.suffix != ".safetensors" and not path.name.endswith(".index.json"):
                shutil.copyfile(path, place / path.name)
        self._write(place)
        for path in place.iterdir():
            shutil.copymode(folder / "config.json", path)

    def _write(self, place: Path) -> None:
        estimator = self.estimator
        task, features = task_of(estimator), features_of(estimator)
        tensors = estimator.module_.state_dict()

        def read(name: str, rows: slice) -> np.ndarray:
            part = tensors[name].detach()[rows].to("cpu", torch.float32)
            if not torch.isfinite(part).all():
                raise CheckpointError(place, f"cannot be written: the weight {name!r} holds NaN or infinity")
            return part.numpy()

        shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        weights = WEIGHTS[self.precision](Graph(self.opset), shapes, read)
        # each text of a pair of translations counts its own positions
        build(weights, estimator.config_, task, features, getattr(estimator, "objective", None) == "tlm")
        about = {
            "precision": self.precision,
            "estimator": type(estimator).__name__,
            "task": estimator._head.task,
            "normalized": str(features is not None and features.normalize).lower(),
        }
        write_graph(place, weights.graph, about, ("skxlmr", __version__))


def task_of(estimator: Any) -> str | None:
    """The head that the graph has; None for an estimator that only makes vectors.

    Raises
    ------
    ValueError
        If the graph has no form for what the estimator computes.
    """
    if getattr(estimator, "output", "dense") != "dense":
        raise ValueError(f"output={estimator.output!r} can't be exported: only dense features can")
    head = estimator._head
    return None if head.pipeline_tag == "feature-extraction" else head.task


def features_of(estimator: Any) -> Features | None:
    """How the estimator makes vectors of texts; None if it makes none."""
    if not isinstance(estimator, Transformer):
        return None
    how, layers, n_features = estimator._how(), estimator._layers(), estimator._n_each()
    n_prompt = len(estimator._prompt_ids(how, False))
    # the mean over the windows of a text comes before the scaling
    is_last = getattr(estimator, "long_text", "truncate") == "truncate"
    n_before = estimator.config_.hidden_size * len(layers) * len(how.pooling)
    has_further = estimator._has_further_layers()
    n_before = how.n_outputs(n_before) if has_further else n_before
    return Features(
        pooling=tuple(how.pooling),
        layers=tuple(layers),
        n_skipped=n_prompt - 1 if n_prompt and not how.include_prompt else 0,
        further=how.layers if has_further else (),
        normalize=how.normalize and is_last,
        truncate_dim=n_features if n_features < n_before and is_last else None,
        normalize_again=estimator.normalize is True,
    )
