"""Tables from everywhere become one pandas DataFrame with clean columns.

A clean column is a number, a boolean, a datetime, a category (text included) or holds an array in each cell, whatever
library or storage it came from. Cells of any other type are refused here by name, so that nothing behind a task has to
look at cells again.
"""

from __future__ import annotations

import datetime
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np
import pandas as pd

from torchstrata.data.arrays import clean_arrays, holds_arrays, is_several, table_of
from torchstrata.errors import DataError

KINDS = ("number", "boolean", "category", "datetime", "array")

# what pandas.api.types.infer_dtype says of an object column, and what the column becomes
_NUMBERS = {"integer", "floating", "mixed-integer-float", "decimal"}
_TIMES = {"date", "datetime", "datetime64"}
_TEXTS = {"string", "empty", "categorical"}
_HOW_TO_FIX = {
    "bytes": "decode it: frame[{0!r}].str.decode('utf-8')",
    "list": "make arrays of them: frame[{0!r}].map(np.asarray); or one column per element, or leave it out",
    "dict": "make one column per key, or leave it out with features=",
    "complex": "split it into real and imaginary part. Complex data not supported",
    "timedelta": "make it a number: frame[{0!r}].dt.total_seconds()",
    "time": "make it a number, such as the seconds since midnight",
    "period": "make it a date: frame[{0!r}].dt.to_timestamp()",
    "interval": "make it a number, such as the interval's middle",
}


def to_pandas(frame: Any, *, where: str) -> pd.DataFrame:
    """Copy a table of any library into a pandas DataFrame with rows 0..n-1.

    Parameters
    ----------
    frame : pandas.DataFrame, polars.DataFrame, pyarrow.Table, any eager frame that narwhals knows, or dict
        The table; never changed. Polars and others go column by column through numpy, so pyarrow need not be there. A
        dict of named arrays, one of which at least has several dimensions, is read by
        :func:`~torchstrata.data.arrays.table_of`.
    where : str
        Beginning of the messages, such as ``"task 'sonar'"``.

    Returns
    -------
    pandas.DataFrame
        A copy (lazy where pandas copies on write): changing ``frame`` later does not change it.

    Raises
    ------
    DataError
        For an array, a list or a dict of plain columns, and for duplicate column names.
    TypeError
        For anything else that is no table.
    """
    if isinstance(frame, pd.DataFrame):
        return frame.reset_index(drop=True)
    if is_several(frame):
        return table_of(frame, where=where)
    try:
        table = nw.from_native(frame, eager_only=True)
    except TypeError:
        raise _not_a_table(frame, where) from None
    check_unique(list(table.columns), where=where)
    return pd.DataFrame({name: _to_series(table[name]) for name in table.columns})


def check_unique(names: list, *, where: str) -> None:
    """Refuse column names that occur twice.

    Parameters
    ----------
    names : list
        The column names in their order.
    where : str
        Beginning of the message.

    Raises
    ------
    DataError
        Naming each duplicate with its positions, counted from 0.
    """
    if len(set(names)) == len(names):
        return
    twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    shown = "; ".join(
        f"{n!r} (positions {', '.join(str(i) for i, m in enumerate(names) if m == n)})" for n in twice[:3]
    )
    rest = f" and {len(twice) - 3} more" if len(twice) > 3 else ""
    raise DataError(f"{where}: duplicate column names: {shown}{rest}. Rename or drop all but one of each.")


def column_kind(column: pd.Series) -> str:
    """Say what a column holds.

    Parameters
    ----------
    column : pandas.Series
        A clean column.

    Returns
    -------
    str
        ``"number"``, ``"boolean"``, ``"datetime"``, ``"array"`` or ``"category"`` (text included).
    """
    if isinstance(
        column.dtype, pd.CategoricalDtype
    ):  # first: a category of numbers answers "numeric" to some questions
        return "category"
    if pd.api.types.is_bool_dtype(column.dtype):
        return "boolean"
    if pd.api.types.is_numeric_dtype(column.dtype):
        return "number"
    if pd.api.types.is_datetime64_any_dtype(column.dtype):
        return "datetime"
    return "array" if holds_arrays(column) else "category"


