"""Quality of a checkpoint on real text: sentiment, topics across languages, and masked language modelling with --mlm.

- Sentiment: three classes of tweets, trained on all languages together, tested on each.
- Topics: seven classes of SIB-200, trained on ``en de es ru hi``, tested on all languages, most of them unseen. The test
  sentences differ from the training sentences in every language.

Four methods for each task:

- the most frequent class;
- character n-grams (TF-IDF) with logistic regression;
- frozen features of the checkpoint (mean and maximum over the tokens of every layer, concatenated) with logistic regression;
- the fine-tuned checkpoint, mean over seeds.

C of each logistic regression is chosen by cross-validation inside the training rows, with translations of a sentence in the
same fold. No script chooses on test rows; docs/skxlmr-mini.md describes how the defaults below were chosen.

``--folds 5`` also cross-validates the last two methods on all rows of the sentiment task, which is more precise for each
language than a hundred test rows.
"""

import argparse
import time
from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from _common import (
    data_file,
    describe_machine,
    json_line,
    make_parser,
    markdown_table,
    read_rows,
    set_threads,
)
from sklearn.base import clone
from sklearn.dummy import DummyClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score
from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold, StratifiedKFold
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import StandardScaler

from skxlmr import XLMRobertaClassifier, XLMRobertaMaskedLM, XLMRobertaVectorizer
from skxlmr.utils._devices.device import resolve_device

# For a checkpoint of some 5 M parameters (chosen on a part of the sentiment training rows); for XLM-R-base:
# --learning-rate 2e-5 --batch-size 16
LEARNING_RATE = 5e-4
N_FROZEN_LAYERS = 0
BATCH_SIZE = 32
NGRAM_C = [1, 10, 100]
FEATURE_C = [0.0001, 0.0003, 0.001, 0.01, 0.1]
MLM_ROWS = 200  # held-out texts


@dataclass
class Task:
    """A file of {lang, split, label, text [, id]}, the languages to train on (None: all) and the number of epochs."""

    name: str
    file: str
    train_languages: list[str] | None
    epochs: int


TASKS = [
    Task("Tweet sentiment", "seqclass/xlmt_sentiment.jsonl", None, 6),
    Task("SIB-200 topics", "seqclass/sib200_topics.jsonl", ["en", "de", "es", "ru", "hi"], 10),
]


def split_rows(rows, train_languages, quick):
    """Training rows, test rows by language, training languages. Rows with the id of a training row are not test rows."""
    languages = sorted({row["lang"] for row in rows})
    train_languages = train_languages or languages
    train = [row for row in rows if row["split"] == "train" and row["lang"] in train_languages]
    seen = {row["id"] for row in train if "id" in row}
    test = [row for row in rows if row["split"] != "train" and row.get("id") not in seen]
    if quick:
        train, test = train[::10], test[::10]
    by_language = defaultdict(list)
    for row in test:
        by_language[row["lang"]].append(row)
    return train, dict(sorted(by_language.items())), train_languages


def texts_of(rows):
    return [row["text"] for row in rows]


def choose_c(estimator, grid, X, train):
    """Logistic regression with C chosen by cross-validation."""
    groups = [row.get("id", i) for i, row in enumerate(train)]
    folds = StratifiedGroupKFold(3, shuffle=True, random_state=0)
    search = GridSearchCV(estimator, {"logisticregression__C": grid}, cv=folds, n_jobs=-1)
    return search.fit(X, [row["label"] for row in train], groups=groups)


def majority(train, args, epochs):
    model = DummyClassifier().fit(texts_of(train), [row["label"] for row in train])
    return [model.predict], "most frequent class"


def ngrams(train, args, epochs):
    vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 5), min_df=2, sublinear_tf=True)
    search = choose_c(make_pipeline(vectorizer, LogisticRegression(max_iter=1000)), NGRAM_C, texts_of(train), train)
    return [search.predict], f"C {search.best_params_['logisticregression__C']}"


def features(train, args, epochs):
    last = XLMRobertaVectorizer(args.checkpoint, device=args.device, memory=None).fit(["text"])
    layers = list(range(last.config_.num_hidden_layers + 1))
    poolings = (clone(last).set_params(pooling=kind, layers=layers) for kind in ("mean", "max"))
    vectorizer = make_union(*poolings)
    X = vectorizer.fit_transform(texts_of(train))
    search = choose_c(make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)), FEATURE_C, X, train)
    return [
        lambda texts: search.predict(vectorizer.transform(texts))
    ], f"C {search.best_params_['logisticregression__C']}"


