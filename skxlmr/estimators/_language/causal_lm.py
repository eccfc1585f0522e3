"""Causal language modelling: learn to continue texts, score them, generate."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np

from skxlmr.checkpoints import StoredModel
from skxlmr.estimators._fine_tuning.training_rows import TrainingRows
from skxlmr.estimators._language.generator import TextGenerator
from skxlmr.estimators._language.likelihood import SumsAndCounts, mean_log_p, next_token_log_p
from skxlmr.estimators._language.task import NextTokenTask
from skxlmr.estimators.heads import CAUSAL_LM
from skxlmr.estimators.parameters import SamplingParameters, TextParameters, estimator
from skxlmr.text import Tokenizer
from skxlmr.utils._errors import CheckpointError
from skxlmr.utils._sklearn import fit_context
from skxlmr.utils._validation import Texts, check_texts


@estimator
class XLMRobertaCausalLM(TextParameters, SamplingParameters, TextGenerator):
    """XLM-RoBERTa as a causal language model, which predicts each token from those before it.

    ``fit`` turns an encoder's checkpoint into one (in its ``config.json``: ``is_decoder``), with the checkpoint's own language
    modelling head, or trains a causal checkpoint further. The fitted model generates texts and scores them; ``skxlmr.save``
    writes it as ``transformers`` reads an ``XLMRobertaForCausalLM``. Other estimators that start from such a checkpoint
    attend causally too.

    A text is ``<s> tokens </s>``, and every token after ``<s>`` is predicted, the end ``</s>`` included. Of a text that is
    longer than ``max_length`` the first ``max_length - 2`` tokens count and no end, in training as in ``score``.

    Read more in :doc:`/causal_lm`.

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    module_ : torch.nn.Module
        The model with its language modelling head.
    tokenizer_ : Tokenizer
        The checkpoint's tokenizer.
    config_ : ModelConfig
        Geometry of the checkpoint, with ``is_decoder``.
    loss_curve_ : list of float
        Mean loss of each epoch, in nats per token.
    validation_scores_ : list of float or None
        After each epoch the ``score`` of the validation data; None without validation data.
    {of_a_fit}
    n_truncated_ : int
        Texts of the training data that were cut.
    n_features_in_ : int
        1 for texts in a table; not set for texts in one dimension.
    feature_names_in_ : ndarray of str
        Column name of a DataFrame that was passed to ``fit``.

    See Also
    --------
    XLMRobertaMaskedLM : Reads a text from both sides: for filling masks, and for features.
    XLMRobertaDialogueLM : Chooses a response among candidates instead of writing one.
    skxlmr.inspection.LossCurveDisplay : Draws the loss of a fit by epoch.

    References
    ----------
    .. [1] Conneau et al. (2020), "Unsupervised Cross-lingual Representation Learning at Scale", arXiv:1911.02116.
    .. [2] Rothe et al. (2020), "Leveraging Pre-trained Checkpoints for Sequence Generation Tasks", arXiv:1907.12461.

    Examples
    --------
    >>> from skxlmr import XLMRobertaCausalLM
    >>> lm = XLMRobertaCausalLM("skxlmr-mini", max_epochs=30, learning_rate=2e-3, schedule="constant", random_state=0)
    >>> lm = lm.fit(["The battery lasts two days.", "Der Akku hält zwei Tage."])
    >>> lm.generate(["The battery", "Der Akku"])
    [' lasts two days.', ' hält zwei Tage.']
    """

    _head = CAUSAL_LM
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
        """Learn to predict each token of the texts from those before it.

        Parameters
        ----------
        X : list, array, Series or DataFrame of str, of shape (n_rows,) or (n_rows, 1)
            Texts.
        y : None
            Ignored.
        sample_weight : array-like of shape (n_rows,), optional
            Weight of each row's tokens in the loss.
        X_val : list, array, Series or DataFrame of str, optional
            Validation texts, for ``validation_scores_`` and early stopping.
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
        FloatingPointError
            If the loss or the gradient stops being finite; names the rows.
        """
        return self._fit(X, y, sample_weight, X_val, resume=resume)

    def score_samples(self, X: Any) -> np.ndarray:
        """Log-likelihood of each text.

        Parameters
        ----------
        X : list, array, Series or DataFrame of str
            Texts.

        Returns
        -------
        ndarray of shape (n_rows,), float64
            Sum of the log-probabilities of the row's tokens, in nats.
        """
        return self._likelihood(X)[0]

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Mean log-likelihood per token, over all tokens of all texts.

        Parameters
        ----------
        X : list, array, Series or DataFrame of str
            Texts.
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

    def perplexity(self, X: Any) -> float:
        """``exp(-score(X))``: among how many equally likely tokens the model chooses on average.

        It compares models with the same tokenizer.

        Parameters
        ----------
        X : list, array, Series or DataFrame of str
            Texts.

        Returns
        -------
        float
            At least 1; lower is better.
        """
        return float(np.exp(-self.score(X)))

    def _likelihood(self, X: Any) -> SumsAndCounts:
        engine = self._engine()
        return next_token_log_p(engine, self._encode(self._check_X(X, reset=False)))

    def _read_texts(self, X: Any, name: str, reset: bool) -> Texts:
        return check_texts(X, name, pairs_allowed=False, missing=self.missing, rows_needed=reset)

    def _read_folder(self, stored: StoredModel) -> tuple[Any, Tokenizer]:
        config, tokenizer = super()._read_folder(stored)
        return replace(config, is_decoder=True), tokenizer

    def _adopt(self, stored: StoredModel, file: Path) -> None:
        if stored.raw.get("is_decoder") is not True:
            raise CheckpointError(
                file, "describes an encoder (is_decoder is not true): fit turns it into a causal language model"
            )

    def _make_task(self, rows: TrainingRows) -> NextTokenTask:
        return NextTokenTask(rows.encoded["encoded"], None, self.tokenizer_, rows.weights)

    def _validation_score(self, rows: TrainingRows) -> float:
        return mean_log_p(next_token_log_p(self._engine(), rows.encoded["encoded"]), rows.weights)
