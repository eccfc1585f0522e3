"""From encoded rows to batches: length order, token budgets, and what tasks share."""

from skxlmr.batching._buckets import batches_by_length, shuffled_batches
from skxlmr.batching._collate import WHOLE, Batch, by_length, concatenate, layout_of, pack

__all__ = ["WHOLE", "Batch", "batches_by_length", "by_length", "concatenate", "layout_of", "pack", "shuffled_batches"]
