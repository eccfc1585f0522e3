"""Where the tokens of a text look, head by head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from skxlmr.inspection._attention.measures import MEASURES, head_measures, of_words
from skxlmr.inspection._attention.page import label, page
from skxlmr.inspection._attention.rows import ReadRow, encoded_rows, joined_words, read_rows
from skxlmr.inspection._display import HtmlDisplay, new_axes
from skxlmr.inspection._fonts import drawn
from skxlmr.inspection._last_step import last_step
from skxlmr.utils._shown.html import framed
from skxlmr.utils._whole_numbers import whole_number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_ROWS = 16
FRAME_HEIGHT = 900  # of a page in a notebook, in pixels
NUMBERED = 8 * 12  # most heads whose cells have their number written in them
SUM_TOLERANCE = 0.02  # weights in bfloat16 have two to three digits


class AttentionDisplay(HtmlDisplay):
    """Where the tokens of texts look, in each layer and head: a page to explore, and pictures.

    Nothing is drawn until it is asked for. ``to_html`` makes a page of one file, which a notebook shows too: a table of all
    heads, the tokens with lines between them, two texts side by side, and for pairs of texts the words of one that meet
    words of the other. ``plot`` draws all heads, or the weights of one.

    Layers and heads are counted from 0, as in ``transformers``: layer ``i`` turns the vectors that the parameter ``layers``
    calls ``i`` into those it calls ``i + 1``.

    Attention shows what a layer mixes. It is no explanation of a prediction: for that, see ``attributions``.

    Parameters
    ----------
    attentions : list of ndarray of shape (n_layers, n_heads, n_tokens, n_tokens), float32
        For each text the weights of its tokens; row ``i`` of the last two dimensions says where token ``i`` looks.
    tokens : list of list of str
        For each text its tokens.
    word_ids : list of list of int
        Number of each token's word, counted from 0 in its row; -1 for special tokens.
    sequence_ids : list of list of int
        Which text of a pair each token belongs to, 0 or 1; -1 for special tokens.
    sources : list of list of str
        For each row its text, or both texts of a pair.

    Attributes
    ----------
    attentions, tokens, word_ids, sequence_ids, sources
        The parameters.
    ax_ : matplotlib Axes
        Where ``plot`` has drawn last.
    figure_ : matplotlib Figure
        The figure of ``ax_``.
    image_ : matplotlib AxesImage
        The drawn numbers.

    See Also
    --------
    skxlmr.XLMRobertaVectorizer : Vectors of texts, from any layer.
    skxlmr.XLMRobertaMaskedLM : Fills gaps; ``<mask>`` is a token here too.

    References
    ----------
    .. [1] Hoover et al. (2020), "exBERT: A Visual Analysis Tool to Explore Learned Representations in Transformer Models",
       arXiv:1910.05276.
    .. [2] Clark et al. (2019), "What Does BERT Look At? An Analysis of BERT's Attention", arXiv:1906.04341.
    .. [3] Vig and Belinkov (2019), "Analyzing the Structure of Attention in a Transformer Language Model",
       arXiv:1906.04284.
    .. [4] Jain and Wallace (2019), "Attention is not Explanation", arXiv:1902.10186.

    Examples
    --------
    >>> from skxlmr import XLMRobertaVectorizer
    >>> from skxlmr.inspection import AttentionDisplay
    >>> pairs = [["The battery lasts two days.", "Der Akku hält zwei Tage."]]
    >>> display = AttentionDisplay.from_estimator(XLMRobertaVectorizer("skxlmr-mini"), pairs)
    >>> display.attentions[0].shape  # layers, heads, tokens that look, tokens that are looked at
    (6, 6, 25, 25)
    >>> display.tokens[0][:4]
    ['<s>', 'The', 'ba', 'tter']
    >>> page = display.to_html()  # or display.to_html("attention.html")
    """

    _title = "Attention"

    def __init__(
        self,
        attentions: Sequence[np.ndarray],
        tokens: Sequence[list[str]],
        *,
        word_ids: Sequence[list[int]],
        sequence_ids: Sequence[list[int]],
        sources: Sequence[list[str]],
    ):
        self.attentions, self.tokens = attentions, tokens
        self.word_ids, self.sequence_ids, self.sources = word_ids, sequence_ids, sources

    @classmethod
    def from_estimator(cls, estimator: Any, X: Any, *, max_tokens: int = 128) -> Self:
        """Look at the rows that a fitted estimator reads to predict or transform X.

        Rows are read as the estimator reads them: with its prompt, cut at its ``max_length``, questions with their contexts,
        prompts with each choice (a row each), texts with the hypothesis of each label (a row each), dialogues as one text with
        the speakers' tokens. ``<mask>`` in a text is a mask for estimators that have ``fill_mask``.

        Weights are computed with the estimator's ``device`` and ``dtype``, and are float32.

        Parameters
        ----------
        estimator : estimator of this package, Pipeline or search
            Fitted, or one that needs no fit. The last step of a pipeline or the best estimator of a search is looked at.
        X : rows
            As the estimator takes them; up to 16 rows with what they become.
        max_tokens : int, default=128
            Most tokens of a row. A page has a byte for each weight: 12 layers with 12 heads and 64 tokens take 0.8 MB a row,
            128 tokens 3.2 MB.

        Returns
        -------
        AttentionDisplay

        Raises
        ------
        TypeError
            If the estimator is not one of this package.
        ValueError
            If a row has more than ``max_tokens`` tokens or is read in several windows (names it), there are more than 16 rows
            or none, or the estimator runs an ONNX graph, which has no attention weights.
        """
        estimator, X = last_step(estimator, X, cls.__name__)
        engine, encoded = encoded_rows(estimator, X)
        _check_size(encoded.lengths, encoded.input_rows, max_tokens)
        rows = read_rows(estimator.tokenizer_, encoded)
        return cls._of(engine.attentions(encoded), rows)

    @classmethod
    def from_values(
        cls,
        attentions: Any,
        tokens: Any,
        *,
        word_ids: Any = None,
        sequence_ids: Any = None,
    ) -> Self:
        """Look at weights that were computed elsewhere.

        Parameters
        ----------
        attentions : list of array-like, or one array-like, of shape (n_layers, n_heads, n_tokens, n_tokens)
            For each text the weights of its tokens, from 0 to 1; a row of weights sums to 1.
        tokens : list of list of str, or one list of str
            For each text its tokens.
        word_ids : list of list of int, or one list of int, optional
            Number of each token's word, ascending from 0; that of special tokens is not read, and None makes a token special.
            By default each token is a word.
        sequence_ids : list of list of int, or one list of int, optional
            Which text of a pair each token belongs to, 0 or 1; -1 or None for special tokens. By default all are of one text.

        Returns
        -------
        AttentionDisplay

        Raises
        ------
        ValueError
            If the shapes do not fit, or weights are negative or do not sum to 1 (within 0.02); names the text.

        Examples
        --------
        >>> import numpy as np
        >>> from skxlmr.inspection import AttentionDisplay
        >>> weights = np.full((2, 3, 4, 4), 0.25)  # 2 layers with 3 heads, 4 tokens
        >>> display = AttentionDisplay.from_values(weights, ["[CLS]", "a", "bird", "[SEP]"], sequence_ids=[-1, 0, 0, -1])
        >>> len(display.attentions)
        1
        """
        alone = len(tokens) > 0 and isinstance(tokens[0], str)
        given = [
            [value] if alone and value is not None else value for value in (attentions, tokens, word_ids, sequence_ids)
        ]
        n_texts = len(given[1])
        if not n_texts or len(given[0]) != n_texts:
            raise ValueError(f"attentions and tokens must be of the same texts, got {len(given[0])} and {n_texts}")
        weights, rows = [], []
        for i in range(n_texts):
            of_text = None if given[3] is None else given[3][i]
            rows.append(_row(i, list(given[1][i]), None if given[2] is None else given[2][i], of_text))
            weights.append(_checked(i, given[0][i], len(rows[-1].tokens)))
        if len({of_text.shape[:2] for of_text in weights}) > 1:
            raise ValueError("all texts must have the same number of layers and heads")
        return cls._of(weights, rows)

    @classmethod
    def _of(cls, attentions: list[np.ndarray], rows: list[ReadRow]) -> Self:
        return cls(
            attentions,
            [row.tokens for row in rows],
            word_ids=[row.word_ids for row in rows],
            sequence_ids=[row.sequence_ids for row in rows],
            sources=[row.sources for row in rows],
        )

    def measures(self, row: int = 0) -> dict[str, np.ndarray]:
        """A number for each head of a text: what kind of tokens its attention goes to.

        Each is a mean over the tokens that are not special. ``special``: the share of the attention on special tokens.
        ``entropy``: that of the weights, in nats; 0 for a token that looks at one token, more for one that looks at many.
        ``distance``: how many tokens away, on average. ``other_text``: for pairs, the share on the other text.

        Parameters
        ----------
        row : int, default=0
            Number of the text.

        Returns
        -------
        dict of str to ndarray of shape (n_layers, n_heads), float64
            Each measure by its name.
        """
        row = _index("row", row, len(self.attentions))
        return head_measures(self.attentions[row], self.sequence_ids[row])

    def between_words(self, row: int = 0, layer: int = -1, head: int | None = None) -> np.ndarray:
        """Attention between the words of a text, or of both texts of a pair.

        Summed over the tokens of the word that is looked at, averaged over those of the word that looks. Special tokens
        belong to no word, so that rows sum to less than 1.

        Parameters
        ----------
        row : int, default=0
            Number of the text.
        layer : int, default=-1
            Negative numbers count from the last one.
        head : int, optional
            By default the mean of the layer's heads.

        Returns
        -------
        ndarray of shape (n_words, n_words), float64
            In the order of ``word_ids``: where each word looks.

        Raises
        ------
        ValueError
            If there is no such text, layer or head.
        """
        return of_words(self._weights(row, layer, head)[0], self.word_ids[row])

    def _weights(self, row: int, layer: int, head: int | None) -> tuple[np.ndarray, str]:
        """Weights of a head, or the mean of a layer's heads, and what it is called."""
        weights = self.attentions[_index("row", row, len(self.attentions))]
        layer = _index("layer", layer, len(weights))
        if head is None:
            return weights[layer].mean(0), f"Layer {layer}, mean of all heads"
        head = _index("head", head, weights.shape[1])
        return weights[layer, head], f"Layer {layer}, head {head}"

    def plot(
        self,
        ax: Axes | None = None,
        *,
        row: int = 0,
        layer: int | None = None,
        head: int | None = None,
        measure: str = "special",
        **kwargs: Any,
    ) -> Self:
        """Draw a number for each head, or with ``layer`` the weights of a head.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            By default those of a new figure.
        row : int, default=0
            Number of the text.
        layer : int, optional
            Draw the weights in this layer; negative numbers count from the last one.
        head : int, optional
            Of this head; by default the mean of the layer's heads.
        measure : {"special", "entropy", "distance", "other_text"}
            Which number of each head is drawn without ``layer``, see :meth:`measures`.
        **kwargs
            Passed to ``imshow``.

        Returns
        -------
        self

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If there is no such text, layer, head or number.
        """
        row = _index("row", row, len(self.attentions))
        if layer is not None:
            weights_QK, title = self._weights(row, layer, head)
            self._draw_weights(ax, weights_QK, list(map(label, self.tokens[row])), title, kwargs)
            return self
        if head is not None:
            raise ValueError(f"head={head} is one of a layer: pass layer too")
        values = self.measures(row)
        if measure not in values:
            known = ", ".join(map(repr, values))
            raise ValueError(f"measure must be one of {known} for this text, got {measure!r}")
        self._draw_heads(ax, values[measure], MEASURES[measure][0], kwargs)
        return self

    def _draw_heads(self, ax: Axes | None, values_LH: np.ndarray, title: str, kwargs: dict[str, Any]) -> None:
        n_layers, n_heads = values_LH.shape
        ax = new_axes(self, ax, (max(0.55 * n_heads + 1.8, 4), max(0.45 * n_layers + 1.2, 3)))
        self.image_ = ax.imshow(values_LH, **{"cmap": "cividis", "aspect": "auto", **kwargs})
        ax.set(xlabel="head", ylabel="layer", xticks=range(n_heads), yticks=range(n_layers))
        if values_LH.size <= NUMBERED:
            for (layer, head), value in np.ndenumerate(values_LH):
                colour = self.image_.cmap(self.image_.norm(value))
                dark = np.dot(colour[:3], (0.299, 0.587, 0.114)) < 0.5
                ax.text(
                    head, layer, f"{value:.2f}", ha="center", va="center", size=8, color="white" if dark else "black"
                )
        self._finish(ax, title)

    def _draw_weights(
        self, ax: Axes | None, weights_QK: np.ndarray, tokens: list[str], title: str, kwargs: dict[str, Any]
    ) -> None:
        n_tokens = len(tokens)
        side = min(max(0.27 * n_tokens + 1.5, 4), 20)
        ax = new_axes(self, ax, (side + 0.8, side))
        norm = None if {"norm", "vmin", "vmax"} & set(kwargs) else _square_root_norm(weights_QK.max())
        self.image_ = ax.imshow(weights_QK, **{"cmap": "cividis", "norm": norm, **kwargs})
        labels, fonts = drawn(tokens)
        size = min(9.0, max(4.0, 400 / n_tokens))
        ax.set_xticks(range(n_tokens), labels, rotation=90, size=size, family=fonts)
        ax.set_yticks(range(n_tokens), labels, size=size, family=fonts)
        ax.set(xlabel="is looked at", ylabel="looks", title=title)
        self._finish(ax, "weight")

    def _finish(self, ax: Axes, title: str) -> None:
        self.ax_, self.figure_ = ax, ax.figure
        ax.figure.colorbar(self.image_, ax=ax, label=title)

    def _page(self) -> str:
        rows = [
            ReadRow(*values) for values in zip(self.tokens, self.word_ids, self.sequence_ids, self.sources, strict=True)
        ]
        return page(self._title, self.attentions, rows)

    def _repr_html_(self) -> str:
        return framed(self._page(), self._title, FRAME_HEIGHT)


