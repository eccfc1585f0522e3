"""
======================================
Probabilities that mean what they say
======================================

A fine-tuned model often says 99 % and is right less often than that. Its answers may be good, but nobody can act on its
probabilities. This page shows it in a calibration curve, and mends it with
:class:`~sklearn.calibration.CalibratedClassifierCV` around a :class:`~sklearn.frozen.FrozenEstimator`: nothing is trained
again.
"""

# %%
# Comments, some of them about the delivery
# -----------------------------------------
#
# Each comment has three sentences, put together from a noun and a predicate, in one of five languages. In four of ten
# comments one of the sentences is about the delivery.

import numpy as np

delivery = {
    "de": ["Die Lieferung", "Das Paket", "Der Versand", "Der Kurier"],
    "en": ["The delivery", "The parcel", "The shipping", "The courier"],
    "es": ["La entrega", "El paquete", "El envío", "El mensajero"],
    "fr": ["La livraison", "Le colis", "L'expédition", "Le coursier"],
    "tr": ["Teslimat", "Paket", "Kargo", "Kurye"],
}
other = {
    "de": ["Die Farbe", "Das Display", "Die Anleitung", "Der Akku", "Der Preis", "Die Bedienung", "Der Geruch"],
    "en": ["The colour", "The screen", "The manual", "The battery", "The price", "The service", "The smell"],
    "es": ["El color", "La pantalla", "El manual", "La batería", "El precio", "El servicio", "El olor"],
    "fr": ["La couleur", "L'écran", "La notice", "La batterie", "Le prix", "Le service", "L'odeur"],
    "tr": ["Renk", "Ekran", "Kılavuz", "Pil", "Fiyat", "Hizmet", "Koku"],
}
predicates = {
    "de": ["hat mich enttäuscht", "war eine Katastrophe", "hat mich überrascht", "war ein Thema für sich"],
    "en": ["disappointed me", "was a disaster", "surprised me", "was another story"],
    "es": ["me decepcionó", "fue un desastre", "me sorprendió", "fue otra historia"],
    "fr": ["m'a déçu", "fut un désastre", "m'a surpris", "fut une autre histoire"],
    "tr": ["beni üzdü", "tam bir felaketti", "beni şaşırttı", "ayrı bir hikâyeydi"],
}


def comments(n_rows, seed):
    rng = np.random.RandomState(seed)
    about_delivery = rng.random_sample(n_rows) < 0.4
    texts = []
    for is_about in about_delivery:
        language = rng.choice(list(delivery))
        nouns = list(rng.choice(other[language], 3, replace=False))
        if is_about:
            nouns[rng.randint(3)] = rng.choice(delivery[language])
        texts.append(" ".join(f"{noun} {rng.choice(predicates[language])}." for noun in nouns))
    return texts, about_delivery.astype(int)


X_train, y_train = comments(150, seed=0)
X_held_out, y_held_out = comments(200, seed=1)
X_test, y_test = comments(600, seed=2)
print(X_train[0], "->", y_train[0])

# %%
# Trained for long, on few rows
# -----------------------------
#
# Ten epochs on 150 rows: the loss on them is far lower at the end than that of other rows will be, and so the model is
# certain of most of what it reads.

from sklearn.metrics import accuracy_score, brier_score_loss, log_loss

from skxlmr import XLMRobertaClassifier

classifier = XLMRobertaClassifier("skxlmr-mini", n_frozen_layers=3, learning_rate=1e-3, max_epochs=10, random_state=0)
classifier.fit(X_train, y_train)
print(f"training loss: {classifier.final_loss_:.2f}, accuracy on test rows: {classifier.score(X_test, y_test):.2f}")
proba = classifier.predict_proba(X_test)
sure = proba.max(axis=1) > 0.95
right = (classifier.predict(X_test) == y_test)[sure]
print(f"more than 95 % sure: {sure.mean():.0%} of the rows, of which {right.mean():.0%} are right")

# %%
# Calibrate it with rows that it has not seen
# -------------------------------------------
#
# Around a frozen estimator, :class:`~sklearn.calibration.CalibratedClassifierCV` learns only how its outputs become
# probabilities. A temperature has one number to learn: it divides all logits, so that no answer changes. The sigmoid
# has two, and isotonic regression as many as there are steps. Lower is better for the log loss and the Brier score.

import pandas as pd
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator

models = {"as trained": classifier}
for method in ["temperature", "sigmoid", "isotonic"]:
    calibrated = CalibratedClassifierCV(FrozenEstimator(classifier), method=method, cv=5, ensemble=False)
    models[method] = calibrated.fit(X_held_out, y_held_out)
probabilities = {name: model.predict_proba(X_test)[:, 1] for name, model in models.items()}
scores = {
    name: {
        "log loss": log_loss(y_test, each),
        "Brier score": brier_score_loss(y_test, each),
        "accuracy": accuracy_score(y_test, each > 0.5),
    }
    for name, each in probabilities.items()
}
print(pd.DataFrame(scores).T.round(3).to_string())

# %%
# The curves
# ----------
#
# Test rows are grouped by the probability that the model gave them. On the diagonal, a group with 80 % holds 80 % of
# the class. On the right is how many rows there are in each group.

import matplotlib.pyplot as plt
from sklearn.calibration import CalibrationDisplay

figure, (left, right) = plt.subplots(1, 2, figsize=(8.4, 4), layout="constrained")
for name, style, hatch in [("as trained", "s--", ""), ("temperature", "o-", "//")]:
    CalibrationDisplay.from_predictions(
        y_test, probabilities[name], n_bins=6, name=name, ax=left, marker=style[0], linestyle=style[1:]
    )
    right.hist(probabilities[name], bins=12, range=(0, 1), histtype="step", hatch=hatch, linewidth=1.5, label=name)
left.set(xlabel="mean predicted probability", ylabel="share that is about the delivery")
right.set(xlabel="predicted probability", ylabel="test rows")
right.legend()
plt.show()

# %%
# As trained, the model is too sure at both ends: its points lie above the diagonal on the left and below it on the
# right. With a temperature they are closer, and many rows leave the two outermost groups. The groups in the middle hold
# few rows, so their points are uncertain. A sigmoid does as well here. Isotonic regression needs more rows than the
# others: it has a good Brier score, but pays dearly in log loss for a few rows of which it was certain, and wrong. With
# fewer than a thousand rows a temperature is the safe choice.
#
# The held-out rows must be new to the model. On its training rows it is nearly always right, and a calibration would
# learn that certainty is justified.
#
# With XLM-R base
# ---------------
#
# Leave out the parameters of the classifier but ``random_state``. With the default of 5 epochs and more rows, the model
# is less overconfident, though seldom not at all: draw the curve. If rows are too few to set some aside,
# ``CalibratedClassifierCV(classifier, method="temperature", cv=3)`` fits a model for each fold and uses all rows, in
# three times the time and memory. For several classes a temperature works in the same way.
