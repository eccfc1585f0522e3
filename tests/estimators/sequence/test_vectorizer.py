"""Features of texts: the reference's numbers, in the order of the rows, with scikit-learn's names and containers."""

import json
import pickle
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from sklearn.compose import ColumnTransformer, make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from skxlmr import CheckpointError, TruncationWarning, XLMRobertaVectorizer, load, save
from skxlmr.checkpoints import read_tensors, write_folder
from skxlmr.inference import engine
from tests.estimators.conftest import padded


@pytest.fixture
def vectorizer(make, texts):
    return make(XLMRobertaVectorizer).fit(texts)


@torch.no_grad()
def reference_features(model, inputs, pooling, layers, normalize=False):
    states = model(**inputs, output_hidden_states=True).hidden_states
    mask = inputs["attention_mask"][:, :, None]
    how = {
        "mean": lambda x: (x * mask).sum(1) / mask.sum(1),
        "cls": lambda x: x[:, 0],
        "max": lambda x: x.masked_fill(mask == 0, -torch.inf).amax(1),
        "pooler": model.pooler,
    }[pooling]
    features = torch.cat([how(states[i]) for i in layers], dim=1)
    return (torch.nn.functional.normalize(features, dim=1) if normalize else features).numpy()


@pytest.mark.parametrize("layers", [-1, 0, 1, 2, -3, [-1], [0, 2], (-1, 1, -1), np.array([1, 2])], ids=str)
@pytest.mark.parametrize("pooling", ["mean", "cls", "max", "pooler"])
def test_equals_transformers(make, reference, tiny_checkpoint, tiny_tokenizer, texts, pooling, layers):
    vectorizer = make(XLMRobertaVectorizer, pooling=pooling, layers=layers)
    model = reference("AutoModel", tiny_checkpoint)
    wanted = [layers] if isinstance(layers, int) else list(layers)
    expected = reference_features(model, padded(tiny_tokenizer, texts), pooling, wanted)
    features = vectorizer.fit_transform(texts)
    assert features.dtype == np.float32 and features.shape == (len(texts), 32 * len(wanted))
    np.testing.assert_allclose(features, expected, atol=1e-5)


