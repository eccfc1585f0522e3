"""What to say of a checkpoint that another estimator reads."""

from typing import Any

from skxlmr.estimators._core.family import Family
from skxlmr.estimators.heads import HEADS, Head
from skxlmr.nn import family_of


def other_family(head: Head, family: Family, model_type: str) -> str:
    """What to say where it belongs to another family."""
    prefix, other = family.prefix, "XLM" if model_type == "xlm" else "XLMRoberta"
    found = "the original XLM (model_type 'xlm')" if model_type == "xlm" else f"a model of the type {model_type!r}"
    known = {other_head.estimator for other_head in HEADS}
    use = head.estimator.replace(prefix, other, 1)
    if use not in known:  # XLM-RoBERTa has more estimators
        use = f"one of {', '.join(sorted(name for name in known if not name.startswith(prefix)))}"
    return f"describes {found}, but {head.estimator} reads {family.name}: use {use}"


def other_task(head: Head, family: Family, config: Any) -> str:
    """What to say where its family has no such module."""
    theirs = family_of(config)
    known = [other_head.estimator for other_head in HEADS if other_head.task in theirs.modules]
    use = sorted(name for name in known if name.startswith(family.prefix))
    found = f"describes {theirs.name} (model_type {config.model_type!r})"
    return f"{found}, which {head.estimator} can't read: use one of {', '.join(use)}"
