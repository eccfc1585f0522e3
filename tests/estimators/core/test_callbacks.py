"""scikit-learn's callbacks on the estimators: which tasks they see, what they are given, how they stop a fit."""

import io
import pickle
from contextlib import redirect_stdout, suppress

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.callback import ProgressBar, ScoringMonitor
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

import skxlmr
from skxlmr import XLMRobertaClassifier, XLMRobertaMaskedLM, XLMRobertaVectorizer
from tests.contract import answers, assert_same, each, inputs
from tests.estimators.conftest import differing, weights_of


class Recorder:
    """Records the hooks; ``stop(context, fitted)`` and ``fail(hook, context)`` interfere."""

    def __init__(self, stop=lambda context: False, fail=lambda hook, context: None):
        self.calls, self.stop, self.fail = [], stop, fail

    def _note(self, hook, context, **given):
        self.calls.append((hook, context.task_name, context.task_id, given))
        self.fail(hook, context)

    def setup(self, estimator, context):
        self._note("setup", context)

    def teardown(self, estimator, context):
        self._note("teardown", context)

    def on_fit_task_begin(self, estimator, context, *, X=None, y=None, metadata=None):
        self._note("begin", context, X=X, y=y, metadata=metadata, max_subtasks=context.max_subtasks)

    def on_fit_task_end(self, estimator, context, *, X=None, y=None, metadata=None):
        self._note("end", context, X=X, y=y, metadata=metadata)
        return self.stop(context)

    def names(self, *tasks):
        """Hook and task of each call, of these tasks alone if any are named."""
        return [f"{hook} {task} {number}" for hook, task, number, _ in self.calls if not tasks or task in tasks]

    def count(self, hook):
        return sum(call[0] == hook for call in self.calls)


class Keeping(Recorder):
    """Keeps the fitted estimators of the epochs and of the fit, at their beginning and end."""

    def __init__(self):
        super().__init__()
        self.fitted, self.begun = [], []

    def on_fit_task_begin(self, estimator, context, *, fitted_estimator=None):
        self.begun.append(fitted_estimator)

    def on_fit_task_end(self, estimator, context, *, fitted_estimator=None):
        if context.task_name != "step":
            self.fitted.append(fitted_estimator)


@pytest.fixture
def small(make):
    def small(estimator=XLMRobertaClassifier, **params):
        return make(estimator, **{"max_epochs": 2, "batch_size": 16} | params)

    return small


# What they see --------------------------------------------------------------------------------------------------------


def test_tasks_of_a_fit(small, texts, languages):
    """48 rows make three steps an epoch."""
    recorder, weights = Recorder(), np.linspace(1, 2, 48)
    classifier = small().set_callbacks(recorder)
    assert classifier.fit(texts, languages, sample_weight=weights) is classifier
    steps = [f"{hook} step {i}" for i in range(3) for hook in ("begin", "end")]
    epochs = [call for i in range(2) for call in (f"begin epoch {i}", *steps, f"end epoch {i}")]
    assert recorder.names() == ["setup fit 0", "begin fit 0", *epochs, "end fit 0", "teardown fit 0"]
    for hook, task, _, given in recorder.calls:
        if hook in ("begin", "end"):
            assert given["X"] is texts and given["y"] is languages
            assert given["metadata"] == {"sample_weight": weights}
        if hook == "begin":
            assert given["max_subtasks"] == {"fit": 2, "epoch": 3, "step": 0}[task]


def test_without_weights_there_is_no_metadata(small, texts, languages):
    recorder = Recorder()
    small(max_epochs=1).set_callbacks(recorder).fit(texts, languages)
    assert {str(given["metadata"]) for hook, _, _, given in recorder.calls if hook in ("begin", "end")} == {"None"}


