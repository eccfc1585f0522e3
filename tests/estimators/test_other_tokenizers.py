"""Checkpoints of the family with another tokenizer: RoBERTa's byte-level BPE, as vocab.json and merges.txt."""

import json

import numpy as np
import pytest
import torch
from tokenizers import ByteLevelBPETokenizer
from transformers import RobertaConfig, RobertaModel, RobertaTokenizer

from skxlmr import XLMRobertaClassifier, XLMRobertaVectorizer

SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]


@pytest.fixture(scope="module")
def roberta(tmp_path_factory, texts):
    """A tiny RoBERTa checkpoint written by transformers."""
    folder = tmp_path_factory.mktemp("roberta")
    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator(texts, vocab_size=320, special_tokens=SPECIAL, show_progress=False)
    bpe.save_model(str(folder))
    torch.manual_seed(0)
    config = RobertaConfig(
        vocab_size=bpe.get_vocab_size(),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=130,
        type_vocab_size=1,
        layer_norm_eps=1e-5,
    )
    RobertaModel(config).save_pretrained(folder)
    assert json.loads((folder / "config.json").read_text())["model_type"] == "roberta"
    return folder


def test_features_equal_the_reference(roberta, texts):
    rows = list(texts[:8])
    tokenizer = RobertaTokenizer(str(roberta / "vocab.json"), str(roberta / "merges.txt"))
    batch = tokenizer(rows, padding=True, return_tensors="pt")
    with torch.no_grad():
        states = RobertaModel.from_pretrained(roberta).eval()(**batch).last_hidden_state
    mask = batch["attention_mask"][..., None]
    expected = (states * mask).sum(1) / mask.sum(1)
    found = XLMRobertaVectorizer(roberta).fit_transform(rows)
    assert np.abs(found - expected.numpy()).max() < 1e-5


def test_fits_and_refuses_subword_sampling(roberta, texts, languages):
    params = {"max_epochs": 1, "random_state": 0}
    assert set(XLMRobertaClassifier(roberta, **params).fit(texts, languages).predict(texts)) <= set(languages)
    with pytest.raises(ValueError, match="sampling"):
        XLMRobertaClassifier(roberta, subword_sampling=0.1, **params).fit(texts, languages)
