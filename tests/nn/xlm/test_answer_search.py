"""The original XLM's answer search and multiple choice against transformers', in both precisions, and gradients."""

import pytest
import torch
import torch.nn.functional as F

from skxlmr.nn import TokenLayout
from tests.nn.reference import assert_near

from .reference import TOLERANCE, exact_softmax, make_inputs, make_pair, run_theirs

dtypes = pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
CLS_INDEX = torch.tensor([0, 2, 1])


def make_search(dtype=torch.float32, **options):
    """Both modules with an answer head whose scores differ, three rows of different lengths, and where no answer can be."""
    ours, theirs = make_pair("search", dtype, **options)
    with torch.no_grad():
        for module in (ours, theirs):
            module.qa_outputs.start_logits.dense.weight.mul_(5)
            module.qa_outputs.end_logits.dense_1.weight.mul_(5)
    ids, mask, langs = make_inputs(ours.transformer.config, (9, 6, 7))
    question = torch.zeros_like(mask)
    question[:, :2] = 1
    return ours, theirs, {"attention_mask": mask, "langs": langs}, ids, question


def theirs_mask(mask, question, dtype):
    return ((mask == 0) | (question == 1)).to(dtype)


@dtypes
@pytest.mark.parametrize("options", [{}, {"n_langs": 2, "sinusoidal_embeddings": True}], ids=str)
def test_beams_are_the_references(options, dtype):
    ours, theirs, inputs, ids, question = make_search(dtype, **options)
    with torch.no_grad():
        found = ours(ids, impossible=question, cls_index=CLS_INDEX, n_starts=3, n_ends=2, **inputs)
        theirs.qa_outputs.start_n_top, theirs.qa_outputs.end_n_top = 3, 2
        p_mask = theirs_mask(inputs["attention_mask"], question, dtype)
        expected = run_theirs(theirs, dtype, ids, p_mask=p_mask, cls_index=CLS_INDEX, **inputs)
    assert torch.equal(found.starts_NK, expected.start_top_index)
    assert torch.equal(found.ends_NEK.flatten(1), expected.end_top_index)
    assert_near(found.start_proba_NK, expected.start_top_log_probs, TOLERANCE[dtype], "starts")
    assert_near(found.end_proba_NEK.flatten(1), expected.end_top_log_probs, TOLERANCE[dtype], "ends")
    assert_near(found.no_answer_N, expected.cls_logits, TOLERANCE[dtype], "no answer")
    assert (found.starts_NK >= 2).all() and (found.ends_NEK >= 2).all()
    assert len(set(found.starts_NK[:, 0].tolist())) > 1  # otherwise the weights would make the places too easy to find


@dtypes
def test_widths_are_those_of_the_config_and_rows_without_a_place_are_no_nan(dtype):
    ours, theirs, inputs, ids, question = make_search(dtype, extra={"start_n_top": 4, "end_n_top": 2})
    question[1] = 1
    with torch.no_grad():
        found = ours(ids, impossible=question, cls_index=CLS_INDEX, **inputs)
        p_mask = theirs_mask(inputs["attention_mask"], question, dtype)
        expected = run_theirs(theirs, dtype, ids, p_mask=p_mask, cls_index=CLS_INDEX, **inputs)
    assert found.starts_NK.shape == (3, 4) and found.ends_NEK.shape == (3, 2, 4)
    assert_near(found.start_proba_NK, expected.start_top_log_probs, TOLERANCE[dtype], "starts")
    assert_near(found.end_proba_NEK.flatten(1), expected.end_top_log_probs, TOLERANCE[dtype], "ends")
    assert_near(found.no_answer_N, expected.cls_logits, TOLERANCE[dtype], "no answer")
    assert_near(found.start_proba_NK[1], torch.full((4,), 1 / 9, dtype=dtype), TOLERANCE[dtype], "no place")


