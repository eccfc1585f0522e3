"""Read what a folder of ``sentence-transformers`` says of how vectors of texts are made.

What is said there and can't be reproduced is an error that names it: nothing is silently different.
"""

import os
from collections.abc import Callable, Mapping
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
from skxlmr.nn.pooling import POOLINGS
from skxlmr.nn.sentence import ACTIVATIONS, Dense, Dropout, LayerNorm, Normalize, SentenceEncoder, SentenceLayer
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
MOST_MODULES, MOST_FEATURES, LEAST_LENGTH = 32, 2**20, 4
MOST_PROMPT = 100_000  # characters: they are tokenised before it is known that they are too many
TEXT_ONLY = {"text": {"method": "forward", "method_output_name": "last_hidden_state"}}
# Arguments for classes of transformers that change no result here: precision is the estimator's own parameter
HARMLESS = {"trust_remote_code", "torch_dtype", "dtype", "attn_implementation", "add_pooling_layer", "use_fast"}
NULLABLE = {
    "max_seq_length",
    "do_lower_case",
    "default_prompt_name",
    "similarity_fn_name",
    "truncate_dim",
    "module_output_name",
}
ALONE = f"The encoder alone opens from a copy of the folder without {MODULES}"


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
    max_length, lower_case = _read_transformer(folder / first.place)
    return SentenceEncoder(
        words, include_prompt, tuple(layers), normalize, max_length, lower_case, **_read_prompts(folder)
    )


def read_parts(folder: Path) -> list[Part]:
    """The modules that ``modules.json`` lists: a transformer, a pooling, and the layers that follow it."""
    file = folder / MODULES
    parts = []
    entries = read_json_list(file)
    if len(entries) > MOST_MODULES:
        raise CheckpointError(file, f"lists {len(entries)} modules, expected at most {MOST_MODULES}")
    for entry in entries:
        if not isinstance(entry, dict):
            raise CheckpointError(file, f"expected an object for each module, found {entry!r:.80}")
        values = _known(file, entry, idx=_anything, name=_anything, path=_text, type=_text, kwargs=_anything)
        name, place = values.get("type"), values.get("path", "")
        if name is None:
            raise CheckpointError(file, "names no type for a module")
        kind = name.rpartition(".")[2]
        if name.partition(".")[0] != PACKAGE:
            reason = f"needs the code of the module {name!r:.80}, and no code of a checkpoint is run. {ALONE}"
            raise CheckpointError(file, reason)
        if kind not in KINDS:
            raise CheckpointError(
                file, f"names the module {name!r:.80}, which is not one of {', '.join(KINDS)}. {ALONE}"
            )
        if entry.get("kwargs"):
            raise CheckpointError(file, f"passes arguments to {kind} ({entry['kwargs']!r:.80}), which is not supported")
        if place and not PART.fullmatch(place):
            raise CheckpointError(file, f"expected a folder such as '1_Pooling' for {kind}, found {place!r:.80}")
        parts.append(Part(kind, place))
    kinds = [part.kind for part in parts]
    if kinds[:2] != ["Transformer", "Pooling"] or {"Transformer", "Pooling"} & set(kinds[2:]):
        found = ", ".join(kinds) or "nothing"
        raise CheckpointError(file, f"expected a Transformer, one Pooling, and the layers after it, found {found:.200}")
    if parts[0].place != model_place(folder):
        here = model_place(folder) or "the folder itself"
        raise CheckpointError(file, f"says that the model lies in {parts[0].place!r}, but it lies in {here}")
    return parts


