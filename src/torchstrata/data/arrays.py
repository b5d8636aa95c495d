"""Columns whose cells are arrays: images, vectors, series and token sequences -> stacked arrays or ragged ones.

A cell is an array of numbers, or one of text. Cells of one shape are stacked; cells of unequal length stay ragged, and
are padded batch by batch later. torch is not needed here, though its tensors are taken as cells.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from torchstrata.errors import DataError

FLOAT32_MAX = float(np.finfo(np.float32).max)
# Inputs that a table of plain columns has, and the ending of the input that holds the lengths.
TAKEN = ("number", "category")
LENGTHS = "_lengths"


@dataclasses.dataclass(frozen=True)
class Ragged:
    """Sequences of unequal length, one after the other.

    Parameters
    ----------
    values : ndarray of shape (steps of all rows, ...)
        Numbers, or indices of tokens.
    lengths : ndarray of int64, shape (n,)
        Steps of each row.
    """

    values: np.ndarray
    lengths: np.ndarray

    def __len__(self) -> int:
        return len(self.lengths)


def is_array(cell: Any) -> bool:
    """Say whether a cell is an array or a tensor with dimensions.

    Parameters
    ----------
    cell : object
        Of a column of Python objects.

    Returns
    -------
    bool
        Python lists are none: they are refused elsewhere, with the hint to make arrays of them.
    """
    return (isinstance(cell, np.ndarray) or hasattr(cell, "detach")) and cell.ndim > 0


def holds_arrays(column: pd.Series) -> bool:
    """Say whether a column holds arrays, by its first cell that is not missing.

    Parameters
    ----------
    column : pandas.Series
        Of any type.

    Returns
    -------
    bool
        False for columns without cells.
    """
    if column.dtype != object or not len(column):
        return False
    cells = column.to_numpy()
    first = cells[0]
    if first is None or isinstance(first, float):
        first = next((cell for cell in cells if cell is not None and not isinstance(cell, float)), None)
    return is_array(first)


def clean_arrays(column: pd.Series, *, where: str, row_ids: np.ndarray) -> pd.Series:
    """Make numpy arrays of one kind and dimension of all cells, or refuse the column by name.

    Parameters
    ----------
    column : pandas.Series
        Its first cell is an array.
    where : str
        Beginning of the message.
    row_ids : numpy.ndarray of int64, shape (len(column),)
        The rows' numbers for the message.

    Returns
    -------
    pandas.Series
        The same column where nothing had to change.

    Raises
    ------
    DataError
        Naming the first row whose cell is missing, no array, of another dimension, or no numbers.
    """
    cells = column.to_numpy()
    arrays = _empty_alike([cell if type(cell) is np.ndarray else _as_array(cell) for cell in cells])
    kinds = {_kind(array) for array in arrays if array is not None}
    if kinds == {"i", "f"}:  # whole numbers in some rows
        arrays = [array if array is None or _kind(array) == "f" else array.astype(np.float64) for array in arrays]
    first = next(array for array in arrays if array is not None)
    kind, tail = _kind(first), first.shape[1:]
    for row, (cell, array) in enumerate(zip(cells, arrays, strict=True)):
        if array is not None and array.shape[1:] == tail and array.ndim == first.ndim and _kind(array) == kind:
            continue
        got = f"{cell!r}"[:60] if array is None else f"one of shape {array.shape} that holds {array.dtype} values"
        raise DataError(
            f"{where}: column {column.name!r} holds arrays of {_KINDS[kind]} of shape {_open(first.shape)}, and row "
            f"{row_ids[row]} is {got}; only the first size may differ from row to row"
        )
    if kind == "?":
        raise DataError(f"{where}: column {column.name!r} holds arrays of {first.dtype}; make them numbers or text")
    if all(a is b for a, b in zip(arrays, cells, strict=True)):
        return column
    return pd.Series(_objects(arrays), index=column.index, name=column.name)


def table_of(given: Mapping[str, Any], *, where: str) -> pd.DataFrame:
    """Make a table of named arrays; what has two dimensions or more becomes a column of arrays.

    Parameters
    ----------
    given : mapping of str to array, tensor, list of arrays, Series or DataFrame
        All of n rows. What has one dimension is a plain column. A DataFrame, and an array of two dimensions named
        ``"number"`` or ``"category"``, is put in as plain columns.
    where : str
        Beginning of the message.

    Returns
    -------
    pandas.DataFrame
        With rows 0..n-1.

    Raises
    ------
    DataError
        If the numbers of rows differ, a name occurs twice, or an array has no dimension.
    """
    columns: dict[str, Any] = {}
    for name, value in given.items():
        found = _columns(str(name), value, where)
        twice = [key for key in found if key in columns]
        if twice:
            raise DataError(f"{where}: two columns are called {twice[0]!r}; rename one")
        columns.update(found)
    sizes = {name: len(values) for name, values in columns.items()}
    if len(set(sizes.values())) > 1:
        raise DataError(f"{where}: inputs have different numbers of rows: {sizes}")
    return pd.DataFrame(columns)


def is_several(given: Any) -> bool:
    """Say whether a mapping holds inputs of several dimensions, and not just plain columns.

    Parameters
    ----------
    given : object
        What might be a mapping.

    Returns
    -------
    bool
        True where a value is a table, has two dimensions or more, or is a list of arrays.
    """
    if not isinstance(given, Mapping):
        return False
    return any(getattr(v, "ndim", 1) > 1 or (isinstance(v, list) and v and is_array(v[0])) for v in given.values())


def sequences_of(X: Any) -> list[Any] | None:
    """Return rows that are a list of arrays, or an array of such, as a list; None where X is something else."""
    if isinstance(X, np.ndarray) and X.dtype == object and X.ndim == 1:
        X = list(X)
    return list(X) if isinstance(X, list | tuple) and X and all(map(is_array, X)) else None


def column_of(arrays: Iterable[Any], name: str = "sequence") -> pd.DataFrame:
    """Make a table of one column of arrays.

    Parameters
    ----------
    arrays : iterable of array
        One a row.
    name : str
        Of the column.

    Returns
    -------
    pandas.DataFrame
        With rows 0..n-1.
    """
    return pd.DataFrame({name: _objects(list(arrays))})


_KINDS = {"f": "numbers", "i": "whole numbers", "U": "text", "?": "objects"}


def _kind(array: np.ndarray) -> str:
    """Return f for floats and booleans, i for whole numbers, U for text."""
    kind = array.dtype.kind
    if kind == "O" and (not array.size or isinstance(array.flat[0], str)):
        return "U" if array.size else "f"  # what holds nothing is as good as floats
    return {"f": "f", "b": "f", "i": "i", "u": "i", "U": "U"}.get(kind, "?")


def _as_array(cell: Any) -> np.ndarray | None:
    if not is_array(cell):
        return None
    return np.asarray(cell.detach().cpu() if hasattr(cell, "detach") else cell)


def _empty_alike(arrays: list[Any]) -> list[Any]:
    """Give cells without steps the type of the others: ``np.array([])`` is of floats, whatever it was to hold."""
    first = next((array for array in arrays if array is not None and array.size), None)
    if first is None:
        return arrays
    none = first[:0].astype(str) if _kind(first) == "U" else first[:0]
    return [
        none if a is not None and a.shape == (0,) and (a.ndim, a.dtype) != (none.ndim, none.dtype) else a
        for a in arrays
    ]


def _objects(arrays: list[Any]) -> np.ndarray:
    out = np.empty(len(arrays), dtype=object)
    for i, array in enumerate(arrays):  # out[:] = arrays would make one array of cells of one shape
        out[i] = array
    return out


def _columns(name: str, value: Any, where: str) -> dict[str, Any]:
    if hasattr(type(value), "columns"):
        from torchstrata.data.tables import to_pandas  # tables.py imports this file

        return {str(key): column for key, column in to_pandas(value, where=where).items()}
    sequences = sequences_of(value)
    if sequences is not None:
        return {name: _objects(sequences)}
    array = np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)
    if not array.ndim:
        raise DataError(f"{where}: input {name!r} is {value!r}, expected an array whose first dimension is the row")
    if array.ndim == 1:
        return {name: array}
    if array.ndim == 2 and name in TAKEN:
        made = pd.DataFrame(array).add_prefix(f"{name}_")
        made = made.astype("category") if name == "category" else made
        return {str(key): column for key, column in made.items()}
    return {name: _objects(list(array))}


def _open(shape: tuple[int, ...]) -> str:
    return "(" + ", ".join(["any", *map(str, shape[1:])]) + ")"


@dataclasses.dataclass
class ArrayColumn:
    """What was learnt about one column of arrays on the training rows.

    Parameters
    ----------
    shape : tuple of int
        Of a row; of a step where the lengths differ.
    ragged : bool
        Whether the lengths may differ.
    bytes : bool
        Whether cells are images of bytes, which are divided by 255 later.
    levels : list, optional
        Of tokens: the values of the training rows in sorted order; index i + 1 stands for levels[i], 0 for all others.
    """

    shape: tuple[int, ...]
    ragged: bool
    bytes: bool = False
    levels: list[Any] | None = None

    @property
    def row_shape(self) -> tuple[int | None, ...]:
        """Shape of a row; None is a size that may differ."""
        return (None, *self.shape) if self.ragged else self.shape

    @property
    def n_levels(self) -> int:
        """How many indices tokens have, the unknown slot 0 included; 0 where the cells hold numbers."""
        return 0 if self.levels is None else len(self.levels) + 1


def fit_arrays(column: pd.Series, *, ragged: bool = False) -> ArrayColumn:
    """Learn what a column of arrays holds.

    Parameters
    ----------
    column : pandas.Series
        Of training rows, clean.
    ragged : bool
        Whether lengths may differ later even if they do not here.

    Returns
    -------
    ArrayColumn
        Vectors of whole numbers or of text are tokens; other cells of one shape are stacked, and the rest is ragged.

    Raises
    ------
    DataError
        If the column has the name of another input, or no row holds a step.
    """
    name, cells = column.name, column.to_numpy()
    if name in TAKEN or str(name).endswith(LENGTHS):
        raise DataError(f"column {name!r} holds arrays, and an input of that name has a meaning of its own; rename it")
    first = cells[0]
    if not any(map(len, cells)):
        raise DataError(f"column {name!r} holds no step in any of {len(cells)} rows; drop it")
    if first.ndim == 1 and _kind(first) in "iU":
        values = np.concatenate([*cells])
        levels = np.unique(values.astype(str) if _kind(first) == "U" else values).tolist()
        return ArrayColumn((), ragged=True, levels=levels)
    if ragged or any(len(cell) != len(first) for cell in cells):
        return ArrayColumn(first.shape[1:] or (1,), ragged=True)
    return ArrayColumn(first.shape, ragged=False, bytes=first.ndim > 1 and first.dtype == np.uint8)


def transform_arrays(column: pd.Series, learnt: ArrayColumn) -> np.ndarray | Ragged:
    """Stack the cells of a column, or put them one after the other.

    Parameters
    ----------
    column : pandas.Series
        Clean.
    learnt : ArrayColumn
        Of the training rows.

    Returns
    -------
    ndarray of shape (n, ...) or Ragged
        Finite numbers, or indices of tokens.

    Raises
    ------
    DataError
        Naming the column and the row whose shape or type is another than at fit, or which is not finite.
    """
    name, cells = column.name, column.to_numpy()
    lengths = np.fromiter(map(len, cells), np.int64, len(cells))
    if learnt.ragged and not lengths.any():  # an empty array does not say what it would hold
        return Ragged(np.empty((0, *learnt.shape), dtype=np.int64 if learnt.n_levels else np.float64), lengths)
    if learnt.levels is not None:
        return Ragged(_tokens(name, cells, learnt.levels), lengths)
    if _kind(cells[0]) == "U":
        raise DataError(f"column {name!r} held numbers at fit and holds text now")
    now_bytes = cells[0].ndim > 1 and cells[0].dtype == np.uint8
    if now_bytes != learnt.bytes and not learnt.ragged:
        was, hint = ("bytes", "divided by 255") if learnt.bytes else ("no bytes", "as they are")
        raise DataError(f"column {name!r} held {was} at fit, taken {hint}, and holds {cells[0].dtype} now")
    tail = learnt.shape if learnt.ragged else learnt.shape[1:]
    if (cells[0].shape[1:] or ((1,) if learnt.ragged else ())) != tail:
        raise DataError(f"column {name!r} has cells of shape {_open(cells[0].shape)}; at fit {_open((0, *tail))}")
    if learnt.ragged:
        values = np.concatenate([*cells]).reshape(-1, *tail)
        _check_finite(name, values, np.repeat(np.arange(len(cells)), lengths))
        return Ragged(values, lengths)
    odd = np.flatnonzero(lengths != learnt.shape[0])
    if len(odd):
        raise DataError(
            f"column {name!r} has a cell of length {lengths[odd[0]]} (row {odd[0]}), and all had length "
            f"{learnt.shape[0]} at fit; if lengths may differ: encoder=ts.Encoder(sequences=({name!r},))"
        )
    stacked = np.stack([*cells])
    _check_finite(name, stacked, np.arange(len(cells)))
    return stacked


def _tokens(name: Any, cells: np.ndarray, levels: list[Any]) -> np.ndarray:
    values, known = np.concatenate([*cells]), np.array(levels)
    was, now = _kind(known), _kind(cells[0])
    if cells[0].ndim != 1 or (was == "U") != (now == "U") or now == "f":
        raise DataError(f"column {name!r} held tokens ({_KINDS[was]}) at fit and holds {_KINDS[now]} now")
    values = values.astype(str) if now == "U" else values
    at = np.searchsorted(known, values).clip(max=len(known) - 1)
    return np.where(known[at] == values, at + 1, 0)


def _check_finite(name: Any, values: np.ndarray, rows: np.ndarray) -> None:
    if values.dtype.kind != "f":
        return
    with np.errstate(invalid="ignore"):
        bad = ~(np.abs(values) <= FLOAT32_MAX).reshape(len(values), -1).all(axis=1)
    if bad.any():
        raise DataError(
            f"Input X contains NaN, infinity or a value too large for float32: column {name!r} "
            f"(row {rows[int(np.argmax(bad))]})"
        )
