"""resume_dir, resume_every and fit(resume=True): which fits are resumed, and which are refused."""

from contextlib import nullcontext
from functools import partial

import numpy as np
import pytest

from skxlmr import (
    XLMRobertaCausalLM,
    XLMRobertaClassifier,
    XLMRobertaDialogueLM,
    XLMRobertaEmbedder,
    XLMRobertaMaskedLM,
    XLMRobertaMultipleChoiceClassifier,
    XLMRobertaQuestionAnswerer,
    XLMRobertaRegressor,
    XLMRobertaTokenClassifier,
)
from skxlmr.estimators._xlm.family import XLM
from skxlmr.training.step import TrainStep
from skxlmr.utils._errors import CheckpointError
from tests.contract import ESTIMATORS
from tests.estimators.conftest import differing, weights_of
from tests.tiny import sentences, write_checkpoint

TEXTS = sentences(12)
Y = np.arange(12) % 3
STATE = "fit.safetensors"
WORDS = [text.split() for text in TEXTS]
DATA = {
    XLMRobertaClassifier: (TEXTS, Y),
    XLMRobertaRegressor: (TEXTS, 100.0 * Y),
    XLMRobertaTokenClassifier: (WORDS, [["A", "B", "O"][: len(row)] + ["O"] * (len(row) - 3) for row in WORDS]),
    XLMRobertaQuestionAnswerer: ([("who", text) for text in TEXTS], [text.split()[0] for text in TEXTS]),
    XLMRobertaMultipleChoiceClassifier: ([(text, TEXTS[:3]) for text in TEXTS], Y),
    XLMRobertaMaskedLM: (TEXTS,),
    XLMRobertaCausalLM: (TEXTS,),
    XLMRobertaDialogueLM: ([[("user", a), ("system", b)] for a, b in zip(TEXTS, TEXTS[::-1], strict=True)],),
    XLMRobertaEmbedder: (TEXTS, Y),
}


class Stop(Exception):
    """Ends a fit; nothing catches it."""


@pytest.fixture
def stopped(monkeypatch):
    """Run a fit and stop it at the step of this number, from 0."""

    def stopped(number, fit, *arguments, error=Stop, **options):
        steps, step = iter(range(number + 1)), TrainStep.run

        def failing(*arguments, **options):
            if next(steps) == number:
                raise error
            return step(*arguments, **options)

        with monkeypatch.context() as patch:
            patch.setattr(TrainStep, "run", failing)
            with pytest.raises(error):
                fit(*arguments, **options)

    return stopped


@pytest.fixture
def small(make):
    """An estimator with two epochs of three steps."""

    def small(estimator=XLMRobertaClassifier, **params):
        return make(estimator, **{"max_epochs": 2, "batch_size": 4} | params)

    return small


def same(found, expected):
    return not differing(weights_of(found), weights_of(expected)) and found.loss_curve_ == expected.loss_curve_


# Resumed --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("estimator", DATA, ids=lambda cls: cls.__name__)
def test_each_estimator_resumes(small, tmp_path, stopped, estimator):
    expected = small(estimator).fit(*DATA[estimator])
    kept = small(estimator, resume_dir=tmp_path / "state", resume_every=1)
    stopped(4, kept.fit, *DATA[estimator])
    assert not hasattr(kept, "module_")
    fitted = small(estimator, resume_dir=str(tmp_path / "state"), resume_every=1)
    assert same(fitted.fit(*DATA[estimator], resume=True), expected)
    assert fitted.n_iter_ == 2


def test_each_estimator_that_trains_is_resumed_here():
    assert {cls for cls in ESTIMATORS if hasattr(cls, "partial_fit") and cls._family is not XLM} == set(DATA)


def test_the_original_xlm_resumes(make, tiny_xlm, tmp_path, stopped):
    import skxlmr

    for name, data in (("XLMClassifier", (TEXTS, Y)), ("XLMMaskedLM", (TEXTS,))):
        estimator = getattr(skxlmr, name)
        assert estimator._family is XLM
        options = {"max_epochs": 2, "batch_size": 4, "resume_dir": tmp_path / name, "resume_every": 2}
        stopped(5, make(estimator, tiny_xlm, **options).fit, *data)
        resumed = make(estimator, tiny_xlm, **options).fit(*data, resume=True)
        assert same(resumed, make(estimator, tiny_xlm, **options | {"resume_dir": None}).fit(*data))


@pytest.mark.parametrize("every", [None, 2])
def test_how_often_the_state_is_written(small, tmp_path, stopped, every):
    """Stopped in the third step: a state per epoch has lost the first two, a state every second step has not."""
    for number, written in ((2, every is not None), (3, True)):
        folder = tmp_path / str(number)
        stopped(number, small(resume_dir=folder, resume_every=every).fit, TEXTS, Y)
        assert (folder / STATE).exists() == written


