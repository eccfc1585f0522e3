"""Constructor parameters, each declared once for the whole library: default, type, constraint and text.

A parameter is a dataclass field. Parameters that several estimators share form groups: plain dataclasses that an estimator
inherits next to its base class. A parameter that only one estimator has is declared in its class. The constructor,
``_parameter_constraints`` and the parameter section of the docstring are made from these declarations.
"""

import os
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from functools import wraps
from numbers import Integral, Real
from typing import Any, TypeVar, dataclass_transform

import numpy as np
import torch

from skxlmr.training import SCHEDULES
from skxlmr.utils._sklearn import Interval, StrOptions

Class = TypeVar("Class")

AT_LEAST_0, AT_LEAST_1 = (Interval(Integral, least, None, closed="left") for least in (0, 1))
NOT_NEGATIVE, POSITIVE = (Interval(Real, 0, None, closed=closed) for closed in ("left", "neither"))

# What other libraries call our parameters: transformers, sentence-transformers, setfit, keras, lightning, skorch, scikit-learn.
_THEIR_WORDS = {
    "accumulate": "accumulate_grad_batches gradient_accumulation_steps",
    "allow_no_answer": "handle_impossible_answer",
    "batch_size": "eval_batch_size mini_batch_size per_device_eval_batch_size per_device_train_batch_size train_batch_size",
    "candidate_labels": "labels",
    "checkpoint": "base_model ckpt model model_id model_name model_name_or_path model_path name_or_path path pretrained "
    "pretrained_model_name_or_path",
    "class_weight": "class_weights",
    "device": "accelerator device_map no_cuda use_cpu use_cuda use_gpu",
    "dtype": "amp bf16 fp16 precision torch_dtype",
    "early_stopping": "load_best_model_at_end restore_best_weights",
    "label_all_subwords": "label_all_tokens",
    "label_smoothing": "label_smoothing_factor",
    "lang": "language src_lang",
    "layer_decay": "layerwise_lr_decay llrd lr_decay",
    "learning_rate": "body_learning_rate encoder_learning_rate eta0 learning_rate_init lr",
    "long_text": "truncation",
    "mask_probability": "mlm_probability",
    "max_answer_length": "max_answer_len",
    "max_epochs": "epochs max_iter n_epochs n_iter num_epochs num_train_epochs",
    "max_grad_norm": "clipnorm gradient_clip_val",
    "max_length": "max_len max_seq_len max_seq_length model_max_length sequence_length",
    "multi_label": "multi_class",
    "n_frozen_layers": "freeze freeze_encoder freeze_layers",
    "n_iter_no_change": "early_stopping_patience patience",
    "no_answer_threshold": "null_score_diff_threshold",
    "normalize": "normalize_embeddings",
    "pooling": "pooling_mode",
    "random_state": "random_seed seed",
    "resume_dir": "default_root_dir output_dir resume_from_checkpoint",
    "resume_every": "save_steps",
    "schedule": "lr_scheduler lr_scheduler_type scheduler",
    "stride": "doc_stride",
    "tol": "early_stopping_threshold min_delta",
    "validation_fraction": "train_split validation_size validation_split",
    "verbose": "disable_tqdm enable_progress_bar show_progress_bar",
    "warmup_ratio": "num_warmup_steps warmup warmup_proportion warmup_steps",
}
OTHER_WORDS = {word: name for name, words in _THEIR_WORDS.items() for word in words.split()}


def parameter(
    *, default: Any, kind: str, text: str, constraint: list[Any], kw_only: bool = True
) -> Any:  # of the field's type, as type checkers read it
    """Declare a parameter.

    Parameters
    ----------
    default : object
    kind : str
        Its type, for the docstring.
    text : str
        What it does, for the docstring.
    constraint : list
        Valid values, for scikit-learn's validation.
    kw_only : bool
        Whether it can be passed by name only.
    """
    return field(default=default, kw_only=kw_only, metadata={"kind": kind, "text": text, "constraint": constraint})


