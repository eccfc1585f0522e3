"""How much of the public interface is documented: summary, See Also, an example that runs, a script of the gallery.

``python -m tests.test_docs_coverage`` prints the counts.
"""

import ast
import doctest
import inspect
from importlib import import_module
from pathlib import Path

import pytest

import skxlmr
from skxlmr import datasets, inspection, metrics
from tests.test_docs import blocks

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
SCRIPTS = sorted((ROOT / "examples" / "gallery").glob("plot_*.py"))
MODULES = (skxlmr, datasets, inspection, metrics)
PUBLIC = {f"{module.__name__}.{name}": getattr(module, name) for module in MODULES for name in module.__all__}

# Names that no script of the gallery uses, and why.
NO_CHECKPOINT = "no checkpoint of the original XLM ships with the package, and the gallery runs without a network"
NOT_IN_THE_GALLERY = {
    "skxlmr.CheckpointError": "an error: raised for broken files, which a gallery does not have",
    "skxlmr.FitQualityWarning": "a warning: the scripts show fits that learn",
    "skxlmr.OutOfMemoryWarning": "a warning of GPUs",
    "skxlmr.StoreInfo": "what cache_info returns: nobody makes one",
    "skxlmr.TrimReport": "what trim_vocabulary returns: nobody makes one",
    "skxlmr.VersionWarning": "a warning of pickles from another version",
    "skxlmr.XLMClassifier": NO_CHECKPOINT,
    "skxlmr.XLMMaskedLM": NO_CHECKPOINT,
    "skxlmr.XLMVectorizer": NO_CHECKPOINT,
    "skxlmr.all_estimators": "for programs that go through all estimators, as scikit-learn's",
    "skxlmr.push_to_hub": "needs the network and a token",
    "skxlmr.inspection.TokenAttribution": "what attributions returns: nobody makes one",
    "skxlmr.metrics.entities": "what the scores of entities are made of, for tags of other tools",
    "skxlmr.metrics.entity_f1_score": "one number of entity_report, which the gallery shows",
    "skxlmr.metrics.max_sim": "needs a checkpoint with vectors of tokens, such as bge-m3: none ships with the package",
    "skxlmr.metrics.split_tag": "what entities is made of, for tags of other tools",
    "skxlmr.metrics.word_accuracy": "for tags that are no entities, such as parts of speech; the gallery shows entities",
}
# Names that a guide uses, in code that runs, instead of a script.
IN_A_GUIDE = {
    "skxlmr.Cache": "tuning.md",
    "skxlmr.XLMRobertaZeroShotClassifier": "zero_shot.md",
    "skxlmr.clear_cache": "tuning.md",
    "skxlmr.inspection.AttentionDisplay": "inspection.md",
    "skxlmr.metrics.answer_exact_match_score": "question_answering.md",
    "skxlmr.metrics.answer_f1_score": "question_answering.md",
    "skxlmr.metrics.entity_precision_recall_f1": "token_classification.md",
    "skxlmr.metrics.normalize_answer": "question_answering.md",
    "skxlmr.metrics.search_scoring": "training.md",
}
# Checks of numpydoc that are not for all docstrings, and why.
NOT_CHECKED = {
    "ES01": "one sentence may say it all",
    "SS05": "a summary may be a noun, which the check takes for a verb: 'Features of the texts.'",
}
RECORDS = ("skxlmr.StoreInfo", "skxlmr.TrimReport")  # nobody makes them: their fields are documented as attributes


def methods(name, cls):
    """The documented methods and properties of a class, by name; those of this package alone."""
    for method in sorted(dir(cls)):
        defined = next(base for base in cls.__mro__ if method in vars(base))
        if method.startswith("_") or method.endswith("_request") or not defined.__module__.startswith("skxlmr"):
            continue
        found = vars(defined)[method]
        if isinstance(found, property) or callable(getattr(cls, method)):
            yield f"{name}.{method}", found if isinstance(found, property) else getattr(cls, method)


