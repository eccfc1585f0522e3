"""Make a checkpoint folder hostile: one structural change to one of its files, drawn at random.

A mutator takes the content of a file and a random generator, and returns other content. ``MUTATORS`` lists the mutators of
each kind of file, by the end of its name. ``damage_folder`` replaces the file itself by something else.
"""

import copy
import io
import json
import os
import pickletools
import random
import struct
import zipfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from skxlmr.text._sentencepiece.model_file import _fields
from tests.robustness.odd_values import NUMBERS, TEXTS, VALUES
from tests.text.mutants import damaged

Mutator = Callable[[bytes, random.Random], bytes]

# JSON ---------------------------------------------------------------------------------------------------------------------


def change_tree(tree: Any, rng: random.Random) -> Any:
    """Change a value, a name or the order somewhere in a tree of lists and dicts, in place."""
    node = tree
    while True:
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        if not keys:
            return tree
        key = rng.choice(keys)
        if not (isinstance(node[key], dict | list) and node[key] and rng.random() < 0.8):
            break
        node = node[key]
    kind = rng.randrange(7)
    if kind == 0:
        del node[key]
    elif kind == 1:
        node[key] = [copy.deepcopy(node[key])] * rng.choice([1, 2, 100])
    elif kind == 2:
        other = rng.choice(keys)
        node[key], node[other] = node[other], node[key]
    elif kind == 3 and isinstance(node, dict):
        node[rng.choice(["", "x", f"{key} ", "__metadata__"])] = node.pop(key)
    elif kind == 4 and isinstance(node[key], int | float):
        number = node[key]
        node[key] = rng.choice([number + 1, number - 1, number * 2, -number, str(number), bool(number)])
    else:
        node[key] = copy.deepcopy(rng.choice(VALUES))
    return tree


def lengthen(tree: Any, rng: random.Random) -> Any:
    """Make a string somewhere in a tree very long, in place."""
    node, texts = tree, []
    for _ in range(100):
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        key = rng.choice(keys) if keys else None
        if key is not None and isinstance(node[key], str):
            texts.append((node, key))
        node = node[key] if key is not None and isinstance(node[key], dict | list) else tree
    if texts:
        node, key = rng.choice(texts)
        node[key] = node[key][:1] * rng.choice([2000, 5_000_000])
    return tree


def change_json(content: bytes, rng: random.Random) -> bytes:
    kind = rng.randrange(20)
    if kind == 0:  # nested deeply
        depth = rng.choice([10, 70, 500, 990, 100_000])
        return b'{"a":' * depth + b"1" + b"}" * depth if rng.random() < 0.5 else content[:-2] + b',"a":' + b"[" * depth
    if kind == 1:  # wide
        return content.rstrip()[:-1] + b',"a":[' + b"[]," * rng.choice([1000, 300_000, 2_000_000]) + b"1]}"
    if kind == 2:  # a name twice
        tree = json.loads(content)
        name = rng.choice(list(tree))
        return f"{{{json.dumps(name)}: {json.dumps(rng.choice(VALUES))},".encode() + content.lstrip()[1:]
    if kind == 3:
        return json.dumps(rng.choice(VALUES)).encode()
    if kind == 4:
        return content.decode().encode(rng.choice(["utf-16", "utf-8-sig", "utf-7"]))
    if kind < 8:
        return damaged(content, rng)
    tree = json.loads(content)
    if kind == 8:
        return json.dumps(lengthen(tree, rng)).encode()
    for _ in range(rng.choice([1, 1, 1, 2, 5])):
        tree = change_tree(tree, rng)
    return json.dumps(tree).encode()


def change_top(content: bytes, rng: random.Random) -> bytes:
    """Change the value of one field of a ``config.json``."""
    tree = json.loads(content)
    tree[rng.choice(list(tree))] = rng.choice(VALUES)
    return json.dumps(tree).encode()


def change_index(content: bytes, rng: random.Random) -> bytes:
    tree = json.loads(content)
    places = tree["weight_map"]
    name, shards = rng.choice(list(places)), list(places.values())
    outside = ["", "a\0b", 7, None, *r"../x /etc/passwd /dev/zero sub/x .. config.json absent.bin a\b".split()]
    kind = rng.randrange(4)
    if kind == 0:
        places[name] = rng.choice([*outside, *shards])
    elif kind == 1:
        del places[name]
    elif kind == 2:
        places[rng.choice(TEXTS) + name] = rng.choice(shards)
    else:
        tree["weight_map"] = {key: rng.choice(outside) for key in places}
    return json.dumps(tree).encode()


