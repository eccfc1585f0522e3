"""Dask: predictions and features of a table in pieces, and a search whose fits run in the cluster's processes.

    python examples/dask_tables.py
    python examples/dask_tables.py --scheduler tcp://10.0.0.1:8786

Without --scheduler it starts two processes on this machine. With one, the folder of the model must be on a file system that
the workers share. It needs: pip install "skxlmr[dask]"
"""

import argparse
import tempfile
from pathlib import Path

import dask.dataframe as dd
import numpy as np
from distributed import Client, LocalCluster
from joblib import parallel_config
from sklearn.model_selection import GridSearchCV

from skxlmr import BatchPredictor, XLMRobertaClassifier, XLMRobertaVectorizer, load, save
from skxlmr.datasets import load_reviews


def main(arguments=None):
    options = parse(arguments)
    reviews = load_reviews().frame
    reviews.loc[::50, "review"] = None  # rows without text
    if options.scheduler:
        with Client(options.scheduler) as client:
            run(reviews, client, options)
    else:
        # a thread per process: PyTorch has its own
        with (
            LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
            Client(cluster) as client,
        ):
            run(reviews, client, options)


def run(reviews, client, options):
    folder = Path(options.folder or tempfile.mkdtemp())
    texts = reviews.dropna(subset="review")
    save(small_classifier().fit(texts["review"][:100], texts["sentiment"][:100]), folder / "classifier")
    save(XLMRobertaVectorizer("skxlmr-mini").fit(["A text."]), folder / "features")
    table = dd.from_pandas(reviews, npartitions=6)  # dd.read_parquet(...) in real life

    predictor = BatchPredictor(folder / "classifier", text="review", missing="null")
    predicted = table.map_partitions(predictor, meta=predictor(table._meta)).compute()
    there = predicted["prediction"].notna()
    expected = load(folder / "classifier").predict(predicted["review"][there])
    same = list(expected) == list(predicted["prediction"][there])
    print(f"{len(predicted)} rows, {(~there).sum()} without text; equal to load: {same}")

    encoder = BatchPredictor(folder / "features", text="review", missing="null")
    encoded = table.map_partitions(encoder, meta=encoder(table._meta)).compute()["features"]
    expected = load(folder / "features").transform(reviews["review"][there])
    print(f"features of {there.sum()} texts; equal to load: {np.array_equal(np.stack(encoded[there]), expected)}")

    search = GridSearchCV(small_classifier(), {"learning_rate": [3e-4, 1e-3]}, cv=2, error_score="raise")
    with parallel_config("dask"):  # each fit is a task of the cluster
        search.fit(texts["review"][:60], texts["sentiment"][:60])
    n_workers = len(client.scheduler_info()["workers"])
    print(f"search over {n_workers} processes: best {search.best_params_}, score {search.best_score_:.3f}")


def small_classifier():
    return XLMRobertaClassifier("skxlmr-mini", learning_rate=1e-3, max_epochs=2, random_state=0)


def parse(arguments):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scheduler", help="address of a running scheduler (default: two processes here)")
    parser.add_argument("--folder", help="where the models are saved (default: a temporary folder)")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
