"""Tests that need an NVIDIA GPU; elsewhere all of them are skipped."""

import pytest
import torch


@pytest.fixture(autouse=True)
def gpu():
    """The first GPU, without cached memory of earlier tests."""
    if not torch.cuda.is_available():
        pytest.skip("needs an NVIDIA GPU")
    torch.cuda.empty_cache()
    return torch.device("cuda")
