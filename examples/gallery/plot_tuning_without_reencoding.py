"""
=================================
Tuning without encoding again
=================================

A search over 15 candidates and 5 folds fits a pipeline 76 times, and each fit and each score shows its texts to the encoder. An
encoder that is not trained gives the same vectors each time. So they are kept: this page counts how often a text was really
encoded, and draws the curve that the search found.
"""

# %%
# The search
# ----------
#
# A :class:`~skxlmr.XLMRobertaVectorizer` is frozen: nothing in it is trained. Two things are tuned: which layer of six
# the vectors come from, counted from the embeddings (0), and how strongly the linear model is regularised. The last
# layer, -1, is read through the dense layers that the checkpoint has after the pooling.

from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skxlmr import XLMRobertaVectorizer
from skxlmr.datasets import load_reviews

X, y = load_reviews(return_X_y=True)
X = X["review"]

pipeline = make_pipeline(
    XLMRobertaVectorizer("skxlmr-mini"), StandardScaler(), LogisticRegression(max_iter=2000, tol=1e-3)
)
grid = {
    "xlmrobertavectorizer__layers": [2, 4, -1],
    "logisticregression__C": [1e-5, 1e-4, 1e-3, 1e-2, 1e-1],
}
pipeline

# %%
# How often was a text encoded?
# -----------------------------
#
# ``memory="auto"``, the default of every vectorizer, keeps vectors in this process. :func:`~skxlmr.cache_info` counts
# rows that were computed, and rows that were found.

import pandas as pd
from sklearn.model_selection import GridSearchCV, ParameterGrid, StratifiedKFold

from skxlmr import cache_info

folds = StratifiedKFold(5, shuffle=True, random_state=0)
before = cache_info()
search = GridSearchCV(pipeline, grid, cv=folds).fit(X, y)
after = cache_info()

n_candidates = len(ParameterGrid(grid))
asked = n_candidates * folds.get_n_splits() * len(X) + len(X)
encoded = after.encoded - before.encoded
print(f"{n_candidates} candidates x {folds.get_n_splits()} folds of {len(X)} texts, and the final fit")
print(f"texts the encoder would read without a cache: {asked}")
print(f"texts it did read: {encoded} ({len(X)} for each of 3 layers)")

# %%
# Another search over the same texts starts with all vectors. What comes after the encoder can change freely: other
# folds, other values of ``C``, another classifier.

from sklearn.svm import LinearSVC

before = cache_info()
other = make_pipeline(XLMRobertaVectorizer("skxlmr-mini"), StandardScaler(), LinearSVC(random_state=0))
second = GridSearchCV(other, {"linearsvc__C": [1e-5, 1e-4, 1e-3]}, cv=10).fit(X, y)
print(f"best of the second search: {second.best_score_:.3f}, texts encoded: {cache_info().encoded - before.encoded}")

# %%
# The curve
# ---------
#
# Each point is the mean of five scores, the bars are their standard errors. Curves from one grid on a few hundred texts
# are noisy: differences within the bars are no reason to prefer a value, and the height of the best point is a little
# too good to be true, because it was chosen among fifteen.

import matplotlib.pyplot as plt
import numpy as np

results = pd.DataFrame(search.cv_results_)
results["layer"] = results["param_xlmrobertavectorizer__layers"].astype(str)
figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
for i, (layer, rows) in enumerate(results.groupby("layer", sort=False)):
    C = rows["param_logisticregression__C"].astype(float)
    error = rows["std_test_score"] / np.sqrt(folds.get_n_splits())
    style = {"marker": "os^"[i], "linestyle": ["-", "--", ":"][i], "capsize": 3}
    axes.errorbar(C * 1.15 ** (i - 1), rows["mean_test_score"], error, **style, label=f"layers={layer}")
axes.axhline(1 / 3, color="black", linewidth=1)
axes.annotate("guessing", (1e-5, 1 / 3), xytext=(0, -12), textcoords="offset points")
axes.set(xscale="log", xlabel="C of LogisticRegression", ylabel="accuracy (5 folds)", ylim=(0.32, 0.52))
axes.legend(loc="upper right")
plt.show()
print(search.best_params_, round(search.best_score_, 3))

# %%
# Vectors that outlive the process
# --------------------------------
#
# With a folder as ``memory``, worker processes (``n_jobs``) and later runs find the vectors too. Here the folder is a
# temporary one.

import tempfile

with tempfile.TemporaryDirectory() as folder:
    pipeline.set_params(xlmrobertavectorizer__memory=folder)
    for _ in range(2):
        pipeline.fit(X, y)
        print(f"texts encoded so far: {cache_info(folder).encoded}")

# %%
# Estimators that are trained keep what their frozen layers compute in the same way (``n_frozen_layers``).
# :doc:`/tuning` says what is kept, for how long, and how much room it takes.
#
# With XLM-R base
# ---------------
#
# Take ``XLMRobertaVectorizer()``, or a sentence encoder, and name a folder. Encoding is then nearly all of the time of
# a search: on two cores a few hundred texts take several seconds each time, and without a cache this search would read
# them 76 times. Middle layers of XLM-R are often better than the last one, and several poolings, as in
# ``pooling=["mean", "max"]``, sometimes better than one. Each value is encoded once.
