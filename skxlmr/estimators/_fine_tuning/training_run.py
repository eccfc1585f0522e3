"""From rows and targets to trained weights: a module, an optimiser and the fit loop, set up from an estimator's parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, fields, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from skxlmr.checkpoints import check_finite, moved
from skxlmr.estimators._core.callbacks import CallbackWatcher
from skxlmr.estimators._fine_tuning.adapters import lora_settings
from skxlmr.estimators._fine_tuning.frozen import frozen_prefix
from skxlmr.estimators._fine_tuning.scoring import LOSS, ScoredRows
from skxlmr.estimators._fine_tuning.training_rows import Encoded, TrainingRows, named_as_passed
from skxlmr.training import (
    STILL_WEIGHTS,
    AdamState,
    History,
    LoopSettings,
    LossScale,
    StateKeeper,
    compact_vocabulary,
    current_processes,
    digest,
    digest_of_still_weights,
    fit_loop,
    freeze,
    in_words,
    make_optimizer,
    spare_rows,
    training_adapters,
    undone_on_failure,
    whole_copy,
)
from skxlmr.utils._devices.device import autocast, resolve_device, resolve_precision, warn_if_slow
from skxlmr.utils._devices.gpu_queue import turn
from skxlmr.utils._errors import CheckpointError
from skxlmr.utils._imports.later import torch

if TYPE_CHECKING:
    from torch import nn

    from skxlmr.nn import TaskModule

# Parameters that do not change the result of a fit, or whose effect is compared instead.
BESIDE_THE_FIT: tuple[str, ...] = ("resume_dir", "resume_every", "verbose", "device", "dtype", "memory")
OF_TRANSFORM = ("pooling", "normalize", "prompt", "truncate_dim")  # whose vectors few estimators train
BESIDE_THE_FIT += OF_TRANSFORM


@dataclass
class TrainingRun:
    """One run of the fit loop.

    Parameters
    ----------
    estimator : FineTuned
    module : TaskModule
        Trained in place; becomes the estimator's ``module_``.
    training, validation : TrainingRows
        ``validation`` is None without validation data.
    seed : int
        Seed of the order of the rows, of masks and of whatever else a task draws.
    redraw : callable or None
        Returns the training rows with redrawn segmentations.
    rows : ndarray of int or None
        Numbers of the training rows in X, for errors.
    adam_state : AdamState, optional
        State of AdamW after the previous ``partial_fit``; the run is then a single pass at a constant learning rate.
    keeper : StateKeeper, optional
        Writes the state of the fit.
    watcher : CallbackWatcher, optional
    scored : ScoredRows, optional
        The validation data as it was passed, with the scorer that takes it.
    """

    estimator: Any
    module: TaskModule
    training: TrainingRows
    validation: TrainingRows | None
    seed: int
    redraw: Callable[[np.random.Generator], Encoded] | None
    rows: np.ndarray | None
    adam_state: AdamState | None = None
    keeper: StateKeeper | None = None
    watcher: CallbackWatcher | None = None
    scored: ScoredRows | None = None
    _history: History | None = field(default=None, init=False)  # once the loop has ended

    def run(self) -> History:
        """Train; whatever happens, the module is left in eval mode and in its final units."""
        with self._interrupted_later(), autocast(resolve_device(self.estimator.device), None):
            self._run()
        assert self._history is not None
        return self._history

    @contextmanager
    def _interrupted_later(self) -> Iterator[None]:
        """Keep an interrupt in the history once the loop has ended, so that what was trained gets its final form."""
        try:
            yield
        except KeyboardInterrupt as interrupt:
            if self._history is None:
                raise
            self._history.interrupted = interrupt

    def _run(self) -> None:
        estimator, module = self.estimator, self.module
        is_fitted = vars(estimator).get("module_") is module
        compacts = estimator._compacts_vocabulary and not estimator.n_frozen_layers and self.redraw is None
        ids = [*self.training.ids, *(self.validation.ids if self.validation else [])]
        embeddings = module.backbone.get_input_embeddings()
        undo = is_fitted and self.adam_state is None
        with estimator._in_training_units(module, is_fitted):
            freeze(module, estimator.n_frozen_layers, estimator._trains_vectors)
            with training_adapters(module, lora_settings(estimator), keeps_failed=not undo) as goes_on:
                if self.adam_state is not None and not goes_on:
                    self.adam_state.forget(".lora_")
                vocabulary = compact_vocabulary(module.backbone, *ids) if compacts else nullcontext()
                with self._interrupted_later(), vocabulary as lookup, turn(resolve_device(estimator.device)):
                    self._train(embeddings, lookup, undo)

    def _train(self, embeddings: nn.Embedding, lookup: np.ndarray | None, undo: bool) -> None:
        """Run the loop; ``embeddings`` are those of the whole vocabulary, ``lookup`` its ids in a compact one."""
        from skxlmr.nn.backbone import starting_from

        estimator, module, training, validation = self.estimator, self.module, self.training, self.validation
        if lookup is not None:
            training = training.relabelled(lookup)
            validation = validation and validation.relabelled(lookup)
        # training reads all weights; a compact vocabulary has only the word embeddings that the texts use
        is_fitted = vars(estimator).get("module_") is module  # perhaps by a partial_fit that diverged
        check_finite(
            module.state_dict(), f"the fitted {type(estimator).__name__}" if is_fitted else str(estimator.checkpoint)
        )
        device = resolve_device(estimator.device)
        moved(module, lambda: module.to(device))
        estimator.module_ = module
        module.backbone.gradient_checkpointing = estimator.gradient_checkpointing
        optimizer = make_optimizer(
            module,
            learning_rate=estimator.learning_rate_,
            head_learning_rate=estimator.head_learning_rate,
            layer_decay=estimator.layer_decay,
            weight_decay=estimator.weight_decay,
        )
        if lookup is not None and validation and not estimator.lora_rank:
            only_validated = np.setdiff1d(np.concatenate(validation.ids), np.concatenate(training.ids))
            spare_rows(optimizer, module.backbone.get_input_embeddings().weight, only_validated)
        settings, rng = self._settings(device), np.random.default_rng(self.seed)
        words = None if lookup is None else np.flatnonzero(lookup >= 0)
        loss_scale = LossScale() if settings.autocast == torch.float16 else None
        if self.adam_state is not None:
            self.adam_state.restore(optimizer, module, words)
            loss_scale = self.adam_state.loss_scale = loss_scale and (self.adam_state.loss_scale or loss_scale)

        def copy_module() -> TaskModule:
            return estimator._to_final_units(whole_copy(module, embeddings, lookup, lora_settings(estimator)))

        if self.watcher is not None:
            self.watcher.copy_module = copy_module
        validate = partial(self._validation_score, validation, copy_module) if validation else None
        redraw = self.redraw
        renew = redraw and (lambda rng: estimator._make_task(replace(training, encoded=redraw(rng))))
        n_tokens = sum(map(len, [*training.ids, *(validation.ids if validation else [])]))
        prefix = frozen_prefix(estimator, module, n_tokens)
        processes = current_processes()
        try:
            about = {} if self.keeper is None and processes is None else self._about(device, settings)
            if self.keeper is not None:
                still = digest_of_still_weights(module, embeddings, lookup)
                about_state = about | {STILL_WEIGHTS: still}
                if prefix is not None and prefix.rounds:
                    about_state["the states of frozen layers"] = "bfloat16"
                if processes is not None:
                    about_state["the number of processes"] = str(processes.size)
                self.keeper.attach(module, optimizer, rng, about_state, loss_scale)
            task = estimator._make_task(training)
            undoing = undone_on_failure(optimizer) if undo else nullcontext()
            in_step = nullcontext() if processes is None else processes.in_step()
            if processes is not None:
                processes.check(about | self._about_processes(settings), device)
            with undoing:
                with in_step, named_as_passed(self.rows), starting_from(prefix):
                    history = fit_loop(
                        module,
                        task,
                        optimizer,
                        settings,
                        rng,
                        validate,
                        renew,
                        self.keeper,
                        self.watcher,
                        loss_scale,
                        processes,
                    )
                _check_trained(module)
            self._history = history  # from here on nothing is undone
            if processes is not None and history.interrupted:
                processes.leave()
        finally:
            module.eval()  # after an error or an interrupt too: what is left predicts without dropout
            if self.keeper is not None:
                self.keeper.close()
        if self.adam_state is not None:
            self.adam_state.keep(optimizer, module, words)

    def _validation_score(self, validation: TrainingRows, copy_module: Callable[[], TaskModule]) -> float:
        """Score of the module as it is now."""
        if self.scored is not None:
            return self.scored.score(self.estimator, copy_module())
        if self.estimator.scoring == LOSS:
            return self.estimator._minus_loss(validation)
        return self.estimator._validation_score(validation)

    def _settings(self, device: torch.device) -> LoopSettings:
        estimator = self.estimator
        values = {each.name: getattr(estimator, each.name) for each in fields(LoopSettings) if each.name != "autocast"}
        values |= {"verbose": int(estimator.verbose)}
        processes = current_processes()
        if processes is not None and not processes.leads:
            values["verbose"] = 0
        settings = LoopSettings(**values, autocast=resolve_precision(estimator.dtype, device, training=True))
        if settings.autocast == torch.bfloat16:
            warn_if_slow(device)
        if self.adam_state is None:
            return settings
        # how many steps are to come is unknown, so there is no schedule
        return replace(settings, max_epochs=1, schedule="constant", warmup_ratio=0.0, early_stopping=False)

    def _about(self, device: torch.device, settings: LoopSettings) -> dict[str, str]:
        """Everything that determines the result of this fit, in words or as a digest."""
        estimator, training = self.estimator, self.training
        # at a constant rate every step is the same, however many follow
        free = settings.schedule == "constant" and not settings.warmup_ratio
        left_out = {*BESIDE_THE_FIT, *(["max_epochs"] if free else [])}
        left_out -= {*OF_TRANSFORM} if estimator._trains_vectors else set()
        params = {name: value for name, value in estimator.get_params(deep=False).items() if name not in left_out}
        if params.get("scoring") is None:
            params.pop("scoring", None)  # which earlier versions did not have
        if params["lora_rank"] is None:  # the others have no effect, and earlier versions had none of them
            params = {name: value for name, value in params.items() if not name.startswith("lora_")}
        params["learning_rate"] = estimator.learning_rate_  # "auto" is the same fit as its rate
        validation = self.validation
        return {
            "the estimator": type(estimator).__name__,
            **{name: in_words(value) for name, value in params.items()},
            "the device": device.type,
            "the precision": str(settings.autocast or torch.float32),
            "the checkpoint's geometry": digest(estimator.config_.to_dict()),
            "the training texts": digest(training.encoded),
            "the targets": digest(training.targets),
            "the weights of the rows": digest(training.weights),
            "the validation data": digest(validation and (validation.encoded, validation.targets, validation.weights)),
        }

    def _about_processes(self, settings: LoopSettings) -> dict[str, str]:
        """What else has to be the same in all processes that share this fit."""
        return {
            "max_epochs": str(settings.max_epochs),
            "the classes": digest(self.estimator._class_codes(self.training)[2]),
            "the weights of the model": digest(list(self.module.state_dict().items())),
            "the state in resume_dir": digest(self.keeper and self.keeper.continues_from),
        }


def _check_trained(module: TaskModule) -> None:
    """Refuse weights that the last step made infinite, which shows in no loss any more."""
    try:
        check_finite({name: each for name, each in module.named_parameters() if each.requires_grad}, "")
    except CheckpointError:
        raise FloatingPointError(
            "the weights are not finite after the last step: lower learning_rate or raise warmup_ratio, or set max_grad_norm"
        ) from None