# safetensors --------------------------------------------------------------------------------------------------------------


def change_safetensors(content: bytes, rng: random.Random) -> bytes:
    n_header = int.from_bytes(content[:8], "little")
    header, data = json.loads(content[8 : 8 + n_header]), bytearray(content[8 + n_header :])
    names = [name for name in header if name != "__metadata__"]
    entry, other = header[rng.choice(names)], header[rng.choice(names)]
    kind = rng.randrange(9)
    if kind == 0:
        entry["dtype"] = rng.choice(["F64", "F16", "BF16", "I64", "BOOL", "F8_E4M3", "F4", "C64", "U8", "X", ""])
    elif kind == 1:
        shape = entry["shape"]
        odd = [[], [2**63, 2], [2**32, 2**32], [-1], [0], [1] * 200]
        entry["shape"] = rng.choice([*odd, shape[::-1], [*shape, 1], other["shape"]])
    elif kind == 2:
        start, end = entry["data_offsets"]
        near = [[start + 4, end], [start, end - 4], [end, start]]
        entry["data_offsets"] = rng.choice([*near, [0, len(data)], [start, 2**63], other["data_offsets"], [start]])
    elif kind == 3:
        header[rng.choice([*names, *TEXTS[:6]])] = entry
    elif kind == 4:
        header["__metadata__"] = rng.choice([*VALUES, {"format": "tf"}, {"format": 1}])
    elif kind == 5:
        place = rng.randrange(0, len(data) - 4, 4)
        data[place : place + 4] = struct.pack("<f", rng.choice([float("nan"), float("inf"), -float("inf"), 3e38]))
    elif kind == 6:
        header = change_tree(header, rng)
    else:
        content = damaged(content[: 8 + n_header], rng) + bytes(data) if kind == 7 else damaged(content, rng)
        return content
    text = json.dumps(header).encode()
    claimed = len(text)
    if rng.random() < 0.1:
        claimed = rng.choice([0, 1, len(text) - 1, len(text) + 1, 2**31, 2**63, 2**64 - 1])
    return claimed.to_bytes(8, "little") + text + bytes(data)


# PyTorch's .bin -----------------------------------------------------------------------------------------------------------

GLOBALS = [
    *("os system", "builtins eval", "builtins bytearray", "collections Counter"),
    *("torch Tensor", "torch Size", "torch DoubleStorage", "torch.storage UntypedStorage"),
    *("torch._utils _rebuild_parameter", "torch._utils _rebuild_sparse_tensor"),
]
PAYLOADS = [
    b"cos\nmkdir\n(U\x06canarytR",
    b"c__builtin__\neval\n(U\x01\x31tR",
    b"ctorch\nTensor\n(J\xff\xff\xff\x7ftR",
    b"c__builtin__\nbytearray\n(J\xff\xff\xff\x7ftR",
    b"r\xff\xff\xff\x7f",  # memory for a memo of 2**31 entries
    b"j\xff\xff\xff\x7f",
    b"]" * 5000,
    b"(" * 5000,
    b"}\x85" * 5000,
    b"\x8e" + b"\xff" * 8,
    b"\x8a\xff",
    b"2" * 50,
    b"0",
    b".",
]


