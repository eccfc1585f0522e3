"""The largest member of the family, in its real size: 14 GB of weights that nothing copies. The files are holes, not bytes."""

import json
import os

import pytest
import torch

from skxlmr.checkpoints import assign_weights, on_meta, read_model
from skxlmr.nn import XLMRobertaXLConfig, XLMRobertaXLForMaskedLM, family_of

SHARD = 5 * 2**30


def write_shards(folder, shapes):
    """Safetensors files of zeros that take no room on the disk."""
    shards, room = [{}], SHARD
    for name, shape in shapes.items():
        size = shape.numel() * 4
        if size > room:
            shards.append({})
            room = SHARD
        place = SHARD - room
        shards[-1][name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [place, place + size]}
        room -= size
    places = {}
    for i, header in enumerate(shards, 1):
        file = folder / f"model-{i:05}-of-{len(shards):05}.safetensors"
        raw = json.dumps(header).encode()
        raw += b" " * (-len(raw) % 8)
        with file.open("wb") as opened:
            opened.write(len(raw).to_bytes(8, "little") + raw)
            opened.truncate(8 + len(raw) + max(entry["data_offsets"][1] for entry in header.values()))
        places |= dict.fromkeys(header, file.name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))


def write_bin(folder, shapes):
    """One zip archive with 64-bit places, as the first published files were."""
    with torch.serialization.skip_data():
        torch.save({name: torch.empty(shape) for name, shape in shapes.items()}, folder / "pytorch_model.bin")


def resident():
    """Megabytes of this process that are no file's."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith("RssAnon"))


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="needs Linux, which tells whose memory is whose")
@pytest.mark.parametrize("write", [write_shards, write_bin])
def test_nothing_is_copied(tmp_path, write):
    config = XLMRobertaXLConfig()
    with on_meta():
        module = XLMRobertaXLForMaskedLM(config)
    write(tmp_path, {name: tensor.shape for name, tensor in module.state_dict().items()})
    (tmp_path / "config.json").write_text(json.dumps(config.to_dict()))
    files = [file for file in tmp_path.iterdir() if file.stat().st_size > 2**20]
    try:
        assert sum(file.stat().st_size for file in files) > 13.9e9
        before = resident()
        tensors = read_model(tmp_path).tensors()
        assign_weights(module, tensors, source=tmp_path, head_parts=family_of(config).head_parts)
        assert resident() - before < 20
        assert all(module.state_dict()[name].data_ptr() == tensor.data_ptr() for name, tensor in tensors.items())
        last = module.roberta.encoder.layer[35].output.dense.weight
        with torch.no_grad():
            last[-1, -1] = 1.0  # beyond four gigabytes of the file, which stays as it is
        assert read_model(tmp_path).tensors()["roberta.encoder.layer.35.output.dense.weight"][-1, -1] == 0
    finally:
        for file in files:
            file.unlink()
