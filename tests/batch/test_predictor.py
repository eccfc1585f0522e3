"""A saved estimator over tables: what is added, rows without text, no rows, and what a process loads and what travels to it."""

import pickle
import threading

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline

import skxlmr
from skxlmr import BatchPredictor, load, save
from skxlmr.batch import _loaded
from tests import contract
from tests.contract import TEXTS

pa = pytest.importorskip("pyarrow")
GAPS = [TEXTS[0], None, float("nan"), TEXTS[1], pd.NA, TEXTS[0]]
THERE = [0, 3, 5]


@pytest.fixture(autouse=True)
def nothing_loaded():
    _loaded._loaded.clear()
    yield
    _loaded._loaded.clear()


@pytest.fixture(scope="module")
def saved(make_any, fitted, tiny_checkpoint, tmp_path_factory):
    """The folder of an estimator, or of one that was fitted on other targets."""
    folders = {}

    def saved(name, y=None, X=None, **params):
        key = name, str(y), str(X), str(params)
        if key not in folders:
            estimator = getattr(skxlmr, name)
            made = fitted(estimator) if y is None and X is None else make_any(estimator, **params).fit(X or TEXTS, y)
            folders[key] = tmp_path_factory.mktemp("saved") / "model"
            save(made, folders[key])
        return folders[key]

    return saved


@pytest.fixture
def loads(monkeypatch):
    """The folders that are loaded, each time."""
    found = []
    load_one = _loaded._load

    def counting(wanted, folder):
        found.append(folder)
        return load_one(wanted, folder)

    monkeypatch.setattr(_loaded, "_load", counting)
    return found


def frame(texts, **columns):
    return pd.DataFrame({"text": pd.Series(texts, dtype=object), **columns})


def table(texts):
    return pa.table({"text": pa.array([text if isinstance(text, str) else None for text in texts])})


# What is added --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("labels", [["bad", "good"] * 3, [3, 4, 5] * 2, [True, False] * 3])
def test_classes(saved, labels):
    folder = saved("XLMRobertaClassifier", labels)
    estimator = load(folder)
    made = BatchPredictor(folder, text="text")(frame(TEXTS, number=range(6)))
    assert list(made) == ["text", "number", "prediction", "prediction_probability"]
    assert made["prediction"].tolist() == estimator.predict(TEXTS).tolist()
    assert made["prediction_probability"].dtype == np.float32
    np.testing.assert_array_equal(made["prediction_probability"], estimator.predict_proba(TEXTS).max(1))
    arrow = BatchPredictor(folder, text="text")(table(TEXTS))
    assert arrow["prediction"].to_pylist() == made["prediction"].tolist()
    probabilities = BatchPredictor(folder, "predict_proba", text="text", output="p")(frame(TEXTS))
    assert list(probabilities) == ["text", *(f"p_{label}" for label in sorted(set(labels)))]
    np.testing.assert_array_equal(probabilities.iloc[:, 1:].to_numpy(), estimator.predict_proba(TEXTS))


def test_labels_and_columns_of_classes(saved):
    several = saved("XLMRobertaClassifier", [[0, 1], [1, 0], [1, 1]] * 2, threshold=0.0)
    made = BatchPredictor(several, text="text")(frame(TEXTS))
    assert list(made)[1:] == ["prediction_0", "prediction_1"]
    np.testing.assert_array_equal(made.iloc[:, 1:].to_numpy(), load(several).predict(TEXTS))
    columns = saved("XLMRobertaClassifier", [["a", "x"], ["b", "y"], ["c", "x"]] * 2)
    made = BatchPredictor(columns, text="text", output="is")(frame(TEXTS))
    assert list(made)[1:] == ["is_0", "is_1"]
    assert made.iloc[:, 1:].to_numpy().tolist() == load(columns).predict(TEXTS).tolist()
    made = BatchPredictor(columns, "predict_proba", text="text")(frame(TEXTS))
    assert list(made)[1:] == [f"probability_{name}" for name in ("0_a", "0_b", "0_c", "1_x", "1_y")]
    np.testing.assert_array_equal(made.iloc[:, 1:].to_numpy(), np.hstack(load(columns).predict_proba(TEXTS)))


