"""Weights are those of ``transformers``, for every estimator and every family, on the rows that the estimator runs."""

import numpy as np
import pytest
import torch

import skxlmr
from skxlmr import XLMMaskedLM, XLMRobertaVectorizer, XLMVectorizer, load_onnx
from skxlmr.inference import Engine
from skxlmr.inspection import AttentionDisplay
from skxlmr.inspection._attention.rows import encoded_rows
from tests.contract import each, infer, inputs
from tests.inspection.attention.reference import TOLERANCE, reference_attentions, reference_of
from tests.trimming.kinds import write

PAIRS = [["the bird sings", "das Haus"], ["children walk slowly over the river", "река птица"]]


def types_of(encoded, row):
    """1 from the second text on, where the model tells texts apart."""
    return (np.arange(encoded.lengths[row]) >= encoded.second_starts[row]).astype(int)


@each
def test_each_estimator(estimator, fitted):
    made = fitted(estimator)
    X = inputs(estimator)[0][:3]
    display = AttentionDisplay.from_estimator(made, X)
    _, encoded = encoded_rows(made, X)
    theirs = reference_of(made)
    assert len(display.attentions) == len(encoded) >= 3
    for i, weights in enumerate(display.attentions):
        n_tokens = len(display.tokens[i])
        assert weights.dtype == np.float32 and weights.shape == (2, 2, n_tokens, n_tokens)
        np.testing.assert_allclose(weights, reference_attentions(theirs, encoded.row(i)), atol=TOLERANCE, rtol=0)
        np.testing.assert_allclose(weights.sum(-1), 1, atol=TOLERANCE)
        if estimator is skxlmr.XLMRobertaCausalLM:
            assert (np.triu(weights, 1) == 0).all()
        else:
            assert (weights > 0).all()


@each
def test_rows_are_those_that_the_estimator_runs(estimator, fitted, monkeypatch):
    made, X, ran = fitted(estimator), inputs(estimator)[0][:2], []
    run, places = Engine._run, Engine.places
    monkeypatch.setattr(Engine, "_run", lambda self, encoded, *rest: ran.append(encoded) or run(self, encoded, *rest))
    monkeypatch.setattr(
        Engine, "places", lambda self, encoded, *rest: ran.append(encoded) or places(self, encoded, *rest)
    )
    infer(made, X)
    _, encoded = encoded_rows(made, X)
    assert ran
    rows = {tuple(of_run.row(i).tolist()) for of_run in ran for i in range(len(of_run))}
    assert {tuple(encoded.row(i).tolist()) for i in range(len(encoded))} == rows


@pytest.mark.parametrize("kind", ["bert", "distilbert", "xlm-roberta-xl", "roberta", "minilm"])
def test_relatives_with_pairs(kind, tmp_path):
    made = XLMRobertaVectorizer(write(kind, tmp_path / kind))
    display = AttentionDisplay.from_estimator(made, PAIRS)
    _, encoded = encoded_rows(made, PAIRS)
    theirs = reference_of(made)
    for i, weights in enumerate(display.attentions):
        types = {} if encoded.second_starts is None else {"token_type_ids": types_of(encoded, i)}
        np.testing.assert_allclose(
            weights, reference_attentions(theirs, encoded.row(i), **types), atol=TOLERANCE, rtol=0
        )
    if kind == "bert":  # types matter, or this would prove nothing
        others = reference_attentions(theirs, encoded.row(0))
        assert np.abs(display.attentions[0] - others).max() > 100 * TOLERANCE


def test_languages_of_the_original_xlm(tiny_xlm_languages):
    made = XLMVectorizer(tiny_xlm_languages, lang="ru").fit(["река птица"])
    (weights,) = AttentionDisplay.from_estimator(made, ["река птица"]).attentions
    row = encoded_rows(made, ["река птица"])[1].row(0)
    theirs = reference_of(made)
    expected = reference_attentions(theirs, row, langs=np.full(len(row), 2))
    np.testing.assert_allclose(weights, expected, atol=TOLERANCE, rtol=0)
    assert np.abs(weights - reference_attentions(theirs, row, langs=np.full(len(row), 1))).max() > 100 * TOLERANCE


def test_translations_of_the_original_xlm_count_their_own_positions(tiny_xlm_languages):
    made = XLMMaskedLM.from_checkpoint(tiny_xlm_languages, objective="tlm", lang=("en", "de"))
    display = AttentionDisplay.from_estimator(made, PAIRS[:1])
    _, encoded = encoded_rows(made, PAIRS[:1])
    of_second = types_of(encoded, 0)
    start, n_tokens = encoded.second_starts[0], encoded.lengths[0]
    positions = np.arange(n_tokens) - start * of_second
    expected = reference_attentions(
        reference_of(made), encoded.row(0), position_ids=positions, langs=np.where(of_second, 0, 1)
    )
    np.testing.assert_allclose(display.attentions[0], expected, atol=TOLERANCE, rtol=0)
    assert display.sequence_ids[0][:2] == [-1, 0] and display.sequence_ids[0][start : start + 2] == [-1, 1]


def test_weights_are_float32_in_every_type(tiny_checkpoint):
    texts = ["the bird sings", "das Haus"]
    exact = AttentionDisplay.from_estimator(XLMRobertaVectorizer(tiny_checkpoint, dtype="float32"), texts)
    half = AttentionDisplay.from_estimator(XLMRobertaVectorizer(tiny_checkpoint, dtype="bfloat16"), texts)
    for weights, expected in zip(half.attentions, exact.attentions, strict=True):
        assert weights.dtype == np.float32
        np.testing.assert_allclose(weights, expected, atol=0.02)
        np.testing.assert_allclose(weights.sum(-1), 1, atol=0.02)


def test_weights_that_are_not_finite_are_named(tiny_checkpoint):
    made = XLMRobertaVectorizer(tiny_checkpoint).fit(["a"])
    with torch.no_grad():
        made.module_.backbone.encoder.layer[1].attention.self.key.weight[0, 0] = torch.nan
    with pytest.raises(skxlmr.CheckpointError, match=r"layer\.1\.attention\.self\.key\.weight"):
        AttentionDisplay.from_estimator(made, ["a text"])


def test_a_graph_has_none(fitted, tmp_path):
    made = fitted(skxlmr.XLMRobertaClassifier)
    skxlmr.export_onnx(made, tmp_path / "graph")
    with pytest.raises(
        ValueError, match=r"^attention needs the weights in torch, .* holds the weights with skxlmr\.load"
    ):
        AttentionDisplay.from_estimator(load_onnx(tmp_path / "graph", threads=1), ["a text"])
