"""Language models of the original XLM: masks, the three objectives, and their scores against transformers."""

import pickle
import warnings

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from skxlmr import (
    CheckpointError,
    TruncationWarning,
    XLMClassifier,
    XLMMaskedLM,
    XLMRobertaMaskedLM,
    XLMVectorizer,
    load,
    save,
)
from skxlmr.estimators._fine_tuning.training_rows import TrainingRows
from tests.estimators.conftest import padded
from tests.tiny import sentences, write_xlm_checkpoint, xlm_tokenizer

MASK = "<special1>"


@pytest.fixture
def texts():
    return sentences(24)


# Masks ----------------------------------------------------------------------------------------------------------------


def test_filled_masks_are_the_references(make_xlm, reference, tiny_xlm):
    lm = XLMMaskedLM.from_checkpoint(tiny_xlm, dtype="float32")
    (found,) = lm.fill_mask([f"the small {MASK} sings"], top_k=4)[0]
    tokenizer = transformers.XLMTokenizer.from_pretrained(tiny_xlm)
    inputs = tokenizer(f"the small {tokenizer.mask_token} sings", return_tensors="pt")
    place = (inputs["input_ids"][0] == tokenizer.mask_token_id).nonzero().item()
    with torch.no_grad():
        expected = reference("XLMWithLMHeadModel", tiny_xlm)(**inputs).logits[0, place].softmax(0).topk(4)
    assert [answer["token"] for answer in found] == expected.indices.tolist()
    np.testing.assert_allclose([answer["score"] for answer in found], expected.values, atol=1e-6)
    assert found[0]["sequence"] == f"the small {found[0]['token_str']} sings"


def test_masks_are_spelt_as_the_checkpoint_spells_them(make_xlm, tiny_checkpoint):
    lm = XLMMaskedLM.from_checkpoint(make_xlm(XLMMaskedLM).checkpoint)
    first, second = lm.fill_mask([f"a {MASK}, old {MASK}!"], targets=["house", "river"])[0]
    assert {answer["token_str"] for answer in first} == {"house", "river"}
    assert first[0]["sequence"] == f"a {first[0]['token_str']}, old {MASK}!"
    assert second[0]["sequence"] == f"a {MASK}, old {second[0]['token_str']}!"
    with pytest.raises(ValueError, match=r"row 0: the text 'a <mask>' has no <special1>: .*, instead of <mask>"):
        lm.fill_mask(["a <mask>"])
    with pytest.raises(ValueError, match=f"row 0: the text 'a {MASK}' has no <mask>"):
        XLMRobertaMaskedLM.from_checkpoint(tiny_checkpoint).fill_mask([f"a {MASK}"])


# Objectives -----------------------------------------------------------------------------------------------------------


def test_causal_scores_are_the_references(make_xlm, tiny_xlm, reference, texts):
    lm = XLMMaskedLM.from_checkpoint(tiny_xlm, objective="clm", dtype="float32")
    model = reference("XLMWithLMHeadModel", tiny_xlm)
    model.transformer.causal = True
    expected = []
    for text in texts:
        ids = padded(lm.tokenizer_, [text])["input_ids"]
        with torch.no_grad():
            log_p = model(ids).logits[0].log_softmax(1)
        expected.append(log_p[:-1].gather(1, ids[0, 1:, None]).sum().item())
    n_predicted = sum(padded(lm.tokenizer_, [text])["input_ids"].shape[1] - 1 for text in texts)
    np.testing.assert_allclose(lm.score_samples(texts), expected, rtol=1e-5)
    assert lm.score(texts) == pytest.approx(sum(expected) / n_predicted, rel=1e-5)
    with pytest.raises(ValueError, match="a causal model does not see what follows a mask"):
        lm.fill_mask([f"a {MASK}"])