def changed(group: type, name: str, *, default: Any, **changes: Any) -> Any:  # as of `parameter`
    """The parameter ``name`` of a group, with another default, ``kind``, ``text`` or ``constraint``.

    The default is always written, also where it stays the same: type checkers look for it here, and take a parameter without
    one for required.
    """
    declared = {each.name: each for each in fields(group)}[name]
    kept = {"kw_only": bool(declared.kw_only), **declared.metadata}
    return parameter(default=default, **kept | changes)


@dataclass_transform(eq_default=False, kw_only_default=True, field_specifiers=(parameter, changed))
def parameters(cls: type[Class]) -> type[Class]:
    """Turn a class with parameters as fields into a dataclass: a group, or a base of estimators with parameters."""
    return dataclass(eq=False, repr=False, kw_only=True)(cls)


@dataclass_transform(eq_default=False, kw_only_default=True, field_specifiers=(parameter, changed))
def estimator(cls: type[Class]) -> type[Class]:
    """Complete an estimator: its constructor, its constraints, and ``{parameters}`` in its docstring."""
    cls = parameters(cls)
    declared = {each.name: each for each in fields(cls)}  # type: ignore[arg-type]  # it is a dataclass now
    constructor = cls.__init__

    @wraps(constructor)
    def __init__(self: Any, *args: Any, **params: Any) -> None:
        if unknown := params.keys() - declared.keys():
            raise TypeError(misspelt(type(self).__name__, min(unknown), list(declared)))
        constructor(self, *args, **params)

    cls.__init__ = __init__  # type: ignore[method-assign]  # which takes the same, and names what it does not take
    cls._parameter_constraints = {  # type: ignore[attr-defined]
        name: each.metadata["constraint"] for name, each in declared.items()
    }
    entries = [
        f"{name} : {each.metadata['kind']}, default={each.default!r}\n" + each.metadata["text"]
        for name, each in declared.items()
    ]
    assert cls.__doc__ is not None
    indented = [entry.replace("\n", "\n        ") for entry in entries]
    cls.__doc__ = cls.__doc__.replace("{parameters}", "\n\n    ".join(indented))
    return cls


def misspelt(cls: str, name: str, known: list[str]) -> str:
    """Error message about a parameter that a class does not have; names the nearest one that it has."""
    nearest = OTHER_WORDS.get(name)
    if nearest not in known:
        nearest = next(iter(get_close_matches(name, known, n=1)), None)
    if nearest is None:
        return f"{cls} has no parameter {name!r}: it has {', '.join(known)}"
    return f"{cls} has no parameter {name!r}: did you mean {nearest!r}?"


@parameters
class CheckpointParameters:
    """Parameters of every estimator: which checkpoint, and how it runs."""

    checkpoint: str | os.PathLike[str] = parameter(
        default="FacebookAI/xlm-roberta-base",
        kind="str or path",
        text="Name on the Hugging Face hub, a local folder with ``config.json``, weights and tokenizer, or\n"
        "``'skxlmr-mini'``, the small checkpoint that ships with the package.",
        constraint=[str, os.PathLike],
        kw_only=False,
    )
    revision: str | None = parameter(
        default=None,
        kind="str or None",
        text="Branch, tag or commit of a checkpoint on the hub. None is the main branch.",
        constraint=[str, None],
    )
    max_length: int | None = parameter(
        default=None,
        kind="int or None",
        text="Most tokens of a row, special tokens included; longer rows are cut, counted and warned about. None is as\n"
        "many as the checkpoint allows.",
        constraint=[Interval(Integral, 4, None, closed="left"), None],
    )
    batch_size: int = parameter(
        default=32,
        kind="int",
        text="Texts run in batches of up to ``128 * batch_size`` tokens (eight times that on a GPU), whatever their number.",
        constraint=[AT_LEAST_1],
    )
    device: str | torch.device = parameter(
        default="auto",
        kind="str or torch.device",
        text="``'auto'`` takes CUDA, then MPS, then the CPU; or a PyTorch device such as ``'cuda:1'``.",
        constraint=[str, torch.device],
    )
    dtype: str = parameter(
        default="auto",
        kind="{'auto', 'float32', 'bfloat16'}",
        text="Precision of the computation; weights stay float32 while they are trained. ``'auto'`` is bfloat16 for training\n"
        "where the hardware is fast at it, and for predictions on such a GPU; predictions on a CPU are float32.",
        constraint=[StrOptions({"auto", "float32", "bfloat16"})],
    )


