import json
import shutil
import sys
from itertools import pairwise

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from skxlmr import CheckpointError, XLMRobertaVectorizer, convert, load, save
from skxlmr.checkpoints import read_config, read_tensors, write_folder
from skxlmr.checkpoints._formats.write import bytes_of
from tests import lora
from tests.checkpoints.conftest import assert_same
from tests.checkpoints.models import UNTIED, XLMRobertaForMaskedLM, make_model

WEIGHTS = {
    "safetensors": "model.safetensors",
    "bin": "pytorch_model.bin",
    "h5": "tf_model.h5",
    "msgpack": "flax_model.msgpack",
}


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def sizes_of(tensors):
    return sum(tensor.nbytes for tensor in tensors.values())


@pytest.fixture
def source(tmp_path):
    """A checkpoint of a language model with some other files."""
    config, tensors = make_model("XLMRobertaForMaskedLM")
    folder = tmp_path / "source"
    write_folder(folder, config=config, tensors=tensors)
    for name in ("sentencepiece.bpe.model", "tokenizer_config.json", "skxlmr.json", "README.md", "model.onnx"):
        (folder / name).write_bytes(name.encode())
    return folder


@pytest.fixture
def tensors():
    return make_model("XLMRobertaForMaskedLM")[1]


@pytest.mark.parametrize("form", WEIGHTS)
def test_the_whole_checkpoint_is_converted(form, source, tensors, tmp_path):
    before = {path.name: path.read_bytes() for path in source.iterdir()}
    convert(str(source), tmp_path / "a" / "target", form)
    target = tmp_path / "a" / "target"
    assert names_in(target) == sorted(
        ["config.json", "sentencepiece.bpe.model", "tokenizer_config.json", WEIGHTS[form]]
    )
    assert (target / "sentencepiece.bpe.model").read_bytes() == b"sentencepiece.bpe.model"
    assert read_config(target) == read_config(source)
    assert_same(read_tensors(target), tensors)
    assert {path.name: path.read_bytes() for path in source.iterdir()} == before
    assert names_in(tmp_path / "a") == ["target"]
    assert {path.stat().st_mode for path in target.iterdir()} == {(source / "README.md").stat().st_mode}


@pytest.mark.parametrize("form", WEIGHTS)
def test_shards(form, source, tensors, tmp_path):
    convert(source, tmp_path / "target", form, max_shard_size="1KB")
    index = json.loads((tmp_path / "target" / f"{WEIGHTS[form]}.index.json").read_text())
    stem, _, ending = WEIGHTS[form].partition(".")
    shards = sorted(set(index["weight_map"].values()))
    assert len(shards) > 3
    assert shards == [f"{stem}-{i + 1:05d}-of-{len(shards):05d}.{ending}" for i in range(len(shards))]
    others = {"config.json", "sentencepiece.bpe.model", "tokenizer_config.json", f"{WEIGHTS[form]}.index.json"}
    assert set(names_in(tmp_path / "target")) == {*shards, *others}
    assert index["metadata"]["total_size"] == sizes_of(tensors)
    assert len(index["weight_map"]) == len(tensors)
    assert_same(read_tensors(tmp_path / "target"), tensors)


def test_names_in_the_indexes_are_those_of_the_frameworks(source, tmp_path):
    layer = {
        "safetensors": "roberta.encoder.layer.1.output.dense.weight",
        "h5": "tfxlm_roberta_for_masked_lm/roberta/encoder/layer_._1/output/dense/kernel:0",
        "msgpack": "roberta/encoder/layer/1/output/dense/kernel",
    }
    for form, name in layer.items():
        convert(source, tmp_path / form, form, max_shard_size="1KB")
        assert name in json.loads((tmp_path / form / f"{WEIGHTS[form]}.index.json").read_text())["weight_map"]


def test_shards_are_as_full_as_possible(source, tmp_path):
    convert(source, tmp_path / "target", max_shard_size=1000)
    sizes = [
        [tensor.nbytes for tensor in load_file(path).values()] for path in sorted((tmp_path / "target").glob("model-*"))
    ]
    assert all(sum(shard) <= 1000 or len(shard) == 1 for shard in sizes)
    assert all(sum(shard) + max(following) > 1000 for shard, following in pairwise(sizes))


def test_one_shard_is_a_plain_file(source, tmp_path):
    convert(source, tmp_path / "target", max_shard_size="1GB")
    assert "model.safetensors" in names_in(tmp_path / "target")
    convert(source, tmp_path / "target", max_shard_size="1KB", dtype="float16")
    assert "model.safetensors" not in names_in(tmp_path / "target")


def test_shards_are_counted_in_the_written_dtype(source, tmp_path):
    for dtype in ("float32", "float16"):
        convert(source, tmp_path / dtype, dtype=dtype, max_shard_size=1000)
    n_full, n_half = (len(names_in(tmp_path / dtype)) for dtype in ("float32", "float16"))
    assert n_half < n_full


