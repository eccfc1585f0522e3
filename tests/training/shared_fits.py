"""Fits that several processes share, on the tiny checkpoint; run in processes that ``tests.processes`` forks.

    python -m tests.training.shared_fits

prints how far two processes are from one.
"""

import tempfile
import time
import warnings
from datetime import timedelta
from pathlib import Path

import numpy as np
import torch
from torch import distributed as dist

import skxlmr
from skxlmr.text import SentencePieceTokenizer
from skxlmr.training import _distributed
from tests import processes
from tests.tiny import sentences, train, write_checkpoint

TEXTS = sentences(22)
CLASSES = np.arange(22) % 3
NUMBERS = np.linspace(-1, 1, 22)
WORDS = [text.split() for text in TEXTS]
TAGS = [[f"tag {len(word) % 3}" for word in row] for row in WORDS]
QUESTIONS = [(row[0], " ".join(row)) for row in WORDS]
ANSWERS = [{"text": row[-1], "answer_start": len(" ".join(row)) - len(row[-1])} for row in WORDS]
CHOICES = [(row[0], [row[-1], "no", "yes"][: 2 + len(row) % 2]) for row in WORDS]
PAIRS = list(zip(TEXTS, TEXTS[::-1], strict=True))
DIALOGUES = [[("user", a), ("system", b), ("user", c)] for a, b, c in zip(TEXTS, TEXTS[1:], TEXTS[2:], strict=False)]
WEIGHTS = np.random.default_rng(0).uniform(0, 2, 22) * (np.arange(22) % 5 > 0)

STILL = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
SHORT = {
    "max_epochs": 2,
    "batch_size": 8,  # 22 rows: the last batch has 6
    "learning_rate": 1e-3,
    "dtype": "float32",
    "device": "cpu",
    "random_state": 0,
}
CASES = {
    "classifier": (skxlmr.XLMRobertaClassifier, (TEXTS, CLASSES, WEIGHTS), {"class_weight": "balanced"}),
    "label smoothing": (skxlmr.XLMRobertaClassifier, (TEXTS, CLASSES), {"label_smoothing": 0.1, "max_grad_norm": 0.1}),
    "accumulation": (skxlmr.XLMRobertaClassifier, (TEXTS, CLASSES, WEIGHTS), {"batch_size": 3, "accumulate": 3}),
    "fewer rows than processes": (skxlmr.XLMRobertaClassifier, (TEXTS, CLASSES), {"batch_size": 1, "max_epochs": 1}),
    "a last batch of one row": (skxlmr.XLMRobertaClassifier, (TEXTS, CLASSES), {"batch_size": 7}),
    "early stopping": (
        skxlmr.XLMRobertaClassifier,
        (TEXTS, CLASSES),
        {"early_stopping": True, "validation_fraction": 0.3, "n_iter_no_change": 1, "max_epochs": 4},
    ),
    "whole vocabulary": (skxlmr.XLMRobertaClassifier, (TEXTS, CLASSES), {"subword_sampling": 0.2, "layer_decay": 0.9}),
    "frozen layers": (skxlmr.XLMRobertaClassifier, (TEXTS, CLASSES), {"n_frozen_layers": 1}),
    "adapters": (skxlmr.XLMRobertaClassifier, (TEXTS, CLASSES), {"lora_rank": 4}),
    "regressor": (skxlmr.XLMRobertaRegressor, (TEXTS, NUMBERS, WEIGHTS), {}),
    "tokens": (skxlmr.XLMRobertaTokenClassifier, (WORDS, TAGS, WEIGHTS), {}),
    "questions": (skxlmr.XLMRobertaQuestionAnswerer, (QUESTIONS, ANSWERS), {}),
    "choices": (skxlmr.XLMRobertaMultipleChoiceClassifier, (CHOICES, np.arange(22) % 2), {}),
    "masks": (skxlmr.XLMRobertaMaskedLM, (TEXTS,), {}),
    "alignment": (skxlmr.XLMRobertaMaskedLM, (PAIRS,), {"pair_objective": "alignment"}),
    "causal": (skxlmr.XLMRobertaCausalLM, (TEXTS,), {}),
    "dialogues": (skxlmr.XLMRobertaDialogueLM, (DIALOGUES,), {}),
    "dialogues, accumulated": (skxlmr.XLMRobertaDialogueLM, (DIALOGUES,), {"batch_size": 3, "accumulate": 2}),
    "vectors of classes": (skxlmr.XLMRobertaEmbedder, (TEXTS, CLASSES), {"batch_size": 4, "accumulate": 2}),
    "vectors of drawn pairs": (skxlmr.XLMRobertaEmbedder, (TEXTS, CLASSES, WEIGHTS), {"loss": "contrastive_pairs"}),
    "vectors of pairs": (skxlmr.XLMRobertaEmbedder, (PAIRS,), {}),
    "vectors of similarities": (skxlmr.XLMRobertaEmbedder, (PAIRS, NUMBERS, WEIGHTS), {}),
    "one dialogue a batch": (skxlmr.XLMRobertaDialogueLM, (DIALOGUES,), {"batch_size": 1, "accumulate": 3}),
}


