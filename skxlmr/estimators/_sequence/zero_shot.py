"""Texts to labels without training on them, through entailment."""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from scipy.special import expit, softmax
from sklearn.utils import column_or_1d
from sklearn.utils.validation import check_consistent_length, check_is_fitted

from skxlmr.checkpoints import CrossEncoder, StoredModel, moved
from skxlmr.estimators._core.callbacks import fit_task
from skxlmr.estimators._core.estimator import Estimator
from skxlmr.estimators._core.output_labels import labels_config, output_labels
from skxlmr.estimators._core.prompts import filled, prepared
from skxlmr.estimators._core.rollback import all_or_nothing
from skxlmr.estimators._core.truncation import warn_of_truncation
from skxlmr.estimators._fine_tuning.fit_quality import warn_without_labels
from skxlmr.estimators._sequence.classifier import XLMRobertaClassifier
from skxlmr.estimators._sequence.own_head import output_of
from skxlmr.estimators._sequence.targets import ManyLabels, OneClass
from skxlmr.estimators.heads import ENTAILMENT
from skxlmr.estimators.parameters import (
    CheckpointParameters,
    MemoryParameters,
    TextParameters,
    changed,
    estimator,
    parameter,
    positional,
)
from skxlmr.text import EncodedBatch, NoRoomError, SubwordSampling
from skxlmr.utils._labels import plain_array, warn_of_column
from skxlmr.utils._sklearn import ClassifierMixin, Interval, fit_context
from skxlmr.utils._tables import as_list, excerpt, plain
from skxlmr.utils._validation import Texts, check_fitted

if TYPE_CHECKING:
    import torch

    from skxlmr.nn import TaskModule


