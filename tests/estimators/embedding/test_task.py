"""Batches of texts that are compared, and their losses: of the right vectors, weighted, over all batches of a step."""

from collections import Counter

import numpy as np
import pytest
import torch

from skxlmr import XLMRobertaEmbedder
from skxlmr.estimators._embedding import task as tasks
from skxlmr.estimators._embedding.task import TASKS, ContrastivePairsTask
from skxlmr.estimators._fine_tuning.training_rows import TrainingRows
from skxlmr.nn import losses
from skxlmr.text import EncodedBatch
from skxlmr.training._gradient_cache import batch_losses
from skxlmr.training._task import JointTask, TaskOfSteps
from tests import sentence_encoders
from tests.tiny import sentences

TEXTS = sentences(24)
CODES = np.arange(24) % 3
NUMBERS = np.linspace(-1, 1, 24)
TEACHER = np.random.default_rng(0).normal(size=(24, 32))
DATA = {  # X and y for each loss
    "supervised_contrastive": (TEXTS, CODES),
    "contrastive_pairs": (TEXTS, CODES),
    "multiple_negatives_ranking": (list(zip(TEXTS, [*TEXTS[1:], "and now"], TEXTS[::-1], strict=True)), None),
    "cosent": (list(zip(TEXTS, TEXTS[::-1], strict=True)), NUMBERS),
    "cosine": (list(zip(TEXTS, TEXTS[::-1], strict=True)), NUMBERS),
    "distillation": (TEXTS, TEACHER),
}
each_loss = pytest.mark.parametrize("loss", TASKS)
JOINT = {"supervised_contrastive", "multiple_negatives_ranking", "cosent"}


def numbered(module, ids, layout):
    """The number of each text as its vector (S, 1): texts are rows of one token, which is their number."""
    return ids[:, None].double()


def make_task(kind, n_rows=10, n_columns=1, targets=None, weights=None):
    columns = [
        EncodedBatch(np.arange(n_rows) + 100 * k, np.ones(n_rows, np.int64), np.zeros(n_rows, np.int64))
        for k in range(n_columns)
    ]
    targets = np.arange(n_rows) % 3 if targets is None else targets
    weights = np.ones(n_rows, "f4") if weights is None else weights
    return kind(columns, targets, weights, numbered, 0.05)


def test_what_the_loop_asks_of_a_task():
    for name, kind in TASKS.items():
        made = make_task(kind, targets=np.arange(20).reshape(10, 2) if name.startswith("multiple") else None)
        assert isinstance(made, JointTask) and isinstance(made, TaskOfSteps) and made.compares_rows == (name in JOINT)
        assert sorted(np.concatenate(made.rows_of_steps(5, np.random.default_rng(0))).tolist()) == list(range(10))


@pytest.mark.parametrize("n_columns", [1, 2, 3])
def test_vectors_stand_in_the_order_of_rows_and_columns(n_columns):
    made = make_task(tasks.CosineTask, n_columns=n_columns, weights=np.arange(10, dtype="f4"))
    rows = np.array([7, 2, 5])
    batch = made.collate(rows, np.random.default_rng(0))
    expected = rows[:, None] + 100 * np.arange(n_columns)
    np.testing.assert_array_equal(made.vectors(None, batch)[..., 0], expected)
    assert batch.rows["loss"].tolist() == [7, 2, 5] and batch.totals == {"loss": 14}
    assert batch.targets["y"].tolist() == [1, 2, 2] and batch.targets["weights"].tolist() == [7, 2, 5]
    part = made.collate(rows, np.random.default_rng(0), slice(1, 3))
    np.testing.assert_array_equal(made.vectors(None, part)[..., 0], expected[1:])