@pytest.mark.parametrize("options", [{}, {"n_frozen_layers": 1}, {"subword_sampling": 0.3}], ids=str)
def test_fitted_estimators_are_the_fit_stopped_there(small, texts, languages, options):
    """Also when they are used long afterwards, and whatever vocabulary the fit trains on."""
    keeping = Keeping()
    constant = {"schedule": "constant", **options}
    whole = small(**constant).set_callbacks(keeping).fit(texts[:24], languages[:24])
    short = small(**constant, max_epochs=1).fit(texts[:24], languages[:24])
    first, second, last = keeping.fitted
    for fitted, expected, n_epochs in ((first, short, 1), (second, whole, 2), (last, whole, 2)):
        assert not differing(weights_of(fitted), weights_of(expected))
        np.testing.assert_array_equal(fitted.predict_proba(texts[24:]), expected.predict_proba(texts[24:]))
        assert fitted.n_iter_ == n_epochs and fitted.loss_curve_ == expected.loss_curve_
        assert fitted.validation_scores_ is None
    at_fit, at_first, *_ = keeping.begun
    assert at_fit is None and at_first.n_iter_ == 0
    assert at_first.predict(texts).shape == (48,)
    frozen = [p for p in first.module_.parameters() if not p.requires_grad]
    assert bool(frozen) == bool(options.get("n_frozen_layers"))
    shared = {id(p) for p in whole.module_.parameters()}
    assert all(id(p) in shared for p in frozen)  # what does not learn is not copied
    assert first.module_.origin is whole.module_.origin is not None


def test_callbacks_change_nothing(small, texts, languages):
    expected = small().fit(texts, languages)
    watched = small().set_callbacks(Keeping(), ScoringMonitor(scoring="accuracy")).fit(texts, languages)
    assert not differing(weights_of(watched), weights_of(expected))
    assert watched.loss_curve_ == expected.loss_curve_


@each
def test_each_estimator(make_any, estimator):
    X, y, _ = inputs(estimator)
    weights = {"sample_weight": np.ones(6)} if hasattr(estimator, "partial_fit") else {}
    recorder, keeping = Recorder(), Keeping()
    fitted = make_any(estimator).set_callbacks(recorder, keeping).fit(X, y, **weights)
    tasks = ["fit", "epoch", "step"] if weights else ["fit"]
    calls = [f"{hook} {task} 0" for hook, order in (("begin", tasks), ("end", tasks[::-1])) for task in order]
    assert recorder.names() == ["setup fit 0", *calls, "teardown fit 0"]
    assert all(given["X"] is X and given["y"] is y for _, _, _, given in recorder.calls if "X" in given)
    assert len(keeping.fitted) == (2 if weights else 1)
    for then in keeping.fitted:
        assert_same(answers(then, X), answers(fitted, X))


def test_every_call_of_partial_fit_is_a_fit_of_one_epoch(small, texts, languages):
    recorder, keeping = Recorder(), Keeping()
    options = {"max_epochs": 7, "random_state": 3}
    watched, alone = small(**options).set_callbacks(recorder, keeping), small(**options)
    for rows in (slice(0, 32), slice(32, 48)):
        portion = texts[rows], languages[rows], np.unique(languages)
        watched.partial_fit(*portion, sample_weight=np.ones(len(portion[0])))
        alone.partial_fit(*portion)
        assert not differing(weights_of(watched), weights_of(alone))
        for then in keeping.fitted[-2:]:
            np.testing.assert_array_equal(then.predict_proba(texts), alone.predict_proba(texts))
            assert then.loss_curve_ == alone.loss_curve_ and then.n_iter_ == alone.n_iter_
            assert then.validation_scores_ is None
    assert recorder.names("fit", "epoch") == 2 * [
        "setup fit 0",
        "begin fit 0",
        "begin epoch 0",
        "end epoch 0",
        "end fit 0",
        "teardown fit 0",
    ]
    assert [given["max_subtasks"] for hook, task, _, given in recorder.calls if (hook, task) == ("begin", "fit")] == [
        1,
        1,
    ]
    with pytest.raises(ValueError, match="is not among the classes"):
        watched.partial_fit(texts[:1], ["fr"])
    assert recorder.count("setup") == recorder.count("teardown") == 2


def test_an_interrupt_of_partial_fit_is_passed_on(small, texts, languages):
    def fail(hook, context):
        if (hook, context.task_name) == ("end", "epoch"):
            raise KeyboardInterrupt

    recorder = Recorder(fail=fail)
    classifier = small().set_callbacks(recorder)
    with pytest.raises(KeyboardInterrupt):
        classifier.partial_fit(texts, languages, classes=np.unique(languages))
    assert classifier.n_iter_ == 1 and recorder.count("teardown") == 1  # the pass itself was over


