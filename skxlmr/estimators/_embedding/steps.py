"""Which rows stand together in a step, where rows are compared with each other.

Shape suffixes: N rows, K texts of a row.
"""

from itertools import pairwise

import numpy as np

FEWEST = 4  # rows of a step in which rows of the same class and of others meet


def of_classes(code_N: np.ndarray, n: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Rows of each step, ``n`` or a few more or less: with a row there is another one of its class, if its class has one.

    Raises
    ------
    ValueError
        If ``n`` is too small for rows of two classes.
    """
    if n < FEWEST:
        raise ValueError(
            f"a step has {n} rows (batch_size times accumulate), and rows of the same class meet those of others in {FEWEST} "
            "or more: raise batch_size or accumulate"
        )
    order = rng.permutation(len(code_N))
    order = order[np.argsort(code_N[order], kind="stable")]  # drawn within each class
    ends = np.cumsum(np.bincount(code_N))
    groups = [group for first, last in pairwise([0, *ends.tolist()]) for group in _twos(order[first:last])]
    steps: list[list[np.ndarray]] = [[]]
    for i in rng.permutation(len(groups)):
        n_rows = sum(map(len, steps[-1]))
        if n_rows >= FEWEST and n_rows + len(groups[i]) > n:
            steps.append([])
        steps[-1].append(groups[i])
    if len(steps) > 1 and sum(map(len, steps[-1])) < FEWEST:
        last = steps.pop()
        steps[-1] += last
    return [np.concatenate(groups) for groups in steps]


def _twos(rows: np.ndarray) -> list[np.ndarray]:
    """The rows two by two, the last three together if their number is odd."""
    return np.split(rows, range(2, len(rows) - 1, 2)) if len(rows) else []


def without_duplicates(text_NK: np.ndarray, n: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Rows of each step, at most ``n`` or one more: no text stands in two of them, which would be its own negative.

    So does sentence-transformers with its batch sampler ``NO_DUPLICATES``. A row whose texts are in all other steps has a step
    of its own, if it has a hard negative; else there is nothing to compare it with, and it is left out.

    Raises
    ------
    ValueError
        If no two rows can be compared.
    """
    has_negative = text_NK.shape[1] > 2
    if n < 2 and not has_negative:
        raise ValueError(
            f"a step has {n} row (batch_size times accumulate), but the negatives of a row are the other rows of its step: "
            "raise batch_size or accumulate"
        )
    steps: list[list[int]] = []
    free: dict[int, int] = {}  # the first step without a text
    first_open = 0
    order, texts = rng.permutation(len(text_NK)).tolist(), text_NK.tolist()
    for row in order:
        step = max(first_open, *(free.get(text, 0) for text in texts[row]))
        while step < len(steps) and len(steps[step]) == n:
            step += 1
        if step == len(steps):
            steps.append([])
        steps[step].append(row)
        free.update(dict.fromkeys(texts[row], step + 1))
        while first_open < len(steps) and len(steps[first_open]) == n:
            first_open += 1
    if not has_negative:
        steps = _without_lone_rows(steps, texts)
    if not steps:
        raise ValueError("no two rows of X differ in all of their texts, so that there is no negative for any row")
    return [np.array(rows) for rows in steps]


def _without_lone_rows(steps: list[list[int]], texts: list[list[int]]) -> list[list[int]]:
    """A row that is alone in its step joins another one, if no text is in both."""
    kept = [rows for rows in steps if len(rows) > 1]
    for row in (rows[0] for rows in steps if len(rows) == 1) if kept else ():
        if not set(texts[row]) & {text for other in kept[-1] for text in texts[other]}:
            kept[-1].append(row)
    return kept


def at_least_two(n_rows: int, n: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Rows of each step, at most ``n`` or one more, in random order.

    Raises
    ------
    ValueError
        If ``n`` is 1.
    """
    if n < 2:
        raise ValueError(
            "a step has 1 row (batch_size times accumulate), but the loss compares the rows of a step with each other: raise "
            "batch_size or accumulate"
        )
    order = rng.permutation(n_rows)
    last = range(n, n_rows - 1, n)  # one row alone at the end joins those before it
    return np.split(order, last)
