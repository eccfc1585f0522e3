"""Masked and next-token prediction over packed rows: what is predicted, what belongs to which row, the reference's losses."""

import numpy as np
import pytest
import torch

from skxlmr.estimators._language.task import MaskedLMTask, NextTokenTask, before_ends
from skxlmr.nn import losses
from skxlmr.text import EncodedBatch
from skxlmr.training._gradient_cache import batch_losses
from tests.batching.rows import BOS, EOS, MASK, TOKENIZER, VOCAB_SIZE, padded, random_rows
from tests.nn.reference import TINY, assert_gradients_agree, assert_near, make_pair
from tests.nn.test_causal import DECODER
from tests.nn.test_causal import make_pair as make_causal_pair


def rng(seed=0):
    return np.random.default_rng(seed)


def split(batch):
    """Ids of each sequence of a batch."""
    return [part.tolist() for part in batch.ids.split(batch.layout.lengths)]


def ones(n):
    return np.ones(n, np.float32)


# Masked tokens --------------------------------------------------------------------------------------------------------


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


def test_every_other_token_stays_and_the_rows_are_unchanged():
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
    for name in ("masked_lm", "contrastive"):
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
    assert batch.rows["contrastive"].tolist() == translated
    assert [sequences[place] for place in batch.targets["side_a"]] == [first.row(i).tolist() for i in translated]
    assert [sequences[place] for place in batch.targets["side_b"]] == [second.row(i).tolist() for i in translated]
    assert batch.targets["pair_weights"].tolist() == (weights[translated] / 2).tolist()
    assert batch.totals["contrastive"] == weights[translated].sum()


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
            expected = expected + losses.multiple_negatives_ranking(*sides)
        torch.testing.assert_close(task.losses(module, batch)["contrastive"], expected, rtol=0, atol=1e-12)


def test_a_lone_pair_of_a_batch_is_compared_with_those_of_the_other_batches():
    first, second = random_rows([9, 5, 14, 6]), random_rows([7, 0, 12, 8], seed=1)
    task = masked_task(first, second, alignment_weight=2.0)
    module, _ = make_pair("mlm", dtype=torch.float64)
    draws = rng()
    batches = [task.collate(np.array(rows), draws) for rows in ([0, 1], [2], [3])]
    with torch.no_grad():
        found = [terms["contrastive"] for _, terms in batch_losses(module, task, batches, torch.device("cpu"), None)]
        means, firsts = torch.cat([task.vectors(module, batch) for batch in batches]).unbind(1)
    expected = sum(losses.multiple_negatives_ranking(*sides.unbind(1)) for sides in (means, firsts))
    torch.testing.assert_close(torch.cat(found), expected, rtol=0, atol=1e-12)


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


# Next tokens ----------------------------------------------------------------------------------------------------------


def encoded_rows(lengths, n_dropped=None, seed=0):
    rng = np.random.default_rng(seed)
    ids = rng.integers(4, DECODER.vocab_size, sum(lengths)).astype(np.int32)
    encoded = EncodedBatch(ids, np.array(lengths), np.zeros(len(lengths), int) if n_dropped is None else n_dropped)
    ids[encoded.starts[:-1]], ids[encoded.starts[1:] - 1] = DECODER.bos_token_id, DECODER.eos_token_id
    return encoded


def rectangle_of(encoded):
    rows = [torch.from_numpy(encoded.row(i).astype(np.int64)) for i in range(len(encoded))]
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=DECODER.pad_token_id)


def next_token_task(encoded, tokenizer, weights=None):
    return NextTokenTask(encoded, None, tokenizer, np.ones(len(encoded), np.float32) if weights is None else weights)


def test_every_token_after_the_first_is_a_target(tiny_tokenizer):
    encoded = encoded_rows([4, 2, 5])
    assert before_ends(encoded).tolist() == [0, 1, 2, 4, 6, 7, 8, 9]
    batch = next_token_task(encoded, tiny_tokenizer).collate(np.array([1, 0]), np.random.default_rng(0))
    assert batch.layout.lengths == [4, 2] and batch.ids.tolist() == [*encoded.row(0), *encoded.row(1)]
    assert batch.targets["positions"].tolist() == [0, 1, 2, 4]
    assert batch.targets["labels"].tolist() == [*encoded.row(0)[1:], encoded.row(1)[1]]
    assert batch.rows["masked_lm"].tolist() == [0, 0, 0, 1] and batch.totals == {"masked_lm": 4.0}


def test_a_cut_row_has_no_end_to_learn():
    encoded = encoded_rows([4, 3, 5], np.array([7, 0, 1]))
    assert before_ends(encoded).tolist() == [0, 1, 4, 5, 7, 8, 9]


def test_loss_is_the_references(tiny_tokenizer):
    """Packed, against shifted labels with -100 for padding, and for what a cut row does not say."""
    ours, theirs = make_causal_pair(DECODER, torch.float64)
    encoded = encoded_rows([9, 5, 2, 9, 7], np.array([0, 3, 0, 0, 1]))
    task = next_token_task(encoded, tiny_tokenizer)
    batch = task.collate(np.arange(5), np.random.default_rng(0))
    terms = task.losses(ours, batch)["masked_lm"]
    loss = terms.sum() / batch.totals["masked_lm"]

    ids = rectangle_of(encoded)
    labels = ids.masked_fill(ids == DECODER.pad_token_id, -100)
    for row in (1, 4):
        labels[row, encoded.lengths[row] - 1] = -100
    expected = theirs(ids, attention_mask=(ids != DECODER.pad_token_id).long(), labels=labels).loss
    assert_near(loss.detach(), expected.double().detach(), 1e-6, "loss")  # theirs is computed in float32


def test_weights_are_those_of_the_rows(tiny_tokenizer):
    ours, _ = make_causal_pair(DECODER, torch.float64)
    encoded = encoded_rows([6, 4, 3])
    weights = np.array([0.5, 2.0, 0.0], np.float32)
    plain, weighted = next_token_task(encoded, tiny_tokenizer), next_token_task(encoded, tiny_tokenizer, weights)
    batches = [task.collate(np.arange(3), np.random.default_rng(0)) for task in (plain, weighted)]
    assert batches[1].totals["masked_lm"] == 5 * 0.5 + 3 * 2.0
    with torch.no_grad():
        losses, weighted_losses = (plain.losses(ours, batch)["masked_lm"] for batch in batches)
    torch.testing.assert_close(weighted_losses, losses * torch.tensor(np.repeat(weights, [5, 3, 2])))
