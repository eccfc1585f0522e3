"""What runs only where there is an NVIDIA GPU; elsewhere every test here is skipped."""

import pytest
import torch


@pytest.fixture(autouse=True)
def gpu():
    """The first GPU, empty of what tests before have left."""
    if not torch.cuda.is_available():
        pytest.skip("needs an NVIDIA GPU")
    torch.cuda.empty_cache()
    return torch.device("cuda")
