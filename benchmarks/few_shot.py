"""Few labels on real text: a trained embedder, SetFit, fine-tuning, frozen features and character n-grams.

8, 16 and 64 labelled rows per class of three sets: topics in 16 languages, sentiment of tweets in six, intents in English
(77 classes, for which there are no 64). Every method gets the same rows, of ``--seeds`` draws, and is scored on the same test
rows, which are never drawn. All encoders start from one folder: the checkpoint as a sentence encoder, as this library saves it.

``fit`` is everything: opening the folder, tokenising, training, the linear model. SetFit runs in a process of its own, with its
own versions (``--setfit-python``), its defaults, and two settings: the learning rate of its encoder, whose default is for much
larger models, and at most ``--setfit-steps`` optimiser steps, since one epoch over its pairs would be hours.

``--validate`` scores on rows held out of the training rows instead, with other draws: for choosing settings, as in
``--embedder learning_rate=1e-3 max_epochs=20`` or ``--setfit-rate 1e-4``.
"""

import argparse
import ast
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from _common import (
    data_file,
    describe_machine,
    is_installed,
    json_line,
    make_parser,
    markdown_table,
    read_rows,
    set_threads,
)
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

import skxlmr
from skxlmr import XLMRobertaClassifier, XLMRobertaVectorizer

SIZES = [8, 16, 64]  # labelled rows per class
N_TEST = 400
FIRST_SEED_TO_VALIDATE = 100
SETFIT = "SetFit"
# For the built-in checkpoint; benchmarks/README.md says how they were chosen. The learning rate of all three that train is the
# one of learning_rate="auto".
FINE_TUNING: dict[str, Any] = {"max_epochs": 10}
EMBEDDER: dict[str, Any] = {"max_epochs": 10, "batch_size": 32, "normalize": True}
SETFIT_RATE = 3e-4
FEATURE_C = 1.0
NGRAM_C = 100


@dataclass
class Set:
    """A file of {label, text [, split, id]}."""

    name: str
    file: str | Path


SETS = [
    Set("topics", "seqclass/sib200_topics.jsonl"),
    Set("sentiment", "seqclass/xlmt_sentiment.jsonl"),
    Set("intents", "seqclass/banking77_intents.jsonl"),
]


def held_out(rows, share, seed):
    """Rows in two parts; the second has ``share`` of the sentences of each class, and all translations of a sentence."""
    rng = np.random.default_rng(seed)
    groups = defaultdict(lambda: defaultdict(list))
    for row in rows:
        groups[row["label"]][row.get("id", row["text"])].append(row)
    parts = ([], [])
    for label in sorted(groups):
        of_label = list(groups[label].values())
        order = rng.permutation(len(of_label))
        n_out = max(1, round(share * len(of_label)))
        for place, i in enumerate(order):
            parts[place < n_out].extend(of_label[i])
    return parts


def pool_and_test(rows, validate=False):
    """Rows to draw from, and rows to score on: those of another split than "train", or held out if there is no split.

    No text of the second part, nor a translation of it, is in the first.
    """
    pool = [row for row in rows if row.get("split", "train") == "train"]
    test = [row for row in rows if row.get("split", "train") != "train"]
    if not test:
        pool, test = held_out(pool, 1 / 3, seed=0)
    if validate:
        pool, test = held_out(pool, 1 / 3, seed=1)
    known = {(key, row[key]) for row in test for key in ("id", "text") if key in row}
    pool = [row for row in pool if not any((key, row.get(key)) in known for key in ("id", "text"))]
    chosen = np.random.default_rng(0).permutation(len(test))[:N_TEST]
    return pool, [test[i] for i in sorted(chosen)]


def draw(pool, n, seed):
    """``n`` rows of each class, in random order."""
    by_class = defaultdict(list)
    for row in pool:
        by_class[row["label"]].append(row)
    rng = np.random.default_rng(seed)
    few = []
    for label in sorted(by_class):
        if len(by_class[label]) < n:
            sys.exit(
                f"class {label!r} has {len(by_class[label])} rows to draw from, fewer than {n}: name other --sizes"
            )
        few += [by_class[label][i] for i in rng.choice(len(by_class[label]), n, replace=False)]
    return [few[i] for i in rng.permutation(len(few))]


