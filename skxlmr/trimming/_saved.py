"""The folder of a saved estimator: what a trimmed copy of it needs besides the checkpoint."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from skxlmr.checkpoints import PARTS, SAVED, sha256_of
from skxlmr.persistence._description import (
    ALTERED,
    COMPOSITE,
    FILE,
    FORMAT,
    file_names,
    learnt_of,
    read_description,
    sealed,
    unfitted_from,
)
from skxlmr.persistence._model_card import CARD
from skxlmr.text import Tokenizer
from skxlmr.utils._errors import CheckpointError, blaming
from skxlmr.utils._files import read_bytes, read_json
from skxlmr.utils._lazy import lazy

OUTDATED = "was written by an earlier version of the library: load it, save it again, and trim what was saved"


class Saved:
    """What ``skxlmr.json`` says, and the files that go with it.

    Parameters
    ----------
    folder : Path
        Of a saved estimator. Its files are compared with their checksums.

    Raises
    ------
    CheckpointError
        If a file is not what was saved, the description is that of an earlier version, or the folder holds a pipeline.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        about = read_description(folder / FILE, verify=True)
        if about["estimator"] == COMPOSITE:
            places = sorted(path.name for path in (folder / PARTS).glob("*/"))
            reason = (
                f"describes a pipeline of scikit-learn: trim the folder of its estimator, such as {PARTS}/{places[0]}"
            )
            raise CheckpointError(folder / FILE, reason if places else "describes a pipeline of scikit-learn")
        if about["format"] < FORMAT:
            raise CheckpointError(folder / FILE, OUTDATED)
        for name, digest in file_names(about, folder / FILE).items():
            if name != CARD and sha256_of(folder / name) != digest:
                raise CheckpointError(folder / name, ALTERED)

    @lazy
    def _estimator(self) -> Any:
        about = read_description(self.folder / FILE, verify=False)
        estimator = unfitted_from(about)
        vars(estimator).update(learnt_of(about, type(estimator)))
        return estimator

    def own_texts(self) -> list[str]:
        """Return the texts that the estimator puts beside those that it is given: the hypotheses about labels."""
        with self._blaming():
            return list(self._estimator._hypotheses()) if hasattr(self._estimator, "_hypotheses") else []

    def reading(self, tokenizer: Tokenizer, config: Any) -> Tokenizer:
        """Return a tokenizer as the estimator uses it: that of the original XLM by the rules of its language."""
        with self._blaming():
            return self._estimator._family.check(self._estimator, config, tokenizer, self.folder / FILE)

    def _blaming(self) -> AbstractContextManager[None]:
        return blaming(self.folder / FILE, "does not describe an estimator ({})", ValueError, TypeError, LookupError)

    def files(self) -> dict[str, str | bytes | Callable[[Path], str]]:
        """Return the content of the model card and of ``skxlmr.json``, by name; the latter is made when all else is there."""
        keeps = (self.folder / CARD).is_file() and SAVED not in read_json(
            self.folder / FILE
        )  # a merged adapter is none
        card = {CARD: read_bytes(self.folder / CARD)} if keeps else {}
        return {**card, FILE: self._description}

    def _description(self, written: Path) -> str:
        about: dict[str, Any] = read_json(self.folder / FILE)
        about.pop(SAVED, None)
        digests = {p.relative_to(written).as_posix(): sha256_of(p) for p in sorted(written.rglob("*")) if p.is_file()}
        return sealed(about | {"sha256": "", "files": digests})


def saved_in(folder: Path) -> Saved | None:
    """Return what was saved in a folder; None if it is a plain checkpoint."""
    return Saved(folder) if (folder / FILE).is_file() else None
