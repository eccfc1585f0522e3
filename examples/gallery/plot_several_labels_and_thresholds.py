"""
====================================
Several labels, and their thresholds
====================================

A comment can be about the delivery and the price at once. Such a text has several labels, and each label has a probability of
its own. From which probability on is a label predicted? One half is a poor answer for rare labels. This page chooses a
threshold for each label, on texts that the model was not trained on.
"""

# %%
# Comments in five languages
# --------------------------
#
# They are put together from a noun and a predicate. A topic is mentioned or not; comments about hygiene are rare.
# Sentences about other things are in between.

import numpy as np
import pandas as pd

words = {
    "de": {
        "delivery": ["Die Lieferung", "Das Paket", "Der Versand", "Der Kurier"],
        "price": ["Der Preis", "Die Rechnung", "Der Rabatt", "Die Gebühr"],
        "staff": ["Die Bedienung", "Der Verkäufer", "Das Personal", "Der Chef"],
        "hygiene": ["Die Toilette", "Der Geruch", "Der Müll", "Der Boden"],
        "other": ["Die Farbe", "Das Display", "Die Anleitung", "Der Akku", "Die Musik", "Der Parkplatz"],
        "predicates": ["hat mich enttäuscht", "war eine Katastrophe", "hat mich überrascht", "war ein Thema für sich"],
    },
    "en": {
        "delivery": ["The delivery", "The parcel", "The shipping", "The courier"],
        "price": ["The price", "The bill", "The discount", "The fee"],
        "staff": ["The waiter", "The shop assistant", "The staff", "The manager"],
        "hygiene": ["The toilet", "The smell", "The rubbish", "The floor"],
        "other": ["The colour", "The screen", "The manual", "The battery", "The music", "The parking"],
        "predicates": ["disappointed me", "was a disaster", "surprised me", "was another story"],
    },
    "es": {
        "delivery": ["La entrega", "El paquete", "El envío", "El mensajero"],
        "price": ["El precio", "La factura", "El descuento", "La tarifa"],
        "staff": ["El camarero", "La vendedora", "El personal", "El jefe"],
        "hygiene": ["El baño", "El olor", "La basura", "El suelo"],
        "other": ["El color", "La pantalla", "El manual", "La batería", "La música", "El aparcamiento"],
        "predicates": ["me decepcionó", "fue un desastre", "me sorprendió", "fue otra historia"],
    },
    "fr": {
        "delivery": ["La livraison", "Le colis", "L'expédition", "Le coursier"],
        "price": ["Le prix", "La facture", "La remise", "Le tarif"],
        "staff": ["Le serveur", "La vendeuse", "Le personnel", "Le patron"],
        "hygiene": ["La toilette", "L'odeur", "La poubelle", "Le sol"],
        "other": ["La couleur", "L'écran", "La notice", "La batterie", "La musique", "Le parking"],
        "predicates": ["m'a déçu", "fut un désastre", "m'a surpris", "fut une autre histoire"],
    },
    "tr": {
        "delivery": ["Teslimat", "Paket", "Kargo", "Kurye"],
        "price": ["Fiyat", "Fatura", "İndirim", "Ücret"],
        "staff": ["Garson", "Satıcı", "Personel", "Müdür"],
        "hygiene": ["Tuvalet", "Koku", "Çöp", "Zemin"],
        "other": ["Renk", "Ekran", "Kılavuz", "Pil", "Müzik", "Otopark"],
        "predicates": ["beni üzdü", "tam bir felaketti", "beni şaşırttı", "ayrı bir hikâyeydi"],
    },
}
frequency = {"delivery": 0.45, "price": 0.3, "staff": 0.2, "hygiene": 0.1}


def comments(n_rows, seed):
    rng = np.random.RandomState(seed)
    labels = pd.DataFrame(rng.random_sample((n_rows, 4)) < list(frequency.values()), columns=list(frequency)).astype(
        int
    )
    texts = []
    for _, row in labels.iterrows():
        of_language = words[rng.choice(list(words))]
        topics = [*row.index[row == 1], "other", "other"]
        sentences = [f"{rng.choice(of_language[topic])} {rng.choice(of_language['predicates'])}." for topic in topics]
        texts.append(" ".join(rng.permutation(sentences)))
    return pd.Series(texts), labels