@pytest.mark.parametrize("random_state", [None, "generator"])
def test_without_a_seed_a_fit_resumes_with_the_one_it_drew(small, tmp_path, stopped, random_state):
    """The scores before the interrupt are kept, and so is the split of the validation rows."""

    def fresh():
        return np.random.RandomState(np.random.randint(99)) if random_state else None

    options = {"resume_dir": tmp_path, "early_stopping": True, "validation_fraction": 0.34, "max_epochs": 3}
    noted = []
    kept = small(**options, random_state=fresh())
    score = kept._validation_score
    kept._validation_score = lambda *rows: noted.append(score(*rows)) or noted[-1]
    stopped(4, kept.fit, TEXTS, Y)
    resumed = small(**options, random_state=fresh()).fit(TEXTS, Y, resume=True)
    again = small(**options, random_state=fresh()).fit(TEXTS, Y, resume=True)  # from the finished state
    assert resumed.validation_scores_[:2] == noted and same(again, resumed)


def test_a_warm_start_resumes(small, tmp_path, stopped):
    def first(**options):
        return small(XLMRobertaRegressor, warm_start=True, **options).fit(TEXTS, 100.0 * Y)

    expected = first().fit(TEXTS[::-1], 50.0 * Y)
    second = first().set_params(resume_dir=tmp_path, resume_every=1)
    stopped(4, second.fit, TEXTS[::-1], 50.0 * Y)
    assert same(second.fit(TEXTS[::-1], 50.0 * Y, resume=True), expected)
    third = first().set_params(resume_dir=tmp_path)  # as in another process that loads the first fit
    assert same(third.fit(TEXTS[::-1], 50.0 * Y, resume=True), expected)
    np.testing.assert_array_equal(third.predict(TEXTS), expected.predict(TEXTS))


def test_an_interrupt_in_the_second_epoch_leaves_a_model_and_a_state(small, tmp_path, stopped):
    classifier = small(resume_dir=tmp_path)
    stopped(4, classifier.fit, TEXTS, Y, error=KeyboardInterrupt)
    assert classifier.n_iter_ == 1 and classifier.predict(TEXTS).shape == (12,)
    assert same(classifier.fit(TEXTS, Y, resume=True), small().fit(TEXTS, Y))


def test_more_epochs_only_where_they_do_not_change_earlier_steps(small, tmp_path):
    """In other schedules the rate of a step depends on the number of steps."""
    constant = {"schedule": "constant", "warmup_ratio": 0.0, "resume_dir": tmp_path / "constant"}
    small(**constant, max_epochs=1).fit(TEXTS, Y)
    longer = small(**constant, max_epochs=3).fit(TEXTS, Y, resume=True)
    assert same(longer, small(**constant | {"resume_dir": None}, max_epochs=3).fit(TEXTS, Y))
    for options in ({"schedule": "linear"}, {"schedule": "constant", "warmup_ratio": 0.1}):
        folder = tmp_path / str(options)
        small(**options, resume_dir=folder, max_epochs=1).fit(TEXTS, Y)
        with pytest.raises(CheckpointError, match=r"differs in max_epochs \(then 1, now 3\)"):
            small(**options, resume_dir=folder, max_epochs=3).fit(TEXTS, Y, resume=True)


def test_partial_fit_keeps_no_state(small, tmp_path):
    small(XLMRobertaRegressor, resume_dir=tmp_path / "state").partial_fit(TEXTS, 1.0 * Y)
    assert not (tmp_path / "state").exists()


class Constant:
    """A scorer; in the next process it has another address."""

    def __init__(self, value):
        self.value = value

    def __call__(self, fitted, X, y):
        return self.value


def constant(fitted, X, y, value=0.0):
    return value


@pytest.mark.parametrize(
    ("scoring", "other"),
    [(Constant, "tests.*Constant.*0.5.*"), (lambda value: partial(constant, value=value), "partial.*constant.*0.5.*")],
    ids=["object", "partial"],
)
def test_a_scorer_is_known_by_what_it_does(small, tmp_path, stopped, scoring, other):
    data, options = {"X": TEXTS, "y": Y, "X_val": TEXTS, "y_val": Y}, {"resume_dir": tmp_path}
    stopped(4, small(**options, scoring=scoring(0.5)).fit, **data)
    resumed = small(**options, scoring=scoring(0.5)).fit(**data, resume=True)
    assert resumed.validation_scores_ == [0.5, 0.5]
    with pytest.raises(CheckpointError, match=f"differs in scoring \\(then {other}, now "):
        small(**options, scoring=scoring(0.25)).fit(**data, resume=True)


def test_a_scorer_without_a_name_is_warned_of(small, tmp_path, stopped):
    data = {"X": TEXTS, "y": Y, "X_val": TEXTS, "y_val": Y}
    kept = small(resume_dir=tmp_path, scoring=lambda *_: 0.5)
    stopped(4, kept.fit, **data)
    with pytest.warns(UserWarning, match="resume=True cannot tell whether the state has the scores of this scoring"):
        assert kept.fit(**data, resume=True).validation_scores_ == [0.5, 0.5]


