"""From encoded rows to outputs: batches, kernels, precision, memory and order."""

from skxlmr.inference.engine import TOKENS_PER_ROW, Engine

__all__ = ["TOKENS_PER_ROW", "Engine"]
