"""Next-token prediction over packed rows: which tokens are targets, and the reference's loss over them."""

import numpy as np
import torch

from skxlmr.estimators._language.task import NextTokenTask, before_ends
from skxlmr.text import EncodedBatch
from tests.nn.reference import assert_near
from tests.nn.test_causal import DECODER, make_pair


def encoded_rows(lengths, n_dropped=None, seed=0):
    rng = np.random.default_rng(seed)
    ids = rng.integers(4, DECODER.vocab_size, sum(lengths)).astype(np.int32)
    encoded = EncodedBatch(ids, np.array(lengths), np.zeros(len(lengths), int) if n_dropped is None else n_dropped)
    ids[encoded.starts[:-1]], ids[encoded.starts[1:] - 1] = DECODER.bos_token_id, DECODER.eos_token_id
    return encoded


def padded(encoded):
    rows = [torch.from_numpy(encoded.row(i).astype(np.int64)) for i in range(len(encoded))]
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=DECODER.pad_token_id)


def make_task(encoded, tokenizer, weights=None):
    return NextTokenTask(encoded, None, tokenizer, np.ones(len(encoded), np.float32) if weights is None else weights)


def test_every_token_after_the_first_is_a_target(tiny_tokenizer):
    encoded = encoded_rows([4, 2, 5])
    assert before_ends(encoded).tolist() == [0, 1, 2, 4, 6, 7, 8, 9]
    batch = make_task(encoded, tiny_tokenizer).collate(np.array([1, 0]), np.random.default_rng(0))
    assert batch.layout.lengths == [4, 2] and batch.ids.tolist() == [*encoded.row(0), *encoded.row(1)]
    assert batch.targets["positions"].tolist() == [0, 1, 2, 4]
    assert batch.targets["labels"].tolist() == [*encoded.row(0)[1:], encoded.row(1)[1]]
    assert batch.rows["masked_lm"].tolist() == [0, 0, 0, 1] and batch.totals == {"masked_lm": 4.0}


def test_a_cut_row_has_no_end_to_learn():
    encoded = encoded_rows([4, 3, 5], np.array([7, 0, 1]))
    assert before_ends(encoded).tolist() == [0, 1, 4, 5, 7, 8, 9]


def test_loss_is_the_references(tiny_tokenizer):
    """Packed, against shifted labels with -100 for padding, and for what a cut row does not say."""
    ours, theirs = make_pair(DECODER, torch.float64)
    encoded = encoded_rows([9, 5, 2, 9, 7], np.array([0, 3, 0, 0, 1]))
    task = make_task(encoded, tiny_tokenizer)
    batch = task.collate(np.arange(5), np.random.default_rng(0))
    terms = task.losses(ours, batch)["masked_lm"]
    loss = terms.sum() / batch.totals["masked_lm"]

    ids = padded(encoded)
    labels = ids.masked_fill(ids == DECODER.pad_token_id, -100)
    for row in (1, 4):
        labels[row, encoded.lengths[row] - 1] = -100
    expected = theirs(ids, attention_mask=(ids != DECODER.pad_token_id).long(), labels=labels).loss
    assert_near(loss.detach(), expected.double().detach(), 1e-6, "loss")  # theirs is computed in float32


def test_weights_are_those_of_the_rows(tiny_tokenizer):
    ours, _ = make_pair(DECODER, torch.float64)
    encoded = encoded_rows([6, 4, 3])
    weights = np.array([0.5, 2.0, 0.0], np.float32)
    plain, weighted = make_task(encoded, tiny_tokenizer), make_task(encoded, tiny_tokenizer, weights)
    batches = [task.collate(np.arange(3), np.random.default_rng(0)) for task in (plain, weighted)]
    assert batches[1].totals["masked_lm"] == 5 * 0.5 + 3 * 2.0
    with torch.no_grad():
        losses, weighted_losses = (plain.losses(ours, batch)["masked_lm"] for batch in batches)
    torch.testing.assert_close(weighted_losses, losses * torch.tensor(np.repeat(weights, [5, 3, 2])))
