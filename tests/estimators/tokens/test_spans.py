"""Spans of texts: which are read, how they become tags of words and come back, and what is refused."""

import pandas as pd
import pytest

from skxlmr import XLMRobertaTokenClassifier
from skxlmr.estimators._tokens.rows import check_token_rows
from skxlmr.estimators._tokens.spans import check_spans, spans_of_tags, tags_of_spans


@pytest.mark.parametrize(
    ("scheme", "tags"),
    [
        ("BILOU", ["B-PER", "L-PER", "O", "U-ORG", "B-LOC", "I-LOC", "L-LOC"]),
        ("BMES", ["B-PER", "E-PER", "O", "S-ORG", "B-LOC", "M-LOC", "E-LOC"]),
        ("BIO", ["B-PER", "I-PER", "O", "B-ORG", "B-LOC", "I-LOC", "I-LOC"]),
        ("IOB2", ["B-PER", "I-PER", "O", "B-ORG", "B-LOC", "I-LOC", "I-LOC"]),
        ("IOBES", ["B-PER", "E-PER", "O", "S-ORG", "B-LOC", "I-LOC", "E-LOC"]),
        ("plain", ["PER", "PER", "O", "ORG", "LOC", "LOC", "LOC"]),
    ],
)
def test_spans_become_tags_and_come_back(scheme, tags):
    text = "Anna Lee, UN New York City"
    rows = check_token_rows([text])
    spans = [(0, 8, "PER"), (10, 12, "ORG"), (13, 26, "LOC")]
    for y in (spans, spans[::-1], [{"start": s, "end": e, "label": label} for s, e, label in spans]):
        assert check_spans([y], rows) == [spans]
    assert tags_of_spans([spans], rows, scheme) == [tags]
    assert spans_of_tags(tags, rows.places[0], scheme) == spans


def spans_read(text, *spans, **options):
    """The spans of one text, as fit and score read them."""
    return check_spans([list(spans)], check_token_rows([text]), **options)[0]


@pytest.mark.parametrize("space", [" ", "\n", "\u3000", "\u200b", "\u200f", "\ufeff", "\u00ad", "\u2060", "\u200d "])
def test_what_cannot_be_seen_at_the_ends_of_a_span_does_not_count(space):
    """The same span with it and without, so that score finds what a fit learnt."""
    text = f"{space}Anna Lee{space}, x"
    n = len(space)
    whole = [(n, n + 8, "PER")]
    for start, end in ((0, 2 * n + 8), (n, n + 8), (0, n + 8), (n, n + 8 + 1)):
        if (start, end) != (n, n + 9) or n == 1:
            assert spans_read(text, (start, end, "PER")) == whole
    rows = check_token_rows([text])
    assert tags_of_spans([whole], rows, "BIO")[0][:2] == ["B-PER", "I-PER"]
    assert spans_of_tags(tags_of_spans([whole], rows, "BIO")[0], rows.places[0], "BIO") == whole


def test_words_between_zero_width_spaces():
    text = "រដ្ឋ\u200bភ្នំពេញ\u200bនៅ"
    start, end = text.index("ភ្"), text.index("\u200bនៅ")
    for span in ((start, end, "LOC"), (start - 1, end + 1, "LOC")):
        assert spans_read(text, span) == [(start, end, "LOC")]


def test_a_span_may_leave_out_a_variation_selector():
    assert spans_read("I ❤\ufe0f you", (2, 3, "X")) == spans_read("I ❤\ufe0f you", (2, 4, "X")) == [(2, 4, "X")]


KOREAN = "서울에서 만나요 5km 앞"  # "in Seoul" is one word with its particle
IN_WORDS = [(0, 2, "LOC"), (9, 10, "NUM"), (13, 14, "X")]


def test_spans_inside_words():
    rows = check_token_rows(["", KOREAN])
    with pytest.raises(
        ValueError, match=r"y row 1: the span \(0, 2, 'LOC'\) cuts the word '서울에서' .*span_edges='expand'"
    ):
        check_spans([[], IN_WORDS], rows)
    first = r"the first is \(0, 2, 'LOC'\) in row 1, which touches '서울에서'"
    for span_edges, done, spans in (
        ("expand", "expanded to whole words", [(0, 4, "LOC"), (9, 12, "NUM"), (13, 14, "X")]),
        ("drop", "left out", [(13, 14, "X")]),
    ):
        said = (
            rf"2 of 3 spans in y_val begin or end inside a word and were {done} \(span_edges='{span_edges}'\); {first}"
        )
        with pytest.warns(UserWarning, match=said):
            assert check_spans([[], IN_WORDS], rows, "y_val", span_edges=span_edges) == [[], spans]