# Refused --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "data", "named"),
    [
        ({"learning_rate": 1e-4}, {}, r"learning_rate \(then 0.003, now 0.0001\)"),
        ({"max_grad_norm": None}, {}, r"max_grad_norm \(then 1.0, now None\)"),
        ({"random_state": 1}, {}, r"random_state \(then 0, now 1\)"),
        ({"class_weight": "balanced"}, {}, r"class_weight \(then None, now 'balanced'\)"),
        ({"dtype": "bfloat16"}, {}, r"the precision \(then torch.float32, now torch.bfloat16\)"),
        ({"max_length": 64}, {}, r"max_length \(then None, now 64\)"),
        ({}, {"X": TEXTS[::-1]}, "the training texts"),
        ({}, {"X": TEXTS[:9], "y": Y[:9]}, "the training texts, the targets, the weights of the rows"),
        ({}, {"y": Y[::-1]}, "the targets"),
        ({}, {"sample_weight": np.arange(1, 13)}, "the weights of the rows"),
        ({}, {"X_val": TEXTS, "y_val": Y}, "the validation data"),
    ],
    ids=lambda value: str(list(value)) if isinstance(value, dict) else None,
)
def test_another_fit_is_refused(small, tmp_path, params, data, named):
    small(resume_dir=tmp_path).fit(TEXTS, Y)
    before = (tmp_path / STATE).read_bytes()
    with pytest.raises(CheckpointError, match=f"differs in {named}: fit with resume=False to start from scratch"):
        small(resume_dir=tmp_path, **params).fit(**{"X": TEXTS, "y": Y} | data, resume=True)
    assert (tmp_path / STATE).read_bytes() == before


@pytest.mark.parametrize("options", [{"n_frozen_layers": 1}, {}], ids=["frozen layers", "words that no text uses"])
def test_other_files_under_the_same_name_are_refused(
    small, tmp_path, tiny_tokenizer, tiny_checkpoint, still_checkpoint, options
):
    other = write_checkpoint(tmp_path / "other", tiny_tokenizer, seed=1)
    options |= {"checkpoint": tmp_path / "checkpoint", "resume_dir": tmp_path / "state"}
    for folder, named in (
        (tiny_checkpoint, None),
        (other, "the weights that do not learn:"),
        (still_checkpoint, "the checkpoint's geometry:"),
    ):
        options["checkpoint"].unlink(missing_ok=True)
        options["checkpoint"].symlink_to(folder)
        with pytest.raises(CheckpointError, match=f"differs in {named}") if named else nullcontext():
            small(**options).fit(TEXTS, Y, resume=True)


def test_another_estimator_is_refused(small, tmp_path):
    small(XLMRobertaMaskedLM, resume_dir=tmp_path).fit(TEXTS)
    with pytest.raises(CheckpointError, match=r"the estimator \(then XLMRobertaMaskedLM, now XLMRobertaCausalLM\)"):
        small(XLMRobertaCausalLM, resume_dir=tmp_path).fit(TEXTS, resume=True)


def test_parameters_that_change_no_weight_may_differ(small, tmp_path, stopped, capsys):
    stopped(4, small(resume_dir=tmp_path, resume_every=2).fit, TEXTS, Y)
    moved = tmp_path.rename(tmp_path.with_name("moved"))
    fitted = small(resume_dir=moved, verbose=1).fit(np.array(TEXTS), Y.tolist(), resume=True)
    assert same(fitted, small().fit(TEXTS, Y))
    assert "epoch 2/2" in capsys.readouterr().err


def test_equal_values_may_have_other_types(small, tmp_path):
    small(resume_dir=tmp_path, class_weight={0: 1.0, 1: 2.0, 2: 1.0}).fit(TEXTS, Y)
    weights = {np.int64(2): np.float64(1.0), 1: 2.0, 0: 1.0}
    small(resume_dir=tmp_path, class_weight=weights, learning_rate=np.float64(0.003)).fit(TEXTS, Y, resume=True)
    with pytest.raises(
        CheckpointError, match=r"class_weight \(then {0: 1.0, 1: 2.0, 2: 1.0}, now {0: 1.0, 1: 2.0, 2: 3.0}"
    ):
        small(resume_dir=tmp_path, class_weight={0: 1.0, 1: 2.0, 2: 3.0}).fit(TEXTS, Y, resume=True)


def test_resume_needs_a_folder(small):
    with pytest.raises(ValueError, match="resume_dir must name a folder, got ''"):
        small(resume_dir="").fit(TEXTS, Y)
    with pytest.raises(ValueError, match="resume=True continues from the state in resume_dir, which is None"):
        small().fit(TEXTS, Y, resume=True)


@pytest.mark.parametrize("params", [{"resume_dir": 3}, {"resume_every": 0}, {"resume_every": 1.5}], ids=str)
def test_wrong_values_are_refused(small, params):
    with pytest.raises(ValueError, match=f"The '{next(iter(params))}' parameter"):
        small(**params).fit(TEXTS, Y)
