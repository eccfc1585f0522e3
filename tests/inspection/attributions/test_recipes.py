"""The recipes with lime and shap, as the page has them, with the real packages."""

import re
import warnings
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[3] / "docs" / "inspection.md"


def block(page, word):
    """The first block of code that has a word."""
    return next(code for code in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if word in code)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run the block that makes the classifier, then one of a package."""

    def run(package):
        pytest.importorskip(package, reason=f"needs {package}: pip install {package}")
        monkeypatch.chdir(tmp_path)
        page, names = PAGE.read_text(encoding="utf-8"), {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of these packages
            exec(block(page, "import TokenAttributionDisplay, attributions"), names)
            exec(block(page, "from lime"), names)
            if package != "lime":
                exec(block(page, f"import {package}"), names)
        return names

    return run


def test_lime(run):
    found = run("lime")["explanation"].as_list(label=1)
    assert found[0][0] == "Great" and {word for word, _ in found} == {"Great", "film", "really"}
    assert found[0][1] > 3 * max(abs(value) for _, value in found[1:])


def test_shap(run, tmp_path):
    pytest.importorskip("lime", reason="needs lime: pip install lime")
    names = run("shap")
    (whole,) = names["classifier"].predict_proba([names["text"]])[:, 1]
    assert names["values"].argmax() == 0
    assert names["values"].sum() + names["found"].base_values[0, 1] == pytest.approx(whole, abs=1e-4)
    assert [names["text"][start:end] for start, end in names["spans"]] == ["Great", "film,", "really"]
    assert "film," in (tmp_path / "shap.html").read_text(encoding="utf-8")
