"""Texts to classes."""

from numbers import Real

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.utils.validation import check_consistent_length, check_is_fitted

from skxlmr.batching import SequenceTask
from skxlmr.estimators._partial_fit import PartialFitOfClasses
from skxlmr.estimators._sequence import SequenceEstimator, read_head
from skxlmr.estimators._targets import (
    ManyLabels,
    OneClass,
    Targets,
    announced_targets,
    columns_of,
    learn_targets,
    targets_of,
)
from skxlmr.utils._docs import document_parameters
from skxlmr.utils._errors import CheckpointError
from skxlmr.utils._sklearn import Interval, StrOptions, fit_context


@document_parameters(
    label_smoothing=(
        "float",
        "Share of the target that is spread evenly over all classes (Szegedy et al. 2016), over yes and no of each label.",
    ),
    class_weight=(
        "dict, list of dicts, 'balanced' or None",
        "Weight of each class in the loss; ``'balanced'`` weighs classes inversely to their frequency. With several labels a\n"
        "row ``'balanced'`` does so for yes and no of each label by itself, a dict gives the weight of some labels where they\n"
        "are 1, and a list of dicts the weights of 0 and 1 for each label. With several columns of classes it is a list of\n"
        "dicts, one for each column, whose weights are multiplied, as in scikit-learn's forests.",
    ),
    threshold=(
        "float or array-like of shape (n_labels,)",
        "With several labels a row, the probability from which on a label is predicted, one for all or one for each. It is\n"
        "read when predictions are made, so that ``set_params(threshold=...)`` needs no new fit.",
    ),
)
class XLMRobertaClassifier(ClassifierMixin, PartialFitOfClasses, SequenceEstimator):
    """Classify multilingual texts, or pairs of texts, by fine-tuning XLM-RoBERTa.

    The encoder is trained together with a new head (dense layer, tanh, projection) on the vector of the first token, with
    AdamW and a learning rate that rises and falls.

    ``y`` tells what is learnt: one class a row; several labels a row, if it is a matrix of several columns of 0 and 1; or
    several classes a row, if it is a matrix of other values (one block of outputs for each column, the loss is their mean).

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,), or list of ndarray
        Class labels, sorted. With several labels a row their names, if ``y`` was a DataFrame, or else their numbers from 0
        on; with several columns of classes the classes of each. After ``from_checkpoint`` the labels of ``id2label``.
    target_type_ : {'single_label', 'multi_label', 'multi_output'}
        What ``y`` was: one class a row, several labels a row, or several columns of classes.
    module_ : torch.nn.Module
        The encoder with its head.
    tokenizer_ : Tokenizer
        The checkpoint's tokenizer.
    config_ : ModelConfig
        Geometry of the checkpoint.
    loss_curve_ : list of float
        Mean training loss of each epoch.
    validation_scores_ : list of float or None
        What ``score`` gives for the validation data after each epoch; None without validation data.
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

    _parameter_constraints: dict = {
        **SequenceEstimator._parameter_constraints,
        "label_smoothing": [Interval(Real, 0, 1, closed="left")],
        "class_weight": [dict, list, StrOptions({"balanced"}), None],
        "threshold": [Interval(Real, 0, 1, closed="both"), "array-like"],
    }

    def __init__(
        self,
        checkpoint="FacebookAI/xlm-roberta-base",
        *,
        revision=None,
        max_length=None,
        long_text="truncate",
        stride=0,
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
        threshold=0.5,
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
        self.long_text = long_text
        self.stride = stride
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
        self.threshold = threshold
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
        X : list, array, Series or DataFrame of str, of shape (n_rows,) or (n_rows, 1) or (n_rows, 2)
            Texts, or pairs of texts.
        y : array-like of shape (n_rows,), or array-like or sparse matrix of shape (n_rows, n_labels)
            Class labels; an indicator matrix of 0 and 1, a column for each label; or several columns of class labels.
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
            If a row of X is no text (names the row), y does not fit X, or there is only one class.
        FloatingPointError
            If the loss or the gradient stops being finite; names the rows.
        KeyboardInterrupt
            Passed on; after at least one epoch the weights of the last finished one are in place.
        """
        return self._fit(X, y, sample_weight, X_val, y_val, resume=resume)

    def decision_function(self, X):
        """Logits.

        Parameters
        ----------
        X : like in ``fit``

        Returns
        -------
        ndarray of shape (n_rows, n_classes), or (n_rows,) for two classes: the second logit minus the first
            With several labels a row (n_rows, n_labels); with several columns of classes a list of arrays.
        """
        return self._targets.scores(self._outputs(X))

    def predict_log_proba(self, X):
        """Logarithms of the class probabilities.

        Parameters
        ----------
        X : like in ``fit``

        Returns
        -------
        ndarray of shape (n_rows, n_classes), float32
            With several labels a row (n_rows, n_labels), each label's by itself; with several columns of classes a list
            of arrays.
        """
        return self._targets.log_proba(self._outputs(X))

    def predict_proba(self, X):
        """Class probabilities.

        Parameters
        ----------
        X : like in ``fit``

        Returns
        -------
        ndarray of shape (n_rows, n_classes), float32
            With several labels a row (n_rows, n_labels), each label's by itself; with several columns of classes a list
            of arrays.
        """
        return self._proba(self._outputs(X))

    def predict(self, X):
        """Most probable class of each row, or its labels.

        Parameters
        ----------
        X : like in ``fit``

        Returns
        -------
        ndarray of shape (n_rows,), with the dtype of ``classes_``
            With several labels a row an indicator matrix (n_rows, n_labels) of 0 and 1: which probabilities reach
            ``threshold``. With several columns of classes (n_rows, n_columns).
        """
        targets = self._targets
        return targets.label(targets.decide(self.predict_proba(X), self.threshold))

    def score(self, X, y, sample_weight=None):
        """Share of the rows that are predicted right, in every label or column where there are several.

        Parameters
        ----------
        X, y : like in ``fit``
        sample_weight : array-like of shape (n_rows,), optional

        Returns
        -------
        float
        """
        if self._targets.target_type != "multi_output":
            return super().score(X, y, sample_weight)
        predicted, columns = self.predict(X), columns_of(y, "y") or []
        check_consistent_length(predicted, *columns)
        right = [given == found for given, found in zip(columns, predicted.T, strict=True)]
        return float(np.average(np.all(right, axis=0), weights=sample_weight))

    @property
    def _targets(self) -> Targets:
        """What y was in the fit."""
        check_is_fitted(self, "classes_")
        return targets_of(self.target_type_, self.classes_)

    def _set_targets(self, targets: Targets) -> None:
        self.classes_, self.target_type_ = targets.classes, targets.target_type

    def _proba(self, logits):
        log_proba = self._targets.log_proba(logits)
        return [np.exp(of_column) for of_column in log_proba] if isinstance(log_proba, list) else np.exp(log_proba)

    def _n_outputs(self) -> int:
        return self._targets.n_outputs

    def _output_names(self):
        return self._targets.names

    def _problem_type(self):
        return self._targets.problem_type

    def _hub_config(self):
        # the reference has no word for several columns, but from_checkpoint must not read them as one
        columns = {"classes_per_column": [len(c) for c in self.classes_]} if isinstance(self.classes_, list) else {}
        return {**super()._hub_config(), **columns}

    def _adopt(self, config, file):
        problem_type, labels = read_head(config, file)
        if "classes_per_column" in config:
            raise CheckpointError(file, "tells of several columns of classes: skxlmr.load opens such an estimator")
        if problem_type == "regression":
            raise CheckpointError(file, "tells of a regression: use XLMRobertaRegressor.from_checkpoint")
        if problem_type == ManyLabels.problem_type:
            self._set_targets(ManyLabels(np.array(labels)))
        elif len(labels) > 1:
            self._set_targets(OneClass(np.array(labels)))
        else:
            raise CheckpointError(file, f"names only one class, {labels[0]!r}: at least two are needed")

    def _announce(self, classes, X, y):
        self._set_targets(announced_targets(classes, y, "y"))

    def _check_targets(self, y, rows, weights, reset, name="y"):
        if reset:
            learnt, targets = learn_targets(y, name)
            self._set_targets(learnt)
        else:
            targets = self._targets.encode(y, name)
        check_consistent_length(weights, targets)
        if isinstance(self._targets, ManyLabels):
            self._targets.checked(self.threshold)
        return targets

    def _weigh_targets(self, weights, targets):
        weighed = self._targets.weigh(weights, targets, self.class_weight)
        if not weighed.any():
            raise ValueError(f"class_weight leaves no row any weight, got {self.class_weight!r:.200}")
        return weighed

    def _strata(self, targets):
        if targets.ndim > 1:
            return None
        counts = np.unique(targets, return_counts=True)[1]
        n_val = self._n_validation(len(targets))
        enough = counts.min() > 1 and len(counts) <= min(n_val, len(targets) - n_val)
        return targets if enough else None

    def _make_task(self, encoded, targets, weights):
        loss = self._targets.loss(targets, weights, self.class_weight, self.label_smoothing)
        return SequenceTask(encoded["encoded"], targets, weights, loss)

    def _validation_score(self, encoded, targets, weights):
        proba = self._proba(self._infer(self.module_, encoded["encoded"]))
        right = self._targets.decide(proba, self.threshold) == targets
        return float(np.average(right.reshape(len(targets), -1).all(1), weights=weights))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        tags.target_tags.multi_output = True
        tags.target_tags.single_output = True
        return tags
