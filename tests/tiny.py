"""Made in a second from sentences of our own: a SentencePiece model laid out like XLM-R's, and a checkpoint around it."""

import io
import random
import unicodedata
from collections import Counter
from copy import copy
from functools import cache
from itertools import pairwise
from pathlib import Path

import sentencepiece
import torch

from skxlmr.checkpoints import write_folder
from skxlmr.nn import FAMILIES, XLMConfig, XLMForMaskedLM
from skxlmr.nn.xlm_roberta import init_weights
from skxlmr.text import SentencePieceTokenizer, XLMTokenizer

WORDS = {
    "en": "the a small old red house river bird walks sings over under and slowly today tomorrow children city",
    "de": "das ein kleines altes rotes Haus Fluss Vogel läuft singt über unter und langsam heute morgen Kinder",
    "ru": "дом река птица идёт поёт над под и медленно сегодня завтра дети город старый красный маленький",
    "el": "σπίτι ποτάμι πουλί τραγουδά πάνω κάτω και αργά σήμερα αύριο παιδιά πόλη παλιό κόκκινο μικρό",
}
PUNCTUATION = [".", "!", "?", ",", ";", " <", ">", "/", "-", "(", ")"]


def sentences(n: int = 600, seed: int = 0) -> list[str]:
    rng = random.Random(seed)
    languages = sorted(WORDS)
    made = []
    for i in range(n):
        words = rng.choices(WORDS[languages[i % len(languages)]].split(), k=rng.randint(3, 12))
        made.append(" ".join(words).capitalize() + rng.choice(PUNCTUATION) + str(i % 97))
    return made


@cache
def train(**options) -> bytes:
    model = io.BytesIO()
    layout = {
        "model_type": "unigram",
        "vocab_size": 400,
        "hard_vocab_limit": False,
        "character_coverage": 1.0,
        "unk_id": 0,
        "bos_id": 1,
        "eos_id": 2,
        "pad_id": -1,
    }
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences()),
        model_writer=model,
        num_threads=1,
        minloglevel=2,
        **(layout | options),
    )
    return model.getvalue()


def write_checkpoint(folder: Path, tokenizer: SentencePieceTokenizer, seed: int = 0, **config) -> Path:
    """Write a checkpoint with random weights, none of them at its neutral value, a pooler and a language modelling head.

    It is of XLM-R, or of the family of ``model_type``.
    """
    geometry = {
        "vocab_size": tokenizer.vocab_size,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "max_position_embeddings": 66,
        "initializer_range": 0.2,  # of a new head: at this width the usual 0.02 would learn for long before it tells
    }
    family = FAMILIES[config.get("model_type", "xlm-roberta")]
    model_config = family.config(**{**geometry, **config})
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng():
        module = family.modules["ForMaskedLM"](model_config)
        if "pooler" in family.encoder.part_names:
            module.add_module(module.backbone_name, family.encoder(model_config, add_pooler=True))
    init_weights(module, 0.1, generator)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.1)
    architecture = {"architectures": [module.architecture()]}
    write_folder(
        folder, config={**model_config.to_dict(), **architecture}, tensors=module.state_dict(), tokenizer=tokenizer
    )
    return folder


def xlm_tokenizer(n_merges: int = 150, **options) -> XLMTokenizer:
    """A tokenizer of the original XLM: the most frequent pairs of the sentences merged one after another."""
    return XLMTokenizer(*map(copy, learn_merges(n_merges)), **options)


@cache
def learn_merges(n_merges: int) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """The vocabulary and the merges."""
    plain = unicodedata.normalize("NFD", " ".join(sentences()).lower())
    text = "".join(character for character in plain if unicodedata.category(character) != "Mn")
    words = {(*word[:-1], f"{word[-1]}</w>"): count for word, count in Counter(text.split()).items()}
    pieces, merges = [piece for c in sorted(set(text) - {" "}) for piece in (c, f"{c}</w>")], []
    for _ in range(n_merges):
        pairs: Counter[tuple[str, str]] = Counter()
        for symbols, count in words.items():
            for pair in pairwise(symbols):
                pairs[pair] += count
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        merges.append(best)
        pieces.append("".join(best))
        words = {_merged(symbols, best): count for symbols, count in words.items()}
    special = ["<s>", "</s>", "<pad>", "<unk>", *(f"<special{i}>" for i in range(10))]
    return {piece: i for i, piece in enumerate([*special, *dict.fromkeys(pieces)])}, merges


def _merged(symbols: tuple[str, ...], pair: tuple[str, str]) -> tuple[str, ...]:
    done: list[str] = []
    for symbol in symbols:
        if done and (done[-1], symbol) == pair:
            done[-1] += symbol
        else:
            done.append(symbol)
    return tuple(done)


def write_xlm_checkpoint(folder: Path, tokenizer: XLMTokenizer, seed: int = 0, **config) -> Path:
    """Write a checkpoint of the original XLM with a language modelling head; weights are random, none at its neutral value."""
    geometry = {
        "vocab_size": tokenizer.vocab_size,
        "emb_dim": 32,
        "n_layers": 2,
        "n_heads": 2,
        "max_position_embeddings": 64,
        "init_std": 0.2,
        "lang2id": tokenizer.lang2id,
    }
    xlm_config = XLMConfig(**{**geometry, **config})
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng():
        module = XLMForMaskedLM(xlm_config)
    init_weights(module, 0.1, generator)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.1)
    architecture = {"architectures": ["XLMWithLMHeadModel"]}
    write_folder(
        folder, config={**xlm_config.to_dict(), **architecture}, tensors=module.state_dict(), tokenizer=tokenizer
    )
    return folder
