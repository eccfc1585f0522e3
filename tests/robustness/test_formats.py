"""Every format holds the same model bit for bit, whoever wrote it, and the outputs of transformers do not change.

The full size converts a model of XLM-RoBERTa-base's geometry between all formats, each in a separate process, and measures
its memory: ``pytest -m slow tests/robustness/test_formats.py``.
"""

import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from skxlmr import convert
from skxlmr.checkpoints import assign_weights, on_meta, read_config, read_model, write_folder
from skxlmr.nn import XLMForMaskedLM, XLMRobertaForCausalLM, config_of
from tests.checkpoints.conftest import assert_same
from tests.checkpoints.models import MODELS, UNTIED, XLMRobertaForMaskedLM, h5_content, make_model
from tests.checkpoints.test_goldens import run
from tests.nn.reference import KINDS, assert_near

FORMATS = ["safetensors", "bin", "h5", "msgpack"]
SHARED = ["base", "mlm", "seqcls", "tokcls", "qa", "mc", "clm"]
MADE = Path(__file__).resolve().parents[1] / "fixtures" / "formats"
ROOT = Path(__file__).resolve().parents[2]


def tensors_of(folder):
    return read_model(folder).tensors()


def load(folder, make, prefix=""):
    with on_meta():
        module = make(read_model(folder).config)
    assert (
        assign_weights(module, {n.removeprefix(prefix): t for n, t in tensors_of(folder).items()}, source=folder) == []
    )
    return module.eval()


@pytest.mark.parametrize("kind", SHARED)
def test_every_conversion_of_every_published_format(shared_data, tmp_path, kind):
    folder = shared_data / "checkpoints" / kind
    expected = tensors_of(folder)
    make = KINDS[kind][0] if kind != "clm" else XLMRobertaForCausalLM
    golden = {name: torch.from_numpy(array) for name, array in np.load(folder / "golden.npz").items()}
    ids, mask = golden.pop("input_ids"), golden.pop("attention_mask")
    read = [(written_by, folder / written_by) for written_by in (".", "bin", "tf", "flax")]
    for written_by, source in list(read):
        for form in FORMATS:
            target = tmp_path / f"{written_by}-{form}"
            convert(source, target, form, max_shard_size="100KB" if written_by == "bin" else None)
            read.append((f"{written_by} as {form}", target))
    for written_by, source in read:
        assert_same(tensors_of(source), expected)
        outputs = run(load(source, make, "roberta." if kind == "base" else ""), kind, ids, mask)
        for name, wanted in golden.items():
            if name == "logits" and kind == "clm":  # outputs at padding do not matter
                outputs, wanted = {name: outputs[name][mask == 1]}, wanted[mask == 1]
            assert_near(outputs[name], wanted, 1e-5, f"{name} of {written_by}")
    for written_by in (".", "tf", "flax"):
        whole = tmp_path / f"{written_by}-msgpack" / "flax_model.msgpack"
        assert whole.read_bytes() == (folder / "flax" / "flax_model.msgpack").read_bytes()
        assert h5_content(tmp_path / f"{written_by}-h5" / "tf_model.h5") == h5_content(folder / "tf" / "tf_model.h5")


@pytest.mark.parametrize("architecture", MODELS)
def test_converting_through_all_formats_changes_nothing(architecture, tmp_path):
    config, tensors = make_model(architecture)
    write_folder(tmp_path / "0", config=config, tensors=tensors)
    ring = [*FORMATS, *reversed(FORMATS)]
    for i, form in enumerate(ring):
        convert(tmp_path / f"{i}", tmp_path / f"{i + 1}", form, max_shard_size="1KB" if i % 2 else None)
        assert_same(tensors_of(tmp_path / f"{i + 1}"), tensors)
        assert read_config(tmp_path / f"{i + 1}") == read_config(tmp_path / "0")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_every_format_rounds_alike(dtype, tmp_path):
    config, tensors = make_model("XLMRobertaForMaskedLM")
    write_folder(tmp_path / "source", config=config, tensors=tensors)
    expected = {name: tensor.to(getattr(torch, dtype)) for name, tensor in tensors.items()}
    for form in set(FORMATS) - ({"h5"} if dtype == "bfloat16" else set()):
        convert(tmp_path / "source", tmp_path / form, form, dtype=dtype)
        assert_same(tensors_of(tmp_path / form), expected)
        assert read_config(tmp_path / form)["torch_dtype"] == dtype


