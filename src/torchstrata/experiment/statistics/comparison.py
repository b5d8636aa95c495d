"""Learners on many tasks: average ranks, Friedman and Nemenyi, signed ranks, wins.

Tests over tasks take one number a task and learner. Folds of one task are no further evidence about how tasks differ,
so :func:`task_means` averages them before anything is tested. Sources: Demšar (2006), Statistical comparisons of
classifiers over multiple data sets, JMLR 7, 1-30; García and Herrera (2008), JMLR 9, 2677-2694.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from torchstrata.errors import ConfigError, DataError, did_you_mean
from torchstrata.plots.measures import holm
from torchstrata.plots.tables import with_label

INCOMPLETE = ("raise", "learners", "tasks")


class Friedman(NamedTuple):
    """The test of "all learners rank alike".

    Attributes
    ----------
    chi2 : float
        Friedman's statistic, corrected for ties.
    statistic : float
        That of Iman and Davenport: ``(n - 1) * chi2 / (n * (k - 1) - chi2)`` for n tasks and k learners, compared with
        the F distribution with ``k - 1`` and ``(k - 1) * (n - 1)`` degrees of freedom. Friedman's own is too
        conservative.
    p_value : float
        Of ``statistic``.
    n_tasks, n_learners : int
        How many.
    """

    chi2: float
    statistic: float
    p_value: float
    n_tasks: int
    n_learners: int


def task_means(scores: pd.DataFrame, *, grid: Sequence[str] = (), incomplete: str = "raise") -> pd.DataFrame:
    """Average the folds of each task: the table that tests over tasks take.

    Parameters
    ----------
    scores : DataFrame
        Long scores of one measure: task, learner, fold, grid columns, value.
    grid : sequence of str
        Grid columns; each variant is a learner of its own.
    incomplete : {"raise", "learners", "tasks"}
        What to do about a learner that misses folds of a task: refuse, leave out such learners, or such tasks.

    Returns
    -------
    DataFrame of shape (n_tasks, n_learners)
        Index task, columns the learners' labels. ``attrs["left_out"]`` names what was left out, and
        ``attrs["filled"]`` by label the tasks where a fallback stood in for it.

    Raises
    ------
    DataError
        If folds are missing and ``incomplete`` is "raise", or nothing is left.
    ConfigError
        If ``incomplete`` is none of the three.
    """
    if incomplete not in INCOMPLETE:
        raise ConfigError(f"Unknown incomplete={incomplete!r}. {did_you_mean(incomplete, INCOMPLETE)}")
    labelled = with_label(scores, grid=list(grid))
    cells = labelled.groupby(["task", "label"], sort=False)["value"]
    known = cells.count().unstack().reindex(labelled["task"].unique())[list(labelled["label"].unique())].fillna(0)
    folds = labelled.groupby("task")["fold"].nunique().reindex(known.index)
    partial = known.lt(folds, axis="index")
    if incomplete == "raise" and partial.to_numpy().any():
        raise DataError(_missing(known, folds, partial))
    wide = cells.mean().unstack().reindex(index=known.index, columns=known.columns)
    dropped = partial.any(axis="index") if incomplete == "learners" else partial.any(axis="columns")
    out = wide.drop(list(dropped[dropped].index), axis="columns" if incomplete == "learners" else "index")
    if not out.size:
        raise DataError(f"incomplete={incomplete!r} leaves nothing: folds are missing everywhere.")
    out.attrs["left_out"] = [str(name) for name in dropped[dropped].index]
    stood_in = labelled[labelled["filled"]] if "filled" in labelled else labelled.iloc[:0]
    out.attrs["filled"] = {str(label): sorted(set(rows["task"]) & set(out.index), key=str)
                           for label, rows in stood_in.groupby("label")}  # fmt: skip
    return out.rename_axis(index="task", columns="learner")


def _missing(known: pd.DataFrame, folds: pd.Series, partial: pd.DataFrame) -> str:
    task, label = next((t, c) for t in partial.index for c in partial.columns if partial.loc[t, c])
    return (
        f"{label!r} has {int(known.loc[task, label])} of {int(folds[task])} folds on task {task!r} "
        f"({int(partial.to_numpy().sum())} of {partial.size} pairs of task and learner are incomplete): a mean over "
        "some folds is no fair score. Run the missing cells, or leave out incomplete='learners' or 'tasks'."
    )


def rank_tasks(means: pd.DataFrame, *, greater: bool = True) -> pd.DataFrame:
    """Rank the learners within each task.

    Parameters
    ----------
    means : DataFrame of shape (n_tasks, n_learners)
        From :func:`task_means`, without NaN.
    greater : bool
        Whether larger is better.

    Returns
    -------
    DataFrame
        The same shape; 1 for the best, equal values share the mean of their ranks.
    """
    rounded = means.map(lambda value: float(f"{value:.12g}"))  # sums in another order must not break a tie
    return rounded.rank(axis="columns", ascending=not greater)


def friedman(means: pd.DataFrame, *, greater: bool = True) -> Friedman:
    """Test whether all learners rank alike over tasks.

    Parameters
    ----------
    means : DataFrame of shape (n_tasks, n_learners)
        From :func:`task_means`.
    greater : bool
        Whether larger is better.

    Returns
    -------
    Friedman
        Statistics and p-value.

    Raises
    ------
    DataError
        With fewer than two tasks or learners.
    """
    n, k = _need_two(means)
    ranks = rank_tasks(means, greater=greater)
    tied = sum(float((count**3 - count).sum()) for _, row in ranks.iterrows() for count in [row.value_counts()])
    spare = 1 - tied / (n * k * (k**2 - 1))
    if spare <= 0:
        return Friedman(0.0, 0.0, 1.0, n, k)
    chi2 = 12 * n / (k * (k + 1)) * float(((ranks.mean() - (k + 1) / 2) ** 2).sum()) / spare
    rest = n * (k - 1) - chi2
    statistic = (n - 1) * chi2 / rest if rest > 1e-9 else math.inf
    return Friedman(chi2, statistic, float(stats.f.sf(statistic, k - 1, (k - 1) * (n - 1))), n, k)


def _need_two(means: pd.DataFrame) -> tuple[int, int]:
    n, k = means.shape
    if n < 2:
        raise DataError(
            f"Ranks over tasks need at least 2 tasks, got {n}: folds of one task say nothing about how tasks differ. "
            "For one task use result.compare(measure) or result.compare(measure, method='bayes_t')."
        )
    if k < 2:
        raise DataError(f"A comparison needs at least 2 learners, got {k}.")
    return n, k


def critical_difference(means: pd.DataFrame, *, greater: bool = True, level: float = 0.95) -> pd.DataFrame:
    """Average ranks and Nemenyi's critical difference: the numbers of a critical-difference plot.

    Two learners differ if their average ranks do by at least ``cd = q * sqrt(k * (k + 1) / (6 * n))`` for k learners on
    n tasks, q being the quantile of the studentized range over ``sqrt(2)`` (Demšar 2006, section 3.2.2). If Friedman's
    test does not reject that all learners rank alike, no pair is told apart and all learners are one group.

    Parameters
    ----------
    means : DataFrame of shape (n_tasks, n_learners)
        From :func:`task_means`; any table with a row a task and a column a learner will do.
    greater : bool
        Whether larger is better.
    level : float
        Level of confidence.

    Returns
    -------
    DataFrame
        One row a learner, the best first. ``learner``; ``rank``, the average, 1 being the best possible;
        ``critical_difference`` and ``n_tasks``, the same in all rows; ``groups``, a tuple of the numbers of the groups
        (the bars of the plot) that the learner is in, empty for one that differs from all others. ``attrs`` holds
        ``cd``, ``level``, ``n_tasks``, ``statistic`` and ``p_value`` (Friedman, Iman and Davenport), and ``groups``: a
        list of tuples of learners, from the best.

    Raises
    ------
    DataError
        With fewer than two tasks or learners.
    ConfigError
        If the level is not between 0 and 1.

    Examples
    --------
    >>> table = pd.DataFrame({"a": [0.9, 0.8, 0.7, 0.9], "b": [0.8, 0.7, 0.6, 0.8], "c": [0.7, 0.6, 0.5, 0.7]})
    >>> found = critical_difference(table)
    >>> found["rank"].tolist(), round(found.attrs["cd"], 2), found.attrs["groups"]
    ([1.0, 2.0, 3.0], 1.66, [('a', 'b'), ('b', 'c')])
    """
    if not 0 < level < 1:
        raise ConfigError(f"level must lie between 0 and 1, as 0.95 does; got {level!r}.")
    test = friedman(means, greater=greater)
    n, k = test.n_tasks, test.n_learners
    cd = float(stats.studentized_range.ppf(level, k, np.inf)) / math.sqrt(2) * math.sqrt(k * (k + 1) / (6 * n))
    ranks = rank_tasks(means, greater=greater).mean().sort_values(kind="stable")
    alike = not test.p_value < 1 - level
    groups = [tuple(ranks.index)] if alike else _groups(ranks, cd)
    table = pd.DataFrame({"learner": ranks.index, "rank": ranks.to_numpy(), "critical_difference": cd, "n_tasks": n})
    table["groups"] = [tuple(i for i, group in enumerate(groups) if name in group) for name in ranks.index]
    about = {"cd": cd, "level": level, "n_tasks": n, "statistic": test.statistic, "p_value": test.p_value}
    table.attrs.update(about, groups=groups)
    return table


def _groups(ranks: pd.Series, cd: float) -> list[tuple[str, ...]]:
    """Find the longest runs of learners that do not differ."""
    values, names = ranks.to_numpy(), list(ranks.index)
    ends = [int(np.searchsorted(values - first, cd - 1e-12)) for first in values]  # a difference of cd is one
    runs = [(i, end) for i, end in enumerate(ends) if end - i > 1 and (i == 0 or end > ends[i - 1])]
    return [tuple(names[i:end]) for i, end in runs]


def nemenyi(means: pd.DataFrame, *, greater: bool = True) -> pd.DataFrame:
    """p-values of all pairs of learners by Nemenyi's test, corrected for the number of pairs.

    Parameters
    ----------
    means : DataFrame of shape (n_tasks, n_learners)
        From :func:`task_means`.
    greater : bool
        Whether larger is better.

    Returns
    -------
    DataFrame of shape (n_learners, n_learners)
        Symmetric, 1 on the diagonal.
    """
    n, k = _need_two(means)
    ranks = rank_tasks(means, greater=greater).mean()
    values = ranks.to_numpy()
    apart = np.abs(values[:, None] - values) / math.sqrt(k * (k + 1) / (6 * n)) * math.sqrt(2)
    p = np.clip(stats.studentized_range.sf(apart, k, np.inf), 0.0, 1.0)
    np.fill_diagonal(p, 1.0)
    return pd.DataFrame(p, index=ranks.index, columns=ranks.index)


def best_by_rank(means: pd.DataFrame, *, greater: bool = True) -> str:
    """Name the learner of the best average rank; of equal ranks the first.

    Parameters
    ----------
    means : DataFrame of shape (n_tasks, n_learners)
        From :func:`task_means`.
    greater : bool
        Whether larger is better.

    Returns
    -------
    str
        Its label.
    """
    return str(rank_tasks(means, greater=greater).mean().idxmin())


def rank_differences(means: pd.DataFrame, against: str, *, greater: bool = True, level: float = 0.95) -> pd.DataFrame:
    """Compare each learner's average rank with that of one of them, by Nemenyi's test.

    Parameters
    ----------
    means : DataFrame of shape (n_tasks, n_learners)
        From :func:`task_means`.
    against : str
        A learner's label.
    greater : bool
        Whether larger is better.
    level : float
        Level of confidence of the critical difference.

    Returns
    -------
    DataFrame
        label, rank, difference (of average ranks; above 0: ranks behind), critical_difference, p_value (corrected for
        all pairs), p_friedman (of all learners together; no pair counts where it is large), n (tasks).
    """
    found = critical_difference(means, greater=greater, level=level).set_index("learner")
    ranks = found["rank"].to_numpy(dtype=float)
    p = nemenyi(means, greater=greater)[against]
    out = pd.DataFrame({"label": found.index, "rank": ranks, "difference": ranks - ranks[found.index == against]})
    out["critical_difference"] = found["critical_difference"].to_numpy()
    out["p_value"] = p.loc[found.index].to_numpy()
    out = out.assign(p_friedman=friedman(means, greater=greater).p_value, n=len(means))
    return out[out["label"] != against].reset_index(drop=True)


def signed_ranks(means: pd.DataFrame, against: str, *, greater: bool = True) -> pd.DataFrame:
    """Compare each learner with one of them over tasks, by Wilcoxon's signed-rank test.

    Ranks of differences of zero are split evenly between the signs (Demšar 2006, section 3.1.3).

    Parameters
    ----------
    means : DataFrame of shape (n_tasks, n_learners)
        From :func:`task_means`.
    against : str
        A learner's label.
    greater : bool
        Whether larger is better.

    Returns
    -------
    DataFrame
        label, difference (median over tasks, learner minus the other), wins, ties, losses, p_value, p_holm (corrected
        for all rows), n (tasks).
    """
    n, _ = _need_two(means)
    rows = []
    for label in means.columns.drop(against):
        values = _differences(means, label, against)
        won, tied, lost = count_wins(values if greater else -values)
        rows.append((label, float(np.median(values)), won, tied, lost, _wilcoxon(values), n))
    out = pd.DataFrame(rows, columns=["label", "difference", "wins", "ties", "losses", "p_value", "n"])
    out.insert(6, "p_holm", holm(out["p_value"]))
    return out.sort_values("difference", ascending=not greater, kind="stable").reset_index(drop=True)


def _differences(means: pd.DataFrame, label: str, against: str) -> np.ndarray:
    values = (means[label] - means[against]).to_numpy(dtype=float)
    # what sums in another order leave is no difference
    return np.where(np.isclose(means[label], means[against], rtol=1e-12, atol=0), 0.0, values)


def _wilcoxon(values: np.ndarray) -> float:
    if not values.any():
        return 1.0
    sizes = np.abs(np.array([float(f"{v:.12g}") for v in values]))  # 0.8 - 0.7 and 0.9 - 0.8 are one size
    exact = len(np.unique(sizes)) == len(sizes) and sizes.all() and len(sizes) <= 50
    found = stats.wilcoxon(np.sign(values) * sizes, zero_method="zsplit", method="exact" if exact else "asymptotic")
    return float(found.pvalue)


def count_wins(differences: np.ndarray, *, rope: float = 0.0) -> tuple[int, int, int]:
    """Count differences above, within and below a region of no importance.

    Parameters
    ----------
    differences : ndarray
        One a task.
    rope : float
        Differences of at most so much are ties.

    Returns
    -------
    tuple of int
        Wins, ties, losses.
    """
    won, lost = int((differences > rope).sum()), int((differences < -rope).sum())
    return won, len(differences) - won - lost, lost


def wins(means: pd.DataFrame, *, greater: bool = True, rope: float = 0.0) -> pd.DataFrame:
    """Count on how many tasks each learner beats each other.

    Parameters
    ----------
    means : DataFrame of shape (n_tasks, n_learners)
        From :func:`task_means`.
    greater : bool
        Whether larger is better.
    rope : float
        Differences of at most so much are ties.

    Returns
    -------
    DataFrame
        One row an ordered pair: learner, against, wins, ties, losses, p_sign (two-sided sign test, ties split evenly).
        ``table.pivot(index="learner", columns="against", values="wins")`` is the matrix.
    """
    sign = 1 if greater else -1
    rows = []
    for label in means.columns:
        for other in means.columns.drop(label):
            won, tied, lost = count_wins(sign * _differences(means, label, other), rope=rope)
            n = won + lost + 2 * (tied // 2)  # an odd tie is left out
            p = stats.binomtest(won + tied // 2, n).pvalue if n else 1.0
            rows.append((label, other, won, tied, lost, float(p)))
    return pd.DataFrame(rows, columns=["learner", "against", "wins", "ties", "losses", "p_sign"])
