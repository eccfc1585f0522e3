"""One text for each parameter that several estimators share, and where the documentation is."""

import inspect
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, metadata

SHARED = {
    "checkpoint": (
        "str or path",
        "Name on the Hugging Face hub, a local folder with ``config.json``, weights and tokenizer, or ``'skxlmr-mini'``, the\n"
        "small checkpoint that ships with the package.",
    ),
    "revision": ("str or None", "Branch, tag or commit of a checkpoint on the hub. None is its main branch."),
    "max_length": (
        "int or None",
        "Most tokens of a row, special tokens included; longer rows are cut, counted and warned about. None is as many as\n"
        "the checkpoint allows.",
    ),
    "long_text": (
        "{'truncate', 'window'}",
        "What happens to rows longer than ``max_length`` tokens. ``'truncate'`` cuts them at the end, counts and warns.\n"
        "``'window'`` reads all of them in windows of ``max_length`` tokens whose outputs are averaged; of a pair the longer\n"
        "text becomes windows, each beside the whole other one.",
    ),
    "stride": ("int", "Tokens that neighbouring windows share, with ``long_text='window'``."),
    "max_epochs": ("int", "Number of passes over the training data, fewer with early stopping."),
    "batch_size": (
        "int",
        "Rows of a training batch. Predictions are made in batches of up to ``128 * batch_size`` tokens (eight times that\n"
        "on a GPU), whatever their number of rows.",
    ),
    "accumulate": (
        "int",
        "Batches whose gradients are added up before each step; the step equals that of one large batch.",
    ),
    "learning_rate": ("float", "Highest learning rate of the encoder's top layer."),
    "head_learning_rate": ("float or None", "Learning rate of the head. None is ``learning_rate``."),
    "layer_decay": (
        "float",
        "Factor of the learning rate from each layer to the one below it; 1 is the same rate for all.",
    ),
    "weight_decay": ("float", "Decoupled weight decay of AdamW; biases and layer norms are spared."),
    "warmup_ratio": ("float", "Share of all steps in which the learning rate rises from zero."),
    "schedule": ("{'linear', 'cosine', 'constant'}", "How the learning rate goes on after the warm-up."),
    "max_grad_norm": ("float or None", "Norm to which the gradient is clipped. None does not clip."),
    "n_frozen_layers": (
        "int",
        "Number of lowest layers that keep their weights, the embeddings with them; dropout rests there. 0 trains everything.",
    ),
    "gradient_checkpointing": ("bool", "Recompute each layer in the backward pass: less memory, about a third slower."),
    "early_stopping": (
        "bool",
        "Stop when the validation score has not risen by ``tol`` for ``n_iter_no_change`` epochs, and keep the weights of the\n"
        "best epoch.",
    ),
    "validation_fraction": (
        "float",
        "Share of the training data set aside for early stopping when ``X_val`` is not given.",
    ),
    "n_iter_no_change": ("int", "Epochs without improvement before early stopping."),
    "tol": ("float", "Smallest rise of the validation score that counts as an improvement."),
    "warm_start": ("bool", "Let ``fit`` go on from the weights of the last fit instead of the checkpoint's."),
    "device": (
        "str or torch.device",
        "``'auto'`` takes CUDA, then MPS, then the CPU; or a PyTorch device such as ``'cuda:1'``.",
    ),
    "dtype": (
        "{'auto', 'float32', 'bfloat16'}",
        "Precision of the computation; weights stay float32 while they are trained. ``'auto'`` is bfloat16 for training where\n"
        "the hardware is fast at it, and for predictions on such a GPU; predictions on a CPU are float32.",
    ),
    "subword_sampling": (
        "float or None",
        "Draw another segmentation of every training text in each epoch (subword regularisation, Kudo 2018): the power of a\n"
        "segmentation's probability with which it is drawn, 0 for all alike, 1 for the model's own; 0.1 to 0.5 are usual.\n"
        "None takes the best one, as predictions always do. Needs a SentencePiece unigram tokenizer.",
    ),
    "random_state": (
        "int, RandomState instance or None",
        "Seed of everything random in ``fit``; an int makes it repeatable.",
    ),
    "verbose": ("int", "0 is silent, 1 shows a progress bar."),
    "checkpoint_dir": (
        "str, path or None",
        "Folder for the state of a fit, from which ``fit(..., resume=True)`` goes on after an interrupt; one fit at a time.\n"
        "None keeps no state.",
    ),
    "checkpoint_every": (
        "int or None",
        "Optimiser steps after which the state is written, and at the end of the fit. None is after each epoch.",
    ),
    "pooling": (
        "{'mean', 'cls', 'max', 'pooler'}",
        "How token vectors become one: their mean, the first token's vector, their maximum, or the checkpoint's pooler (a\n"
        "dense layer and tanh on the first token's vector).",
    ),
    "layers": (
        "int or list of int",
        "Layer whose vectors are pooled: 0 is the embeddings' output, -1 the last layer. The features of several layers\n"
        "stand side by side.",
    ),
    "normalize": ("bool", "Scale each row to unit length."),
}


def documentation_url() -> str:
    """Address of the documentation's pages, as the installed package states it; '' where it states none."""
    try:
        urls = metadata("skxlmr").get_all("Project-URL", [])
    except PackageNotFoundError:  # used without being installed
        return ""
    return dict(url.split(", ", 1) for url in urls).get("Documentation", "").rstrip("/")


def document_parameters(**own: tuple[str, str]) -> Callable[[type], type]:
    """Fill ``{parameters}`` in a class docstring with the entries of its ``__init__``, in order.

    ``own`` gives (type, text) of the parameters that are the class's own; its parent's are inherited.
    """

    def decorate(cls: type) -> type:
        texts = SHARED | getattr(cls, "_parameter_texts", {}) | own
        cls._parameter_texts = texts  # type: ignore[attr-defined]  # only subclasses read it
        entries = []
        for name, parameter in list(inspect.signature(cls.__init__).parameters.items())[1:]:  # type: ignore[misc]
            kind, text = texts[name]
            body = text.replace("\n", "\n        ")
            entries.append(f"{name} : {kind}, default={parameter.default!r}\n        {body}")
        assert cls.__doc__ is not None
        cls.__doc__ = cls.__doc__.replace("{parameters}", "\n\n    ".join(entries))
        return cls

    return decorate
