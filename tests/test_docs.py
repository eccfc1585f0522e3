"""The code in the documentation runs and prints what the pages show, and no public name is left out."""

import contextlib
import io
import re
import sys
from pathlib import Path

import pytest

import skxlmr
from skxlmr import datasets, inspection, metrics

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
# A Python block, unless it is marked as not to be run, and the block of expected output if one follows.
BLOCK = re.compile(r"(<!-- no-test -->\n)?```python\n(.*?)```(?:\n\n```text\n(.*?)```)?", re.DOTALL)
LINK = re.compile(r"\]\(([^)#\s]*)(?:#([^)\s]*))?\)")
PUBLIC = (skxlmr, inspection, metrics, datasets)


def few_reviews(n_rows, load=datasets.load_reviews):
    """The same table with fewer rows."""
    reviews = load()
    reviews.frame = reviews.frame.head(n_rows)
    return reviews


def blocks(page):
    """(line, source, expected output or None) of the blocks to run."""
    text = page.read_text(encoding="utf-8")
    for match in BLOCK.finditer(text):
        if match[1] is None:
            yield text.count("\n", 0, match.start(2)), match[2], match[3]


RUN = [page.relative_to(ROOT).as_posix() for page in PAGES if any(blocks(page))]


@pytest.mark.parametrize("page", RUN)
def test_code_blocks_run_in_order(with_cache, page, tmp_path, monkeypatch):
    """In an empty folder, with the package installed and no repository around it."""
    (tmp_path / "installed").mkdir()
    (tmp_path / "installed" / "skxlmr").symlink_to(Path(skxlmr.__file__).parent)
    elsewhere = [path for path in sys.path if Path(path).resolve() != ROOT]
    monkeypatch.setattr(sys, "path", [str(tmp_path / "installed"), *elsewhere])  # worker processes get it too
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    n_rows = 30 if page == "README.md" else 66  # nine fits there; a page that takes 60 of all 360 says so
    monkeypatch.setattr(datasets, "load_reviews", lambda: few_reviews(n_rows))
    namespace = {}
    for line, source, expected in blocks(ROOT / page):
        # Blank lines before the source let a traceback point to the line of the page.
        code = compile("\n" * line + source, str(ROOT / page), "exec")
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(code, namespace)
        if expected is not None:
            assert printed.getvalue() == expected, f"{page}, line {line}"


def listed():
    """(module, name) of each entry of the API reference, which gets a page of its own."""
    module, entry = None, False
    for line in (ROOT / "docs" / "api" / "index.md").read_text(encoding="utf-8").splitlines():
        if found := re.match(r"\.\. currentmodule:: (\S+)", line):
            module = found[1]
        entry = line == "   :toctree: generated/" or (entry and line != "```")
        if entry and (found := re.fullmatch(r"   (\w+)", line)):
            yield module, found[1]


def test_the_reference_lists_every_public_name_once():
    public = [(module.__name__, name) for module in PUBLIC for name in module.__all__]
    found = list(listed())
    assert sorted(set(found)) == sorted(public), "docs/api/index.md must list what the modules have in __all__"
    assert len(found) == len(set(found)), "docs/api/index.md lists a name twice"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_relative_links_lead_somewhere(page):
    for target, anchor in LINK.findall(page.read_text(encoding="utf-8")):
        if target.startswith("http"):
            continue
        file = page.parent / target if target else page
        assert file.exists(), f"{page.name} links to {target}"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            slugs = {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}
            assert anchor in slugs, f"{page.name} links to {target}#{anchor}"
