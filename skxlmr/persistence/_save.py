"""Write a fitted estimator to a folder."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

import skxlmr.estimators
from skxlmr.checkpoints import (
    PARTS,
    Tensors,
    activation_config,
    check_mapped_files,
    cross_encoder_files,
    read_model,
    replace_folder,
    sha256_of,
    target_folder,
    undisturbed,
    write_adapter,
    write_folder,
)
from skxlmr.estimators import XLMRobertaEmbedder, XLMRobertaVectorizer
from skxlmr.estimators._core.estimator import Estimator
from skxlmr.estimators._vectors.transformer import Transformer
from skxlmr.inference import check_has_weights
from skxlmr.persistence._adapter import (
    about_adapter,
    adapter_of,
    check_base_stays,
    has_adapter,
    is_local,
    warn_of_local_base,
)
from skxlmr.persistence._composite import write_composite
from skxlmr.persistence._description import FILE, NOT_READABLE, describe, read_description
from skxlmr.persistence._model_card import CARD, model_card
from skxlmr.persistence._parts import parts_of
from skxlmr.persistence._sentence_transformers import (
    CROSS_ENCODERS,
    cross_encoder_of,
    sentence_encoder_files,
    sentence_encoder_of,
    warn_of_another_length,
)
from skxlmr.text import SentencePieceTokenizer, Tokenizer
from skxlmr.utils._errors import CheckpointError
from skxlmr.utils._files import read_json
from skxlmr.utils._whole_numbers import check_flags

if TYPE_CHECKING:
    import torch

TOKENIZER_CONFIG = "tokenizer_config.json"
CONVERTED = ("xlm-roberta-xl",)  # model types whose tokenizer transformers 5 reads from a tokenizer.json only
# Endings of files in which other tools keep a model
FILES = frozenset(
    ".pkl .pickle .joblib .skops .dill .cloudpickle .sav .onnx .pt .pth .ckpt .bin .safetensors .h5 .keras .msgpack .npz .npy "
    ".json .zip .gz .tar .mar .pmml".split()
)


class FittedEstimator(Protocol):
    """An estimator for type checkers, to which scikit-learn's own classes, without types, are anything."""

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Parameters of the constructor."""


def save(
    estimator: FittedEstimator,
    folder: str | os.PathLike[str],
    *,
    dtype: torch.dtype | str | None = None,
    max_shard_size: int | str | None = None,
    onnx: bool = False,
    adapter: bool = False,
) -> None:
    """Write a fitted estimator to a folder, completely or not at all.

    The folder is a checkpoint that ``transformers`` opens, with ``skxlmr.json`` for the parameters, what ``fit`` learnt and
    the SHA-256 of each file, and a model card (``README.md``). Nothing is pickled. If the features are the pooled last
    layer of single texts, ``sentence-transformers`` opens it too; a regressor is a cross-encoder there.

    Read more in :doc:`/persistence`.

    Parameters
    ----------
    estimator : fitted estimator
        Of this library, or one of scikit-learn that may hold some: a pipeline, a ``ColumnTransformer``, a search, ... For
        these the extra ``skops`` is needed.
    folder : str or path
        Created if it does not exist; an existing checkpoint folder is replaced.
    dtype : torch.dtype or {"float32", "bfloat16", "float16"}, optional
        Type of the stored weights, such as ``"bfloat16"`` for half the size; by default it stays as it is.
    max_shard_size : int or str, optional
        Most bytes per file of weights, such as ``"2GB"``; by default there is one file.
    onnx : bool, default=False
        Also write the model for ONNX Runtime, in float32, into the folder ``onnx`` (extra ``onnx``). :func:`export_onnx`
        writes it without PyTorch's weights, and in other precisions.
    adapter : bool, default=False
        Write what LoRA learnt (``lora_rank``) as an adapter of PEFT: its matrices and the head, a few megabytes. Whoever
        opens the folder needs the checkpoint that it was fitted from. By default the merged weights are written, which need
        nothing else. In a pipeline, the estimators with LoRA become adapters.

    Raises
    ------
    NotFittedError
        If the estimator is not fitted.
    TypeError
        If it is not an instance of one of this library's classes or of scikit-learn's, but a subclass for example; or if
        it holds something that cannot be saved without pickle, such as dates as classes or a function of your own.
    ValueError
        If a parameter is invalid, or one of its texts has half a surrogate pair, which no file can hold; or if ``dtype`` or
        ``max_shard_size`` is invalid. With ``adapter``, if there is no LoRA, if other weights than LoRA's differ from the
        checkpoint's, or beside ``dtype``, ``max_shard_size`` or ``onnx``.
    ImportError
        If it is an estimator of scikit-learn, and skops is not installed; or with ``onnx``, and onnx is not.
    CheckpointError
        If the folder holds something else, or cannot be written, for example because the disk is full. What was there
        stays. Or if the file that the weights are read from was overwritten; with ``adapter`` also if the folder holds the
        checkpoint of the fit, or if that was changed since or is an adapter itself.

    See Also
    --------
    load : Reads the estimator back.
    push_to_hub : Writes it to the Hugging Face hub instead.
    export_onnx : Writes it for ONNX Runtime, without PyTorch's weights.

    Notes
    -----
    Everything is written next to the folder, flushed to disk and renamed: a process that is killed leaves the old folder or
    the new one, and the next ``save`` cleans up. If several processes save there at the same time, the last one wins.

    A ``random_state`` that is a generator, not an int or None, is saved as None. If ``checkpoint`` is an estimator, the
    folder itself takes its place: ``load`` sets ``checkpoint`` to the folder.

    Examples
    --------
    >>> import tempfile
    >>> from skxlmr import XLMRobertaVectorizer, load, save
    >>> vectorizer = XLMRobertaVectorizer("skxlmr-mini").fit(["A text."])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(vectorizer, folder + "/features")
    ...     load(folder + "/features").transform(["A text."]).shape
    (1, 192)
    """
    check_flags(onnx=onnx, adapter=adapter)
    given: Any = estimator
    if adapter and (dtype is not None or max_shard_size is not None or onnx):
        raise ValueError("adapter=True writes one small file in float32: leave dtype, max_shard_size and onnx out")
    for _, part in parts_of(given) if adapter else ():
        if has_adapter(part):
            check_base_stays(part, folder)
    if isinstance(given, BaseEstimator) and not isinstance(given, Estimator):
        _write_pipeline(given, folder, dtype, max_shard_size, onnx, adapter)
    else:
        write_estimator(
            given, folder, dtype, max_shard_size, onnx=_model_writer(given) if onnx else None, adapter=adapter
        )


def _write_pipeline(
    whole: BaseEstimator,
    folder: str | os.PathLike[str],
    dtype: torch.dtype | str | None,
    max_shard_size: int | str | None,
    onnx: bool,
    adapter: bool,
) -> None:
    check_name(folder)
    if adapter and not any(has_adapter(part) for _, part in parts_of(whole)):
        raise ValueError(
            f"adapter=True writes what LoRA learnt, and no estimator in this {type(whole).__name__} has an adapter: fit one "
            "with lora_rank, or leave adapter=True out"
        )

    def write_part(part: Estimator, place: Path) -> None:
        write_estimator(
            part,
            place,
            dtype,
            max_shard_size,
            onnx=_model_writer(part) if onnx else None,
            adapter=adapter and has_adapter(part),
        )

    with explained(folder):
        check_card(folder)
        replace_folder(folder, lambda fresh: write_composite(whole, fresh, write_part), (CARD,))


def write_estimator(
    estimator: Estimator,
    folder: str | os.PathLike[str],
    dtype: torch.dtype | str | None,
    max_shard_size: int | str | None,
    with_paths: bool = True,
    onnx: Callable[[Path], None] | None = None,
    weights: bool = True,
    adapter: bool = False,
) -> None:
    """What ``save`` does.

    Without ``with_paths`` nothing in the folder names a place on this machine. ``onnx`` writes a model for ONNX Runtime into
    it, and without ``weights`` that is the only one. ``adapter`` writes no whole model.
    """
    if type(estimator) is not getattr(skxlmr.estimators, type(estimator).__name__, None):
        raise TypeError(
            "save(estimator, folder) writes fitted estimators of this library and of scikit-learn, got a "
            f"{type(estimator).__name__}: save each estimator in a folder of its own, and pickle objects of other classes"
        )
    check_name(folder)
    check_is_fitted(estimator, "module_")
    check_has_weights(estimator.module_, "save")
    estimator._validate_params()  # one set since the fit may be what load refuses
    check_mapped_files(estimator.module_)
    estimator._settle_weights(to_store=True)
    encoder, opens = sentence_encoder_of(estimator)
    scorer = cross_encoder_of(estimator)
    tensors = estimator.module_.state_dict() if adapter else _published_weights(estimator)
    beside = sentence_encoder_files(estimator, encoder, tensors, dtype)
    config = activation_config(scorer, {**estimator.config_.to_dict(), **estimator._hub_config()})
    new = adapter_of(estimator, tensors, with_paths) if adapter else None
    more = {} if new is None else about_adapter(estimator, new, config)
    files = {
        **beside,
        **cross_encoder_files(scorer, estimator._limit()),
        CARD: model_card(estimator, for_sentences=opens, with_weights=weights, adapter=new),
        FILE: lambda written: _describe(estimator, written, with_paths, more),  # last: it lists all other files
    }
    tokenizer = _Published(estimator._published_tokenizer(), estimator._limit(), estimator.config_.model_type)
    with explained(folder):
        check_card(folder)
        if new is not None:
            write_adapter(folder, new, tokenizer, files)
        else:
            write_folder(
                folder,
                config=config,
                tensors=tensors,
                tokenizer=tokenizer,
                extra_files=files,
                dtype=dtype,
                max_shard_size=max_shard_size,
                with_weights=weights,
                add=onnx,
            )
    if new is not None and is_local(new.base_name):
        warn_of_local_base(folder, new.base_name)
    if weights:  # a graph alone has all of it
        warn_of_another_length(folder, estimator, encoder, opens)


def _model_writer(estimator: Any) -> Callable[[Path], None]:
    """What writes an estimator for ONNX Runtime."""
    from skxlmr.export._model import ModelWriter, model_of
    from skxlmr.export._precision import OPSET

    return ModelWriter(partial(model_of, estimator), "float32", OPSET)


@contextmanager
def explained(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Say what an error of the file system, or of the encoding, means."""
    try:
        yield
    except OSError as error:
        raise CheckpointError(folder, f"cannot be written ({error})") from error
    except UnicodeEncodeError as error:
        around = error.object[max(error.start - 10, 0) : error.end + 10]
        raise ValueError(
            f"a class or parameter of the estimator holds half a surrogate pair, which no file can hold: {around!r}"
        ) from error


