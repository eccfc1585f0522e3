"""An estimator goes to the hub and comes back, over the HTTP interface of a stand-in."""

import json
import traceback
from pathlib import Path

import pytest
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline

from skxlmr import CheckpointError, XLMRobertaClassifier, XLMRobertaVectorizer, load, push_to_hub
from tests import hub as stand_in
from tests import lora
from tests.persistence.conftest import TEXTS

# huggingface_hub's own call of its HTTP library
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


@pytest.fixture
def hub(monkeypatch, tmp_path):
    with stand_in.running(monkeypatch, tmp_path / "cache") as hub:
        yield hub


def test_there_and_back(hub, fitted_classifier, tiny_checkpoint):
    address = push_to_hub(fitted_classifier, "org/name")
    files = hub.repositories["org/name"]["main"]
    assert address == f"{hub.address}/org/name/commit/{hub.commit('org/name', 'main')}"
    assert {"README.md", "config.json", "model.safetensors", "skxlmr.json"} <= set(files)
    assert not any(name.endswith((".bin", ".pkl", ".pickle", ".joblib")) for name in files)
    assert list(hub.large.values()) == [files["model.safetensors"]]
    (message,) = hub.messages
    assert message.startswith("XLMRobertaClassifier saved by skxlmr ")
    for name in ("org/name", "org/name@main"):
        loaded = load(name)
        assert type(loaded) is XLMRobertaClassifier
        assert (loaded.predict_proba(TEXTS) == fitted_classifier.predict_proba(TEXTS)).all()
    # and it is a checkpoint for others
    features = XLMRobertaVectorizer("org/name", dtype="float32").fit_transform(TEXTS)
    assert features.shape == (6, 32)


def test_no_place_on_this_machine_is_published(hub, fitted_classifier, tiny_checkpoint):
    push_to_hub(fitted_classifier, "org/name")
    files = hub.repositories["org/name"]["main"]
    assert json.loads(files["skxlmr.json"])["params"]["checkpoint"] is None
    for part in (tiny_checkpoint.parent.parent, tiny_checkpoint.parent):
        assert not any(str(part).encode() in content for content in files.values())
    assert fitted_classifier.checkpoint == tiny_checkpoint
    loaded = load("org/name@main")
    assert loaded.checkpoint == "org/name@main"
    with pytest.warns(UserWarning, match="has a head of its own"):
        loaded.fit(TEXTS, list("abcabc"))  # from the published weights


def test_settings(hub, fitted_classifier):
    hub.token = "secret"
    push_to_hub(
        fitted_classifier, "org/name", private=True, revision="v1", commit_message="The first one.", token="secret"
    )
    assert hub.created[0].get("visibility") == "private" or hub.created[0].get("private") is True
    assert hub.messages == ["The first one."]
    branches = hub.repositories["org/name"]
    assert "skxlmr.json" in branches["v1"] and not branches["main"]
    with pytest.raises(CheckpointError, match=r"skxlmr|config"):
        load("org/name")
    assert load("org/name", revision="v1").classes_.tolist() == ["a", "b", "c"]


def test_what_is_there_is_replaced_and_other_files_stay(hub, fitted_classifier):
    hub.repositories["org/name"] = {"main": {"LICENSE": b"mine", "config.json": b"{}"}}
    push_to_hub(fitted_classifier, "org/name")
    push_to_hub(fitted_classifier, "org/name")
    files = hub.repositories["org/name"]["main"]
    assert files["LICENSE"] == b"mine" and len(files["config.json"]) > 2
    assert load("org/name").classes_.tolist() == ["a", "b", "c"]


def test_an_account_s_own_repository(hub, fitted_classifier):
    push_to_hub(fitted_classifier, "name")
    assert set(hub.repositories) == {"me/name"}


@pytest.mark.parametrize(
    ("status", "headers"), [(401, {}), (403, {}), (403, {"X-Error-Code": "GatedRepo"}), (404, {}), (418, {})]
)
def test_what_the_hub_refuses(hub, fitted_classifier, status, headers):
    hub.refusal = status, headers
    with pytest.raises(CheckpointError) as caught:
        push_to_hub(fitted_classifier, "org/name", token="wrong")
    message = str(caught.value)
    assert message.startswith("org/name: could not be written to the Hugging Face hub (")
    assert str(status) in message and "hf auth login" in message and "\n" not in message


def test_no_token(hub, fitted_classifier):
    hub.token = "secret"
    with pytest.raises(CheckpointError, match="401"):
        push_to_hub(fitted_classifier, "org/name")
    assert not hub.repositories


