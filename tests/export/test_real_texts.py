"""Relatives of XLM-RoBERTa, and real texts in hundreds of languages."""

import copy

import numpy as np
import pytest

from skxlmr import (
    XLMClassifier,
    XLMMaskedLM,
    XLMRobertaClassifier,
    XLMRobertaMaskedLM,
    XLMRobertaTokenClassifier,
    XLMRobertaVectorizer,
    XLMVectorizer,
    export_onnx,
    load_onnx,
)
from tests.contract import FAST, SPANS, TEXTS
from tests.export.rows import EMPTY, ODD, assert_equal_up_to_rounding
from tests.text.texts import HOSTILE, real_texts

pytestmark = pytest.mark.filterwarnings("ignore::skxlmr.TruncationWarning")
PAIRS = list(zip([*ODD, *EMPTY], [*EMPTY, *ODD], strict=True))
CLASSES = [i % 3 for i in range(len(PAIRS))]


def both(estimator, folder):
    export_onnx(estimator, folder)
    return estimator, load_onnx(folder, threads=1)


# The original XLM


@pytest.mark.parametrize("lang", ["de", "ru"])
def test_languages(tiny_xlm_languages, tmp_path, lang):
    """The graph takes the language of each token, which is that of the estimator."""
    torch, onnx = both(XLMVectorizer(tiny_xlm_languages, lang=lang).fit(TEXTS), tmp_path / "out")
    assert onnx._engine().languages == ({"de": 0, "ru": 2}[lang],) and "langs" in onnx.module_.inputs
    np.testing.assert_allclose(onnx.transform(ODD), torch.transform(ODD), rtol=0, atol=1e-5)
    other = XLMVectorizer(tiny_xlm_languages, lang="en").fit(TEXTS)
    assert np.abs(onnx.transform(ODD) - other.transform(ODD)).max() > 1e-2


def test_copies_that_share_a_graph_read_in_their_own_languages(tiny_xlm_languages, tmp_path):
    """Whatever else runs between the beginning of a call and its last batch."""
    _, german = both(XLMVectorizer(tiny_xlm_languages, lang="de").fit(TEXTS), tmp_path / "out")
    russian = copy.deepcopy(german).set_params(lang="ru")
    assert russian.module_ is german.module_
    encoded = german.tokenizer_.encode_batch(TEXTS)
    engines = [each._engine() for each in (german, russian)]
    identities = {str(engine.identity("features", None)) for engine in engines}
    assert len(identities) == 2
    for engine, number in zip(engines, (0, 2), strict=True):
        assert (engine._padded(encoded)[0]["langs"] == number).all()


def test_pairs_of_the_original_xlm(tiny_xlm, tmp_path):
    torch, onnx = both(XLMClassifier(tiny_xlm, **FAST).fit(PAIRS, CLASSES), tmp_path / "out")
    np.testing.assert_allclose(onnx.predict_proba(PAIRS), torch.predict_proba(PAIRS), rtol=0, atol=1e-5)


def test_causal_and_masked_original_xlm(tiny_xlm, tmp_path):
    for objective in ("clm", "mlm"):
        lm = XLMMaskedLM(tiny_xlm, objective=objective, **FAST).fit(TEXTS)
        torch, onnx = both(lm, tmp_path / objective)
        np.testing.assert_allclose(onnx.score_samples(ODD), torch.score_samples(ODD), rtol=1e-5)
        np.testing.assert_allclose(onnx.transform(ODD), torch.transform(ODD), rtol=0, atol=1e-5)


# Bodies of BERT


@pytest.mark.parametrize("body", ["bert", "distilbert", "minilm"])
def test_bodies_of_bert(bodies, body, tmp_path):
    torch, onnx = both(XLMRobertaVectorizer(bodies[body]).fit(TEXTS), tmp_path / "texts")
    X = [*ODD, *EMPTY]
    np.testing.assert_allclose(onnx.transform(X), torch.transform(X), rtol=0, atol=1e-5)
    torch, onnx = both(XLMRobertaClassifier(bodies[body], **FAST).fit(PAIRS, CLASSES), tmp_path / "pairs")
    np.testing.assert_allclose(onnx.predict_proba(PAIRS), torch.predict_proba(PAIRS), rtol=0, atol=1e-5)
    assert ("token_type_ids" in onnx.module_.inputs) == (body != "distilbert")


# Real texts


def test_real_texts(shared_data, tmp_path):
    """The built-in checkpoint on texts of all sets, by features, filled masks, entities and classes."""
    texts = [text for _, text in real_texts(shared_data, 2000)][:60] + HOSTILE
    torch, onnx = both(
        XLMRobertaVectorizer("skxlmr-mini", long_text="window", max_length=64).fit(texts), tmp_path / "v"
    )
    np.testing.assert_allclose(onnx.transform(texts), torch.transform(texts), rtol=0, atol=1e-5)
    torch, onnx = both(XLMRobertaMaskedLM.from_checkpoint("skxlmr-mini"), tmp_path / "lm")
    masked = [f"{text[:80]} <mask> {text[80:160]}" for text in texts[:10]]
    assert_equal_up_to_rounding(onnx.fill_mask(masked), torch.fill_mask(masked))
    tagger = XLMRobertaTokenClassifier("skxlmr-mini", **FAST).fit(TEXTS, np.fromiter(SPANS, object))
    torch, onnx = both(tagger, tmp_path / "tagger")
    real = [text for text in texts if text.strip()]
    assert_equal_up_to_rounding(onnx.predict_entities(real), torch.predict_entities(real))
    classifier = XLMRobertaClassifier("skxlmr-mini", **FAST).fit(texts[:12], [0, 1, 2] * 4)
    torch, onnx = both(classifier, tmp_path / "classifier")
    np.testing.assert_allclose(onnx.decision_function(texts), torch.decision_function(texts), rtol=0, atol=1e-5)
    np.testing.assert_array_equal(onnx.predict(texts), torch.predict(texts))
