"""
====================
Looking at attention
====================

Every layer of the encoder mixes the vectors of the tokens: each token looks at some tokens more than at others. This page
shows where, for sentences and their translations: a number for each head, the weights of one head, which words of a
translation meet, and a page to explore with the mouse or the keyboard.
"""

# %%
# Pairs of translations
# ---------------------
#
# A pair is read as one row, ``<s> first </s></s> second </s>``, so that tokens of one text can look at those of the other.
# :class:`~skxlmr.inspection.AttentionDisplay` takes any estimator that reads texts; here it is a
# :class:`~skxlmr.XLMRobertaVectorizer`, which needs no fit.

from skxlmr import XLMRobertaVectorizer
from skxlmr.inspection import AttentionDisplay

pairs = [
    ["In 2019 Anna paid 45 euros in Berlin.", "Anna zahlte 2019 in Berlin 45 Euro."],
    ["The battery lasts two days.", "تدوم البطارية يومين."],
    ["The screen is bright.", "หน้าจอสว่าง"],
]
display = AttentionDisplay.from_estimator(XLMRobertaVectorizer("skxlmr-mini"), pairs)
n_layers, n_heads, n_tokens, _ = display.attentions[0].shape
print(f"{n_layers} layers of {n_heads} heads; the first pair has {n_tokens} tokens")

# %%
# A number for each head
# ----------------------
#
# Some heads look at special tokens whatever the text says, some look across to the other text. The left picture shows the
# share of the attention that goes to special tokens, the right one the share that goes to the other text.

import matplotlib.pyplot as plt

_, axes = plt.subplots(1, 2, figsize=(11, 3.4), layout="constrained")
for ax, measure in zip(axes, ["special", "other_text"], strict=True):
    display.plot(ax, measure=measure)
plt.show()

# %%
# The weights of one head
# -----------------------
#
# Of the English and the Arabic sentence, the head that looks at special tokens most. Each row of the picture is a token that
# looks, each column one that is looked at; the colours follow the square root of the weight.

special = display.measures(row=1)["special"]
layer, head = divmod(int(special.argmax()), n_heads)
display.plot(row=1, layer=layer, head=head)
plt.show()

# %%
# Which words meet
# ----------------
#
# ``between_words`` sums over the tokens of the word that is looked at, and averages over those of the word that looks. From
# it comes a table with the words of one text down and those of the other across, both directions averaged. Some words draw
# attention from everywhere; so each column is divided by its mean. The value 2 then means: twice as much as from the mean
# word.

import numpy as np


def meeting(row, layer, head):
    """Table of the words of the first text by those of the second, and the words."""
    words, of_text = {}, {}
    known = display.tokens[row], display.word_ids[row], display.sequence_ids[row]
    for token, word, text in zip(*known, strict=True):
        if text >= 0:
            words[word] = words.get(word, "") + token.strip("\N{OPEN BOX}")
            of_text[word] = text
    first, second = ([word for word in words if of_text[word] == text] for text in (0, 1))
    between = display.between_words(row, layer, head)
    table = (between[np.ix_(first, second)] + between[np.ix_(second, first)].T) / 2
    return table / table.mean(0), [words[word] for word in first], [words[word] for word in second]


# %%
# Four words are written alike in English and German: the name, the city and both numbers. In which head do most of them
# find themselves in the other text? With 36 heads to choose from, the best one is a lucky one too.


def n_found(layer, head):
    table, english, german = meeting(0, layer, head)
    return sum(german[table[english.index(word)].argmax()] == word for word in ("2019", "Anna", "45", "Berlin"))


found = np.array([[n_found(layer, head) for head in range(n_heads)] for layer in range(n_layers)])
layer, head = divmod(int(found.argmax()), n_heads)
print(f"layer {layer}, head {head}: {found.max()} of 4; mean of all heads: {found.mean():.1f}")

table, english, german = meeting(0, layer, head)
figure, ax = plt.subplots(figsize=(7, 5), layout="constrained")
image = ax.imshow(table, cmap="cividis")
for (i, j), value in np.ndenumerate(table):
    dark = value < (table.min() + table.max()) / 2
    ax.text(j, i, f"{value:.1f}", ha="center", va="center", color="white" if dark else "black")
ax.set_xticks(range(len(german)), german)
ax.set_yticks(range(len(english)), english)
figure.colorbar(image, label="attention, mean word = 1")
plt.show()

# %%
# This head pairs words that are written alike, "euros" and "Euro" among them. It does not pair "paid" with "zahlte": the
# built-in checkpoint is small.
#
# A page to explore
# -----------------
#
# In a notebook the display shows itself; ``display.to_html("attention.html")`` writes the same page as one file, which opens
# without a network. Pick a layer and a head in the table, hover or focus a token, and try "words of one text and of the
# other".

display

# %%
# With XLM-R base
# ---------------
#
# Pass ``XLMRobertaVectorizer("FacebookAI/xlm-roberta-base")``, or a classifier that you have fitted: what fine-tuning
# changes is worth a look, with the same texts in two pages. There are 12 layers of 12 heads then, and a page takes 0.8 MB for
# a text of 64 tokens. Attention shows what a layer mixes; which words a prediction rests on is another question.
