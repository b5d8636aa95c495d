"""What a result says, in sentences that claim no more than it shows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from torchstrata.experiment import show
from torchstrata.experiment.result import BenchmarkResult
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
    settings = len(scores.drop_duplicates(["learner", *result.grid_columns]))
    what = show.count(len(scores["learner"].unique()), "learner")
    what += f" in {settings} settings" if settings > len(scores["learner"].unique()) else ""
    folds = scores.groupby("task")["fold"].nunique().unique()
    tasks = write_list(scores["task"].unique())
    over = f"{write_list(sorted(folds))} {'fold' if max(folds) == 1 else 'folds'}"
    sentences = [f"{what} on {tasks}, compared by {measure} over {over}."]
    sentences += [_verdict(result, str(task), measure) for task in scores["task"].unique()]
    failed = show.n_failed(result)
    if failed:
        sentences.append(f"{show.count(failed, 'cell')} failed; means are over the other folds, and say so.")
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
    said = f"On {task}, “{best['label']}” had the {word} mean {measure}: {value}."
    if not len(tests):
        return said
    if not np.isfinite(tests["low"]).any():
        return f"{said} One fold cannot say how sure that is."
    return f"{said} {_certainty(tests.assign(label=labels(result, tests)))}"


def _certainty(tests: pd.DataFrame) -> str:
    open_ = tests[~((tests["low"] > 0) | (tests["high"] < 0))]
    decided = tests.drop(open_.index)
    weak = decided[~(decided["p_holm"] < 1 - _LEVEL)]
    sure = decided.drop(weak.index)
    parts = []
    if len(open_):
        these = "the others" if len(open_) == len(tests) > 1 else _names(open_)
        parts.append(f"The interval of its difference to {these} includes 0: these folds do not tell them apart.")
    if len(weak):
        number = show.count(len(tests), "comparison")
        parts.append(f"Its lead over {_names(weak)} does not hold once {number} are allowed for.")
    if len(sure):
        these = "every other learner" if len(sure) == len(tests) > 1 else _names(sure)
        parts.append(f"It was better than {these} (p < {1 - _LEVEL:.2g} after Holm's correction).")
    return " ".join(parts)


def _names(tests: pd.DataFrame) -> str:
    return write_list(f"“{label}”" for label in tests["label"])  # in quotes: a name may have a comma in it


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
