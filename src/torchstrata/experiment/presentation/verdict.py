"""What a result says, in sentences that claim no more than it shows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from torchstrata.errors import ConfigError, DataError
from torchstrata.experiment.presentation import leaderboards
from torchstrata.experiment.result import BenchmarkResult
from torchstrata.experiment.statistics import soak
from torchstrata.plots.measures import decimals, greater_is_better, write_number
from torchstrata.plots.tables import is_missing, with_label

_LEVEL = 0.95


def write_list(names: Iterable[object], *, most: int = 6) -> str:
    """Write names as people do.

    Parameters
    ----------
    names : iterable
        At least one.
    most : int
        At most so many are written; of more, the number of the others.

    Returns
    -------
    str
        Such as ``"a, b and c"``.

    Examples
    --------
    >>> write_list("abc"), write_list(range(9), most=3)
    ('a, b and c', '0, 1 and 7 others')
    """
    every = [str(n) for n in names]
    if len(every) > most:
        every = [*every[: most - 1], f"{len(every) - most + 1} others"]
    return every[0] if len(every) == 1 else ", ".join(every[:-1]) + " and " + every[-1]


def headline(result: BenchmarkResult) -> list[str]:
    """Say what was compared, which learner was best, and how sure that is.

    Parameters
    ----------
    result : BenchmarkResult
        A result with scores.

    Returns
    -------
    list of str
        One sentence about all, one or more about each task, one about failures.
    """
    scores, measure = result.scores, result.measures[0]
    grid = [name for name in result.grid_columns if name not in soak.CONDITIONS]
    settings = len(scores.drop_duplicates(["learner", *grid]))
    what = leaderboards.count(len(scores["learner"].unique()), "learner")
    what += f" in {settings} settings" if settings > len(scores["learner"].unique()) else ""
    folds = sorted(scores.groupby("task")["fold"].nunique().unique())
    unit = "split" if soak.conditions(scores) else "fold"
    tasks = write_list(scores["task"].unique())
    over = f"{write_list(folds)} {unit if max(folds) == 1 else unit + 's'}"
    sentences = [f"{what} on {tasks}, compared by {measure} over {over}."]
    if result.splits.get("in_sample", pd.Series(dtype=object)).eq(True).any():
        sentences.append("Rows that trained were tested: the scores say how well learners remember, no more.")
    if soak.conditions(scores):
        sentences += _same_other(result, measure)
    else:
        sentences += [_verdict(result, str(task), measure) for task in scores["task"].unique()]
        sentences += _over_tasks(result, measure)
    failed = leaderboards.n_failed(result)
    if failed:
        filled = int((result.statuses["fallback"] != "").sum())
        stand_in = f"a fallback's scores stand in for {filled} of them; " if filled else ""
        means = "means say so." if filled == failed else "means are over the other folds, and say so."
        sentences.append(f"{leaderboards.count(failed, 'cell')} failed; {stand_in}{means}")
    return sentences


def _verdict(result: BenchmarkResult, task: str, measure: str) -> str:
    means = with_label(result.aggregate(measure), grid=result.grid_columns)
    means = means[means["task"] == task]
    if means["mean"].isna().all():
        return f"On {task} every cell failed."
    tests = result.compare(measure)
    tests = tests[tests["task"] == task]
    top = means[means["n"] == means["n"].max()]
    best = top.loc[top["mean"].idxmax() if greater_is_better(measure) else top["mean"].idxmin()]
    word = "highest" if greater_is_better(measure) else "lowest"
    value = write_interval(best["mean"], best["low"], best["high"], decimals(means["mean"]))
    value += f" ({best['note']})" if best["note"] else ""
    said = f"On {task}, “{best['label']}” had the {word} mean {measure}: {value}."
    if not len(tests):
        return said
    if best["folds"] < 2:
        return f"{said} One fold cannot say how sure that is."
    return f"{said} {_certainty(tests.assign(label=labels(result, tests)))}"


def _over_tasks(result: BenchmarkResult, measure: str) -> list[str]:
    """Compare learners over many tasks, where there are some that were run on all folds of all."""
    try:
        ranks = result.ranks(measure, incomplete="learners")
    except DataError:
        return []
    n, best = len(result.scores["task"].unique()), f"“{ranks['learner'][0]}”"
    left = len(labels_of(result)) - len(ranks)
    notes = [f"{leaderboards.count(left, 'learner')} left out that missed folds"] if left else []
    filled: list[str] = ranks.loc[ranks["filled"] > 0, "learner"].tolist() if "filled" in ranks else []
    notes += [f"with scores of a fallback for {write_list(f'“{name}”' for name in filled)}"] if filled else []
    without = f" ({'; '.join(notes)})" if notes else ""
    if len(ranks) == 2:
        test = result.compare(measure, method="wilcoxon", incomplete="learners").iloc[0]
        counts = f"better on {test['losses']}, equal on {test['ties']}, worse on {test['wins']}"
        p = write_p(test["p_value"])
        return [f"Over {n} tasks{without}, {best} was {counts} (Wilcoxon's signed ranks: {p})."]
    told = f"Over {n} tasks{without}, {best} had the best average rank, {ranks['rank'][0]:.2f} of {len(ranks)}"
    p, cd = write_p(ranks.attrs["p_value"]), ranks.attrs["cd"]
    if not ranks.attrs["p_value"] < 1 - _LEVEL:
        return [f"{told}; Friedman's test does not tell the ranks from chance ({p})."]
    behind = ranks["rank"] - ranks["rank"][0] >= cd
    if not behind.any():
        return [
            f"{told}; the ranks differ (Friedman's test, {p}), but none is a critical difference of {cd:.2f} behind."
        ]
    names = write_list(f"“{name}”" for name in ranks.loc[behind, "learner"])
    return [f"{told}, and ranks by more than the critical difference of {cd:.2f} before {names} (Nemenyi's test)."]


def _same_other(result: BenchmarkResult, measure: str) -> list[str]:
    """Say for each learner whether subsets help each other."""
    try:
        found = result.same_other(measure)
    except ConfigError:
        return []
    found = found[found["size"] == "full"].assign(label=lambda rows: _plain_labels(result, rows))
    sign = 1 if greater_is_better(measure) else -1
    sentences = []
    for (task, label, which), rows in found.groupby(["task", "label", "trained_on"], sort=False):
        sure = rows["p_holm"] < 1 - _LEVEL
        up, down = (int((sure & (way * sign * rows["difference"] > 0)).sum()) for way in (1, -1))
        what = "all subsets" if which == "all" else "the other subsets"
        changes = [f"{word} on {n}" for word, n in (("better", up), ("worse", down)) if n]
        found_out = f"was {' and '.join(changes)}" if changes else "was told apart on none"
        sentences.append(
            f"On {task}, “{label}” trained on {what} instead of the tested one {found_out} of "
            f"{leaderboards.count(len(rows), 'subset')} (corrected t-test, p < 0.05 after Holm's correction)."
        )
    return sentences


def _plain_labels(result: BenchmarkResult, rows: pd.DataFrame) -> pd.Series:
    settings = [name for name in result.grid_columns if name not in soak.CONDITIONS]
    return with_label(rows, grid=settings)["label"]


def labels_of(result: BenchmarkResult) -> list[str]:
    """Name every learner in every of its settings.

    Parameters
    ----------
    result : BenchmarkResult
        The result.

    Returns
    -------
    list of str
        In the order of the scores.
    """
    return with_label(result.scores, grid=result.grid_columns)["label"].drop_duplicates().tolist()


def write_p(p: float) -> str:
    """Write a p-value.

    Parameters
    ----------
    p : float
        From 0 to 1.

    Returns
    -------
    str
        Such as ``"p = 0.012"`` or ``"p < 0.001"``.
    """
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"


def _certainty(tests: pd.DataFrame) -> str:
    alone, n_others = tests[tests["n"] < 2], len(tests)
    tests = tests.drop(alone.index)
    open_ = tests[~((tests["low"] > 0) | (tests["high"] < 0))]
    decided = tests.drop(open_.index)
    weak = decided[~(decided["p_holm"] < 1 - _LEVEL)]
    sure = decided.drop(weak.index)
    parts = []
    if len(open_):
        these = "the others" if len(open_) == n_others > 1 else _names(open_)
        parts.append(f"The interval of its difference to {these} includes 0: these folds do not tell them apart.")
    if len(weak):
        number = leaderboards.count(len(tests), "comparison")
        parts.append(f"Its lead over {_names(weak)} does not hold once {number} are allowed for.")
    if len(sure):
        these = "every other learner" if len(sure) == n_others > 1 else _names(sure)
        parts.append(f"It was better than {these} (p < {1 - _LEVEL:.2g} after Holm's correction).")
    if len(alone):
        parts.append(f"It shares less than two folds with {_names(alone)}, because cells failed: no comparison.")
    return " ".join(parts)


def _names(tests: pd.DataFrame) -> str:
    filled = tests["filled"] if "filled" in tests else [0] * len(tests)
    told = (f" (a fallback in {leaderboards.count(n, 'fold')})" if n else "" for n in filled)
    # in quotes: a name may have a comma in it
    return write_list(f"“{label}”{note}" for label, note in zip(tests["label"], told, strict=True))


def labels(result: BenchmarkResult, rows: pd.DataFrame) -> list[str]:
    """Name rows as the plots do; which settings vary is seen in all scores, not in these rows.

    Parameters
    ----------
    result : BenchmarkResult
        The result.
    rows : DataFrame
        Columns learner and the grid columns.

    Returns
    -------
    list of str
        One label a row.
    """
    keys = ["learner", *result.grid_columns]
    known = with_label(result.scores, grid=result.grid_columns).drop_duplicates("label")
    names = {_key(row): label for row, label in zip(known[keys].to_numpy(dtype=object), known["label"], strict=True)}
    return [names[_key(row)] for row in rows[keys].to_numpy(dtype=object)]


def _key(row: Iterable[Any]) -> tuple:
    return tuple(None if is_missing(value) else value for value in row)


def write_interval(mean: float, low: float, high: float, digits: int) -> str:
    """Write a mean with its interval.

    Parameters
    ----------
    mean, low, high : float
        The numbers; without finite bounds only the mean is written.
    digits : int
        Decimals.

    Returns
    -------
    str
        Such as ``"0.912 [0.880, 0.944]"``.
    """
    told = write_number(mean, digits=digits)
    if not np.isfinite([low, high]).all():
        return told
    return f"{told} [{write_number(low, digits=digits)}, {write_number(high, digits=digits)}]"
