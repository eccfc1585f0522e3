"""Contexts, responses and masks of dialogues: what is drawn, what is cut, and that weights and rows stay together."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from skxlmr.estimators._dialogues.task import context_row, possible_responses, response_row, stack_rows
from skxlmr.nn import losses
from tests.batching.rows import BOS, EOS, MASK, VOCAB_SIZE
from tests.estimators.dialogues.dialogues import DIALOGUE_TOKENIZER, SYSTEM, USER, make_task, random_turns
from tests.nn.reference import TINY, make_pair

STILL = replace(TINY, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)


def rng(seed=0):
    return np.random.default_rng(seed)


def module(dtype=torch.float64):
    return make_pair("mlm", STILL, dtype)[0].eval()


def sequences(batch):
    return [part.tolist() for part in batch.ids.split(batch.layout.lengths)]


def joined(turns, first, last):
    return [BOS, *np.concatenate([turns.row(i) for i in range(first, last)]).tolist(), EOS]


# Rows of turns ----------------------------------------------------------------------------------------------------------


def test_a_context_is_its_turns_in_order():
    turns = random_turns([3, 4])
    assert context_row(turns, 3, 6, DIALOGUE_TOKENIZER, 40).tolist() == joined(turns, 3, 6)
    assert response_row(turns, 6, DIALOGUE_TOKENIZER, 40).tolist() == joined(turns, 6, 7)


def test_too_long_a_context_keeps_its_last_turns_whole():
    turns = random_turns([6])
    for n_kept in range(1, 7):
        fits = turns.lengths[6 - n_kept :].sum() + 2
        # room for one token less than the next turn needs changes nothing
        for max_length in {fits, fits + (turns.lengths[5 - n_kept] - 1 if n_kept < 6 else 9)}:
            found = context_row(turns, 0, 6, DIALOGUE_TOKENIZER, max_length)
            assert found.tolist() == joined(turns, 6 - n_kept, 6)


def test_too_long_a_last_turn_keeps_its_speaker_and_its_end():
    turns = random_turns([2], lengths=(9, 10))
    last = turns.row(1).tolist()
    assert context_row(turns, 0, 2, DIALOGUE_TOKENIZER, 7).tolist() == [BOS, SYSTEM, *last[-4:], EOS]
    assert response_row(turns, 1, DIALOGUE_TOKENIZER, 7).tolist() == [BOS, *last[:5], EOS]


def test_responses_are_system_turns_after_another_turn():
    assert possible_responses(random_turns([5]), 0, 5, SYSTEM).tolist() == [1, 3]
    assert possible_responses(random_turns([1, 5], first=SYSTEM), 1, 6, SYSTEM).tolist() == [3, 5]
    assert possible_responses(random_turns([2], first=SYSTEM), 0, 2, SYSTEM).tolist() == []
    assert possible_responses(random_turns([1]), 0, 1, SYSTEM).tolist() == []


def test_stacked_rows():
    stacked = stack_rows([np.array([0, 5, 2]), np.array([0, 2])])
    assert stacked.lengths.tolist() == [3, 2] and stacked.row(1).tolist() == [0, 2] and stacked.ids.dtype == np.int32


# Batches ----------------------------------------------------------------------------------------------------------------


def parts_of(task, batch, rows):
    """For each row that has a response its context with the masked tokens put back, and the response."""
    ids = batch.ids.clone()
    ids[batch.targets["positions"]] = batch.targets["labels"]
    lines = [part.tolist() for part in ids.split(batch.layout.lengths)]
    places = zip(batch.targets["contexts"].tolist(), batch.targets["responses"].tolist(), strict=True)
    return [(lines[context], lines[response]) for context, response in places]


def test_a_batch_splits_each_dialogue_at_a_system_turn():
    task = make_task([6, 1, 3, 2, 8])
    rows, splits = np.array([4, 1, 0, 2]), set()
    for seed in range(30):
        batch = task.collate(rows, rng(seed))
        assert batch.rows["contrastive"].tolist() == [4, 0, 2]
        assert batch.layout.lengths == sorted(batch.layout.lengths, reverse=True) and len(batch.layout.lengths) == 7
        for row, (context, response) in zip([4, 0, 2], parts_of(task, batch, rows), strict=True):
            first, last = task.first_turns[row : row + 2]
            (split,) = [turn for turn in range(first + 1, last) if response == joined(task.turns, turn, turn + 1)]
            assert context == joined(task.turns, first, split) and task.turns.row(split)[0] == SYSTEM
            splits.add((row, split - first))
    assert splits == {(4, 1), (4, 3), (4, 5), (4, 7), (0, 1), (0, 3), (0, 5), (2, 1)}


def test_only_contexts_are_masked_and_no_special_token_ever():
    task = make_task([6] * 200, mask_probability=0.4)
    batch = task.collate(np.arange(200), rng())
    labels = batch.targets["labels"].numpy()
    assert not np.isin(labels, [BOS, EOS, SYSTEM, USER]).any()
    found = batch.ids[batch.targets["positions"]].numpy()
    assert 0.7 < (found == MASK).mean() < 0.9 and 0.05 < (found == labels).mean() < 0.2
    assert not np.isin(found, [BOS, EOS, SYSTEM, USER]).any() and found.max() < VOCAB_SIZE
    responses = {tuple(sequences(batch)[i]) for i in batch.targets["responses"].tolist()}
    turns = {tuple(joined(task.turns, i, i + 1)) for i in range(len(task.turns))}
    assert responses <= turns
    in_contexts = sum(len(context) - 2 for context, _ in parts_of(task, batch, None))
    speakers = sum(sum(i in (SYSTEM, USER) for i in context) for context, _ in parts_of(task, batch, None))
    assert 0.33 < len(labels) / (in_contexts - speakers) < 0.47


def test_without_the_contrastive_loss_whole_dialogues_are_masked():
    task = make_task([6, 3], contrastive_weight=0.0)
    batch = task.collate(np.arange(2), rng())
    ids = batch.ids.clone()
    ids[batch.targets["positions"]] = batch.targets["labels"]
    assert [part.tolist() for part in ids.split(batch.layout.lengths)] == [
        joined(task.turns, 0, 6),
        joined(task.turns, 6, 9),
    ]
    assert not task.compares_rows and set(batch.totals) == {"masked_lm"} == set(task.losses(module(), batch))


def test_accumulated_batches_draw_what_one_large_batch_does():
    task = make_task([5, 2, 7, 3, 4, 6])
    whole = task.collate(np.arange(6), rng())
    shared = rng()
    parts = [task.collate(np.arange(start, start + 2), shared) for start in (0, 2, 4)]
    assert sorted(sequences(whole)) == sorted(line for part in parts for line in sequences(part))
    assert sum(part.totals["masked_lm"] for part in parts) == whole.totals["masked_lm"]


def test_losses_are_weighted_and_belong_to_their_rows():
    weights = [0.5, 2.0, 0.0, 1.0]
    task = make_task([4, 5, 6, 1], weights=weights, contrastive_weight=0.25)
    even = make_task([4, 5, 6, 1], contrastive_weight=1.0)
    rows = np.array([3, 1, 0, 2])
    batch, plain = task.collate(rows, rng()), even.collate(rows, rng())
    found, expected = task.losses(module(), batch), even.losses(module(), plain)
    for name, factor in (("masked_lm", 1.0), ("contrastive", 0.25)):
        of_row = torch.tensor(weights)[batch.rows[name]].double()
        torch.testing.assert_close(found[name], expected[name] * of_row * factor)
        assert batch.totals[name] == pytest.approx(of_row.sum().item())
    assert batch.rows["contrastive"].tolist() == [1, 0, 2]


def test_losses_are_those_of_the_paper():
    task, model = make_task([4, 5, 6]), module()
    batch = task.collate(np.arange(3), rng())
    found = task.losses(model, batch)
    vectors = []
    for part in batch.ids.split(batch.layout.lengths):  # one sequence at a time
        vectors.append(model.roberta(part[None]).last_hidden_state[0])
    contexts, responses = (
        torch.stack([vectors[i][0] for i in batch.targets[side].tolist()]) for side in ("contexts", "responses")
    )
    softmax = (contexts @ responses.T).softmax(1)
    torch.testing.assert_close(found["contrastive"], -softmax.diagonal().log(), rtol=1e-10, atol=1e-10)
    logits = torch.cat([model.project(x) for x in vectors])[batch.targets["positions"]]
    expected = losses.cross_entropy(logits, batch.targets["labels"])
    torch.testing.assert_close(found["masked_lm"], expected, rtol=1e-10, atol=1e-10)


def test_dialogues_without_a_response_have_no_contrastive_loss():
    task = make_task([1, 1])
    batch = task.collate(np.arange(2), rng())
    assert batch.totals["contrastive"] == 0.0
    assert task.losses(module(), batch)["contrastive"].shape == (0,)


def test_large_products_survive_bfloat16():
    """Under autocast a product of 200 would be rounded to a multiple of one."""
    task = make_task([2] * 3)
    batch = task.collate(np.arange(3), rng())
    vectors = torch.randn(3, 2, 64, generator=torch.Generator().manual_seed(0)) * 4
    with torch.autocast("cpu", torch.bfloat16):
        found = task.joint_losses(vectors, [batch])
    torch.testing.assert_close(found, losses.response_contrastive(*vectors.unbind(1)), rtol=0, atol=0)
