"""Weights of tokens as a sparse matrix over the vocabulary."""

from typing import Any

import numpy as np
from scipy.sparse import csr_matrix

from skxlmr.text import EncodedBatch, Tokenizer


def lexical_matrix(
    weights_T: np.ndarray, encoded: EncodedBatch, tokenizer: Tokenizer, side_by_side: int = 1
) -> csr_matrix:
    """The greatest weight of each token of the vocabulary in each row.

    Parameters
    ----------
    weights_T : ndarray of shape (n_tokens,)
        0 or more.
    encoded : EncodedBatch
        The tokens. Windows of a row count together.
    tokenizer : Tokenizer
        Its start, end, padding and unknown tokens are left out.
    side_by_side : int
        Columns of texts that the rows come from, one column after another: each has its own features.

    Returns
    -------
    csr_matrix of shape (n_rows, vocab_size * side_by_side)
        With sorted indices and without stored zeros.
    """
    n_rows, n_each = len(encoded.n_windows) // side_by_side, tokenizer.vocab_size
    places = np.flatnonzero((weights_T > 0) & ~np.isin(encoded.ids, _not_words(tokenizer)))
    blocks, rows = np.divmod(np.repeat(encoded.input_rows, encoded.lengths)[places], max(n_rows, 1))
    columns = blocks * n_each + encoded.ids[places]
    order = np.lexsort((columns, rows))
    rows, columns, weights = rows[order], columns[order], weights_T[places[order]]
    is_first = np.ones(len(order), bool)  # of its row and column
    is_first[1:] = (rows[1:] != rows[:-1]) | (columns[1:] != columns[:-1])
    firsts = np.flatnonzero(is_first)
    data = np.maximum.reduceat(weights, firsts) if len(firsts) else weights
    bounds = np.searchsorted(rows[firsts], np.arange(n_rows + 1))
    return csr_matrix((data, columns[firsts], bounds), shape=(n_rows, n_each * side_by_side))


def piece_names(tokenizer: Tokenizer) -> list[str]:
    """The piece of each id; where several ids have the same piece, all but the first have the id behind it."""
    seen: set[str] = set()
    names = []
    for i, piece in enumerate(tokenizer.convert_ids_to_pieces(np.arange(tokenizer.vocab_size))):
        name = f"{piece}_{i}" if piece in seen else piece
        seen.add(name)
        names.append(name)
    return names


def check_left_alone(parameters: dict[str, tuple[Any, bool]]) -> None:
    """Raise ValueError if a parameter that only dense features have is set: each value, and whether it says nothing."""
    for name, (value, is_default) in parameters.items():
        if not is_default:
            raise ValueError(
                f"{name}={value!r} is for output='dense': the weights of output='sparse' are made of the last layer's tokens, "
                f"one by one, and compared by their dot products. Leave {name} at its default"
            )


def _not_words(tokenizer: Tokenizer) -> list[int]:
    roles = ("bos_token", "cls_token", "sep_token", "eos_token", "pad_token", "unk_token")
    return [getattr(tokenizer, f"{role}_id") for role in roles]