def test_pairs_and_normalize_equal_transformers(make, reference, tiny_checkpoint, tiny_tokenizer, texts):
    first, second = texts[:20], [*texts[1:20], ""]
    vectorizer = make(XLMRobertaVectorizer, layers=[-2, -1], normalize=True, max_length=24)
    with pytest.warns(TruncationWarning):
        features = vectorizer.fit_transform(list(zip(first, second, strict=True)))
    model = reference("AutoModel", tiny_checkpoint)
    inputs = padded(tiny_tokenizer, first, second, max_length=24)
    np.testing.assert_allclose(features, reference_features(model, inputs, "mean", [-2, -1], True), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("layers", [3, -4, [], [0, 3], ["a"], [0.5]], ids=str)
def test_layers_that_do_not_exist(make, texts, layers):
    with pytest.raises(
        ValueError, match=r"layers must name layers from 0 \(embeddings\) to 2, or from -1 back to -3, got"
    ):
        make(XLMRobertaVectorizer, layers=layers).fit(texts)


def test_checkpoint_without_pooler(make, tmp_path, tiny_checkpoint, tiny_tokenizer, texts):
    tensors = {name: tensor for name, tensor in read_tensors(tiny_checkpoint).items() if "pooler" not in name}
    config = json.loads((tiny_checkpoint / "config.json").read_text())
    write_folder(tmp_path / "bare", config=config, tensors=tensors, tokenizer=tiny_tokenizer)
    with pytest.raises(CheckpointError, match=r"pooler.*\); the checkpoint has no pooler: choose another pooling$"):
        make(XLMRobertaVectorizer, tmp_path / "bare", pooling="pooler").fit(texts)
    assert make(XLMRobertaVectorizer, tmp_path / "bare").fit_transform(texts).shape == (48, 32)


# The same row has the same features -----------------------------------------------------------------------------------


def test_order_batch_and_neighbours_do_not_matter(vectorizer, make, texts):
    features = vectorizer.transform(texts)
    order = np.random.default_rng(0).permutation(len(texts))
    np.testing.assert_allclose(vectorizer.transform([texts[i] for i in order]), features[order], atol=1e-5)
    np.testing.assert_allclose(vectorizer.transform(texts[5:9]), features[5:9], atol=1e-5)
    np.testing.assert_allclose(make(XLMRobertaVectorizer, batch_size=1).fit_transform(texts), features, atol=1e-5)


def test_batch_size_bounds_the_tokens_of_a_batch(make, monkeypatch):
    monkeypatch.setattr(engine, "STATES_PER_ROW", 96 * 64)  # so that few texts make several batches
    texts = [f"river {i} " + "bird " * 40 for i in range(12)]
    sizes = []
    for batch_size, dtype, n_states in ((1, "float32", 96 * 64), (4, "float32", 96 * 64), (1, "bfloat16", 2 * 96 * 64)):
        vectorizer = make(XLMRobertaVectorizer, batch_size=batch_size, device="cpu", dtype=dtype).fit(texts)
        batches, budget = [], n_states // vectorizer.config_.intermediate_size
        vectorizer.module_.roberta.embeddings.register_forward_pre_hook(lambda _, args, to=batches: to.append(args[1]))
        vectorizer.transform(texts)
        assert sum(len(layout.lengths) for layout in batches) == len(texts)
        assert all(sum(layout.lengths) <= budget * batch_size for layout in batches)
        sizes.append(len(batches))
    assert sizes[0] > sizes[2] > sizes[1]


def test_distinct_texts_are_run_once(vectorizer, texts):
    repeated = [texts[i] for i in (3, 3, 1, 3, 0, 1)]
    lengths = []
    vectorizer.module_.roberta.embeddings.register_forward_pre_hook(lambda _, args: lengths.extend(args[1].lengths))
    features = vectorizer.transform(repeated)
    assert len(lengths) == 3
    np.testing.assert_array_equal(features[[0, 2, 4]], features[[3, 5, 4]])
    np.testing.assert_array_equal(features[0], features[1])
    np.testing.assert_allclose(features, vectorizer.transform(texts)[[3, 3, 1, 3, 0, 1]], atol=1e-5)


def test_distinct_pairs_are_run_once(make):
    pairs = [("a", "b"), ("a", "c"), ("a", "b"), ("b", "a")]
    features = make(XLMRobertaVectorizer).fit_transform(pairs)
    np.testing.assert_array_equal(features[0], features[2])
    assert len({row.tobytes() for row in features}) == 3
    alone = np.concatenate([make(XLMRobertaVectorizer).fit_transform([pair]) for pair in pairs])
    np.testing.assert_allclose(features, alone, atol=1e-5)


def test_fit_learns_nothing_from_the_texts(make, texts):
    features = make(XLMRobertaVectorizer).fit(["one other text"]).transform(texts)
    np.testing.assert_array_equal(features, make(XLMRobertaVectorizer).fit_transform(texts))


def test_bfloat16_is_close(make, texts):
    exact = make(XLMRobertaVectorizer).fit_transform(texts)
    vectorizer = make(XLMRobertaVectorizer, dtype="bfloat16").fit(texts)
    features = vectorizer.transform(texts)
    assert features.dtype == np.float32 and next(vectorizer.module_.parameters()).dtype == torch.bfloat16
    cosine = (features * exact).sum(1) / np.linalg.norm(features, axis=1) / np.linalg.norm(exact, axis=1)
    assert cosine.min() > 0.999
    assert np.abs(features - exact).max() > 1e-4


# Truncation -----------------------------------------------------------------------------------------------------------


def test_truncation_is_counted_and_warns_once(make):
    texts = ["bird", "river " * 30, "house " * 40]
    vectorizer = make(XLMRobertaVectorizer, max_length=16)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        vectorizer.fit(texts)
    assert vectorizer.n_truncated_ == 2
    with pytest.warns(TruncationWarning, match="2 of 3 texts are longer than 16 tokens and were cut") as caught:
        features = vectorizer.transform(texts)
    assert len(caught) == 1 and caught[0].filename == __file__
    uncut = make(XLMRobertaVectorizer).fit_transform(texts)
    assert (np.abs(uncut - features).max(1) > 1e-3).tolist() == [False, True, True]


def test_unread_ends_of_texts_are_counted_as_a_minimum(make):
    """Of a huge text only the beginning is encoded."""
    vectorizer = make(XLMRobertaVectorizer).fit(["a"])
    with pytest.warns(TruncationWarning, match=r"1 of 1 texts .* the longest lost at least \d,\d{3} tokens$"):
        vectorizer.transform(["wort " * 100_000])


def test_texts_that_grow_when_normalised_are_counted(make):
    grown = "⑽" * 20  # 20 characters, which the tokenizer reads as "(10)(10)..."
    vectorizer = make(XLMRobertaVectorizer, max_length=32).fit([grown, "bird"])
    with pytest.warns(TruncationWarning):
        vectorizer.transform([grown])
    assert vectorizer.n_truncated_ == 1


def test_pairs_are_counted_to_the_token(make, tiny_tokenizer):
    pairs = [("я" * n, "б") for n in range(1, 40)]
    lengths = tiny_tokenizer.encode_batch(*zip(*pairs, strict=True)).lengths
    vectorizer = make(XLMRobertaVectorizer, max_length=16).fit(pairs)
    assert vectorizer.n_truncated_ == np.count_nonzero(lengths > 16) > 0


def test_max_length_beyond_the_checkpoint(make, texts):
    with pytest.raises(ValueError, match="max_length=65 is more than the 64 tokens the checkpoint allows"):
        make(XLMRobertaVectorizer, max_length=65).fit(texts)
    assert make(XLMRobertaVectorizer, max_length=64).fit(texts).n_truncated_ == 0


# Names and containers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("X", "prefix"),
    [
        (["a", "b"], "xlmrobertavectorizer"),
        (pd.Series(["a", "b"]), "xlmrobertavectorizer"),
        (pd.Series(["a", "b"], name="review"), "review"),
        (pl.Series("review", ["a", "b"]), "review"),
        (pd.Series(["a", "b"], name=0), "xlmrobertavectorizer"),
        (pd.DataFrame({"title": ["a", "b"]}), "title"),
        (pl.DataFrame({"title": ["a", "b"]}), "title"),
        ([("a", "b")], "xlmrobertavectorizer"),
        (pd.DataFrame({"question": ["a"], "answer": ["b"]}), "question_answer"),
    ],
)
def test_feature_names(make, X, prefix):
    vectorizer = make(XLMRobertaVectorizer, layers=[0, 1]).fit(X)
    names = vectorizer.get_feature_names_out()
    assert names.dtype == object and names.tolist() == [f"{prefix}_{i}" for i in range(64)]


