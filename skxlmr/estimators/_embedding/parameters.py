"""Constructor parameters of the embedder."""

from collections.abc import Sequence
from itertools import pairwise
from numbers import Integral
from typing import Literal

from skxlmr.estimators._embedding.objectives import ALL_LOSSES
from skxlmr.estimators.parameters import POSITIVE, parameter, parameters
from skxlmr.utils._sklearn import StrOptions


@parameters
class EmbedderParameters:
    """Parameters of what is learnt."""

    loss: str = parameter(
        "auto",
        [StrOptions({"auto", *ALL_LOSSES})],
        "What is learnt. ``'auto'`` is the first loss that the table above has for such X and y; others must be for them.",
    )
    temperature: float | Literal["auto"] = parameter(
        "auto",
        [POSITIVE, StrOptions({"auto"})],
        "What cosines are divided by where they are compared with each other. ``'auto'`` is 0.07 for "
        "``'supervised_contrastive'`` and 0.05 for ``'multiple_negatives_ranking'`` and ``'cosent'``, which is what "
        "sentence-transformers calls ``scale=20``, the inverse. The other losses have none.",
    )
    matryoshka_dims: Sequence[int] | None = parameter(
        None,
        ["array-like", None],
        "Numbers of first features, in falling order, such as ``[192, 96, 48]``: the loss is the sum of the losses of vectors "
        "cut to each of them and scaled to unit length (Matryoshka [7]_), so that ``truncate_dim`` may keep as few later. None "
        "is all features alone.",
    )


def check_dims(given: Sequence[int] | None, n_features: int) -> list[int]:
    """The sizes of ``matryoshka_dims``; none if it is None.

    Raises
    ------
    ValueError
        If they are not whole numbers in falling order, of which vectors have the first features.
    """
    if given is None:
        return []
    dims = list(given)
    is_fine = bool(dims) and all(isinstance(each, Integral) for each in dims)
    if not is_fine or not n_features >= dims[0] or dims[-1] < 1 or not all(a > b for a, b in pairwise(dims)):
        raise ValueError(
            f"matryoshka_dims must be whole numbers in falling order, from at most the {n_features} features of the vectors to "
            f"at least 1, got {given!r}"
        )
    return list(map(int, dims))