@estimator
class XLMRobertaZeroShotClassifier(MemoryParameters, TextParameters, ClassifierMixin, Estimator):
    """Classify multilingual texts by labels given in words, without training on them.

    Each label becomes a hypothesis about the text, and a model of natural language inference scores how far the text entails
    it. With one label per text, probabilities are the softmax of the entailment logits over the labels; with ``multi_label``
    the probability of each label is the softmax of its entailment logit against its contradiction logit.

    Read more in :doc:`/zero_shot`.

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The candidate labels, sorted; with ``multi_label`` in the order in which they were passed, as in an indicator matrix.
    module_ : torch.nn.Module
        The encoder with the head of the inference model.
    tokenizer_ : Tokenizer
        The checkpoint's tokenizer.
    config_ : ModelConfig
        Geometry of the checkpoint.
    n_features_in_ : int
        1, if a table with a column of texts was passed to ``fit``.
    feature_names_in_ : ndarray of str
        Column name of a DataFrame that was passed to ``fit``.

    See Also
    --------
    XLMRobertaClassifier : Learns the classes from rows, which is better as soon as there are some.
    XLMRobertaVectorizer : Features, for a classifier from few rows.

    References
    ----------
    .. [1] Conneau et al. (2020), "Unsupervised Cross-lingual Representation Learning at Scale", arXiv:1911.02116.
    .. [2] Yin et al. (2019), "Benchmarking Zero-shot Text Classification", arXiv:1909.00161.

    Examples
    --------
    >>> from skxlmr import XLMRobertaClassifier, XLMRobertaZeroShotClassifier
    >>> pairs = [("A man sleeps.", "He rests."), ("A man sleeps.", "He runs."), ("A man sleeps.", "He dreams.")]
    >>> nli = XLMRobertaClassifier("skxlmr-mini", max_epochs=1).fit(pairs, ["entailment", "contradiction", "neutral"])
    >>> zero_shot = XLMRobertaZeroShotClassifier(nli, candidate_labels=["weather", "food"]).fit()
    >>> zero_shot.classes_.tolist(), zero_shot.predict_proba(["Es regnet.", "The soup was cold."]).shape
    (['food', 'weather'], (2, 2))
    """

    checkpoint: str | os.PathLike[str] | XLMRobertaClassifier = positional(  # type: ignore[assignment]  # or a model
        default="joeddav/xlm-roberta-large-xnli",
        text=(
            "An encoder trained for natural language inference with its head, as a name on the Hugging Face hub or a "
            "local folder; or a classifier fitted on pairs of premise and hypothesis. Its weights are shared; they "
            "are copied only where ``device`` is another one."
        ),
        constraint=[str, os.PathLike, XLMRobertaClassifier],
        kw_only=False,
    )
    max_length: int | None = changed(
        CheckpointParameters,
        "max_length",
        None,
        "Most tokens of a text with a hypothesis, special tokens included; a longer text is cut, the hypothesis "
        "never is. None is as many as the checkpoint allows.",
    )
    candidate_labels: Sequence[str] | np.ndarray | None = parameter(
        None,
        ["array-like", None],
        "The labels to choose from, in words that fit into the template. None takes the distinct labels of ``y``.",
    )
    hypothesis_template: str = parameter(
        "This example is {}.", [str], "The hypothesis about a text, in which each label takes the place of ``{}``."
    )
    multi_label: bool = parameter(
        False,
        ["boolean"],
        "Whether each label holds or not on its own, so that a text may have several labels or none.",
    )
    threshold: float = parameter(
        0.5,
        [Interval(Real, 0, 1, closed="both")],
        "With ``multi_label``, the least probability of a label that ``predict`` returns.",
    )
    entailment: str | None = parameter(
        None, [str, None], "The checkpoint's label for entailment. None is the one that starts with ``entail``."
    )
    contradiction: str | None = parameter(
        None,
        [str, None],
        "The checkpoint's label for contradiction, which only ``multi_label`` needs. None is the one that starts "
        "with ``contradict``, or the other one of two.",
    )

    _head = ENTAILMENT
    _absent_head = "these are the whole head: use a checkpoint trained for natural language inference"

    @classmethod
    def from_checkpoint(cls, checkpoint: Any, **params: Any) -> Self:
        """Fitted estimator, the same as after ``fit`` without X and y.

        Parameters
        ----------
        checkpoint : str or path
            As in the constructor.
        **params
            Other parameters of the constructor, ``candidate_labels`` among them.

        Returns
        -------
        fitted estimator

        Raises
        ------
        CheckpointError
            If the checkpoint cannot be read or was not trained for natural language inference.
        """
        return cls(checkpoint, **params).fit()

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any = None, y: Any = None) -> Self:
        """Open the checkpoint and take the labels; nothing is trained.

        Parameters
        ----------
        X : list, array, Series or DataFrame of str, of shape (n_rows,) or (n_rows, 1), optional
            Texts; only the name of their column is used.
        y : array-like of str, of shape (n_rows,), optional
            Labels; the distinct ones are the candidates if ``candidate_labels`` is None. Otherwise ignored.

        Returns
        -------
        self

        Raises
        ------
        CheckpointError
            If the checkpoint cannot be read or has no label for entailment.
        NotFittedError
            If ``checkpoint`` is a classifier that is not fitted.
        ValueError
            If there are no candidate labels, one is not a text or occurs twice, or the template has no place for them; if y
            has more or fewer rows than X.
        """
        with all_or_nothing(self):
            for name in ("_n_columns", "n_features_in_", "feature_names_in_", "_said"):  # of an earlier fit
                self.__dict__.pop(name, None)
            if X is not None:
                check_consistent_length(self._check_X(X, reset=True), y)
            self.classes_ = self._candidates(y)
            with fit_task(self, X, y):
                module = self._open()
                self._check_hypotheses()
                self.module_ = module
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probability of each label.

        Parameters
        ----------
        X : list, array, Series or DataFrame of str
            Texts.

        Returns
        -------
        ndarray of shape (n_rows, n_classes), float32
            In the order of ``classes_``. Rows sum to one unless ``multi_label``.
        """
        engine = self._engine()
        texts, hypotheses = self._check_X(X, reset=False).first, self._hypotheses()
        pairs = Texts([text for text in texts for _ in hypotheses], hypotheses * len(texts))
        logits = engine.rows(self._encode(pairs), recipe=("logits",))
        logits_NLK = logits.reshape(len(texts), len(hypotheses), logits.shape[1])
        entailment_NL = logits_NLK[..., self._entailment]
        if not self.multi_label:
            return softmax(entailment_NL, axis=1)
        return expit(entailment_NL - logits_NLK[..., self._contradicting()])  # the softmax of two

    def predict(self, X: Any) -> np.ndarray:
        """Most probable label of each text, or all labels that hold.

        Parameters
        ----------
        X : list, array, Series or DataFrame of str
            Texts.

        Returns
        -------
        ndarray of shape (n_rows,) of str, or with ``multi_label`` of shape (n_rows, n_classes), int64
            A member of ``classes_``; or an indicator matrix, 1 where the probability reaches ``threshold``.
        """
        probabilities = self.predict_proba(X)
        if self.multi_label:
            codes = (probabilities >= self.threshold).astype(np.int64)
            warn_without_labels(probabilities, codes, self.threshold)
            return codes
        return self.classes_[probabilities.argmax(1)]

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Share of the rows that are predicted right, with ``multi_label`` in every label.

        Parameters
        ----------
        X : list, array, Series or DataFrame of str
            Texts.
        y : array-like of shape (n_rows,) of str, or with ``multi_label`` of shape (n_rows, n_classes)
            Their labels, or an indicator matrix with the columns of ``classes_``.
        sample_weight : array-like of shape (n_rows,), optional
            How much each row counts.

        Returns
        -------
        float
            From 0 to 1.
        """
        check_fitted(self, "classes_")
        kind = ManyLabels(self.classes_) if self.multi_label else OneClass(self.classes_)
        return super().score(X, kind.read(y, "y"), sample_weight)

    def _check_X(self, X: Any, reset: bool, name: str = "X") -> Texts:
        texts = super()._check_X(X, reset, name)
        if texts.second is not None:
            raise ValueError(f"{name} has pairs of texts (2 columns): {type(self).__name__} takes single texts")
        return texts

    def _candidates(self, y: Any) -> np.ndarray:
        """The labels to choose from."""
        if self.candidate_labels is not None:
            labels = list(map(plain, as_list(self.candidate_labels)))
            for place, label in enumerate(labels):
                if not isinstance(label, str) or not label.strip():
                    raise ValueError(f"candidate_labels must be texts, got {label!r} at place {place}")
                if label in labels[:place]:
                    raise ValueError(f"candidate_labels has {label!r} twice")
        elif y is not None:
            of_rows = plain_array(y)
            if of_rows.ndim != 1 and of_rows.shape[1:] != (1,):
                raise ValueError(f"y has the shape {of_rows.shape}, expected one label per row: set candidate_labels")
            warn_of_column(of_rows, "y")
            of_rows = column_or_1d(of_rows)
            for row, label in enumerate(of_rows.tolist()):
                if not isinstance(label, str) or not label.strip():
                    kind = "a continuous target, " if isinstance(label, float) else ""
                    hint = ": set candidate_labels where a tool numbers the classes" if isinstance(label, int) else ""
                    raise ValueError(f"y row {row}: expected a label that is a text, got {kind}{label!r}{hint}")
            labels = list(set(of_rows.tolist()))
        else:
            raise ValueError(
                f"{type(self).__name__} without candidate_labels requires y to be passed, but the target y is None: "
                "pass candidate_labels, such as ['sport', 'politics']"
            )
        if len(labels) < (1 if self.multi_label else 2):
            found = f"one class, {labels[0]!r:.80}" if labels else "none"
            raise ValueError(f"there must be two candidate labels or more (one or more with multi_label), got {found}")
        classes = np.array(labels, dtype=str)
        return classes if self.multi_label and self.candidate_labels is not None else np.unique(classes)

    def _open(self) -> TaskModule:
        """The inference model, after a check of its outputs."""
        if isinstance(self.checkpoint, XLMRobertaClassifier):
            classifier = self.checkpoint
            check_is_fitted(classifier, "module_")
            if not isinstance(classifier._targets, OneClass):
                raise ValueError(f"checkpoint is a classifier of another kind of target ({classifier.target_type_})")
            if classifier._n_fitted_columns() not in (None, 2):
                raise ValueError("checkpoint is a classifier of single texts: fit it on pairs (premise, hypothesis)")
            self.config_, self.tokenizer_, self._said = classifier.config_, classifier.tokenizer_, classifier._said
            self._limit()
            self._read_labels(classifier._targets.names)
            return classifier.module_
        stored = self._open_checkpoint()
        self._take_own(stored)
        self._read_labels(output_labels(stored.raw, stored.model_folder / "config.json"))
        return self._load_module(stored)

    def _take_own(self, stored: StoredModel) -> None:
        self._said = stored.cross_encoder()  # the activation does not matter: entailment is read from the logits

    def _cross_encoder_to_save(self) -> CrossEncoder | None:
        """What a saved folder says to other tools."""
        said: CrossEncoder | None = self._said
        return said

    def _read_labels(self, labels: list[str]) -> None:
        """Find the outputs for entailment and, where it is needed, contradiction."""
        self._nli_labels = labels
        self._entailment = output_of(labels, "entailment", self.entailment, "entail")
        if self.multi_label:
            self._contradicting()

    def _contradicting(self) -> int:
        """The output for contradiction: looked up when it is needed, since ``multi_label`` may be set after ``fit``."""
        others = [i for i in range(len(self._nli_labels)) if i != self._entailment]
        if self.contradiction is None and len(others) == 1:
            return others[0]
        found = output_of(self._nli_labels, "contradiction", self.contradiction, "contradict")
        if found == self._entailment:
            raise ValueError(f"entailment and contradiction are both {self._nli_labels[found]!r}")
        return found

    def _hypotheses(self) -> list[str]:
        return filled(self.hypothesis_template, self.classes_.tolist(), "hypothesis_template")

    def _check_hypotheses(self) -> None:
        """Refuse a hypothesis that leaves no token for the text."""
        hypotheses = prepared(Texts([], self._hypotheses()), self._how()).second
        lengths = self.tokenizer_.encode_batch(hypotheses).lengths - self.tokenizer_.n_special(False)
        room, label = self._limit() - self._n_around(self._how(), pair=True), self.classes_.tolist()[lengths.argmax()]
        if lengths.max() >= room:
            raise ValueError(
                f"the hypothesis for {excerpt(label)} has {lengths.max()} tokens, and max_length leaves room for {room} "
                f"together with the text: shorten the label or hypothesis_template"
            )

    def _encode(self, rows: Any, sampling: SubwordSampling | None = None, **options: Any) -> EncodedBatch:
        limit = self._limit()
        try:
            encoded = self._tokenize(rows, limit, truncation="only_first", **options)
        except NoRoomError:  # parameters may have been set after fit
            self._check_hypotheses()
            raise
        n_dropped = encoded.n_dropped.reshape(-1, len(self.classes_)).max(1)  # each text stands next to all labels
        warn_of_truncation(encoded, n_dropped, limit, "texts", when=", with their hypothesis,")
        return encoded

    def _tokenize(self, texts: Texts, max_length: int, **options: Any) -> EncodedBatch:
        return super()._tokenize(prepared(texts, self._how()), max_length, **options)

    def _head_arguments(self) -> tuple[int, ...]:
        return (len(self._nli_labels),)

    def _hub_config(self) -> dict[str, Any]:
        about = {"problem_type": OneClass.problem_type, **labels_config(self._nli_labels)}
        return {**super()._hub_config(), **about}

    @property
    def _shares_module(self) -> bool:
        """Whether the module is that of the classifier that was passed as the checkpoint."""
        return isinstance(self.checkpoint, XLMRobertaClassifier) and self.module_ is vars(self.checkpoint).get(
            "module_"
        )

    def _move_module(self, device: torch.device) -> None:
        # the classifier stays where it is
        module = self.module_ = copy.deepcopy(self.module_) if self._shares_module else self.module_
        moved(module, lambda: module.to(device))

    def _pack(self, state: dict[str, Any]) -> None:
        if self._shares_module:
            del state["module_"], state["tokenizer_"]  # they are in the classifier's state, and stay shared
        else:
            super()._pack(state)

    def _unpack(self) -> None:
        if hasattr(self, "config_") and not hasattr(self, "module_"):
            assert isinstance(self.checkpoint, XLMRobertaClassifier)
            self.module_, self.tokenizer_ = self.checkpoint.module_, self.checkpoint.tokenizer_
        super()._unpack()

    def __sklearn_clone__(self) -> Self:
        # A clone of a fitted classifier would have to be fitted again: clones share it, as they share a folder.
        return super().__sklearn_clone__().set_params(checkpoint=self.checkpoint)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = bool(self.multi_label)
        tags.classifier_tags.poor_score = True  # with labels that mean nothing to the model
        tags.target_tags.required = self.candidate_labels is None
        return tags