@pytest.mark.parametrize("folder", ["xlm_mlm_tf", "xlm_mlm_tf_sharded", "cross_tf", "cross_flax", "cross_flax_sharded"])
def test_the_original_xlm_and_cross_attention_by_the_tensorflow_and_flax_classes(folder, tmp_path):
    golden = {name: torch.from_numpy(array) for name, array in np.load(MADE / folder / "golden.npz").items()}
    logits = golden.pop("logits")
    make = XLMForMaskedLM if folder.startswith("xlm") else XLMRobertaForCausalLM
    inputs = {name: value if value.is_floating_point() else value.long() for name, value in golden.items()}
    for form in FORMATS:
        convert(MADE / folder, tmp_path / form, form, max_shard_size="2KB" if "sharded" in folder else None)
        with torch.no_grad():
            assert_near(load(tmp_path / form, make)(**inputs), logits, 1e-5, f"logits from {form}")
    for whole in (MADE / folder).glob("*_model.*"):
        if whole.suffix == ".msgpack":
            assert (tmp_path / "msgpack" / whole.name).read_bytes() == whole.read_bytes()
        elif whole.suffix == ".h5":
            assert h5_content(tmp_path / "h5" / whole.name) == h5_content(whole)


THEIRS = {
    "base": transformers.XLMRobertaModel,
    "mlm": transformers.XLMRobertaForMaskedLM,
    "seqcls": transformers.XLMRobertaForSequenceClassification,
    "tokcls": transformers.XLMRobertaForTokenClassification,
    "qa": transformers.XLMRobertaForQuestionAnswering,
    "mc": transformers.XLMRobertaForMultipleChoice,
    "clm": transformers.XLMRobertaForCausalLM,
}


