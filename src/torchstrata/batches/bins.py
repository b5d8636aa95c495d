"""Strata of a regression target: bins of its values."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from torchstrata.data.strata import stratum_codes
from torchstrata.errors import ConfigError, DataError


def check_bins(bins: Any) -> int | tuple[float, ...] | None:
    """Check a setting ``bins`` and make it immutable.

    Parameters
    ----------
    bins : None, int or sequence of float
        Number of quantile bins, or increasing edges between bins.

    Returns
    -------
    None, int or tuple of float
        The same.
    """
    if bins is None or (isinstance(bins, int | np.integer) and not isinstance(bins, bool) and bins >= 2):
        return None if bins is None else int(bins)
    try:
        edges = tuple(float(edge) for edge in bins)
    except (TypeError, ValueError):
        edges = ()
    if not edges or not all(a < b for a, b in itertools.pairwise((-np.inf, *edges, np.inf))):
        raise ConfigError(
            f"bins must be an int >= 2 (quantile bins) or increasing finite edges such as (10.0, 20.0), got {bins!r}"
        )
    return edges


def bin_codes(values: Any, bins: int | tuple[float, ...]) -> tuple[np.ndarray, list[str]]:
    """Number the bins of values.

    Parameters
    ----------
    values : array of shape (n,) or (n, 1), Series, or DataFrame of one column
        Numbers, none of them missing.
    bins : int or tuple of float
        So many bins with about equally many rows each, or the edges between bins. A value on an edge belongs to the bin
        below it.

    Returns
    -------
    codes : ndarray of int64, shape (n,)
        0..S-1 from low to high. Only bins that hold a row have a number, so many equal values may leave fewer bins.
    labels : list of str, length S
        Such as ``"(10, 20]"``.

    Raises
    ------
    DataError
        If there are no values, several columns, or values that are no finite numbers.

    Examples
    --------
    >>> codes, labels = bin_codes([1.0, 5.0, 12.0, 30.0], (10.0, 20.0))
    >>> codes.tolist(), labels
    ([0, 0, 1, 2], ['<= 10', '(10, 20]', '> 20'])
    """
    if values is None:
        return stratum_codes(None)  # says that there are no strata
    numbers = finite_numbers(values, "bins=")
    edges = np.unique(np.quantile(numbers, np.arange(1, bins) / bins)) if isinstance(bins, int) else np.array(bins)
    found, codes = np.unique(np.searchsorted(edges, numbers, side="left"), return_inverse=True)
    inner = [f"({a:.6g}, {b:.6g}]" for a, b in itertools.pairwise(edges)]
    names = [f"<= {edges[0]:.6g}", *inner, f"> {edges[-1]:.6g}"]
    return codes.astype(np.int64), [names[b] for b in found]


def finite_numbers(values: Any, who: str) -> np.ndarray:
    """Read one column of finite numbers.

    Parameters
    ----------
    values : array, Series or DataFrame of one column
        The numbers.
    who : str
        Who needs them, for the message.

    Returns
    -------
    ndarray of float, shape (n,)
        The numbers.

    Raises
    ------
    DataError
        If there are several columns, or a value is no finite number.
    """
    array = np.asarray(values.to_numpy() if hasattr(values, "to_numpy") else values)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise DataError(
            f"{who} needs one column of numbers, got shape {array.shape}: give one, or cut several columns into strata "
            "yourself (pandas.qcut)"
        )
    try:
        numbers = array.astype(float)
    except (TypeError, ValueError):
        raise DataError(f"{who} needs numbers, got {array.dtype} values such as {array[0]!r}") from None
    if not np.isfinite(numbers).all():
        row = int(np.argmin(np.isfinite(numbers)))
        raise DataError(f"the value of row {row} is {numbers[row]}: {who} needs a finite number in every row")
    return numbers