def test_numbers(saved):
    one = saved("XLMRobertaRegressor", [1.0, 2.0, 3.0] * 2)
    made = BatchPredictor(one, text="text")(frame(TEXTS))
    assert made["prediction"].dtype == np.float32
    np.testing.assert_array_equal(made["prediction"], load(one).predict(TEXTS))
    two = saved("XLMRobertaRegressor", [[1.0, 2.0], [3.0, 5.0], [0.0, 1.0]] * 2)
    made = BatchPredictor(two, text="text")(frame(TEXTS))
    np.testing.assert_array_equal(made[["prediction_0", "prediction_1"]].to_numpy(), load(two).predict(TEXTS))


def test_features(saved):
    folder = saved("XLMRobertaVectorizer")
    features = load(folder).transform(TEXTS)
    np.testing.assert_array_equal(np.stack(BatchPredictor(folder, text="text")(frame(TEXTS))["features"]), features)
    wide = BatchPredictor(folder, text="text", wide=True, output="x")(frame(TEXTS))
    assert list(wide)[1:] == [f"x_{k}" for k in range(features.shape[1])]
    np.testing.assert_array_equal(wide.iloc[:, 1:].to_numpy(), features)
    arrow = BatchPredictor(folder, text="text")(table(TEXTS))
    assert arrow.schema.field("features").type == pa.list_(pa.float32(), features.shape[1])
    np.testing.assert_array_equal(np.stack(arrow["features"].to_pylist()).astype(np.float32), features)


def test_answers_entities_and_labels_in_words(saved):
    pairs = contract.inputs(skxlmr.XLMRobertaQuestionAnswerer)[0]
    folder = saved("XLMRobertaQuestionAnswerer")
    rows = pd.DataFrame(pairs, columns=["q", "c"])
    made = BatchPredictor(folder, text=["q", "c"])(rows)
    assert made["prediction"].tolist() == load(folder).predict(pairs).tolist()
    folder = saved("XLMRobertaTokenClassifier")
    entities = load(folder).predict_entities(TEXTS)
    assert any(entities)
    predictor = BatchPredictor(folder, text="text", missing="null")
    assert predictor(frame(TEXTS))["entities"].tolist() == entities
    assert predictor(table([*TEXTS, None]))["entities"].to_pylist() == [*entities, None]
    folder = saved("XLMRobertaZeroShotClassifier")
    made = BatchPredictor(folder, text="text")(frame(TEXTS))
    assert made["prediction"].tolist() == load(folder).predict(TEXTS).tolist()


def test_pairs(saved):
    pairs = list(zip(TEXTS, TEXTS[::-1], strict=True))
    folder = saved("XLMRobertaClassifier", [0, 1] * 3, pairs)
    rows = pd.DataFrame(pairs, columns=["a", "b"])
    rows.loc[2, "b"] = None
    made = BatchPredictor(folder, "predict_proba", text=("a", "b"), missing="null")(rows)
    there = [0, 1, 3, 4, 5]
    expected = load(folder).predict_proba([pairs[row] for row in there])
    np.testing.assert_array_equal(made.iloc[there, 2:].to_numpy(), expected)
    assert made.iloc[2, 2:].isna().all()


def test_a_prompt_and_its_choices(make_any, tmp_path):
    rows = pd.DataFrame({"p": TEXTS, "a": TEXTS[::-1], "b": TEXTS})
    chooser = make_any(skxlmr.XLMRobertaMultipleChoiceClassifier).fit(rows, [0, 1] * 3)
    save(chooser, tmp_path / "model")
    for text in (None, ("p", "a", "b")):
        made = BatchPredictor(tmp_path / "model", text=text)(rows)
        assert made["prediction"].tolist() == chooser.predict(rows).tolist()
    made = BatchPredictor(tmp_path / "model", "predict_proba")(rows)
    np.testing.assert_array_equal(made[["probability_0", "probability_1"]].to_numpy(), chooser.predict_proba(rows))


