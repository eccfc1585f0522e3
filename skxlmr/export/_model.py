"""A fitted estimator as an ONNX model in a folder."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
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
from skxlmr.utils._imports.optional import import_extra


@dataclass(frozen=True)
class Model:
    """What is exported.

    Attributes
    ----------
    module : TaskModule
    config : config of a family
    head : str
        The end of Hugging Face's name of the module.
    task : str or None
        The head in the graph; None for vectors only.
    features : Features or None
        How vectors of texts are made.
    reader : str
        The estimator that opens it; empty if none does.
    takes_positions : bool
        Whether positions are an input: each text of a pair of translations counts its own.
    """

    module: Any
    config: Any
    head: str
    task: str | None
    features: Features | None = None
    reader: str = ""
    takes_positions: bool = False


def model_of(estimator: Any) -> Model:
    """A fitted estimator's."""
    name, pairs = type(estimator).__name__, getattr(estimator, "objective", None) == "tlm"
    task, features = task_of(estimator), features_of(estimator)
    return Model(estimator.module_, estimator.config_, estimator._head.task, task, features, name, pairs)


class ModelWriter:
    """Writes ``onnx/`` into a folder.

    Parameters
    ----------
    model : function
        Gives the model.
    precision : str
        A key of ``WEIGHTS``.
    opset : int
    """

    def __init__(self, model: Callable[[], Model], precision: str, opset: int):
        import_extra("onnx", "onnx", "an ONNX model")
        self.model, self.precision, self.opset = model, precision, opset

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
        model = self.model()
        tensors, features = model.module.state_dict(), model.features

        def read(name: str, rows: slice) -> np.ndarray:
            part = tensors[name].detach()[rows].to("cpu", torch.float32)
            if not torch.isfinite(part).all():
                raise CheckpointError(place, f"cannot be written: the weight {name!r} holds NaN or infinity")
            return part.numpy()

        shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        weights = WEIGHTS[self.precision](Graph(self.opset), shapes, read)
        build(weights, model.config, model.task, features, model.takes_positions)
        about = {
            "precision": self.precision,
            "estimator": model.reader,
            "task": model.head,
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
        normalize_again=estimator._scales_again(),
    )
