"""The dialogue model: what it reads, what it adds to the vocabulary, how it ranks, and that it learns."""

import contextlib
import json
import shutil

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from safetensors.torch import load_file, save_file
from sklearn.model_selection import GroupKFold, cross_val_score

from skxlmr import CheckpointError, TruncationWarning, XLMRobertaDialogueLM, XLMRobertaVectorizer, load, save
from skxlmr.estimators._dialogues.rows import check_dialogues
from skxlmr.metrics import recall_at_k
from tests.estimators.conftest import differing, weights_of
from tests.estimators.dialogues.dialogues import CONTEXTS, DIALOGUES, WORDS, dialogue


@pytest.fixture(scope="module")
def fitted(make):
    return make(XLMRobertaDialogueLM).fit(DIALOGUES)


# What is read -----------------------------------------------------------------------------------------------------------


def spoken(dialogues):
    return dialogues.texts, dialogues.from_system.tolist(), dialogues.n_turns.tolist()


def test_ways_to_write_a_dialogue():
    expected = spoken(check_dialogues(DIALOGUES))
    assert expected[1][:4] == [False, True, False, True] and expected[2] == [4] * 8
    pairs = [[(turn["speaker"], turn["text"]) for turn in turns] for turns in DIALOGUES]
    flat = [(f"d{i}", *turn) for i, turns in enumerate(pairs) for turn in turns]
    cells = np.empty(8, object)
    cells[:] = DIALOGUES
    columns = ["dialogue", "speaker", "text"]
    ways = {
        "pairs": pairs,
        "tuples": tuple(map(tuple, pairs)),
        "dialogues with other keys": [{"id": i, "turns": turns} for i, turns in enumerate(DIALOGUES)],
        "turns with other keys": [[{**turn, "acts": []} for turn in turns] for turns in DIALOGUES],
        "short names": [
            [(speaker[:3].upper().replace("USE", "USR"), text) for speaker, text in turns] for turns in pairs
        ],
        "array": cells,
        "Series": pd.Series(DIALOGUES, index=range(5, 13)),
        "column": pd.DataFrame({"talk": DIALOGUES}),
        "polars": pl.Series(DIALOGUES),
        "arrow": pa.array(DIALOGUES),
        "arrow column": pa.table({"talk": DIALOGUES}),
        "frame of turns": pd.DataFrame(flat, columns=columns),
        "polars frame of turns": pl.DataFrame(flat, schema=columns, orient="row"),
        "arrow table of turns": pa.table(dict(zip(columns, map(list, zip(*flat, strict=True)), strict=True))),
    }
    for name, X in ways.items():
        assert spoken(check_dialogues(X)) == expected, name


def test_turns_of_a_frame_are_put_together_by_their_dialogue():
    frame = pd.DataFrame({"speaker": list("uvuv"), "dialogue": [2, 1, 1, 2], "text": list("abcd"), "more": range(4)})
    found = check_dialogues(frame, speakers={"u": "user", "v": "system"})
    assert spoken(found) == (["a", "d", "b", "c"], [False, True, True, False], [2, 2])


@pytest.mark.parametrize(
    ("X", "error", "reason"),
    [
        ("hello", TypeError, "X must be a list, array, Series or DataFrame of dialogues, got a str"),
        ({"turns": []}, TypeError, "got a dict"),
        (iter(DIALOGUES), TypeError, "got a list_iterator"),
        (None, TypeError, "got a NoneType"),
        ([], ValueError, "X has no rows"),
        ([DIALOGUES[0], None], ValueError, "X dialogue 1: expected a list of turns, got None"),
        ([DIALOGUES[0], []], ValueError, "X dialogue 1: expected at least one turn, got none"),
        ([{"turn": []}], ValueError, "X dialogue 0: expected a list of turns"),
        ([("user", "hi")], ValueError, "X dialogue 0: expected a list of turns|X dialogue 0, turn 0: .* got 'user'"),
        (
            [DIALOGUES[0], [("user", "a"), ("system", None)]],
            ValueError,
            "X dialogue 1, turn 1: expected a text, got None",
        ),
        ([[("user", "a"), ("system", float("nan"))]], ValueError, "turn 1: expected a text, got NaN"),
        (
            [[("user", "a"), ("agent", "b")]],
            ValueError,
            "turn 1: expected one of the speakers .*, got 'agent' .* speakers",
        ),
        ([[("user", "a"), (1, "b")]], ValueError, "turn 1: expected one of the speakers .*, got 1 of type int"),
        ([[{"speaker": "user"}]], ValueError, "turn 0: expected a dict with speaker and text"),
        ([[("user", "a", "b")]], ValueError, "turn 0: expected a dict with speaker and text, or both as a pair"),
        (pd.DataFrame({"a": DIALOGUES, "b": 1}), ValueError, "one column of dialogues or the columns .*, got a, b"),
        (
            pd.DataFrame({"dialogue": ["x", "x"], "speaker": ["user", "bot"], "text": "hi"}),
            ValueError,
            "X dialogue 'x', turn 1: expected one of the speakers",
        ),
        *(
            (
                pd.DataFrame({"dialogue": ["x", missing], "speaker": "user", "text": "hi"}, dtype=object),
                ValueError,
                r"X row 1: expected a dialogue's number or name, got",
            )
            for missing in (None, float("nan"), pd.NA, pd.NaT, ["x"])
        ),
        (
            pd.DataFrame([["x", "user", "hi", "ho"]], columns=["dialogue", "speaker", "text", "text"]),
            ValueError,
            "X must have one column text, got 2",
        ),
    ],
)
def test_invalid_dialogues_are_named(make, X, error, reason):
    with pytest.raises(error, match=reason):
        make(XLMRobertaDialogueLM).fit(X)


