"""Folders with a graph that another tool wrote, in the layouts that there are."""

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest

from skxlmr import (
    CheckpointError,
    XLMMaskedLM,
    XLMRobertaCausalLM,
    XLMRobertaClassifier,
    XLMRobertaMaskedLM,
    XLMRobertaMultipleChoiceClassifier,
    XLMRobertaQuestionAnswerer,
    XLMRobertaRegressor,
    XLMRobertaTokenClassifier,
    XLMRobertaVectorizer,
    XLMRobertaZeroShotClassifier,
    export_onnx,
    load_onnx,
    save,
)
from tests import sentence_encoders
from tests.contract import TEXTS, inputs
from tests.export.rows import ODD, assert_equal_up_to_rounding
from tests.persistence.conftest import names_in

pytestmark = pytest.mark.filterwarnings("ignore::skxlmr.TruncationWarning")


def foreign(folder, *, beside="", flat=False, one_file=False, keep=None, rename=None):
    """Make the folder of an exported estimator one of another tool.

    Parameters
    ----------
    beside : str
        What lies beside the graph alone: "config", "tokenizer" or "both".
    flat : bool
        Whether the graph lies in the folder itself.
    one_file : bool
        Whether the graph holds its weights.
    keep : sequence of str
        Outputs that stay.
    rename : dict of str to str
        Other names of outputs.
    """
    folder = Path(folder)
    for name in ("skxlmr.json", "README.md"):
        (folder / name).unlink()
    graph = folder / "onnx" / "model.onnx"
    model = onnx.load(graph)
    if keep is not None:
        left = [entry for entry in model.graph.output if entry.name in keep]
        del model.graph.output[:]
        model.graph.output.extend(left)
    for old, new in (rename or {}).items():
        for names in [
            model.graph.output,
            *[node.output for node in model.graph.node],
            *[n.input for n in model.graph.node],
        ]:
            for i, item in enumerate(names):
                if getattr(item, "name", item) == old:
                    if isinstance(item, str):
                        names[i] = new
                    else:
                        item.name = new
    del model.metadata_props[:]
    (folder / "onnx" / "model.onnx_data").unlink()
    graph.unlink()
    options = {} if one_file else {"save_as_external_data": True, "location": "model.onnx_data", "size_threshold": 256}
    onnx.save_model(model, graph, **options)
    tokenizer = ["sentencepiece.bpe.model", "tokenizer_config.json"]
    for name in {"config": ["config.json"], "tokenizer": tokenizer, "both": ["config.json", *tokenizer]}.get(
        beside, ()
    ):
        (folder / name).unlink()
    if flat:
        for name in ("model.onnx", "model.onnx_data"):
            if (folder / "onnx" / name).exists():
                shutil.move(folder / "onnx" / name, folder / name)
        shutil.rmtree(folder / "onnx")
    return folder


@pytest.fixture(scope="module")
def vectorizer(tiny_checkpoint):
    return XLMRobertaVectorizer(tiny_checkpoint).fit(TEXTS)


@pytest.mark.parametrize(
    "layout",
    [
        {},
        {"beside": "config"},
        {"beside": "tokenizer"},
        {"beside": "both"},
        {"flat": True},
        {"flat": True, "one_file": True},
        {"one_file": True},
        {"keep": ["last_hidden_state"]},
        {"keep": ["sentence_embedding"]},
        {"rename": {"last_hidden_state": "token_embeddings"}},
    ],
    ids=str,
)
def test_layouts(layout, vectorizer, tmp_path):
    export_onnx(vectorizer, tmp_path / "out")
    folder = foreign(tmp_path / "out", **layout)
    if layout.get("beside") != "config":  # a plain model has no files of a sentence encoder
        (folder / "modules.json").unlink(missing_ok=True)
    found = load_onnx(folder, threads=1)
    assert type(found) is XLMRobertaVectorizer
    np.testing.assert_allclose(found.transform(ODD), vectorizer.transform(ODD), rtol=0, atol=1e-5)


