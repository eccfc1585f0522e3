"""The estimators: scikit-learn's interface over everything else."""

from skxlmr.estimators._answers.estimator import XLMRobertaQuestionAnswerer
from skxlmr.estimators._choices.estimator import XLMRobertaMultipleChoiceClassifier
from skxlmr.estimators._dialogues.estimator import XLMRobertaDialogueLM
from skxlmr.estimators._embedding.estimator import XLMRobertaEmbedder
from skxlmr.estimators._language.causal_lm import XLMRobertaCausalLM
from skxlmr.estimators._language.masked_lm import XLMRobertaMaskedLM
from skxlmr.estimators._sequence.classifier import XLMRobertaClassifier
from skxlmr.estimators._sequence.regressor import XLMRobertaRegressor
from skxlmr.estimators._sequence.xlm_roberta_vectorizer import XLMRobertaVectorizer
from skxlmr.estimators._sequence.zero_shot import XLMRobertaZeroShotClassifier
from skxlmr.estimators._tokens.estimator import XLMRobertaTokenClassifier
from skxlmr.estimators._xlm.classifier import XLMClassifier
from skxlmr.estimators._xlm.masked_lm import XLMMaskedLM
from skxlmr.estimators._xlm.vectorizer import XLMVectorizer

__all__ = [
    "XLMClassifier",
    "XLMMaskedLM",
    "XLMRobertaCausalLM",
    "XLMRobertaClassifier",
    "XLMRobertaDialogueLM",
    "XLMRobertaEmbedder",
    "XLMRobertaMaskedLM",
    "XLMRobertaMultipleChoiceClassifier",
    "XLMRobertaQuestionAnswerer",
    "XLMRobertaRegressor",
    "XLMRobertaTokenClassifier",
    "XLMRobertaVectorizer",
    "XLMRobertaZeroShotClassifier",
    "XLMVectorizer",
]
