"""Constructor parameters of the regressor, for checkpoints with a head of their own."""

from typing import Literal

from skxlmr.estimators._vectors.parameters import PromptParameters
from skxlmr.estimators.parameters import CheckpointParameters, changed, parameter, parameters
from skxlmr.utils._sklearn import StrOptions


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
