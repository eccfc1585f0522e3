"""What pictures share: colours that can be seen on any background."""

import numpy as np
import pandas as pd
import pytest

from skxlmr.inspection import EmbeddingDisplay, GroupScoresDisplay, LossCurveDisplay, TokenAttributionDisplay
from skxlmr.inspection._display import lightness, seen_on


@pytest.fixture
def pyplot():
    pytest.importorskip("matplotlib", reason="needs the extra plot").use("Agg")
    from matplotlib import pyplot

    yield pyplot
    pyplot.close("all")


def _groups():
    scores = pd.DataFrame({"score": [0.5, 0.7], "low": [0.4, 0.6], "high": [0.6, 0.8]}, index=["de", "all rows"])
    return GroupScoresDisplay.from_scores(scores).ax_


def _matrix():
    names = {"index": pd.Index(["de", "en"], name="train"), "columns": pd.Index(["de", "en"], name="test")}
    return GroupScoresDisplay.from_scores(pd.DataFrame([[0.5, np.nan], [0.7, np.nan]], **names))


def test_dark_colours_are_lighter_on_dark_backgrounds(pyplot):
    from matplotlib.colors import to_rgb

    def darkest(ax):
        return min(lightness(to_rgb(line.get_color())) for line in ax.lines)

    assert darkest(_groups()) < 0.2
    with pyplot.style.context("dark_background"):
        curve = LossCurveDisplay.from_values([3, 2, 1], scores=[0.1, 0.2, 0.3], step_losses=[3, 2, 1], kept_epoch=2)
        words = TokenAttributionDisplay.from_values(["a b"], [[(0, 1), (2, 3)]], [[1, -1]]).plot()
        assert min(map(darkest, [*curve.axes_, _groups(), words.ax_])) > 0.5
        assert lightness(to_rgb(_matrix().text_[0, 1].get_color())) > 0.5
        points = EmbeddingDisplay([[0, 1], [1, 0]], labels=["a", "b"]).plot()
        assert lightness(points.scatters_[0].get_edgecolor()[0]) > 0.5
        many = EmbeddingDisplay(np.zeros((24, 2)), groups=[f"g{k:02d}" for k in range(24)]).plot()
        assert all(lightness(points.get_edgecolor()[0]) > 0.5 for points in many.scatters_)
        shapes = many.ax_.get_legend().legend_handles[1:]
        assert len(shapes) == 24 and all(lightness(to_rgb(each.get_markeredgecolor())) > 0.5 for each in shapes)
    assert to_rgb(_matrix().text_[0, 1].get_color()) == (0, 0, 0)


def test_what_lies_below_a_transparent_background(pyplot):
    figure = pyplot.figure(facecolor="black")
    ax = figure.subfigures(1, 2)[1].subplots()
    assert seen_on(ax, "#00224e") == "#00224e"
    ax.set_facecolor("none")
    assert seen_on(ax, "#00224e") != "#00224e"
    figure.set_facecolor("none")
    assert seen_on(ax, "#00224e") == "#00224e"


def test_what_is_no_axes_is_refused(pyplot):
    for ax in ("x", 3, ["x", "y"]):
        with pytest.raises(TypeError, match=r"ax must be Axes of matplotlib, got ('x'|3)"):
            LossCurveDisplay.from_values([2, 1], ax=ax)
    with pytest.raises(TypeError, match="ax must be Axes of matplotlib, got 'x'"):
        EmbeddingDisplay([[0, 1], [1, 0]]).plot("x")
