"""Quickstart: from the multilingual texts of a table to features and fine-tuned predictions.

    python examples/quickstart.py
    python examples/quickstart.py --data my.csv --text comment --label topic --checkpoint FacebookAI/xlm-roberta-base

Four parts: text next to other columns in a ColumnTransformer, fine-tuning in a GridSearchCV, training in some languages and
testing in others, saving and loading. Without options it uses 360 reviews in ten languages and the built-in checkpoint. That is
of demonstration size: the script shows how a real study works, not the scores of a large model.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.dummy import DummyClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from skxlmr import CheckpointError, XLMRobertaClassifier, XLMRobertaVectorizer, load, save
from skxlmr.datasets import load_reviews

REVIEWS = load_reviews().filename
SEED = 0
MIN_PER_CLASS = 10  # so that every fold of every split below has each class
MAX_CATEGORIES = 20  # a column with more distinct strings is an id or another text, not a category
MAX_GROUPS = 12


def main(arguments=None):
    start = time.perf_counter()
    options = parse(arguments)
    table = read_table(options)
    text, label = table[options.text], table[options.label]
    try:
        encoder = XLMRobertaVectorizer(options.checkpoint).fit(text[:1])  # a wrong name fails here, before any work
    except CheckpointError as error:
        sys.exit(f"quickstart.py: {error}")
    n_parameters = sum(parameter.numel() for parameter in encoder.module_.parameters())
    print(f"\n{len(table)} rows, {label.nunique()} classes of {options.label!r}")
    print(f"checkpoint {options.checkpoint}: {n_parameters / 1e6:.1f} M parameters")

    compare_features(table, options)
    search, X_test, y_test = tune(text, label, encoder.config_, options)
    cross_languages(table, search.best_estimator_, options)
    save_and_load(search.best_estimator_, X_test, y_test)
    print(f"\nDone in {time.perf_counter() - start:.0f} s.")


def compare_features(table, options):
    """Part 1: the text as one column among others."""
    heading("1. Features: text and other columns, then LogisticRegression (5-fold cross-validation)")
    others = table.drop(columns=[options.text, options.label])
    numeric = list(others.select_dtypes("number"))
    categorical = [c for c in others.columns.difference(numeric, sort=False) if others[c].nunique() <= MAX_CATEGORIES]
    unused = others.columns.difference([*numeric, *categorical], sort=False)
    for kind, columns in {"numeric": numeric, "categorical": categorical, "not used": unused}.items():
        print(f"{kind + ':':12} {', '.join(columns) or 'none'}")

    scaled = make_pipeline(SimpleImputer(strategy="median", keep_empty_features=True), StandardScaler())
    one_hot = OneHotEncoder(handle_unknown="ignore")
    models = {"majority class": DummyClassifier()}
    for name, (features, C) in text_features(options).items():
        text_part = ("text", features, options.text)  # a name, not a list of names: TF-IDF takes a single column
        other_parts = [("numeric", scaled, numeric), ("categorical", one_hot, categorical)]
        models[name] = make_pipeline(ColumnTransformer([text_part]), logistic(C))
        models[f"{name} + other columns"] = make_pipeline(ColumnTransformer([text_part, *other_parts]), logistic(C))
    y, folds = table[options.label], StratifiedKFold(5, shuffle=True, random_state=SEED)
    scores = {name: cross_val_score(model, table, y, cv=folds, error_score="raise") for name, model in models.items()}
    show(pd.DataFrame({"accuracy": pd.DataFrame(scores).mean(), "std": pd.DataFrame(scores).std()}))


def tune(text, label, config, options):
    """Part 2: fine-tuning; the learning rate and the number of frozen layers are chosen by cross-validation."""
    heading("2. Fine-tuning in GridSearchCV (text only, 2 folds of the training rows)")
    X_train, X_test, y_train, y_test = train_test_split(text, label, test_size=0.2, stratify=label, random_state=SEED)
    small = config.hidden_size < 512  # small models need larger steps
    grid = {
        "learning_rate": [1e-4, 3e-4] if small else [1e-5, 3e-5],
        "n_frozen_layers": [0, config.num_hidden_layers // 2],
    }
    classifier = XLMRobertaClassifier(options.checkpoint, max_epochs=10 if small else 3, random_state=SEED)
    folds = StratifiedKFold(2, shuffle=True, random_state=SEED)
    # n_jobs=1: PyTorch already uses every core, and each worker would hold its own model.
    search = GridSearchCV(classifier, grid, cv=folds, n_jobs=1, error_score="raise").fit(X_train, y_train)
    results = pd.DataFrame(search.cv_results_["params"]).assign(
        accuracy=search.cv_results_["mean_test_score"],
        std=search.cv_results_["std_test_score"],
        fit_seconds=search.cv_results_["mean_fit_time"],
    )
    show(results, index=False, formatters={"learning_rate": "{:.0e}".format, "fit_seconds": "{:.1f}".format})

    best = ", ".join(f"{name}={value}" for name, value in search.best_params_.items())
    print(f"\nThe best ({best}), refitted on {len(X_train)} rows, and the baselines, on {len(X_test)} test rows:")
    models = {name: model.fit(X_train, y_train) for name, model in text_baselines(options).items()}
    accuracy = {name: model.score(X_test, y_test) for name, model in {"fine-tuned XLM-R": search, **models}.items()}
    show(pd.DataFrame({"accuracy": accuracy}))
    return search, X_test, y_test


def cross_languages(table, classifier, options):
    """Part 3: train in the languages with the most rows, test in the others."""
    heading(f"3. Train on some values of {options.group!r}, test on each of the others (accuracy, text only)")
    if options.group not in table.columns:
        print(f"Skipped: the data has no column {options.group!r}; name another with --group.")
        return
    sizes = table[options.group].value_counts().sort_index().sort_values(ascending=False, kind="stable")
    groups = list(sizes.index[:MAX_GROUPS])
    seen, unseen = groups[: len(groups) // 2], groups[len(groups) // 2 :]
    train = table[table[options.group].isin(seen)]
    if train[options.label].nunique() < 2:
        print(
            f"Skipped: this part needs at least two values of {options.group!r}, and two classes among the training rows."
        )
        return
    print(f"Trained on {', '.join(map(str, seen))}: {len(train)} rows.")
    models = {"fine-tuned XLM-R": clone(classifier), **text_baselines(options)}
    for model in models.values():
        model.fit(train[options.text], train[options.label])
    rows = {}
    for group in unseen:
        test = table[table[options.group] == group]
        accuracy = {name: model.score(test[options.text], test[options.label]) for name, model in models.items()}
        rows[group] = {"rows": len(test), **accuracy}
    scores = pd.DataFrame(rows).T
    scores.loc["all"] = [scores["rows"].sum(), *np.average(scores.iloc[:, 1:], axis=0, weights=scores["rows"])]
    show(scores.astype({"rows": int}))


def save_and_load(classifier, X_test, y_test):
    """Part 4: a folder without pickle, which ``transformers`` opens too."""
    heading("4. Saving and loading")
    with tempfile.TemporaryDirectory() as folder:
        save(classifier, Path(folder) / "classifier")
        for file in sorted((Path(folder) / "classifier").iterdir()):
            print(f"{file.name:28} {file.stat().st_size / 1e6:7.2f} MB")
        loaded = load(Path(folder) / "classifier")
        probabilities = classifier.predict_proba(X_test)
        difference = np.abs(loaded.predict_proba(X_test) - probabilities).max()
    print(f"Largest difference between the probabilities before and after: {difference:.1e}\n")
    examples = pd.DataFrame(
        {
            "predicted": classifier.predict(X_test),
            "probability": probabilities.max(axis=1),
            "true": y_test.to_numpy(),
            "text": [f"  {text[:70]:<70}" for text in X_test],  # last, since wide characters would shift later columns
        }
    ).head(8)
    show(examples, index=False, justify="left")


def text_features(options):
    """Features of a text column, each with a suitable C: many sparse features need little regularisation."""
    return {
        "char TF-IDF": (TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), sublinear_tf=True), 10),
        "XLM-R features": (make_pipeline(XLMRobertaVectorizer(options.checkpoint), StandardScaler()), 0.01),
    }


def text_baselines(options):
    models = {name: make_pipeline(features, logistic(C)) for name, (features, C) in text_features(options).items()}
    return {**models, "majority class": DummyClassifier()}


def logistic(C):
    return LogisticRegression(C=C, max_iter=2000)


def parse(arguments):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=REVIEWS, help="a CSV file with a header (default: the reviews)")
    parser.add_argument("--text", default="review", help="column of texts (default: %(default)s)")
    # The sentiment, since "good", "bad" and "but" are in every review: a small checkpoint can learn them from a few hundred
    # rows and transfer them to other languages. The category depends on names of things, most of which occur only once or
    # twice per language in the table: try --label category with a large checkpoint.
    parser.add_argument("--label", default="sentiment", help="column to predict (default: %(default)s)")
    parser.add_argument("--group", default="language", help="column of part 3 (default: %(default)s)")
    parser.add_argument("--checkpoint", default="skxlmr-mini", help="name on the hub or folder (default: %(default)s)")
    parser.add_argument(
        "--rows", type=int, default=1000, help="maximum number of rows, drawn at random (default: %(default)s)"
    )
    return parser.parse_args(arguments)


def read_table(options):
    """The rows that have a text and a label, without rare classes."""
    try:
        table = pd.read_csv(options.data)
    except (OSError, ValueError) as error:
        sys.exit(f"quickstart.py: cannot read {options.data}: {error}")
    for option in ("text", "label"):
        if (column := getattr(options, option)) not in table.columns:
            sys.exit(f"quickstart.py: --{option}: {options.data} has no column {column!r}; it has {', '.join(table)}")
    if options.text == options.label:
        sys.exit(f"quickstart.py: --text and --label name the same column, {options.text!r}")
    for column in (options.text, options.label):
        missing = table[column].isna()
        if missing.any():
            print(f"Dropped {missing.sum()} of {len(table)} rows without {column!r}.")
            table = table[~missing]
    table = table.astype({options.text: str, options.label: str})  # classes as strings, whatever their type
    if len(table) > options.rows:
        print(f"Drew {options.rows} of {len(table)} rows; use --rows for more.")
        table = table.sample(options.rows, random_state=SEED)
    counts = table[options.label].value_counts()
    rare = counts.index[counts < MIN_PER_CLASS]
    if len(counts) - len(rare) < 2:
        sys.exit(
            f"quickstart.py: --label {options.label}: expected two or more classes of at least {MIN_PER_CLASS} rows each, "
            f"found {len(counts) - len(rare)} among {len(counts)} distinct values"
        )
    if len(rare):
        print(
            f"Dropped classes of fewer than {MIN_PER_CLASS} rows, {counts[rare].sum()} in total: {', '.join(rare[:9])}"
        )
    return table[~table[options.label].isin(rare)].reset_index(drop=True)


def heading(title):
    print(f"\n{title}\n{'-' * len(title)}")


def show(frame, **options):
    print(frame.to_string(float_format="{:.3f}".format, **options))


if __name__ == "__main__":
    main()
