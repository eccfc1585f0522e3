"""What cannot work ends in one clear sentence that names the row, the parameter or the file."""

import copy
import json
import shutil
from contextlib import contextmanager

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from sklearn.exceptions import NotFittedError
from sklearn.utils._param_validation import InvalidParameterError

from skxlmr import CheckpointError, XLMRobertaClassifier, XLMRobertaMaskedLM, XLMRobertaRegressor, XLMRobertaVectorizer
from skxlmr.checkpoints import read_config, read_tensors, write_folder
from skxlmr.text import load_tokenizer
from tests.tiny import write_checkpoint

ALL = [XLMRobertaClassifier, XLMRobertaMaskedLM, XLMRobertaRegressor, XLMRobertaVectorizer]
TRAINED = [XLMRobertaClassifier, XLMRobertaMaskedLM, XLMRobertaRegressor]
each = pytest.mark.parametrize("estimator", ALL, ids=lambda cls: cls.__name__.removeprefix("XLMRoberta"))
each_trained = pytest.mark.parametrize("estimator", TRAINED, ids=lambda cls: cls.__name__.removeprefix("XLMRoberta"))


@contextmanager
def raises(error, match):
    """pytest.raises that also holds the message to one sentence."""
    with pytest.raises(error, match=match) as caught:
        yield
    message = str(caught.value)
    assert "\n" not in message and len(message) < 400, message


BAD_X = [
    ("a bare text", TypeError, "X must hold one text per row, got a single str"),
    (["a", None], ValueError, "X row 1: expected a text, got None"),
    (["a", "b", float("nan")], ValueError, "X row 2: expected a text, got NaN"),
    ([5, "a"], ValueError, "X row 0: expected a text, got 5 of type int"),
    (["a", b"b"], ValueError, "X row 1: expected a text, got b'b' of type bytes"),
    (pd.Series(["a", None], index=[8, 9]), ValueError, "X row 1: expected a text"),
    ([("a", "b"), ("a", None)], ValueError, "X row 1: expected a text, got None"),
    ((text for text in "ab"), TypeError, "X is an iterator"),
    ({"a": 1}, TypeError, "X must be a list, array, Series or DataFrame of texts, got a dict"),
    ([], ValueError, "X has no rows"),
    (pd.DataFrame([["a", "b", "c"]]), ValueError, "got 3 columns"),
]


@each
@pytest.mark.parametrize(("X", "error", "said"), BAD_X, ids=[said for *_, said in BAD_X])
def test_bad_X(make, estimator, X, error, said):
    fitted = make(estimator)
    with raises(error, said):
        fitted.fit(X, [0, 1])
    assert not hasattr(fitted, "module_")


@pytest.fixture(scope="module")
def fitted(make, texts):
    return {cls: make(cls, n_frozen_layers=2).fit(texts[:4], [0, 1, 0, 1]) for cls in TRAINED} | {
        XLMRobertaVectorizer: make(XLMRobertaVectorizer).fit(texts[:4])
    }


def infer(estimator):
    return estimator.predict if hasattr(estimator, "predict") else estimator.transform


@each
def test_bad_X_after_fit(fitted, estimator):
    run = infer(fitted[estimator])
    with raises(TypeError, "got a single str"):
        run("a bare text")
    with raises(ValueError, "X row 1: expected a text, got None"):
        run(["a", None])
    assert len(run([])) == 0
    name = estimator.__name__
    with raises(ValueError, rf"X has pairs of texts \(2 columns\), but {name} was fitted on texts \(1 column\)"):
        run([("a", "b")])


def test_scores_of_pairs_after_texts(fitted):
    for call in (fitted[XLMRobertaMaskedLM].score, fitted[XLMRobertaMaskedLM].score_samples):
        with raises(ValueError, r"X has pairs of texts \(2 columns\)"):
            call([("a", "b")])


