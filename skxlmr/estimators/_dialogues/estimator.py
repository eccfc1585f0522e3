"""Dialogues: masked language modelling together with finding the response that follows a context."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from skxlmr.checkpoints import StoredModel
from skxlmr.estimators._core.prompts import lower
from skxlmr.estimators._dialogues.ranking import SPEAKER_TOKENS, ResponseRanker
from skxlmr.estimators._dialogues.rows import Dialogues, check_dialogues, indexed_by_dialogue, is_frame_of_turns
from skxlmr.estimators._dialogues.task import DialogueTask
from skxlmr.estimators._fine_tuning.training_rows import TrainingRows, seeded
from skxlmr.estimators._vectors.parameters import POOLING, SIDE_BY_SIDE, VectorParameters
from skxlmr.estimators.heads import DIALOGUE_LM
from skxlmr.estimators.parameters import (
    NOT_NEGATIVE,
    MaskingParameters,
    SamplingParameters,
    TrainingParameters,
    changed,
    estimator,
    parameter,
)
from skxlmr.nn.vocabulary import extend_vocabulary
from skxlmr.text import Tokenizer
from skxlmr.utils._containers import known_container
from skxlmr.utils._errors import CheckpointError
from skxlmr.utils._sklearn import fit_context, output_config
from skxlmr.utils._tables import as_list

if TYPE_CHECKING:
    from skxlmr.nn import TaskModule


@estimator
class XLMRobertaDialogueLM(MaskingParameters, SamplingParameters, ResponseRanker):
    """XLM-RoBERTa for task-oriented dialogues, as TOD-BERT and TOD-XLMR.

    A dialogue is read as one text, ``[USR] hello [SYS] hi ...``, with two tokens that ``fit`` adds to the vocabulary where the
    checkpoint lacks them. ``fit`` learns to fill gaps and, at the same time, to find the system response that follows a context
    among the responses of the other dialogues in the batch: the similarity is the dot product of the first tokens' vectors.
    The split into context and response is drawn again in every epoch. The fitted model ranks responses and computes
    features of dialogues, and ``skxlmr.save`` writes it as a checkpoint that every other estimator starts from.

    Of a dialogue longer than ``max_length`` the last turns are kept, of a response its start.

    Read more in :doc:`/dialogue`.

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    module_ : torch.nn.Module
        The encoder with its language modelling head.
    tokenizer_ : Tokenizer
        The checkpoint's tokenizer, with the speakers' tokens.
    config_ : ModelConfig
        Geometry of the checkpoint, with the enlarged vocabulary.
    {of_vectors}
    loss_curve_ : list of float
        Mean loss of each epoch, in nats: the sum of that per predicted token and that per response.
    validation_scores_ : list of float or None
        After each epoch minus the loss on validation data, in batches of ``batch_size``; None without validation data.
    {of_a_fit}
    n_truncated_ : int
        Dialogues of the training data that are longer than ``max_length``.
    n_features_in_ : int
        1, a dialogue.
    feature_names_in_ : ndarray of str
        Column name of a DataFrame with a column of dialogues that was passed to ``fit``.

    See Also
    --------
    XLMRobertaMaskedLM : The same for plain texts.
    XLMRobertaClassifier : Intents of single turns, from the checkpoint that this one adapted.
    skxlmr.metrics.recall_at_k : Scores the rankings of ``rank_responses``.
    skxlmr.inspection.LossCurveDisplay : Draws the loss of a fit by epoch.

    References
    ----------
    .. [1] Wu et al. (2020), "TOD-BERT: Pre-trained Natural Language Understanding for Task-Oriented Dialogue",
       arXiv:2004.06871.
    .. [2] Hung et al. (2022), "Multi2WOZ: A Robust Multilingual Dataset and Conversational Pretraining for Task-Oriented
       Dialog", arXiv:2205.10400.
    .. [3] Gao et al. (2021), "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup", arXiv:2101.06983.
    .. [4] Conneau et al. (2020), "Unsupervised Cross-lingual Representation Learning at Scale", arXiv:1911.02116.

    Examples
    --------
    >>> from skxlmr import XLMRobertaDialogueLM
    >>> dialogues = [
    ...     [("user", "A table for two, please."), ("system", "For what time?"), ("user", "At eight.")],
    ...     [("user", "Wann fährt der Zug?"), ("system", "Um neun Uhr.")],
    ... ]
    >>> lm = XLMRobertaDialogueLM("skxlmr-mini", learning_rate=1e-3, max_epochs=15, random_state=0).fit(dialogues)
    >>> contexts = [[("user", "A table, please.")], [("user", "Wann kommt der Zug?")]]
    >>> order, scores = lm.rank_responses(contexts, ["For what time?", "Um neun Uhr."])
    >>> order  # the first response fits the first context best, the second one the second
    array([[0, 1],
           [1, 0]])
    """

    pooling: str | Sequence[str] = changed(
        VectorParameters, "pooling", "auto", POOLING.replace("their mean.", "the first token's vector.") + SIDE_BY_SIDE
    )
    accumulate: int = changed(
        TrainingParameters,
        "accumulate",
        1,
        "Batches of each step. Their responses are each other's negatives: the step equals that of one large "
        "batch, in the memory of a small one, as each batch is encoded twice (gradient caching, Gao et al. 2021).",
    )
    contrastive_weight: float = parameter(
        1.0,
        [NOT_NEGATIVE],
        "Weight of the response contrastive loss relative to the masked language modelling loss; 0 trains without "
        "it, on masked dialogues alone.",
    )

    _head = DIALOGUE_LM
    _usual_pooling = ("cls",)
    _compacts_vocabulary = False  # the head predicts over the whole vocabulary

    @classmethod
    def from_checkpoint(cls, checkpoint: Any, **params: Any) -> Self:
        """Fitted estimator with the checkpoint's own weights, ready without ``fit``.

        Parameters
        ----------
        checkpoint : str or path
            As in the constructor; its vocabulary must have the speakers' tokens.
        **params
            Other parameters of the constructor.

        Returns
        -------
        fitted estimator

        Raises
        ------
        CheckpointError
            If the checkpoint cannot be read or its vocabulary lacks the speakers' tokens.
        """
        with seeded(0):  # a language modelling head that the checkpoint lacks is drawn at random
            return super().from_checkpoint(checkpoint, **params)

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
        """Train on dialogues.

        Parameters
        ----------
        X : list, Series, object array or DataFrame of dialogues
            Each dialogue a list of turns, or a dict with its ``turns``; a turn a dict with ``speaker`` and ``text``, or a pair
            of both. Or a DataFrame with one row per turn and the columns ``dialogue``, ``speaker`` and ``text``.
        y : None
            Ignored.
        sample_weight : array-like of shape (n_dialogues,), optional
            Weight of each dialogue's tokens and response in the loss. As a negative a response counts in full, unless its
            dialogue weighs 0 and is left out.
        X_val : list, Series, object array or DataFrame of dialogues, optional
            Validation dialogues, for ``validation_scores_`` and early stopping.
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
            If a turn has no known speaker or no text; names the dialogue and the turn.
        FloatingPointError
            If the loss or the gradient stops being finite; names the dialogues.
        """
        return self._fit(X, y, sample_weight, X_val, resume=resume)

    def transform(self, X: Any) -> Any:
        """Features of the dialogues: the first token's vector of the last layer, unless checkpoint or parameters say otherwise.

        A sentence encoder's folder says how its vectors are made, and so do ``pooling``, ``normalize``, ``prompt`` and
        ``truncate_dim``. They apply here alone: training and ``rank_responses`` compare the first tokens' vectors.

        Parameters
        ----------
        X : list, Series, object array or DataFrame of dialogues
            As ``fit`` takes them.

        Returns
        -------
        ndarray of shape (n_dialogues, n_features), float32
            With ``set_output(transform="pandas")`` a DataFrame; for a frame of turns, indexed by its dialogues.
        """
        engine, how = self._engine(), self._how()
        self._n_each()  # refuses what does not fit, before dialogues are read
        dialogues = self._check_X(X, reset=False)
        if how.lower_case:
            dialogues = replace(dialogues, texts=lower(dialogues.texts))
        prompt = self._prompt_ids(how, pair=False)[1:-1]
        turns = self._encode(dialogues, n_prompt=len(prompt))
        features = self._features(engine, self._whole(turns, prompt), pair=False)
        if is_frame_of_turns(X) and output_config("transform", self)["dense"] == "pandas":
            return indexed_by_dialogue(features, X)  # scikit-learn would take the index of X, with one row per turn
        return features

    def _check_X(self, X: Any, reset: bool, name: str = "X") -> Dialogues:
        X = known_container(X, name)
        dialogues = check_dialogues(X, name, self.speakers)
        if reset:
            self._remember_name(X)
        self._check_columns([] if is_frame_of_turns(X) else X, 1, reset)
        return dialogues

    def _make_task(self, rows: TrainingRows) -> DialogueTask:
        return self._dialogue_task(rows).checked("X")

    def _check_validation(self, validation: TrainingRows | None) -> None:
        super()._check_validation(validation)
        if validation is not None:
            self._dialogue_task(validation).checked("the validation data (X_val, or what early_stopping sets aside)")

    def _dialogue_task(self, rows: TrainingRows) -> DialogueTask:
        """Task of these rows, which need not have a token to predict."""
        return DialogueTask(
            rows.encoded["encoded"],
            self.tokenizer_,
            self._speaker_ids,
            rows.weights,
            self._limit(),
            self.mask_probability,
            self.contrastive_weight,
        )

    def _validation_score(self, rows: TrainingRows) -> float:
        """Minus the mean loss, with splits and masks of a fixed seed."""
        return self._minus_loss(rows)

    def _take_rows(self, values: Any, rows: np.ndarray) -> Any:
        if not is_frame_of_turns(values):
            return super()._take_rows(values, rows)
        turns: dict[Any, list[int]] = {}
        for place, name in enumerate(as_list(values["dialogue"])):
            turns.setdefault(name, []).append(place)
        dialogues = list(turns.values())
        return super()._take_rows(values, np.array([place for row in rows for place in dialogues[row]]))

    # Checkpoints, with or without the speakers' tokens ------------------------------------------------------------------

    def _read_folder(self, stored: StoredModel) -> tuple[Any, Tokenizer]:
        config, tokenizer = super()._read_folder(stored)
        try:  # special, so that a turn cannot spell them
            return config, tokenizer.with_tokens(SPEAKER_TOKENS)
        except ValueError as error:
            raise CheckpointError(stored.folder, str(error)) from error

    def _published_tokenizer(self) -> Tokenizer:
        # other estimators read dialogues as texts, in which the tokens are spelt out
        return self.tokenizer_.with_tokens(SPEAKER_TOKENS, special=False)

    def _adopt(self, stored: StoredModel, file: Path) -> None:
        # word embeddings may have spare rows at their end, which are untrained
        if max(self._speaker_ids) >= stored.tokenizer().vocab_size:
            tokens = " and ".join(SPEAKER_TOKENS)
            raise CheckpointError(
                file, f"describes a model without word embeddings of {tokens}: fit adds and trains them"
            )

    def _load_module(self, stored: StoredModel, *new_parts: Any) -> TaskModule:
        module = super()._load_module(stored, (), self._head.optional_parts(self.config_))
        extend_vocabulary(module, self.tokenizer_.vocab_size, self.config_.initializer_range)
        vocab_size = max(self.config_.vocab_size, self.tokenizer_.vocab_size)
        self.config_ = replace(self.config_, vocab_size=vocab_size)
        return module