def change_pickle(content: bytes, rng: random.Random) -> bytes:
    """Change an instruction somewhere in a pickle."""
    operations = list(pickletools.genops(content))
    ends = [place for *_, place in operations[1:]] + [len(content)]
    i = rng.randrange(len(operations))
    start = operations[i][2]
    end, raw = ends[i], content[start : ends[i]]
    kind = rng.randrange(7)
    if kind == 0:
        raw = b""
    elif kind == 1:
        raw += raw
    elif kind == 2:
        j = rng.randrange(len(operations))
        raw = content[operations[j][2] : ends[j]]
    elif kind == 3:
        raw += rng.choice(PAYLOADS)
    elif kind == 4:
        places = [j for j, (operation, *_) in enumerate(operations) if operation.name == "GLOBAL"]
        if places:
            j = rng.choice(places)
            start, end = operations[j][2], ends[j]
            raw = b"c" + rng.choice(GLOBALS).replace(" ", "\n").encode() + b"\n"
            if rng.random() < 0.3:  # tuples that take forever to hash, or overflow the stack
                raw = rng.choice([b")" + b"\x85" * 500_000, b"K\1" + b"r\0\0\1\0j\0\0\1\0\x86" * 60])
    elif kind == 5:
        places = [j for j, (operation, *_) in enumerate(operations) if operation.name.startswith("BININT")]
        if places:
            j = rng.choice(places)
            start, end = operations[j][2], ends[j]
            number = rng.choice([n for n in NUMBERS if isinstance(n, int)])
            packed = number.to_bytes(20, "little", signed=True)
            raw = b"\x8a" + bytes([len(packed)]) + packed
    else:
        return damaged(content, rng)
    return content[:start] + raw + content[end:]


def change_zip(content: bytes, rng: random.Random) -> bytes:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entries = [(info.filename, archive.read(info)) for info in archive.infolist()]
    packing = zipfile.ZIP_STORED
    i = rng.randrange(len(entries))
    name, held = entries[i]
    kind = rng.randrange(12)
    if kind < 6:
        i = next(i for i, (name, _) in enumerate(entries) if name.endswith("data.pkl"))
        entries[i] = entries[i][0], change_pickle(entries[i][1], rng)
    elif kind == 6:
        del entries[i]
    elif kind == 7:
        entries[i] = rng.choice([f"../{name}", "", name.upper(), entries[-1][0], "archive/data/7", "x/data.pkl"]), held
    elif kind == 8:
        entries[i] = name, rng.choice([b"", held[:-4], held * 2, held + b"\0" * 4])
    elif kind == 9:
        packing = zipfile.ZIP_DEFLATED
    elif kind == 10:
        entries += [(f"archive/data/more{k}", b"") for k in range(rng.choice([1, 2000]))]
    else:  # where things are: the directory and its end, or the header of an entry
        place = rng.choice([content.rfind(b"PK\x01\x02"), content.rfind(b"PK\x05\x06"), content.rfind(b"PK\x03\x04")])
        return content[:place] + damaged(content[place : place + 60], rng) + content[place + 60 :]
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", packing) as archive:
        for name, held in entries:
            archive.writestr(zipfile.ZipInfo(name), held, packing)
    return out.getvalue()


def change_bin(content: bytes, rng: random.Random) -> bytes:
    if rng.random() < 0.2:
        return damaged(content, rng)
    if content.startswith(b"PK"):
        return change_zip(content, rng)
    stream = io.BytesIO(content)
    ends = [0]
    for _ in range(5):
        for operation in pickletools.genops(stream):
            del operation
        ends.append(stream.tell())
    i = rng.choice([0, 1, 2, 3, 3, 3, 4, 5])
    if i == 5:  # the lengths of the storages
        tail = content[ends[5] :]
        return content[: ends[5]] + struct.pack("<q", rng.choice([-1, 0, 2**31, 2**62, len(tail)])) + tail[8:]
    return content[: ends[i]] + change_pickle(content[ends[i] : ends[i + 1]], rng) + content[ends[i + 1] :]


# Tokenizers ---------------------------------------------------------------------------------------------------------------


def proto_field(number: int, content: bytes) -> bytes:
    length, coded = len(content), b""
    while length > 127:
        length, coded = length >> 7, coded + bytes([length & 127 | 128])
    return bytes([number << 3 | 2]) + coded + bytes([length]) + content


