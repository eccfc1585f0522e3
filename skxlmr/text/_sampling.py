"""Subword regularisation: draw a segmentation of a text instead of taking the best one."""

from dataclasses import dataclass
from numbers import Real
from typing import Any

from skxlmr.utils._whole_numbers import whole_number

MOST_NBEST = 512  # SentencePiece's own limit


@dataclass(frozen=True)
class SubwordSampling:
    """How to draw segmentations.

    Parameters
    ----------
    nbest_size : int
        0 or 1: take the best segmentation, draw nothing. 2 to 512: draw among this many best ones; SentencePiece finds
        the best one alone if they are many and the text is long (512 from some 450 tokens on), and nothing is drawn.
        Negative: draw among all of them (forward filtering, backward sampling).
    alpha : float
        How strongly likely segmentations are preferred: each is drawn with a probability proportional to its own to
        the power of `alpha`; 0 makes all equally likely.
    seed : int
        Seed of the draws of one call, 0 or more. They depend on it and on the texts alone.

    Raises
    ------
    TypeError
        If a value is not a number, or not a whole one where it must be.
    ValueError
        If a value is out of range.

    References
    ----------
    Kudo, Subword Regularization: Improving Neural Network Translation Models with Multiple Subword Candidates,
    https://arxiv.org/abs/1804.10959
    """

    nbest_size: int = -1
    alpha: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("nbest_size", "seed"):
            object.__setattr__(self, name, whole_number(getattr(self, name), name))
        if not isinstance(self.alpha, Real):
            raise TypeError(f"alpha must be a number, found {self.alpha!r:.80}")
        if self.nbest_size > MOST_NBEST:
            raise ValueError(f"nbest_size must be at most {MOST_NBEST}, found {self.nbest_size}")
        if not 0 <= self.alpha < float("inf"):
            raise ValueError(f"alpha must be a finite number of 0 or more, found {self.alpha}")
        if self.seed < 0:
            raise ValueError(f"seed must be 0 or more, found {self.seed}")

    @property
    def draws(self) -> bool:
        """Whether anything is random at all."""
        return self.nbest_size not in (0, 1)


def sampling_of(sp_model_kwargs: dict[str, Any], seed: int) -> SubwordSampling | None:
    """Return what ``sp_model_kwargs`` of a ``tokenizer_config.json`` describe; None if they do not enable sampling."""
    if not sp_model_kwargs.get("enable_sampling", False):
        return None
    return SubwordSampling(sp_model_kwargs.get("nbest_size", -1), sp_model_kwargs.get("alpha", 0.1), seed)