def test_whole_words_make_no_warning():
    for span_edges in ("expand", "drop"):
        assert spans_read("Anna Lee ", (0, 9, "PER"), span_edges=span_edges) == [(0, 8, "PER")]


def test_a_span_without_a_word_is_left_out_at_most():
    with pytest.raises(ValueError, match=r"\(4, 5, 'X'\) holds no word: span_edges='drop' leaves such spans out"):
        spans_read("Anna Lee", (4, 5, "X"), span_edges="expand")
    with pytest.warns(UserWarning, match="1 of 1 spans in y"):
        assert spans_read("Anna Lee", (4, 5, "X"), span_edges="drop") == []


def test_overlapping_spans():
    text = "New York City Council"
    spans = [(0, 8, "LOC"), (4, 13, "LOC"), (9, 21, "ORG"), (9, 13, "X")]
    with pytest.raises(ValueError, match=r"the spans \(0, 8, 'LOC'\) and \(4, 13, 'LOC'\) overlap.*overlaps='longest'"):
        spans_read(text, *spans)
    with pytest.raises(ValueError, match=r"\(0, 3, 'NUM'\) and \(0, 3, 'UNIT'\), expanded to whole words, overlap"):
        spans_read("5km", (0, 1, "NUM"), (1, 3, "UNIT"), span_edges="expand")
    assert spans_read(text, *spans, overlaps="longest") == [(0, 8, "LOC"), (9, 21, "ORG")]
    assert spans_read(text, (0, 8, "B"), (0, 8, "A"), overlaps="longest") == [(0, 8, "B")]  # the first of equals
    assert spans_read(text, (0, 8, "A"), (0, 8, "A")) == [(0, 8, "A")]  # said twice
    with pytest.warns(UserWarning, match="2 of 2 spans"):  # of one word, the longer part
        found = spans_read("5km", (0, 1, "NUM"), (1, 3, "UNIT"), span_edges="expand", overlaps="longest")
    assert found == [(0, 3, "UNIT")]


def test_parameters_of_the_tagger_decide():
    rows = check_token_rows(["5km"])
    y = [[(0, 1, "NUM"), (1, 3, "UNIT")]]
    with pytest.warns(UserWarning, match="2 of 2 spans"):
        found = XLMRobertaTokenClassifier(span_edges="expand", overlaps="longest")._check_spans(y, rows)
    assert found == [[(0, 3, "UNIT")]]
    with pytest.raises(ValueError, match="cuts the word '5km'"):
        XLMRobertaTokenClassifier()._check_spans(y, rows)


# Annotations of tools -----------------------------------------------------------------------------------------------------

TEXT, SPANS = "Anna 👍 Rom", [(0, 4, "PER"), (7, 10, "LOC")]


def label_studio(*spans, **annotation):
    """An exported task; offsets count as in a browser."""
    result = [
        {"type": "labels", "value": {"start": start, "end": end, "text": shown, "labels": [label]}}
        for start, end, label, shown in spans
    ]
    choice = {"type": "choices", "value": {"choices": ["x"]}}
    return {"id": 1, "data": {"text": TEXT}, "annotations": [{"result": [*result, choice], **annotation}]}


IN_BROWSER = label_studio((0, 4, "PER", "Anna"), (8, 11, "LOC", "Rom"))
BY_TOOL = {
    "spaCy": {"entities": SPANS},
    "spaCy, with its text": (TEXT, {"entities": SPANS, "cats": {}}),
    "spaCy, as JSON": {"entities": [{"start": s, "end": e, "label": label} for s, e, label in SPANS]},
    "Doccano": {"id": 3, "text": TEXT, "label": [list(span) for span in SPANS]},
    "Doccano, older": {"text": TEXT, "labels": SPANS},
    "a struct of Arrow": {"text": None, "entities": None, "label": [list(span) for span in SPANS]},
    "Doccano, with relations": {
        "text": TEXT,
        "entities": [
            {"id": i, "label": label, "start_offset": s, "end_offset": e} for i, (s, e, label) in enumerate(SPANS)
        ],
        "relations": [],
    },
    "Prodigy": {
        "text": TEXT,
        "spans": [{"start": s, "end": e, "label": label, "token_start": 0} for s, e, label in SPANS],
    },
    "Label Studio": IN_BROWSER,
    "Label Studio, in code points": label_studio((0, 4, "PER", "Anna"), (7, 10, "LOC", "Rom")),
    "Label Studio, one skipped it": {
        **IN_BROWSER,
        "annotations": [{"was_cancelled": True, "result": []}, *IN_BROWSER["annotations"]],
    },
    "Label Studio, short": {
        "text": TEXT,
        "label": [part["value"] for part in IN_BROWSER["annotations"][0]["result"][:2]],
    },
}


