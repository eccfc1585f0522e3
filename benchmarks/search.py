"""A search over the classifier after a frozen encoder: with and without the cache, and with the encoders of other libraries.

GridSearchCV over `C` of Pipeline(encoder, StandardScaler, LogisticRegression), 12 candidates x 5 folds and a refit.
Each contender runs in a process of its own and starts with empty caches. Those that encode each text in each fit would
take the better part of an hour: they run a smaller search, and their time is scaled, that inside the encoder by the
number of rows that go through it, and the rest, which is opening the checkpoint and fitting the classifier on fewer
rows, by the number of fits.
"""

import argparse
import json
import random
import sys
import tempfile
import time
import warnings

import numpy as np
from _common import (
    base_folder,
    data_file,
    describe_machine,
    make_parser,
    markdown_table,
    read_rows,
    require,
    run_child,
    set_threads,
)
from sklearn.base import BaseEstimator, TransformerMixin

FOLDS, SMALL_FOLDS, SMALL_CANDIDATES = 5, 2, 1
AUTO, FOLDER, AGAIN, NONE = (
    "skxlmr, memory='auto'",
    "skxlmr, a folder",
    "skxlmr, the folder again",
    "skxlmr, memory=None",
)
WRAPPED, SKRUB = "sentence-transformers, wrapped", "skrub's TextEncoder"
MODELS = {}  # of sentence-transformers
CACHED, EVERY_TIME = (AUTO, FOLDER, AGAIN), (NONE, WRAPPED, SKRUB)


class SentenceTransformerFeatures(TransformerMixin, BaseEstimator):
    """The usual wrapper; the model is opened once in the process, which is not timed, and not in each fit."""

    @staticmethod
    def open(folder):
        from sentence_transformers import SentenceTransformer

        MODELS[folder] = SentenceTransformer(folder, device="cpu")

    def __init__(self, folder):
        self.folder = folder

    def fit(self, X, y=None):
        return self

    def transform(self, X):
        return MODELS[self.folder].encode(list(X), show_progress_bar=False)


class Meter:
    """Counts the rows that go through a function, and the seconds inside it."""

    def __init__(self, owner, name):
        self.rows, self.seconds = 0, 0.0
        self._run = getattr(owner, name)
        setattr(owner, name, lambda *args, **kwargs: self._measured(*args, **kwargs))

    def _measured(self, this, rows, *args, **kwargs):
        start = time.perf_counter()
        try:
            return self._run(this, rows, *args, **kwargs)
        finally:
            self.seconds += time.perf_counter() - start
            self.rows += len(rows)


def encoder_and_meter(name, folder, memory):
    """The first step of the pipeline, and what counts its rows."""
    if name in (WRAPPED, SKRUB):
        import sentence_transformers

        meter = Meter(sentence_transformers.SentenceTransformer, "encode")
        if name == WRAPPED:
            SentenceTransformerFeatures.open(folder)
            return SentenceTransformerFeatures(folder), meter
        from skrub import TextEncoder

        return TextEncoder(folder, n_components=None, device="cpu"), meter
    from skxlmr import XLMRobertaVectorizer
    from skxlmr.inference import Engine

    return XLMRobertaVectorizer(folder, device="cpu", memory=memory), Meter(Engine, "_run")


def run_search(encoder, candidates, folds, texts, labels):
    """Seconds, and the scores of all folds."""
    import pandas as pd
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from threadpoolctl import threadpool_limits

    pipeline = make_pipeline(encoder, StandardScaler(), LogisticRegression(max_iter=100))
    grid = {"logisticregression__C": np.logspace(-4, 1, candidates).tolist()}
    search = GridSearchCV(pipeline, grid, cv=folds, error_score="raise")
    start = time.perf_counter()
    # NumPy's and SciPy's BLAS have two threads each, and wait for each other; torch has a BLAS of its own
    with threadpool_limits(1, user_api="blas"):
        search.fit(pd.Series(texts, name="text"), labels)
    seconds = time.perf_counter() - start
    found = search.cv_results_
    return seconds, [found[f"split{fold}_test_score"].tolist() for fold in range(folds)]


