"""Dialogues small enough to be learnt, and dialogues of random ids, which need no tokenizer."""

from types import SimpleNamespace

import numpy as np

from skxlmr.estimators._dialogues.task import DialogueTask
from skxlmr.text import EncodedBatch
from tests.batching.rows import BOS, EOS, TOKENIZER

WORDS = [
    "haus vogel fluss",
    "город дети птица",
    "red house river",
    "πουλί πόλη παιδιά",
    "under the city",
    "alte Haus morgen",
    "bird sings today",
    "дом река идёт",
]


def dialogue(i, n_turns=4):
    """The system repeats what the user spoke of."""
    word = WORDS[i % len(WORDS)]
    turns = []
    for turn in range(n_turns):
        if turn % 2:
            turns.append({"speaker": "system", "text": word})
        else:
            turns.append({"speaker": "user", "text": f"{word} und {turn}"})
    return turns


DIALOGUES = [dialogue(i) for i in range(8)]
CONTEXTS = [turns[:3] for turns in DIALOGUES]


# Random ids -----------------------------------------------------------------------------------------------------------

SYSTEM, USER = 97, 98
DIALOGUE_TOKENIZER = SimpleNamespace(**vars(TOKENIZER), cls_token_id=BOS, sep_token_id=EOS)


def random_turns(n_turns, seed=0, lengths=(2, 6), first=USER):
    """Turns of dialogues with so many turns each; speakers take turns."""
    rng = np.random.default_rng(seed)
    rows, row_of_turn = [], []
    for dialogue, n in enumerate(n_turns):
        for turn in range(n):
            ids = rng.integers(4, 90, rng.integers(*lengths)).astype(np.int32)
            ids[0] = first if turn % 2 == 0 else SYSTEM + USER - first
            rows.append(ids)
            row_of_turn.append(dialogue)
    lengths = np.array(list(map(len, rows)), np.int64)
    return EncodedBatch(np.concatenate(rows), lengths, 0 * lengths, row_of_window=np.array(row_of_turn))


def make_task(n_turns, seed=0, weights=None, max_length=40, **options):
    turns = random_turns(n_turns, seed)
    weights = np.ones(len(n_turns), np.float32) if weights is None else np.asarray(weights, np.float32)
    return DialogueTask(turns, DIALOGUE_TOKENIZER, (SYSTEM, USER), weights, max_length, **options)