@pytest.mark.parametrize("annotated", BY_TOOL.values(), ids=BY_TOOL)
def test_annotations_as_tools_write_them(annotated):
    rows = check_token_rows([TEXT, "no names"])
    assert check_spans([annotated, []], rows) == [SPANS, []]
    assert check_spans(pd.Series([annotated, {"entities": []}]), rows) == [SPANS, []]


def test_spans_of_a_region_with_several_labels_overlap():
    task = label_studio((0, 4, "PER", "Anna"))
    task["annotations"][0]["result"][0]["value"]["labels"] = ["PER", "VIP"]
    with pytest.raises(ValueError, match="overlap"):
        check_spans([task], check_token_rows([TEXT]))


@pytest.mark.parametrize(
    ("annotated", "said"),
    [
        (
            {"text": "Paul", "label": []},
            "y row 0: the annotations belong to another text, 'Paul' .* X has 'Anna 👍 Rom'",
        ),
        (("Paul", {"entities": []}), "belong to another text"),
        (IN_BROWSER | {"data": {"text": "Paul", "id": 3}}, "belong to another text"),
        (IN_BROWSER | {"annotations": []}, "expected one annotation of the text, found 0: leave out texts that nobody"),
        (IN_BROWSER | {"annotations": IN_BROWSER["annotations"] * 2}, "found 2: choose one of them"),
        (
            {"annotations": [{"result": [{"type": "hypertextlabels", "value": {"start": "/p[1]"}}]}]},
            "y row 0: regions of the type 'hypertextlabels' are not spans",
        ),
        ({"ents": SPANS}, "y row 0: expected a list of spans under one of 'entities', 'spans', 'label', 'labels', got"),
        (label_studio((0, 4, "PER", "Paul")), r"the span \(0, 4\) is said to cover 'Paul' .*, but the text has 'Anna'"),
        ({"start": 0, "end": 4, "label": "PER"}, "y row 0: expected a list of spans under one of"),
        ({"entities": [{"start": 0, "end": 4}]}, "expected a span with 'start', 'end' and 'label'"),
    ],
)
def test_annotations_that_are_refused(annotated, said):
    with pytest.raises(ValueError, match=said):
        check_spans([annotated], check_token_rows([TEXT]))


@pytest.mark.parametrize(
    ("spans", "said"),
    [
        ([(0, 2, "PER")], r"y row 1: the span \(0, 2, 'PER'\) cuts the word 'Anna' at \(0, 4\) apart"),
        ([(5, 11, "PER")], r"y row 1: the span \(5, 11, 'PER'\) cuts the word 'live' at \(9, 13\) apart"),
        ([(0, 8, "PER"), (5, 8, "LOC")], r"y row 1: the spans \(0, 8, 'PER'\) and \(5, 8, 'LOC'\) overlap"),
        ([(4, 5, "PER")], r"y row 1: the span \(4, 5, 'PER'\) holds no word"),
        ([(0, 99, "PER")], "does not lie within the 13 characters of the text"),
        ([(4, 4, "PER")], r"y row 1: the span \(4, 4, 'PER'\) of type tuple is empty"),
        ([(-1, 4, "PER")], "does not lie within"),
        ([(0, 4)], r"y row 1: expected a span \(start, end, label\), got \(0, 4\)"),
        ([{"start": 0, "stop": 4, "label": "PER"}], "y row 1: expected a span with 'start', 'end' and 'label', got"),
        ([(0.0, 4.0, "PER")], "a span is two whole numbers and a label"),
        ([(0, 4, "")], "a span is two whole numbers and a label"),
        ([(0, 4, "O")], "'O' is what stands outside of spans"),
        (
            ["B-PER", "I-PER", "O"],
            r"y row 1: expected a span \(start, end, label\), got 'B-PER' of type str: for a tag per word, X",
        ),
        ("PER", "y row 1: expected a list of spans"),
    ],
)
def test_spans_that_are_refused(spans, said):
    rows = check_token_rows(["Paul", "Anna Lee live"])
    with pytest.raises(ValueError, match=said):
        check_spans([[], spans], rows)


@pytest.mark.parametrize("key", ["entity_group", "entity"])
def test_what_predict_entities_returns_are_spans(key):
    found = [{key: "PER", "score": 0.9, "word": "Anna Lee", "start": 0, "end": 8}]
    assert check_spans([found], check_token_rows(["Anna Lee live"])) == check_spans(
        [[(0, 8, "PER")]], check_token_rows(["Anna Lee live"])
    )