def test_a_resumed_fit_goes_on_with_its_numbers(small, texts, languages, tmp_path):
    def fail(hook, context):
        if (hook, context.task_name, context.task_id) == ("begin", "step", 2) and context.parent.task_id == 1:
            raise RuntimeError("killed")

    options = {"max_epochs": 3, "resume_dir": tmp_path, "resume_every": 1}
    with pytest.raises(RuntimeError, match="killed"):
        small(**options).set_callbacks(Recorder(fail=fail)).fit(texts, languages)
    recorder, monitor = Recorder(), ScoringMonitor(scoring="accuracy")
    resumed = small(**options).set_callbacks(recorder, monitor).fit(texts, languages, resume=True)
    assert resumed.n_iter_ == 3
    last = ["begin epoch 2", *(f"{hook} step {i}" for i in range(3) for hook in ("begin", "end")), "end epoch 2"]
    assert recorder.names("epoch", "step") == ["begin epoch 1", "begin step 2", "end step 2", "end epoch 1", *last]
    logs = monitor.get_logs().data_as_pandas
    assert logs[logs["task_name"] == "epoch"]["task_id"].tolist() == [1, 2]


# Stopping -------------------------------------------------------------------------------------------------------------


def test_a_callback_stops_the_fit_after_an_epoch(small, texts, languages):
    recorder = Recorder(stop=lambda context: context.task_name == "epoch" and context.task_id == 1)
    stopped = small(max_epochs=9, schedule="constant").set_callbacks(recorder).fit(texts, languages)
    expected = small(max_epochs=2, schedule="constant").fit(texts, languages)
    assert stopped.n_iter_ == 2 and stopped.loss_curve_ == expected.loss_curve_
    assert not differing(weights_of(stopped), weights_of(expected))
    assert recorder.names()[-3:] == ["end epoch 1", "end fit 0", "teardown fit 0"]


def test_stopping_keeps_the_best_epoch_of_early_stopping(small, texts, languages):
    options = {"max_epochs": 3, "early_stopping": True, "n_iter_no_change": 9}
    stop = Recorder(stop=lambda context: context.task_name == "epoch" and context.task_id == 2)
    expected = small(**options).fit(texts, languages)
    stopped = small(**options).set_callbacks(stop).fit(texts, languages)
    assert not differing(weights_of(stopped), weights_of(expected))
    assert stopped.validation_scores_ == expected.validation_scores_ and len(stopped.validation_scores_) == 3


def test_a_callback_that_stops_every_task_ends_the_first_epoch_early(small, texts, languages):
    recorder = Recorder(stop=lambda context: True)
    stopped = small(max_epochs=9).set_callbacks(recorder).fit(texts, languages)
    assert recorder.names("epoch", "step") == ["begin epoch 0", "begin step 0", "end step 0", "end epoch 0"]
    assert stopped.n_iter_ == 1 and np.isfinite(stopped.loss_curve_[0])
    assert stopped.predict(texts).shape == (48,)


def test_a_stopped_fit_is_not_resumed(small, texts, languages, tmp_path):
    stop = Recorder(stop=lambda context: context.task_name == "epoch")
    stopped = small(max_epochs=3, resume_dir=tmp_path).set_callbacks(stop).fit(texts, languages)
    again = small(max_epochs=3, resume_dir=tmp_path).fit(texts, languages, resume=True)
    assert again.n_iter_ == 1 and not differing(weights_of(again), weights_of(stopped))


# Errors ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize(
    "place", ["setup fit", "begin fit", "begin epoch", "begin step", "end step", "end epoch", "end fit"]
)
def test_teardown_comes_once_whatever_fails(small, texts, languages, place, error):
    def fail(hook, context):
        if f"{hook} {context.task_name}" == place:
            raise error("planted")

    failing, other = Recorder(fail=fail), Recorder()
    classifier = small(max_epochs=2).set_callbacks(other, failing)
    with pytest.raises(error, match="planted"):
        classifier.fit(texts, languages)
    assert failing.count("teardown") == other.count("teardown") == 1
    # an interrupt leaves the weights of the epoch that was finished, an error in a first fit nothing
    finished = place == "end fit" or (place == "end epoch" and error is KeyboardInterrupt)
    assert hasattr(classifier, "module_") == finished
    assert set(vars(classifier)) & {"_callback_fit_ctx", "_skl_callbacks_to_teardown"} == set()