def test_pooling_is_that_of_the_parameters_or_of_the_folder(vectorizer, tiny_checkpoint, tmp_path):
    export_onnx(vectorizer, tmp_path / "plain")
    folder = foreign(tmp_path / "plain")
    (folder / "modules.json").unlink()
    found = load_onnx(folder, pooling="cls", normalize=True, long_text="window")
    torch = XLMRobertaVectorizer(tiny_checkpoint, pooling="cls", normalize=True, long_text="window").fit(TEXTS)
    np.testing.assert_allclose(found.transform(ODD), torch.transform(ODD), rtol=0, atol=1e-5)
    layers = [("Normalize", {})]
    sentence_encoders.write(tmp_path / "sentences", tiny_checkpoint, sentence_encoders.flags("max"), layers)
    torch = XLMRobertaVectorizer(tmp_path / "sentences").fit(TEXTS)
    export_onnx(torch, tmp_path / "out")
    found = load_onnx(foreign(tmp_path / "out", keep=["last_hidden_state"]))
    assert (found.pooling_, found.normalize_) == ("max", True)
    np.testing.assert_allclose(found.transform(ODD), torch.transform(ODD), rtol=0, atol=1e-5)


OTHERS = [
    {"pooling": "cls"},
    {"pooling": ["mean", "max"]},
    {"layers": 0},
    {"layers": 1},
    {"layers": [1, 2]},
]
SENTENCE = {"both": None, "sentence_embedding alone": ["sentence_embedding"]}


@pytest.mark.parametrize("keep", SENTENCE.values(), ids=SENTENCE)
def test_no_parameter_says_what_the_graph_makes_where_the_folder_does(vectorizer, tiny_checkpoint, tmp_path, keep):
    """Its ``sentence_embedding`` is the mean of the last layer, as its modules.json says, whatever is asked for."""
    export_onnx(vectorizer, tmp_path / "out")
    folder = foreign(tmp_path / "out", keep=keep)
    for params in OTHERS:
        found = load_onnx(folder, memory=None, **params)
        if keep is None and "layers" not in params:  # token vectors suffice
            torch = XLMRobertaVectorizer(tiny_checkpoint, **params).fit(TEXTS)
            np.testing.assert_allclose(found.transform(ODD), torch.transform(ODD), rtol=0, atol=1e-5)
            continue
        with pytest.raises(ValueError, match=r"other features than the sentence_embedding of .*model\.onnx"):
            found.transform(ODD)
    with pytest.raises(ValueError, match="exported without the pooler"):
        load_onnx(folder, pooling="pooler").transform(ODD)
    for params in ({}, {"normalize": True, "truncate_dim": 5}, {"long_text": "window"}, {"pooling": "mean"}):
        torch = XLMRobertaVectorizer(tiny_checkpoint, **params).fit(TEXTS)
        found = load_onnx(folder, **params)
        np.testing.assert_allclose(found.transform(ODD), torch.transform(ODD), rtol=0, atol=1e-5)


def test_parameters_say_the_pooling_alone_where_the_folder_says_nothing(vectorizer, tiny_checkpoint, tmp_path):
    cls = XLMRobertaVectorizer(tiny_checkpoint, pooling="cls").fit(TEXTS)
    export_onnx(cls, tmp_path / "out")
    folder = foreign(tmp_path / "out", keep=["sentence_embedding"])
    (folder / "modules.json").unlink()
    found = load_onnx(folder, pooling="cls")
    np.testing.assert_allclose(found.transform(ODD), cls.transform(ODD), rtol=0, atol=1e-5)
    for other in (found.set_params(pooling="max"), load_onnx(folder, pooling="cls", layers=1)):
        with pytest.raises(ValueError, match="other features than the sentence_embedding"):
            other.transform(ODD)
    with pytest.raises(ValueError, match="exported without the pooler"):
        load_onnx(folder, pooling="pooler").transform(ODD)


@pytest.mark.parametrize("params", [{"normalize": False}, {"normalize": False, "long_text": "window"}], ids=str)
def test_unit_length_of_the_graph_stays(tiny_checkpoint, tmp_path, params):
    sentence_encoders.write(tmp_path / "sentences", tiny_checkpoint, None, [("Normalize", {})])
    export_onnx(XLMRobertaVectorizer(tmp_path / "sentences").fit(TEXTS), tmp_path / "out")
    folder = foreign(tmp_path / "out", keep=["sentence_embedding"])
    assert load_onnx(folder, normalize=True).transform(TEXTS).shape == (len(TEXTS), 32)
    with pytest.raises(ValueError, match="other features than the sentence_embedding"):
        pickle.loads(pickle.dumps(load_onnx(folder, memory=None, **params))).transform(ODD)


