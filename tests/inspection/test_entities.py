"""Entities in their texts: what is read, what is compared, and what is drawn."""

import re

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skxlmr import XLMRobertaTokenClassifier, XLMRobertaVectorizer
from skxlmr.inspection import EntityDisplay
from skxlmr.metrics import entity_precision_recall_f1, entity_report
from tests.browser import needs_chromium, shown

TEXTS = ["Anna lives in New York City.", "מריה גרה בתל אביב", "", "Nothing <b>here</b>."]
FOUND = [[(0, 4, "PER"), (14, 22, "LOC")], [(0, 4, "PER"), (9, 17, "LOC")], [], []]
TRUE = [[(0, 4, "PER"), (14, 27, "LOC")], [(0, 4, "PER"), (9, 17, "ORG")], [], []]
WORDS = [["Anna", "lives", "in", "New", "York"], ["Paul"], []]
TAGS = [["B-PER", "O", "O", "B-LOC", "I-LOC"], ["O"], []]


@pytest.fixture(scope="module")
def of_words(make_any):
    return make_any(XLMRobertaTokenClassifier).fit(WORDS, TAGS)


@pytest.fixture(scope="module")
def of_texts(make_any):
    return make_any(XLMRobertaTokenClassifier).fit(TEXTS, TRUE)


def triples(rows):
    return [[entity[:3] for entity in row] for row in rows]


# What is read ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rows",
    [
        FOUND,
        pd.Series(FOUND),
        np.fromiter(FOUND, object),
        [[dict(zip(("start", "end", "label"), span, strict=True)) for span in row] for row in FOUND],
        [[{"entity_group": label, "score": 0.5, "start": a, "end": b} for a, b, label in row] for row in FOUND],
        [(text, {"entities": row}) for text, row in zip(TEXTS, FOUND, strict=True)],  # spaCy
        [
            [(a, b + (text[b : b + 1] == " "), label) for a, b, label in row]
            for text, row in zip(TEXTS, FOUND, strict=True)
        ],
    ],
    ids=["tuples", "Series", "array", "dicts", "predict_entities", "annotations", "spaces"],
)
def test_forms_of_spans(rows):
    assert triples(EntityDisplay.from_predictions(TEXTS, rows).entities) == FOUND
    assert triples(EntityDisplay.from_predictions(TEXTS, FOUND, rows).true) == FOUND


@pytest.mark.parametrize("scheme", ["auto", "BIO"])
def test_tags_of_words(scheme):
    display = EntityDisplay.from_predictions(WORDS, TAGS, scheme=scheme)
    assert display.texts == ["Anna lives in New York", "Paul", ""]
    assert triples(display.entities) == [[(0, 4, "PER"), (14, 22, "LOC")], [], []]
    spans = [[(0, 4, "PER"), (14, 22, "LOC")], [], []]
    assert display.entities == EntityDisplay.from_predictions(WORDS, spans, TAGS).true
    plain = EntityDisplay.from_predictions(WORDS, [["NOUN", "VERB", "ADP", "NOUN", "NOUN"], ["NOUN"], []])
    assert plain.counts == {"NOUN": {"found": 3}, "ADP": {"found": 1}, "VERB": {"found": 1}}
    closed = EntityDisplay.from_predictions([["a", "b"]], [["B-X", "E-X"]])
    assert triples(closed.entities) == [[(0, 3, "X")]]


def test_words_that_are_left_out():
    """As the scores leave them out."""
    words = [["a", "b", "c", "d"]] * 3
    true = [["B-X", -100, "I-X", "O"], [-100, -100, "O", "B-Y"], ["O", "O", "O", "B-Y"]]
    found = [["B-X", "O", "I-X", "O"], ["B-X", "I-X", "O", "O"], ["O", "O", "B-Y", "I-Y"]]
    display = EntityDisplay.from_predictions(words, found, true)
    assert display._totals() == {"right": 1, "wrong": 1, "missed": 2}
    assert entity_precision_recall_f1(true, found)[:2] == (1 / 2, 1 / 3)
    spans = [[(0, 5, "X")], [(0, 3, "X")], [(4, 7, "Y")]]
    assert EntityDisplay.from_predictions(words, spans, true).outcomes == display.outcomes


def test_a_tagger_of_texts(of_texts):
    display = EntityDisplay.from_estimator(of_texts, TEXTS, TRUE)
    assert display.texts == TEXTS and triples(display.true) == TRUE
    assert triples(display.entities) == [[tuple(span) for span in row] for row in of_texts.predict(TEXTS)]
    with_o = EntityDisplay.from_estimator(of_texts, TEXTS, ignore_labels=())
    assert triples(with_o.entities) == triples(display.entities)
    entities = of_texts.predict_entities(TEXTS)
    assert EntityDisplay.from_predictions(TEXTS, entities, TRUE).outcomes == display.outcomes


