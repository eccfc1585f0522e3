"""How many tokens of a text are read with ``max_length=None``: as many as the tokenizer's files say, as other tools do."""

import json
import shutil

import numpy as np
import pytest

from skxlmr import (
    TruncationWarning,
    XLMRobertaCausalLM,
    XLMRobertaClassifier,
    XLMRobertaTokenClassifier,
    XLMRobertaVectorizer,
    load,
    save,
)
from skxlmr.checkpoints import read_model
from skxlmr.persistence._description import sealed
from skxlmr.utils._errors import CheckpointError
from tests import contract
from tests.tiny import sentences

POSITIONS = 64  # of the tiny checkpoints
LONG = " ".join(sentences(12))


def limited(checkpoint, folder, limit):
    """Copy of a checkpoint whose tokenizer has this limit; Ellipsis is none."""
    shutil.copytree(checkpoint, folder)
    file = folder / "tokenizer_config.json"
    options = {key: value for key, value in json.loads(file.read_text()).items() if key != "model_max_length"}
    file.write_text(json.dumps(options if limit is ... else options | {"model_max_length": limit}))
    return folder


def opened(estimator, checkpoint, **params):
    made = estimator(checkpoint, **params)
    made._open_checkpoint()
    return made


@pytest.mark.parametrize(
    ("limit", "max_length", "expected"),
    [
        (20, None, 20),
        (20, 40, 40),  # what is asked for counts
        (20, 10, 10),
        (512, None, POSITIONS),
        (int(1e30), None, POSITIONS),  # as transformers writes that there is none
        (..., None, POSITIONS),
    ],
)
def test_the_limit(tiny_checkpoint, tmp_path, limit, max_length, expected):
    checkpoint = limited(tiny_checkpoint, tmp_path / "x", limit)
    assert opened(XLMRobertaClassifier, checkpoint, max_length=max_length)._limit() == expected
    vectorizer = XLMRobertaVectorizer(checkpoint, max_length=max_length).fit(["a text"])
    assert vectorizer.max_length_ == expected


@contract.each
def test_every_estimator_keeps_to_it(make_any, estimator, tmp_path):
    made = make_any(estimator)
    if isinstance(made.checkpoint, str) or hasattr(made.checkpoint, "__fspath__"):
        made.set_params(checkpoint=limited(made.checkpoint, tmp_path / "x", 20))
        (tmp_path / "x" / "skxlmr.json").unlink(missing_ok=True)
        made._open_checkpoint()
        assert made._limit() == 20


def test_a_limit_that_leaves_no_room_is_refused(tiny_checkpoint, tmp_path):
    checkpoint = limited(tiny_checkpoint, tmp_path / "x", 2)
    with pytest.raises(
        CheckpointError, match=r"tokenizer_config.json: allows 2 tokens \(model_max_length\), and .* 4 or"
    ):
        opened(XLMRobertaClassifier, checkpoint)
    assert opened(XLMRobertaClassifier, checkpoint, max_length=9)._limit() == 9


def test_the_warning_says_whose_limit_it_is(tiny_checkpoint, tmp_path):
    checkpoint = limited(tiny_checkpoint, tmp_path / "x", 20)
    with pytest.warns(
        TruncationWarning, match=r"longer than 20 tokens and were cut, as the checkpoint says \(max_length may"
    ):
        XLMRobertaVectorizer(checkpoint).transform([LONG])
    with pytest.warns(TruncationWarning, match="longer than 20 tokens and were cut; the longest"):
        XLMRobertaVectorizer(checkpoint, max_length=20).transform([LONG])


def test_generated_texts_may_be_longer(tiny_checkpoint, tmp_path):
    """The limit is for texts that are read: transformers generates on, and so did the model before."""
    checkpoint = limited(tiny_checkpoint, tmp_path / "x", 20)
    lm = XLMRobertaCausalLM(checkpoint, **contract.FAST).fit(contract.TEXTS)
    plain = XLMRobertaCausalLM(tiny_checkpoint, **contract.FAST).fit(contract.TEXTS)
    assert lm.generate(["Haus"], max_new_tokens=30) == plain.generate(["Haus"], max_new_tokens=30)
    with pytest.raises(ValueError, match="more than the 20 tokens"):
        lm.set_params(max_length=20).generate(["Haus"], max_new_tokens=30)


# Other tools ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def plain_folder(tiny_checkpoint, tmp_path_factory):
    """Folder of a classifier, as somebody else would publish it, with a limit of 20 tokens."""
    parent = tmp_path_factory.mktemp("classifier")
    texts = sentences(12)
    made = XLMRobertaClassifier(tiny_checkpoint, max_epochs=2, learning_rate=3e-3, dtype="float32", random_state=0)
    save(made.fit(texts, ["a", "b", "c"] * 4), parent / "saved")
    folder = limited(parent / "saved", parent / "plain", 20)
    (folder / "skxlmr.json").unlink()
    return folder


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("pair", [False, True])
def test_a_classifier_reads_as_much_as_the_pipeline(plain_folder, pair):
    transformers = pytest.importorskip("transformers")
    pipeline = transformers.pipeline("text-classification", str(plain_folder), device="cpu", top_k=None)
    given = {"text": LONG, "text_pair": LONG[::2]} if pair else LONG
    found = {each["label"]: each["score"] for each in pipeline([given], truncation=True)[0]}
    made = XLMRobertaClassifier.from_checkpoint(plain_folder, dtype="float32")
    rows = [(LONG, LONG[::2])] if pair else [LONG]
    expected = dict(zip(made.classes_, made.predict_proba(rows)[0], strict=True))
    assert found == pytest.approx(expected, abs=1e-5)
    whole = made.set_params(max_length=POSITIONS).predict_proba(rows)[0]
    assert np.abs(whole - list(expected.values())).max() > 1e-4  # the limit shows


