"""The pages for those who come from other tools: their tables hold against the signatures on both sides."""

import ast
import dataclasses
import re
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from inspect import Parameter, signature
from pathlib import Path

import pytest

import skxlmr

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "coming_from"
PAGES = sorted(FOLDER.glob("*.md"))
# <!-- parameters: package:Class.method -> OurClass OurOtherClass -->, a table, and a paragraph of what has no counterpart.
# "package:Class beyond Base" leaves out what the base has with the same default.
TABLE = re.compile(
    r"<!-- parameters: (.+?) ->(.*?) -->\n\| There \| Here \| What differs \|\n\|---\|---\|---\|\n((?:\|.*\n)+)"
    r"(?:\nWithout a counterpart: ((?:.+\n)+))?"
)
TABLES = [(page.name, *match.groups()) for page in PAGES for match in TABLE.finditer(page.read_text(encoding="utf-8"))]
TABLES = [pytest.param(*table, id=table[1]) for table in TABLES]
SPAN = re.compile(r"`([^`]*)`")


def rows_of(table):
    """The cells of each row."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    assert all(len(cells) == 3 for cells in rows), [cells for cells in rows if len(cells) != 3]
    return rows


def default_of(parameter):
    """The default of a parameter, also of a dataclass that makes one."""
    return () if parameter.default is Parameter.empty else (parameter.default,)


def says(text, default):
    """Whether a text of a page stands for a default."""
    try:
        value = ast.literal_eval(text)
    except ValueError:  # a name
        return text in {getattr(default, "__name__", None), type(default).__name__}
    return value == default and isinstance(value, bool) == isinstance(default, bool)


def defaults_of(name):
    """Parameters and defaults of what ``package:Class.method`` names."""
    name, beyond, base = name.partition(" beyond ")
    package, _, path = name.partition(":")
    known = defaults_of(f"{package}:{base}") if beyond else {}
    try:
        found = import_module(package)
    except ImportError as error:  # of one that it needs
        pytest.skip(f"{package} can't be imported: {error}")
    for part in path.split("."):
        found = getattr(found, part)
    made = {}
    if dataclasses.is_dataclass(found):
        fields = dataclasses.fields(found)
        made = {each.name: each.default_factory() for each in fields if each.default_factory is not dataclasses.MISSING}
    parameters = [each for each in signature(found).parameters.values() if each.name != "self"]
    defaults = {
        each.name: (made[each.name],) if each.name in made else default_of(each)
        for each in parameters
        if each.kind not in (Parameter.VAR_KEYWORD, Parameter.VAR_POSITIONAL)
    }
    return {each: default for each, default in defaults.items() if known.get(each) != default}


def versions_on(page):
    """The versions that a page names, by package."""
    (first,) = re.findall(
        r"^(?:.*\. )?Checked against (?:.+\n)+", (FOLDER / page).read_text(encoding="utf-8"), re.MULTILINE
    )
    return dict(re.findall(r"([a-z-]+) (\d+\.\d+\.\d+)", first.lower()))


def skip_unless_checked(page, package):
    """Other versions have other parameters."""
    named = versions_on(page)[package]
    try:
        found = version(package)
    except PackageNotFoundError:
        pytest.skip(f"{package} is not installed")
    if found != named:
        pytest.skip(f"the page is about {package} {named}, and {found} is installed")


def test_the_pages_are_about_the_versions_that_the_tests_run_with():
    pins = dict(re.findall(r"^([a-z-]+)==(\S+)$", (FOLDER.parents[1] / "constraints.txt").read_text(), re.MULTILINE))
    compared = 0
    for page in PAGES:
        named = {} if page.stem == "index" else versions_on(page.name)
        assert page.stem == "index" or named, page
        for package in named.keys() & pins.keys():
            assert named[package] == pins[package], f"{page.name}: read the page again"
            compared += 1
    assert compared >= 6


def test_every_page_has_a_table_and_is_listed():
    listed = (FOLDER / "index.md").read_text(encoding="utf-8")
    tools = [page.stem for page in PAGES if page.stem != "index"]
    assert len(tools) == 6
    for tool in tools:
        assert f"({tool}.md)" in listed and f"\n{tool}\n" in listed
    assert {table.values[0] for table in TABLES} == {f"{tool}.md" for tool in tools}
    marks = sum(page.read_text(encoding="utf-8").count("<!-- parameters:") for page in PAGES)
    assert marks == len(TABLES)  # none that the pattern misses


@pytest.mark.filterwarnings("ignore")  # theirs
@pytest.mark.parametrize(("page", "theirs", "ours", "table", "without"), TABLES)
def test_their_side_of_a_table(page, theirs, ours, table, without):
    """Each parameter stands in the table, with its default, or in the paragraph below it; and nothing else does."""
    skip_unless_checked(page, re.split(r"[.:]", theirs)[0].replace("_", "-"))
    defaults = defaults_of(theirs)
    shown = [span for there, _, _ in rows_of(table) for span in SPAN.findall(there)]
    named = [span.partition("=")[0] for span in shown] + SPAN.findall(without or "")
    assert sorted(named) == sorted(defaults)
    for span in shown:
        name, equals, text = span.partition("=")
        assert bool(equals) == bool(defaults[name]), span
        assert not equals or says(text, *defaults[name]), f"{span}: it is {defaults[name][0]!r}"


@pytest.mark.parametrize(("page", "theirs", "ours", "table", "without"), TABLES)
def test_our_side_of_a_table(page, theirs, ours, table, without):
    classes = [getattr(skxlmr, name) for name in ours.split()]
    for _, here, _ in rows_of(table):
        for span in SPAN.findall(here):
            name, equals, text = span.partition("=")
            if equals and "(" not in name:
                assert any(name in cls().get_params() and says(text, cls().get_params()[name]) for cls in classes), span
                continue
            method, _, arguments = span.partition("(")
            found = next((getattr(each, method) for each in (*classes, skxlmr) if hasattr(each, method)), None)
            assert found is not None, span
            taken = signature(found).parameters if arguments else ()
            for argument in filter(None, arguments.strip(")").split(", ")):
                name, equals, text = argument.partition("=")
                assert name in taken, span
                assert not equals or says(text, taken[name].default), span
