"""Pictures of scores of groups: what is drawn is what the table says."""

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from skxlmr.inspection import GroupScoresDisplay, group_scores, transfer_scores

pytest.importorskip("matplotlib", reason="needs the extra plot").use("Agg")


@pytest.fixture(autouse=True)
def closed():
    from matplotlib import pyplot

    yield
    pyplot.close("all")


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    y = np.arange(60) % 2
    return rng.normal(size=(60, 1)) + y[:, None], y, np.repeat(["de", "en", "ru", "العربية"], [20, 10, 29, 1])


@pytest.fixture(scope="module")
def table(data):
    model = LogisticRegression().fit(*data[:2])
    return group_scores(model, *data, scoring=["accuracy", "f1"], n_resamples=20, random_state=0)


def labels(ax):
    return [label.get_text() for label in ax.get_yticklabels()]


def test_dots_are_the_scores_and_their_intervals(data):
    model = LogisticRegression().fit(*data[:2])
    display = GroupScoresDisplay.from_estimator(model, *data, n_resamples=20, random_state=0)
    expected = group_scores(model, *data, n_resamples=20, random_state=0)
    pd.testing.assert_frame_equal(display.scores, expected)
    best_first = expected.iloc[:4].sort_values("score", ascending=False)
    assert labels(display.ax_) == [f"{name} ({n})" for name, n in best_first["n_rows"].items()]
    dots, _, (bars,) = display.points_
    assert dots.get_xdata().tolist() == best_first["score"].tolist()
    ends = np.array([segment[:, 0] for segment in bars.get_segments()])
    shown = best_first[["low", "high"]].apply(lambda ends: ends.fillna(best_first["score"]))
    np.testing.assert_allclose(ends, shown)  # of a group of one row no line is seen
    legend = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    overall = f"all rows: {expected.loc['all rows', 'score']:.3g}"
    assert legend[0] == overall and "group, with 95 % interval" in legend
    assert display.ax_.get_xlabel() == "accuracy"
    assert display.ax_.yaxis_inverted()  # the best on top


def test_order_metric_and_axes(table):
    from matplotlib import pyplot

    figure, ax = pyplot.subplots()
    display = GroupScoresDisplay.from_scores(table, metric="f1", order="given", ax=ax)
    assert display.ax_ is ax and display.figure_ is figure
    assert labels(ax) == ["de (20)", "en (10)", "ru (29)", "العربية (1)"]
    assert ax.get_xlabel() == "f1"
    assert display.plot() is display and display.ax_ is not ax


@pytest.mark.parametrize("form", ["dots", "matrix"])
def test_names_in_any_script_are_drawn(form):
    """With letters that some font has, and a box for others: without a warning."""
    names = ["日本語", "ภาษาไทย", "العربية", "𐎠𐎡", "$a$"]
    table = pd.DataFrame({"score": np.arange(5.0)}, index=names)
    if form == "matrix":
        values = np.arange(25.0).reshape(5, 5)
        table = pd.DataFrame(values, pd.Index(names, name="train"), pd.Index(names, name="test"))
    display = GroupScoresDisplay.from_scores(table, order="given")
    display.figure_.canvas.draw()
    assert labels(display.ax_)[4] == r"\$a\$"


@pytest.mark.parametrize("form", ["dots", "matrix"])
def test_long_names_leave_room_for_the_picture(form):
    """Matplotlib warns where they do not, and warnings are errors."""
    names = [
        "de",
        "a name of a group that somebody wrote as a whole sentence, with all of its commas and its full stop",
    ]
    table = pd.DataFrame({"n_rows": [1, 2], "score": [0.2, 0.1]}, index=names)
    if form == "matrix":
        table = pd.DataFrame(np.eye(2), pd.Index(names, name="train"), pd.Index(names, name="test"))
    display = GroupScoresDisplay.from_scores(table, order="given")
    display.figure_.canvas.draw()
    assert display.ax_.bbox.width > 0.3 * display.figure_.bbox.width
    end = "its full stop" if form == "matrix" else "its full stop (2)"
    assert labels(display.ax_)[1].startswith("a name of a") and labels(display.ax_)[1].endswith(end[-15:])


