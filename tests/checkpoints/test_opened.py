"""Opening a checkpoint again: what is shared, and that nothing stale is."""

import gc
import inspect
import os
import shutil
import weakref
from functools import partial

import pytest
import torch
from sklearn.base import clone
from torch import nn

from skxlmr import CheckpointError, XLMRobertaClassifier, XLMRobertaDialogueLM, XLMRobertaVectorizer
from skxlmr.checkpoints import forget_opened, read_model, skeleton
from skxlmr.checkpoints._opened import tokenizers
from skxlmr.nn import FAMILIES
from skxlmr.text import SentencePieceTokenizer
from tests import adapters
from tests.tiny import train

MODEL = "sentencepiece.bpe.model"
TEXT = ["das kleine Haus"]


@pytest.fixture(autouse=True)
def settled(monkeypatch):
    """Files that tests have just written count as old."""
    monkeypatch.setattr(tokenizers, "SETTLED", 0)
    forget_opened()
    yield
    forget_opened()


@pytest.fixture
def loads(monkeypatch):
    """The folders whose tokenizers were really loaded."""
    folders, load = [], tokenizers.load_tokenizer
    monkeypatch.setattr(
        tokenizers, "load_tokenizer", lambda folder, *args: folders.append(folder) or load(folder, *args)
    )
    return folders


@pytest.fixture
def checkpoint(tmp_path, tiny_checkpoint):
    return shutil.copytree(tiny_checkpoint, tmp_path / "checkpoint")


@pytest.fixture(scope="module")
def other_model():
    """Another vocabulary of the same size."""
    return train(vocab_size=300, character_coverage=0.98)


def test_candidates_of_a_search_load_one_tokenizer(checkpoint, loads):
    first = XLMRobertaVectorizer(checkpoint)
    for _ in range(3):
        clone(first).fit(TEXT)  # and gone before the next one opens
    XLMRobertaClassifier(os.path.relpath(checkpoint)).fit(TEXT * 2, [0, 1])
    XLMRobertaDialogueLM(checkpoint).fit([[("user", "ja"), ("system", "nein")]])  # has further tokens
    assert len(loads) == 1


def test_tokenizers_share_the_vocabulary_and_no_settings(checkpoint):
    one, two = (read_model(checkpoint).tokenizer() for _ in range(2))
    assert one is not two
    assert one == two
    assert one._processor is two._processor
    assert one._piece_lengths is two._piece_lengths  # made at its first use
    one.model_max_length = 7
    assert two.model_max_length == read_model(checkpoint).tokenizer().model_max_length == 64


def test_languages_share_a_vocabulary(tiny_xlm_languages, loads):
    one, two = (read_model(tiny_xlm_languages).tokenizer().for_language(language) for language in ("de", "en"))
    assert (one.language, two.language, read_model(tiny_xlm_languages).tokenizer().language) == ("de", "en", "en")
    assert one._vocab is two._vocab
    assert len(loads) == 1


def test_an_adapter_has_its_base_models_tokenizer(checkpoint, tmp_path, loads):
    for name in "ab":
        read_model(adapters.write(tmp_path / name, checkpoint)).tokenizer()
    assert len(loads) == 1


def rewrite(checkpoint, content):
    """In place, with the same size and the same modification time."""
    file = checkpoint / MODEL
    before = file.stat()
    assert len(content) == before.st_size
    with open(file, "r+b") as opened:
        opened.write(content)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def rename_over(checkpoint, content):
    (checkpoint / "new").write_bytes(content)
    (checkpoint / "new").rename(checkpoint / MODEL)


def swap(checkpoint, content):
    fresh = shutil.copytree(checkpoint, checkpoint.with_name("fresh"))
    (fresh / MODEL).write_bytes(content)
    checkpoint.rename(checkpoint.with_name("old"))
    fresh.rename(checkpoint)


def link(checkpoint, content):
    (checkpoint.parent / "elsewhere").write_bytes(content)
    (checkpoint / MODEL).unlink()
    (checkpoint / MODEL).symlink_to(checkpoint.parent / "elsewhere")


@pytest.mark.parametrize("replace", [rewrite, rename_over, swap, link])
def test_a_replaced_tokenizer_is_read(checkpoint, other_model, replace):
    content = (checkpoint / MODEL).read_bytes()
    other = SentencePieceTokenizer(other_model)
    if replace is rewrite:  # the vocabulary itself, with two of its pieces spelt otherwise
        changed = content.replace("▁das".encode(), "▁dXs".encode())
        assert changed != content
        other = SentencePieceTokenizer(changed)
    before = XLMRobertaVectorizer(checkpoint).fit(TEXT)
    old = before.tokenizer_.encode_batch(TEXT).ids.tolist()
    replace(checkpoint, other._model_proto)
    again = XLMRobertaVectorizer(checkpoint).fit(TEXT).tokenizer_.encode_batch(TEXT).ids.tolist()
    assert again == other.encode_batch(TEXT).ids.tolist() != old
    assert before.tokenizer_.encode_batch(TEXT).ids.tolist() == old


