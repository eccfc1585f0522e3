"""What methods return equals plain lists in every respect but how it shows itself."""

import copy
import json
import pickle

import numpy as np
import pytest

from skxlmr.utils._shown.results import Answers, Entities, Fillings

ENTITY = {"entity_group": "PER", "score": 0.98123, "word": "Maria", "start": 0, "end": 5}
PLACE = {"entity_group": "LOC", "score": 1e-7, "word": "東京\n", "start": 6, "end": 9}
TEXTS = ["Maria 東京\n", "nothing"]
ROWS = [[ENTITY, PLACE], []]
FILLINGS = [[[{"score": 0.5, "token": 7, "token_str": "days", "sequence": "two days"}]], [[], []]]
ANSWERS = [
    [{"answer": "bird", "score": 0.9, "start": 2, "end": 6}, {"answer": "", "score": 0.05, "start": 0, "end": 0}]
]
MADE = {
    "entities": lambda: (Entities.of_texts(TEXTS, copy.deepcopy(ROWS)), ROWS),
    "fillings": lambda: (Fillings.of_masks(copy.deepcopy(FILLINGS)), FILLINGS),
    "answers": lambda: (Answers.of_questions(["Who?"], ["A bird sings."], copy.deepcopy(ANSWERS)), ANSWERS),
}
each = pytest.mark.parametrize("made", MADE.values(), ids=MADE)


def types_of(value):
    return {type(value)}.union(*map(types_of, value)) if isinstance(value, list) else {type(value)}


@each
def test_equal_to_a_plain_list(made):
    found, plain = made()
    assert isinstance(found, list) and found == plain and plain == found
    assert str(found) == str(plain) and f"{found}" == f"{plain}"
    assert json.dumps(found) == json.dumps(plain)
    assert found[0] == plain[0] and found[-1] == plain[-1] and len(found) == len(plain) and list(found) == plain
    assert found + found == plain + plain and found * 2 == plain * 2


@each
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickles_are_those_of_plain_lists(made, protocol):
    found, plain = made()
    written = pickle.dumps(found, protocol)
    assert b"skxlmr" not in written and b"nothing" not in written  # neither the class nor the texts
    read = pickle.loads(written)
    assert read == plain and types_of(read) <= {list, dict}


@each
def test_copies_are_plain_lists(made):
    found, plain = made()
    assert copy.copy(found) == plain and found.copy() == plain
    deep = copy.deepcopy(found)
    assert deep == plain and types_of(deep) <= {list, dict}
    deep[0].append(1)
    assert found == plain


@each
def test_slices_stay_readable(made):
    found, plain = made()
    assert found[:1] == plain[:1] and type(found[:1]) is type(found) and found[::-1] == plain[::-1]
    assert repr(found[:]) == repr(found) and found[:]._repr_html_() == found._repr_html_()
    assert found[0][:1] == plain[0][:1] and found[0][:]._repr_html_() == found[0]._repr_html_()


def test_tables_read_them_as_lists():
    pa, pl, pd = map(pytest.importorskip, ("pyarrow", "polars", "pandas"))
    found = Entities.of_texts(TEXTS, ROWS)
    assert pa.array(found) == pa.array(ROWS)
    assert pl.DataFrame({"x": found}).equals(pl.DataFrame({"x": ROWS}))
    assert pl.DataFrame(found[0]).equals(pl.DataFrame(ROWS[0]))
    assert pd.DataFrame(found[0]).equals(pd.DataFrame(ROWS[0]))
    assert pd.Series(found).to_csv() == pd.Series(ROWS).to_csv()
    assert np.array(found, object).shape == np.array(ROWS, object).shape


def test_a_table_at_the_prompt():
    found = Entities.of_texts(TEXTS, ROWS)
    assert repr(found).splitlines() == [
        "text    score  start  end  entity_group  word",
        "   0   0.9812      0    5  PER           Maria",
        r"   0  1.0e-07      6    9  LOC           東京\n",
        "   1        -      -    -  -             -",
        "2 texts, 2 entities (list of lists of dicts)",
    ]
    assert repr(found[0]).splitlines()[-2:] == [
        r"1.0e-07      6    9  LOC           東京\n",
        "2 entities (list of dicts)",
    ]
    assert repr(found[1]) == "0 entities (list of dicts)"
    assert repr(found[:0]) == "0 texts, 0 entities (list of lists of dicts)"


def test_columns_of_other_scripts_are_as_wide_as_a_terminal_shows_them():
    lines = repr(
        Entities.of_texts([""], [[{"word": w, "entity_group": g} for w, g in (("東京", "場所"), ("e\u0301", "P"))]])
    )
    assert lines.splitlines()[1:3] == ["   0  東京  場所", "   0  e\u0301     P"]


def test_long_results_are_cut_with_a_count():
    found = Entities.of_texts(["Maria"] * 1000, [[{**ENTITY, "word": "w" * 200}]] * 1000)
    lines = repr(found).splitlines()
    assert len(lines) == 23 and lines[-2:] == [
        "... 980 more lines",
        "1,000 texts, 1,000 entities (list of lists of dicts)",
    ]
    assert max(map(len, lines)) < 110
    html = found._repr_html_()
    assert html.count("<mark") == 20 and "and 980 more texts" in html


def test_masks_and_answers():
    fillings = Fillings.of_masks(FILLINGS)
    assert repr(fillings).splitlines()[:3] == [
        "text  mask   score  token  token_str  sequence",
        "   0     0  0.5000      7  days       two days",
        "   1     0       -      -  -          -",
    ]
    assert repr(fillings[0]).splitlines()[0].startswith("mask   score")
    assert repr(fillings[0][0]).splitlines()[-1] == "1 filling (list of dicts)"
    assert '<td dir="auto">two days</td>' in fillings._repr_html_()
    answers = Answers.of_questions(["Who?"], ["A bird sings."], ANSWERS)
    assert repr(answers).splitlines()[2].endswith("''")
    assert "Who?" in answers._repr_html_() and answers._repr_html_().count("<mark") == 1
    assert "Who?" in answers[0]._repr_html_()


def test_changed_lists_still_show_themselves():
    found = Entities.of_texts(TEXTS, copy.deepcopy(ROWS))
    found.append([ENTITY])  # a plain list: its text is not known
    assert "3 texts" in repr(found) and "<table" in found._repr_html_()
    found[0].reverse()
    assert repr(found[0]).splitlines()[1].startswith("1.0e-07")
    found[0].append("no dict")
    assert repr(found) == str(found) and str(found).endswith("]]") and found[0]._repr_html_()
    found.append(3)
    assert repr(found) == str(found) and found._repr_html_()
    assert repr(Entities([{"a": 1}, {"b": "x"}], 1)).splitlines()[0] == "a  b"


def test_the_text_is_known_by_reference():
    text = "Maria " * 1000
    assert Entities.of_texts([text], [[ENTITY]])[0]._about is text
