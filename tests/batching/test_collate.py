"""Batches and their targets: what is masked, what belongs to which row, and that order and weights mean what they should."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from skxlmr.batching import concatenate, pack
from skxlmr.estimators._language.task import MaskedLMTask
from skxlmr.estimators._sequence.task import SequenceTask
from skxlmr.nn import losses
from tests.nn.reference import TINY, assert_gradients_agree, make_pair

from .rows import BOS, EOS, MASK, TOKENIZER, VOCAB_SIZE, padded, random_rows


def rng(seed=0):
    return np.random.default_rng(seed)


def split(batch):
    """Ids of each sequence of a batch."""
    return [part.tolist() for part in batch.ids.split(batch.layout.lengths)]


def ones(n):
    return np.ones(n, np.float32)


# Packing --------------------------------------------------------------------------------------------------------------


def test_pack_and_concatenate():
    both = concatenate(random_rows([3, 5]), random_rows([2], seed=1))
    ids, layout = pack(both)
    assert ids.dtype == torch.int64 and layout.lengths == [3, 5, 2]
    assert ids.tolist() == both.ids.tolist() and len(both.n_dropped) == 3
    assert both.row(2).tolist() == random_rows([2], seed=1).row(0).tolist()
    assert both.second_starts is both.n_dropped_is_minimum is None
    cut = replace(random_rows([4, 2]), second_starts=np.array([2, 1]), n_dropped_is_minimum=np.array([False, True]))
    both = concatenate(random_rows([3]), cut)
    assert both.second_starts.tolist() == [3, 2, 1]
    assert both.n_dropped_is_minimum.tolist() == [False, False, True]


# One target a row -----------------------------------------------------------------------------------------------------


def sequence_task(encoded, weights=None, seed=0):
    targets = rng(seed).integers(0, 3, len(encoded))
    return SequenceTask(encoded, targets, ones(len(encoded)) if weights is None else weights, losses.cross_entropy)


def test_targets_weights_and_rows_stay_together():
    encoded = random_rows([4, 9, 2, 7])
    task = SequenceTask(encoded, np.arange(4), np.array([1, 2, 3, 4], np.float32), losses.cross_entropy)
    batch = task.collate(np.array([2, 3, 1]), rng())
    assert batch.rows["loss"].tolist() == [1, 3, 2]  # longest first
    assert split(batch) == [encoded.row(i).tolist() for i in (1, 3, 2)]
    assert batch.targets["y"].tolist() == [1, 3, 2]
    assert batch.targets["weights"].tolist() == [2, 4, 3]
    assert batch.totals == {"loss": 9.0}
    assert batch.to(torch.device("cpu")) is batch
    moved = batch.to(torch.device("meta"))
    assert moved.ids.is_meta and all(target.is_meta for target in moved.targets.values())
    assert moved.layout.lengths == batch.layout.lengths and moved.layout.device.type == "meta"


def test_losses_of_rows_do_not_depend_on_their_order():
    task, (module, _) = sequence_task(random_rows([4, 9, 2, 7])), make_pair("seqcls", dtype=torch.float64)
    values = {}
    for rows in ([0, 1, 2, 3], [3, 0, 2, 1], [1], [2, 0]):
        batch = task.collate(np.array(rows), rng())
        with torch.no_grad():
            found = task.losses(module, batch)["loss"]
        assert found.dtype == torch.float64
        for row, value in zip(batch.rows["loss"], found, strict=True):
            assert value.item() == pytest.approx(values.setdefault(row, value.item()), abs=1e-12)
    assert len(values) == 4


def gradients(task, rows):
    module, _ = make_pair("seqcls", dtype=torch.float64)
    batch = task.collate(np.array(rows), rng())
    (task.losses(module, batch)["loss"].sum() / batch.totals["loss"]).backward()
    return module


def test_a_weight_is_a_number_of_repetitions():
    encoded, weights = random_rows([5, 8, 3]), np.array([3, 1, 2], np.float32)
    weighted = sequence_task(encoded, weights)
    repeated = sequence_task(encoded)
    assert_gradients_agree(gradients(weighted, [0, 1, 2]), gradients(repeated, [0, 0, 0, 1, 2, 2]), 1e-12)


def test_rows_of_weight_zero_do_not_count():
    encoded, weights = random_rows([5, 8, 3]), np.array([1, 0, 1], np.float32)
    assert_gradients_agree(
        gradients(sequence_task(encoded, weights), [0, 1, 2]), gradients(sequence_task(encoded), [0, 2]), 1e-12
    )


def test_losses_are_computed_in_float32_at_least():
    task, (module, _) = sequence_task(random_rows([4, 6])), make_pair("seqcls")
    batch = task.collate(np.array([0, 1]), rng())
    with torch.autocast("cpu", torch.bfloat16):
        assert module(batch.ids, batch.layout).dtype == torch.bfloat16
        assert task.losses(module, batch)["loss"].dtype == torch.float32


# Masked language modelling --------------------------------------------------------------------------------------------


def masked_task(first, second=None, weights=None, **options):
    return MaskedLMTask(first, second, TOKENIZER, ones(len(first)) if weights is None else weights, **options)


def unmask(batch):
    """The sequences of a batch with the tokens to predict put back."""
    ids = batch.ids.clone()
    ids[batch.targets["positions"]] = batch.targets["labels"]
    return [part.tolist() for part in ids.split(batch.layout.lengths)]


@pytest.mark.parametrize("mask_probability", [0.15, 0.5])
def test_share_of_masked_tokens_and_80_10_10(mask_probability):
    encoded = random_rows([102] * 400)
    batch = masked_task(encoded, mask_probability=mask_probability).collate(np.arange(400), rng())
    positions, labels = batch.targets["positions"].numpy(), batch.targets["labels"].numpy()
    n_masked = len(positions)
    assert n_masked / (400 * 100) == pytest.approx(mask_probability, abs=0.01)
    assert len(np.unique(positions)) == n_masked
    shown = batch.ids.numpy()[positions]
    masked, same = shown == MASK, shown == labels
    assert masked.mean() == pytest.approx(0.8, abs=0.02)
    assert same.mean() == pytest.approx(0.1 + 0.1 / 95, abs=0.02)
    randomised = shown[~masked & ~same]
    assert len(randomised) / n_masked == pytest.approx(0.1, abs=0.02)
    assert set(randomised) <= set(range(4, MASK)) and len(set(randomised)) > 80
    assert not np.isin(labels, TOKENIZER.all_special_ids).any()


def test_special_tokens_are_never_masked_nor_drawn():
    encoded = random_rows([6] * 50)
    encoded.ids[2::6] = MASK  # a mask that the text itself spells
    encoded.ids[3::6] = 3
    batch = masked_task(encoded, mask_probability=0.99).collate(np.arange(50), rng())
    ids = batch.ids.view(50, 6)
    for place, special in ((0, BOS), (2, MASK), (3, 3), (5, EOS)):
        assert (ids[:, place] == special).all()
    assert set((batch.targets["positions"] % 6).tolist()) == {1, 4}
    assert not set(ids[:, [1, 4]].flatten().tolist()) & {BOS, 1, EOS, 3}


def test_every_other_token_stays_and_the_rows_are_not_touched():
    encoded = random_rows([5, 30, 12])
    before = encoded.ids.copy()
    batch = masked_task(encoded, mask_probability=0.5).collate(np.array([0, 1, 2]), rng())
    assert unmask(batch) == [encoded.row(i).tolist() for i in (1, 2, 0)]
    np.testing.assert_array_equal(encoded.ids, before)


def test_at_least_one_token_is_predicted_if_there_is_any():
    batch = masked_task(random_rows([5]), mask_probability=1e-9).collate(np.array([0]), rng())
    assert len(batch.targets["positions"]) == 1 and batch.totals["masked_lm"] == 1
    empty = masked_task(random_rows([2])).collate(np.array([0]), rng())
    assert len(empty.targets["positions"]) == 0 and empty.totals["masked_lm"] == 0


def test_the_mask_follows_the_generator_and_is_fresh_in_every_batch():
    task = masked_task(random_rows([30] * 4))
    rows, generator = np.arange(4), rng(5)
    first, second = task.collate(rows, generator), task.collate(rows, generator)
    again = task.collate(rows, rng(5))
    assert torch.equal(first.ids, again.ids) and torch.equal(first.targets["positions"], again.targets["positions"])
    assert not torch.equal(first.ids, second.ids)


def test_the_order_of_the_rows_does_not_matter():
    """Lengths all differ, so that both orders make the same batch."""
    first, second = random_rows([9, 5, 14]), random_rows([7, 0, 12], seed=1)
    task = masked_task(first, second, np.array([1, 2, 3], np.float32), alignment_weight=0.5)
    module, _ = make_pair("mlm", dtype=torch.float64)
    batches = [task.collate(np.array(rows), rng()) for rows in ([0, 1, 2], [2, 0, 1])]
    assert torch.equal(batches[0].ids, batches[1].ids)
    assert batches[0].totals == batches[1].totals
    with torch.no_grad():
        values = [task.losses(module, batch) for batch in batches]
    for name in ("masked_lm", "alignment"):
        by_row = [
            sorted(zip(batch.rows[name], value[name].tolist(), strict=True))
            for batch, value in zip(batches, values, strict=True)
        ]
        np.testing.assert_allclose(by_row[0], by_row[1], rtol=0, atol=1e-12)


def test_weights_and_rows_of_masked_tokens():
    encoded, weights = random_rows([9, 5, 14, 3]), np.array([1, 2, 4, 8], np.float32)
    batch = masked_task(encoded, weights=weights, mask_probability=0.6).collate(np.array([3, 1, 2]), rng())
    row_of_token = np.repeat([2, 1, 3], [14, 5, 3])  # longest first
    expected = row_of_token[batch.targets["positions"]]
    assert batch.rows["masked_lm"].tolist() == expected.tolist()
    assert batch.targets["weights"].tolist() == weights[expected].tolist()
    assert batch.totals["masked_lm"] == weights[expected].sum()


@pytest.mark.parametrize("rows", [[0, 1, 2, 3, 4], [4, 2, 0], [3, 1]], ids=str)
def test_translations_are_aligned_with_their_own_rows(rows):
    first, second = random_rows([9, 5, 14, 5, 5]), random_rows([7, 0, 12, 5, 16], seed=1)
    weights = np.array([1, 2, 3, 4, 5], np.float32)
    task = masked_task(first, second, weights, alignment_weight=0.5)
    batch = task.collate(np.array(rows), rng())
    sequences, translated = unmask(batch), [row for row in rows if row != 1]
    assert sorted(map(len, sequences)) == sorted([*first.lengths[rows], *second.lengths[translated]])
    assert batch.layout.lengths == sorted(batch.layout.lengths, reverse=True)
    if len(translated) < 2:  # nothing to tell a lone pair from
        assert "alignment" not in batch.totals
        return
    assert batch.rows["alignment"].tolist() == translated
    assert [sequences[place] for place in batch.targets["side_a"]] == [first.row(i).tolist() for i in translated]
    assert [sequences[place] for place in batch.targets["side_b"]] == [second.row(i).tolist() for i in translated]
    assert batch.targets["pair_weights"].tolist() == (weights[translated] / 2).tolist()
    assert batch.totals["alignment"] == weights[translated].sum()


def test_alignment_is_the_contrast_of_the_sides_means_and_first_tokens():
    first, second = random_rows([9, 5, 14]), random_rows([7, 6, 12], seed=1)
    task = masked_task(first, second, alignment_weight=2.0)
    module, _ = make_pair("mlm", dtype=torch.float64)
    batch = task.collate(np.arange(3), rng())
    with torch.no_grad():
        states = module.roberta(batch.ids, batch.layout).last_hidden_state.split(batch.layout.lengths)
        expected = 0
        for vector in (lambda state: state.mean(0), lambda state: state[0]):
            sides = (torch.stack([vector(states[i]) for i in batch.targets[side]]) for side in ("side_a", "side_b"))
            expected = expected + losses.contrastive(*sides)
        torch.testing.assert_close(task.losses(module, batch)["alignment"], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("second", [None, random_rows([7, 6, 12], seed=1)], ids=["texts", "pairs"])
def test_without_a_weight_there_is_no_alignment(second):
    batch = masked_task(random_rows([9, 5, 14]), second).collate(np.arange(3), rng())
    assert set(batch.totals) == {"masked_lm"}
    assert len(batch.layout.lengths) == (3 if second is None else 6)


def test_the_masked_lm_loss_and_its_gradient_are_the_references():
    ours, theirs = make_pair("mlm", dtype=torch.float64)
    assert TINY.vocab_size == VOCAB_SIZE
    task = masked_task(random_rows([9, 5, 14]), mask_probability=0.4)
    batch = task.collate(np.arange(3), rng())
    labels = torch.full(batch.ids.shape, -100)
    labels[batch.targets["positions"]] = batch.targets["labels"]
    ids, mask = padded(split(batch))
    rectangle = torch.full(ids.shape, -100)
    rectangle[mask.bool()] = labels
    expected = theirs(ids, attention_mask=mask, labels=rectangle).loss
    terms = task.losses(ours, batch)
    found = terms["masked_lm"].sum() / batch.totals["masked_lm"]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    expected.backward()
    found.backward()
    assert_gradients_agree(ours, theirs, 1e-12)
