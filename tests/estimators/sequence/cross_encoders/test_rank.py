"""Documents in the order of their scores: as sentence-transformers ranks them, ties in their order, each one encoded once."""

import numpy as np
import pandas as pd
import polars as pl
import pytest

from skxlmr import XLMRobertaRegressor
from skxlmr.utils._warnings import TruncationWarning
from tests.cross_encoders import IDENTITY, write
from tests.estimators.sequence.cross_encoders.layouts import LONG, QUERY, ours, says
from tests.tiny import sentences

DOCUMENTS = [*sentences(9), "", "дом"]


@pytest.fixture(scope="module")
def reranker(tiny_checkpoint, tmp_path_factory):
    return ours(write(tmp_path_factory.mktemp("reranker") / "published", tiny_checkpoint))


@pytest.mark.parametrize("top_k", [None, 1, 4, 11, 50])
@pytest.mark.parametrize("said", [{}, {"own": says(IDENTITY, QUERY, "query"), "max_length": 14}])
@pytest.mark.filterwarnings("ignore:.*were cut")
def test_as_the_reference_ranks(theirs, tiny_checkpoint, tmp_path, top_k, said):
    folder = write(tmp_path / "published", tiny_checkpoint, **said)
    expected = theirs(folder).rank("das Haus", [*DOCUMENTS, LONG], top_k=top_k, return_documents=True)
    found = ours(folder).rank("das Haus", [*DOCUMENTS, LONG], top_k=top_k)
    assert found.index.tolist() == [hit["corpus_id"] for hit in expected]
    assert found["document"].tolist() == [hit["text"] for hit in expected]
    np.testing.assert_allclose(found["score"], [hit["score"] for hit in expected], rtol=0, atol=1e-5)
    assert found.columns.tolist() == ["score", "document"] and found["score"].dtype == np.float32


def test_scores_are_predictions(reranker):
    found = reranker.rank("das Haus", DOCUMENTS)
    expected = reranker.predict([("das Haus", document) for document in DOCUMENTS])
    np.testing.assert_array_equal(found["score"], expected[found.index])
    assert sorted(found.index) == list(range(len(DOCUMENTS)))


@pytest.mark.parametrize(
    ("documents", "index"),
    [
        (np.array(DOCUMENTS), range(11)),
        (np.array(DOCUMENTS, dtype=object), range(11)),
        (pd.Series(DOCUMENTS, index=list("abcdefghijk")), "abcdefghijk"),
        (pd.DataFrame({"text": DOCUMENTS}, index=range(20, 31)), range(20, 31)),
        (pl.Series(DOCUMENTS), range(11)),
        (tuple(DOCUMENTS), range(11)),
    ],
    ids=["array", "objects", "Series", "DataFrame", "polars", "tuple"],
)
def test_containers(reranker, documents, index):
    expected, found = reranker.rank("das Haus", DOCUMENTS, 3), reranker.rank("das Haus", documents, 3)
    assert found["document"].tolist() == expected["document"].tolist()
    assert found.index.tolist() == [list(index)[i] for i in expected.index]
    np.testing.assert_array_equal(found["score"], expected["score"])


def test_equal_documents_keep_their_order_and_are_encoded_once(reranker, monkeypatch):
    documents = ["das Haus", "дом", "das Haus", "дом", "дом"]
    rows = []
    forward = reranker.module_.forward
    monkeypatch.setattr(
        reranker.module_, "forward", lambda ids, layout: rows.append(len(layout.lengths)) or forward(ids, layout)
    )
    found = reranker.rank("river", documents)
    assert sum(rows) == 2
    assert found.index.tolist() in ([0, 2, 1, 3, 4], [1, 3, 4, 0, 2])


def test_order_where_the_sigmoid_is_one(tiny_checkpoint, tmp_path):
    folder = write(tmp_path / "published", tiny_checkpoint)
    reranker = ours(folder)
    with np.errstate(all="raise"):
        import torch

        with torch.no_grad():
            reranker.module_.classifier.out_proj.bias += 60
        found = reranker.rank("das Haus", DOCUMENTS)
    assert (found["score"] == 1).all()
    assert found.index.tolist() == reranker.set_params(activation="identity").rank("das Haus", DOCUMENTS).index.tolist()
    assert found.index.tolist() != list(range(len(DOCUMENTS)))


def test_long_documents_are_cut_and_counted(reranker):
    with pytest.warns(TruncationWarning, match="1 of 3 texts are longer than 64 tokens"):
        reranker.rank("das Haus", ["дом", LONG, "house"])


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("дом", []), "documents is empty: there is nothing to rank"),
        (("дом", pd.Series([], dtype=str)), "documents is empty"),
        (("дом", "das Haus"), "got one text: put it in a list"),
        (("дом", ["das Haus", None]), "documents row 1"),
        (("дом", ["das Haus", 3]), "documents row 1"),
        (("дом", [("das", "Haus")]), "documents .*"),
        ((["дом", "Haus"], ["das Haus"]), r"query must be one text, got .*: call rank for each of several queries"),
        ((["das Haus", "der Wald"], "дом"), "query must be one text, got .*: are query and documents swapped"),
        ((None, ["das Haus"]), r"query must be one text, got None \(a missing value\)$"),
        ((3, ["das Haus"]), "query must be one text, got 3 of type int$"),
        (("дом", [3, 4]), "documents row 0: .*: the column holds no texts$"),
        (("дом", ["das Haus"], 0), "top_k must be None or a whole number of at least 1, got 0"),
        (("дом", ["das Haus"], -1), "top_k must be"),
        (("дом", ["das Haus"], 1.5), "top_k must be"),
        (("дом", ["das Haus"], True), "top_k must be"),
    ],
)
def test_wrong_arguments(reranker, arguments, reason):
    with pytest.raises(ValueError, match=reason):
        reranker.rank(*arguments)


def test_missing_documents_may_be_empty(tiny_checkpoint, tmp_path):
    reranker = ours(write(tmp_path / "published", tiny_checkpoint), missing="empty")
    assert len(reranker.rank("дом", ["das Haus", None])) == 2


def test_fits(make, texts):
    pairs = list(zip(texts, texts[::-1], strict=True))
    fitted = make(XLMRobertaRegressor).fit(pd.DataFrame(pairs, columns=["query", "document"]), np.arange(48.0))
    assert fitted.activation_ == "identity"
    found = fitted.rank(texts[0], texts[:5], top_k=2)  # and no warning about names of columns
    np.testing.assert_array_equal(
        found["score"], np.sort(fitted.predict(pd.DataFrame({"query": texts[0], "document": texts[:5]})))[:-3:-1]
    )
    with pytest.raises(ValueError, match="this regressor reads single texts"):
        make(XLMRobertaRegressor).fit(texts, np.arange(48.0)).rank("дом", ["das Haus"])
    with pytest.raises(ValueError, match="rank needs one output for each pair, and there are 2"):
        make(XLMRobertaRegressor).fit(pairs, np.ones((48, 2))).rank("дом", ["das Haus"])
    with pytest.raises(ValueError, match="not fitted"):
        make(XLMRobertaRegressor).rank("дом", ["das Haus"])