@parameters
class TrainingParameters(CheckpointParameters):
    """Parameters of every estimator that trains."""

    batch_size: int = changed(
        CheckpointParameters,
        "batch_size",
        default=16,
        text="Rows of a training batch. Predictions run in batches of up to ``128 * batch_size`` tokens (eight times that on\n"
        "a GPU), whatever their number of rows.",
    )
    max_epochs: int = parameter(
        default=5,
        kind="int",
        text="Number of passes over the training data, fewer with early stopping.",
        constraint=[AT_LEAST_1],
    )
    accumulate: int = parameter(
        default=1,
        kind="int",
        text="Batches whose gradients are summed before each step; the step equals that of one large batch.",
        constraint=[AT_LEAST_1],
    )
    learning_rate: float = parameter(
        default=3e-5,
        kind="float",
        text="Peak learning rate of the encoder's top layer.",
        constraint=[POSITIVE],
    )
    head_learning_rate: float | None = parameter(
        default=None,
        kind="float or None",
        text="Learning rate of the head. None is ``learning_rate``.",
        constraint=[POSITIVE, None],
    )
    layer_decay: float = parameter(
        default=1.0,
        kind="float",
        text="Factor of the learning rate from each layer to the one below it; 1 is the same rate for all.",
        constraint=[Interval(Real, 0, 1, closed="right")],
    )
    weight_decay: float = parameter(
        default=0.01,
        kind="float",
        text="Decoupled weight decay of AdamW; biases and layer norms are exempt.",
        constraint=[NOT_NEGATIVE],
    )
    warmup_ratio: float = parameter(
        default=0.1,
        kind="float",
        text="Share of all steps during which the learning rate rises from zero.",
        constraint=[Interval(Real, 0, 1, closed="both")],
    )
    schedule: str = parameter(
        default="linear",
        kind="{'linear', 'cosine', 'constant'}",
        text="How the learning rate changes after the warm-up.",
        constraint=[StrOptions(set(SCHEDULES))],
    )
    max_grad_norm: float | None = parameter(
        default=1.0,
        kind="float or None",
        text="Norm to which the gradient is clipped. None does not clip.",
        constraint=[POSITIVE, None],
    )
    n_frozen_layers: int = parameter(
        default=0,
        kind="int",
        text="Number of lowest layers that keep their weights, as do the embeddings; dropout is off there. 0 trains\n"
        "everything.",
        constraint=[AT_LEAST_0],
    )
    gradient_checkpointing: bool = parameter(
        default=False,
        kind="bool",
        text="Recompute each layer in the backward pass: less memory, about a third slower.",
        constraint=["boolean"],
    )
    early_stopping: bool = parameter(
        default=False,
        kind="bool",
        text="Stop when the validation score has not risen by ``tol`` for ``n_iter_no_change`` epochs, and keep the weights\n"
        "of the best epoch.",
        constraint=["boolean"],
    )
    validation_fraction: float = parameter(
        default=0.1,
        kind="float",
        text="Share of the training data set aside for early stopping when ``X_val`` is not given.",
        constraint=[Interval(Real, 0, 1, closed="neither")],
    )
    n_iter_no_change: int = parameter(
        default=2, kind="int", text="Epochs without improvement before early stopping.", constraint=[AT_LEAST_1]
    )
    tol: float = parameter(
        default=1e-4,
        kind="float",
        text="Smallest rise of the validation score that counts as an improvement.",
        constraint=[NOT_NEGATIVE],
    )
    warm_start: bool = parameter(
        default=False,
        kind="bool",
        text="Let ``fit`` continue from the weights of the last fit instead of the checkpoint's.",
        constraint=["boolean"],
    )
    random_state: int | np.random.RandomState | None = parameter(
        default=None,
        kind="int, RandomState instance or None",
        text="Seed of everything random in ``fit``; an int makes it repeatable.",
        constraint=["random_state"],
    )
    verbose: int = parameter(default=0, kind="int", text="0 is silent, 1 shows a progress bar.", constraint=["verbose"])
    resume_dir: str | os.PathLike[str] | None = parameter(
        default=None,
        kind="str, path or None",
        text="Folder for the state of a fit, from which ``fit(..., resume=True)`` continues after an interrupt; one fit at a\n"
        "time. None keeps no state.",
        constraint=[str, os.PathLike, None],
    )
    resume_every: int | None = parameter(
        default=None,
        kind="int or None",
        text="Write the state after this many optimiser steps, and at the end of the fit. None writes it after each epoch.",
        constraint=[AT_LEAST_1, None],
    )