@each
def test_texts_after_pairs(make, estimator):
    pairs = [("a", "b"), ("c", "d")]
    trained = make(estimator).fit(pairs, [0, 1])
    with raises(ValueError, r"X has texts \(1 column\), but .* was fitted on pairs of texts \(2 columns\)"):
        infer(trained)(["a"])
    if estimator in TRAINED:
        with raises(ValueError, r"X_val has texts \(1 column\), but"):
            trained.fit(pairs, [0, 1], X_val=["a"], **({} if estimator is XLMRobertaMaskedLM else {"y_val": [0]}))


@each_trained
def test_not_fitted(make, estimator):
    new = make(estimator)
    with raises(NotFittedError, f"This {estimator.__name__} instance is not fitted yet"):
        infer(new)(["a"])
    if estimator is XLMRobertaMaskedLM:
        for call in (new.fill_mask, new.score_samples, new.score):
            with raises(NotFittedError, "is not fitted yet"):
                call(["<mask>"])
    with raises(NotFittedError, f": call fit, or {estimator.__name__}.from_checkpoint to predict with the head that"):
        infer(new)(["a"])
    if hasattr(new, "get_feature_names_out"):
        with raises(NotFittedError, "is not fitted yet"):
            new.get_feature_names_out()
    if estimator is XLMRobertaClassifier:
        for call in (new.predict_proba, new.decision_function, new.predict_log_proba):
            with raises(NotFittedError, "is not fitted yet"):
                call(["a"])


# Targets --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("estimator", [XLMRobertaClassifier, XLMRobertaRegressor])
@pytest.mark.parametrize(
    ("y", "said"),
    [
        (None, "requires y to be passed, but the target y is None"),
        ([0, 1], r"inconsistent numbers of samples: \[3, 2\]"),
        (
            [0.0, 1.0, np.nan],
            "y row 2: expected a label, got nan|y row 2: expected a finite number, got nan: drop the row",
        ),
        (np.zeros((3, 1, 1)), "Unknown label type|y must have one or two dimensions|dim 3"),
    ],
)
def test_bad_y(make, estimator, y, said):
    with pytest.raises(ValueError, match=said):
        make(estimator).fit(["a", "b", "c"], y)


ZONED = pd.Series(pd.date_range("2020", periods=3, tz="Europe/Berlin"))


@pytest.mark.parametrize(
    ("y", "said"),
    [
        (["a", "a", "a"], "y has only one class, 'a': at least two are needed"),
        ([1, 1, 1], "y has only one class, 1: at least two are needed"),
        ([0.5, 1.5, 2.5], "Unknown label type: continuous.* use XLMRobertaRegressor for numbers"),
        (
            [["a"], ["b", "c"], []],
            r"y row 0: expected a label, got \['a'\]; for several labels per row pass an indicator matrix",
        ),
        ([["a", 1], ["b", 1], ["a", 1]], "y column 1 has only one class, 1"),
        ([["a", 1], ["b", None], ["a", 1]], "y column 1 row 1: expected a label, got None"),
        ([[0.5, 1], [1.5, 0], [2.5, 1]], "Unknown label type: continuous.* use XLMRobertaRegressor for numbers"),
        (["a", None, "b"], "y row 1: expected a label, got None: drop the row"),
        (["a", float("nan"), "b"], "y row 1: expected a label, got nan"),
        (np.array(["a", None, "b"], dtype=object), "y row 1: expected a label, got None"),
        (pd.Series(["a", None, "b"], dtype="string"), "y row 1: expected a label, got <NA>"),
        (pd.Series(["a", None, "b"]), "y row 1: expected a label, got"),
        (pd.Series([0, None, 1], dtype="Int64"), "y row 1: expected a label, got <NA>"),
        (pl.Series(["a", None, "b"]), "y row 1: expected a label, got None"),
        ([0.0, float("inf"), 1.0], "y row 1: expected a label, got inf: drop the row"),
        (["a", 1, "b"], "y mixes labels of the types int, str: use one type"),
        (
            ZONED,
            r"Unknown label type: y row 0 is Timestamp.* convert others first, such as with pd.Series\(y\).astype\(str\)",
        ),
        (
            pd.DataFrame({"when": ZONED, "what": [1, 2, 2]}),
            r"y column 0 row 0 is .* with pd.DataFrame\(y\).astype\(str\)",
        ),
    ],
)
def test_bad_labels(make, y, said):
    with raises(ValueError, said):
        make(XLMRobertaClassifier).fit(["a", "b", "c"], y)