@dtypes
@pytest.mark.parametrize("train", [False, True])
def test_loss_and_gradients_are_the_references(train, dtype):
    ours, theirs, inputs, ids, question = make_search(dtype, dropout=0.2, attention_dropout=0.1)
    starts, ends = torch.tensor([3, 2, 4]), torch.tensor([5, 2, 6])
    no_answer = torch.tensor([0.0, 1.0, 0.0], dtype=dtype)
    torch.manual_seed(3)
    found = ours.train(train).logits(ids, starts=starts, impossible=question, cls_index=CLS_INDEX, **inputs)
    loss = (F.cross_entropy(found.start_NS, starts) + F.cross_entropy(found.end_NS, ends)) / 2
    loss = loss + F.binary_cross_entropy_with_logits(found.no_answer_N, no_answer) / 2
    loss.backward()
    torch.manual_seed(3)
    with exact_softmax(dtype):
        expected = theirs.train(train)(
            input_ids=ids,
            p_mask=theirs_mask(inputs["attention_mask"], question, dtype),
            cls_index=CLS_INDEX,
            start_positions=starts,
            end_positions=ends,
            is_impossible=no_answer,
            **inputs,
        ).loss
    expected.backward()
    assert_near(loss.detach(), expected.detach(), TOLERANCE[dtype], "loss")
    of_theirs = {name: p.grad for name, p in theirs.named_parameters() if p.grad is not None}
    of_ours = {name: p.grad for name, p in ours.named_parameters() if p.grad is not None}
    assert of_ours.keys() == of_theirs.keys()
    largest = max(gradient.abs().max().item() for gradient in of_theirs.values())
    for name, gradient in of_theirs.items():
        assert_near(of_ours[name], gradient, TOLERANCE[dtype] * largest, f"gradient of {name}")


def test_a_row_has_the_answers_it_has_alone():
    """Without ``cls_index`` the last token of each row decides; padding never holds an answer."""
    ours, _, inputs, ids, _ = make_search()
    with torch.no_grad():
        together = ours(ids, **inputs)
        for row, n in enumerate((9, 6, 7)):
            alone = ours(ids[row : row + 1, :n], langs=inputs["langs"][row : row + 1, :n])
            assert torch.equal(alone.starts_NK[0], together.starts_NK[row])
            assert_near(alone.start_proba_NK[0], together.start_proba_NK[row], 1e-5, "starts")
            assert_near(alone.no_answer_N[0], together.no_answer_N[row], 1e-5, "no answer")


def test_a_beam_is_not_wider_than_the_rows():
    ours, _, inputs, ids, _ = make_search()
    with torch.no_grad():
        found = ours(ids, n_starts=50, n_ends=60, **inputs)
    assert found.starts_NK.shape == (3, 9) and found.ends_NEK.shape == (3, 9, 9)


def test_packed_rows_are_refused():
    ours, _, _, ids, _ = make_search()
    with pytest.raises(ValueError, match="pass a padded batch"):
        ours(ids[0], TokenLayout([9]))


@dtypes
@pytest.mark.parametrize("train", [False, True])
def test_choices(train, dtype):
    ours, theirs = make_pair("choices", dtype, dropout=0.2)
    ids, mask, langs = make_inputs(ours.transformer.config, (9, 4, 7, 8, 9, 3))
    torch.manual_seed(3)
    found = ours.train(train)(ids, attention_mask=mask, langs=langs)
    torch.manual_seed(3)
    with exact_softmax(dtype):
        expected = theirs.train(train)(*(x.view(2, 3, -1) for x in (ids, mask, langs))).logits
    assert_near(found.detach(), expected.detach().flatten(), TOLERANCE[dtype], "scores")
    F.cross_entropy(found.view(2, 3), torch.tensor([2, 0])).backward()
    F.cross_entropy(expected, torch.tensor([2, 0])).backward()
    for name, p in theirs.named_parameters():
        if p.grad is not None:
            assert_near(ours.get_parameter(name).grad, p.grad, TOLERANCE[dtype], f"gradient of {name}")
