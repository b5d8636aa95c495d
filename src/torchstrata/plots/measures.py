"""What is known about a measure: its direction, its bounds, and the interval of its mean over folds.

Plots and results share these numbers, so a picture can never show another interval than the table beside it.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

COST_MEASURES = ("fit_seconds", "predict_seconds", "epochs", "best_epoch")

_UNIT = (
    "accuracy", "average_precision", "balanced_accuracy", "f1", "jaccard", "precision", "recall", "roc_auc",
    "top_k_accuracy",
)  # fmt: skip


class Interval(NamedTuple):
    """A mean over folds and what is known about it.

    Attributes
    ----------
    mean, std : float
        Over the folds that have a value; ``std`` with n - 1 in the denominator.
    n : int
        Folds with a value.
    low, high : float
        Bounds of the confidence interval of the mean; NaN below two folds.
    """

    mean: float
    std: float
    n: int
    low: float
    high: float


def greater_is_better(measure: str) -> bool:
    """Say whether a larger value of a measure is better.

    Parameters
    ----------
    measure : str
        A scikit-learn scorer name, or one of the costs in ``COST_MEASURES``.

    Returns
    -------
    bool
        False for costs only: scikit-learn's scorers are all "greater is better" (``neg_log_loss``).
    """
    return measure not in COST_MEASURES


def bounds(measure: str) -> tuple[float, float]:
    """Give the range a measure cannot leave.

    Parameters
    ----------
    measure : str
        A scikit-learn scorer name or a cost.

    Returns
    -------
    tuple of float
        Lowest and highest possible value; infinite where there is no bound or the measure is unknown.

    Examples
    --------
    >>> bounds("roc_auc"), bounds("neg_log_loss"), bounds("my_own")
    ((0.0, 1.0), (-inf, 0.0), (-inf, inf))
    """
    if measure.startswith(_UNIT):
        return 0.0, 1.0
    if measure in COST_MEASURES:
        return 0.0, math.inf
    if measure.startswith("neg_"):
        return -math.inf, 0.0
    if measure == "matthews_corrcoef":
        return -1.0, 1.0
    return -math.inf, 1.0 if measure.startswith(("r2", "d2_", "explained_variance")) else math.inf


def interval(
    values: ArrayLike,
    *,
    ratio: float | None = None,
    level: float = 0.95,
    limits: tuple[float, float] = (-math.inf, math.inf),
) -> Interval:
    """Mean over the folds of a cross-validation with a confidence interval that knows the folds share training rows.

    The variance of the mean is taken as ``(1/n + n_test/n_train) * s**2`` and compared with Student's t with n - 1
    degrees of freedom (the corrected resampled t of [1]_). The usual ``s**2 / n`` is too small, because training sets
    overlap.

    Parameters
    ----------
    values : array-like of shape (n_folds,)
        One value a fold; NaN where the fold failed.
    ratio : float, optional
        Test rows per training row. By default that of k-fold cross-validation, ``1 / (n_folds - 1)``.
    level : float
        Level of confidence.
    limits : tuple of float
        The interval is clipped to this range, unless a value lies outside: then it is not the range of this measure
        (a scorer of one's own may be called ``accuracy_percent``).

    Returns
    -------
    Interval
        mean, std, n, low, high.

    References
    ----------
    .. [1] Nadeau and Bengio (2003), Inference for the generalization error, Machine Learning 52, 239-281.

    Examples
    --------
    >>> interval([0.5, 0.75, 1.0], ratio=0.5, limits=(0, 1))
    Interval(mean=0.75, std=0.25, n=3, low=0.0, high=1.0)
    """
    every = np.asarray(values, dtype=float)
    known = every[~np.isnan(every)]
    n = len(known)
    with np.errstate(invalid="ignore"):  # an infinite loss gives an infinite mean and no interval
        mean = float(known.mean()) if n else math.nan
        std = float(known.std(ddof=1)) if n > 1 else math.nan
    half = spread(std, n, default_ratio(len(every)) if ratio is None else ratio, level)
    inside = not n or limits[0] <= known.min() <= known.max() <= limits[1]
    low, high = (float(np.clip(bound, *limits)) if inside else bound for bound in (mean - half, mean + half))
    return Interval(mean, std, n, low, high)


def default_ratio(n_folds: int) -> float:
    """Test rows per training row in k-fold cross-validation.

    Parameters
    ----------
    n_folds : int
        Number of folds.

    Returns
    -------
    float
        ``1 / (n_folds - 1)``; NaN for a single fold.
    """
    return 1 / (n_folds - 1) if n_folds > 1 else math.nan


def spread(std: float, n: int, ratio: float, level: float) -> float:
    """Half the width of the corrected confidence interval.

    Parameters
    ----------
    std : float
        Standard deviation over folds.
    n : int
        Number of folds.
    ratio : float
        Test rows per training row.
    level : float
        Level of confidence.

    Returns
    -------
    float
        NaN below two folds.
    """
    if n < 2:
        return math.nan
    return float(stats.t.ppf(0.5 + level / 2, n - 1) * std * math.sqrt(1 / n + ratio))


def paired_test(differences: ArrayLike, *, ratio: float) -> float:
    """Two-sided p-value of the corrected resampled t-test for paired differences.

    Parameters
    ----------
    differences : array-like of shape (n_folds,)
        Difference of two learners on each fold, without NaN.
    ratio : float
        Test rows per training row.

    Returns
    -------
    float
        NaN below two folds; 1 where all differences are zero.
    """
    known = np.asarray(differences, dtype=float)
    n = len(known)
    if n < 2:
        return math.nan
    if not known.any():
        return 1.0
    scale = known.std(ddof=1) * math.sqrt(1 / n + ratio)
    return float(2 * stats.t.sf(abs(known.mean()) / scale, n - 1)) if scale else 0.0


def holm(p_values: ArrayLike) -> np.ndarray:
    """Correct p-values of several tests by Holm's method.

    Parameters
    ----------
    p_values : array-like of shape (n_tests,)
        NaN where there was no test.

    Returns
    -------
    ndarray of shape (n_tests,)
        Corrected p-values, in the order given.

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03]).tolist()
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(p_values, dtype=float)
    order = [i for i in np.argsort(p) if not math.isnan(p[i])]
    out = np.full(len(p), math.nan)
    factors = np.arange(len(order), 0, -1)
    out[order] = np.minimum(np.maximum.accumulate(p[order] * factors), 1.0)
    return out


def write_number(value: float, *, digits: int = 3) -> str:
    """Write a number for a table.

    Parameters
    ----------
    value : float
        May be NaN or infinite.
    digits : int
        Decimals.

    Returns
    -------
    str
        With a true minus sign; a dash for NaN.
    """
    if math.isnan(value):
        return "–"
    return f"{value:.{digits}f}".replace("-", "−")


def decimals(values: ArrayLike) -> int:
    """Choose how many decimals a column of numbers needs to show about three significant digits.

    Parameters
    ----------
    values : array-like
        The numbers of the column.

    Returns
    -------
    int
        From 0 to 6; 3 for numbers between 0.1 and 1.
    """
    every = np.abs(np.asarray(values, dtype=float))
    known = every[np.isfinite(every) & (every > 0)]
    if not len(known):
        return 3
    return int(np.clip(3 - math.ceil(math.log10(float(np.median(known))) + 1e-9), 0, 6))