@pytest.mark.parametrize(
    ("y", "said"),
    [
        (["a", "b", "c"], "y row 0: expected a number, got 'a' of type str: are X and y swapped?"),
        ([0, 1, np.inf], "y row 2: expected a finite number, got inf: drop the row"),
        ([0, 1, -1e39], r"y row 2: -1e\+39 is too large for float32"),
    ],
)
def test_bad_numbers(make, y, said):
    with raises(ValueError, said):
        make(XLMRobertaRegressor).fit(["a", "b", "c"], y)


def test_validation_data(make, texts, languages):
    classifier = make(XLMRobertaClassifier)
    with raises(ValueError, "X_val and y_val belong together: pass both or neither"):
        classifier.fit(texts, languages, X_val=texts)
    with raises(ValueError, "X_val and y_val belong together: pass both or neither"):
        classifier.fit(texts, languages, y_val=languages)
    with raises(ValueError, "y_val row 1: label 'xx' is not among the classes of the fit, 'de', 'el', 'en', 'ru'"):
        classifier.fit(texts, languages, X_val=texts[:2], y_val=["de", "xx"])
    with raises(ValueError, "y_val row 0: label 3 is not among the classes of the fit"):
        classifier.fit(texts, languages, X_val=texts[:2], y_val=[3, 4])
    with raises(ValueError, "inconsistent numbers of samples"):
        classifier.fit(texts, languages, X_val=texts[:2], y_val=["de"])
    with raises(ValueError, "X_val row 0: expected a text, got None"):
        classifier.fit(texts, languages, X_val=[None], y_val=["de"])


# Parameters -----------------------------------------------------------------------------------------------------------

BAD_VALUES = {
    "checkpoint": [3, None],
    "revision": [3],
    "max_length": [3, 2.5, "long"],
    "batch_size": [0, 1.5, None],
    "device": [0, None],
    "dtype": ["float64", torch.float32],
    "pooling": ["sum", None],
    "output": ["matrix", None],
    "layers": [0.5, "last", None],
    "normalize": ["yes", None],
    "prompt": [3],
    "truncate_dim": [0, 1.5],
    "long_text": ["cut", None],
    "stride": [-1, 0.5],
    "threshold": [-0.1, 1.1, "tune"],
    "max_epochs": [0, 1.5],
    "accumulate": [0],
    "learning_rate": [0.0, -1.0, "fast"],
    "head_learning_rate": [0.0],
    "layer_decay": [0.0, 1.1],
    "weight_decay": [-0.1],
    "warmup_ratio": [-0.1, 1.1],
    "schedule": ["step", None],
    "max_grad_norm": [0.0],
    "n_frozen_layers": [-1, 0.5],
    "memory": [3, True],
    "gradient_checkpointing": ["yes"],
    "label_smoothing": [-0.1, 1.0],
    "class_weight": ["even", 3],
    "early_stopping": ["yes"],
    "scoring": [3],
    "validation_fraction": [0.0, 1.0],
    "n_iter_no_change": [0],
    "tol": [-1.0],
    "warm_start": ["yes"],
    "store_weights_in_pickle": ["yes", None],
    "subword_sampling": [-0.1, "often"],
    "random_state": ["seed", -1],
    "verbose": [-1, "loud"],
    "lora_rank": [0, 1.5],
    "lora_alpha": [0.0, -1.0],
    "lora_dropout": [-0.1, 1.0],
    "lora_targets": ["query", 3],
    "missing": ["drop", None],
    "pairs": ["yes", None],
    "resume_dir": [3],
    "resume_every": [0, 1.5],
    "mask_probability": [0.0, 1.0],
    "pair_objective": ["both"],
    "alignment_weight": [-1.0],
    "activation": ["tanh", None],
}


