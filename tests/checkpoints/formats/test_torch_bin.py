"""PyTorch's files are read by their description, and refused if the description cannot be true."""

import io
import pickle
import pickletools
import struct
import zipfile
from collections import OrderedDict

import pytest
import torch

from skxlmr.checkpoints._formats import torch_pickle, torch_zip
from skxlmr.checkpoints._formats.torch_bin import read_torch_bin
from skxlmr.utils._errors import CheckpointError
from tests.checkpoints.conftest import assert_same


def rewrite(file, change=lambda name, held: held, packing=zipfile.ZIP_STORED, more=()):
    """Rewrite the archive with other entries in the same order."""
    with zipfile.ZipFile(file) as old:
        entries = [(name, change(name, old.read(name))) for name in old.namelist()] + list(more)
    with zipfile.ZipFile(file, "w", packing) as new:
        for name, held in entries:
            if held is not None:
                new.writestr(zipfile.ZipInfo(name), held, packing)


def refused(file, message):
    with pytest.raises(CheckpointError, match=message) as caught:
        read_torch_bin(file)
    assert caught.value.file == str(file) and len(str(caught.value)) < 600


@pytest.fixture
def file(tmp_path, tensors):
    torch.save(tensors, tmp_path / "weights")
    return tmp_path / "weights"


DTYPES = [
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.int64,
    torch.int32,
    torch.int16,
    torch.int8,
]


@pytest.mark.parametrize("legacy", [False, True])
def test_what_is_read(tmp_path, legacy):
    whole = torch.arange(24.0).reshape(4, 6)
    state = OrderedDict(
        {
            **{str(dtype): torch.arange(5).to(dtype) for dtype in [*DTYPES, torch.uint8, torch.bool]},
            "turned": whole.T,
            "columns": whole[:, 1:3],
            "tied": whole,
            "scalar": torch.tensor(3.0),
            "empty": torch.ones(0, 4),
            "parameter": torch.nn.Parameter(whole + 1),
            "position_ids": torch.arange(5).expand((1, -1)),
        }
    )
    state._metadata = OrderedDict({"": {"version": 1}})
    torch.save(state, tmp_path / "weights", _use_new_zipfile_serialization=not legacy)
    found = read_torch_bin(tmp_path / "weights")
    assert_same(found, {name: tensor.detach() for name, tensor in state.items()})
    assert found["turned"].data_ptr() == found["tied"].data_ptr()
    assert not any(tensor.requires_grad for tensor in found.values())


def test_an_archive_of_another_writer_is_read(file, tensors):
    rewrite(file)  # without the gaps that align the tensors
    assert_same(read_torch_bin(file), tensors)


def test_large_offsets_are_read(file, tensors, monkeypatch):
    # torch always writes the 64-bit record; a reader that ignored it would pass all other tests
    assert file.read_bytes()[-42:-38] == b"PK\x06\x07"
    content = bytearray(file.read_bytes())
    content[-14:-2] = struct.pack("<2H2L", 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF)
    file.write_bytes(content)
    assert_same(read_torch_bin(file), tensors)


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        (b"", [4, 2**32 - 1, 2**32 - 1]),
        (struct.pack("<HHQQ", 1, 16, 2**33, 2**34), [4, 2**33, 2**34]),
        (b"\x42\x42\2\0xx" + struct.pack("<HHQQ", 1, 16, 2**33, 2**34), [4, 2**33, 2**34]),
        (struct.pack("<HHQ", 1, 8, 2**33), [4, 2**32 - 1, 2**32 - 1]),
        (struct.pack("<HHQ", 1, 16, 2**33), [4, 2**32 - 1, 2**32 - 1]),
    ],
)
def test_sizes_and_places_beyond_four_gigabytes(extra, expected):
    assert torch_zip._wide(extra, 4, 2**32 - 1, 2**32 - 1) == expected


def test_compressed(file):
    rewrite(file, packing=zipfile.ZIP_DEFLATED)
    refused(file, "compressed or encrypted, expected it uncompressed")


@pytest.mark.parametrize(
    ("change", "more", "message"),
    [
        (lambda name, held: held[:-1] if "/data/" in name else held, [], "holds fewer bytes for tensor .* than the"),
        (lambda name, held: None if name.endswith("/data/1") else held, [], "holds fewer bytes for tensor"),
        (lambda name, held: None if name.endswith("data.pkl") else held, [], "has 0 pickles, expected one"),
        (lambda name, held: held, [("other/data.pkl", b"")], "has 2 pickles, expected one"),
        (lambda name, held: b"big" if name.endswith("byteorder") else held, [], "big-endian machine"),
        (lambda name, held: held[:-5] if name.endswith("data.pkl") else held, [], "broken pickle|does not end"),
        (lambda name, held: b"." * 2**26 if name.endswith("data.pkl") else held, [], "has a pickle of 67108864 bytes"),
    ],
)
def test_archives_that_lie(file, change, more, message):
    rewrite(file, change, more=more)
    refused(file, message)