def test_estimators_of_scikit_learn_around_ours(tiny_checkpoint, tmp_path):
    pytest.importorskip("skops")
    columns = pd.DataFrame({"text": TEXTS})["text"]
    encoder = skxlmr.XLMRobertaVectorizer(tiny_checkpoint)
    save(make_pipeline(encoder, LogisticRegression()).fit(columns, ["a", "b"] * 3), tmp_path / "classes")
    save(make_pipeline(encoder, Ridge()).fit(columns, [1.0, 2.0] * 3), tmp_path / "numbers")
    made = BatchPredictor(tmp_path / "classes", text="text")(frame(TEXTS))
    assert list(made) == ["text", "prediction"]
    assert made["prediction"].tolist() == load(tmp_path / "classes").predict(TEXTS).tolist()
    made = BatchPredictor(tmp_path / "numbers", text="text")(frame(TEXTS))
    assert made["prediction"].dtype == np.float64
    np.testing.assert_array_equal(made["prediction"], load(tmp_path / "numbers").predict(TEXTS))


def test_a_pipeline_that_reads_a_table_is_refused(tiny_checkpoint, tmp_path):
    pytest.importorskip("skops")
    encoder = skxlmr.XLMRobertaVectorizer(tiny_checkpoint)
    table = pd.DataFrame({"text": TEXTS, "price": range(len(TEXTS))})
    columns = make_column_transformer((encoder, "text"), remainder="passthrough")
    save(make_pipeline(make_pipeline(columns), Ridge()).fit(table, table["price"]), tmp_path / "tables")
    with pytest.raises(ValueError, match=r"begins with a ColumnTransformer, which reads a table, .*skxlmr\.load"):
        BatchPredictor(tmp_path / "tables", text="text")(table)


def test_columns_of_pairs_in_another_order(make_any, tmp_path):
    frame = pd.DataFrame({"query": TEXTS, "document": TEXTS[::-1]})
    save(make_any(skxlmr.XLMRobertaRegressor).fit(frame, np.arange(6.0)), tmp_path / "pairs")
    with pytest.raises(
        ValueError, match=r"are the columns of the fit in another order: pass text=\['query', 'document'\]"
    ):
        BatchPredictor(tmp_path / "pairs", text=["document", "query"])(frame)
    expected = load(tmp_path / "pairs").predict(frame)
    for text in (["query", "document"], None):
        found = BatchPredictor(tmp_path / "pairs", text=text)(frame)["prediction"]
        np.testing.assert_allclose(found, expected, rtol=1e-6)
    renamed = frame.rename(columns={"query": "a", "document": "b"})
    found = BatchPredictor(tmp_path / "pairs", text=["a", "b"])(renamed)["prediction"]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    with pytest.raises(ValueError, match="the table has 2 columns 'query': give each a name of its own"):
        BatchPredictor(tmp_path / "pairs", text=["query", "document"])(pd.concat([frame, frame[["query"]]], axis=1))


def test_the_column_of_the_fit_is_found(tiny_checkpoint, tmp_path):
    save(skxlmr.XLMRobertaVectorizer(tiny_checkpoint).fit(pd.DataFrame({"body": TEXTS})), tmp_path / "model")
    made = BatchPredictor(tmp_path / "model")(pd.DataFrame({"id": range(6), "body": TEXTS}))
    assert list(made) == ["id", "body", "features"]
    other = BatchPredictor(tmp_path / "model", text="text")(frame(TEXTS))
    np.testing.assert_array_equal(np.stack(other["features"]), np.stack(made["features"]))


# Rows without text, and no rows ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "pandas_type", "arrow_type"),
    [(["a", "b"], "str", pa.string()), ([0, 1], "Int64", pa.int64()), ([True, False], "boolean", pa.bool_())],
)
def test_null_gives_null(saved, labels, pandas_type, arrow_type):
    folder = saved("XLMRobertaClassifier", labels * 3)
    predictor = BatchPredictor(folder, text="text", missing="null")
    index = pd.Index(list("uvwxyz"))
    made = predictor(frame(GAPS).set_axis(index))
    expected = load(folder).predict([GAPS[row] for row in THERE]).tolist()
    assert made.index.equals(index)
    assert made["prediction"].isna().tolist() == [row not in THERE for row in range(6)]
    assert made["prediction"].iloc[THERE].tolist() == expected
    assert made["prediction_probability"].isna().tolist() == made["prediction"].isna().tolist()
    arrow = predictor(table(GAPS))
    assert [arrow["prediction"][row].as_py() for row in THERE] == expected
    assert arrow["prediction"].null_count == arrow["prediction_probability"].null_count == 3
    for rows in (frame([]), frame([None]), frame(TEXTS)):
        types = predictor(rows).dtypes
        assert types["prediction"] == (pandas_type if pandas_type != "str" or pd.__version__[0] > "2" else object)
        assert types["prediction_probability"] == np.float32
    for rows in ([], [None], TEXTS):
        assert predictor(table(rows)).schema == predictor.output_schema(pa.schema([("text", pa.string())])).set(
            0, table(rows).schema.field(0)
        )
        assert predictor(table(rows)).schema.field("prediction").type == arrow_type