@each
def test_unknown_values_of_parameters(make, estimator):
    for name in make(estimator).get_params():
        for value in BAD_VALUES[name]:
            with raises(InvalidParameterError, f"The '{name}' parameter of {estimator.__name__} must be"):
                make(estimator).set_params(**{name: value}).fit(["a", "b"], [0, 1])


def test_values_set_after_fit(make, texts):
    vectorizer = make(XLMRobertaVectorizer).fit(texts)
    for params, said in (
        ({"pooling": "sum"}, "The 'pooling' parameter of XLMRobertaVectorizer must be"),
        ({"batch_size": 0}, "The 'batch_size' parameter of XLMRobertaVectorizer must be"),
        ({"pooling": "pooler"}, "pooling='pooler' was set after fit, which left the pooler out: fit again"),
        ({"max_length": 65}, "max_length=65 is more than the 64 tokens the checkpoint allows"),
        ({"layers": 3}, "layers must name layers from 0"),
    ):
        with raises(ValueError, said):
            copy.copy(vectorizer).set_params(**params).transform(texts)


@each
def test_misspelled_parameter(make, estimator):
    with pytest.raises(ValueError, match="Invalid parameter 'learning_rat' for estimator"):
        make(estimator).set_params(learning_rat=1)
    with pytest.raises(TypeError, match="learning_rat"):
        make(estimator, learning_rat=1)


@each_trained
def test_more_frozen_layers_than_there_are(make, estimator):
    with raises(ValueError, "n_frozen_layers=3 is more than the 2 layers of the checkpoint"):
        make(estimator, n_frozen_layers=3).fit(["a", "b"], [0, 1])


@each
def test_unknown_device(make, estimator):
    with raises(ValueError, "device='abacus' cannot be used here"):
        make(estimator, device="abacus").fit(["a", "b"], [0, 1])
    if not torch.cuda.is_available():
        with raises(ValueError, "device='cuda' cannot be used here"):
            make(estimator, device="cuda").fit(["a", "b"], [0, 1])


# Checkpoints ----------------------------------------------------------------------------------------------------------


@each
def test_checkpoint_that_is_not_there(make, estimator, tmp_path, tiny_checkpoint):
    with raises(CheckpointError, "absent: no such folder"):
        make(estimator, tmp_path / "absent").fit(["a", "b"], [0, 1])
    with raises(CheckpointError, "is a file, expected a checkpoint folder"):
        make(estimator, tiny_checkpoint / "config.json").fit(["a", "b"], [0, 1])
    with raises(CheckpointError, "revision='main' applies to names on the hub"):
        make(estimator, revision="main").fit(["a", "b"], [0, 1])


@pytest.fixture
def broken(tmp_path, tiny_checkpoint):
    """A copy to break."""
    return shutil.copytree(tiny_checkpoint, tmp_path / "broken")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("config.json", None, r"config\.json: no such file"),
        ("config.json", b"{", r"config\.json: is not valid JSON"),
        ("config.json", b"{}", r"config\.json: model_type is missing"),
        ("config.json", b'{"model_type": "roberta"}', r"config\.json: .*missing"),
        ("model.safetensors", None, "holds no weights"),
        ("model.safetensors", b"short", r"model\.safetensors: is not a whole safetensors file"),
        ("sentencepiece.bpe.model", None, "expected a tokenizer file .*: copy the tokenizer's files from the model"),
        ("sentencepiece.bpe.model", b"spam", r"sentencepiece\.bpe\.model: expected a SentencePiece model"),
    ],
)
@each
def test_file_missing_or_broken(make, broken, estimator, name, content, said):
    (broken / name).unlink()
    if content is not None:
        (broken / name).write_bytes(content)
    with raises(CheckpointError, said):
        make(estimator, broken).fit(["a", "b"], [0, 1])


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("model_type", "albert", "model_type must be one of"),
        ("hidden_size", 48, "does not fit the model"),
        ("num_hidden_layers", 3, "does not fit the model: .* missing"),
        ("num_hidden_layers", 1, "does not fit the model: .* unexpected"),
        ("vocab_size", 400, r"does not fit the model: .*word_embeddings.* expected \(400, 32\), found \(302, 32\)"),
        ("hidden_act", "swish", "hidden_act must be one of"),
    ],
)
def test_config_that_does_not_fit(make, broken, field, value, said):
    config = json.loads((broken / "config.json").read_text())
    (broken / "config.json").write_text(json.dumps({**config, field: value}))
    with pytest.raises(CheckpointError, match=said):
        make(XLMRobertaVectorizer, broken).fit(["a", "b"])


