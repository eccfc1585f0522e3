"""Texts to features through a frozen encoder of the original XLM."""

from skxlmr.estimators._sequence.vectorizer import Vectorizer
from skxlmr.estimators._xlm.family import XLM, XLMParameters
from skxlmr.estimators.heads import XLM_MODEL
from skxlmr.estimators.parameters import estimator


@estimator
class XLMVectorizer(XLMParameters, Vectorizer):
    """Turn texts into dense features with the original XLM.

    Like :class:`XLMRobertaVectorizer`, for checkpoints such as ``FacebookAI/xlm-mlm-en-2048``. It needs the extra ``xlm``.

    Read more in :doc:`/xlm`.

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    module_ : torch.nn.Module
        The encoder.
    tokenizer_ : XLMTokenizer
        The checkpoint's tokenizer, with the rules of the language.
    config_ : XLMConfig
        Geometry of the checkpoint.
    {of_vectors}
    n_truncated_ : int
        Texts passed to ``fit`` that are longer than ``max_length`` tokens.
    n_features_in_ : int
        2 for pairs, 1 for texts in a table; not set for texts in one dimension, nor without ``fit``.
    feature_names_in_ : ndarray of str
        Column names of a DataFrame that was passed to ``fit``.

    See Also
    --------
    XLMRobertaVectorizer : The same for XLM-RoBERTa and its relatives.
    XLMClassifier : Trains the encoder together with a classifier.
    XLMMaskedLM : Adapts the encoder to the texts of a domain first.

    References
    ----------
    .. [1] Lample & Conneau (2019), "Cross-lingual Language Model Pretraining", arXiv:1901.07291.

    Examples
    --------
    >>> from skxlmr import XLMVectorizer
    >>> vectorizer = XLMVectorizer(lang="en", max_length=128)
    >>> vectorizer
    XLMVectorizer(lang='en', max_length=128)
    >>> vectorizer.fit_transform(["Good morning"]).shape  # doctest: +SKIP
    (1, 2048)
    """

    _head = XLM_MODEL
    _family = XLM