def test_feature_names_given(make):
    vectorizer = make(XLMRobertaVectorizer).fit(["a"])
    assert vectorizer.get_feature_names_out(["column"])[:2].tolist() == ["column_0", "column_1"]
    with pytest.raises(ValueError, match=r"input_features should have length equal to .*, 1, got 2"):
        vectorizer.get_feature_names_out(["a", "b"])
    with pytest.raises(ValueError, match="input_features is not equal to feature_names_in_"):
        vectorizer.fit(pd.DataFrame({"a": ["b"]})).get_feature_names_out(["b"])


@pytest.mark.parametrize("X", [["a"], pd.Series(["a"], name="review"), pd.DataFrame({"review": ["a"]})], ids=type)
def test_feature_names_behind_a_function(make, X):
    cleaned = make_pipeline(FunctionTransformer(feature_names_out="one-to-one"), make(XLMRobertaVectorizer)).fit(X)
    assert cleaned.get_feature_names_out().tolist() == cleaned[-1].get_feature_names_out().tolist()


def test_names_of_the_last_fit_count(make):
    vectorizer = make(XLMRobertaVectorizer).fit(pd.DataFrame({"title": ["a"]})).fit(pd.Series(["a"], name="body"))
    assert vectorizer.get_feature_names_out()[0] == "body_0"
    assert vectorizer.fit(["a"]).get_feature_names_out()[0] == "xlmrobertavectorizer_0"


@pytest.mark.parametrize("frame", [False, True], ids=["Series", "DataFrame"])
def test_set_output_pandas_keeps_the_index(make, frame):
    series = pd.Series(["a", "b", "a"], index=["x", 3, "x"], name="text")
    X = series.to_frame() if frame else series
    features = make(XLMRobertaVectorizer).set_output(transform="pandas").fit_transform(X)
    assert isinstance(features, pd.DataFrame) and features.index.tolist() == ["x", 3, "x"]
    assert features.columns[0] == "text_0" and set(features.dtypes) == {np.dtype(np.float32)}
    np.testing.assert_array_equal(features, make(XLMRobertaVectorizer).fit_transform(X))


