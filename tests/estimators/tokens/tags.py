"""English rows in which each run of German words is an entity, as words with tags and as texts with spans."""

import random

import numpy as np

from tests.tiny import WORDS

ENGLISH, GERMAN = (WORDS[language].split() for language in ("en", "de"))
LEARNS = {"max_epochs": 8, "batch_size": 8, "learning_rate": 5e-3}


def rows_and_tags(n, seed=0):
    """English rows in which each run of German words is an entity."""
    rng = random.Random(seed)
    X, y = [], []
    for _ in range(n):
        words, tags = [], []
        for _ in range(rng.randint(1, 3)):
            english = rng.choices(ENGLISH, k=rng.randint(1, 3))
            german = rng.choices(GERMAN, k=rng.randint(1, 2))
            words += english + german
            tags += ["O"] * len(english) + [f"{'BI'[i > 0]}-DE" for i in range(len(german))]
        X.append(words)
        y.append(tags)
    return X, y


def as_texts(X, y):
    """The same as texts with spans."""
    texts, spans = [], []
    for words, tags in zip(X, y, strict=True):
        starts = np.cumsum([0, *(len(word) + 1 for word in words)])
        found = []
        for i, tag in enumerate(tags):
            if tag[0] == "B" or (tag[0] == "I" and (i == 0 or tags[i - 1] == "O")):
                found.append([starts[i], starts[i] + len(words[i]), "DE"])
            elif tag[0] == "I":
                found[-1][1] = starts[i] + len(words[i])
        texts.append(" ".join(words))
        spans.append([(int(start), int(end), label) for start, end, label in found])
    return texts, spans


X, Y = rows_and_tags(24)
LONG = (ENGLISH + GERMAN) * 4


def rows_equal(found, expected, tolerance=0.0):
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance)
