"""Losses of sentence encoders beside those of sentence-transformers and SetFit: values, and gradients of all weights."""

from dataclasses import replace
from functools import partial

import pytest
import sentence_transformers
import torch
from sentence_transformers.sentence_transformer import losses as theirs_of
from sentence_transformers.sentence_transformer.modules import Pooling

from skxlmr.nn import losses
from tests.setfit import pairs_of_setfit, supcon_of_setfit

from .reference import TINY, assert_gradients_agree, assert_near, make_pair, make_rows

DROPOUT = replace(TINY, hidden_dropout_prob=0.2, attention_probs_dropout_prob=0.3)
LENGTHS = [9, 4, 7, 9, 6]
N_ROWS, WIDTH = len(LENGTHS), TINY.hidden_size
SCORES = torch.tensor([0.25, 1.0, -0.5, 0.25, 0.75])  # with a tie; the reference rounds them to float32
PAIRED_LABELS = torch.tensor([1, 0, 1, 0, 1])
TEACHER = torch.randn(N_ROWS, WIDTH, generator=torch.Generator().manual_seed(5))
DIMS = {WIDTH: 1.0, 8: 0.5, 3: 2.0}


class Words(torch.nn.Module):
    """The module of token vectors of a SentenceTransformer, around a module of transformers."""

    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder

    def forward(self, features, **_):
        output = self.encoder(input_ids=features["input_ids"], attention_mask=features["attention_mask"])
        return {**features, "token_embeddings": output.last_hidden_state}


SYMMETRIC = {"directions": ("query_to_doc", "doc_to_query"), "partition_mode": "per_direction"}
RANKING = theirs_of.MultipleNegativesRankingLoss
# name: columns, labels, the reference's loss of a model, ours of the columns' vectors
CASES = {
    "ranking": (2, None, RANKING, lambda a, b: losses.multiple_negatives_ranking(a, b, symmetric=False)),
    "ranking, symmetric": (2, None, partial(RANKING, **SYMMETRIC), losses.multiple_negatives_ranking),
    "ranking, scale": (
        2,
        None,
        partial(RANKING, scale=7.0, **SYMMETRIC),
        partial(losses.multiple_negatives_ranking, scale=7.0),
    ),
    "ranking, hard negatives": (
        3,
        None,
        RANKING,
        lambda a, b, c: losses.multiple_negatives_ranking(a, b, c, symmetric=False),
    ),
    "ranking, hard negatives, symmetric": (3, None, partial(RANKING, **SYMMETRIC), losses.multiple_negatives_ranking),
    "ranking, two hard negatives": (
        4,
        None,
        partial(RANKING, **SYMMETRIC),
        lambda a, b, *c: losses.multiple_negatives_ranking(a, b, torch.cat(c)),
    ),
    "cosent": (2, SCORES, theirs_of.CoSENTLoss, lambda a, b: losses.cosent(a, b, SCORES)),
    "cosent, scale": (
        2,
        SCORES,
        partial(theirs_of.CoSENTLoss, scale=3.0),
        lambda a, b: losses.cosent(a, b, SCORES, scale=3.0),
    ),
    "cosine": (2, SCORES, theirs_of.CosineSimilarityLoss, lambda a, b: losses.cosine_squared_error(a, b, SCORES)),
    "distillation": (1, TEACHER, theirs_of.MSELoss, lambda a: losses.distillation(a, TEACHER[:, : a.shape[1]])),
    "supervised contrastive": (
        1,
        PAIRED_LABELS,
        supcon_of_setfit,
        lambda a: losses.supervised_contrastive(a, PAIRED_LABELS),
    ),
    "supervised contrastive, temperature": (
        1,
        PAIRED_LABELS,
        partial(supcon_of_setfit, temperature=0.5),
        lambda a: losses.supervised_contrastive(a, PAIRED_LABELS, temperature=0.5),
    ),
}


def over_widths(loss):
    """Our loss of columns over all widths."""
    return lambda *columns: losses.matryoshka(
        lambda vectors_NKD: loss(*vectors_NKD.unbind(1)), torch.stack(columns, 1), list(DIMS), list(DIMS.values())
    )


