"""What every estimator that trains does: read the rows and their targets, split them, run the fit loop."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state, get_tags

from skxlmr.checkpoints import read_config
from skxlmr.estimators._base import BaseXLMRoberta
from skxlmr.nn import ModelConfig, TaskModule
from skxlmr.text import EncodedBatch, SubwordSampling
from skxlmr.training import SCHEDULES, History, LoopSettings, compact_vocabulary, fit_loop, freeze, make_optimizer
from skxlmr.utils._device import resolve_autocast, resolve_device
from skxlmr.utils._sklearn import Interval, StrOptions, check_sample_weight

Rows = dict[str, EncodedBatch | None]  # encoded rows by the name of their part


class FineTunedXLMRoberta(BaseXLMRoberta):
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
    }

    _head: str | None = None  # name of the part that starts anew in a first fit
    _optional_parts: Sequence[str] = ()  # parts that start anew in a first fit where the checkpoint has none
    _compacts_vocabulary = True  # false where every row of the word embeddings has a gradient

    # What differs -----------------------------------------------------------------------------------------------------

    def _check_targets(self, y: Any, rows: Any, weights: np.ndarray, reset: bool, name: str = "y") -> np.ndarray | None:
        """Targets of the rows with these weights as numbers; ``reset`` learns what they mean (classes, scale)."""
        raise NotImplementedError

    def _build(self, config: ModelConfig) -> TaskModule:
        """Module with the head."""
        raise NotImplementedError

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

    def _fit(self, X, y=None, sample_weight=None, X_val=None, y_val=None):
        if (X_val is None) != (y_val is None) and y is not None:
            raise ValueError("X_val and y_val belong together: pass both or neither")
        going_on = self.warm_start and hasattr(self, "module_")
        texts, targets, weights = self._check_rows(X, y, sample_weight, reset=not going_on)
        weights = weights if targets is None else self._weigh_targets(weights, targets)
        given = None if X_val is None else self._check_rows(X_val, y_val, None, False, "X_val", "y_val")
        random_state = check_random_state(self.random_state)
        seed = int(random_state.randint(np.iinfo(np.int32).max))

        with _seeded(seed):
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
            encoded = self._encode_training(texts)
            self.n_truncated_ = sum(
                int(np.count_nonzero(part.n_dropped)) for part in encoded.values() if part is not None
            )
            training, rows = (encoded, targets, weights), None
            if given is not None:
                validation = (self._encode_training(given[0]), *given[1:])
            elif self.early_stopping:
                training, validation, rows = self._split(training, seed)
            else:
                validation = None

            def draw(rng: np.random.Generator) -> Rows:
                sampling = SubwordSampling(-1, self.subword_sampling, int(rng.integers(2**32)))
                return _take(self._encode_training(texts, sampling), rows)

            draw_rows = None if self.subword_sampling is None else draw
            try:
                history = self._train(module, training, validation, np.random.default_rng(seed), draw_rows)
            except BaseException:
                if not going_on:  # a first fit that did not finish an epoch leaves no model behind
                    self.__dict__.pop("module_", None)
                raise
        self.loss_curve_ = history.loss_curve
        self.validation_scores_ = history.validation_scores if validation is not None else None
        self.n_iter_ = len(history.loss_curve)
        if history.interrupted:
            raise history.interrupted
        return self

    def _train(self, module: TaskModule, training, validation, rng: np.random.Generator, draw_rows=None) -> History:
        """Run the fit loop; ``draw_rows(rng)`` gives the training rows with segmentations drawn anew."""
        device = resolve_device(self.device)
        freeze(module, self.n_frozen_layers)
        compacts = self._compacts_vocabulary and not self.n_frozen_layers and draw_rows is None
        ids = [part.ids for rows in (training, validation) if rows for part in rows[0].values() if part is not None]
        with compact_vocabulary(module.backbone, *ids) if compacts else nullcontext() as lookup:
            if lookup is not None:
                training = (_relabel(training[0], lookup), *training[1:])
                validation = validation and (_relabel(validation[0], lookup), *validation[1:])
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
            validate = (lambda: self._validation_score(*validation)) if validation else None
            renew = draw_rows and (lambda rng: self._make_task(draw_rows(rng), *training[1:]))
            try:
                return fit_loop(module, self._make_task(*training), optimizer, settings, rng, validate, renew)
            finally:
                module.eval()  # after an error or an interrupt too: what is left predicts without dropout

    def _check_rows(self, X, y, sample_weight, reset: bool, X_name: str = "X", y_name: str = "y"):
        """Rows, their targets and their weights; ``reset`` learns what the targets mean."""
        rows = self._check_X(X, X_name == "X", X_name)
        if y is None and get_tags(self).target_tags.required:
            raise ValueError(f"{type(self).__name__} requires {y_name} to be passed, but the target {y_name} is None")
        weights = _check_weights(sample_weight, len(rows))
        return rows, self._check_targets(y, rows, weights, reset, y_name), weights

    def _weigh_targets(self, weights: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Sample weights times class weights, where there are any."""
        return weights

    def _split(self, training, seed: int):
        """Set ``validation_fraction`` of the rows aside; returns both parts and the rows of the first."""
        encoded, targets, weights = training
        train_rows, val_rows = train_test_split(
            np.arange(len(weights)),
            test_size=self.validation_fraction,
            random_state=seed,
            stratify=self._strata(targets),
        )

        def take(rows):
            return _take(encoded, rows), None if targets is None else targets[rows], weights[rows]

        return take(train_rows), take(val_rows), train_rows

    def _strata(self, targets: np.ndarray | None) -> np.ndarray | None:
        """What the validation split keeps the proportions of."""
        return None


def _check_weights(sample_weight: Any, n_rows: int) -> np.ndarray:
    if sample_weight is None:
        return np.ones(n_rows, np.float32)
    return check_sample_weight(sample_weight, np.empty(n_rows), dtype=np.float32, ensure_non_negative=True)


def _take(encoded: Rows, rows: np.ndarray | None) -> Rows:
    """These rows of the input from each part, or all."""
    if rows is None:
        return encoded
    return {name: None if part is None else part.take_input_rows(rows) for name, part in encoded.items()}


def _relabel(encoded: Rows, lookup: np.ndarray) -> Rows:
    """The same rows with the ids of the compact vocabulary."""
    return {name: None if part is None else replace(part, ids=lookup[part.ids]) for name, part in encoded.items()}


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed torch's global generators inside the block and leave them as they were found."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        yield
