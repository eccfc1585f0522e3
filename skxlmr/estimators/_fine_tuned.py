"""What every estimator that trains does: read the rows and their targets, split them, run the fit loop."""

import math
import os
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state, get_tags

from skxlmr.checkpoints import check_finite, read_config
from skxlmr.estimators._base import BaseXLMRoberta
from skxlmr.estimators._callbacks import CallbackWatcher
from skxlmr.estimators._failures import consistent
from skxlmr.estimators._partial_fit import PartialFit
from skxlmr.estimators._training_rows import (
    Rows,
    check_weights,
    n_truncated,
    named_as_passed,
    relabel,
    seeded,
    take,
    take_rows,
    weighing,
)
from skxlmr.nn import ModelConfig, TaskModule
from skxlmr.text import SubwordSampling
from skxlmr.training import (
    SCHEDULES,
    STILL_WEIGHTS,
    AdamState,
    History,
    LoopSettings,
    StateKeeper,
    compact_vocabulary,
    digest,
    digest_of_still_weights,
    fit_loop,
    freeze,
    in_words,
    make_optimizer,
    undone_on_failure,
    whole_copy,
)
from skxlmr.utils._device import resolve_autocast, resolve_device
from skxlmr.utils._sklearn import Interval, StrOptions


class FineTunedXLMRoberta(PartialFit, BaseXLMRoberta):
    """Estimators that train: one fit for all of them, with four places for what differs."""

    _parameter_constraints: dict = {
        **BaseXLMRoberta._parameter_constraints,
        "max_epochs": [Interval(Integral, 1, None, closed="left")],
        "accumulate": [Interval(Integral, 1, None, closed="left")],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "head_learning_rate": [Interval(Real, 0, None, closed="neither"), None],
        "layer_decay": [Interval(Real, 0, 1, closed="right")],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "warmup_ratio": [Interval(Real, 0, 1, closed="both")],
        "schedule": [StrOptions(set(SCHEDULES))],
        "max_grad_norm": [Interval(Real, 0, None, closed="neither"), None],
        "n_frozen_layers": [Interval(Integral, 0, None, closed="left")],
        "gradient_checkpointing": ["boolean"],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "warm_start": ["boolean"],
        "subword_sampling": [Interval(Real, 0, None, closed="left"), None],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
        "checkpoint_dir": [str, os.PathLike, None],
        "checkpoint_every": [Interval(Integral, 1, None, closed="left"), None],
    }

    _head: str | None = None  # name of the part that starts anew in a first fit
    _optional_parts: Sequence[str] = ()  # parts that start anew in a first fit where the checkpoint has none
    _fewest_validation_rows = 1  # more where fewer have no score
    _compacts_vocabulary = True  # false where every row of the word embeddings has a gradient

    # What differs -----------------------------------------------------------------------------------------------------

    def _check_targets(self, y: Any, rows: Any, weights: np.ndarray, reset: bool, name: str = "y") -> np.ndarray | None:
        """Targets of the rows with these weights as numbers; ``reset`` learns what they mean (classes, scale)."""
        raise NotImplementedError

    def _build(self, config: ModelConfig) -> TaskModule:
        """Module with the head."""
        raise NotImplementedError

    def _finished(self, module: TaskModule) -> TaskModule:
        """The module as it predicts after the fit."""
        return module

    def _encode_training(self, texts: Any, sampling: SubwordSampling | None = None) -> Rows:
        """Encoded rows by the name under which ``_make_task`` takes them."""
        return {"encoded": self._encode(texts, sampling=sampling)}

    def _make_task(self, encoded: Rows, targets: np.ndarray | None, weights: np.ndarray):
        """Task for the fit loop."""
        raise NotImplementedError

    def _validation_score(self, encoded: Rows, targets: Any, weights: np.ndarray) -> float:
        """Score of ``module_`` on validation data, higher is better."""
        raise NotImplementedError

    def _adopt(self, config: dict[str, Any], file: Path) -> None:
        """Learn what the outputs of a checkpoint's own head mean from its ``config.json``."""

    # What is the same -------------------------------------------------------------------------------------------------

    @classmethod
    def from_checkpoint(cls, checkpoint, **params):
        """Fitted estimator with the checkpoint's own head, ready without ``fit``.

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
        """
        estimator = cls(checkpoint, **params)
        estimator._validate_params()
        folder, estimator.config_, estimator.tokenizer_ = estimator._open_checkpoint()
        estimator._adopt(read_config(folder), Path(folder, "config.json"))
        module = estimator._load_module(folder, estimator.config_, lambda: estimator._build(estimator.config_))
        estimator.module_ = module.to(resolve_device(estimator.device))
        return estimator

    def _fit(self, X, y=None, sample_weight=None, X_val=None, y_val=None, resume=False):
        if (X_val is None) != (y_val is None) and get_tags(self).target_tags.required:
            raise ValueError("X_val and y_val belong together: pass both or neither")
        if resume and self.checkpoint_dir is None:
            raise ValueError("resume=True goes on from the state in checkpoint_dir, which is None")
        with consistent(self):
            history, watcher = self._fit_rows(X, y, sample_weight, X_val, y_val, resume)
        self.__dict__.pop("_moments", None)  # of weights that are no more
        self.loss_curve_ = history.loss_curve
        self.validation_scores_ = history.validation_scores or None
        self.n_iter_ = len(history.loss_curve)
        if history.interrupted:
            raise history.interrupted
        if watcher is not None:
            watcher.fit_ends()
        return self

    def _fit_rows(self, X, y, sample_weight, X_val, y_val, resume) -> tuple[History, CallbackWatcher | None]:
        going_on = self.warm_start and hasattr(self, "module_")
        texts, targets, weights = self._check_rows(X, y, sample_weight, reset=not going_on)
        rows = weighing(weights)
        weights = weights if targets is None else self._weigh_targets(weights, targets)
        given = None if X_val is None else self._check_rows(X_val, y_val, None, False, "X_val", "y_val")
        random_state = check_random_state(self.random_state)
        seed = int(random_state.randint(np.iinfo(np.int32).max))
        keeper = (
            None if self.checkpoint_dir is None else StateKeeper(self.checkpoint_dir, self.checkpoint_every, resume)
        )
        seed = seed if keeper is None else keeper.seed(seed)
        watcher = self._watcher(X, y, sample_weight, self.max_epochs)

        with seeded(seed):
            module = self._begin(going_on)
            encoded = self._encode_training(texts)
            self.n_truncated_ = n_truncated(encoded)
            training = take((encoded, targets, weights), rows)
            if given is not None:
                validation = (self._encode_training(given[0]), *given[1:])
            elif self.early_stopping:
                training, validation, split_rows = self._split(training, seed)
                rows = split_rows if rows is None else rows[split_rows]
            else:
                validation = None
            self._check_validation(validation)
            draw, rng = self._drawing(texts, rows), np.random.default_rng(seed)
            with named_as_passed(rows):
                history = self._train(module, training, validation, rng, draw, keeper=keeper, watcher=watcher)
        return history, watcher

    def _watcher(self, X, y, sample_weight, n_epochs: int, **earlier) -> CallbackWatcher | None:
        """What tells the callbacks of the fit, where there are any."""
        if not hasattr(self, "_skl_callbacks"):
            return None
        return CallbackWatcher(self, X, y, sample_weight, n_epochs, **earlier)

    def _begin(self, going_on: bool) -> TaskModule:
        """The module to train: that of the last fit, or the checkpoint's with what starts anew."""
        if not going_on:
            folder, self.config_, self.tokenizer_ = self._open_checkpoint()
            module = self._load_module(
                folder, self.config_, lambda: self._build(self.config_), self._head, self._optional_parts
            )
        else:
            module = self.module_
        if self.n_frozen_layers > self.config_.num_hidden_layers:
            raise ValueError(
                f"n_frozen_layers={self.n_frozen_layers} is more than the {self.config_.num_hidden_layers} layers of the "
                "checkpoint"
            )
        return module

    def _train(
        self,
        module: TaskModule,
        training,
        validation,
        rng: np.random.Generator,
        draw_rows=None,
        moments: AdamState | None = None,
        keeper: StateKeeper | None = None,
        watcher: CallbackWatcher | None = None,
    ) -> History:
        """Run the fit loop; ``draw_rows(rng)`` gives the training rows with segmentations drawn anew.

        With the ``moments`` of the call before it is one of many short ones: a single pass at a constant learning rate.
        """
        device = resolve_device(self.device)
        freeze(module, self.n_frozen_layers)
        compacts = self._compacts_vocabulary and not self.n_frozen_layers and draw_rows is None
        ids = [part.ids for rows in (training, validation) if rows for part in rows[0].values() if part is not None]
        embeddings, data = module.backbone.get_input_embeddings(), (training, validation)
        with compact_vocabulary(module.backbone, *ids) if compacts else nullcontext() as lookup:
            if lookup is not None:
                training = (relabel(training[0], lookup), *training[1:])
                validation = validation and (relabel(validation[0], lookup), *validation[1:])
            # training reads all of them; of the word embeddings the rows that the texts use, if those are what is left here
            check_finite(module.state_dict(), str(self.checkpoint))
            was_fitted = vars(self).get("module_") is module
            self.module_ = module.to(device)
            module.backbone.gradient_checkpointing = self.gradient_checkpointing
            optimizer = make_optimizer(
                module,
                learning_rate=self.learning_rate,
                head_learning_rate=self.head_learning_rate,
                layer_decay=self.layer_decay,
                weight_decay=self.weight_decay,
            )
            settings = LoopSettings(
                max_epochs=self.max_epochs,
                batch_size=self.batch_size,
                accumulate=self.accumulate,
                schedule=self.schedule,
                warmup_ratio=self.warmup_ratio,
                max_grad_norm=self.max_grad_norm,
                early_stopping=self.early_stopping,
                n_iter_no_change=self.n_iter_no_change,
                tol=self.tol,
                verbose=int(self.verbose),
                autocast=resolve_autocast(self.dtype, device, training=True),
            )
            words = None if lookup is None else np.flatnonzero(lookup >= 0)
            if moments is not None:
                # nobody knows how many steps are to come: there is nothing to lay a schedule out for
                settings = replace(settings, max_epochs=1, schedule="constant", warmup_ratio=0.0, early_stopping=False)
                moments.restore(optimizer, module, words)
            validate = (lambda: self._validation_score(*validation)) if validation else None
            renew = draw_rows and (lambda rng: self._make_task(draw_rows(rng), *training[1:]))
            if keeper is not None:
                still = digest_of_still_weights(module, embeddings, lookup)
                about = self._about_fit(data, device, settings) | {STILL_WEIGHTS: still}
                keeper.attach(module, optimizer, rng, about)
            if watcher is not None:
                watcher.copy_module = lambda: self._finished(whole_copy(module, embeddings, lookup))
            goes_on = was_fitted and moments is None
            try:
                task = self._make_task(*training)
                with undone_on_failure(optimizer) if goes_on else nullcontext():
                    history = fit_loop(module, task, optimizer, settings, rng, validate, renew, keeper, watcher)
            finally:
                module.eval()  # after an error or an interrupt too: what is left predicts without dropout
            if moments is not None:
                moments.keep(optimizer, module, words)
            return history

    def _drawing(self, texts: Any, rows: np.ndarray | None):
        """What gives the training rows with segmentations drawn anew, None where they stay the same."""
        if self.subword_sampling is None:
            return None

        def draw(rng: np.random.Generator) -> Rows:
            sampling = SubwordSampling(-1, self.subword_sampling, int(rng.integers(2**32)))
            return take_rows(self._encode_training(texts, sampling), rows)

        return draw

    def _about_fit(self, data, device: torch.device, settings: LoopSettings) -> dict[str, str]:
        """What tells this fit from others: all that decides about its result, in words or as a digest."""
        # at a constant rate every step is the same, however many follow
        free = settings.schedule == "constant" and not settings.warmup_ratio
        left_out = {*_BESIDE_THE_FIT, *(["max_epochs"] if free else [])}
        params = {name: value for name, value in self.get_params(deep=False).items() if name not in left_out}
        (encoded, targets, weights), validation = data
        return {
            "the estimator": type(self).__name__,
            **{name: in_words(value) for name, value in params.items()},
            "the device": device.type,
            "the precision": str(settings.autocast or torch.float32),
            "the checkpoint's geometry": digest(self.config_.to_dict()),
            "the training texts": digest(encoded),
            "the targets": digest(targets),
            "the weights of the rows": digest(weights),
            "the validation data": digest(validation),
        }

    def _check_rows(
        self, X, y, sample_weight, reset: bool, X_name: str = "X", y_name: str = "y", reset_X: bool | None = None
    ):
        """Rows, their targets and their weights; ``reset`` learns what the targets mean."""
        rows = self._check_X(X, X_name == "X" if reset_X is None else reset_X, X_name)
        if y is None and get_tags(self).target_tags.required:
            raise ValueError(f"{type(self).__name__} requires {y_name} to be passed, but the target {y_name} is None")
        weights = check_weights(sample_weight, len(rows))
        return rows, self._check_targets(y, rows, weights, reset, y_name), weights

    def _weigh_targets(self, weights: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Sample weights times class weights, where there are any."""
        return weights

    def _split(self, training, seed: int):
        """Set ``validation_fraction`` of the rows aside; returns both parts and the rows of the first."""
        _, targets, weights = training
        n_rows = len(weights)
        n_val = self._n_validation(n_rows)
        if n_val >= n_rows:
            raise ValueError(
                f"early_stopping sets {n_val} of {n_rows} rows aside (validation_fraction={self.validation_fraction}) and "
                "leaves none to train on: pass more rows, or X_val"
            )
        train_rows, val_rows = train_test_split(
            np.arange(n_rows),
            test_size=self.validation_fraction,
            random_state=seed,
            stratify=self._strata(targets),
        )
        return take(training, train_rows), take(training, val_rows), train_rows

    def _n_validation(self, n_rows: int) -> int:
        """How many rows ``validation_fraction`` sets aside."""
        return math.ceil(self.validation_fraction * n_rows)

    def _check_validation(self, validation) -> None:
        """Refuse validation data that has no score."""
        if validation is not None and len(validation[-1]) < self._fewest_validation_rows:
            raise ValueError(
                f"the validation score of {type(self).__name__} needs at least {self._fewest_validation_rows} rows, got "
                f"{len(validation[-1])}: raise validation_fraction, or pass X_val and y_val"
            )

    def _strata(self, targets: np.ndarray | None) -> np.ndarray | None:
        """What the validation split keeps the proportions of."""
        return None


# Parameters that do not change what a fit comes to, or whose effect is looked at itself.
_BESIDE_THE_FIT = ("checkpoint_dir", "checkpoint_every", "verbose", "device", "dtype")
