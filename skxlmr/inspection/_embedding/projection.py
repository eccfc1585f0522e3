"""From many dimensions to two."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

METHODS = ("pca", "tsne", "umap")
_FEWEST = {"pca": 2, "tsne": 4, "umap": 4}


@dataclass(frozen=True)
class Projection:
    """Points on a plane.

    Attributes
    ----------
    points : ndarray of shape (n_points, 2)
    axis_names : tuple of two str
    """

    points: np.ndarray
    axis_names: tuple[str, str]


def check_embeddings(embeddings: Any, name: str = "embeddings") -> np.ndarray:
    """A matrix of finite numbers.

    Raises
    ------
    ValueError
        If it is none; names the first row with a value that is not finite.
    """
    if hasattr(embeddings, "toarray"):
        embeddings = embeddings.toarray()
    try:
        matrix = np.asarray(embeddings, np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be a matrix of numbers of shape (n_points, n_features): {error}") from error
    if matrix.ndim != 2 or not matrix.shape[1]:
        raise ValueError(f"{name} must have the shape (n_points, n_features), got {matrix.shape}")
    if not len(matrix):
        raise ValueError(f"{name} has no rows: there is nothing to draw")
    bad = np.flatnonzero(~np.isfinite(matrix).all(axis=1))
    if len(bad):
        raise ValueError(f"{name} row {bad[0]} has a value that is not finite")
    return matrix


def project(embeddings: np.ndarray, method: Any, random_state: Any) -> Projection:
    """Points on a plane by one of the methods, or by a transformer that makes two columns.

    Raises
    ------
    ImportError
        If ``"umap"`` is asked for and umap-learn is not installed.
    ValueError
        If there is no such method, the rows or columns are too few for it, or t-SNE gets vectors that are all equal.
    """
    if isinstance(method, str) and method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(map(repr, METHODS))} or a transformer, got {method!r}")
    if not isinstance(method, str) and not hasattr(method, "fit_transform"):
        raise TypeError(
            f"method must be one of {', '.join(map(repr, METHODS))} or have fit_transform, got {method!r:.80}"
        )
    n_points, n_features = embeddings.shape
    fewest = _FEWEST.get(method, 2) if isinstance(method, str) else 2
    if n_points < fewest or (method == "pca" and n_features < 2):
        said = repr(method) if isinstance(method, str) else type(method).__name__
        raise ValueError(f"method={said} needs at least {fewest} points of 2 features, got {n_points} of {n_features}")
    if method == "pca":
        return _pca(embeddings, random_state)
    from sklearn.manifold import TSNE

    transformer, name = _transformer(method, n_points, random_state)
    vectors = embeddings.astype(np.float32)
    if isinstance(transformer, TSNE) and (vectors == vectors[0]).all():  # NaN for starting points end the process
        raise ValueError(f"{name} needs vectors that differ, and all {n_points} are equal")
    points = np.asarray(transformer.fit_transform(vectors), np.float64)
    if points.shape != (n_points, 2):
        raise ValueError(f"method must make 2 columns of {n_points} rows, {name} made the shape {points.shape}")
    return Projection(points, (f"{name} 1", f"{name} 2"))


def _pca(embeddings: np.ndarray, random_state: Any) -> Projection:
    from sklearn.decomposition import PCA

    pca = PCA(2, random_state=random_state)
    with np.errstate(invalid="ignore"):  # no variance at all
        points = pca.fit_transform(embeddings)
        shares = np.nan_to_num(pca.explained_variance_ratio_)
    names = tuple(f"component {k + 1} ({100 * share:.1f} % of the variance)" for k, share in enumerate(shares))
    return Projection(points, (names[0], names[1]))


def _transformer(method: Any, n_points: int, random_state: Any) -> tuple[Any, str]:
    if method == "tsne":
        from sklearn.manifold import TSNE

        return TSNE(2, perplexity=min(30.0, (n_points - 1) / 3), init="pca", random_state=random_state), "t-SNE"
    if method == "umap":
        try:
            from umap import UMAP  # type: ignore[import-not-found]
        except ModuleNotFoundError as error:
            if error.name != "umap":
                raise
            raise ImportError(
                "method='umap' needs umap-learn, which is not installed: pip install umap-learn, or use 'pca' or 'tsne'"
            ) from None
        # with a random_state it uses one thread, and says so in a warning unless it is told
        threads = {} if random_state is None else {"n_jobs": 1}
        return UMAP(n_components=2, n_neighbors=min(15, n_points - 1), random_state=random_state, **threads), "UMAP"
    return method, type(method).__name__
