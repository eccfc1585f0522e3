"""Texts to classes by fine-tuning the original XLM."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from skxlmr.estimators._sequence.sequence_classifier import SequenceClassifier
from skxlmr.estimators._xlm.family import XLM, XLMParameters
from skxlmr.estimators.heads import XLM_CLASSIFICATION
from skxlmr.estimators.parameters import estimator

if TYPE_CHECKING:
    from skxlmr.nn import TaskModule


@estimator
class XLMClassifier(XLMParameters, SequenceClassifier):
    """Classify texts, or pairs of texts, by fine-tuning the original XLM.

    Like :class:`XLMRobertaClassifier`, for checkpoints such as ``FacebookAI/xlm-mlm-en-2048``; the new head follows the
    checkpoint's ``config.json`` (``summary_type`` and related fields), by default one projection of the first token's
    vector. It needs the extra ``xlm``.

    Read more in :doc:`/xlm`.

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,), or list of ndarray
        Class labels, sorted; see :class:`XLMRobertaClassifier` for several labels per row.
    target_type_ : {'binary', 'multiclass', 'multilabel-indicator', 'multiclass-multioutput'}
        What ``y`` was, in the words of :func:`sklearn.utils.multiclass.type_of_target`.
    module_ : torch.nn.Module
        The encoder with its head.
    tokenizer_ : XLMTokenizer
        The checkpoint's tokenizer, with the rules of the language.
    config_ : XLMConfig
        Geometry of the checkpoint.
    loss_curve_ : list of float
        Mean training loss of each epoch.
    validation_scores_ : list of float or None
        What ``score`` returns for the validation data after each epoch; None without validation data.
    {of_a_fit}
    n_truncated_ : int
        Texts of the training data that were cut.
    n_features_in_ : int
        2 for pairs, 1 for texts in a table; not set for texts in one dimension.
    feature_names_in_ : ndarray of str
        Column names of a DataFrame that was passed to ``fit``.

    See Also
    --------
    XLMRobertaClassifier : The same for XLM-RoBERTa and its relatives.
    XLMVectorizer : Features for any classifier of scikit-learn, without training the encoder.
    XLMMaskedLM : Adapts the checkpoint to the texts of a domain first.

    References
    ----------
    .. [1] Lample & Conneau (2019), "Cross-lingual Language Model Pretraining", arXiv:1901.07291.

    Examples
    --------
    >>> from skxlmr import XLMClassifier
    >>> classifier = XLMClassifier(lang="en", max_epochs=3)
    >>> classifier
    XLMClassifier(lang='en', max_epochs=3)
    >>> classifier.fit(["Great film", "Bad film"], ["good", "bad"])  # doctest: +SKIP
    XLMClassifier(lang='en', max_epochs=3)
    """

    _head = XLM_CLASSIFICATION
    _family = XLM

    def _build(self, config: Any) -> TaskModule:
        if config.causal and config.summary_type == "first":
            raise ValueError(
                "the checkpoint is causal: the first token, which its head reads (summary_type 'first'), sees no other token; "
                "set summary_type to 'last' or 'mean' in config.json"
            )
        return super()._build(config)