def test_layers_after_the_pooling_are_those_of_the_graph(tiny_checkpoint, tmp_path):
    layers = [("Dense", sentence_encoders.dense(n_out=24)), ("Normalize", {})]
    sentence_encoders.write(tmp_path / "sentences", tiny_checkpoint, None, layers)
    torch = XLMRobertaVectorizer(tmp_path / "sentences").fit(TEXTS)
    export_onnx(torch, tmp_path / "out")
    export_onnx(torch, tmp_path / "without")
    found = load_onnx(foreign(tmp_path / "out"))
    np.testing.assert_allclose(found.transform(ODD), torch.transform(ODD), rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match="scales vectors to unit length before the mean over the windows"):
        found.set_params(long_text="window").transform(ODD)
    without = load_onnx(foreign(tmp_path / "without", keep=["last_hidden_state"]))
    with pytest.raises(ValueError, match="makes last_hidden_state, of which these features can't be made"):
        without.transform(ODD)


@pytest.mark.parametrize("n_out", [24, 40])
def test_layers_after_the_pooling_that_the_folder_does_not_tell(tiny_checkpoint, tmp_path, n_out):
    layers = [("Dense", sentence_encoders.dense(n_out=n_out))]
    sentence_encoders.write(tmp_path / "sentences", tiny_checkpoint, None, layers)
    export_onnx(XLMRobertaVectorizer(tmp_path / "sentences").fit(TEXTS), tmp_path / "out")
    folder = foreign(tmp_path / "out", keep=["sentence_embedding"])
    (folder / "modules.json").unlink()
    message = (
        rf"model\.onnx: makes a sentence_embedding of {n_out} features, expected 32: there are layers after the pooling"
    )
    with pytest.raises(CheckpointError, match=message):
        load_onnx(folder).transform(TEXTS)


@pytest.mark.parametrize(
    "kind",
    [
        XLMRobertaClassifier,
        XLMRobertaRegressor,
        XLMRobertaTokenClassifier,
        XLMRobertaQuestionAnswerer,
        XLMRobertaMultipleChoiceClassifier,
        XLMRobertaMaskedLM,
        XLMRobertaCausalLM,
        XLMMaskedLM,
    ],
    ids=lambda kind: kind.__name__,
)
def test_heads_are_told_by_the_architecture(kind, fitted, tmp_path):
    """The estimator with the graph is the one that ``from_checkpoint`` makes of the same folder."""
    before, X = fitted(kind), inputs(kind)[0]
    save(before, tmp_path / "both", onnx=True)
    torch = kind.from_checkpoint(tmp_path / "both")
    (tmp_path / "both" / "model.safetensors").unlink()
    found = load_onnx(foreign(tmp_path / "both"), threads=1)
    assert type(found) is kind
    method = (
        "predict_proba"
        if hasattr(kind, "predict_proba")
        else "predict"
        if hasattr(kind, "predict")
        else "score_samples"
    )
    expected = getattr(torch, method)(X)
    assert_equal_up_to_rounding(list(getattr(found, method)(X)), list(expected))


def test_another_estimator_can_be_asked_for(nli_checkpoint, tmp_path):
    torch = XLMRobertaZeroShotClassifier(nli_checkpoint, candidate_labels=["Vogel", "Haus", "река"]).fit()
    export_onnx(torch, tmp_path / "out")
    folder = foreign(tmp_path / "out")
    found = load_onnx(folder, estimator=XLMRobertaZeroShotClassifier, candidate_labels=["Vogel", "Haus", "река"])
    np.testing.assert_allclose(found.predict_proba(ODD), torch.predict_proba(ODD), rtol=0, atol=1e-5)
    assert type(load_onnx(folder)) is XLMRobertaClassifier
    with pytest.raises(CheckpointError, match="has no head for answers in a text"):
        load_onnx(folder, estimator=XLMRobertaQuestionAnswerer)


