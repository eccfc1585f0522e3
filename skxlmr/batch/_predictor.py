"""A saved estimator as a function of tables, which every engine of tables can send to its processes."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from skxlmr.batch._columns import arrow_type, in_arrow, in_pandas
from skxlmr.batch._loaded import Wanted, loaded
from skxlmr.batch._results import METHODS, Results, results_of
from skxlmr.batch._rows import MISSING, RowError, RowTexts, read_texts
from skxlmr.text import NoRoomError
from skxlmr.utils._devices.device import Device
from skxlmr.utils._imports.optional import import_extra
from skxlmr.utils._sklearn import Interval, StrOptions, validate_parameter_constraints

if TYPE_CHECKING:
    import pyarrow as pa

CONSTRAINTS = {  # of the parameters that are not looked at one by one
    "output": [str, None],
    "wide": ["boolean"],
    "device": [str, Device, None],
    "dtype": [str, None],
    "batch_size": [Interval(Integral, 1, None, closed="left"), None],
    "onnx": ["boolean", StrOptions({"auto"})],
}


@dataclass(frozen=True)
class Prepared:
    """A loaded estimator, what it adds to a table, and the columns of its texts."""

    estimator: Any
    results: Results
    text: list[str]


class BatchPredictor:
    """Add what a saved estimator makes of texts to tables, one batch after another.

    It is a function of a table, to be given to an engine that has tables in pieces: Dask, Spark, Ray Data, or a loop. Each
    process loads the estimator at its first batch and keeps it. What travels to the processes is the path alone, which must
    lead to the folder on every machine.

    Read more in :doc:`/distributed`.

    Parameters
    ----------
    folder : str or path
        What ``save`` wrote, or a name on the Hugging Face hub. If its files are replaced later, they are loaded again.
    method : {'auto', 'predict', 'predict_proba', 'predict_entities', 'transform'}
        What is added. ``'auto'`` is the first that the estimator has of ``predict_entities``, ``predict``, ``transform``.

        - ``predict``: the column ``prediction``. With one class per row, ``prediction_probability`` is the probability of
          that class; a scikit-learn estimator around this library's has the prediction only. With several labels or outputs
          per row there is a column for each, ``prediction_<label>`` or ``prediction_0`` and so on.
        - ``predict_proba``: a column for each class, ``probability_<class>``.
        - ``predict_entities``: the column ``entities`` of a tagger, a list of records.
        - ``transform``: the column ``features``, a list of float32 in each row (of fixed size in Arrow).
    text : str, or sequence of str, optional
        The column of the texts; two columns for pairs, and those of a prompt and its choices. By default the columns whose
        names the fit saw.
    missing : {'error', 'null'}
        What a row without text (None, NaN, NA) is: an error that names it, unless the estimator has ``missing='empty'``; or a
        row whose result is null, too.
    output : str, optional
        The name of the column, or the first part of the names, in place of ``prediction``, ``probability``, ``entities`` or
        ``features``.
    wide : bool
        Whether features are a column each, ``features_0`` and so on, in place of one column of lists.
    device : str, optional
        As in ``load``.
    dtype : str, optional
        In place of the estimator's own ``dtype``.
    batch_size : int, optional
        In place of the estimator's own ``batch_size``.
    onnx : {'auto'} or bool
        Whether ONNX Runtime computes. With ``'auto'`` it does if the folder has a graph and no weights.

    Raises
    ------
    ValueError
        If ``method`` or ``missing`` is none of these words, or another parameter cannot be used.
    TypeError
        If ``text`` names no column.

    See Also
    --------
    load : The estimator itself.

    Examples
    --------
    >>> import tempfile
    >>> import pandas as pd
    >>> from skxlmr import BatchPredictor, XLMRobertaVectorizer, save
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(XLMRobertaVectorizer("skxlmr-mini").fit(["A text."]), folder + "/features")
    ...     predictor = BatchPredictor(folder + "/features", text="review", missing="null")
    ...     table = predictor(pd.DataFrame({"review": ["Guter Film", None]}))
    >>> table.columns.tolist(), table["features"].isna().tolist(), len(table["features"][0])
    (['review', 'features'], [False, True], 192)
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        method: Literal["auto", "predict", "predict_proba", "predict_entities", "transform"] = "auto",
        *,
        text: str | Sequence[str] | None = None,
        missing: Literal["error", "null"] = "error",
        output: str | None = None,
        wide: bool = False,
        device: str | None = None,
        dtype: str | None = None,
        batch_size: int | None = None,
        onnx: bool | Literal["auto"] = "auto",
    ):
        for name, value, words in (("method", method, METHODS), ("missing", missing, MISSING)):
            if value not in words:
                raise ValueError(f"{name} must be one of {', '.join(map(repr, words))}, got {value!r}")
        others = {
            "output": output,
            "wide": wide,
            "device": device,
            "dtype": dtype,
            "batch_size": batch_size,
            "onnx": onnx,
        }
        validate_parameter_constraints(CONSTRAINTS, others, caller_name="BatchPredictor")
        folder = os.fspath(folder)
        # processes elsewhere work in other folders
        self.folder = os.path.abspath(folder) if os.path.isdir(folder) else folder
        self.method, self.missing, self.output, self.wide = method, missing, output, wide
        if not (text is None or isinstance(text, str)):
            names = tuple(text) if isinstance(text, Iterable) and getattr(text, "shape", None) != () else ()
            if not names or not all(isinstance(name, str) for name in names):
                raise TypeError(f"text must be the name of a column, or a list of names, got {text!r}")
            text = names
        self.text = text
        self.device, self.dtype, self.batch_size = device, dtype, batch_size
        self.onnx = onnx if isinstance(onnx, str) else bool(onnx)  # NumPy's are read as Python's

    def __repr__(self) -> str:
        given = "".join(f", {name}={value!r}" for name, value in vars(self).items() if name != "folder")
        return f"BatchPredictor({self.folder!r}{given})"

    def __call__(self, batch: Any) -> Any:
        """The table with the new columns behind its own.

        Parameters
        ----------
        batch : pandas.DataFrame, pyarrow.Table or pyarrow.RecordBatch
            Any number of rows, none included: the types of the new columns do not depend on the rows.

        Returns
        -------
        table of the same kind
            With ``missing='null'`` whole numbers and truth values of pandas are of its types ``Int64`` and ``boolean``, and
            those of ``missing='error'`` of NumPy's.

        Raises
        ------
        CheckpointError
            If the folder can't be read.
        ValueError
            If a column is missing or there already, or a row has no text; names it.
        TypeError
            If it is another kind of table.
        """
        prepared = self._prepared()
        is_arrow = hasattr(batch, "schema") and hasattr(batch, "column_names")
        if not is_arrow and not (hasattr(batch, "iloc") and hasattr(batch, "columns")):
            kind = f"{type(batch).__name__} of {type(batch).__module__.partition('.')[0]}"
            raise TypeError(f"expected a pandas DataFrame or an Arrow table, got a {kind}")
        names = list(batch.column_names if is_arrow else batch.columns)
        self._check_names(prepared, names)
        given = [batch.column(name).to_pylist() if is_arrow else batch[name].tolist() for name in prepared.text]
        texts, values = self._computed(prepared, given)
        columns = prepared.results.columns
        if is_arrow:
            arrays = [in_arrow(column, value, texts.present) for column, value in zip(columns, values, strict=True)]
            schema = self.output_schema(batch.schema)
            return type(batch).from_arrays([*batch.columns, *arrays], schema=schema)
        nullable = self.missing == "null"
        made = {
            column.name: in_pandas(column, value, texts.present, nullable, batch.index)
            for column, value in zip(columns, values, strict=True)
        }
        import pandas as pd

        return pd.concat([batch, pd.DataFrame(made, index=batch.index)], axis=1)

    def output_schema(self, schema: "pa.Schema | None" = None) -> "pa.Schema":
        """Names and types of a table with the new columns.

        Parameters
        ----------
        schema : pyarrow.Schema, optional
            Of the table without them; by default the result has the new columns only.

        Returns
        -------
        pyarrow.Schema
            That of the tables that a call returns.

        Examples
        --------
        >>> import tempfile
        >>> from skxlmr import BatchPredictor, XLMRobertaVectorizer, save
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save(XLMRobertaVectorizer("skxlmr-mini").fit(["A text."]), folder + "/features")
        ...     BatchPredictor(folder + "/features", text="review").output_schema()
        features: fixed_size_list<item: float>[192]
          child 0, item: float
        """
        pyarrow = import_extra("pyarrow", "parquet", "the schema of a table")
        fields = [pyarrow.field(column.name, arrow_type(column)) for column in self._prepared().results.columns]
        return pyarrow.schema(fields) if schema is None else pyarrow.schema([*schema, *fields], schema.metadata)

    def spark_schema(self, schema: Any = None) -> Any:
        """Names and types of a DataFrame of Spark with the new columns, for ``mapInPandas``.

        Parameters
        ----------
        schema : pyspark.sql.types.StructType, optional
            Of the DataFrame without them; by default the result has the new columns only.

        Returns
        -------
        pyspark.sql.types.StructType
            That of the DataFrames that a call returns.
        """
        import_extra("pyspark", "spark", "a schema of Spark")
        pyarrow = import_extra("pyarrow", "parquet", "a schema of Spark")
        from pyspark.sql.pandas.types import from_arrow_schema
        from pyspark.sql.types import StructType

        columns = self._prepared().results.columns
        added = from_arrow_schema(pyarrow.schema([(each.name, arrow_type(each, list_size=False)) for each in columns]))
        return added if schema is None else StructType([*schema.fields, *added.fields])

    # For the command line -----------------------------------------------------------------------------------------------

    def _prepared(self) -> Prepared:
        """The estimator of this process, with all that does not depend on rows."""
        estimator = loaded(Wanted(self.folder, self.device, self.dtype, self.batch_size, self.onnx))
        _refuse_tables(estimator)
        text = self.text
        if text is None:
            text = getattr(estimator, "feature_names_in_", None)
            if text is None:
                raise ValueError(
                    "text (--text) is needed, the name of the column of the texts: the fit did not see one"
                )
        names = [text] if isinstance(text, str) else list(text)
        fitted = list(getattr(estimator, "feature_names_in_", names))
        if names != fitted and sorted(map(str, names)) == sorted(map(str, fitted)):
            raise ValueError(f"text={names!r} are the columns of the fit in another order: pass text={fitted!r}")
        return Prepared(estimator, results_of(estimator, self.method, self.output, self.wide), names)

    @staticmethod
    def _check_names(prepared: Prepared, names: list[Any]) -> None:
        """Refuse a table that lacks a column of texts, or has one of the new columns."""
        for name in prepared.text:
            if names.count(name) > 1:
                raise ValueError(f"the table has {names.count(name)} columns {name!r}: give each a name of its own")
            if name not in names:
                raise ValueError(f"there is no column {name!r}: the table has {', '.join(map(repr, names)) or 'none'}")
        for column in prepared.results.columns:
            if column.name in names:
                raise ValueError(f"the table has a column {column.name!r} already: choose another name with output")

    def _computed(self, prepared: Prepared, columns: list[list[Any]]) -> tuple[RowTexts, list[Any]]:
        """The texts in columns, and the values of each new column, of the rows that have texts.

        Raises
        ------
        RowError, NoRoomError
            If a row can't be used.
        """
        estimator = prepared.estimator
        reads_missing = getattr(estimator, "missing", "error") == "empty"
        texts = read_texts(columns, prepared.text, self.missing, reads_missing)
        if not texts.present.any():
            return texts, [np.empty((0, column.size) if column.size else 0) for column in prepared.results.columns]
        try:
            return texts, prepared.results.compute(_as_input(estimator, texts.columns))
        except NoRoomError as error:
            row = int(np.flatnonzero(texts.present)[error.row])
            raise RowError(row, error.at(row).message) from error


def _refuse_tables(estimator: Any) -> None:
    """Refuse a pipeline that reads other columns than those of texts."""
    first = estimator
    while hasattr(first, "steps"):
        first = first.steps[0][1]
    if hasattr(first, "transformers"):
        raise ValueError(
            f"the pipeline begins with a {type(first).__name__}, which reads a table, and here models read texts alone: open "
            "it with skxlmr.load, and pass the table to its own predict or transform"
        )


def _as_input(estimator: Any, columns: list[list[str]]) -> Any:
    """Texts as the estimator saw them in its fit: a table with the names of then, or lists."""
    names = list(getattr(estimator, "feature_names_in_", ()))
    if len(names) == len(columns):
        import pandas as pd

        return pd.DataFrame(dict(zip(names, columns, strict=True)))
    return columns[0] if len(columns) == 1 else list(map(list, zip(*columns, strict=True)))
