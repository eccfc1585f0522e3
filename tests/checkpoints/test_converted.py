"""Converted weights: one copy in memory, private to each module where it writes."""

import gc
import os
import shutil
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.base import clone

import skxlmr
from skxlmr import CheckpointError, XLMRobertaClassifier, XLMRobertaVectorizer
from skxlmr.checkpoints import read_model, write_folder
from skxlmr.checkpoints._opened import converted
from tests.tiny import write_checkpoint

pytestmark = pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="needs files in memory, which Linux has")

TEXTS = ["das kleine Haus", "the river", "σπίτι", "дом"]
WORDS = "roberta.embeddings.word_embeddings.weight"
MB = 2**20


@pytest.fixture(scope="module")
def halved(tmp_path_factory, tiny_tokenizer):
    """A checkpoint in half precision: 6 MB, 13 MB in float32."""
    folder = write_checkpoint(tmp_path_factory.mktemp("half") / "checkpoint", tiny_tokenizer, vocab_size=100_000)
    stored = read_model(folder)
    write_folder(folder, config=stored.raw, tensors=stored.tensors(), tokenizer=tiny_tokenizer, dtype="float16")
    return folder


@pytest.fixture(autouse=True)
def nothing_left():
    gc.collect()
    assert not converted._in_use
    yield
    gc.collect()
    assert not converted._in_use
    assert "skxlmr weights" not in Path("/proc/self/maps").read_text()
    assert not [fd for fd in Path("/proc/self/fd").iterdir() if "skxlmr weights" in target(fd)]


def target(fd):
    try:
        return os.readlink(fd)
    except OSError:
        return ""


def vectorizer(checkpoint, **params):
    return XLMRobertaVectorizer(checkpoint, memory=None, device="cpu", **params).fit(TEXTS)


def use(estimator):
    """Read all weights, so that every page is there."""
    return sum(float(weight.detach().sum()) for weight in estimator.module_.parameters())


