"""Which rows: whatever names rows becomes int64 positions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from torchstrata.errors import DataError, did_you_mean


def positions(indices: Any, n_rows: int, *, where: str) -> np.ndarray:
    """Turn whatever names rows into positions.

    Parameters
    ----------
    indices : array-like of int or bool, range or slice
        Positions from 0, or a mask with one entry per row.
    n_rows : int
        How many rows there are.
    where : str
        Beginning of the messages.

    Returns
    -------
    numpy.ndarray of int64
        In the order given, repeats included.

    Raises
    ------
    DataError
        If a position is out of range, a mask has the wrong length, or these are no positions.
    """
    if isinstance(indices, slice):
        return np.arange(n_rows)[indices]
    chosen = np.asarray(indices)
    if chosen.ndim != 1:
        raise DataError(f"{where}: rows() needs a list of positions, got {chosen.ndim} dimensions; one row: rows([3])")
    if chosen.dtype == bool:
        if len(chosen) != n_rows:
            raise DataError(f"{where}: the mask has {len(chosen)} entries for {n_rows} rows.")
        return np.flatnonzero(chosen)
    if chosen.size and not np.issubdtype(chosen.dtype, np.integer):
        raise DataError(f"{where}: rows must be whole numbers or a mask of booleans, got {chosen.dtype}.")
    outside = (chosen < 0) | (chosen >= n_rows)
    if outside.any():
        has = f"positions go from 0 to {n_rows - 1}" if n_rows else "the task has no row"
        raise DataError(f"{where}: row {chosen[outside][0]} is out of range; {has}.")
    return chosen.astype(np.int64)


def sorted_positions(order: pd.DataFrame, *, where: str) -> np.ndarray:
    """Sort rows by some columns, ascending and stable.

    Parameters
    ----------
    order : pandas.DataFrame
        The columns, the most important first, without missing values.
    where : str
        Beginning of the message.

    Returns
    -------
    numpy.ndarray of int64
        The positions in sorted order.

    Raises
    ------
    DataError
        If the values of a column cannot be compared.
    """
    try:
        return order.reset_index(drop=True).sort_values(list(order.columns), kind="stable").index.to_numpy()
    except TypeError as error:
        raise DataError(f"{where}: order {list(order.columns)!r} cannot be sorted: {error}") from None


def read_only(values: np.ndarray) -> np.ndarray:
    """Return a view that nobody can write through.

    Parameters
    ----------
    values : numpy.ndarray
        Shared, not copied.

    Returns
    -------
    numpy.ndarray
    """
    view = values.view()
    view.flags.writeable = False
    return view


def table_column(task: Any, column: str, *, where: str) -> pd.Series:
    """Take any column of the table that a task was made from, also one without a role.

    Parameters
    ----------
    task : Task
        Its rows, in its order.
    column : str
        A name.
    where : str
        Beginning of the message.

    Returns
    -------
    pandas.Series
        A copy, rows numbered from 0.

    Raises
    ------
    DataError
        If there is no such column.
    """
    frame = task._frame
    if column not in frame.columns:
        raise DataError(f"{where}: {column!r} is not a column of the table. {did_you_mean(column, frame.columns)}")
    return frame[column].iloc[task.row_ids].reset_index(drop=True)
