"""
======================================
Find entities, and see which are wrong
======================================

A tagger learns names from sentences in five languages and three scripts, and is tested on names that it has not seen.
One sees its entities in the texts, what is right, wrong and missed, and how much the languages differ.
"""

# %%
# Sentences from templates
# ------------------------
#
# Six sentences in each language, filled with names. A third of the names is kept for the test. Hebrew runs from right to
# left, and Thai puts no spaces between words. A text comes with spans: first character, the one after the last, label.

import re

import numpy as np
import pandas as pd

TEMPLATES = {
    "en": [
        "{PER} lives in {LOC}.",
        "{PER} works for {ORG} in {LOC}.",
        "Yesterday {PER} flew from {LOC} to {LOC}.",
        "{ORG} opens an office in {LOC}.",
        "The head of {ORG} is {PER}.",
        "It rains again today.",
    ],
    "de": [
        "{PER} wohnt in {LOC}.",
        "{PER} arbeitet bei {ORG} in {LOC}.",
        "Gestern flog {PER} von {LOC} nach {LOC}.",
        "{ORG} eröffnet ein Büro in {LOC}.",
        "Chef von {ORG} ist {PER}.",
        "Heute regnet es wieder.",
    ],
    "ru": [
        "{PER} живёт в городе {LOC}.",
        "{PER} работает в компании {ORG} в городе {LOC}.",
        "Вчера {PER} приехал из города {LOC} в город {LOC}.",
        "Компания {ORG} открывает офис в городе {LOC}.",
        "Глава компании {ORG} — {PER}.",
        "Сегодня снова идёт дождь.",
    ],
    "he": [
        "{PER} גר בעיר {LOC}.",
        "{PER} עובד בחברת {ORG} בעיר {LOC}.",
        "אתמול {PER} טס מהעיר {LOC} לעיר {LOC}.",
        "חברת {ORG} פותחת משרד בעיר {LOC}.",
        "מנהל חברת {ORG} הוא {PER}.",
        "היום יורד גשם שוב.",
    ],
    "th": [
        "{PER}อาศัยอยู่ที่{LOC}",
        "{PER}ทำงานที่บริษัท{ORG}ใน{LOC}",
        "เมื่อวาน{PER}บินจาก{LOC}ไป{LOC}",
        "บริษัท{ORG}เปิดสำนักงานใน{LOC}",
        "หัวหน้าบริษัท{ORG}คือ{PER}",
        "วันนี้ฝนตกอีกแล้ว",
    ],
}


def people(first, last, between=" "):
    return [a + between + b for a in first.split() for b in last.split()]


LATIN = {
    "PER": people("Anna Paul Maria Ivan Omar Julia Peter Elena", "Keller Brandt Costa Haddad Weiss Lang Rossi Baker"),
    "LOC": "Berlin Paris Madrid Vienna Lisbon Rome Oslo Prague Warsaw Dublin Athens Geneva London Turin Zagreb".split(),
    "ORG": "Nordbank Solaris Telemax Aerolux Medicon Velotec Finora Grantech Omnisoft Petrolia Agroland Cargonet".split(),
}
NAMES = {
    "en": LATIN,
    "de": LATIN,
    "ru": {
        "PER": people("Анна Иван Олег Мария Павел Елена Борис Ольга", "Титова Смирнов Попова Орлов Волкова Белов"),
        "LOC": "Тверь Казань Париж Берлин Омск Самара Пермь Рига Минск Сочи Тула Псков".split(),
        "ORG": "Север Телемакс Соларис Вектор Газстрой Метеор Рубин Спектр".split(),
    },
    "he": {
        "PER": people("דוד נועה יוסי רות אבי תמר משה יעל", "לוי כהן מזרחי ברק גולן שלום פרץ אורן"),
        "LOC": "חיפה ירושלים אילת עכו פריז ברלין צפת נתניה אשדוד לונדון רומא טבריה".split(),
        "ORG": "טלמקס סולריס גלים אופק נורדבנק מגדל רימון כוכב".split(),
    },
    "th": {
        "PER": people("สมชาย มาลี อนันต์ วิชัย สุดา กมล ประยุทธ นภา", "ใจดี แสงทอง รักไทย มีสุข ทองดี บุญมา", ""),
        "LOC": "กรุงเทพ เชียงใหม่ ภูเก็ต ปารีส ขอนแก่น พัทยา ลำปาง เบอร์ลิน ตรัง น่าน ระยอง ชลบุรี".split(),
        "ORG": "ไทยโซลาร์ เทเลแม็กซ์ นอร์ดแบงก์ ฟ้าใส เมฆา ทรายทอง สยามเน็ต ดาวเหนือ".split(),
    },
}