def test_translation_scores_are_the_references(make_xlm, tiny_xlm_languages, reference):
    lm = XLMMaskedLM.from_checkpoint(tiny_xlm_languages, objective="tlm", lang=("en", "de"), dtype="float32")
    first, second = (padded(lm.tokenizer_, [text])["input_ids"][0] for text in ("the old house", "das Haus"))
    ids = torch.cat([first, second])
    langs = torch.tensor([1] * len(first) + [0] * len(second))
    positions = torch.cat([torch.arange(len(first)), torch.arange(len(second))])
    model = reference("XLMWithLMHeadModel", tiny_xlm_languages)
    expected = 0.0
    for place in range(len(ids)):
        if ids[place] not in lm.tokenizer_.all_special_ids:
            copy = ids.clone()
            copy[place] = lm.tokenizer_.mask_token_id
            with torch.no_grad():
                logits = model(copy[None], langs=langs[None], position_ids=positions[None]).logits[0, place]
            expected += logits.log_softmax(0)[ids[place]].item()
    assert lm.score_samples([("the old house", "das Haus")])[0] == pytest.approx(expected, rel=1e-5)
    # a text alone is in the first language
    alone = XLMMaskedLM.from_checkpoint(tiny_xlm_languages, lang="en", dtype="float32")
    assert lm.fill_mask([f"das {MASK}"]) == alone.fill_mask([f"das {MASK}"])


def test_translations_need_room_for_two_whole_texts(make_xlm, tiny_xlm_languages):
    pairs = [("the old house", "das Haus")]
    lm = make_xlm(XLMMaskedLM, tiny_xlm_languages, objective="tlm", lang=("en", "de"), max_length=5)
    with pytest.raises(ValueError, match="max_length must be 6 or more, got 5"):
        lm.fit(pairs)
    with pytest.warns(TruncationWarning):
        assert np.isfinite(lm.set_params(max_length=6).fit(pairs).loss_curve_).all()
    with pytest.raises(ValueError, match="max_length must be 6 or more, got 4"):
        lm.set_params(max_length=4).score(pairs)


def test_pairs_are_read_as_the_parameters_say_now(make_xlm, tiny_xlm_languages, tmp_path):
    pairs = [("the old house", "das Haus")]
    lm = make_xlm(XLMMaskedLM, tiny_xlm_languages, objective="tlm", lang=("en", "de"), max_epochs=1).fit(pairs)
    of_translations = lm.score_samples(pairs)
    lm.set_params(objective="mlm", lang="en")
    changed = lm.score_samples(pairs)
    assert changed != of_translations
    save(lm, tmp_path / "saved")
    for other in (load(tmp_path / "saved"), pickle.loads(pickle.dumps(lm))):
        assert other.score_samples(pairs) == changed
        assert other.set_params(objective="tlm", lang=("en", "de")).score_samples(pairs) == of_translations
    assert lm.set_params(objective="tlm", lang=("en", "de")).score_samples(pairs) == of_translations


@pytest.mark.parametrize(("learnt", "named"), [("mlm", "clm"), ("clm", "mlm")])
def test_an_objective_that_is_set_after_fit_leaves_the_model_as_it_is(make_xlm, tmp_path, learnt, named):
    texts = ["the old house", "das Haus"]
    lm = make_xlm(XLMMaskedLM, objective=learnt, max_epochs=1).fit(texts)
    before = lm.score_samples(texts).tolist()
    assert lm.set_params(objective=named).score_samples(texts).tolist() == before
    save(lm, tmp_path / "saved")
    for other in (load(tmp_path / "saved"), pickle.loads(pickle.dumps(lm))):
        assert other.score_samples(texts).tolist() == before


def test_texts_without_a_token_to_predict(make_xlm):
    with pytest.raises(ValueError, match="X has no token to predict"):
        make_xlm(XLMMaskedLM).fit(["", " "])
    causal = make_xlm(XLMMaskedLM, objective="clm").fit(["", " "])  # the end of a text is predicted
    assert np.isfinite(causal.loss_curve_).all()


