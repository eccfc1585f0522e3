"""Read the weights of a checkpoint folder in any format, from one file or from shards with an index."""

import os
from collections.abc import Callable
from pathlib import Path

from skxlmr.checkpoints._formats.mapped_file import Tensors
from skxlmr.checkpoints._formats.table import FORMATS, WEIGHT_FILES, Format
from skxlmr.checkpoints._layout import instead_of_weights
from skxlmr.utils._errors import CheckpointError, blaming
from skxlmr.utils._files import LFS_POINTER, check_no_pointer, is_plain_name, open_file, read_json


def read_tensors(folder: str | os.PathLike[str]) -> Tensors:
    """Map the weights of a checkpoint folder.

    Formats are tried in this order: safetensors, PyTorch's ``.bin``, TensorFlow's, Flax's; in each, one file before shards.

    Parameters
    ----------
    folder : str or path
        A checkpoint folder.

    Returns
    -------
    dict of str to Tensor
        On the CPU, with Hugging Face's names and the dtypes of the files. Memory-mapped: pages are read when first used,
        and writing to a tensor never changes the file.

    Raises
    ------
    CheckpointError
        If there are no weights, or a file of them is missing or broken.
    ImportError
        If they are TensorFlow's, and h5py is not installed.
    """
    folder = Path(folder)
    for form in FORMATS.values():
        index = folder / f"{form.file}.index.json"
        if os.path.lexists(folder / form.file):  # a link to nowhere says so when it is read
            return read_weights(folder / form.file, form.read)
        if os.path.lexists(index):
            return _read_shards(index, form)
    if not folder.is_dir():
        raise CheckpointError(folder, "no such folder")
    found = sorted(entry.name for entry in folder.iterdir())
    reason = f"holds no weights: expected {' or '.join(WEIGHT_FILES)} or an index of shards, found "
    raise CheckpointError(folder, reason + (", ".join(found) or "nothing") + instead_of_weights(folder))


def read_weights(file: Path, read: Callable[[Path], Tensors]) -> Tensors:
    """Map one file, unless it only points to the weights."""
    with open_file(file) as opened, blaming(file, "cannot be read ({})", OSError):
        check_no_pointer(file, opened.read(len(LFS_POINTER)))
    return read(file)


def _read_shards(index: Path, form: Format) -> Tensors:
    places = read_json(index, unique_names=True).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise CheckpointError(index, 'expected an object "weight_map" that names the shard of each tensor')
    names_of: dict[Path, list[str]] = {}
    for name, shard in places.items():
        if not isinstance(shard, str) or not is_plain_name(shard):
            reason = f"the shard of tensor {name!r:.80} must be a file of the same folder, found {shard!r:.80}"
            raise CheckpointError(index, reason)
        names_of.setdefault(index.parent / shard, []).append(form.index_to_hf(name))
    absent = [file.name for file in names_of if not file.is_file()]
    if absent:
        reason = f"{len(absent)} of {len(names_of)} shards missing from the folder: {', '.join(absent[:3])}"
        raise CheckpointError(index, reason)
    # The hub's cache keeps the files of a snapshot, index and shards alike, in another folder and links to them.
    homes = {os.path.dirname(os.path.realpath(index)), os.path.realpath(index.parent)}
    for file in names_of:
        if os.path.dirname(os.path.realpath(file)) not in homes:
            raise CheckpointError(file, f"links to a file outside the folder and not next to {index.name}")
    tensors: Tensors = {}
    for file, names in names_of.items():
        held = read_weights(file, form.read)
        for name in names:
            if name not in held:
                raise CheckpointError(file, f"tensor {name} is not in this shard, where {index.name} places it")
            tensors[name] = held[name]
        if unplaced := sorted(held.keys() - names):
            raise CheckpointError(file, f"holds tensor {unplaced[0]}, which {index.name} does not place in this shard")
    return tensors
