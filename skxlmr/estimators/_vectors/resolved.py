"""What parameters and checkpoint together say of how vectors of texts are made."""

from collections.abc import Sequence
from dataclasses import replace

from skxlmr.estimators._core.prompts import with_prompt
from skxlmr.nn.sentence import SentenceEncoder


def resolved(
    said: SentenceEncoder | None,
    pooling: Sequence[str] | None,
    normalize: bool | None,
    prompt: str | None,
    truncate_dim: int | None,
) -> SentenceEncoder:
    """What the checkpoint says, unless the parameters say something else; None and ``prompt='auto'`` say nothing.

    Raises
    ------
    ValueError
        If the checkpoint has no prompt of this name.
    """
    how = SentenceEncoder() if said is None else said
    if pooling is not None:
        how = replace(how, pooling=tuple(pooling))
    if normalize is not None:
        how = replace(how, normalize=normalize)
    if truncate_dim is not None:
        how = replace(how, truncate_dim=int(truncate_dim))
    return with_prompt(how, prompt)