def test_names_of_scores_and_groups_in_any_script():
    scores = {"准确 $a$": [0.5], "准确 $a$_low": [0.4], "准确 $a$_high": [0.6]}
    display = GroupScoresDisplay.from_scores(pd.DataFrame(scores, index=pd.Index(["de"], name="语言 $b$")))
    assert display.ax_.get_xlabel().endswith(r" \$a\$") and display.ax_.get_ylabel().endswith(r" \$b\$")


def test_a_table_without_intervals(data):
    model = LogisticRegression().fit(*data[:2])
    display = GroupScoresDisplay.from_scores(group_scores(model, *data, n_resamples=0))
    assert display.points_[2] == ()
    assert display.ax_.get_legend().get_texts()[-1].get_text() == "group"


def test_the_legend_lies_within_the_picture():
    scores = {"score": [0.2, 0.1, 0.15, 0.15], "low": [0.1, 0.0, 0.1, 0.1], "high": [0.3, 0.2, 0.2, 0.2]}
    table = pd.DataFrame(scores, index=["x" * 40, "a", "all rows", "mean of groups"])
    table.attrs["confidence_level"] = 0.95
    figure = GroupScoresDisplay.from_scores(table).figure_
    figure.canvas.draw()
    box = figure.axes[0].get_legend().get_window_extent()
    assert box.x0 >= 0 and box.x1 <= figure.bbox.width
    GroupScoresDisplay.from_scores(table.iloc[2:])  # no groups, and no warning of matplotlib


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ([[0.00021, 0.00034], [0.0, 0.00051]], ["0.00021", "0.00034", "0", "0.00051"]),
        ([[-52100.4, -3], [-200, -0.5]], ["-5.2e+04", "-3", "-2e+02", "-0.5"]),
        ([[0.05, 0.5], [0.0, 1.0]], ["0.05", "0.50", "0.00", "1.00"]),
    ],
)
def test_small_and_large_numbers_can_be_read(values, shown):
    table = pd.DataFrame(values, pd.Index(["de", "en"], name="train"), pd.Index(["de", "en"], name="test"))
    assert [text.get_text() for text in GroupScoresDisplay.from_scores(table).text_.flat] == shown


def test_the_matrix_has_its_numbers(data):
    X, y, groups = (part[:59] for part in data)
    matrix = transfer_scores(LogisticRegression(), X, y, groups, cv=2, all_others=True)
    matrix.iloc[0, 1] = np.nan
    display = GroupScoresDisplay.from_scores(matrix)
    shown = np.vectorize(lambda text: text.get_text())(display.text_)
    assert shown[0, 1] == "–"
    assert shown[1:].tolist() == [[f"{value:.2f}" for value in row] for row in matrix.to_numpy()[1:]]
    assert labels(display.ax_) == ["de", "en", "ru", "all others"]
    assert len(display.ax_.patches) == 3  # frames of the diagonal
    background = display.im_.cmap(display.im_.norm(matrix.iloc[2, 2]))[:3] @ np.array([0.299, 0.587, 0.114])
    assert display.text_[2, 2].get_color() == ("white" if background < 0.45 else "black")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({}, "metric must be one of 'accuracy', 'f1', got None"),
        ({"metric": "f2"}, "metric must be one of 'accuracy', 'f1', got 'f2'"),
        ({"order": "size"}, "order must be one of 'score', 'given', got 'size'"),
        ({"scores": pd.DataFrame({"a": [1]})}, "scores must be what group_scores or transfer_scores returns"),
    ],
)
def test_bad_input_is_refused(table, change, message):
    with pytest.raises(ValueError, match=message):
        GroupScoresDisplay.from_scores(**{"scores": table} | change)


def test_several_scorers_need_a_choice(data):
    with pytest.raises(ValueError, match="scoring must be one scorer here"):
        GroupScoresDisplay.from_estimator(LogisticRegression().fit(*data[:2]), *data, scoring=["accuracy"])
