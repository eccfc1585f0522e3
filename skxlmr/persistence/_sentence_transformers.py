"""Which sentence encoder or cross-encoder a saved estimator is, for ``sentence-transformers`` and for ``load``."""

from skxlmr.checkpoints import CrossEncoder
from skxlmr.estimators import XLMRobertaMaskedLM, XLMRobertaRegressor, XLMRobertaVectorizer
from skxlmr.estimators._core.estimator import Estimator
from skxlmr.estimators._sequence.classifier import SequenceClassifier
from skxlmr.estimators._sequence.vectorizer import Vectorizer
from skxlmr.nn.sentence import SentenceEncoder

WEIGHTS = "sentence."  # what the names of the weights of its further layers begin with in the module
CROSS_ENCODERS = (XLMRobertaRegressor, SequenceClassifier)
READERS = (Vectorizer, *CROSS_ENCODERS)  # of the files of sentence-transformers


def sentence_encoder_of(estimator: Estimator) -> tuple[SentenceEncoder | None, bool]:
    """What the folder says of how vectors of texts are made, and whether ``encode`` there then equals our ``transform``."""
    if isinstance(estimator, Vectorizer):
        how, is_equal = estimator._sentence_encoder_to_save()
        is_equal = is_equal and type(estimator) is XLMRobertaVectorizer
        return how if is_equal else estimator._said, is_equal
    if type(estimator) is XLMRobertaMaskedLM and getattr(estimator, "n_features_in_", 1) == 1:
        return SentenceEncoder((estimator.pooling,), max_length=estimator._limit()), True
    return None, False


def cross_encoder_of(estimator: Estimator) -> CrossEncoder | None:
    """What the folder says of how a cross-encoder reads texts and what becomes of its outputs."""
    return estimator._cross_encoder_to_save() if isinstance(estimator, CROSS_ENCODERS) else None