def test_a_cross_encoder_says_how_texts_in_words_are_read(nli_checkpoint, tmp_path):
    """A prompt and lower case count for a classifier by labels in words as for the one that was exported."""
    source = Path(shutil.copytree(nli_checkpoint, tmp_path / "scorer"))
    (source / "skxlmr.json").unlink()
    module = {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}
    (source / "modules.json").write_text(json.dumps([module]))
    about = {"model_type": "CrossEncoder", "prompts": {"query": "das haus: "}, "default_prompt_name": "query"}
    (source / "config_sentence_transformers.json").write_text(json.dumps(about))
    scores = {"method": "forward", "method_output_name": "logits"}
    how = {"transformer_task": "sequence-classification", "modality_config": {"text": scores}, "do_lower_case": True}
    (source / "sentence_bert_config.json").write_text(json.dumps({**how, "module_output_name": "scores"}))
    torch = XLMRobertaZeroShotClassifier(source, candidate_labels=["Vogel", "Haus"]).fit()
    plain = XLMRobertaZeroShotClassifier(nli_checkpoint, candidate_labels=["Vogel", "Haus"]).fit()
    texts = [text.upper() for text in TEXTS]
    expected = torch.predict_proba(texts)
    assert np.abs(plain.predict_proba(texts) - expected).max() > 1e-3
    export_onnx(torch, tmp_path / "out")
    params = {"estimator": XLMRobertaZeroShotClassifier, "candidate_labels": ["Vogel", "Haus"]}
    found = load_onnx(foreign(tmp_path / "out"), **params)
    np.testing.assert_allclose(found.predict_proba(texts), expected, rtol=0, atol=1e-5)


def test_file_names(vectorizer, tmp_path):
    export_onnx(vectorizer, tmp_path / "out")
    folder = foreign(tmp_path / "out", one_file=True)
    (folder / "onnx" / "model.onnx").rename(folder / "onnx" / "model_quantized.onnx")
    with pytest.raises(
        CheckpointError, match=r"has neither onnx/model\.onnx nor model\.onnx: it has model_quantized\.onnx"
    ):
        load_onnx(folder)
    found = load_onnx(folder, file_name="model_quantized.onnx")
    np.testing.assert_allclose(found.transform(TEXTS), vectorizer.transform(TEXTS), rtol=0, atol=1e-5)


def edit(file, **changes):
    content = json.loads(file.read_text())
    file.write_text(json.dumps({key: value for key, value in {**content, **changes}.items() if value is not ...}))


def test_folders_that_say_too_little(fitted, tmp_path):
    export_onnx(fitted(XLMRobertaClassifier), tmp_path / "out")
    folder = foreign(tmp_path / "out")
    edit(folder / "config.json", architectures=...)
    with pytest.raises(CheckpointError, match=r"names no architecture.*pass estimator="):
        load_onnx(folder)
    load_onnx(folder, estimator=XLMRobertaClassifier)
    assert load_onnx(folder, estimator=XLMRobertaRegressor, problem_type="regression").n_outputs_ == 2
    edit(folder / "config.json", id2label={"0": "a", "1": "b", "2": "c"})
    with pytest.raises(
        CheckpointError, match="makes logits of 2 dimensions, the last 2 wide, and XLMRobertaClassifier reads"
    ):
        load_onnx(folder, estimator=XLMRobertaClassifier)
    for name in ("sentencepiece.bpe.model", "tokenizer_config.json"):
        (folder / name).unlink()
        (folder / "onnx" / name).unlink()
    with pytest.raises(CheckpointError, match="holds no tokenizer"):
        load_onnx(folder)
    (folder / "config.json").unlink()
    (folder / "onnx" / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"config\.json: no such file, and none beside the graph"):
        load_onnx(folder)


def test_a_narrower_model_than_its_config_says(vectorizer, tmp_path):
    export_onnx(vectorizer, tmp_path / "out")
    folder = foreign(tmp_path / "out")
    (folder / "modules.json").unlink()
    edit(folder / "config.json", hidden_size=64)
    with pytest.raises(CheckpointError, match="makes last_hidden_state of 3 dimensions, the last 32 wide"):
        load_onnx(folder)


def test_nothing_is_written(vectorizer, tmp_path):
    export_onnx(vectorizer, tmp_path / "out")
    before = names_in(foreign(tmp_path / "out"))
    load_onnx(tmp_path / "out").transform(TEXTS)
    assert names_in(tmp_path / "out") == before
