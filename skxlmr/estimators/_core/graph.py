"""The engine of an estimator whose model is an ONNX graph."""

from typing import Any

from skxlmr.inference import OnnxEngine, cache_of

# What the parameters that say how torch computes may be where ONNX Runtime does
FOR_TORCH = {"device": ("auto", "cpu"), "dtype": ("auto", "float32")}
INSTEAD = {"device": "load_onnx(folder, providers=[...])", "dtype": "export_onnx(..., precision=...)"}


def onnx_engine(estimator: Any) -> OnnxEngine:
    """The engine over the fitted graph.

    Raises
    ------
    ValueError
        If a parameter says how torch is to compute.
    """
    check_not_for_torch({name: getattr(estimator, name) for name in FOR_TORCH})
    cache = cache_of(getattr(estimator, "memory", None))
    languages = estimator._family.language_numbers(estimator, estimator.config_)
    return OnnxEngine(
        estimator.module_, estimator.config_, estimator.batch_size, int(estimator.verbose), cache, languages
    )


def check_not_for_torch(params: dict[str, Any]) -> None:
    """Refuse what says how torch is to compute.

    Raises
    ------
    ValueError
    """
    for name, allowed in FOR_TORCH.items():
        value = str(params.get(name, "auto"))
        if value not in allowed:
            raise ValueError(f"{name}={value!r} is for torch, and ONNX Runtime runs a graph: use {INSTEAD[name]}")