@pytest.mark.parametrize("auto_map", [None, {"AutoModel": "org/code--modeling_xlm_roberta.XLMRobertaModel"}])
def test_weights_of_code_that_comes_with_a_checkpoint(make, tiny_checkpoint, tmp_path, auto_map):
    """It may call itself an XLM-R. What it names is not run; where the weights fit, it is not needed."""
    config, tensors = read_config(tiny_checkpoint), read_tensors(tiny_checkpoint)
    config |= {} if auto_map is None else {"auto_map": auto_map}
    own = {name.replace("embeddings.LayerNorm", "emb_ln"): tensor for name, tensor in tensors.items()}
    tokenizer = load_tokenizer(tiny_checkpoint)
    write_folder(tmp_path / "own", config=config, tensors=own, tokenizer=tokenizer)
    with pytest.raises(CheckpointError, match=r"does not fit the model: .*emb_ln") as error:
        make(XLMRobertaVectorizer, tmp_path / "own").fit(["a"])
    assert ("code for this model (auto_map), which is never run here" in str(error.value)) == (auto_map is not None)
    write_folder(tmp_path / "fits", config=config, tensors=tensors, tokenizer=tokenizer)
    expected = make(XLMRobertaVectorizer).fit_transform(["a"])
    assert np.array_equal(make(XLMRobertaVectorizer, tmp_path / "fits").fit_transform(["a"]), expected)


def test_tokenizer_larger_than_the_model(make, tmp_path, tiny_tokenizer):
    folder = write_checkpoint(tmp_path / "small", tiny_tokenizer, vocab_size=301)
    with raises(
        CheckpointError,
        r"the tokenizer has 302 ids, but the model only 301 word embeddings: none for '<mask>' \(301\). Add ",
    ):
        make(XLMRobertaVectorizer, folder).fit(["a", "b"])
    added = tiny_tokenizer.with_tokens(["<new>", "<newer>"])
    folder = write_checkpoint(tmp_path / "added", added, vocab_size=302)
    with raises(CheckpointError, r"none for '<new>' \(302\), '<newer>' \(303\). Add rows .*embeddings\(304\)"):
        make(XLMRobertaVectorizer, folder).fit(["a", "b"])
    folder = write_checkpoint(tmp_path / "large", tiny_tokenizer, vocab_size=304)
    assert make(XLMRobertaVectorizer, folder).fit_transform(["a", "b"]).shape == (2, 32)


def test_weights_that_are_missing(make, tmp_path, tiny_checkpoint, tiny_tokenizer):
    from skxlmr.checkpoints import read_tensors

    tensors = read_tensors(tiny_checkpoint)
    del tensors["roberta.encoder.layer.1.output.dense.bias"]
    config = json.loads((tiny_checkpoint / "config.json").read_text())
    write_folder(tmp_path / "partial", config=config, tensors=tensors, tokenizer=tiny_tokenizer)
    for estimator in ALL:
        with raises(CheckpointError, r"1 tensor missing \(roberta\.encoder\.layer\.1\.output\.dense\.bias "):
            make(estimator, tmp_path / "partial").fit(["a", "b"], [0, 1])
