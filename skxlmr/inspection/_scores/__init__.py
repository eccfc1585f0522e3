"""Scores of groups of rows: per language, and from each language to each other."""

from skxlmr.inspection._scores.display import GroupScoresDisplay
from skxlmr.inspection._scores.group_scores import group_scores
from skxlmr.inspection._scores.transfer_scores import transfer_scores

__all__ = ["GroupScoresDisplay", "group_scores", "transfer_scores"]