def embedder(args, seed):
    settings = EMBEDDER | args.embedder
    C = settings.pop("C", 1.0)
    return make_pipeline(
        skxlmr.XLMRobertaEmbedder(args.body, random_state=seed, memory=None, device=args.device, **settings),
        LogisticRegression(C=C, max_iter=1000),
    )


def fine_tuning(args, seed):
    settings = FINE_TUNING | args.fine_tuning
    return XLMRobertaClassifier(args.body, random_state=seed, device=args.device, **settings)


def frozen_features(args, seed):
    vectorizer = XLMRobertaVectorizer(args.body, memory=None, device=args.device)
    return make_pipeline(vectorizer, LogisticRegression(C=args.feature_c, max_iter=1000))


def ngrams(args, seed):
    vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 5), sublinear_tf=True)
    return make_pipeline(vectorizer, LogisticRegression(C=args.ngram_c, max_iter=1000))


METHODS: dict[str, Callable[..., Any] | None] = {
    "embedder": embedder,
    SETFIT: None,
    "fine-tuning": fine_tuning,
    "frozen features": frozen_features,
    "character n-grams": ngrams,
}


def columns(rows):
    """Texts, labels."""
    return [row["text"] for row in rows], [row["label"] for row in rows]


def fit_and_score(make, args, jobs):
    """Accuracy and seconds of the fit of each job."""
    make(args, 0).fit(["a", "b"] * 4, [0, 1] * 4)  # what is loaded once is no part of a fit
    for job in jobs:
        model = make(args, job["seed"])
        start = time.perf_counter()
        model.fit(*job["train"])
        seconds = time.perf_counter() - start
        texts, labels = job["test"]
        yield float(np.mean(model.predict(texts) == np.array(labels))), seconds


def run_setfit(args, jobs):
    """As :func:`fit_and_score` by SetFit, in one process of another Python; and the versions there."""
    task = {
        "body": args.body,
        "threads": args.threads,
        "learning_rate": args.setfit_rate,
        "max_steps": args.setfit_steps,
        "jobs": jobs,
    }
    script = Path(__file__).with_name("_setfit.py")
    done = subprocess.run(
        [args.setfit_python, script], input=json.dumps(task), stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"{args.setfit_python} {script} failed")
    found = json.loads(done.stdout.splitlines()[-1])
    return found["results"], found["versions"]


def save_body(checkpoint, folder, device):
    """The checkpoint as a folder of a sentence encoder; mean of the token vectors, unless it says another pooling."""
    skxlmr.save(XLMRobertaVectorizer(checkpoint, device=device).fit(["text"]), folder)


def make_jobs(args):
    """What is fitted, and scored on which rows: set by set, size by size, seed by seed."""
    sets = [Set(args.data.stem, args.data)] if args.data else [s for s in SETS if s.name in args.sets]
    first = FIRST_SEED_TO_VALIDATE if args.validate else 0
    jobs = []
    for each in sets:
        rows = read_rows(args.data or data_file(str(each.file)), "label", "text")
        pool, test = pool_and_test(rows, args.validate)
        if args.quick:
            test = test[:40]
        n_fewest = min(Counter(row["label"] for row in pool).values())
        for n in args.sizes or [n for n in SIZES if n <= n_fewest]:
            for seed in range(first, first + args.seeds):
                train = draw(pool, n, seed)
                jobs.append({"set": each.name, "n": n, "seed": seed, "train": columns(train), "test": columns(test)})
    return jobs


def summary(jobs, results):
    """For each set and size: accuracies and seconds of all seeds, (n_seeds, 2) by method."""
    cells = defaultdict(lambda: defaultdict(list))
    for method, values in results.items():
        for job, value in zip(jobs, values, strict=True):
            cells[job["set"], job["n"]][method].append(value)
    return {key: {method: np.array(values) for method, values in by.items()} for key, by in cells.items()}


def cell(values):
    """Accuracy in percent ± its standard deviation over the seeds, and seconds of the fastest fit; "not measured" for none."""
    if values is None:
        return "not measured"
    deviation = f" ± {100 * values[:, 0].std(ddof=1):.1f}" if len(values) > 1 else ""
    return f"{100 * values[:, 0].mean():.1f}{deviation} ({values[:, 1].min():.1f} s)"


