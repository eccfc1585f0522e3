"""What LoRA learnt is saved as an adapter: peft opens it with the same logits, and `load` with the same estimator."""

import copy
import json
import pickle
import shutil

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file, save_file
from sklearn.pipeline import make_pipeline

import skxlmr
from skxlmr import (
    CheckpointError,
    XLMRobertaClassifier,
    XLMRobertaDialogueLM,
    XLMRobertaEmbedder,
    XLMRobertaVectorizer,
    load,
)
from skxlmr.checkpoints import read_model
from tests import lora
from tests.contract import INPUTS, TEXTS, Y
from tests.persistence.conftest import names_in
from tests.tiny import write_checkpoint

PAIRS = list(zip(TEXTS, TEXTS[::-1], strict=True))
MOVED = "base_model_name_or_path"
N_LABELS = {"XLMRobertaClassifier": 3, "XLMRobertaRegressor": 1, "XLMRobertaTokenClassifier": 3, "XLMClassifier": 3}


@pytest.fixture(scope="module")
def once(tiny_checkpoint):
    """Never fit it again."""
    return lora.fitted("XLMRobertaClassifier", str(tiny_checkpoint), lora_dropout=0.25)


@pytest.fixture
def classifier(once):
    return copy.deepcopy(once)


@pytest.fixture(scope="module")
def saved_once(once, tmp_path_factory):
    return lora.save(once, tmp_path_factory.mktemp("adapter") / "adapter")


@pytest.fixture
def saved(saved_once, tmp_path):
    """A copy to change."""
    return shutil.copytree(saved_once, tmp_path / "saved")


@pytest.fixture
def on_a_copy(tmp_path, tiny_checkpoint):
    """A classifier whose base may be spoilt, its folder and the base."""
    base = shutil.copytree(tiny_checkpoint, tmp_path / "base")
    classifier = lora.fitted("XLMRobertaClassifier", str(base), max_epochs=1)
    return classifier, lora.save(classifier, tmp_path / "adapter"), base


def assert_same_weights(found, expected):
    found, expected = found.module_.state_dict(), expected.module_.state_dict()
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name


def change(file, **values):
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


# Other tools --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "targets"),
    [
        *((name, "auto") for name in lora.ROWS),
        *(
            (name, "all-linear")
            for name in ("XLMRobertaClassifier", "XLMRobertaMultipleChoiceClassifier", "XLMRobertaMaskedLM")
        ),
    ],
)
def test_peft_has_the_same_logits(name, targets, tmp_path, tiny_checkpoint, request):
    peft, transformers = pytest.importorskip("peft"), pytest.importorskip("transformers")
    base = tiny_checkpoint if "Roberta" in name else request.getfixturevalue("tiny_xlm")
    estimator = lora.fitted(name, str(base), lora_targets=targets)
    folder = lora.save(estimator, tmp_path / "adapter")
    kind = getattr(transformers, estimator._head.module(estimator.config_).architecture())
    labels = {"num_labels": N_LABELS[name]} if name in N_LABELS else {}
    inputs = lora.tokens(base)
    ours = lora.logits(estimator, inputs)
    plain = lora.opened(kind, base, **labels)
    model = lora.opened(peft.PeftModel, plain, folder)
    found = lora.theirs(model, inputs, is_choice="Choice" in name)
    mask = inputs["attention_mask"].bool() if ours.ndim == 3 else ...
    tolerance = 1e-6 * max(1.0, ours[mask].abs().max().item())
    torch.testing.assert_close(found[mask], ours[mask], rtol=0, atol=tolerance)
    with model.disable_adapter():
        assert (lora.theirs(model, inputs, "Choice" in name)[mask] - ours[mask]).abs().max() > 1e-3  # it does something
    merged = model.merge_and_unload().state_dict()
    for key, tensor in estimator.module_.state_dict().items():
        assert torch.equal(merged[key], tensor), key
    assert_same_weights(load(folder), estimator)


AUTO = {
    "XLMRobertaClassifier": "AutoPeftModelForSequenceClassification",
    "XLMRobertaRegressor": "AutoPeftModelForSequenceClassification",
    "XLMRobertaTokenClassifier": "AutoPeftModelForTokenClassification",
    "XLMRobertaQuestionAnswerer": "AutoPeftModelForQuestionAnswering",
    "XLMRobertaMaskedLM": "AutoPeftModel",
}


