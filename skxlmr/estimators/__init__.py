"""The estimators: scikit-learn's interface over everything else."""

from skxlmr.estimators._causal_lm import XLMRobertaCausalLM
from skxlmr.estimators._classifier import XLMRobertaClassifier
from skxlmr.estimators._dialogue_lm import XLMRobertaDialogueLM
from skxlmr.estimators._masked_lm import XLMRobertaMaskedLM
from skxlmr.estimators._multiple_choice import XLMRobertaMultipleChoiceClassifier
from skxlmr.estimators._question_answering import XLMRobertaQuestionAnswerer
from skxlmr.estimators._regressor import XLMRobertaRegressor
from skxlmr.estimators._token import XLMRobertaTokenClassifier
from skxlmr.estimators._vectorizer import XLMRobertaVectorizer
from skxlmr.estimators._xlm_classifier import XLMClassifier
from skxlmr.estimators._xlm_masked_lm import XLMMaskedLM
from skxlmr.estimators._xlm_vectorizer import XLMVectorizer
from skxlmr.estimators._zero_shot import XLMRobertaZeroShotClassifier

__all__ = [
    "XLMClassifier",
    "XLMMaskedLM",
    "XLMRobertaCausalLM",
    "XLMRobertaClassifier",
    "XLMRobertaDialogueLM",
    "XLMRobertaMaskedLM",
    "XLMRobertaMultipleChoiceClassifier",
    "XLMRobertaQuestionAnswerer",
    "XLMRobertaRegressor",
    "XLMRobertaTokenClassifier",
    "XLMRobertaVectorizer",
    "XLMRobertaZeroShotClassifier",
    "XLMVectorizer",
]
