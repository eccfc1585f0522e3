"""Constructor parameters of vectorizers."""

from collections.abc import Sequence
from numbers import Integral
from typing import Literal

from skxlmr.estimators.parameters import (
    AT_LEAST_1,
    CheckpointParameters,
    PairParameters,
    PoolingParameters,
    changed,
    parameter,
    parameters,
)
from skxlmr.nn.pooling import POOLINGS
from skxlmr.utils._sklearn import StrOptions

POOLING = (
    "How token vectors become one. ``'auto'`` is what the checkpoint says (see the user guide on sentence encoders), else "
    "their mean. ``'cls'`` is the first token's vector, ``'lasttoken'`` the last one's, ``'max'`` the maximum, "
    "``'weightedmean'`` a mean in which later tokens count more, and ``'mean_sqrt_len_tokens'`` the sum over the square "
    "root of the length. "
)
POOLER = "``'pooler'`` is the checkpoint's pooler (a dense layer and tanh on the first token's vector). "
SIDE_BY_SIDE = "The vectors of a list of these stand side by side."


@parameters
class VectorizerParameters:
    """Parameters of vectorizers of either family."""

    pairs: str | bool = changed(
        PairParameters,
        "pairs",
        "auto",
        "Whether two columns are pairs of texts. ``'auto'`` reads them as pairs, and warns in ``fit`` if the second one looks "
        "like a category. True does not warn, and refuses one column. False encodes each column on its own, with the features "
        "of any number of columns side by side; skrub then gives each column a vectorizer.",
    )

    dtype: str = changed(
        CheckpointParameters,
        "dtype",
        "auto",
        "Precision of weights and computation. ``'auto'`` is bfloat16 on a GPU that is fast at it, float16 on one that is fast "
        "at that only (T4, V100), and float32 elsewhere; ``'bfloat16'`` is about three times as fast on CPUs with "
        "AVX512-BF16 or AMX, at a cosine of 0.999 to float32.",
    )
    layers: int | Sequence[int] = parameter(
        -1,
        [Integral, "array-like"],
        "Layer whose vectors are pooled: 0 is the embeddings' output, -1 the last layer. The features of several "
        "layers stand side by side.",
    )
    pooling: str | Sequence[str] = changed(
        PoolingParameters,
        "pooling",
        "auto",
        POOLING + SIDE_BY_SIDE,
        [StrOptions({"auto", *POOLINGS[:-1]}), "array-like"],
    )
    normalize: bool | Literal["auto"] = parameter(
        "auto",
        ["boolean", StrOptions({"auto"})],
        "Whether to scale each row to unit length. ``'auto'`` is what the checkpoint says, else False.",
    )
    max_length: int | None = changed(
        CheckpointParameters,
        "max_length",
        None,
        "Most tokens of a row, special tokens included; longer rows are cut, counted and warned about. None is what a "
        "sentence encoder's folder says, else as many as the checkpoint allows.",
    )
    prompt: str | None = parameter(
        "auto",
        [str, None],
        "What is put before each text: the name of one of the checkpoint's prompts, such as ``'query'``, or the text itself, "
        "such as ``'query: '``. ``'auto'`` is the checkpoint's default prompt, which few have; None is no prompt.",
    )
    truncate_dim: int | None = parameter(
        None,
        [AT_LEAST_1, None],
        "Keep this many first features, for encoders that were trained for it (Matryoshka). None is what the checkpoint says, "
        "else all. As in sentence-transformers, rows that the checkpoint scales to unit length are cut after that; "
        "``normalize=True`` scales what is left.",
    )
