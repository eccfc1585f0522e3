"""A checkpoint of each kind of vocabulary and family, two layers, 32 wide."""

import json
from functools import cache

import tokenizers
from tokenizers import models, pre_tokenizers, trainers

from skxlmr.text import FastTokenizer, SentencePieceTokenizer, TokenizerSettings, load_tokenizer
from skxlmr.text._special_tokens import DEFAULT_ROLES
from tests.tiny import sentences, train, write_checkpoint, write_xlm_checkpoint, xlm_tokenizer
from tests.tiny_wordpiece import write_files

XLMR = ("xlm-roberta", "with tokenizer.json", "tokenizer.json alone", "further tokens", "xlm-roberta-xl", "minilm")
BERT = ("bert", "bert with tokenizer.json", "distilbert")
ROBERTA = ("roberta", "roberta with tokenizer.json")
KINDS = (*XLMR, *BERT, *ROBERTA, "xlm")
LIMIT = 64
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]


def sentencepiece(**options):
    return SentencePieceTokenizer(train(vocab_size=300), model_max_length=LIMIT, **options)


@cache
def byte_pairs():
    """The vocabulary and the merges of RoBERTa's kind."""
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe = tokenizers.Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.train_from_iterator(sentences(), trainer)
    return bpe


def write(kind, folder):
    """Write the checkpoint; returns its folder."""
    if kind == "xlm":
        return write_xlm_checkpoint(
            folder, xlm_tokenizer(model_max_length=LIMIT, lang2id={"de": 0, "en": 1, "ru": 2}), n_langs=3
        )
    if kind in BERT:
        model_type = kind.partition(" ")[0]
        scratch = folder.parent / "vocabulary"
        scratch.mkdir()
        files = ["vocab.txt", "tokenizer.json"] if "json" in kind else ["vocab.txt"]
        write_files(scratch, files, model_type=model_type, model_max_length=LIMIT)
        write_checkpoint(folder, load_tokenizer(scratch), model_type=model_type, type_vocab_size=2, pad_token_id=0)
        (folder / "tokenizer.json").unlink()
        for name in (*files, "tokenizer_config.json"):
            (folder / name).write_bytes((scratch / name).read_bytes())
        return folder
    if kind in ROBERTA:
        folder.mkdir()
        byte_pairs().model.save(str(folder))
        tokenizer = FastTokenizer.from_vocab(folder / "vocab.json", folder / "merges.txt")
        files = {name: (folder / name).read_bytes() for name in ("vocab.json", "merges.txt")}
        write_checkpoint(folder.parent / "written", tokenizer, model_type="roberta")
        for name in ("config.json", "model.safetensors", *(["tokenizer.json"] if "json" in kind else [])):
            (folder / name).write_bytes((folder.parent / "written" / name).read_bytes())
        options = {"tokenizer_class": "RobertaTokenizer", "model_max_length": LIMIT}
        (folder / "tokenizer_config.json").write_text(json.dumps(options))
        return folder
    if kind == "minilm":
        return write_checkpoint(folder, sentencepiece(), model_type="bert", type_vocab_size=2)
    if kind == "xlm-roberta-xl":
        write_checkpoint(folder, sentencepiece(), model_type=kind)
        sentencepiece().save_conversion(folder)
        return folder
    tokenizer = sentencepiece()
    if kind == "further tokens":
        tokenizer = tokenizer.with_tokens(["[USER]"]).with_tokens(["BRD", "DDR"], special=False)
    write_checkpoint(folder, tokenizer)
    if "json" in kind:
        tokenizer.save_conversion(folder)
    if kind == "tokenizer.json alone":
        (folder / "sentencepiece.bpe.model").unlink()
    return folder


def tokenizer_of(vocab, kind, merges=()):
    """One whose words are the text between spaces."""
    model = {"type": kind, "vocab": vocab, "unk_token": "<unk>"}
    if kind == "WordPiece":
        model |= {"continuing_subword_prefix": "##", "max_input_chars_per_word": 7}
    else:
        model |= {"merges": [list(pair) for pair in merges]}
    added = [{"id": vocab[token], "content": token, "special": True} for token in SPECIAL]
    ends = {
        "cls": ["<s>", vocab["<s>"]],
        "sep": ["</s>", vocab["</s>"]],
        "trim_offsets": True,
        "add_prefix_space": False,
    }
    content = {
        "added_tokens": added,
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "post_processor": {"type": "RobertaProcessing", **ends},
        "model": model,
    }
    return FastTokenizer(content, settings=TokenizerSettings(roles=DEFAULT_ROLES))
