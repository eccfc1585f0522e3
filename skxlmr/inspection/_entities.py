"""Entities in their texts: what a tagger found, and what of it is right, wrong and missed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from skxlmr.estimators._tokens.rows import TokenRows, cells_of
from skxlmr.inspection._display import HtmlDisplay, new_axes
from skxlmr.inspection._fonts import drawn
from skxlmr.inspection._last_step import step_with
from skxlmr.inspection._read_entities import Entity, ignored_words, read_entities, read_texts, scheme_of
from skxlmr.metrics._entities import precision_recall_f1
from skxlmr.utils._shown.html import document
from skxlmr.utils._shown.marks import (
    STYLE,
    Mark,
    check_colors,
    check_context,
    label_html,
    marked_text,
    numbered,
    opening,
    visible,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_TEXTS = 50  # in a notebook
# colours of cividis, which differ in greyscale too, and hatches
_BARS = {"right": ("#2b446e", ""), "wrong": ("#e6d255", "//"), "missed": ("#ffffff", "..")}


class EntityDisplay(HtmlDisplay):
    """Entities marked in their texts.

    Make one with `from_estimator` or `from_predictions`. In a notebook it shows itself; `to_html` writes a page, and `plot`
    draws how many entities of each label there are.

    Parameters
    ----------
    texts : list of str
        What was read.
    entities : list of list of (start, end, label, score)
        What was found in each text, in characters; the score is None where it is not known.
    true : list of list of (start, end, label), optional
        What should have been found.
    colors : dict, optional
        Background of labels, ``{label: "#rrggbb" or a name}``. By default a label has the same colour in every display.
    context : int, optional
        Characters shown around entities of long texts; None shows whole texts.

    Attributes
    ----------
    ax_ : matplotlib Axes
        After `plot`.
    figure_ : matplotlib Figure
    bars_ : dict of BarContainer
        By outcome, ``"right"``, ``"wrong"`` and ``"missed"``, or ``"found"``.

    See Also
    --------
    AnswerDisplay : Answers to questions, marked in their contexts.
    skxlmr.XLMRobertaTokenClassifier.predict_entities : What finds entities.
    skxlmr.metrics.entity_report : Precision, recall and F1 of each label.

    Notes
    -----
    An entity is right if its label and both its ends are those of a true one, as in `skxlmr.metrics.entity_report`; white space
    and invisible characters at its ends do not count. So a part of a true entity is wrong, and the true one is missed: both are
    marked. Marks of entities that overlap are nested. Where they cross, one is drawn in two parts, whose labels have dots.

    Offsets are characters of a Python string. A mark that begins or ends inside what readers take for one character (a letter
    with its accents, an emoji with its skin tone) is drawn around all of it; its tooltip says so.

    Examples
    --------
    >>> from skxlmr.inspection import EntityDisplay
    >>> display = EntityDisplay.from_predictions(
    ...     ["Anna lives in Rome.", "Tel Aviv"],
    ...     [[(0, 4, "PER"), (14, 18, "LOC")], [(0, 3, "LOC")]],
    ...     y_true=[[(0, 4, "PER")], [(0, 8, "LOC")]],
    ... )
    >>> display
    EntityDisplay of 2 texts: 1 right, 2 wrong, 1 missed
    >>> page = display.to_html()
    """

    _title = "Entities"

    def __init__(
        self,
        texts: Sequence[str],
        entities: Sequence[Sequence[Any]],
        true: Sequence[Sequence[Any]] | None = None,
        *,
        colors: Mapping[str, str] | None = None,
        context: int | None = None,
    ):
        check_colors(colors)
        self.texts = texts
        self.entities = [[Entity(*entity) for entity in row] for row in entities]
        self.true = None if true is None else [[Entity(*entity) for entity in row] for row in true]
        self.colors = colors
        self.context = check_context(context)

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any = None,
        *,
        aggregation: str = "auto",
        ignore_labels: Collection[str] = ("O",),
        colors: Mapping[str, str] | None = None,
        context: int | None = None,
    ) -> Self:
        """Entities that a fitted tagger finds.

        Parameters
        ----------
        estimator : XLMRobertaTokenClassifier
            Fitted, loaded, or the last step of a fitted pipeline or search.
        X : texts, or rows of words
            Rows of words are joined with spaces.
        y : list, array or Series, optional
            True spans of texts or tags of words, as ``fit`` takes them. Words with -100 are left out: an entity of nothing but
            such words is not shown.
        aggregation, ignore_labels : str, and collection of str
            As for `predict_entities`.
        colors : dict, optional
            Background of labels.
        context : int, optional
            Characters shown around entities of long texts; None shows whole texts.

        Returns
        -------
        EntityDisplay

        Raises
        ------
        TypeError
            If the estimator does not find entities.
        ValueError
            If y is not of X; names the row.

        Examples
        --------
        >>> from skxlmr import XLMRobertaTokenClassifier
        >>> from skxlmr.inspection import EntityDisplay
        >>> X = [["Anna", "lebt", "in", "Rom"], ["Paul", "lives", "in", "Paris"]] * 4
        >>> y = [["B-PER", "O", "O", "B-LOC"]] * 8
        >>> tagger = XLMRobertaTokenClassifier("skxlmr-mini", learning_rate=2e-3, max_epochs=10, random_state=0)
        >>> EntityDisplay.from_estimator(tagger.fit(X, y), [["Paul", "lebt", "in", "Paris"]])
        EntityDisplay of 1 text: 2 found
        """
        estimator, X = step_with("predict_entities", estimator, X, cls.__name__)
        rows = read_texts(X, "X")
        found = estimator.predict_entities(X, aggregation=aggregation, ignore_labels=ignore_labels)
        scheme = "BIO" if y is None else estimator._resolved_scheme()
        return cls(*_read(rows, list(found), y, scheme, "y"), colors=colors, context=context)

    @classmethod
    def from_predictions(
        cls,
        texts: Any,
        entities: Any,
        y_true: Any = None,
        *,
        scheme: str = "auto",
        colors: Mapping[str, str] | None = None,
        context: int | None = None,
    ) -> Self:
        """Entities that are known.

        Parameters
        ----------
        texts : list, array, Series or column of texts, or of rows of words
            What was read.
        entities : list, array or Series
            For each text what ``predict_entities`` returns, or spans ``(start, end, label)`` or dicts as ``predict`` returns
            them. For each row of words these, or one tag per word.
        y_true : list, array or Series, optional
            What is true, in any of these forms; for texts the annotations of spaCy, Doccano, Label Studio and Prodigy, too.
        scheme : {"auto", "BIO", "IOB2", "IOBES", "BILOU", "BMES", "plain"}
            What tags mean; ``"auto"`` tells it from the tags.
        colors : dict, optional
            Background of labels.
        context : int, optional
            Characters shown around entities of long texts; None shows whole texts.

        Returns
        -------
        EntityDisplay

        Raises
        ------
        ValueError
            If there is not one row for each text, or a row has no spans of its text and no tags of its words; names the row.
        """
        rows = read_texts(texts)
        return cls(*_read(rows, entities, y_true, scheme, "y_true"), colors=colors, context=context)

    @property
    def outcomes(self) -> list[list[tuple[Entity, str]]]:
        """For each text its entities, each with ``"right"``, ``"wrong"`` or ``"missed"``; ``"found"`` without true ones."""
        if self.true is None:
            return [[(entity, "found") for entity in row] for row in self.entities]
        compared = []
        for row, true in zip(self.entities, self.true, strict=True):
            spans, known = {entity.span for entity in row}, {entity.span for entity in true}
            outcomes = [(entity, "right" if entity.span in known else "wrong") for entity in row]
            outcomes += [(entity, "missed") for entity in true if entity.span not in spans]
            compared.append(sorted(outcomes, key=lambda outcome: (outcome[0].start, -outcome[0].end)))
        return compared

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """How many entities of each label are right, wrong and missed, or found; the most frequent labels first."""
        names = ("found",) if self.true is None else tuple(_BARS)
        counted = Counter((entity.label, outcome) for row in self.outcomes for entity, outcome in row)
        labels = sorted({label for label, _ in counted})
        table = {label: {name: counted[label, name] for name in names} for label in labels}
        return dict(sorted(table.items(), key=lambda item: -sum(item[1].values())))

    def __repr__(self) -> str:
        n, totals = len(self.texts), self._totals()
        shown = ", ".join(f"{n_of:,} {name}" for name, n_of in totals.items())
        return f"{type(self).__name__} of {n:,} {'text' if n == 1 else 'texts'}: {shown}"

    def plot(self, ax: Axes | None = None) -> Self:
        """Draw how many entities of each label are right, wrong and missed, or found.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            A new figure by default.

        Returns
        -------
        EntityDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        counts = self.counts
        ax = new_axes(self, ax, figsize=(6.4, 1.6 + 0.4 * max(len(counts), 1)))
        from matplotlib.ticker import MaxNLocator  # after the error that names the extra

        labels, left = list(counts), np.zeros(len(counts))
        self.bars_ = {}
        for name in ("found",) if self.true is None else _BARS:
            widths = np.array([counts[label][name] for label in labels], float)
            color, hatch = _BARS.get(name, _BARS["right"])
            bars = ax.barh(
                range(len(labels)), widths, left=left, color=color, hatch=hatch, edgecolor="black", label=name
            )
            inside = [f"{width:.0f}" if width else "" for width in widths]
            box = {"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none"}
            ax.bar_label(bars, inside, label_type="center", color="black", fontsize="small", bbox=box)
            self.bars_[name], left = bars, left + widths
        names, families = drawn(labels)
        ax.set_yticks(range(len(names)), names, family=families)
        ax.invert_yaxis()
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        ax.set(xlabel="entities")
        if self.true is not None:
            ax.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=3, frameon=False)  # above the bars
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def _totals(self) -> dict[str, int]:
        names = ("found",) if self.true is None else tuple(_BARS)
        counted = Counter(outcome for row in self.outcomes for _, outcome in row)
        return {name: counted[name] for name in names}

    def _fragment(self) -> str:
        return self._html(MOST_TEXTS)

    def _page(self) -> str:
        return document(self._title, f"<h1>{self._title}</h1>{self._html(None)}")

    def _html(self, most: int | None) -> str:
        if not len(self.texts):
            return "<p>No texts.</p>"
        blocks = [
            marked_text(text, map(_mark, row), self.colors, self.context) if text else "<em>an empty text</em>"
            for text, row in zip(self.texts[:most], self.outcomes[:most], strict=True)
        ]
        return f"<style>{STYLE}</style>{self._key()}{numbered(blocks, len(self.texts) - len(blocks))}"

    def _key(self) -> str:
        """What is marked, and how often."""
        counts = self.counts
        if not counts:
            return '<p class="skxlmr-more">No entities.</p>'
        chips = [
            f"<span>{opening(Mark(0, 1, label), self.colors)}{visible(label)}</mark> {sum(each.values()):,}</span>"
            for label, each in counts.items()
        ]
        key = f'<div class="skxlmr-key">{"".join(chips)}</div>'
        if self.true is None:
            return key
        states = "".join(
            f"<span>{opening(Mark(0, 1, '', state=name, color='#d3d3d3'))}text{label_html(Mark(0, 1, '', state=name))}</mark> "
            f"{n:,} {name}</span>"
            for name, n in self._totals().items()
        )
        precision, recall, f1 = precision_recall_f1(
            *([[entity.span for entity in row] for row in rows] for rows in (self.true, self.entities))
        )
        scores = f"<span>precision {precision:.3f}, recall {recall:.3f}, F1 {f1:.3f}</span>"
        return f'{key}<div class="skxlmr-key">{states}{scores}</div>'


def _read(rows: TokenRows, entities: Any, y_true: Any, scheme: str, name: str) -> tuple[list[str], Any, Any]:
    """Texts, entities found in them, and true ones."""
    found = cells_of(entities, "entities", rows_needed=False)
    true = None if y_true is None else cells_of(y_true, name, rows_needed=False)
    if scheme == "auto":
        scheme = "BIO" if rows.texts is not None else scheme_of(found, true or ())
    if true is None:
        return rows.joined(), read_entities(found, rows, "entities", scheme), None
    read = read_entities(true, rows, name, scheme)
    return rows.joined(), read_entities(found, rows, "entities", scheme, ignored_words(true, rows)), read


def _mark(outcome: tuple[Entity, str]) -> Mark:
    (start, end, label, score), state = outcome
    title = f"{label}{'' if state == 'found' else ', ' + state}{'' if score is None else f', score {score:.3f}'}"
    return Mark(start, end, label, f"{title}, characters {start} to {end}", "" if state == "found" else state)
