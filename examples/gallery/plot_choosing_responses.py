"""
==================
Choosing responses
==================

What should a system say next? Where the answers are written already, by people, the question is which one fits. This
page learns it from short dialogues in three languages and asks in a fourth one, with two estimators: one that compares
vectors of contexts and responses, and one that reads a context together with each of its choices.
"""

# %%
# Eight subjects, four languages
# ------------------------------
#
# Each dialogue is what a user says, and what the system answers. The four of a subject mean the same.

languages = ["en", "de", "fr", "es"]
turns = {
    "table": [
        ("A table for two, please.", "For what time?"),
        ("Einen Tisch für zwei, bitte.", "Für welche Uhrzeit?"),
        ("Une table pour deux, s'il vous plaît.", "Pour quelle heure ?"),
        ("Una mesa para dos, por favor.", "¿Para qué hora?"),
    ],
    "train": [
        ("When does the train to Rome leave?", "At nine, from platform four."),
        ("Wann fährt der Zug nach Rom?", "Um neun, von Gleis vier."),
        ("Quand part le train pour Rome ?", "À neuf heures, voie quatre."),
        ("¿Cuándo sale el tren a Roma?", "A las nueve, del andén cuatro."),
    ],
    "weather": [
        ("Will it rain tomorrow?", "No, it will be sunny all day."),
        ("Regnet es morgen?", "Nein, es bleibt den ganzen Tag sonnig."),
        ("Va-t-il pleuvoir demain ?", "Non, il fera beau toute la journée."),
        ("¿Lloverá mañana?", "No, hará sol todo el día."),
    ],
    "doctor": [
        ("My back has been hurting for a week.", "Then you should see a doctor soon."),
        ("Mein Rücken tut seit einer Woche weh.", "Dann sollten Sie bald zum Arzt gehen."),
        ("J'ai mal au dos depuis une semaine.", "Alors vous devriez voir un médecin."),
        ("Me duele la espalda desde hace una semana.", "Entonces debería ir pronto al médico."),
    ],
    "hotel": [
        ("Do you have a quiet room?", "Yes, on the third floor, facing the garden."),
        ("Haben Sie ein ruhiges Zimmer?", "Ja, im dritten Stock, zum Garten."),
        ("Avez-vous une chambre calme ?", "Oui, au troisième étage, côté jardin."),
        ("¿Tienen una habitación tranquila?", "Sí, en el tercer piso, hacia el jardín."),
    ],
    "parcel": [
        ("My parcel has not arrived.", "What is the number of your order?"),
        ("Mein Paket ist nicht angekommen.", "Wie lautet Ihre Bestellnummer?"),
        ("Mon colis n'est pas arrivé.", "Quel est le numéro de commande ?"),
        ("Mi paquete no ha llegado.", "¿Cuál es el número de su pedido?"),
    ],
    "music": [
        ("Play some jazz, please.", "Here is Miles Davis."),
        ("Spiel bitte etwas Jazz.", "Hier ist Miles Davis."),
        ("Mets du jazz, s'il te plaît.", "Voici Miles Davis."),
        ("Pon algo de jazz, por favor.", "Aquí está Miles Davis."),
    ],
    "lamp": [
        ("Turn off the light in the kitchen.", "The kitchen light is off."),
        ("Mach das Licht in der Küche aus.", "Das Licht in der Küche ist aus."),
        ("Éteins la lumière de la cuisine.", "La lumière de la cuisine est éteinte."),
        ("Apaga la luz de la cocina.", "La luz de la cocina está apagada."),
    ],
}

# %%
# Vectors of contexts and responses
# ---------------------------------
#
# :class:`~skxlmr.XLMRobertaDialogueLM` learns, besides filling gaps, to find the response to each context among those of
# the other dialogues in the batch. Here each language is left out once. Its eight contexts are new to the model, and
# ``rank_responses`` puts the eight responses of that language in order for each of them.
# :func:`~skxlmr.metrics.recall_at_k` is the share of contexts whose response is among the first k.

import numpy as np
import pandas as pd

from skxlmr import XLMRobertaDialogueLM
from skxlmr.metrics import recall_at_k