def _square_root_norm(most: float) -> Any:
    """Colours of matplotlib by the square root of a weight, so that small ones can be told apart."""
    from matplotlib.colors import PowerNorm

    return PowerNorm(0.5, vmin=0, vmax=most)


def _check_size(lengths: np.ndarray, input_rows: np.ndarray, max_tokens: int) -> None:
    if not 0 < len(lengths) <= MAX_ROWS:
        raise ValueError(f"X has {len(lengths)} rows to look at, expected 1 to {MAX_ROWS}: pass a few of them")
    for row, length in zip(input_rows.tolist(), lengths.tolist(), strict=True):
        if length > max_tokens:
            raise ValueError(
                f"X row {row}: {length} tokens are more than max_tokens={max_tokens}: pass a shorter text, or raise max_tokens "
                "(the page grows with the square of the tokens)"
            )


def _index(name: str, value: int, size: int) -> int:
    value = whole_number(value, name)
    if not -size <= value < size:
        raise ValueError(f"{name} must be from 0 to {size - 1}, or from -{size} to count from the last, got {value}")
    return value % size


def _row(i: int, tokens: list[str], word_ids: Any, sequence_ids: Any) -> ReadRow:
    """The tokens of text ``i`` and what is known of them."""
    of_text = (
        [0] * len(tokens) if sequence_ids is None else [-1 if each is None else int(each) for each in sequence_ids]
    )
    words = list(range(len(tokens))) if word_ids is None else list(word_ids)
    for name, values in (("sequence_ids", of_text), ("word_ids", words)):
        if len(values) != len(tokens):
            raise ValueError(f"{name} of text {i} has {len(values)} values for {len(tokens)} tokens")
    of_text = [-1 if word is None else text for text, word in zip(of_text, words, strict=True)]
    if not set(of_text) <= {-1, 0, 1}:
        raise ValueError(f"sequence_ids of text {i} must be 0, 1 or -1, got {sorted(set(of_text))}")
    # numbered anew, without the special tokens
    known: dict[tuple[int, int], int] = {}
    numbers = [
        -1 if text < 0 else known.setdefault((text, int(word)), len(known))
        for text, word in zip(of_text, words, strict=True)
    ]
    return ReadRow(tokens, numbers, of_text, joined_words(tokens, numbers, of_text))


def _checked(i: int, weights: Any, n_tokens: int) -> np.ndarray:
    """The weights of text ``i``."""
    array = np.asarray(weights, np.float32)
    if array.ndim != 4 or array.shape[2:] != (n_tokens, n_tokens) or 0 in array.shape:
        raise ValueError(
            f"attentions of text {i} must have the shape (n_layers, n_heads, {n_tokens}, {n_tokens}) for its {n_tokens} "
            f"tokens, got {array.shape}"
        )
    if not (array >= 0).all() or np.abs(array.sum(-1) - 1).max() > SUM_TOLERANCE:
        raise ValueError(
            f"attentions of text {i} must be weights from 0 to 1 whose rows sum to 1 (of softmax, not scores)"
        )
    return array