@pytest.mark.parametrize("form", WEIGHTS)
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_dtype(form, dtype, source, tensors, tmp_path):
    convert(source, tmp_path / "target", form, dtype=dtype)
    assert read_config(tmp_path / "target")["torch_dtype"] == dtype
    assert_same(read_tensors(tmp_path / "target"), {n: t.to(getattr(torch, dtype)) for n, t in tensors.items()})


@pytest.mark.parametrize("form", WEIGHTS)
def test_bfloat16_stays_or_becomes_float32_if_the_format_lacks_it(form, source, tensors, tmp_path):
    convert(source, tmp_path / "half", dtype="bfloat16")
    convert(tmp_path / "half", tmp_path / "target", form)
    dtype = torch.float32 if form == "h5" else torch.bfloat16
    assert_same(read_tensors(tmp_path / "target"), {n: t.bfloat16().to(dtype) for n, t in tensors.items()})
    assert read_config(tmp_path / "target")["torch_dtype"] == str(dtype).removeprefix("torch.")


@pytest.mark.parametrize("form", WEIGHTS)
def test_weights_out_of_range_do_not_become_infinite(form, tmp_path):
    config, tensors = make_model("XLMRobertaModel")
    name = "roberta.encoder.layer.1.output.dense.weight"
    tensors[name][3, 4] = -65519.0  # rounds to the largest number of float16
    write_folder(tmp_path / "source", config=config, tensors=tensors)
    convert(tmp_path / "source", tmp_path / "half", form, dtype="float16")
    tensors[name][3, 4] = -65520.0
    write_folder(tmp_path / "source", config=config, tensors=tensors)
    with pytest.raises(
        CheckpointError, match=rf"cannot hold tensor .*{name}, from -65520 to .*, in torch.float16"
    ) as said:
        convert(tmp_path / "source", tmp_path / "target", form, dtype="float16")
    assert said.value.file == str(tmp_path / "target" / WEIGHTS[form])
    assert not (tmp_path / "target").exists()


def test_bfloat16_is_refused_for_tensorflow(source, tmp_path):
    with pytest.raises(ValueError, match=r"tf_model\.h5 cannot hold bfloat16"):
        convert(source, tmp_path / "target", "h5", dtype="bfloat16")
    assert names_in(tmp_path) == ["source"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": "onnx"}, "format must be one of safetensors, bin, h5, msgpack, got 'onnx'"),
        ({"dtype": "int8"}, "dtype must be one of float32, bfloat16, float16 or None, got 'int8'"),
        ({"dtype": torch.int8}, r"dtype must be one of .* got torch\.int8"),
        ({"format": ["bin"]}, r"format must be one of .*, got \['bin'\]"),
        ({"max_shard_size": "big"}, "max_shard_size must be a number of bytes or a string such as '5GB', got 'big'"),
        ({"max_shard_size": 0}, "max_shard_size must be .*, got 0"),
        ({"max_shard_size": True}, "max_shard_size must be .*, got True"),
        ({"max_shard_size": 1.5}, r"max_shard_size must be .*, got 1\.5"),
    ],
)
def test_wrong_parameters(options, message, source, tmp_path):
    with pytest.raises(ValueError, match=message):
        convert(source, tmp_path / "target", **options)
    assert names_in(tmp_path) == ["source"]


@pytest.mark.parametrize(
    ("size", "n"),
    [
        (7, 7),
        (np.int64(7), 7),
        ("7B", 7),
        ("2KB", 2000),
        ("2KiB", 2048),
        ("1.5MB", 1_500_000),
        ("5 GB", 5 * 10**9),
        ("1TiB", 2**40),
    ],
)
def test_sizes(size, n):
    assert bytes_of(size) == n


@pytest.mark.parametrize("size", ["0B", "0.1B", "5gb", "GB", "-1GB", "5", "5XB", ""])
def test_strings_that_are_not_sizes(size):
    with pytest.raises(ValueError, match="max_shard_size must be"):
        bytes_of(size)


def test_the_source_is_not_replaced(source, tmp_path):
    (tmp_path / "link").symlink_to(source)
    for target in (source, tmp_path / "link", str(source) + "/."):
        with pytest.raises(CheckpointError, match="is the source: convert to another folder"):
            convert(source, target, "bin")
    assert "model.safetensors" in names_in(source)


def test_what_is_read_is_not_replaced(tiny_checkpoint, tmp_path):
    """A folder in which the source lies, and the base model of an adapter."""
    source = tiny_checkpoint
    pipeline = tmp_path / "pipeline"
    pipeline.mkdir()
    (pipeline / "config.json").write_bytes((source / "config.json").read_bytes())
    part = shutil.copytree(source, pipeline / "estimators" / "0")
    with pytest.raises(CheckpointError, match=r"holds what is read, .*: convert to another folder"):
        convert(part, pipeline)
    base = shutil.copytree(source, tmp_path / "base")
    adapter = lora.save(lora.fitted("XLMRobertaClassifier", str(base), max_epochs=1), tmp_path / "adapter")
    with pytest.raises(CheckpointError, match="base: is the source: convert to another folder"):
        convert(adapter, base)
    assert names_in(base) == names_in(part) == names_in(source)
    convert(adapter, tmp_path / "merged")


