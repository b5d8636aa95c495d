"""From the scores of single folds to statements: means with intervals, and differences to the best learner."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from torchstrata.plots.measures import decimals, greater_is_better, holm, paired_test, spread, write_number
from torchstrata.plots.tables import summary, with_label

_NUMBERS = ["mean", "std", "n", "folds", "low", "high", "note"]


def aggregate(
    scores: pd.DataFrame, *, keys: Sequence[str], ratio: Mapping[str, float], level: float = 0.95
) -> pd.DataFrame:
    """Mean and corrected interval of each group of folds; see :meth:`BenchmarkResult.aggregate`.

    Parameters
    ----------
    scores : DataFrame
        Long scores.
    keys : sequence of str
        Columns that make a group, beside the measure.
    ratio : mapping
        Task to test rows per training row.
    level : float
        Level of confidence.

    Returns
    -------
    DataFrame
        Keys, measure, mean, std, n, folds, low, high, note.
    """
    columns = [*(k for k in keys if k != "measure"), "measure"]
    means = summary(_one_a_fold(scores, columns), keys=columns, ratio=ratio, level=level)
    if "task" in columns:
        return means
    tasks = scores.groupby(columns, dropna=False, sort=False)["task"].nunique().to_numpy()
    if (tasks > 1).any():
        # folds of one task say nothing about how tasks differ
        means.loc[tasks > 1, ["low", "high"]] = np.nan
        told = pd.Series([f"{n} tasks: no interval" if n > 1 else "" for n in tasks], index=means.index)
        means["note"] = [", ".join(filter(None, pair)) for pair in zip(means["note"], told, strict=True)]
    return means


def _one_a_fold(scores: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """Average the cells of a group that share a fold: variants on the same rows are no independent folds."""
    unit = [*columns, *(c for c in ("task", "fold") if c not in columns)]
    if not scores.duplicated(unit).any():
        return scores
    pooled = scores.groupby(unit, dropna=False, sort=False)["value"]
    return pooled.agg(lambda values: values.mean(skipna=False)).reset_index()


def mark_best(means: pd.DataFrame) -> pd.Series:
    """Mark the best rows of each task and measure.

    Only rows with as many folds as any other take part: a mean without the folds that failed is the mean of other
    (perhaps easier) folds. Equal means are all marked. Costs have no best, because a short time is no merit by itself.

    Parameters
    ----------
    means : DataFrame
        What :func:`aggregate` returns.

    Returns
    -------
    Series of bool
        True for a best row.
    """
    groups = [means[c] for c in ("task", "measure") if c in means]
    complete = (means["n"] == means["n"].groupby(groups).transform("max")) & means["mean"].notna()
    top = means["mean"].where(complete).groupby(groups).transform("max")
    scored = means["measure"].map(greater_is_better).astype(bool)
    equal = np.isclose(means["mean"], top, rtol=1e-12, atol=0)  # the order of the folds must not decide
    return scored & complete & equal


def compare(
    scores: pd.DataFrame, *, grid: Sequence[str], ratio: Mapping[str, float], level: float = 0.95
) -> pd.DataFrame:
    """Test each learner against the best one of its task; see :meth:`BenchmarkResult.compare`.

    Parameters
    ----------
    scores : DataFrame
        Long scores of one measure.
    grid : sequence of str
        Grid columns.
    ratio : mapping
        Task to test rows per training row.
    level : float
        Level of confidence.

    Returns
    -------
    DataFrame
        task, learner, grid columns, best, difference, low, high, p_value, p_holm, n, folds.
    """
    labelled = with_label(scores, grid=grid)
    found = [
        _compare_task(rows, list(grid), ratio[str(task)], level) for task, rows in labelled.groupby("task", sort=False)
    ]
    numbers = ["best", "difference", "low", "high", "p_value", "p_holm", "n", "folds"]
    columns = ["task", "learner", *grid, *numbers]
    filled = [table for table in found if len(table)]
    return pd.concat(filled, ignore_index=True)[columns] if filled else pd.DataFrame(columns=columns)


def _compare_task(rows: pd.DataFrame, grid: list[str], ratio: float, level: float) -> pd.DataFrame:
    # pivot_table would drop the learners whose folds all failed
    wide = rows.pivot(index="fold", columns="label", values="value")
    best = _best_label(wide, greater_is_better(str(rows["measure"].iloc[0])))
    others = rows.drop_duplicates("label")
    others = others[others["label"] != best].reset_index(drop=True)
    tests = [_difference(wide[label] - wide[best], ratio, level) for label in others["label"]]
    numbers = pd.DataFrame(tests, columns=["difference", "low", "high", "p_value", "n", "folds"])
    out = pd.concat([others[["task", "learner", *grid]], numbers], axis="columns").assign(best=best)
    out["p_holm"] = holm(out["p_value"])
    ascending = not greater_is_better(str(rows["measure"].iloc[0]))
    return out.sort_values("difference", ascending=ascending, kind="stable")


def _best_label(wide: pd.DataFrame, greater: bool) -> str:
    complete = wide.loc[:, wide.notna().sum() == wide.notna().sum().max()]
    means = complete.mean().fillna(-np.inf if greater else np.inf)
    return str(means.idxmax() if greater else means.idxmin())


def _difference(differences: pd.Series, ratio: float, level: float) -> tuple:
    known = differences.dropna().to_numpy(dtype=float)
    n = len(known)
    mean = float(known.mean()) if n else np.nan
    half = spread(float(known.std(ddof=1)) if n > 1 else np.nan, n, ratio, level)
    return mean, mean - half, mean + half, paired_test(known, ratio=ratio), n, len(differences)


def leaderboard(means: pd.DataFrame, *, keys: Sequence[str]) -> pd.DataFrame:
    """Lay the aggregated table out with one row a learner and one column of text a measure.

    Parameters
    ----------
    means : DataFrame
        What :func:`aggregate` returns.
    keys : sequence of str
        Its columns that make a row.

    Returns
    -------
    DataFrame
        Keys, one text column a measure such as ``"0.912 [0.880, 0.944]"``, and ``best``, which names the measures in
        which no other learner of the task has a higher mean. The best learner by the first measure comes first.
    """
    keys = list(keys)
    means = means.assign(_best=mark_best(means), _text=_texts(means))
    number = means.groupby(keys, dropna=False, sort=False).ngroup()
    out = means.loc[~number.duplicated(), keys].reset_index(drop=True)
    measures = list(means["measure"].unique())
    for measure in measures:
        rows = means["measure"] == measure
        out[measure] = pd.Series(means.loc[rows, "_text"].to_numpy(), index=number[rows]).reindex(
            out.index, fill_value="–"
        )
    best = means[means["_best"]].groupby(number[means["_best"]])["measure"].agg(", ".join)
    out["best"] = best.reindex(out.index, fill_value="").astype(object)
    first = means[means["measure"] == measures[0]]
    value = pd.Series(first["mean"].to_numpy(), index=number[first.index]).reindex(out.index)
    return out.iloc[_order(out, value, greater_is_better(measures[0]))].reset_index(drop=True)


def _order(out: pd.DataFrame, value: pd.Series, greater: bool) -> np.ndarray:
    task = out["task"].map({t: i for i, t in enumerate(out["task"].unique())}) if "task" in out else np.zeros(len(out))
    return np.lexsort(((-value if greater else value).fillna(np.inf), task))


def _texts(means: pd.DataFrame) -> pd.Series:
    """Write each mean with its interval; a column of one task and measure has the same number of decimals."""
    groups = [means[c] for c in ("task", "measure") if c in means]
    digits = means["mean"].groupby(groups).transform(decimals).astype(int)
    return pd.Series([_text(row, k) for row, k in zip(means.itertuples(), digits, strict=True)], index=means.index)


def _text(row: Any, digits: int) -> str:
    mean, low, high = (write_number(v, digits=digits) for v in (row.mean, row.low, row.high))
    interval = f" [{low}, {high}]" if np.isfinite([row.low, row.high]).all() and greater_is_better(row.measure) else ""
    return f"{mean}{interval}" + (f" ({row.note})" if row.note else "")