def test_pairs_of_classes_are_drawn_for_each_row():
    codes = np.array([0, 0, 1, 1, 1, 2, 0, 3, 1, 2])
    weights = np.arange(1, 11, dtype="f4")
    made, rng = make_task(ContrastivePairsTask, targets=codes, weights=weights), np.random.default_rng(0)
    drawn = Counter()
    for _ in range(300):
        batch = made.collate(np.arange(10)[::-1], rng)
        pairs = made.vectors(None, batch)[..., 0].long().numpy()
        assert pairs[:, 0].tolist() == np.arange(10)[::-1].repeat(2).tolist() == batch.rows["loss"].tolist()
        assert batch.targets["y"].tolist() == [1, 0] * 10
        assert len(batch.ids) == len(np.unique(pairs)) <= 10  # each text is encoded once
        found = batch.targets["weights"].numpy()
        for (a, b), y, weight in zip(pairs.tolist(), batch.targets["y"].tolist(), found.tolist(), strict=True):
            if weight:
                assert a != b and (codes[a] == codes[b]) == y and weight == weights[a] * weights[b]
                drawn[a, b] += 1
            else:  # class 3 has one row
                assert a == 7 and y == 1
    for a in range(10):
        same = [b for b in range(10) if b != a and codes[b] == codes[a]]
        other = [b for b in range(10) if codes[b] != codes[a]]
        for partners in (same, other):
            assert all(drawn[a, b] > 100 / len(partners) for b in partners)
            assert sum(drawn[a, b] for b in partners) == (300 if partners else 0)


def test_parts_and_accumulated_batches_draw_what_one_large_batch_does():
    made, rows = make_task(ContrastivePairsTask), np.array([3, 1, 4, 5, 9, 2])

    def pairs(*parts, rng):
        return torch.cat([made.vectors(None, made.collate(of_batch, rng, part)) for of_batch, part in parts]).tolist()

    whole = pairs((rows, slice(None)), rng=np.random.default_rng(5))
    assert whole == pairs((rows[:2], slice(None)), (rows[2:], slice(None)), rng=np.random.default_rng(5))
    state = np.random.default_rng(5).bit_generator.state
    halves = []
    for part in (slice(0, 4), slice(4, 6)):
        rng = np.random.default_rng()
        rng.bit_generator.state = state
        halves += pairs((rows, part), rng=rng)
    assert halves == whole


def test_a_row_alone_with_its_class_has_no_weight():
    made = make_task(tasks.SupervisedContrastiveTask, targets=np.array([0] * 5 + [1] + [2] * 4))
    assert made.weights.tolist() == [1] * 5 + [0] + [1] * 4
    assert made.collate(np.arange(10), np.random.default_rng(0)).totals == {"loss": 9}


WEIGHTS = np.linspace(1, 2, 24).astype("f4")


def task_of(loss, checkpoint, **params):
    """An estimator with the checkpoint's weights, and its task for the rows of a loss."""
    X, y = DATA[loss]
    made = XLMRobertaEmbedder.from_checkpoint(checkpoint, loss=loss, dtype="float32", **params)
    texts = made._check_X(X, reset=False)
    rows = TrainingRows(made._encode_training(texts), made._check_targets(y, texts, WEIGHTS, reset=True), WEIGHTS)
    return made, made._make_task(rows), X


EXPECTED = {  # the mean loss of vectors (N, K, D)
    "supervised_contrastive": lambda v, y, w: losses.supervised_contrastive(v[:, 0], y, 0.3),
    "multiple_negatives_ranking": lambda v, y, w: losses.multiple_negatives_ranking(
        v[:, 0], v[:, 1], v[:, 2], scale=1 / 0.3
    ),
    "cosent": lambda v, y, w: losses.cosent(v[:, 0], v[:, 1], y, 1 / 0.3, w),
    "cosine": lambda v, y, w: losses.cosine_squared_error(v[:, 0], v[:, 1], y),
    "distillation": lambda v, y, w: losses.distillation(v[:, 0], y[:, : v.shape[2]]),
}