def print_tables(cells):
    for name in dict.fromkeys(name for name, _ in cells):
        sizes = {n: by for (of, n), by in cells.items() if of == name}
        print()
        lines = [(method, *(cell(by.get(method)) for by in sizes.values())) for method in METHODS]
        print(markdown_table((name, *(f"{n} per class" for n in sizes)), lines))


def setting(text):
    """``name=value`` as a pair."""
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not name=value")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value


def parse_arguments():
    parser = make_parser(__doc__, data="columns label, text, and split and id if there are any", checkpoint=False)
    parser.add_argument("--checkpoint", default="skxlmr-mini", help="name or folder")
    parser.add_argument("--sets", nargs="+", choices=[s.name for s in SETS], default=[s.name for s in SETS])
    parser.add_argument(
        "--sizes", nargs="+", type=int, help="labels per class (default: 8 16 64, where there are as many)"
    )
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--seeds", type=int, default=5, help="number of draws")
    parser.add_argument("--validate", action="store_true", help="score on rows held out of the training rows")
    parser.add_argument("--embedder", nargs="+", type=setting, default=[], help="its parameters, and C: name=value ...")
    parser.add_argument("--fine-tuning", nargs="+", type=setting, default=[], help="parameters: name=value ...")
    parser.add_argument("--feature-c", type=float, default=FEATURE_C, help="C of the frozen features")
    parser.add_argument("--ngram-c", type=float, default=NGRAM_C, help="C of the n-grams")
    parser.add_argument("--setfit-python", help="Python that has setfit (default: this one, if it has)")
    parser.add_argument("--setfit-rate", type=float, default=SETFIT_RATE, help="learning rate of SetFit's encoder")
    parser.add_argument("--setfit-steps", type=int, default=60, help="most steps of a fit of SetFit; -1: no limit")
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()
    args.embedder, args.fine_tuning = dict(args.embedder), dict(args.fine_tuning)
    if args.quick:
        args.seeds, args.setfit_steps, args.sizes = 2, 2, args.sizes or [8]
    if args.setfit_python is None and is_installed("setfit"):
        args.setfit_python = sys.executable
    return args


def main():
    args = parse_arguments()
    set_threads(args.threads)
    jobs = make_jobs(args)
    results, setfit_versions = {}, None
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        args.body = str(Path(folder) / "body")
        save_body(args.checkpoint, args.body, args.device)
        if SETFIT in args.methods and args.setfit_python is not None:
            run_setfit(args, [])  # what it lacks is known before the long part
        for method in args.methods:
            make = METHODS[method]
            if make is not None:
                results[method] = list(fit_and_score(make, args, jobs))
            elif args.setfit_python is not None:
                results[method], setfit_versions = run_setfit(args, jobs)
            print(f"{method}: {time.perf_counter() - start:.0f} s since the start", file=sys.stderr)
            done = {method: results[method]} if method in results else {}
            for (name, n), by in summary(jobs, done).items():
                print(f"{name}, {n} per class: {cell(by[method])}", file=sys.stderr, flush=True)
    cells = summary(jobs, results)
    machine = describe_machine(args.device, "scikit-learn")
    print(f"`{args.checkpoint}`, {machine}")
    print(f"SetFit: {setfit_versions or 'not measured: name a Python that has it with --setfit-python'}")
    n_test = sorted({len(job["test"][0]) for job in jobs})
    print(
        f"Accuracy in percent, mean ± standard deviation over {args.seeds} draws, and seconds of the fastest fit. Scored on "
        f"{' to '.join(map(str, n_test))} {'validation' if args.validate else 'test'} rows."
    )
    print_tables(cells)
    print(f"\n{time.perf_counter() - start:.0f} s in total.")
    found = [
        {"set": name, "n": n, "method": method, "accuracy": values[:, 0].tolist(), "seconds": values[:, 1].tolist()}
        for (name, n), by in cells.items()
        for method, values in by.items()
    ]
    settings = {
        "embedder": EMBEDDER | args.embedder,
        "fine_tuning": FINE_TUNING | args.fine_tuning,
        "setfit": {"body_learning_rate": args.setfit_rate, "max_steps": args.setfit_steps},
        "feature_c": args.feature_c,
        "ngram_c": args.ngram_c,
    }
    print(
        json_line(
            "few_shot", machine, checkpoint=args.checkpoint, setfit=setfit_versions, settings=settings, results=found
        )
    )


if __name__ == "__main__":
    main()
