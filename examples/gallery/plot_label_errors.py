"""
=================
Find wrong labels
=================

Labels of real tables are often wrong in a few per cent of the rows. A model that has not seen a row can say so: if it is
sure of another class, a person should look. This page plants errors, looks for them with
:func:`~sklearn.model_selection.cross_val_predict`, and counts how many of the first suspects are errors indeed. It does
this for a column that the model predicts well, and for one that it predicts badly.
"""

# %%
# Plant errors
# ------------
#
# Two columns of the reviews: the language, and whether the review is negative, neutral or positive. In each, 36 of 360
# labels are replaced by another one.

import numpy as np

from skxlmr.datasets import load_reviews

reviews = load_reviews().frame


def with_errors(labels, n_errors, seed):
    """Wrong labels for some rows, and which rows these are."""
    rng = np.random.RandomState(seed)
    labels = labels.to_numpy(dtype=str)
    wrong = np.zeros(len(labels), dtype=bool)
    wrong[rng.choice(len(labels), n_errors, replace=False)] = True
    given = labels.copy()
    for row in np.flatnonzero(wrong):
        given[row] = rng.choice(np.setdiff1d(labels, labels[row]))
    return given, wrong


# %%
# Probabilities of a model that has not seen the row
# --------------------------------------------------
#
# Each row is predicted by a model that was trained on the other folds, wrong labels included. The vectors come from the
# cache: the second column encodes nothing.

from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skxlmr import XLMRobertaVectorizer

model = make_pipeline(XLMRobertaVectorizer("skxlmr-mini"), StandardScaler(), LogisticRegression(C=0.01, max_iter=1000))
folds = StratifiedKFold(10, shuffle=True, random_state=0)


def out_of_fold(given):
    return cross_val_predict(model, reviews["review"], given, cv=folds, method="predict_proba")


# %%
# The rule of confident learning
# ------------------------------
#
# How sure is sure? Northcutt, Jiang and Chuang (`2021 <https://arxiv.org/abs/1911.00068>`__) take the mean probability
# of a class among the rows with that label as its threshold. A row is suspect if the likeliest of the classes above
# their thresholds is not its label. Suspects are ordered by the probability of the given label, the lowest first.


def suspects(given, proba):
    """Rows whose label is doubtful, the most doubtful first."""
    classes, codes = np.unique(given, return_inverse=True)
    thresholds = np.array([proba[codes == k, k].mean() for k in range(len(classes))])
    above = np.where(proba >= thresholds, proba, 0)
    doubtful = (above.max(axis=1) > 0) & (above.argmax(axis=1) != codes)
    rows = np.flatnonzero(doubtful)
    return rows[np.argsort(proba[rows, codes[rows]], kind="stable")]


# %%
# What is found
# -------------

import pandas as pd

found, table = {}, {}
for column in ["language", "sentiment"]:
    given, wrong = with_errors(reviews[column], n_errors=36, seed=0)
    proba = out_of_fold(given)
    rows = suspects(given, proba)
    found[column] = wrong[rows]
    table[column] = {
        "accuracy on the rows without errors": (np.unique(given)[proba.argmax(axis=1)] == given)[~wrong].mean(),
        "suspects": len(rows),
        "errors among them, of 36": wrong[rows].sum(),
        "errors among the first 20": wrong[rows][:20].sum(),
    }
    if column == "language":
        first = reviews.iloc[rows[:5]][["review"]].assign(given=given[rows[:5]])
print(pd.DataFrame(table).round(2).to_string())

# %%
# The first five suspects of the column of languages, as a person would look through them:

first

# %%
# Precision by the number of rows one looks at
# --------------------------------------------
#
# The dashed line is what looking at random rows finds: one in ten.

import matplotlib.pyplot as plt

figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
for (column, hits), line in zip(found.items(), ["-", ":"], strict=True):
    looked = np.arange(1, len(hits) + 1)
    axes.plot(looked, np.cumsum(hits) / looked, linestyle=line, linewidth=2, label=column)
axes.axhline(0.1, color="black", linestyle="--", linewidth=1, label="random rows")
axes.set(
    xscale="log",
    xlabel="suspects looked at (k)",
    ylabel="share that are errors",
    ylim=(0, 1.05),
    title="Precision at k",
)
axes.legend()
plt.show()

# %%
# The encoder tells languages apart, and all suspects of that column but two are errors; a third of the errors stays below
# the thresholds. Sentiment is read so badly that most rows are suspect. Among the first twenty are more errors than
# among random rows, but most of them are right. So look at the accuracy first. It says how far to trust the list.
#
# `cleanlab <https://github.com/cleanlab/cleanlab>`__ (2.9) has this rule and others, also for tags and several labels.
# ``find_label_issues(codes, proba, filter_by="confident_learning", return_indices_ranked_by="self_confidence")`` gives
# the same list, without suspects whose label is the likeliest class all the same, of which there are none here.
#
# With XLM-R base
# ---------------
#
# Take ``XLMRobertaVectorizer()`` or a sentence encoder; where frozen features are too weak, pass an
# :class:`~skxlmr.XLMRobertaClassifier` to ``cross_val_predict``, with few epochs, because a long fit learns wrong
# labels by heart. Rows of the same author or product belong in the same fold (``groups`` and ``GroupKFold``): or else a
# model has seen the error in a copy of the row.
