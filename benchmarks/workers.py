"""GridSearchCV with n_jobs=2 against n_jobs=1: wall time and memory of a search over features, and of one that fine-tunes.

Each search runs in a process of its own, which starts no worker before. The wall time is that of ``GridSearchCV.fit``: opening,
starting workers and their imports included. Memory is the proportional set size (PSS) of the process and its workers together,
at its peak: pages that processes share count once. ``scores`` says whether both find the same.
"""

import argparse
import json
import math
import os
import sys
import tempfile
import threading
import time
from pathlib import Path

from _common import (
    base_folder,
    describe_machine,
    make_parser,
    markdown_table,
    memory,
    run_child,
    sample_texts,
    set_threads,
)

SEARCHES = {
    "features": "Pipeline(XLMRobertaVectorizer(memory=None), LogisticRegression)",
    "features, memory=folder": "the same with memory=a folder",
    "fine-tuning": "XLMRobertaClassifier(n_frozen_layers=8), one epoch",
}
INTERVAL = 0.5  # seconds between two looks at the memory


def processes(pid=None):
    """This process and all that it started, and those that these started."""
    found = [pid or os.getpid()]
    for file in Path(f"/proc/{found[0]}/task").glob("*/children"):
        try:
            children = file.read_text().split()
        except OSError:  # the thread has ended
            continue
        for child in children:
            found += processes(int(child))
    return found


def pss():
    """Proportional set size of these processes together, in MiB."""
    total = 0
    for pid in processes():
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:  # it has ended
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1024


class Peak:
    """Looks at the memory in a thread until the block ends; ``highest`` is in MiB."""

    def __enter__(self):
        self.highest, self.ended = pss(), threading.Event()
        self.thread = threading.Thread(target=self.watch, daemon=True)
        self.thread.start()
        return self

    def watch(self):
        while not self.ended.wait(INTERVAL):
            self.highest = max(self.highest, pss())

    def __exit__(self, *_):
        self.ended.set()
        self.thread.join()


def make_search(args, folder, cache):
    """The search of ``args.search``."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline

    from skxlmr import XLMRobertaClassifier, XLMRobertaVectorizer

    if args.search == "fine-tuning":
        n_layers = 1 if args.quick else 8
        estimator = XLMRobertaClassifier(
            folder, max_epochs=1, batch_size=16, n_frozen_layers=n_layers, device="cpu", random_state=0
        )
        grid = {"learning_rate": [1e-5, 3e-5][: args.candidates]}
    else:
        memory = cache if "memory" in args.search else None
        vectorizer = XLMRobertaVectorizer(folder, device="cpu", memory=memory)
        estimator = make_pipeline(vectorizer, LogisticRegression(max_iter=200))
        grid = {"logisticregression__C": [0.1, 1.0][: args.candidates]}
    return GridSearchCV(estimator, grid, cv=2, n_jobs=args.n_jobs, refit=False, error_score="raise")


def measure(args):
    """Seconds, MiB and scores of one search."""
    import warnings

    from joblib import parallel_config

    set_threads(args.threads)
    warnings.simplefilter("ignore")
    texts = sample_texts(args.rows, args.data)
    codes = [len(text) % 2 for text in texts]
    folder = base_folder(args)
    with tempfile.TemporaryDirectory() as cache:
        search = make_search(args, folder, cache)
        with parallel_config(backend=args.backend), Peak() as peak:
            start = time.perf_counter()
            search.fit(texts, codes)
            seconds = time.perf_counter() - start
    scores = search.cv_results_["mean_test_score"].tolist()
    print(json.dumps({"seconds": seconds, "peak": peak.highest, "scores": scores}))


def options():
    parser = make_parser(__doc__, data="a column text")
    parser.add_argument("--rows", type=int, help="texts (default: 400)")
    parser.add_argument(
        "--candidates", type=int, default=2, choices=(1, 2), help="candidates, each with 2 folds (default: 2)"
    )
    backends = ("loky", "multiprocessing", "threading")
    parser.add_argument("--backend", choices=backends, default="loky", help="joblib's backend (default: loky)")
    parser.add_argument("--only", choices=SEARCHES, action="append", help="a search to run (default: all)")
    parser.add_argument("--search", choices=SEARCHES, help=argparse.SUPPRESS)
    parser.add_argument("--n-jobs", type=int, default=1, help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.rows = args.rows or (40 if args.quick else 400)
    return args


def main():
    args = options()
    if args.search:
        return measure(args)
    if math.isnan(memory("VmRSS")):
        sys.exit("this needs Linux, which says how much memory processes share")
    base_folder(args)
    set_threads(args.threads)
    print(
        describe_machine("cpu", "scikit-learn", "joblib"),
        f"\n{args.rows} texts, {args.candidates} candidates, 2 folds\n",
    )
    rows = []
    for name in args.only or SEARCHES:
        found = {}
        for n_jobs in (1, 2):
            arguments = [*sys.argv[1:], "--search", name, "--n-jobs", str(n_jobs)]
            found[n_jobs] = run_child(__file__, arguments)
        one, two = found[1], found[2]
        same = "equal" if one["scores"] == two["scores"] else f"{one['scores']} {two['scores']}"
        for n_jobs, each in found.items():
            times, larger = each["seconds"] / one["seconds"], each["peak"] / one["peak"]
            row = [f"{name}, n_jobs={n_jobs}", f"{each['seconds']:.1f}", f"{times:.2f}"]
            rows.append([*row, f"{each['peak']:.0f}", f"{larger:.2f}", same])
    print(markdown_table(["search", "seconds", "x", "peak PSS (MiB)", "x", "scores"], rows))
    print()
    for name in args.only or SEARCHES:
        print(f"{name}: {SEARCHES[name]}")


if __name__ == "__main__":
    main()
