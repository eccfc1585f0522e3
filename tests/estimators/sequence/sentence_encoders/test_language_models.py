"""Language models make vectors of texts as a sentence encoder's folder says, keep that through a fit, and save it again."""

import json
import shutil

import numpy as np
import pytest
import torch

from skxlmr import (
    XLMMaskedLM,
    XLMRobertaCausalLM,
    XLMRobertaDialogueLM,
    XLMRobertaMaskedLM,
    XLMRobertaVectorizer,
    XLMVectorizer,
    load,
    save,
)
from skxlmr.checkpoints import read_tensors
from skxlmr.persistence import _description
from skxlmr.utils._errors import CheckpointError
from tests.estimators.dialogues.dialogues import DIALOGUES
from tests.estimators.sequence.sentence_encoders.layouts import NORMALIZE, TEXTS, resolved, says
from tests.estimators.sequence.sentence_encoders.test_equal import EQUAL
from tests.sentence_encoders import dense, flags, write
from tests.tiny import sentences

FIT = {"dtype": "float32", "device": "cpu", "max_epochs": 1, "batch_size": 4, "learning_rate": 3e-3, "random_state": 0}
CASES = (
    "bge-m3",
    "paraphrase-multilingual-mpnet",
    "LaBSE",
    "lower case and a prompt",
    "prompt not pooled, mean",
    "several poolings",
    "truncate_dim",
    "normalize asked for",
    "arguments of the tokenizer",
)


@pytest.mark.filterwarnings("ignore")  # theirs, and about truncation
@pytest.mark.parametrize("case", CASES)
def test_equal_to_sentence_transformers(theirs, tiny_checkpoint, tmp_path, case):
    layout, params, options = EQUAL[case]
    folder = write(tmp_path / "published", tiny_checkpoint, **layout)
    lm = XLMRobertaMaskedLM.from_checkpoint(folder, dtype="float32", device="cpu", **params)
    features = lm.transform(TEXTS)
    np.testing.assert_allclose(features, theirs(folder, TEXTS, **options), rtol=0, atol=1e-5)
    assert len(lm.get_feature_names_out()) == features.shape[1]
    save(lm, tmp_path / "saved")
    np.testing.assert_allclose(theirs(tmp_path / "saved", TEXTS), features, rtol=0, atol=1e-5)
    np.testing.assert_allclose(load(tmp_path / "saved").transform(TEXTS), features, rtol=0, atol=1e-6)
    assert resolved(lm) == resolved(XLMRobertaVectorizer(folder, dtype="float32", **params).fit(TEXTS))


@pytest.fixture(scope="module")
def labse(tiny_checkpoint, tmp_path_factory):
    """The first token's vector, a dense layer, unit length, at most 20 tokens."""
    layout = {"pooling": flags("cls"), "layers": [("Dense", dense(n_out=8)), ("Normalize", {})]}
    return write(tmp_path_factory.mktemp("labse") / "x", tiny_checkpoint, settings={"max_seq_length": 20}, **layout)


@pytest.mark.filterwarnings("ignore")
def test_a_fit_keeps_the_pooling_and_the_layers_after_it(theirs, labse, tmp_path):
    """Masked language modelling changes the encoder alone: no loss sees the dense layer."""
    lm = XLMRobertaMaskedLM(labse, **FIT).fit(sentences(16))
    assert resolved(lm) == ("cls", True, None, 20)
    before = read_tensors(labse / "2_Dense")
    assert all(torch.equal(lm.module_.sentence.state_dict()[f"0.{name}"], value) for name, value in before.items())
    assert not any(parameter.requires_grad for parameter in lm.module_.sentence.parameters())
    features = lm.transform(TEXTS)
    assert features.shape == (len(TEXTS), 8)
    assert np.abs(features - theirs(labse, TEXTS)).max() > 1e-3  # the encoder learnt
    save(lm, tmp_path / "saved")
    np.testing.assert_allclose(theirs(tmp_path / "saved", TEXTS), features, rtol=0, atol=1e-5)
    vectorizer = XLMRobertaVectorizer(tmp_path / "saved", dtype="float32").fit(TEXTS)
    np.testing.assert_allclose(vectorizer.transform(TEXTS), features, rtol=0, atol=1e-5)
    assert resolved(vectorizer) == resolved(lm)
    again = XLMRobertaMaskedLM(tmp_path / "saved", **FIT).fit(sentences(16)).partial_fit(sentences(4))
    assert resolved(again) == resolved(lm) and again.transform(TEXTS).shape == features.shape


