"""What splitters share: a split with what a table says of it, labels as numbers, columns of a table."""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from sklearn.utils.multiclass import type_of_target

from torchstrata.data.strata import stratum_codes
from torchstrata.data.task import Task
from torchstrata.errors import ConfigError, DataError, did_you_mean


class PlannedSplit(NamedTuple):
    """The rows of one split, and what a table says of it.

    Attributes
    ----------
    train, test : ndarray of int64
        Rows.
    columns : dict
        Column of ``result.splits`` to value.
    """

    train: np.ndarray
    test: np.ndarray
    columns: dict[str, Any]


def classes_and_strata(task: Task) -> np.ndarray | None:
    """Number what folds are balanced by: the class, crossed with all strata.

    Parameters
    ----------
    task : Task
        Any.

    Returns
    -------
    ndarray of int64, shape (n_rows,), or None
        None for a regression without strata.
    """
    strata = None if task.strata is None else stratum_codes(task.strata)[0]
    if task.kind != "classification":
        return strata
    labels = stratum_codes(task.y)[0]
    return labels if strata is None else cross(labels, strata)


def cross(*codes: Any) -> np.ndarray:
    """Number the combinations of several columns that occur.

    Parameters
    ----------
    *codes : array-like of shape (n,)
        Columns of labels.

    Returns
    -------
    ndarray of int64, shape (n,)
        From 0 without gaps.
    """
    return (
        pd.DataFrame({i: np.asarray(c) for i, c in enumerate(codes)})
        .groupby(list(range(len(codes))))
        .ngroup()
        .to_numpy()
    )


def codes_of(values: Any, *, where: str) -> np.ndarray:
    """Number labels, and refuse missing ones.

    Parameters
    ----------
    values : array-like of shape (n,)
        Labels.
    where : str
        Beginning of the message.

    Returns
    -------
    ndarray of int64
        In sorted order of the labels.
    """
    codes, _ = pd.factorize(pd.Series(values), sort=True)
    if (codes < 0).any():
        raise DataError(f"{where}: row {int(np.argmax(codes < 0))} is missing. Fill it or drop the row.")
    return codes


def n_rows(X: Any) -> int:
    """Count the rows of what a splitter gets.

    Parameters
    ----------
    X : array-like
        Table, array or list.

    Returns
    -------
    int
    """
    return int(X.shape[0]) if hasattr(X, "shape") else len(X)


def to_balance(y: Any) -> np.ndarray | None:
    """Number the classes of y, if it has classes.

    Parameters
    ----------
    y : array-like, optional
        A target as scikit-learn's splitters get it.

    Returns
    -------
    ndarray of int64 or None
        None for no target or one that is no class.
    """
    if y is None or type_of_target(y) not in ("binary", "multiclass"):
        return None
    return np.unique(np.asarray(y), return_inverse=True)[1]


def whole_number(value: Any, least: int, what: str) -> int:
    """Check a count.

    Parameters
    ----------
    value : object
        As given.
    least : int
        The smallest that makes sense.
    what : str
        Its name in the message.

    Returns
    -------
    int
        The count.

    Raises
    ------
    ConfigError
        If it is no whole number of at least ``least``.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < least:
        raise ConfigError(f"{what} must be a whole number >= {least}, got {value!r}")
    return int(value)


def column_of(X: Any, column: str, who: str) -> pd.Series:
    """Take a column of a table given to ``split``.

    Parameters
    ----------
    X : DataFrame
        The table.
    column : str
        A name.
    who : str
        Beginning of the message.

    Returns
    -------
    Series
        Rows numbered from 0.

    Raises
    ------
    DataError
        If X is no table or has no such column.
    """
    if not hasattr(X, "columns"):
        raise DataError(f"{who} looks for the column {column!r}, but X is {type(X).__name__}: give split() a DataFrame")
    if column not in X.columns:
        raise DataError(f"{who}: X has no column {column!r}. {did_you_mean(column, X.columns)}")
    return pd.Series(np.asarray(X[column])) if not isinstance(X, pd.DataFrame) else X[column].reset_index(drop=True)


def plain_label(value: Any) -> Any:
    """Make a label that a table, JSON and CSV hold alike.

    Parameters
    ----------
    value : object
        A value of a column.

    Returns
    -------
    bool, int, float or str
        Text for everything else, such as dates.
    """
    value = value.item() if isinstance(value, np.generic) else value
    return value if isinstance(value, bool | int | float | str) else str(value)


def several(value: Any) -> list[Any] | None:
    """Make a list of one value or many.

    Parameters
    ----------
    value : object or list
        None stands for "not given".

    Returns
    -------
    list or None
        The values.
    """
    if value is None:
        return None
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [value]
