"""By which kernels of PyTorch numbers are rounded."""

from collections.abc import Hashable

from skxlmr.utils._imports.later import torch


def rounding() -> tuple[Hashable, ...]:
    """Settings of the process on which the last digits depend: of matrix products in float32, and whether oneDNN computes."""
    try:
        precision: Hashable = torch.get_float32_matmul_precision()
    except RuntimeError:  # once somebody has set the precision of one backend alone
        precision = tuple(each.matmul.fp32_precision for each in (torch.backends.cuda, torch.backends.mkldnn))
    return precision, torch.backends.mkldnn.enabled
