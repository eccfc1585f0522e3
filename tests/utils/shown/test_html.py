import json
import re

import pytest

from skxlmr.utils._shown.html import direction, document, framed, in_script


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("left", "ltr"),
        ("שלום abc", "rtl"),
        ("مرحبا", "rtl"),
        ("123 עברית", "rtl"),
        ("12, 3!", "ltr"),
        ("", "ltr"),
        ("ไทย", "ltr"),
    ],
)
def test_direction(text, expected):
    assert direction(text) == expected


@pytest.mark.parametrize(
    "text", ["</script><script>alert(1)</script>", "<!-- <script>", "\u2028", "ü \U0001f600 \"'\\"]
)
def test_values_stay_inside_a_script(text):
    written = in_script({"text": [text, 1.5, None]})
    assert "<" not in written
    assert json.loads(written) == {"text": [text, 1.5, None]}


def test_numbers_that_json_lacks_are_refused():
    with pytest.raises(ValueError, match="JSON compliant"):
        in_script([float("nan")])


def test_a_document_is_whole_and_fetches_nothing():
    page = document("<a> & b", "<p>body</p>", style="p { color: red }", script="let x = 1;")
    assert page.startswith("<!DOCTYPE html>")
    assert "<title>&lt;a&gt; &amp; b</title>" in page
    assert "default-src 'none'" in page
    assert not re.search(r"(src|href)=", page)


def test_a_frame_holds_a_page_as_text():
    frame = framed('<p class="x">&amp;</p>', 'a "title"', 300)
    assert 'srcdoc="&lt;p class=&quot;x&quot;&gt;&amp;amp;&lt;/p&gt;"' in frame
    assert 'sandbox="allow-scripts"' in frame
