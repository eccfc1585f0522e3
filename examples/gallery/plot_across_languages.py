"""
================================
Across languages: what transfers
================================

A model trained in one language is used in another. How good it is there has to be measured in each language, and with
few rows the measure itself is uncertain. This page shows a matrix of train language and test language, scores per
language with their intervals, and a map of the features on which one language stands apart.
"""

# %%
# A table, and features that are made once
# ----------------------------------------
#
# The reviews of :func:`~skxlmr.datasets.load_reviews`: 36 in each of ten languages, with one of three sentiments. A
# frozen encoder makes features, a logistic regression learns from them. The encoder keeps the features of each text
# (``memory="auto"``, the default), so that the many fits below encode nothing twice.

from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skxlmr import XLMRobertaVectorizer
from skxlmr.datasets import load_reviews

reviews = load_reviews().frame
encoder = XLMRobertaVectorizer("skxlmr-mini")
model = make_pipeline(encoder, StandardScaler(), LogisticRegression(C=0.001))
print(reviews.groupby("language").size().to_dict())

# %%
# From each language to each
# --------------------------
#
# :func:`~skxlmr.inspection.transfer_scores` fits the pipeline on one language and scores it on each. On the diagonal it
# is scored on rows of the same language that it was not trained on, by cross-validation. The last row is trained on all
# languages but that of the column: what a new language can expect. Six of the languages keep the picture small.

import matplotlib.pyplot as plt
from sklearn.model_selection import StratifiedKFold

from skxlmr.inspection import GroupScoresDisplay, transfer_scores

six = reviews[reviews["language"].isin(["de", "en", "es", "ja", "ru", "tr"])]
folds = StratifiedKFold(3, shuffle=True, random_state=0)
matrix = transfer_scores(
    model, six["review"], six["sentiment"], six["language"], scoring="accuracy", cv=folds, all_others=True
)
GroupScoresDisplay.from_scores(matrix)
plt.show()

# %%
# Guessing gives 0.33. From 36 rows of one language so small an encoder lets little be learnt. With five times as many
# rows of other languages, in the last row, the mean is higher:

print(f"trained on one language: {matrix.drop(index='all others').to_numpy().mean():.2f}")
print(f"trained on all others:   {matrix.loc['all others'].mean():.2f}")

# %%
# How sure are these numbers?
# ---------------------------
#
# Each of them comes from 36 rows. :func:`~skxlmr.inspection.group_scores` gives intervals by bootstrap. Here a model that
# was trained on five languages is scored on the five others.

from skxlmr.inspection import group_scores

known = reviews["language"].isin(["de", "en", "es", "fr", "it"])
model.fit(reviews.loc[known, "review"], reviews.loc[known, "sentiment"])
new = reviews[~known]
table = group_scores(model, new["review"], new["sentiment"], new["language"], scoring="accuracy", random_state=0)
table.round(2)

# %%
GroupScoresDisplay.from_scores(table)
plt.show()

# %%
# The best language and the worst differ by 0.2, and yet the interval of each, about 0.3 wide, holds the score of all
# rows. To say that the model is better in one language than in another needs more rows, or translations of the same
# texts.
#
# A map of the features
# ---------------------
#
# :class:`~skxlmr.inspection.EmbeddingDisplay` puts the features on a plane: colours are languages, and so are shapes. In
# a notebook it is interactive: hover a point to read its text, search, click a language.

from skxlmr.inspection import EmbeddingDisplay

display = EmbeddingDisplay.from_estimator(encoder, six["review"], labels=six["language"], random_state=0)
display.plot()
plt.show()

# %%
display

# %%
# Japanese stands apart: the first component, the direction of most variance, tells it from the other languages. That is no
# obstacle in itself: the scores in Japanese are not lower than the others. What a classifier reads may lie in other
# directions. The two components hold a small part of the variance, as their labels say: a map is a place to look for
# questions, not for answers.
#
# With XLM-R base
# ---------------
#
# Pass ``XLMRobertaVectorizer()``, or a sentence encoder such as ``"intfloat/multilingual-e5-base"`` with
# ``prompt="query: "``, and a folder as ``memory``, so that other processes (``n_jobs``) find the features too. Search
# over ``C`` within the training rows. Everything else stays; expect far higher scores, and smaller differences between
# languages. The intervals get narrower with more test rows only, not with a better model. For a fine-tuned model pass
# :class:`~skxlmr.XLMRobertaClassifier` instead: the matrix then costs a fine-tuning per fit.
