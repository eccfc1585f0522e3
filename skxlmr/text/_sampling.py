"""Subword regularisation: draw a segmentation of a text instead of taking the best one."""

from dataclasses import dataclass
from typing import Any

MOST_NBEST = 512  # SentencePiece's own limit


@dataclass(frozen=True)
class SubwordSampling:
    """How to draw segmentations.

    Parameters
    ----------
    nbest_size : int
        0 or 1 draw nothing: the best segmentation. More than 1 draws among that many best ones, at most 512. Less than
        0 draws among all of them (forward filtering, backward sampling).
    alpha : float
        How strongly likelier segmentations are preferred; 0 makes them all equally likely. Each is drawn with
        probability proportional to its own, to the power of `alpha`.
    seed : int
        What all draws of one call depend on, beside the texts; 0 or more.

    Raises
    ------
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
        if self.nbest_size > MOST_NBEST:
            raise ValueError(f"nbest_size must be at most {MOST_NBEST}, found {self.nbest_size}")
        if not 0 <= self.alpha < float("inf"):
            raise ValueError(f"alpha must be a finite number from 0 on, found {self.alpha}")
        if self.seed < 0:
            raise ValueError(f"seed must be 0 or more, found {self.seed}")

    @property
    def draws(self) -> bool:
        """Whether anything is random at all."""
        return self.nbest_size not in (0, 1)


def sampling_of(sp_model_kwargs: dict[str, Any], seed: int) -> SubwordSampling | None:
    """Read ``sp_model_kwargs`` of a ``tokenizer_config.json``; None if they do not switch sampling on."""
    if not sp_model_kwargs.get("enable_sampling", False):
        return None
    return SubwordSampling(sp_model_kwargs.get("nbest_size", -1), sp_model_kwargs.get("alpha", 0.1), seed)
