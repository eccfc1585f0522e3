"""Contexts of random words with an answer to find in each."""

import numpy as np
import torch

from tests.tiny import WORDS

KEY = {"en": "river", "de": "Fluss", "ru": "река", "el": "ποτάμι"}


def draw_rows(n, seed=0, length=(4, 9)):
    """Contexts of random words. The answer is the word before a number; the question has a word of its language."""
    rng, X, y = np.random.default_rng(seed), [], []
    for i in range(n):
        language = sorted(WORDS)[i % 4]
        words = [str(word) for word in rng.choice(WORDS[language].split(), rng.integers(*length))]
        place = int(rng.integers(len(words)))
        start = len(" ".join(words[:place])) + bool(place)
        answer = words[place]
        words.insert(place + 1, "96")
        X.append({"question": f"96 {KEY[language]}?", "context": " ".join(words)})
        y.append({"text": answer, "answer_start": start})
    return X, y


def same_weights(found, expected):
    return all(torch.equal(found[name], expected[name]) for name in expected)