class _Published:
    """A tokenizer whose files other tools read as the estimator does.

    They cut at the number of tokens that the files name: the checkpoint's own may be more than the model has positions for.
    """

    def __init__(self, tokenizer: Tokenizer, limit: int, model_type: str):
        self.tokenizer, self.limit, self.model_type = tokenizer, limit, model_type

    def save(self, folder: Path) -> None:
        self.tokenizer.save(folder)
        if self.model_type in CONVERTED and isinstance(self.tokenizer, SentencePieceTokenizer):
            self.tokenizer.save_conversion(folder)
        file = folder / TOKENIZER_CONFIG
        options = read_json(file) | {"model_max_length": self.limit}
        file.write_text(json.dumps(options, indent=2) + "\n", encoding="utf-8")


def _published_weights(estimator: Estimator) -> Tensors:
    """The weights, and those that ``transformers`` would otherwise make from scratch."""
    from skxlmr.nn import LanguageModel

    module = estimator.module_
    if isinstance(estimator, XLMRobertaVectorizer):
        estimator._read_output_layers()
    tensors = module.state_dict()
    if isinstance(module, LanguageModel):  # the bias under both of its names: version 4.46 loses it otherwise
        tensors.setdefault(f"{module.projection}.bias", tensors[module.projection_bias].clone())
    pooler = f"{estimator.config_.base_prefix}.pooler."
    if not isinstance(estimator, XLMRobertaVectorizer | XLMRobertaEmbedder) or any(
        name.startswith(pooler) for name in tensors
    ):
        return tensors
    with suppress(CheckpointError):  # of the checkpoint, if it is still there: the features do without it
        if module.origin is not None and module.origin.is_unchanged():
            theirs, dtype = read_model(module.origin.folder).tensors(), next(module.parameters()).dtype
            tensors |= {name: tensor.to(dtype) for name, tensor in theirs.items() if name.startswith(pooler)}
    return tensors


