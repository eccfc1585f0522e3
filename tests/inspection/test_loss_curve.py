"""The curves of a fit, drawn as the estimator keeps them."""

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline

import skxlmr
from skxlmr import XLMRobertaClassifier, XLMRobertaVectorizer
from skxlmr.inspection import LossCurveDisplay
from tests.contract import FAST, TEXTS, Y, each_that_trains

pytest.importorskip("matplotlib", reason="needs the extra plot").use("Agg")


@pytest.fixture(autouse=True)
def closed():
    from matplotlib import pyplot

    yield
    pyplot.close("all")


@pytest.fixture(scope="module")
def stopped(tiny_checkpoint):
    """Fitted with early stopping; an epoch that is not the last was the best."""
    params = FAST | {"max_epochs": 6, "early_stopping": True, "n_iter_no_change": 2}
    made = XLMRobertaClassifier(tiny_checkpoint, **params, validation_fraction=0.3).fit(TEXTS * 4, Y * 4)
    made.validation_scores_ = [0.25, 0.75, 0.5, 0.5][: made.n_iter_] + [0.1] * (made.n_iter_ - 4)
    made.final_loss_ = made.loss_curve_[1]
    return made


def curve(line):
    return [list(map(float, part)) for part in (line.get_xdata(), line.get_ydata())]


def rings(display):
    """Epochs that are marked as kept, in each of the axes."""
    return [[line.get_xdata()[0] for line in ax.lines if line.get_gid() == "skxlmr kept epoch"] for ax in display.axes_]


def test_the_curves_are_those_of_the_estimator(stopped):
    display = LossCurveDisplay.from_estimator(stopped)
    epochs = list(range(1, stopped.n_iter_ + 1))
    assert curve(display.lines_[0]) == [epochs, stopped.loss_curve_]
    assert curve(display.lines_[1]) == [epochs, stopped.validation_scores_]
    assert display.lines_[0].axes is display.axes_[0] and display.lines_[1].axes is display.axes_[1]
    assert [ax.get_ylabel() for ax in display.axes_] == ["training loss", "validation score (accuracy)"]
    assert display.axes_[1].get_xlabel() == "epoch"
    assert rings(display) == [[2], [2]]
    assert display.ax_.get_legend().get_texts()[0].get_text() == "weights that were kept: epoch 2"


def test_partial_fit_after_it_keeps_no_epoch(stopped, tiny_checkpoint):
    made = XLMRobertaClassifier(tiny_checkpoint, **FAST, early_stopping=True, validation_fraction=0.3)
    made.fit(TEXTS * 2, Y * 2)
    assert rings(LossCurveDisplay.from_estimator(made)) == [[1], [1]]
    made.partial_fit(TEXTS, Y).partial_fit(TEXTS, Y)
    display = LossCurveDisplay.from_estimator(made)
    assert curve(display.lines_[0])[1] == made.loss_curve_ and len(made.loss_curve_) == 3
    assert curve(display.lines_[1]) == [[1], made.validation_scores_]
    assert rings(display) == [[], []]
    assert display.axes_[1].get_xlabel() == "epoch, or call of partial_fit"


def test_warm_start_says_that_it_is_the_last_fit(tiny_checkpoint):
    made = XLMRobertaClassifier(tiny_checkpoint, **FAST, warm_start=True).fit(TEXTS, Y).fit(TEXTS, Y)
    display = LossCurveDisplay.from_estimator(made)
    assert curve(display.lines_[0]) == [[1], made.loss_curve_]
    assert len(display.axes_) == 1 and display.ax_.get_xlabel() == "epoch of the last fit"


@each_that_trains
def test_every_estimator_that_trains(fitted, estimator):
    made = fitted(estimator)
    assert curve(LossCurveDisplay.from_estimator(made).lines_[0])[1] == made.loss_curve_


def test_parts_of_other_estimators(stopped, tiny_checkpoint, tmp_path):
    mlp = MLPClassifier(max_iter=3, early_stopping=True, n_iter_no_change=5, random_state=0)
    with pytest.warns(UserWarning, match="Maximum iterations"):
        pipeline = make_pipeline(XLMRobertaVectorizer(tiny_checkpoint), mlp).fit(TEXTS * 2, Y * 2)
    display = LossCurveDisplay.from_estimator(pipeline)
    assert curve(display.lines_[0])[1] == pipeline[-1].loss_curve_
    assert rings(display)[0] == [1 + np.argmax(pipeline[-1].validation_scores_)]
    classifier = XLMRobertaClassifier(tiny_checkpoint, **FAST)
    search = GridSearchCV(classifier, {"max_epochs": [2]}, cv=2).fit(TEXTS, Y)
    assert curve(LossCurveDisplay.from_estimator(search).lines_[0])[1] == search.best_estimator_.loss_curve_
    skxlmr.save(stopped, tmp_path / "saved")
    loaded = LossCurveDisplay.from_estimator(skxlmr.load(tmp_path / "saved"))
    assert curve(loaded.lines_[1])[1] == stopped.validation_scores_ and rings(loaded) == [[2], [2]]


