"""Tune without waiting: what a search costs when each text is encoded once.

    python examples/tune_without_waiting.py
    python examples/tune_without_waiting.py --checkpoint FacebookAI/xlm-roberta-base

The same searches with and without what the library keeps: a search over the classifier after a frozen encoder, in this
process and in another one that shares a folder; fine-tuning with frozen layers; halving whose later rounds continue the
earlier ones. Data are the 360 reviews in ten languages and the small checkpoint that come with the package. The larger
the encoder, the more is saved: with the small one, frozen layers and halving take about as long either way, and only
the counts show the difference.
"""

import argparse
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import pandas as pd
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, HalvingGridSearchCV, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skxlmr import FitQualityWarning, XLMRobertaClassifier, XLMRobertaVectorizer, cache_info, clear_cache
from skxlmr.datasets import load_reviews

SEED = 0


def main(arguments=None):
    options = parse(arguments)
    X, y = read_reviews(options.rows)
    if options.in_folder:  # the second process of frozen_encoder
        model = make_features(options, options.in_folder).set_params(logisticregression__C=0.1)
        print(f"{cross_validate(model, X, y, cv=5)['test_score'].mean():.6f}")
        return
    print(f"{len(X)} reviews, checkpoint {options.checkpoint}")
    with tempfile.TemporaryDirectory() as folder:
        show("A search over the classifier, 12 candidates x 5 folds", frozen_encoder(options, X, y, folder))
        show("Fine-tuning the top layer, 2 candidates x 2 folds", frozen_layers(options, X, y, folder))
        show("Halving over epochs, 4 candidates x 2 folds", halving(options, X, y, folder))


def frozen_encoder(options, X, y, folder):
    """One search three times: with what is kept in the process, without, and in a folder. Then another process."""
    grid = {"logisticregression__C": [10 ** (k / 3 - 3) for k in range(12)]}
    clear_cache()
    for name, memory in (("kept in the process", "auto"), ("nothing kept", None), ("kept in a folder", folder)):
        before = 0 if memory is None else cache_info(memory).encoded
        search = GridSearchCV(make_features(options, memory), grid, cv=5)
        seconds = fit(search, X, y)
        n_fits = len(search.cv_results_["params"]) * search.n_splits_ + 1
        rows = n_fits * len(X) if memory is None else cache_info(memory).encoded - before
        yield name, seconds, rows, search.best_score_
    before, start = cache_info(folder).encoded, time.perf_counter()
    command = [sys.executable, __file__, *sys.argv[1:], "--in-folder", folder]
    done = subprocess.run(command, check=True, capture_output=True, text=True)  # the import of PyTorch is timed too
    seconds = time.perf_counter() - start
    yield (
        "C=0.1, 5 folds, another process, same folder",
        seconds,
        cache_info(folder).encoded - before,
        float(done.stdout),
    )


def frozen_layers(options, X, y, folder):
    """Layers that do not learn run once for each text, over epochs, folds and candidates."""
    for name, memory in (("states kept", Path(folder, "states")), ("states computed each time", None)):
        model = XLMRobertaClassifier(
            options.checkpoint,
            n_frozen_layers=options.frozen,
            max_epochs=3,
            dtype="float32",  # so that fits and predictions share the states
            memory=memory,
            random_state=SEED,
        )
        search = GridSearchCV(model, {"learning_rate": [3e-4, 1e-3]}, cv=2)
        seconds = fit(search, X, y)
        yield name, seconds, "" if memory is None else cache_info(memory).encoded, search.best_score_


def halving(options, X, y, folder):
    """With a folder for the state of each fit, the candidates that are left go on from where they were."""
    for name, resume in (("continues", {"resume": "auto"}), ("starts again", {})):
        model = XLMRobertaClassifier(
            options.checkpoint, schedule="constant", warmup_ratio=0, random_state=SEED, resume_dir=Path(folder, "fits")
        )
        if not resume:
            model.set_params(resume_dir=None)
        search = HalvingGridSearchCV(
            model,
            {"learning_rate": [1e-4, 3e-4, 1e-3, 3e-3]},
            resource="max_epochs",
            min_resources=2,
            max_resources=4,
            factor=2,
            cv=2,
            random_state=SEED,
        )
        yield name, fit(search, X, y, **resume), "", search.best_score_


def make_features(options, memory):
    encoder = XLMRobertaVectorizer(options.checkpoint, memory=memory)
    return make_pipeline(encoder, StandardScaler(), LogisticRegression(max_iter=1000))


def fit(search, X, y, **params):
    """Fit, and return the seconds it took."""
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FitQualityWarning)  # of learning rates at which little is learnt
        search.fit(X, y, **params)
    return time.perf_counter() - start


def read_reviews(n_rows):
    reviews = load_reviews().frame.sample(frac=1, random_state=SEED).head(n_rows)
    return reviews["review"], reviews["sentiment"]


def parse(arguments):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", default="skxlmr-mini", help="folder or repository (default: %(default)s)")
    parser.add_argument("--rows", type=int, default=360, help="reviews, at most 360 (default: %(default)s)")
    parser.add_argument("--frozen", type=int, default=3, help="layers that keep their weights (default: %(default)s)")
    parser.add_argument("--in-folder", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def show(title, rows):
    print(f"\n{title}\n{'-' * len(title)}")
    columns = ["what", "seconds", "texts encoded", "score"]
    frame = pd.DataFrame([(name, f"{seconds:.1f}", rows, f"{score:.3f}") for name, seconds, rows, score in rows])
    print(frame.set_axis(columns, axis=1).to_string(index=False))


if __name__ == "__main__":
    main()
