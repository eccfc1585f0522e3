"""Sentence encoders that are trained: a transformer that learns from classes, pairs, similarities or a teacher's vectors."""

from __future__ import annotations

from dataclasses import replace
from numbers import Real
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from skxlmr.estimators._core.prompts import prepared
from skxlmr.estimators._embedding.objectives import (
    CLASSES,
    LOSSES,
    VECTORS,
    check_learnable,
    check_left,
    chosen_loss,
    read_columns,
    read_targets,
    too_few,
)
from skxlmr.estimators._embedding.parameters import EmbedderParameters, check_dims
from skxlmr.estimators._embedding.scores import score_of
from skxlmr.estimators._embedding.task import TASKS, TEMPERATURES, EmbeddingTask
from skxlmr.estimators._embedding.vectors import TextVectors
from skxlmr.estimators._fine_tuning.fine_tuned import FineTuned
from skxlmr.estimators._fine_tuning.training_rows import Encoded, TrainingRows
from skxlmr.estimators._vectors.transformer import Transformer
from skxlmr.estimators.heads import EMBEDDING
from skxlmr.estimators.parameters import TextParameters, TrainingParameters, changed, estimator
from skxlmr.inference import Engine
from skxlmr.nn.sentence import Dense, SentenceEncoder
from skxlmr.text import SubwordSampling
from skxlmr.utils._containers import known_container
from skxlmr.utils._sklearn import check_feature_names, check_sample_weight, fit_context, output_config
from skxlmr.utils._tables import column_names
from skxlmr.utils._validation import Texts, check_rows

if TYPE_CHECKING:
    from skxlmr.nn import TaskModule

_OF_PAIRS = ("n_features_in_", "feature_names_in_")  # which a fit on pairs does not set