def test_speakers_names_the_system_and_the_user(make):
    renamed = [[("caller" if t["speaker"] == "user" else "Agent", t["text"]) for t in turns] for turns in DIALOGUES]
    speakers = {"caller": "user", "Agent": "system"}
    expected = make(XLMRobertaDialogueLM).fit(DIALOGUES)
    found = make(XLMRobertaDialogueLM, speakers=speakers).fit(renamed)
    np.testing.assert_array_equal(found.transform(renamed), expected.transform(DIALOGUES))
    np.testing.assert_array_equal(found.transform(DIALOGUES), expected.transform(DIALOGUES))
    for wrong in ({"caller": "customer"}, {3: "user"}):
        with pytest.raises(ValueError, match="speakers must map each name to 'system' or 'user'"):
            make(XLMRobertaDialogueLM, speakers=wrong).fit(DIALOGUES)


# The vocabulary ---------------------------------------------------------------------------------------------------------


def test_speakers_tokens_are_added_and_old_rows_stay_bit_for_bit(make, tiny_checkpoint, tiny_tokenizer):
    before = load_file(tiny_checkpoint / "model.safetensors")
    still = {"learning_rate": 1e-30, "weight_decay": 0.0}
    found = make(XLMRobertaDialogueLM, **still).fit(DIALOGUES)
    n = tiny_tokenizer.vocab_size
    assert found.tokenizer_.vocab_size == found.config_.vocab_size == n + 2
    assert [found.tokenizer_.token_to_id(token) for token in ("[SYS]", "[USR]")] == [n, n + 1]
    after = found.module_.state_dict()
    words = "roberta.embeddings.word_embeddings.weight"
    assert torch.equal(after[words][:n], before[words]) and torch.equal(
        after["lm_head.bias"][:n], before["lm_head.bias"]
    )
    assert after[words].shape == (n + 2, 32) and after["lm_head.bias"][n:].abs().max() < 1e-20
    for name in before.keys() & after.keys() - {words, "lm_head.bias"}:
        assert torch.equal(after[name], before[name]), name
    new = after[words][n:]
    assert 0.1 < new.std() < 0.3  # initializer_range is 0.2
    again = make(XLMRobertaDialogueLM, **still).fit(DIALOGUES).module_.state_dict()[words]
    other = make(XLMRobertaDialogueLM, **still, random_state=1).fit(DIALOGUES).module_.state_dict()[words]
    assert torch.equal(again[n:], new) and not torch.equal(other[n:], new)


def test_untied_heads_grow_too(make, tiny_checkpoint, tmp_path):
    folder = tmp_path / "untied"
    config = json.loads((tiny_checkpoint / "config.json").read_text()) | {"tie_word_embeddings": False}
    tensors = load_file(tiny_checkpoint / "model.safetensors")
    n, words = config["vocab_size"], "roberta.embeddings.word_embeddings.weight"
    tensors["lm_head.decoder.weight"] = tensors[words] + 1
    folder.mkdir()
    for name in ("sentencepiece.bpe.model", "tokenizer_config.json"):
        (folder / name).write_bytes((tiny_checkpoint / name).read_bytes())
    (folder / "config.json").write_text(json.dumps(config))
    save_file(tensors, folder / "model.safetensors")
    found = make(XLMRobertaDialogueLM, folder, learning_rate=1e-30, weight_decay=0.0).fit(DIALOGUES)
    decoder = found.module_.lm_head.decoder
    assert decoder.weight.shape == (n + 2, 32) and decoder.out_features == n + 2
    assert torch.equal(decoder.weight[:n], tensors["lm_head.decoder.weight"])
    assert not torch.equal(decoder.weight[n:], found.module_.roberta.get_input_embeddings().weight[n:])


