"""WordPiece vocabularies and the files around them, as BERT's checkpoints lay them out."""

import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from tests.tiny import sentences

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


@cache
def tiny_vocabulary(lowercase: bool = False) -> tuple[str, ...]:
    """Tokens of a vocabulary of about 500, from sentences of our own and characters of many scripts."""
    scripts = "漢字中文ひらカナ한글กขعربיתΩλ éßæçıİ¿¡#$%&*…—"
    return vocabulary([*sentences(), *([scripts] * 3)], 500, lowercase)


def vocabulary(texts: Iterable[str], size: int, lowercase: bool) -> tuple[str, ...]:
    """Train a vocabulary; returns its tokens by their ids."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=size, special_tokens=SPECIAL, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    vocab = tokenizer.get_vocab()
    return tuple(sorted(vocab, key=vocab.__getitem__))


def tokenizer_json(tokens: Iterable[str], lowercase: bool) -> dict[str, Any]:
    """Content of the ``tokenizer.json`` that the `tokenizers` package writes for these tokens."""
    vocab = {token: i for i, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", vocab["[SEP]"]), ("[CLS]", vocab["[CLS]"]))
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.add_special_tokens(SPECIAL)
    return json.loads(tokenizer.to_str())


def write_files(
    folder: Path,
    files: Iterable[str] = ("vocab.txt", "tokenizer.json"),
    *,
    lowercase: bool = False,
    model_type: str | None = "bert",
    tokenizer_class: str | None = "BertTokenizer",
    tokens: Iterable[str] | None = None,
    **options: Any,
) -> Path:
    """Write the files of a checkpoint's tokenizer: those named, ``tokenizer_config.json`` and ``config.json``.

    Parameters
    ----------
    folder : path
        An existing folder.
    files : iterable of str
        ``"vocab.txt"``, ``"tokenizer.json"`` or both.
    lowercase : bool
        Whether texts are turned to lower case.
    model_type, tokenizer_class : str or None
        What the files say; None leaves it out.
    tokens : iterable of str, optional
        The vocabulary by its ids.
    **options
        Further entries of ``tokenizer_config.json``.
    """
    tokens = tuple(tiny_vocabulary(lowercase) if tokens is None else tokens)
    if "vocab.txt" in files:
        (folder / "vocab.txt").write_text("".join(f"{token}\n" for token in tokens), encoding="utf-8", newline="\n")
    if "tokenizer.json" in files:
        content = tokenizer_json(tokens, lowercase)
        (folder / "tokenizer.json").write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    config = {"do_lower_case": lowercase, "tokenizer_class": tokenizer_class, "model_max_length": 512} | options
    config = {key: value for key, value in config.items() if value is not None}
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    if model_type is not None:
        (folder / "config.json").write_text(json.dumps({"model_type": model_type}), encoding="utf-8")
    return folder
