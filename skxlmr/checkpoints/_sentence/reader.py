"""Read what a folder of ``sentence-transformers`` says of how vectors of texts are made.

What is said there and can't be reproduced is an error that names it: nothing is silently different.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skxlmr.checkpoints._layout import (
    CONFIG,
    MODULES,
    PART,
    SENTENCE_CONFIG,
    TRANSFORMER_CONFIGS,
    model_place,
)
from skxlmr.checkpoints._sentence import checks
from skxlmr.nn.sentence import Dense, Dropout, LayerNorm, Normalize, SentenceEncoder, SentenceLayer
from skxlmr.utils._errors import CheckpointError
from skxlmr.utils._files import read_json, read_json_list

# What each pooling is called by a flag of its own, in the order in which the vectors stand side by side
FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
PACKAGE = "sentence_transformers"
KINDS = ("Transformer", "Pooling", "Dense", "LayerNorm", "Normalize", "Dropout")
MOST_MODULES = 32
# What a transformer makes: the task, its outputs by the kind of input, and their name
FEATURES = (
    "feature-extraction",
    {"text": {"method": "forward", "method_output_name": "last_hidden_state"}},
    "token_embeddings",
)
SCORES = ("sequence-classification", {"text": {"method": "forward", "method_output_name": "logits"}}, "scores")


@dataclass(frozen=True)
class Part:
    """A module of the pipeline: its kind, and the folder of its files."""

    kind: str
    place: str


def read_sentence_encoder(folder: Path, hidden_size: int) -> SentenceEncoder | None:
    """What the folder says; None if it is a plain model.

    Raises
    ------
    CheckpointError
        If a file is broken, or says something that cannot be reproduced.
    """
    if not os.path.lexists(folder / MODULES):
        return None
    first, pooling, *others = read_parts(folder)
    words, include_prompt = _read_pooling(folder / pooling.place / CONFIG, hidden_size)
    layers: list[SentenceLayer] = []
    n_features = hidden_size * len(words)
    for part in others:
        layer = _read_layer(folder / part.place / CONFIG, part.kind, n_features)
        n_features = layer.out_features if isinstance(layer, Dense) else n_features
        layers.append(layer)
    last = max((i for i, layer in enumerate(layers) if not isinstance(layer, Dropout)), default=0)
    normalize = bool(layers) and isinstance(layers[last], Normalize)
    if normalize:
        del layers[last]
    return SentenceEncoder(
        words,
        include_prompt,
        tuple(layers),
        normalize,
        **read_transformer(folder / first.place, FEATURES),
        **_read_settings(folder),
    )


def read_parts(folder: Path) -> list[Part]:
    """The modules of a sentence encoder: a transformer, a pooling, and the layers that follow it."""
    parts = read_entries(folder)
    kinds = [part.kind for part in parts]
    if kinds[:2] != ["Transformer", "Pooling"] or {"Transformer", "Pooling"} & set(kinds[2:]):
        found = ", ".join(kinds) or "nothing"
        reason = f"expected a Transformer, one Pooling, and the layers after it, found {found:.200}"
        raise CheckpointError(folder / MODULES, reason)
    return parts


def read_entries(folder: Path) -> list[Part]:
    """The modules that ``modules.json`` lists."""
    file = folder / MODULES
    parts = []
    entries = read_json_list(file)
    if len(entries) > MOST_MODULES:
        raise CheckpointError(file, f"lists {len(entries)} modules, expected at most {MOST_MODULES}")
    for entry in entries:
        if not isinstance(entry, dict):
            raise CheckpointError(file, f"expected an object for each module, found {entry!r:.80}")
        values = checks.known(
            file,
            entry,
            idx=checks.anything,
            name=checks.anything,
            path=checks.text,
            type=checks.text,
            kwargs=checks.anything,
        )
        name, place = values.get("type"), values.get("path", "")
        if name is None:
            raise CheckpointError(file, "names no type for a module")
        kind = name.rpartition(".")[2]
        if name.partition(".")[0] != PACKAGE:
            reason = f"needs the code of the module {name!r:.80}, and no code of a checkpoint is run"
            raise CheckpointError(file, f"{reason}. {checks.ALONE}, unless it needs code too")
        if kind not in KINDS:
            raise CheckpointError(
                file, f"names the module {name!r:.80}, which is not one of {', '.join(KINDS)}. {checks.ALONE}"
            )
        if entry.get("kwargs"):
            raise CheckpointError(file, f"passes arguments to {kind} ({entry['kwargs']!r:.80}), which is not supported")
        if place and not PART.fullmatch(place):
            raise CheckpointError(file, f"expected a folder such as '1_Pooling' for {kind}, found {place!r:.80}")
        parts.append(Part(kind, place))
    if parts and parts[0].kind == "Transformer" and parts[0].place != model_place(folder):
        here = model_place(folder) or "the folder itself"
        raise CheckpointError(file, f"says that the model lies in {parts[0].place!r}, but it lies in {here}")
    return parts


def _read_pooling(file: Path, hidden_size: int) -> tuple[tuple[str, ...], bool]:
    values = checks.known(
        file,
        read_json(file),
        **dict.fromkeys(FLAGS, checks.flag),
        **dict.fromkeys(("word_embedding_dimension", "embedding_dimension"), checks.size),
        pooling_mode=checks.poolings,
        include_prompt=checks.flag,
    )
    for name in ("word_embedding_dimension", "embedding_dimension"):
        if values.get(name, hidden_size) != hidden_size:
            raise CheckpointError(file, f"{name} is {values[name]}, but the model is {hidden_size} wide")
    words = values.get("pooling_mode")
    if words is None:
        words = tuple(word for flag, word in FLAGS.items() if values.get(flag)) or ("mean",)
    return words, values.get("include_prompt", True)


def _read_layer(file: Path, kind: str, n_features: int) -> SentenceLayer:
    raw = read_json(file) if os.path.lexists(file) else {}
    if kind == "Normalize":
        checks.known(file, raw, module_input_name=checks.sentence, module_output_name=checks.sentence)
        return Normalize()
    if kind == "Dropout":
        return Dropout(checks.known(file, raw, dropout=checks.share).get("dropout", 0.2))
    if kind == "LayerNorm":
        size = checks.known(file, raw, dimension=checks.size).get("dimension")
        if size != n_features:
            raise CheckpointError(file, f"dimension is {size}, but {n_features} features come in")
        return LayerNorm(n_features)
    values = checks.known(
        file,
        raw,
        **dict.fromkeys(("in_features", "out_features"), checks.size),
        **dict.fromkeys(("bias", "use_residual"), checks.flag),
        **dict.fromkeys(("module_input_name", "module_output_name"), checks.sentence),
        activation_function=checks.activation,
    )
    if values.get("in_features") != n_features:
        found = values.get("in_features")
        raise CheckpointError(file, f"in_features is {found}, but {n_features} features come in")
    if "out_features" not in values:
        raise CheckpointError(file, "has no out_features")
    activation = values.get("activation_function", "Tanh")
    residual = values.get("use_residual", False)
    return Dense(n_features, values["out_features"], values.get("bias", True), activation, residual)


def read_transformer(folder: Path, makes: tuple[str, dict[str, Any], str]) -> dict[str, Any]:
    """Most tokens of a text, and whether texts are put in lower case, by a transformer that makes this."""
    task, modalities, output = makes
    file = next((folder / name for name in TRANSFORMER_CONFIGS if os.path.lexists(folder / name)), None)
    if file is None and task == FEATURES[0]:
        return {}
    if file is None:
        raise CheckpointError(
            folder / TRANSFORMER_CONFIGS[0], f"is missing, expected it with transformer_task {task!r}"
        )
    arguments = ("model_args", "model_kwargs", "config_args", "config_kwargs")
    values = checks.known(
        file,
        read_json(file),
        max_seq_length=checks.length,
        do_lower_case=checks.flag,
        transformer_task=checks.only(task),
        modality_config=checks.only(modalities),
        module_output_name=checks.only(output),
        unpad_inputs=checks.anything,
        processing_kwargs=checks.nothing,
        **dict.fromkeys(("query_length", "document_length", "query_expansion"), checks.nothing),
        **dict.fromkeys(arguments, checks.harmless),
        **dict.fromkeys(("tokenizer_args", "processor_kwargs"), checks.of_tokenizer),
    )
    if values.get("transformer_task", FEATURES[0]) != task:
        raise CheckpointError(file, f"has no transformer_task, expected {task!r}")
    given = values.get("processor_kwargs") or values.get("tokenizer_args") or {}
    max_length = given.get("model_max_length", values.get("max_seq_length"))
    return {"max_length": max_length, "lower_case": bool(values.get("do_lower_case"))}


def _read_settings(folder: Path) -> dict[str, Any]:
    if not os.path.lexists(folder / SENTENCE_CONFIG):
        return {}
    prompts, values = read_prompts(
        folder, "SentenceTransformer", ("query", "document"), similarity_fn_name=checks.text, truncate_dim=checks.size
    )
    return {
        **prompts,
        "truncate_dim": values.get("truncate_dim"),
        "similarity": values.get("similarity_fn_name"),
    }


def read_prompts(
    folder: Path, kind: str, empty: tuple[str, ...] = (), **further: checks.Check
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The prompts of a model of this kind, and all values of the file.

    ``empty`` names prompts that a model of this kind has and that are empty if not said, ``further`` holds checks of other
    values.
    """
    file = folder / SENTENCE_CONFIG
    values = checks.known(
        file,
        read_json(file),
        __version__=checks.anything,
        requirements=checks.anything,
        model_type=checks.only(kind),
        prompts=checks.prompts,
        default_prompt_name=checks.text,
        **further,
    )
    prompts, default = values.get("prompts", ()), values.get("default_prompt_name")
    if default is not None and default not in (*dict(prompts), *empty):
        names = ", ".join(map(repr, dict(prompts))) or "none"
        raise CheckpointError(
            file, f"default_prompt_name is {default!r:.80}, which is none of the prompts ({names:.200})"
        )
    return {"prompts": prompts, "default_prompt": default if default in dict(prompts) else None}, values
