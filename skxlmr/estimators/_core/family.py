"""What differs between the architecture families behind the estimators."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from skxlmr.estimators.heads import HEADS, Head
from skxlmr.nn import family_of
from skxlmr.text import Tokenizer
from skxlmr.utils._errors import CheckpointError

if TYPE_CHECKING:
    from skxlmr.nn import TaskModule


class Family:
    """XLM-RoBERTa and its relatives, such as BERT (see :data:`skxlmr.nn.FAMILIES`).

    Attributes
    ----------
    name : str
        Its name in messages.
    prefix : str
        What its estimators' names start with.
    """

    name = "XLM-RoBERTa"
    prefix = "XLMRoberta"

    def check(self, estimator: Any, config: Any, tokenizer: Tokenizer, file: Path) -> Tokenizer:
        """Check a checkpoint against the parameters; returns the tokenizer that the estimator uses.

        Raises
        ------
        CheckpointError, ValueError
            If they do not fit together.
        """
        return tokenizer

    def prepared(self, estimator: Any, module: TaskModule) -> TaskModule:
        """The module, set up for the parameters of the estimator."""
        return module

    def continued(self, estimator: Any) -> Tokenizer:
        """Set up a fitted module for parameters that may have changed; returns the tokenizer."""
        return estimator.tokenizer_

    def beside_the_rows(self, module: TaskModule) -> tuple[Any, ...]:
        """What the outputs of the module depend on besides its weights and the token ids; equal values have one ``repr``."""
        return ()

    def language_numbers(self, estimator: Any, config: Any) -> tuple[int, ...]:
        """Numbers of the languages of the texts, for a checkpoint with embeddings of languages."""
        return ()

    def languages(self, estimator: Any) -> list[str]:
        """Languages of the texts, for the model card."""
        return ["multilingual"] if estimator.config_.model_type.startswith("xlm-roberta") else []


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


def check_ids(tokenizer: Tokenizer, config: Any, folder: Path) -> None:
    """Refuse a tokenizer with ids that the model has no embeddings for.

    Raises
    ------
    CheckpointError
    """
    if tokenizer.vocab_size > config.vocab_size:
        without = ", ".join(f"{token!r} ({i})" for i, token in tokenizer.first_tokens_from(config.vocab_size).items())
        raise CheckpointError(
            folder,
            f"the tokenizer has {tokenizer.vocab_size} ids, but the model only {config.vocab_size} word embeddings: none "
            f"for {without}. Add rows with model.resize_token_embeddings({tokenizer.vocab_size}) of transformers and "
            "save the model again, or remove the tokens from the tokenizer's files",
        )
