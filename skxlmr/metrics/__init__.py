"""Scores that scikit-learn does not have: entities, answers, rankings, correlations, texts compared token by token.

``search_scoring`` puts beside any score how the fit went.
"""

from skxlmr.metrics._correlation import pearson_score, spearman_score
from skxlmr.metrics._entities import (
    entity_f1_score,
    entity_precision_recall_f1,
    precision_recall_f1,
    word_accuracy,
)
from skxlmr.metrics._entity_report import entity_report
from skxlmr.metrics._max_sim import max_sim
from skxlmr.metrics._question_answering import answer_exact_match_score, answer_f1_score, normalize_answer
from skxlmr.metrics._ranking import recall_at_k
from skxlmr.metrics._schemes import entities, split_tag
from skxlmr.metrics._search_scoring import search_scoring

__all__ = [
    "answer_exact_match_score",
    "answer_f1_score",
    "entities",
    "entity_f1_score",
    "entity_precision_recall_f1",
    "entity_report",
    "max_sim",
    "normalize_answer",
    "pearson_score",
    "precision_recall_f1",
    "recall_at_k",
    "search_scoring",
    "spearman_score",
    "split_tag",
    "word_accuracy",
]
