"""What people pass as dialogues becomes the texts of all turns, who spoke each, and how many each dialogue has.

Accepted: a list (or Series, object array, one column of a frame) of dialogues, each a list of turns or a dict with ``turns``;
a turn is a dict with ``speaker`` and ``text`` or a pair of both. Or a frame of turns with the columns ``dialogue``,
``speaker`` and ``text``.
"""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from skxlmr.estimators._dialogues.task import context_row
from skxlmr.text import EncodedBatch, SubwordSampling, Tokenizer
from skxlmr.utils._containers import known_container
from skxlmr.utils._tables import as_list, check_text, column_names, describe, is_missing, plain, plain_str

SYSTEM, USER = "system", "user"
SPEAKERS = {SYSTEM: SYSTEM, "sys": SYSTEM, USER: USER, "usr": USER}
COLUMNS = ("dialogue", "speaker", "text")


@dataclass(frozen=True)
class Dialogues:
    """Turns of several dialogues, one dialogue after another.

    Attributes
    ----------
    texts : list of str
        What is said in each turn.
    from_system : ndarray of shape (n_turns,), bool
        Whether the system says it.
    n_turns : ndarray of shape (n_dialogues,), int64
        Turns of each dialogue, at least one.
    """

    texts: list[str]
    from_system: np.ndarray
    n_turns: np.ndarray

    def __len__(self) -> int:
        return len(self.n_turns)


def check_dialogues(X: Any, name: str = "X", speakers: Mapping[str, str] | None = None) -> Dialogues:
    """Return the dialogues of X.

    Parameters
    ----------
    X : list, Series, array or frame
        The dialogues.
    name : str
        What error messages call it.
    speakers : mapping of str to {'system', 'user'}, optional
        Who is meant by names beyond ``system``, ``sys``, ``user`` and ``usr``.

    Raises
    ------
    TypeError
        If X is a string, a mapping or an iterator.
    ValueError
        If X has other columns, a dialogue has no turns, or a turn has no known speaker, no text or no
        dialogue; names the dialogue and the turn, or the row of a frame of turns.
    """
    X = known_container(X, name)
    if isinstance(X, str | bytes | Mapping | set | frozenset | Iterator) or not hasattr(X, "__len__"):
        raise TypeError(f"{name} must be a list, array, Series or DataFrame of dialogues, got a {type(X).__name__}")
    for key, role in (speakers or {}).items():
        if not isinstance(key, str) or not isinstance(role, str) or role not in (SYSTEM, USER):
            raise ValueError(f"speakers must map each name to 'system' or 'user', got {role!r} for {key!r}")
    known = {**SPEAKERS, **{plain_str(key): plain_str(role) for key, role in (speakers or {}).items()}}
    read: list[list[tuple[str, str]]] = []
    for label, dialogue in _rows(X, name):
        turns = dialogue["turns"] if isinstance(dialogue, Mapping) and "turns" in dialogue else dialogue
        if isinstance(turns, np.ndarray):
            turns = list(turns)
        if not isinstance(turns, list | tuple):
            raise ValueError(f"{name} dialogue {label}: expected a list of turns, got {describe(dialogue)}")
        if not turns:
            raise ValueError(f"{name} dialogue {label}: expected at least one turn, got none")
        read.append([_turn(turn, known, f"{name} dialogue {label}, turn {i}") for i, turn in enumerate(turns)])
    if not read:
        return Dialogues([], np.empty(0, bool), np.empty(0, np.int64))
    speakers_of, texts = zip(*chain.from_iterable(read), strict=True)
    return Dialogues(list(texts), np.array(speakers_of) == SYSTEM, np.array([len(turns) for turns in read], np.int64))


def encode_turns(
    dialogues: Dialogues,
    tokenizer: Tokenizer,
    speaker_ids: tuple[int, int],
    max_length: int,
    sampling: SubwordSampling | None = None,
) -> EncodedBatch:
    """Ids of the turns, each with its speaker's token (the system's, the user's) and no other special one.

    ``row_of_window`` is the dialogue of each turn. For a dialogue that is too long for ``max_length``, ``n_dropped`` of its
    first turn says how many tokens do not fit.
    """
    encoded = tokenizer.encode_batch(dialogues.texts, sampling=sampling)
    ids = encoded.ids.copy()
    ids[encoded.starts[:-1]] = np.where(dialogues.from_system, *speaker_ids)  # in the place of <s>
    ids = np.delete(ids, encoded.starts[1:] - 1)  # </s>
    row_of_turn = np.repeat(np.arange(len(dialogues)), dialogues.n_turns)
    turns = EncodedBatch(ids, encoded.lengths - 1, 0 * encoded.lengths, row_of_window=row_of_turn)
    for first, last in turn_bounds(turns):
        n_tokens = turns.starts[last] - turns.starts[first]
        if n_tokens > max_length - 2:
            n_kept = len(context_row(turns, first, last, tokenizer, max_length)) - 2
            turns.n_dropped[first] = n_tokens - n_kept
    return turns


