"""Folders of cross-encoders as published are equal to sentence-transformers; saved again they are too, here and there."""

import json
import pickle

import numpy as np
import pytest

from skxlmr import XLMRobertaClassifier, XLMRobertaRegressor, load, save
from tests.cross_encoders import IDENTITY, SCORES, SIGMOID, labels, write
from tests.estimators.sequence.cross_encoders.layouts import EQUAL, PAIRS, QUERY, ours, says
from tests.tiny import write_checkpoint

pytestmark = pytest.mark.filterwarnings("ignore:.*were cut")


@pytest.mark.parametrize("case", EQUAL)
def test_equal_to_the_reference_and_when_saved_again(theirs, tiny_checkpoint, tmp_path, case):
    layout, activation = EQUAL[case]
    folder = write(tmp_path / "published", tiny_checkpoint, **layout)
    regressor = ours(folder)
    expected = theirs(folder).predict(PAIRS)
    assert regressor.activation_ == activation
    np.testing.assert_allclose(regressor.predict(PAIRS), expected, rtol=0, atol=1e-5)
    save(regressor, tmp_path / "saved")
    np.testing.assert_allclose(theirs(tmp_path / "saved").predict(PAIRS), expected, rtol=0, atol=1e-5)
    for twin in (load(tmp_path / "saved"), pickle.loads(pickle.dumps(regressor))):
        assert twin.activation_ == activation and twin.get_params().keys() == regressor.get_params().keys()
        np.testing.assert_array_equal(twin.predict(PAIRS), regressor.predict(PAIRS))


def test_the_width_of_minilm(theirs, tiny_tokenizer, tmp_path):
    config = {"hidden_size": 24, "num_attention_heads": 12, "intermediate_size": 96, "num_hidden_layers": 3}
    body = write_checkpoint(tmp_path / "body", tiny_tokenizer, **config)
    folder = write(tmp_path / "published", body, sbert_ce_default_activation_function=IDENTITY)
    np.testing.assert_allclose(ours(folder).predict(PAIRS), theirs(folder).predict(PAIRS), rtol=0, atol=1e-5)


BODIES = {
    "ms-marco-MiniLM": ("bert", {"sbert_ce_default_activation_function": IDENTITY}),
    "ms-marco-MiniLM, saved by version 6": ("bert", {"own": says(SIGMOID, QUERY, "query"), "max_length": 20}),
    "MiniLM with the vocabulary of XLM-R": ("minilm", {}),
    "DistilBERT": ("distilbert", {"sentence_transformers": {"activation_fn": IDENTITY, "version": "4.1.0"}}),
}


@pytest.mark.parametrize("case", BODIES)
def test_other_bodies(theirs, bodies, tmp_path, case):
    body, said = BODIES[case]
    folder = write(tmp_path / "published", bodies[body], **said)
    reranker, model = ours(folder), theirs(folder)
    np.testing.assert_allclose(reranker.predict(PAIRS), model.predict(PAIRS), rtol=0, atol=1e-5)
    save(reranker, tmp_path / "saved")
    np.testing.assert_allclose(theirs(tmp_path / "saved").predict(PAIRS), model.predict(PAIRS), rtol=0, atol=1e-5)
    np.testing.assert_array_equal(load(tmp_path / "saved").predict(PAIRS), reranker.predict(PAIRS))
    expected = [hit["corpus_id"] for hit in model.rank("дом", ["das Haus", "", "the Red HOUSE"])]
    assert reranker.rank("дом", ["das Haus", "", "the Red HOUSE"]).index.tolist() == expected


