"""fit(resume="auto"): the rungs of a halving search, repeated searches, and fits of which no state is kept."""

from functools import partial

import numpy as np
import pytest
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.metrics import make_scorer
from sklearn.model_selection import GridSearchCV, HalvingGridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skxlmr import Cache, XLMRobertaClassifier, XLMRobertaRegressor
from skxlmr.training.step import TrainStep
from tests.estimators.conftest import differing, weights_of
from tests.tiny import sentences

from .test_interrupted import DATA, STATE, Stop, same

pytestmark = pytest.mark.filterwarnings("ignore::skxlmr.FitQualityWarning")

TEXTS, Y = sentences(24), np.arange(24) % 4
CONSTANT = {"schedule": "constant", "warmup_ratio": 0.0}
GRID = {"learning_rate": [1e-6, 1e-4, 1e-3, 3e-3]}
PER_EPOCH = 3  # steps of 12 rows, those of a fold


@pytest.fixture
def steps(monkeypatch):
    """Counts the optimiser steps, and raises Stop before the one of the number in ``stop``."""
    counted, run = {"n": 0, "stop": None}, TrainStep.run

    def counting(*arguments, **options):
        if counted["n"] == counted["stop"]:
            counted["stop"] = None
            raise Stop
        counted["n"] += 1
        return run(*arguments, **options)

    monkeypatch.setattr(TrainStep, "run", counting)
    return counted


def halving(make, folder=None, **params):
    """A halving search over 1, 2 and 4 epochs, with 4, 2 and 1 candidates in 2 folds."""
    pipeline = make_pipeline(
        FunctionTransformer(), make(XLMRobertaClassifier, batch_size=4, resume_dir=folder, **CONSTANT | params)
    )
    step = "xlmrobertaclassifier__"
    search = HalvingGridSearchCV(
        pipeline,
        {f"{step}{name}": values for name, values in GRID.items()},
        resource=f"{step}max_epochs",
        min_resources=1,
        max_resources=4,
        factor=2,
        cv=2,
        return_train_score=False,
        error_score="raise",
    )
    search.fit(TEXTS, Y, **({f"{step}resume": "auto"} if folder else {}))
    assert search.n_candidates_ == [4, 2, 1]
    return search


@pytest.fixture(scope="module")
def plain(make):
    """The search without a state."""
    return halving(make)


def assert_same_search(found, expected):
    for name in ("split0_test_score", "split1_test_score"):
        np.testing.assert_array_equal(found.cv_results_[name], expected.cv_results_[name])
    fitted, told = found.best_estimator_[-1], expected.best_estimator_[-1]
    assert not differing(weights_of(fitted), weights_of(told)) and fitted.loss_curve_ == told.loss_curve_


# epochs of all rungs: 8 + 4 + 2 fits, of which the second and third rungs add 1 and 2; and 4 of the final fit on all rows
THROUGH, LEFT_OUT = (8 * 1 + 4 * 1 + 2 * 2) * PER_EPOCH + 4 * 6, (4 * 1 + 2 * 2) * PER_EPOCH


def test_halving_trains_each_survivor_through_once(make, plain, steps, tmp_path):
    kept = halving(make, tmp_path)
    assert steps["n"] == THROUGH
    assert_same_search(kept, plain)
    assert_same_search(halving(make, tmp_path), plain)
    assert steps["n"] == THROUGH  # again: not a step


@pytest.mark.parametrize("stop", [31, 62])  # in the second rung, and in the final fit
def test_a_halving_search_that_was_killed_is_repeated(make, plain, steps, tmp_path, stop):
    steps["stop"] = stop
    with pytest.raises(Stop):
        halving(make, tmp_path, resume_every=1)
    repeated = halving(make, tmp_path, resume_every=1)
    assert steps["n"] == THROUGH
    assert_same_search(repeated, plain)


def test_other_schedules_say_once_per_call_why_rungs_start_from_scratch(make, steps, tmp_path):
    with pytest.warns(
        UserWarning, match=r"schedule='linear' and warmup_ratio=0.1 the learning rate of each step depends"
    ) as said:
        halving(make, tmp_path, schedule="linear", warmup_ratio=0.1)
    assert len(said) == 1 and steps["n"] == THROUGH + LEFT_OUT


