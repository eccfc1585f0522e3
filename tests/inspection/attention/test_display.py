"""Values that are passed, what is drawn, and the files that the page is made of."""

import math
import re
from importlib.resources import files

import matplotlib
import numpy as np
import pytest
from matplotlib import pyplot

from skxlmr import XLMRobertaVectorizer
from skxlmr.inspection import AttentionDisplay
from skxlmr.inspection import _fonts as fonts
from skxlmr.inspection._attention.page import label, page, quantised
from skxlmr.inspection._attention.rows import ReadRow
from tests.inspection.attention.test_measures import drawn_weights

matplotlib.use("agg")
TOKENS = ["[CLS]", "a", "bi", "rd", "[SEP]", "Vogel", "[SEP]"]
TEXTS = [-1, 0, 0, 0, -1, 1, -1]
WORDS = [9, 4, 7, 7, 9, 7, 9]


@pytest.fixture(autouse=True)
def no_figures_left():
    yield
    pyplot.close("all")


@pytest.fixture
def display():
    return AttentionDisplay.from_values(drawn_weights(), TOKENS, word_ids=WORDS, sequence_ids=TEXTS)


def test_values_of_one_text(display):
    assert display.tokens == [TOKENS] and display.sequence_ids == [TEXTS]
    assert display.word_ids == [[-1, 0, 1, 1, -1, 2, -1]]
    assert display.sources == [["a bird", "Vogel"]]
    np.testing.assert_array_equal(display.attentions[0], drawn_weights())


def test_values_of_several_texts():
    weights = [drawn_weights((2, 3, 3, 3)), drawn_weights((2, 3, 2, 2)).tolist()]
    display = AttentionDisplay.from_values(weights, [["a", "small", "bird"], ["ein", "Vogel"]])
    assert display.word_ids == [[0, 1, 2], [0, 1]] and display.sources == [["a small bird"], ["ein Vogel"]]
    assert [of_text.dtype for of_text in display.attentions] == [np.float32] * 2


def test_None_marks_special_tokens_as_in_transformers():
    weights = np.full((1, 1, 4, 4), 0.25)
    words, texts = [None, 0, 0, None], [None, 0, 0, None]
    for options in ({"word_ids": words}, {"sequence_ids": texts, "word_ids": words}):
        display = AttentionDisplay.from_values(weights, ["[CLS]", "a", "b", "[SEP]"], **options)
        assert display.word_ids == [[-1, 0, 0, -1]] and display.sequence_ids == [[-1, 0, 0, -1]]
    display = AttentionDisplay.from_values(weights, ["[CLS]", "a", "b", "[SEP]"], sequence_ids=texts)
    assert display.word_ids == [[-1, 0, 1, -1]]


def test_values_that_do_not_fit():
    weights = drawn_weights()

    def message(attentions=weights, tokens=TOKENS, **options):
        with pytest.raises(ValueError, match=r"\w") as caught:
            AttentionDisplay.from_values(attentions, tokens, **options)
        return str(caught.value)

    assert "(n_layers, n_heads, 6, 6) for its 6 tokens, got (2, 3, 7, 7)" in message(tokens=TOKENS[:-1])
    assert message(weights[0]).startswith("attentions of text 0 must have the shape")
    assert "sum to 1 (of softmax, not scores)" in message(weights * 1.1)
    assert "sum to 1" in message(np.full_like(weights, np.nan))
    assert message([weights], [TOKENS, TOKENS]) == "attentions and tokens must be of the same texts, got 1 and 2"
    assert message([], []) == "attentions and tokens must be of the same texts, got 0 and 0"
    assert "sequence_ids of text 0 has 2 values for 7 tokens" in message(sequence_ids=[0, 1])
    assert "must be 0, 1 or -1, got [0, 2]" in message(sequence_ids=[0, 2, 0, 0, 0, 0, 0])
    assert "word_ids of text 1 has 1 values" in message([weights] * 2, [TOKENS] * 2, word_ids=[range(7), [1]])
    assert "same number of layers" in message([weights, weights[:1]], [TOKENS] * 2)


def test_words(display):
    found = display.between_words(layer=0, head=2)
    own = display.attentions[0][0, 2].astype(float)
    assert found.shape == (3, 3)
    np.testing.assert_allclose(found[1, 2], own[2:4, 5].mean(), rtol=1e-6)
    np.testing.assert_allclose(found[2, 1], own[5, 2:4].sum(), rtol=1e-6)
    np.testing.assert_allclose(
        display.between_words().sum(),
        display.attentions[0][1].mean(0)[[1, 5]][:, [1, 2, 3, 5]].sum()
        + display.attentions[0][1].mean(0)[2:4][:, [1, 2, 3, 5]].sum() / 2,
        rtol=1e-6,
    )


# Pictures -----------------------------------------------------------------------------------------------------------------


def test_plot_of_all_heads(display):
    assert display.plot() is display
    np.testing.assert_array_equal(display.image_.get_array(), display.measures()["special"])
    assert display.figure_ is display.ax_.figure
    assert display.ax_.get_xlabel() == "head" and display.ax_.get_ylabel() == "layer"
    _, ax = pyplot.subplots()
    display.plot(ax, measure="other_text", cmap="viridis")
    assert display.ax_ is ax and display.image_.get_cmap().name == "viridis"
    np.testing.assert_array_equal(display.image_.get_array(), display.measures()["other_text"])