@pytest.mark.parametrize("name", AUTO)
def test_the_automatic_classes_of_peft_and_transformers_open_it(name, tmp_path, tiny_checkpoint):
    peft, transformers = pytest.importorskip("peft"), pytest.importorskip("transformers")
    estimator = lora.fitted(name, str(tiny_checkpoint), max_epochs=1)
    folder = lora.save(estimator, tmp_path / "adapter")
    labels = {"num_labels": N_LABELS[name]} if name in N_LABELS else {}
    inputs = lora.tokens(folder)
    ours = lora.logits(estimator, inputs)
    for kind in (getattr(peft, AUTO[name]), getattr(transformers, estimator._head.auto_class)):
        found = lora.theirs(lora.opened(kind, folder, **labels), inputs)
        torch.testing.assert_close(found, ours, rtol=0, atol=1e-5)


TEACHER = np.random.default_rng(0).normal(size=(6, 7)).astype(np.float32)
EMBEDDERS = {"classes": (TEXTS, Y, {}), "a teacher": (TEXTS, TEACHER, {}), "pairs": (PAIRS, None, {"normalize": True})}


@pytest.mark.filterwarnings("ignore")  # theirs
@pytest.mark.parametrize("what", EMBEDDERS)
def test_a_sentence_encoder(what, tmp_path, tiny_checkpoint):
    """Also its layers after the pooling, which lie beside the adapter, as sentence-transformers has them."""
    peft, theirs = pytest.importorskip("peft"), pytest.importorskip("sentence_transformers")
    X, y, params = EMBEDDERS[what]
    embedder = XLMRobertaEmbedder(str(tiny_checkpoint), **{**lora.FIT, **lora.LORA, **params, "batch_size": 4}).fit(
        X, y
    )
    folder = lora.save(embedder, tmp_path / "adapter")
    vectors = embedder.transform(TEXTS)
    np.testing.assert_array_equal(load(folder).transform(TEXTS), vectors)
    assert_same_weights(load(folder), embedder)
    np.testing.assert_array_equal(XLMRobertaVectorizer(folder, dtype="float32").fit_transform(TEXTS), vectors)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(embedder)).transform(TEXTS), vectors)
    np.testing.assert_allclose(theirs.SentenceTransformer(str(folder)).encode(TEXTS), vectors, atol=1e-6)
    model, inputs = lora.opened(peft.AutoPeftModelForFeatureExtraction, folder), lora.tokens(folder)
    with torch.no_grad():
        found = model.eval()(**inputs).last_hidden_state
    ours, mask = lora.logits(embedder, inputs).last_hidden_state, inputs["attention_mask"].bool()
    torch.testing.assert_close(found[mask], ours[mask], rtol=0, atol=1e-6 * ours.abs().max().item())


def test_a_new_pooler_is_a_part_of_the_adapter(tmp_path, tiny_tokenizer):
    peft, transformers = pytest.importorskip("peft"), pytest.importorskip("transformers")
    base = write_checkpoint(tmp_path / "base", tiny_tokenizer)
    without = {name: t for name, t in load_file(base / "model.safetensors").items() if "pooler" not in name}
    skxlmr.checkpoints.write_folder(base, config=read_model(base).raw, tensors=without, tokenizer=tiny_tokenizer)
    estimator = lora.fitted("XLMRobertaMultipleChoiceClassifier", str(base))
    folder = lora.save(estimator, tmp_path / "adapter")
    assert json.loads((folder / "adapter_config.json").read_text())["modules_to_save"] == [
        "roberta.pooler",
        "classifier",
    ]
    model = lora.opened(peft.PeftModel, lora.opened(transformers.XLMRobertaForMultipleChoice, base), folder)
    inputs = lora.tokens(base)
    found = lora.theirs(model, inputs, is_choice=True)
    torch.testing.assert_close(found, lora.logits(estimator, inputs), rtol=0, atol=1e-5)
    assert_same_weights(load(folder), estimator)


def test_there_trained_further_and_back(saved, tmp_path, tiny_checkpoint):
    peft = pytest.importorskip("peft")
    model = lora.opened(peft.AutoPeftModelForSequenceClassification, saved, is_trainable=True, num_labels=3)
    inputs = lora.tokens(saved)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    for _ in range(2):
        model(**inputs, labels=torch.tensor([0, 1, 2, 0, 1, 2])).loss.backward()
        optimizer.step()
    model.save_pretrained(tmp_path / "further")
    expected = lora.theirs(model, inputs).softmax(-1).numpy()
    back = XLMRobertaClassifier.from_checkpoint(tmp_path / "further", dtype="float32")
    np.testing.assert_allclose(back.predict_proba(TEXTS), expected, atol=1e-6)
    assert np.abs(load(saved).predict_proba(TEXTS) - expected).max() > 1e-2  # it learnt
    model.save_pretrained(saved)  # in its place
    with pytest.raises(CheckpointError, match=r"adapter_(config|model).* is not what save wrote"):
        load(saved)
    back = load(saved, verify=False)
    np.testing.assert_allclose(back.predict_proba(TEXTS), expected, atol=1e-6)
    assert back.predict(TEXTS).tolist() == [["a", "b", "c"][i] for i in expected.argmax(1)]