def test_set_output_polars(make, texts):
    X = pl.DataFrame({"text": texts})
    features = make(XLMRobertaVectorizer).set_output(transform="polars").fit_transform(X)
    assert isinstance(features, pl.DataFrame) and features.columns[:2] == ["text_0", "text_1"]
    assert set(features.dtypes) == {pl.Float32}
    np.testing.assert_array_equal(features.to_numpy(), make(XLMRobertaVectorizer).fit_transform(X))


@pytest.fixture
def table(texts, languages):
    rng = np.random.default_rng(0)
    frame = {"text": texts, "price": rng.random(len(texts)), "stars": np.arange(len(texts)) % 5}
    return pd.DataFrame(frame, index=np.arange(len(texts))[::-1] * 3)


@pytest.mark.parametrize("column", ["text", ["text"]], ids=["column", "list of columns"])
@pytest.mark.parametrize("output", ["default", "pandas"])
def test_column_transformer(make, table, column, output):
    columns = ColumnTransformer(
        [("words", make(XLMRobertaVectorizer), column), ("numbers", StandardScaler(), ["price", "stars"])]
    )
    features = columns.set_output(transform=output).fit_transform(table)
    assert features.shape == (48, 34)
    alone = make(XLMRobertaVectorizer).fit_transform(table["text"])
    np.testing.assert_allclose(np.asarray(features)[:, :32], alone, atol=1e-6)
    names = ["words__text_0", "words__text_31", "numbers__price", "numbers__stars"]
    assert columns.get_feature_names_out()[[0, 31, 32, 33]].tolist() == names
    if output == "pandas":
        assert features.index.equals(table.index) and features.columns[0] == names[0]


def test_column_transformer_with_polars(make, table):
    columns = make_column_transformer((make(XLMRobertaVectorizer), "text"), (StandardScaler(), ["price"]))
    features = columns.set_output(transform="polars").fit_transform(pl.DataFrame(table))
    assert isinstance(features, pl.DataFrame) and features.shape == (48, 33)


def test_pipeline_with_logistic_regression(make, table, languages):
    columns = make_column_transformer(
        (make(XLMRobertaVectorizer, layers=[0, -1]), "text"), (StandardScaler(), ["price"])
    )
    model = make_pipeline(columns, StandardScaler(), LogisticRegression())
    scores = cross_val_score(model, table, languages, cv=3)
    assert scores.min() > 0.6  # a quarter by chance
    assert set(model.fit(table, languages).predict(table[:5])) <= set(languages)


def test_n_features_must_agree(make):
    vectorizer = make(XLMRobertaVectorizer).fit(["a"])
    with pytest.raises(
        ValueError, match=r"X has pairs of texts \(2 columns\), but XLMRobertaVectorizer was fitted on texts"
    ):
        vectorizer.transform([("a", "b")])
    vectorizer.fit(pd.DataFrame({"a": ["x"], "b": ["y"]}))
    with pytest.raises(ValueError, match="feature names should match"):
        vectorizer.transform(pd.DataFrame({"b": ["x"], "a": ["y"]}))


def test_texts_in_one_dimension_have_no_number_of_features(make, texts, tmp_path):
    """Tools such as MAPIE try an estimator that has one on a row of zeros. It still knows texts from pairs."""
    X, pairs = texts[:4], list(zip(texts[:4], texts[:4], strict=True))
    vectorizer = make(XLMRobertaVectorizer)
    tables = {1: pd.DataFrame({"text": X}), 2: pairs}
    arrays = [X, pd.Series(X), np.array(X), np.array(X, dtype=object), pd.Series(X, dtype="category")]
    for rows in arrays:
        for n_features, table in tables.items():
            assert vectorizer.fit(table).n_features_in_ == n_features
        assert not hasattr(vectorizer.fit(rows), "n_features_in_")
    assert vectorizer.fit(np.array(X, dtype=object)[:, None]).n_features_in_ == 1
    vectorizer.fit(X)
    save(vectorizer, tmp_path / "saved")
    for made in (vectorizer, pickle.loads(pickle.dumps(vectorizer)), load(tmp_path / "saved")):
        assert not hasattr(made, "n_features_in_")
        with pytest.raises(
            ValueError, match=r"has pairs of texts \(2 columns\), but .* was fitted on texts \(1 column\)"
        ):
            made.transform(pairs)
        with pytest.raises(ValueError, match="number of columns of X, 1, got 2"):
            made.get_feature_names_out(["a", "b"])


