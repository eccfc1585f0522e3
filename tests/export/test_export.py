"""Every estimator's folder: what is in it, and that ONNX Runtime computes what the estimator does."""

import json
import os
import shutil

import numpy as np
import onnxruntime
import pytest
import torch
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

import skxlmr
from skxlmr import (
    CheckpointError,
    XLMMaskedLM,
    XLMRobertaMaskedLM,
    XLMRobertaRegressor,
    XLMRobertaVectorizer,
    export_onnx,
    load,
    load_onnx,
    save,
)
from skxlmr.checkpoints import sha256_of, write_folder
from skxlmr.estimators._vectors.transformer import Transformer
from skxlmr.nn import FAMILIES
from tests import lora, sentence_encoders
from tests.contract import answers, each, inputs
from tests.export import graphs
from tests.persistence.conftest import names_in
from tests.tiny import write_xlm_checkpoint, xlm_tokenizer

TOLERANCE = 1e-5


def rows_of(estimator, run):
    """Ids and layout of each packed batch that the encoder reads, and what came of it all."""
    calls = []
    hook = estimator.module_.backbone.register_forward_hook(lambda _, taken, given: calls.append(taken[:2]))
    result = run()
    hook.remove()
    assert calls
    return calls, result


def padded(ids, layout, config, lang_ids=()):
    """Inputs of a graph for packed rows."""
    width, rows = max(layout.lengths), torch.split(ids, layout.lengths)
    values = {"input_ids": torch.full((len(rows), width), config.pad_token_id)}
    values["attention_mask"] = torch.zeros(len(rows), width, dtype=torch.int64)
    values["token_type_ids"] = torch.zeros(len(rows), width, dtype=torch.int64)
    values["langs"] = torch.full((len(rows), width), lang_ids[0] if lang_ids else 0)
    for i, row in enumerate(rows):
        values["input_ids"][i, : len(row)], values["attention_mask"][i, : len(row)] = row, 1
        if layout.second_starts is not None:
            values["token_type_ids"][i, layout.second_starts[i] : len(row)] = 1
    return values


def expected_of(estimator, ids, layout):
    """What the module makes of packed rows, by the names of the graph's outputs."""
    module = estimator.module_
    with torch.no_grad():
        found = module(ids, layout)
        tokens = module.backbone(ids, layout).last_hidden_state
    outputs = {"last_hidden_state": tokens} if isinstance(estimator, Transformer) else {}
    if estimator._head.task == "ForQuestionAnswering":
        return outputs | {"start_logits": found[:, 0], "end_logits": found[:, 1]}
    if estimator._head.pipeline_tag != "feature-extraction":
        outputs["logits"] = found[:, None] if estimator._head.task == "ForMultipleChoice" else found
    return outputs


@each
def test_the_graph_computes_what_the_estimator_does(estimator, fitted, tmp_path):
    before, X = fitted(estimator), inputs(estimator)[0]
    export_onnx(before, tmp_path / "out")
    file = tmp_path / "out" / "onnx" / "model.onnx"
    lang_ids = getattr(before.module_.backbone, "lang_ids", ())
    for ids, layout in rows_of(before, lambda: answers(before, X))[0]:
        found = graphs.run(file, padded(ids, layout, before.config_, lang_ids))
        real = np.arange(max(layout.lengths)) < np.array(layout.lengths)[:, None]
        for name, values in expected_of(before, ids, layout).items():
            theirs = values.numpy()
            ours = found[name] if len(found[name]) == len(theirs) else found[name][real]
            np.testing.assert_allclose(
                ours, theirs, atol=TOLERANCE * max(1, np.abs(theirs).max()), rtol=0, err_msg=name
            )
    if isinstance(before, Transformer):
        for row in X[:3]:
            ((ids, layout), *_), features = rows_of(before, lambda row=row: before.transform([row]))
            found = graphs.run(file, padded(ids, layout, before.config_, lang_ids))["sentence_embedding"]
            np.testing.assert_allclose(found, features, atol=TOLERANCE, rtol=0)


FILES = ["config.json", "model.onnx", "model.onnx_data", "sentencepiece.bpe.model", "tokenizer_config.json"]


