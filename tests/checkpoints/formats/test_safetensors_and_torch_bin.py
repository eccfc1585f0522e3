import json
import os
import pickle
import struct
import sys

import pytest
import torch
from safetensors.torch import save_file

from skxlmr.checkpoints._formats.read import read_tensors
from skxlmr.checkpoints._formats.safetensors import read_safetensors, write_safetensors
from skxlmr.checkpoints._formats.torch_bin import read_torch_bin
from skxlmr.utils._errors import CheckpointError
from tests.checkpoints.conftest import assert_same


def write_zip(tensors, file):
    torch.save(tensors, file)


def write_legacy(tensors, file):
    torch.save(tensors, file, _use_new_zipfile_serialization=False)


FORMATS = {
    "safetensors": (save_file, read_safetensors),
    "zip": (write_zip, read_torch_bin),
    "legacy": (write_legacy, read_torch_bin),
}


@pytest.fixture(params=FORMATS)
def file_and_reader(request, tmp_path, tensors):
    write, read = FORMATS[request.param]
    file = tmp_path / "weights"
    write(tensors, file)
    return file, read


def test_round_trip(file_and_reader, tensors):
    file, read = file_and_reader
    assert_same(read(file), tensors)


def test_writing_to_a_tensor_never_changes_the_file(file_and_reader, tensors):
    file, read = file_and_reader
    before = file.read_bytes()
    parameters = {name: torch.nn.Parameter(tensor) for name, tensor in read(file).items()}
    optimizer = torch.optim.SGD(parameters.values(), lr=0.5)
    for parameter in parameters.values():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    assert_same(
        {name: parameter.detach() for name, parameter in parameters.items()}, {n: t - 0.5 for n, t in tensors.items()}
    )
    assert file.read_bytes() == before
    assert_same(read(file), tensors)


@pytest.mark.skipif(not os.path.exists("/proc/self/maps"), reason="reads Linux's table of memory maps")
@pytest.mark.parametrize("kind", ["safetensors", "zip"])
def test_tensors_are_in_the_mapped_file(kind, tmp_path, tensors):
    write, read = FORMATS[kind]
    file = tmp_path / "weights"
    write(tensors, file)
    held = read(file)
    with open("/proc/self/maps") as maps:
        spans = [line.split()[0].split("-") for line in maps if line.rstrip().endswith(str(file))]
    for name, tensor in held.items():
        assert any(int(start, 16) <= tensor.data_ptr() < int(end, 16) for start, end in spans), name


@pytest.mark.parametrize("part", [0.0, 0.02, 0.5, 0.99])
def test_truncated(file_and_reader, part):
    file, read = file_and_reader
    whole = file.read_bytes()
    file.write_bytes(whole[: int(len(whole) * part)])
    with pytest.raises(CheckpointError, match=r"weights: .*(not a|is broken|is empty|is truncated)"):
        read(file)


@pytest.mark.parametrize("read", [read_safetensors, read_torch_bin])
@pytest.mark.parametrize("content", [b"", b"hello world" * 30, b"PK\x03\x04" + b"x" * 200, b"\x80\x02}q\x00."])
def test_garbage(read, content, tmp_path):
    (tmp_path / "weights").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"weights: (is not a|is empty)"):
        read(tmp_path / "weights")


@pytest.mark.parametrize("read", [read_safetensors, read_torch_bin])
def test_unreadable(read, tmp_path):
    with pytest.raises(CheckpointError, match=r"absent"):
        read(tmp_path / "absent")


class Malicious:
    def __init__(self, canary):
        self.canary = canary

    def __reduce__(self):
        return os.mkdir, (str(self.canary),)


@pytest.mark.parametrize("write", [write_zip, write_legacy, lambda value, file: file.write_bytes(pickle.dumps(value))])
def test_pickle_is_never_executed(write, tmp_path, tensors):
    canary, file = tmp_path / "canary", tmp_path / "weights"
    write({**tensors, "evil": Malicious(canary)}, file)
    with pytest.raises(
        CheckpointError, match=r"weights: (is broken, or holds more than tensors|is not a PyTorch file)"
    ):
        read_torch_bin(file)
    assert not canary.exists()
    pickle.loads(pickle.dumps(Malicious(canary)))  # the trap itself works
    assert canary.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "is not a state dict of PyTorch: it holds a list, expected named tensors"),
        (torch.ones(1), "it holds a Tensor, expected named tensors"),
        ({"a": torch.ones(1), "epoch": 3}, "it holds a int under 'epoch', expected named tensors"),
        ({"state_dict": {"epoch": 3}}, "it holds a dict under 'state_dict'"),
        (
            {"epoch": 3, "state_dict": {"a": torch.ones(1)}, "loops": {}},
            r"named tensors under 'state_dict', .*: keep these alone \(torch.save\(torch.load\(.*\)\['state_dict'\], file\)\)",
        ),
        ({1: torch.ones(1)}, "it holds a Tensor under 1, expected"),
        ({"a": torch.ones(2, device="meta")}, "it asks for 'torch._utils._rebuild_meta_tensor"),
        ({"a": torch.eye(2).to_sparse()}, "it asks for 'torch._utils._rebuild_sparse_tensor"),
    ],
)
def test_bin_with_something_else(content, message, tmp_path):
    torch.save(content, tmp_path / "weights")
    with pytest.raises(CheckpointError, match=message):
        read_torch_bin(tmp_path / "weights")


