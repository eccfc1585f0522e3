"""The causal language model: training, scores and generation, against the reference on the same folder."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from skxlmr import (
    CheckpointError,
    TruncationWarning,
    XLMRobertaCausalLM,
    XLMRobertaClassifier,
    XLMRobertaDialogueLM,
    XLMRobertaMaskedLM,
    XLMRobertaMultipleChoiceClassifier,
    XLMRobertaRegressor,
    XLMRobertaVectorizer,
    load,
    save,
)
from skxlmr.checkpoints import read_tensors
from skxlmr.estimators._fine_tuning.training_rows import TrainingRows
from tests.estimators.conftest import differing, padded, weights_of
from tests.tiny import sentences, write_checkpoint

PROMPTS = ["the bird", "Das rote Haus singt und", "река", "", "κόκκινο σπίτι", "children walk slowly, the"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_tokenizer):
    """A causal checkpoint with large word embeddings, so that the next tokens depend on the prompt."""
    folder = tmp_path_factory.mktemp("causal") / "checkpoint"
    write_checkpoint(folder, tiny_tokenizer, is_decoder=True)
    lm = XLMRobertaCausalLM.from_checkpoint(folder, dtype="float32")
    with torch.no_grad():
        lm.module_.roberta.embeddings.word_embeddings.weight *= 4
        lm.module_.lm_head.bias[lm.tokenizer_.eos_token_id] += 2
    save(lm, folder.parent / "saved")
    return folder.parent / "saved"


@pytest.fixture(scope="module")
def lm(folder):
    return XLMRobertaCausalLM.from_checkpoint(folder, dtype="float32")


@pytest.fixture(scope="module")
def trained(make, many):
    """Fitted on 128 sentences; it ends them."""
    return make(XLMRobertaCausalLM, max_epochs=8, batch_size=8, learning_rate=5e-3).fit(many[0])


@pytest.fixture(scope="module")
def model(reference, folder):
    return reference("AutoModelForCausalLM", folder)


# Training -------------------------------------------------------------------------------------------------------------


def test_fit_learns_to_continue_texts(trained, many):
    assert trained.loss_curve_[-1] < trained.loss_curve_[0] - 0.5
    assert trained.n_iter_ == 8 and trained.validation_scores_ is None and trained.n_truncated_ == 0
    held_out = sentences(40, seed=9)
    before = XLMRobertaCausalLM(trained.checkpoint, learning_rate=1e-9, max_epochs=1, random_state=0).fit(many[0][:2])
    assert trained.perplexity(held_out) < before.perplexity(held_out) / 3
    short = sorted(held_out, key=len)[:20]
    assert trained.score(short) > trained.score([text[::-1] for text in short]) + 0.5
    found = trained.generate(["the "], max_new_tokens=40)
    assert len(trained.tokenizer_.encode_batch(found).ids) < 42  # the model ends it


def test_an_encoders_checkpoint_becomes_causal(trained, tiny_checkpoint):
    assert trained.config_.is_decoder
    longer, changed = ["das Haus singt"], ["das Haus läuft"]
    vectors = [
        trained.module_.roberta(torch.from_numpy(trained.tokenizer_.encode_batch(text).ids.astype(np.int64))[None])
        for text in (longer, changed)
    ]
    states = [output.last_hidden_state[0, :3] for output in vectors]
    torch.testing.assert_close(*states, rtol=0, atol=0)
    with pytest.raises(CheckpointError, match=r"config\.json.*encoder.*fit turns it into a causal language model"):
        XLMRobertaCausalLM.from_checkpoint(tiny_checkpoint)


def test_head_comes_from_the_checkpoint(make, tiny_checkpoint):
    lm = make(XLMRobertaCausalLM, learning_rate=1e-12, weight_decay=0.0).fit(PROMPTS)
    expected = XLMRobertaMaskedLM.from_checkpoint(tiny_checkpoint, dtype="float32")
    for name, tensor in weights_of(lm).items():
        torch.testing.assert_close(tensor, weights_of(expected)[name], rtol=0, atol=1e-9)


def test_one_step_is_the_references(make, reference, tmp_path, tiny_tokenizer, texts):
    """The loss of the first epoch, which is one step, over shifted labels of a padded batch."""
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "is_decoder": True}
    write_checkpoint(tmp_path / "still", tiny_tokenizer, **still)
    lm = make(XLMRobertaCausalLM, tmp_path / "still", batch_size=48).fit(texts)
    inputs = padded(lm.tokenizer_, texts)
    labels = inputs["input_ids"].masked_fill(inputs["attention_mask"] == 0, -100)
    with torch.no_grad():
        expected = reference("AutoModelForCausalLM", tmp_path / "still")(**inputs, labels=labels).loss
    assert lm.loss_curve_[0] == pytest.approx(float(expected), abs=1e-5)


def test_sample_weights_choose_the_rows(make, still_checkpoint, texts):
    weights = np.r_[np.ones(16), np.zeros(32)]
    lm = make(XLMRobertaCausalLM, still_checkpoint, max_epochs=3, batch_size=48).fit(texts, sample_weight=weights)
    alone = make(XLMRobertaCausalLM, still_checkpoint, max_epochs=3, batch_size=48).fit(texts[:16])
    np.testing.assert_allclose(lm.loss_curve_, alone.loss_curve_, atol=1e-4)


def test_validation_scores_are_scores(make, texts):
    lm = make(XLMRobertaCausalLM, max_epochs=2).fit(texts[:32], X_val=texts[32:])
    assert len(lm.validation_scores_) == 2
    assert lm.validation_scores_[-1] == pytest.approx(lm.score(texts[32:]), abs=1e-5)
    stopped = make(XLMRobertaCausalLM, max_epochs=9, early_stopping=True, tol=100.0, n_iter_no_change=2).fit(texts)
    assert stopped.n_iter_ == 3  # the first score always counts as an improvement


@pytest.mark.parametrize(
    "params", [{"subword_sampling": 0.2}, {"n_frozen_layers": 1}, {"gradient_checkpointing": True}]
)
def test_shared_training_parameters(make, texts, params):
    plain = weights_of(make(XLMRobertaCausalLM).fit(texts))
    found = weights_of(make(XLMRobertaCausalLM, **params).fit(texts))
    frozen = "roberta.embeddings.word_embeddings.weight"
    if "gradient_checkpointing" in params:
        for name, tensor in found.items():
            torch.testing.assert_close(tensor, plain[name], rtol=0, atol=1e-5)
    else:
        assert differing(found, plain)
        assert (
            frozen not in differing(found, weights_of(make(XLMRobertaCausalLM, **params, max_epochs=2).fit(texts)))
        ) == ("n_frozen_layers" in params)


def test_validation_rows_count_by_their_weights(lm, texts):
    weights = np.linspace(0.0, 3.0, len(texts)).astype(np.float32)
    encoded = lm._encode(lm._check_X(texts, reset=False))
    expected = weights @ lm.score_samples(texts) / (weights @ (encoded.lengths - 1))
    assert lm._validation_score(TrainingRows({"encoded": encoded}, None, weights)) == pytest.approx(expected, abs=1e-5)
    assert abs(expected - lm.score(texts)) > 1e-3


# Scores ---------------------------------------------------------------------------------------------------------------


def test_no_texts_have_no_score(lm):
    for score in (lm.score, lm.perplexity):
        with pytest.raises(ValueError, match="X has no rows: at least one text is needed"):
            score([])


def test_scores_are_the_references(lm, model, texts):
    inputs = padded(lm.tokenizer_, texts)
    ids, mask = inputs["input_ids"], inputs["attention_mask"].bool()
    with torch.no_grad():
        log_p = model(**inputs).logits.double().log_softmax(-1)[:, :-1].gather(2, ids[:, 1:, None])[..., 0]
    log_p = log_p.masked_fill(~mask[:, 1:], 0)
    np.testing.assert_allclose(lm.score_samples(texts), log_p.sum(1), atol=1e-3)
    mean = float(log_p.sum() / mask[:, 1:].sum())
    assert lm.score(texts) == pytest.approx(mean, abs=1e-5)
    assert lm.perplexity(texts) == pytest.approx(np.exp(-mean), rel=1e-4)


def test_scores_do_not_depend_on_neighbours(lm, texts):
    together = lm.score_samples(texts)
    alone = [lm.score_samples([text])[0] for text in texts]
    np.testing.assert_allclose(together, alone, atol=1e-4)
    lm_small = XLMRobertaCausalLM.from_checkpoint(lm.checkpoint, dtype="float32", batch_size=1)
    np.testing.assert_allclose(lm_small.score_samples(texts), together, atol=1e-4)


def test_a_cut_text_is_scored_up_to_the_cut(folder):
    short = XLMRobertaCausalLM.from_checkpoint(folder, max_length=8, dtype="float32")
    text = "the small red house walks over the river and the bird sings slowly"
    whole = XLMRobertaCausalLM.from_checkpoint(folder, dtype="float32")
    encoded = whole.tokenizer_.encode_batch([text])
    with torch.no_grad():
        logits = whole.module_(torch.from_numpy(encoded.ids[:7].astype(np.int64))[None])[0]
    expected = logits.log_softmax(1)[torch.arange(6), torch.from_numpy(encoded.ids[1:7].astype(np.int64))].sum()
    with pytest.warns(TruncationWarning, match="1 of 1 texts are longer than 8 tokens"):
        assert short.score_samples([text])[0] == pytest.approx(float(expected), abs=1e-4)


# Generation -----------------------------------------------------------------------------------------------------------


def reference_texts(lm, model, prompts, seeds=None, **options):
    """What transformers generates, one prompt at a time, from the positions of its own forward."""
    found = []
    for i, prompt in enumerate(prompts):
        ids = torch.from_numpy(lm.tokenizer_.encode_batch([prompt]).ids[:-1].astype(np.int64))[None]
        if seeds is not None:
            torch.manual_seed(int(seeds[i]))
            options |= {"do_sample": True, "top_k": options.get("top_k", 0)}
        whole = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            position_ids=torch.arange(ids.shape[1])[None] + lm.tokenizer_.pad_token_id + 1,
            **{"max_new_tokens": 12, "eos_token_id": lm.tokenizer_.eos_token_id} | options,
        )[0].tolist()
        head = lm.tokenizer_.decode(ids[0].tolist())
        found.append(lm.tokenizer_.decode(whole).removeprefix(head))
    return found


@pytest.mark.parametrize("options", [{}, {"repetition_penalty": 1.4}, {"num_beams": 3}])
def test_generated_texts_are_the_references(lm, model, options):
    found = lm.generate(PROMPTS, max_new_tokens=12, **options)
    assert found == reference_texts(lm, model, PROMPTS, **options)
    assert len(set(found)) >= 4
    assert (found == lm.generate(PROMPTS, max_new_tokens=12)) == (not options)


@pytest.mark.parametrize("options", [{}, {"temperature": 0.7}, {"top_k": 3}, {"top_p": 0.5}])
def test_samples_are_the_references(lm, model, options):
    seeds = np.random.RandomState(5).randint(np.iinfo(np.int32).max, size=len(PROMPTS))
    found = lm.generate(PROMPTS, max_new_tokens=12, do_sample=True, random_state=5, **options)
    assert found == reference_texts(lm, model, PROMPTS, seeds, **options)
    assert found != lm.generate(PROMPTS, max_new_tokens=12, do_sample=True, random_state=6, **options)


@pytest.mark.parametrize("options", [{}, {"num_beams": 2}, {"do_sample": True, "random_state": 0}])
def test_neither_batch_size_nor_neighbours_matter(lm, options):
    found = lm.generate(PROMPTS, **options)
    by_two = XLMRobertaCausalLM.from_checkpoint(lm.checkpoint, dtype="float32", batch_size=2)
    assert by_two.generate(PROMPTS, **options) == found
    if "do_sample" not in options:
        assert [lm.generate([prompt], **options)[0] for prompt in PROMPTS] == found
        assert lm.generate(PROMPTS[::-1], **options) == found[::-1]


def test_max_new_tokens_and_stop_tokens(lm):
    free = lm.generate(PROMPTS, max_new_tokens=12)
    short = lm.generate(PROMPTS, max_new_tokens=3)
    assert all(text.startswith(start) for text, start in zip(free, short, strict=True)) and free != short
    pieces = lm.tokenizer_.convert_ids_to_pieces(lm.tokenizer_.encode_batch(free).ids)
    stop = next(piece.removeprefix("▁") for piece in pieces if len(piece.removeprefix("▁")) > 1 and piece[0] != "<")
    stopped = lm.generate(PROMPTS, max_new_tokens=12, stop_tokens=[stop])
    assert stopped != free
    for text, whole in zip(stopped, free, strict=True):
        assert whole.startswith(text) and (text == whole or text.endswith(stop))


def test_prompts_can_be_included(trained):
    prompts = ["the small", "the small ", "das "]
    new = trained.generate(prompts)
    found = trained.generate(prompts, include_prompt=True)
    assert found[0] == "the small" + new[0] and found[1] == found[0]
    assert any(text.startswith(" ") for text in trained.generate(["the small", "река", "das Haus", "πουλί"]))
    assert trained.generate(pd.Series(prompts)) == trained.generate(pd.DataFrame({"p": prompts})) == new


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_new_tokens": 0}, "'max_new_tokens' parameter of generate must be an int"),
        ({"max_new_tokens": 60}, r"prompts row 1: \d+ tokens and max_new_tokens=60 are more than the 64 tokens"),
        ({"temperature": 0.0, "do_sample": True}, "'temperature' parameter"),
        ({"top_k": 0, "do_sample": True}, "'top_k' parameter"),
        ({"top_p": 1.5, "do_sample": True}, "'top_p' parameter"),
        ({"num_beams": 0}, "'num_beams' parameter"),
        ({"repetition_penalty": 0.0}, "'repetition_penalty' parameter"),
        ({"do_sample": True, "num_beams": 2}, "do_sample=True needs num_beams=1, got 2"),
        ({"top_k": 3}, "they need do_sample=True"),
        ({"stop_tokens": ["no such token"]}, "'no such token' is not a token of the checkpoint"),
        ({"stop_tokens": [""]}, "'' is not a token of the checkpoint"),
        ({"stop_tokens": [5]}, "5 is not a token of the checkpoint"),
        ({"stop_tokens": ["\U0001f600"]}, "is not a token of the checkpoint"),
        ({"stop_tokens": "."}, "'stop_tokens' parameter"),
    ],
)
def test_wrong_settings(lm, options, message):
    with pytest.raises(ValueError, match=message):
        lm.generate(["the", "the small bird sings"], **options)


def test_empty_texts_learn_to_end(folder):
    lm = XLMRobertaCausalLM(
        folder, max_epochs=8, learning_rate=1e-2, schedule="constant", random_state=0, dtype="float32"
    )
    lm.fit(["", ""], X_val=[""])
    assert lm.loss_curve_[-1] < lm.loss_curve_[0] - 1 and lm.validation_scores_[-1] == lm.score([""]) < 0
    assert lm.partial_fit([""]).loss_curve_[-1] > 0


def test_missing_prompt_begins_a_new_text(lm, folder):
    found = XLMRobertaCausalLM.from_checkpoint(folder, dtype="float32", missing="empty").generate(["the", None])
    assert found == lm.generate(["the", ""])


def test_wrong_prompts(lm):
    with pytest.raises(ValueError, match="prompts row 1: expected a text, got None"):
        lm.generate(["the", None])
    with pytest.raises(ValueError, match="one column of texts"):
        lm.generate([("a", "b")])
    with pytest.raises(ValueError, match="X must have one column of texts, got 2 columns"):
        lm.score([("a", "b")])
    assert not hasattr(XLMRobertaCausalLM(), "transform") and not hasattr(XLMRobertaCausalLM(), "fill_mask")


# Folders --------------------------------------------------------------------------------------------------------------


def test_saved_folder_is_a_causal_checkpoint(trained, tmp_path, reference, texts):
    save(trained, tmp_path / "saved")
    config = json.loads((tmp_path / "saved" / "config.json").read_text())
    assert config["architectures"] == ["XLMRobertaForCausalLM"] and config["is_decoder"] is True
    loaded = load(tmp_path / "saved")
    assert loaded.generate(PROMPTS) == trained.generate(PROMPTS)
    assert loaded.score(texts) == trained.score(texts)
    model = reference("AutoModelForCausalLM", tmp_path / "saved")
    assert type(model).__name__ == "XLMRobertaForCausalLM"
    inputs = padded(trained.tokenizer_, texts[:1])
    with torch.no_grad():
        expected = model(**inputs).logits
        torch.testing.assert_close(trained.module_(**inputs), expected, rtol=0, atol=1e-5)
    again = XLMRobertaCausalLM.from_checkpoint(tmp_path / "saved")
    assert again.generate(PROMPTS) == trained.generate(PROMPTS)
    # another estimator on the same folder attends causally too, as the reference does
    vectors = XLMRobertaVectorizer(tmp_path / "saved", pooling="cls").fit(texts).transform(texts)
    np.testing.assert_allclose(vectors, np.repeat(vectors[:1], len(texts), 0), atol=1e-5)


@pytest.mark.parametrize(
    ("estimator", "X", "what"),
    [
        (XLMRobertaClassifier, PROMPTS, "the first token, which sees no other token in such a model"),
        (XLMRobertaRegressor, PROMPTS, "the first token, which sees no other token in such a model"),
        (XLMRobertaMultipleChoiceClassifier, [("a", "b", "c")] * 6, "the first token, .* in such a model"),
        (XLMRobertaDialogueLM, [[("user", "a"), ("system", "b")]], "the first token, .* in such a model"),
        (XLMRobertaMaskedLM, PROMPTS, "the tokens after a mask as well as those before it"),
    ],
)
def test_causal_checkpoints_are_refused_where_later_tokens_are_read(folder, estimator, X, what):
    with pytest.raises(
        CheckpointError,
        match=rf"config\.json: describes a causal model .*{estimator.__name__} reads {what}: use XLMRobertaCausalLM$",
    ):
        estimator(folder).fit(X, None if estimator in (XLMRobertaMaskedLM, XLMRobertaDialogueLM) else [0, 1] * 3)


def test_cross_attention_layers_are_kept(tmp_path, tiny_tokenizer, texts):
    """A decoder of an encoder-decoder pair: unused without another text, and saved as they were."""
    write_checkpoint(tmp_path / "cross", tiny_tokenizer, is_decoder=True, add_cross_attention=True)
    lm = XLMRobertaCausalLM(tmp_path / "cross", max_epochs=1, random_state=0, learning_rate=1e-3).fit(texts[:8])
    save(lm, tmp_path / "saved")
    before, after = read_tensors(tmp_path / "cross"), read_tensors(tmp_path / "saved")
    cross = [name for name in before if "crossattention" in name]
    assert len(cross) == 2 * 10 and all(torch.equal(before[name], after[name]) for name in cross)
    assert lm.config_ == replace(lm.config_, is_decoder=True, add_cross_attention=True)