def test_another_checkpoint_is_replaced_and_nothing_else(source, tmp_path):
    convert(source, tmp_path / "target", "h5")
    convert(source, tmp_path / "target", "msgpack", max_shard_size="1KB")
    convert(source, tmp_path / "target", "bin")
    assert names_in(tmp_path / "target") == [
        "config.json",
        "pytorch_model.bin",
        "sentencepiece.bpe.model",
        "tokenizer_config.json",
    ]
    (tmp_path / "target" / "thesis.tex").touch()
    with pytest.raises(CheckpointError, match=r"would delete \(thesis\.tex\)"):
        convert(source, tmp_path / "target")


def test_broken_sources(source, tmp_path):
    with pytest.raises(CheckpointError, match="no such folder"):
        convert(tmp_path / "absent", tmp_path / "target")
    (source / "model.safetensors").write_bytes(b"hello")
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        convert(source, tmp_path / "target")
    (source / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"config\.json: model_type is missing"):
        convert(source, tmp_path / "target")
    assert names_in(tmp_path) == ["source"]


@pytest.mark.parametrize("form", ["h5", "msgpack"])
@pytest.mark.parametrize(
    "name",
    ["a", "", "a/b.c", "a..b", ".a", "é.a", "a b.c", "a\0.b", "x." * 20 + "w", "a.kernel", "roberta.embeddings"],
)
def test_names_that_would_not_come_back(form, name, source, tensors, tmp_path):
    with pytest.raises(CheckpointError, match="cannot hold tensor '"):
        write_folder(
            tmp_path / "x", config=read_config(source), tensors={**tensors, name: torch.ones(2, 3)}, format=form
        )
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("form", ["safetensors", "bin", "h5", "msgpack"])
def test_numbers_without_dimensions_come_back(form, source, tensors, tmp_path):
    write_folder(
        tmp_path / "x", config=read_config(source), tensors={**tensors, "head.factor": torch.tensor(2.5)}, format=form
    )
    assert read_tensors(tmp_path / "x")["head.factor"].item() == 2.5


def test_a_head_that_tensorflow_lacks_leaves_nothing_behind(tmp_path):
    config, tensors = make_model("XLMRobertaForMaskedLM", lambda: XLMRobertaForMaskedLM(UNTIED))
    write_folder(tmp_path / "source", config=config, tensors=tensors)
    with pytest.raises(CheckpointError, match=r"cannot be written for TensorFlow.*lm_head\.decoder\.weight"):
        convert(tmp_path / "source", tmp_path / "target", "h5")
    assert names_in(tmp_path) == ["source"]


@pytest.mark.parametrize(("form", "package"), [("h5", "h5py"), ("msgpack", "msgpack")])
def test_missing_package(form, package, source, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=f"needs {package}, which is not installed"):
        convert(source, tmp_path / "target", form)
    assert names_in(tmp_path) == ["source"]


def test_a_full_disk(source, tmp_path, monkeypatch):
    def refuse(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("skxlmr.conversion.shutil.copyfile", refuse)
    with pytest.raises(CheckpointError, match=r"target: cannot be written \(.*No space left on device"):
        convert(source, tmp_path / "target")
    assert names_in(tmp_path) == ["source"]


@pytest.mark.parametrize("form", WEIGHTS)
def test_estimators_open_every_format(form, tiny_checkpoint, tmp_path):
    texts = ["the old house", "ein kleines Haus", "дом"]
    convert(tiny_checkpoint, tmp_path / "target", form, max_shard_size="20KB" if form in ("h5", "bin") else None)
    features = XLMRobertaVectorizer(tmp_path / "target").fit_transform(texts)
    assert abs(features - XLMRobertaVectorizer(tiny_checkpoint).fit_transform(texts)).max() < 1e-6


def test_a_saved_estimator_can_be_converted(tiny_checkpoint, tmp_path):
    vectorizer = XLMRobertaVectorizer(tiny_checkpoint).fit(["a"])
    save(vectorizer, tmp_path / "saved", dtype=torch.float16, max_shard_size="20KB")
    assert len(list((tmp_path / "saved").glob("model-*.safetensors"))) > 1
    convert(tmp_path / "saved", tmp_path / "target", "msgpack")
    assert "skxlmr.json" not in names_in(tmp_path / "target")
    expected = load(tmp_path / "saved").transform(["the old house"])
    found = XLMRobertaVectorizer(tmp_path / "target").fit_transform(["the old house"])
    assert abs(found - expected).max() < 1e-6