@pytest.mark.parametrize(("objective", "lang"), [("mlm", "en"), ("clm", "en"), ("tlm", ("en", "de"))])
def test_each_objective_lowers_the_held_out_loss(make_xlm, tiny_xlm_languages, objective, lang):
    def rows(n, seed):
        made = [text.lower() for text in sentences(n, seed)]
        return list(zip(made, made, strict=True)) if objective == "tlm" else made

    options = {"max_epochs": 3, "max_length": 64}
    lm = make_xlm(XLMMaskedLM, tiny_xlm_languages, objective=objective, lang=lang, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TruncationWarning)
        lm.fit(rows(160, 0), X_val=rows(32, 1))
        before = XLMMaskedLM.from_checkpoint(tiny_xlm_languages, objective=objective, lang=lang, max_length=64)
        assert lm.score(rows(8, 1)) > before.score(rows(8, 1)) + 0.5
    assert lm.validation_scores_[0] < lm.validation_scores_[-1] and lm.loss_curve_[-1] < lm.loss_curve_[0]


def test_objectives_differ_in_what_they_predict(make_xlm, texts, monkeypatch):
    def batch_of(objective, lang=None, X=texts):
        lm = make_xlm(XLMMaskedLM, objective=objective, lang=lang, mask_probability=0.3)
        lm._open_checkpoint()
        encoded = lm._encode_training(lm._check_X(X, reset=True))
        task = lm._make_task(TrainingRows(encoded, None, np.ones(len(X), np.float32)))
        return lm, encoded["first"], task.collate(np.arange(len(X)), np.random.default_rng(0))

    lm, encoded, batch = batch_of("clm")
    n_tokens, n_rows = len(encoded.ids), len(texts)
    assert lm.config_.causal and len(batch.targets["labels"]) == n_tokens - n_rows
    assert lm.tokenizer_.mask_token_id not in batch.ids
    places = batch.targets["positions"]
    assert torch.equal(batch.targets["labels"], batch.ids[places + 1])
    ends = torch.tensor(np.cumsum(batch.layout.lengths) - 1)
    assert not set(ends.tolist()) & set(places.tolist()) and set((ends - 1).tolist()) <= set(places.tolist())

    lm, encoded, batch = batch_of("mlm")
    assert not lm.config_.causal and 0.15 * n_tokens < len(batch.targets["labels"]) < 0.4 * n_tokens
    assert lm.tokenizer_.mask_token_id in batch.ids and batch.layout.second_starts is None

    pairs = [("the house", "das Haus"), ("a bird sings slowly", "und")]
    lm, encoded, batch = batch_of("tlm", ("en", "de"), pairs)
    sides = [lm.tokenizer_.encode_batch(side) for side in zip(*pairs, strict=True)]
    for row in range(2):
        assert encoded.row(row).tolist() == [*sides[0].row(row), *sides[1].row(row)]
    assert encoded.second_starts.tolist() == sides[0].lengths.tolist()
    longest_first = np.argsort(-encoded.lengths)
    assert batch.layout.second_starts == sides[0].lengths[longest_first].tolist()
    starts = np.cumsum([0, batch.layout.lengths[0]]) + batch.layout.second_starts
    assert batch.ids[starts].tolist() == [lm.tokenizer_.bos_token_id] * 2
    assert batch.layout.positions_T[starts].tolist() == [0, 0]


