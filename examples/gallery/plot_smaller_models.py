"""
=================================
Smaller models, and what it costs
=================================

Most of a multilingual checkpoint is the table of its word embeddings, with a row for each of many thousand tokens of a
hundred languages. This page makes a model smaller in four ways (fewer rows, fewer bits, and both), and looks at what
becomes of its features.
"""

# %%
# The model as it is
# ------------------
#
# :class:`~skxlmr.XLMRobertaVectorizer` makes the features of 360 short reviews in ten languages.
# :func:`~skxlmr.save` writes it to a folder, with each number in the 32 bits that it is computed with.

import tempfile
from pathlib import Path

from skxlmr import XLMRobertaVectorizer, save
from skxlmr.datasets import load_reviews

reviews = load_reviews().frame
vectorizer = XLMRobertaVectorizer("skxlmr-mini").fit(reviews[["review"]])
features = vectorizer.transform(reviews[["review"]])

temporary = tempfile.TemporaryDirectory()
folder = Path(temporary.name)
save(vectorizer, folder / "as it is")

# %%
# Fewer bits for each number
# --------------------------
#
# ``dtype="bfloat16"`` keeps 16 of the 32 bits. It is a matter of the file alone: the model is still computed in float32.
# :func:`~skxlmr.convert` does the same to a checkpoint that is no fitted estimator.

from skxlmr import convert

save(vectorizer, folder / "bfloat16", dtype="bfloat16")
convert("skxlmr-mini", folder / "checkpoint", dtype="bfloat16")

# %%
# Fewer rows: the vocabulary of these texts
# -----------------------------------------
#
# :func:`~skxlmr.trim_vocabulary` keeps the tokens that some texts use, and every single character, so that other texts
# can still be spelled. Texts whose tokens all stay get the same features to the last bit. The report says how the texts
# of each language read.

from skxlmr import trim_vocabulary

by_language = {language: list(texts) for language, texts in reviews.groupby("language")["review"]}
report = trim_vocabulary(folder / "as it is", by_language, folder / "trimmed")
print(f"rows of the word embeddings: {report.n_rows_before:,} before, {report.n_rows_after:,} after")
print(report.to_frame()[["n_texts", "n_tokens", "identical", "n_unknown_before", "n_unknown_after"]])

# %%
# 8 bits, computed in whole numbers
# ---------------------------------
#
# :func:`~skxlmr.export_onnx` writes the model for ONNX Runtime, which needs no PyTorch. With ``precision="int8"`` its
# matrices are whole numbers of 8 bits, with a scale for each output. Here both the model as it is and the trimmed one,
# which :func:`~skxlmr.load` reads back from its folder.

from skxlmr import export_onnx, load

export_onnx(vectorizer, folder / "int8", precision="int8")
export_onnx(load(folder / "trimmed"), folder / "trimmed, int8", precision="int8")

# %%
# What it costs
# -------------
#
# Two measures: the smallest cosine between the features of a review before and after, and how many of the 360 reviews
# have the same nearest review as before, which a search by meaning is made of. Nearest neighbours are the strict one:
# the nearest two are often about as near.

import numpy as np
import pandas as pd

from skxlmr import load_onnx


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def nearest(vectors):
    """For each review the number of the one that is most similar to it."""
    cosines = unit(vectors) @ unit(vectors).T
    np.fill_diagonal(cosines, -1)
    return cosines.argmax(axis=1)


rows = {}
for name in ["as it is", "bfloat16", "trimmed", "int8", "trimmed, int8"]:
    read = load_onnx if "int8" in name else load
    made = read(folder / name).transform(reviews[["review"]])
    weights = [file for file in (folder / name).rglob("*") if file.suffix in (".safetensors", ".onnx", ".onnx_data")]
    rows[name] = {
        "megabytes": sum(file.stat().st_size for file in weights) / 1e6,
        "smallest cosine": (unit(made) * unit(features)).sum(axis=1).min(),
        "same nearest review": (nearest(made) == nearest(features)).mean(),
    }
table = pd.DataFrame(rows).T
print(table.round({"megabytes": 1, "smallest cosine": 4, "same nearest review": 3}).to_string())

# %%
# The trimmed model gives the very same features, as long as it reads texts like these.

import matplotlib.pyplot as plt

figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.4), sharey=True, layout="constrained")
names = table.index[::-1]
bars = left.barh(names, table.loc[names, "megabytes"], color="#1b4f8a")
left.bar_label(bars, fmt="%.1f", padding=3)
left.set(xlabel="size of the weights in MB", xlim=(0, 1.15 * table["megabytes"].max()))
shares = 100 * table.loc[names, "same nearest review"]
right.bar_label(right.barh(names, shares, color="#d98a3a"), fmt="%.1f", padding=3)
right.set(xlabel="reviews with the same nearest review, in %", xlim=(0, 115))
figure.suptitle("Five forms of one model")
plt.show()

# %%
# Adding the features to tables
# -----------------------------
#
# A small model is what one gives to many processes. :class:`~skxlmr.BatchPredictor` is a function of a table, for engines
# that have tables in pieces, such as Dask, Spark and Ray Data. It loads the folder once in each process. Here the pieces
# are those of a loop.

from skxlmr import BatchPredictor

add_features = BatchPredictor(folder / "trimmed, int8", text="review", output="vector")
table = reviews[["language", "review"]]
done = pd.concat(add_features(table.iloc[start : start + 100]) for start in range(0, len(table), 100))
print(done.iloc[:3].to_string(max_colwidth=40))
temporary.cleanup()

# %%
# With XLM-R base
# ---------------
#
# There the table of the embeddings has 250,002 rows of 768 numbers: 768 of 1,112 megabytes. So trimming pays most where
# the texts are of few languages, and int8 where the processor has instructions for it (AVX512-VNNI or AMX).
# Trim before you fine-tune or after, the result is the same; :doc:`/small_models` says which texts to trim by, and
# :doc:`/onnx` what the precisions are. What they cost your task is to be measured on your own data, as here.
