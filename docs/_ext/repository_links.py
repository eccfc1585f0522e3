"""Links of the pages lead to files of the repository, as on a forge; here those outside ``docs/`` become pages of the site."""

import re

PAGES = {  # what a link leads to in the repository, and the page for it
    r"README\.md": r"/index.md",
    r"benchmarks/README\.md": r"/benchmarks.md",
    r"examples/gallery/(?P<script>plot_\w+)\.py": r"/gallery/\g<script>.rst",
    r"examples/gallery/?": r"/gallery/index.rst",
}


def mend(app, docname, source):
    for file, page in PAGES.items():
        source[0] = re.sub(rf"\]\((?:\.\./)+{file}(?P<anchor>#[^)]*)?\)", rf"]({page}\g<anchor>)", source[0])


def setup(app):
    app.connect("source-read", mend)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
