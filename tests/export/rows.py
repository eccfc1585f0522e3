"""Rows for every estimator, ordinary and odd ones, and whether two answers are equal up to rounding."""

import numpy as np

from tests.contract import METHODS, TEXTS, inputs, takes_texts

LONG = "das kleine alte Haus über dem Fluss и река птица идёт медленно " * 12  # far more than the 64 tokens of a row
ODD = [
    *TEXTS,
    TEXTS[0],  # again
    LONG,
    "a",
    "שלום עולם, مرحبا بالعالم",
    "\u202eright to left\u202c <mask> </s>",
    "🙂 e\u0301 \u00e9 \u200b\ufeff",
    LONG,
    "x" * 500,
]
EMPTY = ["", " ", "\n\t"]


def odd_rows(estimator):
    """Rows as the estimator takes them."""
    if takes_texts(estimator):
        return [*ODD, *EMPTY] if estimator.__name__ != "XLMRobertaTokenClassifier" else ODD
    reverse = ODD[::-1]
    return {
        "XLMRobertaDialogueLM": [
            {"turns": [("user", a), ("system", b), ("user", a)]} for a, b in zip(ODD, reverse, strict=True)
        ],
        "XLMRobertaMultipleChoiceClassifier": [
            (a, [b, "ein Haus", *(["zwei"] * (i % 3))]) for i, (a, b) in enumerate(zip(ODD, reverse, strict=True))
        ],
        "XLMRobertaQuestionAnswerer": [(text, context) for text in ("wer singt?", "a") for context in ODD],
    }[estimator.__name__]


def every_answer(estimator):
    """What each method gives for ordinary and for odd rows, and what only some estimators have."""
    kind = type(estimator)
    X, y, _ = inputs(kind)
    found = {
        f"{name} {what}": _listed(getattr(estimator, name)(rows))
        for what, rows in (("rows", X), ("odd rows", odd_rows(kind)), ("no rows", X[:0]))
        for name in METHODS
        if hasattr(estimator, name) and (what != "no rows" or name in ("predict", "transform"))
    }
    if kind.__name__ != "XLMRobertaZeroShotClassifier" and hasattr(estimator, "score"):
        found["score"] = float(estimator.score(X, y))
    if hasattr(estimator, "fill_mask") and kind.__name__.startswith("XLMR"):
        masked = ["das <mask> läuft", "<mask> и <mask> " + LONG[:80], "a <mask>", "das <mask> läuft"]
        found["fill_mask"] = estimator.fill_mask(masked, top_k=3)
        found["targets"] = estimator.fill_mask(masked, targets=["Haus", "der Vogel singt", "река"])
    if hasattr(estimator, "rank_responses"):
        contexts = [[("user", text)] for text in ODD]
        found["rank_responses"] = _listed(estimator.rank_responses(contexts, ODD)[1])
        found["rank lists"] = _listed(estimator.rank_responses(contexts[:2], [ODD[:3], ODD[2:4]])[1])
    return found


def assert_equal_up_to_rounding(found, expected, where=""):
    """Equal, and numbers within 1e-5, of their size where that is more than 1."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys(), where
        for key in expected:
            assert_equal_up_to_rounding(found[key], expected[key], f"{where}.{key}")
    elif isinstance(expected, list | tuple):
        assert len(found) == len(expected), where
        for i, (a, b) in enumerate(zip(found, expected, strict=True)):
            assert_equal_up_to_rounding(a, b, f"{where}[{i}]")
    elif isinstance(expected, float | np.floating) or getattr(expected, "dtype", np.dtype(int)).kind == "f":
        assert isinstance(found, type(expected)) and np.shape(found) == np.shape(expected), where
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5, err_msg=where)
    else:
        assert np.array_equal(found, expected), f"{where}: {found!r} and not {expected!r}"


def _listed(values):
    """A list with an item for each row, without arrays of objects."""
    return [value.tolist() if getattr(value, "dtype", np.dtype(int)).kind == "O" else value for value in values]
