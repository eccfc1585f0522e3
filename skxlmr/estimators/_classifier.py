"""Texts to classes."""

import math
from numbers import Real
from typing import Any

import numpy as np
from scipy.special import log_softmax
from sklearn.base import ClassifierMixin
from sklearn.metrics import accuracy_score
from sklearn.utils import column_or_1d
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import check_consistent_length

from skxlmr.batching import SequenceTask
from skxlmr.estimators._base import FineTunedXLMRoberta
from skxlmr.estimators._sequence import SequenceEstimator
from skxlmr.nn.losses import cross_entropy
from skxlmr.utils._docs import document_parameters
from skxlmr.utils._sklearn import Interval, StrOptions, fit_context


@document_parameters(
    label_smoothing=("float", "Share of the target that is spread evenly over all classes (Szegedy et al. 2016)."),
    class_weight=(
        "dict, 'balanced' or None",
        "Weight of each class in the loss; ``'balanced'`` weighs classes inversely to their frequency.",
    ),
)
class XLMRobertaClassifier(ClassifierMixin, SequenceEstimator):
    """Classify multilingual texts, or pairs of texts, by fine-tuning XLM-RoBERTa.

    The encoder is trained together with a new head (dense layer, tanh, projection) on the vector of the first token, with
    AdamW and a learning rate that rises and falls.

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Class labels, sorted.
    module_ : torch.nn.Module
        The encoder with its head.
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
        Texts of the training data that were cut.
    n_features_in_ : int
        1 for texts, 2 for pairs.
    feature_names_in_ : ndarray of str
        Column names of a DataFrame that was passed to ``fit``.

    References
    ----------
    .. [1] Conneau et al. (2020), "Unsupervised Cross-lingual Representation Learning at Scale", arXiv:1911.02116.
    .. [2] Devlin et al. (2019), "BERT: Pre-training of Deep Bidirectional Transformers", section 3.2, arXiv:1810.04805.

    Examples
    --------
    >>> from skxlmr import XLMRobertaClassifier
    >>> texts = ["Guter Film", "Great film", "Schlechter Film", "Bad film"]
    >>> labels = ["good", "good", "bad", "bad"]
    >>> classifier = XLMRobertaClassifier("skxlmr-mini", learning_rate=1e-3, max_epochs=20, random_state=0)
    >>> classifier.fit(texts, labels).predict(["Guter Film"])
    array(['good'], dtype='<U4')
    """

    _problem_type = "single_label_classification"
    _parameter_constraints: dict = {
        **FineTunedXLMRoberta._parameter_constraints,
        "label_smoothing": [Interval(Real, 0, 1, closed="left")],
        "class_weight": [dict, StrOptions({"balanced"}), None],
    }

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
        label_smoothing=0.0,
        class_weight=None,
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
        self.label_smoothing = label_smoothing
        self.class_weight = class_weight
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

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, sample_weight=None, X_val=None, y_val=None):
        """Fine-tune the checkpoint.

        Parameters
        ----------
        X : list, array, Series or DataFrame of str, of shape (n_rows,) or (n_rows, 1) or (n_rows, 2)
            Texts, or pairs of texts.
        y : array-like of shape (n_rows,)
            Class labels.
        sample_weight : array-like of shape (n_rows,), optional
            Weight of each row in the loss; a weight of 2 counts like two rows.
        X_val, y_val : like X and y, optional
            Validation data for ``validation_scores_`` and early stopping.

        Returns
        -------
        self

        Raises
        ------
        CheckpointError
            If the checkpoint cannot be read or does not fit.
        ValueError
            If a row of X is no text (names the row), y does not fit X, or there is only one class.
        FloatingPointError
            If the loss or the gradient stops being finite; names the rows.
        KeyboardInterrupt
            Passed on; after at least one epoch the weights of the last finished one are in place.
        """
        return self._fit(X, y, sample_weight, X_val, y_val)

    def decision_function(self, X):
        """Logits.

        Parameters
        ----------
        X : like in ``fit``

        Returns
        -------
        ndarray of shape (n_rows, n_classes), or (n_rows,) for two classes: the second logit minus the first
        """
        logits = self._outputs(X)
        return logits[:, 1] - logits[:, 0] if len(self.classes_) == 2 else logits

    def predict_log_proba(self, X):
        """Logarithms of the class probabilities.

        Parameters
        ----------
        X : like in ``fit``

        Returns
        -------
        ndarray of shape (n_rows, n_classes), float32
        """
        return log_softmax(self._outputs(X), axis=1)

    def predict_proba(self, X):
        """Class probabilities.

        Parameters
        ----------
        X : like in ``fit``

        Returns
        -------
        ndarray of shape (n_rows, n_classes), float32
        """
        return np.exp(self.predict_log_proba(X))

    def predict(self, X):
        """Most probable class of each row.

        Parameters
        ----------
        X : like in ``fit``

        Returns
        -------
        ndarray of shape (n_rows,), with the dtype of ``classes_``
        """
        best = self.predict_proba(X).argmax(1)
        return self.classes_[best]

    def _n_outputs(self) -> int:
        return len(self.classes_)

    def _output_names(self):
        return [str(label) for label in self.classes_.tolist()]

    def _check_targets(self, y, weights, reset, name="y"):
        if y is None:
            raise ValueError(f"{type(self).__name__} requires {name} to be passed, but the target {name} is None")
        _check_labels(y, name)
        if type_of_target(y, input_name=name, raise_unknown=True) not in ("binary", "multiclass"):
            raise ValueError(
                f"Unknown label type: {type_of_target(y)}. {type(self).__name__} needs one class label a row; use "
                "XLMRobertaRegressor for numbers"
            )
        labels = column_or_1d(y, warn=True)
        check_consistent_length(weights, labels)
        if reset:
            self.classes_, codes = np.unique(labels, return_inverse=True)
            if len(self.classes_) < 2:
                raise ValueError(f"y has only one class, {self.classes_.tolist()[0]!r}: at least two are needed")
            return codes.astype(np.int64)
        code_of = {label: code for code, label in enumerate(self.classes_.tolist())}
        found = [code_of.get(label) for label in labels.tolist()]
        if None in found:
            row = found.index(None)
            raise ValueError(
                f"{name} row {row}: label {labels.tolist()[row]!r} is not among the classes of the fit, "
                f"{', '.join(map(repr, list(code_of)[:10]))}{', ...' if len(code_of) > 10 else ''}"
            )
        return np.array(found, np.int64)

    def _weigh_targets(self, weights, targets):
        if self.class_weight is None:
            return weights
        # "balanced" knows only the classes that are there, a dict may name others too (in a warm start).
        present = np.unique(targets) if self.class_weight == "balanced" else np.arange(len(self.classes_))
        of_class = np.ones(len(self.classes_), np.float32)
        of_class[present] = compute_class_weight(
            self.class_weight, classes=self.classes_[present], y=self.classes_[targets], sample_weight=weights
        )
        return weights * of_class[targets]

    def _strata(self, targets):
        counts = np.unique(targets, return_counts=True)[1]
        n_val = math.ceil(self.validation_fraction * len(targets))
        enough = counts.min() > 1 and len(counts) <= min(n_val, len(targets) - n_val)
        return targets if enough else None

    def _make_task(self, encoded, targets, weights):
        return SequenceTask(
            encoded["encoded"], targets, weights, lambda logits, y: cross_entropy(logits, y, self.label_smoothing)
        )

    def _validation_score(self, encoded, targets, weights):
        predicted = self._infer(self.module_, encoded["encoded"]).argmax(1)
        return float(accuracy_score(targets, predicted, sample_weight=weights))


def _check_labels(y: Any, name: str) -> None:
    """Refuse missing labels, and numbers among texts, both of which NumPy turns into classes such as 'nan'."""
    labels = np.asarray(y, dtype=object)
    if labels.ndim != 1 and labels.shape[1:] != (1,):
        return  # several labels a row: said by the caller
    kinds = set()
    for row, label in enumerate(labels.ravel().tolist()):
        if label is None or type(label).__name__ == "NAType" or label != label or label in (math.inf, -math.inf):
            raise ValueError(f"{name} row {row}: expected a label, got {label!r}")
        kinds.add(type(label).__name__)
    if "str" in kinds and len(kinds) > 1:
        raise ValueError(f"{name} mixes labels of the types {', '.join(sorted(kinds))}: use one type")
