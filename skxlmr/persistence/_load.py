"""Read a saved estimator."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import skxlmr.estimators
from skxlmr.checkpoints import (
    ADAPTER_CONFIG,
    ONNX_FOLDER,
    SENTENCE_FILES,
    LoadedWeights,
    Origin,
    StoredModel,
    assign_weights,
    identity,
    moved,
    on_meta,
    read_model,
    resolve_checkpoint,
    sha256_of,
    text_files,
    weight_files,
)
from skxlmr.estimators._sequence.vectorizer import Vectorizer
from skxlmr.estimators._vectors.transformer import Transformer
from skxlmr.nn import family_of
from skxlmr.persistence._adapter import base_of_saved, described_adapter, give_adapter, names_another_base
from skxlmr.persistence._composite import read_composite
from skxlmr.persistence._description import (
    ALTERED,
    COMPOSITE,
    FILE,
    file_names,
    is_place,
    learnt_of,
    read_description,
    unfitted_from,
)
from skxlmr.persistence._model_card import CARD
from skxlmr.persistence._sentence_transformers import READERS
from skxlmr.utils._devices.device import resolve_device
from skxlmr.utils._errors import CheckpointError
from skxlmr.utils._warnings import outside_stacklevel
from skxlmr.utils._whole_numbers import check_flags

if TYPE_CHECKING:
    import torch

TRIES = 20  # to read a folder that other processes replace
MOST_BYTES = 512 * 2**20  # of a file without weights
MOST_ITEM, MOST_HEADER = 8, 2**24  # bytes of a weight, and of the names of all of them
NOT_READ = (CARD, *SENTENCE_FILES, "1_Pooling/config.json")  # except by those who do; for people and other tools


def load(
    folder: str | os.PathLike[str],
    device: str | torch.device | None = None,
    *,
    revision: str | None = None,
    verify: bool = True,
) -> Any:  # the folder says of which class; with the base class, ``load(folder).predict`` would be an error
    """Read an estimator that ``save`` or ``push_to_hub`` wrote, with this version of the library or an older one.

    Read more in :doc:`/persistence`.

    Parameters
    ----------
    folder : str or path
        The folder, or a name on the Hugging Face hub: ``"org/name"`` or ``"org/name@revision"``.
    device : str or torch.device, optional
        Where to put it; by default what the estimator's own ``device`` parameter says.
    revision : str, optional
        Branch, tag or commit on the hub.
    verify : bool, default=True
        Compare each file with the SHA-256 that was saved with it; a gigabyte takes about a second. If only the model
        card has changed, there is a warning.

    Returns
    -------
    fitted estimator
        Of the class that was saved. Type checkers know it from an annotation:
        ``classifier: XLMRobertaClassifier = load(folder)``.

    Raises
    ------
    CheckpointError
        If a file is missing, broken, not what was saved, or from a later version of the library.
    ValueError
        If the device cannot be used here.

    See Also
    --------
    save : Writes such a folder.
    push_to_hub : Writes it to the Hugging Face hub.
    load_onnx : Reads the same estimator for ONNX Runtime, without PyTorch.
    BatchPredictor : Loads an estimator once in each process, and adds its results to tables.

    Examples
    --------
    >>> import tempfile
    >>> from skxlmr import XLMRobertaVectorizer, load, save
    >>> with tempfile.TemporaryDirectory() as parent:
    ...     save(XLMRobertaVectorizer("skxlmr-mini", pooling="cls").fit(["A text."]), parent + "/features")
    ...     load(parent + "/features").pooling
    'cls'
    """
    check_flags(verify=verify)
    return read_whole(
        folder, revision, lambda opened: _read(os.fspath(folder), opened, device, revision, verify), "load"
    )


def read_whole(
    folder: str | os.PathLike[str],
    revision: str | None,
    read: Callable[[Path], tuple[Any, bool]],
    caller: str,
    graph: str | None = None,
) -> Any:
    """What ``read`` makes of a folder, all of whose files were there from start to end.

    ``read`` returns an estimator, and whether the model card was edited, of which there is a warning.
    """
    failed: ValueError | None = None
    for _ in range(TRIES):
        opened = resolve_checkpoint(folder, revision, graph)
        before = _moment(opened)
        try:
            estimator, card_differs = read(opened)
        except (CheckpointError, ValueError) as error:
            if before is not None and _moment(opened) == before:
                raise
            failed = error
        else:
            if _moment(opened) == before:
                break
    else:
        reason = f"is being replaced by other processes again and again: {caller} it when they have ended"
        raise CheckpointError(folder, reason) from failed
    if card_differs:
        said = f"{opened / CARD} is not the model card that save wrote: edited since, or damaged (the model is intact)"
        warnings.warn(said, UserWarning, stacklevel=outside_stacklevel())
    return estimator


def _moment(folder: Path) -> Any:
    """What changes when the folder is moved, or one of its files is replaced; None while it is away."""
    try:
        return os.stat(folder).st_ctime_ns, identity(folder)
    except OSError:
        return None


def _read(
    given: str, folder: Path, device: str | torch.device | None, revision: str | None, verify: bool
) -> tuple[Any, bool]:
    """The estimator, and whether the model card differs; a mixture of two if the folder is replaced meanwhile."""
    about = read_description(folder / FILE, verify)
    digests = file_names(about, folder / FILE)
    if about["estimator"] == COMPOSITE:
        inner = {name: digests[name] for name in digests.keys() - {CARD}} if verify else {}
        verify_files(folder, inner, MOST_BYTES, NOT_READ)
        whole = read_composite(folder, about["parts"], lambda name: _read_part(given, folder, name, device, verify))
        verify_files(
            folder, inner, MOST_BYTES, NOT_READ
        )  # another process may have written to the folder of a part meanwhile
        return whole, verify and card_differs_in(folder, digests)
    weights = weights_in(folder)
    verify_texts(folder, about, digests, weights, verify)
    with described_by(folder, about):
        estimator, stored = without_weights(
            given, folder, about, revision, {} if device is None else {"device": str(device)}
        )
        with on_meta():
            module = estimator._build(estimator.config_)
    try:
        target = resolve_device(estimator.device)
    except (ValueError, TypeError) as error:
        if device is not None:
            raise
        raise CheckpointError(folder / FILE, f"{error}; load(..., device='cpu') puts it elsewhere") from error
    dtype = estimator._weight_dtype()
    if verify:
        most = sum(tensor.numel() * MOST_ITEM for tensor in module.state_dict().values()) + MOST_HEADER
        verify_files(folder, {name: digests[name] for name in digests.keys() & weights}, most)
    said = None if stored.base is None else described_adapter(about, folder / FILE)
    base = None if said is None else base_of_saved(folder, stored, said, verify)
    tensors, module.mapped_files = estimator._mapped_tensors(stored)
    heads = family_of(stored.config).head_parts
    remark, files = stored.remark, stored.files
    assign_weights(module, tensors, source=folder, head_parts=heads, dtype=dtype, remark=remark, files=files)
    if said is not None and base is not None:
        give_adapter(module, stored, said, base)
    else:
        module.origin = Origin.of(given, revision, folder, estimator.tokenizer_)
        module.loaded = LoadedWeights.of(module)
    estimator.module_ = module.eval()
    moved(module, lambda: module.to(target))
    return estimator, verify and card_differs_in(folder, digests)


def verify_texts(folder: Path, about: dict[str, Any], digests: dict[str, str], weights: set[str], verify: bool) -> None:
    """Compare the files of a folder with what was saved, apart from weights, and from graphs and what lies beside them."""
    if not verify:
        return
    if about["format"] > 1:  # which has no checksums
        _refuse_additions(folder, weights | set(text_files(folder)), digests)
    names = {name for name in digests.keys() - weights - {CARD} if not name.startswith(f"{ONNX_FOLDER}/")}
    said = described_adapter(about, folder / FILE) if ADAPTER_CONFIG in names else None
    if said is not None and names_another_base(folder, said, digests[ADAPTER_CONFIG]):
        names.remove(ADAPTER_CONFIG)
    verify_files(folder, {name: digests[name] for name in names}, MOST_BYTES, _optional(about))


def without_weights(
    given: str, folder: Path, about: dict[str, Any], revision: str | None, params: dict[str, Any]
) -> tuple[Any, StoredModel]:
    """The estimator that a folder describes with what it learnt, its config and its tokenizer, but no module yet."""
    estimator = unfitted_from(about)
    vars(estimator).update(learnt_of(about, type(estimator)))
    if estimator.checkpoint is None:  # it was an estimator or a place on another machine, and the weights are here
        estimator.set_params(checkpoint=str(folder) if is_place(given) else given, revision=revision)
    estimator.set_params(**params)
    estimator._validate_params()
    stored = read_model(folder)
    estimator._take(stored)
    estimator._take_own(stored)
    estimator._limit()  # raises if max_length is more than the model allows
    return estimator, stored


@contextmanager
def described_by(folder: Path, about: dict[str, Any]) -> Iterator[None]:
    """Blame the description for what no estimator can be."""
    try:
        yield
    except CheckpointError:
        raise
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError) as error:
        raise CheckpointError(folder / FILE, f"does not describe a {about['estimator']} ({error})") from error


def _read_part(given: str, folder: Path, name: str, device: str | torch.device | None, verify: bool) -> Any:
    """One estimator of this library in a pipeline; ``name`` is that of its folder."""
    if read_description(folder / name / FILE, verify)["estimator"] == COMPOSITE:
        raise CheckpointError(folder / name / FILE, "is a pipeline, expected an estimator of this library")
    return _read(os.path.join(given, name), folder / name, device, None, verify)[0]


def weights_in(folder: Path) -> set[str]:
    """Names of the files with the weights that are read; none if there are none, which is an error later."""
    try:
        return set(weight_files(folder))
    except CheckpointError:
        return set()


def _optional(about: dict[str, Any]) -> tuple[str, ...]:
    """Files that may be missing: those for other tools, where language models (up to format 4) or all (up to 3) read none."""
    kind = getattr(skxlmr.estimators, about["estimator"], object)
    is_language_model = issubclass(kind, Transformer) and not issubclass(kind, Vectorizer)
    return (CARD,) if issubclass(kind, READERS) and about["format"] > (4 if is_language_model else 3) else NOT_READ


def verify_files(folder: Path, digests: dict[str, str], most: int, optional: tuple[str, ...] = ()) -> None:
    """Compare files, each of at most so many bytes, with what was saved."""
    for name, digest in sorted(digests.items()):
        if name in optional and not (folder / name).exists():
            continue
        if sha256_of(folder / name, most) != digest:
            raise CheckpointError(folder / name, ALTERED)


def card_differs_in(folder: Path, digests: dict[str, str]) -> bool:
    """Whether the model card was edited; it may be missing."""
    has_card = CARD in digests and (folder / CARD).exists()
    return has_card and sha256_of(folder / CARD, MOST_BYTES) != digests[CARD]


def _refuse_additions(folder: Path, names: set[str], digests: dict[str, str]) -> None:
    """Refuse files that would be read and that save did not write."""
    added = sorted(names - digests.keys())
    if added:
        reason = "would be read, but save did not write it: remove it (load(..., verify=False) reads it anyway)"
        raise CheckpointError(folder / added[0], reason)
