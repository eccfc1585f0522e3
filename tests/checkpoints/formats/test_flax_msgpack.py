import struct
import sys
from pathlib import Path

import msgpack
import numpy as np
import pytest
import torch

from skxlmr.checkpoints import normalize_names, read_config, read_tensors
from skxlmr.checkpoints._formats import flax_msgpack
from skxlmr.checkpoints._formats.flax_msgpack import flax_names, flax_to_hf, read_flax_msgpack, write_flax_msgpack
from skxlmr.checkpoints._formats.mapped_file import MappedFile
from skxlmr.utils._errors import CheckpointError
from tests.checkpoints.conftest import assert_same
from tests.checkpoints.models import MODELS, UNTIED, XLM_UNTIED, XLMForMaskedLM, XLMRobertaForMaskedLM, make_model

ONES = np.ones((2, 3), np.float32)


def array(shape, dtype, data):
    """An array as Flax packs it."""
    return msgpack.ExtType(1, msgpack.packb((shape, dtype, data), use_bin_type=True))


def pack(value):
    """flax.serialization.msgpack_serialize, without JAX."""
    return msgpack.packb(value, default=lambda x: array(x.shape, x.dtype.name, x.tobytes()), strict_types=True)


def unpack(content):
    def leaf(code, data):
        assert code == 1
        shape, dtype, buffer = msgpack.unpackb(data, raw=False)
        return np.frombuffer(buffer, dtype=dtype).reshape(shape)

    return msgpack.unpackb(content, ext_hook=leaf, raw=False)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "flax_model.msgpack"


def read(file, content):
    file.write_bytes(content)
    return read_flax_msgpack(file)


def write(file, config, tensors, **options):
    names = flax_names(tensors, config, file.parent)
    write_flax_msgpack(file, {names[name]: tensor for name, tensor in tensors.items()}, **options)
    return names


def test_names_and_orientation(file):
    tree = {
        "embeddings": {"word_embeddings": {"embedding": ONES}, "LayerNorm": {"scale": ONES[0], "bias": ONES[0]}},
        "encoder": {"layer": {"0": {"output": {"dense": {"kernel": ONES * np.arange(3, dtype="f"), "bias": ONES[0]}}}}},
    }
    tensors = read(file, pack(tree))
    assert {name: tuple(tensor.shape) for name, tensor in tensors.items()} == {
        "embeddings.word_embeddings.weight": (2, 3),
        "embeddings.LayerNorm.weight": (3,),
        "embeddings.LayerNorm.bias": (3,),
        "encoder.layer.0.output.dense.weight": (3, 2),
        "encoder.layer.0.output.dense.bias": (3,),
    }
    assert tensors["encoder.layer.0.output.dense.weight"].tolist() == [[0, 0], [1, 1], [2, 2]]


@pytest.mark.parametrize("name", ["base", "mlm", "seqcls", "tokcls", "qa", "mc", "clm"])
def test_written_files_equal_those_of_the_flax_classes(shared_data, file, name):
    source = shared_data / "checkpoints" / name
    write(file, read_config(source), normalize_names(read_tensors(source)))
    assert file.read_bytes() == (source / "flax" / "flax_model.msgpack").read_bytes()


@pytest.mark.parametrize("architecture", MODELS)
def test_round_trip(architecture, file):
    config, tensors = make_model(architecture)
    names = write(file, config, tensors)
    prefixes = {"XLMRobertaModel": "roberta.", "XLMModel": "transformer.", "BertModel": "bert."}
    prefixes["DistilBertModel"] = "distilbert."
    prefix = prefixes.get(architecture, "")
    assert_same(read_flax_msgpack(file), {name.removeprefix(prefix): tensor for name, tensor in tensors.items()})
    assert all(flax_to_hf(flax) == name.removeprefix(prefix) for name, flax in names.items())


