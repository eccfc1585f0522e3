"""Spark: predictions and features of a DataFrame, with mapInPandas and with a pandas UDF.

    python examples/spark_tables.py
    spark-submit --master yarn examples/spark_tables.py --folder /shared/models

Started with python, it runs on two threads of this machine (local[2]), each with a Python process. On a cluster, --folder must
be on a file system that all machines share. It needs Java 17, and: pip install "skxlmr[spark]"
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from pyspark.sql import SparkSession
from pyspark.sql.functions import pandas_udf

from skxlmr import BatchPredictor, XLMRobertaClassifier, XLMRobertaVectorizer, load, save
from skxlmr.datasets import load_reviews


def main(arguments=None):
    options = parse(arguments)
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    builder = SparkSession.builder.config("spark.ui.enabled", "false").config("spark.executorEnv.OMP_NUM_THREADS", "1")
    spark = (builder if "PYSPARK_GATEWAY_PORT" in os.environ else builder.master("local[2]")).getOrCreate()
    try:
        run(spark, Path(options.folder or tempfile.mkdtemp()))
    finally:
        spark.stop()


def run(spark, folder):
    reviews = load_reviews().frame[["review", "sentiment", "price"]]
    save(small_classifier().fit(reviews["review"][:100], reviews["sentiment"][:100]), folder / "classifier")
    save(XLMRobertaVectorizer("skxlmr-mini").fit(["A text."]), folder / "features")
    rows = [(k, None if k % 50 == 0 else text) for k, text in enumerate(reviews["review"])]
    table = spark.createDataFrame(rows, "id long, review string").repartition(4)  # spark.read.parquet(...) in real life

    # Nothing to broadcast: the predictor travels as a path, and each Python process loads the folder once.
    predictor = BatchPredictor(folder / "classifier", text="review", missing="null")
    predicted = table.mapInPandas(lambda frames: map(predictor, frames), predictor.spark_schema(table.schema))
    made = predicted.toPandas().sort_values("id")
    there = made["review"].notna()
    expected = load(folder / "classifier").predict(made["review"][there])
    same = list(expected) == list(made["prediction"][there])
    print(f"{len(made)} rows, {made['prediction'].isna().sum()} without text; equal to load: {same}")

    encoder = BatchPredictor(folder / "features", text="review", missing="null")
    encoded = table.mapInPandas(lambda frames: map(encoder, frames), encoder.spark_schema(table.schema))
    features = encoded.toPandas().sort_values("id")["features"][there]
    expected = load(folder / "features").transform(made["review"][there])
    same = np.array_equal(np.array(features.tolist(), np.float32), expected)
    print(f"features of {len(features)} texts; equal to load: {same}")

    @pandas_udf("string")
    def sentiment(texts: pd.Series) -> pd.Series:  # a column from a column, also in SQL
        return predictor(texts.to_frame("review"))["prediction"]

    counted = table.select(sentiment("review").alias("sentiment")).groupBy("sentiment").count().toPandas()
    same = counted.set_index("sentiment")["count"].to_dict() == made["prediction"].value_counts(dropna=False).to_dict()
    print(f"pandas UDF: {len(counted)} values; counts equal: {same}")


def small_classifier():
    return XLMRobertaClassifier("skxlmr-mini", learning_rate=1e-3, max_epochs=2, random_state=0)


def parse(arguments):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", help="where the models are saved (default: a temporary folder)")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
