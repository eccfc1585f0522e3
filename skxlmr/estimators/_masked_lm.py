"""Masked language modelling: adapt the encoder to a domain, fill masks, score texts."""

from numbers import Integral, Real

import numpy as np
import torch
from sklearn.base import TransformerMixin

from skxlmr.batching import MaskedLMTask, batches_by_length, concatenate, pack
from skxlmr.estimators._base import FineTunedXLMRoberta
from skxlmr.estimators._features import FeatureNames
from skxlmr.nn import ModelConfig, XLMRobertaForMaskedLM
from skxlmr.nn.linear import fast_inference
from skxlmr.nn.pooling import pool
from skxlmr.text import EncodedBatch
from skxlmr.training import autocast
from skxlmr.utils._device import resolve_device
from skxlmr.utils._docs import document_parameters
from skxlmr.utils._sklearn import Interval, StrOptions, fit_context
from skxlmr.utils._validation import Texts, check_texts

MASK = "<mask>"
LOGIT_ROWS = 256  # rows of logits at a time: with XLM-R's vocabulary a row takes a megabyte


@document_parameters(
    mask_probability=(
        "float",
        "Share of the tokens that are predicted; of these 80 % are masked, 10 % replaced, 10 % kept.",
    ),
    pair_objective=(
        "{'translation', 'alignment'}",
        "What is learnt from pairs of translations. ``'translation'`` masks both texts in one sequence, so that each helps to\n"
        "fill the other's gaps (TLM, Lample & Conneau 2019). ``'alignment'`` masks each text on its own and draws the mean\n"
        "vectors of translations together and those of other rows apart (Feng et al. 2022), which makes for better features.",
    ),
    alignment_weight=("float", "Weight of that contrastive loss beside the masked language modelling loss."),
    pooling=("{'mean', 'cls', 'max'}", "How token vectors become one in ``transform``."),
)
class XLMRobertaMaskedLM(FeatureNames, TransformerMixin, FineTunedXLMRoberta):
    """XLM-RoBERTa as a masked language model.

    ``fit`` adapts the checkpoint to the texts of a domain (Gururangan et al. 2020, arXiv:2004.10964), on plain texts or on
    pairs of translations. The fitted model fills masks, scores texts, gives features, and ``skxlmr.save`` writes it as a
    checkpoint that every other estimator starts from.

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    module_ : torch.nn.Module
        The encoder with its language modelling head.
    tokenizer_ : Tokenizer
        The checkpoint's tokenizer.
    config_ : ModelConfig
        Geometry of the checkpoint.
    loss_curve_ : list of float
        Mean loss of each epoch, in nats per predicted token.
    validation_scores_ : list of float or None
        After each epoch minus the loss on validation data; None without validation data.
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
    .. [1] Conneau et al. (2020), "Unsupervised Cross-lingual Representation Learning at Scale", arXiv:1911.02116.

    Examples
    --------
    >>> from skxlmr import XLMRobertaMaskedLM
    >>> lm = XLMRobertaMaskedLM("skxlmr-mini", max_epochs=1, random_state=0)
    >>> lm = lm.fit(["Der Akku hält zwei Tage.", "The battery lasts two days."])
    >>> len(lm.fill_mask(["The battery lasts two <mask>."], top_k=3)[0][0])
    3
    """

    _parameter_constraints: dict = {
        **FineTunedXLMRoberta._parameter_constraints,
        "mask_probability": [Interval(Real, 0, 1, closed="neither")],
        "pair_objective": [StrOptions({"translation", "alignment"})],
        "alignment_weight": [Interval(Real, 0, None, closed="left")],
        "pooling": [StrOptions({"mean", "cls", "max"})],
    }
    _compacts_vocabulary = False  # the head predicts over the whole vocabulary

    def __init__(
        self,
        checkpoint="FacebookAI/xlm-roberta-base",
        *,
        revision=None,
        mask_probability=0.15,
        pair_objective="translation",
        alignment_weight=1.0,
        pooling="mean",
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
        random_state=None,
        verbose=0,
    ):
        self.checkpoint = checkpoint
        self.revision = revision
        self.mask_probability = mask_probability
        self.pair_objective = pair_objective
        self.alignment_weight = alignment_weight
        self.pooling = pooling
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
        self.random_state = random_state
        self.verbose = verbose

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None, sample_weight=None, X_val=None):
        """Train on masked texts.

        Parameters
        ----------
        X : list, array, Series or DataFrame of str, of shape (n_rows,) or (n_rows, 1) or (n_rows, 2)
            Texts, or pairs of translations. A pair whose second text is empty is trained as a single text.
        y : None
            Ignored.
        sample_weight : array-like of shape (n_rows,), optional
            Weight of each row's tokens in the loss.
        X_val : like X, optional
            Validation texts for ``validation_scores_`` and early stopping.

        Returns
        -------
        self

        Raises
        ------
        CheckpointError
            If the checkpoint cannot be read or does not fit.
        FloatingPointError
            If the loss or the gradient stops being finite; names the rows.
        """
        return self._fit(X, None, sample_weight, X_val)

    @classmethod
    def from_checkpoint(cls, checkpoint, **params):
        """Masked language model with the checkpoint's own weights, ready without ``fit``.

        Parameters
        ----------
        checkpoint : str or path
            As in the constructor.
        **params
            Other parameters of the constructor.

        Returns
        -------
        fitted XLMRobertaMaskedLM

        Raises
        ------
        CheckpointError
            If the checkpoint cannot be read or has no language modelling head.
        """
        lm = cls(checkpoint, **params)
        lm._validate_params()
        folder, lm.config_, lm.tokenizer_ = lm._open_checkpoint()
        module = lm._load_module(folder, lm.config_, lambda: lm._build(lm.config_))
        lm.module_ = module.to(resolve_device(lm.device))
        lm.n_features_in_, lm._series_name = 1, None
        return lm

    def _check_targets(self, y, n_rows, reset, name="y"):
        return None

    def _build(self, config: ModelConfig):
        return XLMRobertaForMaskedLM(config)

    def _encode_training(self, texts: Texts) -> dict[str, EncodedBatch | None]:
        if texts.second is None:
            return {"first": self._encode(texts), "second": None}
        if self.pair_objective == "alignment":
            first, second = self._encode(Texts(texts.first)), self._encode(Texts(texts.second))
        else:
            first, second = self._encode(texts), None
        alone = np.array([not text for text in texts.second])
        if alone.any():
            if second is None:
                place = np.arange(len(alone))
                first = concatenate(self._encode(Texts(texts.first)), first).take(
                    np.where(alone, place, place + len(alone))
                )
            else:
                kept = np.repeat(~alone, second.lengths)
                second = EncodedBatch(second.ids[kept], np.where(alone, 0, second.lengths), second.n_dropped)
        return {"first": first, "second": second}

    def _make_task(self, encoded, targets, weights):
        return MaskedLMTask(
            encoded["first"], encoded["second"], self.tokenizer_, weights, self.mask_probability, self.alignment_weight
        )

    def _validation_score(self, encoded, targets, weights):
        """Minus the mean loss over tokens masked with a fixed seed."""
        task = MaskedLMTask(encoded["first"], encoded["second"], self.tokenizer_, weights, self.mask_probability, 0.0)
        device = next(self.module_.parameters()).device
        rng, loss, total = np.random.default_rng(0), 0.0, 0.0
        with torch.inference_mode():
            for start in range(0, task.n_rows, self.batch_size):
                rows = np.arange(start, min(start + self.batch_size, task.n_rows))
                batch = task.collate(rows, rng).to(device)
                loss += float(task.losses(self.module_, batch)["masked_lm"].double().sum())
                total += batch.totals["masked_lm"]
        return -loss / total if total else 0.0

    def transform(self, X):
        """Features of the texts, pooled from the last layer.

        Parameters
        ----------
        X : list, array, Series or DataFrame of str
            Texts, or pairs if the model was fitted on pairs.

        Returns
        -------
        ndarray of shape (n_rows, hidden_size), float32
        """
        module = self._module_on_device()
        texts = self._check_X(X, reset=False)
        layers = [self.config_.num_hidden_layers]
        return self._infer_texts(lambda ids, layout: pool(module.roberta, ids, layout, self.pooling, layers, False), texts)

    def fill_mask(self, texts, top_k=5, targets=None):
        """Most probable fillings of each ``<mask>``.

        Parameters
        ----------
        texts : list, array, Series or DataFrame of str
            Each with one or more ``<mask>``.
        top_k : int, default=5
            Number of fillings.
        targets : list of str, optional
            Rank only these words. A word of several tokens gets as many masks, and its score is the product of its tokens'
            probabilities.

        Returns
        -------
        list (one item a text) of lists (one item a mask) of dicts
            ``score`` (probability), ``token`` (id, or list of ids for a target of several tokens), ``token_str`` and
            ``sequence`` (the text with this mask filled), best first.

        Raises
        ------
        ValueError
            If a text has no mask (names the row), ``top_k`` is less than 1, or a target is empty.
        """
        self._module_on_device()
        texts = check_texts(texts, "texts", pairs_allowed=False)
        if not isinstance(top_k, Integral) or top_k < 1:
            raise ValueError(f"top_k must be a whole number of at least 1, got {top_k!r}")
        encoded = self._encode(texts, parse_special=True)
        places = np.flatnonzero(encoded.ids == self.tokenizer_.mask_token_id)
        rows = np.searchsorted(encoded.starts, places, "right") - 1
        without = np.setdiff1d(np.arange(len(texts)), rows)
        if len(without):
            raise ValueError(
                f"row {without[0]}: no <mask> among the first {encoded.lengths[without[0]]} tokens of the text"
            )
        found = (
            self._best_tokens(encoded, places, int(top_k)) if targets is None else self._rank(encoded, places, targets)
        )
        answers: list[list[list[dict]]] = [[] for _ in range(len(texts))]
        for row, fillings in zip(rows, found, strict=True):
            # The n-th part ends where the n-th mask stands.
            parts = texts.first[row].split(MASK)
            before = MASK.join(parts[: len(answers[row]) + 1])
            after = MASK.join(parts[len(answers[row]) + 1 :])
            for filling in fillings[: int(top_k)]:
                filling["sequence"] = self._joined(before, filling) + after
            answers[row].append(fillings[: int(top_k)])
        return answers

    def _joined(self, before: str, filling: dict) -> str:
        """Text up to the end of the filling; like the tokenizer, the mask takes the white space before it away."""
        (piece,) = self.tokenizer_.convert_ids_to_pieces(np.ravel(filling["token"])[:1])
        starts_word = piece.startswith("\u2581") and before.strip()
        if starts_word and before[-1].isspace():
            return before + filling["token_str"]
        return before.rstrip() + (" " if starts_word else "") + filling["token_str"]

    def _best_tokens(self, encoded: EncodedBatch, places: np.ndarray, top_k: int) -> list[list[dict]]:
        def read(logits_MV, items):
            best = logits_MV.softmax(1).topk(min(top_k, logits_MV.shape[1]))
            return torch.stack([best.values.double(), best.indices.double()], dim=-1)

        return [
            [
                {"score": score, "token": int(i), "token_str": self.tokenizer_.decode([int(i)], False)}
                for score, i in best
            ]
            for best in self._read_logits(encoded, places, read).tolist()
        ]

    def _rank(self, encoded: EncodedBatch, places: np.ndarray, targets) -> list[list[dict]]:
        """Targets with their scores, best first, for each mask."""
        words = check_texts(targets, "targets", pairs_allowed=False).first
        ids_of = [self._target_ids(word) for word in words]
        scores = np.empty((len(places), len(words)))
        for n_tokens in sorted(set(map(len, ids_of))):
            chosen = [i for i, ids in enumerate(ids_of) if len(ids) == n_tokens]
            widened, starts = _widen(encoded, places, n_tokens)
            if widened.lengths.max() > self.config_.max_length:
                raise ValueError(
                    f"row {widened.lengths.argmax()}: the text leaves no room for a target of {n_tokens} tokens"
                )
            steps = (starts[:, None] + np.arange(n_tokens)).ravel()
            wanted = torch.tensor([ids_of[i] for i in chosen])  # (targets, tokens)

            def read(logits_MV, items, wanted=wanted, n_tokens=n_tokens):
                columns = wanted[:, items % n_tokens].T.to(logits_MV.device)  # (M, targets)
                return logits_MV.log_softmax(1).gather(1, columns)

            log_p = self._read_logits(widened, steps, read)
            scores[:, chosen] = np.exp(log_p.reshape(len(places), n_tokens, -1).sum(1))
        return [
            [
                {
                    "score": float(row[i]),
                    "token": ids_of[i][0] if len(ids_of[i]) == 1 else ids_of[i],
                    "token_str": words[i],
                }
                for i in np.argsort(-row, kind="stable")
            ]
            for row in scores
        ]

    def _target_ids(self, word: str) -> list[int]:
        """Ids of a target as it stands inside a text, without the lone space that a word of some scripts begins with."""
        ids = self.tokenizer_.encode_batch([word]).ids[1:-1].tolist()
        if len(ids) > 1 and self.tokenizer_.convert_ids_to_pieces(ids[:1]) == ["\u2581"]:
            ids = ids[1:]
        if not ids:
            raise ValueError(f"targets: {word!r} has no tokens")
        return ids

    def score_samples(self, X):
        """Pseudo-log-likelihood of each text: every token is masked in turn (Salazar et al. 2020, arXiv:1910.14659).

        Parameters
        ----------
        X : list, array, Series or DataFrame of str
            Texts, or pairs of texts.

        Returns
        -------
        ndarray of shape (n_rows,), float64
            Sum over the row's tokens of their log-probability, in nats.
        """
        return self._pseudo_log_likelihood(X)[0]

    def score(self, X, y=None):
        """Mean pseudo-log-likelihood per token in nats; ``exp(-score)`` is the pseudo-perplexity.

        Parameters
        ----------
        X : list, array, Series or DataFrame of str
        y : None
            Ignored.

        Returns
        -------
        float
        """
        sums, counts = self._pseudo_log_likelihood(X)
        return float(sums.sum() / counts.sum()) if counts.any() else 0.0

    def _pseudo_log_likelihood(self, X) -> tuple[np.ndarray, np.ndarray]:
        """Sum of the tokens' log-probabilities and number of tokens, for each row."""
        self._module_on_device()
        encoded = self._encode(check_texts(X))
        ordinary = ~np.isin(encoded.ids, self.tokenizer_.all_special_ids)
        places = np.flatnonzero(ordinary)
        rows = np.searchsorted(encoded.starts, places, "right") - 1
        log_p = np.zeros(len(places))
        # One copy of the row for each token; as many at a time as make a few batches.
        budget = 8 * self._batching()["token_budget"]
        for chunk in np.split(np.arange(len(places)), _cuts(encoded.lengths[rows], budget)):
            copies = encoded.take(rows[chunk])
            masked = copies.starts[:-1] + places[chunk] - encoded.starts[rows[chunk]]
            labels = torch.from_numpy(copies.ids[masked].astype(np.int64))
            copies.ids[masked] = self.tokenizer_.mask_token_id

            def read(logits_MV, items, labels=labels):
                return logits_MV.log_softmax(1).gather(1, labels[items].to(logits_MV.device)[:, None])[:, 0]

            log_p[chunk] = self._read_logits(copies, masked, read)
        return np.bincount(rows, log_p, len(encoded)), np.bincount(rows, minlength=len(encoded))

    def _read_logits(self, encoded: EncodedBatch, places: np.ndarray, read) -> np.ndarray:
        """Read something off the float32 logits at some places of the rows.

        ``places`` are indices into ``encoded.ids``, ascending; ``read(logits (M, V), items (M,))`` gets the logits of the
        places whose numbers are ``items`` and returns a tensor (M, ...). Only these logits are computed.
        """
        batching = self._batching()
        module = self.module_
        results: np.ndarray | None = None
        first_item = np.searchsorted(places, encoded.starts)
        with fast_inference(), autocast(batching["device"], batching["autocast"]):
            for rows in batches_by_length(encoded.lengths, batching["token_budget"]):
                batch = encoded.take(rows)
                items = np.concatenate([np.arange(first_item[row], first_item[row + 1]) for row in rows])
                n_items = first_item[rows + 1] - first_item[rows]
                shift = np.repeat(batch.starts[:-1] - encoded.starts[rows], n_items)
                ids, layout = pack(batch, batching["device"])
                wanted = torch.from_numpy(places[items] + shift).to(batching["device"])
                x_MD = module.roberta(ids, layout).last_hidden_state[wanted]
                for part in np.split(np.arange(len(items)), range(LOGIT_ROWS, len(items), LOGIT_ROWS)):
                    logits = module.project(x_MD[part[0] : part[-1] + 1]).float() if len(part) else None
                    if logits is not None:
                        values = read(logits, items[part]).cpu().numpy()
                        if results is None:
                            results = np.empty((len(places), *values.shape[1:]), values.dtype)
                        results[items[part]] = values
        return np.empty((0,)) if results is None else results

    def _hub_config(self):
        return {"architectures": ["XLMRobertaForMaskedLM"]}

    @property
    def _n_features_out(self) -> int:
        return self.config_.hidden_size


def _cuts(sizes: np.ndarray, budget: int) -> np.ndarray:
    """Where to split neighbours so that each part's sizes add up to about the budget."""
    part = np.cumsum(sizes) // budget
    return np.flatnonzero(np.diff(part)) + 1


def _widen(encoded: EncodedBatch, places: np.ndarray, n_tokens: int) -> tuple[EncodedBatch, np.ndarray]:
    """A row for each mask in which this mask stands ``n_tokens`` times, and where in the ids it starts."""
    rows = np.searchsorted(encoded.starts, places, "right") - 1
    copies = encoded.take(rows)
    masks = copies.starts[:-1] + places - encoded.starts[rows]
    repeats = np.ones(len(copies.ids), np.int64)
    repeats[masks] = n_tokens
    lengths = copies.lengths + n_tokens - 1
    starts = masks + np.arange(len(masks)) * (n_tokens - 1)
    return EncodedBatch(np.repeat(copies.ids, repeats), lengths, copies.n_dropped), starts
