"""Packing encoded rows, and putting rows one after another."""

from dataclasses import replace

import numpy as np
import torch

from skxlmr.batching import concatenate, pack

from .rows import random_rows


def test_pack_and_concatenate():
    both = concatenate(random_rows([3, 5]), random_rows([2], seed=1))
    ids, layout = pack(both)
    assert ids.dtype == torch.int64 and layout.lengths == [3, 5, 2]
    assert ids.tolist() == both.ids.tolist() and len(both.n_dropped) == 3
    assert both.row(2).tolist() == random_rows([2], seed=1).row(0).tolist()
    assert both.second_starts is both.n_dropped_is_minimum is None
    cut = replace(random_rows([4, 2]), second_starts=np.array([2, 1]), n_dropped_is_minimum=np.array([False, True]))
    both = concatenate(random_rows([3]), cut)
    assert both.second_starts.tolist() == [3, 2, 1]
    assert both.n_dropped_is_minimum.tolist() == [False, False, True]
