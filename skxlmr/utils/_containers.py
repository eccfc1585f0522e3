"""Tables and columns of other libraries become those of libraries that the readers know, without importing any of them.

Known are Python's sequences, NumPy, pandas, polars and Arrow; tensors become arrays of NumPy. Others say by their methods
what they can become.
"""

from typing import Any

# How tables and columns whose rows are not in memory bring them there.
_LAZY = {
    "compute": "__dask_graph__",
    "collect": "collect_schema",  # of polars and narwhals
    "toPandas": "toPandas",  # of Spark
}


def known_container(X: Any, name: str) -> Any:
    """X itself if its kind is known or nothing is known of it, else what it says it can become.

    Raises
    ------
    TypeError
        If its rows are not in memory; says how to bring them there.
    """
    kind = type(X)
    library = kind.__module__.partition(".")[0]
    if library == "torch" and hasattr(X, "detach"):
        X = X.detach().cpu()
        return (X.float() if str(X.dtype) == "torch.bfloat16" else X).numpy()  # which NumPy does not know
    if library in ("builtins", "numpy", "pandas", "pyarrow", "scipy", "torch"):
        return X
    for method, mark in _LAZY.items():
        if hasattr(X, method) and hasattr(X, mark):
            raise TypeError(
                f"{name} is a {kind.__name__} of {library}, whose rows are not in memory: pass {name}.{method}()"
            )
    if library == "polars":
        return X
    if hasattr(X, "to_native"):  # narwhals, around a table of any library
        return known_container(X.to_native(), name)
    if hasattr(X, "iloc") and not hasattr(X, "to_pandas"):  # like pandas, as its subclasses are
        return X
    if hasattr(X, "to_pandas"):  # cuDF, datasets, ibis, ...
        return X.to_pandas()
    if hasattr(X, "df") and hasattr(X, "fetchall"):  # DuckDB
        return X.df()
    if hasattr(X, "__arrow_c_stream__") and (pyarrow := _pyarrow()) is not None:
        return _of_stream(X, pyarrow)
    return X


def _pyarrow() -> Any:
    try:
        import pyarrow
    except ImportError:
        return None
    return pyarrow


def _of_stream(X: Any, pyarrow: Any) -> Any:
    """An Arrow table, or a column if the stream holds one."""
    try:
        return pyarrow.table(X)
    except (TypeError, ValueError, pyarrow.ArrowInvalid):
        return pyarrow.chunked_array(X)
