"""Reading off the logits of a language modelling head, whose rows are too large to keep."""

from typing import Any

import numpy as np
import torch

from skxlmr.batching import before_ends, pack
from skxlmr.inference import run_batches
from skxlmr.nn.linear import fast_inference
from skxlmr.text import EncodedBatch
from skxlmr.utils._device import autocast

LOGIT_ROWS = 256  # rows of logits at a time: with XLM-R's vocabulary a row takes a megabyte


class LogitReader:
    """Estimators whose module has a language modelling head."""

    module_: Any
    _batching: Any

    def _read_logits(self, encoded: EncodedBatch, places: np.ndarray, read) -> np.ndarray:
        """Read something off the float32 logits at some places of the rows.

        ``places`` are indices into ``encoded.ids``, ascending; ``read(logits (M, V), items (M,))`` gets the logits of the
        places whose numbers are ``items`` and returns a tensor (M, ...). Only these logits are computed.
        """
        batching = self._batching()
        module = self.module_
        results: np.ndarray | None = None
        first_item = np.searchsorted(places, encoded.starts)

        def run(rows: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
            batch = encoded.take(rows)
            items = np.concatenate([np.arange(first_item[row], first_item[row + 1]) for row in rows])
            n_items = first_item[rows + 1] - first_item[rows]
            shift = np.repeat(batch.starts[:-1] - encoded.starts[rows], n_items)
            ids, layout = pack(batch, batching["device"])
            wanted = torch.from_numpy(places[items] + shift).to(batching["device"])
            x_MD = module.backbone(ids, layout).last_hidden_state[wanted]
            found = []
            for first in range(0, len(items), LOGIT_ROWS):
                part = slice(first, first + LOGIT_ROWS)
                found.append((items[part], read(module.project(x_MD[part]).float(), items[part]).cpu().numpy()))
            return found

        with fast_inference(), autocast(batching["device"], batching["autocast"]):
            for _, found in run_batches(run, encoded.lengths, batching["token_budget"], batching["device"]):
                for items, values in found:
                    if results is None:
                        results = np.empty((len(places), *values.shape[1:]), values.dtype)
                    results[items] = values
        return np.empty((0,)) if results is None else results

    def _next_token_log_p(self, encoded: EncodedBatch) -> tuple[np.ndarray, np.ndarray]:
        """Of each row the sum of its tokens' log-probabilities, each given those before it, and how many they are."""
        places = before_ends(encoded)
        labels = torch.from_numpy(encoded.ids[places + 1].astype(np.int64))
        rows = np.searchsorted(encoded.starts, places, "right") - 1

        def read(logits_MV, items):
            return logits_MV.log_softmax(1).gather(1, labels[items].to(logits_MV.device)[:, None])[:, 0]

        log_p = self._read_logits(encoded, places, read)
        return np.bincount(rows, log_p, len(encoded)), np.bincount(rows, minlength=len(encoded))