def test_features_of_rows_without_text(saved, computed):
    folder = saved("XLMRobertaVectorizer")
    predictor = BatchPredictor(folder, text="text", missing="null")
    expected = load(folder).transform([GAPS[row] for row in THERE])
    computed.clear()
    made = predictor(frame(GAPS))["features"]
    assert sum(computed) == 3  # what the engine was given; it runs equal rows once
    assert [value is None for value in made] == [row not in THERE for row in range(6)]
    np.testing.assert_array_equal(np.stack(made.iloc[THERE]), expected)
    arrow = predictor(table(GAPS))["features"].combine_chunks()
    assert arrow.is_null().to_pylist() == [row not in THERE for row in range(6)]
    np.testing.assert_array_equal(np.stack(arrow.drop_null().to_pylist()).astype(np.float32), expected)
    assert predictor(pa.record_batch(table([None]).to_batches()[0]))["features"].null_count == 1
    computed.clear()
    assert predictor(frame([]))["features"].dtype == object and not computed


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (
            GAPS,
            r"^row 1: column 'text' has no text, but None \(a missing value\): fill or drop it first, or pass missing=",
        ),
        ([TEXTS[0], 3], r"^row 1: column 'text': expected a text, got 3 of type int: convert it first"),
        ([b"a"], r"^row 0: column 'text': expected a text, got b'a' of type bytes: decode it first"),
    ],
)
def test_a_row_that_is_no_text_is_named(saved, computed, texts, said):
    predictor = BatchPredictor(saved("XLMRobertaVectorizer"), text="text")
    with pytest.raises(ValueError, match=said):
        predictor(frame(texts))
    assert not computed


def test_an_estimator_that_reads_missing_texts_does_so(saved):
    folder = saved("XLMRobertaVectorizer", X=TEXTS, missing="empty")
    made = BatchPredictor(folder, text="text")(frame(GAPS))["features"]
    np.testing.assert_array_equal(np.stack(made), load(folder).transform(frame(GAPS)["text"]))
    assert BatchPredictor(folder, text="text", missing="null")(frame(GAPS))["features"].isna().sum() == 3


def test_what_is_refused(saved):
    folder = saved("XLMRobertaClassifier")
    predictor = BatchPredictor(folder, text="text")
    with pytest.raises(ValueError, match="there is no column 'text': the table has 'a', 'b'"):
        predictor(pd.DataFrame({"a": [], "b": []}))
    with pytest.raises(ValueError, match="has a column 'prediction' already"):
        predictor(frame(TEXTS, prediction=0))
    with pytest.raises(TypeError, match="expected a pandas DataFrame or an Arrow table, got a list"):
        predictor(TEXTS)
    with pytest.raises(ValueError, match=r"text \(--text\) is needed, the name of the column"):
        BatchPredictor(folder)(frame(TEXTS))
    with pytest.raises(ValueError, match="XLMRobertaClassifier has no transform: it has predict, predict_proba"):
        BatchPredictor(folder, "transform", text="text")(frame(TEXTS))
    with pytest.raises(ValueError, match="method must be one of 'auto', 'predict'"):
        BatchPredictor(folder, "fit")
    with pytest.raises(ValueError, match="missing must be one of 'error', 'null'"):
        BatchPredictor(folder, missing="drop")
    for name, value in {
        "onnx": "yes",
        "wide": 2,
        "output": 1,
        "device": ["cpu"],
        "dtype": np.float32,
        "batch_size": 0,
    }.items():
        with pytest.raises(ValueError, match=f"The '{name}' parameter of BatchPredictor must be "):
            BatchPredictor(folder, **{name: value})
    for text in (0, ["query", 1], [], np.array(4)):
        with pytest.raises(TypeError, match="text must be the name of a column, or a list of names, got "):
            BatchPredictor(folder, text=text)
    with pytest.raises(ValueError, match="use the method predict_entities"):
        BatchPredictor(saved("XLMRobertaTokenClassifier"), "predict", text="text")(frame(TEXTS))
    with pytest.raises(ValueError, match="XLMRobertaCausalLM has neither predict nor transform"):
        BatchPredictor(saved("XLMRobertaCausalLM"), text="text")(frame(TEXTS))
    with pytest.raises(skxlmr.CheckpointError, match="nowhere"):
        BatchPredictor("./nowhere", text="text")(frame(TEXTS))


