"""Where texts are cut into what gets a value."""

import numpy as np
import pytest

from skxlmr.inspection._attributions.units import merged_words
from skxlmr.utils._words import cut_words


def merged(text, *tokens, words=None):
    parts, part = merged_words(text, cut_words(text) if words is None else words, np.array(tokens).reshape(-1, 2))
    return [text[start:end] for start, end in parts], part.tolist()


def test_tokens_of_a_word_are_one_part():
    assert merged("ein Vogel!", (0, 3), (4, 5), (5, 9), (9, 10)) == (["ein", "Vogel", "!"], [0, 1, 1, 2])


def test_words_that_a_token_joins_are_one_part():
    assert merged("don't stop", (0, 3), (3, 5), (6, 10)) == (["don", "'t", "stop"], [0, 1, 2])
    assert merged("3.5 km", (0, 3), (4, 6)) == (["3.5", "km"], [0, 1])


@pytest.mark.parametrize("mark", [(4, 4), (3, 4)])
def test_a_token_that_shows_nothing_belongs_to_what_follows(mark):
    assert merged("ein Vogel", (0, 3), mark, (4, 9)) == (["ein", "Vogel"], [0, 1, 1])


def test_a_last_token_that_shows_nothing_belongs_to_what_is_before():
    assert merged("ein ", (0, 3), (3, 4)) == (["ein"], [0, 0])


def test_scripts_without_spaces_are_cut_where_the_pieces_are():
    assert merged("这是一部", (0, 0), (0, 2), (2, 3), (3, 4)) == (["这是", "一", "部"], [0, 0, 1, 2])


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("น้ำตา", [(0, 2), (2, 3), (3, 5)]),  # a vowel sign that is a letter
        ("\U0001f469\u200d\U0001f467", [(0, 1), (1, 2), (2, 3)]),  # a family
        ("\U0001f1e9\U0001f1ea", [(0, 1), (1, 2)]),  # a flag
        ("\U0001f44d\U0001f3fd", [(0, 1), (1, 2)]),  # a skin tone
        ("\u304b\u3099", [(0, 1), (1, 2)]),  # a letter with its mark apart
        ("\u1780\u17d2\u1798", [(0, 1), (1, 3)]),  # stacked letters
    ],
)
def test_what_a_reader_takes_for_one_character_stays_whole(text, tokens):
    for words in (None, tokens):
        parts, _ = merged(text, *tokens, words=words)
        assert parts[0].startswith(text if text != "น้ำตา" else "น้ำ")


def test_bytes_of_one_character_stay_together():
    assert merged("a☃", (0, 1), (1, 2), (1, 2), (1, 2), words=[(0, 1), (1, 2), (1, 2), (1, 2)]) == (
        ["a", "☃"],
        [0, 1, 1, 1],
    )


def test_words_without_tokens_are_left_out():
    assert merged("ein Vogel läuft", (4, 9)) == (["Vogel"], [0])


def test_a_text_of_nothing():
    assert merged("") == ([], []) and merged(" ", (0, 1)) == ([""], [0])