def their_outputs(folder, kind, golden):
    model, report = THEIRS[kind].from_pretrained(folder, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    with torch.no_grad():
        outputs = model.eval()(golden["input_ids"], attention_mask=golden["attention_mask"])
    return model.state_dict(), {name: value for name, value in outputs.items() if torch.is_tensor(value)}


@pytest.mark.parametrize("kind", SHARED)
def test_transformers_compute_the_same_after_a_round_trip(shared_data, tmp_path, kind):
    folder = shared_data / "checkpoints" / kind
    golden = {name: torch.from_numpy(array) for name, array in np.load(folder / "golden.npz").items()}
    state, expected = their_outputs(folder, kind, golden)
    way = {"h5": None, "msgpack": "100KB", "bin": "100KB", "safetensors": None}
    folders = [folder, *(tmp_path / form for form in way)]
    for (source, target), (form, size) in zip(pairwise(folders), way.items(), strict=True):
        convert(source, target, form, max_shard_size=size)
    for target in folders[-2:]:
        converted, outputs = their_outputs(target, kind, golden)
        assert_same(converted, state)
        assert outputs.keys() == expected.keys()
        for name, output in outputs.items():
            assert_near(output, expected[name], 1e-6, name)


@pytest.mark.filterwarnings("ignore")  # theirs
@pytest.mark.parametrize("architecture", [name for name in MODELS if name.startswith("XLM") and "Roberta" not in name])
def test_transformers_compute_the_same_with_every_head_of_the_original_xlm(architecture, tmp_path):
    config, tensors = make_model(architecture)
    n_labels = {"XLMForSequenceClassification": 3, "XLMForTokenClassification": 5}.get(architecture, 2)
    config |= {"id2label": {str(i): str(i) for i in range(n_labels)}, "start_n_top": 3, "end_n_top": 3}
    write_folder(tmp_path / "safetensors", config=config, tensors=tensors)
    folders = [tmp_path / form for form in ("safetensors", "h5", "msgpack", "bin")]
    for source, target in pairwise(folders):
        convert(source, target, target.name, max_shard_size="1KB" if target.name == "msgpack" else None)
    ids = torch.tensor([[0, 5, 6, 1], [0, 7, 8, 1]])
    ids = ids[None] if "Choice" in architecture else ids
    found = []
    for folder in (folders[0], folders[-1]):
        model, report = getattr(transformers, architecture).from_pretrained(folder, output_loading_info=True)
        assert not report["missing_keys"] and not report["unexpected_keys"]
        with torch.no_grad():
            found.append((model.state_dict(), model.eval()(ids, langs=torch.ones_like(ids))))
    assert_same(found[1][0], found[0][0])
    values = [[value for value in outputs.values() if torch.is_tensor(value)] for _, outputs in found]
    assert values[0] and all(torch.equal(a, b) for a, b in zip(*values, strict=True))


def test_transformers_compute_the_same_with_an_untied_head(tmp_path):
    config, tensors = make_model("XLMRobertaForMaskedLM", lambda: XLMRobertaForMaskedLM(UNTIED))
    write_folder(tmp_path / "source", config=config, tensors=tensors)
    golden = {"input_ids": torch.tensor([[0, 5, 6, 2]]), "attention_mask": torch.ones(1, 4)}
    state, expected = their_outputs(tmp_path / "source", "mlm", golden)
    convert(tmp_path / "source", tmp_path / "msgpack", "msgpack")
    convert(tmp_path / "msgpack", tmp_path / "back", "bin", max_shard_size="1KB")
    converted, outputs = their_outputs(tmp_path / "back", "mlm", golden)
    assert_same(converted, state)
    assert_near(outputs["logits"], expected["logits"], 1e-5, "logits")


MEASURE = """
import resource, sys, threading
from skxlmr import convert
stop, peak = threading.Event(), [0]
def watch():
    while not stop.wait(0.01):
        with open("/proc/self/statm") as about:
            _, resident, shared, *_ = map(int, about.read().split())
        peak[0] = max(peak[0], (resident - shared) * resource.getpagesize())
threading.Thread(target=watch, daemon=True).start()
import torch, h5py, msgpack
with open("/proc/self/statm") as about:
    _, resident, shared, *_ = map(int, about.read().split())
before = (resident - shared) * resource.getpagesize()
convert(sys.argv[1], sys.argv[2], sys.argv[3])
stop.set()
print(peak[0] - before)
"""


@pytest.mark.slow
def test_memory_of_converting_a_large_model(tmp_path):
    with torch.no_grad():
        module = XLMRobertaForMaskedLM(config_of({"model_type": "xlm-roberta", **SIZES}))
    config = {**module.roberta.config.to_dict(), "architectures": ["XLMRobertaForMaskedLM"]}
    write_folder(tmp_path / "source", config=config, tensors=module.state_dict())
    expected = tensors_of(tmp_path / "source")
    size = (tmp_path / "source" / "model.safetensors").stat().st_size
    del module
    source = tmp_path / "source"
    for form in ["bin", "h5", "msgpack", "safetensors"]:
        command = [sys.executable, "-c", MEASURE, str(source), str(tmp_path / form), form]
        result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        print(f"{source.name} to {form}: {int(result.stdout) / size:.2f} of {size / 1e9:.2f} GB of private memory")
        assert int(result.stdout) < 2 * size
        assert_same(tensors_of(tmp_path / form), expected)
        source = tmp_path / form


SIZES = {
    "vocab_size": 250_002,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "max_position_embeddings": 514,
}
