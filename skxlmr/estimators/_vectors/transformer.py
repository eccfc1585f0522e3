"""Estimators with ``transform``: how checkpoint and parameters make the vector of a text, and the names of its features."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils.extmath import row_norms
from sklearn.utils.validation import assert_all_finite, check_is_fitted

from skxlmr.checkpoints import MappedFiles, StoredModel, Tensors
from skxlmr.estimators._core.estimator import Estimator
from skxlmr.estimators._vectors.parameters import VectorParameters
from skxlmr.estimators._vectors.resolved import resolved
from skxlmr.inference import Engine
from skxlmr.inference.engine import Run
from skxlmr.nn.sentence import SentenceEncoder
from skxlmr.nn.sentence.pooling import POOLINGS
from skxlmr.text import EncodedBatch
from skxlmr.utils._sklearn import TransformerMixin
from skxlmr.utils._tables import name_of

if TYPE_CHECKING:
    from skxlmr.nn import TaskModule


class Transformer(VectorParameters, TransformerMixin, Estimator):
    """Estimators with ``transform``, which read what a sentence encoder's folder says."""

    _poolings: tuple[str, ...] = POOLINGS[:-1]  # the words that `pooling` takes
    _usual_pooling: tuple[str, ...] = ("mean",)  # where neither parameter nor checkpoint says another
    _said: SentenceEncoder | None = None  # how the checkpoint makes vectors of texts, if it says so

    @property
    def pooling_(self) -> str | tuple[str, ...]:
        """How token vectors become one: ``pooling``, or what the checkpoint says; several words stand side by side."""
        words = self._how_if_fitted("pooling_").pooling
        return words[0] if len(words) == 1 else words

    @property
    def normalize_(self) -> bool:
        """Whether rows are scaled to unit length: ``normalize``, or what the checkpoint says."""
        return self._how_if_fitted("normalize_").normalize

    @property
    def prompt_(self) -> str | None:
        """The text that is put before each text: ``prompt``, or what the checkpoint says."""
        return self._how_if_fitted("prompt_").prompt()

    @property
    def max_length_(self) -> int:
        """Most tokens of a row: ``max_length``, or what the checkpoint allows."""
        self._how_if_fitted("max_length_")
        return self._limit()

    def _how_if_fitted(self, name: str) -> SentenceEncoder:
        if not hasattr(self, "module_"):
            raise AttributeError(f"{name} is known once the checkpoint is open: call fit or transform first")
        return self._how()

    def _how(self) -> SentenceEncoder:
        """How parameters and checkpoint together say that vectors of texts are made."""
        normalized = None if self.normalize == "auto" else bool(self.normalize)
        said = self._said or SentenceEncoder(self._usual_pooling)
        return resolved(said, self._own_poolings(), normalized, self.prompt, self.truncate_dim)

    def _scales_again(self) -> bool:
        """Whether the estimator's own ``normalize`` scales features that were cut; a checkpoint's leaves them cut."""
        return self.normalize != "auto" and bool(self.normalize)

    def _own_poolings(self) -> tuple[str, ...] | None:
        """The words of the parameter; None if the checkpoint is to say it."""
        given: Any = self.pooling
        if isinstance(given, str):
            return None if given == "auto" else (given,)
        words = tuple(given)
        if not words or not all(isinstance(word, str) and word in self._poolings for word in words):
            raise ValueError(f"pooling must be 'auto', or one or more of {', '.join(self._poolings)}, got {given!r}")
        return words

    def _layers(self) -> list[int]:
        """The layers whose vectors are pooled, counted from 0."""
        return [self.config_.num_hidden_layers]

    def _has_further_layers(self) -> bool:
        """Whether the checkpoint's layers after the pooling apply: they are made for the last layer of the encoder."""
        return self._layers() == [self.config_.num_hidden_layers]

    def _n_each(self) -> int:
        """Features of a text or pair."""
        how = self._how()
        n_features: int = self.config_.hidden_size * len(self._layers()) * len(how.pooling)
        if self._has_further_layers():
            if how.n_inputs() not in (None, n_features):
                raise ValueError(
                    f"pooling={self.pooling!r} makes {n_features} features, but the checkpoint's layers after the pooling take "
                    f"{how.n_inputs()}: let pooling='auto' choose what fits"
                )
            n_features = how.n_outputs(n_features)
        if self.truncate_dim is not None and self.truncate_dim > n_features:
            raise ValueError(f"truncate_dim={self.truncate_dim} is more than the {n_features} features that there are")
        return min(n_features, how.truncate_dim or n_features)

    def _features(
        self, engine: Engine, encoded: EncodedBatch, pair: bool, window_weights: np.ndarray | None = None
    ) -> np.ndarray:
        """Features of encoded rows, (n_rows, n_features); with weights, the mean over each row's windows."""
        how, n_features = self._how(), self._n_each()
        features_of, recipe = self._computation(engine, how, pair)
        features = engine.rows(encoded, features_of, window_weights, recipe)
        if getattr(features_of, "is_final", False):  # of an ONNX graph that scales and cuts
            return _of_unit_length(features) if self._scales_again() and len(features) else features
        if how.normalize and len(features):
            # here and not in the module, so that the mean over windows has unit length too
            features = _of_unit_length(features)
        if n_features < features.shape[1]:
            features = np.ascontiguousarray(features[:, :n_features])
            if self._scales_again() and len(features):
                features = _of_unit_length(features)
        return features

    def _computation(self, engine: Engine, how: SentenceEncoder, pair: bool) -> tuple[Run, tuple[Hashable, ...]]:
        """What the engine runs on the rows, and its recipe; see :meth:`skxlmr.inference.Engine.rows`."""
        layers, n_skipped = self._layers(), self._n_skipped(how, pair)
        further = bool(how.layers) and self._has_further_layers()
        run = engine.pooled(how, layers, n_skipped, further)
        return run, ("pooled", how.pooling, tuple(layers), n_skipped, further and how.layers)

    def _n_skipped(self, how: SentenceEncoder, pair: bool) -> int:
        """First tokens of each row that are not pooled: those of a prompt that is left out."""
        n_prompt = len(self._prompt_ids(how, pair))
        return n_prompt - 1 if n_prompt and not how.include_prompt else 0

    # Checkpoint ---------------------------------------------------------------------------------------------------------

    def _take(self, stored: StoredModel) -> None:
        super()._take(stored)
        self._said = stored.sentence_encoder()
        self._n_each()
        self._check_room(self._how(), stored.folder)

    def _build(self, config: Any) -> TaskModule:
        module = super()._build(config)
        if self._said is not None and self._said.layers:
            from skxlmr.nn.sentence.layers import SentenceLayers

            module.sentence = SentenceLayers(self._said.layers)
        return module

    def _mapped_tensors(self, stored: StoredModel) -> tuple[Tensors, MappedFiles]:
        tensors, files = super()._mapped_tensors(stored)
        said = None if self._said is None or not self._said.layers else stored.sentence_encoder()
        if said is None:
            return tensors, files
        further = stored.sentence_tensors(said)  # without a layer that was learnt since
        tensors = tensors | {f"sentence.{name}": tensor for name, tensor in further.items()}
        return tensors, files.with_tensors(tensors)

    def _sentence_encoder_to_save(self) -> tuple[SentenceEncoder | None, bool]:
        """What a saved folder says to other tools, and whether their vectors then are those of `transform`."""
        how = replace(self._how(), max_length=self._limit())
        is_all = (
            self._has_further_layers()
            and getattr(self, "long_text", "truncate") == "truncate"
            and "pooler" not in how.pooling
            and getattr(self, "n_features_in_", 1) == 1
        )
        is_cut_first = self._scales_again() and how.truncate_dim is not None  # a folder says: scaled and then cut
        return (how, not is_cut_first) if is_all else (self._said, False)

    # Names --------------------------------------------------------------------------------------------------------------

    @property
    def _n_features_out(self) -> int:
        return self._n_each()

    @property
    def _n_blocks(self) -> int:
        """Columns of texts whose features stand side by side."""
        return 1

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Names of the output columns: the text column's name and a number.

        If the texts had no name, the class name in lower case takes its place.

        Parameters
        ----------
        input_features : array-like of str, optional
            Names of the input columns; by default those seen in ``fit``.

        Returns
        -------
        ndarray of str
            One for each feature.

        Raises
        ------
        NotFittedError
            Before ``fit``, and before the first ``transform`` of an estimator that needs no fit.
        ValueError
            If ``input_features`` do not match the columns of X.

        Examples
        --------
        >>> import pandas as pd
        >>> from skxlmr import XLMRobertaVectorizer
        >>> vectorizer = XLMRobertaVectorizer("skxlmr-mini").fit(pd.DataFrame({"review": ["Guter Film"]}))
        >>> vectorizer.get_feature_names_out()[:2]
        array(['review_0', 'review_1'], dtype=object)
        """
        check_is_fitted(self, "module_")
        names = getattr(self, "feature_names_in_", None)
        given = np.asarray(input_features, dtype=object)
        if given.tolist() is not None:  # a FunctionTransformer that has seen a Series passes array(None)
            if names is not None and not np.array_equal(given, names):
                raise ValueError("input_features is not equal to feature_names_in_")
            n_expected = self._n_fitted_columns() or len(given)
            if len(given) != n_expected:
                raise ValueError(
                    f"input_features should have length equal to the number of columns of X, {n_expected}, got {len(given)}"
                )
            names = given
        blocks, own = self._n_blocks, self._series_name or type(self).__name__.lower()
        if blocks == 1:
            prefixes = [own if names is None else "_".join(map(name_of, names))]
        else:
            prefixes = [f"{own}{k}" for k in range(blocks)] if names is None else list(map(name_of, names))
        return np.asarray(self._feature_names(prefixes), dtype=object)

    def _feature_names(self, prefixes: list[str]) -> list[str]:
        """Names of the features of each column of texts, whose names are given."""
        n_each = self._n_features_out // len(prefixes)
        return [f"{prefix}_{i}" for prefix in prefixes for i in range(n_each)]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = []
        return tags


def _of_unit_length(features: np.ndarray) -> np.ndarray:
    """The rows divided by their norms, in place; rows of zeros stay as they are.

    scikit-learn's ``normalize`` computes the same. To import it takes longer than the first texts.
    """
    assert_all_finite(features)
    norms = row_norms(features)
    norms[norms < 10 * np.finfo(norms.dtype).eps] = 1
    features /= norms[:, None]
    return features