def test_archives_that_are_too_long(file, monkeypatch):
    monkeypatch.setattr(torch_pickle, "MOST_OPERATIONS", 50)
    refused(file, "has a pickle of more than 50 instructions")
    monkeypatch.setattr(torch_zip, "MOST_TENSORS", 10)
    rewrite(file, more=[(f"x/{i}", b"") for i in range(120)])
    refused(file, r"has \d+ entries, expected one per tensor, at most 10")


def test_two_entries_of_one_name(file):
    with pytest.warns(UserWarning, match="Duplicate name"):
        rewrite(file, more=[("weights/data/0", b"x")])
    refused(file, "has two entries called 'weights/data/0'")


def test_entries_that_overlap(file):
    content = bytearray(file.read_bytes())
    entries = []
    place = content.find(b"PK\x01\x02")
    while place >= 0:
        entries.append(place)
        place = content.find(b"PK\x01\x02", place + 1)
    by_name = {bytes(content[p + 46 : p + 46 + content[p + 28]]): p for p in entries}
    first, second = by_name[b"weights/data/0"], by_name[b"weights/data/1"]
    content[second + 42 : second + 46] = content[first + 42 : first + 46]  # its header is the other's
    content[second + 46 : second + 60] = b"weights/data/0"
    file.write_bytes(content)
    refused(file, "has two entries|overlap")


@pytest.mark.parametrize("end", [b"x", b"PK\x05\x06" + bytes(18)])
def test_something_after_the_end(file, end):
    file.write_bytes(file.read_bytes() + end)
    refused(file, "was added to it|has 0 pickles")


class Described:
    """Pickles as the arguments that torch would build a tensor from."""

    def __init__(self, *arguments):
        self.arguments = arguments

    def __reduce__(self):
        return torch._utils._rebuild_tensor_v2, self.arguments


def describe(file, offset=0, shape=(2, 3), strides=(3, 1), size=6, kind=torch.FloatStorage, key="0", metadata=()):
    """Write an archive whose one tensor is described like this, over a storage of six numbers."""
    torch.save({"a": torch.arange(6.0)}, file)

    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            return ("storage", kind, key, "cpu", size) if value is Described else None

    out = io.BytesIO()
    arguments = (Described, offset, shape, strides, False, OrderedDict(), *metadata)
    Pickler(out, protocol=2).dump({"a": Described(*arguments)})
    rewrite(file, lambda name, held: out.getvalue() if name.endswith("data.pkl") else held)
    return file


def test_tensors_as_described(tmp_path):
    assert torch.equal(read_torch_bin(describe(tmp_path / "w"))["a"], torch.arange(6.0).reshape(2, 3))
    turned = read_torch_bin(describe(tmp_path / "w", shape=(3, 2), strides=(1, 3)))["a"]
    assert torch.equal(turned, torch.arange(6.0).reshape(2, 3).T)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shape": (2, 4), "strides": (4, 1)}, "larger than its storage of 6 numbers"),
        ({"offset": 1}, "larger than its storage of 6 numbers"),
        ({"shape": (10**12,), "strides": (1,)}, "larger than its storage"),
        (
            {"shape": (10**12,), "strides": (1,), "size": 10**12},
            "holds fewer bytes for tensor 'a' than the 4000000000000",
        ),
        ({"size": 2**62}, "storage without a size"),
        ({"shape": (10**9, 6), "strides": (0, 1)}, "whose numbers share memory"),
        ({"shape": (3, 3), "strides": (1, 1)}, r"not a state dict .* share memory, .*: save it after contiguous\(\)"),
        ({"shape": (2, 3), "strides": (-3, 1)}, "an impossible tensor"),
        ({"shape": (-2, 3)}, "an impossible tensor"),
        ({"offset": -1}, "an impossible tensor"),
        ({"shape": (2.0, 3)}, "an impossible tensor"),
        ({"shape": (True, 3)}, "an impossible tensor"),
        ({"shape": [2, 3]}, "an impossible tensor"),
        ({"shape": (6,)}, "an impossible tensor"),
        ({"shape": (1,) * 70, "strides": (1,) * 70}, "an impossible tensor"),
        ({"metadata": ({"neg": True},)}, r"negated or conjugated numbers: save it after resolve_neg\(\)"),
        ({"size": -1}, "storage without a size"),
        ({"key": "7"}, "holds fewer bytes for tensor 'a'"),
        ({"key": "../../0"}, "holds fewer bytes for tensor 'a'"),
        ({"key": 0}, "an object other than its tensors"),
        ({"kind": torch.ComplexFloatStorage}, "asks for 'torch.ComplexFloatStorage'"),
        ({"kind": torch.QInt8Storage}, "asks for 'torch.QInt8Storage'"),
        ({"kind": torch.DoubleStorage}, "holds fewer bytes for tensor 'a' than the 48 it"),
        ({"kind": 7}, "an object other than its tensors"),
    ],
    ids=str,
)
def test_impossible_tensors(tmp_path, changes, message):
    refused(describe(tmp_path / "w", **changes), message)


