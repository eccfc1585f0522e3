"""A public name, `XLMRobertaClassifier` or `XLMRobertaRegressor.rank`, leads to its page where it is first mentioned."""

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.transforms import SphinxTransform

MODULES = ("skxlmr", "skxlmr.metrics", "skxlmr.datasets", "skxlmr.inspection")


class PublicNames(SphinxTransform):
    default_priority = 500

    def apply(self, **kwargs):
        from importlib import import_module

        if not str(self.env.doc2path(self.env.docname)).endswith(".md"):
            return
        known = {}
        for module in reversed(MODULES):
            for name in import_module(module).__all__:
                known[name] = known[f"{module}.{name}"] = known[f"{module.removeprefix('skxlmr.')}.{name}"] = (
                    f"{module}.{name}"
                )
        own_methods = self.config.autosummary_context["own_methods"]
        seen = set()
        for literal in list(self.document.findall(nodes.literal)):
            name, _, method = literal.astext().removesuffix("()").rpartition(".")
            target = known.get(f"{name}.{method}".lstrip("."))
            if target is None and name[:1].isupper() and name in known and method in own_methods(known[name]):
                target = f"{known[name]}.{method}"
            inside = literal.parent
            while inside and not isinstance(inside, (nodes.reference, pending_xref, nodes.title)):
                inside = inside.parent
            if target is None or target in seen or inside:
                continue
            seen.add(target)
            reference = pending_xref(
                "",
                refdomain="py",
                reftype="obj",
                reftarget=target,
                refexplicit=True,
                refwarn=True,
                refdoc=self.env.docname,
            )
            literal.replace_self(reference)
            reference += literal


def setup(app):
    app.add_transform(PublicNames)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
