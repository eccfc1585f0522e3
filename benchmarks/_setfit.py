"""SetFit's fits for few_shot.py, in a Python of its own: a JSON object on standard input, one on standard output.

It imports nothing of this library, whose versions of torch and transformers may be others.
"""

import contextlib
import importlib.metadata
import json
import sys
import tempfile
import time


def fit(task, job):
    """A model from the folder of its body, trained by SetFit's own Trainer."""
    from datasets import Dataset
    from setfit import SetFitModel, Trainer, TrainingArguments

    texts, labels = job["train"]
    model = SetFitModel.from_pretrained(task["body"], labels=sorted(set(labels)))
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            num_epochs=1,
            body_learning_rate=task["learning_rate"],
            max_steps=task["max_steps"],
            seed=job["seed"],
            report_to="none",
            save_strategy="no",
            show_progress_bar=False,
        )
        Trainer(model, arguments, train_dataset=Dataset.from_dict({"text": texts, "label": labels})).train()
    return model


def score(task, job):
    """Accuracy, and seconds of the fit."""
    start = time.perf_counter()
    model = fit(task, job)
    seconds = time.perf_counter() - start
    texts, labels = job["test"]
    predicted = model.predict(texts, batch_size=32, show_progress_bar=False)
    right = [found == label for found, label in zip(predicted, labels, strict=True)]
    return sum(right) / len(right), seconds


def main():
    import torch

    task = json.load(sys.stdin)
    if task["threads"]:
        torch.set_num_threads(task["threads"])
    results = []
    with contextlib.redirect_stdout(sys.stderr):
        warm_up = {"train": (["a", "b"] * 4, ["0", "1"] * 4), "seed": 0}
        fit(task | {"max_steps": 1}, warm_up)  # what is loaded once is no part of a fit
        for number, job in enumerate(task["jobs"], start=1):
            results.append(score(task, job))
            print(f"SetFit: {number} of {len(task['jobs'])} fits, {results[-1]}", flush=True)
    packages = ("setfit", "sentence-transformers", "transformers", "torch")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages)
    print(json.dumps({"results": results, "versions": f"{versions}, {torch.get_num_threads()} threads"}))


if __name__ == "__main__":
    main()
