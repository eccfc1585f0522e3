"""The recipes of docs/using_features.md for BERTopic and KeyBERT: their models are made of our vectors."""

import re
from pathlib import Path

import numpy as np
import pytest

from skxlmr import XLMRobertaVectorizer
from tests.tiny import sentences

PAGE = Path(__file__).resolve().parents[3] / "docs" / "using_features.md"


@pytest.fixture
def run(tiny_checkpoint, monkeypatch):
    """Run the block of a heading, and return its names. Nothing may be fetched from the hub."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    def run(heading, **names):
        section = PAGE.read_text(encoding="utf-8").partition(f"\n## {heading}\n")[2]
        names |= {"passages": XLMRobertaVectorizer(tiny_checkpoint, normalize=True), "documents": sentences(60)}
        exec(re.search(r"```python\n(.*?)```", section, re.DOTALL)[1], names)
        return names

    return run


@pytest.mark.filterwarnings("ignore")  # theirs
def test_topics(run, monkeypatch):
    bertopic = pytest.importorskip("bertopic", reason="needs the package bertopic")
    from bertopic.backend import _utils
    from sklearn.cluster import KMeans
    from sklearn.decomposition import PCA

    fast = {"umap_model": PCA(3, random_state=0), "hdbscan_model": KMeans(4, n_init=1, random_state=0)}
    BERTopic = bertopic.BERTopic
    monkeypatch.setattr(bertopic, "BERTopic", lambda **params: BERTopic(**params, **fast))
    fallen_back = []
    names = run("Topics with BERTopic")
    topics, documents = names["topics"], names["documents"]
    assert type(topics.embedding_model).__name__ == "SklearnEmbedder"
    vectors = topics._extract_embeddings(documents, method="document")
    np.testing.assert_array_equal(vectors, names["passages"].transform(documents))
    assert len(set(names["of_each_text"])) == 4

    monkeypatch.setattr(
        "bertopic.backend._sentencetransformers.SentenceTransformerBackend", lambda name: fallen_back.append(name)
    )
    _utils.select_backend(names["passages"])  # what the page warns of
    assert fallen_back == ["sentence-transformers/all-MiniLM-L6-v2"]


@pytest.mark.filterwarnings("ignore")
def test_keywords(run, monkeypatch):
    pytest.importorskip("keybert", reason="needs the package keybert")
    from keybert.backend import _utils
    from sklearn.pipeline import make_pipeline

    names = run("Keywords with KeyBERT")
    assert [len(found) for found in names["keywords"]] == [3, 3, 3]
    text, passages = names["documents"][0], names["passages"]
    for word, score in names["keywords"][0]:
        assert score == pytest.approx(passages.transform([word])[0] @ passages.transform([text])[0], abs=1e-3)

    fallen_back = []
    monkeypatch.setattr(
        "keybert.backend._sentencetransformers.SentenceTransformerBackend", lambda name: fallen_back.append(name)
    )
    for ignored in (passages, make_pipeline(passages)):
        _utils.select_backend(ignored)
    assert fallen_back == ["paraphrase-multilingual-MiniLM-L12-v2"] * 2
