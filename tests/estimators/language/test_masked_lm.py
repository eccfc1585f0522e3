"""The masked language model: training, filling masks and scoring texts, against the reference on the same folder."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

from skxlmr import CheckpointError, TruncationWarning, XLMRobertaMaskedLM, XLMRobertaVectorizer, save
from skxlmr.checkpoints import read_tensors, write_folder
from tests.estimators.conftest import differing, padded, weights_of
from tests.tiny import write_checkpoint

MASKED = ["Das Haus <mask> singt.", "<mask> птица идёт", "the <mask> bird sings over <mask>!", "a<mask>b", "<mask>"]


@pytest.fixture(scope="module")
def lm(tiny_checkpoint):
    return XLMRobertaMaskedLM.from_checkpoint(tiny_checkpoint, dtype="float32")


@pytest.fixture(scope="module")
def model(reference, tiny_checkpoint):
    return reference("AutoModelForMaskedLM", tiny_checkpoint)


def pairs_of(texts):
    return list(zip(texts, texts[::-1], strict=True))


# Training -------------------------------------------------------------------------------------------------------------


def test_fit_lowers_the_loss(make, many):
    lm = make(XLMRobertaMaskedLM, max_epochs=4, learning_rate=5e-3).fit(many[0])
    assert lm.loss_curve_[-1] < lm.loss_curve_[0] - 0.3
    assert lm.n_iter_ == 4 and lm.validation_scores_ is None
    before = XLMRobertaMaskedLM.from_checkpoint(lm.checkpoint, dtype="float32")
    assert lm.score(many[0][:16]) > before.score(many[0][:16]) + 0.3


@pytest.mark.parametrize("objective", ["translation", "alignment"])
def test_pairs(make, texts, objective):
    lm = make(XLMRobertaMaskedLM, pair_objective=objective).fit(pairs_of(texts))
    assert lm.n_features_in_ == 2 and np.isfinite(lm.loss_curve_).all()
    assert lm.transform(pairs_of(texts)).shape == (48, 32)


def test_alignment_pulls_translations_together(make, still_checkpoint, tmp_path, many):
    first, second = many[0][:32], many[0][32:64]

    def share_found(weight):
        """Share of the texts that have their translation as the nearest of all."""
        training = {"max_epochs": 16, "batch_size": 32, "pair_objective": "alignment", "alignment_weight": weight}
        lm = make(XLMRobertaMaskedLM, still_checkpoint, **training).fit(list(zip(first, second, strict=True)))
        save(lm, tmp_path / f"aligned {weight}")
        vectorizer = make(XLMRobertaVectorizer, tmp_path / f"aligned {weight}", normalize=True).fit(first)
        return np.mean((vectorizer.transform(first) @ vectorizer.transform(second).T).argmax(1) == np.arange(32))

    assert share_found(5.0) > share_found(0.0) + 0.2


@pytest.mark.parametrize("objective", ["translation", "alignment"])
def test_empty_second_text_is_a_single_text(make, still_checkpoint, texts, objective):
    alone = make(XLMRobertaMaskedLM, still_checkpoint, max_epochs=2).fit(texts)
    empty = make(XLMRobertaMaskedLM, still_checkpoint, max_epochs=2, pair_objective=objective)
    empty.fit([(text, "") for text in texts])
    np.testing.assert_allclose(empty.loss_curve_, alone.loss_curve_, atol=1e-6)
    for name, tensor in weights_of(alone).items():
        torch.testing.assert_close(weights_of(empty)[name], tensor, atol=1e-5, rtol=0)


def test_validation_score_is_minus_the_loss(make, texts):
    lm = make(XLMRobertaMaskedLM, max_epochs=3).fit(texts[:32], X_val=texts[32:])
    assert len(lm.validation_scores_) == 3
    assert all(-8 < score < -3 for score in lm.validation_scores_)  # about log(302) = 5.7 at the start
    again = make(XLMRobertaMaskedLM, max_epochs=3).fit(texts[:32], X_val=texts[32:])
    assert again.validation_scores_ == lm.validation_scores_
    assert not differing(weights_of(lm), weights_of(make(XLMRobertaMaskedLM, max_epochs=3).fit(texts[:32])))


def test_share_of_masked_tokens_matters(make, texts):
    few, many = (make(XLMRobertaMaskedLM, mask_probability=share).fit(texts) for share in (0.1, 0.6))
    assert len(differing(weights_of(few), weights_of(many))) > 10


def test_rows_that_weigh_nothing_do_not_matter(make, still_checkpoint, texts):
    weight = np.repeat([1.0, 0.0], [24, 24])
    # as many tokens in both, so that the same places are masked
    first, second = (
        make(XLMRobertaMaskedLM, still_checkpoint, batch_size=48).fit([*texts[:24], *rest], sample_weight=weight)
        for rest in (["bird bird"] * 24, ["river river"] * 24)
    )
    assert first.loss_curve_ == pytest.approx(second.loss_curve_, abs=1e-6)


def test_texts_of_no_tokens_at_all(make):
    lm = make(XLMRobertaMaskedLM).fit(["", "bird sings", ""])
    assert np.isfinite(lm.loss_curve_).all()


@pytest.mark.parametrize("options", [{}, {"pair_objective": "alignment"}], ids=["texts", "alignment"])
def test_texts_without_a_token_to_predict_are_refused(make, texts, options):
    def rows(*texts):
        return [(text, " ") for text in texts] if options else list(texts)

    lm = make(XLMRobertaMaskedLM, **options)
    with pytest.raises(ValueError, match="X has no token to predict: its texts are empty"):
        lm.fit(rows("", " "))
    with pytest.raises(ValueError, match="X has no token to predict"):  # the other row weighs nothing
        lm.fit(rows("", "bird sings"), sample_weight=[1, 0])
    with pytest.raises(ValueError, match=r"^the validation data \(X_val, or .*\) has no token to predict"):
        lm.fit(rows("bird sings"), X_val=rows("", ""))
    before = weights_of(lm.partial_fit(rows("bird sings", "")))
    with pytest.raises(ValueError, match="X has no token to predict"):
        lm.partial_fit(rows(""))
    assert len(lm.loss_curve_) == 1 and not differing(weights_of(lm), before)


def test_saved_folder_loads_in_transformers(make, reference, tmp_path, texts):
    lm = make(XLMRobertaMaskedLM).fit(texts)
    save(lm, tmp_path / "adapted")
    model = reference("AutoModelForMaskedLM", tmp_path / "adapted")
    inputs = padded(lm.tokenizer_, texts)
    with torch.no_grad():
        expected = model(**inputs).logits
        found = lm.module_.cpu()(inputs["input_ids"], attention_mask=inputs["attention_mask"])
    np.testing.assert_allclose(found, expected, atol=1e-5)
    # and every other estimator starts from it
    features = make(XLMRobertaVectorizer, tmp_path / "adapted").fit_transform(texts)
    np.testing.assert_allclose(features, lm.transform(texts), atol=1e-5)


@pytest.mark.parametrize("pooling", ["mean", "cls", "max"])
def test_transform_is_that_of_the_vectorizer(make, tiny_checkpoint, texts, pooling):
    lm = XLMRobertaMaskedLM.from_checkpoint(tiny_checkpoint, pooling=pooling, dtype="float32")
    features = lm.transform(texts)
    assert features.dtype == np.float32
    np.testing.assert_allclose(features, make(XLMRobertaVectorizer, pooling=pooling).fit_transform(texts), atol=1e-5)
    assert lm.get_feature_names_out().tolist() == [f"xlmrobertamaskedlm_{i}" for i in range(32)]


def test_set_output(make, texts):
    series = pd.Series(texts[:4], index=list("abcd"), name="text")
    frame = make(XLMRobertaMaskedLM).set_output(transform="pandas").fit_transform(series)
    assert frame.index.tolist() == list("abcd") and frame.columns[0] == "text_0"


# Checkpoints ----------------------------------------------------------------------------------------------------------


def test_from_checkpoint_needs_the_head(tmp_path, tiny_checkpoint, tiny_tokenizer):
    tensors = {name: tensor for name, tensor in read_tensors(tiny_checkpoint).items() if "lm_head" not in name}
    config = json.loads((tiny_checkpoint / "config.json").read_text())
    write_folder(tmp_path / "bare", config=config, tensors=tensors, tokenizer=tiny_tokenizer)
    with pytest.raises(CheckpointError, match="lm_head"):
        XLMRobertaMaskedLM.from_checkpoint(tmp_path / "bare")


def test_from_checkpoint_checks_parameters(tiny_checkpoint):
    from sklearn.utils._param_validation import InvalidParameterError

    with pytest.raises(InvalidParameterError, match="pooling"):
        XLMRobertaMaskedLM.from_checkpoint(tiny_checkpoint, pooling="pooler")


def test_from_checkpoint_takes_texts_and_pairs(lm, texts):
    frame = pd.DataFrame({"a": texts[:3], "b": texts[3:6]})
    assert lm.transform(frame[["a"]]).shape == lm.transform(frame).shape == (3, 32)
    assert lm.score_samples(texts[:3]).shape == lm.score_samples(frame).shape == (3,)


def test_from_checkpoint_may_be_trained_on(make, tiny_checkpoint, texts):
    lm = XLMRobertaMaskedLM.from_checkpoint(
        tiny_checkpoint,
        warm_start=True,
        max_epochs=1,
        random_state=0,
        dtype="float32",
        warmup_ratio=0.0,
        learning_rate=3e-3,
    )
    start = weights_of(lm)
    assert differing(weights_of(lm.fit(texts)), start)
    assert not differing(weights_of(lm), weights_of(make(XLMRobertaMaskedLM).fit(texts)))


# Filling masks --------------------------------------------------------------------------------------------------------


@torch.no_grad()
def probabilities(model, tokenizer, text):
    """What the reference predicts at each mask, (n_masks, vocabulary)."""
    inputs = padded(tokenizer, [text], parse_special=True)
    logits = model(**inputs).logits[0]
    return logits[inputs["input_ids"][0] == tokenizer.mask_token_id].softmax(1).numpy()


def test_fill_mask_equals_the_pipeline(lm, tiny_checkpoint):
    transformers = pytest.importorskip("transformers")
    pipeline = transformers.pipeline(
        "fill-mask", model=str(tiny_checkpoint), tokenizer=str(tiny_checkpoint), device="cpu"
    )
    for text, found in zip(MASKED, lm.fill_mask(MASKED, top_k=7), strict=True):
        expected = pipeline(text, top_k=7)
        expected = [expected] if text.count("<mask>") == 1 else expected
        assert len(found) == len(expected) == text.count("<mask>")
        for ours, theirs in zip(found, expected, strict=True):
            assert [filling["token"] for filling in ours] == [filling["token"] for filling in theirs]
            assert [filling["token_str"] for filling in ours] == [filling["token_str"] for filling in theirs]
            np.testing.assert_allclose([f["score"] for f in ours], [f["score"] for f in theirs], atol=1e-5)
            if (
                text.count("<mask>") == 1 and " <mask> " in f" {text} "
            ):  # elsewhere their decoding adds spaces to the text
                assert [filling["sequence"] for filling in ours] == [filling["sequence"] for filling in theirs]


def test_fill_mask_with_a_padding_token_in_the_text(lm, tiny_checkpoint):
    transformers = pytest.importorskip("transformers")
    pipeline = transformers.pipeline("fill-mask", str(tiny_checkpoint), tokenizer=str(tiny_checkpoint), device="cpu")
    for text in ("the <pad><pad> small <mask> sings", "<pad> a <mask>", "a <mask> <pad>"):
        expected = [(filling["token"], filling["score"]) for filling in pipeline(text, top_k=7)]
        found = [(filling["token"], filling["score"]) for filling in lm.fill_mask([text], top_k=7)[0][0]]
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_fill_mask_equals_recorded_answers(shared_data):
    lm = XLMRobertaMaskedLM.from_checkpoint(shared_data / "checkpoints" / "mlm", dtype="float32")
    # transformers 4.46.3, which recorded them, loses the head's tied bias when it loads this file.
    torch.nn.init.zeros_(lm.module_.lm_head.bias)
    recorded = json.loads((shared_data / "goldens" / "pipelines.json").read_text(encoding="utf-8"))["fill_mask"]
    assert len(recorded) > 10
    for case in recorded:
        found = lm.fill_mask([case["text"]], top_k=case["top_k"])[0]
        expected = case["result"] if isinstance(case["result"][0], list) else [case["result"]]
        assert [[f["token"] for f in mask] for mask in found] == [[f["token"] for f in mask] for mask in expected]
        assert [[f["token_str"] for f in mask] for mask in found] == [
            [f["token_str"] for f in mask] for mask in expected
        ]
        scores = [np.array([[f["score"] for f in mask] for mask in fillings]) for fillings in (found, expected)]
        np.testing.assert_allclose(*scores, atol=1e-5)


def test_fill_mask_answers_in_order_whatever_the_batch(lm):
    texts = [*MASKED, "river " * 20 + "<mask>"]
    together = lm.fill_mask(texts, top_k=2)
    assert [len(masks) for masks in together] == [text.count("<mask>") for text in texts]
    for text, masks in zip(texts, together, strict=True):
        (alone,) = lm.fill_mask([text], top_k=2)
        for mask, other in zip(masks, alone, strict=True):
            assert [f["token"] for f in mask] == [f["token"] for f in other]
            assert [f["score"] for f in mask] == pytest.approx([f["score"] for f in other], abs=1e-6)


def test_sequence_is_the_text_with_this_mask_filled(lm):
    ((first, second),) = lm.fill_mask(["the <mask> bird sings over <mask>!"], top_k=300)
    word = next(f for f in first if f["token_str"] == "river")
    assert word["sequence"] == "the river bird sings over <mask>!"
    word = next(f for f in second if f["token_str"] == "river")
    assert word["sequence"] == "the <mask> bird sings over river!"
    pieces = lm.tokenizer_.convert_ids_to_pieces([f["token"] for f in first])
    glued = next(f for f, piece in zip(first, pieces, strict=True) if piece == "!")
    assert glued["sequence"] == "the! bird sings over <mask>!"


def test_top_k_beyond_the_vocabulary(lm):
    fillings = lm.fill_mask(["<mask>"], top_k=10_000)[0][0]
    assert len(fillings) == lm.config_.vocab_size
    assert sum(f["score"] for f in fillings) == pytest.approx(1, abs=1e-5)


def test_word_embeddings_without_a_token_fill_no_mask(tmp_path, tiny_tokenizer):
    """Some checkpoints, such as XLM-RoBERTa-XL, have more of them than the tokenizer has tokens."""
    n_tokens = tiny_tokenizer.vocab_size
    folder = write_checkpoint(tmp_path / "wide", tiny_tokenizer, vocab_size=n_tokens + 7)
    lm = XLMRobertaMaskedLM.from_checkpoint(folder, dtype="float32")
    with torch.no_grad():
        lm.module_.lm_head.bias[n_tokens + 2] = 2.0
    fillings = lm.fill_mask(["<mask>"], top_k=10_000)[0][0]
    assert sorted(f["token"] for f in fillings) == list(range(n_tokens))
    assert sum(f["score"] for f in fillings) < 0.99  # the share of the others is not given away, as in the reference


def test_targets_equal_a_computation_by_hand(lm, model, tiny_tokenizer):
    targets = ["bird", "river", "птица", "birdriver", "nni"]
    ids_of = {target: tiny_tokenizer.encode_batch([target]).ids[1:-1].tolist() for target in targets}
    assert {len(ids) for ids in ids_of.values()} > {1}
    assert tiny_tokenizer.convert_ids_to_pieces(ids_of["nni"])[0] == "▁"
    text = "the <mask> sings over <mask> today"
    found = lm.fill_mask([text], targets=targets, top_k=10)[0]
    assert len(found) == 2
    for mask, fillings in enumerate(found):
        expected = {}
        for target, ids in ids_of.items():
            # this mask as many times as the target has tokens, the other one as it is
            parts = text.split("<mask>")
            widened = "<mask>".join(parts[: mask + 1]) + "<mask>" * len(ids) + "<mask>".join(parts[mask + 1 :])
            p = probabilities(model, tiny_tokenizer, widened)[mask : mask + len(ids)]
            expected[target] = np.prod([p[i, token] for i, token in enumerate(ids)])
        ranked = sorted(expected, key=expected.get, reverse=True)
        assert [f["token_str"] for f in fillings] == ranked
        assert [f["score"] for f in fillings] == pytest.approx([expected[t] for t in ranked], rel=1e-4)
        for filling in fillings:
            ids = ids_of[filling["token_str"]]
            assert filling["token"] == (ids[0] if len(ids) == 1 else ids)
    best = found[0][0]
    assert best["sequence"].replace(best["token_str"], "<mask>", 1).replace(" ", "") == text.replace(" ", "")
    assert [len(fillings) for fillings in lm.fill_mask([text], targets=targets, top_k=2)[0]] == [2, 2]


def test_target_in_a_script_without_spaces_has_none_before_it():
    lm = XLMRobertaMaskedLM.from_checkpoint("skxlmr-mini", dtype="float32")
    space, bird = lm.tokenizer_.encode_batch(["鳥"]).ids[1:-1].tolist()
    assert lm.tokenizer_.convert_ids_to_pieces([space, bird]) == ["▁", "鳥"]
    (every,) = lm.fill_mask(["小さい<mask>が歌う。"], top_k=lm.tokenizer_.vocab_size)[0]
    (found,) = lm.fill_mask(["小さい<mask>が歌う。"], targets=["鳥"])[0]
    assert [(f["token"], f["sequence"]) for f in found] == [(bird, "小さい鳥が歌う。")]
    assert found[0]["score"] == pytest.approx(next(f["score"] for f in every if f["token"] == bird), rel=1e-5)


def test_no_texts_have_no_masks(lm):
    assert lm.fill_mask([], targets=["bird"]) == lm.fill_mask([]) == []


def test_missing_text_is_an_empty_one_without_a_mask(tiny_checkpoint):
    lm = XLMRobertaMaskedLM.from_checkpoint(tiny_checkpoint, missing="empty")
    with pytest.raises(ValueError, match="row 1: the text '' has no <mask>"):
        lm.fill_mask(["a <mask>", None])


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (
            lambda lm: lm.fill_mask(["a <mask>", "no gap", "none"]),
            "row 1: the text 'no gap' has no <mask>: write <mask>",
        ),
        (lambda lm: lm.fill_mask(["a [MASK]"]), r"has no <mask>: write <mask> .*, instead of \[MASK\]"),
        (lambda lm: lm.fill_mask(["<mask>"], top_k=0), "top_k must be a whole number of at least 1, got 0"),
        (lambda lm: lm.fill_mask(["<mask>"], top_k=2.5), "top_k must be a whole number of at least 1, got 2.5"),
        (lambda lm: lm.fill_mask(["<mask>"], targets=[]), "targets has no rows"),
        (lambda lm: lm.fill_mask(["<mask>"], targets=["bird", ""]), "targets: '' has no tokens"),
        (
            lambda lm: lm.fill_mask(["<mask>"], targets=["bird", "鳥"]),
            "targets: '鳥' has characters .*they become <unk>",
        ),
        (lambda lm: lm.fill_mask(["<mask>"], targets=["birdß"]), "targets: 'birdß' has characters .* vocabulary lacks"),
        (lambda lm: lm.fill_mask(["<mask>"], targets=["bird", None]), "targets row 1: expected a text, got None"),
        (lambda lm: lm.fill_mask([("<mask>", "b")]), "texts must have one column of texts, got 2 columns"),
        (lambda lm: lm.fill_mask(["<mask>", None]), "texts row 1: expected a text, got None"),
        (lambda lm: lm.fill_mask(["river " * 31 + "<mask>"], targets=["bird " * 40]), "row 0: the text leaves no room"),
        (
            lambda lm: lm.fill_mask(["<mask> <mask>", "river " * 31 + "<mask>"], targets=["bird " * 40]),
            "row 1: the text leaves no room",
        ),
    ],
)
def test_calls_that_cannot_be_answered(lm, call, said):
    with pytest.raises(ValueError, match=said):
        call(lm)


def test_mask_that_truncation_cut_off(lm):
    with pytest.warns(TruncationWarning), pytest.raises(ValueError, match="row 0: no <mask> among the first 64 tokens"):
        lm.fill_mask(["bird " * 80 + "<mask>"])


# Scoring texts --------------------------------------------------------------------------------------------------------


@torch.no_grad()
def pseudo_log_likelihood(model, tokenizer, *sides):
    """The reference: one forward pass for each token."""
    ids = padded(tokenizer, *[[side] for side in sides])["input_ids"]
    total, count = 0.0, 0
    for place in range(ids.shape[1]):
        if ids[0, place].item() in tokenizer.all_special_ids:
            continue
        masked = ids.clone()
        masked[0, place] = tokenizer.mask_token_id
        total += model(masked).logits[0, place].double().log_softmax(0)[ids[0, place]].item()
        count += 1
    return total, count


def test_scores_equal_a_loop_over_the_reference(lm, model, tiny_tokenizer, texts):
    X = [*texts[:10], "", "bird", "<mask> </s>"]
    expected = [pseudo_log_likelihood(model, tiny_tokenizer, text) for text in X]
    found = lm.score_samples(X)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, [total for total, _ in expected], rtol=1e-5, atol=1e-5)
    sums, counts = np.sum(expected, axis=0)
    assert lm.score(X) == pytest.approx(sums / counts, rel=1e-5)
    assert found[10] == 0 and lm.score([""]) == 0


def test_scores_of_pairs(make, texts, reference, tmp_path):
    lm = make(XLMRobertaMaskedLM).fit(pairs_of(texts))
    save(lm, tmp_path / "pairs")
    model = reference("AutoModelForMaskedLM", tmp_path / "pairs")
    pairs = pairs_of(texts)[:4]
    expected = [pseudo_log_likelihood(model, lm.tokenizer_, *pair)[0] for pair in pairs]
    np.testing.assert_allclose(lm.score_samples(pairs), expected, rtol=1e-5)


def test_no_texts_have_no_score(lm):
    assert lm.score_samples([]).shape == (0,)
    with pytest.raises(ValueError, match="X has no rows: at least one text is needed"):
        lm.score([])


def test_scores_do_not_depend_on_batches(lm, texts):
    import copy

    small = copy.deepcopy(lm).set_params(batch_size=1)
    np.testing.assert_allclose(small.score_samples(texts[:12]), lm.score_samples(texts[:12]), rtol=1e-6)