def clean(column: pd.Series, *, where: str, row_ids: np.ndarray) -> pd.Series:
    """Give a column one of the five kinds, or refuse it by name.

    Parameters
    ----------
    column : pandas.Series
        As it came.
    where : str
        Beginning of the message.
    row_ids : numpy.ndarray of int64, shape (len(column),)
        The rows' numbers for the message.

    Returns
    -------
    pandas.Series
        The same values; columns of Python objects get the dtype of what they hold.

    Raises
    ------
    DataError
        If cells are bytes, lists, dicts, arrays of unequal kinds, durations, complex numbers, or text and numbers.
    """
    dtype = column.dtype
    if isinstance(dtype, pd.CategoricalDtype) or pd.api.types.is_datetime64_any_dtype(dtype):
        return column
    if pd.api.types.is_complex_dtype(dtype):
        raise _refused(column.name, "complex", where)
    if pd.api.types.is_numeric_dtype(dtype) or isinstance(dtype, pd.StringDtype):
        return column
    return _clean_objects(column, where, row_ids)


def clean_columns(frame: pd.DataFrame, used: list[str], *, features: tuple[str, ...], where: str) -> pd.DataFrame:
    """Clean the columns with a role; the others stay as they came, and the table is not copied.

    Parameters
    ----------
    frame : pandas.DataFrame
        The table.
    used : list of str
        The columns with a role.
    features : tuple of str
        Those that keep their dtype, for the encoder; losses, metrics and splitters want numpy's own.
    where : str
        Beginning of the messages.

    Returns
    -------
    pandas.DataFrame
        The same table where nothing had to change.

    Raises
    ------
    DataError
        If a column holds what no model can use.
    """
    row_ids = np.arange(len(frame))
    changed = {}
    for name in used:
        before = frame[name]
        column = clean(before, where=where, row_ids=row_ids)
        column = column if name in features else numpy_backed(column)
        if column is not before:
            changed[name] = column
    return frame.assign(**changed) if changed else frame


def as_floats(column: pd.Series) -> np.ndarray:
    """Return a column of numbers or booleans as float64, missing ones as NaN.

    Parameters
    ----------
    column : pandas.Series
        Numbers or booleans of any storage.

    Returns
    -------
    numpy.ndarray of float64, shape (len(column),)
    """
    return column.to_numpy(dtype="float64", na_value=np.nan)


def numpy_backed(column: pd.Series) -> pd.Series:
    """Give a column without missing values a dtype of numpy, or pandas' own one for text.

    Parameters
    ----------
    column : pandas.Series
        A clean column, nullable or Arrow-backed perhaps.

    Returns
    -------
    pandas.Series
        The same values; the very same column where there is nothing to do or values are missing.
    """
    dtype = column.dtype
    if not isinstance(dtype, pd.api.extensions.ExtensionDtype) or isinstance(dtype, pd.CategoricalDtype):
        return column
    kind = column_kind(column)
    if kind == "datetime" or (kind == "category" and dtype == "str") or column.isna().any():
        return column
    if kind == "category":
        return pd.Series(column.to_numpy(dtype=object), index=column.index, name=column.name)
    own = np.dtype(getattr(dtype, "numpy_dtype", "float64"))
    values = as_floats(column) if own.kind == "O" else column.to_numpy(dtype=own)  # "O": Arrow's decimals
    return pd.Series(values, index=column.index, name=column.name)


def name_rows(mask: np.ndarray, row_ids: np.ndarray, *, most: int = 3) -> str:
    """Say which rows a mask marks.

    Parameters
    ----------
    mask : numpy.ndarray of bool, shape (n,)
        True where a row is meant.
    row_ids : numpy.ndarray of int64, shape (n,)
        Their numbers in the original table, counted from 0.
    most : int
        So many are listed.

    Returns
    -------
    str
        ``"row 5"`` or ``"rows 5, 7, 12, ... (40 in all)"``.
    """
    marked = row_ids[np.flatnonzero(mask)]
    shown = ", ".join(str(i) for i in marked[:most])
    rest = f", ... ({len(marked)} in all)" if len(marked) > most else ""
    return f"row{'s' if len(marked) != 1 else ''} {shown}{rest}"


def _clean_objects(column: pd.Series, where: str, row_ids: np.ndarray) -> pd.Series:
    if holds_arrays(column):
        return clean_arrays(column, where=where, row_ids=row_ids)
    objects = column.astype(object)
    holds = pd.api.types.infer_dtype(objects, skipna=True)
    if holds in _TEXTS:
        return column
    if holds == "boolean":
        return objects.astype("boolean")
    if holds in _NUMBERS:
        return pd.to_numeric(objects.where(objects.notna(), np.nan).astype("float64" if holds == "decimal" else object))
    if holds in _TIMES:
        return _to_datetimes(objects, where)
    raise _mixed(objects, where, row_ids) if holds.startswith("mixed") else _refused(column.name, holds, where)