def test_a_saved_model_is_a_checkpoint_for_all(make, fitted, tmp_path, reference):
    folder = tmp_path / "dialogue"
    save(fitted, folder)
    back, own = load(folder), XLMRobertaDialogueLM.from_checkpoint(folder, dtype="float32")
    for twin in (back, own):
        np.testing.assert_array_equal(twin.transform(DIALOGUES), fitted.transform(DIALOGUES))
        assert twin.tokenizer_ == fitted.tokenizer_ and twin.config_ == fitted.config_
    assert vars(back).keys() == vars(fitted).keys() and back.loss_curve_ == fitted.loss_curve_
    again = make(XLMRobertaDialogueLM, folder).fit(DIALOGUES)  # has the tokens: nothing is added
    assert again.config_.vocab_size == fitted.config_.vocab_size
    assert again.tokenizer_ == fitted.tokenizer_
    # transformers, and with it the flattened text that the estimator means
    text = "[USR] haus vogel [SYS] ein kleines Haus [USR] дом река"
    transformers = pytest.importorskip("transformers")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = reference("XLMRobertaForMaskedLM", folder)
    assert model.config.vocab_size == len(tokenizer) == fitted.tokenizer_.vocab_size
    with torch.inference_mode():
        inputs = tokenizer(text, return_tensors="pt")
        hidden = model.roberta(**inputs).last_hidden_state
    turns = [("user", "haus vogel"), ("system", "ein kleines Haus"), ("user", "дом река")]
    np.testing.assert_allclose(fitted.transform([turns]), hidden[:, 0], atol=1e-5)
    # other estimators read the same folder, and a text spells the speakers
    features = XLMRobertaVectorizer(folder, pooling="cls").fit_transform([text])
    np.testing.assert_allclose(features, hidden[:, 0], atol=1e-5)


@pytest.mark.parametrize("part", ["masked LM", "encoder"])
def test_folders_like_tod_xlmr(make, fitted, tmp_path, part):
    """XLM-R's files with a vocabulary of two more; the tokens in added_tokens.json, not special."""
    folder = tmp_path / "tod"
    save(fitted, folder)
    n = fitted.config_.vocab_size
    (folder / "skxlmr.json").unlink()
    config = json.loads((folder / "tokenizer_config.json").read_text())
    del config["added_tokens_decoder"]
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "added_tokens.json").write_text(json.dumps({"[SYS]": n - 2, "[USR]": n - 1}))
    tensors = load_file(folder / "model.safetensors")
    if part == "encoder":
        tensors = {k.removeprefix("roberta."): v for k, v in tensors.items() if not k.startswith("lm_head.")}
        save_file(tensors, folder / "model.safetensors")

    def warns():
        if part == "masked LM":
            return contextlib.nullcontext()
        return pytest.warns(
            UserWarning, match="has no language modelling head that fits: a new one starts from scratch"
        )

    state = torch.get_rng_state()
    with warns():
        found = XLMRobertaDialogueLM.from_checkpoint(folder, dtype="float32")
    assert torch.equal(torch.get_rng_state(), state)
    np.testing.assert_array_equal(found.transform(DIALOGUES), fitted.transform(DIALOGUES))
    spelt = [[("user", "haus [SYS] vogel")]]  # a turn cannot spell a speaker, whatever the folder says of the tokens
    np.testing.assert_array_equal(found.transform(spelt), fitted.transform(spelt))
    turns = [[("user", "haus"), ("system", "vogel")]]
    assert np.abs(found.transform(spelt) - found.transform(turns)).max() > 0.01
    with warns():
        again = make(XLMRobertaDialogueLM, folder).fit(DIALOGUES)
    assert again.config_.vocab_size == n


def test_a_checkpoint_without_the_tokens_needs_fit(tiny_checkpoint):
    with pytest.raises(
        CheckpointError, match=r"without word embeddings of \[SYS\] and \[USR\]: fit adds and trains them"
    ):
        XLMRobertaDialogueLM.from_checkpoint(tiny_checkpoint)


