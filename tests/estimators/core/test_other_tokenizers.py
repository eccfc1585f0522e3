"""Checkpoints of the family with another tokenizer: RoBERTa's byte-level BPE, as vocab.json and merges.txt."""

import json

import numpy as np
import pytest
import torch
from tokenizers import ByteLevelBPETokenizer
from transformers import RobertaConfig, RobertaForCausalLM, RobertaForMaskedLM, RobertaModel, RobertaTokenizer

from skxlmr import XLMRobertaCausalLM, XLMRobertaClassifier, XLMRobertaMaskedLM, XLMRobertaVectorizer
from tests.estimators.conftest import padded

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


def test_stop_tokens_are_told_as_texts_spell_them(roberta, tmp_path):
    """The vocabulary writes a new line as Ċ and a space before a word as Ġ."""
    for name in ("vocab.json", "merges.txt"):
        (tmp_path / name).write_bytes((roberta / name).read_bytes())
    config = RobertaConfig.from_pretrained(roberta, is_decoder=True)
    model = RobertaForCausalLM(config)
    new_line = json.loads((roberta / "vocab.json").read_text(encoding="utf-8"))["Ċ"]
    with torch.no_grad():
        model.lm_head.bias[new_line] += 50
    model.save_pretrained(tmp_path)
    lm = XLMRobertaCausalLM.from_checkpoint(tmp_path)
    assert lm.generate(["das Haus"], max_new_tokens=3) == ["\n\n\n"]
    assert lm.generate(["das Haus"], max_new_tokens=3, stop_tokens=["\n"]) == ["\n"]
    for token in ("Ċ", "é"):  # the latter is how the vocabulary writes a byte that is no letter
        with pytest.raises(ValueError, match=f"'{token}' is not a token of the checkpoint"):
            lm.generate(["das Haus"], stop_tokens=[token])


def test_targets_are_read_as_they_stand_in_the_text(roberta, tmp_path):
    for name in ("vocab.json", "merges.txt"):
        (tmp_path / name).write_bytes((roberta / name).read_bytes())
    torch.manual_seed(0)
    model = RobertaForMaskedLM(RobertaConfig.from_pretrained(roberta)).eval()
    model.save_pretrained(tmp_path)
    tokenizer = RobertaTokenizer(str(tmp_path / "vocab.json"), str(tmp_path / "merges.txt"))
    lm = XLMRobertaMaskedLM.from_checkpoint(tmp_path, dtype="float32")
    texts = ["the <mask> sings", "hou<mask> <mask>", "<mask> sings", "Das <mask>", "鳥<mask>"]
    for text, masks in zip(texts, lm.fill_mask(texts, targets=["house", " house", "se", "."]), strict=True):
        parts = text.split("<mask>")
        for mask, fillings in enumerate(masks):
            before, after = "<mask>".join(parts[: mask + 1]), "<mask>".join(parts[mask + 1 :])
            for filling in fillings:
                word, ids = filling["token_str"], np.ravel(filling["token"]).tolist()
                filled = (before.rstrip() if word.startswith(" ") else before) + word
                assert filling["sequence"] == filled + after
                assert tokenizer(filled.removeprefix(before.rstrip()), add_special_tokens=False)["input_ids"] == ids
                inputs = padded(lm.tokenizer_, [before + "<mask>" * len(ids) + after], parse_special=True)
                with torch.no_grad():
                    p = model(**inputs).logits[inputs["input_ids"] == tokenizer.mask_token_id].softmax(1)
                expected = p[torch.arange(mask, mask + len(ids)), ids].prod().item()
                assert filling["score"] == pytest.approx(expected, rel=1e-4)


def test_fits_and_refuses_subword_sampling(roberta, texts, languages):
    params = {"max_epochs": 1, "random_state": 0}
    assert set(XLMRobertaClassifier(roberta, **params).fit(texts, languages).predict(texts)) <= set(languages)
    with pytest.raises(ValueError, match="sampling"):
        XLMRobertaClassifier(roberta, subword_sampling=0.1, **params).fit(texts, languages)
