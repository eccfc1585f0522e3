"""What masked language modelling hides."""

from collections.abc import Sequence

import numpy as np

from skxlmr.text import Tokenizer


class Masker:
    """What masked language modelling hides: a share of the tokens, but none of the special ones.

    80 % of them are replaced by the mask, 10 % by a random token and 10 % are left as they are (Devlin et al. 2019).
    """

    def __init__(self, tokenizer: Tokenizer, probability: float, further_special_ids: Sequence[int] = ()):
        self.probability, self.mask_token_id = probability, tokenizer.mask_token_id
        self.is_special = np.zeros(tokenizer.vocab_size, bool)
        self.is_special[[*tokenizer.all_special_ids, *further_special_ids]] = True
        self.ordinary_ids = np.flatnonzero(~self.is_special)

    def mask(self, ids: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Masked copy of the ids (int64) and the places of the tokens to predict; at least one if there is any."""
        candidates = np.flatnonzero(~self.is_special[ids])
        positions = candidates[rng.random(len(candidates)) < self.probability]
        if not len(positions) and len(candidates):
            positions = rng.choice(candidates, 1)
        masked = ids.astype(np.int64)
        draw = rng.random(len(positions))
        masked[positions[draw < 0.8]] = self.mask_token_id
        randomised = positions[draw >= 0.9]
        masked[randomised] = rng.choice(self.ordinary_ids, len(randomised))
        return masked, positions