def test_the_folder(fitted_vectorizer, tmp_path):
    export_onnx(fitted_vectorizer, tmp_path / "out")
    names = names_in(tmp_path / "out")
    assert [name for name in names if name.startswith("onnx/")] == [f"onnx/{name}" for name in FILES]
    save(fitted_vectorizer, tmp_path / "saved")
    weights = {"model.safetensors"}
    assert {name for name in names if not name.startswith("onnx/")} == set(names_in(tmp_path / "saved")) - weights
    for name in {"config.json", "sentencepiece.bpe.model", "tokenizer_config.json"}:
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "out" / "onnx" / name).read_bytes()
    about = json.loads((tmp_path / "out" / "skxlmr.json").read_text())
    assert about["files"] == {name: sha256_of(tmp_path / "out" / name) for name in names if name != "skxlmr.json"}
    card = (tmp_path / "out" / "README.md").read_text()
    assert 'load_onnx("FOLDER")' in card and "sentence_transformers" not in card and "from_pretrained" not in card
    opened = onnxruntime.InferenceSession(tmp_path / "out/onnx/model.onnx", providers=["CPUExecutionProvider"])
    assert opened.get_modelmeta().custom_metadata_map == {
        "precision": "float32",
        "estimator": "XLMRobertaVectorizer",
        "task": "Model",
        "normalized": "false",
    }


@pytest.fixture(scope="module")
def fitted_vectorizer(tiny_checkpoint):
    return XLMRobertaVectorizer(tiny_checkpoint).fit(["a text"])


def test_load_says_what_opens_a_folder_without_weights(fitted_vectorizer, tmp_path):
    export_onnx(fitted_vectorizer, tmp_path / "out")
    with pytest.raises(CheckpointError, match=r"holds no weights: .*; its onnx/model.onnx is for skxlmr.load_onnx"):
        load(tmp_path / "out")
    with pytest.raises(CheckpointError, match=r"holds no weights: .*; its onnx/model.onnx is for skxlmr.load_onnx"):
        XLMRobertaVectorizer(tmp_path / "out").transform(["a text"])


def test_save_writes_the_model_beside_the_weights(fitted_vectorizer, tmp_path):
    folder = tmp_path / "both"
    save(fitted_vectorizer, folder, onnx=True)
    assert "model.safetensors" in names_in(folder) and "onnx/model.safetensors" not in names_in(folder)
    export_onnx(fitted_vectorizer, tmp_path / "alone")
    for name in FILES:
        assert (folder / "onnx" / name).read_bytes() == (tmp_path / "alone" / "onnx" / name).read_bytes()
    texts = ["a small house", "das Haus"]
    np.testing.assert_array_equal(load(folder).transform(texts), fitted_vectorizer.transform(texts))
    (folder / "onnx" / "model.onnx").write_bytes(b"")  # load reads no file of it
    load(folder)
    save(fitted_vectorizer, folder, onnx=True)
    assert (folder / "onnx" / "model.onnx").stat().st_size
    save(fitted_vectorizer, folder)
    assert not (folder / "onnx").exists()


def test_a_folder_with_another_model_is_not_replaced(fitted_vectorizer, tmp_path):
    save(fitted_vectorizer, tmp_path / "both", onnx=True)
    (tmp_path / "both" / "onnx" / "model_quantized.onnx").write_bytes(b"")
    for write in (save, export_onnx):
        with pytest.raises(CheckpointError, match=r"what replacing it would delete \(onnx/model_quantized.onnx\)"):
            write(fitted_vectorizer, tmp_path / "both")


def test_each_estimator_of_a_pipeline_has_its_own(fitted_vectorizer, tmp_path):
    pytest.importorskip("skops")
    pipeline = make_pipeline(fitted_vectorizer, FunctionTransformer())
    with pytest.raises(TypeError, match="got a Pipeline: export each estimator in it"):
        export_onnx(pipeline, tmp_path / "out")
    for _ in range(2):
        save(pipeline.fit(["a text"]), tmp_path / "both", onnx=True)
    assert (tmp_path / "both" / "estimators" / "0" / "onnx" / "model.onnx").is_file()
    assert load(tmp_path / "both").transform(["a text"]).shape == (1, 32)