@pytest.mark.parametrize(("objective", "lang"), [("mlm", "en"), ("clm", "ru"), ("tlm", ("en", "de"))])
def test_one_step_is_the_references(reference, tmp_path, objective, lang):
    """Loss and gradients of a batch, which the reference reads row by row with languages and positions written out."""
    lang2id = {"de": 0, "en": 1, "ru": 2}
    folder = write_xlm_checkpoint(
        tmp_path / "still",
        xlm_tokenizer(lang2id=lang2id),
        n_langs=3,
        dropout=0.0,
        attention_dropout=0.0,
        causal=objective == "clm",
    )
    lm = XLMMaskedLM.from_checkpoint(folder, objective=objective, lang=lang, mask_probability=0.4, dtype="float32")
    X = [("the old house", "das alte Haus"), ("a bird", "ein Vogel singt langsam"), ("children", "")]
    X = X if objective == "tlm" else [first for first, _ in X]
    encoded = lm._encode_training(lm._check_X(X, reset=True))
    task = lm._make_task(TrainingRows(encoded, None, np.ones(len(X), np.float32)))
    batch = task.collate(np.arange(len(X)), np.random.default_rng(0))
    loss = task.losses(lm.module_.requires_grad_(True), batch)["masked_lm"].sum() / batch.totals["masked_lm"]
    loss.backward()

    model = reference("XLMWithLMHeadModel", folder)
    labels = torch.full_like(batch.ids, -100)
    labels[batch.targets["positions"]] = batch.targets["labels"]
    total = 0.0
    for ids, of_row in zip(*(x.split(batch.layout.lengths) for x in (batch.ids, labels)), strict=True):
        n_first = len(ids)
        if objective == "tlm":  # the first text ends with the first </s>, and both texts count from 0
            n_first = int((ids == lm.tokenizer_.eos_token_id).nonzero()[0]) + 1
        first, second = lang if objective == "tlm" else (lang, lang)
        langs = torch.tensor([lang2id[first]] * n_first + [lang2id[second]] * (len(ids) - n_first))
        positions = torch.cat([torch.arange(n_first), torch.arange(len(ids) - n_first)])
        logits = model(ids[None], langs=langs[None], position_ids=positions[None]).logits[0]
        total = total + torch.nn.functional.cross_entropy(logits, of_row, reduction="sum")
    expected = total / (labels != -100).sum()
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), abs=1e-5)
    theirs = dict(model.named_parameters())
    largest = max(p.grad.abs().max() for p in theirs.values() if p.grad is not None)
    for name, parameter in lm.module_.named_parameters():
        torch.testing.assert_close(parameter.grad, theirs[name].grad, rtol=0, atol=float(largest) * 1e-5, msg=name)


def test_each_side_of_a_translation_is_split_by_its_own_rules(tmp_path):
    folder = write_xlm_checkpoint(tmp_path / "french", xlm_tokenizer(lang2id={"en": 0, "fr": 1}), n_langs=2)
    lm = XLMMaskedLM.from_checkpoint(folder, objective="tlm", lang=("en", "fr"))
    encoded = lm._encode(lm._check_X([("l'oiseau", "l'oiseau")], reset=True))  # l 'oiseau, and l' oiseau
    sides = [lm.tokenizer_.for_language(lang).encode_batch(["l'oiseau"]).ids.tolist() for lang in ("en", "fr")]
    assert sides[0] != sides[1] and encoded.ids.tolist() == sides[0] + sides[1]


def test_translations_share_the_row(make_xlm):
    lm = make_xlm(XLMMaskedLM, objective="tlm", lang=("en", "de"), max_length=20)
    long = "the old house " * 10
    with pytest.warns(TruncationWarning, match="1 of 2 texts are longer than 20 tokens"):
        lm.fit([(long, long), ("a", "b")])
    assert lm.n_truncated_ == 1 and lm.n_features_in_ == 2
    with pytest.warns(TruncationWarning):
        encoded = lm._encode(lm._check_X([(long, long), (long, "b")], reset=False))
    assert encoded.lengths.tolist() == [20, 13] and encoded.second_starts.tolist() == [10, 10]
    assert lm.tokenizer_.language == "en"


