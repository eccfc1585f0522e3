"""Other defaults of torch, which a caller may have set and no number may depend on."""

from contextlib import contextmanager
from functools import partial

import pytest
import torch


@contextmanager
def default_dtype(dtype):
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


# On ``meta`` a tensor that is made without a device has no values.
other_defaults = pytest.mark.parametrize(
    "other", [partial(torch.device, "meta"), partial(default_dtype, torch.float64)], ids=["device", "dtype"]
)
