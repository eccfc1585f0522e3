"""Each process of Dask, Spark and Ray loads a folder once, and pieces of a table are what one process makes of the whole."""

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import skxlmr
from skxlmr import BatchPredictor, load, save
from skxlmr.batch import _loaded
from tests import processes
from tests.contract import FAST, TEXTS
from tests.tiny import sentences

ROOT = Path(skxlmr.__file__).parents[1]
N_ROWS = 80


class Counting(BatchPredictor):
    """Adds which process made each row, and how often that process has loaded a folder."""

    def __call__(self, batch):
        if not hasattr(_loaded, "n_loads"):
            _loaded.n_loads, load_one = 0, _loaded._load

            def counting(*args):
                _loaded.n_loads += 1
                return load_one(*args)

            _loaded._load = counting
        made = super().__call__(batch)
        counts = {"process": os.getpid(), "loads": _loaded.n_loads}
        if hasattr(made, "assign"):
            return made.assign(**counts)
        for name, count in counts.items():
            made = made.append_column(name, [[count] * len(made)])
        return made


def table():
    """Rows with and without text; those of the first quarter are left out later, so that pieces have no rows."""
    texts = [None if k % 9 == 0 else text for k, text in enumerate(sentences(N_ROWS))]
    return pd.DataFrame({"id": range(N_ROWS), "text": pd.Series(texts, dtype="str")})


def predictor_of(folder):
    return Counting(folder, text="text", missing="null")


def over_dask(folder):
    import dask.dataframe as dd
    from distributed import Client, LocalCluster

    cluster = LocalCluster(n_workers=2, threads_per_worker=2, dashboard_address=None)
    with cluster, Client(cluster):
        rows = dd.from_pandas(table(), npartitions=8)
        rows, predictor = rows[rows["id"] >= N_ROWS // 4], predictor_of(folder)
        lazy = rows.map_partitions(predictor, meta=predictor(rows._meta))
        show(lazy.compute(), lazy.dtypes.to_dict() == lazy.compute().dtypes.to_dict())


def over_spark(folder):
    from pyspark.sql import SparkSession
    from pyspark.sql.types import LongType, StructField, StructType

    spark = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false").getOrCreate()
    predictor = predictor_of(folder)
    rows = [(int(row.id), row.text if isinstance(row.text, str) else None) for row in table().itertuples()]
    frame = spark.createDataFrame(rows, "id long, text string").repartition(8).filter("id >= 20")
    counts = [StructField(name, LongType()) for name in ("process", "loads")]
    schema = StructType([*predictor.spark_schema(frame.schema).fields, *counts])
    made = frame.mapInPandas(lambda frames: map(predictor, frames), schema)
    show(made.toPandas(), [field.simpleString() for field in predictor.spark_schema().fields])
    spark.stop()


def over_ray(folder):
    import ray

    # two for the actors, and others for what comes before them
    ray.init(num_cpus=4, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    rows = ray.data.from_pandas(table()).repartition(8).filter(expr="id >= 20")
    made = rows.map_batches(
        Counting,
        fn_constructor_args=(folder,),
        fn_constructor_kwargs={"text": "text", "missing": "null"},
        batch_format="pyarrow",
        batch_size=7,
        compute=ray.data.ActorPoolStrategy(size=2),
    )
    show(made.to_pandas(), None)
    ray.shutdown()


def show(made, types):
    """Print the columns, and something of their types."""
    made = made.sort_values("id")
    columns = {name: [plain(value) for value in made[name].astype(object)] for name in made}
    print("\n" + json.dumps([columns, types]))


def plain(value):
    if value is None or value is pd.NA or (isinstance(value, float) and value != value):
        return None
    return np.asarray(value).tolist()


@pytest.fixture(scope="module")
def folders(tiny_checkpoint, tmp_path_factory):
    parent = tmp_path_factory.mktemp("models")
    save(skxlmr.XLMRobertaClassifier(tiny_checkpoint, **FAST).fit(TEXTS, [3, 5] * 3), parent / "classes")
    save(skxlmr.XLMRobertaVectorizer(tiny_checkpoint).fit(TEXTS), parent / "features")
    return parent


@pytest.mark.slow
@pytest.mark.parametrize("model", ["classes", "features"])
@pytest.mark.parametrize(("package", "over"), [("dask", over_dask), ("pyspark", over_spark), ("ray", over_ray)])
def test_each_process_loads_once(folders, package, over, model):
    pytest.importorskip(package, reason=f"needs {package}")
    done = processes.run(over, str(folders / model), timeout=600, PYTHONPATH=str(ROOT), PYTHONWARNINGS="ignore")
    assert done.exit_code == 0, done.stderr
    made, types = json.loads(done.stdout.splitlines()[-1])
    expected = table()[N_ROWS // 4 :]
    assert made["id"] == expected["id"].tolist()
    assert set(made["loads"]) == {1} and 1 <= len(set(made["process"])) <= 4
    column = made["prediction" if model == "classes" else "features"]
    there = expected["text"].notna().tolist()
    assert [value is not None for value in column] == there
    texts, estimator = expected["text"][there].tolist(), load(folders / model)
    if model == "classes":
        assert [value for value in column if value is not None] == estimator.predict(texts).tolist()
    else:
        found = np.array([value for value in column if value is not None], np.float32)
        np.testing.assert_allclose(found, estimator.transform(texts), rtol=0, atol=1e-6)
    if package == "dask":
        assert types is True
    if package == "pyspark":
        classes = ["prediction:bigint", "prediction_probability:float"]
        assert types == (classes if model == "classes" else ["features:array<float>"])
