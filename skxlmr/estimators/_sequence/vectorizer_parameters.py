"""Constructor parameters of vectorizers."""

from collections.abc import Sequence
from numbers import Integral

from skxlmr.estimators._vectors.parameters import VectorParameters
from skxlmr.estimators.parameters import (
    CheckpointParameters,
    MemoryParameters,
    PairParameters,
    changed,
    parameter,
    parameters,
)


@parameters
class VectorizerParameters(MemoryParameters, VectorParameters):
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
        "at that only (T4, V100), and float32 elsewhere; ``'bfloat16'`` is about twice as fast on CPUs with "
        "AVX512-BF16 or AMX, at a cosine of 0.999 to float32. ``'int8'`` computes the layers in 8 bits on CPUs with "
        "AVX512-VNNI or AMX, and leaves the weights float32.",
    )
    layers: int | Sequence[int] = parameter(
        -1,
        [Integral, "array-like"],
        "Layer whose vectors are pooled: 0 is the embeddings' output, -1 the last layer. The features of several "
        "layers stand side by side.",
    )
