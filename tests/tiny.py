"""Made in a second from sentences of our own: a SentencePiece model laid out like XLM-R's, and a checkpoint around it."""

import io
import random
from pathlib import Path

import sentencepiece
import torch

from skxlmr.checkpoints import write_folder
from skxlmr.nn import ModelConfig, XLMRobertaEncoder, XLMRobertaForMaskedLM
from skxlmr.nn.xlm_roberta import init_weights
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


def write_checkpoint(folder: Path, tokenizer: SentencePieceTokenizer, seed: int = 0, **config) -> Path:
    """Write a checkpoint with random weights, none of them at its neutral value, a pooler and a language modelling head."""
    geometry = {
        "vocab_size": tokenizer.vocab_size,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "max_position_embeddings": 66,
        "initializer_range": 0.2,  # of a new head: at this width the usual 0.02 would learn for long before it tells
    }
    model_config = ModelConfig(**{**geometry, **config})
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng():
        module = XLMRobertaForMaskedLM(model_config)
        module.roberta = XLMRobertaEncoder(model_config, add_pooler=True)
    init_weights(module, 0.1, generator)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.1)
    architecture = {"architectures": ["XLMRobertaForMaskedLM"]}
    write_folder(
        folder, config={**model_config.to_dict(), **architecture}, tensors=module.state_dict(), tokenizer=tokenizer
    )
    return folder