@estimator
class XLMRobertaEmbedder(EmbedderParameters, TextParameters, Transformer, FineTuned):
    """Train the vectors of texts: a sentence encoder that learns, and then transforms.

    What X and y are decides what is learnt:

    =============================  =========================================================================================
    X and y                        Loss
    =============================  =========================================================================================
    texts and a class for each     ``'supervised_contrastive'`` [2]_: texts of one class have similar vectors, those of others
                                   do not. Or ``'contrastive_pairs'``, as in SetFit [3]_: in each epoch a pair with a text of
                                   the same class is drawn for each text, whose cosine is to be 1, and one with a text of
                                   another class, whose cosine is to be 0
    two columns of texts, no y     ``'multiple_negatives_ranking'`` [4]_: each text finds its partner among those of the other
                                   rows, and the other way round. A third column holds hard negatives: texts that look right,
                                   and are not
    two columns, a number per row  ``'cosent'`` [5]_: the cosines of the pairs have the order of the numbers. Or ``'cosine'``:
                                   they are the numbers, which are from -1 to 1 then
    texts, vectors as y            ``'distillation'`` [6]_: y is of floats, in two dimensions: a teacher's vectors of the texts.
                                   Those of texts and of their translations become the same
    =============================  =========================================================================================

    With two columns every y is read as numbers: ints too, such as 0 and 1 for duplicates. ``transform`` reads texts,
    whatever the columns of X in ``fit`` were. ``skxlmr.save`` writes a folder that ``sentence-transformers`` opens, and
    each other estimator starts from.

    If a teacher's vectors have another width than the checkpoint's, a dense layer without activation is learnt after the
    pooling, and belongs to the encoder from then on.

    Read more in :doc:`/sentence_embeddings`.

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    module_ : torch.nn.Module
        The encoder, with the layers after the pooling.
    tokenizer_ : Tokenizer
        The checkpoint's tokenizer.
    config_ : ModelConfig
        Geometry of the checkpoint.
    {of_vectors}
    loss_ : str
        The loss of the last fit: ``loss``, or what ``'auto'`` chose.
    loss_curve_ : list of float
        Mean training loss of each epoch; with ``matryoshka_dims`` the sum of the losses of all sizes.
    validation_scores_ : list of float or None
        After each epoch what ``score`` is on the validation data; None without validation data.
    {of_a_fit}
    n_truncated_ : int
        Texts of the training data that were cut.
    n_features_in_ : int
        1 for texts in a table; not set for texts in one dimension, nor for pairs.
    feature_names_in_ : ndarray of str
        Column name of a DataFrame with one column that was passed to ``fit``.

    See Also
    --------
    XLMRobertaVectorizer : The vectors as the checkpoint makes them, without training.
    XLMRobertaClassifier : Classes from texts, with a head instead of vectors.
    XLMRobertaRegressor : Numbers from texts, or pairs of texts read together.
    XLMRobertaMaskedLM : Adapts the encoder to raw texts first.
    skxlmr.inspection.EmbeddingDisplay : The vectors on a map.

    Notes
    -----
    In a step, which has ``batch_size`` times ``accumulate`` rows, the rows are drawn for the loss. Rows of the same class stand
    two by two, so that each meets one of its class; a row whose class has no other row has no loss, and others are told apart
    from it. Of pairs without y, no text stands in two of a step, where it would be its own negative, as with the batch sampler
    ``NO_DUPLICATES`` of sentence-transformers. A pair that finds no others in an epoch is left out of it; where these are more
    than a tenth, a warning counts them.

    The weight of a pair of texts of a class, or of two classes, is the product of the weights of both rows. Where rows are
    compared, a row counts in full for the others, whatever its weight, unless it is 0.

    References
    ----------
    .. [1] Conneau et al. (2020), "Unsupervised Cross-lingual Representation Learning at Scale", arXiv:1911.02116.
    .. [2] Khosla et al. (2020), "Supervised Contrastive Learning", arXiv:2004.11362.
    .. [3] Tunstall et al. (2022), "Efficient Few-Shot Learning Without Prompts", arXiv:2209.11055.
    .. [4] Henderson et al. (2017), "Efficient Natural Language Response Suggestion for Smart Reply", arXiv:1705.00652.
    .. [5] Huang et al. (2024), "CoSENT: Consistent Sentence Embedding via Similarity Ranking",
       doi:10.1109/TASLP.2024.3402087.
    .. [6] Reimers & Gurevych (2020), "Making Monolingual Sentence Embeddings Multilingual using Knowledge Distillation",
       arXiv:2004.09813.
    .. [7] Kusupati et al. (2022), "Matryoshka Representation Learning", arXiv:2205.13147.

    Examples
    --------
    A classifier from a few labels: vectors that tell the classes apart, and a linear model on them.

    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from skxlmr import XLMRobertaEmbedder
    >>> texts = ["A wonderful film", "Ein schlechter Film", "Un film magnifique", "A boring film"]
    >>> embedder = XLMRobertaEmbedder("skxlmr-mini", max_epochs=2, random_state=0)
    >>> classifier = make_pipeline(embedder, LogisticRegression())
    >>> classifier.fit(texts, ["good", "bad", "good", "bad"]).predict(["A wonderful film", "A boring film"])
    array(['good', 'bad'], dtype='<U4')

    Translations, whose vectors come closer:

    >>> pairs = [("a cat", "eine Katze"), ("the sea", "das Meer"), ("bread", "Brot"), ("rain", "Regen")]
    >>> embedder = XLMRobertaEmbedder("skxlmr-mini", max_epochs=2, random_state=0).fit(pairs)
    >>> embedder.loss_, embedder.transform(["das Meer"]).shape
    ('multiple_negatives_ranking', (1, 192))
    """

    accumulate: int = changed(
        TrainingParameters,
        "accumulate",
        1,
        "Batches of each step. Where rows are compared with each other, those of all batches are: the step equals that of one "
        "large batch, in the memory of a small one, as each batch is encoded twice (gradient caching, Gao et al. 2021, "
        "arXiv:2101.06983).",
    )

    _head = EMBEDDING
    _trains_vectors = True

    @fit_context(prefer_skip_nested_validation=True)
    def fit(
        self,
        X: Any,
        y: Any = None,
        sample_weight: Any = None,
        X_val: Any = None,
        y_val: Any = None,
        *,
        resume: bool | Literal["auto"] = False,
    ) -> Self:
        """Train the encoder.

        Parameters
        ----------
        X : list, array, Series or DataFrame of str, of shape (n_rows,) or (n_rows, n_columns)
            Texts; or two columns of texts that belong together, and a third one of hard negatives.
        y : array-like of shape (n_rows,) or (n_rows, n_teacher_features), optional
            Classes of the texts, a teacher's vectors of them, or how similar the texts of each pair are.
        sample_weight : array-like of shape (n_rows,), optional
            Weight of each row in the loss; 0 leaves a row out.
        X_val : list, array, Series or DataFrame of str, optional
            Validation rows, for ``validation_scores_`` and early stopping.
        y_val : array-like, optional
            Their y, of the same kind.
        resume : bool or 'auto'
            Continue from the state in ``resume_dir`` if there is one of the same fit; else start from scratch. True refuses the
            state of another fit; with ``'auto'`` each fit has a folder of its own in ``resume_dir``, as searches need it, and
            continues a shorter one where the learning rate is constant.

        Returns
        -------
        self

        Raises
        ------
        CheckpointError
            If the checkpoint cannot be read or does not fit.
        ValueError
            If a row of X is not a text (names the row), y does not fit X, ``loss`` is for other data, or a step has no rows to
            compare.
        FloatingPointError
            If the loss or the gradient stops being finite; names the rows.
        KeyboardInterrupt
            Passed on; after at least one epoch the weights of the last finished one are in place.
        """
        return self._fit(X, y, sample_weight, X_val, y_val, resume=resume)

    def transform(self, X: Any) -> Any:
        """Vectors of the texts.

        Parameters
        ----------
        X : list, array, Series or DataFrame of str, of shape (n_rows,) or (n_rows, n_columns)
            Texts, whatever the columns in ``fit`` were.

        Returns
        -------
        ndarray of shape (n_rows, n_features), float32
            As many features as the checkpoint's vectors have, or the teacher's. Or a DataFrame, see ``set_output``. The vectors
            of several columns of texts stand side by side: (n_rows, n_columns * n_features).

        Raises
        ------
        ValueError
            If a row of X is not a text; names the row. If ``set_output`` asks for a DataFrame of several columns of texts.
        """
        engine, n_each = self._engine(), self._n_each()  # refuses what does not fit, before texts are read
        texts = self._check_X(X, reset=False)
        if texts.side_by_side > 1 and output_config("transform", self)["dense"] != "default":
            raise ValueError(
                f"X has {texts.side_by_side} columns of texts, and a DataFrame of features has names for those of one: "
                "transform each column, or set_output(transform='default')"
            )
        vectors = self._features(engine, self._encode(prepared(texts, self._how())), pair=False)
        by_row = vectors.reshape(texts.side_by_side, len(texts), n_each).swapaxes(0, 1)
        return by_row.reshape(len(texts), texts.side_by_side * n_each)

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """How good the vectors are, by what X and y are, whatever the fit was.

        Vectors are compared by their cosines.

        Parameters
        ----------
        X : list, array, Series or DataFrame of str, of shape (n_rows,) or (n_rows, n_columns)
            Texts, or pairs of texts and their hard negatives.
        y : array-like of shape (n_rows,) or (n_rows, n_teacher_features), optional
            As in ``fit``.
        sample_weight : array-like of shape (n_rows,), optional
            How much each row counts; 0 leaves it out.

        Returns
        -------
        float
            - Of classes: the share of the texts whose class has the nearest mean vector among the texts of X. The mean of a
              text's own class is that of the others in it; a text whose class has no other one does not count.
            - Of pairs without y: the share of the first texts whose partner is the nearest among the second and third texts of
              all rows.
            - Of pairs with a number: Spearman's correlation of the cosines with the numbers.
            - Of a teacher's vectors: the mean cosine with them.

        Raises
        ------
        ValueError
            If y does not fit X, or there are too few rows or classes to compare.
        """
        engine = self._engine()
        texts = self._check_X(X, reset=False)
        check_rows(texts, "X")
        kind, targets = read_targets(texts, y, "y")
        weights = check_sample_weight(sample_weight, np.empty(len(texts)), ensure_non_negative=True)
        return self._score(engine, self._encode_training(texts), kind, targets, weights)

    # Rows ---------------------------------------------------------------------------------------------------------------

    def _check_X(self, X: Any, reset: bool, name: str = "X") -> Texts:
        X = known_container(X, name)
        n_fitted = None if reset else self._n_fitted_columns()
        texts = self._read_texts(X, name, reset)
        if texts.side_by_side > 1:  # `transform` reads single texts all the same
            if reset:
                self._series_name = None
                for attribute in (*_OF_PAIRS, "_n_columns"):
                    self.__dict__.pop(attribute, None)
            return texts
        if reset:
            self._set_n_columns(X, 1)
            self._remember_name(X)
        if reset or hasattr(self, "feature_names_in_") or (n_fitted and column_names(X)):
            check_feature_names(self, X, reset=reset)
        return texts

    def _read_texts(self, X: Any, name: str, reset: bool) -> Texts:
        """The columns of X one after another."""
        columns = read_columns(X, name, self.missing)
        if reset:
            check_rows(columns[0], name)
        return Texts([text for column in columns for text in column], side_by_side=len(columns))

    def _check_targets(self, y: Any, rows: Texts, weights: np.ndarray, reset: bool, name: str = "y") -> np.ndarray:
        kind, targets = read_targets(rows, y, name)
        loss = chosen_loss(self.loss, kind)
        if name != "y":
            if loss != self.loss_:
                raise ValueError(
                    f"X_val and {name} are data for loss={loss!r}, but X and y are for loss={self.loss_!r}"
                )
        else:
            check_learnable(loss, targets[weights > 0], name)
            self.loss_: str = loss
        if kind == VECTORS:
            self._check_width(targets.shape[1], reset, name)
        return targets

    def _check_width(self, width: int, reset: bool, name: str) -> None:
        if not reset and getattr(self, "_n_teacher", width) != width:
            raise ValueError(
                f"{name} has {width} columns, but the teacher's vectors of the fit have {self._n_teacher} features"
            )
        self._n_teacher: int = width  # features of the teacher's vectors

    def _encode_training(self, rows: Texts, sampling: SubwordSampling | None = None) -> Encoded:
        """The columns by the names of their order, encoded as `transform` does."""
        encoded = self._encode(prepared(rows, self._how()), sampling=sampling)
        places = np.arange(len(encoded)).reshape(rows.side_by_side, -1)
        return {f"texts{k}": encoded.take(of_column) for k, of_column in enumerate(places)}

    # Training -----------------------------------------------------------------------------------------------------------

    def _begin(self, continues: bool) -> TaskModule:
        module = super()._begin(continues)
        n_features = self._n_each()
        if self.loss_ == "distillation" and self._n_teacher != n_features:
            self._add_dense(module, continues)
            n_features = self._n_teacher
        check_dims(self.matryoshka_dims, n_features)
        return module

    def _add_dense(self, module: Any, continues: bool) -> None:
        """Add a layer from the vectors to the width of the teacher's."""
        from skxlmr.nn.sentence.layers import append_dense

        width, n_each, how = self._n_teacher, self._n_each(), self._how()
        if continues or how.truncate_dim is not None:
            why = (
                "is fitted already: fit anew, without warm_start" if continues else "has truncate_dim: set it after fit"
            )
            raise ValueError(
                f"y has vectors of {width} features, and those of the encoder have {n_each}. A layer between them would be "
                f"learnt, but the encoder {why}"
            )
        layer = Dense(n_each, width, activation="Identity")
        self._said = replace(self._said or SentenceEncoder(self._usual_pooling), layers=(*how.layers, layer))
        append_dense(module, layer)

    def _make_task(self, rows: TrainingRows) -> EmbeddingTask:
        how = self._how()
        vectors = TextVectors(
            how=how,
            layer=self.config_.num_hidden_layers,
            n_skipped=self._n_skipped(how, pair=False),
            n_features=self._n_each(),
            scales_again=self._scales_again(),
        )
        given = self.temperature
        temperature = float(given) if isinstance(given, Real) else TEMPERATURES.get(self.loss_, 1.0)
        dims = None if self.matryoshka_dims is None else check_dims(self.matryoshka_dims, self._n_each())
        columns = list(rows.encoded.values())
        return TASKS[self.loss_](columns, rows.targets, rows.weights, vectors, temperature, dims)

    def _strata(self, targets: np.ndarray) -> np.ndarray | None:
        """Classes, if there are enough rows of each."""
        if self.loss_ not in LOSSES[CLASSES]:
            return None
        counts = np.unique(targets, return_counts=True)[1]
        n_val = self._n_validation(len(targets))
        enough = counts.min() > 1 and len(counts) <= min(n_val, len(targets) - n_val)
        return targets if enough else None

    def _split(self, training: TrainingRows, seed: int) -> tuple[np.ndarray, np.ndarray]:
        left, set_aside = super()._split(training, seed)
        check_left(self.loss_, training.targets[left])
        return left, set_aside

    def _check_validation(self, validation: TrainingRows | None) -> None:
        """Refuse validation data in which nothing can be compared."""
        super()._check_validation(validation)
        if validation is None or self.scoring is not None:
            return
        few = too_few(self.loss_, validation.targets)
        if few is not None:
            raise ValueError(
                f"the validation data have only {few}, and the validation score compares two or more: raise "
                "validation_fraction, or pass X_val and y_val"
            )

    def _validation_score(self, rows: TrainingRows) -> float:
        kind = next(kind for kind, losses in LOSSES.items() if self.loss_ in losses)
        return self._score(self._engine(), rows.encoded, kind, rows.targets, rows.weights)

    def _score(self, engine: Engine, encoded: Encoded, kind: str, targets: np.ndarray, weights: np.ndarray) -> float:
        vectors_NKD = np.stack([self._features(engine, part, pair=False) for part in encoded.values()], 1)
        if kind == VECTORS and targets.shape[1] != vectors_NKD.shape[2]:
            raise ValueError(
                f"y has vectors of {targets.shape[1]} features, but those of the encoder have {vectors_NKD.shape[2]}"
            )
        return score_of(kind, vectors_NKD, targets, weights)
