"""Prompts with choices to the index of the right choice."""

from dataclasses import replace

import numpy as np
from scipy.special import softmax
from sklearn.base import ClassifierMixin
from sklearn.metrics import accuracy_score
from sklearn.utils import column_or_1d
from sklearn.utils.validation import check_consistent_length

from skxlmr.batching import ChoiceTask, by_row
from skxlmr.estimators._choices import Choices, check_choices, choice_table
from skxlmr.estimators._fine_tuned import FineTunedXLMRoberta
from skxlmr.estimators._partial_fit import PartialFitOfClasses
from skxlmr.estimators._readers import FIRST_TOKEN, check_head
from skxlmr.nn import ModelConfig, TaskModule, XLMRobertaForMultipleChoice
from skxlmr.text import EncodedBatch, SubwordSampling
from skxlmr.utils._docs import document_parameters
from skxlmr.utils._sklearn import check_feature_names, fit_context
from skxlmr.utils._validation import Texts


@document_parameters()
class XLMRobertaMultipleChoiceClassifier(ClassifierMixin, PartialFitOfClasses, FineTunedXLMRoberta):
    """Choose the right one of two or more texts for each prompt by fine-tuning XLM-RoBERTa.

    Each choice is read together with its prompt and gets a score; the loss is the cross-entropy over the choices of a row.
    The number of choices may differ from row to row.

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    classes_ : ndarray of shape (n_most_choices,), int64
        Indices 0, 1, ... up to the most choices of a row of ``fit``; rows with more can be predicted too.
    module_ : torch.nn.Module
        The encoder with its pooler and head.
    tokenizer_ : Tokenizer
        The checkpoint's tokenizer.
    config_ : ModelConfig
        Geometry of the checkpoint.
    loss_curve_ : list of float
        Mean training loss of each epoch.
    validation_scores_ : list of float or None
        Accuracy on the validation data after each epoch; None without validation data.
    n_iter_ : int
        Number of epochs.
    n_truncated_ : int
        Choices of the training data that were cut, or whose prompt was.
    n_features_in_ : int
        Columns of X: 2 for prompts and lists of choices.
    feature_names_in_ : ndarray of str
        Column names of a DataFrame that was passed to ``fit``.

    References
    ----------
    .. [1] Conneau et al. (2020), "Unsupervised Cross-lingual Representation Learning at Scale", arXiv:1911.02116.
    .. [2] Radford et al. (2018), "Improving Language Understanding by Generative Pre-Training", section 3.3.
    .. [3] Ponti et al. (2020), "XCOPA: A Multilingual Dataset for Causal Commonsense Reasoning", arXiv:2005.00333.

    Examples
    --------
    >>> from skxlmr import XLMRobertaMultipleChoiceClassifier
    >>> X = [
    ...     {"prompt": "It rained.", "choices": ["The street is wet.", "The street is dry."]},
    ...     {"prompt": "Es schneite.", "choices": ["Heiß.", "Alles war grün.", "Alles war weiß."]},
    ... ]
    >>> chooser = XLMRobertaMultipleChoiceClassifier("skxlmr-mini", learning_rate=1e-3, max_epochs=20, random_state=0)
    >>> chooser.fit(X, [0, 2]).predict(X)
    array([0, 2])
    >>> chooser.predict_proba(X).shape
    (2, 3)
    """

    _head = "classifier"
    _needs_both_sides = FIRST_TOKEN
    _optional_parts = ("roberta.pooler",)

    def __init__(
        self,
        checkpoint="FacebookAI/xlm-roberta-base",
        *,
        revision=None,
        max_length=None,
        max_epochs=5,
        batch_size=16,
        accumulate=1,
        learning_rate=3e-5,
        head_learning_rate=None,
        layer_decay=1.0,
        weight_decay=0.01,
        warmup_ratio=0.1,
        schedule="linear",
        max_grad_norm=1.0,
        n_frozen_layers=0,
        gradient_checkpointing=False,
        early_stopping=False,
        validation_fraction=0.1,
        n_iter_no_change=2,
        tol=1e-4,
        warm_start=False,
        device="auto",
        dtype="auto",
        subword_sampling=None,
        random_state=None,
        verbose=0,
        checkpoint_dir=None,
        checkpoint_every=None,
    ):
        self.checkpoint = checkpoint
        self.revision = revision
        self.max_length = max_length
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.accumulate = accumulate
        self.learning_rate = learning_rate
        self.head_learning_rate = head_learning_rate
        self.layer_decay = layer_decay
        self.weight_decay = weight_decay
        self.warmup_ratio = warmup_ratio
        self.schedule = schedule
        self.max_grad_norm = max_grad_norm
        self.n_frozen_layers = n_frozen_layers
        self.gradient_checkpointing = gradient_checkpointing
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.warm_start = warm_start
        self.device = device
        self.dtype = dtype
        self.subword_sampling = subword_sampling
        self.random_state = random_state
        self.verbose = verbose
        self.checkpoint_dir = checkpoint_dir
        self.checkpoint_every = checkpoint_every

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, sample_weight=None, X_val=None, y_val=None, *, resume=False):
        """Fine-tune the checkpoint.

        Parameters
        ----------
        X : DataFrame, list of dict, list of (prompt, choices) or 2-D array
            One prompt and two or more choices a row. A DataFrame has a column of prompts (the one named ``prompt``, or else
            the first) and beside it either one column of lists of choices, or one column a choice, in which rows with
            fewer choices end in missing values. A dict has the keys ``prompt`` and ``choices``. Beside columns or keys of
            these two names no others are read.
        y : array-like of shape (n_rows,) of int
            Index of the right choice of each row, from 0.
        sample_weight : array-like of shape (n_rows,), optional
            Weight of each row in the loss; a weight of 2 counts like two rows.
        X_val, y_val : like X and y, optional
            Validation data for ``validation_scores_`` and early stopping.
        resume : bool
            Go on from the state in ``checkpoint_dir``, if there is one of the same fit; else start anew.

        Returns
        -------
        self

        Raises
        ------
        CheckpointError
            If the checkpoint cannot be read or does not fit.
        ValueError
            If a row of X has no prompt, fewer than two choices or one that is no text, or y is none of its choices; names
            the row.
        FloatingPointError
            If the loss or the gradient stops being finite; names the rows.
        KeyboardInterrupt
            Passed on; after at least one epoch the weights of the last finished one are in place.
        """
        return self._fit(X, y, sample_weight, X_val, y_val, resume=resume)

    def decision_function(self, X):
        """Scores of the choices.

        Parameters
        ----------
        X : like in ``fit``

        Returns
        -------
        ndarray of shape (n_rows, n_most_choices), float32
            Minus infinity where a row has fewer choices than another.
        """
        module = self._module_on_device()
        rows = self._check_X(X, reset=False)
        return by_row(self._infer(module, self._encode_choices(rows)), rows.n_choices, fill=-np.inf)

    def predict_proba(self, X):
        """Probability of each choice among those of its row.

        Parameters
        ----------
        X : like in ``fit``

        Returns
        -------
        ndarray of shape (n_rows, n_most_choices), float32
            Zero where a row has fewer choices than another; lines sum to one.
        """
        return softmax(self.decision_function(X), axis=1)

    def predict(self, X):
        """Most probable choice of each row.

        Parameters
        ----------
        X : like in ``fit``

        Returns
        -------
        ndarray of shape (n_rows,), int64
            Its index.
        """
        return self.predict_proba(X).argmax(1)

    def _build(self, config: ModelConfig) -> TaskModule:
        return XLMRobertaForMultipleChoice(config)

    def _hub_config(self):
        return {"architectures": ["XLMRobertaForMultipleChoice"]}

    def _adopt(self, config, file):
        check_head(config, file, "ForMultipleChoice")

    def _check_X(self, X, reset, name="X"):
        rows = check_choices(X, name)
        if reset:
            self.n_features_in_ = rows.n_columns
            self.classes_ = np.arange(rows.n_choices.max())
        elif not hasattr(self, "n_features_in_"):  # straight from a checkpoint: there was no fit to compare with
            return rows
        check_feature_names(self, choice_table(X), reset=reset)
        return rows

    def _announce(self, classes, X, y):
        """Nothing: the classes are the places of the choices, and the first rows tell how many there are."""

    def _spelt_out(self, classes, X):
        return np.union1d(classes, self.classes_)  # some of them say as much as all

    def _check_targets(self, y, rows, weights, reset, name="y"):
        """The targets as int64, each one of the choices of its row."""
        answers = column_or_1d(y, warn=True).tolist()
        answers = [int(answer) if isinstance(answer, float) and answer.is_integer() else answer for answer in answers]
        check_consistent_length(rows, answers)
        for row, (answer, n_choices) in enumerate(zip(answers, rows.n_choices, strict=True)):
            if not isinstance(answer, int) or isinstance(answer, bool) or not 0 <= answer < n_choices:
                kind = "a continuous target, " if isinstance(answer, float) else ""
                raise ValueError(
                    f"{name} row {row}: expected the index of a choice, 0 to {n_choices - 1}, got {kind}{answer!r}"
                )
        return np.array(answers, np.int64)

    def _encode_training(self, texts: Choices, sampling: SubwordSampling | None = None):
        return {"encoded": self._encode_choices(texts, sampling)}

    def _encode_choices(self, rows: Choices, sampling: SubwordSampling | None = None) -> EncodedBatch:
        """Each prompt with each of its choices, which take the place of the windows of a long text."""
        row_of_choice = np.repeat(np.arange(len(rows)), rows.n_choices)
        prompts = [rows.prompts[row] for row in row_of_choice]
        choices = [choice for of_row in rows.choices for choice in of_row]
        return replace(self._encode(Texts(prompts, choices), sampling=sampling), row_of_window=row_of_choice)

    def _make_task(self, encoded, targets, weights):
        return ChoiceTask(encoded["encoded"], targets, weights)

    def _validation_score(self, encoded, targets, weights):
        scores = self._infer(self.module_, encoded["encoded"])
        predicted = by_row(scores, encoded["encoded"].n_windows, fill=-np.inf).argmax(1)
        return float(accuracy_score(targets, predicted, sample_weight=weights))