def _read_pooling(file: Path, hidden_size: int) -> tuple[tuple[str, ...], bool]:
    values = _known(
        file,
        read_json(file),
        **dict.fromkeys(FLAGS, _flag),
        **dict.fromkeys(("word_embedding_dimension", "embedding_dimension"), _size),
        pooling_mode=_poolings,
        include_prompt=_flag,
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
        _known(file, raw, module_input_name=_sentence, module_output_name=_sentence)
        return Normalize()
    if kind == "Dropout":
        return Dropout(_known(file, raw, dropout=_share).get("dropout", 0.2))
    if kind == "LayerNorm":
        size = _known(file, raw, dimension=_size).get("dimension")
        if size != n_features:
            raise CheckpointError(file, f"dimension is {size}, but {n_features} features come in")
        return LayerNorm(n_features)
    values = _known(
        file,
        raw,
        **dict.fromkeys(("in_features", "out_features"), _size),
        **dict.fromkeys(("bias", "use_residual"), _flag),
        **dict.fromkeys(("module_input_name", "module_output_name"), _sentence),
        activation_function=_activation,
    )
    if values.get("in_features") != n_features:
        found = values.get("in_features")
        raise CheckpointError(file, f"in_features is {found}, but {n_features} features come in")
    if "out_features" not in values:
        raise CheckpointError(file, "has no out_features")
    activation = values.get("activation_function", "Tanh")
    residual = values.get("use_residual", False)
    return Dense(n_features, values["out_features"], values.get("bias", True), activation, residual)


def _read_transformer(folder: Path) -> tuple[int | None, bool]:
    """Most tokens of a text, and whether texts are put in lower case."""
    file = next((folder / name for name in TRANSFORMER_CONFIGS if os.path.lexists(folder / name)), None)
    if file is None:
        return None, False
    arguments = ("model_args", "model_kwargs", "config_args", "config_kwargs")
    values = _known(
        file,
        read_json(file),
        max_seq_length=_length,
        do_lower_case=_flag,
        transformer_task=_only("feature-extraction"),
        modality_config=_only(TEXT_ONLY),
        module_output_name=_only("token_embeddings"),
        unpad_inputs=_anything,
        processing_kwargs=_nothing,
        **dict.fromkeys(("query_length", "document_length", "query_expansion"), _nothing),
        **dict.fromkeys(arguments, _harmless),
        **dict.fromkeys(("tokenizer_args", "processor_kwargs"), _of_tokenizer),
    )
    given = values.get("processor_kwargs") or values.get("tokenizer_args") or {}
    return given.get("model_max_length", values.get("max_seq_length")), bool(values.get("do_lower_case"))


def _read_prompts(folder: Path) -> dict[str, Any]:
    file = folder / SENTENCE_CONFIG
    if not os.path.lexists(file):
        return {}
    values = _known(
        file,
        read_json(file),
        __version__=_anything,
        requirements=_anything,
        model_type=_only("SentenceTransformer"),
        prompts=_prompts,
        default_prompt_name=_text,
        similarity_fn_name=_text,
        truncate_dim=_size,
    )
    prompts, default = values.get("prompts", ()), values.get("default_prompt_name")
    if default is not None and default not in (*dict(prompts), "query", "document"):  # those two are empty if not said
        names = ", ".join(map(repr, dict(prompts))) or "none"
        raise CheckpointError(
            file, f"default_prompt_name is {default!r:.80}, which is none of the prompts ({names:.200})"
        )
    return {
        "prompts": prompts,
        "default_prompt": default if default in dict(prompts) else None,
        "truncate_dim": values.get("truncate_dim"),
        "similarity": values.get("similarity_fn_name"),
    }


# Values -----------------------------------------------------------------------------------------------------------------

Check = Callable[[Any], Any]  # what a value means; ValueError says what was expected


def _known(file: Path, raw: Mapping[str, Any], **checks: Check) -> dict[str, Any]:
    """The checked values of a file, all of whose keys must be known; those that may be null are left out if they are."""
    if unknown := sorted(raw.keys() - checks.keys()):
        reason = f"has the key {unknown[0]!r:.80}, which may change results and is not known here. {ALONE}"
        raise CheckpointError(file, reason)
    values = {}
    for name, value in raw.items():
        if value is None and name in NULLABLE:
            continue
        try:
            values[name] = checks[name](value)
        except ValueError as error:
            raise CheckpointError(file, f"expected {error} as {name}, found {value!r:.80}") from None
    return values


def _anything(value: Any) -> Any:
    return value


def _nothing(value: Any) -> None:
    if value:
        raise ValueError("nothing, for lack of support,")


def _only(known: Any) -> Check:
    def check(value: Any) -> Any:
        if value != known:
            raise ValueError(f"{known!r}")
        return value

    return check


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("true or false")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("a text")
    return value


def _sentence(value: Any) -> str:
    if value != "sentence_embedding":
        raise ValueError("'sentence_embedding'")
    return str(value)


def _size(value: Any) -> int:
    if type(value) is not int or not 1 <= value <= MOST_FEATURES:
        raise ValueError(f"a whole number from 1 to {MOST_FEATURES}")
    return value


def _length(value: Any) -> int:
    if type(value) is not int or value < LEAST_LENGTH:
        raise ValueError(f"a whole number from {LEAST_LENGTH}")
    return value


def _share(value: Any) -> float:
    if type(value) not in (int, float) or not 0 <= value <= 1:
        raise ValueError("a number from 0 to 1")
    return float(value)


def _poolings(value: Any) -> tuple[str, ...]:
    words = [value] if isinstance(value, str) else value
    known = POOLINGS[:-1]
    if not isinstance(words, list) or not words or not all(isinstance(word, str) and word in known for word in words):
        raise ValueError(f"one or more of {', '.join(known)}")
    return tuple(words)


def _activation(value: Any) -> str:
    module, _, name = _text(value).rpartition(".")
    if name not in ACTIVATIONS or module not in ("torch.nn", ACTIVATIONS[name].__module__):
        raise ValueError(f"one of PyTorch's classes {', '.join(ACTIVATIONS)} with their module")
    return name


def _harmless(value: Any) -> None:
    if not isinstance(value, dict) or value.keys() - HARMLESS:
        raise ValueError(f"an object of no keys but {', '.join(sorted(HARMLESS))}")


def _of_tokenizer(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict) or value.keys() - HARMLESS - {"model_max_length"}:
        raise ValueError(f"an object of no keys but {', '.join(sorted(HARMLESS))}, model_max_length")
    length = value.get("model_max_length")
    return {} if length is None else {"model_max_length": _length(length)}


def _prompts(value: Any) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, dict) or not all(isinstance(text, str | None) for text in value.values()):
        raise ValueError("an object of texts")
    if any(len(text) > MOST_PROMPT for text in value.values() if text):
        raise ValueError(f"texts of at most {MOST_PROMPT} characters")
    return tuple((name, text or "") for name, text in value.items())