@pytest.mark.parametrize(("objective", "lang"), [("mlm", None), ("clm", None), ("tlm", ("en", "de"))])
def test_pairs_without_a_second_text_are_single_texts(make_xlm, objective, lang):
    lm = make_xlm(XLMMaskedLM, objective=objective, lang=lang).fit([("the house", "das Haus"), ("a bird", "")])
    encoded = lm._encode_training(lm._check_X([("a bird", ""), ("the house", "das Haus"), ("birds", "")], reset=False))
    single = lm.tokenizer_.encode_batch(["a bird", "birds"])
    assert [encoded["first"].row(i).tolist() for i in (0, 2)] == [single.row(i).tolist() for i in (0, 1)]
    if objective == "tlm":
        lengths = lm.tokenizer_.encode_batch(["a bird", "the house", "birds"]).lengths
        assert encoded["first"].second_starts.tolist() == lengths.tolist()
    assert np.isfinite(lm.loss_curve_).all()


@pytest.mark.parametrize(
    ("params", "X", "said"),
    [
        ({"objective": "tlm"}, [("a", "b")], "lang must be a pair of languages for objective='tlm', got None"),
        (
            {"objective": "tlm", "lang": "en"},
            [("a", "b")],
            "lang must be a pair of languages for objective='tlm', got 'en'",
        ),
        ({"objective": "tlm", "lang": ("en", 1)}, [("a", "b")], "lang must be a pair of languages"),
        ({"objective": "tlm", "lang": ("en", "de")}, ["a", "b"], "X has single texts"),
        (
            {"objective": "mlm", "lang": ("en", "de")},
            [("a", "b")],
            "lang must be one language or None for objective='mlm'",
        ),
        ({"objective": "mlm", "lang": ("en",)}, ["a"], "lang must be one language or None"),
    ],
    ids=str,
)
def test_objective_and_languages_must_agree(make_xlm, params, X, said):
    with pytest.raises(ValueError, match=said):
        make_xlm(XLMMaskedLM, **params).fit(X)


@pytest.mark.parametrize("objective", ["mlm", "clm"])
def test_a_checkpoint_without_a_head_gets_a_new_one_in_fit(tmp_path, texts, objective):
    """The reference's: the word embeddings, which are tied, and a bias of zeros."""
    tokenizer = xlm_tokenizer(model_max_length=64)
    without, zeros = (write_xlm_checkpoint(tmp_path / name, tokenizer) for name in ("without", "zeros"))
    tensors = load_file(zeros / "model.safetensors")
    tensors["pred_layer.proj.bias"].zero_()
    save_file(tensors, zeros / "model.safetensors")
    del tensors["pred_layer.proj.bias"]
    save_file(tensors, without / "model.safetensors")
    params = {"objective": objective, "max_epochs": 1, "random_state": 0, "dtype": "float32"}
    with pytest.warns(UserWarning, match="has no language modelling head that fits: a new one starts from scratch"):
        made = XLMMaskedLM(without, **params).fit(texts)
    expected = XLMMaskedLM(zeros, **params).fit(texts)
    assert made.loss_curve_ == expected.loss_curve_
    for name, tensor in expected.module_.state_dict().items():
        assert torch.equal(made.module_.state_dict()[name], tensor), name
    with pytest.raises(CheckpointError, match=r"1 tensor missing \(pred_layer\.proj\.bias"):
        XLMMaskedLM.from_checkpoint(without)


def test_a_causal_checkpoint_stays_causal(make_xlm, texts, tmp_path):
    folder = write_xlm_checkpoint(tmp_path / "causal", xlm_tokenizer(), causal=True)
    with pytest.raises(
        ValueError, match="objective='mlm' looks at later tokens, but the checkpoint is causal: pass 'clm'"
    ):
        make_xlm(XLMMaskedLM, folder).fit(texts)
    assert make_xlm(XLMMaskedLM, folder, objective="clm").fit(texts).config_.causal
    with pytest.raises(ValueError, match="the checkpoint is causal: the first token, which its head reads"):
        make_xlm(XLMClassifier, folder).fit(texts, np.arange(24) % 2)
    features = make_xlm(XLMVectorizer, folder, pooling="cls").fit_transform(texts)
    np.testing.assert_allclose(features, np.tile(features[0], (24, 1)), atol=1e-6)
