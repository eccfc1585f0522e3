"""Texts to features through a frozen older XLM."""

from skxlmr.estimators._vectorizer import XLMRobertaVectorizer
from skxlmr.estimators._xlm import CHECKPOINT, LANG, XLMEstimator
from skxlmr.nn import XLMModel
from skxlmr.utils._docs import document_parameters
from skxlmr.utils._sklearn import StrOptions


@document_parameters(
    checkpoint=CHECKPOINT,
    lang=LANG,
    pooling=(
        "{'mean', 'cls', 'max'}",
        "How token vectors become one: their mean, the first token's vector or their maximum.",
    ),
)
class XLMVectorizer(XLMEstimator, XLMRobertaVectorizer):
    """Turn texts into dense features with the older XLM.

    Like :class:`XLMRobertaVectorizer`, for checkpoints such as ``FacebookAI/xlm-mlm-en-2048``. It needs the extra ``xlm``.

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
    n_truncated_ : int
        Texts passed to ``fit`` that are longer than ``max_length`` tokens.
    n_features_in_ : int
        1 for texts, 2 for pairs.
    feature_names_in_ : ndarray of str
        Column names of a DataFrame that was passed to ``fit``.

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

    _parameter_constraints: dict = {
        **XLMRobertaVectorizer._parameter_constraints,
        "lang": [str, None],
        "pooling": [StrOptions({"mean", "cls", "max"})],
    }

    def __init__(
        self,
        checkpoint="FacebookAI/xlm-mlm-en-2048",
        *,
        revision=None,
        lang=None,
        pooling="mean",
        layers=-1,
        normalize=False,
        max_length=None,
        long_text="truncate",
        stride=0,
        batch_size=32,
        device="auto",
        dtype="auto",
    ):
        self.checkpoint = checkpoint
        self.revision = revision
        self.lang = lang
        self.pooling = pooling
        self.layers = layers
        self.normalize = normalize
        self.max_length = max_length
        self.long_text = long_text
        self.stride = stride
        self.batch_size = batch_size
        self.device = device
        self.dtype = dtype

    def _build(self, config):
        return self._with_languages(XLMModel(config), config)

    def _hub_config(self):
        return {"architectures": ["XLMModel"]}