X_train, y_train = comments(240, seed=0)
X_test, y_test = comments(300, seed=1)
row = y_train.sum(axis=1).idxmax()
print(X_train[row], "->", ", ".join(y_train.columns[y_train.loc[row] == 1]))
print(y_train.mean().round(2).to_string())

# %%
# One model for all labels
# ------------------------
#
# A table of zeros and ones as ``y`` makes :class:`~skxlmr.XLMRobertaClassifier` learn each column as a label of its
# own. ``predict`` compares the probabilities with ``threshold``, one half unless it is set.

from sklearn.metrics import f1_score

from skxlmr import XLMRobertaClassifier

classifier = XLMRobertaClassifier("skxlmr-mini", n_frozen_layers=2, learning_rate=1e-3, max_epochs=6, random_state=0)
classifier.fit(X_train, y_train)
proba = classifier.predict_proba(X_test)
at_half = classifier.predict(X_test)

# %%
# A threshold for each label
# --------------------------
#
# They are chosen for the best F1 of out-of-fold predictions of the training rows. The test rows have no part in it.
# States of the frozen layers were kept by the fit above, so that the three fits of the folds begin at the third layer.

from sklearn.base import clone
from sklearn.metrics import precision_recall_curve
from sklearn.model_selection import cross_val_predict

out_of_fold = cross_val_predict(clone(classifier), X_train, y_train, cv=3, method="predict_proba")
thresholds = []
for k, label in enumerate(y_train):
    precision, recall, candidates = precision_recall_curve(y_train[label], out_of_fold[:, k])
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    thresholds.append(float(candidates[f1[:-1].argmax()]))
classifier.set_params(threshold=thresholds)
tuned = classifier.predict(X_test)

columns = {
    "threshold": thresholds,
    "F1 at 0.5": f1_score(y_test, at_half, average=None, zero_division=0),
    "F1 tuned": f1_score(y_test, tuned, average=None, zero_division=0),
}
print(pd.DataFrame(columns, index=y_train.columns).round(2).to_string())

# %%
# What a threshold trades
# -----------------------
#
# Each curve shows precision and recall of a label on the test rows, for all thresholds; the dashed line is chance. The
# square is one half, the star is the tuned threshold. A square at the left edge is a label that is hardly ever
# predicted.

import matplotlib.pyplot as plt
from sklearn.metrics import PrecisionRecallDisplay, precision_score, recall_score

figure, axes = plt.subplots(2, 2, figsize=(8, 6.4), sharex=True, sharey=True, layout="constrained")
for k, (ax, label) in enumerate(zip(axes.flat, y_test, strict=True)):
    PrecisionRecallDisplay.from_predictions(y_test[label], proba[:, k], plot_chance_level=True, ax=ax, despine=True)
    for predicted, marker, name in [(at_half, "s", "0.5"), (tuned, "*", f"{thresholds[k]:.2f}")]:
        recall = recall_score(y_test[label], predicted[:, k])
        precision = precision_score(y_test[label], predicted[:, k], zero_division=1)
        ax.plot(recall, precision, marker, color="black", markersize=10, clip_on=False, label=f"threshold {name}")
    ax.set(title=f"{label} ({y_test[label].mean():.0%} of the rows)", xlabel="recall", ylabel="precision")
    ax.legend(handles=ax.lines[-2:], loc="upper right", fontsize="small")
plt.show()

# %%
# The model knows more about rare labels than its answers at one half show: the curves of the staff and of hygiene are
# well above chance, but half is far to the left on them. Thresholds of the training rows move them to where F1 is
# better, at the price of precision. Of the label with 34 rows the threshold itself is uncertain: more rows help more
# than a finer search.
#
# If a wrong alarm costs more than a miss, choose the threshold by that instead of F1. For a single label of two classes
# :class:`~sklearn.model_selection.TunedThresholdClassifierCV` does it all, with a scorer of your own.
#
# With XLM-R base
# ---------------
#
# Leave out ``checkpoint``, ``n_frozen_layers``, ``learning_rate`` and ``max_epochs``. The three fits of the folds are
# then most of the time: a validation set that was put aside gives the thresholds with one fit, if there are enough rows
# of each label. ``class_weight="balanced"`` is another way to help rare labels. It moves the probabilities, so choose
# the thresholds after it.
