"""Strata: the values of one column, or of several crossed, as numbers with labels."""

from __future__ import annotations

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
    if not columns:
        raise DataError("strata has no columns: name at least one")
    factors = [pd.factorize(_plain(column), sort=True) for column in columns]
    for codes, _ in factors:
        if (codes < 0).any():
            row = int(np.argmax(codes < 0))
            raise DataError(f"the stratum of row {row} is missing: every row needs one (fill it, or drop the row)")
    codes, labels = factors[0][0].astype(np.int64), [str(level) for level in factors[0][1]]
    for more, levels in factors[1:]:
        # numbered anew after each column: the product over all columns would not fit into an integer
        used, codes = np.unique(codes * len(levels) + more, return_inverse=True)
        labels = [f"{labels[pair // len(levels)]}, {levels[pair % len(levels)]}" for pair in used]
    return codes.astype(np.int64), labels


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
