"""Encoded rows of random ids, without a tokenizer."""

from types import SimpleNamespace

import numpy as np
import torch

from skxlmr.text import EncodedBatch

BOS, PAD, EOS, UNK, MASK, VOCAB_SIZE = 0, 1, 2, 3, 99, 100
TOKENIZER = SimpleNamespace(vocab_size=VOCAB_SIZE, mask_token_id=MASK, all_special_ids=[BOS, PAD, EOS, UNK, MASK])


def random_rows(lengths, seed=0, n_ids=95):
    """Rows ``<s> ids </s>`` of these lengths over ids 4 ... n_ids + 3; a length of 0 makes an empty row."""
    rng = np.random.default_rng(seed)
    rows = [rng.integers(4, 4 + n_ids, length, dtype=np.int32) for length in lengths]
    for row in rows:
        row[:1], row[-1:] = BOS, EOS
    return EncodedBatch(np.concatenate(rows), np.array(lengths, np.int64), np.zeros(len(rows), np.int64))


def padded(rows):
    """The rows as a padded rectangle of ids and its mask, for the reference."""
    width = max(map(len, rows))
    ids = torch.full((len(rows), width), PAD)
    for place, row in enumerate(rows):
        ids[place, : len(row)] = torch.from_numpy(np.asarray(row, np.int64))
    return ids, (ids != PAD).long()