# What a process loads, and what travels to it -------------------------------------------------------------------------


def test_loaded_once_and_again_when_its_files_change(saved, loads, tmp_path):
    folder = tmp_path / "model"
    save(load(saved("XLMRobertaClassifier")), folder)
    predictors = [BatchPredictor(folder, method, text="text") for method in ("predict", "predict_proba")]
    for predictor in predictors * 2:
        predictor(frame(TEXTS))
    copied = pickle.loads(pickle.dumps(predictors[0]))
    before = copied(frame(TEXTS))
    assert loads == [folder]
    save(load(saved("XLMRobertaClassifier", ["x", "y"] * 3)), folder)
    after = copied(frame(TEXTS))
    assert loads == [folder] * 2
    assert set(before["prediction"]) <= {0, 1} and set(after["prediction"]) <= {"x", "y"}


def test_threads_load_once(saved, loads):
    predictor, results = BatchPredictor(saved("XLMRobertaClassifier"), text="text"), []
    threads = [threading.Thread(target=lambda: results.append(predictor(frame(TEXTS)))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(loads) == 1 and len(results) == 8 and all(result.equals(results[0]) for result in results)


def test_few_estimators_are_kept(saved, loads):
    folder = saved("XLMRobertaClassifier")
    for size in range(1, _loaded.MOST + 2):
        BatchPredictor(folder, text="text", batch_size=size)(frame(TEXTS))
    assert len(_loaded._loaded) == _loaded.MOST
    BatchPredictor(folder, text="text", batch_size=_loaded.MOST + 1)(frame(TEXTS))
    assert len(loads) == _loaded.MOST + 1
    BatchPredictor(folder, text="text", batch_size=1)(frame(TEXTS))
    assert len(loads) == _loaded.MOST + 2


def test_a_path_travels_and_nothing_else(saved, tmp_path, monkeypatch):
    folder = saved("XLMRobertaVectorizer")
    monkeypatch.chdir(folder.parent)
    predictor = BatchPredictor("model", text="text")
    predictor(frame(TEXTS))
    pickled = pickle.dumps(predictor)
    monkeypatch.chdir(tmp_path)  # as in another process
    assert len(pickled) < 1000 and pickle.loads(pickled).folder == str(folder)
    assert repr(predictor).startswith(f"BatchPredictor({str(folder)!r}, method='auto', missing='error', ")


def test_how_it_is_computed(saved, computed):
    folder = saved("XLMRobertaVectorizer")
    predictor = BatchPredictor(folder, text="text", dtype="bfloat16", batch_size=2, device="cpu")
    expected = load(folder)
    expected = type(expected)(folder, dtype="bfloat16").fit(TEXTS).transform(TEXTS)
    np.testing.assert_array_equal(np.stack(predictor(frame(TEXTS))["features"]), expected)
    part = predictor._prepared().estimator
    assert (part.batch_size, part.dtype, part.device, part.memory, part.verbose) == (2, "bfloat16", "cpu", None, 0)
    with pytest.raises(ValueError, match="dtype"):
        BatchPredictor(folder, text="text", dtype="float1")(frame(TEXTS))


def test_nothing_is_kept_of_texts(saved, with_cache):
    """A cache would grow with the table."""
    before = skxlmr.cache_info().encoded
    BatchPredictor(saved("XLMRobertaVectorizer"), text="text")(frame(TEXTS))
    assert skxlmr.cache_info().encoded == before
