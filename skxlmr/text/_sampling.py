"""Subword regularisation: draw a segmentation of a text instead of taking the best one."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import sentencepiece
from sentencepiece import SentencePieceProcessor

MOST_NBEST = 512  # SentencePiece's own limit
MOST_SEED = 2**32 - 2  # the largest unsigned int means "unset" to SentencePiece

_seeding = threading.Lock()


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
        What all draws of one call depend on, beside the texts, 0 ... 2**32 - 2.

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
        if not 0 <= self.seed <= MOST_SEED:
            raise ValueError(f"seed must be within 0 ... {MOST_SEED}, found {self.seed}")

    @property
    def draws(self) -> bool:
        """Whether anything is random at all."""
        return self.nbest_size not in (0, 1)


def sampling_of(sp_model_kwargs: dict[str, Any], seed: int) -> SubwordSampling | None:
    """Read ``sp_model_kwargs`` of a ``tokenizer_config.json``; None if they do not switch sampling on."""
    if not sp_model_kwargs.get("enable_sampling", False):
        return None
    return SubwordSampling(sp_model_kwargs.get("nbest_size", -1), sp_model_kwargs.get("alpha", 0.1), seed)


def draw(processor: SentencePieceProcessor, utf8: list[bytes], sampling: SubwordSampling, out_type: type) -> list[list]:
    """Draw a segmentation of each text, as SentencePiece's ids (int) or pieces (str).

    SentencePiece's generators are one a thread, seeded from one number a process. So the draws are made one after
    another in a thread of their own, whose generator is new, and nobody else sets the number meanwhile: they depend on
    `sampling.seed` and the texts alone. That number cannot be read, so it stays as it was set.
    """
    with _seeding, ThreadPoolExecutor(1) as new_thread:
        sentencepiece.set_random_generator_seed(sampling.seed)
        return new_thread.submit(
            processor.encode,
            utf8,
            out_type=out_type,
            enable_sampling=True,
            nbest_size=sampling.nbest_size,
            alpha=sampling.alpha,
            num_threads=1,
        ).result()
