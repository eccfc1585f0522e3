"""Constructor parameters of estimators with ``transform``: how the vector of a text is made."""

from collections.abc import Sequence
from typing import Literal

from skxlmr.estimators.parameters import AT_LEAST_1, CheckpointParameters, changed, parameter, parameters
from skxlmr.nn.sentence.pooling import POOLINGS
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
class PromptParameters:
    """Parameters of estimators that put a checkpoint's prompts before texts."""

    prompt: str | None = parameter(
        "auto",
        [str, None],
        "What is put before each text: the name of one of the checkpoint's prompts, such as ``'query'``, or the text itself, "
        "such as ``'query: '``. ``'auto'`` is the checkpoint's default prompt, which few have; None is no prompt.",
    )


@parameters
class VectorParameters(PromptParameters):
    """Parameters of estimators with ``transform``; what they leave open, the checkpoint may say."""

    pooling: str | Sequence[str] = parameter(
        "auto", [StrOptions({"auto", *POOLINGS[:-1]}), "array-like"], POOLING + SIDE_BY_SIDE
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
        "sentence encoder's folder says, else as many as the checkpoint's tokenizer (``model_max_length``) and positions "
        "allow.",
    )
    truncate_dim: int | None = parameter(
        None,
        [AT_LEAST_1, None],
        "Keep this many first features, for encoders that were trained for it (Matryoshka). None is what the checkpoint says, "
        "else all. As in sentence-transformers, rows that the checkpoint scales to unit length are cut after that; "
        "``normalize=True`` scales what is left.",
    )