def test_offline(hub, fitted_classifier, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # where nobody listens
    with pytest.raises(CheckpointError, match="check the network"):
        push_to_hub(fitted_classifier, "org/name")


@pytest.mark.parametrize("name", ["bad name", "a/b/c", ""])
def test_invalid_name(hub, fitted_classifier, name):
    with pytest.raises(CheckpointError, match="could not be written"):
        push_to_hub(fitted_classifier, name)


def test_only_fitted_estimators_are_pushed(hub, tiny_checkpoint):
    with pytest.raises(NotFittedError):
        push_to_hub(XLMRobertaClassifier(tiny_checkpoint), "org/name")
    with pytest.raises(TypeError, match="an estimator of this library, got a Pipeline: push each"):
        push_to_hub(make_pipeline(XLMRobertaVectorizer(tiny_checkpoint)).fit(TEXTS), "org/name")
    assert not hub.requests


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"adapter": "yes"}, "adapter must be True or False, got 'yes'"),
        ({"private": 0}, "private must be True or False, got 0"),
        ({"repo_id": None}, "repo_id must be a str, got None"),
        ({"repo_id": Path("org/name")}, "repo_id must be a str, got .*Path"),
        ({"revision": 3}, "revision must be a str, got 3 of type int"),
        ({"commit_message": b"Better"}, "commit_message must be a str, got b'Better' of type bytes"),
    ],
)
def test_nothing_is_sent_with_wrong_parameters(hub, fitted_classifier, params, said):
    with pytest.raises(TypeError, match=said):
        push_to_hub(fitted_classifier, **{"repo_id": "org/name"} | params)
    assert not hub.requests


def test_what_cannot_be_a_repository(hub, fitted_classifier):
    with pytest.raises(CheckpointError, match=r"org/name@main.*: pass org/name, .* and a branch as revision"):
        push_to_hub(fitted_classifier, "org/name@main")
    assert not hub.requests


def test_a_file_that_changed_on_the_way_is_reported(hub, fitted_classifier):
    push_to_hub(fitted_classifier, "org/name")
    files = hub.repositories["org/name"]["main"]
    files["config.json"] = files["config.json"].replace(b"0.1", b"0.2")
    with pytest.raises(CheckpointError, match=r"config\.json: is not what save wrote"):
        load("org/name")


SECRET = "hf_aBcDeFgHiJkLmNoPqRsT"


def shown(error):
    """All that a traceback or a log would show, with what is chained to the error."""
    chained = [error]
    while chained[-1].__cause__ or chained[-1].__context__:
        chained.append(chained[-1].__cause__ or chained[-1].__context__)
    return "".join(map(repr, chained)) + "".join(traceback.format_exception(error))


@pytest.mark.parametrize("around", ["{}\n", "{}\r\n", "  {} "])
def test_white_space_around_a_token_does_not_matter(hub, fitted_classifier, around):
    hub.token = SECRET
    push_to_hub(fitted_classifier, "org/name", token=around.format(SECRET))
    assert "skxlmr.json" in hub.repositories["org/name"]["main"]


@pytest.mark.parametrize("token", [f"{SECRET}\nX-Other: 1", f"a {SECRET}", f"{SECRET}ä", f"{SECRET}\x00", "", " "])
def test_what_cannot_be_a_token(hub, fitted_classifier, token):
    with pytest.raises(ValueError, match="token is not one of the Hugging Face hub") as caught:
        push_to_hub(fitted_classifier, "org/name", token=token)
    assert SECRET not in shown(caught.value) and not hub.requests
    with pytest.raises(TypeError, match="token must be a str, a bool or None, got a bytes") as caught:
        push_to_hub(fitted_classifier, "org/name", token=SECRET.encode())
    assert SECRET not in shown(caught.value)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 418])
@pytest.mark.parametrize("given", [True, False])
@pytest.mark.parametrize("secret", [SECRET, "of-another-kind"])
def test_a_server_that_repeats_the_token(hub, fitted_classifier, monkeypatch, status, given, secret):
    hub.refusal, hub.echoes = (status, {}), True
    if not given:
        monkeypatch.setenv("HF_TOKEN", f"{secret}\n")
    with pytest.raises(CheckpointError, match="could not be written") as caught:
        push_to_hub(fitted_classifier, "org/name", token=f"{secret}\n" if given else None)
    assert any(
        headers.get("authorization", headers.get("Authorization")) == f"Bearer {secret}" for *_, headers in hub.requests
    )
    assert secret not in shown(caught.value)
    if not given:
        with pytest.raises(CheckpointError) as caught:
            load("org/name")
        assert secret not in shown(caught.value)


