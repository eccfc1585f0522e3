"""
=============================
From a fit to a small server
=============================

A model that is fitted is of use to others once it answers requests. This page saves one, opens it with PyTorch and with ONNX
Runtime, measures how long batches take, and asks a server for answers. It needs the extras ``onnx`` and ``serve``; where
they are not installed, the part is left out, and says so.
"""

# %%
# A classifier
# ------------
#
# It says which language a review is in, so that a request reaches the right desk. ``memory=None``, since a server sees
# new texts all the time: the states of the frozen layers would be kept for nothing, and the times below would be those
# of looking up.

import numpy as np
from sklearn.model_selection import train_test_split

from skxlmr import XLMRobertaClassifier
from skxlmr.datasets import load_reviews

reviews = load_reviews().frame
X_train, X_test, y_train, y_test = train_test_split(
    reviews["review"], reviews["language"], test_size=120, stratify=reviews["language"], random_state=0
)
classifier = XLMRobertaClassifier(
    "skxlmr-mini", n_frozen_layers=3, learning_rate=1e-3, max_epochs=6, memory=None, random_state=0
)
classifier.fit(X_train, y_train)
print(f"accuracy on {len(X_test)} test rows: {classifier.score(X_test, y_test):.2f}")

# %%
# Save it
# -------
#
# :func:`~skxlmr.save` writes a folder without pickle, which ``transformers`` opens too. With ``onnx=True`` there is a
# model for ONNX Runtime beside the weights.

import importlib.util
import tempfile
from pathlib import Path

from skxlmr import load, load_onnx, save


def is_installed(*modules):
    return all(importlib.util.find_spec(module) for module in modules)


has_onnx = is_installed("onnx", "onnxruntime")
temporary = tempfile.TemporaryDirectory()
folder = Path(temporary.name) / "languages"
save(classifier, folder, onnx=has_onnx)
for file in sorted(folder.rglob("*")):
    if file.is_file():
        print(f"{file.relative_to(folder).as_posix():32} {file.stat().st_size / 1e6:6.2f} MB")

# %%
# Open it
# -------
#
# The loaded model gives the same probabilities to the last bit. ONNX Runtime rounds otherwise, and needs no PyTorch.

models = {"PyTorch": load(folder)}
if has_onnx:
    models["ONNX Runtime"] = load_onnx(folder)
else:
    print('ONNX Runtime is left out: pip install "skxlmr[onnx]"')
expected = classifier.predict_proba(X_test)
for name, model in models.items():
    difference = np.abs(model.predict_proba(X_test) - expected).max()
    print(f"{name}: " + ("equal to the last bit" if difference == 0 else f"equal to 1e-4: {difference < 1e-4}"))

# %%
# How long does a batch take?
# ---------------------------
#
# The median of seven calls, in milliseconds, tokenisation included. These are the times of the machine that made this
# page, with whatever else it was doing: run it on yours.

import time

import matplotlib.pyplot as plt

texts, sizes = list(X_test), [1, 2, 4, 8, 16, 32, 64]


def milliseconds(model, size):
    times = []
    for i in range(8):
        batch = texts[i : i + size]
        start = time.perf_counter()
        model.predict(batch)
        times.append(1000 * (time.perf_counter() - start))
    return min(times[1:])  # the first one warms up; others may wait for what else the machine does


figure, (left, right) = plt.subplots(1, 2, figsize=(8.4, 3.6), layout="constrained")
for (name, model), style in zip(models.items(), ["o-", "s--"], strict=False):
    took = np.array([milliseconds(model, size) for size in sizes])
    left.plot(sizes, took, style, label=name)
    right.plot(sizes, took / sizes, style, label=name)
for ax, title in [(left, "A call"), (right, "A text")]:
    ax.set_xscale("log", base=2)
    ax.set(xlabel="texts in a call", ylabel="milliseconds", title=title, xticks=sizes, xticklabels=sizes)
    ax.set_ylim(bottom=0)
    ax.legend()
plt.show()

# %%
# A call has costs of its own, and the rows of a batch share them: a server should collect what arrives at the same time.
# Which of the two is faster depends on the processor, the size of the model and how many threads are free: those of ONNX
# Runtime wait for one another where other programs compute, such as a second script while this page is built.
#
# Ask a server
# ------------
#
# ``examples/serve.py`` does that. It is one file to copy and change: one thread computes, and texts of requests that
# arrive together are computed together. Here it runs as a process of its own, on a port that is free, until the
# questions are asked.

import json
import re
import subprocess
import sys
from urllib.request import Request, urlopen

script = Path(sys.argv[0]).resolve().parent.parent / "serve.py"


def ask(port, path, body=None):
    address = f"http://127.0.0.1:{port}{path}"
    request = Request(address, None if body is None else json.dumps(body).encode())
    with urlopen(request, timeout=60) as answer:
        return json.load(answer)


if not script.exists():
    print("The server is left out: serve.py is in the folder examples of the repository.")
elif not is_installed("fastapi", "uvicorn"):
    print('The server is left out: pip install "skxlmr[serve]"')
else:
    command = [sys.executable, str(script), "--model", str(folder), "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        try:
            ready = next(match for line in server.stderr if (match := re.search(r"running on http://.*:(\d+)", line)))
            answer = ask(ready[1], "/predict", {"texts": ["Der Akku hält zwei Tage.", "La batería dura dos días."]})
            for label, proba in zip(answer["labels"], answer["probabilities"], strict=True):
                print(f"{label}  {max(proba):.2f}")
            health = ask(ready[1], "/health")
            print({key: health[key] for key in ("status", "estimator", "requests", "texts", "batches")})
        finally:
            server.terminate()  # SIGTERM: it answers what has arrived, and ends
            server.communicate()

temporary.cleanup()

# %%
# :doc:`/serving` says what it answers and refuses, how it ends, and how it runs in a container.
#
# With XLM-R base
# ---------------
#
# Leave out ``checkpoint``, ``learning_rate`` and ``max_epochs``. The layers are then some 50 times the work, so the
# costs of a call hardly count on a CPU, and batches pay off on a GPU. ``export_onnx(classifier, folder,
# precision="int8")`` makes a quarter of the size and is faster on CPUs with 8-bit instructions; :doc:`/onnx` has the
# figures, and what int8 costs. With :func:`~skxlmr.trim_vocabulary` the word embeddings shrink to the languages that
# you serve.