def test_a_regression_is_what_the_pipeline_returns(reference, tiny_checkpoint, tmp_path):
    """CrossEncoder ignores ``problem_type``; a folder of this library names the activation as well."""
    transformers = pytest.importorskip("transformers")
    for said, activation in ({"problem_type": "regression"}, "identity"), ({}, "sigmoid"):
        folder = write(tmp_path / activation, tiny_checkpoint, **said)
        model, tokenizer = (
            reference("AutoModelForSequenceClassification", folder),
            transformers.AutoTokenizer.from_pretrained(folder),
        )
        pipeline = transformers.pipeline("text-classification", model=model, tokenizer=tokenizer, device="cpu")
        texts = [first for first, _ in PAIRS[:4]]
        expected = [answer["score"] for answer in pipeline(texts)]
        assert ours(folder).activation_ == activation
        np.testing.assert_allclose(ours(folder).predict(texts), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("prompt", [None, "document", "das Haus: "])
def test_prompts_of_choice(theirs, tiny_checkpoint, tmp_path, prompt):
    folder = write(tmp_path / "published", tiny_checkpoint, own=says(IDENTITY, QUERY, "query"))
    regressor = ours(folder, prompt=prompt)
    asked = {"prompt_name": prompt} if prompt == "document" else {"prompt": prompt or ""}
    expected = theirs(folder).predict(PAIRS, **asked)
    np.testing.assert_allclose(regressor.predict(PAIRS), expected, rtol=0, atol=1e-5)
    save(regressor, tmp_path / "saved")
    np.testing.assert_allclose(theirs(tmp_path / "saved").predict(PAIRS), expected, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(load(tmp_path / "saved").predict(PAIRS), regressor.predict(PAIRS))


@pytest.mark.parametrize("activation", ["identity", "sigmoid"])
@pytest.mark.parametrize("said", [{}, {"sentence_transformers": {"activation_fn": IDENTITY}}, {"own": says(SIGMOID)}])
def test_an_activation_of_choice(theirs, tiny_checkpoint, tmp_path, activation, said):
    torch = pytest.importorskip("torch")
    folder = write(tmp_path / "published", tiny_checkpoint, **said)
    function = {"identity": torch.nn.Identity(), "sigmoid": torch.nn.Sigmoid()}[activation]
    expected = theirs(folder).predict(PAIRS, activation_fn=function)
    regressor = ours(folder, activation=activation)
    np.testing.assert_allclose(regressor.predict(PAIRS), expected, rtol=0, atol=1e-5)
    save(regressor, tmp_path / "saved")
    np.testing.assert_allclose(theirs(tmp_path / "saved").predict(PAIRS), expected, rtol=0, atol=1e-5)


# Several labels -------------------------------------------------------------------------------------------------------

NLI = {"n_outputs": 3, **labels("contradiction", "entailment", "neutral")}


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"sentence_transformers": {"activation_fn": IDENTITY}},
        {"own": says(IDENTITY)},
        {"own": says(IDENTITY, QUERY, "query"), "max_length": 20},
        {"sentence_transformers": {"activation_fn": "torch.nn.modules.activation.Tanh"}},
        {"own": says("torch.nn.modules.activation.Tanh")},
    ],
    ids=["plain", "new key", "modules", "default prompt", "another activation", "another activation, modules"],
)
def test_classes_follow_from_logits_whatever_the_activation(theirs, tiny_checkpoint, tmp_path, said):
    torch = pytest.importorskip("torch")
    folder = write(tmp_path / "published", tiny_checkpoint, **NLI, **said)
    classifier, model = ours(folder, XLMRobertaClassifier), theirs(folder)
    logits = model.predict(PAIRS, activation_fn=torch.nn.Identity())
    proba = model.predict(PAIRS, activation_fn=torch.nn.Identity(), apply_softmax=True)
    save(classifier, tmp_path / "saved")
    for twin in (classifier, load(tmp_path / "saved")):
        np.testing.assert_allclose(twin.decision_function(PAIRS), logits, rtol=0, atol=1e-5)
        np.testing.assert_allclose(twin.predict_proba(PAIRS), proba, rtol=0, atol=1e-5)
        assert twin.classes_.tolist() == ["contradiction", "entailment", "neutral"]
    np.testing.assert_allclose(theirs(tmp_path / "saved").predict(PAIRS), model.predict(PAIRS), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "said",
    [
        {"own": says("custom.Function", QUERY, "query"), "settings": {**SCORES, "max_seq_length": 20}},
        {"sentence_transformers": {"activation_fn": SIGMOID}, "sbert_ce_default_activation_function": SIGMOID},
    ],
    ids=["modules", "config.json"],
)
def test_a_new_head_has_nothing_of_the_activation_of_the_old_one(theirs, tiny_checkpoint, tmp_path, said):
    folder = write(tmp_path / "published", tiny_checkpoint, **said)
    classifier = XLMRobertaClassifier(folder, max_epochs=1, random_state=0)
    with pytest.warns(UserWarning, match="has a head of its own"):
        classifier.fit(PAIRS, [0, 1, 2, 3] * 2 + [0, 1, 2])
    assert classifier._limit() == 64
    save(classifier, tmp_path / "saved")
    assert not (tmp_path / "saved" / "modules.json").exists()
    np.testing.assert_allclose(
        theirs(tmp_path / "saved").predict(PAIRS), classifier.decision_function(PAIRS), rtol=0, atol=1e-5
    )


@pytest.mark.parametrize("body", ["minilm", "bert"])  # without and with token types
def test_a_default_prompt_and_windows(bodies, tmp_path, body):
    """Each window of a long document is read after the prompt and the query, as if it were a document of its own."""
    folder = write(tmp_path / "published", bodies[body], own=says(IDENTITY, QUERY, "query"))
    plain = write(tmp_path / "plain", bodies[body], sbert_ce_default_activation_function=IDENTITY)
    regressor = ours(folder, long_text="window", max_length=40)
    query, document = "das Haus", " ".join(["дом"] * 60)
    windows = regressor.coverage([(query, document)])["n_windows"][0]
    assert windows > 1 and regressor.coverage([(query, document)])["coverage"][0] == 1
    bare = ours(plain, long_text="window", max_length=40)
    expected = bare.predict([("river: " + query, document)])
    np.testing.assert_allclose(regressor.predict([(query, document)]), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("key", [{}, {"sentence_transformers": {"activation_fn": SIGMOID}}])
def test_an_older_folder_of_this_library_stays_a_regression(tiny_checkpoint, tmp_path, key):
    """It had no parameter ``activation``, and kept what the checkpoint's config.json said of the head that was replaced."""
    regressor = XLMRobertaRegressor(tiny_checkpoint, max_epochs=1, random_state=0).fit(PAIRS, np.arange(len(PAIRS)))
    save(regressor, tmp_path / "saved")
    file = tmp_path / "saved" / "config.json"
    config = {
        name: x for name, x in json.loads(file.read_text()).items() if not name.startswith(("sbert_ce", "sentence_t"))
    }
    file.write_text(json.dumps(config | key))
    file = tmp_path / "saved" / "skxlmr.json"
    about = json.loads(file.read_text())
    del about["params"]["activation"], about["params"]["prompt"]
    file.write_text(json.dumps(about))
    again = load(tmp_path / "saved", verify=False)
    assert again.activation_ == "identity"
    np.testing.assert_array_equal(again.predict(PAIRS), regressor.predict(PAIRS))
    if not key:
        assert ours(tmp_path / "saved").activation_ == "identity"
