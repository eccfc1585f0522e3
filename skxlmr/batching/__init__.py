"""From encoded rows to batches: length order, token budgets, targets of each task."""

from skxlmr.batching._buckets import batches_by_length, shuffled_batches
from skxlmr.batching._choice_task import ChoiceTask, by_row
from skxlmr.batching._collate import Batch, MaskedLMTask, NextTokenTask, SequenceTask, before_ends, concatenate, pack
from skxlmr.batching._dialogue_task import DialogueTask, context_row, possible_responses, response_row, stack_rows
from skxlmr.batching._span_task import SpanTask, context_starts
from skxlmr.batching._token_task import TokenTask, best_places, starts_of_words

__all__ = [
    "Batch",
    "ChoiceTask",
    "DialogueTask",
    "MaskedLMTask",
    "NextTokenTask",
    "SequenceTask",
    "SpanTask",
    "TokenTask",
    "batches_by_length",
    "before_ends",
    "best_places",
    "by_row",
    "concatenate",
    "context_row",
    "context_starts",
    "pack",
    "possible_responses",
    "response_row",
    "shuffled_batches",
    "stack_rows",
    "starts_of_words",
]
