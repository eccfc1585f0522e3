"""Constructor parameters, each declared once for the whole library: default, type, constraint and text.

A parameter is a dataclass field. Parameters that several estimators share form groups: plain dataclasses that an estimator
inherits next to its base class. A group that refines parameters of the base class does not inherit from that class's group: a
dataclass hands on all its fields, inherited ones too, and they would replace the base class's own. A parameter that only one
estimator has is declared in its class. The constructor, ``_parameter_constraints`` and the parameter section of the docstring
are made from these declarations.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from functools import wraps
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, Literal, TypeVar, dataclass_transform

import numpy as np
from joblib import Memory

from skxlmr.estimators.docstrings import completed
from skxlmr.estimators.other_words import misspelt
from skxlmr.inference import Cache
from skxlmr.training import SCHEDULES
from skxlmr.utils._devices.device import Device
from skxlmr.utils._sklearn import Interval, StrOptions

if TYPE_CHECKING:
    import torch

Class = TypeVar("Class")

AT_LEAST_0, AT_LEAST_1 = (Interval(Integral, least, None, closed="left") for least in (0, 1))
NOT_NEGATIVE, POSITIVE = (Interval(Real, 0, None, closed=closed) for closed in ("left", "neither"))


def parameter(default: Any, constraint: list[Any], text: str, kw_only: bool = True) -> Any:  # a field, of any type
    """Declare a parameter.

    Parameters
    ----------
    default : object
    constraint : list
        Valid values, for scikit-learn's validation; the docstring states their types.
    text : str
        What it does, for the docstring.
    kw_only : bool
        Whether it can be passed by name only.
    """
    return field(default=default, kw_only=kw_only, metadata={"constraint": constraint, "text": text})


def positional(*, default: Any, constraint: list[Any], text: str, kw_only: bool) -> Any:
    """Declare the parameter that can be passed by position; type checkers read ``kw_only=False`` in the call."""
    return parameter(default, constraint, text, kw_only)


def changed(group: type, name: str, default: Any, text: str | None = None, constraint: list[Any] | None = None) -> Any:
    """The parameter ``name`` of a group, with another default and, where given, another text or constraint."""
    (declared,) = (each.metadata for each in fields(group) if each.name == name)
    return parameter(default, constraint or declared["constraint"], text or declared["text"])


@dataclass_transform(eq_default=False, kw_only_default=True, field_specifiers=(positional,))
def parameters(cls: type[Class]) -> type[Class]:
    """Turn a class with parameters as fields into a dataclass: a group, or a base of estimators with parameters."""
    return dataclass(eq=False, repr=False, kw_only=True)(cls)


@dataclass_transform(eq_default=False, kw_only_default=True, field_specifiers=(positional,))
def estimator(cls: type[Class]) -> type[Class]:
    """Complete an estimator: its constructor, its constraints, and the parts of its docstring in braces."""
    cls = parameters(cls)
    declared = {each.name: each for each in fields(cls)}  # type: ignore[arg-type]  # it is a dataclass now
    constructor = cls.__init__

    @wraps(constructor)
    def __init__(self: Any, *args: Any, **params: Any) -> None:
        if unknown := params.keys() - declared.keys():
            raise TypeError(misspelt(type(self), min(unknown), list(declared)))
        constructor(self, *args, **params)

    cls.__init__ = __init__  # type: ignore[method-assign]  # which takes the same, and names what it does not take
    constraints = {name: each.metadata["constraint"] for name, each in declared.items()}
    cls._parameter_constraints = constraints  # type: ignore[attr-defined]
    assert cls.__doc__ is not None
    cls.__doc__ = completed(cls.__doc__, declared.values())
    return cls


@parameters
class CheckpointParameters:
    """Parameters of every estimator: which checkpoint, and how it runs."""

    checkpoint: str | os.PathLike[str] = positional(
        default="FacebookAI/xlm-roberta-base",
        constraint=[str, os.PathLike],
        text="Name on the Hugging Face hub, a local folder with ``config.json``, weights and tokenizer, or "
        "``'skxlmr-mini'``, the small checkpoint that ships with the package.",
        kw_only=False,
    )
    revision: str | None = parameter(
        None, [str, None], "Branch, tag or commit of a checkpoint on the hub. None is the main branch."
    )
    max_length: int | None = parameter(
        None,
        [Interval(Integral, 4, None, closed="left"), None],
        "Most tokens of a row, special tokens included; longer rows are cut, counted and warned about. None is as "
        "many as the checkpoint's tokenizer (``model_max_length``) and positions allow.",
    )
    batch_size: int = parameter(
        32,
        [AT_LEAST_1],
        "Texts run in batches of up to ``32 * batch_size`` tokens of a base-size model, more of a smaller one, and "
        "``1024 * batch_size`` on a GPU, whatever their number. Results differ by rounding at most.",
    )
    device: str | torch.device = parameter(
        "auto",
        [str, Device],
        "``'auto'`` takes CUDA, then MPS, then the CPU; or a PyTorch device such as ``'cuda:1'``.",
    )
    dtype: str = parameter(
        "auto",
        [StrOptions({"auto", "float32", "bfloat16", "float16", "int8"})],
        "Precision of the computation; weights stay float32 while they are trained. ``'auto'`` is bfloat16 for "
        "training where the hardware is fast at it, and for predictions on such a GPU; on a GPU that is fast in "
        "float16 only (T4, V100) it is ``'float16'``, which trains with a scaled loss; predictions on a CPU are "
        "float32. ``'bfloat16'`` takes many times as long as float32 on x86 CPUs without AVX-512, which is warned of. "
        "``'int8'`` is for predictions on CPUs with AVX512-VNNI or AMX, and trains as ``'auto'`` does.",
    )
    verbose: int = parameter(
        0,
        ["verbose"],
        "0 is silent; 1 shows a progress bar for fits, and for predictions and features that take more than a few "
        "seconds.",
    )
    store_weights_in_pickle: bool = parameter(
        False,
        ["boolean"],
        "Whether a pickle of the fitted estimator always holds all weights and the tokenizer. False leaves out what is "
        "still the checkpoint's, as long as the word embeddings are: such a pickle is small, and needs the checkpoint "
        "where it is read.",
    )


@parameters
class MemoryParameters:
    """Parameters of estimators whose encoder a fit does not change, as a whole or in its lowest layers."""

    memory: str | os.PathLike[str] | Memory | Cache | None = parameter(
        "auto",
        [str, os.PathLike, Memory, Cache, None],
        "Where outputs of the encoder are kept, so that each text is encoded once over all folds and candidates of a search. "
        "``'auto'`` keeps up to 1 GiB in this process, shared by all estimators; a folder or a ``joblib.Memory`` keeps them on "
        "disk, where processes share them and later runs find them; a :class:`skxlmr.Cache` says how much is kept, too. None "
        "keeps nothing.",
    )


@parameters
class TrainingParameters(CheckpointParameters):
    """Parameters of every estimator that trains."""

    batch_size: int = changed(
        CheckpointParameters,
        "batch_size",
        16,
        "Rows of a training batch. Predictions run in batches of up to ``32 * batch_size`` tokens of a base-size model, "
        "more of a smaller one, and ``1024 * batch_size`` on a GPU, whatever their number of rows.",
    )
    max_epochs: int = parameter(5, [AT_LEAST_1], "Number of passes over the training data, fewer with early stopping.")
    accumulate: int = parameter(
        1, [AT_LEAST_1], "Batches whose gradients are summed before each step; the step equals that of one large batch."
    )
    learning_rate: float | Literal["auto"] = parameter(
        "auto",
        [POSITIVE, StrOptions({"auto"})],
        "Peak learning rate of the encoder's top layer. ``'auto'`` chooses by the checkpoint's hidden size: 3e-4 up to 320, "
        "1e-4 up to 512, 3e-5 up to 768 (base), 1e-5 up to 1024 (large), 5e-6 beyond, and ten times that with ``lora_rank``; "
        "``learning_rate_`` is the rate that was used.",
    )
    head_learning_rate: float | None = parameter(
        None, [POSITIVE, None], "Learning rate of the head. None is that of the encoder's top layer."
    )
    layer_decay: float = parameter(
        1.0,
        [Interval(Real, 0, 1, closed="right")],
        "Factor of the learning rate from each layer to the one below it; 1 is the same rate for all.",
    )
    weight_decay: float = parameter(
        0.01, [NOT_NEGATIVE], "Decoupled weight decay of AdamW; biases and layer norms are exempt."
    )
    warmup_ratio: float = parameter(
        0.1, [Interval(Real, 0, 1, closed="both")], "Share of all steps during which the learning rate rises from zero."
    )
    schedule: str = parameter(
        "linear", [StrOptions(set(SCHEDULES))], "How the learning rate changes after the warm-up."
    )
    max_grad_norm: float | None = parameter(
        1.0, [POSITIVE, None], "Norm to which the gradient is clipped. None does not clip."
    )
    lora_rank: int | None = parameter(
        None,
        [AT_LEAST_1, None],
        "Rank of low-rank adapters (LoRA, Hu et al. 2021): the fit trains these, the head and what the checkpoint lacks, and "
        "leaves all other weights as they are, a checkpoint's language modelling head too; afterwards the adapters are merged "
        "into the weights. 8 is usual. None trains the weights themselves.",
    )
    lora_alpha: float = parameter(
        8.0,
        [POSITIVE],
        "Updates of the adapters are scaled by ``lora_alpha / lora_rank``, so that a rate that suits one rank suits others.",
    )
    lora_dropout: float = parameter(
        0.0, [Interval(Real, 0, 1, closed="left")], "Dropout of the inputs of the adapters, in the fit."
    )
    lora_targets: str | Sequence[str] = parameter(
        "auto",
        [StrOptions({"auto", "all-linear"}), list, tuple],
        "Layers that get an adapter. ``'auto'`` is the projections to queries and values, as in peft; ``'all-linear'`` every "
        "linear layer of the encoder; a list names layers by the ends of their names, such as ``['query', 'output.dense']``. "
        "Frozen layers get none.",
    )
    n_frozen_layers: int = parameter(
        0,
        [AT_LEAST_0],
        "Number of lowest layers that keep their weights, as do the embeddings; dropout is off there. 0 trains "
        "everything.",
    )
    memory: str | os.PathLike[str] | Memory | Cache | None = changed(
        MemoryParameters,
        "memory",
        "auto",
        "Where the states after the frozen layers (``n_frozen_layers``) are kept, so that each row is computed there once over "
        "all epochs, folds, candidates and predictions, with the same result. ``'auto'`` keeps up to 1 GiB in this process, "
        "shared by all estimators; a folder or a ``joblib.Memory`` keeps them on disk, where processes share them and later "
        "runs find them; a :class:`skxlmr.Cache` says how much is kept, too. None keeps nothing. Without frozen layers it has "
        "no effect.",
    )
    gradient_checkpointing: bool = parameter(
        False, ["boolean"], "Recompute each layer in the backward pass: less memory, about a third slower."
    )
    early_stopping: bool = parameter(
        False,
        ["boolean"],
        "Stop when the validation score has not risen by ``tol`` for ``n_iter_no_change`` epochs, and keep the "
        "weights of the best epoch.",
    )
    validation_fraction: float = parameter(
        0.1,
        [Interval(Real, 0, 1, closed="neither")],
        "Share of the training data set aside for early stopping when ``X_val`` is not given.",
    )
    n_iter_no_change: int = parameter(2, [AT_LEAST_1], "Epochs without improvement before early stopping.")
    tol: float = parameter(1e-4, [NOT_NEGATIVE], "Smallest rise of the validation score that counts as an improvement.")
    scoring: str | Callable[..., float] | None = parameter(
        None,
        [str, callable, None],
        "What scores the validation data after each epoch, for ``validation_scores_`` and early stopping; higher is better. "
        "None is what ``score`` returns, for several labels per row minus the loss. ``'loss'`` is minus the loss. Or a scorer "
        "of scikit-learn: its name, such as ``'f1_macro'``, or a callable with the arguments estimator, X and y.",
    )
    warm_start: bool = parameter(
        False, ["boolean"], "Let ``fit`` continue from the weights of the last fit instead of the checkpoint's."
    )
    random_state: int | np.random.RandomState | None = parameter(
        None, ["random_state"], "Seed of everything random in ``fit``; an int makes it repeatable."
    )
    resume_dir: str | os.PathLike[str] | None = parameter(
        None,
        [str, os.PathLike, None],
        "Folder for the state of a fit, from which ``fit(..., resume=True)`` continues after an interrupt; one "
        "fit at a time. ``fit(..., resume='auto')`` keeps those of many fits there, each in a folder of its own. None keeps no "
        "state.",
    )
    resume_every: int | None = parameter(
        None,
        [AT_LEAST_1, None],
        "Write the state after this many optimiser steps, and at the end of the fit. None writes it after each epoch.",
    )


@parameters
class LanguageModelParameters(TrainingParameters):
    """Parameters of estimators that learn from raw texts: shorter fits at a higher learning rate."""

    max_epochs: int = changed(TrainingParameters, "max_epochs", 3)
    learning_rate: float | Literal["auto"] = changed(
        TrainingParameters,
        "learning_rate",
        "auto",
        "Peak learning rate of the encoder's top layer. ``'auto'`` chooses by the checkpoint's hidden size: 5e-4 up to 320, "
        "2e-4 up to 512, 5e-5 up to 768 (base), 2e-5 up to 1024 (large), 1e-5 beyond, and ten times that with ``lora_rank``; "
        "``learning_rate_`` is the rate that was used.",
    )


@parameters
class SamplingParameters:
    """Parameters of estimators whose tokenizer can draw segmentations."""

    subword_sampling: float | None = parameter(
        None,
        [NOT_NEGATIVE, None],
        "Draw a new segmentation of every training text in each epoch (subword regularisation, Kudo 2018). Their "
        "probabilities are raised to this power: 0 makes all equally likely, 1 keeps the model's own; 0.1 to 0.5 "
        "is usual. None takes the best segmentation, as predictions always do. Needs a SentencePiece unigram "
        "tokenizer.",
    )


@parameters
class TextParameters:
    """Parameters of estimators that read texts."""

    missing: str = parameter(
        "error",
        [StrOptions({"error", "empty"})],
        "What a missing text (None, NaN, NA or NaT) is: ``'error'`` refuses it and names its row, ``'empty'`` reads it as an "
        "empty text. White space is text.",
    )


@parameters
class PairParameters(TextParameters):
    """Parameters of estimators that read texts or pairs of texts."""

    pairs: str | bool = parameter(
        "auto",
        ["boolean", StrOptions({"auto"})],
        "Whether two columns are pairs of texts. ``'auto'`` reads them as pairs, and warns in ``fit`` if the second one looks "
        "like a category. True does not warn, and refuses one column; False refuses two.",
    )


@parameters
class LongTextParameters(PairParameters):
    """Parameters of estimators with one output per text that can read long texts in windows."""

    long_text: str = parameter(
        "truncate",
        [StrOptions({"truncate", "window"})],
        "What happens to rows longer than ``max_length`` tokens. ``'truncate'`` cuts them at the end, counts and "
        "warns. ``'window'`` reads all of them in windows of ``max_length`` tokens and averages their outputs; of "
        "a pair the longer text is split into windows, each paired with the whole of the other text.",
    )
    stride: int = parameter(0, [AT_LEAST_0], "Tokens that neighbouring windows share, with ``long_text='window'``.")


@parameters
class LabelSmoothingParameters:
    """Parameters of estimators that learn classes."""

    label_smoothing: float = parameter(
        0.0,
        [Interval(Real, 0, 1, closed="left")],
        "Share of the target that is spread evenly over all classes (Szegedy et al. 2016).",
    )


@parameters
class MaskingParameters:
    """Parameters of estimators that learn to fill masks."""

    mask_probability: float = parameter(
        0.15,
        [Interval(Real, 0, 1, closed="neither")],
        "Share of the tokens that are predicted; of these 80 % are masked, 10 % replaced, 10 % kept.",
    )
