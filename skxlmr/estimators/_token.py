"""Rows of words, or texts, to a tag for each word."""

from numbers import Integral, Real

import numpy as np

from skxlmr.batching import TokenTask
from skxlmr.estimators._fine_tuned import FineTunedXLMRoberta
from skxlmr.estimators._labels import output_labels
from skxlmr.estimators._partial_fit import PartialFitOfClasses
from skxlmr.estimators._readers import check_head
from skxlmr.estimators._targets import weights_of_classes
from skxlmr.estimators._token_predictions import TokenPredictions
from skxlmr.estimators._token_rows import (
    check_spans,
    check_tags,
    check_token_rows,
    entity_tags,
    has_dicts,
    object_array,
    tags_of_spans,
)
from skxlmr.metrics import split_tag
from skxlmr.nn import XLMRobertaForTokenClassification
from skxlmr.nn.losses import cross_entropy
from skxlmr.utils._docs import document_parameters
from skxlmr.utils._sklearn import Interval, StrOptions, check_feature_names, fit_context
from skxlmr.utils._validation import check_texts


@document_parameters(
    max_length=(
        "int or None",
        "Most tokens of a window, special tokens included; longer rows are shown in several windows, nothing is cut. None is\n"
        "as many as the checkpoint allows.",
    ),
    stride=(
        "int",
        "Tokens that neighbouring windows of a long row share, at most half of a window. Each word is learnt and predicted\n"
        "where it has the most context.",
    ),
    scheme=(
        "{'auto', 'BIO', 'IOB2', 'IOBES', 'plain'}",
        "What tags mean: entities from ``B-``, ``I-`` (and ``E-``, ``S-``) tags, read leniently (``'BIO'``) or strictly\n"
        "(``'IOB2'``, ``'IOBES'``), or classes of their own (``'plain'``). ``'auto'`` tells ``'BIO'``, ``'IOBES'`` and\n"
        "``'plain'`` apart by the classes. Spans of texts become tags of this scheme, of ``'BIO'`` with ``'auto'``.",
    ),
    constrained=(
        "bool",
        "Predict the most probable row of tags that keeps the rules of the scheme (Viterbi) instead of the most probable tag\n"
        "of each word: no ``I-PER`` after ``O``, unless the classes have an ``I-`` without its ``B-``: there ``I-`` begins\n"
        "entities (IOB1).",
    ),
    label_all_subwords=("bool", "Learn a word's tag at all of its tokens instead of the first only."),
    label_smoothing=("float", "Share of the target that is spread evenly over all classes (Szegedy et al. 2016)."),
    class_weight=(
        "dict, 'balanced' or None",
        "Weight of each tag in the loss; ``'balanced'`` weighs tags inversely to their frequency among the words.",
    ),
)
class XLMRobertaTokenClassifier(PartialFitOfClasses, TokenPredictions):
    """Tag words or find entities in texts by fine-tuning XLM-RoBERTa.

    The encoder is trained together with a new projection of each word's first token. Rows of words take a tag for each word;
    texts take spans of characters, and are cut into words: runs of letters, marks and digits, or single other characters,
    each character of a script that puts no spaces between words (Chinese, Japanese, Thai, ...).

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Tags, sorted; straight from a checkpoint in the checkpoint's order.
    module_ : torch.nn.Module
        The encoder with its head.
    tokenizer_ : Tokenizer
        The checkpoint's tokenizer.
    config_ : ModelConfig
        Geometry of the checkpoint.
    loss_curve_ : list of float
        Mean training loss of each epoch.
    validation_scores_ : list of float or None
        Score (see ``score``) on the validation data after each epoch; None without validation data.
    n_iter_ : int
        Number of epochs.
    n_truncated_ : int
        Rows of the training data that were cut: always 0.
    n_features_in_ : int
        1, the column of words or texts.
    feature_names_in_ : ndarray of str
        Column name of a DataFrame that was passed to ``fit``.

    References
    ----------
    .. [1] Conneau et al. (2020), "Unsupervised Cross-lingual Representation Learning at Scale", arXiv:1911.02116.
    .. [2] Devlin et al. (2019), "BERT: Pre-training of Deep Bidirectional Transformers", section 5.3, arXiv:1810.04805.

    Examples
    --------
    >>> from skxlmr import XLMRobertaTokenClassifier
    >>> X = [["Anna", "lebt", "in", "Rom"], ["Paul", "lives", "in", "Paris"]] * 4
    >>> y = [["B-PER", "O", "O", "B-LOC"]] * 8
    >>> tagger = XLMRobertaTokenClassifier("skxlmr-mini", learning_rate=2e-3, max_epochs=10, random_state=0)
    >>> tagger.fit(X, y).predict([["Paul", "lebt", "in", "Paris"]])[0]
    ['B-PER', 'O', 'O', 'B-LOC']
    """

    _head = "classifier"
    _parameter_constraints: dict = {
        **FineTunedXLMRoberta._parameter_constraints,
        "stride": [Interval(Integral, 0, None, closed="left")],
        "scheme": [StrOptions({"auto", "BIO", "IOB2", "IOBES", "plain"})],
        "constrained": ["boolean"],
        "label_all_subwords": ["boolean"],
        "label_smoothing": [Interval(Real, 0, 1, closed="left")],
        "class_weight": [dict, StrOptions({"balanced"}), None],
    }

    def __init__(
        self,
        checkpoint="FacebookAI/xlm-roberta-base",
        *,
        revision=None,
        max_length=None,
        stride=32,
        scheme="auto",
        constrained=False,
        label_all_subwords=False,
        max_epochs=5,
        batch_size=16,
        accumulate=1,
        learning_rate=3e-5,
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
        early_stopping=False,
        validation_fraction=0.1,
        n_iter_no_change=2,
        tol=1e-4,
        warm_start=False,
        device="auto",
        dtype="auto",
        subword_sampling=None,
        random_state=None,
        verbose=0,
        checkpoint_dir=None,
        checkpoint_every=None,
    ):
        self.checkpoint = checkpoint
        self.revision = revision
        self.max_length = max_length
        self.stride = stride
        self.scheme = scheme
        self.constrained = constrained
        self.label_all_subwords = label_all_subwords
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
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.warm_start = warm_start
        self.device = device
        self.dtype = dtype
        self.subword_sampling = subword_sampling
        self.random_state = random_state
        self.verbose = verbose
        self.checkpoint_dir = checkpoint_dir
        self.checkpoint_every = checkpoint_every

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, sample_weight=None, X_val=None, y_val=None, *, resume=False):
        """Fine-tune the checkpoint.

        Parameters
        ----------
        X : list, array, Series or one-column DataFrame, of shape (n_rows,)
            Rows of words (lists, tuples or arrays of str), or texts. A row may have no words; an empty word is one unknown
            token.
        y : list, array or Series of shape (n_rows,)
            For rows of words, lists of one tag a word. For texts, lists of spans ``(start, end, label)``, or dicts with
            these keys, in characters of the text; they begin and end where words do and do not overlap.
        sample_weight : array-like of shape (n_rows,), optional
            Weight of each row's words in the loss; a weight of 2 counts like two rows.
        X_val, y_val : like X and y, optional
            Validation data for ``validation_scores_`` and early stopping.
        resume : bool
            Go on from the state in ``checkpoint_dir``, if there is one of the same fit; else start anew.

        Returns
        -------
        self

        Raises
        ------
        CheckpointError
            If the checkpoint cannot be read or does not fit.
        ValueError
            If a row of X is neither words nor a text, if there is not one tag for each word, or a span overlaps another or
            cuts a word apart (names the row); if no row has words, or there is only one tag.
        FloatingPointError
            If the loss or the gradient stops being finite; names the rows.
        KeyboardInterrupt
            Passed on; after at least one epoch the weights of the last finished one are in place.
        """
        return self._fit(X, y, sample_weight, X_val, y_val, resume=resume)

    # Places in the shared fit -----------------------------------------------------------------------------------------

    def _check_X(self, X, reset, name="X"):
        rows = check_token_rows(X, name)
        if reset:
            if not rows.n_words.any():
                raise ValueError("X has no words: at least one row with words is needed")
            self.n_features_in_ = 1
            self._fitted_on = rows.kind
        elif not hasattr(self, "_fitted_on"):  # straight from a checkpoint: words and texts are both welcome
            return rows
        elif rows.kind != self._fitted_on:
            kinds = {"words": "rows of words", "texts": "texts"}
            raise ValueError(
                f"{name} has {kinds[rows.kind]}, but {type(self).__name__} was fitted on {kinds[self._fitted_on]}"
            )
        check_feature_names(self, X, reset=reset)
        return rows

    def _scheme_of_spans(self) -> str:
        return "BIO" if self.scheme == "auto" else self.scheme

    def _announce(self, classes, X, y):
        if classes is None:
            raise ValueError(
                "classes must be passed on the first call to partial_fit: the tags, or the labels of spans, of all calls"
            )
        self._learn_tags(self._spelt_out(classes, X), "classes")

    def _spelt_out(self, classes, X):
        given = check_texts(classes, "classes", pairs_allowed=False).first
        if check_token_rows(X, "X").texts is None:
            return given
        scheme = self._scheme_of_spans()
        return _all_tags([tag for label in given for tag in entity_tags(label, 1, scheme)], scheme)

    def _learn_tags(self, tags: list[str], name: str) -> None:
        """Take these tags for all there are."""
        self.classes_ = np.unique(tags)
        if len(self.classes_) < 2:
            raise ValueError(f"{name} has only one tag, {self.classes_.tolist()[0]!r}: at least two are needed")
        self._rules()  # a scheme that does not fit the tags is told before anything is trained

    def _check_targets(self, y, rows, weights, reset, name="y"):
        """Codes of the tags of each row, an object array of int64 arrays."""
        if rows.texts is None:
            tags_of_rows = check_tags(y, rows, name)
        else:
            tags_of_rows = tags_of_spans(check_spans(y, rows, name), rows, self._scheme_of_spans(), name)
        if name == "y":
            self._dict_spans = rows.texts is not None and has_dicts(y)
        if reset:
            tags = [tag for row in tags_of_rows for tag in row]
            if rows.texts is not None:
                tags += _all_tags(tags, self._scheme_of_spans())
            self._learn_tags(tags, name)
        code_of = {tag: code for code, tag in enumerate(self.classes_.tolist())}
        found = []
        for row, row_tags in enumerate(tags_of_rows):
            codes = [code_of.get(tag, -1) for tag in row_tags]
            if -1 in codes:
                raise ValueError(
                    f"{name} row {row}: tag {row_tags[codes.index(-1)]!r} is not among the classes of the fit, "
                    f"{', '.join(map(repr, list(code_of)[:10]))}{', ...' if len(code_of) > 10 else ''}"
                )
            found.append(np.array(codes, np.int64))
        return object_array(found)

    def _word_weights(self, weights, targets):
        """Weight of each word of the rows with these weights, an object array of float32 arrays."""
        of_words = np.repeat(weights, [len(row) for row in targets])
        weight_of = weights_of_classes(self.class_weight, self.classes_, np.concatenate(targets), of_words)
        return object_array([weight * weight_of[row] for weight, row in zip(weights, targets, strict=True)])

    def _build(self, config):
        return XLMRobertaForTokenClassification(config, len(self.classes_))

    def _encode_training(self, rows, sampling=None):
        return {"encoded": self.tokenizer_.encode_words(rows.words, sampling=sampling, **self._windows())}

    def _make_task(self, encoded, targets, weights):
        return TokenTask(
            encoded["encoded"],
            targets,
            self._word_weights(weights, targets),
            lambda logits, codes: cross_entropy(logits, codes, self.label_smoothing),
            self.label_all_subwords,
        )

    def _validation_score(self, encoded, targets, weights):
        predicted = self._choose_tags(self._log_proba_of(encoded["encoded"], len(targets)))
        return self._score_tags([self.classes_[codes].tolist() for codes in targets], predicted, weights)

    def _hub_config(self):
        labels = [str(label) for label in self.classes_.tolist()]
        return {
            "architectures": ["XLMRobertaForTokenClassification"],
            "id2label": {str(i): label for i, label in enumerate(labels)},
            "label2id": {label: i for i, label in enumerate(labels)},
        }

    def _adopt(self, config, file):
        check_head(config, file, "ForTokenClassification")
        self.classes_ = np.array(output_labels(config, file))
        self._rules()

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        return tags


def _all_tags(tags: list[str], scheme: str) -> list[str]:
    """Every tag that the types among these may take, so that longer entities than those of the training are known."""
    found = {"O"}
    for _, label in {split_tag(tag, scheme) for tag in tags if tag != "O"}:
        for n_words in (1, 2, 3):
            found.update(entity_tags(label, n_words, scheme))
    return sorted(found)
