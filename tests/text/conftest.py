"""A tiny SentencePiece model, trained in a second on sentences of our own, laid out like XLM-R's."""

import io
import random

import pytest
import sentencepiece

from skxlmr.text import SentencePieceTokenizer

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


def train(**options) -> bytes:
    model = io.BytesIO()
    layout = {
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
        model_type="unigram",
        num_threads=1,
        minloglevel=2,
        **(layout | options),
    )
    return model.getvalue()


@pytest.fixture(scope="session")
def tiny_proto():
    return train()


@pytest.fixture(scope="session")
def tiny(tiny_proto):
    return SentencePieceTokenizer(tiny_proto)
