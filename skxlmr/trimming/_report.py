"""What trimming a vocabulary changed."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Coverage:
    """How the texts of a language read with the vocabulary before and after, measured on all of them.

    Attributes
    ----------
    n_texts : int
    n_identical : int
        Texts with the same tokens before and after; for a tagger both as a whole and word by word.
    n_tokens : int
        Tokens of the texts before, without special tokens around them; for a tagger those of the words.
    n_kept : int
        Those of them that the vocabulary still has.
    n_unknown_before, n_unknown_after : int
        Unknown tokens.
    """

    n_texts: int = 0
    n_identical: int = 0
    n_tokens: int = 0
    n_kept: int = 0
    n_unknown_before: int = 0
    n_unknown_after: int = 0

    @property
    def identical(self) -> float:
        """Share of the texts with the same tokens before and after; 1 of no texts."""
        return self.n_identical / self.n_texts if self.n_texts else 1.0

    @property
    def kept(self) -> float:
        """Share of the tokens that the vocabulary still has; 1 of no tokens."""
        return self.n_kept / self.n_tokens if self.n_tokens else 1.0

    def plus(self, other: "Coverage") -> "Coverage":
        """Return the coverage of both texts."""
        return Coverage(*(a + b for a, b in zip(vars(self).values(), vars(other).values(), strict=True)))


@dataclass(frozen=True, repr=False)
class TrimReport:
    """What `trim_vocabulary` wrote.

    Attributes
    ----------
    folder : Path
        The folder that was written.
    n_rows_before, n_rows_after : int
        Rows of the word embeddings.
    n_bytes_before, n_bytes_after : int
        Size of the files with the weights.
    coverage : mapping of str to Coverage
        By language, in the order given; ``"all texts"`` if the texts came without languages. Each has the counts ``n_texts``,
        ``n_identical`` (texts with the same tokens before and after), ``n_tokens``, ``n_kept`` (tokens that the vocabulary
        still has), ``n_unknown_before`` and ``n_unknown_after``, and the shares ``identical`` and ``kept``.
    old_ids : ndarray of shape (n_rows_after,), int64
        The token that now has id ``i`` had id ``old_ids[i]``. Ascending.

    See Also
    --------
    trim_vocabulary : Returns it.

    Examples
    --------
    >>> import tempfile
    >>> from skxlmr import trim_vocabulary
    >>> texts = {"de": ["Das Zimmer war sauber."], "en": ["The room was clean.", "Breakfast was good."]}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     report = trim_vocabulary("skxlmr-mini", texts, folder + "/small", keep="used")
    >>> report.n_rows_before, report.n_rows_after < 100
    (18000, True)
    >>> report.to_frame()[["n_texts", "identical", "n_unknown_after"]]
              n_texts  identical  n_unknown_after
    language
    de              1        1.0                0
    en              2        1.0                0
    """

    folder: Path
    n_rows_before: int
    n_rows_after: int
    n_bytes_before: int
    n_bytes_after: int
    coverage: Mapping[str, Coverage]
    old_ids: NDArray[np.int64] = field(compare=False)

    def new_ids(self) -> NDArray[np.int64]:
        """Return the map the other way round: the new id of each old one, -1 of those that are gone.

        Returns
        -------
        ndarray of shape (n_rows_before,), int64
            To translate what was computed with the ids of before.

        Examples
        --------
        >>> import tempfile
        >>> from skxlmr import trim_vocabulary
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     report = trim_vocabulary("skxlmr-mini", ["Das Zimmer war sauber."], folder + "/small", keep="used")
        >>> new = report.new_ids()  # of what was computed with the old ids
        >>> new[report.old_ids[5]].item(), len(new), new.min().item()
        (5, 18000, -1)
        """
        lookup = np.full(self.n_rows_before, -1, np.int64)
        lookup[self.old_ids] = np.arange(len(self.old_ids))
        return lookup

    def to_frame(self) -> "pd.DataFrame":
        """Return the coverage as a table.

        Returns
        -------
        DataFrame
            A row per language, with a column for each count and share of ``coverage``.
        """
        import pandas as pd

        rows = [vars(each) | {"identical": each.identical, "kept": each.kept} for each in self.coverage.values()]
        return pd.DataFrame(rows, index=pd.Index(self.coverage.keys(), name="language"))

    def __repr__(self) -> str:
        width = max(map(len, ["language", *self.coverage]))
        head = ("texts", "identical", "tokens", "kept", "unknown before", "after")
        lines = [
            f"TrimReport: {self.folder}",
            f"  rows of the word embeddings  {self.n_rows_before:>13,} -> {self.n_rows_after:>13,}"
            f"  ({self.n_rows_after / self.n_rows_before:.1%})",
            f"  bytes of the weights         {self.n_bytes_before:>13,} -> {self.n_bytes_after:>13,}"
            f"  ({self.n_bytes_after / self.n_bytes_before:.1%})",
            f"  {'language':{width}}  " + "  ".join(f"{name:>{max(9, len(name))}}" for name in head),
        ]
        for language, each in self.coverage.items():
            shares = (_share(each.n_identical, each.n_texts), _share(each.n_kept, each.n_tokens))
            cells = [f"{each.n_texts:,}", shares[0], f"{each.n_tokens:,}", shares[1]]
            cells += [f"{each.n_unknown_before:,}", f"{each.n_unknown_after:,}"]
            shown = "  ".join(f"{cell:>{max(9, len(name))}}" for cell, name in zip(cells, head, strict=True))
            lines.append(f"  {language:{width}}  {shown}")
        return "\n".join(lines)


def _share(part: int, whole: int) -> str:
    """A share in per cent, which says 100 only of all and 0 only of none."""
    if not whole:
        return "-"
    share = part / whole
    if part in (0, whole) or 0.0005 <= share < 0.9995:
        return f"{share:.1%}"
    return "< 0.1%" if share < 0.5 else "> 99.9%"