def measure(args):
    """Print what one contender took, in this process."""
    warnings.simplefilter("ignore")
    set_threads(args.threads)
    texts, labels = sample_labelled(args.rows, args.data)
    memory = {AUTO: "auto", NONE: None}.get(args.contender, args.cache)
    encoder, meter = encoder_and_meter(args.contender, str(base_folder(args)), memory)
    small = SMALL_CANDIDATES, SMALL_FOLDS, texts[: args.small_rows], labels[: args.small_rows]
    if args.contender in CACHED:
        seconds, _ = run_search(encoder, args.candidates, FOLDS, texts, labels)
        measured = {"rows": meter.rows, "seconds": seconds, "scaled": seconds}
        scores = run_search(encoder, *small)[1]
    else:
        seconds, scores = run_search(encoder, *small)
        n_fits, n_small_fits = args.candidates * FOLDS + 1, SMALL_CANDIDATES * SMALL_FOLDS + 1
        in_encoder = meter.seconds / meter.rows * len(texts) * n_fits
        rest = (seconds - meter.seconds) / n_small_fits * n_fits
        measured = {"rows": meter.rows, "seconds": seconds, "scaled": in_encoder + rest}
    print(json.dumps(measured | {"scores": scores}))


def sample_labelled(n, data):
    """``n`` distinct texts in random order, and their labels."""
    rows = read_rows(data or data_file("seqclass/sib200_topics.jsonl"), "text", "label")
    rows = random.Random(0).sample(distinct := list({row["text"]: row for row in rows}.values()), min(n, len(distinct)))
    return [row["text"] for row in rows], [row["label"] for row in rows]


def options():
    parser = make_parser(__doc__, data="columns text and label")
    parser.add_argument("--rows", type=int, help="texts (default: 2000)")
    parser.add_argument("--small-rows", type=int, help="texts of the smaller search (default: 120)")
    parser.add_argument("--candidates", type=int, help="values of C (default: 12)")
    parser.add_argument("--contender", help=argparse.SUPPRESS)
    parser.add_argument("--cache", help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.rows = args.rows or (60 if args.quick else 2000)
    args.small_rows = args.small_rows or (30 if args.quick else 120)
    args.candidates = args.candidates or (2 if args.quick else 12)
    return args


def main():
    args = options()
    if args.contender:
        return measure(args)
    require("sentence_transformers", "skrub")
    base_folder(args)
    set_threads(args.threads)
    n_texts = len(sample_labelled(args.rows, args.data)[0])
    n_fits = args.candidates * FOLDS + 1
    print(describe_machine("cpu", "scikit-learn", "sentence-transformers", "transformers", "skrub"))
    print(
        f"{n_texts} texts, {args.candidates} candidates x {FOLDS} folds and a refit: {n_texts * n_fits} rows if each fit "
        f"encodes.\nScaled: measured with {args.small_rows} texts, {SMALL_CANDIDATES} candidate x {SMALL_FOLDS} folds and a "
        "refit. Scores: of this smaller search, by all contenders. The classifier has one thread.\n"
    )
    found = {}
    with tempfile.TemporaryDirectory() as cache:
        for name in (*CACHED, *EVERY_TIME):
            found[name] = run_child(__file__, [*sys.argv[1:], "--contender", name, "--cache", cache])
    first, table = found[AUTO], []
    for name, one in found.items():
        scores = "equal" if one["scores"] == first["scores"] else str(one["scores"])
        times = f"{one['scaled'] / first['scaled']:.1f}x"
        is_scaled = "scaled" if name in EVERY_TIME else ""
        table.append([name, one["rows"], f"{one['seconds']:.1f}", f"{one['scaled']:.1f}", is_scaled, times, scores])
    print(markdown_table(["search", "rows encoded", "seconds measured", "whole search", "", "time", "scores"], table))


if __name__ == "__main__":
    main()
