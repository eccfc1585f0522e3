"""Texts to numbers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from scipy.special import expit
from sklearn.utils.validation import check_consistent_length

from skxlmr.checkpoints import CrossEncoder, StoredModel
from skxlmr.estimators._core.long_text import LongTexts
from skxlmr.estimators._core.output_labels import check_problem_type, labels_config, read_head
from skxlmr.estimators._core.prompts import with_prompt
from skxlmr.estimators._fine_tuning.fine_tuned import FineTuned
from skxlmr.estimators._fine_tuning.training_rows import TrainingRows
from skxlmr.estimators._sequence.parameters import CrossEncoderParameters
from skxlmr.estimators._sequence.ranking import check_top_k, pairs_with, ranking
from skxlmr.estimators._sequence.task import SequenceTask
from skxlmr.estimators.heads import REGRESSION
from skxlmr.estimators.parameters import SamplingParameters, estimator
from skxlmr.nn.losses import squared_error
from skxlmr.training import copies, restore, to_the_end
from skxlmr.utils._errors import CheckpointError
from skxlmr.utils._imports.later import torch
from skxlmr.utils._labels import check_target_names, read_numbers, target_names
from skxlmr.utils._sklearn import RegressorMixin, fit_context
from skxlmr.utils._warnings import warn_once_per_call

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor, nn

    from skxlmr.nn import TaskModule


@estimator
class XLMRobertaRegressor(CrossEncoderParameters, SamplingParameters, RegressorMixin, LongTexts, FineTuned):
    """Predict numbers from multilingual texts, or pairs of texts, by fine-tuning XLM-RoBERTa.

    The loss is the mean squared error of the standardised targets; the scale is folded into the head after training, so
    that the outputs of the module are in the units of ``y``. In ``partial_fit`` the scale is that of the first call's targets.

    ``from_checkpoint`` opens regressions and cross-encoders (rerankers [2]_), and ``rank`` puts documents in order with them.

    Read more in :doc:`/user_guide`.

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    module_ : torch.nn.Module
        The encoder with its head.
    tokenizer_ : Tokenizer
        The checkpoint's tokenizer.
    config_ : ModelConfig
        Geometry of the checkpoint.
    n_outputs_ : int
        Number of targets.
    activation_ : {'identity', 'sigmoid'}
        What becomes of the logits; after a fit the identity.
    loss_curve_ : list of float
        Mean training loss of each epoch, in variances of the targets.
    validation_scores_ : list of float or None
        R2 on the validation data after each epoch; None without validation data.
    {of_a_fit}
    n_truncated_ : int
        Texts of the training data that were cut.
    n_features_in_ : int
        2 for pairs, 1 for texts in a table; not set for texts in one dimension.
    feature_names_in_ : ndarray of str
        Column names of a DataFrame that was passed to ``fit``.

    See Also
    --------
    XLMRobertaClassifier : Classes instead of numbers.
    XLMRobertaVectorizer : Vectors to compare. For the similarity of two texts, try their cosine before pairs are trained on.
    skxlmr.metrics.spearman_score : Whether the order of the numbers is right.
    skxlmr.inspection.attributions : What each word contributes to a prediction.

    References
    ----------
    .. [1] Conneau et al. (2020), "Unsupervised Cross-lingual Representation Learning at Scale", arXiv:1911.02116.
    .. [2] Nogueira & Cho (2019), "Passage Re-ranking with BERT", arXiv:1901.04085.

    Examples
    --------
    >>> from skxlmr import XLMRobertaRegressor
    >>> texts = ["Very good.", "Sehr gut.", "Very bad.", "Sehr schlecht."]
    >>> regressor = XLMRobertaRegressor("skxlmr-mini", learning_rate=1e-3, max_epochs=15, random_state=0)
    >>> stars = regressor.fit(texts, [5.0, 4.5, 1.5, 1.0]).predict(texts)
    >>> stars.dtype, stars > 3
    (dtype('float32'), array([ True,  True, False, False]))
    """

    _head = REGRESSION
    _multi_output = True
    _fewest_validation_rows = 2  # R2 compares their spread

    @classmethod
    def from_checkpoint(
        cls, checkpoint: Any, *, problem_type: Literal["regression"] | None = None, **params: Any
    ) -> Self:
        """Fitted estimator that predicts with the checkpoint's own head, without ``fit``: a regression or a cross-encoder.

        Parameters
        ----------
        checkpoint : str or path
            As in the constructor.
        problem_type : {'regression'}, optional
            Reads the outputs as numbers whatever ``config.json`` says of them. By default one output is a number unless
            ``config.json`` says otherwise.
        **params
            Other parameters of the constructor.

        Returns
        -------
        fitted estimator

        Raises
        ------
        CheckpointError
            If the checkpoint cannot be read, has no head for this task, or says something of its outputs that cannot be
            reproduced.
        ValueError
            If ``problem_type`` is that of a classifier.
        """
        check_problem_type(problem_type, cls.__name__, ("regression",), "XLMRobertaClassifier")
        return cls._adopted(checkpoint, params, problem_type=problem_type)

    @fit_context(prefer_skip_nested_validation=True)
    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        X_val: Any = None,
        y_val: Any = None,
        *,
        resume: bool | Literal["auto"] = False,
    ) -> Self:
        """Fine-tune the checkpoint.

        Parameters
        ----------
        X : list, array, Series or DataFrame of str, of shape (n_rows,) or (n_rows, 1) or (n_rows, 2)
            Texts, or pairs of texts.
        y : array-like of shape (n_rows,) or (n_rows, n_outputs)
            Numbers.
        sample_weight : array-like of shape (n_rows,), optional
            Weight of each row in the loss; a weight of 2 counts like two rows.
        X_val : list, array, Series or DataFrame of str, optional
            Validation texts or pairs, for ``validation_scores_`` and early stopping.
        y_val : array-like of shape (n_val_rows,) or (n_val_rows, n_outputs), optional
            Their numbers.
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
            If a row of X is not a text (names the row) or y does not fit X.
        FloatingPointError
            If the loss or the gradient stops being finite; names the rows.
        KeyboardInterrupt
            Passed on; after at least one epoch the weights of the last finished one are in place.
        """
        return self._fit(X, y, sample_weight, X_val, y_val, resume=resume)

    def predict(self, X: Any) -> np.ndarray:
        """Predicted numbers.

        Parameters
        ----------
        X : list, array, Series or DataFrame of str
            Texts or pairs, as passed to ``fit``.

        Returns
        -------
        ndarray of shape (n_rows,) or (n_rows, n_outputs), float32
            In the units of ``y``; from a checkpoint what its head gives.
        """
        outputs = self._activated(self._logits(X))
        return outputs[:, 0] if self._y_is_1d else outputs

    def rank(self, query: str, documents: Any, top_k: int | None = None) -> pd.DataFrame:
        """Documents in the order in which they answer a query, for a cross-encoder or a fit on pairs.

        Each pair of query and document is read as one row; a pair that is too long loses tokens of the longer text. For
        several queries, call it once for each.

        Parameters
        ----------
        query : str
            The question, or what is searched for.
        documents : list, array, Series or column of str
            The candidates, such as the hits of a faster search. Each distinct one is encoded once.
        top_k : int, optional
            How many of the best to return, if there are as many; by default all.

        Returns
        -------
        DataFrame
            The best document first, with the columns ``score`` (what ``predict`` returns for the pair) and ``document``. Its
            index is that of the documents, or else their numbers from 0. The order is that of the logits, which tell documents
            apart that the sigmoid puts at the same float; documents with equal logits keep their order.

        Raises
        ------
        ValueError
            If the query is not one text, there is no document, one is not a text (names its row), or ``top_k`` is less than 1;
            or if there are several outputs, or the regressor was fitted on single texts.

        Examples
        --------
        >>> from skxlmr import XLMRobertaRegressor
        >>> pairs = [("Haus", "a house"), ("Haus", "a bird"), ("Vogel", "a bird"), ("Vogel", "a house")]
        >>> ranker = XLMRobertaRegressor("skxlmr-mini", max_epochs=1, random_state=0).fit(pairs, [1.0, 0.0, 1.0, 0.0])
        >>> best = ranker.rank("Fluss", ["a house", "a river", "a bird"], top_k=2)
        >>> best.columns.tolist(), len(best)
        (['score', 'document'], 2)
        """
        top_k, engine = check_top_k(top_k), self._engine()
        if self.n_outputs_ != 1:
            raise ValueError(f"rank needs one output for each pair, and there are {self.n_outputs_}: use predict")
        if self._n_fitted_columns() not in (None, 2) or not self.pairs:
            raise ValueError("rank reads pairs of query and document, but this regressor reads single texts")
        texts = pairs_with(query, documents, self.missing)
        encoded = self._encode(texts)
        logits = engine.rows(encoded, window_weights=np.ones(len(encoded)))
        return ranking(documents, texts, logits[:, 0], self._activated(logits)[:, 0], top_k)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Coefficient of determination, R2, of the predictions; with several outputs the mean of theirs.

        Parameters
        ----------
        X : list, array, Series or DataFrame of str
            Texts or pairs, as passed to ``fit``.
        y : array-like of shape (n_rows,) or (n_rows, n_outputs)
            Their numbers.
        sample_weight : array-like of shape (n_rows,), optional
            How much each row counts.

        Returns
        -------
        float
            At most 1; 0 is that of the mean of y, and less is worse than it.
        """
        check_target_names(y, "y", self._y_columns)
        return super().score(X, read_numbers(y, "y"), sample_weight)

    @property
    def activation_(self) -> str:
        """What becomes of the logits: 'identity' or 'sigmoid'."""
        if not hasattr(self, "module_"):
            raise AttributeError("activation_ is known once the checkpoint is open: call fit or from_checkpoint first")
        return self._activation(self._said)

    def _activation(self, said: CrossEncoder | None) -> str:
        if self.activation != "auto":
            return str(self.activation)
        if said is None:
            return "identity"
        said.check_activation(self.checkpoint)
        return said.activation or "identity"

    def _activated(self, logits: np.ndarray) -> np.ndarray:
        return expit(logits) if self.activation_ == "sigmoid" else logits

    def _how(self) -> CrossEncoder:
        return with_prompt(self._said or CrossEncoder(), self.prompt)

    def _cross_encoder_to_save(self) -> CrossEncoder | None:
        """What a saved folder says to other tools."""
        return replace(self._how(), activation=self.activation_, unknown=None)

    def _begin(self, continues: bool) -> TaskModule:
        if not continues:
            self._said = None  # of another head
        activation = self._activation(self._said)
        if activation != "identity":
            raise ValueError(
                f"fit compares y with the logits, but predict would put them through activation={activation!r}: set "
                "activation='identity' to train on numbers, or fit an XLMRobertaClassifier on relevant and other pairs"
            )
        return super()._begin(continues)

    def _head_arguments(self) -> tuple[int, ...]:
        return (self.n_outputs_,)

    def _hub_config(self) -> dict[str, Any]:
        labels = labels_config([f"LABEL_{i}" for i in range(self.n_outputs_)])
        # the reference's pipeline puts a sigmoid on one output unless this says that it is a regression
        is_scorer = self.n_outputs_ == 1 and self.activation_ == "sigmoid"
        return {**super()._hub_config(), "problem_type": None if is_scorer else "regression", **labels}

    def _adopt(self, stored: StoredModel, file: Path, problem_type: str | None = None) -> None:
        read, classes = read_head(stored.raw, file, self._head, problem_type)
        if read != "regression":
            raise CheckpointError(
                file,
                f"describes {len(classes)} classes ({read}): use XLMRobertaClassifier.from_checkpoint, or pass "
                "problem_type='regression' if its outputs are numbers",
            )
        self.n_outputs_ = len(classes)
        self._y_is_1d = self.n_outputs_ == 1
        self._y_mean, self._y_scale = np.zeros(self.n_outputs_), np.ones(self.n_outputs_)
        self._take_own(stored, problem_type)

    def _take_own(self, stored: StoredModel, problem_type: str | None = None) -> None:
        said = stored.cross_encoder()
        is_scorer = (problem_type or stored.raw.get("problem_type")) is None and self.n_outputs_ == 1
        if said.activation is None and said.unknown is None:
            # as CrossEncoder and the reference's pipeline: one output, and no word of a regression
            said = replace(said, activation="sigmoid" if is_scorer else "identity")
        if self.activation == "auto":
            said.check_activation(stored.folder)
        self._said = said
        self._check_room(self._how(), stored.folder)

    def _check_targets(self, y: Any, rows: Any, weights: np.ndarray, reset: bool, name: str = "y") -> np.ndarray:
        values = read_numbers(y, name)
        check_consistent_length(weights, values)
        huge = np.flatnonzero((np.abs(values) > np.finfo(np.float32).max).reshape(len(values), -1).any(1))
        if len(huge):
            raise ValueError(f"{name} row {huge[0]}: {values[huge[0]].tolist()!r:.60} is too large for float32")
        is_1d, values = values.ndim == 1, values.reshape(len(weights), -1)
        if reset:
            self._y_is_1d, self.n_outputs_, self._y_columns = is_1d, values.shape[1], target_names(y, name)
            self._y_mean = np.average(values, axis=0, weights=weights)
            scale = np.sqrt(np.average((values - self._y_mean) ** 2, axis=0, weights=weights))
            counted = values[weights > 0]
            varies = (counted != counted[0]).any(axis=0)  # the spread of a column of equal numbers is rounding alone
            if len(small := np.flatnonzero(varies & (scale < np.finfo(np.float32).tiny))):
                column = f" column {small[0]}" if len(scale) > 1 else ""
                raise ValueError(f"{name}{column} differs by less than float32 can hold: multiply it by a constant")
            self._y_scale = np.where(varies, scale, 1.0)
            _warn_of_far_targets(self._y_mean, np.where(varies, scale, np.inf), name)
        elif values.shape[1] != self.n_outputs_:
            raise ValueError(f"{name} has {values.shape[1]} targets, but the regressor was fitted on {self.n_outputs_}")
        else:
            check_target_names(y, name, self._y_columns)
        return ((values - self._y_mean) / self._y_scale).astype(np.float32)

    def _to_final_units(self, module: Any) -> TaskModule:
        _put_rescaled(module.output_layer, self._y_scale, self._y_mean)
        return module

    @contextmanager
    def _in_training_units(self, module: Any, is_fitted: bool) -> Iterator[None]:
        layer = module.output_layer
        final, begun = copies(layer.parameters()), None
        trained: list[Tensor] = []

        def finish() -> None:
            if not trained:  # it may run twice
                trained.extend(copies(layer.parameters()))
            if is_fitted and (begun is None or all(map(torch.equal, begun, trained))):
                restore(layer.parameters(), final)  # nothing was learnt: there and back again would be another rounding
            else:
                weight, bias = trained
                restore(layer.parameters(), _rescaled(weight, bias, self._y_scale, self._y_mean))

        try:
            if is_fitted:
                _put_rescaled(layer, 1 / self._y_scale, -self._y_mean / self._y_scale)
                begun = copies(layer.parameters())
            yield
        finally:
            to_the_end(finish)

    def _make_task(self, rows: TrainingRows) -> SequenceTask:
        return SequenceTask(rows.encoded["encoded"], rows.targets, rows.weights, squared_error)

    def _validation_score(self, rows: TrainingRows) -> float:
        from sklearn.metrics import r2_score

        encoded = rows.encoded["encoded"]
        predicted = self._engine().rows(encoded, window_weights=np.ones(len(encoded)))
        return float(r2_score(rows.targets, predicted, sample_weight=rows.weights))


