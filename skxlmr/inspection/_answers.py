"""Answers marked in their contexts, with what else was found and what is true."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from skxlmr.estimators._answers.rows import check_questions, question_table
from skxlmr.inspection._display import HtmlDisplay, new_axes
from skxlmr.inspection._last_step import step_with
from skxlmr.metrics import answer_exact_match_score, answer_f1_score
from skxlmr.metrics._answers import AnswerList, read_answers
from skxlmr.utils._shown.html import document
from skxlmr.utils._shown.marks import STYLE, Mark, check_context, label_html, marked_text, numbered, opening, visible
from skxlmr.utils._tables import as_list, describe
from skxlmr.utils._whole_numbers import whole_number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_QUESTIONS = 50  # in a notebook
_BEST, _OTHERS = "#f9cf8f", "#e4e4e4"
_NO_ANSWER = "no answer"


class AnswerDisplay(HtmlDisplay):
    """Answers to questions, marked in their contexts.

    Make one with `from_estimator` or `from_predictions`. In a notebook it shows itself; `to_html` writes a page, and `plot`
    draws the scores of the best answers.

    Parameters
    ----------
    questions, contexts : list of str
        What was asked, and the text in which the answer was looked for.
    answers : list of list of dict
        For each question its answers, best first, as ``predict_spans`` returns them: ``answer``, ``score`` (None where it is
        not known), ``start`` and ``end``; both are 0 for no answer.
    true : list, optional
        True answers of each question, as ``fit`` takes them.
    language : str or list of str, optional
        For the comparison with true answers, as in `skxlmr.metrics.answer_f1_score`.
    context : int, optional
        Characters shown around answers in long contexts; None shows whole contexts.

    Attributes
    ----------
    exact_match, f1 : ndarray of shape (n_questions,) or None
        Scores of the best answers, if the true ones are known.
    ax_ : matplotlib Axes
        After `plot`.
    figure_ : matplotlib Figure

    See Also
    --------
    EntityDisplay : Entities, marked in their texts.
    skxlmr.XLMRobertaQuestionAnswerer.predict_spans : What finds answers.
    skxlmr.metrics.answer_f1_score : How answers are compared.

    Examples
    --------
    >>> from skxlmr.inspection import AnswerDisplay
    >>> best = {"answer": "A bird", "score": 0.8, "start": 0, "end": 6}
    >>> other = {"answer": "", "score": 0.1, "start": 0, "end": 0}
    >>> display = AnswerDisplay.from_predictions([("Who sings?", "A bird sings.")], [[best, other]], y_true=["bird"])
    >>> display
    AnswerDisplay of 1 question: exact match 0.000, F1 0.667
    >>> page = display.to_html()
    """

    _title = "Answers"

    def __init__(
        self,
        questions: Sequence[str],
        contexts: Sequence[str],
        answers: Sequence[Sequence[Mapping[str, Any]]],
        true: Any = None,
        *,
        language: str | Sequence[str] | None = None,
        context: int | None = 300,
    ):
        self.questions = questions
        self.contexts = contexts
        self.answers = answers
        self.true = None if true is None else read_answers(true, "true")
        self.context = check_context(context)
        self.exact_match = self.f1 = None
        if self.true is not None:
            best = [row[0]["answer"] if row else "" for row in answers]
            languages = [language] * len(best) if language is None or isinstance(language, str) else list(language)
            if len(languages) != len(best):
                raise ValueError(f"language has {len(languages)} rows for {len(best)} questions")
            self.exact_match, self.f1 = (
                np.array(
                    [
                        score([list(each)], [found], language=name)
                        for each, found, name in zip(self.true, best, languages, strict=True)
                    ]
                )
                for score in (answer_exact_match_score, answer_f1_score)
            )

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any = None,
        *,
        n_best: int = 3,
        language: str | Sequence[str] | None = None,
        context: int | None = 300,
    ) -> Self:
        """Answers that a fitted estimator finds.

        Parameters
        ----------
        estimator : XLMRobertaQuestionAnswerer
            Fitted, loaded, or the last step of a fitted pipeline or search.
        X : DataFrame, list of dict, list of pairs or array of shape (n_rows, 2)
            Questions and contexts.
        y : list, Series, array or DataFrame, optional
            True answers, as ``fit`` takes them.
        n_best : int
            Most answers for a question.
        language : str or list of str, optional
            For the comparison with true answers, as in `skxlmr.metrics.answer_f1_score`.
        context : int, optional
            Characters shown around answers in long contexts; None shows whole contexts.

        Returns
        -------
        AnswerDisplay

        Raises
        ------
        TypeError
            If the estimator does not answer questions.
        ValueError
            If y is not of X; names the row.

        Examples
        --------
        >>> from skxlmr import XLMRobertaQuestionAnswerer
        >>> from skxlmr.inspection import AnswerDisplay
        >>> X = [("Who sings?", "A bird sings."), ("Wer singt?", "Ein Kind singt."), ("Who runs?", "A dog runs.")]
        >>> y = [("bird", 2), ("Kind", 4), ("dog", 2)]
        >>> answerer = XLMRobertaQuestionAnswerer("skxlmr-mini", learning_rate=1e-3, max_epochs=15, random_state=0)
        >>> AnswerDisplay.from_estimator(answerer.fit(X, y), X, y)
        AnswerDisplay of 3 questions: exact match 1.000, F1 1.000
        """
        estimator, X = step_with("predict_spans", estimator, X, cls.__name__)
        return cls(*_check(X, estimator.predict_spans(X, n_best), y, "y"), language=language, context=context)

    @classmethod
    def from_predictions(
        cls,
        X: Any,
        answers: Any,
        y_true: Any = None,
        *,
        language: str | Sequence[str] | None = None,
        context: int | None = 300,
    ) -> Self:
        """Answers that are known.

        Parameters
        ----------
        X : DataFrame, list of dict, list of pairs or array of shape (n_rows, 2)
            Questions and contexts.
        answers : list, array or Series
            For each question what ``predict_spans`` returns, or a text as ``predict`` returns it, ``""`` for no answer. A text
            is marked where it first occurs in its context.
        y_true : list, Series, array or DataFrame, optional
            True answers, as ``fit`` takes them.
        language : str or list of str, optional
            For the comparison with true answers, as in `skxlmr.metrics.answer_f1_score`.
        context : int, optional
            Characters shown around answers in long contexts; None shows whole contexts.

        Returns
        -------
        AnswerDisplay

        Raises
        ------
        ValueError
            If there is not one row for each question, or an answer is not in its context; names the row.
        """
        return cls(*_check(X, answers, y_true, "y_true"), language=language, context=context)

    def __repr__(self) -> str:
        n = len(self.questions)
        shown = f"{type(self).__name__} of {n:,} {'question' if n == 1 else 'questions'}"
        return shown if self.f1 is None or not n else f"{shown}: {self._scores()}"

    def plot(self, ax: Axes | None = None) -> Self:
        """Draw a histogram of the scores of the best answers, the right ones apart from the others if these are known.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            A new figure by default.

        Returns
        -------
        AnswerDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If the answers have no scores, or a score is not finite; names the row.
        """
        best = [row[0]["score"] if row else 0.0 for row in self.answers]
        if any(score is None for score in best):
            raise ValueError("the answers have no scores to draw: pass what predict_spans returns, or call to_html")
        scores = np.array(best, float)
        if len(bad := np.flatnonzero(~np.isfinite(scores))):
            raise ValueError(
                f"answers row {bad[0]}: the score of the best answer is {scores[bad[0]]}, which can't be drawn"
            )
        ax = new_axes(self, ax)
        parts, looks = [scores], [("answers", "#2b446e", "")]
        if self.exact_match is not None:
            is_right = self.exact_match == 1
            parts = [scores[is_right], scores[~is_right]]
            looks = [("exact match", "#2b446e", ""), ("others", "#e6d255", "//")]
        labels, colors, hatches = zip(*looks, strict=True)
        low, high = min([0.0, *scores]), max([1.0, *scores])  # those of other tools may be no probabilities
        ax.hist(
            parts,
            bins=np.linspace(low, high, 11).tolist(),
            stacked=True,
            label=list(labels),
            color=list(colors),
            hatch=list(hatches),
            edgecolor="black",
        )
        ax.set(xlabel="score of the best answer", ylabel="questions", xlim=(low, high))
        from matplotlib.ticker import MaxNLocator  # after the error that names the extra

        ax.yaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        if self.exact_match is not None:
            ax.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, frameon=False)  # above the bars
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def _scores(self) -> str:
        assert self.exact_match is not None and self.f1 is not None
        return f"exact match {self.exact_match.mean():.3f}, F1 {self.f1.mean():.3f}"

    def _fragment(self) -> str:
        return self._html(MOST_QUESTIONS)

    def _page(self) -> str:
        return document(self._title, f"<h1>{self._title}</h1>{self._html(None)}")

    def _html(self, most: int | None) -> str:
        if not len(self.questions):
            return "<p>No questions.</p>"
        blocks = [self._block(row) for row in range(len(self.questions[:most]))]
        key = [_chip(Mark(0, 1, "1", color=_BEST), "best answer"), _chip(Mark(0, 1, "2", color=_OTHERS), "others")]
        if self.true is not None:
            key += [_chip(Mark(0, 1, "true", state="true"), "true answer where the best is wrong"), self._scores()]
        summary = f'<div class="skxlmr-key">{"".join(f"<span>{each}</span>" for each in key)}</div>'
        return f"<style>{STYLE}</style>{summary}{numbered(blocks, len(self.questions) - len(blocks), 'questions')}"

    def _block(self, row: int) -> str:
        answers, text = self.answers[row], self.contexts[row]
        true = None if self.true is None else self.true[row]
        state, verdict = "", ""
        if true is not None and self.exact_match is not None and self.f1 is not None:
            is_right = self.exact_match[row] == 1
            state = "right" if is_right else "wrong"
            verdict = f" <bdi>{'✓ right' if is_right else f'✗ wrong, F1 {self.f1[row]:.2f}'}</bdi>"
        marks = [
            Mark(answer["start"], answer["end"], str(rank), _title(rank, answer), state if rank == 1 else "", color)
            for rank, answer, color in zip(
                range(1, len(answers) + 1), answers, [_BEST] + [_OTHERS] * len(answers), strict=False
            )
            if answer["start"] < answer["end"]
        ]
        if true is not None and state == "wrong":
            marks += [Mark(*place, "true", "a true answer", "true") for place in _places(true, text)]
        question = f'<div dir="auto"><strong>{visible(self.questions[row])}</strong>{verdict}</div>'
        return f"<div>{question}{marked_text(text, marks, context=self.context)}{_listed(answers, true)}</div>"


def _check(X: Any, answers: Any, y: Any, name: str) -> tuple[list[str], list[str], Any, list[AnswerList] | None]:
    """Questions, contexts, answers that stand in them, and true ones."""
    rows = check_questions(question_table(X, "X"), "X")
    contexts = rows.second or []
    found = as_list(answers)
    true = None if y is None else read_answers(y, name)
    for what, column in (("answers", found), (name, true)):
        if column is not None and len(column) != len(contexts):
            raise ValueError(f"{what} has {len(column)} rows for {len(contexts)} questions")
    read = [_read(row, text, f"answers row {i}") for i, (row, text) in enumerate(zip(found, contexts, strict=True))]
    for i, (row, text) in enumerate(zip(true or [], contexts, strict=False)):
        for answer, start in row:
            if start is not None and text[start : start + len(answer)] != answer:
                raise ValueError(
                    f"{name} row {i}: expected the answer {answer!r:.80} at character {start} of the context, found "
                    f"{text[start : start + len(answer)]!r:.80} there"
                )
    return rows.first, contexts, read, true


def _read(row: Any, text: str, where: str) -> list[dict[str, Any]]:
    """Answers of one question."""
    if isinstance(row, str):
        start = text.find(row)
        if start < 0:
            raise ValueError(f"{where}: the answer {describe(row)} is not in its context, {describe(text)}")
        return [{"answer": row, "score": None, "start": start, "end": start + len(row)}]
    if not isinstance(row, list | tuple | np.ndarray) or not all(isinstance(answer, Mapping) for answer in row):
        raise ValueError(
            f"{where}: expected a list of dicts as predict_spans returns it, or a text, got {describe(row)}"
        )
    read = []
    for answer in row:
        missing = {"answer", "start", "end"} - answer.keys()
        if missing:
            raise ValueError(f"{where}: an answer has no {', '.join(sorted(missing))}: {describe(dict(answer))}")
        start, end = (whole_number(answer[key], f"{where}: {key}") for key in ("start", "end"))
        if not 0 <= start <= end <= len(text):
            raise ValueError(f"{where}: the characters {start} to {end} are not within the {len(text)} of the context")
        if text[start:end] != answer["answer"]:
            raise ValueError(
                f"{where}: the answer {describe(answer['answer'])} is of another context, which has "
                f"{describe(text[start:end])} at characters {start} to {end}"
            )
        read.append({"answer": answer["answer"], "score": answer.get("score"), "start": start, "end": end})
    return read


def _places(true: AnswerList, text: str) -> list[tuple[int, int]]:
    """Where true answers stand in the context, as far as they do; the first place of those without a start."""
    starts = [(text.find(answer) if start is None else start, answer) for answer, start in true]
    return sorted({(start, start + len(answer)) for start, answer in starts if start >= 0})


def _chip(mark: Mark, meaning: str) -> str:
    return f"{opening(mark)}text{label_html(mark)}</mark> {meaning}"


def _title(rank: int, answer: Mapping[str, Any]) -> str:
    score = "" if answer["score"] is None else f", score {answer['score']:.3f}"
    return f"answer {rank}{score}, characters {answer['start']} to {answer['end']}"


def _listed(answers: Sequence[Mapping[str, Any]], true: AnswerList | None) -> str:
    """Answers with their ranks and scores, then the true ones."""
    lines = [
        (f"{rank}", "" if answer["score"] is None else f"{answer['score']:.3f}", answer["answer"])
        for rank, answer in enumerate(answers, 1)
    ] or [("1", "", "")]
    if true is not None:
        lines += [("true", "", answer) for answer in dict.fromkeys(answer for answer, _ in true)] or [("true", "", "")]
    cells = (
        f'<tr><td>{rank}</td><td>{score}</td><td dir="auto">{visible(text) or f"<em>{_NO_ANSWER}</em>"}</td></tr>'
        for rank, score, text in lines
    )
    return f'<table class="skxlmr-table"><tbody>{"".join(cells)}</tbody></table>'
