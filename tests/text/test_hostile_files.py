"""Damaged tokenizer files, read in a separate process, so that a crash or a hang fails a test."""

import importlib.util
import json

import pytest
import tokenizers
from tokenizers import models, pre_tokenizers, processors, trainers

from tests import processes
from tests.text import mutants
from tests.tiny import sentences
from tests.tiny_wordpiece import write_files


@pytest.fixture
def folder(request, tiny_proto, tmp_path):
    """A folder with a tokenizer, and the name of the file to damage."""
    name, model_type = request.param
    if name == "sentencepiece.bpe.model":
        (tmp_path / name).write_bytes(tiny_proto)
        return tmp_path, name
    if model_type == "bert":
        return write_files(tmp_path, [name], lowercase=True), name
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    if model_type == "xlm-roberta":
        tokenizer = tokenizers.Tokenizer(models.Unigram())
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        trainer = trainers.UnigramTrainer(
            vocab_size=300, special_tokens=special, unk_token="<unk>", show_progress=False
        )
    else:
        tokenizer = tokenizers.Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(sentences(), trainer)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    if name == "tokenizer.json":
        tokenizer.save(str(tmp_path / name))
    else:
        tokenizer.model.save(str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    return tmp_path, name


def run(folder, name, n):
    done = processes.run(mutants.main, folder, name, n, 0, timeout=60 + 20 * n)
    assert done.exit_code == 0, done.stderr[-3000:]
    counts = json.loads(done.stdout)
    assert sum(counts.values()) == n
    return counts


CASES = [
    ("sentencepiece.bpe.model", None),
    ("tokenizer.json", "xlm-roberta"),
    ("tokenizer.json", "roberta"),
    ("tokenizer.json", "bert"),
    ("vocab.txt", "bert"),
    ("vocab.json", "roberta"),
    ("merges.txt", "roberta"),
    ("vocab.json", "xlm"),
    ("merges.txt", "xlm"),
]


def needs_sacremoses(folder):
    config = folder / "config.json"
    if config.exists() and '"xlm"' in config.read_text() and importlib.util.find_spec("sacremoses") is None:
        pytest.skip("the original XLM needs the extra xlm")


@pytest.mark.parametrize("folder", CASES, indirect=True)
def test_damaged_files(folder):
    needs_sacremoses(folder[0])
    counts = run(*folder, 15)
    assert counts["refused"] + counts["working"] == 15


@pytest.mark.slow
@pytest.mark.parametrize("folder", CASES, indirect=True)
def test_many_damaged_files(folder):
    needs_sacremoses(folder[0])
    print(folder[1], run(*folder, 2002 // len(CASES)))
