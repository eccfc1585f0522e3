"""Masked language modelling: adapt the encoder to a domain, fill masks, score texts."""

from numbers import Integral
from typing import Any, Literal, Self

import numpy as np

from skxlmr.batching import concatenate
from skxlmr.estimators._core.prompts import prepared
from skxlmr.estimators._fine_tuning.fine_tuned import FineTuned
from skxlmr.estimators._fine_tuning.training_rows import Encoded, TrainingRows
from skxlmr.estimators._language.fill_mask import Filling, MaskFiller
from skxlmr.estimators._language.likelihood import SumsAndCounts, mean_log_p, pseudo_log_p
from skxlmr.estimators._language.task import MaskedLMTask
from skxlmr.estimators._vectors.transformer import Transformer
from skxlmr.estimators.heads import MASKED_LM
from skxlmr.estimators.parameters import (
    NOT_NEGATIVE,
    LanguageModelParameters,
    MaskingParameters,
    PairParameters,
    SamplingParameters,
    estimator,
    parameter,
)
from skxlmr.text import EncodedBatch, SubwordSampling
from skxlmr.training import mean_losses
from skxlmr.utils._shown.results import Fillings
from skxlmr.utils._sklearn import StrOptions, fit_context
from skxlmr.utils._tables import excerpt
from skxlmr.utils._validation import Texts, check_texts