def test_a_token_in_the_environment_that_cannot_be_one(hub, fitted_classifier, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", f"{SECRET}ä")
    for act in (lambda: push_to_hub(fitted_classifier, "org/name"), lambda: load("org/name")):
        with pytest.raises(
            CheckpointError, match=r"the token in HF_TOKEN, .* letters outside ASCII inside it: copy"
        ) as caught:
            act()
        assert SECRET not in shown(caught.value)


def test_passwords_in_addresses_are_withheld(hub, fitted_classifier, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://me:pa55word@127.0.0.1:9")
    for act in (lambda: push_to_hub(fitted_classifier, "org/name"), lambda: load("org/name")):
        with pytest.raises(CheckpointError) as caught:
            act()
        assert "pa55word" not in shown(caught.value)


def test_a_token_in_the_place_of_a_name_is_withheld(hub, fitted_classifier):
    for act in (
        lambda: push_to_hub(fitted_classifier, f"https://me:{SECRET}@huggingface.co/org/name"),
        lambda: load(f"https://me:{SECRET}@huggingface.co/org/name"),
        lambda: load(SECRET),
        lambda: load(f"org/absent@{SECRET}"),
    ):
        with pytest.raises(CheckpointError) as caught:
            act()
        assert SECRET not in shown(caught.value) + repr(caught.value)
    with pytest.raises(CheckpointError, match=r"is an address: pass a folder, or the name on the .* \(org/name\)"):
        load("https://huggingface.co/org/name")


def test_an_answer_that_is_none_of_the_hub_s(hub, fitted_classifier):
    hub.refusal = 409, {}
    with pytest.raises(CheckpointError, match="org/name: could not be written to the Hugging Face hub"):
        push_to_hub(fitted_classifier, "org/name")


def test_files_of_an_earlier_checkpoint_do_not_stay(hub, fitted_classifier):
    """They would be read with the new one, or instead of it."""
    earlier = {"special_tokens_map.json": b"{}", "tokenizer.json": b"{}", "pytorch_model.bin": b"", "LICENSE": b"mine"}
    hub.repositories["org/name"] = {"main": earlier | {"model.safetensors.index.json": b"{}", ".gitattributes": b""}}
    push_to_hub(fitted_classifier, "org/name")
    files = hub.repositories["org/name"]["main"]
    assert {"LICENSE", ".gitattributes", "config.json", "model.safetensors"} <= files.keys()
    assert not files.keys() & {
        "special_tokens_map.json",
        "tokenizer.json",
        "pytorch_model.bin",
        "model.safetensors.index.json",
    }
    assert load("org/name").classes_.tolist() == ["a", "b", "c"]


# Adapters -----------------------------------------------------------------------------------------------------------------


def test_an_adapter_names_its_base_by_name_and_commit(hub, tiny_checkpoint):
    hub.repositories["org/base"] = {"main": {p.name: p.read_bytes() for p in tiny_checkpoint.iterdir()}}
    classifier = lora.fitted("XLMRobertaClassifier", "org/base", max_epochs=1)
    push_to_hub(classifier, "org/adapter", adapter=True)
    files = hub.repositories["org/adapter"]["main"]
    config = json.loads(files["adapter_config.json"])
    assert config["base_model_name_or_path"] == "org/base" and config["revision"] == hub.commit("org/base", "main")
    assert b'base_model: "org/base"\nbase_model_relation: "adapter"' in files["README.md"]
    hub.repositories["org/base"]["later"] = hub.repositories["org/base"]["main"]  # the branch moves on
    hub.repositories["org/base"]["main"] = {}
    loaded = load("org/adapter")
    assert loaded.checkpoint == "org/base" and (loaded.predict_proba(TEXTS) == classifier.predict_proba(TEXTS)).all()
    push_to_hub(loaded, "org/adapter")
    assert not any(name.startswith("adapter") for name in hub.repositories["org/adapter"]["main"])


def test_an_adapter_does_not_take_the_place_of_its_base(hub, tiny_checkpoint):
    base = {p.name: p.read_bytes() for p in tiny_checkpoint.iterdir()}
    hub.repositories["org/base"] = {"main": dict(base)}
    classifier = lora.fitted("XLMRobertaClassifier", "org/base", max_epochs=1)
    with pytest.raises(
        CheckpointError, match="org/base: holds the checkpoint that the adapter needs, and would lose it"
    ):
        push_to_hub(classifier, "org/base", adapter=True)
    assert hub.repositories["org/base"]["main"] == base
    push_to_hub(classifier, "org/base", revision="adapter", adapter=True)
    assert "adapter_config.json" in hub.repositories["org/base"]["adapter"]


def test_an_adapter_on_a_folder_is_not_published(hub, tiny_checkpoint):
    classifier = lora.fitted("XLMRobertaClassifier", str(tiny_checkpoint), max_epochs=1)
    with pytest.raises(CheckpointError, match="is a folder on this machine, and nobody else could open the adapter"):
        push_to_hub(classifier, "org/name", adapter=True)
    assert not hub.repositories
