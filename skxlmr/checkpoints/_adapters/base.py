"""Find the folder of an adapter's base model."""

import os
from pathlib import Path

from skxlmr.checkpoints._adapters.config import MERGE
from skxlmr.checkpoints._hub import BUILTIN, BUILTIN_INSTEAD, resolve_checkpoint
from skxlmr.checkpoints._layout import ADAPTER_CONFIG, is_adapter
from skxlmr.utils._errors import CheckpointError
from skxlmr.utils._files import read_json


def base_folder(folder: str | os.PathLike[str]) -> Path | None:
    """Folder of the base model of an adapter folder, downloaded on first use; None for a folder of any other kind.

    A relative path is one from the working directory, as in peft; if nothing is there, from the adapter's folder.

    Raises
    ------
    CheckpointError
        If the adapter does not name it, it cannot be found, or it is an adapter too.
    """
    if not is_adapter(folder):
        return None
    file = Path(folder, ADAPTER_CONFIG)
    config = read_json(file)
    name, revision = config.get("base_model_name_or_path"), config.get("revision")
    edit = f"set base_model_name_or_path in {ADAPTER_CONFIG} to its folder, or to its name on the hub"
    if not isinstance(name, str) or not name or not isinstance(revision, str | None):
        raise CheckpointError(file, f"names no base model: {edit}")
    place = os.path.expanduser(name)
    try:
        inside = os.path.join(folder, place)
        if name != BUILTIN and not os.path.isdir(place) and os.path.isdir(inside):
            place = inside
        found = name == BUILTIN or os.path.isdir(place)
        base = resolve_checkpoint(name if name == BUILTIN else place, None if found else revision or None)
    except (CheckpointError, ValueError) as error:
        why = str(error).removesuffix(f", {BUILTIN_INSTEAD}")  # which is not the adapter's base
        reason = f"names the base model {name!r:.200}, which cannot be opened ({why}): download it, and {edit}"
        raise CheckpointError(file, reason) from error
    if is_adapter(base):
        reason = f"names the base model {name!r:.200}, which is an adapter itself ({base}). {MERGE}"
        raise CheckpointError(file, reason)
    return base