def test_a_tagger_of_words_with_its_scores(of_words):
    display = EntityDisplay.from_estimator(of_words, WORDS, TAGS)
    found = of_words.predict_entities(WORDS)
    assert [[e.score for e in row] for row in display.entities] == [[e["score"] for e in row] for row in found]
    report = entity_report(TAGS, of_words.predict(WORDS), output_dict=True, zero_division=0.0)
    right = sum(each["right"] for each in display.counts.values())
    n_found = right + sum(each["wrong"] for each in display.counts.values())
    assert report["micro avg"]["support"] == right + sum(each["missed"] for each in display.counts.values())
    assert report["micro avg"]["precision"] == pytest.approx(right / n_found if n_found else 0)


def test_searches_and_pipelines(of_texts, make_any):
    upper = make_pipeline(FunctionTransformer(lambda X: [text.upper() for text in X]), of_texts)
    assert EntityDisplay.from_estimator(upper, TEXTS).texts == [text.upper() for text in TEXTS]
    search = GridSearchCV(make_any(XLMRobertaTokenClassifier), {"constrained": [True]}, cv=2)
    display = EntityDisplay.from_estimator(search.fit(TEXTS[:2] * 2, TRUE[:2] * 2), TEXTS)
    assert display.texts == TEXTS
    with pytest.raises(TypeError, match=r"needs an estimator with predict_entities.*got XLMRobertaVectorizer"):
        EntityDisplay.from_estimator(XLMRobertaVectorizer("skxlmr-mini"), TEXTS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((TEXTS, FOUND[:2]), "entities has 2 rows for 4 texts"),
        ((TEXTS, FOUND, FOUND[:1]), "y_true has 1 rows for 4 texts"),
        ((TEXTS, [[(0, 99, "PER")], [], [], []]), "entities row 0: the span .* within the 28 characters"),
        ((TEXTS, [[], [], [], ["PER"]]), "entities row 3: expected a span"),
        ((TEXTS, [[], [{"label": "X", "start": 0, "end": 4, "word": "Anna"}], [], []]), "the entity 'Anna'.* another text"),
        ((TEXTS, [(TEXTS[1], {"entities": []}), [], [], []]), "row 0: the annotations belong to another text"),
        ((WORDS, [["O"], ["O"], []]), "entities row 0: 1 tags for 5 words"),
        ((WORDS, TAGS, [["O"] * 5, ["X-PER"], []]), "row"),
        (("Anna", FOUND), "single str"),
    ],
)  # fmt: skip
def test_what_is_refused(arguments, message):
    with pytest.raises((ValueError, TypeError), match=message):
        EntityDisplay.from_predictions(*arguments, **({"scheme": "BIO"} if arguments[0] is WORDS else {}))


# What is compared -----------------------------------------------------------------------------------------------------


def test_outcomes():
    display = EntityDisplay.from_predictions(TEXTS, FOUND, TRUE)
    assert repr(display) == "EntityDisplay of 4 texts: 2 right, 2 wrong, 2 missed"
    assert [(entity[:3], state) for entity, state in display.outcomes[0]] == [
        ((0, 4, "PER"), "right"),
        ((14, 27, "LOC"), "missed"),
        ((14, 22, "LOC"), "wrong"),
    ]
    report = entity_report(TRUE, FOUND, texts=TEXTS, output_dict=True, zero_division=0.0)
    micro = report["micro avg"]
    scores = [f"{micro[key]:.3f}" for key in ("precision", "recall", "f1-score")]
    assert "precision {}, recall {}, F1 {}".format(*scores) in display.to_html()
    assert display.counts["LOC"] == {"right": 0, "wrong": 2, "missed": 1}


def test_an_entity_counts_once():
    display = EntityDisplay.from_predictions(["Anna"], [[(0, 4, "PER"), (0, 4, "PER")]], [[(0, 4, "PER")]])
    assert display._totals() == {"right": 1, "wrong": 0, "missed": 0}


# What is drawn --------------------------------------------------------------------------------------------------------


def test_outcomes_differ_by_more_than_color():
    html = EntityDisplay.from_predictions(TEXTS, FOUND, TRUE)._repr_html_()
    for state, sign in (("right", "✓"), ("wrong", "✗ wrong"), ("missed", "○ missed")):
        assert f'class="{state}"' in html and f"{'PER' if state == 'right' else 'LOC'} {sign}" in html
    without = EntityDisplay.from_predictions(TEXTS, FOUND)._repr_html_()
    assert "✓" not in without and "PER</span>" in without
    assert "score 0.250" in EntityDisplay(["Anna"], [[(0, 4, "PER", 0.25)]]).to_html()


def test_no_rows_and_no_entities(tmp_path):
    nothing = EntityDisplay.from_predictions([], [])
    assert repr(nothing) == "EntityDisplay of 0 texts: 0 found" and "No texts" in nothing._repr_html_()
    assert EntityDisplay.from_predictions([], [], []).counts == {}
    empty = EntityDisplay.from_predictions(["", "Anna"], [[], []], [[], []])
    assert "No entities" in empty.to_html(tmp_path / "e.html") and "an empty text" in (tmp_path / "e.html").read_text()


