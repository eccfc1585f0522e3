"""What the original XLM adds: its config, its tokenizer, and the languages of the texts."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from skxlmr.estimators._core.family import Family
from skxlmr.estimators.parameters import parameter, parameters, positional
from skxlmr.inference import OnnxModule
from skxlmr.nn import XLMConfig
from skxlmr.text import Tokenizer, XLMTokenizer
from skxlmr.utils._errors import CheckpointError
from skxlmr.utils._tables import plain_str


@parameters
class XLMParameters:
    """Parameters of every estimator of the original XLM."""

    checkpoint: str | os.PathLike[str] = positional(
        default="FacebookAI/xlm-mlm-en-2048",
        text=(
            "Name on the Hugging Face hub, or a local folder with ``config.json``, weights and tokenizer, of an "
            "original XLM model. The package ships none."
        ),
        constraint=[str, os.PathLike],
        kw_only=False,
    )
    lang: str | None = parameter(
        None,
        [str, None],
        "Language of the texts (ISO 639-1 code), for the tokenizer's rules and, where the checkpoint has them, "
        "the language embeddings: those need it. None is English rules. Set after ``fit``, it is that of the texts "
        "that are read from then on.",
    )


class XLMFamily(Family):
    """The original XLM; estimators have a parameter ``lang``."""

    name = "the original XLM"
    prefix = "XLM"

    def languages(self, estimator: Any) -> list[str]:
        """What ``lang`` says.

        Raises
        ------
        ValueError
            If it is not a pair of languages where the objective needs one, or is one where it does not.
        """
        lang, objective = estimator.lang, getattr(estimator, "objective", None)
        found = [] if lang is None else list(lang) if isinstance(lang, tuple | list) else [lang]
        is_right = len(found) == 2 if objective == "tlm" else not isinstance(lang, tuple | list)
        if not is_right or not all(isinstance(language, str) for language in found):
            expected = "a pair of languages" if objective == "tlm" else "one language or None"
            raise ValueError(f"lang must be {expected} for objective={objective!r}, got {lang!r}")
        return list(map(plain_str, found))

    def check(self, estimator: Any, config: XLMConfig, tokenizer: Tokenizer, file: Path) -> Tokenizer:
        """Check the languages; returns the tokenizer with the rules of the (first) one."""
        assert isinstance(tokenizer, XLMTokenizer)
        if config.has_lang_embeddings and not config.lang2id:
            raise CheckpointError(
                file,
                f"the checkpoint has embeddings of {config.n_langs} languages, but its config.json does not name "
                "them (lang2id)",
            )
        self._check_languages(estimator, config, tokenizer)
        return self._with_rules(estimator, tokenizer)

    def prepared(self, estimator: Any, module: Any) -> Any:
        """The module with the language of its texts."""
        module.transformer.lang_ids = self.language_numbers(estimator, estimator.config_)
        return module

    def beside_the_rows(self, module: Any) -> tuple[Any, ...]:
        """The language of the texts."""
        return tuple(module.transformer.lang_ids)

    def continued(self, estimator: Any) -> Tokenizer:
        """Set up a fitted module for texts that may be in another language; returns the tokenizer."""
        self._check_languages(estimator, estimator.config_, estimator.tokenizer_)
        if not isinstance(estimator.module_, OnnxModule):  # which several estimators share: the engine has the language
            self.prepared(estimator, estimator.module_)
        return self._with_rules(estimator, estimator.tokenizer_)

    def _check_languages(self, estimator: Any, config: XLMConfig, tokenizer: XLMTokenizer) -> None:
        """Refuse languages that the checkpoint does not have, and the lack of one where it needs it."""
        self._known_languages(estimator, config.lang2id or tokenizer.lang2id)
        self.language_numbers(estimator, config)

    def _known_languages(self, estimator: Any, known: Mapping[str, int]) -> list[str]:
        """What ``lang`` says, if the checkpoint has it or names no languages."""
        languages = self.languages(estimator)
        for language in languages:
            if known and language not in known:
                raise ValueError(
                    f"lang={language!r} is not a language of the checkpoint, which has {', '.join(sorted(known))}"
                )
        return languages

    def _with_rules(self, estimator: Any, tokenizer: XLMTokenizer) -> XLMTokenizer:
        languages = self.languages(estimator)
        return tokenizer.for_language(languages[0] if languages else None)

    def language_numbers(self, estimator: Any, config: XLMConfig) -> tuple[int, ...]:
        """Numbers of the languages, where the checkpoint has embeddings for them."""
        if not config.has_lang_embeddings:
            return ()
        languages = self._known_languages(estimator, config.lang2id)
        if not languages:
            raise ValueError(
                f"the checkpoint has embeddings of its languages: pass lang, one of {', '.join(sorted(config.lang2id))}"
            )
        return tuple(config.lang2id[language] for language in languages)


XLM = XLMFamily()