def test_types_that_no_weight_has(tmp_path):
    torch.save({"a": torch.zeros(3, dtype=torch.float8_e4m3fn)}, tmp_path / "w")
    refused(
        tmp_path / "w", "not a state dict of PyTorch: it holds a tensor of a type .* such as float8: save it as float32"
    )


def test_many_names_for_the_same_numbers(tmp_path):
    shared = torch.zeros(5000)
    torch.save({"a": shared, "b": shared}, tmp_path / "w")
    assert len(read_torch_bin(tmp_path / "w")) == 2
    torch.save({str(i): shared for i in range(20)}, tmp_path / "w")
    refused(tmp_path / "w", "describes 400000 bytes of tensors in")


def test_nested_keys_are_not_hashed(file):
    doubled = b"K\1" + b"q\0h\0\x86" * 60  # a tuple whose hash takes 2**60 steps
    rewrite(file, lambda name, held: b"}" + doubled + b"K\1s." if name.endswith("data.pkl") else held)
    refused(file, "names a tensor by a tuple")


@pytest.mark.parametrize("nested", [b"K\1" + b"q\0h\0\x86" * 60, b")" + b"\x85" * 900_000], ids=["wide", "deep"])
def test_nested_dtypes_of_a_storage_are_not_hashed(file, nested):
    """A hash that takes 2**60 steps, or overflows the stack of the process."""
    raw = b"}K\1(X\7\0\0\0storage" + nested + b"X\1\0\0\x000X\3\0\0\0cpuK\6tQs."
    rewrite(file, lambda name, held: raw if name.endswith("data.pkl") else held)
    refused(file, "an object other than its tensors")


@pytest.mark.parametrize(
    "raw", [b"}j\xff\xff\xff\x7f.", b"}\x8b\xff\xff\xff\x7f.", b"}B\xff\xff\xff\x7f.", b"}\x8e" + b"\xff" * 8, b"("]
)
def test_instructions_that_would_allocate(file, raw):
    rewrite(file, lambda name, held: raw if name.endswith("data.pkl") else held)
    refused(file, "weights: ")
    rewrite(file, lambda name, held: b"}r\xff\xff\xff\x7f." if name.endswith("data.pkl") else held)
    assert read_torch_bin(file) == {}  # Python's own unpickler would allocate a memo of 2**31 entries


def parts_of(legacy):
    stream, parts = io.BytesIO(legacy), []
    for _ in range(5):
        start = stream.tell()
        assert list(pickletools.genops(stream))
        parts.append(legacy[start : stream.tell()])
    return [*parts, stream.read()]


@pytest.mark.parametrize(
    ("place", "content", "message"),
    [
        (1, pickle.dumps(1002, 2), "unknown version"),
        (2, pickle.dumps({"little_endian": False}, 2), "big-endian"),
        (2, pickle.dumps([], 2), "unknown version"),
        (4, pickle.dumps(["0", "0"], 2), "lists its storages wrongly"),
        (4, pickle.dumps([], 2), "is truncated, or something was added"),
        (4, pickle.dumps({}, 2), "unknown version"),
        (5, struct.pack("<q", -1), "is truncated|broken|outside"),
        (5, struct.pack("<q", 2**60), "is truncated|broken"),
        (5, b"", "is truncated"),
    ],
)
def test_the_older_format(tmp_path, tensors, place, content, message):
    torch.save(tensors, tmp_path / "w", _use_new_zipfile_serialization=False)
    parts = parts_of((tmp_path / "w").read_bytes())
    (tmp_path / "w").write_bytes(b"".join(parts))
    assert_same(read_torch_bin(tmp_path / "w"), tensors)
    parts[place] = content
    (tmp_path / "w").write_bytes(b"".join(parts))
    refused(tmp_path / "w", message)
