"""From encoded rows to outputs: batches, kernels, precision, memory and order."""

from skxlmr.inference.engine import Engine

__all__ = ["Engine"]