def theirs_over_widths(loss):
    return lambda model: theirs_of.MatryoshkaLoss(model, loss(model), list(DIMS), list(DIMS.values()))


def make_encoders(mode):
    """Our encoder, the reference's and the SentenceTransformer around it."""
    ours, theirs = make_pair("base", DROPOUT, torch.float64)
    pooling = Pooling(WIDTH, "mean")
    model = sentence_transformers.SentenceTransformer(modules=[Words(theirs), pooling], device="cpu")
    return getattr(ours, mode)(), theirs, getattr(model, mode)()


def columns_of(n_columns):
    return [make_rows(DROPOUT, LENGTHS[i:] + LENGTHS[:i], seed=i) for i in range(n_columns)]


def our_vectors(ours, columns):
    """Mean vectors of each column: the first, then the others together, as in the reference, so that dropout is equal."""

    def encode(ids, mask):
        states, mask = ours(ids, attention_mask=mask).last_hidden_state, mask[..., None]
        return (states * mask).sum(1) / mask.sum(1)

    others = [torch.cat(parts) for parts in zip(*columns[1:], strict=True)]
    first = encode(*columns[0])
    return [first, *encode(*others).chunk(len(columns) - 1)] if others else [first]


def compared(case, mode, widths=False):
    """Ours and theirs, after both were back-propagated: losses, modules."""
    n_columns, labels, make_theirs, our_loss = CASES[case]
    if widths:
        make_theirs, our_loss = theirs_over_widths(make_theirs), over_widths(our_loss)
    ours, theirs, model = make_encoders(mode)
    columns = columns_of(n_columns)
    features = [{"input_ids": ids, "attention_mask": mask} for ids, mask in columns]
    torch.manual_seed(7)
    expected = make_theirs(model)(features, labels)
    torch.manual_seed(7)
    found = our_loss(*our_vectors(ours, columns))
    assert found.shape == (N_ROWS,)
    expected.backward()
    found.mean().backward()
    return found.mean(), expected, ours, theirs


@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize("widths", [False, True], ids=["", "matryoshka"])
@pytest.mark.parametrize("case", CASES)
def test_values_and_gradients_are_the_references(case, mode, widths):
    found, expected, ours, theirs = compared(case, mode, widths)
    assert_near(found, expected, 1e-12, "loss")
    assert_gradients_agree(ours, theirs, 1e-12)


def test_dropout_takes_part():
    """Otherwise the comparison in train mode would be that in eval mode again."""
    (found, *_), (without, *_) = compared("cosent", "train"), compared("cosent", "eval")
    assert (found - without).abs() > 1e-3


def test_pairs_of_classes_as_setfit_trains_on_them():
    """Each pair's cosine towards 1 or 0, over all pairs that SetFit draws: value and gradients."""
    first, second, same = (torch.tensor(values) for values in zip(*pairs_of_setfit(PAIRED_LABELS), strict=True))
    ours, theirs, model = make_encoders("eval")
    ((ids, mask),) = columns_of(1)
    features = [{"input_ids": ids[side], "attention_mask": mask[side]} for side in (first, second)]
    expected = theirs_of.CosineSimilarityLoss(model)(features, same)
    (vectors,) = our_vectors(ours, [(ids, mask)])
    found = losses.cosine_squared_error(vectors[first], vectors[second], same).mean()
    assert_near(found, expected, 1e-12, "loss")
    expected.backward()
    found.backward()
    assert_gradients_agree(ours, theirs, 1e-12)


def ranking_of(shift=0, mean=True):
    """Ours with the diagonal off by ``shift``, or with the sum of both directions."""

    def loss(a, b, c=None):
        found = losses.multiple_negatives_ranking(a, b.roll(shift, 0), c)
        return found if mean else 2 * found

    return loss


def unscaled_widths(*columns):
    """Without scaling to unit length: it shows where the loss is none of cosines."""
    return sum(
        weight * losses.distillation(columns[0][:, :width], TEACHER[:, :width]) for width, weight in DIMS.items()
    )


