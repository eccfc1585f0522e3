"""Constructor parameters of classifiers, regressors and vectorizers."""

from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any, Literal

import numpy as np

from skxlmr.estimators._vectors.parameters import PromptParameters, VectorParameters
from skxlmr.estimators.parameters import (
    CheckpointParameters,
    LabelSmoothingParameters,
    MemoryParameters,
    PairParameters,
    changed,
    parameter,
    parameters,
)
from skxlmr.utils._sklearn import Interval, StrOptions


@parameters
class ClassificationParameters(LabelSmoothingParameters):
    """Parameters of classifiers of either family."""

    label_smoothing: float = changed(
        LabelSmoothingParameters,
        "label_smoothing",
        0.0,
        "Share of the target that is spread evenly over all classes (Szegedy et al. 2016), or over yes and no of "
        "each label.",
    )
    class_weight: dict[Any, float] | list[dict[Any, float]] | str | None = parameter(
        None,
        [dict, list, StrOptions({"balanced"}), None],
        "Weight of each class in the loss; ``'balanced'`` weighs classes inversely to their frequency. With "
        "several labels per row ``'balanced'`` weighs yes and no of each label, a dict holds weights of labels "
        "where they are 1, and a list of dicts holds the weights of 0 and 1 of each label. With several columns "
        "of classes it is a list of dicts, one per column; the weights of a row's classes are multiplied, as in "
        "scikit-learn's forests.",
    )
    threshold: float | Sequence[float] | np.ndarray = parameter(
        0.5,
        [Interval(Real, 0, 1, closed="both"), "array-like"],
        "With several labels per row, the least probability at which a label is predicted, one for all labels or "
        "one per label. It is read when predictions are made, so that ``set_params(threshold=...)`` needs no new "
        "fit.",
    )


@parameters
class CrossEncoderParameters(PromptParameters):
    """How the checkpoint's own head is used."""

    activation: Literal["auto", "identity", "sigmoid"] = parameter(
        "auto",
        [StrOptions({"auto", "identity", "sigmoid"})],
        "What becomes of the outputs of the checkpoint's own head, after ``from_checkpoint``. ``'auto'`` is what the "
        "checkpoint says (see the user guide on rerankers); ``'identity'`` leaves the logits as they are, ``'sigmoid'`` puts "
        "them between 0 and 1. A head that ``fit`` trains predicts in the units of ``y``: there only the identity is valid.",
    )
    max_length: int | None = changed(
        CheckpointParameters,
        "max_length",
        None,
        "Most tokens of a row, special tokens included; longer rows are cut, counted and warned about. None is what a "
        "cross-encoder's folder says, else as many as the checkpoint allows.",
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
        "AVX512-BF16 or AMX, at a cosine of 0.999 to float32; it takes many times as long without AVX-512, which is "
        "warned of. ``'int8'`` computes the layers in 8 bits on CPUs with "
        "AVX512-VNNI or AMX, and leaves the weights float32. Set after ``fit``, it takes effect at the next call, for which "
        "the weights are read again.",
    )
    layers: int | Sequence[int] = parameter(
        -1,
        [Integral, "array-like"],
        "Layer whose vectors are pooled: 0 is the embeddings' output, -1 the last layer. The features of several "
        "layers stand side by side.",
    )
