"""What the machine can do: the best rate of matrix products, and the operations that an encoder needs for a set of texts."""

import json
import time
from pathlib import Path

import numpy as np

# Rows of the products: what keeps the states in the caches, and what a large batch has.
ROWS = {"cpu": (512, 1024, 2048), "cuda": (4096, 16384)}


def operations(config, lengths):
    """Floating-point operations of dense layers and attention for rows of these lengths, padding not counted.

    A multiplication and an addition count as two. ``config`` has the names of Hugging Face's ``config.json``.
    """
    lengths, units, layers = np.asarray(lengths, float), config["hidden_size"], config["num_hidden_layers"]
    dense = 2 * (4 * units**2 + 2 * units * config["intermediate_size"])
    return layers * (dense * lengths.sum() + 4 * units * (lengths**2).sum())


def read_config(folder):
    return json.loads((Path(folder) / "config.json").read_text())


class MatrixRate:
    """Best rate of a matrix product in operations per second, over the shapes of a layer and the kernels at hand.

    Each product is repeated for some milliseconds and their mean counts: the clock of a processor rises for a short call.

    Parameters
    ----------
    config : dict
        With the names of Hugging Face's ``config.json``.
    device : str
    dtype : {"float32", "bfloat16", "float16", "int8"}
    """

    def __init__(self, config, device, dtype):
        import torch

        self.best = 0.0
        self.runs = []
        units, inner = config["hidden_size"], config["intermediate_size"]
        for n_in, n_out in ((units, units), (units, 3 * units), (units, inner), (inner, units)):
            for n_rows in ROWS[torch.device(device).type]:
                for kernel in _kernels(device, dtype, n_rows, n_in, n_out):
                    self.runs.append((2.0 * n_rows * n_in * n_out, kernel))
        self.device = device

    def measure(self, seconds=0.6):
        """Run every shape and kernel for a while, and return the best rate so far."""
        import torch

        for operations_, kernel in self.runs:
            kernel()
            start, n_calls, elapsed = time.perf_counter(), 0, 0.0
            while elapsed < seconds / len(self.runs):
                kernel()
                if self.device != "cpu":
                    torch.cuda.synchronize()
                n_calls, elapsed = n_calls + 1, time.perf_counter() - start
            self.best = max(self.best, operations_ * n_calls / elapsed)
        return self.best


def _kernels(device, dtype, n_rows, n_in, n_out):
    """Functions without arguments that compute the product."""
    import torch

    if dtype == "int8":
        return _int8_kernels(n_rows, n_in, n_out) if device == "cpu" else []
    x = torch.randn(n_rows, n_in, device=device).to(getattr(torch, dtype))
    weight = torch.randn(n_out, n_in, device=device).to(x.dtype)
    kernels = [lambda: torch.mm(x, weight.T)]
    if device == "cpu" and torch.backends.mkldnn.is_available():
        pointwise = torch.ops.mkldnn._linear_pointwise
        try:  # oneDNN does not have every type on every processor, nor every build of PyTorch packed weights
            pointwise(x, weight, None, "none", [], "")
            kernels.append(lambda: pointwise(x, weight, None, "none", [], ""))
            packed = torch.ops.mkldnn._reorder_linear_weight(weight, n_rows)
            kernels.append(lambda: pointwise(x, packed, None, "none", [], ""))
        except (RuntimeError, AttributeError):
            pass
    return kernels


def _int8_kernels(n_rows, n_in, n_out):
    import torch

    try:
        weight = torch.randint(-127, 128, (n_out, n_in), dtype=torch.int8)
        packed = torch.ops.onednn.qlinear_prepack(weight, [n_rows, n_in])
        x = torch.randint(0, 256, (n_rows, n_in), dtype=torch.uint8)
        scales, zeros = torch.full((n_out,), 0.01), torch.zeros(n_out, dtype=torch.int64)

        def product():
            return torch.ops.onednn.qlinear_pointwise(
                x, 0.01, 128, packed, scales, zeros, None, 1.0, 0, torch.float32, "none", [], ""
            )

        product()
    except (RuntimeError, AttributeError):
        return []
    return [product]