def test_files_that_are_added_removed_or_spoilt_are_seen(checkpoint):
    file = checkpoint / "tokenizer_config.json"
    assert read_model(checkpoint).tokenizer().model_max_length == 64
    file.write_text(file.read_text().replace("64", "32"))
    assert read_model(checkpoint).tokenizer().model_max_length == 32
    (checkpoint / "added_tokens.json").write_text('{"<new>": 302}')
    assert read_model(checkpoint).tokenizer().vocab_size == 303
    (checkpoint / "added_tokens.json").unlink()
    assert read_model(checkpoint).tokenizer().vocab_size == 302
    os.truncate(checkpoint / MODEL, 100)
    with pytest.raises(CheckpointError, match=r"sentencepiece\.bpe\.model: expected a SentencePiece model"):
        XLMRobertaVectorizer(checkpoint).fit(TEXT)
    (checkpoint / MODEL).unlink()
    with pytest.raises(CheckpointError, match="expected a tokenizer file"):
        XLMRobertaVectorizer(checkpoint).fit(TEXT)


def test_what_is_replaced_while_it_is_read_is_not_kept(checkpoint, other_model, monkeypatch):
    """The folder may come back as it was, with the identity it had."""
    load = tokenizers.load_tokenizer
    swap(checkpoint, other_model)
    first, old = checkpoint.with_name("old"), checkpoint.with_name("first")
    stored = read_model(checkpoint)

    def while_it_is_replaced(folder, *args):
        checkpoint.rename(old)
        first.rename(checkpoint)
        return load(folder, *args)

    monkeypatch.setattr(tokenizers, "load_tokenizer", while_it_is_replaced)
    stored.tokenizer()
    monkeypatch.setattr(tokenizers, "load_tokenizer", load)
    checkpoint.rename(first)
    old.rename(checkpoint)
    assert read_model(checkpoint).identity == stored.identity
    assert read_model(checkpoint).tokenizer() == SentencePieceTokenizer(other_model, model_max_length=64)


def test_files_that_have_just_changed_are_read_again(checkpoint, monkeypatch, loads):
    """Within a tick of the file system's clock they may change again and look the same."""
    monkeypatch.setattr(tokenizers, "SETTLED", 10**15)
    for _ in range(2):
        read_model(checkpoint).tokenizer()
    assert len(loads) == 2


def test_few_are_kept_and_those_in_use_are_found(checkpoint, tmp_path, loads):
    folders = [shutil.copytree(checkpoint, tmp_path / name) for name in "abc"]
    used = XLMRobertaVectorizer(folders[0]).fit(TEXT)
    cores = [weakref.ref(read_model(folder).tokenizer()._core) for folder in folders]
    assert len(tokenizers._kept) == tokenizers.N_KEPT == 2
    clone(used).fit(TEXT)
    assert len(loads) == 3
    del used
    forget_opened()
    gc.collect()
    assert [core() for core in cores] == [None] * 3


def test_odd_files_are_warned_of_each_time(checkpoint, monkeypatch):
    load = tokenizers.load_tokenizer

    def with_remark(*args):
        tokenizer = load(*args)
        tokenizer._remark = "odd"
        return tokenizer

    monkeypatch.setattr(tokenizers, "load_tokenizer", with_remark)
    read_model(checkpoint).tokenizer()
    with pytest.warns(UserWarning, match="odd"):
        read_model(checkpoint).tokenizer()


# Modules without weights --------------------------------------------------------------------------------------------------

GEOMETRY = {"num_hidden_layers": 2, "hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 8, "vocab_size": 9}
XLM_GEOMETRY = {"n_layers": 2, "emb_dim": 8, "n_heads": 2, "vocab_size": 9}


def parts_of(module):
    """Everything that a module refers to and could change."""
    for part in module.modules():
        yield part
        yield from part.parameters(recurse=False)
        yield from part.buffers(recurse=False)
        for value in vars(part).values():
            if isinstance(value, dict | list | set):
                yield value
            assert not isinstance(value, nn.Module | torch.Tensor)  # they are registered


@pytest.mark.parametrize("name", FAMILIES)
def test_modules_without_weights_share_nothing(name):
    family = FAMILIES[name]
    geometry = XLM_GEOMETRY if name == "xlm" else GEOMETRY
    for task, kind in family.modules.items():
        config = family.config(model_type=name, **geometry, **({"is_decoder": True} if task == "ForCausalLM" else {}))
        n_outputs = [2] if "n_outputs" in inspect.signature(kind).parameters else []
        one, two, plain = (make(*n_outputs) for make in [partial(skeleton, kind, config)] * 2 + [partial(kind, config)])
        assert repr(one) == repr(two) == repr(plain), task
        assert list(one.state_dict()) == list(two.state_dict()) == list(plain.state_dict())
        assert not {id(part) for part in parts_of(one)} & {id(part) for part in parts_of(two)}
        assert all(weight.is_meta for weight in one.parameters())
        assert len(list(one.parameters())) == len(list(two.parameters())) == len(list(plain.parameters()))
