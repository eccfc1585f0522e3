"""
===================================
Text beside the columns of a table
===================================

Most texts come with other columns: a category, a price, a number of votes. In a :class:`~sklearn.compose.ColumnTransformer` a
vectorizer is one transformer among others, and a linear model reads all of them together.

Which columns does the model need? Two answers follow: permute one column of the test rows, and leave one column out of
training. Both cost little, because each text is encoded only once.
"""

# %%
# A table with a column of texts
# ------------------------------
#
# The reviews are in ten languages. The model shall tell whether a review is negative, neutral or positive: 120 rows
# each, in every category equally often. So the category alone can't help, and prices of good and bad products are
# alike, too.

from skxlmr.datasets import load_reviews

reviews = load_reviews().frame
columns = ["review", "category", "price", "helpful_votes"]
X, y = reviews[columns], reviews["sentiment"]
X.head()

# %%
# One transformer per column
# --------------------------
#
# The text is named by a string, as for :class:`~sklearn.feature_extraction.text.TfidfVectorizer`. Hidden units of an
# encoder differ in scale, so a :class:`~sklearn.preprocessing.StandardScaler` follows. With 192 features of the text
# for 360 rows, a small ``C`` is right.

import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from skxlmr import XLMRobertaVectorizer


def numbers():
    return make_pipeline(FunctionTransformer(np.log1p), StandardScaler())


transformers = {
    "review": (make_pipeline(XLMRobertaVectorizer("skxlmr-mini"), StandardScaler()), "review"),
    "category": (OneHotEncoder(), ["category"]),
    "price": (numbers(), ["price"]),
    "helpful_votes": (numbers(), ["helpful_votes"]),
}


def model_with(names):
    blocks = ColumnTransformer([(name, *transformers[name]) for name in names])
    return make_pipeline(blocks, LogisticRegression(C=0.01, max_iter=1000))


model_with(columns)

# %%
# Leave a column out of training
# ------------------------------
#
# Five-fold cross-validation, three times, of six models: with all columns, without one of them, and with the text
# alone. These are 90 fits.

import pandas as pd
from sklearn.model_selection import RepeatedStratifiedKFold, cross_val_score

from skxlmr import cache_info

folds = RepeatedStratifiedKFold(n_splits=5, n_repeats=3, random_state=0)
choices = {"all columns": columns}
choices |= {f"without {name}": [other for other in columns if other != name] for name in columns}
choices |= {"review alone": ["review"]}
before = cache_info().encoded
scores = pd.DataFrame({name: cross_val_score(model_with(kept), X, y, cv=folds) for name, kept in choices.items()})
print(scores.mean().round(3).to_string())
print(f"texts encoded: {cache_info().encoded - before}, rows: {len(X)}")

# %%
# Permute a column of the test rows
# ---------------------------------
#
# :func:`~sklearn.inspection.permutation_importance` shuffles one column of rows that the model has not seen, and
# measures how much accuracy is lost. The text is a column like the others: no feature of it is shuffled alone. There
# are five folds, and each model gets the 72 rows that it was not trained on.

from sklearn.inspection import permutation_importance
from sklearn.model_selection import StratifiedKFold

lost = []
for train, test in StratifiedKFold(5, shuffle=True, random_state=0).split(X, y):
    model = model_with(columns).fit(X.iloc[train], y.iloc[train])
    lost.append(permutation_importance(model, X.iloc[test], y.iloc[test], n_repeats=10, random_state=0).importances)
lost = pd.DataFrame(np.hstack(lost).T, columns=columns)
print(lost.mean().round(3).to_string())

# %%
# Both in one picture
# -------------------
#
# On the left, each dot is the mean of 15 scores and each line reaches one standard deviation of them to both sides. The
# dashed line is what guessing one class would score.

import matplotlib.pyplot as plt

figure, (left, right) = plt.subplots(1, 2, figsize=(8.4, 3.6), layout="constrained")
left.errorbar(scores.mean(), scores.columns, xerr=scores.std(), fmt="o", capsize=3)
left.axvline(1 / 3, color="black", linestyle="--", linewidth=1)
left.invert_yaxis()
left.set(xlabel="accuracy in cross-validation", title="Trained without a column")
right.boxplot(lost, orientation="horizontal", tick_labels=columns)
right.axvline(0, color="black", linestyle="--", linewidth=1)
right.invert_yaxis()
right.set(xlabel="accuracy lost", title="Column of the test rows permuted")
plt.show()

# %%
# Both say the same: the text carries most, the votes a little, category and price nothing that stands out of the
# spread, as the design of the table has it. The built-in checkpoint reads little in the texts, so that a number beside
# them counts for something. Permuting answers for one fitted model; leaving out answers whether the column is worth
# collecting.
#
# With XLM-R base
# ---------------
#
# Pass ``XLMRobertaVectorizer()``, or a sentence encoder such as ``"intfloat/multilingual-e5-base"`` with
# ``prompt="query: "``, and search over ``C``. The vectors have 768 features. Everything else stays. Expect the share of
# the text to grow, and keep the measurement: it tells whether the other columns still help.
