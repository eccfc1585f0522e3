"""``README.md`` of a saved estimator: a model card, as the Hugging Face hub reads it."""

import json
import re
from typing import Any

import numpy as np

from skxlmr.checkpoints import BUILTIN, NewAdapter
from skxlmr.estimators._core.estimator import Estimator
from skxlmr.estimators._core.fit_attributes import kept_epoch
from skxlmr.estimators.heads import Head
from skxlmr.persistence._description import is_place, versions

CARD = "README.md"
N_CLASSES = 20  # how many are spelled out
MOST_CHARACTERS = 200  # of a value
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
_LANGUAGE = re.compile(r"[A-Za-z]+(-[A-Za-z0-9]+)*")
_PLACES_AND_NOISE = {"checkpoint", "memory", "resume_dir", "revision", "device", "verbose"}


def model_card(
    estimator: Estimator, for_sentences: bool, with_weights: bool = True, adapter: NewAdapter | None = None
) -> str:
    """Text of the card: front matter for the hub, how to load it, scores, settings, versions.

    It names no place on this machine, because a card is made to be published.
    """
    name, head = type(estimator).__name__, estimator._head
    parts = [
        _front_matter(estimator, head, for_sentences and with_weights, adapter is not None),
        f"# {name}",
        f"A fitted `{name}` of skxlmr, which puts XLM-RoBERTa and its relatives behind scikit-learn's interface. "
        f"{_origin(estimator)}",
        _use_adapter(estimator, adapter) if adapter else _use(head, for_sentences) if with_weights else _use_onnx(),
        _outputs(estimator),
        _scores(estimator, _validation_score(estimator, head)[1]),
        _settings(estimator),
        "## Versions\n\n" + _table(["package", "version"], list(versions().items())),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _front_matter(estimator: Estimator, head: Head, for_sentences: bool, is_adapter: bool) -> str:
    family = estimator.config_.model_type
    tags = ["skxlmr", "scikit-learn", family, *(["sentence-transformers"] if for_sentences else [])]
    tags += ["lora"] if is_adapter else []
    repo, metric = _base_model(estimator), _validation_score(estimator, head)[0]
    fields: dict[str, Any] = {
        "library_name": "peft" if is_adapter else "skxlmr",
        "pipeline_tag": head.pipeline_tag,
        "language": [name for name in estimator._family.languages(estimator) if _LANGUAGE.fullmatch(name)],
        "base_model": repo,
        "base_model_relation": "adapter" if is_adapter and repo else None,
        "tags": tags,
        "metrics": [metric] if metric and _has_scores(estimator) else [],
    }
    # JSON is YAML
    lines = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in fields.items() if value]
    return "\n".join(["---", *lines, "---"])


def _base_model(estimator: Estimator) -> str | None:
    """The repository on the hub that it started from, if any."""
    checkpoint = estimator.checkpoint
    if not isinstance(checkpoint, str) or is_place(checkpoint):
        return None
    repo = checkpoint.partition("@")[0]
    return (
        repo if _REPOSITORY.fullmatch(repo) else None
    )  # whatever else it may be, it would be read as Markdown or YAML


def _origin(estimator: Estimator) -> str:
    repo = _base_model(estimator)
    if repo is not None:
        revision = estimator.revision or str(estimator.checkpoint).partition("@")[2]
        at = f" at revision {_code(revision)}" if revision else ""
        return f"It started from [{repo}](https://huggingface.co/{repo}){at}."
    if isinstance(estimator.checkpoint, str) and estimator.checkpoint == BUILTIN:
        return f"It started from `{BUILTIN}`, the small checkpoint inside the package."
    return "It started from a local checkpoint."


def _use(head: Head, for_sentences: bool) -> str:
    text = (
        "## Use\n\nThe folder, or its name on the hub:\n\n"
        '```python\nfrom skxlmr import load\n\nmodel = load("FOLDER")\n```\n\n'
        f'`transformers.{head.auto_class}.from_pretrained("FOLDER")` opens it too'
    )
    if for_sentences:
        text += ', and `sentence_transformers.SentenceTransformer("FOLDER")`, whose `encode` equals `model.transform`'
    return text + "."