def distinct():
    """Public names, and methods of classes, each once: those that classes inherit from one another have one docstring."""
    found, seen = dict(PUBLIC), set()
    for name, public in PUBLIC.items():
        for method, value in methods(name, public) if isinstance(public, type) else ():
            if (documented := inspect.unwrap(getattr(value, "__func__", value))) not in seen:
                seen.add(documented)
                found[method] = value
    return found


DOCUMENTED = distinct()


# Summary and See Also ---------------------------------------------------------------------------------------------------


def sections(documentation):
    """Title -> lines of each section of a numpydoc docstring; the summary is under ''."""
    found, title = {"": []}, ""
    lines = inspect.cleandoc(documentation or "").splitlines()
    for line, below in zip(lines, [*lines[1:], ""], strict=True):
        if line and set(below) == {"-"} and len(below) == len(line):
            title = line
            found[title] = []
        else:
            found[title].append(line)
    return {title: [line for line in lines if not title or set(line) != {"-"}] for title, lines in found.items()}


def seen_also(documentation):
    """(name, description) of each entry of the section See Also."""
    for line in sections(documentation).get("See Also", []):
        if line and not line.startswith(" "):
            names, _, description = line.partition(" : ")
            yield from ((name, description) for name in names.split(", "))


def resolved(name, of):
    """What a name in See Also of the docstring of ``of`` stands for, as Sphinx finds it; None if there is no such thing."""
    module = next(
        module
        for module in ("skxlmr.datasets", "skxlmr.inspection", "skxlmr.metrics", "skxlmr")
        if of.startswith(f"{module}.")
    )
    for full in (f"{module}.{name}", f"{of.rpartition('.')[0]}.{name}", name):
        parts = full.split(".")
        for cut in range(len(parts), 0, -1):
            try:
                found = import_module(".".join(parts[:cut]))
                for part in parts[cut:]:
                    found = getattr(found, part)
            except (ImportError, AttributeError):
                continue
            return found
    return None


def fault_of_summary(name):
    first, *rest = sections(inspect.getdoc(PUBLIC[name]))[""] or [""]
    return (
        None if first.endswith(".") and not any(rest[:1]) else f"the first line is {first!r}: one sentence is expected"
    )


def fault_of_see_also(name):
    entries = list(seen_also(inspect.getdoc(DOCUMENTED[name])))
    if not entries:
        return "there is no See Also" if name in PUBLIC else None
    for other, description in entries:
        if resolved(other, name) is None:
            return f"See Also names {other}, which does not exist"
        if resolved(other, name) is DOCUMENTED[name]:
            return "See Also names itself"
        if not description.endswith("."):
            return f"See Also does not say what {other} is"
    return None


# Examples -------------------------------------------------------------------------------------------------------------


def example(name):
    """The doctest of a docstring."""
    documentation = inspect.getdoc(DOCUMENTED[name]) or ""
    return doctest.DocTestParser().get_doctest(documentation, {}, name, name, 0)


def fault_of_example(name):
    run = [each for each in example(name).examples if doctest.SKIP not in each.options]
    return None if any(each.want for each in run) else "there is no example that runs and shows something"