FAULTS = {
    "no scale": ("ranking, symmetric", partial(losses.multiple_negatives_ranking, scale=1.0)),
    "one direction": (
        "ranking, symmetric",
        lambda a, b: losses.multiple_negatives_ranking(a, b, symmetric=False),
    ),
    "the other direction": ("ranking", lambda a, b: losses.multiple_negatives_ranking(b, a, symmetric=False)),
    "both directions": ("ranking", losses.multiple_negatives_ranking),
    "sum of the directions": ("ranking, symmetric", ranking_of(mean=False)),
    "diagonal off by one": ("ranking, symmetric", ranking_of(shift=1)),
    "negatives left out": (
        "ranking, hard negatives",
        lambda a, b, c: losses.multiple_negatives_ranking(a, b, symmetric=False),
    ),
    "one negative left out": (
        "ranking, hard negatives, symmetric",
        lambda a, b, c: losses.multiple_negatives_ranking(a, b, c[1:]),
    ),
    "anchors as negatives": ("ranking, symmetric", lambda a, b: losses.multiple_negatives_ranking(a, b, a)),
    "dot product": (
        "ranking",
        lambda a, b: torch.nn.functional.cross_entropy(20 * a @ b.T, torch.arange(N_ROWS), reduction="none"),
    ),
    "wrong order": ("cosent", lambda a, b: losses.cosent(a, b, -SCORES)),
    "ties compared": ("cosent", lambda a, b: losses.cosent(a, b, SCORES + 1e-3 * torch.arange(N_ROWS))),
    "cosent, no scale": ("cosent", lambda a, b: losses.cosent(a, b, SCORES, scale=1.0)),
    "cosent, divided by the rows": ("cosent", lambda a, b: losses.cosent(a, b, SCORES) / N_ROWS),
    "wrong sign": ("cosine", lambda a, b: losses.cosine_squared_error(a, b, -SCORES)),
    "root": ("cosine", lambda a, b: losses.cosine_squared_error(a, b, SCORES).sqrt()),
    "sum of the features": ("distillation", lambda a: losses.distillation(a, TEACHER) * WIDTH),
    "another row's teacher": ("distillation", lambda a: losses.distillation(a, TEACHER.roll(1, 0))),
    "temperature": (
        "supervised contrastive",
        lambda a: losses.supervised_contrastive(a, PAIRED_LABELS, temperature=0.1),
    ),
    "other labels": ("supervised contrastive", lambda a: losses.supervised_contrastive(a, PAIRED_LABELS.roll(1))),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_comparison_finds_planted_faults(monkeypatch, fault):
    case, faulty = FAULTS[fault]
    monkeypatch.setitem(CASES, case, (*CASES[case][:3], faulty))
    found, expected, ours, theirs = compared(case, "eval")
    with pytest.raises(AssertionError, match="differs by"):
        assert_near(found, expected, 1e-6, "loss")
    with pytest.raises(AssertionError):
        assert_gradients_agree(ours, theirs, 1e-6)


WIDTH_FAULTS = {
    "weights left out": lambda loss: lambda a: losses.matryoshka(loss, a, list(DIMS)),
    "last features": lambda loss: lambda a: losses.matryoshka(loss, a.flip(1), list(DIMS), list(DIMS.values())),
    "one width": lambda loss: lambda a: losses.matryoshka(loss, a, [WIDTH]),
    "not scaled to unit length": lambda loss: unscaled_widths,
}


@pytest.mark.parametrize("fault", WIDTH_FAULTS)
def test_the_comparison_of_widths_finds_planted_faults(monkeypatch, fault):
    monkeypatch.setattr("tests.nn.test_sentence_losses.over_widths", WIDTH_FAULTS[fault])
    found, expected, ours, theirs = compared("distillation", "eval", widths=True)
    with pytest.raises(AssertionError, match="differs by"):
        assert_near(found, expected, 1e-6, "loss")
    with pytest.raises(AssertionError):
        assert_gradients_agree(ours, theirs, 1e-6)
