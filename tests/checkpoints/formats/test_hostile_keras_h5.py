"""TensorFlow files that are broken, or hold what no such model has, are refused; nothing outside the file is read."""

import h5py
import numpy as np
import pytest

from skxlmr.checkpoints._formats import keras_h5
from skxlmr.checkpoints._formats.keras_h5 import (
    read_keras_h5,
)
from skxlmr.utils._errors import CheckpointError
from tests.checkpoints.models import (
    make_model,
)

from .test_keras_h5 import write

ONES = np.ones((2, 3), np.float32)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "tf_model.h5"


def soft_link(opened):
    opened["b"] = h5py.SoftLink("/a")


def external_link(opened):
    opened["b"] = h5py.ExternalLink("/etc/passwd", "/a")


def link_in_a_group(opened):
    opened["c/d/e"] = h5py.SoftLink("/a")


def external_storage(opened):
    opened.create_dataset("b", (4,), "f4", external=[("/etc/passwd", 0, 16)])


def virtual(opened):
    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", (4,))
    opened.create_virtual_dataset("b", layout)


def virtual_of_unlimited_length(opened):
    layout = h5py.VirtualLayout((4,), "f4", maxshape=(None,))
    source = h5py.VirtualSource("/etc/passwd", "x", (4,), maxshape=(None,))
    layout[: h5py.h5s.UNLIMITED] = source[: h5py.h5s.UNLIMITED]
    opened.create_virtual_dataset("b", layout)


def compressed(opened):
    opened.create_dataset("b", (2**20,), "f4", compression="gzip", chunks=(2**20,), fillvalue=0)[...] = 0


def chunked(opened):
    opened.create_dataset("b", data=ONES, chunks=(1, 1))


def huge_and_empty(opened):
    opened.create_dataset("b", (2**30, 2**8), "f4")


def compact(opened):
    creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    creation.set_layout(h5py.h5d.COMPACT)
    space = h5py.h5s.create_simple((2,))
    h5py.h5d.create(opened.id, b"b", h5py.h5t.IEEE_F32LE, space, creation)


def name_of_another_alphabet(opened):
    opened["вес"] = ONES


def three_dimensions(opened):
    opened["b"] = np.ones((1, 2, 1), "f")


def hard_links_in_a_circle(opened):
    opened["g/x"] = 1.0
    opened["g/g"] = opened["g"]


def references(opened):
    opened.create_dataset("b", (1,), h5py.ref_dtype)


def opaque(opened):
    opened["b"] = np.array([b"ab"], dtype="V2")


def null_space(opened):
    opened["b"] = h5py.Empty("f")


def named_type(opened):
    opened["b"] = np.dtype("f4")


def strings_of_variable_length(opened):
    opened.create_dataset("b", data=["x", "y"], dtype=h5py.string_dtype())


def lists_of_variable_length(opened):
    opened.create_dataset("b", (1,), h5py.vlen_dtype(np.dtype("f4")))


HOSTILE = {
    soft_link: "soft or external link 'b'",
    external_link: "soft or external link 'b'",
    link_in_a_group: "soft or external link 'e'",
    external_storage: "in another file",
    virtual: "virtual",
    virtual_of_unlimited_length: "virtual",
    compressed: "compressed",
    chunked: "chunked",
    compact: "one contiguous piece",
    huge_and_empty: "has no values in the file",
    name_of_another_alphabet: "object with the name 'вес'",
    three_dimensions: r"shape \(1, 2, 1\)",
    hard_links_in_a_circle: "nests deeper than 32 levels",
    references: "has dtype object",
    opaque: "has dtype",
    null_space: "has no values",
    named_type: "Datatype at 'b'",
    strings_of_variable_length: "has dtype object",
    lists_of_variable_length: "has dtype object",
}


@pytest.mark.parametrize("make", HOSTILE, ids=lambda make: make.__name__)
def test_hostile_files(make, file):
    with h5py.File(file, "w") as opened:
        opened["a"] = ONES
        make(opened)
    with pytest.raises(CheckpointError, match=HOSTILE[make]) as caught:
        read_keras_h5(file)
    assert caught.value.file == str(file)
    assert len(str(caught.value)) < len(str(file)) + 400


@pytest.mark.parametrize("dtype", [">f4", "<i8", "|b1", "<c8", "<u1", "S3", [("a", "f4")]])
def test_other_dtypes(dtype, file):
    with h5py.File(file, "w") as opened:
        opened["a"] = np.zeros(2, dtype)
    with pytest.raises(CheckpointError, match=r"has dtype .* expected little-endian float16, float32 or float64"):
        read_keras_h5(file)


def test_too_many_objects(file, monkeypatch):
    monkeypatch.setattr(keras_h5, "MOST_OBJECTS", 30)
    with h5py.File(file, "w") as opened:
        for i in range(30):
            opened[f"a/{i}"] = ONES
    with pytest.raises(CheckpointError, match="holds more than 30 objects"):
        read_keras_h5(file)


def test_arrays_that_overlap(file):
    numbers = np.arange(4096, dtype="f")
    with h5py.File(file, "w") as opened:
        opened["a"], opened["b"] = numbers, numbers
        start = opened["a"].id.get_offset()
        for name in "cde":
            opened.create_dataset(name, (4096,), "f4")  # has no values, hence no place in the file
    content = file.read_bytes()
    for i in range(1, 4):
        nowhere, here = (
            place + numbers.nbytes.to_bytes(8, "little")
            for place in (b"\xff" * 8, (start + 4 * i).to_bytes(8, "little"))
        )
        assert nowhere in content
        content = content.replace(nowhere, here, 1)
    file.write_bytes(content)
    with h5py.File(file) as opened:
        assert opened["e"][0] in (1, 2, 3)
    with pytest.raises(CheckpointError, match="has arrays that overlap"):
        read_keras_h5(file)


def test_file_without_arrays(file):
    with h5py.File(file, "w") as opened:
        opened.create_group("a")
    with pytest.raises(CheckpointError, match="expected named arrays, found none"):
        read_keras_h5(file)


@pytest.mark.parametrize("part", [0.0, 0.001, 0.02, 0.5, 0.99])
def test_truncated(part, file):
    config, tensors = make_model("XLMRobertaForMaskedLM")
    write(file, config, tensors)
    whole = file.read_bytes()
    file.write_bytes(whole[: int(len(whole) * part)])
    with pytest.raises(CheckpointError, match=r"is empty|is not a whole HDF5 file|is truncated"):
        read_keras_h5(file)


@pytest.mark.parametrize("content", [b"hello world" * 30, b"\x89HDF\r\n\x1a\n", b"\x89HDF\r\n\x1a\n" + b"\xff" * 500])
def test_garbage(content, file):
    file.write_bytes(content)
    with pytest.raises(CheckpointError, match="is not a whole HDF5 file"):
        read_keras_h5(file)


def test_missing_file(file):
    with pytest.raises(CheckpointError, match="no such file"):
        read_keras_h5(file)
