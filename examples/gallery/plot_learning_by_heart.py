"""
=================
Learning by heart
=================

A model with millions of weights can learn some hundred texts by heart, and nothing that holds for others. The training
loss does not show it: it falls either way. This page looks at such a fit, and at what shows it.
"""

# %%
# The sentiment as a number
# -------------------------
#
# Reviews in ten languages, negative (-1), neutral (0) or positive (1). A quarter of each language is held out. The
# sentences of this table are subtle, and the small checkpoint has read few texts: a hard task for it.

from skxlmr.datasets import load_reviews

reviews = load_reviews().frame
reviews["tone"] = reviews["sentiment"].map({"negative": -1.0, "neutral": 0.0, "positive": 1.0})
held_out = reviews.groupby("language").tail(9)
training = reviews.drop(held_out.index)

# %%
# Two fits
# --------
#
# :class:`~skxlmr.XLMRobertaRegressor` trains the encoder together with a head for numbers. The second fit has a learning
# rate three times as high. With ``X_val`` and ``y_val`` each epoch ends with a score of the held-out texts, here the
# coefficient of determination: 1 is perfect, 0 is as good as the mean, and less is worse than it.

from skxlmr import XLMRobertaRegressor

fits = {
    rate: XLMRobertaRegressor("skxlmr-mini", learning_rate=rate, max_epochs=5, random_state=0).fit(
        training["review"], training["tone"], X_val=held_out["review"], y_val=held_out["tone"]
    )
    for rate in (3e-4, 1e-3)
}

# %%
# The picture
# -----------
#
# :class:`~skxlmr.inspection.LossCurveDisplay` draws the training loss by epoch, and the validation score beside it.

import matplotlib.pyplot as plt

from skxlmr.inspection import LossCurveDisplay

axes = None
for rate, regressor in fits.items():
    display = LossCurveDisplay.from_estimator(regressor, name=f"learning rate {rate:g}", ax=axes)
    axes = display.axes_
display.figure_.set_size_inches(9, 5)
plt.show()

# %%
# The loss falls, the score does not rise: what was learnt is these texts. ``early_stopping=True`` would have ended
# such a fit, and kept the epoch with the best score.
#
# Is the order at least right?
# ----------------------------
#
# Correlations do not mind a wrong scale: :func:`~skxlmr.metrics.pearson_score` compares the numbers up to scale and shift,
# :func:`~skxlmr.metrics.spearman_score` their order alone. For comparison, a linear model on features of the encoder as
# it is, which has a few hundred weights to learn.

import pandas as pd
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skxlmr import XLMRobertaVectorizer
from skxlmr.metrics import pearson_score, spearman_score

linear = make_pipeline(XLMRobertaVectorizer("skxlmr-mini"), StandardScaler(), RidgeCV([1e2, 1e3, 1e4]))
models = {f"fine-tuned, {rate:g}": regressor for rate, regressor in fits.items()}
models["linear, on features"] = linear.fit(training["review"], training["tone"])
rows = {}
for name, model in models.items():
    for part, table in [("training", training), ("held out", held_out)]:
        predicted = model.predict(table["review"])
        rows[name, part] = {
            "Pearson": pearson_score(table["tone"], predicted),
            "Spearman": spearman_score(table["tone"], predicted),
        }
print(pd.DataFrame(rows).T.round(2).to_string())

# %%
# With 90 held-out texts a correlation is known to about 0.1. So none of these models has learnt much about sentiment,
# although the fine-tuned ones know that of their training texts.
#
# With XLM-R base
# ---------------
#
# It has read far more texts, and has more weights to learn by heart with. The same picture says which of the two counts:
# pass ``X_val`` and ``y_val`` to a fit, and look at both panels. ``n_frozen_layers`` leaves less to learn by heart, and
# ``early_stopping`` ends a fit in time (:doc:`/training`).
