"""Damage a tokenizer file many times; each time it must still work, or be refused with an error that names it.

Runs in a process of its own, since a hostile file might end it.
"""

import faulthandler
import json
import random
import sys
from pathlib import Path

import numpy as np

from skxlmr.text import load_tokenizer
from skxlmr.utils._errors import CheckpointError

SECONDS = 20  # that one mutant may take on a busy machine
TEXTS = ["The house, ﬁ ①", "", "дом\u3000κάτω e\u0301 漢字 \0", "<s>a <mask>", "b" * 300]
ODD_VALUES = [None, True, -1, 0, 2**31, 2**63, 1e308, "", "\ud800", "<s>", "a" * 1000, [], {}, [[]], {"type": "X"}]


def damaged(content: bytes, rng: random.Random) -> bytes:
    made = bytearray(content)
    for _ in range(rng.choice([1, 1, 1, 2, 8])):
        i = rng.randrange(len(made) + 1)
        kind = rng.randrange(6)
        if kind == 0:
            made[i : i + 1] = bytes([rng.randrange(256)])
        elif kind == 1:
            made = made[:i]
        elif kind == 2:
            del made[i : i + rng.randrange(1, 200)]
        elif kind == 3:
            made[i:i] = made[i : i + rng.randrange(1, 200)]
        elif kind == 4:
            made[i:i] = rng.randbytes(rng.randrange(1, 20))
        else:
            made[i : i + 4] = rng.choice([b"\xff\xff\xff\xff", b"\0\0\0\0", b"\xff\xff\xff\x7f", b"NaN ", b"1e99"])
    return bytes(made)


def damaged_json(content: bytes, rng: random.Random) -> bytes:
    """Replace or delete one value somewhere in the tree."""
    tree = json.loads(content)
    node = tree
    while True:
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        if not keys:
            break
        key = rng.choice(keys)
        if isinstance(node[key], dict | list) and node[key] and rng.random() < 0.8:
            node = node[key]
            continue
        if rng.random() < 0.3:
            del node[key]
        else:
            node[key] = rng.choice(ODD_VALUES)
        break
    return json.dumps(tree).encode()


def damaged_lines(content: bytes, rng: random.Random) -> bytes:
    """Change what stands in lines, how many there are, or how they end."""
    lines = content.split(b"\n")
    i, kind = rng.randrange(min(len(lines), rng.choice([8, len(lines)]))), rng.randrange(8)
    if kind == 0:
        del lines[i : i + rng.choice([1, 5, 1000])]
    elif kind == 1:
        lines[i:i] = [rng.choice(lines)] * rng.choice([1, 3])
    elif kind == 2:
        lines[i] = rng.choice([b"", b" ", b"\r", b"\0", b"##", b"\xff\xfe", b"a b", b"a" * 2000, b"\xe2\x80\xa8"])
    elif kind == 3:
        lines[i] = rng.choice(
            [lines[i] + b"\r", lines[i] + b" ", lines[i] + b"\r" + lines[0], b" " + lines[i], lines[i] * 2]
        )
    elif kind == 4:
        rng.shuffle(lines)
    elif kind == 5:
        return rng.choice([b"\r\n", b"\r", b"\0", b"\n\n", b"\v"]).join(lines)
    elif kind == 6:
        made = content.decode(errors="replace")
        return rng.choice([made.encode("utf-16"), b"\xef\xbb\xbf" + content, made.upper().encode(), content.lower()])
    else:
        lines *= rng.choice([2, 3, 50, 10_000_000 // len(lines)])
    return b"\n".join(lines)


def use(folder: Path) -> None:
    tokenizer = load_tokenizer(folder)
    for options in ({}, {"parse_special": True, "return_offsets": True}):
        batch = tokenizer.encode_batch(TEXTS, TEXTS[::-1], **options)
        assert ((batch.ids >= 0) & (batch.ids < tokenizer.vocab_size)).all()
        assert batch.offsets is None or (np.diff(batch.offsets, axis=1) >= 0).all()
    tokenizer.encode_words([["The", "", "house"]])
    tokenizer.decode(batch.ids)


def main(folder: Path, name: str, n: int, seed: int) -> None:
    rng = random.Random(seed)
    content = (folder / name).read_bytes()
    counts = {"refused": 0, "working": 0}
    for k in range(n):
        special = {".json": damaged_json, ".txt": damaged_lines}.get(Path(name).suffix, damaged)
        (folder / name).write_bytes((special if k % 2 else damaged)(content, rng))
        print(f"mutant {k}", file=sys.stderr, flush=True)
        faulthandler.dump_traceback_later(SECONDS, exit=True)
        try:
            use(folder)
            counts["working"] += 1
        except CheckpointError:
            counts["refused"] += 1
        faulthandler.cancel_dump_traceback_later()
    print(json.dumps(counts))