def fine_tuned(train, args, epochs):
    models = [
        XLMRobertaClassifier(
            args.checkpoint,
            max_epochs=epochs,
            batch_size=args.batch_size,
            learning_rate=args.learning_rate,
            n_frozen_layers=args.n_frozen_layers,
            device=args.device,
            random_state=seed,
        ).fit(texts_of(train), [row["label"] for row in train])
        for seed in range(args.seeds)
    ]
    about = (
        f"{epochs} epochs, learning rate {args.learning_rate:g}, {args.n_frozen_layers} frozen layers, "
        f"batches of {args.batch_size}, seeds 0 to {args.seeds - 1}"
    )
    return [model.predict for model in models], about


METHODS = {"majority": majority, "n-grams": ngrams, "frozen features": features, "fine-tuned": fine_tuned}


def scores(truth, predicted):
    """Accuracy and macro-F1 in percent."""
    return 100 * np.array([accuracy_score(truth, predicted), f1_score(truth, predicted, average="macro")])


def run_method(method, train, test, args, epochs):
    """Scores of shape (languages, seeds, 2), and a line with what was chosen and how long it took."""
    start = time.perf_counter()
    predictors, about = method(train, args, epochs)
    fitted = time.perf_counter()
    table = [
        [scores([row["label"] for row in rows], predict(texts_of(rows))) for predict in predictors]
        for rows in test.values()
    ]
    return np.array(table), f"{about}; fit {fitted - start:.1f} s, predict {time.perf_counter() - fitted:.1f} s"


def cell(values, spread=False):
    """Accuracy / macro-F1, mean over seeds; ``spread`` adds the accuracy's standard deviation between seeds."""
    accuracy, f1 = values.mean(0)
    deviation = f" ± {values[:, 0].std(ddof=1):.1f}" if spread and len(values) > 1 else ""
    return f"{accuracy:.1f}{deviation} / {f1:.1f}"


def evaluate(name, rows, train_languages, epochs, args):
    """Print the table of a task; its rows as {language: {method: accuracy / macro-F1}}."""
    train, test, train_languages = split_rows(rows, train_languages, args.quick)
    results, notes = {}, {}
    for method, run in METHODS.items():
        results[method], notes[method] = run_method(run, train, test, args, epochs)
    languages = list(test)
    lines = [(lang, *(cell(result[i]) for result in results.values())) for i, lang in enumerate(languages)]
    seen = [i for i, lang in enumerate(languages) if lang in train_languages]
    unseen = [i for i in range(len(languages)) if i not in seen]
    means = {"mean": seen} if not unseen else {"mean, trained on": seen, "mean, zero-shot": unseen}
    for label, places in means.items():
        if places:
            lines.append((label, *(cell(result[places].mean(0), spread=True) for result in results.values())))
    counts = sorted({len(rows) for rows in test.values()})
    counts = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    print(
        f"\n**{name}**: accuracy / macro-F1 in percent. Trained on {len(train)} rows ({' '.join(train_languages)}), ",
        end="",
    )
    print(f"tested on {counts} rows per language.\n")
    print(markdown_table(("language", *METHODS), lines))
    print()
    for method, note in notes.items():
        print(f"- {method}: {note}")
    return as_dict(METHODS, lines)


def as_dict(columns, lines):
    """The rows of a table: {first column: {column: cell}}."""
    return {first: dict(zip(columns, cells, strict=True)) for first, *cells in lines}