def test_a_fit_that_cannot_begin_tells_nobody(small, texts):
    recorder = Recorder()
    with pytest.raises(ValueError, match="inconsistent numbers"):
        small().set_callbacks(recorder).fit(texts, [0, 1])
    assert recorder.calls == []


def test_an_interrupt_in_the_second_epoch(small, texts, languages):
    def fail(hook, context):
        if hook == "begin" and context.task_name == "step" and context.parent.task_id == 1:
            raise KeyboardInterrupt

    recorder = Recorder(fail=fail)
    classifier = small().set_callbacks(recorder)
    with pytest.raises(KeyboardInterrupt):
        classifier.fit(texts, languages)
    assert classifier.n_iter_ == 1 and classifier.predict(texts).shape == (48,)
    assert recorder.count("teardown") == 1 and "end fit 0" not in recorder.names()


# scikit-learn's own ---------------------------------------------------------------------------------------------------


def test_scoring_monitor_scores_every_epoch(small, texts, languages):
    monitor = ScoringMonitor(scoring=["accuracy", "neg_log_loss"])
    classifier = small(max_epochs=3).set_callbacks(monitor).fit(texts, languages)
    logs = monitor.get_logs().data_as_pandas
    epochs = logs[logs["task_name"] == "epoch"].sort_values("task_id")
    assert len(epochs) == 3 and len(logs) == 4  # and the whole fit; steps have no estimator to score
    assert epochs["accuracy"].iloc[-1] == classifier.score(texts, languages)
    assert epochs["neg_log_loss"].is_monotonic_increasing


def test_scoring_monitor_scores_what_needs_no_targets(small, texts):
    """scikit-learn's monitor scores nothing where y is None; a language model takes any y, and reads none."""
    monitor = ScoringMonitor(scoring={"log_likelihood": lambda lm, X, y: lm.score(X)})
    lm = small(XLMRobertaMaskedLM, max_epochs=1).set_callbacks(monitor).fit(texts[:8], np.zeros(8), X_val=texts[8:12])
    assert [row["log_likelihood"] for row in monitor.get_logs().data] == 2 * [lm.score(texts[:8])]
    assert not differing(weights_of(lm), weights_of(small(XLMRobertaMaskedLM, max_epochs=1).fit(texts[:8])))


def test_scoring_monitor_passes_the_weights(small, texts, languages):
    monitor, weights = ScoringMonitor(scoring="accuracy"), np.where(languages == "de", 5.0, 0.1)
    classifier = small(max_epochs=1).set_callbacks(monitor).fit(texts, languages, sample_weight=weights)
    (fit,) = [row for row in monitor.get_logs().data if row["task_name"] == "fit"]
    assert fit["accuracy"] == pytest.approx(classifier.score(texts, languages, sample_weight=weights))


def test_progress_bar_shows_fit_and_epochs(small, texts, languages):
    pytest.importorskip("rich", reason="the progress bar of scikit-learn needs rich")
    with redirect_stdout(io.StringIO()) as shown:
        small().set_callbacks(ProgressBar()).fit(texts, languages)
    for line in ("XLMRobertaClassifier - fit", "XLMRobertaClassifier - epoch #0", "XLMRobertaClassifier - epoch #1"):
        assert line in shown.getvalue()
    assert "100%" in shown.getvalue()


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_in_a_grid_search(small, texts, languages, n_jobs):
    """The bar is set on the search and handed down, the monitor on the estimator and cloned with it."""
    pytest.importorskip("rich", reason="the progress bar of scikit-learn needs rich")
    monitor = ScoringMonitor(scoring="accuracy")
    grid = {"learning_rate": [1e-3, 3e-3]}
    search = GridSearchCV(small(max_epochs=2).set_callbacks(monitor), grid, cv=2, n_jobs=n_jobs)
    with redirect_stdout(io.StringIO()) as shown:
        search.set_callbacks(ProgressBar(max_propagation_depth=None)).fit(texts, languages)
    assert "GridSearchCV" in shown.getvalue() and "XLMRobertaClassifier - fit" in shown.getvalue()
    logs = monitor.get_logs().data_as_pandas
    assert len(logs[logs["task_name"] == "epoch"]) == 2 * (2 * 2 + 1)  # two epochs of each split, and of the refit
    assert search.best_estimator_.predict(texts).shape == (48,)
    pickle.dumps(search.best_estimator_)


