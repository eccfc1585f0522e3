"""Pickles that run code when unpickled never run here, wherever they are in a folder."""

import base64
import io
import json
import pickletools
import sys
import zipfile

import numpy as np
import pytest
import torch

import skxlmr
from skxlmr import CheckpointError, XLMRobertaVectorizer
from skxlmr.checkpoints import read_config, read_tensors, write_folder
from skxlmr.persistence._model_card import CARD
from skxlmr.text import load_tokenizer
from tests import processes
from tests.robustness.payloads import main, payloads
from tests.sentence_encoders import add_outputs, dense, write

N_PAYLOADS = 50
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the payloads call POSIX")
NEIGHBOURS = "model.pkl estimator.joblib training_args.bin optimizer.pt rng_state.pth state.pickle x.npy".split()


@pytest.fixture(scope="module")
def folders(tmp_path_factory, tiny_checkpoint):
    """A checkpoint with ``.bin`` weights, one with shards of them, and a saved estimator."""
    root = tmp_path_factory.mktemp("sound")
    made = {"config": read_config(tiny_checkpoint), "tensors": read_tensors(tiny_checkpoint)}
    made["tokenizer"] = load_tokenizer(tiny_checkpoint)
    write_folder(root / "bin", **made, format="bin")
    write_folder(root / "shards", **made, format="bin", max_shard_size=60_000)
    layers, prompts = [("Dense", dense()), ("Normalize", {})], {"prompts": {"query": "a: "}}
    write(root / "published", tiny_checkpoint, layers=layers, prompts=prompts)
    skxlmr.save(XLMRobertaVectorizer(root / "published").fit(["a"]), root / "saved")
    add_outputs(write(root / "further outputs", tiny_checkpoint))
    return {
        path.name: {file.relative_to(path).as_posix(): file.read_bytes() for file in path.rglob("*") if file.is_file()}
        for path in root.iterdir()
    }


def put(folder, files):
    """Write files; those without content are left out."""
    for file, content in files.items():
        if content is not None:
            (folder / file).parent.mkdir(exist_ok=True)
            (folder / file).write_bytes(content)


def with_pickle(archive, change):
    """The archive with another ``data.pkl``."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            held = old.read(name)
            new.writestr(zipfile.ZipInfo(name), change(held) if name.endswith("data.pkl") else held)
    return out.getvalue()


def legacy(tensors, place, payload):
    """The older format, with one of its five pickles replaced."""
    out = io.BytesIO()
    torch.save(tensors, out, _use_new_zipfile_serialization=False)
    stream, parts = io.BytesIO(out.getvalue()), []
    for _ in range(5):
        start = stream.tell()
        assert list(pickletools.genops(stream))
        parts.append(out.getvalue()[start : stream.tell()])
    parts[place] = payload
    return b"".join(parts) + stream.read()


def inside(state, payload):
    """The pickle of a dict with the payload as one more entry, at the end."""
    body = payload[2:-1] if payload.startswith(b"\x80") else payload[:-1]
    assert state[:3] == b"\x80\x02}" or state[:3] == b"\x80\x02c"
    end = state.rindex(b".")
    return state[:end] + b"X\1\0\0\0x" + body + b"s."


def hostile(folders, payload, everywhere):
    """Name and files of each folder that has the payload somewhere."""
    weights = folders["bin"]["pytorch_model.bin"]
    for name, content in [
        ("a file", payload),
        ("its pickle", with_pickle(weights, lambda _: payload)),
        ("an entry of it", with_pickle(weights, lambda held: inside(held, payload))),
        ("before it", with_pickle(weights, lambda held: payload[:-1] + held)),
        *((f"pickle {i} of the older format", legacy({"a": torch.ones(2)}, i, payload)) for i in (1, 2, 3, 4)),
    ]:
        yield f"pytorch_model.bin: {name}", folders["bin"] | {"pytorch_model.bin": content}
    shard = next(name for name in folders["shards"] if name.endswith(".bin"))
    yield "a shard", folders["shards"] | {shard: payload}
    index = "pytorch_model.bin.index.json"
    yield "an index", folders["shards"] | {index: payload}
    places = json.loads(folders["shards"][index])["weight_map"]
    evil = json.dumps({"weight_map": dict.fromkeys(places, "training_args.bin")}).encode()
    yield "what an index names", folders["shards"] | {index: evil, "training_args.bin": payload}
    for name in folders["saved"]:
        if name == "skxlmr.json" or (everywhere and name != CARD):
            yield f"saved {name}", folders["saved"] | {name: payload}
    about = json.loads(folders["saved"]["skxlmr.json"])
    yield (
        "weights of a layer",
        folders["published"]
        | {
            "2_Dense/pytorch_model.bin": payload,
            "2_Dense/model.safetensors": None,
        },
    )
    sparse = folders["further outputs"]["sparse_linear.pt"]
    for content in (payload, with_pickle(sparse, lambda held: inside(held, payload))):
        yield "the layer of a further output", folders["further outputs"] | {"sparse_linear.pt": content}
    coded = [payload.decode("latin1"), base64.b64encode(payload).decode()]
    for key in ("params", "fitted"):
        changed = about | {key: about[key] | {"device": coded[0], "n_features_in_": {"array": coded, "dtype": "O"}}}
        yield f"skxlmr.json: {key}", folders["saved"] | {"skxlmr.json": json.dumps(changed).encode()}
    for name in ("tf_model.h5", "flax_model.msgpack"):
        files = {other: held for other, held in folders["saved"].items() if other != "model.safetensors"}
        yield name, files | {name: payload}


@pytest.mark.parametrize("i", range(N_PAYLOADS))
def test_the_canary_never_appears(i, folders, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    name, payload = list(payloads(str(tmp_path / "canary")).items())[i]
    n_places = 0
    for n_places, (place, files) in enumerate(hostile(folders, payload, i % 5 == 0), 1):
        folder = tmp_path / f"folder{n_places}"
        folder.mkdir()
        put(folder, files)
        refused = False
        try:
            output = "sparse" if "sparse_linear.pt" in files else "dense"
            if "skxlmr.json" in files:
                skxlmr.load(folder, verify=False)
            else:
                XLMRobertaVectorizer(folder, output=output).fit(["a"])
        except CheckpointError:
            refused = True
        assert refused, f"{name} was read, as {place}"
        assert not list(tmp_path.glob("canary*")), f"{name} ran, as {place}"
    assert n_places > 14


def test_files_next_to_a_model_are_not_opened(folders, tmp_path):
    payload = payloads(str(tmp_path / "canary"))["posix.mkdir"]
    folder = tmp_path / "folder"
    folder.mkdir()
    config = json.loads(folders["saved"]["config.json"]) | {"auto_map": {"AutoModel": "modeling_x.Evil"}}
    code = f"import os; os.mkdir({str(tmp_path / 'canary')!r})".encode()
    extra = dict.fromkeys(NEIGHBOURS, payload) | dict.fromkeys(["modeling_x.py", "__init__.py"], code)
    put(folder, folders["saved"] | extra | {"config.json": json.dumps(config).encode()})
    assert np.isfinite(skxlmr.load(folder, verify=False).transform(["a"])).all()
    assert not list(tmp_path.glob("canary*"))


def test_the_payloads_work(tmp_path):
    done = processes.run(main, tmp_path)
    assert done.exit_code == 0, done.stderr
    assert done.stdout.count(" fires\n") == N_PAYLOADS and " harmless" not in done.stdout
