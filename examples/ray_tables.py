"""Ray Data: predictions and features of a dataset, in two processes that each load the model once.

    python examples/ray_tables.py

On a cluster (--address auto), --folder must be on a file system that all machines share. It needs: pip install "skxlmr[ray]"
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import ray

from skxlmr import BatchPredictor, XLMRobertaClassifier, XLMRobertaVectorizer, load, save
from skxlmr.datasets import load_reviews


def main(arguments=None):
    options = parse(arguments)
    ray.init(
        address=options.address,
        include_dashboard=None if options.address else False,
        num_cpus=None if options.address else 4,
        logging_level="ERROR",
        runtime_env={"env_vars": {"OMP_NUM_THREADS": "1"}},
    )
    try:
        run(Path(options.folder or tempfile.mkdtemp()))
    finally:
        ray.shutdown()


def run(folder):
    reviews = load_reviews().frame[["review", "sentiment"]]
    save(small_classifier().fit(reviews["review"][:100], reviews["sentiment"][:100]), folder / "classifier")
    save(XLMRobertaVectorizer("skxlmr-mini").fit(["A text."]), folder / "features")
    texts = reviews["review"].tolist()
    rows = [{"id": k, "review": None if k % 50 == 0 else text} for k, text in enumerate(texts)]
    dataset = ray.data.from_items(rows, override_num_blocks=6)  # ray.data.read_parquet(...) in real life

    made = mapped(dataset, folder / "classifier")
    there = [row["review"] is not None for row in made]
    given = [row["review"] for row in made if row["review"] is not None]
    expected = load(folder / "classifier").predict(given).tolist()
    same = expected == [row["prediction"] for row in made if row["review"] is not None]
    print(f"{len(made)} rows, {sum(row['prediction'] is None for row in made)} without text; equal to load: {same}")

    features = [
        row["features"] for row, is_there in zip(mapped(dataset, folder / "features"), there, strict=True) if is_there
    ]
    expected = load(folder / "features").transform(given)
    print(
        f"features of {len(features)} texts; equal to load: {np.array_equal(np.array(features, np.float32), expected)}"
    )


def mapped(dataset, folder):
    """The rows with what the estimator in the folder adds; an object per actor, which loads the folder at its first batch."""
    arguments = {"text": "review", "missing": "null"}
    new = dataset.map_batches(
        BatchPredictor,
        fn_constructor_args=(str(folder),),
        fn_constructor_kwargs=arguments,
        batch_format="pyarrow",
        batch_size=64,
        compute=ray.data.ActorPoolStrategy(size=2),
    )
    return sorted(new.take_all(), key=lambda row: row["id"])


def small_classifier():
    return XLMRobertaClassifier("skxlmr-mini", learning_rate=1e-3, max_epochs=2, random_state=0)


def parse(arguments):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--address", help="of a running cluster, such as auto (default: processes here)")
    parser.add_argument("--folder", help="where the models are saved (default: a temporary folder)")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