def test_a_grid_over_epochs_trains_each_epoch_once(make, steps, tmp_path):
    classifier = make(XLMRobertaClassifier, batch_size=4, resume_dir=tmp_path, **CONSTANT)
    grid = GridSearchCV(classifier, {"max_epochs": [1, 2, 3]}, cv=2, refit=False, error_score="raise")
    found = grid.fit(TEXTS, Y, resume="auto").cv_results_["mean_test_score"]
    assert steps["n"] == 2 * 3 * PER_EPOCH
    np.testing.assert_array_equal(
        found, grid.set_params(estimator__resume_dir=None).fit(TEXTS, Y).cv_results_["mean_test_score"]
    )


@pytest.mark.slow  # two processes, each of which opens the checkpoint
def test_two_processes(make, plain, tmp_path):
    classifier = make(XLMRobertaClassifier, batch_size=4, resume_dir=tmp_path, **CONSTANT)
    resource = {"resource": "max_epochs", "min_resources": 1, "max_resources": 4, "factor": 2}
    search = HalvingGridSearchCV(classifier, GRID, cv=2, n_jobs=2, error_score="raise", **resource)
    search.fit(TEXTS, Y, resume="auto")
    assert {path.parent.name for path in tmp_path.glob(f"*/*/{STATE}")} == {"epochs-1", "epochs-2", "epochs-4"}
    np.testing.assert_allclose(search.cv_results_["mean_test_score"], plain.cv_results_["mean_test_score"])


# Every estimator ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("estimator", DATA, ids=lambda cls: cls.__name__)
def test_each_estimator_continues(make, steps, tmp_path, estimator):
    def fitted(max_epochs, folder=None):
        made = make(estimator, max_epochs=max_epochs, batch_size=4, resume_dir=folder, **CONSTANT)
        return made.fit(*DATA[estimator], **({"resume": "auto"} if folder else {}))

    expected = fitted(2)
    per_epoch, rest = divmod(steps["n"], 2)
    fitted(1, tmp_path)
    before = steps["n"]
    found = fitted(2, tmp_path)
    assert same(found, expected) and not rest and steps["n"] - before == per_epoch
    assert (found.n_iter_, found.final_loss_) == (2, expected.final_loss_)


def test_the_original_xlm_continues(make, tiny_xlm, tmp_path, steps):
    import skxlmr

    for name, data in (("XLMClassifier", (TEXTS[:12], Y[:12])), ("XLMMaskedLM", (TEXTS[:12],))):
        options = {"batch_size": 4, **CONSTANT}
        expected = make(getattr(skxlmr, name), tiny_xlm, max_epochs=2, **options).fit(*data)
        options["resume_dir"] = tmp_path
        make(getattr(skxlmr, name), tiny_xlm, max_epochs=1, **options).fit(*data, resume="auto")
        before = steps["n"]
        found = make(getattr(skxlmr, name), tiny_xlm, max_epochs=2, **options).fit(*data, resume="auto")
        assert same(found, expected) and steps["n"] - before == PER_EPOCH


# What tells fits apart ------------------------------------------------------------------------------------------------


@pytest.fixture
def short(make):
    """A fit of one epoch of three steps that keeps its state, and continues from it."""

    def short(folder, *data, fit=None, estimator=XLMRobertaClassifier, **params):
        made = make(estimator, batch_size=4, resume_dir=folder, **CONSTANT | params)
        return made.fit(*(data or (TEXTS[:12], Y[:12])), resume="auto", **fit or {})

    return short


class Scorer:
    def __init__(self, value):
        self.value = value

    def score(self, fitted, X, y):
        return self.value


def test_another_fit_starts_from_scratch(short, steps, tmp_path):
    short(tmp_path)
    for number, (data, params) in enumerate(
        [
            ((), {"learning_rate": 1e-4}),
            ((), {"random_state": 1}),
            ((), {"random_state": np.random.RandomState(1)}),
            ((TEXTS[1:13], Y[:12]), {}),
            ((TEXTS[:12], Y[3:15]), {}),
            ((), {"fit": {"sample_weight": np.arange(1, 13)}}),
            ((), {"fit": {"X_val": TEXTS[12:], "y_val": Y[12:]}}),
            ((), {"scoring": "f1_macro"}),
            ((), {"scoring": "accuracy"}),
            ((), {"scoring": Scorer(0.5).score}),
            ((), {"scoring": Scorer(0.25).score}),
        ],
        2,
    ):
        for n_steps in (PER_EPOCH, 0):  # a RandomState in the same state is the same fit
            params = {**params, "random_state": np.random.RandomState(1)} if number == 4 else params
            before = steps["n"]
            short(tmp_path, *data, **params)
            assert steps["n"] - before == n_steps, params
        assert len(list(tmp_path.iterdir())) == number