def _warn_of_far_targets(mean_K: np.ndarray, scale_K: np.ndarray, name: str) -> None:
    """Warn if numbers differ by so little, compared with their mean, that predictions in float32 lose it."""
    far = np.flatnonzero(scale_K < 1e-5 * np.abs(mean_K))
    if len(far):
        k, column = far[0], f" column {far[0]}" if len(mean_K) > 1 else ""
        warn_once_per_call(
            f"{name}{column} has a mean of {mean_K[k]:.6g} and a standard deviation of {scale_K[k]:.2g}, too little beside it "
            f"for predictions, which are float32: subtract a constant from {name}, such as its mean, and add it to "
            "predict(X).astype(float)",
            about="far targets",
        )


def _rescaled(weight: Tensor, bias: Tensor, scale: np.ndarray, shift: np.ndarray) -> tuple[Tensor, Tensor]:
    """Weight and bias of a layer whose outputs are ``scale`` times what they were, plus ``shift``."""
    scale_K, shift_K = (torch.from_numpy(x).to(weight) for x in (scale, shift))
    return weight.detach() * scale_K[:, None], bias.detach() * scale_K + shift_K


def _put_rescaled(layer: nn.Linear, scale: np.ndarray, shift: np.ndarray) -> None:
    rescaled = _rescaled(layer.weight, layer.bias, scale, shift)
    to_the_end(lambda: restore(layer.parameters(), rescaled))