@pytest.mark.parametrize("make", [lambda: XLMRobertaForMaskedLM(UNTIED), lambda: XLMForMaskedLM(XLM_UNTIED)])
def test_an_untied_head_has_its_own_kernel(make, file):
    config, tensors = make_model("any", make)
    names = write(file, config, tensors)
    decoder = next(name for name in names if name in ("lm_head.decoder.weight", "pred_layer.proj.weight"))
    assert names[decoder] == decoder.replace(".weight", ".kernel").replace(".", "/")
    assert_same(read_flax_msgpack(file), tensors)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_dtypes(dtype, file):
    tensors = {"a/kernel": torch.randn(3, 2), "a/bias": torch.randn(3), "empty/bias": torch.empty(0)}
    write_flax_msgpack(file, tensors, dtype)
    read = read_flax_msgpack(file)
    assert_same(
        read,
        {
            "a.weight": tensors["a/kernel"].to(dtype),
            "a.bias": tensors["a/bias"].to(dtype),
            "empty.bias": torch.empty(0, dtype=dtype),
        },
    )
    names = {msgpack.unpackb(leaf.data)[1] for leaf in msgpack.unpackb(file.read_bytes())["a"].values()}
    assert names == {str(dtype).removeprefix("torch.")}


@pytest.mark.parametrize("n", [0, 1, 2, 3, 100, 200, 60, 61, 16_000, 17_000])
def test_any_length_can_be_read_by_the_msgpack_package(n, file):
    write_flax_msgpack(file, {"a/bias": torch.arange(float(n))})
    assert unpack(file.read_bytes())["a"]["bias"].tolist() == list(range(n))
    assert read_flax_msgpack(file)["a.bias"].tolist() == list(range(n))


def test_an_array_of_sixteen_bytes_has_another_header(file):
    write_flax_msgpack(file, {"a/bias": torch.tensor([3.0])}, torch.bfloat16)
    content = file.read_bytes()
    assert content[9:11] == b"\xd8\x01"
    assert msgpack.unpackb(content)["a"]["bias"] == array((1,), "bfloat16", b"\x40\x40")
    assert read_flax_msgpack(file)["a.bias"].tolist() == [3.0]


def test_chunks(file, monkeypatch):
    monkeypatch.setattr(flax_msgpack, "CHUNK", 64)
    tensors = {"a/kernel": torch.randn(7, 5), "a/bias": torch.randn(16)}
    write_flax_msgpack(file, tensors)
    tree = unpack(file.read_bytes())["a"]
    kernel = tree["kernel"]
    assert list(kernel) == ["__msgpack_chunked_array__", "shape", "chunks"]
    assert kernel["__msgpack_chunked_array__"] is True
    assert kernel["shape"] == {"0": 5, "1": 7}
    assert [len(chunk) for chunk in kernel["chunks"].values()] == [16, 16, 3]
    assert tree["bias"].shape == (16,)
    assert_same(read_flax_msgpack(file), {"a.weight": tensors["a/kernel"], "a.bias": tensors["a/bias"]})


def test_eleven_chunks_are_joined_in_order(file, monkeypatch):
    monkeypatch.setattr(flax_msgpack, "CHUNK", 4)
    write_flax_msgpack(file, {"a/bias": torch.arange(11.0)})
    assert read_flax_msgpack(file)["a.bias"].tolist() == list(range(11))


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's table of memory maps")
def test_aligned_arrays_are_in_the_mapped_file(file):
    write_flax_msgpack(file, {name: torch.randn(64) for name in ("a", "bb", "ccc", "dddd")})
    before = file.read_bytes()
    tensors = read_flax_msgpack(file)
    with open("/proc/self/maps") as maps:
        spans = [line.split()[0].split("-") for line in maps if line.rstrip().endswith(str(file))]
    assert any(int(start, 16) <= t.data_ptr() < int(end, 16) for t in tensors.values() for start, end in spans)
    assert all(tensor.data_ptr() % 4 == 0 for tensor in tensors.values())
    for tensor in tensors.values():
        tensor.zero_()
    assert file.read_bytes() == before


def test_a_dtype_that_flax_does_not_have_is_not_written(file):
    with pytest.raises(CheckpointError, match=r"cannot hold a/n, which has dtype torch\.int64"):
        write_flax_msgpack(file, {"a/n": torch.arange(3)})
    assert not file.exists()


def test_missing_package(file, monkeypatch):
    monkeypatch.setitem(sys.modules, "msgpack", None)
    with pytest.raises(ImportError, match=r'writing flax_model\.msgpack needs msgpack.*pip install "skxlmr\[flax\]"'):
        write_flax_msgpack(file, {"a/bias": torch.ones(1)})


F = np.float32(1).tobytes()
NESTED = {"a": ONES}
for _ in range(40):
    NESTED = {"a": NESTED}
