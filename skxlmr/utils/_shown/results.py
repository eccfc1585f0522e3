"""What estimators return as lists of dicts: entities, answers and fillings of masks."""

from collections.abc import Iterable, Sequence
from typing import Any

from skxlmr.utils._shown.lists import ShownList
from skxlmr.utils._shown.marks import STYLE, Mark, marked_text, numbered, visible

MOST_TEXTS = 20  # that a notebook shows of a result; a display shows all
CONTEXT = 200  # characters around marks


class Entities(ShownList):
    """Entities of texts: a row is about its text."""

    __slots__ = ()
    _levels = (("text", "texts"), ("entity", "entities"))

    @classmethod
    def of_texts(cls, texts: Iterable[str], found: Iterable[list[dict[str, Any]]]) -> "Entities":
        """A row for each text."""
        return cls(cls(row, 1, text) for text, row in zip(texts, found, strict=True))

    def _repr_html_(self) -> str:
        rows = [self] if self._depth else self
        if not all(_has_text(row, str) for row in rows):
            return super()._repr_html_()
        blocks = [marked_text(row._about, entity_marks(row), context=CONTEXT) for row in rows[:MOST_TEXTS]]
        return _page(blocks, len(rows) - len(blocks), "texts", self._counted())


class Answers(ShownList):
    """Answers to questions, best first: a row is about its question and its context."""

    __slots__ = ()
    _levels = (("question", "questions"), ("answer", "answers"))

    @classmethod
    def of_questions(
        cls, questions: Iterable[str], contexts: Iterable[str], found: Iterable[list[dict[str, Any]]]
    ) -> "Answers":
        """A row for each question."""
        return cls(cls(row, 1, about) for *about, row in zip(questions, contexts, found, strict=True))

    def _repr_html_(self) -> str:
        rows = [self] if self._depth else self
        if not all(_has_text(row, list) for row in rows):
            return super()._repr_html_()
        blocks = [
            answers_html(
                row._about[0], marked_text(row._about[1], answer_marks(row), context=CONTEXT), row._table_html()
            )
            for row in rows[:MOST_TEXTS]
        ]
        return _page(blocks, len(rows) - len(blocks), "questions", self._counted())


class Fillings(ShownList):
    """Fillings of the masks of texts, best first."""

    __slots__ = ()
    _levels = (("text", "texts"), ("mask", "masks"), ("filling", "fillings"))

    @classmethod
    def of_masks(cls, found: Iterable[Sequence[Sequence[dict[str, Any]]]]) -> "Fillings":
        """A row for each text, and one in it for each of its masks."""
        return cls(cls((cls(mask, 2) for mask in row), 1) for row in found)


def entity_marks(entities: Iterable[dict[str, Any]]) -> list[Mark]:
    """Marks of what ``predict_entities`` found in a text."""
    marks = []
    for entity in entities:
        start, end, label = entity["start"], entity["end"], str(entity.get("entity_group", entity.get("entity", "")))
        if start < end:
            marks.append(Mark(start, end, label, f"{label}, score {entity['score']:.3f}, characters {start} to {end}"))
    return marks


def answer_marks(answers: Sequence[dict[str, Any]]) -> list[Mark]:
    """Marks of what ``predict_spans`` found in a context, with their ranks."""
    marks = []
    for rank, answer in enumerate(answers, 1):
        start, end = answer["start"], answer["end"]
        if start < end:
            title = f"answer {rank}, score {answer['score']:.3f}, characters {start} to {end}"
            marks.append(Mark(start, end, str(rank), title, color="#f9cf8f" if rank == 1 else "#eeeeee"))
    return marks


def answers_html(question: str, marked: str, table: str) -> str:
    """A question, its context with marks, and a table of answers under it."""
    return f'<div><div dir="auto"><strong>{visible(question)}</strong></div>{marked}{table}</div>'


def _has_text(row: Any, kind: type) -> bool:
    """Whether a row is still what a method returned, with what it is about."""
    return isinstance(row, ShownList) and isinstance(row._about, kind) and all(map(_has_place, row))


def _has_place(item: Any) -> bool:
    return isinstance(item, dict) and item.keys() >= {"start", "end", "score"}


def _page(blocks: list[str], n_left_out: int, what: str, counted: str) -> str:
    return f"<style>{STYLE}</style>{numbered(blocks, n_left_out, what)}<p>{counted}</p>"