def test_a_text_that_spells_a_special_token_is_text(tiny_tokenizer, vectorizer):
    plain, special = vectorizer.transform(["<mask> bird </s>", "bird"])
    assert np.abs(plain - special).max() > 1e-3
    ids = tiny_tokenizer.encode_batch(["<mask> bird </s>"]).ids
    assert tiny_tokenizer.mask_token_id not in ids and (ids == tiny_tokenizer.eos_token_id).sum() == 1


# Pairs and missing texts ------------------------------------------------------------------------------------------------


COLUMNS = pd.DataFrame({"a": ["the bird", "das Haus", "река", "the bird"], "b": ["house", "Vogel", "", "the bird"]})


def test_columns_side_by_side(tiny_checkpoint):
    apart = XLMRobertaVectorizer(tiny_checkpoint, pairs=False, normalize=True)
    each = [XLMRobertaVectorizer(tiny_checkpoint, normalize=True).fit_transform(COLUMNS[name]) for name in COLUMNS]
    np.testing.assert_allclose(apart.fit_transform(COLUMNS), np.hstack(each), atol=1e-6)
    assert apart.n_features_in_ == 2
    assert apart.get_feature_names_out()[[0, 31, 32, 63]].tolist() == ["a_0", "a_31", "b_0", "b_31"]
    with pytest.raises(ValueError, match=r"X has texts \(1 column\)|feature names"):
        apart.transform(COLUMNS[["a"]])
    assert apart.fit_transform(COLUMNS["a"]).shape == (4, 32)
    three = np.array([["a", "b", "c"]])
    without_fit = XLMRobertaVectorizer(tiny_checkpoint, pairs=False).set_output(transform="pandas")
    assert without_fit.transform(three).columns[[0, 95]].tolist() == [
        "xlmrobertavectorizer0_0",
        "xlmrobertavectorizer2_31",
    ]
    with pytest.raises(ValueError, match="coverage looks at one column"):
        apart.fit(COLUMNS).coverage(COLUMNS)


def test_pairs_that_are_asked_for(tiny_checkpoint):
    paired = XLMRobertaVectorizer(tiny_checkpoint, pairs=True)
    np.testing.assert_array_equal(
        paired.fit_transform(COLUMNS), XLMRobertaVectorizer(tiny_checkpoint).fit_transform(COLUMNS)
    )
    with pytest.raises(ValueError, match=r"X has texts \(1 column\), but pairs=True: pass two columns"):
        paired.fit(COLUMNS["a"])


def test_only_columns_apart_are_for_skrub_to_split():
    for pairs, splits in (("auto", False), (True, False), (False, True)):
        assert hasattr(XLMRobertaVectorizer(pairs=pairs), "__single_column_transformer__") == splits


@pytest.mark.parametrize("value", [None, np.nan, pd.NA, pd.NaT], ids=str)
def test_missing_texts_are_empty_if_asked_for(tiny_checkpoint, value):
    expected = XLMRobertaVectorizer(tiny_checkpoint).fit_transform(["a", "", " "])
    filling = XLMRobertaVectorizer(tiny_checkpoint, missing="empty")
    for X in (["a", value, " "], pd.Series(["a", value, " "], dtype=object)):
        np.testing.assert_array_equal(filling.fit(X).transform(X), expected)
    assert filling.fit([("a", value)]).transform([("a", value)]).shape == (1, 32)
    assert filling.fit([value] * 2).transform([value]).shape == (1, 32)
    with pytest.raises(ValueError, match=r"X row 1: .* or let missing='empty' read it as an empty text"):
        XLMRobertaVectorizer(tiny_checkpoint).fit(["a", value])


def test_parameters_are_validated_once(tiny_checkpoint, monkeypatch):
    calls, validate = [], XLMRobertaVectorizer._validate_params
    monkeypatch.setattr(XLMRobertaVectorizer, "_validate_params", lambda self: calls.append(self) or validate(self))
    vectorizer = XLMRobertaVectorizer(tiny_checkpoint)
    vectorizer.transform(["a"])
    assert len(calls) == 1
    vectorizer.transform(["a"])
    assert len(calls) == 2


def test_too_large_max_length_names_windows(tiny_checkpoint):
    with pytest.raises(ValueError, match=r"max_length=500 is more than the 64 tokens .*: long_text='window' reads all"):
        XLMRobertaVectorizer(tiny_checkpoint, max_length=500).fit(["a"])