def test_on_features_in_a_pipeline(make_any, texts, languages):
    """Without a warning that the step with the features knows no callbacks."""
    pytest.importorskip("rich", reason="the progress bar of scikit-learn needs rich")
    pipeline = make_pipeline(make_any(XLMRobertaVectorizer), StandardScaler(), LogisticRegression(max_iter=1000))
    with redirect_stdout(io.StringIO()) as shown:
        pipeline.set_callbacks(ProgressBar()).fit(texts, languages)
    assert "XLMRobertaVectorizer - fit" in shown.getvalue()


def test_in_a_pipeline(small, texts, languages):
    recorder = Recorder()
    recorder.max_propagation_depth = None  # handed down
    pipeline = make_pipeline(FunctionTransformer(), small(max_epochs=1))
    with suppress(UserWarning):
        pipeline.set_callbacks(recorder)
    assert isinstance(pipeline, Pipeline)
    with pytest.warns(UserWarning, match="FunctionTransformer does not support callbacks"):
        pipeline.fit(texts, languages)
    assert {"begin epoch 0", "end step 2"} <= set(recorder.names())
    assert recorder.count("teardown") == 1


# What stays out of the way --------------------------------------------------------------------------------------------


def test_clones_parameters_and_pickles(small, texts, languages, tmp_path):
    monitor = ScoringMonitor(scoring="accuracy")
    classifier = small(max_epochs=1).set_callbacks(monitor)
    assert classifier.get_params() == small(max_epochs=1).get_params()
    assert clone(classifier)._skl_callbacks == [monitor]
    classifier.fit(texts, languages)
    learnt = set(vars(small(max_epochs=1).fit(texts, languages)))
    assert set(vars(classifier)) - learnt == {"_skl_callbacks"}
    expected = classifier.predict_proba(texts)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(classifier)).predict_proba(texts), expected)
    skxlmr.save(classifier, tmp_path / "saved")
    loaded = skxlmr.load(tmp_path / "saved")
    assert not hasattr(loaded, "_skl_callbacks")
    np.testing.assert_array_equal(loaded.predict_proba(texts), expected)
    assert set(vars(classifier.set_callbacks())) == learnt


class Saving(Recorder):
    """Saves the estimator of each epoch to a folder."""

    def __init__(self, folder):
        super().__init__()
        self.folder = folder

    def on_fit_task_end(self, estimator, context, *, fitted_estimator=None):
        if context.task_name == "epoch":
            skxlmr.save(fitted_estimator, self.folder / f"epoch-{context.task_id}")


def test_a_callback_may_save_each_epoch(small, texts, languages, tmp_path):
    fitted = small().set_callbacks(Saving(tmp_path)).fit(texts, languages)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["epoch-0", "epoch-1"]
    loaded = skxlmr.load(tmp_path / "epoch-1")
    np.testing.assert_array_equal(loaded.predict_proba(texts), fitted.predict_proba(texts))
    assert loaded.n_iter_ == 2


def test_only_callbacks_are_taken(small):
    with pytest.raises(TypeError, match="FitCallback protocol"):
        small().set_callbacks(print)


def test_without_callbacks_nothing_is_copied(small, texts, languages, monkeypatch):
    def forbidden(*arguments):
        raise AssertionError("copied")

    monkeypatch.setattr("skxlmr.estimators._fine_tuning.training_run.whole_copy", forbidden)
    monkeypatch.setattr("skxlmr.estimators._fine_tuning.fine_tuned.CallbackWatcher", forbidden)
    fitted = small().fit(texts, languages)
    monkeypatch.undo()
    monkeypatch.setattr("skxlmr.estimators._fine_tuning.training_run.whole_copy", forbidden)
    watched = small().set_callbacks(Recorder()).fit(texts, languages)  # which asks for no fitted estimator
    assert torch.equal(next(watched.module_.parameters()), next(fitted.module_.parameters()))
