"""What each word of one row contributes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from skxlmr.utils._tables import check_text
from skxlmr.utils._whole_numbers import whole_number

if TYPE_CHECKING:
    import pandas as pd

    from skxlmr.inspection._attributions.display import TokenAttributionDisplay

Place = tuple[int, int, int]  # number of the text in its row, first character, the one after the last


@dataclass(frozen=True, eq=False, repr=False)
class TokenAttribution:
    """What each word of a row contributes to a number that the model computes: to a logit, or to a similarity.

    :func:`attributions` makes one for each row. Nothing of it can be changed.

    Parameters
    ----------
    texts : tuple of str
        The row's text, or its two texts.
    spans : tuple of (int, int, int)
        Of each word the number of its text (0 or 1), its first character and the one after its last.
    values : ndarray of shape (n_words,), float64
        Contribution of each word, in the order of ``spans``; read only.
    method : str
        How they were computed.
    target : object, optional
        What is explained: a class, the number of an output, a tag, an answer; None where there is only one number.
    prediction, baseline : float, optional
        The number for the row as it is, and with all words masked.
    names : tuple of str
        What each text is.
    explained : (int, int, int), optional
        The part of a text that ``target`` is about, such as a tag's word, in the form of ``spans``.
    n_dropped : int
        Tokens that were cut, since the row is too long: they have no value.

    Attributes
    ----------
    words : tuple of str
        The words themselves.
    completeness_gap : float or None
        ``prediction - baseline`` minus the sum of the values: close to 0 for integrated gradients and Shapley values.

    See Also
    --------
    attributions : Makes them.
    TokenAttributionDisplay : Shows them.

    Examples
    --------
    >>> from skxlmr.inspection import TokenAttribution
    >>> TokenAttribution(("Great film",), ((0, 0, 5), (0, 6, 10)), [1.5, -0.25], target="good")
    TokenAttribution(target='good', Great +1.5, film -0.25)
    """

    texts: tuple[str, ...]
    spans: tuple[Place, ...]
    values: np.ndarray
    method: str = ""
    target: Any = None
    prediction: float | None = None
    baseline: float | None = None
    names: tuple[str, ...] = ("text",)
    explained: Place | None = None
    n_dropped: int = 0

    def __post_init__(self) -> None:
        values = np.array(self.values, np.float64)
        if values.shape != (len(self.spans),):
            raise ValueError(f"there are {len(self.spans)} words, but the values have the shape {values.shape}")
        if len(bad := np.flatnonzero(~np.isfinite(values))):
            raise ValueError(f"the value of word {bad[0]} is {values[bad[0]]}, not a finite number")
        for text in self.texts:
            check_text(text, "texts")
        values.flags.writeable = False
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "spans", tuple(_place(span, self.texts) for span in self.spans))

    @property
    def words(self) -> tuple[str, ...]:
        """The words themselves."""
        return tuple(self.texts[number][start:end] for number, start, end in self.spans)

    @property
    def completeness_gap(self) -> float | None:
        """What the values lack of ``prediction - baseline``."""
        if self.prediction is None or self.baseline is None:
            return None
        return float(self.prediction - self.baseline - self.values.sum())

    def strongest(self, n: int = 10) -> list[tuple[str, float]]:
        """The words with the largest contributions, whatever their sign, largest first.

        Parameters
        ----------
        n : int
            Most words.

        Returns
        -------
        list of (str, float)
            Word and contribution.
        """
        order = np.argsort(-np.abs(self.values), kind="stable")[:n]
        words = self.words
        return [(words[i], float(self.values[i])) for i in order.tolist()]

    def to_frame(self) -> pd.DataFrame:
        """Return a table with a row for each word.

        Returns
        -------
        DataFrame
            With the columns ``text`` (what the word's text is), ``word``, ``start``, ``end`` and ``value``.
        """
        import pandas as pd

        columns = {
            "text": [self.names[number] for number, _, _ in self.spans],
            "word": self.words,
            "start": [start for _, start, _ in self.spans],
            "end": [end for _, _, end in self.spans],
            "value": self.values,
        }
        return pd.DataFrame(columns)

    def display(self) -> TokenAttributionDisplay:
        """Return a display of this row alone.

        Returns
        -------
        TokenAttributionDisplay
            It draws itself in a notebook; ``to_html`` writes it to a file.
        """
        from skxlmr.inspection._attributions.display import TokenAttributionDisplay

        return TokenAttributionDisplay([self])

    def _repr_html_(self) -> str:
        return self.display()._repr_html_()

    def __repr__(self) -> str:
        parts = [] if self.target is None else [f"target={self.target!r}"]
        if self.prediction is not None:
            parts.append(f"prediction={self.prediction:.3g}")
        words = [f"{word} {value:+.3g}" for word, value in self.strongest(5)]
        more = [f"and {len(self.spans) - 5} more"] if len(self.spans) > 5 else []
        return f"{type(self).__name__}({', '.join(parts + words + more)})"


def _place(span: Any, texts: tuple[str, ...]) -> Place:
    """A span of whole numbers within its text."""
    place = tuple(whole_number(value, f"the span {span!r:.80}: each value") for value in span)
    if len(place) != 3 or not (0 <= place[0] < len(texts) and 0 <= place[1] <= place[2] <= len(texts[place[0]])):
        raise ValueError(f"the span {place} lies outside of the row's texts")
    return place
