"""What a dialogue model predicts: vectors of dialogues, the order of candidates, recall."""

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch

from skxlmr import XLMRobertaDialogueLM, save
from skxlmr.estimators._dialogues import ranking
from skxlmr.estimators._dialogues.rows import check_candidates
from tests.estimators.conftest import padded
from tests.estimators.dialogues.dialogues import CONTEXTS, DIALOGUES, WORDS, dialogue


@pytest.fixture(scope="module")
def fitted(make):
    return make(XLMRobertaDialogueLM).fit(DIALOGUES)


def test_ranking_is_by_the_product_of_the_vectors(fitted):
    order, scores = fitted.rank_responses(CONTEXTS, WORDS)
    assert order.shape == scores.shape == (8, 8) and scores.dtype == np.float32
    single = fitted.transform([[("system", word)] for word in WORDS])
    np.testing.assert_allclose(scores, fitted.transform(CONTEXTS) @ single.T, rtol=1e-5)
    np.testing.assert_array_equal(order, np.argsort(-scores, axis=1, kind="stable"))
    # one list for each context: the same scores
    lists = [WORDS[i:] for i in range(8)]
    orders, each = fitted.rank_responses(CONTEXTS, lists)
    for i in range(8):
        np.testing.assert_allclose(each[i], scores[i, i:], rtol=1e-5)
        np.testing.assert_array_equal(orders[i], np.argsort(-each[i], kind="stable"))


def test_vectors_do_not_depend_on_their_neighbours(make, fitted):
    X = [dialogue(i, 1 + i % 7) for i in range(12)]
    expected = fitted.transform(X)
    assert expected.shape == (12, 32) and expected.dtype == np.float32
    np.testing.assert_allclose(np.concatenate([fitted.transform([x]) for x in X]), expected, atol=1e-5)
    small = make(XLMRobertaDialogueLM, batch_size=1)
    small.__dict__ |= {name: value for name, value in vars(fitted).items() if name.endswith("_")}
    np.testing.assert_allclose(small.transform(X), expected, atol=1e-5)
    assert fitted.get_feature_names_out()[0] == "xlmrobertadialoguelm_0"


def test_vectors_equal_the_reference(fitted, tmp_path, reference):
    save(fitted, tmp_path / "saved")
    model = reference("XLMRobertaModel", tmp_path / "saved")
    texts = ["".join(f"[{'SYS' if t['speaker'] == 'system' else 'USR'}] {t['text']} " for t in d) for d in DIALOGUES]
    with torch.inference_mode():
        hidden = model(**padded(fitted.tokenizer_, texts, parse_special=True)).last_hidden_state
    np.testing.assert_allclose(fitted.transform(DIALOGUES), hidden[:, 0], atol=1e-5)


@pytest.mark.parametrize(
    ("candidates", "error", "reason"),
    [
        ("hello", TypeError, "candidates must be a list of texts or a list of such lists, got a str"),
        ([], ValueError, "candidates: expected at least one text, got none"),
        (["a", None], ValueError, "candidates: expected a text as number 1, got None"),
        ([["a"]], ValueError, "one list for each of the 2 contexts, found 1 lists"),
        ([["a"], []], ValueError, "candidates of context 1: expected at least one text, got none"),
        ([["a"], [3]], ValueError, "candidates of context 1: expected a text as number 0, got 3"),
        ([["a"], "b"], ValueError, "candidates of context 1: expected a list of texts, got 'b'"),
        (pd.DataFrame({"p": ["a"], "q": ["b"]}), ValueError, "candidates must be one column, got p, q"),
    ],
)
def test_invalid_candidates_are_named(fitted, candidates, error, reason):
    with pytest.raises(error, match=reason):
        fitted.rank_responses(CONTEXTS[:2], candidates)


def test_no_contexts(fitted):
    assert fitted.rank_responses([], []) == ([], [])
    order, scores = fitted.rank_responses([], ["a", "b"])
    assert order.shape == scores.shape == (0, 2)
    with pytest.raises(ValueError, match="one list for each of the 0 contexts, found 1 lists"):
        fitted.rank_responses([], [["a"]])


def test_candidates_in_any_container():
    for X in (
        ["a", "b"],
        ("a", "b"),
        np.array(["a", "b"]),
        pd.Series(["a", "b"]),
        pl.Series(["a", "b"]),
        pa.array(["a", "b"]),
        pd.DataFrame({"text": ["a", "b"]}, index=[5, 3]),
        pl.DataFrame({"text": ["a", "b"]}),
        pa.table({"text": ["a", "b"]}),
    ):
        assert check_candidates(X, 5) == ([["a", "b"]], True)
    assert check_candidates(np.array([["a"], ["b"]]), 2) == ([["a"], ["b"]], False)


def test_one_response_alone_is_no_choice(fitted):
    with pytest.raises(ValueError, match="one dialogue with a response alone: a score needs another one's"):
        fitted.score([[("user", "haus"), ("system", "дом")]])


def test_score_is_recall_at_1_in_parts_of_100(fitted, monkeypatch):
    X = [dialogue(i, 2) for i in range(8)]
    right = fitted.rank_responses([turns[:1] for turns in X], WORDS)[0][:, 0] == np.arange(8)
    assert fitted.score(X) == pytest.approx(right.mean())
    assert fitted.score(X * 2) == pytest.approx(right.mean())  # the same text said elsewhere is right too
    weights = np.where(right, 3.0, 1.0)
    assert 0 < right.mean() < 1 and fitted.score(X, sample_weight=weights) == np.average(right, weights=weights)
    monkeypatch.setattr(ranking, "N_SCORED", 1)
    assert fitted.score(X) == 1.0
    assert fitted.score([*X, [("user", "haus")]]) == 1.0
    with pytest.raises(ValueError, match="no dialogue with a system turn after another turn"):
        fitted.score([[("user", "haus")], [("system", "дом")]])