def turn_bounds(turns: EncodedBatch) -> list[tuple[int, int]]:
    """First turn of each dialogue, and the turn after its last."""
    ends = np.cumsum(turns.n_windows)
    return list(zip((ends - turns.n_windows).tolist(), ends.tolist(), strict=True))


def is_frame_of_turns(X: Any) -> bool:
    """Whether X is a frame with one row per turn."""
    return set(COLUMNS) <= set(column_names(X))


def indexed_by_dialogue(features: np.ndarray, X: Any) -> Any:
    """The features as a pandas frame, indexed by the dialogues of a frame of turns."""
    import pandas as pd

    return pd.DataFrame(features, index=pd.Index(list(dict.fromkeys(as_list(X[COLUMNS[0]]))), name=COLUMNS[0]))


def check_candidates(candidates: Any, n_contexts: int) -> tuple[list[list[str]], bool]:
    """Return the candidates of each context (one list if it is shared), and whether it is shared.

    Raises
    ------
    TypeError
        If the candidates are not a list.
    ValueError
        If there are no candidates, several columns, or not a list for each context, or a candidate is not a text.
    """
    if isinstance(candidates, str | bytes | Mapping | set | frozenset | Iterator) or not hasattr(candidates, "__len__"):
        raise TypeError(
            f"candidates must be a list of texts or a list of such lists, got a {type(candidates).__name__}"
        )
    names = column_names(candidates)
    if names:
        if len(names) != 1:
            raise ValueError(f"candidates must be one column, got {', '.join(map(str, names))}")
        candidates = candidates[names[0]]
    rows = as_list(candidates)
    if not rows and not n_contexts:
        return [], False
    shared = not rows or isinstance(rows[0], str)
    lists = (
        [list(rows)] if shared else [list(row) if isinstance(row, list | tuple | np.ndarray) else row for row in rows]
    )
    if not shared and len(lists) != n_contexts:
        raise ValueError(f"candidates must be one list for each of the {n_contexts} contexts, found {len(lists)} lists")
    for number, row in enumerate(lists):
        where = "candidates" if shared else f"candidates of context {number}"
        if not isinstance(row, list):
            raise ValueError(f"{where}: expected a list of texts, got {describe(row)}")
        if not row:
            raise ValueError(f"{where}: expected at least one text, got none")
        row[:] = [check_text(text, where, f"text as number {place}") for place, text in enumerate(row)]
    return lists, shared


def _rows(X: Any, name: str) -> Sequence[tuple[Any, Any]]:
    """What errors call each dialogue, and the dialogue."""
    names = column_names(X)
    if is_frame_of_turns(X):
        for column in COLUMNS:
            if names.count(column) > 1:
                raise ValueError(f"{name} must have one column {column}, got {names.count(column)}")
        # X[name] is a column in pandas, polars and arrow
        ids, speakers, texts = (as_list(X[column]) for column in COLUMNS)
        dialogues: dict[Any, list[Any]] = {}
        for row, (dialogue, speaker, text) in enumerate(zip(ids, speakers, texts, strict=True)):
            if is_missing(dialogue) or not isinstance(dialogue, Hashable):
                raise ValueError(f"{name} row {row}: expected a dialogue's number or name, got {describe(dialogue)}")
            dialogues.setdefault(dialogue, []).append((speaker, text))
        return [(repr(dialogue), turns) for dialogue, turns in dialogues.items()]
    if names:
        if len(names) != 1:
            found = ", ".join(map(str, names))
            raise ValueError(
                f"{name} must have one column of dialogues or the columns {', '.join(COLUMNS)}, got {found}"
            )
        X = X[names[0]]
    return list(enumerate(as_list(X)))


def _turn(turn: Any, known: Mapping[str, str], where: str) -> tuple[str, str]:
    if isinstance(turn, Mapping) and {"speaker", "text"} <= turn.keys():
        speaker, text = turn["speaker"], turn["text"]
    elif isinstance(turn, list | tuple | np.ndarray) and len(turn) == 2:
        speaker, text = turn
    else:
        raise ValueError(f"{where}: expected a dict with speaker and text, or both as a pair, got {describe(turn)}")
    speaker = plain(speaker)
    role = (known.get(speaker) or known.get(speaker.lower())) if isinstance(speaker, str) else None
    if role is None:
        raise ValueError(
            f"{where}: expected one of the speakers {', '.join(known)}, got {describe(speaker)}: say in the parameter "
            "speakers who is meant"
        )
    return role, check_text(text, where)