def test_spare_rows_of_the_word_embeddings_are_not_speakers(make, tiny_checkpoint, tmp_path):
    """A vocabulary that was rounded up: the new tokens take rows that are there, but untrained."""
    folder = tmp_path / "spare"
    shutil.copytree(tiny_checkpoint, folder)
    config = json.loads((folder / "config.json").read_text())
    tensors = load_file(folder / "model.safetensors")
    for name in ("roberta.embeddings.word_embeddings.weight", "lm_head.bias"):
        tensors[name] = torch.cat([tensors[name], torch.full_like(tensors[name][:20], 0.125)])
    save_file(tensors, folder / "model.safetensors")
    n = config["vocab_size"]
    (folder / "config.json").write_text(json.dumps(config | {"vocab_size": n + 20}))
    with pytest.raises(CheckpointError, match="without word embeddings of"):
        XLMRobertaDialogueLM.from_checkpoint(folder)
    fitted = make(XLMRobertaDialogueLM, folder).fit(DIALOGUES)
    assert fitted.config_.vocab_size == n + 20
    assert fitted.tokenizer_.token_to_id("[USR]") == n + 1


# Training ---------------------------------------------------------------------------------------------------------------


def test_learns_which_response_follows(make):
    train = [dialogue(i, 2 + 2 * (i % 3)) for i in range(48)]
    learnt = make(XLMRobertaDialogueLM, max_epochs=10, batch_size=8, learning_rate=2e-3).fit(train)
    order, _ = learnt.rank_responses(CONTEXTS, WORDS)
    assert recall_at_k(range(8), order) >= 0.75 and learnt.score(DIALOGUES) >= 0.75
    alone = make(XLMRobertaDialogueLM, max_epochs=10, batch_size=8, learning_rate=2e-3, contrastive_weight=0.0).fit(
        train
    )
    assert recall_at_k(range(8), alone.rank_responses(CONTEXTS, WORDS)[0]) <= 0.5
    assert learnt.loss_curve_[-1] < learnt.loss_curve_[0]


def test_parameters_matter(make, fitted):
    for params in ({"mask_probability": 0.5}, {"contrastive_weight": 0.3}, {"contrastive_weight": 0.0}):
        other = make(XLMRobertaDialogueLM, **params).fit(DIALOGUES)
        assert differing(weights_of(other), weights_of(fitted)), params


def test_accumulated_batches_equal_one_large_batch(make, still_checkpoint):
    train = [dialogue(i, 2 + i % 5) for i in range(32)]
    one = make(XLMRobertaDialogueLM, still_checkpoint, batch_size=16, learning_rate=1e-4, max_epochs=2).fit(train)
    many = make(XLMRobertaDialogueLM, still_checkpoint, batch_size=2, accumulate=8, learning_rate=1e-4, max_epochs=2)
    many.fit(train)
    for name, value in weights_of(one).items():
        if not name.endswith("key.bias"):  # its gradient is rounding alone, which AdamW turns into whole steps
            torch.testing.assert_close(many.module_.state_dict()[name], value, rtol=0, atol=2e-6, msg=name)
    assert many.loss_curve_ == pytest.approx(one.loss_curve_, rel=1e-6)
    small = make(XLMRobertaDialogueLM, still_checkpoint, batch_size=2, learning_rate=1e-4, max_epochs=2).fit(train)
    assert abs(small.loss_curve_[0] - one.loss_curve_[0]) > 0.1  # fewer negatives


def test_weights_validation_and_early_stopping(make):
    weights = np.arange(8.0)
    found = make(XLMRobertaDialogueLM).fit(DIALOGUES, sample_weight=weights, X_val=DIALOGUES[:3])
    assert len(found.validation_scores_) == 1 and found.validation_scores_[0] < 0
    turns = pd.DataFrame({"dialogue": [1, 1, 2], "speaker": ["user", "system", "user"], "text": ["a", "b", "c"]})
    for method in (make(XLMRobertaDialogueLM).fit, make(XLMRobertaDialogueLM).partial_fit, found.score):
        with pytest.raises(ValueError, match=r"^sample_weight has 3 numbers, expected 2, one for each dialogue$"):
            method(turns, sample_weight=[1.0, 2.0, 3.0])
    even = make(XLMRobertaDialogueLM).fit(DIALOGUES)
    assert differing(weights_of(found), weights_of(even)) and even.validation_scores_ is None
    stopped = make(XLMRobertaDialogueLM, early_stopping=True, tol=100.0, n_iter_no_change=1, max_epochs=5)
    stopped.fit(DIALOGUES * 3)
    assert stopped.n_iter_ == 2 and len(stopped.validation_scores_) == 2
    lone = make(XLMRobertaDialogueLM).fit([[("system", "haus")], [("user", "дом")]])
    assert np.isfinite(lone.loss_curve_).all()


