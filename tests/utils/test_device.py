"""Which precision ``dtype`` means where, whatever hardware the tests run on."""

import pickle
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from skxlmr import XLMRobertaClassifier, XLMRobertaVectorizer, load, save
from skxlmr.utils._devices import device as devices

CPU, CUDA, MPS = (torch.device(name) for name in ("cpu", "cuda", "mps"))


@pytest.fixture(autouse=True)
def nothing_remembered():
    remembered = devices.fast_half  # tests put others in its place
    remembered.cache_clear()
    yield
    remembered.cache_clear()


@pytest.mark.parametrize("fast", [torch.bfloat16, torch.float16, None])
@pytest.mark.parametrize("device", [CPU, CUDA, MPS], ids=str)
@pytest.mark.parametrize("training", [True, False])
def test_precision(monkeypatch, fast, device, training):
    """By itself half precision for training where it is fast, and for predictions on such a GPU alone."""
    monkeypatch.setattr(devices, "fast_half", lambda device: fast)
    by_itself = fast if training or device is CUDA else None
    assert devices.resolve_precision("auto", device, training) == by_itself
    assert devices.resolve_precision("float32", device, training) is None
    assert devices.resolve_precision("bfloat16", device, training) is torch.bfloat16
    if device is not CPU:
        assert devices.resolve_precision("float16", device, training) is torch.float16


@pytest.mark.parametrize("training", [True, False])
def test_float16_is_refused_on_a_cpu(training):
    with pytest.raises(
        ValueError, match=r"dtype='float16' is for GPUs: .* Set dtype='auto', or 'bfloat16' if the CPU has"
    ):
        devices.resolve_precision("float16", CPU, training)


@pytest.mark.parametrize(
    ("capability", "expected"),
    [
        ((6, 1), None),  # GTX 10
        ((7, 0), torch.float16),  # V100
        ((7, 5), torch.float16),  # T4, RTX 20
        ((8, 0), torch.bfloat16),  # A100
        ((8, 9), torch.bfloat16),  # L4
        ((9, 0), torch.bfloat16),  # H100
    ],
)
def test_what_a_gpu_is_fast_at(monkeypatch, capability, expected):
    """Each GPU for itself: a machine may have several kinds."""
    asked = []
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: asked.append(device) or capability)
    # as PyTorch itself tells emulated bfloat16 from fast bfloat16
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(major=capability[0]))
    found = devices.fast_half(torch.device("cuda:1"))
    assert found is expected and asked == [torch.device("cuda:1")]
    assert torch.cuda.is_bf16_supported(including_emulation=False) == (found is torch.bfloat16)


@pytest.mark.parametrize("fast", [True, False])
def test_what_other_devices_are_fast_at(monkeypatch, fast):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: fast)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    assert devices.fast_half(CPU) is (torch.bfloat16 if fast else None)
    assert devices.fast_half(MPS) is None


@pytest.mark.parametrize(
    ("machine", "has_onednn", "supported", "expected"),
    [
        ("x86_64", True, True, False),
        ("x86_64", True, False, True),
        ("AMD64", False, True, True),
        ("arm64", False, False, False),  # not measured
    ],
)
def test_what_is_slow_at_bfloat16(monkeypatch, machine, has_onednn, supported, expected):
    monkeypatch.setattr(devices.platform, "machine", lambda: machine)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: has_onednn)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: supported)
    assert devices.is_slow_at_bfloat16() is expected


@pytest.mark.parametrize("slow", [True, False])
def test_slow_bfloat16_is_warned_of_once(monkeypatch, slow, tiny_checkpoint):
    monkeypatch.setattr(devices, "is_slow_at_bfloat16", lambda: slow)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        features = XLMRobertaVectorizer(tiny_checkpoint, device="cpu", dtype="bfloat16").fit_transform(["a", "b"])
        assert devices.resolve_precision("bfloat16", MPS, False) == torch.bfloat16
        for dtype in ("auto", "float32"):
            devices.resolve_precision(dtype, CPU, True)
    assert features.dtype == np.float32
    assert [str(w.message)[:45] for w in caught] == ["dtype='bfloat16' takes many times as long as "] * slow


def test_slow_bfloat16_is_no_matter_until_something_is_computed(monkeypatch, tmp_path, tiny_checkpoint):
    monkeypatch.setattr(devices, "is_slow_at_bfloat16", lambda: True)
    vectorizer = XLMRobertaVectorizer(tiny_checkpoint, device="cpu", dtype="bfloat16", memory=None).fit(["a", "b"])
    save(vectorizer, tmp_path / "saved")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for found in (load(tmp_path / "saved"), pickle.loads(pickle.dumps(vectorizer))):
            with pytest.raises(UserWarning, match="dtype='bfloat16' takes many times as long"):
                found.transform(["a"])
            assert found.set_params(dtype="float32").transform(["a"]).shape == (1, 32)
    classifier = XLMRobertaClassifier(tiny_checkpoint, device="cpu", dtype="bfloat16", max_epochs=1)
    with pytest.warns(UserWarning, match="dtype='bfloat16' takes many times as long"):
        classifier.fit(["a", "b"] * 4, [0, 1] * 4)


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"),
    [(True, True, "cuda"), (True, False, "cuda"), (False, True, "mps"), (False, False, "cpu")],
)
def test_automatic_device(monkeypatch, cuda, mps, expected):
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert devices.resolve_device("auto").type == expected


@pytest.mark.parametrize(
    ("n_visible", "run", "rank", "expected"),
    [(8, "a run", "3", "cuda:3"), (8, "a run", "0", "cuda"), (1, "a run", "3", "cuda"), (8, None, "3", "cuda")],
)
def test_each_process_of_torchrun_has_a_gpu(monkeypatch, n_visible, run, rank, expected):
    """Unless it sees only one, which is its own then; a variable that something else has set counts for nothing."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: n_visible)
    monkeypatch.setenv("LOCAL_RANK", rank)
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    if run:
        monkeypatch.setenv("TORCHELASTIC_RUN_ID", run)
    assert str(devices.resolve_device("auto")) == expected


def test_a_device_that_is_not_here_is_said_in_one_sentence(monkeypatch):
    """Torch answers with all that it supports."""

    def empty(*size, device):
        raise RuntimeError(
            f"Could not run 'empty' on {device}. This could be because of many things. 'empty' is for ..."
        )

    monkeypatch.setattr(torch, "empty", empty)
    with pytest.raises(ValueError, match=r"device='mps' cannot be used here: Could not run 'empty' on mps$"):
        devices.resolve_device("mps")
