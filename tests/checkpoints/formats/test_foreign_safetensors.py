"""Safetensors files with TensorFlow's and Flax's names, made from the arrays that their classes wrote."""

import json

import h5py
import msgpack
import numpy as np
import pytest
from safetensors.numpy import save_file

from skxlmr import CheckpointError
from skxlmr.checkpoints import read_tensors
from tests.checkpoints.conftest import assert_same

KINDS = ["base", "mlm", "seqcls", "tokcls", "qa", "mc", "clm"]


def of_tensorflow(folder):
    """Arrays by their full names, as transformers 4 names a weight in memory."""
    arrays = {}
    with h5py.File(folder / "tf" / "tf_model.h5") as file:
        for layer in file:
            for name in file[layer].attrs["weight_names"]:
                arrays[name] = file[layer][name][...]
    return arrays


def without_model(name):
    return name.partition("/")[2]


def of_flax(folder):
    def array(code, data):
        shape, dtype, content = msgpack.unpackb(data, raw=False)
        return np.frombuffer(content, dtype).reshape(shape)

    def flat(tree, path=()):
        for key, value in tree.items():
            if isinstance(value, dict):
                yield from flat(value, (*path, key))
            else:
                yield ".".join((*path, key)), value

    content = (folder / "flax" / "flax_model.msgpack").read_bytes()
    return dict(flat(msgpack.unpackb(content, ext_hook=array, raw=False)))


@pytest.mark.parametrize("kind", KINDS)
def test_they_hold_the_same_as_the_own_formats(shared_data, tmp_path, kind):
    folder = shared_data / "checkpoints" / kind
    tensorflow = {without_model(name): array for name, array in of_tensorflow(folder).items()}
    for written_by, arrays in (("tf", tensorflow), ("flax", of_flax(folder))):
        (tmp_path / written_by).mkdir()
        save_file(arrays, tmp_path / written_by / "model.safetensors", {"format": written_by})
        own = folder / ("tf" if written_by == "tf" else "flax")
        assert_same(read_tensors(tmp_path / written_by), read_tensors(own))


def test_shards(shared_data, tmp_path):
    folder = shared_data / "checkpoints" / "seqcls"
    arrays, places = of_tensorflow(folder), {}
    for i in range(2):
        part = sorted(arrays)[i::2]
        places |= dict.fromkeys(part, f"model-0000{i + 1}-of-00002.safetensors")
        save_file({without_model(name): arrays[name] for name in part}, tmp_path / places[part[0]], {"format": "tf"})
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    assert_same(read_tensors(tmp_path), read_tensors(folder / "tf"))


@pytest.mark.parametrize(
    ("written_by", "names"), [("tf", ["a/kernel:0", "a/weight:0"]), ("flax", ["a.kernel", "a.scale"])]
)
def test_two_names_of_one_tensor(tmp_path, written_by, names):
    save_file(dict.fromkeys(names, np.ones((2, 3), np.float32)), tmp_path / "model.safetensors", {"format": written_by})
    with pytest.raises(CheckpointError, match=r"holds tensor 'a\.weight' twice"):
        read_tensors(tmp_path)