@pytest.mark.parametrize("source", ["tiny_checkpoint", "without_head", "scorer", "sentences", "saved"])
def test_a_checkpoint_is_opened_as_what_it_is(request, tiny_checkpoint, fitted_vectorizer, tmp_path, source):
    folder, expected, outputs = tiny_checkpoint, XLMRobertaMaskedLM, "logits last_hidden_state sentence_embedding"
    if source == "without_head":
        folder, expected, outputs = "skxlmr-mini", XLMRobertaVectorizer, "last_hidden_state sentence_embedding"
    if source == "saved":
        save(fitted_vectorizer, folder := tmp_path / "saved")
        expected, outputs = XLMRobertaVectorizer, "last_hidden_state sentence_embedding"
    if source == "sentences":
        sentence_encoders.write(folder := tmp_path / "sentences", tiny_checkpoint)
        expected, outputs = XLMRobertaVectorizer, "last_hidden_state sentence_embedding"
    if source == "scorer":
        scorer = XLMRobertaRegressor(tiny_checkpoint, max_epochs=1).fit(["a", "b"] * 3, [0.0, 1.0] * 3)
        save(scorer, folder := tmp_path / "scorer")
        (folder / "skxlmr.json").unlink()
        expected, outputs = XLMRobertaRegressor, "logits"
    export_onnx(folder, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "skxlmr.json").read_text())["estimator"] == expected.__name__
    opened = graphs.session(tmp_path / "out" / "onnx" / "model.onnx")
    assert [item.name for item in opened.get_outputs()] == outputs.split()


def test_a_head_that_no_estimator_reads(tiny_xlm, tmp_path):
    config = json.loads((tiny_xlm / "config.json").read_text())
    folder = tmp_path / "copy"
    folder.mkdir()
    for path in tiny_xlm.iterdir():
        os.symlink(path, folder / path.name)
    (folder / "config.json").unlink()
    (folder / "config.json").write_text(json.dumps(config | {"architectures": ["XLMForPoetry"], "n_langs": 1}))
    with pytest.raises(CheckpointError, match="describes XLMForPoetry, a head that no estimator reads"):
        export_onnx(folder, tmp_path / "out")
    (folder / "config.json").write_text(json.dumps(config | {"n_langs": 20}))
    with pytest.raises(ValueError, match="has embeddings of languages, and does not say which one the texts have"):
        export_onnx(folder, tmp_path / "out")


@pytest.mark.parametrize("precision", ["float32", "int8"])
@pytest.mark.parametrize(
    "head", ["ForTokenClassification", "ForMultipleChoice", "ForQuestionAnswering", "ForQuestionAnsweringSimple"]
)
def test_heads_of_the_original_xlm_are_written_for_other_tools(tmp_path, head, precision):
    tokenizer = xlm_tokenizer(model_max_length=64, lang2id={"de": 0, "en": 1})
    write_xlm_checkpoint(tmp_path / "xlm", tokenizer, n_langs=2)
    raw = json.loads((tmp_path / "xlm" / "config.json").read_text())
    config = FAMILIES["xlm"].config.from_dict(raw)
    kind = getattr(skxlmr.nn, f"XLM{head}")
    arguments = {"ForTokenClassification": (5,), "ForMultipleChoice": (3,)}.get(head, ())
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = kind(config, *arguments).eval()
    source = tmp_path / "source"
    write_folder(
        source, config=raw | {"architectures": [f"XLM{head}"]}, tensors=module.state_dict(), tokenizer=tokenizer
    )
    export_onnx(source, tmp_path / "out", precision=precision)
    names = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file()}
    files = {path.name for path in source.iterdir()} - {"model.safetensors"}
    assert names == {*files, *(f"onnx/{name}" for name in (*files, "model.onnx", "model.onnx_data"))}
    inputs = graphs.batch(config, lengths=(9, 6))
    with torch.no_grad():
        expected = module(**inputs)
    found = graphs.run(tmp_path / "out" / "onnx" / "model.onnx", inputs)
    if head == "ForQuestionAnswering":
        found, expected = found["start_top_log_probs"], expected.start_proba_NK
    elif head == "ForQuestionAnsweringSimple":
        found = np.stack([found["start_logits"], found["end_logits"]], axis=-1)
    else:
        found = found["logits"][:, 0] if head == "ForMultipleChoice" else found["logits"]
    tolerance = 1e-5 if precision == "float32" else 0.1
    real = inputs["attention_mask"].bool().numpy() if found.ndim == 3 else ...
    np.testing.assert_allclose(found[real], expected.numpy()[real], atol=tolerance, rtol=1e-5)
    with pytest.raises(CheckpointError):
        skxlmr.load_onnx(tmp_path / "out")