places = list(range(1, len(turns) + 1))
recalls, of_spanish = {}, None
for left_out, language in enumerate(languages):
    training = [
        [("user", user), ("system", system)]
        for subject in turns.values()
        for user, system in subject[:left_out] + subject[left_out + 1 :]
    ]
    contexts = [[("user", subject[left_out][0])] for subject in turns.values()]
    responses = [subject[left_out][1] for subject in turns.values()]
    lm = XLMRobertaDialogueLM("skxlmr-mini", max_epochs=15, batch_size=8, random_state=0).fit(training)
    order, scores = lm.rank_responses(contexts, responses)
    recalls[language] = recall_at_k(np.arange(len(turns)), order, k=places)
    if language == "es":
        of_spanish = scores

table = pd.DataFrame(recalls)
table["guessing"] = [k / len(turns) for k in places]
print(table.rename_axis("k").round(2).to_string())

# %%
# Two pictures
# ------------
#
# On the left the shares, on the right the scores of the Spanish responses for each Spanish context, less their mean over
# the contexts: some responses have high scores everywhere. A star is the response of the dialogue.

import matplotlib.pyplot as plt

figure, (left, right) = plt.subplots(1, 2, figsize=(10.5, 4.4), layout="constrained")
styles = {"en": ("#1b4f8a", "o"), "de": ("#d98a3a", "s"), "fr": ("#3b7a57", "^"), "es": ("#7d3c98", "D")}
for language, (colour, marker) in styles.items():
    left.plot(places, table[language], color=colour, marker=marker, label=f"{language} left out")
left.plot(places, table["guessing"], color="black", linestyle=":", label="guessing")
left.set(xlabel="k", ylabel="recall at k", ylim=(0, 1.05), title="Response among the first k")
left.legend(loc="lower right")
shown = of_spanish - of_spanish.mean(axis=0)
image = right.imshow(shown, cmap="cividis")
right.set_xticks(places, turns, rotation=90)
right.set_yticks(places, turns)
image.set_extent((0.5, len(turns) + 0.5, len(turns) + 0.5, 0.5))
for k in places:
    colour = "black" if shown[k - 1, k - 1] > shown.mean() else "white"
    right.text(k, k, "*", ha="center", va="center", color=colour, fontsize=16)
right.set(xlabel="response", ylabel="context", title="Scores of Spanish responses")
figure.colorbar(image, ax=right, shrink=0.8)
plt.show()

# %%
# Reading context and choice together
# -----------------------------------
#
# :class:`~skxlmr.XLMRobertaMultipleChoiceClassifier` reads each choice after its prompt, so that words of the one can look
# at words of the other. That is exact but slow where there are many candidates: each pair is a text of its own, while
# vectors of responses are computed once. Here a prompt has four choices, the right one among them, and English is left
# out.

from skxlmr import XLMRobertaMultipleChoiceClassifier


def questions(language):
    """A row for each subject: what the user says and four responses in its language; and which of them is right."""
    rng = np.random.default_rng(0)
    prompts, right_ones = [], []
    for i, subject in enumerate(turns.values()):
        others = rng.permutation([j for j in range(len(turns)) if j != i])[:3]
        chosen = rng.permutation([i, *others])
        choices = [list(turns.values())[j][language][1] for j in chosen]
        prompts.append({"prompt": subject[language][0], "choices": choices})
        right_ones.append(int(np.flatnonzero(chosen == i)[0]))
    return prompts, right_ones


parts = [questions(language) for language in (1, 2, 3)]
X, y = ([row for part in parts for row in part[which]] for which in (0, 1))
chooser = XLMRobertaMultipleChoiceClassifier("skxlmr-mini", max_epochs=15, learning_rate=5e-4, random_state=0).fit(X, y)
X_test, y_test = questions(0)
print(f"right in the languages of the fit: {chooser.score(X, y):.2f}, in English: {chooser.score(X_test, y_test):.2f}")

# %%
# Guessing is right in a quarter of the rows. Eight contexts of a language are few: the standard error of one language's
# share is up to 0.18, so the picture says that the languages together are above guessing, but not which one is best.
#
# With XLM-R base
# ---------------
#
# ``checkpoint="FacebookAI/xlm-roberta-base"``, or the vectors of an encoder that was trained to put questions near their
# answers. ``batch_size`` matters more than usual: the other responses of the batch are the wrong ones that the model learns
# from. :doc:`/dialogue` has the details, and :doc:`/multiple_choice` those of the second estimator.