def test_a_fit_does_not_depend_on_what_the_folder_says(labse, tiny_checkpoint, tmp_path):
    texts = sentences(16)
    plain = XLMRobertaMaskedLM(tiny_checkpoint, **FIT, max_length=20).fit(texts)
    lm = XLMRobertaMaskedLM(labse, **FIT, resume_dir=tmp_path / "state").fit(texts)
    assert lm.loss_curve_ == plain.loss_curve_
    again = XLMRobertaMaskedLM(labse, **FIT, pooling="mean", resume_dir=tmp_path / "state").fit(texts, resume=True)
    for name, tensor in plain.module_.state_dict().items():
        assert torch.equal(lm.module_.state_dict()[name], tensor) and torch.equal(
            again.module_.state_dict()[name], tensor
        )


@pytest.mark.filterwarnings("ignore")
def test_parameters_say_it_otherwise_and_may_change_after_fit(labse):
    lm = XLMRobertaMaskedLM.from_checkpoint(labse, dtype="float32")
    told = {"pooling": "lasttoken", "normalize": False, "prompt": "river: ", "max_length": 30, "truncate_dim": 5}
    made = XLMRobertaVectorizer(labse, dtype="float32", **told)
    np.testing.assert_allclose(lm.set_params(**told).transform(TEXTS), made.transform(TEXTS), rtol=0, atol=1e-6)
    assert resolved(lm) == ("lasttoken", False, "river: ", 30)
    with pytest.raises(ValueError, match="makes 64 features, but the checkpoint's layers after the pooling take 32"):
        lm.set_params(pooling=["mean", "cls"]).transform(TEXTS)
    with pytest.raises(ValueError, match="truncate_dim=9 is more than the 8 features"):
        XLMRobertaMaskedLM(labse, **FIT, truncate_dim=9).fit(TEXTS)
    with pytest.raises(AttributeError, match="pooling_ is known once the checkpoint is open"):
        _ = XLMRobertaMaskedLM(labse).pooling_


def test_pairs_have_the_prompt_before_the_first(tiny_checkpoint, tmp_path):
    folder = write(tmp_path / "x", tiny_checkpoint, pooling=flags("mean", include_prompt=False), prompts=says("query"))
    rows = list(zip(sentences(4), sentences(4, seed=1), strict=True))
    lm = XLMRobertaMaskedLM.from_checkpoint(folder, dtype="float32")
    expected = XLMRobertaVectorizer(folder, dtype="float32").transform(rows)
    np.testing.assert_allclose(lm.transform(rows), expected, rtol=0, atol=1e-6)


def test_masks_and_scores_read_texts_as_they_are(tiny_checkpoint, tmp_path):
    settings = {"max_seq_length": 64, "do_lower_case": True}
    folder = write(tmp_path / "x", tiny_checkpoint, settings=settings, prompts=says("query"))
    lm, plain = (XLMRobertaMaskedLM.from_checkpoint(x, dtype="float32") for x in (folder, tiny_checkpoint))
    assert lm.fill_mask(["Das HAUS <mask>."]) == plain.fill_mask(["Das HAUS <mask>."])
    np.testing.assert_array_equal(lm.score_samples(TEXTS[:3]), plain.score_samples(TEXTS[:3]))


