"""
=========================
How likely is a sentence?
=========================

A language model gives each text a probability. That tells sentences from what only looks like one: from words in the
wrong order, say. This page compares the two kinds of model that can be had from one checkpoint: the masked one, which
reads a text from both sides, and the causal one, which reads it from left to right and can write.
"""

# %%
# Sentences, and the same words in another order
# ----------------------------------------------
#
# Reviews in nine languages. Of each there are two more versions: with two neighbouring words exchanged, and with all
# words shuffled. (Japanese is left out: it has no spaces to cut it at.)

import numpy as np
import pandas as pd

from skxlmr.datasets import load_reviews

reviews = load_reviews().frame.query("language != 'ja'")
held_out = reviews.groupby("language").tail(5)
training = reviews.drop(held_out.index)
rng = np.random.default_rng(0)


def exchanged(text):
    words = text.split()
    i = rng.integers(len(words) - 1)
    words[i], words[i + 1] = words[i + 1], words[i]
    return " ".join(words)


def shuffled(text):
    return " ".join(rng.permutation(text.split()))


versions = pd.DataFrame(
    {
        "sentence": held_out["review"],
        "two words exchanged": held_out["review"].map(exchanged),
        "all words shuffled": held_out["review"].map(shuffled),
    }
)
for version, text in versions.iloc[0].items():
    print(f"{version:20} {text}")

# %%
# The masked model
# ----------------
#
# :class:`~skxlmr.XLMRobertaMaskedLM` needs no fit for this: ``from_checkpoint`` takes the checkpoint's own language
# modelling head. It was trained to fill masks, and it scores a text by masking each token in turn.

from skxlmr import XLMRobertaMaskedLM

masked = XLMRobertaMaskedLM.from_checkpoint("skxlmr-mini")
for text in ["The room was very <mask>.", "Das Zimmer war sehr <mask>."]:
    ((fillings,),) = masked.fill_mask([text], top_k=4)
    print(text, [filling["token_str"] for filling in fillings])

by_masked = versions.apply(masked.score_samples)

# %%
# The causal model
# ----------------
#
# :class:`~skxlmr.XLMRobertaCausalLM` turns the same checkpoint into a model that predicts each token from those before
# it. That is another task than the one that the encoder has learnt, so it needs a fit. ``validation_scores_`` has the
# mean log-likelihood of a token of the held-out sentences after each epoch; ``exp`` of its negative is the perplexity:
# among how many equally likely tokens the model chooses.

from skxlmr import XLMRobertaCausalLM

causal = XLMRobertaCausalLM("skxlmr-mini", max_epochs=3, learning_rate=1e-3, random_state=0)
causal.fit(training["review"], X_val=held_out["review"])
by_causal = versions.apply(causal.score_samples)
perplexity = np.exp(-np.array(causal.validation_scores_))
print("perplexity after each epoch:", perplexity.round())
print(causal.generate(["The room was"], max_new_tokens=8, include_prompt=True))

# %%
# Which one is the sentence?
# --------------------------
#
# For each changed version: how often does the sentence have the higher probability? Guessing is right half of the time.

changes = list(versions.columns[1:])
shares = pd.DataFrame(
    {
        name: {change: (scores["sentence"] > scores[change]).mean() for change in changes}
        for name, scores in [("masked", by_masked), ("causal", by_causal)]
    }
)
print(shares.round(2).to_string())

import matplotlib.pyplot as plt

figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained", width_ratios=[2, 3])
colours, hatches = {"masked": "#1b4f8a", "causal": "#e0a458"}, {"masked": None, "causal": "//"}
for i, name in enumerate(shares):
    bars = left.bar(
        np.arange(2) + 0.4 * i, 100 * shares[name], 0.38, color=colours[name], hatch=hatches[name], label=name
    )
    left.bar_label(bars, fmt="%.0f")
left.axhline(50, color="black", linestyle=":")
left.set_xticks(np.arange(2) + 0.2, changes)
left.set(ylabel="sentence found, in %", ylim=(0, 118), title="Which one is the sentence?")
left.legend(loc="upper left", ncols=2)

gain = (by_masked["sentence"] - by_masked["two words exchanged"]).groupby(held_out["language"])
languages = sorted(gain.groups)
right.boxplot(
    [gain.get_group(language) for language in languages], tick_labels=languages, medianprops={"color": "black"}
)
right.axhline(0, color="black", linestyle=":")
right.set(ylabel="log-likelihood lost (nats)", title="Two words exchanged, masked model")
plt.show()

# %%
# Shuffled words are told from a sentence nearly always. Two exchanged words are a harder question, and sometimes no fair
# one: an adverb may stand in several places. Five sentences of a language are few, so the boxes say little about one
# language against another.
#
# The causal model has read some 300 reviews for its new task. Its perplexity falls, and what it writes is no language yet.
#
# With XLM-R base
# ---------------
#
# ``XLMRobertaMaskedLM.from_checkpoint("FacebookAI/xlm-roberta-base")`` scores without a fit too, and has read 2.5
# terabytes of text. ``score_samples`` runs the model once for each token of a text: a GPU is worth having for
# more than some thousand sentences. A causal model wants many more texts and epochs (:doc:`/causal_lm`).
# ``fit`` of the masked one adapts it to the texts of a domain, before another estimator starts from it:
# :doc:`/user_guide` has it under "Masked language modelling".