def fitted(checkpoint, case, **changes):
    estimator, data, options = CASES[case]
    return estimator(str(checkpoint), **SHORT | options | changes).fit(*data)


def result_of(estimator):
    """Losses, scores, and all weights."""
    weights = {name: value.detach().clone() for name, value in estimator.module_.state_dict().items()}
    return {"losses": estimator.loss_curve_, "scores": estimator.validation_scores_, "weights": weights}


# Softmax does not change if all its inputs rise alike, so these have a gradient that is nothing but rounding, and Adam makes
# full steps of it.
EVERYWHERE = ("attention.self.key.bias",)
WITHOUT_GRADIENT = {
    "questions": (*EVERYWHERE, "qa_outputs.bias", "layer.1.output.LayerNorm.bias"),
    "choices": (*EVERYWHERE, "classifier.bias"),
}


def deviations(found, expected, without=()):
    """Largest relative difference of the losses, and largest difference of the weights, without those of these names."""
    assert len(found["losses"]) == len(expected["losses"]) and found["weights"].keys() == expected["weights"].keys()
    of_losses = np.abs(np.array(found["losses"]) / expected["losses"] - 1).max()
    of_weights = [
        (value - expected["weights"][name]).abs().max()
        for name, value in found["weights"].items()
        if not name.endswith(tuple(without))
    ]
    return float(of_losses), float(max(of_weights))


def run(function, *arguments, size=2, timeout=600, **environment):
    """Call ``function(rank, *arguments)`` in processes of one group; what each leaves."""
    with tempfile.TemporaryDirectory() as folder:
        started = [
            processes.Started(_in_group, (rank, size, str(Path(folder, "group")), function, arguments), environment)
            for rank in range(size)
        ]
        return [each.wait(timeout) for each in started]


def _in_group(rank, size, file, function, arguments):
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{file}", rank=rank, world_size=size, timeout=timedelta(seconds=300)
    )
    function(rank, *arguments)
    dist.destroy_process_group()


def each_case(rank, checkpoint, folder, cases):
    """Fit these cases, and write what comes out; some gradients are sent alone, and some together."""
    _distributed._SMALL = 1000
    warnings.simplefilter("ignore")
    for case in cases:
        torch.save(result_of(fitted(checkpoint, case)), Path(folder, f"{case} {rank}"))


def main():
    """Print the deviation of each case, and the seconds that one and two processes take."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = write_checkpoint(
            Path(folder, "checkpoint"), SentencePieceTokenizer(train(vocab_size=300)), **STILL
        )
        start = time.perf_counter()
        alone = {case: result_of(fitted(checkpoint, case)) for case in CASES}
        between = time.perf_counter()
        for done in run(each_case, checkpoint, folder, list(CASES)):
            assert done.exit_code == 0, done.stderr
        print(f"{len(CASES)} fits: {between - start:.1f} s, in two processes {time.perf_counter() - between:.1f} s")
        for case, expected in alone.items():
            first, second = (torch.load(Path(folder, f"{case} {rank}")) for rank in range(2))
            assert deviations(first, second) == (0, 0) and first["scores"] == second["scores"] == expected["scores"]
            of_losses, of_weights = deviations(first, expected, WITHOUT_GRADIENT.get(case, EVERYWHERE))
            print(f"{case:28} losses {of_losses:.1e}, weights {of_weights:.1e}")


if __name__ == "__main__":
    from tests.training import shared_fits  # so that the processes find its functions

    shared_fits.main()