def _use_adapter(estimator: Estimator, adapter: NewAdapter) -> str:
    """How to open an adapter here and with peft, which has the config of the base until it is told what differs."""
    directions = {name: getattr(estimator.config_, name, False) for name in ("is_decoder", "causal")}
    said = {"num_labels": adapter.n_labels, **directions}
    options = "".join(f", {name}={value}" for name, value in said.items() if value)
    return (
        "## Use\n\nThis is a LoRA adapter of PEFT: it needs its base model, which `adapter_config.json` names. The folder, or "
        'its name on the hub:\n\n```python\nfrom skxlmr import load\n\nmodel = load("FOLDER")\n```\n\nWith peft, the base '
        "model and the adapter:\n\n```python\nimport peft\nimport transformers\n\n"
        f'base = transformers.{estimator._head.auto_class}.from_pretrained("BASE"{options})\n'
        'model = peft.PeftModel.from_pretrained(base, "FOLDER")\n```'
    )


def _use_onnx() -> str:
    return (
        "## Use\n\nThe model in `onnx` is for ONNX Runtime, without PyTorch. The folder, or its name on the hub:\n\n"
        '```python\nfrom skxlmr import load_onnx\n\nmodel = load_onnx("FOLDER")\n```'
    )


def _outputs(estimator: Estimator) -> str:
    classes = getattr(estimator, "classes_", None)
    if classes is None:
        return ""
    columns = classes if isinstance(classes, list) else [classes]
    lines = []
    for column in columns:
        named = ", ".join(_code(value) for value in np.asarray(column).tolist()[:N_CLASSES])
        more = f" and {len(column) - N_CLASSES} more" if len(column) > N_CLASSES else ""
        lines.append(f"{len(column)} classes: {named}{more}.")
    return "## Classes\n\n" + "\n\n".join(lines)


def _validation_score(estimator: Estimator, head: Head) -> tuple[str | None, str]:
    """The hub's name of the validation score, if it has one, and what it is."""
    scoring = getattr(estimator, "scoring", None)
    if scoring == "loss" or (scoring is None and getattr(estimator, "target_type_", "") == "multilabel-indicator"):
        return None, "minus the loss"
    return (head.metric, head.score) if scoring is None else (None, f"`{scoring}`")


def _has_scores(estimator: Estimator) -> bool:
    return bool(getattr(estimator, "validation_scores_", None))


def _scores(estimator: Estimator, meaning: str) -> str:
    losses = getattr(estimator, "loss_curve_", None)
    if not losses:
        return ""
    scores = getattr(estimator, "validation_scores_", None) or []
    rows = [
        (epoch + 1, f"{loss:.4g}", f"{scores[epoch]:.4g}" if epoch < len(scores) else "")
        for epoch, loss in enumerate(losses)
    ]
    text = "## Training\n\n"
    kept, is_early = kept_epoch(estimator), getattr(estimator, "early_stopping", False)
    if kept is None and not is_early and len(scores) == len(losses):
        kept = len(losses) - 1
    if kept is not None and np.isfinite(scores[kept]):  # else the weights were trained on since
        which = "best" if is_early else "last"
        text += f"The {which} validation score ({meaning}) is **{scores[kept]:.4g}**, measured on held-out rows.\n\n"
    return text + _table(["epoch", "training loss", "validation score"], rows)


def _settings(estimator: Estimator) -> str:
    defaults = type(estimator)().get_params(deep=False)
    rows = [
        (_code(name, quote=False), _code(value))
        for name, value in estimator.get_params(deep=False).items()
        if name not in _PLACES_AND_NOISE and not _same(value, defaults[name])
    ]
    return "## Settings that differ from the defaults\n\n" + _table(["parameter", "value"], rows) if rows else ""


def _same(a: Any, b: Any) -> bool:
    return type(a) is type(b) and bool(np.array_equal(a, b))


def _table(head: list[str], rows: list[tuple[Any, ...]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def _code(value: Any, quote: bool = True) -> str:
    """A value as inline code, escaped so that it cannot end the code, and shortened if it is long."""
    text = " ".join((repr(value) if quote else str(value)).split())
    text = text if len(text) <= MOST_CHARACTERS else text[: MOST_CHARACTERS - 3] + "..."
    return "`` " + text.replace("`", "'").replace("|", "\\|") + " ``"