def test_an_encoder_without_a_head_gets_a_new_one_in_fit(tiny_checkpoint, tmp_path):
    """As most sentence encoders are published."""
    folder = write(tmp_path / "x", tiny_checkpoint, wrapper="auto_model.", layers=NORMALIZE)
    with pytest.warns(UserWarning, match="has no language modelling head that fits: a new one starts from scratch"):
        lm = XLMRobertaMaskedLM(folder, **FIT).fit(sentences(8))
    assert lm.normalize_
    with pytest.raises(CheckpointError, match="lm_head"):
        XLMRobertaMaskedLM.from_checkpoint(folder)
    with pytest.warns(UserWarning, match="has no language modelling head that fits: a new one starts from scratch"):
        head = XLMRobertaCausalLM(folder, **{**FIT, "learning_rate": 1e-6}).fit(sentences(8)).module_.lm_head
    assert head.bias.abs().max() < 1e-4 and 0.15 < head.dense.weight.std() < 0.25  # initializer_range is 0.2


# Other language models ------------------------------------------------------------------------------------------------


def spelt(dialogue):
    """A dialogue as one text, as the model reads it."""
    return " ".join(f"[{'SYS' if turn['speaker'] == 'system' else 'USR'}] {turn['text']}" for turn in dialogue)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "layout",
    [
        {"pooling": flags("mean"), "layers": NORMALIZE},
        {"layers": [("Dense", dense(n_out=8))]},
        {"pooling": flags("mean", include_prompt=False), "prompts": says("query")},
        {"pooling": flags("max"), "settings": {"max_seq_length": 64, "do_lower_case": True}},
    ],
    ids=["unit length", "dense", "prompt", "lower case"],
)
def test_dialogues(theirs, tiny_checkpoint, tmp_path, layout):
    """What the folder says stays in the folder that is saved; there other tools read a dialogue that is spelt out."""
    published = write(tmp_path / "x", tiny_checkpoint, **layout)
    lm = XLMRobertaDialogueLM(published, **FIT).fit(DIALOGUES)
    features = lm.transform(DIALOGUES)
    save(lm, tmp_path / "saved")
    np.testing.assert_allclose(load(tmp_path / "saved").transform(DIALOGUES), features, rtol=0, atol=1e-6)
    texts = list(map(spelt, DIALOGUES))
    vectorizer = XLMRobertaVectorizer(tmp_path / "saved", dtype="float32").fit(texts)
    assert resolved(vectorizer) == resolved(lm)
    if lm._how().lower_case:  # which other tools apply to the speakers' tokens too
        assert vectorizer.pooling_ == "max"
    else:
        np.testing.assert_allclose(vectorizer.transform(texts), features, rtol=0, atol=1e-5)
        np.testing.assert_allclose(theirs(tmp_path / "saved", texts), features, rtol=0, atol=1e-5)


def test_a_plain_dialogue_model_pools_the_first_token(tiny_checkpoint, tmp_path):
    lm = XLMRobertaDialogueLM(tiny_checkpoint, **FIT).fit(DIALOGUES)
    assert resolved(lm) == ("cls", False, None, 64)
    firsts = lm.transform(DIALOGUES)
    np.testing.assert_array_equal(lm.set_params(pooling="cls").transform(DIALOGUES), firsts)
    assert np.abs(lm.set_params(pooling="mean").transform(DIALOGUES) - firsts).max() > 1e-3
    save(lm, tmp_path / "saved")
    assert not (tmp_path / "saved" / "modules.json").exists()


def test_a_prompt_takes_its_room_from_the_first_turns(tiny_checkpoint):
    lm = XLMRobertaDialogueLM(tiny_checkpoint, **FIT, pooling="mean").fit(DIALOGUES)
    short = lm.set_params(max_length=16)
    n_prompt = len(lm._prompt_ids(lm.set_params(prompt="river: ")._how(), pair=False)) - 2
    with pytest.warns(UserWarning, match=f"longer than {16 - n_prompt} tokens and were cut to their last turns"):
        found = short.transform(DIALOGUES)
    assert found.shape == (len(DIALOGUES), 32)
    with pytest.raises(ValueError, match="leaves no room"):
        short.set_params(prompt="river " * 20).transform(DIALOGUES)


