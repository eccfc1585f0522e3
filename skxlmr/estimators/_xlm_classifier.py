"""Texts to classes by fine-tuning an older XLM."""

from skxlmr.estimators._classifier import XLMRobertaClassifier
from skxlmr.estimators._xlm import CHECKPOINT, LANG, FineTunedXLM
from skxlmr.nn import XLMForSequenceClassification
from skxlmr.utils._docs import document_parameters


@document_parameters(checkpoint=CHECKPOINT, lang=LANG)
class XLMClassifier(FineTunedXLM, XLMRobertaClassifier):
    """Classify texts, or pairs of texts, by fine-tuning the older XLM.

    Like :class:`XLMRobertaClassifier`, for checkpoints such as ``FacebookAI/xlm-mlm-en-2048``; the new head is what the
    checkpoint's ``config.json`` says of it (``summary_type`` and the like), by default one projection of the first token's
    vector. It needs the extra ``xlm``.

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,), or list of ndarray
        Class labels, sorted; see :class:`XLMRobertaClassifier` for several labels a row.
    target_type_ : {'single_label', 'multi_label', 'multi_output'}
        What ``y`` was: one class a row, several labels a row, or several columns of classes.
    module_ : torch.nn.Module
        The encoder with its head.
    tokenizer_ : XLMTokenizer
        The checkpoint's tokenizer, with the rules of the language.
    config_ : XLMConfig
        Geometry of the checkpoint.
    loss_curve_ : list of float
        Mean training loss of each epoch.
    validation_scores_ : list of float or None
        What ``score`` gives for the validation data after each epoch; None without validation data.
    n_iter_ : int
        Number of epochs.
    n_truncated_ : int
        Texts of the training data that were cut.
    n_features_in_ : int
        1 for texts, 2 for pairs.
    feature_names_in_ : ndarray of str
        Column names of a DataFrame that was passed to ``fit``.

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

    _parameter_constraints: dict = {**XLMRobertaClassifier._parameter_constraints, "lang": [str, None]}
    del _parameter_constraints["subword_sampling"]
    _head = "sequence_summary"

    def __init__(
        self,
        checkpoint="FacebookAI/xlm-mlm-en-2048",
        *,
        revision=None,
        lang=None,
        max_length=None,
        long_text="truncate",
        stride=0,
        max_epochs=5,
        batch_size=16,
        accumulate=1,
        learning_rate=3e-05,
        head_learning_rate=None,
        layer_decay=1.0,
        weight_decay=0.01,
        warmup_ratio=0.1,
        schedule="linear",
        max_grad_norm=1.0,
        n_frozen_layers=0,
        gradient_checkpointing=False,
        label_smoothing=0.0,
        class_weight=None,
        threshold=0.5,
        early_stopping=False,
        validation_fraction=0.1,
        n_iter_no_change=2,
        tol=0.0001,
        warm_start=False,
        device="auto",
        dtype="auto",
        random_state=None,
        verbose=0,
        checkpoint_dir=None,
        checkpoint_every=None,
    ):
        self.checkpoint = checkpoint
        self.revision = revision
        self.lang = lang
        self.max_length = max_length
        self.long_text = long_text
        self.stride = stride
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.accumulate = accumulate
        self.learning_rate = learning_rate
        self.head_learning_rate = head_learning_rate
        self.layer_decay = layer_decay
        self.weight_decay = weight_decay
        self.warmup_ratio = warmup_ratio
        self.schedule = schedule
        self.max_grad_norm = max_grad_norm
        self.n_frozen_layers = n_frozen_layers
        self.gradient_checkpointing = gradient_checkpointing
        self.label_smoothing = label_smoothing
        self.class_weight = class_weight
        self.threshold = threshold
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.warm_start = warm_start
        self.device = device
        self.dtype = dtype
        self.random_state = random_state
        self.verbose = verbose
        self.checkpoint_dir = checkpoint_dir
        self.checkpoint_every = checkpoint_every

    def _build(self, config):
        if config.causal and config.summary_type == "first":
            raise ValueError(
                "the checkpoint is causal: the first token, which its head reads (summary_type 'first'), sees no other; set "
                "summary_type to 'last' or 'mean' in config.json"
            )
        return self._with_languages(XLMForSequenceClassification(config, self._n_outputs()), config)

    def _hub_config(self):
        return {**super()._hub_config(), "architectures": ["XLMForSequenceClassification"]}
