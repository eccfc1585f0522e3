"""Whole fits beside training with sentence-transformers: its model from the same folder, its losses, PyTorch's AdamW.

Thirty steps over the same rows: the losses of the steps and the final weights are compared.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest
import torch
import transformers
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer import losses

from skxlmr import XLMRobertaEmbedder
from skxlmr.nn.randomness import random_state
from skxlmr.training.step import TrainStep
from tests.setfit import supcon_of_setfit
from tests.tiny import sentences

N_STEPS, N_ROWS, RATE, DECAY, WIDTH = 30, 50, 1e-3, 0.01, 32
SETTINGS = {"batch_size": 10, "max_epochs": 6, "learning_rate": RATE, "weight_decay": DECAY, "warmup_ratio": 0.1}
TOLERANCE = 1e-5  # of a loss, of a weight and of a feature in the end; found: 4e-6, 2e-6, 3e-6
WIDTHS = {"matryoshka_dims": (32, 16, 5)}
SYMMETRIC = {"directions": ("query_to_doc", "doc_to_query"), "partition_mode": "per_direction"}
ranking = partial(losses.MultipleNegativesRankingLoss, **SYMMETRIC)
cached_ranking = partial(losses.CachedMultipleNegativesRankingLoss, mini_batch_size=5, **SYMMETRIC)


def of_widths(make_loss):
    return lambda model: losses.MatryoshkaLoss(model, make_loss(model), WIDTHS["matryoshka_dims"])


def distinct(seed):
    return list(dict.fromkeys(sentences(4 * N_ROWS, seed)))[:N_ROWS]


def drawn(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


COLUMNS = [distinct(seed) for seed in range(3)]
CLASSES, SCORES, TEACHER = np.arange(N_ROWS) % 4, np.tanh(drawn(N_ROWS)), drawn(N_ROWS, WIDTH)
CACHED = {"batch_size": 5, "accumulate": 2}  # the rows of a step in two batches
OF_CLASSES = {"batch_size": 9, "max_epochs": 5}  # steps of pairs of a class, and a row more in some


@dataclass
class Case:
    """Columns of X, y, parameters, and the reference's loss."""

    n_columns: int
    y: np.ndarray | None
    params: dict
    make_loss: Callable
    slow: bool = True


CASES = {
    "ranking": Case(2, None, {}, ranking),
    "hard negatives": Case(3, None, {}, ranking),
    "gradient caching": Case(3, None, CACHED, ranking, slow=False),
    "gradient caching in both": Case(3, None, CACHED, cached_ranking),
    "cosent": Case(2, SCORES, {}, losses.CoSENTLoss),
    "cosent, gradient caching": Case(2, SCORES, CACHED, losses.CoSENTLoss),
    "cosine": Case(2, SCORES, {"loss": "cosine"}, losses.CosineSimilarityLoss),
    "supervised contrastive": Case(1, CLASSES, OF_CLASSES, supcon_of_setfit),
    "contrastive pairs": Case(1, CLASSES, {"loss": "contrastive_pairs"}, losses.CosineSimilarityLoss),
    "distillation": Case(1, TEACHER, {}, losses.MSELoss),
    "distillation, wider teacher": Case(
        1, drawn(N_ROWS, 40), {}, partial(losses.MSELoss, projection_dim=40), slow=False
    ),
    "ranking, widths": Case(3, None, WIDTHS, of_widths(ranking)),
    "gradient caching in both, widths": Case(3, None, CACHED | WIDTHS, of_widths(cached_ranking)),
    "cosent, widths": Case(2, SCORES, WIDTHS, of_widths(losses.CoSENTLoss)),
    "supervised contrastive, widths": Case(1, CLASSES, OF_CLASSES | WIDTHS, of_widths(supcon_of_setfit)),
    "distillation, widths": Case(1, TEACHER, WIDTHS, of_widths(losses.MSELoss)),
}


@dataclass
class Step:
    """Batches and loss of a step of a fit; before it, the generator's state and the weights of the layer after the pooling."""

    batches: list
    loss: float
    state: torch.Tensor
    dense: dict


