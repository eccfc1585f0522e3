"""From encoded rows to batches: length order, token budgets, targets of each task."""

from skxlmr.batching._buckets import batches_by_length, shuffled_batches
from skxlmr.batching._collate import Batch, MaskedLMTask, SequenceTask, concatenate, pack

__all__ = ["Batch", "MaskedLMTask", "SequenceTask", "batches_by_length", "concatenate", "pack", "shuffled_batches"]
