"""
==========================================
Answers to questions, and where they stand
==========================================

An answerer learns to find a part of a text that answers a question, in four languages, and whether there is none. One
sees its answers marked in the texts, beside the true ones, and how far their scores can be trusted.
"""

# %%
# Questions from templates
# ------------------------
#
# A text says who moved where, and mostly when. A question asks for one of the three; where the text has no year, the
# question when has no answer. Names, towns and years of the test are others than those of the fit.

import numpy as np
import pandas as pd

TEMPLATES = {  # the year may be missing; what surrounds it answers nothing; who, where and when
    "en": ("{a} moved to {p}| in {x}|.", "The weather was bad.", ["Who moved?", "Where to?", "When was it?"]),
    "de": ("{a} zog |{x} |nach {p}.", "Das Wetter war schlecht.", ["Wer zog um?", "Wohin?", "Wann war das?"]),
    "es": ("{a} se mudó a {p}| en {x}|.", "Hacía mal tiempo.", ["¿Quién se mudó?", "¿Adónde?", "¿Cuándo fue?"]),
    "he": ("{a} עבר אל {p}| בשנת {x}|.", "מזג האוויר היה גרוע.", ["מי עבר?", "לאן?", "מתי זה היה?"]),
}
LATIN = (
    "Anna Paul Maria Ivan Omar Julia Peter Elena Tom Sara David Nina Lukas Clara Victor Rosa".split(),
    "Berlin Paris Madrid Vienna Lisbon Rome Oslo Prague Warsaw Dublin Athens Geneva London Turin Zagreb Boston".split(),
)
NAMES = {
    "en": LATIN,
    "de": LATIN,
    "es": LATIN,
    "he": (
        "דוד נועה יוסי רות אבי תמר משה יעל דנה אורי גיל שירה".split(),
        "חיפה ירושלים אילת עכו פריז ברלין צפת נתניה אשדוד לונדון רומא טבריה".split(),
    ),
}


def rows(n, of_test, seed):
    """Questions with their texts, and the answers, empty where there is none."""
    rng, found = np.random.RandomState(seed), []
    for language, (template, around, questions) in TEMPLATES.items():
        people, towns = (
            (known[: len(known) // 4] if of_test else known[len(known) // 4 :])
            for known in (np.random.RandomState(0).permutation(each) for each in NAMES[language])
        )
        years = np.arange(1980, 2000) if of_test else np.arange(2000, 2025)
        for i in range(n):
            values = {"a": rng.choice(people), "p": rng.choice(towns), "x": rng.choice(years)}
            before, year, after = template.split("|")
            has_year = rng.rand() < 0.6
            context = (before + year * has_year + after).format(**values)
            context = f"{around} {context}" if rng.rand() < 0.5 else f"{context} {around}"
            answers = [values["a"], values["p"], values["x"] if has_year else ""]
            found.append((language, questions[i % 3], context, str(answers[i % 3])))
    return pd.DataFrame(found, columns=["language", "question", "context", "answer"])


train, test = rows(45, of_test=False, seed=0), rows(24, of_test=True, seed=1)
print(test.groupby("language", sort=False).first().to_string())

# %%
# Fit an answerer
# ---------------
#
# :class:`~skxlmr.XLMRobertaQuestionAnswerer` reads the columns ``question`` and ``context``. With ``allow_no_answer``
# it may say that the text does not hold the answer; an empty answer in ``y`` teaches it when.

from skxlmr import XLMRobertaQuestionAnswerer

answerer = XLMRobertaQuestionAnswerer(
    "skxlmr-mini", learning_rate=2e-3, batch_size=16, max_epochs=12, allow_no_answer=True, random_state=0
)
answerer.fit(train, train["answer"])

# %%
# What it finds shows itself: in a notebook as marked texts, at a prompt as a table.

answerer.predict_spans(test.head(2), n_best=2)

# %%
# Answers in their texts
# ----------------------
#
# :class:`~skxlmr.inspection.AnswerDisplay` marks answers with their ranks. With true answers, it says whether the best
# one is right, and marks the true one where it is not. Three questions in each language:

from skxlmr.inspection import AnswerDisplay

few = test.groupby("language", sort=False).head(3)
AnswerDisplay.from_estimator(answerer, few, few["answer"], n_best=2)

# %%
# How far a score can be trusted
# ------------------------------
#
# ``plot`` draws the scores of the best answers of all questions of the test, right ones and others apart.

import matplotlib.pyplot as plt

display = AnswerDisplay.from_estimator(answerer, test, test["answer"])
display.plot()
plt.show()

# %%
# By language and by what was asked, the share of exact matches:

asked = np.tile(["who", "where", "when"], len(test) // 3)
found = test.assign(asked=np.where(test["answer"] == "", "when, no answer", asked), exact_match=display.exact_match)
print(found.pivot_table(index="language", columns="asked", values="exact_match", sort=False).round(2).to_string())
print(display)

# %%
# Four of five answers are right, on names, towns and years that the fit has not seen. That a text has no year is
# always noticed. Scores above 0.9 can be trusted here: most of the wrong answers have lower ones. Where no answer is
# said too often or too rarely, choose ``no_answer_threshold`` on rows that the fit has not seen.
#
# With XLM-R base
# ---------------
#
# Start from a checkpoint that has learnt SQuAD, ``XLMRobertaQuestionAnswerer.from_checkpoint(...)``, which answers
# without a fit, or fit ``XLMRobertaQuestionAnswerer(max_epochs=2, learning_rate=3e-5)`` on your own questions. Long
# texts are read in windows, and the display leaves out what is far from all answers (``context``).