def test_dialogues_without_a_token_to_predict(make):
    empty = [[("user", ""), ("system", " ")]] * 2
    with pytest.raises(ValueError, match=r"^X has no token to predict"):
        make(XLMRobertaDialogueLM).fit(empty)
    with pytest.raises(ValueError, match=r"^the validation data \(X_val, or .*\) has no token to predict"):
        make(XLMRobertaDialogueLM).fit(DIALOGUES[:4], X_val=empty)
    lm = make(XLMRobertaDialogueLM, max_epochs=1).fit([*DIALOGUES[:3], *empty])
    assert np.isfinite(lm.loss_curve_).all()


def test_subword_sampling_and_warm_start(make, fitted):
    sampled = make(XLMRobertaDialogueLM, subword_sampling=0.2).fit(DIALOGUES)
    assert differing(weights_of(sampled), weights_of(fitted))
    on = make(XLMRobertaDialogueLM, warm_start=True).fit(DIALOGUES)
    module = on.module_
    on.fit(DIALOGUES)
    assert on.module_ is module and differing(weights_of(on), weights_of(fitted))
    assert on.config_.vocab_size == fitted.config_.vocab_size


def test_too_long_dialogues_are_counted_and_cut_from_the_left(make):
    long = [dialogue(0, 30), dialogue(1, 2), dialogue(2, 24)]
    with pytest.warns(
        TruncationWarning, match=r"2 of 3 dialogues are longer than 64 tokens and were cut to their last turns"
    ):
        found = make(XLMRobertaDialogueLM).fit(long)
    assert found.n_truncated_ == 2
    with pytest.warns(TruncationWarning):
        cut = found.transform(long[:1])
    n_tokens = np.cumsum([found._encode(found._check_X([[turn]], False)).lengths[0] for turn in long[0][::-1]])
    n_fit = np.count_nonzero(n_tokens <= 62)
    np.testing.assert_allclose(cut, found.transform([long[0][-n_fit:]]), atol=1e-6)
    with pytest.warns(
        TruncationWarning, match="1 of 2 responses are longer than 64 tokens and were cut to their start"
    ):
        found.rank_responses(long[1:2], ["vogel haus " * 40, "haus"])
    shorter = make(XLMRobertaDialogueLM, max_length=8)
    with pytest.warns(TruncationWarning, match="3 of 3 dialogues are longer than 8 tokens"):
        assert shorter.fit(long).n_truncated_ == 3


# Frames -----------------------------------------------------------------------------------------------------------------


def test_names_of_columns(make):
    frame = pd.DataFrame({"talk": DIALOGUES})
    found = make(XLMRobertaDialogueLM).fit(frame)
    assert found.feature_names_in_.tolist() == ["talk"] and found.n_features_in_ == 1
    assert found.get_feature_names_out()[1] == "talk_1"
    assert found.set_output(transform="pandas").transform(frame).shape == (8, 32)
    turns = pd.DataFrame([(i, t["speaker"], t["text"]) for i, d in enumerate(DIALOGUES) for t in d])
    turns.columns = ["dialogue", "speaker", "text"]
    unnamed = make(XLMRobertaDialogueLM).fit(turns)
    assert unnamed.n_features_in_ == 1 and not hasattr(unnamed, "feature_names_in_")
    np.testing.assert_array_equal(unnamed.transform(turns), unnamed.transform(DIALOGUES))
    renamed = turns.assign(dialogue="d" + turns["dialogue"].astype(str)).set_index(turns.index + 100)
    framed = unnamed.set_output(transform="pandas").transform(renamed)
    assert framed.index.tolist() == [f"d{i}" for i in range(8)] and framed.index.name == "dialogue"
    assert framed.columns.tolist() == unnamed.get_feature_names_out().tolist()
    np.testing.assert_array_equal(framed, unnamed.transform(DIALOGUES))
    assert unnamed.set_output(transform="polars").transform(turns).shape == (8, 32)


def test_whole_dialogues_are_kept_together_by_groups(make):
    """The rows of a frame of turns are turns: whatever splits it needs the dialogues as groups."""
    turns = pd.DataFrame([(i, t["speaker"], t["text"]) for i, d in enumerate(DIALOGUES) for t in d])
    turns.columns = ["dialogue", "speaker", "text"]
    model, cv = make(XLMRobertaDialogueLM), GroupKFold(2)
    scores = cross_val_score(model, turns, groups=turns["dialogue"], cv=cv)
    halves = [{*turns["dialogue"].iloc[test]} for _, test in cv.split(turns, groups=turns["dialogue"])]
    for score, half in zip(scores, halves, strict=True):
        train = [d for i, d in enumerate(DIALOGUES) if i not in half]
        assert score == make(XLMRobertaDialogueLM).fit(train).score([d for i, d in enumerate(DIALOGUES) if i in half])