def test_by_default_merged_weights_are_written(classifier, tmp_path):
    transformers = pytest.importorskip("transformers")
    skxlmr.save(classifier, tmp_path / "merged")
    model = lora.opened(transformers.AutoModelForSequenceClassification, tmp_path / "merged")
    inputs = lora.tokens(tmp_path / "merged")
    torch.testing.assert_close(lora.theirs(model, inputs), lora.logits(classifier, inputs), rtol=0, atol=1e-6)
    back = load(tmp_path / "merged")
    assert_same_weights(back, classifier)
    assert back.module_.lora is None and back.lora_rank == 3
    with pytest.raises(ValueError, match="has no adapter: fit it with lora_rank, or leave adapter=True out"):
        skxlmr.save(back, tmp_path / "adapter", adapter=True)


# Back into an estimator ---------------------------------------------------------------------------------------------------


def test_load(once, saved, tmp_path):
    loaded = load(saved)
    np.testing.assert_array_equal(loaded.predict_proba(TEXTS), once.predict_proba(TEXTS))
    assert loaded.get_params() == once.get_params() and loaded.predict(TEXTS).tolist() == once.predict(TEXTS).tolist()
    ours, theirs = loaded.module_.lora, once.module_.lora
    for name in ("rank", "alpha", "dropout", "targets", "whole"):
        assert getattr(ours, name) == getattr(theirs, name), name
    assert ours.tensors.keys() == theirs.tensors.keys()
    assert all(torch.equal(ours.tensors[name], tensor) for name, tensor in theirs.tensors.items())
    again = lora.save(loaded, tmp_path / "again")
    for name in ("adapter_model.safetensors", "adapter_config.json", "tokenizer_config.json"):
        assert (again / name).read_bytes() == (saved / name).read_bytes()


def test_what_is_loaded_trains_further_as_what_was_fitted(classifier, saved):
    loaded = load(saved)
    for estimator in (classifier, loaded):
        estimator.set_params(warm_start=True, max_epochs=1).fit(TEXTS, list("abcabc"))
    assert_same_weights(loaded, classifier)
    assert not np.array_equal(loaded.predict_proba(TEXTS), load(saved).predict_proba(TEXTS))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_base_in_half_precision_trains_further_in_any(dtype, tmp_path, tiny_checkpoint):
    base = shutil.copytree(tiny_checkpoint, tmp_path / "base")
    (file,) = base.glob("*.safetensors")
    save_file({name: tensor.half() for name, tensor in load_file(file).items()}, file, {"format": "pt"})
    fitted = lora.fitted("XLMRobertaClassifier", str(base), dtype=dtype)
    loaded = load(lora.save(fitted, tmp_path / "adapter"))
    for estimator in (fitted, loaded):
        estimator.set_params(warm_start=True, max_epochs=1).fit(TEXTS, list("abcabc"))
    assert_same_weights(loaded, fitted)
    assert {parameter.dtype for parameter in loaded.module_.parameters()} == {torch.float32}
    again = load(lora.save(loaded, tmp_path / "again"))
    np.testing.assert_array_equal(again.predict_proba(TEXTS), fitted.predict_proba(TEXTS))


def test_from_checkpoint(once, saved):
    found = XLMRobertaClassifier.from_checkpoint(saved, dtype="float32")
    assert found.classes_.tolist() == ["a", "b", "c"]
    np.testing.assert_array_equal(found.predict_proba(TEXTS), once.predict_proba(TEXTS))


def test_numbers_and_tags_come_back(tmp_path, tiny_checkpoint):
    for name in ("XLMRobertaRegressor", "XLMRobertaTokenClassifier"):
        estimator = lora.fitted(name, str(tiny_checkpoint), max_epochs=1)
        folder = lora.save(estimator, tmp_path / name)
        for found in (load(folder), type(estimator).from_checkpoint(folder, dtype="float32")):
            assert str(found.predict(TEXTS)) == str(estimator.predict(TEXTS))


