"""Two results into one: each cell once, and nothing that contradicts itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from torchstrata.errors import ConfigError

_TIMES = ("fit_seconds", "predict_seconds")  # no two runs take the same time
_OPEN = {"missing", "damaged", "interrupted"}  # statuses of cells that were not carried out


def combine(
    tables: Mapping[str, pd.DataFrame],
    other_tables: Mapping[str, pd.DataFrame],
    facts: Mapping[str, Any],
    other_facts: Mapping[str, Any],
    *,
    grid: Sequence[str],
) -> dict[str, Any]:
    """Merge two results.

    Parameters
    ----------
    tables, other_tables : mapping
        scores, history, predictions, errors and splits of each.
    facts, other_facts : mapping
        tasks, learners and info of each.
    grid : sequence of str
        Grid columns of both.

    Returns
    -------
    dict
        The arguments of :class:`BenchmarkResult`.

    Raises
    ------
    ConfigError
        If the two contradict each other, or test other rows in a fold.
    """
    tasks = combine_facts(facts["tasks"], other_facts["tasks"], what="task")
    learners = combine_facts(facts["learners"], other_facts["learners"], what="learner")
    splits = combine_splits(tables["splits"], other_tables["splits"])
    _check_rows(tables["predictions"], other_tables["predictions"])
    cells = [{name: table for name, table in each.items() if name != "splits"} for each in (tables, other_tables)]
    info = combine_info(facts["info"], other_facts["info"])
    return {
        **combine_cells(*cells, grid=grid), "splits": splits, "tasks": tasks, "learners": learners, "info": info,
    }  # fmt: skip


def combine_cells(
    first: Mapping[str, pd.DataFrame], second: Mapping[str, pd.DataFrame], *, grid: Sequence[str]
) -> dict[str, pd.DataFrame]:
    """Append the tables of one result to those of another.

    Parameters
    ----------
    first, second : mapping
        scores, history, predictions and errors.
    grid : sequence of str
        Grid columns of both.

    Returns
    -------
    dict
        The same tables. A cell that is in both, with equal scores, is taken from the first; times may differ. A cell
        that one of them did not carry out is taken from the other.

    Raises
    ------
    ConfigError
        If a cell is in both with different scores.
    """
    keys = ["task", "learner", "fold", *grid]
    first = _carried_out(first, second, keys)
    second = _carried_out(second, first, keys)
    ours, theirs = _cells(first["scores"], keys), _cells(second["scores"], keys)
    twice = ours.keys() & theirs.keys()
    for cell in sorted(twice, key=str):
        if not _equal(ours[cell], theirs[cell]):
            named = ", ".join(f"{k}={v!r}" for k, v in zip(keys, cell, strict=True) if v is not None)
            raise ConfigError(
                f"Both results have the cell {named}, with different scores. "
                "Rename the learner in one of them, or keep one of the two."
            )
    return {name: _append(first[name], _without(second[name], twice, keys)) for name in first}


def _carried_out(
    tables: Mapping[str, pd.DataFrame], others: Mapping[str, pd.DataFrame], keys: Sequence[str]
) -> Mapping[str, pd.DataFrame]:
    """Leave out cells that were not carried out, where the other result has them."""
    errors = tables["errors"]
    not_done = set(_keys(errors[errors["status"].isin(_OPEN)], keys))
    both = not_done & set(_keys(others["scores"], keys)) if not_done else not_done
    return {name: _without(table, both, keys) for name, table in tables.items()} if both else tables


def _key(row: Sequence[Any]) -> tuple:
    return tuple(None if value is None or value is pd.NA or value != value else value for value in row)


def _keys(table: pd.DataFrame, keys: Sequence[str]) -> list[tuple]:
    given = table.reindex(columns=list(keys))  # a grid column of the other result only: not set here
    return [_key(row) for row in given.itertuples(index=False, name=None)]


def _cells(scores: pd.DataFrame, keys: Sequence[str]) -> dict[tuple, dict[str, float]]:
    cells: dict[tuple, dict[str, float]] = {}
    for cell, measure, value in zip(_keys(scores, keys), scores["measure"], scores["value"], strict=True):
        cells.setdefault(cell, {})[measure] = value
    return cells


def _equal(a: dict[str, float], b: dict[str, float]) -> bool:
    same = {m for m in a if m in _TIMES or a[m] == b.get(m) or (a[m] != a[m] and m in b and b[m] != b[m])}
    return a.keys() == b.keys() == same


def _without(table: pd.DataFrame, twice: set[tuple], keys: Sequence[str]) -> pd.DataFrame:
    return table[[cell not in twice for cell in _keys(table, keys)]] if len(table) and twice else table


def _append(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    """Concatenate; an empty table takes no part, because its columns would change the dtypes of the other."""
    filled = [table for table in (first, second) if len(table)]
    return pd.concat(filled, ignore_index=True) if filled else first


def combine_splits(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    """Merge two tables of splits.

    Parameters
    ----------
    first, second : DataFrame
        task, fold, n_train, n_test.

    Returns
    -------
    DataFrame
        Each split once.

    Raises
    ------
    ConfigError
        If a fold of a task has other sizes in the two.
    """
    both = _append(first, second).drop_duplicates(["task", "fold", "n_train", "n_test"]).reset_index(drop=True)
    clash = both[both.duplicated(["task", "fold"])]
    if len(clash):
        row = clash.iloc[0]
        raise ConfigError(
            f"Fold {row['fold']} of task {row['task']!r} has other sizes in the two results: their learners were not "
            "compared on the same splits. Use the same cv and seed, or rename the task in one of them."
        )
    return both


def _check_rows(first: pd.DataFrame, second: pd.DataFrame) -> None:
    """Refuse folds of equal sizes with other rows: their scores would be compared as if they were pairs."""
    ours, theirs = _tested(first), _tested(second)
    for split, rows in ours.items():
        if split in theirs and not rows.equals(theirs[split]):
            raise ConfigError(
                f"Fold {split[1]} of task {split[0]!r} tests other rows in the two results: their learners were not "
                "compared on the same splits. Use the same cv and seed, or rename the task in one of them."
            )


def _tested(predictions: pd.DataFrame) -> dict[tuple, pd.Index]:
    """Return the test rows of each split, as the predictions tell them."""
    if not {"task", "fold", "row"} <= set(predictions):
        return {}
    splits = predictions[["task", "fold", "row"]].drop_duplicates().groupby(["task", "fold"], sort=False)["row"]
    return {split: pd.Index(rows.astype(str)).sort_values() for split, rows in splits}


def combine_facts(first: Mapping[str, Any], second: Mapping[str, Any], *, what: str) -> dict[str, Any]:
    """Merge what is known about tasks or learners.

    Parameters
    ----------
    first, second : mapping
        Name to facts.
    what : str
        ``"task"`` or ``"learner"``, for the message.

    Returns
    -------
    dict
        Of both.

    Raises
    ------
    ConfigError
        If one name stands for two things.
    """
    for name in first.keys() & second.keys():
        if first[name] != second[name]:
            raise ConfigError(
                f"The {what} {name!r} is not the same in the two results: {first[name]!r} and {second[name]!r}. "
                "Rename it in one of them."
            )
    return {**first, **second}


def combine_info(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Merge two records of how a result came about.

    Parameters
    ----------
    first, second : mapping
        Each from one run, or combined already.

    Returns
    -------
    dict
        The record itself where they are equal; else the first one, and all of them in ``combined``.
    """
    runs: list[Any] = []
    for info in (first, second):
        runs += [one for one in info.get("combined", [dict(info)]) if one not in runs]
    return dict(runs[0]) if len(runs) == 1 else {**runs[0], "combined": runs}
