"""
====================
Explain a prediction
====================

Which words made the model say this? :func:`~skxlmr.inspection.attributions` gives each word of a text a share of the
prediction, by four methods. Explanations look convincing whether or not they are right, so this page plants a rule that is
known, fine-tunes a classifier on it, and counts how often each method finds the word that decides.
"""

# %%
# Plant a rule
# ------------
#
# A made-up word at a random place decides the class: *zorvat* or *blimpu*. The texts are reviews in four languages; the
# test has others, and a language that the training has not seen.

import random

from skxlmr.datasets import load_reviews

reviews, rng = load_reviews().frame, random.Random(0)
classes = {"zorvat": "yes", "blimpu": "no"}


def planted(text, word):
    words = text.split()
    place = rng.randint(0, len(words))
    return " ".join([*words[:place], word, *words[place:]])


train, test = [], []
for language in ["en", "de", "es", "ru", "tr"]:
    texts = reviews["review"][reviews["language"] == language]
    if language != "tr":
        train += [(planted(text, word), classes[word]) for text in texts[:16] for word in classes for _ in range(4)]
    test += [(planted(text, word), word) for text in texts[16:19] for word in classes]

# %%
# One pass over 512 texts is enough for the rule.

from skxlmr import XLMRobertaClassifier

texts, labels = zip(*train, strict=True)
classifier = XLMRobertaClassifier("skxlmr-mini", learning_rate=3e-4, max_epochs=1, random_state=0)
classifier.fit(texts, labels)
unseen, words = zip(*test, strict=True)
print(f"accuracy on {len(unseen)} other texts: {classifier.score(unseen, [classes[word] for word in words]):.2f}")

# %%
# Coloured texts
# --------------
#
# Orange with a solid line raises the logit of the predicted class, blue with a dashed line lowers it. In a notebook, point
# at a word to see its value; :meth:`~skxlmr.inspection.TokenAttributionDisplay.to_html` writes a page.

from skxlmr.inspection import TokenAttributionDisplay, attributions

display = TokenAttributionDisplay.from_estimator(classifier, unseen[::8], "occlusion")
display

# %%
# Four methods
# ------------
#
# Integrated gradients follow the gradient on the way from masked words to the text; gradient x input looks at the text
# alone. Occlusion masks one word at a time. Shapley values mask random sets of words; their sum, and that of integrated
# gradients, is what the words add to a text in which all are masked.

import matplotlib.pyplot as plt

methods = ["integrated_gradients", "gradient_x_input", "occlusion", "shapley"]
shortest = min(unseen, key=lambda text: len(text.split()))
figure, axes = plt.subplots(2, 2, figsize=(10, 7), layout="constrained")
for ax, method in zip(axes.ravel(), methods, strict=True):
    TokenAttributionDisplay.from_estimator(classifier, [shortest], method, random_state=0).plot(ax)
plt.show()

# %%
# How often is the planted word first?

for method in methods[:3]:
    found = attributions(classifier, unseen, method, n_steps=16)
    first = [row.strongest(1)[0][0] == word for row, word in zip(found, words, strict=True)]
    print(f"{method:21} {sum(first)} of {len(first)}")

# %%
# Gradient x input is the cheapest of the four, and the first to fail: where a model is sure, nothing changes nearby, and a
# gradient sees only what is near. The guide has figures for a model that was trained longer.
#
# Why are two texts similar?
# --------------------------
#
# Of a vectorizer, the cosine of two texts is explained, with the words of both.

from skxlmr import XLMRobertaVectorizer

pair = ("The children sing in the garden", "Die Kinder singen im Garten")
TokenAttributionDisplay.from_estimator(XLMRobertaVectorizer("skxlmr-mini"), [pair], "shapley", random_state=0).plot()
plt.show()

# %%
# The title has the cosine, and what it is where all words are masked: 1, since the two texts are then all but the same. So
# most words lower it, each a little. *garden* and *Garten* hardly do, or even raise it: they fit together.
#
# With XLM-R base
# ---------------
#
# Only the checkpoint's name changes. A text of 35 tokens costs 32 passes forwards and backwards with integrated gradients,
# as many forwards as it has words with occlusion, and 16 times as many with Shapley values. Occlusion and Shapley values
# also work on what :func:`~skxlmr.load_onnx` opens. Test explanations with a planted rule before you rely on them.
