"""Dialogues: masked language modelling together with finding the response that follows on a context."""

import warnings
from dataclasses import replace
from numbers import Real

import numpy as np

from skxlmr.batching import DialogueTask
from skxlmr.estimators._dialogues import Dialogues, check_dialogues, indexed_by_dialogue, is_frame_of_turns
from skxlmr.estimators._features import FeatureNames
from skxlmr.estimators._fine_tuned import FineTunedXLMRoberta
from skxlmr.estimators._readers import FIRST_TOKEN
from skxlmr.estimators._response_ranker import SPEAKER_TOKENS, ResponseRanker
from skxlmr.estimators._training_rows import Rows, seeded
from skxlmr.nn import ModelConfig, XLMRobertaForMaskedLM
from skxlmr.nn.vocabulary import extend_vocabulary
from skxlmr.text import SubwordSampling, load_tokenizer
from skxlmr.training import mean_losses
from skxlmr.utils._docs import document_parameters
from skxlmr.utils._errors import CheckpointError
from skxlmr.utils._sklearn import Interval, check_feature_names, fit_context, output_config
from skxlmr.utils._warnings import outside_stacklevel


@document_parameters(
    speakers=(
        "dict or None",
        "Who is meant, ``'system'`` or ``'user'``, by other names of speakers than ``system``, ``sys``, ``user`` and ``usr``\n"
        "(in any case), such as ``{'agent': 'system', 'caller': 'user'}``.",
    ),
    mask_probability=(
        "float",
        "Share of the tokens that are predicted; of these 80 % are masked, 10 % replaced, 10 % kept.",
    ),
    contrastive_weight=(
        "float",
        "Weight of the response contrastive loss beside the masked language modelling loss; 0 trains without it, on masked\n"
        "dialogues alone.",
    ),
    accumulate=(
        "int",
        "Batches of each step. Their responses are each other's negatives: the step equals that of one large batch, in the\n"
        "memory of a small one, as each batch is encoded twice (gradient caching, Gao et al. 2021).",
    ),
)
class XLMRobertaDialogueLM(ResponseRanker, FeatureNames, FineTunedXLMRoberta):
    """XLM-RoBERTa for task-oriented dialogues, as TOD-BERT and TOD-XLMR.

    A dialogue is read as one text, ``[USR] hello [SYS] hi ...``, with two tokens that ``fit`` adds to the vocabulary where the
    checkpoint lacks them. ``fit`` learns to fill gaps and, at the same time, to tell which system response follows on a
    context from the responses of the other dialogues in the batch: the similarity is the dot product of the first tokens'
    vectors. The split into context and response is drawn anew in every epoch. The fitted model ranks responses and gives
    features of dialogues, and ``skxlmr.save`` writes it as a checkpoint that every other estimator starts from.

    Of a dialogue longer than ``max_length`` the last turns are kept, of a response its start.

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    module_ : torch.nn.Module
        The encoder with its language modelling head.
    tokenizer_ : Tokenizer
        The checkpoint's tokenizer, with the speakers' tokens.
    config_ : ModelConfig
        Geometry of the checkpoint, with the enlarged vocabulary.
    loss_curve_ : list of float
        Mean loss of each epoch, in nats: that of a predicted token and that of a response added up.
    validation_scores_ : list of float or None
        After each epoch minus the loss on validation data, in batches of ``batch_size``; None without validation data.
    n_iter_ : int
        Number of epochs.
    n_truncated_ : int
        Dialogues of the training data that are longer than ``max_length``.
    n_features_in_ : int
        1, a dialogue.
    feature_names_in_ : ndarray of str
        Column name of a DataFrame with a column of dialogues that was passed to ``fit``.

    References
    ----------
    .. [1] Wu et al. (2020), "TOD-BERT: Pre-trained Natural Language Understanding for Task-Oriented Dialogue",
       arXiv:2004.06871.
    .. [2] Hung et al. (2022), "Multi2WOZ: A Robust Multilingual Dataset and Conversational Pretraining for Task-Oriented
       Dialog", arXiv:2205.10400.
    .. [3] Gao et al. (2021), "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup", arXiv:2101.06983.
    .. [4] Conneau et al. (2020), "Unsupervised Cross-lingual Representation Learning at Scale", arXiv:1911.02116.

    Examples
    --------
    >>> from skxlmr import XLMRobertaDialogueLM
    >>> dialogues = [
    ...     [("user", "A table for two, please."), ("system", "For what time?"), ("user", "At eight.")],
    ...     [("user", "Wann fährt der Zug?"), ("system", "Um neun Uhr.")],
    ... ]
    >>> lm = XLMRobertaDialogueLM("skxlmr-mini", max_epochs=1, random_state=0).fit(dialogues)
    >>> order, scores = lm.rank_responses([[("user", "A table, please.")]], ["For what time?", "Um neun Uhr."])
    >>> order.shape, scores.shape
    ((1, 2), (1, 2))
    """

    _parameter_constraints: dict = {
        **FineTunedXLMRoberta._parameter_constraints,
        "speakers": [dict, None],
        "mask_probability": [Interval(Real, 0, 1, closed="neither")],
        "contrastive_weight": [Interval(Real, 0, None, closed="left")],
    }
    _needs_both_sides = FIRST_TOKEN
    _compacts_vocabulary = False  # the head predicts over the whole vocabulary

    def __init__(
        self,
        checkpoint="FacebookAI/xlm-roberta-base",
        *,
        revision=None,
        speakers=None,
        mask_probability=0.15,
        contrastive_weight=1.0,
        max_length=None,
        max_epochs=3,
        batch_size=16,
        accumulate=1,
        learning_rate=5e-5,
        head_learning_rate=None,
        layer_decay=1.0,
        weight_decay=0.01,
        warmup_ratio=0.1,
        schedule="linear",
        max_grad_norm=1.0,
        n_frozen_layers=0,
        gradient_checkpointing=False,
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
        self.speakers = speakers
        self.mask_probability = mask_probability
        self.contrastive_weight = contrastive_weight
        self.max_length = max_length
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

    @classmethod
    def from_checkpoint(cls, checkpoint, **params):
        """Fitted estimator with the checkpoint's own weights, ready without ``fit``.

        Parameters
        ----------
        checkpoint : str or path
            As in the constructor; its vocabulary must have the speakers' tokens.
        **params
            Other parameters of the constructor.

        Returns
        -------
        fitted estimator

        Raises
        ------
        CheckpointError
            If the checkpoint cannot be read or knows no speakers' tokens.
        """
        with seeded(0):  # a language modelling head that the checkpoint lacks is drawn
            return super().from_checkpoint(checkpoint, **params)

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None, sample_weight=None, X_val=None, *, resume=False):
        """Train on dialogues.

        Parameters
        ----------
        X : list, Series, object array or DataFrame of dialogues
            Each dialogue a list of turns, or a dict with its ``turns``; a turn a dict with ``speaker`` and ``text``, or a pair
            of both. Or a DataFrame with a turn a row and the columns ``dialogue``, ``speaker`` and ``text``.
        y : None
            Ignored.
        sample_weight : array-like of shape (n_dialogues,), optional
            Weight of each dialogue's tokens and response in the loss. As a negative a response counts in full, unless its
            dialogue weighs 0 and is left out.
        X_val : like X, optional
            Validation dialogues for ``validation_scores_`` and early stopping.
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
            If a turn has no known speaker or no text; names the dialogue and the turn.
        FloatingPointError
            If the loss or the gradient stops being finite; names the dialogues.
        """
        return self._fit(X, y, sample_weight, X_val, resume=resume)

    def transform(self, X):
        """Features of the dialogues: the first token's vector of the last layer.

        Parameters
        ----------
        X : like in ``fit``

        Returns
        -------
        ndarray of shape (n_dialogues, hidden_size), float32
            With ``set_output(transform="pandas")`` a DataFrame, whose index for a frame of turns are the dialogues.
        """
        self._module_on_device()
        features = self._vectors(self._whole(self._encode_turns(self._check_X(X, reset=False))))
        if is_frame_of_turns(X) and output_config("transform", self)["dense"] == "pandas":
            return indexed_by_dialogue(features, X)  # scikit-learn would take the index of X, a row for each turn
        return features

    # The four places ----------------------------------------------------------------------------------------------------

    def _check_X(self, X, reset, name="X"):
        dialogues = check_dialogues(X, name, self.speakers)
        if reset:
            self.n_features_in_ = 1
            series_name = getattr(X, "name", None)
            self._series_name = series_name if isinstance(series_name, str) else None
        elif not hasattr(self, "n_features_in_"):  # straight from a checkpoint: there was no fit to compare with
            return dialogues
        check_feature_names(self, [] if is_frame_of_turns(X) else X, reset=reset)
        return dialogues

    def _check_targets(self, y, rows, weights, reset, name="y"):
        return None

    def _build(self, config: ModelConfig):
        return XLMRobertaForMaskedLM(config)

    def _encode_training(self, texts: Dialogues, sampling: SubwordSampling | None = None) -> Rows:
        return {"turns": self._encode_turns(texts, sampling)}

    def _make_task(self, encoded, targets, weights):
        return DialogueTask(
            encoded["turns"],
            self.tokenizer_,
            self._speaker_ids,
            weights,
            self._limit(),
            self.mask_probability,
            self.contrastive_weight,
        )

    def _validation_score(self, encoded, targets, weights):
        """Minus the mean loss, with splits and masks of a fixed seed."""
        task = self._make_task(encoded, targets, weights)
        return -sum(mean_losses(self.module_, task, self.batch_size, np.random.default_rng(0)).values())

    # Checkpoints, with or without the speakers' tokens --------------------------------------------------------------------

    def _read_folder(self, folder):
        config, tokenizer = super()._read_folder(folder)
        try:  # special, so that a turn cannot spell them
            return config, tokenizer.with_tokens(SPEAKER_TOKENS)
        except ValueError as error:
            raise CheckpointError(folder, str(error)) from error

    def _published_tokenizer(self):
        # other estimators read dialogues as texts, which are to spell them
        return self.tokenizer_.with_tokens(SPEAKER_TOKENS, special=False)

    def _adopt(self, config, file):
        # word embeddings may have spare rows at their end, which nobody has trained
        if max(self._speaker_ids) >= load_tokenizer(file.parent).vocab_size:
            tokens = " and ".join(SPEAKER_TOKENS)
            raise CheckpointError(file, f"is of a model without word embeddings of {tokens}: fit adds and trains them")

    def _load_module(self, folder, config, build, new_part=None, optional_parts=()):
        module = super()._load_module(folder, config, build, new_part, (*optional_parts, "lm_head"))
        extend_vocabulary(module, self.tokenizer_.vocab_size, config.initializer_range)
        self.config_ = replace(config, vocab_size=max(config.vocab_size, self.tokenizer_.vocab_size))
        return module

    def _say_of_new_part(self, folder, part):
        warnings.warn(
            f"{folder} has no language modelling head that fits: a new one is drawn",
            UserWarning,
            stacklevel=outside_stacklevel(),
        )

    def _hub_config(self):
        return {"architectures": ["XLMRobertaForMaskedLM"]}

    @property
    def _n_features_out(self) -> int:
        return self.config_.hidden_size
