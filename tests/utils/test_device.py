"""Which precision ``dtype`` means where, whatever hardware the tests run on."""

import pytest
import torch

from skxlmr.utils import _device

CPU, CUDA, MPS = (torch.device(name) for name in ("cpu", "cuda", "mps"))


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("device", [CPU, CUDA, MPS], ids=str)
@pytest.mark.parametrize("training", [True, False])
def test_precision(monkeypatch, fast, device, training):
    """By itself bfloat16 for training where it is fast, and for predictions on such a GPU alone."""
    monkeypatch.setattr(_device, "has_fast_bfloat16", lambda kind: fast)
    by_itself = torch.bfloat16 if fast and (training or device is CUDA) else None
    assert _device.resolve_autocast("auto", device, training) == by_itself
    assert _device.resolve_autocast("float32", device, training) is None
    assert _device.resolve_autocast("bfloat16", device, training) is torch.bfloat16


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"),
    [(True, True, "cuda"), (True, False, "cuda"), (False, True, "mps"), (False, False, "cpu")],
)
def test_automatic_device(monkeypatch, cuda, mps, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert _device.resolve_device("auto").type == expected


def test_a_device_that_is_not_here_is_said_in_one_sentence(monkeypatch):
    """Torch answers with all that it supports."""

    def empty(*size, device):
        raise RuntimeError(
            f"Could not run 'empty' on {device}. This could be because of many things. 'empty' is for ..."
        )

    monkeypatch.setattr(torch, "empty", empty)
    with pytest.raises(ValueError, match=r"device='mps' cannot be used here: Could not run 'empty' on mps$"):
        _device.resolve_device("mps")
