"""Strata: the values of one column, or of several crossed, as numbers with labels."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pandas as pd

from torchstrata.errors import DataError


def stratum_codes(strata: Any) -> tuple[np.ndarray, list[str]]:
    """Number the strata of rows; several columns are crossed.

    Parameters
    ----------
    strata : array of shape (n,), Series or DataFrame
        Values by row, or several columns of them.

    Returns
    -------
    codes : ndarray of int64, shape (n,)
        0..S-1, in the sorted order of the labels. Only combinations that occur have a number.
    labels : list of str, length S
        The values, joined by ``", "`` where several columns are crossed.

    Raises
    ------
    DataError
        If there are no strata, or a value is missing.
    """
    if strata is None:
        raise DataError(
            "StratifiedBatchSampler needs a stratum for every row and there is none: give the task a stratum role "
            "(task.with_roles(stratum='Class')) or pass fit(..., stratum=y)"
        )
    columns = _stratum_columns(strata)
    factors = [pd.factorize(_plain(column), sort=True) for column in columns]
    if any((codes < 0).any() for codes, _ in factors):
        row = min(int(np.argmax(codes < 0)) for codes, _ in factors if (codes < 0).any())
        raise DataError(f"the stratum of row {row} is missing: every row needs one (fill it, or drop the row)")
    if len(factors) == 1:
        return factors[0][0].astype(np.int64), [str(level) for level in factors[0][1]]
    crossed = functools.reduce(lambda a, f: a * len(f[1]) + f[0], factors[1:], factors[0][0].astype(np.int64))
    used, codes = np.unique(crossed, return_inverse=True)
    levels = np.unravel_index(used, tuple(len(f[1]) for f in factors))
    named = [[str(f[1][i]) for i in level] for f, level in zip(factors, levels, strict=True)]
    return codes.astype(np.int64), [", ".join(names) for names in zip(*named, strict=True)]


def _stratum_columns(strata: Any) -> list[Any]:
    if hasattr(strata, "columns"):
        return [strata[name] for name in strata.columns]
    values = strata if hasattr(strata, "ndim") else np.asarray(strata)
    if values.ndim == 2:
        return list(np.asarray(values).T)
    if values.ndim != 1:
        raise DataError(f"strata must have one or two dimensions (rows, columns), got shape {values.shape}")
    return [values]


def _plain(column: Any) -> Any:
    # categoricals would keep unused levels and their own order; Arrow and polars columns become arrays
    values = column.to_numpy() if hasattr(column, "to_numpy") else np.asarray(column)
    return values.astype(object) if values.dtype.kind in "US" else values
