"""ONNX both ways: graphs that other runtimes read, and estimators that run a graph with ONNX Runtime, without torch."""

from skxlmr.export._export import export_onnx
from skxlmr.export._load import load_onnx

__all__ = ["export_onnx", "load_onnx"]