@pytest.mark.filterwarnings("ignore")
def test_features_are_those_of_the_pipeline(plain_folder):
    transformers = pytest.importorskip("transformers")
    pipeline = transformers.pipeline("feature-extraction", str(plain_folder), device="cpu")
    (found,) = pipeline(LONG, tokenize_kwargs={"truncation": True})
    assert len(found) == 20
    made = XLMRobertaVectorizer(plain_folder, dtype="float32", pooling="mean")
    np.testing.assert_allclose(made.transform([LONG])[0], np.mean(found, axis=0), atol=1e-5)


@pytest.mark.filterwarnings("ignore")
def test_a_tagger_reads_windows_of_that_length(tiny_checkpoint, tmp_path):
    """The pipeline drops what does not fit; here further windows read it. Words before the limit have the same tags."""
    transformers = pytest.importorskip("transformers")
    words = [text.split() for text in sentences(8)]
    tags = [["B-A" if i % 2 else "O" for i in range(len(row))] for row in words]
    made = XLMRobertaTokenClassifier(tiny_checkpoint, max_epochs=1, dtype="float32", random_state=0).fit(words, tags)
    save(made, tmp_path / "saved")
    folder = limited(tmp_path / "saved", tmp_path / "plain", 20)
    (folder / "skxlmr.json").unlink()
    pipeline = transformers.pipeline("token-classification", str(folder), device="cpu", ignore_labels=[])
    found = pipeline(LONG)
    made = XLMRobertaTokenClassifier.from_checkpoint(folder, dtype="float32")
    assert len(found) == 18 and made._limit() == 20
    encoded = made.tokenizer_.encode_batch([LONG], max_length=made._limit())
    logits = made._engine().tokens(encoded)[1:-1]
    scores = np.exp(logits - logits.max(1, keepdims=True))
    expected = (scores / scores.sum(1, keepdims=True)).max(1)
    np.testing.assert_allclose([each["score"] for each in found], expected, atol=1e-5)


# Folders that `save` wrote --------------------------------------------------------------------------------------------


def described(folder, change):
    """Change ``skxlmr.json``, and seal it again."""
    file = folder / "skxlmr.json"
    about = json.loads(file.read_text())
    change(about)
    file.write_text(sealed({k: v for k, v in about.items() if k not in ("sha256", "format", "skxlmr", "versions")}))


@pytest.mark.parametrize(("own", "expected"), [(512, POSITIONS), (30, 30)])
def test_a_saved_folder_tells_other_tools_its_limit_and_keeps_the_tokenizer_s(tiny_checkpoint, tmp_path, own, expected):
    """What a fit was asked to read is no property of the model: the next estimator starts where this one did."""
    checkpoint = limited(tiny_checkpoint, tmp_path / "x", own)
    made = XLMRobertaClassifier(checkpoint, max_epochs=1, max_length=20).fit(["a", "b"] * 4, [0, 1] * 4)
    save(made, tmp_path / "saved")
    assert json.loads((tmp_path / "saved" / "tokenizer_config.json").read_text())["model_max_length"] == 20
    loaded = load(tmp_path / "saved")
    assert loaded._limit() == made._limit() == 20
    for each in (made, loaded, opened(XLMRobertaClassifier, tmp_path / "saved")):
        assert each.set_params(max_length=None)._limit() == expected
    save(loaded.set_params(max_length=10), tmp_path / "again")
    assert opened(XLMRobertaClassifier, tmp_path / "again")._limit() == expected


def test_folders_of_earlier_versions_keep_their_meaning(tiny_checkpoint, tmp_path):
    """Those did not read the tokenizer's limit."""
    made = XLMRobertaClassifier(tiny_checkpoint, max_epochs=1, max_length=20).fit(["a", "b"] * 4, [0, 1] * 4)
    save(made, tmp_path / "saved")
    described(tmp_path / "saved", lambda about: about.pop("tokenizer_max_length"))
    assert load(tmp_path / "saved")._limit() == 20
    assert load(tmp_path / "saved").set_params(max_length=None)._limit() == POSITIONS
    assert opened(XLMRobertaClassifier, tmp_path / "saved")._limit() == POSITIONS


@pytest.mark.parametrize("value", [0, -3, 2.5, "20", None, True, [20]])
def test_a_broken_limit_in_a_saved_folder_is_named(tiny_checkpoint, tmp_path, value):
    shutil.copytree(tiny_checkpoint, tmp_path / "x")
    (tmp_path / "x" / "skxlmr.json").write_text(json.dumps({"tokenizer_max_length": value}))
    with pytest.raises(
        CheckpointError, match=r"skxlmr.json: expected a number of tokens as tokenizer_max_length, found"
    ):
        read_model(tmp_path / "x").tokenizer()