def test_plot_of_one_head(display):
    weights = drawn_weights()
    display.plot(layer=-1, head=1)
    np.testing.assert_array_equal(display.image_.get_array(), weights[1, 1])
    assert [tick.get_text() for tick in display.ax_.get_yticklabels()] == TOKENS
    assert display.ax_.get_title() == "Layer 1, head 1"
    display.plot(layer=0)
    np.testing.assert_allclose(display.image_.get_array(), weights[0].mean(0), rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"head": 1}, "head=1 is one of a layer: pass layer too"),
        ({"layer": 2}, "layer must be from 0 to 1, or from -2 to count from the last, got 2"),
        ({"layer": 0, "head": -4}, "head must be from 0 to 2"),
        ({"row": 1}, "row must be from 0 to 0"),
        ({"measure": "mean"}, "measure must be one of 'special', 'entropy', 'distance', 'other_text' for this text"),
    ],
)
def test_what_there_is_not(display, options, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        display.plot(**options)


def test_labels_of_any_script_are_drawn_without_a_warning():
    tokens = ["แบต", "يوم", "日本", "$x$", "\U0010fffd", "ี"]  # one of them has no glyph anywhere
    display = AttentionDisplay.from_values(np.full((1, 1, 6, 6), 1 / 6), tokens).plot(layer=0)
    display.figure_.canvas.draw()  # warnings are errors
    labels, families = fonts.drawn(tokens)
    assert labels[4] == fonts.MISSING and labels[3] == r"\$x\$" and len(families) >= 1
    assert not any(fonts.LAST_RESORT in family for family in families)


@pytest.mark.parametrize(
    ("label", "shown"),
    [
        ("x" * 9, "x" * 9),
        ("abcde-fghij", "abcd…ghij"),
        ("one\ntwo", "one two"),
        ("日本語日本語", "日本…本語"),  # two columns each
        ("abce\u0301xyz123e\u0301fgh", "abce\u0301…e\u0301fgh"),
        ("", ""),
    ],
)
def test_long_labels_keep_both_ends(label, shown):
    assert fonts.shortened(label, 9) == shown


def test_letters_that_no_font_has_and_right_to_left_on_older_matplotlib(monkeypatch):
    monkeypatch.setattr(fonts, "_font_of", lambda character: None)
    assert fonts.drawn(["aแ日"])[0] == [f"a{fonts.MISSING * 2}"]
    monkeypatch.setattr(matplotlib, "__version__", "3.9.2")
    assert fonts.drawn(["אב", "ab"])[0] == ["בא", "ab"]
    assert fonts.drawn(["אב (15)", "(אב) ab", "ab אב: (15)"])[0] == ["(15) בא", "ab (בא)", "ab בא: (15)"]


# The page -----------------------------------------------------------------------------------------------------------------


def test_weights_survive_eight_bits_within_what_is_stated():
    weights = np.concatenate([np.linspace(0, 1, 100_001), [1e-6, 1 + 1e-6]])
    off = np.abs((quantised(weights) / 255.0) ** 2 - weights)
    assert off.max() < 0.004 and off[weights < 0.01].max() < 0.0005
    assert quantised(np.zeros(1))[0] == 0


def test_size_of_a_page():
    weights = np.full((12, 12, 64, 64), 1 / 64, np.float32)
    row = ReadRow(["token"] * 64, list(range(64)), [0] * 64, ["token"])
    size = len(page("Attention", [weights], [row]))
    assert 12 * 12 * 64**2 * 4 / 3 < size < 1e6
    assert math.isclose(size, 12 * 12 * 64**2 * 4 / 3, rel_tol=0.1)


def test_the_page_is_one_file_that_no_text_breaks(tmp_path, display):
    file = tmp_path / "attention.html"
    assert display.to_html(file) == file.read_text(encoding="utf-8")
    hostile = AttentionDisplay.from_values(np.ones((1, 1, 1, 1)), ["</script><img src=x onerror=alert(1)>"]).to_html()
    assert hostile.count("</script>") == 1 and "<img" not in hostile
    assert 'sandbox="allow-scripts"' in display._repr_html_() and "<script>" not in display._repr_html_()


def test_the_files_of_the_page_are_in_the_package():
    folder = files("skxlmr.inspection._attention")
    for ending in ("html", "css", "js"):
        text = folder.joinpath(f"page.{ending}").read_text(encoding="utf-8")
        assert len(text) > 500
        assert not any(word in text for word in ("</script", "</style", "fetch(", "innerHTML", "https:"))


def test_marks_stand_on_a_circle():
    assert label("ี") == "\u25ccี" and label("รี") == "รี" and label("") == ""


def test_nothing_is_drawn_or_needed_before_it_is_asked_for(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.pyplot", None)
    display = AttentionDisplay.from_estimator(XLMRobertaVectorizer("skxlmr-mini"), ["a text"])
    assert not hasattr(display, "ax_") and display.to_html()
    with pytest.raises(ImportError, match="AttentionDisplay"):
        display.plot()


@pytest.mark.parametrize(("given", "message"), [({"layer": 0.5}, "layer .* found 0.5"), ({"row": "0"}, "row .* '0'")])
def test_rows_and_layers_are_whole_numbers(given, message):
    pytest.importorskip("matplotlib", reason="needs the extra plot").use("Agg")
    display = AttentionDisplay.from_values(np.full((2, 3, 4, 4), 0.25), list("abcd"))
    with pytest.raises(TypeError, match=message):
        display.plot(**given)
    display.plot(row=0.0, layer=np.float64(1), head=2.0)
    assert display.figure_.axes[0].get_title() == "Layer 1, head 2"
    display.figure_.clear()
