"""
===============================================
Frozen, trained or fine-tuned: how many labels?
===============================================

Four ways to classify texts, by the number of labelled rows: character n-grams, which know no language; features of a frozen
encoder with a linear model; vectors that are trained to tell the classes apart, with the same linear model (SetFit's way); and
fine-tuning, which trains the encoder through a new head. Labels are expensive, so the question is not which one wins, but from
how many labels on.
"""

# %%
# The candidates
# --------------
#
# The reviews have three classes of 120 rows, so guessing scores a third. Training changes the upper layer of six and
# keeps the rest (``n_frozen_layers=5``): with few rows that is often as good as training everything, and cheaper,
# because the states after the frozen layers are computed once per text.

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skxlmr import XLMRobertaClassifier, XLMRobertaEmbedder, XLMRobertaVectorizer
from skxlmr.datasets import load_reviews

X, y = load_reviews(return_X_y=True)
X = X["review"]

candidates = {
    "character n-grams": make_pipeline(
        TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True),
        LogisticRegression(C=10, max_iter=1000),
    ),
    "frozen features": make_pipeline(
        XLMRobertaVectorizer("skxlmr-mini"), StandardScaler(), LogisticRegression(C=0.01, max_iter=1000)
    ),
    "trained vectors": make_pipeline(
        XLMRobertaEmbedder("skxlmr-mini", n_frozen_layers=5, learning_rate=1e-3, max_epochs=8, random_state=0),
        LogisticRegression(max_iter=1000),
    ),
    "fine-tuning": XLMRobertaClassifier(
        "skxlmr-mini", n_frozen_layers=5, learning_rate=1e-3, max_epochs=8, random_state=0
    ),
}

# %%
# A learning curve for each
# -------------------------
#
# scikit-learn's :class:`~sklearn.model_selection.LearningCurveDisplay` fits each of them on growing parts of the same
# training folds, and scores it on the same test folds. The bands are one standard deviation of the folds.

import matplotlib.pyplot as plt
import pandas as pd
from sklearn.model_selection import LearningCurveDisplay, StratifiedKFold

from skxlmr import cache_info

folds = StratifiedKFold(3, shuffle=True, random_state=0)
sizes, before = [30, 60, 120, 240], cache_info().encoded
figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
scores = {}
for (name, model), marker, line in zip(candidates.items(), "soD^", [":", "--", "-.", "-"], strict=True):
    display = LearningCurveDisplay.from_estimator(
        model, X, y, train_sizes=sizes, cv=folds, shuffle=True, random_state=0, score_type="test", ax=axes,
        line_kw={"marker": marker, "linestyle": line}, fill_between_kw={"alpha": 0.2}, score_name="accuracy",
    )  # fmt: skip
    display.lines_[0].set_label(name)
    scores[name] = display.test_scores.mean(axis=1)
axes.axhline(1 / 3, color="black", linewidth=1)
axes.text(240, 1 / 3, "guessing", va="top", ha="right")
axes.set_xscale("log", base=2)
axes.set(xlabel="labelled reviews", xticks=sizes, xticklabels=sizes)
axes.legend(loc="upper left")
print(pd.DataFrame(scores, index=pd.Index(sizes, name="labels")).round(3).to_string())
print(f"times that a text went through frozen layers: {cache_info().encoded - before}")
plt.show()

# %%
# Read the curves with their bands: three classes and 360 test rows make a score good to about three points, so curves that
# lie closer than that are equal. N-grams have little to share here: 240 reviews in ten languages are 24 in each.
#
# The vectorizer encoded each of 360 texts once, for all sizes and folds. So did the frozen layers of the fits, although
# training read each text in every epoch: ``n_frozen_layers`` uses the same cache. On processors that train in bfloat16
# they did it once more for predictions, which are in float32.
#
# With XLM-R base
# ---------------
#
# Leave out ``checkpoint``, ``learning_rate`` and ``max_epochs``: the defaults are for XLM-R base. Search ``C`` of the
# frozen features, and ``n_frozen_layers`` of 0, 6 and 9. Run it with several values of ``random_state``: with few
# labels, fits differ by more than most settings change. An encoder trained for sentences, such as
# ``"intfloat/multilingual-e5-base"``, is worth trying: its frozen features are made for such use.