class MaskedLM(PairParameters, MaskingParameters, Transformer, LanguageModelParameters, FineTuned):
    """A language model over masked texts, whatever the architecture family."""

    _compacts_vocabulary = False  # the head predicts over the whole vocabulary

    @fit_context(prefer_skip_nested_validation=True)
    def fit(
        self,
        X: Any,
        y: Any = None,
        sample_weight: Any = None,
        X_val: Any = None,
        *,
        resume: bool | Literal["auto"] = False,
    ) -> Self:
        """Train on masked texts.

        Parameters
        ----------
        X : list, array, Series or DataFrame of str, of shape (n_rows,) or (n_rows, 1) or (n_rows, 2)
            Texts, or pairs of translations. A pair with an empty second text is trained as a single text.
        y : None
            Ignored.
        sample_weight : array-like of shape (n_rows,), optional
            Weight of each row's tokens in the loss.
        X_val : list, array, Series or DataFrame of str, optional
            Validation texts or pairs, for ``validation_scores_`` and early stopping.
        resume : bool or 'auto'
            Continue from the state in ``resume_dir`` if there is one of the same fit; else start from scratch. True refuses the
            state of another fit; with ``'auto'`` each fit has a folder of its own in ``resume_dir``, as searches need it, and
            continues a shorter one where the learning rate is constant.

        Returns
        -------
        self

        Raises
        ------
        CheckpointError
            If the checkpoint cannot be read or does not fit.
        ValueError
            If the texts, or the validation texts, have no token to predict.
        FloatingPointError
            If the loss or the gradient stops being finite; names the rows.
        """
        return self._fit(X, y, sample_weight, X_val, resume=resume)

    def fill_mask(self, texts: Any, top_k: int = 5, targets: Any = None) -> list[list[list[dict[str, Any]]]]:
        """Most probable fillings of each mask, which a text spells as the checkpoint does: ``<mask>`` for XLM-R.

        Parameters
        ----------
        texts : list, array, Series or DataFrame of str
            Each with one or more masks.
        top_k : int, default=5
            Number of fillings.
        targets : list of str, optional
            Rank only these words. A word of several tokens gets as many masks, and its score is the product of its tokens'
            probabilities. Most tokenizers read each as a word of its own. A byte-level one (RoBERTa) reads it as it stands in
            the text: with a space before the mask as a word, without one as the end of the word before
            (``"my hou<mask>"`` and ``"se"``). With the others ``top_k`` alone ranks ends of words: as large as the vocabulary,
            it gives every token.

        Returns
        -------
        list (one item per text) of lists (one item per mask) of dicts
            ``score`` (probability), ``token`` (id, or list of ids for a target of several tokens), ``token_str`` and
            ``sequence`` (the text with this mask filled), best first. At a prompt and in a notebook the list shows itself as a
            table; ``print``, pickles and JSON are those of a plain list.

        Raises
        ------
        ValueError
            If a text has no mask (names the row), ``top_k`` is less than 1, or a target is empty or has characters that the
            vocabulary lacks.

        Examples
        --------
        >>> from skxlmr import XLMRobertaMaskedLM
        >>> lm = XLMRobertaMaskedLM.from_checkpoint("skxlmr-mini")
        >>> ((fillings,),) = lm.fill_mask(["The battery lasts <mask> days."], top_k=2)  # one text, one mask
        >>> list(fillings[0]), fillings[0]["score"] > fillings[1]["score"]
        (['score', 'token', 'token_str', 'sequence'], True)
        """
        engine = self._engine()
        texts = check_texts(texts, "texts", pairs_allowed=False, missing=self.missing, rows_needed=False)
        if not isinstance(top_k, Integral) or top_k < 1:
            raise ValueError(f"top_k must be a whole number of at least 1, got {top_k!r}")
        encoded = self._encode(texts, parse_special=True)
        places = np.flatnonzero(encoded.ids == self.tokenizer_.mask_token_id)
        rows = np.searchsorted(encoded.starts, places, "right") - 1
        without = np.setdiff1d(np.arange(len(texts)), rows)
        (mask,) = self.tokenizer_.convert_ids_to_pieces([self.tokenizer_.mask_token_id])
        if len(without):
            row = int(without[0])
            text = texts.first[row]
            if mask in text:
                raise ValueError(
                    f"row {row}: no {mask} among the first {encoded.lengths[row]} tokens of the text: shorten it before {mask}"
                )
            instead = next((f", instead of {other}" for other in ("[MASK]", "<mask>", "<MASK>") if other in text), "")
            raise ValueError(
                f"row {row}: the text {excerpt(text)} has no {mask}: write {mask} where a word is to be filled in{instead}"
            )
        filler = MaskFiller(engine, self.tokenizer_, encoded, places)
        if targets is None:
            found = filler.best_tokens(int(top_k))
        else:
            words = check_texts(targets, "targets", pairs_allowed=False).first
            found = filler.rank(words, self._after_space(texts.first, rows), self.config_.max_length)
        answers: list[list[list[Filling]]] = [[] for _ in range(len(texts))]
        for row, fillings in zip(rows, found, strict=True):
            # The n-th part ends where the n-th mask stands.
            parts = texts.first[row].split(mask)
            before = mask.join(parts[: len(answers[row]) + 1])
            after = mask.join(parts[len(answers[row]) + 1 :])
            for filling in fillings[: int(top_k)]:
                filling["sequence"] = self._joined(before, filling) + after
            answers[row].append(fillings[: int(top_k)])
        return Fillings.of_masks(answers)

    def _after_space(self, texts: list[str], rows: np.ndarray) -> np.ndarray:
        """Masks that swallowed a space; ``rows`` are those of the masks, ascending."""
        mask = self.tokenizer_.added_tokens[self.tokenizer_.mask_token_id]
        numbers = zip(*np.unique(rows, return_counts=True), strict=True)
        before = [part for row, n_masks in numbers for part in texts[row].split(mask.content)[:n_masks]]
        return np.array([mask.lstrip and part[-1:].isspace() for part in before], bool)

    def _joined(self, before: str, filling: Filling) -> str:
        """Text up to the end of the filling, which starts a word or goes on with the one before, as its first piece says."""
        first, filled = np.ravel(filling["token"])[:1], filling["token_str"]
        (piece,) = self.tokenizer_.convert_ids_to_pieces(first)
        if (prefix := self.tokenizer_.continuing_prefix) is not None:
            return self._joined_wordpiece(before, piece, filled, prefix)
        has_space = piece.startswith("\u2581") or self.tokenizer_.decode(first, False)[:1].isspace()
        starts_word = has_space and before.strip() and not filled[:1].isspace()
        if starts_word and before[-1].isspace():
            return before + filled
        return before.rstrip() + (" " if starts_word else "") + filled

    @staticmethod
    def _joined_wordpiece(before: str, piece: str, filling: str, prefix: str) -> str:
        if piece.startswith(prefix) and before.strip():
            return before.rstrip() + filling.removeprefix(prefix)
        would_run_on = before[-1:].isalnum() and filling[:1].isalnum()
        return before + (" " if would_run_on else "") + filling

    def score_samples(self, X: Any) -> np.ndarray:
        """Pseudo-log-likelihood of each text: every token is masked in turn (Salazar et al. 2020, arXiv:1910.14659).

        Parameters
        ----------
        X : list, array, Series or DataFrame of str
            Texts or pairs of texts, as passed to ``fit``; either after ``from_checkpoint``.

        Returns
        -------
        ndarray of shape (n_rows,), float64
            Sum over the row's tokens of their log-probability, in nats. Unknown tokens are left out, since they stand for
            anything that the vocabulary lacks: a row of nothing else has 0.

        See Also
        --------
        score : The mean per token, over all texts.

        Examples
        --------
        >>> from skxlmr import XLMRobertaMaskedLM
        >>> lm = XLMRobertaMaskedLM.from_checkpoint("skxlmr-mini")
        >>> sentence, shuffled = lm.score_samples(["The room was clean.", "Clean was room the."])
        >>> bool(sentence > shuffled)
        True
        """
        return self._likelihood(X)[0]

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Mean pseudo-log-likelihood per token in nats; ``exp(-score)`` is the pseudo-perplexity.

        Parameters
        ----------
        X : list, array, Series or DataFrame of str
            As in ``score_samples``.
        y : None
            Ignored.
        sample_weight : array-like of shape (n_rows,), optional
            Tokens count as much as their rows weigh.

        Returns
        -------
        float
            In nats; 0 is the best.
        """
        return mean_log_p(self._likelihood(X), sample_weight)

    def transform(self, X: Any) -> Any:
        """Features of the texts, pooled from the last layer.

        They are made as a sentence encoder's folder says, if the checkpoint is one; ``pooling``, ``normalize``, ``prompt`` and
        ``truncate_dim`` say it otherwise. Prompts, lower case and the layers after the pooling apply here alone: ``fit``,
        ``fill_mask`` and ``score`` read the texts as they are.

        Parameters
        ----------
        X : list, array, Series or DataFrame of str
            Texts or pairs of texts, as passed to ``fit``; either after ``from_checkpoint``.

        Returns
        -------
        ndarray of shape (n_rows, n_features), float32
            ``hidden_size`` features for each pooling, unless the checkpoint has layers after the pooling. Or a DataFrame, see
            ``set_output``.
        """
        engine = self._engine()
        self._n_each()  # refuses what does not fit, before texts are read
        texts = self._check_X(X, reset=False)
        return self._features(engine, self._encode(prepared(texts, self._how())), texts.second is not None)

    def _likelihood(self, X: Any) -> SumsAndCounts:
        """Sum of the tokens' log-probabilities and number of tokens, for each row."""
        engine = self._engine()
        return pseudo_log_p(engine, self._encode(self._check_X(X, reset=False)), self.tokenizer_)

    def _encode_training(self, rows: Texts, sampling: SubwordSampling | None = None) -> Encoded:
        """Texts, or pairs of translations as one row each; a pair with an empty second text is a single text."""
        first = self._encode(rows, sampling=sampling)
        alone = np.array([not text for text in rows.second or []])
        if alone.any():
            place = np.arange(len(alone))
            first = concatenate(self._encode(Texts(rows.first), sampling=sampling), first).take(
                np.where(alone, place, place + len(alone))
            )
        return {"first": first}

    def _make_task(self, rows: TrainingRows) -> MaskedLMTask:
        return self._language_task(rows).checked("X")

    def _language_task(self, rows: TrainingRows) -> MaskedLMTask:
        """Task of these rows, which need not have a token to predict."""
        raise NotImplementedError

    def _check_validation(self, validation: TrainingRows | None) -> None:
        super()._check_validation(validation)
        if validation is not None:
            self._language_task(validation).checked("the validation data (X_val, or what early_stopping sets aside)")

    def _validation_score(self, rows: TrainingRows) -> float:
        """Minus the mean loss over the predicted tokens alone, masked with a fixed seed."""
        task = self._make_task(rows)
        task.contrastive_weight = 0.0
        losses = mean_losses(self.module_, task, self.batch_size, np.random.default_rng(0))
        return -losses["masked_lm"]