def test_what_has_no_curve_says_why(stopped, tiny_checkpoint, tmp_path):
    skxlmr.save(stopped, tmp_path / "saved")
    opened = XLMRobertaClassifier.from_checkpoint(tmp_path / "saved")
    with pytest.raises(ValueError, match="was not trained, but made by from_checkpoint"):
        LossCurveDisplay.from_estimator(opened)
    with pytest.raises(NotFittedError, match="this XLMRobertaClassifier has no loss_curve_"):
        LossCurveDisplay.from_estimator(XLMRobertaClassifier())
    for other in (XLMRobertaVectorizer(tiny_checkpoint), make_pipeline(LogisticRegression())):
        with pytest.raises(ValueError, match="keeps no loss curve: pass an estimator that trains by epochs"):
            LossCurveDisplay.from_estimator(other)


def test_several_fits_in_one_picture():
    first = LossCurveDisplay.from_values([3, 2, 1], scores=[0.1, 0.3, 0.2], kept_epoch=2, name="slow")
    second = LossCurveDisplay.from_values([2, 1], scores=[0.2, 0.4], kept_epoch=2, name="fast", ax=first.axes_)
    assert second.axes_.tolist() == first.axes_.tolist()
    a, b = first.lines_[0], second.lines_[0]
    assert a.get_color() != b.get_color() and a.get_linestyle() != b.get_linestyle()
    assert [text.get_text() for text in first.ax_.get_legend().get_texts()] == [
        "slow",
        "weights that were kept",
        "fast",
    ]
    assert second.lines_[1].axes is first.axes_[1]


def test_names_in_any_script_are_drawn():
    """With a box for letters that no font has, and dollar signs that are no formulas."""
    display = LossCurveDisplay.from_values([2, 1], scores=[0.1, 0.2], name="模型 $a$", score_name="准确 $b$")
    display.figure_.canvas.draw()
    assert display.axes_[1].get_ylabel().endswith(r" \$b\$")
    assert display.axes_[0].get_legend().get_texts()[0].get_text().endswith(r" \$a\$")


def test_names_that_begin_with_an_underscore_are_in_the_legend():
    """matplotlib takes such labels for those of artists that are to be left out."""
    first = LossCurveDisplay.from_values([2, 1], name="_a")
    LossCurveDisplay.from_values([3, 1], name="b", ax=first.ax_)
    assert [text.get_text().strip() for text in first.ax_.get_legend().get_texts()] == ["_a", "b"]
    both = LossCurveDisplay.from_values([2, 1], scores=[1, 2], score_name="_score", ax=first.figure_.add_subplot())
    assert [text.get_text().strip() for text in both.ax_.get_legend().get_texts()] == ["training loss", "_score"]


def test_one_axes_holds_both():
    from matplotlib import pyplot

    _, ax = pyplot.subplots()
    display = LossCurveDisplay.from_values([3, 2], scores=[0.1, 0.3], ax=ax)
    assert display.ax_ is ax and len(display.axes_) == 2
    assert display.axes_[1].get_ylabel() == "validation score"
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["training loss", "validation score"]
    assert display.plot() is display and display.ax_ is not ax
    other = LossCurveDisplay.from_values([2, 1], scores=[5, 6], ax=ax)
    assert len(ax.figure.axes) == 2 and other.axes_[1].get_ylim()[0] < 0.1  # one scale on the right, of both


def test_long_names_stand_below_each_other():
    figure = LossCurveDisplay.from_values([2, 1], name="a" * 50, ax=None).figure_
    LossCurveDisplay.from_values([2, 1], name="b" * 50, ax=figure.axes[0])
    figure.canvas.draw()
    box = figure.axes[0].get_legend().get_window_extent()
    assert box.x0 >= 0 and box.x1 <= figure.bbox.width


def test_an_epoch_is_a_whole_number():
    display = LossCurveDisplay.from_values([2])
    low, high = display.ax_.get_xlim()
    assert [place for place in display.ax_.get_xticks() if low <= place <= high] == [1]


def test_steps_are_spread_over_the_epochs():
    display = LossCurveDisplay.from_values([3, 2], step_losses=[4, 2, 2, 2])
    of_steps, of_epochs = display.ax_.lines
    assert curve(of_steps) == [[0.5, 1, 1.5, 2], [4, 2, 2, 2]]
    assert curve(of_epochs) == [[1, 2], [3, 2]]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"losses": []}, "losses has no epochs"),
        ({"losses": [[1]]}, "losses must have one dimension, got 2"),
        ({"losses": [1], "scores": [1, 2]}, "scores has 2 epochs, more than the 1 of losses"),
        ({"losses": [1], "kept_epoch": 0}, "kept_epoch must be from 1 to 1, got 0"),
        ({"losses": [1], "ax": [1, 2, 3]}, "ax must be one or two axes, got 3"),
    ],
)
def test_bad_values_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        LossCurveDisplay.from_values(**values)


@pytest.mark.parametrize("kept_epoch", [1.5, "2", True])
def test_the_kept_epoch_is_a_whole_number(kept_epoch):
    with pytest.raises(TypeError, match=f"kept_epoch must be a whole number, found {kept_epoch!r}"):
        LossCurveDisplay.from_values([3, 2, 1], kept_epoch=kept_epoch)
