"""Dialogues of random ids, without a tokenizer."""

from types import SimpleNamespace

import numpy as np

from skxlmr.estimators._dialogues.task import DialogueTask
from skxlmr.text import EncodedBatch

from .rows import BOS, EOS, TOKENIZER

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
