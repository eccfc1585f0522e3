"""What the estimators of the older XLM share: its config, its tokenizer and the languages of the texts."""

from pathlib import Path
from typing import Any

from skxlmr.estimators._base import BaseXLMRoberta
from skxlmr.estimators._fine_tuned import FineTunedXLMRoberta
from skxlmr.nn import TaskModule, XLMConfig
from skxlmr.nn.xlm import XLMTask
from skxlmr.text import Tokenizer, XLMTokenizer
from skxlmr.utils._errors import CheckpointError

CHECKPOINT = (
    "str or path",
    "Name on the Hugging Face hub, or a local folder with ``config.json``, weights and tokenizer, of an older XLM. None ships\n"
    "with the package.",
)
LANG = (
    "str or None",
    "Language of the texts (ISO 639-1 code), for the tokenizer's rules and, where the checkpoint has them, the language\n"
    "embeddings: those need it. None is English rules.",
)


class XLMEstimator(BaseXLMRoberta):
    """Beside an estimator of XLM-RoBERTa: the same over an older XLM."""

    lang: Any
    tokenizer_: XLMTokenizer
    _config_class: type = XLMConfig

    def _languages(self) -> list[str]:
        """What ``lang`` says."""
        return [] if self.lang is None else [self.lang]

    def _read_folder(self, folder: Path) -> tuple[XLMConfig, Tokenizer]:
        config, tokenizer = super()._read_folder(folder)
        assert isinstance(tokenizer, XLMTokenizer)
        if config.has_lang_embeddings and not config.lang2id:
            raise CheckpointError(
                folder / "config.json",
                f"the checkpoint has embeddings of {config.n_langs} languages, but its config.json does not name "
                "them (lang2id)",
            )
        known = config.lang2id or tokenizer.lang2id
        for language in self._languages():
            if known and language not in known:
                raise ValueError(f"lang={language!r} is none of the checkpoint's languages: {', '.join(sorted(known))}")
        self._lang_ids(config)
        return config, self._with_rules(tokenizer)

    def _with_rules(self, tokenizer: XLMTokenizer) -> XLMTokenizer:
        """The tokenizer with the rules of the (first) language."""
        return tokenizer.for_language(self._languages()[0]) if self._languages() else tokenizer

    def _lang_ids(self, config: XLMConfig) -> tuple[int, ...]:
        """Numbers of the languages, where the checkpoint has embeddings for them."""
        if not config.has_lang_embeddings:
            return ()
        if not self._languages():
            raise ValueError(
                f"the checkpoint has embeddings of its languages: pass lang, one of {', '.join(sorted(config.lang2id))}"
            )
        return tuple(config.lang2id[language] for language in self._languages())

    def _with_languages(self, module: XLMTask, config: XLMConfig) -> TaskModule:
        """The module, told which language its texts have."""
        module.transformer.lang_ids = self._lang_ids(config)
        return module


class FineTunedXLM(XLMEstimator, FineTunedXLMRoberta):
    """Those that train."""

    subword_sampling = None  # byte-pair encoding knows one segmentation of a word

    def _begin(self, going_on):
        if going_on:  # maybe in another language
            self.tokenizer_ = self._with_rules(self.tokenizer_)
            self._with_languages(self.module_, self.config_)
        return super()._begin(going_on)
