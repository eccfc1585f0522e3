"""``llms.txt``, the map of the site for language models (https://llmstxt.org), and ``llms-full.txt``, all of it as text."""

import inspect
import sys
from pathlib import Path

from docutils import nodes
from sphinx import addnodes

SUMMARY = "XLM-RoBERTa and its relatives behind scikit-learn's interface: multilingual features, fine-tuning and more."


def description(doctree):
    """The first sentence of a page, as text."""
    for paragraph in doctree.findall(nodes.paragraph):
        if isinstance(paragraph.parent, nodes.section | addnodes.desc_content):
            return " ".join(paragraph.astext().split()).split(". ")[0].rstrip(".:") + "."
    return ""


def docstrings(fullname, own_methods):
    """What the page of a public name is made from."""
    module, _, name = fullname.rpartition(".")
    public = getattr(sys.modules[module], name)
    members = (
        [(f"{fullname}.{method}", getattr(public, method)) for method in own_methods(fullname)]
        if inspect.isclass(public)
        else []
    )
    return "\n\n".join(f"## {title}\n\n{inspect.getdoc(member)}" for title, member in [(fullname, public), *members])


def under(env, docname):
    """Pages below one, in the order of the tables of contents."""
    for toctree in env.get_doctree(docname).findall(addnodes.toctree):
        for _, page in toctree["entries"]:
            if page in env.found_docs:
                yield page
                yield from under(env, page)


def write(app, error):
    if error or app.builder.format != "html":
        return
    env, base = app.env, (app.config.html_baseurl.rstrip("/") + "/").lstrip("/")
    lines, full = [f"# {app.config.project}", "", f"> {SUMMARY}"], []
    full.append(Path(env.doc2path(app.config.root_doc)).read_text(encoding="utf-8"))
    for toctree in env.get_doctree(app.config.root_doc).findall(addnodes.toctree):
        for _, section in toctree["entries"]:
            lines += ["", f"## {env.titles[section].astext()}", ""]
            for page in dict.fromkeys([section, *under(env, section)]):
                doctree = env.get_doctree(page)
                source = Path(env.doc2path(page))
                own = source.suffix == ".md" and not page.startswith("api")
                address = base + (f"_sources/{page}.md.txt" if own else app.builder.get_target_uri(page))
                lines.append(f"- [{env.titles[page].astext()}]({address}): {description(doctree)}")
                if page.startswith("api/generated/"):
                    full.append(docstrings(source.stem, app.config.autosummary_context["own_methods"]))
                else:
                    full.append(source.read_text(encoding="utf-8"))
    for name, text in {"llms.txt": "\n".join(lines), "llms-full.txt": "\n\n".join(full)}.items():
        (Path(app.outdir) / name).write_text(text + "\n", encoding="utf-8")


def setup(app):
    app.connect("build-finished", write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
