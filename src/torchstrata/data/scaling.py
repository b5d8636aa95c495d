"""Where the numbers of a column lie, and how far apart."""

from __future__ import annotations

from typing import Any

import numpy as np

from torchstrata.errors import ConfigError, did_you_mean

SCALINGS = ("robust", "standard")


def check_scaling(scaling: Any) -> None:
    """Refuse an unknown way of scaling.

    Parameters
    ----------
    scaling : {"robust", "standard"}
        As of :class:`torchstrata.Encoder`.

    Raises
    ------
    ConfigError
        If it is neither.
    """
    if scaling not in SCALINGS:
        raise ConfigError(f"Encoder: unknown scaling {scaling!r}. {did_you_mean(scaling, SCALINGS)}")


def center_and_scale(values: np.ndarray, scaling: str) -> tuple[np.ndarray, np.ndarray]:
    """Return what is taken off each column, and what it is divided by.

    Parameters
    ----------
    values : ndarray of shape (n, p)
        None missing.
    scaling : {"robust", "standard"}
        Median and distance of the quartiles, or half the range where these agree; or mean and standard deviation.

    Returns
    -------
    center, scale : ndarray of shape (p,)
        The scale is infinite where all rows are the same: such a column says nothing, and must not explode later.
    """
    spread = np.ptp(values, axis=0)
    if scaling == "standard":
        with np.errstate(over="ignore"):  # too large to be squared: an infinite scale, and a column of zeros
            center, deviation = values.mean(axis=0), values.std(axis=0)
        scale = np.where(spread > 0, deviation, 0.0)  # of constants, rounding is no deviation
    else:
        center = np.median(values, axis=0)
        low, high = np.quantile(values, [0.25, 0.75], axis=0)
        scale = np.where(high > low, high - low, spread / 2)
    return center, np.where(scale > 0, scale, np.inf)
