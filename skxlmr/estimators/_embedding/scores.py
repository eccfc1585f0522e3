"""How good vectors are for what they were trained on.

Shape suffixes: N rows, K texts of a row, D width of a vector, C classes.
"""

import numpy as np

from skxlmr.estimators._embedding.objectives import CLASSES, PAIRS, SCORES

AT_ONCE = 1024  # rows that are compared with all others at once


def score_of(kind: str, vectors_NKD: np.ndarray, targets: np.ndarray, weight_N: np.ndarray) -> float:
    """The score for data of this kind, see ``XLMRobertaEmbedder.score``."""
    kept = weight_N > 0
    vectors_NKD, targets, weight_N = vectors_NKD[kept], targets[kept], weight_N[kept]
    if kind == CLASSES:
        return nearest_class_accuracy(_unit(vectors_NKD[:, 0]), targets, weight_N)
    if kind == PAIRS:
        return retrieval_accuracy(_unit(vectors_NKD), targets, weight_N)
    if kind == SCORES:
        return rank_correlation(targets, _cosines(vectors_NKD[:, 0], vectors_NKD[:, 1]), weight_N)
    return float(np.average(_cosines(vectors_NKD[:, 0], targets), weights=weight_N))


def nearest_class_accuracy(vectors_ND: np.ndarray, code_N: np.ndarray, weight_N: np.ndarray) -> float:
    """Share of the rows whose class has the nearest mean, by the cosine; the mean of its own class is that of the others in it.

    Rows of one class with the same vector are one row several times.

    Raises
    ------
    ValueError
        If there is one class alone, or none has two rows.
    """
    codes, code_N = np.unique(code_N, return_inverse=True)
    if len(codes) < 2:
        raise ValueError(
            "y has only one class, and the score is how well classes are told apart: pass rows of two or more. In a search "
            "over the embedder alone, folds have all classes with cv=StratifiedKFold()"
        )
    numbers: dict[tuple[bytes, int], int] = {}
    keys = ((vector.tobytes(), code) for vector, code in zip(vectors_ND, code_N.tolist(), strict=True))
    same_N = np.array([numbers.setdefault(key, len(numbers)) for key in keys])
    counts_C = np.bincount([code for _, code in numbers])
    counted_N = counts_C[code_N] > 1
    if not counted_N.any():
        raise ValueError("each class of y has only one text, and the score of a text needs another one of its class")
    vectors_ND = vectors_ND.astype(np.float64)
    sums_CD = np.zeros((len(codes), vectors_ND.shape[1]))
    np.add.at(sums_CD, code_N, vectors_ND * weight_N[:, None])
    own_weight_N = np.bincount(same_N, weight_N)[same_N]
    right_N = np.empty(len(code_N), bool)
    for first in range(0, len(code_N), AT_ONCE):
        part = slice(first, first + AT_ONCE)
        cosine_RC = vectors_ND[part] @ _unit(sums_CD).T
        np.put_along_axis(cosine_RC, code_N[part][:, None], -np.inf, axis=1)
        others_RD = _unit(sums_CD[code_N[part]] - vectors_ND[part] * own_weight_N[part][:, None])
        right_N[part] = (vectors_ND[part] * others_RD).sum(1) > cosine_RC.max(1)
    return float(np.average(right_N[counted_N], weights=weight_N[counted_N]))


def retrieval_accuracy(vectors_NKD: np.ndarray, text_NK: np.ndarray, weight_N: np.ndarray) -> float:
    """Share of the rows whose first text has its second text as the nearest, among the second and further texts of all rows.

    The first text itself, which may be the partner of another one, is none of them.
    """
    candidates, texts = (x[:, 1:].reshape(-1, *x.shape[2:]) for x in (vectors_NKD, text_NK))
    texts, first_of = np.unique(texts, return_index=True)
    candidates_MD = candidates[first_of]
    right_N = np.empty(len(text_NK), bool)
    for first in range(0, len(text_NK), AT_ONCE):
        part = slice(first, first + AT_ONCE)
        cosine_RM = vectors_NKD[part, 0] @ candidates_MD.T
        itself_RM = (texts == text_NK[part, :1]) & (text_NK[part, :1] != text_NK[part, 1:2])
        cosine_RM[itself_RM] = -np.inf
        right_N[part] = texts[cosine_RM.argmax(1)] == text_NK[part, 1]
    return float(np.average(right_N, weights=weight_N))


def rank_correlation(a_N: np.ndarray, b_N: np.ndarray, weight_N: np.ndarray) -> float:
    """Spearman's correlation, in which a row of weight w is w equal rows; 0 if one side is constant.

    Raises
    ------
    ValueError
        If there are fewer than two rows.
    """
    if len(a_N) < 2:
        raise ValueError(f"a correlation needs two rows or more, got {len(a_N)}")
    (var_a, cov), (_, var_b) = np.cov(_ranks(a_N, weight_N), _ranks(b_N, weight_N), aweights=weight_N)
    return float(cov / np.sqrt(var_a * var_b)) if var_a > 0 and var_b > 0 else 0.0


def _ranks(x_N: np.ndarray, weight_N: np.ndarray) -> np.ndarray:
    """Ranks but for a constant; equal numbers have the mean of theirs."""
    of_value_N = np.unique(x_N, return_inverse=True)[1]
    totals = np.bincount(of_value_N, weight_N)
    ranks: np.ndarray = (np.cumsum(totals) - totals / 2)[of_value_N]
    return ranks


def _cosines(a_ND: np.ndarray, b_ND: np.ndarray) -> np.ndarray:
    cosine_N: np.ndarray = (_unit(a_ND) * _unit(b_ND)).sum(1)
    return cosine_N


def _unit(x: np.ndarray) -> np.ndarray:
    """Vectors of unit length; those of zeros stay."""
    norms = np.linalg.norm(x, axis=-1, keepdims=True)
    scaled: np.ndarray = x / np.where(norms > 0, norms, 1)
    return scaled
