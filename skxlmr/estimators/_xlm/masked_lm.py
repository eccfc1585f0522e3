"""Language modelling with the original XLM: masked, causal, and on translations."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from skxlmr.batching import concatenate
from skxlmr.checkpoints import StoredModel
from skxlmr.estimators._fine_tuning.training_rows import Encoded, TrainingRows
from skxlmr.estimators._language.likelihood import SumsAndCounts, next_token_log_p
from skxlmr.estimators._language.masked_lm import Filling, MaskedLM
from skxlmr.estimators._language.task import MaskedLMTask, NextTokenTask
from skxlmr.estimators._xlm.family import XLM, XLMParameters
from skxlmr.estimators.heads import XLM_MASKED_LM
from skxlmr.estimators.parameters import MaskingParameters, changed, estimator, parameter
from skxlmr.text import EncodedBatch, SubwordSampling
from skxlmr.utils._sklearn import StrOptions
from skxlmr.utils._validation import Texts


@estimator
class XLMMaskedLM(XLMParameters, MaskedLM):
    """The original XLM as a language model.

    Like :class:`XLMRobertaMaskedLM`, for checkpoints such as ``FacebookAI/xlm-mlm-en-2048``, with the three objectives of [1]_.
    After ``objective='clm'`` attention is causal, ``score`` and ``score_samples`` return the log-likelihood of every token
    after the first, the end of the text included, and there are no masks to fill. It needs the extra ``xlm``.

    Read more in :doc:`/xlm`.

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    module_ : torch.nn.Module
        The encoder with its language modelling head.
    tokenizer_ : XLMTokenizer
        The checkpoint's tokenizer, with the rules of the (first) language.
    config_ : XLMConfig
        Geometry of the checkpoint.
    {of_vectors}
    loss_curve_ : list of float
        Mean loss of each epoch, in nats per predicted token.
    validation_scores_ : list of float or None
        After each epoch minus the loss on validation data; None without validation data.
    {of_a_fit}
    n_truncated_ : int
        Texts of the training data that were cut.
    n_features_in_ : int
        2 for pairs, 1 for texts in a table; not set for texts in one dimension.
    feature_names_in_ : ndarray of str
        Column names of a DataFrame that was passed to ``fit``.

    See Also
    --------
    XLMRobertaMaskedLM : The same for XLM-RoBERTa and its relatives.
    XLMClassifier : Classes, from the checkpoint that this one adapted.
    XLMVectorizer : Features only, without training.

    References
    ----------
    .. [1] Lample & Conneau (2019), "Cross-lingual Language Model Pretraining", section 3, arXiv:1901.07291.

    Examples
    --------
    >>> from skxlmr import XLMMaskedLM
    >>> lm = XLMMaskedLM("FacebookAI/xlm-mlm-ende-1024", objective="tlm", lang=("en", "de"))
    >>> lm.objective
    'tlm'
    >>> lm.fit([("Good morning", "Guten Morgen")])  # doctest: +SKIP
    XLMMaskedLM(checkpoint='FacebookAI/xlm-mlm-ende-1024', lang=('en', 'de'), objective='tlm')
    """

    lang: str | Sequence[str] | None = changed(  # type: ignore[assignment]  # a pair for translations
        XLMParameters,
        "lang",
        None,
        "Language of the texts (ISO 639-1 code), for the tokenizer's rules and, where the checkpoint has them, "
        "the language embeddings: those need it. None is English rules. For ``objective='tlm'`` the languages of "
        "the first and the second texts. Set after ``fit``, it is that of the texts that are read from then on.",
        constraint=[str, tuple, list, None],
    )
    mask_probability: float = changed(
        MaskingParameters,
        "mask_probability",
        0.15,
        "Share of the tokens that are predicted; of these 80 % are masked, 10 % replaced, 10 % kept. ``'clm'`` "
        "predicts all.",
    )
    objective: str = parameter(
        "mlm",
        [StrOptions({"mlm", "clm", "tlm"})],
        "What is learnt: ``'mlm'`` to fill masks, ``'clm'`` to predict each token from those before it, ``'tlm'`` "
        "to fill the masks in pairs of translations, each text with its own language and its own positions.",
    )

    _head = XLM_MASKED_LM
    _family = XLM

    def fill_mask(self, texts: Any, top_k: int = 5, targets: Any = None) -> list[list[list[dict[str, Any]]]]:
        self._engine()
        if self.config_.causal:
            raise ValueError(
                "a causal model does not see what follows a mask: fill_mask needs objective 'mlm' or 'tlm'"
            )
        return super().fill_mask(texts, top_k, targets)

    fill_mask.__doc__ = MaskedLM.fill_mask.__doc__

    def _open_checkpoint(self) -> StoredModel:
        stored = super()._open_checkpoint()
        if self.objective == "clm":
            self.config_ = replace(self.config_, causal=True)
        self._check_objective("checkpoint")
        return stored

    def _check_objective(self, model: str) -> None:
        """Refuse an objective that the model is not for."""
        if self.objective == "clm" and not self.config_.causal:
            raise ValueError(
                f"objective='clm' predicts from the tokens before, but the {model} looks at later ones too"
            )
        if self.objective != "clm" and self.config_.causal:
            raise ValueError(
                f"objective={self.objective!r} looks at later tokens, but the {model} is causal: pass 'clm'"
            )

    def _tokenize(self, texts: Texts, max_length: int, **options: Any) -> EncodedBatch:
        if self.objective != "tlm" or texts.second is None:
            return super()._tokenize(texts, max_length, **options)
        # Each text is a whole one, <s> A </s>, of up to half of the row.
        if max_length < 6:
            raise ValueError(
                f"objective='tlm' puts two whole texts in a row: max_length must be 6 or more, got {max_length}"
            )
        tokenizers = self.tokenizer_, self.tokenizer_.for_language(XLM.languages(self)[1])
        sides = [
            tokenizer.encode_batch(side, max_length=max_length // 2, **options)
            for tokenizer, side in zip(tokenizers, (texts.first, texts.second), strict=True)
        ]
        both = concatenate(*sides).take(np.arange(2 * len(texts)).reshape(2, -1).T.ravel())
        n_dropped = sides[0].n_dropped + sides[1].n_dropped
        return EncodedBatch(both.ids, sides[0].lengths + sides[1].lengths, n_dropped, second_starts=sides[0].lengths)

    def _encode_training(self, rows: Texts, sampling: SubwordSampling | None = None) -> Encoded:
        if self.objective == "tlm" and rows.second is None:
            raise ValueError("objective='tlm' learns from pairs of translations, and X has single texts (1 column)")
        if self.config_.causal != (self.objective == "clm"):
            raise ValueError(
                f"warm_start cannot continue with objective={self.objective!r}: the last fit made the model "
                + ("causal" if self.config_.causal else "look at later tokens too")
            )
        return super()._encode_training(rows)

    def _language_task(self, rows: TrainingRows) -> MaskedLMTask:
        task = NextTokenTask if self.objective == "clm" else MaskedLMTask
        return task(rows.encoded["first"], None, self.tokenizer_, rows.weights, self.mask_probability)

    def _joined(self, before: str, filling: Filling) -> str:
        return before + filling["token_str"]  # pieces do not mark where a word begins: the spaces of the text stay

    def _likelihood(self, X: Any) -> SumsAndCounts:
        engine = self._engine()
        if not self.config_.causal:
            return super()._likelihood(X)
        return next_token_log_p(engine, self._encode(self._check_X(X, reset=False)))