def test_where_states_of_frozen_layers_are_kept_tells_no_fit_apart(short, steps, tmp_path):
    """But rounded states do."""
    memories = [None, Cache(), Cache(dtype="bfloat16"), Cache(dtype="bfloat16", max_bytes=2**20)]
    done = []
    for memory in memories:
        before = steps["n"]
        short(tmp_path, n_frozen_layers=1, memory=memory)
        done.append(steps["n"] - before)
    assert done == [PER_EPOCH, 0, PER_EPOCH, 0]


def test_a_warm_start_is_told_from_the_first_fit(short, make, steps, tmp_path):
    regressor = {"estimator": XLMRobertaRegressor, "warm_start": True}
    first = short(tmp_path, TEXTS[:12], 1.0 * Y[:12], **regressor)
    before = steps["n"]
    second = first.fit(TEXTS[:12], 1.0 * Y[:12], resume="auto")
    assert steps["n"] - before == PER_EPOCH and len(list(tmp_path.iterdir())) == 2
    plain = make(XLMRobertaRegressor, batch_size=4, warm_start=True, **CONSTANT)
    assert same(second, plain.fit(TEXTS[:12], 1.0 * Y[:12]).fit(TEXTS[:12], 1.0 * Y[:12]))


class Ending:
    """A callback that ends the fit after so many epochs."""

    def __init__(self, after=1):
        self.after, self.seen = after, 0

    def setup(self, estimator, context):
        self.seen = 0

    def on_fit_task_begin(self, estimator, context):
        pass

    teardown = on_fit_task_begin

    def on_fit_task_end(self, estimator, context):
        self.seen += context.task_name == "epoch"
        return self.seen == self.after


def test_a_fit_that_a_callback_ended_is_told_from_one_without(make, steps, tmp_path):
    def classifier():
        return make(XLMRobertaClassifier, batch_size=4, max_epochs=3, resume_dir=tmp_path, **CONSTANT)

    for _ in range(2):
        assert classifier().set_callbacks(Ending()).fit(TEXTS[:12], Y[:12], resume="auto").n_iter_ == 1
    assert steps["n"] == PER_EPOCH
    assert classifier().set_callbacks(Ending(after=2)).fit(TEXTS[:12], Y[:12], resume="auto").n_iter_ == 2
    assert classifier().fit(TEXTS[:12], Y[:12], resume="auto").n_iter_ == 3


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ({"random_state": None}, "with random_state=None every fit is another one. Set random_state to an int"),
        ({"scoring": lambda fitted, X, y: 1.0}, "its scoring has no name"),
        ({"scoring": make_scorer(lambda y, predicted: 1.0)}, "its scoring has no name"),
        ({"scoring": partial(lambda fitted, X, y: 1.0)}, "its scoring has no name"),
        ({"scoring": Scorer(lambda fitted, X, y: 1.0).score}, "its scoring has no name"),
    ],
)
def test_without_a_name_no_state_is_kept(short, tmp_path, params, reason):
    with pytest.warns(UserWarning, match=f"resume='auto' keeps no state of this fit: {reason}"):
        assert short(tmp_path / "state", **params).n_iter_ == 1
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize("resume", ["Auto", "", 2, None])
def test_other_values_are_refused(make, tmp_path, resume):
    with pytest.raises(ValueError, match="resume must be True, False or 'auto', got"):
        make(XLMRobertaClassifier, resume_dir=tmp_path).fit(TEXTS, Y, resume=resume)


def test_auto_needs_a_folder(make):
    with pytest.raises(ValueError, match="resume='auto' continues from the state in resume_dir, which is None: set"):
        make(XLMRobertaClassifier).fit(TEXTS, Y, resume="auto")
