"""What every estimator that trains does: read rows and targets, split them, train, in one fit or in portions."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from sklearn.utils import get_tags

from skxlmr.checkpoints import StoredModel, check_mapped_files, moved
from skxlmr.estimators._core.callbacks import CallbackWatcher
from skxlmr.estimators._core.estimator import Estimator
from skxlmr.estimators._core.fit_attributes import of_a_fit
from skxlmr.estimators._core.rollback import all_or_nothing
from skxlmr.estimators._fine_tuning.fit_quality import collapse, kept_epoch, skipped, warn_of_fit
from skxlmr.estimators._fine_tuning.frozen import frozen_prefix
from skxlmr.estimators._fine_tuning.resuming import check_resume, keeper_of
from skxlmr.estimators._fine_tuning.scoring import ScoredRows, scorer_of
from skxlmr.estimators._fine_tuning.training_rows import (
    Encoded,
    TrainingRows,
    check_weights,
    drawn_seed,
    n_truncated,
    seeded,
    take_encoded,
    with_weight,
)
from skxlmr.estimators._fine_tuning.training_run import TrainingRun
from skxlmr.estimators.heads import check_architecture
from skxlmr.estimators.parameters import LanguageModelParameters, TrainingParameters
from skxlmr.inference import Engine, check_has_weights
from skxlmr.nn import family_of
from skxlmr.text import SubwordSampling
from skxlmr.training import LORA_RATE, AdamState, History, auto_learning_rate, in_all_processes, leads, mean_losses
from skxlmr.utils._devices.device import resolve_device
from skxlmr.utils._labels import check_pairs_are_one_argument
from skxlmr.utils._sklearn import fit_context, safe_indexing
from skxlmr.utils._validation import check_rows
from skxlmr.utils._warnings import warn_once_per_call

if TYPE_CHECKING:
    from skxlmr.nn import TaskModule


class FineTuned(TrainingParameters, Estimator):
    """Estimators that train: one fit for all of them, with hooks for what differs."""

    loss_curve_: list[float]
    validation_scores_: list[float] | None
    n_iter_: int
    final_loss_: float
    collapsed_: bool
    collapse_reason_: str | None
    n_truncated_: int
    learning_rate_: float

    _absent_head = "these are the whole head, which fit can train from scratch"
    _requires_y = False  # the mixins of scikit-learn set it for classifiers and regressors
    _multi_output = False  # whether y may have several columns
    _row = "row"  # what errors call a row of X
    _fewest_validation_rows = 1  # more where the score needs them
    _trains_vectors = False  # whether the fit is about the vectors of `transform`, and so about how they are made
    _compacts_vocabulary = True  # false if every row of the word embeddings has a gradient

    # What differs -------------------------------------------------------------------------------------------------------

    def _check_targets(self, y: Any, rows: Any, weights: np.ndarray, reset: bool, name: str = "y") -> Any:
        """Targets as numbers, for rows with these weights; ``reset`` learns what they mean (classes, scale)."""
        return None

    def _weigh_targets(self, weights: np.ndarray, targets: Any) -> np.ndarray:
        """Sample weights times class weights, where there are any."""
        return weights

    def _encode_training(self, rows: Any, sampling: SubwordSampling | None = None) -> Encoded:
        """Encoded rows, by the names under which ``_make_task`` takes them."""
        return {"encoded": self._encode(rows, sampling=sampling)}

    def _make_task(self, rows: TrainingRows) -> Any:
        """Task for the fit loop."""
        raise NotImplementedError

    def _validation_score(self, rows: TrainingRows) -> float:
        """Score of ``module_`` on validation data; higher is better."""
        raise NotImplementedError

    def _minus_loss(self, rows: TrainingRows) -> float:
        """Minus the mean loss of ``module_`` on validation data; whatever is drawn at random is the same in every epoch."""
        losses = mean_losses(self.module_, self._make_task(rows), self.batch_size, np.random.default_rng(0))
        return -sum(losses.values())

    def _adopt(self, stored: StoredModel, file: Path) -> None:
        """Learn from ``config.json`` what the outputs of the checkpoint's own head mean; some ``from_checkpoint`` pass more."""
        if self._head.new == "always":  # a fit trains it from scratch: without a fit it must be there
            check_architecture(stored.raw, file, self._head)

    def _announce_new_part(self, folder: Path, part: str) -> None:
        new = "a new one starts from scratch"
        if self._head.new == "if missing":
            warn_once_per_call(f"{folder} has no language modelling head that fits: {new}", about=(folder, "head"))
        elif family_of(self.config_).encoder.pooler_is_pretrained:
            warn_once_per_call(f"{folder} has no pooler ({part}), which the head reads: {new}", about=(folder, part))

    def _class_codes(self, rows: TrainingRows) -> tuple[np.ndarray | None, np.ndarray, Sequence[Any]]:
        """Codes of the examples' classes (n_examples, n_columns), their weights, and the classes of each column.

        No codes where there are no classes.
        """
        return None, rows.weights, ()

    def _strata(self, targets: Any) -> np.ndarray | None:
        """Classes whose proportions the validation split keeps, if any."""
        return None

    def _to_final_units(self, module: TaskModule) -> TaskModule:
        """The module as it predicts after the fit."""
        return module

    @contextmanager
    def _in_training_units(self, module: TaskModule, is_fitted: bool) -> Iterator[None]:
        """Undo ``_to_final_units`` while a fitted module trains again; afterwards put any module into its final units."""
        yield

    # What is the same ---------------------------------------------------------------------------------------------------

    @classmethod
    def from_checkpoint(cls, checkpoint: Any, **params: Any) -> Self:
        """Fitted estimator that predicts with the checkpoint's own head, without ``fit``.

        Parameters
        ----------
        checkpoint : str or path
            As in the constructor.
        **params
            Other parameters of the constructor.

        Returns
        -------
        fitted estimator

        Raises
        ------
        CheckpointError
            If the checkpoint cannot be read or has no head for this task.

        Examples
        --------
        >>> from skxlmr import XLMRobertaMaskedLM
        >>> len(XLMRobertaMaskedLM.from_checkpoint("skxlmr-mini").fill_mask(["The battery lasts two <mask>."], top_k=3)[0][0])
        3
        """
        return cls._adopted(checkpoint, params)

    @classmethod
    def _adopted(cls, checkpoint: Any, params: dict[str, Any], **told: Any) -> Self:
        """Fitted estimator with the checkpoint's own head, of which ``told`` says what the checkpoint does not."""
        estimator = cls(checkpoint, **params)
        estimator._validate_params()
        stored = estimator._open_checkpoint()
        estimator._adopt(stored, stored.model_folder / "config.json" if stored.base is None else stored.folder, **told)
        module = estimator.module_ = estimator._load_module(stored)
        moved(module, lambda: module.to(resolve_device(estimator.device)))
        return estimator

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = self._requires_y
        tags.target_tags.multi_output = self._multi_output
        return tags

    def _fit(
        self,
        X: Any,
        y: Any = None,
        sample_weight: Any = None,
        X_val: Any = None,
        y_val: Any = None,
        resume: bool | Literal["auto"] = False,
    ) -> Self:
        if (X_val is None) != (y_val is None) and get_tags(self).target_tags.required:
            raise ValueError("X_val and y_val belong together: pass both or neither")
        check_resume(resume, self.resume_dir)
        with all_or_nothing(self):
            history, watcher = self._fit_rows(X, y, sample_weight, X_val, y_val, resume)
            final = history.loss_curve[kept_epoch(self, history)]
            scores = history.validation_scores or None
            # at once: Ctrl-C comes before it or after it
            vars(self).update(of_a_fit(history.loss_curve, scores, final, history.collapse))
        self.__dict__.pop("_adam_state", None)  # belongs to weights that no longer exist
        return self._fit_ends(history, watcher)

    @in_all_processes
    def _fit_rows(
        self, X: Any, y: Any, sample_weight: Any, X_val: Any, y_val: Any, resume: bool | Literal["auto"]
    ) -> tuple[History, CallbackWatcher | None]:
        scorer = scorer_of(self.scoring)
        continues = self.warm_start and hasattr(self, "module_")
        read, targets, weights = self._check_rows(X, y, sample_weight, reset=not continues)
        rows = with_weight(weights)
        weights = weights if targets is None else self._weigh_targets(weights, targets)
        given = None if X_val is None else self._check_rows(X_val, y_val, None, False, "X_val", "y_val")
        seed = drawn_seed(self.random_state)
        keeper = keeper_of(self, resume)
        seed = seed if keeper is None else keeper.seed(seed)
        watcher = self._watcher(X, y, sample_weight, self.max_epochs)

        with seeded(seed):
            module = self._begin(continues)
            training = TrainingRows(self._encode_training(read), targets, weights).take(rows)
            self.n_truncated_ = n_truncated(training.encoded)
            validation, scored = None, None
            if given is not None:
                validation = TrainingRows(self._encode_training(given[0]), *given[1:], weighs_classes=False)
                scored = scorer and ScoredRows(scorer, X_val, y_val)
            elif self.early_stopping:
                of_training, of_validation = self._split(training, seed)
                training, validation = training.split(of_training, of_validation)
                if rows is not None:
                    of_training, of_validation = rows[of_training], rows[of_validation]
                rows = of_training
                if scorer:
                    parts = (
                        None if part is None else self._take_rows(part, of_validation) for part in (X, y, sample_weight)
                    )
                    scored = ScoredRows(scorer, *parts)
            self._check_validation(validation)
            redraw = self._redraw(read, rows)
            run = TrainingRun(
                self, module, training, validation, seed, redraw, rows, keeper=keeper, watcher=watcher, scored=scored
            )
            history = run.run()
        history.collapse = None if continues else collapse(self, history, training)
        history.doubt = skipped(history) or history.collapse
        return history, watcher

    @fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Train on more rows, in one pass over them at a constant learning rate.

        The first call opens the checkpoint, unless the estimator is fitted already. Each call trains with ``learning_rate``
        from its first step; ``max_epochs``, ``schedule``, ``warmup_ratio``, early stopping and ``resume_dir`` are ignored.
        AdamW's moments stay in memory between calls. ``n_iter_``, ``loss_curve_`` and ``n_truncated_`` continue.

        Parameters
        ----------
        X, y : list, array, Series or DataFrame
            Rows and targets as ``fit`` takes them.
        sample_weight : array-like of shape (n_rows,), optional
            Weight of each row in the loss; a weight of 2 counts like two rows, 0 leaves a row out.

        Returns
        -------
        self

        Raises
        ------
        CheckpointError
            If the checkpoint cannot be read or does not fit.
        ValueError
            If X or y is not what ``fit`` takes, or does not match the rows of earlier calls.
        FloatingPointError
            If the loss or the gradient stops being finite; names the rows.
        """
        with all_or_nothing(self):
            history, watcher = self._fit_portion(X, y, sample_weight)
        return self._fit_ends(history, watcher)

    @in_all_processes
    def _fit_portion(
        self, X: Any, y: Any, sample_weight: Any, learns_targets: bool = True
    ) -> tuple[History, CallbackWatcher | None]:
        """One call of ``partial_fit``; with ``learns_targets`` the first one learns from its rows what y means."""
        first = not hasattr(self, "module_")
        read, targets, weights = self._check_rows(
            X, y, sample_weight, first and learns_targets, reset_X=first or not self._n_fitted_columns()
        )
        rows = with_weight(weights)
        weights = weights if targets is None else self._weigh_targets(weights, targets)
        losses = [] if first else getattr(self, "loss_curve_", [])  # from_checkpoint sets none
        scores = None if first else getattr(self, "validation_scores_", None)
        # with an int as random_state, each call must still draw another order, dropout and masks
        seed = (drawn_seed(self.random_state) + len(losses)) % 2**31
        adam_state = AdamState() if first else getattr(self, "_adam_state", AdamState())
        watcher = self._watcher(X, y, sample_weight, 1, losses=losses, scores=scores)
        with seeded(seed):
            module = self._begin(not first)
            training = TrainingRows(self._encode_training(read), targets, weights).take(rows)
            run = TrainingRun(
                self,
                module,
                training,
                None,
                seed,
                self._redraw(read, rows),
                rows,
                adam_state=adam_state,
                watcher=watcher,
            )
            history = run.run()
        history.doubt = skipped(history)
        self._adam_state = adam_state
        self.n_truncated_ = n_truncated(training.encoded) + (0 if first else getattr(self, "n_truncated_", 0))
        vars(self).update(of_a_fit([*losses, *history.loss_curve], scores, history.loss_curve[-1], None))
        return history, watcher

    def _fit_ends(self, history: History, watcher: CallbackWatcher | None) -> Self:
        """Called when the estimator has everything it learnt; only now an interrupt is raised."""
        if history.interrupted:
            raise history.interrupted
        if watcher is not None:
            watcher.fit_ends()
        if history.doubt and leads():
            warn_of_fit(self, history.doubt)
        return self

    def _watcher(self, X: Any, y: Any, sample_weight: Any, n_epochs: int, **earlier: Any) -> CallbackWatcher | None:
        """Reports the fit to the callbacks; None if there are none."""
        if not hasattr(self, "_skl_callbacks"):
            return None
        return CallbackWatcher(self, X, y, sample_weight, n_epochs, **earlier)

    def _begin(self, continues: bool) -> TaskModule:
        """The module to train: that of the last fit, or the checkpoint's with its new parts from scratch."""
        if continues:
            check_has_weights(self.module_, "training further")
            self.tokenizer_ = self._family.continued(self)
            module = self.module_
            check_mapped_files(module)
        else:
            stored = self._open_checkpoint()
            new_parts = self._head.new_parts(self.config_)
            module = self._load_module(stored, new_parts, self._head.optional_parts(self.config_))
        if self.n_frozen_layers > self.config_.num_hidden_layers:
            raise ValueError(
                f"n_frozen_layers={self.n_frozen_layers} is more than the {self.config_.num_hidden_layers} layers of the "
                "checkpoint"
            )
        rate = self.learning_rate
        self.learning_rate_ = self._auto_learning_rate() if isinstance(rate, str) else float(rate)
        return module

    def _auto_learning_rate(self) -> float:
        """What ``learning_rate="auto"`` is for the checkpoint."""
        rate = auto_learning_rate(self.config_.hidden_size, isinstance(self, LanguageModelParameters))
        return rate if self.lora_rank is None else round(LORA_RATE * rate, 9)

    def _torch_engine(self) -> Engine:
        engine = super()._torch_engine()
        if not engine.in_int8:  # all layers are computed in int8, whatever is in a cache
            engine.prefix = frozen_prefix(self, self.module_)
        return engine

    def _redraw(self, read: Any, rows: np.ndarray | None) -> Any:
        """Function that returns the training rows with redrawn segmentations, None if they stay the same."""
        strength = getattr(self, "subword_sampling", None)
        if strength is None:
            return None

        def redraw(rng: np.random.Generator) -> Encoded:
            sampling = SubwordSampling(-1, strength, int(rng.integers(2**32)))
            return take_encoded(self._encode_training(read, sampling), rows)

        return redraw

    def _check_rows(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        reset: bool,
        X_name: str = "X",
        y_name: str = "y",
        reset_X: bool | None = None,
    ) -> tuple[Any, Any, np.ndarray]:
        """Rows, their targets and their weights; ``reset`` learns what the targets mean."""
        rows = self._check_X(X, X_name == "X" if reset_X is None else reset_X, X_name)
        check_rows(rows, X_name)
        if y is None and get_tags(self).target_tags.required:
            raise ValueError(f"{type(self).__name__} requires {y_name} to be passed, but the target {y_name} is None")
        check_pairs_are_one_argument(y, sample_weight, learns_numbers=get_tags(self).estimator_type == "regressor")
        weights = check_weights(sample_weight, len(rows), self._row)
        return rows, self._check_targets(y, rows, weights, reset, y_name), weights

    def _take_rows(self, values: Any, rows: np.ndarray) -> Any:
        """These rows of what was passed as X, y or sample_weight; a weight may be one number for all."""
        values = values if hasattr(values, "__getitem__") or isinstance(values, Real) else list(values)
        return np.full(len(rows), values) if isinstance(values, Real) else safe_indexing(values, rows)

    def _split(self, training: TrainingRows, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Set ``validation_fraction`` of the rows aside; returns the rows to train on, and those."""
        from sklearn.model_selection import train_test_split

        n_rows = len(training)
        n_val = self._n_validation(n_rows)
        if n_val >= n_rows:
            raise ValueError(
                f"early_stopping sets {n_val} of {n_rows} rows aside (validation_fraction={self.validation_fraction}) and "
                "leaves none to train on: pass more rows, or X_val"
            )
        rows, strata = np.arange(n_rows), self._strata(training.targets)
        parts = train_test_split(rows, test_size=self.validation_fraction, random_state=seed, stratify=strata)
        return parts[0], parts[1]

    def _n_validation(self, n_rows: int) -> int:
        """How many rows ``validation_fraction`` sets aside."""
        return math.ceil(self.validation_fraction * n_rows)

    def _check_validation(self, validation: TrainingRows | None) -> None:
        """Refuse validation data that is too small for a score."""
        if validation is not None and len(validation) < self._fewest_validation_rows:
            raise ValueError(
                f"the validation score of {type(self).__name__} needs at least {self._fewest_validation_rows} rows, got "
                f"{len(validation)}: raise validation_fraction, or pass X_val and y_val"
            )
