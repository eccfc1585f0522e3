"""Texts of a corpus and others, and how two tokenizers read them."""

import numpy as np

from tests.tiny import sentences

# two of the four languages, characters that no vocabulary has, special tokens spelled out, an added token
ODD = [
    "",
    " ",
    "漢字 zzqzz",
    "the bird ﬁnds ①",
    "ein <mask> Haus</s>",
    "[MASK] [UNK] [USER]",
    "BRD und DDR",
    "σπίτι<mask>ποτάμι",
    "\ud800 e\u0301",
]
CORPUS = {"de": [*sentences(48)[::4], *ODD], "en": [*sentences(48)[2::4], *ODD[::-1]]}
TEXTS = [text for texts in CORPUS.values() for text in texts]
OTHERS = sentences(40, seed=9)


def rows(tokenizer, texts, **options):
    encoded = tokenizer.encode_batch(texts, **options)
    return [encoded.row(i).tolist() for i in range(len(encoded))]


def back(found, old_ids):
    """Rows of new ids as old ones."""
    return [np.asarray(old_ids)[row].tolist() for row in found]