# The base -----------------------------------------------------------------------------------------------------------------


def test_a_base_that_was_moved_is_named_anew(on_a_copy, tmp_path):
    classifier, folder, base = on_a_copy
    base.rename(tmp_path / "elsewhere")
    with pytest.raises(CheckpointError, match=r"names the base model .* which cannot be opened"):
        load(folder)
    change(folder / "adapter_config.json", base_model_name_or_path=str(tmp_path / "elsewhere"))
    assert_same_weights(load(folder), classifier)
    change(folder / "adapter_config.json", lora_alpha=6.0)
    with pytest.raises(CheckpointError, match=r"adapter_config.json: is not what save wrote"):
        load(folder)


def test_another_base_is_refused(on_a_copy, tmp_path, tiny_tokenizer):
    _, folder, base = on_a_copy
    other = write_checkpoint(tmp_path / "other", tiny_tokenizer, seed=1)
    shutil.copy(other / "model.safetensors", base)
    with pytest.raises(CheckpointError, match="is not the one which the adapter was trained on: its content hash is"):
        load(folder)
    load(folder, verify=False)


def test_an_estimator_whose_base_was_changed_is_refused(on_a_copy, tmp_path, tiny_tokenizer):
    classifier, _, base = on_a_copy
    write_checkpoint(base, tiny_tokenizer, seed=1)
    with pytest.raises(CheckpointError, match="base: was changed or removed since the XLMRobertaClassifier was fitted"):
        skxlmr.save(classifier, tmp_path / "again", adapter=True)
    shutil.rmtree(base)
    with pytest.raises(CheckpointError, match="leave adapter=True out, and save writes the merged weights"):
        skxlmr.save(classifier, tmp_path / "again", adapter=True)
    skxlmr.save(classifier, tmp_path / "again")


@pytest.mark.parametrize("place", ["base", "link", "."])
def test_an_adapter_is_not_written_over_its_base(on_a_copy, tmp_path, place):
    classifier, _, base = on_a_copy
    (tmp_path / "link").symlink_to(base, target_is_directory=True)
    before = {file.name: file.read_bytes() for file in base.iterdir()}
    for whole in (classifier, make_pipeline(classifier)):
        with pytest.raises(CheckpointError, match="holds the checkpoint that the adapter needs, and would lose it"):
            skxlmr.save(whole, tmp_path / place, adapter=True)
    assert {file.name: file.read_bytes() for file in base.iterdir()} == before


def test_an_adapter_is_no_base(saved, tmp_path):
    on_top = lora.fitted(
        "XLMRobertaMaskedLM", str(lora.save(lora.fitted("XLMRobertaMaskedLM", tiny(saved)), tmp_path / "a"))
    )
    with pytest.raises(CheckpointError, match="is an adapter itself, and an adapter needs a whole model as its base"):
        skxlmr.save(on_top, tmp_path / "b", adapter=True)


def tiny(saved):
    return json.loads((saved / "adapter_config.json").read_text())[MOVED]


# Refused ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["roberta.encoder.layer.0.output.dense.bias", "roberta.encoder.layer.1.attention.self.query.weight"]
)
def test_other_weights_that_changed(name, classifier, tmp_path):
    parameter = classifier.module_.get_parameter(name)
    parameter.data = parameter.data.clone()
    parameter.data[0] += 0.01
    with pytest.raises(ValueError, match=f"{name} changed otherwise too, in an earlier fit without lora_rank or with"):
        skxlmr.save(classifier, tmp_path / "adapter", adapter=True)


def test_a_larger_vocabulary(tmp_path, tiny_checkpoint):
    dialogues = INPUTS["XLMRobertaDialogueLM"][0]
    model = XLMRobertaDialogueLM(str(tiny_checkpoint), **lora.FIT, **lora.LORA).fit(dialogues)
    with pytest.raises(ValueError, match="has tokens that its checkpoint lacks"):
        skxlmr.save(model, tmp_path / "adapter", adapter=True)


def test_options_of_whole_models(classifier, tmp_path):
    for option in ({"dtype": "bfloat16"}, {"max_shard_size": "1MB"}, {"onnx": True}):
        with pytest.raises(ValueError, match="leave dtype, max_shard_size and onnx out"):
            skxlmr.save(classifier, tmp_path / "adapter", adapter=True, **option)
    assert not (tmp_path / "adapter").exists()