def cross_validate(name, rows, epochs, args):
    """Print accuracy per language of the frozen features and of the fine-tuned checkpoint, from folds of all rows."""
    languages, labels = (np.array([row[key] for row in rows]) for key in ("lang", "label"))
    strata = [f"{lang} {label}" for lang, label in zip(languages, labels, strict=True)]
    one_seed = argparse.Namespace(**vars(args) | {"seeds": 1})
    right = {}
    for method, n_runs in {"frozen features": args.seeds, "fine-tuned": 1}.items():
        right[method] = np.empty((n_runs, len(rows)))
        for run in range(n_runs):
            for train, test in StratifiedKFold(args.folds, shuffle=True, random_state=run).split(rows, strata):
                (predict,), _ = METHODS[method]([rows[i] for i in train], one_seed, epochs)
                right[method][run, test] = predict(texts_of(rows[i] for i in test)) == labels[test]
    lines = []
    for language in np.unique(languages):
        of_language = languages == language
        n = of_language.sum()
        most = np.unique(labels[of_language], return_counts=True)[1].max() / n
        means = [values[:, of_language].mean() for values in right.values()]
        cells = [f"{100 * mean:.1f} ± {100 * np.sqrt(mean * (1 - mean) / n):.1f}" for mean in means]
        lines.append((language, n, f"{100 * most:.1f}", *cells))
    print(f"\n**{name}**: accuracy in percent with its standard error, {args.folds} folds of all rows. ", end="")
    print(f"Frozen features: C chosen inside the training folds, mean of {args.seeds} runs; fine-tuned: one run.\n")
    print(markdown_table(header := ("language", "rows", "majority", *right), lines))
    return as_dict(header[1:], lines)


def evaluate_masked_lm(rows, epochs, args):
    """Print the pseudo-perplexity of held-out texts before and after adapting to the training texts."""
    train, test, _ = split_rows(rows, None, args.quick)
    held_out = texts_of(row for rows in test.values() for row in rows)
    held_out = held_out[:: -(-len(held_out) // MLM_ROWS)]
    before = XLMRobertaMaskedLM.from_checkpoint(args.checkpoint, device=args.device)
    adapted = XLMRobertaMaskedLM(
        args.checkpoint,
        max_epochs=epochs,
        batch_size=args.batch_size,
        learning_rate=args.learning_rate,
        device=args.device,
        random_state=0,
    )
    start = time.perf_counter()
    adapted.fit(texts_of(train))
    seconds = time.perf_counter() - start
    lines = [(name, f"{np.exp(-lm.score(held_out)):.1f}") for name, lm in {"before": before, "after": adapted}.items()]
    print(
        f"\n**Masked language modelling**: pseudo-perplexity of {len(held_out)} held-out texts, before and after ",
        end="",
    )
    print(f"{epochs} epochs on {len(train)} texts ({seconds:.0f} s).\n")
    print(markdown_table(("", "pseudo-perplexity"), lines))
    return dict(lines)


def main():
    columns = "columns lang, split (train or another), label, text, and id if rows are translations"
    parser = make_parser(__doc__, data=columns, checkpoint=False)
    parser.add_argument("--checkpoint", default="skxlmr-mini", help="name or folder")
    parser.add_argument("--train-languages", nargs="+", help="languages to train on, with --data (default: all)")
    parser.add_argument("--learning-rate", type=float, default=LEARNING_RATE)
    parser.add_argument("--n-frozen-layers", type=int, default=N_FROZEN_LAYERS)
    parser.add_argument("--batch-size", type=int, default=BATCH_SIZE)
    parser.add_argument("--epochs", type=int, help="epochs of fine-tuning (default: 6 for sentiment, 10 for topics)")
    parser.add_argument("--seeds", type=int, default=3, help="number of fine-tuning runs")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--folds", type=int, help="also cross-validate on all rows of the first task")
    parser.add_argument("--mlm", action="store_true", help="also adapt the masked language model to the texts")
    args = parser.parse_args()
    if args.quick:
        args.seeds, args.epochs = 2, 1
    set_threads(args.threads)
    tasks = [Task(args.data.stem, args.data, args.train_languages, 8)] if args.data else TASKS
    tables = [(task, read_rows(args.data or data_file(task.file), "lang", "split", "label", "text")) for task in tasks]
    machine = describe_machine(str(resolve_device(args.device)), "scikit-learn")
    print(f"`{args.checkpoint}`, {machine}")
    start, results = time.perf_counter(), {}
    for task, rows in tables:
        results[task.name] = evaluate(task.name, rows, task.train_languages, args.epochs or task.epochs, args)
    if args.folds:
        epochs = args.epochs or tables[0][0].epochs
        results["folds"] = cross_validate(tables[0][0].name, tables[0][1], epochs, args)
    if args.mlm:
        results["mlm"] = evaluate_masked_lm(tables[0][1], args.epochs or tables[0][0].epochs, args)
    print(f"\n{time.perf_counter() - start:.0f} s in total.")
    print(json_line("evaluate", machine, checkpoint=args.checkpoint, results=results))


if __name__ == "__main__":
    main()