CHUNKS = {"__msgpack_chunked_array__": True, "shape": {"0": 2}, "chunks": {"0": ONES[0, :1], "1": ONES[0, :1]}}
MANY = b"\xdf" + struct.pack(">I", 300_000) + b"".join(b"\xa6%06d\x80" % i for i in range(300_000))
HUGE = b"\xc9\xff\xff\xff\xff\x01\x93\x91\xce\x3f\xff\xff\xff\xa7float32\xc6\xff\xff\xff\xfc"
HOSTILE = {
    "empty": (b"", "is empty"),
    "empty map": (b"\x80", "expected named arrays"),
    "a number": (b"\x01", "expected named arrays"),
    "text": (b"hello world", "has 10 bytes after|msgpack|expected"),
    "an array alone": (pack(ONES), "expected named arrays"),
    "something after the end": (pack({"a": ONES}) + b"\x00", "has 1 bytes after its end"),
    "nil": (b"\x81\xa1a\xc0", "byte 0xc0"),
    "a float": (b"\x81\xa1a\xca\x00\x00\x00\x00", "byte 0xca"),
    "a negative number": (b"\x81\xa1a\xff", "byte 0xff"),
    "a list": (b"\x81\xa1a\x91\x01", "holds a msgpack array"),
    "a string as leaf": (b"\x81\xa1a\xa1b", "holds a msgpack string"),
    "a number as leaf": (b"\x81\xa1a\x01", "holds a int at 'a'"),
    "a bool as leaf": (b"\x81\xa1a\xc3", "holds a bool at 'a'"),
    "a number as name": (b"\x81\x01\x80", "holds a msgpack number"),
    "a name twice": (b"\x82\xa1a\x80\xa1a\x80", "holds 'a' twice"),
    "two names of a tensor": (pack({"a": {"scale": ONES, "weight": ONES}}), "holds tensor 'a.weight' twice"),
    "a long name": (pack({"a" * 1001: ONES}), "name of 1001 bytes"),
    "a name of four gigabytes": (b"\x81\xdb\xff\xff\xff\xff", "name of 4294967295 bytes"),
    "a name that is not UTF-8": (b"\x81\xa1\xff\x80", "not UTF-8"),
    "a map of four billion": (b"\xdf\xff\xff\xff\xff", "is truncated"),
    "too deep": (pack(NESTED), "nests deeper than 32 levels"),
    "a million levels": (b"\x81\xa1a" * 1_000_000, "nests deeper than 32 levels"),
    "too many values": (MANY, "more than 200000"),
    "complex number": (pack({"a": msgpack.ExtType(2, b"\x92\x01\x01")}), "extension type 2"),
    "single number": (pack({"a": msgpack.ExtType(3, pack(ONES)[2:])}), "extension type 3"),
    "timestamp": (b"\x81\xa1a\xd6\xff\x00\x00\x00\x00", "extension type 255"),
    "an array of four gigabytes": (b"\x81\xa1a" + HUGE, "says that 4294967292 bytes"),
    "two things in an array": (pack({"a": msgpack.ExtType(1, b"\x92\x90\xa1f")}), "anything but shape, dtype"),
    "no array in an array": (pack({"a": msgpack.ExtType(1, b"\xa1f")}), "expected a array"),
    "three dimensions": (pack({"a": np.ones((1, 1, 1), "f")}), "3 dimensions"),
    "negative dimension": (pack({"a": array((-1,), "float32", F)}), "byte 0xff"),
    "fractional dimension": (pack({"a": array((1.0,), "float32", F)}), "byte 0xcb"),
    "more numbers than bytes": (pack({"a": array((2,), "float32", F)}), "says that 4 bytes"),
    "fewer numbers than bytes": (pack({"a": array((1,), "float32", 2 * F)}), "says that 8 bytes"),
    "no numbers in a huge array": (pack({"a": array((2**63, 0), "float32", b"")}), r"shape \(9223372036854775808, 0\)"),
    "a huge array": (pack({"a": array((2**40, 2**40), "float32", F)}), "says that 4 bytes"),
    "object": (pack({"a": array((1,), "object", bytes(8))}), "dtype 'object'"),
    "string dtype": (pack({"a": array((1,), "str32", F)}), "dtype 'str32'"),
    "integers": (pack({"a": np.ones(1, np.int64)}), "dtype 'int64'"),
    "structure": (pack({"a": array((1,), "f4,f4", 2 * F)}), "dtype 'f4,f4'"),
    "numbers as a string": (pack({"a": array((1,), "float32", "abcd")}), "says that|expected"),
    "numbers beyond the array": (b"\x81\xa1a\xc7\x0c\x01\x93\x91\x01\xa7float32\xc4\x04" + F, "says that 4 bytes"),
    "chunks without shape": (pack({"a": {k: v for k, v in CHUNKS.items() if k != "shape"}}), "chunks at 'a'"),
    "chunks of another number": (pack({"a": {**CHUNKS, "shape": {"0": 3}}}), "chunks at 'a'"),
    "chunks with a gap": (pack({"a": {**CHUNKS, "chunks": {"0": ONES[0], "2": ONES[0]}}}), "chunks at 'a'"),
    "chunks of two dtypes": (pack({"a": {**CHUNKS, "chunks": {"0": ONES[0, :1], "1": np.ones(1, "e")}}}), "chunks at 'a'"),
    "chunks that are not arrays": (pack({"a": {**CHUNKS, "chunks": {"0": 1, "1": 1}}}), "chunks at 'a'"),
    "chunks that are matrices": (pack({"a": {**CHUNKS, "chunks": {"0": ONES[:1, :1], "1": ONES[:1, :1]}}}), "chunks at 'a'"),
    "no chunks": (pack({"a": {**CHUNKS, "shape": {"0": 0}, "chunks": {}}}), "chunks at 'a'"),
    "a shape with a bool": (pack({"a": {**CHUNKS, "shape": {"0": 2, "1": True}}}), "chunks at 'a'"),
    "chunks of many dimensions": (pack({"a": {**CHUNKS, "shape": {"0": 2, "1": 1, "2": 1}}}), "chunks at 'a'"),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_files(case, file):
    content, message = HOSTILE[case]
    with pytest.raises(CheckpointError, match=message) as caught:
        read(file, content)
    assert caught.value.file == str(file)
    assert len(str(caught.value)) < len(str(file)) + 400


def test_every_truncation_is_found(file):
    whole = pack({"a": {"kernel": ONES, "bias": ONES[0]}, "b": {"embedding": ONES}})
    assert len(read(file, whole)) == 3
    for n in range(len(whole)):
        with pytest.raises(CheckpointError, match=r"is truncated|is empty"):
            read(file, whole[:n])


def test_every_flipped_byte_is_read_or_refused(file):
    whole = pack({"a": {"kernel": ONES, "bias": ONES[0]}, "b": {"embedding": ONES}})
    n_refused = 0
    for i in range(len(whole)):
        for value in (0x00, 0xFF, whole[i] ^ 0x01, whole[i] ^ 0x80):
            try:
                read(file, whole[:i] + bytes([value]) + whole[i + 1 :])
            except CheckpointError:
                n_refused += 1
    assert n_refused > 200


def test_missing_file_and_pipe(tmp_path):
    with pytest.raises(CheckpointError, match="no such file"):
        read_flax_msgpack(tmp_path / "absent")
    with pytest.raises(CheckpointError, match=r"it is a (folder|pipe)"):
        read_flax_msgpack(tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
@pytest.mark.parametrize(("chunk", "times"), [(2**30, 1.5), (2**20 + 4, 2.5)])
def test_copies_do_not_take_twice_the_memory(tmp_path, monkeypatch, chunk, times):
    def memory(key):
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) * 1024 for line in status if line.startswith(key))

    array = torch.arange(2**24, dtype=torch.float32).reshape(2**14, 2**10)
    monkeypatch.setattr(flax_msgpack, "CHUNK", chunk)
    write_flax_msgpack(tmp_path / "flax_model.msgpack", {"a/kernel": array})
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before = memory("VmRSS")
    (found,) = read_flax_msgpack(tmp_path / "flax_model.msgpack").values()
    assert memory("VmHWM") - before < times * array.nbytes
    assert torch.equal(found, array)


def test_a_file_that_is_truncated_while_it_is_read(tmp_path):
    """Reading pages of a mapping beyond the end of the file would kill the process."""
    file = tmp_path / "weights"
    file.write_bytes(bytes(range(256)) * 64)
    mapped = MappedFile(file)
    assert mapped.tensor(1, (4,), torch.int32)[0] == 0x04030201
    file.write_bytes(b"short")
    with pytest.raises(CheckpointError, match="was truncated while it was read: 8000 of 16384 bytes are gone"):
        mapped.tensor(8193, (2000,), torch.int32)