def test_a_broken_description(saved):
    about = json.loads((saved / "skxlmr.json").read_text())
    for wrong in ({"targets": [1]}, {"base": None}, {"dropout": "x"}):
        change(saved / "skxlmr.json", adapter=about["adapter"] | wrong)
        with pytest.raises(CheckpointError, match="does not describe an adapter"):
            load(saved, verify=False)
    change(saved / "skxlmr.json", adapter=about["adapter"] | {"config": 3})
    with pytest.raises(CheckpointError, match=r"expected an object as adapter.config"):
        load(saved, verify=False)


def test_an_adapter_of_somebody_else_is_never_replaced(classifier, saved):
    for name in ("skxlmr.json", "README.md"):
        (saved / name).unlink()
    with pytest.raises(CheckpointError, match="holds an adapter that save did not write"):
        skxlmr.save(classifier, saved)


# The folder ---------------------------------------------------------------------------------------------------------------


def test_files(saved, tiny_checkpoint):
    assert set(names_in(saved)) == {
        *("adapter_config.json", "adapter_model.safetensors", "README.md", "skxlmr.json"),
        *("sentencepiece.bpe.model", "tokenizer_config.json"),
    }
    config = json.loads((saved / "adapter_config.json").read_text())
    assert config["peft_type"] == "LORA" and config["task_type"] == "SEQ_CLS" and config["inference_mode"] is True
    assert (config["r"], config["lora_alpha"], config["lora_dropout"]) == (3, 5.0, 0.25)
    assert config["target_modules"] == ["query", "value"] and config["modules_to_save"] == ["classifier", "score"]
    assert config["base_model_name_or_path"] == str(tiny_checkpoint) and config["revision"] is None
    tensors = load_file(saved / "adapter_model.safetensors")
    n_weights = 4 * 3 * (32 + 32) + 32 * 32 + 32 + 3 * 32 + 3  # query and value of two layers, and the head
    assert sum(tensor.numel() for tensor in tensors.values()) == n_weights
    assert (saved / "adapter_model.safetensors").stat().st_size < 4 * n_weights + 2000


def test_peft_writes_the_same_names(saved, tmp_path):
    peft = pytest.importorskip("peft")
    model = lora.opened(peft.AutoPeftModelForSequenceClassification, saved, num_labels=3)
    model.save_pretrained(tmp_path / "theirs")
    ours, found = (load_file(folder / "adapter_model.safetensors") for folder in (saved, tmp_path / "theirs"))
    assert ours.keys() == found.keys() and all(torch.equal(ours[name], found[name]) for name in ours)
    ours, found = (json.loads((folder / "adapter_config.json").read_text()) for folder in (saved, tmp_path / "theirs"))
    assert ours.keys() <= found.keys()
    for name, value in ours.items():
        assert set(found[name]) == set(value) if isinstance(value, list) else found[name] == value, name


def test_model_card(classifier, saved, tmp_path):
    card = ModelCard.load(saved / "README.md")
    assert card.data.library_name == "peft" and card.data.pipeline_tag == "text-classification"
    assert "lora" in card.data.tags and card.data.base_model is None
    assert 'AutoModelForSequenceClassification.from_pretrained("BASE", num_labels=3)' in card.text
    classifier.checkpoint = "org/base"
    card = ModelCard.load(lora.save(classifier, tmp_path / "named") / "README.md")
    assert card.data.base_model == "org/base" and card.data.to_dict()["base_model_relation"] == "adapter"


def test_a_base_on_this_machine_is_warned_about(classifier, tmp_path, tiny_checkpoint):
    with pytest.warns(UserWarning, match="names its base model by a folder on this machine") as caught:
        skxlmr.save(classifier, tmp_path / "adapter", adapter=True)
    assert str(tiny_checkpoint) in str(caught[0].message) and caught[0].filename == __file__


def test_the_built_in_base_goes_everywhere(tmp_path):
    classifier = lora.fitted("XLMRobertaClassifier", "skxlmr-mini", max_epochs=1)
    skxlmr.save(classifier, tmp_path / "adapter", adapter=True)  # without a warning
    assert json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())[MOVED] == "skxlmr-mini"
    assert_same_weights(load(tmp_path / "adapter"), classifier)


def test_one_kind_of_folder_replaces_the_other(classifier, tmp_path):
    folder = tmp_path / "folder"
    for _ in range(2):
        lora.save(classifier, folder)
        assert "model.safetensors" not in names_in(folder)
        skxlmr.save(classifier, folder)
        assert not any(name.startswith("adapter") for name in names_in(folder))
    assert_same_weights(load(folder), classifier)
