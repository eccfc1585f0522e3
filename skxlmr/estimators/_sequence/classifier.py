"""Texts to classes with XLM-RoBERTa and its relatives."""

from __future__ import annotations

from skxlmr.estimators._sequence.sequence_classifier import SequenceClassifier
from skxlmr.estimators.heads import CLASSIFICATION
from skxlmr.estimators.parameters import SamplingParameters, estimator


@estimator
class XLMRobertaClassifier(SamplingParameters, SequenceClassifier):
    """Classify multilingual texts, or pairs of texts, by fine-tuning XLM-RoBERTa.

    The encoder is trained together with a new head (dense layer, tanh, projection) on the vector of the first token, with
    AdamW and a learning rate that rises and falls.

    ``y`` determines what is learnt: one class per row; several labels per row, if it is a matrix of several columns of 0 and
    1; or several classes per row, if it is a matrix of other values (one block of outputs for each column, the loss is their
    mean).

    Read more in :doc:`/user_guide`.

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,), or list of ndarray
        Class labels, sorted. With several labels per row their names, if ``y`` was a DataFrame, or else their numbers from 0
        on; with several columns of classes the classes of each. After ``from_checkpoint`` the labels of ``id2label``.
    target_type_ : {'binary', 'multiclass', 'multilabel-indicator', 'multiclass-multioutput'}
        What ``y`` was, in the words of :func:`sklearn.utils.multiclass.type_of_target`: one class per row (of two, or of
        more), several labels per row, or several columns of classes.
    module_ : torch.nn.Module
        The encoder with its head.
    tokenizer_ : Tokenizer
        The checkpoint's tokenizer.
    config_ : ModelConfig
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
    XLMRobertaVectorizer : Features for any classifier of scikit-learn, without training the encoder.
    XLMRobertaZeroShotClassifier : Labels in words, without training rows.
    skxlmr.inspection.attributions : What each word contributes to a prediction.
    skxlmr.inspection.LossCurveDisplay : Draws the loss of a fit by epoch.
    skxlmr.inspection.group_scores : Scores per language, or another group, with intervals.

    References
    ----------
    .. [1] Conneau et al. (2020), "Unsupervised Cross-lingual Representation Learning at Scale", arXiv:1911.02116.
    .. [2] Devlin et al. (2019), "BERT: Pre-training of Deep Bidirectional Transformers", section 3.2, arXiv:1810.04805.

    Examples
    --------
    >>> from skxlmr import XLMRobertaClassifier
    >>> texts = ["Guter Film", "Great film", "Schlechter Film", "Bad film"]
    >>> labels = ["good", "good", "bad", "bad"]
    >>> classifier = XLMRobertaClassifier("skxlmr-mini", learning_rate=1e-3, max_epochs=20, random_state=0)
    >>> classifier.fit(texts, labels).predict(["Guter Film"])
    array(['good'], dtype='<U4')

    Several labels per row: a matrix with a column for each.

    >>> import numpy as np
    >>> topics = np.array([[1, 0], [1, 1], [0, 1], [0, 0]])
    >>> labeller = XLMRobertaClassifier("skxlmr-mini", max_epochs=1, random_state=0).fit(texts, topics)
    >>> labeller.target_type_, labeller.predict_proba(["Guter Film"]).shape
    ('multilabel-indicator', (1, 2))
    """

    _head = CLASSIFICATION
