"""Lists of dicts that estimators return show themselves, and are plain lists to everything else."""

import json
import pickle
import re

import pytest

import skxlmr
from tests.contract import TEXTS, inputs

METHODS = {
    "XLMRobertaTokenClassifier": ("predict_entities", "text"),
    "XLMRobertaQuestionAnswerer": ("predict_spans", "question"),
    "XLMRobertaMaskedLM": ("fill_mask", "text"),
    "XLMMaskedLM": ("fill_mask", "text"),
}


@pytest.mark.parametrize("name", METHODS)
def test_results_show_themselves(fitted, name):
    estimator = getattr(skxlmr, name)
    method, level = METHODS[name]
    made = fitted(estimator)
    X = inputs(estimator)[0][:3]
    if method == "fill_mask":
        (mask,) = made.tokenizer_.convert_ids_to_pieces([made.tokenizer_.mask_token_id])
        X = [f"{mask} {text}" for text in TEXTS[:3]]
    options = {"ignore_labels": ()} if method == "predict_entities" else {}
    found = getattr(made, method)(X, **options)
    assert repr(found).startswith(level) and repr(found).splitlines()[-1].startswith(f"3 {level}s, ")
    plain = json.loads(json.dumps(found))
    assert plain == found and str(found) == str(plain) and pickle.dumps(plain, 4).count(b"skxlmr") == 0
    assert pickle.loads(pickle.dumps(found)) == plain and b"skxlmr" not in pickle.dumps(found)
    html = found._repr_html_()
    for row in plain:
        while isinstance(row, list):
            row = row[0]
        assert f"{row['score']:.4f}" in html or f"{row['score']:.3f}" in html or f"{row['score']:.1e}" in html
    if method != "fill_mask":
        texts = X if method == "predict_entities" else [context for _, context in X]
        shown = re.sub(
            r'<span class="skxlmr-label" dir="auto">.*?</span>|<style>.*?</style>|</?mark[^>]*>',
            "",
            html,
            flags=re.DOTALL,
        )
        assert all(text in shown for text in texts)
    assert getattr(made, method)(X[:0] if method != "fill_mask" else [], **options) == []
