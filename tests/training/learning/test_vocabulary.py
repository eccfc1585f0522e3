"""Training only the used rows of the word embeddings is exact, and afterwards the module is complete."""

import numpy as np
import pytest
import torch

from skxlmr.estimators._sequence.task import SequenceTask
from skxlmr.nn import TokenLayout, losses
from skxlmr.text import EncodedBatch
from skxlmr.training import compact_vocabulary
from tests.training.fits import STILL, assert_same_weights, fit, make_module, make_task, weights_of

WORDS = "roberta.embeddings.word_embeddings.weight"


def relabelled(task, lookup):
    encoded = task.encoded
    ids = EncodedBatch(lookup[encoded.ids], encoded.lengths, encoded.n_dropped)
    return SequenceTask(ids, task.targets, task.weights, losses.cross_entropy)


@pytest.mark.parametrize("max_grad_norm", [None, 0.5])
def test_the_fit_is_the_same_with_and_without(max_grad_norm):
    task = make_task(n_ids=20)
    used = np.unique(task.encoded.ids)
    assert 10 < len(used) < 25
    expected, found = make_module(), make_module()
    before = weights_of(found)[WORDS]
    fit(expected, task, max_grad_norm=max_grad_norm, schedule="cosine")
    with compact_vocabulary(found.roberta, task.encoded.ids) as lookup:
        assert found.get_parameter(WORDS).shape == (len(used), STILL.hidden_size)
        assert lookup.shape == (STILL.vocab_size,) and lookup[used].tolist() == list(range(len(used)))
        assert (np.delete(lookup, used) == -1).all()
        fit(found, relabelled(task, lookup), max_grad_norm=max_grad_norm, schedule="cosine")
    assert_same_weights(found, weights_of(expected), 1e-12)
    after = found.get_parameter(WORDS).detach()
    unused = np.setdiff1d(np.arange(STILL.vocab_size), used)
    assert torch.equal(after[unused], before[unused])
    assert (after[used] != before[used]).any(1).all()


def test_padding_tokens_keep_their_meaning():
    """They take no position, and their row does not learn."""
    module = make_module().eval()
    ids, layout = torch.tensor([0, 7, 1, 9, 2, 0, 9, 2]), TokenLayout([5, 3])
    expected = module.roberta(ids, layout).last_hidden_state
    with compact_vocabulary(module.roberta, ids.numpy()) as lookup:
        found = module.roberta(torch.from_numpy(lookup[ids].astype("int64")), layout).last_hidden_state
        torch.testing.assert_close(found, expected)
        found.sum().backward()
        assert module.get_parameter(WORDS).grad[lookup[1]].eq(0).all()
    with compact_vocabulary(module.roberta, np.array([0, 2, 9])):
        assert module.roberta.embeddings.word_embeddings.padding_idx is None


def test_unused_rows_are_spared_weight_decay():
    task, module = make_task(n_ids=20), make_module()
    before = weights_of(module)[WORDS]
    with compact_vocabulary(module.roberta, task.encoded.ids) as lookup:
        fit(module, relabelled(task, lookup), weight_decay=0.5)
    unused = np.setdiff1d(np.arange(STILL.vocab_size), task.encoded.ids)
    assert torch.equal(module.get_parameter(WORDS)[unused], before[unused])


def test_afterwards_the_module_has_all_rows_in_the_same_parameter():
    module = make_module()
    full, before = module.roberta.embeddings.word_embeddings, weights_of(module)
    with compact_vocabulary(module.roberta, np.array([5, 9, 5]), np.array([1])) as lookup:
        compact = module.roberta.embeddings.word_embeddings
        assert compact is not full and compact.num_embeddings == 3
        assert lookup[[1, 5, 9]].tolist() == [0, 1, 2]
        assert compact.weight.requires_grad
    assert module.roberta.embeddings.word_embeddings is full
    assert_same_weights(module, before)


def test_what_was_learnt_is_kept_when_the_block_raises():
    module = make_module()
    full, before = module.roberta.embeddings.word_embeddings, weights_of(module)[WORDS]

    def block():
        with compact_vocabulary(module.roberta, np.array([5, 9])):
            with torch.no_grad():
                module.get_parameter(WORDS)[1] += 1.0
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        block()
    assert module.roberta.embeddings.word_embeddings is full
    expected = before.clone()
    expected[9] += 1.0
    assert torch.equal(full.weight, expected)


def test_frozen_embeddings_stay_frozen():
    module = make_module()
    module.roberta.embeddings.requires_grad_(False)
    with compact_vocabulary(module.roberta, np.array([5, 9])):
        assert not module.get_parameter(WORDS).requires_grad
    assert not module.get_parameter(WORDS).requires_grad
