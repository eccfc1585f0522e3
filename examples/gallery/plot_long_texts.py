"""
================================
Long texts: cut, or in windows?
================================

A model reads a limited number of tokens. What becomes of the rest of a long text? This page shows the warning, the parameter
``long_text="window"``, and what each does when the sentence that matters is at the beginning, in the middle or at the end.
"""

# %%
# Long comments with one request
# ------------------------------
#
# Seven reviews in one language, chosen at random, and among them the request: a refund or a replacement, in two short
# sentences. It is at the first place or at a later one, up to the eighth.

import numpy as np
import pandas as pd

from skxlmr.datasets import load_reviews

requests = {
    "de": {
        "refund": [
            "Ich möchte mein Geld zurück.",
            "Bitte erstatten Sie mir den vollen Betrag.",
            "Überweisen Sie den Preis.",
        ],
        "replacement": ["Bitte schicken Sie mir ein neues Gerät.", "Ich möchte einen Ersatz.", "Tauschen Sie es um."],
    },
    "en": {
        "refund": ["I want my money back.", "Please refund the full amount.", "Return the price to my account."],
        "replacement": ["Please send me a new one.", "I would like a replacement.", "Exchange it for another one."],
    },
    "es": {
        "refund": ["Quiero que me devuelvan el dinero.", "Por favor, reembolsen el importe.", "Devuelvan el precio."],
        "replacement": ["Por favor, envíenme uno nuevo.", "Quisiera un recambio.", "Cámbienlo por otro."],
    },
    "fr": {
        "refund": ["Je veux être remboursé.", "Merci de me rendre mon argent.", "Remboursez le prix sur mon compte."],
        "replacement": ["Merci de m'en envoyer un nouveau.", "Je voudrais un remplacement.", "Échangez-le."],
    },
    "it": {
        "refund": ["Voglio indietro i miei soldi.", "Vi prego di rimborsare l'importo.", "Restituite il prezzo."],
        "replacement": ["Vi prego di mandarmene uno nuovo.", "Vorrei una sostituzione.", "Cambiatelo con un altro."],
    },
}
reviews = load_reviews().frame


def comments(n_rows, seed):
    rng = np.random.RandomState(seed)
    rows = []
    for i in range(n_rows):
        language, wanted, place = (
            list(requests)[i % 5],
            ["refund", "replacement"][i // 5 % 2],
            i // 10 % 8,
        )
        sentences = list(rng.choice(reviews.loc[reviews["language"] == language, "review"], 7, replace=False))
        sentences.insert(place, " ".join(rng.choice(requests[language][wanted], 2, replace=False)))
        up_to = " ".join(sentences[: place + 1])  # the text up to the end of the request
        rows.append({"text": " ".join(sentences), "wanted": wanted, "place": place + 1, "up_to": up_to})
    return pd.DataFrame(rows)


train, test = comments(320, seed=0), comments(640, seed=1)

# %%
# What is cut is reported
# -----------------------
#
# The built-in checkpoint reads 256 tokens; here it reads 64, as if texts were four times as long. By default longer
# texts are cut at their end, with one warning for the whole call. ``coverage`` says what was read of each text.

import warnings

from skxlmr import TruncationWarning, XLMRobertaVectorizer

cut = XLMRobertaVectorizer("skxlmr-mini", max_length=64)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always", TruncationWarning)
    cut.fit_transform(train["text"])
print(caught[0].category.__name__, "-", caught[0].message)
print(cut.coverage(train["text"]).describe().loc[["min", "mean", "max"]].round(2).to_string())

# %%
# Read all of it
# --------------
#
# ``long_text="window"`` reads a text in windows of ``max_length`` tokens. The features are the mean of the windows'
# vectors. This costs what reading the whole text costs, and nothing is cut.

windows = XLMRobertaVectorizer("skxlmr-mini", max_length=64, long_text="window").fit(train["text"])
print("texts cut:", cut.n_truncated_, "and", windows.n_truncated_)
print("mean number of windows:", windows.coverage(train["text"])["n_windows"].mean())

# %%
# Where is the signal?
# --------------------
#
# The same linear model on both kinds of features, and its accuracy by the place of the request. There are 80 test texts
# at each place, so a figure is good to about 5 points.

from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

right = {}
for name, vectorizer in {"truncate": cut, "window": windows}.items():
    model = make_pipeline(vectorizer, StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TruncationWarning)  # it was seen above
        model.fit(train["text"], train["wanted"])
        right[name] = model.predict(test["text"]) == test["wanted"]
accuracy = pd.DataFrame(right).groupby(test["place"]).mean()
print(accuracy.T.round(2).to_string())

# %%
# The bars are the share of texts whose request lies wholly within the 64 tokens that are read when the rest is cut.

import matplotlib.pyplot as plt

is_read = (cut.coverage(test["up_to"])["n_dropped"] == 0).groupby(test["place"]).mean()
figure, axes = plt.subplots(figsize=(7.5, 4), layout="constrained")
axes.bar(is_read.index, is_read, color="0.85", label="request within the first 64 tokens")
axes.plot(accuracy.index, accuracy["truncate"], "s--", label='accuracy, long_text="truncate"')
axes.plot(accuracy.index, accuracy["window"], "o-", label='accuracy, long_text="window"')
axes.axhline(0.5, color="black", linewidth=1)
axes.text(8.6, 0.49, "guessing", va="top", ha="right")
axes.set(xlabel="place of the request among eight", ylim=(0, 1.05), xticks=range(1, 9))
axes.legend(loc="lower right")
plt.show()

# %%
# Where the request is cut off, the model guesses. Windows find it at every place. They are better at the second
# place already: cut texts without a request were among the training rows too, and taught the model nothing. If all
# that counts is at the beginning, as in the lead of a news report, cutting is as good and four times cheaper.
# ``coverage`` says how much there is to lose. The mean over windows dilutes a signal that is in one of them, more so
# the longer the text.
#
# :class:`~skxlmr.XLMRobertaClassifier` and :class:`~skxlmr.XLMRobertaRegressor` have the same parameter. They train on
# all windows of a text and average their outputs. ``stride`` lets neighbouring windows share tokens, for signals that
# are cut in two.
#
# With XLM-R base
# ---------------
#
# XLM-R reads 512 tokens, so fewer texts are cut: leave out ``max_length`` and look at ``coverage`` first. Search over
# ``long_text`` and ``max_length`` with :class:`~sklearn.model_selection.GridSearchCV`. Reading windows takes as many
# times longer as there are windows; with a folder as ``memory`` each is encoded once.