def fill(template, names, rng):
    """A text, and the spans of the names in it."""
    text, spans = "", []
    for part in re.split(r"\{(\w+)\}", template):
        if part in names:
            name = str(rng.choice(names[part]))
            spans.append((len(text), len(text) + len(name), part))
            part = name
        text += part
    return text, spans


def sentences(n, of_test, seed):
    """``n`` texts of each language, with names of the test or with the others."""
    rng, rows = np.random.RandomState(seed), []
    for language, templates in TEMPLATES.items():
        names = {}
        for label, known in NAMES[language].items():
            known = np.random.RandomState(0).permutation(known)
            names[label] = known[: len(known) // 3] if of_test else known[len(known) // 3 :]
        rows += [(language, *fill(templates[i % len(templates)], names, rng)) for i in range(n)]
    return pd.DataFrame(rows, columns=["language", "text", "spans"])


train, test = sentences(48, of_test=False, seed=0), sentences(18, of_test=True, seed=1)
print(f"{len(train)} texts to learn from, {len(test)} to test on")

# %%
# Fit a tagger
# ------------
#
# :class:`~skxlmr.XLMRobertaTokenClassifier` takes texts with spans. It cuts texts into words, and in Thai into
# characters.

from skxlmr import XLMRobertaTokenClassifier

tagger = XLMRobertaTokenClassifier("skxlmr-mini", learning_rate=2e-3, batch_size=16, max_epochs=7, random_state=0)
tagger.fit(train["text"], train["spans"])

# %%
# What a tagger finds shows itself: in a notebook as marked texts, at a prompt as a table.

tagger.predict_entities(["Maria Costa lives in Geneva.", "Omar Weiss works for Cargonet in Oslo."])

# %%
# What is right, wrong and missed
# -------------------------------
#
# With the true spans, :class:`~skxlmr.inspection.EntityDisplay` compares. An entity is right if its label and both its
# ends are. The mouse shows the score of an entity.

from skxlmr.inspection import EntityDisplay

few = test.groupby("language", sort=False).head(5)
EntityDisplay.from_estimator(tagger, few["text"], few["spans"])

# %%
# ``plot`` counts them by label. All texts of the test:

import matplotlib.pyplot as plt

EntityDisplay.from_estimator(tagger, test["text"], test["spans"]).plot()
plt.show()

# %%
# Scores
# ------
#
# :func:`~skxlmr.metrics.entity_report` has the precision, recall and F1 of each label.

from skxlmr.metrics import entity_report

predicted = tagger.predict(test["text"])
print(entity_report(test["spans"], predicted, texts=test["text"]))

# %%
# By language the F1 differs far more than by label:

from skxlmr.metrics import precision_recall_f1

by_language = test.assign(predicted=predicted).groupby("language", sort=False)
f1 = by_language.apply(lambda rows: precision_recall_f1(rows["spans"], rows["predicted"])[2])
print(f1.round(2).to_string())

# %%
# In the three languages that write names with capital letters, the small checkpoint finds nearly all of the new names,
# and now and then takes a firm for a place. Hebrew and Thai have no capitals. There it marks other words too, and in
# Thai, where every character is a word, most wrong entities overlap a true one: an end is wrong.
#
# With XLM-R base
# ---------------
#
# Take ``XLMRobertaTokenClassifier(max_epochs=3, learning_rate=5e-5, warmup_ratio=0.1)``, with the default checkpoint, and
# real sentences with their annotations: those of spaCy, Doccano, Label Studio and Prodigy are read as they are. Spans
# that begin or end inside a word need ``span_edges="expand"``. A tagger of the hub is opened with ``from_checkpoint`` and
# needs no fit; its entities are displayed in the same way.