def private_bytes():
    """What the process would give back if it ended; what several mappings share counts once."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()[1:]
    return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


@pytest.mark.parametrize("dtype", ["auto", "bfloat16"])
def test_clones_share_one_copy(halved, dtype):
    first = vectorizer(halved, dtype=dtype)
    use(first)
    before = private_bytes()
    others = [clone(first).fit(TEXTS) for _ in range(4)]
    assert [use(other) for other in others] == [use(first)] * 4
    assert private_bytes() - before < 8 * MB  # a copy of their own would take 6 or 13 MB each
    assert len(converted._in_use) == 1
    expected = read_model(halved).tensors()[WORDS].to(getattr(torch, {"auto": "float32"}.get(dtype, dtype)))
    assert torch.equal(first.module_.state_dict()[WORDS], expected)


def test_types_have_copies_of_their_own(halved):
    one, two = vectorizer(halved), vectorizer(halved, dtype="bfloat16")
    assert len(converted._in_use) == 2
    assert {next(each.module_.parameters()).dtype for each in (one, two)} == {torch.float32, torch.bfloat16}


def test_float32_files_in_bfloat16_have_one_too(halved, tiny_tokenizer, tmp_path):
    folder = write_checkpoint(tmp_path / "whole", tiny_tokenizer, vocab_size=100_000)
    plain = vectorizer(folder)
    assert not converted._in_use  # mapped as they are
    used = [vectorizer(folder, dtype="bfloat16") for _ in range(2)]
    assert len(converted._in_use) == 1
    for each in used:
        for name, weight in each.module_.state_dict().items():
            assert torch.equal(weight, plain.module_.state_dict()[name].to(torch.bfloat16)), name


def test_transposed_files_have_one_too(tmp_path, halved):
    pytest.importorskip("msgpack", reason="needs the extra flax")
    skxlmr.convert(halved, tmp_path / "flax", "msgpack", dtype="float32")
    used = [vectorizer(tmp_path / "flax") for _ in range(2)]
    assert np.array_equal(*(each.transform(TEXTS) for each in used))
    for name, weight in used[0].module_.state_dict().items():
        assert weight.is_contiguous()
        assert torch.equal(weight, read_model(halved).tensors()[name].float()), name


def test_what_one_writes_no_other_sees(halved):
    one, two = vectorizer(halved), vectorizer(halved)
    kept = {name: weight.clone() for name, weight in two.module_.state_dict().items()}
    with torch.no_grad():
        for weight in one.module_.parameters():
            weight.add_(1)
    trained = XLMRobertaClassifier(halved, max_epochs=2, device="cpu", learning_rate=0.1).fit(TEXTS, list("abab"))
    assert len(converted._in_use) == 1
    assert not torch.equal(trained.module_.state_dict()[WORDS], kept[WORDS])
    for name, weight in two.module_.state_dict().items():
        assert torch.equal(weight, kept[name]), name
    for name, weight in vectorizer(halved).module_.state_dict().items():
        assert torch.equal(weight, kept[name]), name


def test_a_fit_copies_what_it_trains(halved):
    first = vectorizer(halved)
    use(first)
    before = private_bytes()
    trained = XLMRobertaClassifier(halved, n_frozen_layers=1, max_epochs=1, device="cpu").fit(TEXTS, list("abab"))
    use(trained)
    assert private_bytes() - before < 8 * MB


def test_replaced_files_are_converted_anew(halved, tiny_tokenizer, tmp_path):
    folder = shutil.copytree(halved, tmp_path / "checkpoint")
    first = vectorizer(folder)
    write_checkpoint(tmp_path / "other", tiny_tokenizer, seed=1, vocab_size=100_000)
    stored = read_model(tmp_path / "other")
    write_folder(tmp_path / "half", config=stored.raw, tensors=stored.tensors(), dtype="float16")
    times = (folder / "model.safetensors").stat()
    with open(folder / "model.safetensors", "r+b") as opened:  # in place, with the same size and time
        opened.write((tmp_path / "half" / "model.safetensors").read_bytes())
    os.utime(folder / "model.safetensors", ns=(times.st_atime_ns, times.st_mtime_ns))
    again = vectorizer(folder)
    assert not np.array_equal(again.transform(TEXTS), first.transform(TEXTS))
    assert torch.equal(again.module_.state_dict()[WORDS], stored.tensors()[WORDS].half().float())


def test_unpickled_and_loaded_estimators_share_it(halved, tmp_path):
    import pickle

    first = vectorizer(halved)
    again = pickle.loads(pickle.dumps(first))
    assert len(converted._in_use) == 1
    assert np.array_equal(again.transform(TEXTS), first.transform(TEXTS))
    trained = XLMRobertaClassifier(halved, n_frozen_layers=1, max_epochs=1, device="cpu").fit(TEXTS, list("abab"))
    loaded = pickle.loads(pickle.dumps(trained))
    assert np.array_equal(loaded.predict_proba(TEXTS), trained.predict_proba(TEXTS))


def test_weights_that_are_not_finite_are_named_each_time(halved, tmp_path):
    folder = shutil.copytree(halved, tmp_path / "checkpoint")
    stored = read_model(folder)
    tensors = {name: tensor.clone() for name, tensor in stored.tensors().items()}
    tensors[WORDS][7, 3] = torch.inf
    write_folder(folder, config=stored.raw, tensors=tensors, tokenizer=stored.tokenizer())
    for _ in range(2):
        with pytest.raises(CheckpointError, match=f"NaN or infinite, in {WORDS}"):
            vectorizer(folder)


def test_it_goes_with_its_last_user(halved):
    used = [vectorizer(halved) for _ in range(2)]
    (copy,) = map(weakref.ref, converted._in_use.values())
    del used[0]
    gc.collect()
    assert copy() is not None
    weight = used.pop().module_.state_dict()[WORDS]
    gc.collect()
    assert copy() is not None  # a tensor of it is left
    del weight
    gc.collect()
    assert copy() is None


def test_without_files_in_memory_each_has_a_copy(halved, monkeypatch):
    shared = vectorizer(halved)
    monkeypatch.delattr(os, "memfd_create")
    own = vectorizer(halved)
    assert np.array_equal(own.transform(TEXTS), shared.transform(TEXTS))


def test_sizes_that_do_not_fill_a_line_of_memory():
    """Tensors of odd sizes lie one after another, none over the next."""
    generator = torch.Generator().manual_seed(0)
    sizes = [(3,), (5, 7), (1023, 701), (11,), (601, 999), (1,)]
    tensors = {str(i): torch.randn(size, generator=generator) for i, size in enumerate(sizes)}
    tensors["transposed"] = torch.randn(401, 333, generator=generator).T
    found = converted.converted(tensors, torch.float64, files="odd")
    assert found.keys() == tensors.keys() and converted._in_use
    for name, tensor in tensors.items():
        assert torch.equal(found[name], tensor.double()), name


def test_half_precision_is_that_of_the_float32_weights():
    """A float64 number just above the middle of two of bfloat16 is that middle in float32, which rounds to the even one."""
    large = torch.full((1000, 1000), 1 + 2**-8 + 2**-40, dtype=torch.float64)
    for tensor, files in ((large, "large"), (large[:2, :2], "small")):
        found = converted.converted({"a": tensor}, torch.bfloat16, files)["a"]
        assert torch.equal(found, torch.ones_like(found))
        assert torch.equal(found, tensor.float().bfloat16())
        del found