@estimator
class XLMRobertaMaskedLM(SamplingParameters, MaskedLM):
    """XLM-RoBERTa as a masked language model.

    ``fit`` adapts the checkpoint to the texts of a domain (Gururangan et al. 2020, arXiv:2004.10964), on plain texts or on
    pairs of translations. The fitted model fills masks, scores texts and computes features, and ``skxlmr.save`` writes it as a
    checkpoint that every other estimator starts from.

    Read more in :doc:`/user_guide`.

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    module_ : torch.nn.Module
        The encoder with its language modelling head.
    tokenizer_ : Tokenizer
        The checkpoint's tokenizer.
    config_ : ModelConfig
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
    XLMRobertaClassifier : Classes, from the checkpoint that this one adapted; see the parameter ``checkpoint``.
    XLMRobertaVectorizer : Features only, without training.
    XLMRobertaCausalLM : Predicts each token from those before it, and writes texts.
    XLMRobertaDialogueLM : The same for dialogues.
    skxlmr.inspection.LossCurveDisplay : Draws the loss of a fit by epoch.

    References
    ----------
    .. [1] Conneau et al. (2020), "Unsupervised Cross-lingual Representation Learning at Scale", arXiv:1911.02116.

    Examples
    --------
    >>> from skxlmr import XLMRobertaMaskedLM
    >>> lm = XLMRobertaMaskedLM("skxlmr-mini", max_epochs=1, random_state=0)
    >>> lm = lm.fit(["Der Akku hält zwei Tage.", "The battery lasts two days."])
    >>> fillings = lm.fill_mask(["The battery lasts <mask> days."], targets=["two", "never"])
    >>> [found["token_str"] for found in fillings[0][0]]
    ['two', 'never']
    >>> sentence, shuffled = lm.score_samples(["The battery lasts two days.", "Two days the battery lasts the."])
    >>> bool(sentence > shuffled)
    True
    """

    pair_objective: str = parameter(
        "translation",
        [StrOptions({"translation", "alignment"})],
        "What is learnt from pairs of translations. ``'translation'`` masks both texts in one sequence, so that "
        "each helps to fill the other's gaps (TLM, Lample & Conneau 2019). ``'alignment'`` masks each text on its "
        "own and pulls the mean vectors and the first tokens' vectors of translations together and pushes those "
        "of other rows apart (Feng et al. 2022), which improves the features.",
    )
    alignment_weight: float = parameter(
        1.0, [NOT_NEGATIVE], "Weight of that contrastive loss relative to the masked language modelling loss."
    )

    _head = MASKED_LM

    def _encode_training(self, rows: Texts, sampling: SubwordSampling | None = None) -> Encoded:
        if rows.second is None or self.pair_objective == "translation":
            return super()._encode_training(rows, sampling)
        first, second = (self._encode(Texts(side), sampling=sampling) for side in (rows.first, rows.second))
        alone = np.array([not text for text in rows.second])
        if alone.any():
            kept = np.repeat(~alone, second.lengths)
            second = EncodedBatch(second.ids[kept], np.where(alone, 0, second.lengths), second.n_dropped)
        return {"first": first, "second": second}

    def _language_task(self, rows: TrainingRows) -> MaskedLMTask:
        first, second = rows.encoded["first"], rows.encoded.get("second")
        return MaskedLMTask(first, second, self.tokenizer_, rows.weights, self.mask_probability, self.alignment_weight)
