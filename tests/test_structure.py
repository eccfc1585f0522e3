"""What keeps the house simple: short ways, flat inheritance, small files, imports that only go down."""

import ast
import sys
from pathlib import Path

import pytest

import skxlmr
from tests.contract import ESTIMATORS, each, each_that, inputs

PACKAGE = Path(skxlmr.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))


def is_group_of_parameters(cls):
    """Whether a class has parameters and nothing else."""
    own = [name for name in vars(cls) if not name.startswith("__")]
    return hasattr(cls, "__dataclass_fields__") and set(own) <= set(cls.__dataclass_fields__)


@each
def test_few_own_classes_in_the_inheritance(estimator):
    own = [cls for cls in estimator.__mro__ if cls.__module__.startswith("skxlmr.")]
    behind = [cls.__name__ for cls in own if not is_group_of_parameters(cls)]
    assert len(behind) <= 5, behind


@each
def test_no_parameter_of_a_parent_is_taken_away(estimator):
    for parent in estimator.__mro__[1:]:
        assert getattr(parent, "__dataclass_fields__", {}).keys() <= estimator._parameter_constraints.keys()


def frames_to_forward(made, method, X):
    """Own frames from the method to the module, the method's included."""
    found = []

    def watched(*args, **kwargs):
        frame, own = sys._getframe(1), []
        while frame is not None:
            if frame.f_globals.get("__name__", "").startswith("skxlmr."):
                own.append(frame.f_code.co_name)
            frame = frame.f_back
        found.append(own[::-1])
        return forward(*args, **kwargs)

    forward, made.module_.forward = made.module_.forward, watched
    getattr(made, method)(X)
    assert found
    return max(found, key=len)


@each_that(lambda cls: hasattr(cls, "predict"))
def test_the_way_from_predict_to_forward_is_short(fitted, estimator):
    frames = frames_to_forward(fitted(estimator), "predict", inputs(estimator)[0])
    assert frames[0] == "predict" and len(frames) <= 5, frames


def test_the_way_of_a_text(fitted):
    """As docs/architecture.md shows it."""
    frames = frames_to_forward(fitted(skxlmr.XLMRobertaClassifier), "predict", inputs(skxlmr.XLMRobertaClassifier)[0])
    assert frames == ["predict", "predict_proba", "_logits", "rows", "_run"]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(PACKAGE).as_posix())
def test_files_are_short(file):
    assert len(file.read_text(encoding="utf-8").splitlines()) <= 420


def test_folders_hold_about_a_dozen_files():
    n_files = {}
    for file in FILES:
        n_files[file.parent] = n_files.get(file.parent, 0) + (file.name != "__init__.py")
    assert max(n_files.values()) <= 16, n_files


def test_no_room_is_imported_by_its_name_as_a_string():
    """Such an import could run up, and no import contract would see it."""
    for file in FILES:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Call)
                and getattr(node.func, "attr", getattr(node.func, "id", "")) == "import_module"
            ):
                assert all(not isinstance(arg, ast.Constant) or "skxlmr" not in str(arg.value) for arg in node.args), (
                    file
                )


def test_every_estimator_has_a_head_record():
    from skxlmr.estimators.heads import HEADS

    assert sorted(head.estimator for head in HEADS) == sorted(cls.__name__ for cls in ESTIMATORS)
    assert all(cls._head.estimator == cls.__name__ for cls in ESTIMATORS)