@pytest.mark.parametrize("name", [name for name in DOCUMENTED if example(name).examples])
def test_example_runs(with_cache, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    result = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(example(name))
    assert result.attempted and not result.failed
    left = [path.name for path in tmp_path.iterdir() if not path.name.startswith("torchinductor_")]  # which is torch's
    assert not left, "the example leaves files behind"


# Gallery --------------------------------------------------------------------------------------------------------------


def used(source):
    """The public names that a script uses, imported from their module or as attributes of it."""
    tree, stands_for, found = ast.parse(source), {}, set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                stands_for[alias.asname or alias.name.partition(".")[0]] = (
                    alias.name if alias.asname else alias.name.partition(".")[0]
                )
        elif isinstance(node, ast.ImportFrom):
            stands_for |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    for node in ast.walk(tree):
        parts = []
        while isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id in stands_for:
            full = ".".join([stands_for[node.id], *parts[::-1]])
            found |= {name for name in PUBLIC if full == name or full.startswith(f"{name}.")}
    return found


def test_names_that_a_script_uses():
    source = """
import skxlmr
import skxlmr.datasets as tables
from skxlmr import XLMRobertaClassifier, XLMRobertaVectorizer as Vectorizer, load, metrics, save
frame = tables.load_reviews().frame
Vectorizer().fit(frame)
model = XLMRobertaClassifier.from_checkpoint("here")
skxlmr.save(model, metrics.max_sim)
load = None
convert = skxlmr
"""
    wanted = ["XLMRobertaClassifier", "XLMRobertaVectorizer", "datasets.load_reviews", "metrics.max_sim", "save"]
    assert used(source) == {f"skxlmr.{name}" for name in wanted}


def in_gallery():
    return set().union(*(used(script.read_text(encoding="utf-8")) for script in SCRIPTS))


def fault_of_gallery(name):
    if name in IN_A_GUIDE:
        page = DOCS / IN_A_GUIDE[name]
        runs = "\n".join(source for _, source, _ in blocks(page))
        return None if name in used(runs) else f"no code that runs on {page.name} uses it"
    if name in in_gallery() or name in NOT_IN_THE_GALLERY:
        return None
    return "no script of the gallery uses it, and NOT_IN_THE_GALLERY has no reason"


def test_reasons_hold():
    elsewhere = NOT_IN_THE_GALLERY.keys() | IN_A_GUIDE.keys()
    assert elsewhere <= PUBLIC.keys() and not NOT_IN_THE_GALLERY.keys() & IN_A_GUIDE.keys()
    assert not NOT_IN_THE_GALLERY.keys() & in_gallery(), "a script uses what has a reason why none does"


# All of them ----------------------------------------------------------------------------------------------------------

DEMANDS = {
    "a summary of one line": (fault_of_summary, PUBLIC),
    "See Also": (fault_of_see_also, DOCUMENTED),
    "an example that runs": (fault_of_example, PUBLIC),
    "a script of the gallery, a guide, or a reason": (fault_of_gallery, PUBLIC),
}


@pytest.mark.parametrize("demand", DEMANDS)
def test_all_have(demand):
    fault_of, names = DEMANDS[demand]
    faults = {name: fault for name in names if (fault := fault_of(name))}
    listed = "\n".join(f"{name}: {fault}" for name, fault in faults.items())
    assert not faults, f"{len(faults)} of {len(names)} are without {demand}:\n{listed}"


@pytest.mark.parametrize("name", DOCUMENTED)
def test_docstring_is_as_numpydoc_wants_it(name):
    validate = pytest.importorskip("numpydoc.validate", reason="numpydoc is in the extra docs").validate
    if isinstance(DOCUMENTED[name], property):
        pytest.skip("a property has one sentence")
    checked = validate(name)
    faults = {code: text for code, text in checked["errors"] if code not in NOT_CHECKED}
    if name not in PUBLIC:  # a method may need neither beside those of its class
        faults = {code: text for code, text in faults.items() if code not in ("SA01", "EX01")}
    if name in RECORDS:
        faults.pop("PR01", None)
    returned = sections(inspect.getdoc(DOCUMENTED[name])).get("Returns", [None])[0]
    if returned in ("self", name.split(".")[-2]):  # of its own class
        faults.pop("RT03", None)
    assert not faults


if __name__ == "__main__":
    print(f"{len(PUBLIC)} public names, and {len(DOCUMENTED) - len(PUBLIC)} methods and properties of their own")
    for demand, (fault_of, _) in DEMANDS.items():
        print(f"  {sum(fault_of(name) is None for name in PUBLIC)} have {demand}")
    have = [name for name in DOCUMENTED if example(name).examples]
    print(f"  {len(have) - len(PUBLIC.keys() & set(have))} methods have an example")
    print(f"  {len(in_gallery() & PUBLIC.keys())} names are in {len(SCRIPTS)} scripts, {len(IN_A_GUIDE)} in a guide")
    print(f"  {len(NOT_IN_THE_GALLERY)} have a reason")