@pytest.fixture
def seen(monkeypatch):
    """The steps of a fit."""
    steps, run = [], TrainStep.run

    def watched(step, batches, factor):
        state = random_state(torch.device("cpu"))[0]
        layers = getattr(step.module, "sentence", None)
        dense = {} if layers is None else {name: p.detach().clone() for name, p in layers[0].linear.named_parameters()}
        loss, _ = result = run(step, batches, factor)
        steps.append(Step(batches.step.batches, loss, state, dense))
        return result

    monkeypatch.setattr(TrainStep, "run", watched)
    return steps


class Given(torch.nn.Module):
    """Stands for the model in a loss, of vectors that it has made already."""

    def forward(self, features):
        return {"sentence_embedding": features["vectors"]}

    def get_embedding_dimension(self):
        return WIDTH


class Vocabulary:
    """Whose word embeddings alone are trained in a fit, under new numbers: the ids and the texts of rows of these."""

    def __init__(self, embedder, columns):
        self.texts = [text for column in columns for text in column]
        encoded = embedder.tokenizer_.encode_batch(self.texts)
        self.used = torch.from_numpy(np.unique(encoded.ids).astype(np.int64))
        self.text_of = {tuple(encoded.row(i).tolist()): text for i, text in enumerate(self.texts)}

    def sequences_of(self, batch):
        """The ids of each text of a batch, in its order."""
        return self.used[batch.ids].split(batch.layout.lengths)


def from_texts(model, batches, vocabulary):
    """What a loss is computed from: the texts of the items, read by the model's own tokenizer."""
    items = []
    for batch in batches:
        texts = [vocabulary.text_of[tuple(ids.tolist())] for ids in vocabulary.sequences_of(batch)]
        items += [[texts[place] for place in places] for places in batch.targets["place"].tolist()]
    return [model.preprocess(list(column)) for column in zip(*items, strict=True)]


def vectors_of(model, batches, vocabulary):
    """The same as vectors that the model makes of each batch at once, in its order, so that dropout is drawn alike."""
    vectors = []
    for batch in batches:
        ids = torch.stack(vocabulary.sequences_of(batch))
        made = model({"input_ids": ids, "attention_mask": torch.ones_like(ids)})["sentence_embedding"]
        vectors.append(made[batch.targets["place"]])
    return [{"vectors": column} for column in torch.cat(vectors).unbind(1)]


