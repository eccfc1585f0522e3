"""Displays and explanations: what a fit did, what a model looks at, and where it is right."""

from skxlmr.inspection._answers import AnswerDisplay
from skxlmr.inspection._attention.display import AttentionDisplay
from skxlmr.inspection._attributions.attribute import attributions
from skxlmr.inspection._attributions.display import TokenAttributionDisplay
from skxlmr.inspection._attributions.value import TokenAttribution
from skxlmr.inspection._embedding.display import EmbeddingDisplay
from skxlmr.inspection._entities import EntityDisplay
from skxlmr.inspection._loss_curve import LossCurveDisplay
from skxlmr.inspection._scores import GroupScoresDisplay, group_scores, transfer_scores

__all__ = [
    "AnswerDisplay",
    "AttentionDisplay",
    "EmbeddingDisplay",
    "EntityDisplay",
    "GroupScoresDisplay",
    "LossCurveDisplay",
    "TokenAttribution",
    "TokenAttributionDisplay",
    "attributions",
    "group_scores",
    "transfer_scores",
]
