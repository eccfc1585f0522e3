"""Texts that are too long: counted over all rows, the longest loss exact or said to be a bound."""

import pytest

from skxlmr import TruncationWarning, XLMRobertaClassifier, XLMRobertaVectorizer

LONG = "ein altes Haus " * 40


def longest_loss(vectorizer, text):
    """By encoding all of the text."""
    return int(vectorizer.tokenizer_.encode_batch([text]).lengths[0]) - 16


def test_equal_texts_are_counted_each(tiny_checkpoint):
    vectorizer = XLMRobertaVectorizer(tiny_checkpoint, max_length=16).fit(["kurz"])
    with pytest.warns(TruncationWarning, match="^99 of 100 texts are longer than 16 tokens") as said:
        vectorizer.transform([LONG] * 99 + ["kurz"])
    assert len(said) == 1
    assert str(said[0].message).endswith(f"the longest lost {longest_loss(vectorizer, LONG):,} tokens")


def test_a_text_whose_end_is_not_read_is_said_to_have_lost_more(tiny_checkpoint):
    vectorizer = XLMRobertaVectorizer(tiny_checkpoint, max_length=16).fit(["kurz"])
    huge = "ein altes Haus am Fluss. " * 10_000
    with pytest.warns(TruncationWarning, match=r"^1 of 2 texts .* the longest lost at least [\d,]+ tokens$") as said:
        vectorizer.transform([huge, "kurz"])
    bound = int(str(said[0].message).split("at least ")[1].split()[0].replace(",", ""))
    assert 0 < bound < longest_loss(vectorizer, huge)


def test_training_rows_are_counted_likewise(tiny_checkpoint):
    classifier = XLMRobertaClassifier(tiny_checkpoint, max_length=16, max_epochs=1, random_state=0)
    with pytest.warns(TruncationWarning, match="^3 of 4 texts"):
        classifier.fit([LONG, LONG, "kurz", LONG], [0, 1, 0, 1])
    assert classifier.n_truncated_ == 3
