"""Tables and values as JSON holds them, and back exactly: lists, with dtypes beside them; NaN is null."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd


@dataclasses.dataclass(frozen=True)
class Columns:
    """A table as lists, with what is needed to make it a table again.

    Parameters
    ----------
    values : dict of str to list
        Column to its cells, as JSON holds them.
    dtypes : dict of str to dict
        Column to its dtype.
    """

    values: dict[str, list[Any]]
    dtypes: dict[str, dict[str, Any]]

    def __len__(self) -> int:
        return len(next(iter(self.values.values()), ()))


def to_columns(table: pd.DataFrame) -> Columns:
    """Turn a table into lists.

    Parameters
    ----------
    table : DataFrame
        Any.

    Returns
    -------
    Columns
        :func:`to_table` undoes it.
    """
    packed = {str(name): _pack_column(table[name]) for name in table.columns}
    return Columns({name: cells for name, (cells, _) in packed.items()}, {n: dtype for n, (_, dtype) in packed.items()})


def _pack_column(column: pd.Series) -> tuple[list[Any], dict[str, Any]]:
    dtype = column.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        cells, dtypes = _pack_column(pd.Series(dtype.categories))
        codes = column.cat.codes.tolist()
        about = {"dtype": "category", "categories": cells, "of": dtypes, "ordered": bool(dtype.ordered)}
        return [None if code < 0 else cells[code] for code in codes], about
    if isinstance(dtype, np.dtype) and dtype.kind in "iub":
        return column.tolist(), {"dtype": str(dtype)}
    if isinstance(dtype, np.dtype) and dtype.kind == "f":
        finite = np.isfinite(column.to_numpy())
        cells = column.tolist()
        return cells if finite.all() else [number(cell) for cell in cells], {"dtype": str(dtype)}
    if (isinstance(dtype, np.dtype) and dtype.kind != "O") or str(dtype).startswith(("datetime", "period", "interval")):
        column = column.astype(str)  # a date is known by its text
    if column.dtype != object:
        missing = column.isna().tolist()
        cells = [None if gone else pack(v) for gone, v in zip(missing, column.tolist(), strict=True)]
        return cells, {"dtype": str(column.dtype)}
    return [pack(value) for value in column], {"dtype": "object"}


def to_table(columns: Columns) -> pd.DataFrame:
    """Turn lists into the table they were.

    Parameters
    ----------
    columns : Columns
        From :func:`to_columns`; lists of several such tables, one after the other, if their dtypes are equal.

    Returns
    -------
    DataFrame
        With a fresh index.
    """
    made = {name: to_array(columns.values[name], dtype) for name, dtype in columns.dtypes.items()}
    return pd.DataFrame(made, columns=list(columns.dtypes), index=range(len(columns)))


def to_array(cells: Sequence[Any], about: Mapping[str, Any]) -> Any:
    """Turn the cells of a column into an array.

    Parameters
    ----------
    cells : sequence
        As JSON holds them.
    about : mapping
        Its dtype, as :class:`Columns` has it.

    Returns
    -------
    array
        NumPy's, or pandas' (a Series for objects) where the dtype is one of pandas'.
    """
    dtype = about["dtype"]
    if dtype == "category":
        categories = pd.Index(to_array(about["categories"], about["of"]))
        codes = {json.dumps(cell): code for code, cell in enumerate(about["categories"])}
        found = [-1 if cell is None else codes[json.dumps(cell)] for cell in cells]
        return pd.Categorical.from_codes(found, categories, ordered=about["ordered"])
    if is_number(about):
        return np.array(cells, dtype=dtype)  # of null NumPy makes NaN, of "inf" infinity
    if dtype == "object":
        return pd.Series([unpack(cell) for cell in cells], dtype=object)  # of an array, pandas would make text
    return pd.array(cells if dtype == "str" else [unpack(cell) for cell in cells], dtype=dtype)


def is_number(about: Mapping[str, Any]) -> bool:
    """Say whether a column is NumPy's: int64, and neither interval[int64] nor int64[pyarrow] nor boolean.

    Parameters
    ----------
    about : mapping
        Its dtype, as :class:`Columns` has it.

    Returns
    -------
    bool
        True for booleans too.
    """
    dtype = about["dtype"]
    return dtype.startswith(("float", "int", "uint", "bool")) and "[" not in dtype and dtype != "boolean"


def number(value: float) -> float | str | None:
    """Write a number as JSON can.

    Parameters
    ----------
    value : float
        Any.

    Returns
    -------
    float, str or None
        NaN is null, infinities are text.
    """
    return value if math.isfinite(value) else None if value != value else str(value)


def pack(value: Any) -> Any:
    """Turn a setting or a label into what JSON holds.

    Parameters
    ----------
    value : object
        None, a boolean, number, text, or a tuple of these; the text of anything else.

    Returns
    -------
    object
        :func:`unpack` undoes it.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, tuple):
        return {"tuple": [pack(v) for v in value]}
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": str(value)}
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def unpack(value: Any) -> Any:
    """Undo :func:`pack`.

    Parameters
    ----------
    value : object
        From JSON.

    Returns
    -------
    object
        As it was.
    """
    if not isinstance(value, dict):
        return value
    return float(value["float"]) if "float" in value else tuple(map(unpack, value["tuple"]))
