"""Checks of the values in the files of a sentence encoder: each returns what a value means."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from skxlmr.checkpoints._layout import MODULES
from skxlmr.nn.sentence import ACTIVATIONS
from skxlmr.nn.sentence.pooling import POOLINGS
from skxlmr.utils._errors import CheckpointError

MOST_FEATURES, LEAST_LENGTH = 2**20, 4
MOST_PROMPT = 100_000  # characters: they are tokenised before it is known that they are too many
# Arguments for classes of transformers that change no result here: precision is the estimator's own parameter
HARMLESS = {"trust_remote_code", "torch_dtype", "dtype", "attn_implementation", "add_pooling_layer", "use_fast"}
NULLABLE = {
    "max_seq_length",
    "do_lower_case",
    "default_prompt_name",
    "similarity_fn_name",
    "truncate_dim",
    "module_output_name",
    "activation_fn",
    "sbert_ce_default_activation_function",
}
ALONE = f"The encoder alone opens from a copy of the folder without {MODULES}"

Check = Callable[[Any], Any]  # what a value means; ValueError says what was expected


def known(file: Path, raw: Mapping[str, Any], **checks: Check) -> dict[str, Any]:
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


def anything(value: Any) -> Any:
    """Whatever it is, it changes no result."""
    return value


def nothing(value: Any) -> None:
    """Empty or false: what it asks for is not supported."""
    if value:
        raise ValueError("nothing, for lack of support,")


def only(expected: Any) -> Check:
    """A check that this value is there and no other."""

    def check(value: Any) -> Any:
        if value != expected:
            raise ValueError(f"{expected!r}")
        return value

    return check


def flag(value: Any) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise ValueError("true or false")
    return value


def text(value: Any) -> str:
    """A text."""
    if not isinstance(value, str):
        raise ValueError("a text")
    return value


def sentence(value: Any) -> str:
    """The name of the vectors of texts, as what a layer reads or writes."""
    if value != "sentence_embedding":
        raise ValueError("'sentence_embedding'")
    return str(value)


def size(value: Any) -> int:
    """A number of features."""
    if type(value) is not int or not 1 <= value <= MOST_FEATURES:
        raise ValueError(f"a whole number from 1 to {MOST_FEATURES}")
    return value


def length(value: Any) -> int:
    """A number of tokens."""
    if type(value) is not int or value < LEAST_LENGTH:
        raise ValueError(f"a whole number from {LEAST_LENGTH}")
    return value


def share(value: Any) -> float:
    """A number from 0 to 1."""
    if type(value) not in (int, float) or not 0 <= value <= 1:
        raise ValueError("a number from 0 to 1")
    return float(value)


def poolings(value: Any) -> tuple[str, ...]:
    """Words of poolings."""
    words = [value] if isinstance(value, str) else value
    known = POOLINGS[:-1]
    if not isinstance(words, list) or not words or not all(isinstance(word, str) and word in known for word in words):
        raise ValueError(f"one or more of {', '.join(known)}")
    return tuple(words)


def activation(value: Any) -> str:
    """The name of an activation, from that of its class with the module."""
    module, _, name = text(value).rpartition(".")
    if name not in ACTIVATIONS or module not in ("torch.nn", ACTIVATIONS[name]):
        raise ValueError(f"one of PyTorch's classes {', '.join(ACTIVATIONS)} with their module")
    return name


def harmless(value: Any) -> None:
    """Arguments that change no result."""
    if not isinstance(value, dict) or value.keys() - HARMLESS:
        raise ValueError(f"an object of no keys but {', '.join(sorted(HARMLESS))}")


def of_tokenizer(value: Any) -> dict[str, Any]:
    """Arguments of the tokenizer, of which the length is kept."""
    if not isinstance(value, dict) or value.keys() - HARMLESS - {"model_max_length"}:
        raise ValueError(f"an object of no keys but {', '.join(sorted(HARMLESS))}, model_max_length")
    n_tokens = value.get("model_max_length")
    return {} if n_tokens is None else {"model_max_length": length(n_tokens)}


def prompts(value: Any) -> tuple[tuple[str, str], ...]:
    """Names and texts of prompts."""
    if not isinstance(value, dict) or not all(isinstance(text, str | None) for text in value.values()):
        raise ValueError("an object of texts")
    if any(len(text) > MOST_PROMPT for text in value.values() if text):
        raise ValueError(f"texts of at most {MOST_PROMPT} characters")
    return tuple((name, text or "") for name, text in value.items())
