"""Everything public has annotations, as ``py.typed`` promises."""

import inspect

import pytest

import skxlmr
import skxlmr.checkpoints
import skxlmr.metrics
import skxlmr.text

MODULES = (skxlmr, skxlmr.metrics, skxlmr.text, skxlmr.checkpoints)
PUBLIC = {f"{module.__name__}.{name}": getattr(module, name) for module in MODULES for name in module.__all__}


def functions(value):
    """Functions, methods and properties of a public name, those of own base classes included."""
    if not isinstance(value, type):
        return {"": value} if inspect.isfunction(value) else {}
    found = {}
    for cls in value.__mro__:
        for name, member in vars(cls).items() if cls.__module__.startswith("skxlmr") else ():
            member = (
                getattr(member, "fget", None) or getattr(member, "func", None) or getattr(member, "__func__", member)
            )
            if inspect.isfunction(member) and (not name.startswith("_") or name == "__init__"):
                found[f".{name}"] = inspect.unwrap(member)
    return found


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_functions_are_annotated(name):
    for path, function in functions(PUBLIC[name]).items():
        signature = inspect.signature(function)
        arguments = [each for each in signature.parameters.values() if each.name not in ("self", "cls")]
        bare = [each.name for each in arguments if each.annotation is each.empty]
        assert not bare, f"{name}{path}: {bare}"
        assert signature.return_annotation is not signature.empty or path == ".__init__", f"{name}{path}"


def test_functions_are_found():
    n_functions = {name: len(functions(value)) for name, value in PUBLIC.items()}
    assert n_functions["skxlmr.XLMRobertaClassifier"] > 10 and n_functions["skxlmr.metrics.entities"] == 1
    assert n_functions["skxlmr.text.SentencePieceTokenizer"] > 10