def test_many_and_long_texts():
    many = EntityDisplay.from_predictions(["Anna"] * 120, [[(0, 4, "PER")]] * 120)
    assert "and 70 more texts" in many._repr_html_() and "more texts" not in many.to_html()
    assert many.to_html().count('<div class="skxlmr-text"') == 120
    long = EntityDisplay(["x" * 5000 + " Anna"], [[(5001, 5005, "PER")]], context=50)
    assert "4,951 characters" in long.to_html() and len(long.to_html()) < 5000


def test_colors():
    assert "background:teal" in EntityDisplay(["Anna"], [[(0, 4, "PER")]], colors={"PER": "teal"}).to_html()
    with pytest.raises(ValueError, match="colors"):
        EntityDisplay(["Anna"], [[(0, 4, "PER")]], colors={"PER": "x;y"})


def test_plot():
    pyplot = pytest.importorskip("matplotlib.pyplot")
    display = EntityDisplay.from_predictions(TEXTS, FOUND, TRUE)
    assert display.plot() is display and display.figure_ is display.ax_.figure
    assert {name: [bar.get_width() for bar in bars] for name, bars in display.bars_.items()} == {
        "right": [0, 2, 0],
        "wrong": [2, 0, 0],
        "missed": [1, 0, 1],
    }
    assert [label.get_text() for label in display.ax_.get_yticklabels()] == ["LOC", "PER", "ORG"]
    ax = pyplot.subplots()[1]
    assert EntityDisplay.from_predictions(TEXTS, FOUND).plot(ax=ax).ax_ is ax
    EntityDisplay.from_predictions([], []).plot()
    display = EntityDisplay.from_predictions(["Anna"], [[(0, 4, "人名"), (0, 2, "שם"), (1, 3, "$x$")]])
    display.plot().figure_.canvas.draw()  # a letter that no font has would be a warning
    pyplot.close("all")


@needs_chromium
@pytest.mark.parametrize(("width", "scheme"), [(400, "dark"), (1600, "light")])
def test_the_page_opens(tmp_path, width, scheme):
    display = EntityDisplay.from_predictions(TEXTS, FOUND, TRUE)
    with shown(display.to_html(), tmp_path, width=width, color_scheme=scheme) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= width  # nothing is cut
        hebrew = page.locator(".skxlmr-text").nth(1)
        first, second = (mark.bounding_box()["x"] for mark in hebrew.locator("> mark").all())
        assert first > second  # read from right to left
        assert page.locator(".skxlmr-text").nth(2).inner_text() == "Nothing <b>here</b>."
        # a marked text is copied without its labels
        page.evaluate("getSelection().selectAllChildren(document.querySelectorAll('.skxlmr-text')[0])")
        assert re.sub(r"\s+", " ", page.evaluate("getSelection().toString()")).strip() == TEXTS[0]
        lines = "[...document.querySelectorAll('.skxlmr-text mark')].map(mark => getComputedStyle(mark).borderStyle)"
        assert set(page.evaluate(lines)) == {"solid", "dashed", "dotted"}


@needs_chromium
@pytest.mark.parametrize(
    ("text", "spans"),
    [
        ("Anna גרה ב-תל אביב.", [(0, 4), (11, 18)]),
        ("מריה lives in Rome.", [(0, 4), (14, 18)]),
        ("Anna גרה ב-12 ב-תל אביב", [(0, 4), (11, 13), (16, 23)]),
        ("Anna lives in תל אביב now", [(0, 4), (14, 21), (17, 21)]),
        ("مريم in روما", [(0, 4), (8, 12)]),
    ],
)
def test_labels_stay_with_their_words_in_both_directions(tmp_path, text, spans):
    display = EntityDisplay.from_predictions([text], [[(*span, "LOC") for span in spans]])
    with shown(display.to_html(), tmp_path, width=1000) as page:
        marks = page.locator(".skxlmr-text mark")
        assert marks.evaluate_all("all => all.map(each => each.getClientRects().length)") == [1] * len(spans)
        copied = page.evaluate(
            "getSelection().selectAllChildren(document.querySelector('.skxlmr-text')), `${getSelection()}`"
        )
        assert copied == text


def test_context_is_a_number_of_characters():
    text = f"{'x' * 99} Anna {'y' * 99}"
    with pytest.raises(ValueError, match="context must be a number of characters from 0, or None, got -1"):
        EntityDisplay.from_predictions([text], [[(100, 104, "PER")]], context=-1)
    with pytest.raises(TypeError, match="context must be a whole number, found 'all'"):
        EntityDisplay.from_predictions([text], [[(100, 104, "PER")]], context="all")