def _to_datetimes(column: pd.Series, where: str) -> pd.Series:
    try:
        return pd.to_datetime(column)
    except ValueError as error:  # mixed time zones, or beyond what pandas 2 can hold (the year 2262)
        raise DataError(
            f"{where}: column {column.name!r} cannot be read as datetimes: {error}; "
            f"convert it yourself: pd.to_datetime(frame[{column.name!r}], utc=True, errors='coerce')"
        ) from None


def _mixed(column: pd.Series, where: str, row_ids: np.ndarray) -> DataError:
    """Name the first cell that makes a column of Python objects unusable."""
    for kind, types in (("bytes", (bytes, bytearray)), ("dict", dict), ("list", (list, tuple, set, np.ndarray))):
        if column.map(lambda cell, t=types: isinstance(cell, t)).any():
            return _refused(column.name, kind, where)
    is_text = column.map(lambda cell: isinstance(cell, str)).to_numpy(dtype=bool)
    if not is_text.any():
        types_met = sorted({type(cell).__name__ for cell in column.dropna()})
        return DataError(f"{where}: column {column.name!r} mixes types ({', '.join(types_met[:5])}); make it one type.")
    odd = is_text if is_text.mean() <= 0.5 else ~is_text & column.notna().to_numpy(dtype=bool)
    what = "non-numeric" if odd is is_text else "numeric"
    first = column.iloc[int(np.flatnonzero(odd)[0])]
    return DataError(
        f"{where}: column {column.name!r} mixes text and numbers (mix of label input types: string and number): "
        f"{int(odd.sum())} {what} value{'s' if odd.sum() != 1 else ''}, first {first!r} ({name_rows(odd, row_ids)}). "
        f"Make it one kind: pd.to_numeric(frame[{column.name!r}], errors='coerce') or .astype(str)."
    )


def _refused(name: object, kind: str, where: str) -> DataError:
    kind = next((known for known in _HOW_TO_FIX if kind.startswith(known)), kind)
    holds = {"list": "lists, sets or arrays", "dict": "dicts"}.get(kind, f"{kind} values" if kind != "bytes" else kind)
    fix = _HOW_TO_FIX.get(kind, "make it numbers or text, or leave it out with features=").format(name)
    return DataError(f"{where}: column {name!r} contains {holds}; {fix}.")


def _not_a_table(frame: Any, where: str) -> Exception:
    kind = type(frame).__name__
    if isinstance(frame, np.ndarray | list | tuple):
        return DataError(
            f"{where}: got {'an' if kind == 'ndarray' else 'a'} {kind}; a task needs names: "
            "pd.DataFrame(X, columns=[f'x{i}' for i in range(X.shape[1])]).assign(y=y)"
        )
    if isinstance(frame, dict):
        return DataError(f"{where}: got a dict; pass pd.DataFrame(frame)")
    if hasattr(frame, "collect"):
        return TypeError(f"{where}: got a lazy {kind}; pass frame.collect()")
    hint = (
        "; to read a file: Task.from_csv(path, target=...)"
        if isinstance(frame, str) or hasattr(frame, "suffix")
        else ""
    )
    return TypeError(f"{where}: frame must be a pandas or polars DataFrame or a pyarrow Table, got {kind}{hint}")


def _to_series(column: Any) -> pd.Series:
    """Copy one narwhals column through numpy; missing cells become NaN, NaT, None or pd.NA as the dtype has it."""
    dtype, name = column.dtype, column.name
    for unusable, cell in _UNUSABLE:
        if dtype == unusable:  # kept as objects, which clean() refuses if the column has a role
            return pd.Series([cell] * len(column), name=name, dtype=object)
    if dtype.is_decimal():
        column = column.cast(nw.Float64)
    values = column.to_numpy()
    if dtype == nw.Boolean:
        return pd.Series(values, name=name, dtype="boolean" if column.null_count() else "bool")
    if dtype == nw.Enum:
        return pd.Series(pd.Categorical(values, categories=list(dtype.categories)), name=name)
    if dtype == nw.Categorical:
        return pd.Series(pd.Categorical(values), name=name)
    if dtype == nw.Date:
        return pd.Series(values.astype("datetime64[s]"), name=name)
    return pd.Series(values, name=name)


_UNUSABLE: tuple[tuple[Any, Any], ...] = (
    (nw.Struct, {}),
    (nw.List, []),
    (nw.Array, []),
    (nw.Binary, b""),
    (nw.Duration, datetime.timedelta(0)),
)
