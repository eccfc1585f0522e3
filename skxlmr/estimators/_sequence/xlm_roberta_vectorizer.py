"""Texts to features through a frozen encoder of XLM-RoBERTa: pooled, or token by token."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from skxlmr.checkpoints import (
    OUTPUT_LAYERS,
    MappedFiles,
    StoredModel,
    Tensors,
    assign_weights,
    moved,
    on_meta,
    read_model,
)
from skxlmr.estimators._core.pickling import StoredModule
from skxlmr.estimators._sequence.lexical import check_left_alone, lexical_matrix, piece_names
from skxlmr.estimators._sequence.vectorizer import Vectorizer
from skxlmr.estimators._vectors.filling import Out
from skxlmr.estimators._vectors.parameters import POOLER, POOLING, SIDE_BY_SIDE, VectorParameters
from skxlmr.estimators.heads import MODEL
from skxlmr.estimators.parameters import changed, estimator, parameter
from skxlmr.inference import check_has_weights
from skxlmr.nn.sentence import SentenceEncoder
from skxlmr.nn.sentence.pooling import POOLINGS, lexical_weights, token_vectors
from skxlmr.utils._errors import CheckpointError
from skxlmr.utils._imports.later import nn
from skxlmr.utils._sklearn import StrOptions, as_sparse, output_config
from skxlmr.utils._warnings import warn_once_per_call

if TYPE_CHECKING:
    from skxlmr.nn import TaskModule

GONE = "is gone or was changed since it was opened"


@estimator
class XLMRobertaVectorizer(Vectorizer):
    """Turn multilingual texts into features with XLM-RoBERTa.

    The encoder stays as it is, so that ``transform`` works without ``fit``: it opens the checkpoint at first use. Texts are
    sorted by length and run without padding, each distinct text once, and the features return in the order of the rows.

    The features are dense, pooled vectors of tokens. Checkpoints such as bge-m3 can make two more outputs of the same
    encoder [2]_: with ``output='sparse'`` a weight of each word, and with :meth:`transform_tokens` a vector of each token.

    Read more in :doc:`/using_features`.

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    module_ : torch.nn.Module
        The encoder.
    tokenizer_ : Tokenizer
        The checkpoint's tokenizer.
    config_ : ModelConfig
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
    XLMRobertaMaskedLM : Adapts the encoder to the texts of a domain first.
    XLMRobertaClassifier : Trains the encoder together with a classifier.
    skxlmr.metrics.max_sim : Scores of documents by their vectors of tokens.
    skxlmr.inspection.EmbeddingDisplay : The features on a map, by label or language.
    skxlmr.inspection.AttentionDisplay : Where the encoder looks in a text.

    References
    ----------
    .. [1] Conneau et al. (2020), "Unsupervised Cross-lingual Representation Learning at Scale", arXiv:1911.02116.
    .. [2] Chen et al. (2024), "BGE M3-Embedding: Multi-Lingual, Multi-Functionality, Multi-Granularity Text Embeddings
       Through Self-Knowledge Distillation", arXiv:2402.03216.

    Examples
    --------
    Texts in one language, and their meaning in another:

    >>> from skxlmr import XLMRobertaVectorizer
    >>> vectorizer = XLMRobertaVectorizer("skxlmr-mini", normalize=True)
    >>> english = vectorizer.fit_transform(["The battery lasts two days.", "The room was clean."])
    >>> german = vectorizer.transform(["Das Zimmer war sauber.", "Der Akku hält zwei Tage."])
    >>> (english @ german.T).argmax(axis=1)  # the nearest German sentence of each English one
    array([1, 0])

    Features for a classifier of scikit-learn:

    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> texts = ["A wonderful film", "Ein schlechter Film", "Un film magnifique", "A boring film"]
    >>> classifier = make_pipeline(XLMRobertaVectorizer("skxlmr-mini"), LogisticRegression())
    >>> classifier.fit(texts, ["good", "bad", "good", "bad"]).predict(["A beautiful film", "Ein langweiliger Film"])
    array(['good', 'bad'], dtype='<U4')
    """

    pooling: str | Sequence[str] = changed(
        VectorParameters,
        "pooling",
        "auto",
        POOLING + POOLER + SIDE_BY_SIDE,
        [StrOptions({"auto", *POOLINGS}), "array-like"],
    )

    output: Literal["dense", "sparse"] = parameter(
        "dense",
        [StrOptions({"dense", "sparse"})],
        "What ``transform`` returns. ``'dense'`` is pooled vectors. ``'sparse'`` is a weight of each piece of the vocabulary, "
        "in a sparse matrix, for search by words: the dot product of two rows is their score. It needs a checkpoint with "
        "``sparse_linear.pt``, and no parameter that says how tokens become one vector.",
    )

    _head = MODEL

    _poolings = POOLINGS

    def _head_arguments(self) -> tuple[int, ...]:
        stored = vars(self).get("module_")
        if isinstance(stored, StoredModule):  # it has what the fit had, whatever `pooling` says by now
            return (any(".pooler." in name for name in (*stored.learnt, *stored.borrowed)),)
        return ("pooler" in (self._own_poolings() or ()),)

    # layers of further outputs that the checkpoint has, and how many numbers each makes: None if it was not read yet
    _outputs = dict[str, int | None]()  # noqa: RUF012  # never changed in place

    def transform(self, X: Any, *, out: Out = None) -> Any:
        """Features of the texts.

        Parameters
        ----------
        X : list, array, Series or DataFrame of str, of shape (n_rows,) or (n_rows, 1) or (n_rows, 2)
            Texts, or pairs of texts; after ``fit``, with its number of columns.
        out : path or ndarray of shape (n_rows, n_features), float32, optional
            Where the features go, for those that are larger than memory. An array is filled. A path is that of a ``.npy``
            file to make. If the call is ended by Ctrl-C, a kill or a full disk, the same call goes on where it was; until
            then the rows are in ``<out>.partial``, and ``<out>.progress`` says what they are. The cache of
            ``memory='auto'`` is not used with it.

        Returns
        -------
        ndarray of shape (n_rows, n_features), float32
            ``hidden_size`` features for each layer and each pooling, unless the checkpoint has layers after the pooling.
            Or a DataFrame, see ``set_output``. With ``out``, that array, or the one in the file, mapped into memory
            (``np.load(out, mmap_mode='r')``).
        csr_matrix of shape (n_rows, vocab_size), float32
            With ``output='sparse'``: the weight of each piece of the vocabulary, 0 where the text does not have it, else the
            greatest at any of its places. The tokens around a text and unknown ones have none.

        Raises
        ------
        CheckpointError
            Without ``fit``, if the checkpoint cannot be read or does not fit; if it lacks the layer that makes this output.
        FileExistsError
            If ``out`` is a file that exists, or was begun with other texts, weights or parameters.
        ValueError
            If a row of X is not a text; names the row. If ``out`` does not fit, or ``set_output`` asks for a DataFrame
            beside it. With ``output='sparse'``, if a parameter of dense features or ``out`` is set, or ``set_output`` asks for
            a DataFrame.
        """
        if self.output == "dense":
            return self._dense(X, out)
        if out is not None:
            raise ValueError("out is for dense features, and output='sparse' makes a sparse matrix: leave out out")
        return self._lexical(X)

    def transform_tokens(self, X: Any) -> list[np.ndarray]:
        """A vector of each token, to compare texts token by token with :func:`skxlmr.metrics.max_sim`.

        It needs a checkpoint with ``colbert_linear.pt``. Parameters of how tokens become one vector (``output``, ``pooling``,
        ``layers``, ``normalize``, ``truncate_dim``) do not apply.

        Parameters
        ----------
        X : list, array, Series or DataFrame of str, of shape (n_rows,) or (n_rows, 1) or (n_rows, 2)
            Texts, or pairs of texts; after ``fit``, with its number of columns.

        Returns
        -------
        list of ndarray of shape (n_tokens, n_features), float32
            One array per row, of vectors of unit length: for all tokens but the first, the one at the end included. A long
            text that is read in windows has the vectors of all windows.

        Raises
        ------
        CheckpointError
            If the checkpoint cannot be read or does not fit, or lacks the layer that makes these vectors.
        ValueError
            If a row of X is not a text; names the row.

        Examples
        --------
        >>> from skxlmr import XLMRobertaVectorizer
        >>> from skxlmr.metrics import max_sim
        >>> vectorizer = XLMRobertaVectorizer("BAAI/bge-m3")
        >>> queries = vectorizer.transform_tokens(["Wie lange hält der Akku?"])  # doctest: +SKIP
        >>> documents = vectorizer.transform_tokens(["It lasts two days.", "The box was broken."])  # doctest: +SKIP
        >>> max_sim(queries, documents).shape  # doctest: +SKIP
        (1, 2)
        """
        engine = self._engine(validate=not self._open_at_first_use())
        linear = self._output_layer("colbert_linear")
        texts = self._check_X(X, reset=False)
        if texts.side_by_side > 1:
            raise ValueError(f"transform_tokens takes one column of texts or pairs, got {texts.side_by_side} columns")
        encoded = self._encode(texts)
        vectors_TE = engine.tokens(encoded, partial(token_vectors, engine.module.backbone, linear), ("token vectors",))
        of_windows = [vectors_TE[start + 1 : end] for start, end in pairwise(encoded.starts.tolist())]
        n_windows = encoded.n_windows
        ends = zip(n_windows.tolist(), np.cumsum(n_windows).tolist(), strict=True)
        return [of_windows[end - 1] if n == 1 else np.concatenate(of_windows[end - n : end]) for n, end in ends]

    def _lexical(self, X: Any) -> Any:
        """Weights of the vocabulary's pieces."""
        wanted = output_config("transform", self)["dense"]
        if wanted != "default":
            raise ValueError(
                f"output='sparse' makes a sparse matrix, and set_output(transform={wanted!r}) asks for a table: call "
                "set_output(transform='default')"
            )
        engine = self._engine(validate=not self._open_at_first_use())
        self._n_each()  # raises if parameters of dense features are set
        linear = self._output_layer("sparse_linear")
        texts = self._check_X(X, reset=False)
        encoded = self._encode(texts)
        weights_T = engine.tokens(
            encoded, partial(lexical_weights, engine.module.backbone, linear), ("lexical weights",)
        )
        return as_sparse(lexical_matrix(weights_T, encoded, self.tokenizer_, texts.side_by_side))

    def _n_each(self) -> int:
        if self.output == "dense":
            return super()._n_each()
        auto = isinstance(self.pooling, str) and self.pooling == "auto"
        left_alone = {
            "pooling": (self.pooling, auto),
            "layers": (self.layers, self._has_further_layers()),
            "normalize": (self.normalize, self.normalize in ("auto", False)),
            "truncate_dim": (self.truncate_dim, self.truncate_dim is None),
        }
        check_left_alone(left_alone)
        return int(self.tokenizer_.vocab_size)

    def _feature_names(self, prefixes: list[str]) -> list[str]:
        if self.output == "dense":
            return super()._feature_names(prefixes)
        names = piece_names(self.tokenizer_)
        return names if len(prefixes) == 1 else [f"{prefix}_{name}" for prefix in prefixes for name in names]

    # Layers of further outputs ------------------------------------------------------------------------------------------

    def _take(self, stored: StoredModel) -> None:
        super()._take(stored)
        needed = {"sparse_linear": 1} if self.output == "sparse" else {}
        self._outputs = dict.fromkeys(stored.output_layers()) | needed

    def _build(self, config: Any) -> TaskModule:
        module = super()._build(config)
        for name, n_outputs in self._outputs.items():
            if n_outputs is not None:
                module.add_module(name, nn.Linear(config.hidden_size, n_outputs))
        return module

    def _mapped_tensors(self, stored: StoredModel) -> tuple[Tensors, MappedFiles]:
        tensors, files = super()._mapped_tensors(stored)
        for name, n_outputs in self._outputs.items():
            if n_outputs is not None:
                tensors = tensors | {f"{name}.{key}": tensor for key, tensor in stored.output_layer(name).items()}
        return tensors, files

    def _output_layer(self, name: str) -> nn.Module:
        """The layer, which becomes a part of the module at its first use: most features do without it."""
        check_has_weights(self.module_, "a vector or weight of each token")
        module, weight = self.module_, next(self.module_.parameters())
        if not hasattr(module, name):
            if self._is_gone():
                raise CheckpointError(
                    str(self.checkpoint), f"{GONE}, and its {OUTPUT_LAYERS[name]} was not read: fit again"
                )
            stored = read_model(module.origin.folder)
            with stored.unchanged():
                tensors = stored.output_layer(name)
            with on_meta():
                layer = nn.Linear(self.config_.hidden_size, len(tensors["bias"]))
            assign_weights(layer, tensors, source=stored.folder, dtype=weight.dtype)
            moved(module, lambda: module.add_module(name, layer.eval().to(weight.device)))
            self._outputs = self._outputs | {name: layer.out_features}
        return module.get_submodule(name)

    def _read_output_layers(self) -> None:
        """Read all that there are, before the estimator is stored elsewhere."""
        for name in self._outputs:
            if hasattr(self.module_, name) or not self._is_gone():
                self._output_layer(name)
            else:
                lost = f"the checkpoint {GONE}, and its {OUTPUT_LAYERS[name]} was not read: it is lost"
                warn_once_per_call(f"{lost}. The dense features do without it", about=name)

    def _pack(self, state: dict[str, Any]) -> None:
        if self.store_weights_in_pickle:
            self._read_output_layers()
            state["_outputs"] = self._outputs
        super()._pack(state)

    def _sentence_encoder_to_save(self) -> tuple[SentenceEncoder | None, bool]:
        return super()._sentence_encoder_to_save() if self.output == "dense" else (self._said, False)
