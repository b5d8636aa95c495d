"""How probable it is that one learner is better, as good as, or worse than another: Bayesian tests with a ROPE.

A p-value does not say how probable a hypothesis is, and a large one does not say that two learners are alike. These
tests do both, given a region of practical equivalence (ROPE): differences so small that nobody would care. Source:
Benavoli, Corani, Demšar and Zaffalon (2017), Time for a change: a tutorial for comparing multiple classifiers through
Bayesian analysis, JMLR 18 (77), 1-36.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from torchstrata.errors import ConfigError
from torchstrata.plots.measures import bounds

_SAMPLES_AT_A_TIME = 5000


class Posterior(NamedTuple):
    """Probabilities that sum to one.

    Attributes
    ----------
    better, equal, worse : float
        That the difference lies above, within and below the region of practical equivalence. NaN without a posterior.
    """

    better: float
    equal: float
    worse: float


def default_rope(measure: str, rope: float | None) -> float:
    """Settle the region of practical equivalence.

    Parameters
    ----------
    measure : str
        A scikit-learn scorer name.
    rope : float, optional
        Differences of at most so much are none.

    Returns
    -------
    float
        ``rope``, or 0.01 for measures between -1 or 0 and 1.

    Raises
    ------
    ConfigError
        If it is negative, or not given for a measure whose unit is unknown.
    """
    if rope is None:
        if not np.isfinite(bounds(measure)).all():
            raise ConfigError(
                f"Which difference in {measure} matters in practice depends on its unit: give rope=, the largest one "
                "that does not."
            )
        return 0.01
    if not (isinstance(rope, int | float | np.number) and math.isfinite(rope) and rope >= 0):
        raise ConfigError(f"rope must be a number >= 0, the largest difference that does not matter; got {rope!r}.")
    return float(rope)


def correlated_t(differences: ArrayLike, *, ratio: float, rope: float) -> Posterior:
    """Bayesian correlated t-test: two learners on the folds of one task.

    The posterior of the mean difference is Student's t with n - 1 degrees of freedom around the mean, of scale
    ``s * sqrt(1/n + ratio)``: the corrected resampled t-test read as a posterior (Corani and Benavoli 2015, Machine
    Learning 100, 285-304). With n_test / (n_train + n_test) for the correlation rho of folds, rho / (1 - rho) is
    ``ratio``.

    Parameters
    ----------
    differences : array-like of shape (n_folds,)
        Difference of two learners on each fold, without NaN.
    ratio : float
        Test rows per training row.
    rope : float
        Half the width of the region of practical equivalence.

    Returns
    -------
    Posterior
        NaN below two folds.

    Examples
    --------
    >>> [round(p, 3) for p in correlated_t([0.02, 0.05, 0.03, 0.04, 0.03], ratio=0.25, rope=0.01)]
    [0.983, 0.015, 0.002]
    """
    known = np.asarray(differences, dtype=float)
    n = len(known)
    if n < 2:
        return Posterior(math.nan, math.nan, math.nan)
    mean, scale = float(known.mean()), float(known.std(ddof=1)) * math.sqrt(1 / n + ratio)
    if scale < 1e-15:
        return Posterior(float(mean > rope), float(abs(mean) <= rope), float(mean < -rope))
    better, worse = float(stats.t.sf((rope - mean) / scale, n - 1)), float(stats.t.cdf((-rope - mean) / scale, n - 1))
    return Posterior(better, max(0.0, 1 - better - worse), worse)


def signed_rank(
    differences: ArrayLike, *, rope: float, prior: float = 0.5, n_samples: int = 50_000, seed: int = 0
) -> Posterior:
    """Bayesian signed-rank test: two learners on many tasks.

    The tasks are weighted by draws of a Dirichlet process with one pseudo-task without difference. In each draw the
    mass of pairs of tasks whose mean difference lies above, within and below the region decides; the answer is how
    often each of the three has the largest mass (section 4.2.1 of the tutorial; Benavoli and others 2014, ICML).

    Parameters
    ----------
    differences : array-like of shape (n_tasks,)
        Mean difference of two learners on each task, without NaN.
    rope : float
        Half the width of the region of practical equivalence.
    prior : float
        Weight of the pseudo-task, that of a task being 1.
    n_samples : int
        Draws; the standard error of a probability of 0.5 is 0.002 with 50000.
    seed : int
        Of the draws, so that the answer is the same each time.

    Returns
    -------
    Posterior
        NaN below two tasks.

    Examples
    --------
    >>> [round(p, 2) for p in signed_rank([0.05, 0.03, 0.04, 0.02, 0.06, 0.03, 0.04, 0.05], rope=0.01)]
    [1.0, 0.0, 0.0]
    """
    known = np.asarray(differences, dtype=float)
    if len(known) < 2:
        return Posterior(math.nan, math.nan, math.nan)
    points = np.concatenate([[0.0], known])
    sums = points[:, None] + points
    # on the border half, so that exchanging the learners exchanges the answer; without a region nothing lies within it
    above = (sums > 2 * rope) + 0.5 * (sums == 2 * rope)
    below = (sums < -2 * rope) + 0.5 * (sums == -2 * rope)
    rng = np.random.default_rng(seed)
    counts = np.zeros(3)
    for start in range(0, n_samples, _SAMPLES_AT_A_TIME):
        weights = rng.dirichlet([prior, *np.ones(len(known))], min(_SAMPLES_AT_A_TIME, n_samples - start))
        up = ((weights @ above) * weights).sum(axis=1)
        down = ((weights @ below) * weights).sum(axis=1)
        counts += _winners(np.stack([up, 1 - up - down, down], axis=1), rope)
    better, equal, worse = counts / n_samples
    return Posterior(float(better), float(equal), float(worse))


def _winners(masses: np.ndarray, rope: float) -> np.ndarray:
    if rope == 0:
        masses[:, 1] = 0.0
    best = masses >= masses.max(axis=1, keepdims=True) - 1e-12
    return (best / best.sum(axis=1, keepdims=True)).sum(axis=0)  # equal masses share the draw