@parameters
class LanguageModelParameters(TrainingParameters):
    """Parameters of estimators that learn from raw texts: shorter fits at a higher learning rate."""

    max_epochs: int = changed(TrainingParameters, "max_epochs", default=3)
    learning_rate: float = changed(TrainingParameters, "learning_rate", default=5e-5)


@parameters
class SamplingParameters:
    """Parameters of estimators whose tokenizer can draw segmentations."""

    subword_sampling: float | None = parameter(
        default=None,
        kind="float or None",
        text="Draw a new segmentation of every training text in each epoch (subword regularisation, Kudo 2018). Their\n"
        "probabilities are raised to this power: 0 makes all equally likely, 1 keeps the model's own; 0.1 to 0.5 is usual.\n"
        "None takes the best segmentation, as predictions always do. Needs a SentencePiece unigram tokenizer.",
        constraint=[NOT_NEGATIVE, None],
    )


@parameters
class LongTextParameters:
    """Parameters of estimators with one output per text that can read long texts in windows."""

    long_text: str = parameter(
        default="truncate",
        kind="{'truncate', 'window'}",
        text="What happens to rows longer than ``max_length`` tokens. ``'truncate'`` cuts them at the end, counts and warns.\n"
        "``'window'`` reads all of them in windows of ``max_length`` tokens and averages their outputs; of a pair the\n"
        "longer text is split into windows, each paired with the whole of the other text.",
        constraint=[StrOptions({"truncate", "window"})],
    )
    stride: int = parameter(
        default=0,
        kind="int",
        text="Tokens that neighbouring windows share, with ``long_text='window'``.",
        constraint=[AT_LEAST_0],
    )


@parameters
class PoolingParameters:
    """Parameters of estimators with ``transform``."""

    pooling: str = parameter(
        default="mean",
        kind="{'mean', 'cls', 'max'}",
        text="How token vectors become one: their mean, the first token's vector or their maximum.",
        constraint=[StrOptions({"mean", "cls", "max"})],
    )


@parameters
class LabelSmoothingParameters:
    """Parameters of estimators that learn classes."""

    label_smoothing: float = parameter(
        default=0.0,
        kind="float",
        text="Share of the target that is spread evenly over all classes (Szegedy et al. 2016).",
        constraint=[Interval(Real, 0, 1, closed="left")],
    )


@parameters
class MaskingParameters:
    """Parameters of estimators that learn to fill masks."""

    mask_probability: float = parameter(
        default=0.15,
        kind="float",
        text="Share of the tokens that are predicted; of these 80 % are masked, 10 % replaced, 10 % kept.",
        constraint=[Interval(Real, 0, 1, closed="neither")],
    )
