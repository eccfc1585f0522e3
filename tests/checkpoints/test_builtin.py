"""The checkpoint that ships with the package: what its folder says, and how large it is."""

import numpy as np
import pytest

from skxlmr import XLMRobertaVectorizer
from skxlmr.checkpoints import BUILTIN, read_model, resolve_checkpoint, sentence_files
from skxlmr.nn.sentence import Dense, SentenceEncoder

TEXTS = ["The battery lasts two days.", "Der Akku hält zwei Tage. 🙂", "電池は二日もちます。", "x", "word " * 400]


def test_it_is_small_enough_for_a_package():
    folder = resolve_checkpoint(BUILTIN)
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) <= 15e6


@pytest.mark.parametrize(
    "notice",
    [
        "WordNet 3.0 Copyright 2006 by Princeton University",
        "Chinese Open Wordnet Copyright 2013,2014",
        "DanNet 2.1 Copyright 2009-12",
        "Hebrew WordNet Copyright 2007",
        "The Norwegian Language Bank",
        "plWordNet 2.3 © 2015",
        "Copyright (c) 2014-2015 Francis Bond, David Moeljadi",
        "Copyright © 1991-2012 Unicode, Inc.",
        "CC BY 2.0 FR",
        "all-MiniLM-L6-v2",
        "https://openstax.org",
        "COCO Consortium",
    ],
)
def test_it_brings_the_notices_that_its_sources_ask_for(notice):
    assert notice in (resolve_checkpoint(BUILTIN) / "NOTICE.md").read_text(encoding="utf-8")


def test_the_folder_says_how_vectors_are_made():
    folder = resolve_checkpoint(BUILTIN)
    stored = read_model(folder)
    encoder = stored.sentence_encoder()
    layers = Dense(192, 896, activation="GELU"), Dense(896, 192, activation="Identity")
    assert encoder == SentenceEncoder(pooling=("mean",), layers=layers, similarity="cosine", max_length=256)
    for name, content in sentence_files(encoder, 192, stored.sentence_tensors(encoder)).items():
        written = (folder / name).read_bytes()
        assert (written if isinstance(content, bytes) else written.decode()) == content, name


@pytest.mark.filterwarnings("ignore")  # theirs, and that the last text is cut
def test_sentence_transformers_makes_equal_vectors():
    sentence_transformers = pytest.importorskip("sentence_transformers")
    folder = str(resolve_checkpoint(BUILTIN))
    theirs = sentence_transformers.SentenceTransformer(folder, device="cpu", model_kwargs={"dtype": "float32"})
    assert theirs.similarity_fn_name == "cosine"
    ours = XLMRobertaVectorizer(BUILTIN, dtype="float32").fit_transform(TEXTS)
    assert ours.shape == (len(TEXTS), 192)
    np.testing.assert_allclose(ours, theirs.encode(TEXTS), atol=2e-5)


def test_vectors_tell_what_sentences_mean():
    english = [
        "The train is late.",
        "She plays the piano.",
        "We need a new computer.",
        "It is raining today.",
        "I lost my keys.",
    ]
    german = [
        "Der Zug hat Verspätung.",
        "Sie spielt Klavier.",
        "Wir brauchen einen neuen Computer.",
        "Es regnet heute.",
        "Ich habe meine Schlüssel verloren.",
    ]
    vectorizer = XLMRobertaVectorizer("skxlmr-mini", normalize=True, memory=None, dtype="float32", device="cpu").fit(
        english
    )
    cosines = vectorizer.transform(english) @ vectorizer.transform(german).T
    assert cosines.argmax(axis=1).tolist() == [0, 1, 2, 3, 4]
    others = cosines[~np.eye(5, dtype=bool)]
    assert np.diag(cosines).mean() > others.mean() + 0.3