def test_shared_tensors_are_written_once(tmp_path):
    whole = torch.arange(12.0).reshape(3, 4)
    write_safetensors(
        tmp_path / "weights",
        {
            "word": whole,
            "decoder": whole,
            "slice": whole[1:],
            "turned": whole.T,
            "none": torch.ones(0),
            "nil": torch.ones(0),
        },
    )
    expected = {"word": whole, "slice": whole[1:], "turned": whole.T, "none": torch.ones(0), "nil": torch.ones(0)}
    assert_same(read_safetensors(tmp_path / "weights"), expected)


def test_written_dtype(tmp_path):
    write_safetensors(tmp_path / "weights", {"a": torch.ones(2), "n": torch.ones(2, dtype=torch.int64)}, torch.bfloat16)
    dtypes = {name: tensor.dtype for name, tensor in read_safetensors(tmp_path / "weights").items()}
    assert dtypes == {"a": torch.bfloat16, "n": torch.int64}


def test_a_tensor_without_data_is_not_written(tmp_path):
    with pytest.raises(CheckpointError, match="tensor head has no data to write"):
        write_safetensors(tmp_path / "weights", {"head": torch.ones(2, device="meta")})


def test_unwritable(tmp_path):
    with pytest.raises(CheckpointError, match="cannot be written"):
        write_safetensors(tmp_path / "absent" / "weights", {"a": torch.ones(2)})


def write_header(file, header, n_data=0, claimed=None):
    text = json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(text) if claimed is None else claimed) + text + bytes(n_data))


def entry(dtype="F32", shape=(2,), start=0, end=8):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}


@pytest.mark.parametrize(
    ("header", "n_data", "message"),
    [
        ({"a": entry("F8_E4M3", (8,))}, 8, "tensor 'a' has dtype F8_E4M3, expected one of F64, F32"),
        ({"a": entry("C64", (1,))}, 8, "tensor 'a' has dtype C64"),
        ({"a": entry(), "b": entry()}, 8, "not a whole safetensors file"),
        ({"a": entry(), "b": entry(start=4, end=12)}, 12, "not a whole safetensors file"),
        ({"a": entry(), "b": entry(start=12, end=20)}, 20, "not a whole safetensors file"),
        ({"a": entry()}, 12, "not a whole safetensors file"),
        ({"a": entry(shape=(3,))}, 8, "not a whole safetensors file"),
        ({"a": entry(shape=(2**63, 2**3))}, 8, "not a whole safetensors file"),
        ({"a": entry(shape=(-2,))}, 8, "not a whole safetensors file"),
        ({"__metadata__": {"format": 1}, "a": entry()}, 8, "not a whole safetensors file"),
        ({str(i): entry(shape=(0,), end=0) for i in range(50_001)}, 0, "holds 50001 tensors, expected at most 50000"),
    ],
    ids=range(11),
)
def test_safetensors_that_lie(tmp_path, header, n_data, message):
    write_header(tmp_path / "weights", header, n_data)
    with pytest.raises(CheckpointError, match=rf"^{tmp_path / 'weights'}: .*{message}"):
        read_safetensors(tmp_path / "weights")


@pytest.mark.parametrize("claimed", [0, 1, 2**23 + 1, 2**40, 2**64 - 1])
def test_safetensors_with_a_wrong_length_of_the_header(tmp_path, claimed):
    write_header(tmp_path / "weights", {"a": entry()}, 8, claimed)
    with pytest.raises(CheckpointError, match="is not a whole safetensors file"):
        read_safetensors(tmp_path / "weights")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems may map more than they have memory")
def test_a_file_larger_than_the_memory(tmp_path):
    """Sparse here; an honest one of a single file would be refused by the system in the same way."""
    n = 2**43
    header = json.dumps({"a.b": {"dtype": "F32", "shape": [n // 4], "data_offsets": [0, n]}}).encode()
    file = tmp_path / "weights"
    file.write_bytes(struct.pack("<Q", len(header)) + header)
    try:
        os.truncate(file, 8 + len(header) + n)
    except OSError:
        pytest.skip("needs a file system that takes a sparse file of 8 TB")
    for read in (read_safetensors, read_torch_bin):
        with pytest.raises(
            CheckpointError, match=r"too large to be mapped into the memory of this machine .*into shards"
        ):
            read(file)


def test_a_link_to_nowhere_is_named_and_not_taken_for_weights_that_are_not_there(tmp_path):
    (tmp_path / "model.safetensors").symlink_to("nowhere")
    with pytest.raises(CheckpointError, match=r"model\.safetensors: cannot be read"):
        read_tensors(tmp_path)