def test_a_checkpoint_without_its_head_is_refused(tmp_path):
    tokenizer = xlm_tokenizer(model_max_length=64)
    write_xlm_checkpoint(tmp_path / "xlm", tokenizer)
    file = tmp_path / "xlm" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"architectures": ["XLMForQuestionAnswering"]}))
    with pytest.raises(CheckpointError, match="qa_outputs"):
        export_onnx(tmp_path / "xlm", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("opset", [16, 24, "17", 17.5, True])
def test_opsets_that_lack_an_operator_or_were_not_tested(fitted_vectorizer, tmp_path, opset):
    with pytest.raises(ValueError, match="opset must be a whole number from 17 to 23, or None, got"):
        export_onnx(fitted_vectorizer, tmp_path / "out", opset=opset)
    assert not (tmp_path / "out").exists()


def test_what_is_not_exported(fitted_vectorizer, tiny_checkpoint, tmp_path):
    with pytest.raises(ValueError, match="precision must be one of float32, float16, int8, got 'int4'"):
        export_onnx(fitted_vectorizer, tmp_path / "out", precision="int4")
    with pytest.raises(NotFittedError):
        export_onnx(XLMRobertaVectorizer(tiny_checkpoint), tmp_path / "out")
    with pytest.raises(TypeError, match="got a int"):
        export_onnx(3, tmp_path / "out")
    with pytest.raises(ValueError, match="output='sparse' can't be exported"):
        export_onnx(XLMRobertaVectorizer(tiny_checkpoint).fit(["a"]).set_params(output="sparse"), tmp_path / "out")
    broken = XLMRobertaVectorizer(tiny_checkpoint).fit(["a"])
    with torch.no_grad():
        broken.module_.get_parameter("roberta.embeddings.LayerNorm.bias")[3] = torch.nan
    with pytest.raises(CheckpointError, match=r"the weight 'roberta.embeddings.LayerNorm.bias' holds NaN"):
        export_onnx(broken, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_without_the_package(fitted_vectorizer, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(ImportError, match=r'an ONNX model needs onnx, .*pip install "skxlmr\[onnx\]"'):
        export_onnx(fitted_vectorizer, tmp_path / "out")
    with pytest.raises(ImportError, match="onnx"):
        save(fitted_vectorizer, tmp_path / "out", onnx=True)
    save(fitted_vectorizer, tmp_path / "out")


PROMPT = {"prompts": {"query": "the small bird: "}, "default_prompt_name": "query"}


@pytest.mark.parametrize("include_prompt", [True, False])
@pytest.mark.parametrize("long_text", ["truncate", "window"])
def test_what_a_sentence_encoder_says_is_in_the_graph(tiny_checkpoint, tmp_path, include_prompt, long_text):
    """A prompt that is not pooled, further layers, unit length, fewer features; over windows, the mean comes first."""
    how = sentence_encoders.one_key(["mean"], include_prompt=include_prompt)
    layers = [("Dense", sentence_encoders.dense(n_out=24)), ("Normalize", {})]
    sentence_encoders.write(tmp_path / "sentences", tiny_checkpoint, how, layers, prompts=PROMPT)
    options = {"truncate_dim": 10, "long_text": long_text, "normalize": True}
    vectorizer = XLMRobertaVectorizer(tmp_path / "sentences", **options).fit(["a text"])
    export_onnx(vectorizer, tmp_path / "out")
    file = tmp_path / "out" / "onnx" / "model.onnx"
    for text in ("das kleine alte Haus", "a"):
        ((ids, layout), *_), features = rows_of(vectorizer, lambda text=text: vectorizer.transform([text]))
        found = graphs.run(file, padded(ids, layout, vectorizer.config_))["sentence_embedding"]
        assert found.shape == (1, 10 if long_text == "truncate" else 24)
        if long_text == "window":
            assert abs(np.linalg.norm(found) - 1) > 0.01
            found = found[:, :10] / np.linalg.norm(found[:, :10], axis=1, keepdims=True)
        np.testing.assert_allclose(found, features, atol=TOLERANCE, rtol=0)


def test_the_public_name_needs_no_onnx():
    assert skxlmr.export_onnx is export_onnx


def test_translations_count_their_own_positions(tmp_path):
    pytest.importorskip("sacremoses")
    tokenizer = xlm_tokenizer(model_max_length=64, lang2id={"de": 0, "en": 1})
    write_xlm_checkpoint(tmp_path / "xlm", tokenizer, n_langs=2)
    lm = XLMMaskedLM.from_checkpoint(tmp_path / "xlm", objective="tlm", lang=("en", "de"), device="cpu")
    export_onnx(lm, tmp_path / "out")
    pairs = [("the small bird", "ein kleiner Vogel"), ("today", "heute singt das alte Haus langsam")]
    loaded = load_onnx(tmp_path / "out")
    np.testing.assert_allclose(loaded.transform(pairs), lm.transform(pairs), atol=TOLERANCE, rtol=0)
    (ids, layout), *_ = rows_of(lm, lambda: lm.transform(pairs))[0]
    inputs = padded(ids, layout, lm.config_)
    second = inputs["token_type_ids"]
    inputs["langs"] = torch.where(second.bool(), *lm.module_.backbone.lang_ids[::-1])
    places = torch.arange(second.shape[1]).expand(second.shape)
    starts = torch.tensor(layout.second_starts)[:, None]
    inputs["position_ids"] = torch.where(second.bool(), places - starts, places)
    found = graphs.run(tmp_path / "out" / "onnx" / "model.onnx", inputs)["logits"]
    real = inputs["attention_mask"].bool().numpy()
    theirs = expected_of(lm, ids, layout)["logits"].numpy()
    np.testing.assert_allclose(found[real], theirs, atol=TOLERANCE * max(1, np.abs(theirs).max()), rtol=0)
    other = graphs.run(tmp_path / "out" / "onnx" / "model.onnx", inputs | {"position_ids": places})["logits"]
    assert np.abs(other[real] - theirs).max() > 1e-2


def test_a_folder_with_the_name_of_the_checkpoint(tmp_path, monkeypatch):
    """The built-in one lies elsewhere."""
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        export_onnx("skxlmr-mini", "skxlmr-mini")
        assert (tmp_path / "skxlmr-mini" / "onnx" / "model.onnx").is_file()


def test_what_is_read_is_not_replaced(tiny_checkpoint, tmp_path):
    """The checkpoint, also that of an estimator, or a folder in which it lies."""
    copied = shutil.copytree(tiny_checkpoint, tmp_path / "pipeline" / "estimators" / "0")
    shutil.copy(copied / "config.json", tmp_path / "pipeline")
    before = names_in(copied)
    fitted = XLMRobertaVectorizer(copied).fit(["a"])
    for source, target in (
        (copied, copied),
        (fitted, copied),
        (copied, tmp_path / "pipeline"),
        (fitted, tmp_path / "pipeline"),
    ):
        with pytest.raises(CheckpointError, match=r"(is the source|holds what is read, .*): export to another folder"):
            export_onnx(source, target)
    assert names_in(copied) == before
    base = shutil.copytree(tiny_checkpoint, tmp_path / "base")
    adapter = lora.save(lora.fitted("XLMRobertaClassifier", str(base), max_epochs=1), tmp_path / "adapter")
    for target in (base, adapter):
        with pytest.raises(CheckpointError, match="is the source: export to another folder"):
            export_onnx(adapter, target)
    assert names_in(base) == before