def change_sentencepiece(content: bytes, rng: random.Random) -> bytes:
    fields = [(number, content[start:end]) for number, start, end in _fields(content, 0, len(content))]
    i = rng.randrange(len(fields)) if rng.random() < 0.5 else rng.randrange(len(fields) - 3, len(fields))
    number, held = fields[i]
    kind = rng.randrange(8)
    if kind == 0:
        del fields[i]
    elif kind == 1:
        fields += [fields[i]] * rng.choice([1, 2, 1000])
    elif kind == 2:
        text = rng.choice([b"x" * 200, b"x" * 200_000, b"a\0b"])
        fields[i] = number, rng.choice([b"", b"\n\0", proto_field(1, text)])
    elif kind == 3:
        fields[i] = number, held[:-4] + struct.pack("<f", rng.choice([float("nan"), float("inf"), -1e38]))
    elif kind == 4:
        rng.shuffle(fields)
    elif kind == 5:  # the map of characters
        j = next(j for j, (number, _) in enumerate(fields) if number == 3)
        inner = [(n, fields[j][1][s:e]) for n, s, e in _fields(fields[j][1], 0, len(fields[j][1]))]
        changed = [(n, change_charsmap(c, rng) if n == 2 else c) for n, c in inner if n in (1, 2)]
        fields[j] = 3, b"".join(proto_field(n, c) for n, c in changed)
    elif kind == 6:
        fields[i] = number, damaged(held, rng)
    else:
        return damaged(content, rng)
    return b"".join(proto_field(number, held) for number, held in fields)


def change_charsmap(blob: bytes, rng: random.Random) -> bytes:
    if len(blob) < 8:
        return damaged(blob, rng)
    made = bytearray(blob)
    n_trie = int.from_bytes(blob[:4], "little")
    kind = rng.randrange(4)
    if kind == 0:
        made[:4] = struct.pack("<I", rng.choice([0, 4, n_trie + 1024, n_trie - 1024, 2**31, 2**32 - 1]))
    elif kind == 1:
        for _ in range(rng.choice([1, 100])):
            place = 4 + rng.choice([0, 4 * rng.randrange(n_trie // 4)])
            unit = rng.choice([0, 2**32 - 1, 2**31 + len(blob), rng.randrange(2**32)])
            made[place : place + 4] = struct.pack("<I", unit)
    elif kind == 2:
        made[4 + n_trie :] = bytes(byte or 65 for byte in made[4 + n_trie :])
    else:
        del made[rng.randrange(len(made)) :]
    return bytes(made)


def change_lines(content: bytes, rng: random.Random) -> bytes:
    lines = content.split(b"\n")
    i = rng.randrange(len(lines))
    lines[i] = rng.choice([b"", b"a", b"a b c d", b"\xff\xfe", b"a " + b"b" * 10_000, lines[0], lines[i] * 2, b"\0 \0"])
    if rng.random() < 0.2:
        lines *= rng.choice([5, 5, 1_000_000 // len(lines)])
    return rng.choice([b"\n"] * 8 + [b"\r\n", b"\r"]).join(lines)


MUTATORS: dict[str, list[Mutator]] = {
    "config.json": [change_top, change_top, change_json],
    ".index.json": [change_index, change_index, change_json],
    ".json": [change_json],
    ".safetensors": [change_safetensors],
    ".bin": [change_bin],
    ".pt": [change_bin],
    ".model": [change_sentencepiece],
    ".txt": [change_lines, damaged],
}
if find_spec("h5py") and find_spec("msgpack"):
    from tests.robustness.other_mutations import change_h5, change_msgpack

    MUTATORS |= {".h5": [change_h5], ".msgpack": [change_msgpack]}


def mutated(name: str, content: bytes, rng: random.Random) -> bytes:
    """Mutate the content of a file, with the first entry of ``MUTATORS`` that its name ends with."""
    mutators = next(mutators for ending, mutators in MUTATORS.items() if name.endswith(ending))
    return rng.choice(mutators)(content, rng)


def damage_folder(file: Path, others: list[Path], rng: random.Random) -> None:
    """Delete a file or replace it: by a folder, a link, a pipe, another file, or a very long one."""
    kind = rng.randrange(9)
    content = file.read_bytes()
    if kind < 7:
        file.unlink()
    if kind == 1:
        file.mkdir()
    elif kind == 2:
        file.symlink_to(rng.choice(["/dev/zero", "/dev/full", "/etc/passwd", "absent", file.name, "/proc/self/mem"]))
    elif kind == 3:
        os.mkfifo(file)
    elif kind == 4:
        file.write_bytes(b"")
    elif kind == 5:
        file.write_bytes(rng.choice(others).read_bytes() if others else b"x")
    elif kind == 6:
        file.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n")
    elif kind == 7:
        os.truncate(file, rng.choice([2**20, 2**28]))
    elif kind == 8:
        file.write_bytes(content + rng.randbytes(1000))