@pytest.mark.parametrize("loss", EXPECTED)
def test_the_loss_is_that_of_the_vectors_of_transform(still_checkpoint, loss):
    made, task, X = task_of(loss, still_checkpoint, temperature=0.3, normalize=True, prompt="the: ", pooling="max")
    vectors = torch.from_numpy(made.transform(X).reshape(24, -1, 32))
    batch = task.collate(np.arange(24), np.random.default_rng(0))
    target, weight = batch.targets["y"], batch.targets["weights"]
    with torch.no_grad():
        found = task.losses(made.module_, batch)["loss"]
    torch.testing.assert_close(found, EXPECTED[loss](vectors, target, weight) * weight, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "params",
    [{}, {"normalize": True}, {"truncate_dim": 7}, {"truncate_dim": 7, "normalize": True}, {"prompt": None}],
    ids=str,
)
def test_vectors_in_a_fit_are_those_of_transform(still_checkpoint, tmp_path, params):
    pooling = sentence_encoders.one_key("mean", include_prompt=False)
    layers = [("Dense", sentence_encoders.dense(32, 12)), ("Normalize", {})]
    settings = {"prompts": {"query": "the cat: "}, "default_prompt_name": "query"}
    sentence_encoders.write(
        tmp_path / "encoder", still_checkpoint, pooling, layers, config_sentence_transformers=settings
    )
    made, task, X = task_of("supervised_contrastive", tmp_path / "encoder", **params)
    batch = task.collate(np.arange(24), np.random.default_rng(0))
    with torch.no_grad():
        found = task.vectors(made.module_, batch)[:, 0]
    np.testing.assert_allclose(found, made.transform(X), rtol=0, atol=1e-6)


@pytest.mark.parametrize("loss", EXPECTED)
def test_matryoshka_adds_the_losses_of_first_features(still_checkpoint, loss):
    made, task, X = task_of(loss, still_checkpoint, temperature=0.3, matryoshka_dims=[32, 8, 3])
    vectors = torch.from_numpy(made.transform(X).reshape(24, -1, 32))
    batch = task.collate(np.arange(24), np.random.default_rng(0))
    target, weight = batch.targets["y"], batch.targets["weights"]
    expected = 0
    for width in (32, 8, 3):
        cut = torch.nn.functional.normalize(vectors[..., :width], dim=-1)
        expected = expected + EXPECTED[loss](cut, target, weight) * weight
    with torch.no_grad():
        found = task.losses(made.module_, batch)["loss"]
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def step(module, task, batch_size, n_rows=24):
    """Mean loss and gradients of one step over all rows in such batches, and how many texts were encoded each time."""
    module.zero_grad()
    rng, counts, vectors_of = np.random.default_rng(0), [], task.vectors_of

    def counting(module, ids, layout):
        counts.append(len(layout.lengths))
        return vectors_of(module, ids, layout)

    task.vectors_of = counting
    batches = [task.collate(np.arange(first, first + batch_size), rng) for first in range(0, n_rows, batch_size)]
    total, mean = sum(batch.totals["loss"] for batch in batches), 0.0
    for _, terms in batch_losses(module, task, batches, torch.device("cpu"), None):
        part = terms["loss"].sum() / total
        part.backward()
        mean += part.item()
    task.vectors_of = vectors_of
    return mean, {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}, counts


@each_loss
def test_accumulated_batches_act_as_one_large_batch(still_checkpoint, loss):
    """Loss and gradients in float64; batches of rows that are compared are encoded twice, others once."""
    made, task, X = task_of(loss, still_checkpoint)
    module = made.module_.double()
    mean, expected, counts = step(module, task, 24)
    found_mean, found, of_parts = step(module, task, 6)
    assert found_mean == pytest.approx(mean, rel=1e-12) and found.keys() == expected.keys()
    scale = max(gradient.abs().max().item() for gradient in expected.values())
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=0, atol=1e-10 * scale, msg=name)
    assert len(counts) == 1 and len(of_parts) == (8 if loss in JOINT else 4)
    if loss != "contrastive_pairs":  # of which the texts of a batch are drawn
        n_columns = len(X[0]) if isinstance(X[0], tuple) else 1
        assert counts == [24 * n_columns] and of_parts == [6 * n_columns] * len(of_parts)


def test_a_fit_of_2_times_4_equals_one_of_8(still_checkpoint):
    X, _ = DATA["multiple_negatives_ranking"]
    params = {"max_epochs": 2, "learning_rate": 1e-4, "random_state": 0, "dtype": "float32"}
    eight, twice = (
        XLMRobertaEmbedder(still_checkpoint, batch_size=batch_size, accumulate=8 // batch_size, **params).fit(X)
        for batch_size in (8, 2)
    )
    np.testing.assert_allclose(twice.loss_curve_, eight.loss_curve_, rtol=1e-6)
    alone = XLMRobertaEmbedder(still_checkpoint, batch_size=2, **params).fit(X)
    assert abs(alone.loss_curve_[0] - eight.loss_curve_[0]) > 0.1
