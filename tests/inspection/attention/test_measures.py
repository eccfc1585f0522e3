"""Numbers of heads and attention between words, against plain loops."""

import math

import numpy as np

from skxlmr.inspection._attention.measures import head_measures, of_words


def drawn_weights(shape=(2, 3, 7, 7), seed=0):
    weights = np.random.default_rng(seed).random(shape) ** 4
    return (weights / weights.sum(-1, keepdims=True)).astype(np.float32)


def test_measures_are_those_of_plain_loops():
    weights, texts = drawn_weights(), [-1, 0, 0, -1, 1, 1, -1]
    weights[0, 0, 1] = [0, 0, 0, 0, 1, 0, 0]  # a token that looks at one token
    found = head_measures(weights, texts)
    looking = [i for i, text in enumerate(texts) if text >= 0]
    for layer, head in np.ndindex(2, 3):
        own = weights[layer, head].astype(float)
        expected = {
            "special": np.mean([sum(own[i, j] for j in range(7) if texts[j] < 0) for i in looking]),
            "entropy": np.mean([-sum(w * math.log(w) for w in own[i] if w > 0) for i in looking]),
            "distance": np.mean([sum(own[i, j] * abs(i - j) for j in range(7)) for i in looking]),
            "other_text": np.mean([sum(own[i, j] for j in looking if texts[j] != texts[i]) for i in looking]),
        }
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            np.testing.assert_allclose(found[name][layer, head], value, rtol=1e-12, err_msg=name)


def test_one_text_has_no_other_and_nothing_but_special_tokens_is_measured_too():
    assert "other_text" not in head_measures(drawn_weights(), [-1, 0, 0, 0, 0, 0, -1])
    found = head_measures(drawn_weights((1, 1, 2, 2)), [-1, -1])
    np.testing.assert_allclose(found["special"], 1, rtol=1e-6)


def test_attention_between_words_is_summed_over_what_is_looked_at_and_averaged_over_what_looks():
    weights, words = drawn_weights()[0, 0], [-1, 0, 0, 1, 2, 2, -1]
    found = of_words(weights, words)
    for a, b in np.ndindex(3, 3):
        from_tokens, to_tokens = ([i for i, word in enumerate(words) if word == own] for own in (a, b))
        expected = np.mean([sum(float(weights[i, j]) for j in to_tokens) for i in from_tokens])
        np.testing.assert_allclose(found[a, b], expected, rtol=1e-6)
