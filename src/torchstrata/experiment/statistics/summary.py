"""From the scores of single folds to statements: means with intervals, and differences to the best learner."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from torchstrata.experiment.statistics.soak import conditions
from torchstrata.plots.measures import decimals, greater_is_better, holm, paired_test, spread, write_number
from torchstrata.plots.tables import best_label, summary, with_label

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
    pooled = scores.groupby(unit, dropna=False, sort=False)
    out = pooled["value"].agg(lambda values: values.mean(skipna=False)).reset_index()
    return out.assign(filled=pooled["filled"].any().to_numpy()) if "filled" in scores else out


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
    groups = [means[c] for c in ("task", "measure", *conditions(means)) if c in means]
    complete = (means["n"] == means["n"].groupby(groups).transform("max")) & means["mean"].notna()
    top = means["mean"].where(complete).groupby(groups).transform("max")
    scored = means["measure"].map(greater_is_better).astype(bool)
    equal = np.isclose(means["mean"], top, rtol=1e-12, atol=0)  # the order of the folds must not decide
    return scored & complete & equal


class Pairs(NamedTuple):
    """A test of the differences of two learners on the folds of a task.

    Attributes
    ----------
    columns : list of str
        What it finds.
    test : callable
        (differences without NaN, test rows per training row) -> the values of the columns.
    """

    columns: list[str]
    test: Callable[[np.ndarray, float], tuple]


def corrected_t(level: float) -> Pairs:
    """Return the corrected resampled t-test.

    Parameters
    ----------
    level : float
        Level of confidence.

    Returns
    -------
    Pairs
        Finds low, high, p_value.
    """

    def test(known: np.ndarray, ratio: float) -> tuple:
        mean, std = (known.mean(), known.std(ddof=1)) if len(known) > 1 else (np.nan, np.nan)
        half = spread(float(std), len(known), ratio, level)
        return float(mean - half), float(mean + half), paired_test(known, ratio=ratio)

    return Pairs(["low", "high", "p_value"], test)


def compare(
    scores: pd.DataFrame,
    *,
    grid: Sequence[str],
    ratio: Mapping[str, float],
    pairs: Pairs | None = None,
    against: str | None = None,
) -> pd.DataFrame:
    """Test each learner against the best one of its task, or one that is named; see :meth:`BenchmarkResult.compare`.

    Parameters
    ----------
    scores : DataFrame
        Long scores of one measure.
    grid : sequence of str
        Grid columns.
    ratio : mapping
        Task to test rows per training row.
    pairs : Pairs, optional
        The test; :func:`corrected_t` at 95 % by default.
    against : str, optional
        Label of the learner to compare with; by default the best of the task.

    Returns
    -------
    DataFrame
        task, learner, grid columns, best (or against), difference, what the test finds, p_holm where it finds a
        p_value, n, folds; and filled, if a fallback stood in anywhere: the folds where it did for one of the two.
    """
    pairs = corrected_t(0.95) if pairs is None else pairs
    labelled = with_label(scores, grid=grid)
    found = [
        _compare_task(rows, list(grid), ratio[str(task)], pairs, against)
        for task, rows in labelled.groupby("task", sort=False)
    ]
    corrected = ["p_holm"] if "p_value" in pairs.columns else []
    other = "best" if against is None else "against"
    columns = ["task", "learner", *grid, other, "difference", *pairs.columns, *corrected, "n", "folds"]
    columns += ["filled"] if "filled" in labelled else []
    filled = [table for table in found if len(table)]
    return pd.concat(filled, ignore_index=True)[columns] if filled else pd.DataFrame(columns=columns)


def _compare_task(rows: pd.DataFrame, grid: list[str], ratio: float, pairs: Pairs, against: str | None) -> pd.DataFrame:
    # pivot_table would drop the learners whose folds all failed
    wide = rows.pivot(index="fold", columns="label", values="value")
    greater = greater_is_better(str(rows["measure"].iloc[0]))
    other = best_label(wide, greater=greater) if against is None else against
    others = rows.drop_duplicates("label")
    if other not in wide:
        return others.iloc[:0]  # it was not run on this task
    others = others[others["label"] != other].reset_index(drop=True)
    tests = [_difference(wide[label] - wide[other], ratio, pairs) for label in others["label"]]
    numbers = pd.DataFrame(tests, columns=["difference", *pairs.columns, "n", "folds"])
    out = pd.concat([others[["task", "learner", *grid]], numbers], axis="columns")
    out["best" if against is None else "against"] = other
    if "p_value" in out:
        out["p_holm"] = holm(out["p_value"])
    if "filled" in rows:
        by = rows.pivot(index="fold", columns="label", values="filled")
        out["filled"] = [int((by[label] | by[other]).sum()) for label in others["label"]]
    return out.sort_values("difference", ascending=not greater, kind="stable")


def _difference(differences: pd.Series, ratio: float, pairs: Pairs) -> tuple:
    known = differences.dropna().to_numpy(dtype=float)
    mean = float(known.mean()) if len(known) else np.nan
    return mean, *pairs.test(known, ratio), len(known), len(differences)


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
    told = [pd.factorize(out[name])[0] for name in reversed(conditions(out))]
    return np.lexsort(((-value if greater else value).fillna(np.inf), *told, task))


def _texts(means: pd.DataFrame) -> pd.Series:
    """Write each mean with its interval; a column of one task and measure has the same number of decimals."""
    groups = [means[c] for c in ("task", "measure") if c in means]
    digits = means["mean"].groupby(groups).transform(decimals).astype(int)
    return pd.Series([_text(row, k) for row, k in zip(means.itertuples(), digits, strict=True)], index=means.index)


def _text(row: Any, digits: int) -> str:
    mean, low, high = (write_number(v, digits=digits) for v in (row.mean, row.low, row.high))
    interval = f" [{low}, {high}]" if np.isfinite([row.low, row.high]).all() and greater_is_better(row.measure) else ""
    return f"{mean}{interval}" + (f" ({row.note})" if row.note else "")
