"""Mutators for TensorFlow's and Flax's weights; imported only if h5py and msgpack are installed."""

import io
import random

import h5py
import msgpack
import numpy as np

from tests.robustness.odd_values import VALUES
from tests.text.mutants import damaged


def change_h5(content: bytes, rng: random.Random) -> bytes:
    if rng.random() < 0.4:
        return damaged(content, rng)
    held = io.BytesIO(content)
    with h5py.File(held, "r+") as file:
        names: list[str] = []
        file.visit(names.append)
        datasets = [name for name in names if isinstance(file[name], h5py.Dataset)]
        name = rng.choice(datasets)
        values, kind = file[name][()], rng.randrange(12)
        if kind < 3:  # attributes
            node = file[rng.choice(["/", *names])]
            attributes = list(node.attrs) or ["weight_names"]
            attribute = rng.choice(attributes)
            arrays = [np.arange(5), np.array([b"a"] * 2000), np.array([b"../x"])]
            given = rng.choice([b"", b"\xff", "é" * 300, 7, float("nan"), *arrays])
            node.attrs.pop(attribute, None)
            if rng.random() < 0.8:
                node.attrs[attribute] = given
        elif kind == 3:
            del file[rng.choice(names)]
        else:
            del file[name]
        if kind == 4:  # another type
            file.create_dataset(name, data=values.astype(rng.choice(["f8", "f2", "i4", "c8", "S3", "u1"])))
        elif kind == 5:  # another shape
            file.create_dataset(name, data=values.reshape(rng.choice([(-1,), (1, *values.shape), values.shape[::-1]])))
        elif kind == 6:  # a bomb: large, but without data
            shape = rng.choice([(2**31, 2**20), (2**40,), (2**50, 0), (2**28,)])
            file.create_dataset(name, shape=shape, dtype="f4", chunks=True)
        elif kind == 7:
            file.create_dataset(name, data=values, compression="gzip", chunks=True)
        elif kind == 8:
            file[name] = h5py.ExternalLink("/etc/passwd", "/x")
        elif kind == 9:
            file[name] = h5py.SoftLink(rng.choice(["/", name, "/absent", datasets[0]]))
        elif kind == 10:
            layout = h5py.VirtualLayout(shape=values.shape, dtype="f4")
            layout[...] = h5py.VirtualSource("/etc/passwd", "x", shape=values.shape)
            file.create_virtual_dataset(name, layout)
        elif kind == 11:
            file.create_dataset(name, values.shape, "f4", external=[("/etc/passwd", 0, values.nbytes)])
    return held.getvalue()


def change_msgpack(content: bytes, rng: random.Random) -> bytes:
    if rng.random() < 0.4:
        return damaged(content, rng)
    tree = msgpack.unpackb(content, strict_map_key=False)
    if rng.random() < 0.1:
        depth = rng.choice([50, 600, 100_000])
        return rng.choice([b"\x91", b"\x81\xa1a"]) * depth + b"\xc0"
    node = tree
    while True:
        key = rng.choice(list(node))
        if not isinstance(node[key], dict) or rng.random() < 0.1:
            break
        node = node[key]
    value, kind = node[key], rng.randrange(6)
    if kind == 0:
        del node[key]
    elif kind == 1:
        node[rng.choice(["", "x", "kernel", "é" * 50])] = node.pop(key)
    elif kind == 2:
        plain = [v for v in VALUES if not (isinstance(v, int) and abs(v) >= 2**63) and v != "\ud800"]
        node[key] = rng.choice(plain)
    elif isinstance(value, msgpack.ExtType):
        shape, dtype, numbers = msgpack.unpackb(value.data)
        if kind == 3:
            shape = rng.choice([[], [0], [-1], [2**31, 2**31], [2**63], [*shape, 1], shape[::-1]])
        elif kind == 4:
            dtype = rng.choice(["float64", "bfloat16", "object", "O", "int8", "<U100", "", "V16", 7])
        else:
            numbers = rng.choice([b"", numbers[:-4], numbers * 2, numbers[:4] * 2**18])
        node[key] = msgpack.ExtType(rng.choice([1, 1, 1, 2, 3, 42]), msgpack.packb([shape, dtype, numbers]))
    return msgpack.packb(tree)