def _describe(estimator: Estimator, written: Path, with_paths: bool, more: dict[str, Any]) -> str:
    """Content of ``skxlmr.json``, after a look at whether ``load`` could read the files that it lists."""
    try:
        stored = read_model(written)
        estimator._read_folder(stored)
        if isinstance(estimator, Transformer):
            stored.sentence_encoder()
        if isinstance(estimator, CROSS_ENCODERS):
            stored.cross_encoder()
    except CheckpointError as error:
        reason = f"{Path(error.file).name} {error.reason}"
        raise ValueError(f"{NOT_READABLE}: {reason}") from error
    return describe(estimator, written, with_paths, more)


def check_name(folder: str | os.PathLike[str]) -> None:
    """Refuse the name of a file of another tool."""
    folder = target_folder(folder)
    if folder.suffix.lower() not in FILES:
        return
    raise ValueError(
        f"{folder.name!r} is the name of a file, and save writes a folder: save(estimator, {folder.stem!r}), which "
        f"load({folder.stem!r}) reads. For one file, use joblib.dump(estimator, {folder.stem + '.joblib'!r})"
    )


def check_card(folder: str | os.PathLike[str]) -> None:
    """Refuse to replace a model card that somebody wrote or edited, also those of the estimators in a pipeline."""
    target = target_folder(folder)
    for place in (target, *(target / PARTS).glob("*/")):
        undisturbed(place, partial(_check_one_card, place))


def _check_one_card(folder: Path) -> None:
    card = folder / CARD
    if not card.is_file():
        return
    saved = (folder / FILE).is_file() and read_description(folder / FILE, verify=False).get("files", {})
    if not saved or saved.get(CARD) != sha256_of(card):
        raise CheckpointError(card, "was not written by save, or edited since: move it away, or save to another folder")
