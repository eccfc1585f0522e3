"""What people pass as questions with contexts becomes two lists of strings, and answers become parts of the contexts."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.utils.validation import check_consistent_length

from skxlmr.metrics._answers import AnswerList, read_answers
from skxlmr.text import Tokenizer
from skxlmr.utils._containers import known_container
from skxlmr.utils._tables import as_list, column_names, name_of
from skxlmr.utils._validation import Texts, check_texts

COLUMNS = ["question", "context"]


@dataclass(frozen=True)
class Target:
    """Answers of a row, with the context that validation slices its predictions from.

    Attributes
    ----------
    context : str
    start, end : int
        Characters of the first answer, which is trained on; (-1, -1) for no answer.
    answers : AnswerList
        All that count as right.
    """

    context: str
    start: int
    end: int
    answers: AnswerList


def question_table(X: Any, name: str) -> Any:
    """The two columns of X: of a frame those named question and context, of records a list of pairs, else X itself."""
    X = known_container(X, name)
    if hasattr(X, "columns"):
        names = list(map(name_of, column_names(X)))
        absent = [column for column in COLUMNS if column not in names]
        if absent:  # two columns go by their places, unless their names contradict these
            if len(names) > 2 or names[1:] == COLUMNS[:1] or names[:1] == COLUMNS[1:]:
                raise ValueError(
                    f"{name} has no column {absent[0]!r}: 'question' and 'context' are read, or else two columns, the question "
                    f"first; got {len(names)} columns {names!r:.200}"
                )
            return X
        return X[COLUMNS] if hasattr(X, "iloc") else X.select(COLUMNS)  # polars frames and Arrow tables select
    if isinstance(X, str | bytes | Mapping) or not hasattr(X, "__len__") or getattr(X, "ndim", 1) != 1:
        return X
    rows = as_list(X)
    if not rows or not isinstance(rows[0], Mapping):
        return X
    for row, record in enumerate(rows):
        if not isinstance(record, Mapping) or not set(COLUMNS) <= set(record):
            raise ValueError(f"{name} row {row}: expected a dict with 'question' and 'context', found {record!r:.80}")
    return [tuple(record[column] for column in COLUMNS) for record in rows]


def check_questions(table: Any, name: str) -> Texts:
    """Questions (first) and contexts (second) of what ``question_table`` returns.

    Raises
    ------
    TypeError, ValueError
        As ``check_texts``; and if there are not two columns, or a question or a context is empty (names the row).
    """
    texts = check_texts(table, name, rows_needed=False)
    if texts.second is None and not texts.first:  # an empty list does not say how many columns it has
        return Texts([], [])
    if texts.second is None:
        raise ValueError(
            f"{name} must have a question and a context in each row (2 columns), found 1 column: pass both as one argument, "
            "such as list(zip(questions, contexts))"
        )
    for column, values in zip(COLUMNS, (texts.first, texts.second), strict=True):
        for row, value in enumerate(values):
            if not value or value.isspace():
                raise ValueError(f"{name} row {row}: expected a {column} with some text, found {value!r}")
    return texts


def cut_questions(rows: Texts, tokenizer: Tokenizer, budget: int, stride: int) -> tuple[Texts, np.ndarray, int]:
    """The rows, with the questions cut that leave no room for windows on their contexts.

    Returns them with the tokens that each question lost, (n_rows,), and the most tokens that a cut one keeps.
    """
    assert rows.second is not None
    n_kept, n_special = max(1, min(budget // 2, budget - stride - 1)), tokenizer.n_special(pair=False)
    n_tokens_N = tokenizer.encode_batch(rows.first).lengths - n_special
    left_N, questions = n_tokens_N.copy(), list(rows.first)
    long = np.flatnonzero(n_tokens_N >= budget - stride)
    n_context = tokenizer.encode_batch([rows.second[row] for row in long]).lengths - n_special
    long = long[n_tokens_N[long] + n_context > budget]
    while len(long):  # a cut may change the tokens before it, so that they are too many again
        encoded = tokenizer.encode_batch([questions[row] for row in long], return_offsets=True)
        assert encoded.offsets is not None
        left_N[long] = encoded.lengths - n_special
        is_long = left_N[long] > n_kept
        long = long[is_long]
        for row, first_dropped in zip(long, encoded.starts[:-1][is_long] + 1 + n_kept, strict=True):  # after <s>
            # a character may have become several tokens: it is kept with all of them or not at all
            end = min(encoded.offsets[first_dropped - 1, 1], encoded.offsets[first_dropped, 0])
            questions[row] = questions[row][:end]
    return Texts(questions, rows.second), n_tokens_N - left_N, n_kept


def read_targets(contexts: list[str], y: Any, name: str) -> np.ndarray:
    """Object array of targets, (n_rows,).

    Raises
    ------
    TypeError, ValueError
        As ``read_answers``; and if a row's first answer is not where it should be in its context (names the row).
    """
    answers = read_answers(y, name)
    check_consistent_length(contexts, answers)
    targets = np.empty(len(answers), object)
    for row, (context, found) in enumerate(zip(contexts, answers, strict=True)):
        span = _locate(context, *found[0], f"{name} row {row}") if found else (-1, -1)
        targets[row] = Target(context, *span, found)
    return targets


def _locate(context: str, text: str, start: int | None, where: str) -> tuple[int, int]:
    """Characters between which an answer stands in its context, without the white space around it."""
    if start is None:
        start = context.find(text)
        if start < 0:
            raise ValueError(
                f"{where}: expected a part of the context, found {text!r:.80}, which is not in {context!r:.80}"
            )
    elif context[start : start + len(text)] != text:
        found = context[start : start + len(text)]
        raise ValueError(
            f"{where}: expected the answer {text!r:.80} at character {start} of the context, found {found!r:.80} there"
        )
    inner = text.strip()
    start += text.index(inner)
    return start, start + len(inner)