def test_the_original_xlm(tiny_xlm, tmp_path):
    folder = write(tmp_path / "x", tiny_xlm, pooling=flags("max"), layers=[("Dense", dense()), ("Normalize", {})])
    lm = XLMMaskedLM.from_checkpoint(folder, dtype="float32")
    made = XLMVectorizer(folder, dtype="float32")
    np.testing.assert_allclose(lm.transform(TEXTS[:6]), made.transform(TEXTS[:6]), rtol=0, atol=1e-6)
    assert resolved(lm)[:2] == ("max", True)
    save(lm, tmp_path / "saved")
    np.testing.assert_allclose(
        load(tmp_path / "saved").transform(TEXTS[:6]), lm.transform(TEXTS[:6]), rtol=0, atol=1e-6
    )


# Folders --------------------------------------------------------------------------------------------------------------


def test_folders_of_earlier_versions_keep_their_meaning(tiny_checkpoint, tmp_path, monkeypatch):
    """Those said all of it with the parameters, and did not read the files for other tools."""
    lm = XLMRobertaMaskedLM.from_checkpoint(tiny_checkpoint, dtype="float32", pooling="max", max_length=20)
    expected = lm.transform(TEXTS[:6])
    monkeypatch.setattr(_description, "FORMAT", 4)
    sealed = _description.sealed

    def without_later_parameters(about):
        for name in ("normalize", "prompt", "truncate_dim"):
            del about["params"][name]
        return sealed(about)

    monkeypatch.setattr(_description, "sealed", without_later_parameters)
    save(lm, tmp_path / "saved")
    monkeypatch.undo()
    assert json.loads((tmp_path / "saved" / "skxlmr.json").read_text())["format"] == 4
    np.testing.assert_array_equal(load(tmp_path / "saved").transform(TEXTS[:6]), expected)
    shutil.rmtree(tmp_path / "saved" / "1_Pooling")
    (tmp_path / "saved" / "modules.json").unlink()
    np.testing.assert_array_equal(load(tmp_path / "saved").transform(TEXTS[:6]), expected)


@pytest.mark.parametrize("estimator", [XLMRobertaMaskedLM, XLMRobertaDialogueLM])
@pytest.mark.parametrize("name", ["modules.json", "1_Pooling/config.json", "2_Dense/model.safetensors"])
def test_what_is_missing_is_named(labse, tmp_path, estimator, name):
    made = estimator(labse, **FIT, max_length=60).fit(DIALOGUES if estimator is XLMRobertaDialogueLM else sentences(8))
    save(made, tmp_path / "saved")
    (tmp_path / "saved" / name).unlink()
    with pytest.raises(CheckpointError, match=name):
        load(tmp_path / "saved")


def test_what_cannot_be_reproduced_is_refused(tiny_checkpoint, tmp_path):
    folder = write(
        tmp_path / "x", tiny_checkpoint, modules=[{"idx": 0, "name": "0", "path": "", "type": "mine.Encoder"}]
    )
    for estimator, X in ((XLMRobertaMaskedLM, ["a text"]), (XLMRobertaDialogueLM, DIALOGUES)):
        with pytest.raises(CheckpointError, match=r"modules\.json"):
            estimator(folder).fit(X)


def test_a_pickle_keeps_the_layers(labse):
    import pickle

    lm = XLMRobertaMaskedLM(labse, **FIT, n_frozen_layers=1).fit(sentences(8))
    again = pickle.loads(pickle.dumps(lm))
    np.testing.assert_array_equal(again.transform(sentences(4)), lm.transform(sentences(4)))
    assert resolved(again) == resolved(lm)
