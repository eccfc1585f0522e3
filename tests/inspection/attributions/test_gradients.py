"""Integrated gradients and gradient x input: against float64 and captum, and what they leave as it was."""

import numpy as np
import pytest
import torch

import skxlmr
from skxlmr import XLMRobertaClassifier
from skxlmr.inspection import attributions
from skxlmr.inspection._attributions.attribute import METHODS
from skxlmr.inspection._attributions.explained import Explained
from tests.contract import TEXTS
from tests.inspection.attributions.reference import by_word, gradients

TOLERANCE = 2e-5  # of float32 against float64, for logits of about 1


def encoded(estimator, text, pair=None):
    made = estimator.tokenizer_.encode_batch([text], None if pair is None else [pair], return_offsets=True)
    return made.ids, made.sequence_ids, made.offsets


@pytest.fixture
def classifier(fitted):
    return fitted(XLMRobertaClassifier)


@pytest.mark.parametrize("code", [0, 1])
def test_values_are_those_of_float64(classifier, code):
    found = attributions(classifier, TEXTS, target=code)
    first_order = attributions(classifier, TEXTS, "gradient_x_input", target=code)
    for text, row, once in zip(TEXTS, found, first_order, strict=True):
        ids, numbers, offsets = encoded(classifier, text)
        ig, gxi, prediction, baseline = gradients(classifier, ids, numbers >= 0, lambda out: out[0, code])
        inner, places = numbers >= 0, offsets[numbers >= 0]
        np.testing.assert_allclose(row.values, by_word(row, places, ig[inner]), atol=TOLERANCE)
        np.testing.assert_allclose(once.values, by_word(once, places, gxi[inner]), atol=TOLERANCE)
        assert row.prediction == pytest.approx(prediction, abs=TOLERANCE)
        assert row.baseline == once.baseline == pytest.approx(baseline, abs=TOLERANCE)
        assert np.abs(row.values).max() > 100 * TOLERANCE and row.target == code


def test_values_are_those_of_captum(classifier):
    captum = pytest.importorskip("captum.attr", reason="needs captum: pip install captum")
    module, mask = classifier.module_, classifier.tokenizer_.mask_token_id
    ids, numbers, offsets = encoded(classifier, TEXTS[0])
    ids = torch.as_tensor(ids, dtype=torch.long)[None]
    baseline = torch.where(torch.as_tensor(numbers >= 0), mask, ids)
    layer = captum.LayerIntegratedGradients(lambda x: module(x), module.backbone.get_input_embeddings())
    theirs = layer.attribute(ids, baseline, target=1, n_steps=32, method="gausslegendre")[0].sum(1).detach().numpy()
    (row,) = attributions(classifier, TEXTS[:1], target=1, n_steps=32)
    np.testing.assert_allclose(row.values, by_word(row, offsets[numbers >= 0], theirs[numbers >= 0]), atol=TOLERANCE)


def test_integrated_gradients_are_complete(classifier):
    for row in attributions(classifier, TEXTS, n_steps=64):
        assert abs(row.completeness_gap) < 1e-4 * np.abs(row.values).sum()
    rough = attributions(classifier, TEXTS, n_steps=2)
    assert max(abs(row.completeness_gap) for row in rough) > 1e-4  # the gap tells that there are too few steps


def test_too_few_steps_are_told(classifier):
    with pytest.warns(UserWarning, match=r"of 6 texts miss their sum .* raise n_steps \(it is 1\)"):
        attributions(classifier, TEXTS, n_steps=1)


def test_a_module_is_left_as_it_was(classifier):
    module = classifier.module_
    first = next(module.parameters())
    first.requires_grad_(False)
    first.grad = torch.ones_like(first)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    flags = [(parameter.requires_grad, parameter.grad) for parameter in module.parameters()]
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):  # of the caller
        inside = attributions(classifier, TEXTS)
    assert not module.training and all(torch.equal(before[name], x) for name, x in module.state_dict().items())
    after = [(parameter.requires_grad, parameter.grad) for parameter in module.parameters()]
    assert all(a[0] == b[0] and a[1] is b[1] for a, b in zip(flags, after, strict=True))
    for a, b in zip(inside, attributions(classifier, TEXTS), strict=True):
        np.testing.assert_array_equal(a.values, b.values)


@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
def test_gradients_are_those_of_float32(classifier, dtype):
    plain = attributions(classifier, TEXTS, target=0)
    classifier.set_params(dtype=dtype)
    try:
        classifier.predict(TEXTS[:1])
    except ValueError as error:
        pytest.skip(f"needs a processor for {dtype}: {error}")
    for a, b in zip(plain, attributions(classifier, TEXTS, target=0), strict=True):
        np.testing.assert_array_equal(a.values, b.values)


def test_weights_in_half_precision_are_copied(tiny_checkpoint):
    vectorizer = skxlmr.XLMRobertaVectorizer(tiny_checkpoint, dtype="bfloat16")
    (row,) = attributions(vectorizer, [TEXTS[:2]])
    assert next(vectorizer.module_.parameters()).dtype == torch.bfloat16
    assert abs(row.completeness_gap) < 1e-4  # as no bfloat16 could


def test_batches_stay_within_the_budget(classifier, monkeypatch):
    sizes = []
    forward = classifier.module_.forward

    def watched(ids, layout, **inputs):
        sizes.append(layout.n_tokens)
        return forward(ids, layout, **inputs)

    monkeypatch.setattr(classifier.module_, "forward", watched)
    plain = attributions(classifier, TEXTS, target=0)
    wide = max(sizes)
    monkeypatch.setattr("skxlmr.inference.engine.STATES_PER_ROW", 256)
    sizes.clear()
    narrow = attributions(classifier.set_params(batch_size=8), TEXTS, target=0)
    assert max(sizes) <= 32 < wide
    for a, b in zip(plain, narrow, strict=True):
        np.testing.assert_allclose(a.values, b.values, atol=1e-6)


def test_rows_that_do_not_fit_into_memory_together_give_the_same(classifier, monkeypatch):
    whole = {method: attributions(classifier, TEXTS, method, random_state=0) for method in METHODS}
    n_calls = []
    run = Explained.take
    monkeypatch.setattr(Explained, "take", lambda self, rows: (n_calls.append(len(rows)), run(self, rows))[1])
    monkeypatch.setattr("skxlmr.inspection._attributions.attribute.TOKENS_AT_ONCE", 100)
    for method in METHODS:
        n_calls.clear()
        parts = attributions(classifier, TEXTS, method, random_state=0)
        assert sum(n_calls) == len(TEXTS) and (len(n_calls) > 1 or method == "gradient_x_input")
        for a, b in zip(whole[method], parts, strict=True):
            assert a.texts == b.texts
            np.testing.assert_allclose(a.values, b.values, atol=1e-6)


def test_equal_rows_are_explained_once(classifier, monkeypatch):
    n_tokens = []
    forward = classifier.module_.forward
    monkeypatch.setattr(
        classifier.module_,
        "forward",
        lambda ids, layout, **inputs: (n_tokens.append(layout.n_tokens), forward(ids, layout, **inputs))[1],
    )
    one = attributions(classifier, TEXTS[:1], target=0)
    alone, n_tokens[:] = sum(n_tokens), []
    many = attributions(classifier, TEXTS[:1] * 5, target=0)
    assert sum(n_tokens) == alone
    assert len(many) == 5 and all(np.array_equal(row.values, one[0].values) for row in many)
    both = attributions(classifier, TEXTS[:1] * 2, target=[0, 1])  # equal texts, other targets
    assert [row.target for row in both] == [0, 1] and not np.allclose(both[0].values, both[1].values)