def trained(folder, make_loss, vocabulary, steps, dropout=False):
    """The losses of these steps with sentence-transformers, its model after them, and what the loss has learnt."""
    model = SentenceTransformer(str(folder), device="cpu").train()
    loss_of, values = make_loss(Given() if dropout else model), []
    projection = getattr(loss_of, "projection", None) or torch.nn.ParameterDict()
    if steps[0].dense:
        projection.load_state_dict(steps[0].dense)
    groups = [
        {"params": [parameter], "weight_decay": 0.0 if name.endswith("bias") or "LayerNorm" in name else DECAY}
        for name, parameter in [*model.named_parameters(), *projection.named_parameters()]
    ]
    optimizer = torch.optim.AdamW(groups, lr=RATE)
    scheduler = transformers.get_linear_schedule_with_warmup(optimizer, N_STEPS // 10, N_STEPS)
    for step in steps:
        torch.set_rng_state(step.state)
        features = (vectors_of if dropout else from_texts)(model, step.batches, vocabulary)
        loss = loss_of(features, torch.cat([batch.targets["y"] for batch in step.batches]))
        loss.backward()
        torch.nn.utils.clip_grad_norm_([group["params"][0] for group in groups], 1.0)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
        values.append(loss.item())
    return values, model.eval(), projection


def fitted(case, make, folder, columns=COLUMNS):
    """The embedder of a case, and its vocabulary."""
    columns = columns[: case.n_columns]
    X = columns[0] if case.n_columns == 1 else list(zip(*columns, strict=True))
    embedder = make(XLMRobertaEmbedder, folder, **SETTINGS | case.params).fit(X, case.y)
    return embedder, Vocabulary(embedder, columns)


def assert_weights_agree(embedder, model, vocabulary):
    """But for word embeddings that no text uses, which decay in the reference, and biases of keys.

    These change no attention, so that their gradients are zero but for rounding, which AdamW turns into steps.
    """
    ours = {name.removeprefix("roberta."): tensor for name, tensor in embedder.module_.state_dict().items()}
    theirs, compared = model[0].auto_model.state_dict(), 0
    for name, found in ours.items():
        if not name.endswith("key.bias") and not name.startswith("sentence"):
            kept = vocabulary.used if "word_embeddings" in name else slice(None)
            torch.testing.assert_close(found[kept], theirs[name][kept], rtol=0, atol=TOLERANCE)
            compared += 1
    assert compared == 35


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * case.slow) for name, case in CASES.items()]
)
def test_thirty_steps_of_sentence_transformers(make, still_checkpoint, seen, name):
    case = CASES[name]
    embedder, vocabulary = fitted(case, make, still_checkpoint)
    expected, model, projection = trained(still_checkpoint, case.make_loss, vocabulary, seen)
    assert len(expected) == N_STEPS and np.mean(expected[-5:]) < 0.95 * np.mean(expected[:5])
    np.testing.assert_allclose([step.loss for step in seen], expected, rtol=0, atol=TOLERANCE)
    assert_weights_agree(embedder, model, vocabulary)
    vectors = torch.from_numpy(model.encode(COLUMNS[0]))
    if seen[0].dense:
        vectors = projection(vectors)
        assert (projection.weight - seen[0].dense["weight"]).abs().max() > 0.01  # it learns too
    np.testing.assert_allclose(embedder.transform(COLUMNS[0]), vectors.detach(), rtol=0, atol=TOLERANCE)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gradient caching", "cosent, widths", "supervised contrastive", "distillation"])
def test_thirty_steps_with_dropout(make, tiny_checkpoint, tiny_tokenizer, seen, name):
    """Of texts of one length, so that the reference draws for no padding."""
    case, texts = CASES[name], list(dict.fromkeys(sentences(6000)))
    lengths = tiny_tokenizer.encode_batch(texts).lengths
    texts = [text for text, length in zip(texts, lengths, strict=True) if length == 16][: 3 * N_ROWS]
    columns = [texts[i::3] for i in range(3)]
    embedder, vocabulary = fitted(case, make, tiny_checkpoint, columns)
    expected, model, _ = trained(tiny_checkpoint, case.make_loss, vocabulary, seen, dropout=True)
    np.testing.assert_allclose([step.loss for step in seen], expected, rtol=0, atol=TOLERANCE)
    assert_weights_agree(embedder, model, vocabulary)
    without, _, _ = trained(tiny_checkpoint, case.make_loss, vocabulary, seen[:3])
    assert np.abs(np.array(without)[:, None] - expected[:3]).min() > TOLERANCE


def halves(make_loss):
    """The loss of each half of the rows alone, as accumulated batches without gradient caching have it."""

    def make(model):
        loss_of = make_loss(model)

        def loss(features, labels):
            parts = [[{name: column[name][half] for name in ("input_ids", "attention_mask")} for column in features]
                     for half in (slice(5), slice(5, 10))]  # fmt: skip
            return sum(loss_of(part, labels) for part in parts) / 2

        return loss

    return make


FAULTS = {
    "one direction": losses.MultipleNegativesRankingLoss,
    "another scale": partial(ranking, scale=19.0),
    "negatives of the batch alone": halves(ranking),
}


def test_the_comparison_finds_planted_faults(make, still_checkpoint, seen):
    case = CASES["gradient caching"]
    _, vocabulary = fitted(case, make, still_checkpoint)
    found = np.array([step.loss for step in seen[:3]])
    for fault, make_loss in FAULTS.items():
        expected, _, _ = trained(still_checkpoint, make_loss, vocabulary, seen[:3])
        assert np.abs(found - expected).max() > 100 * TOLERANCE, fault
