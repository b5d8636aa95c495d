"""The rows of every split of a task, fixed and checked before the first fit."""

from __future__ import annotations

import numbers
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from sklearn.model_selection import GroupKFold, KFold, StratifiedGroupKFold, StratifiedKFold, check_cv

from torchstrata.data.rows import positions
from torchstrata.data.task import Task
from torchstrata.errors import ConfigError, DataError
from torchstrata.experiment.splitting import PlannedSplit, classes_and_strata


def splits_of(task: Task, cv: Any) -> list[tuple[np.ndarray, np.ndarray]]:
    """Fix the rows of every split.

    Parameters
    ----------
    task : Task
        What is split.
    cv : int, splitter, or iterable of (train, test)
        As of :func:`planned_splits`.

    Returns
    -------
    list of (ndarray, ndarray)
        Training and test rows.

    Raises
    ------
    ConfigError, DataError
        As :func:`planned_splits`.
    """
    return [(split.train, split.test) for split in planned_splits(task, cv)]


def planned_splits(task: Task, cv: Any) -> list[PlannedSplit]:
    """Fix the rows of every split, with what the splitter says of it.

    Parameters
    ----------
    task : Task
        What is split.
    cv : int, scikit-learn splitter, one of ts.splitters, or iterable of (train, test)
        A number makes folds after the task: stratified by class and stratum for classification, by group where the task
        has groups, shuffled with a fixed seed.

    Returns
    -------
    list of PlannedSplit
        Rows and columns of the table of splits. Where training rows repeat, ``n_distinct`` counts each once.

    Raises
    ------
    ConfigError
        If ``cv`` is none of these.
    DataError
        If there are too few rows, a row is in both parts, or a class is missing in one; names the fold and the fix.
    """
    _check_cv(cv)
    by, groups = classes_and_strata(task), None if task.groups is None else task.groups.to_numpy()
    splitter = _folds(task, int(cv), by, groups) if isinstance(cv, numbers.Integral) else check_cv(cv)
    where = f"task {task.name!r}, cv"
    try:
        if hasattr(splitter, "plan_splits"):
            given = list(splitter.plan_splits(task))
        else:
            split = splitter.split(np.zeros((task.n_rows, 1)), by if by is not None else task.y, groups)
            given = [PlannedSplit(train, test, {}) for train, test in split]
    except (DataError, ConfigError):
        raise
    except ValueError as error:
        raise DataError(f"task {task.name!r} cannot be split by {splitter!r}: {error}{_fix(splitter, task)}") from None
    if not given:
        raise ConfigError(f"cv={cv!r} makes no split")
    splits = [_with_positions(split, task.n_rows, where) for split in given]
    labels = pd.Categorical(task.y.to_numpy(), categories=task.classes).codes if task.kind == "classification" else None
    for fold, split in enumerate(splits):
        _check_split(task, fold, split, labels=labels, groups=groups, overlaps=getattr(splitter, "overlaps", False))
    return splits


def _check_cv(cv: Any) -> None:
    if cv is None or isinstance(cv, bool | str):
        raise ConfigError(f"cv must be a number of folds, a splitter or a list of (train, test), got {cv!r}")
    if isinstance(cv, type):
        raise ConfigError(f"cv is the class {cv.__name__}; make one: cv={cv.__name__}(...)")
    if not (isinstance(cv, numbers.Integral) or hasattr(cv, "split") or isinstance(cv, Iterable)):
        raise ConfigError(f"cv must be a number of folds, a splitter or a list of (train, test), got {cv!r}")


def _fix(splitter: Any, task: Task) -> str:
    wants_groups = "Group" in type(splitter).__name__ and task.groups is None
    return ". The task has no groups: task.with_roles(group='...')" if wants_groups else ""


def _with_positions(split: PlannedSplit, n_rows: int, where: str) -> PlannedSplit:
    train, test = positions(split.train, n_rows, where=where), positions(split.test, n_rows, where=where)
    if len(np.unique(test)) < len(test):
        raise DataError(f"{where}: a test part has a row more than once, which would count as often: give each once")
    distinct = len(np.unique(train))
    columns = split.columns if distinct == len(train) else {**split.columns, "n_distinct": distinct}
    return PlannedSplit(train, test, columns)


def _folds(task: Task, n: int, by: np.ndarray | None, groups: np.ndarray | None) -> Any:
    if n < 2:
        raise ConfigError(f"cv must be at least 2 folds, got {n}")
    if n > task.n_rows:
        raise DataError(f"task {task.name!r}: cannot split {task.n_rows} rows into {n} folds")
    if by is not None:
        counts = np.bincount(by)
        if counts.min() < n:
            what = "class" if task.strata is None or task.kind != "classification" else "class and stratum together"
            smallest = task.class_counts() if task.kind == "classification" else None
            shown = f" (rows per class: {smallest.to_dict()})" if smallest is not None else ""
            raise DataError(
                f"task {task.name!r}: the smallest {what} has {counts.min()} rows{shown}; "
                f"{n}-fold stratified resampling needs {n}. Use cv={max(2, int(counts.min()))} or fewer folds, "
                "or merge classes"
            )
    if groups is not None:
        return StratifiedGroupKFold(n, shuffle=True, random_state=0) if by is not None else GroupKFold(n)
    return (
        StratifiedKFold(n, shuffle=True, random_state=0) if by is not None else KFold(n, shuffle=True, random_state=0)
    )


def _check_split(
    task: Task, fold: int, split: PlannedSplit, *, labels: np.ndarray | None, groups: np.ndarray | None, overlaps: bool
) -> None:
    train, test = split.train, split.test
    for part, rows in (("training", train), ("test", test)):
        if len(rows) == 0:
            raise DataError(f"task {task.name!r}, fold {fold}: the {part} part has no rows")
    if not overlaps:
        _check_apart(task, fold, train, test, groups)
    if labels is None:
        return
    for part, rows in (("training", train), ("test", test)):
        if np.bincount(labels[rows], minlength=task.n_classes or 0).all():
            continue
        counts = task.rows(rows).class_counts()
        raise DataError(
            f"task {task.name!r}, fold {fold}: the {part} part has no row of class "
            f"{counts.index[counts == 0].tolist()[0]!r} (rows per class: {counts.to_dict()}). "
            "Use stratified splits (cv=3) or fewer folds"
        )


def _check_apart(task: Task, fold: int, train: np.ndarray, test: np.ndarray, groups: np.ndarray | None) -> None:
    both = np.intersect1d(train, test)
    if len(both):
        raise DataError(
            f"task {task.name!r}, fold {fold}: {len(both)} of {len(test)} test rows train, too (first: row {both[0]}): "
            "the scores would say how well learners remember. To see just that, use cv=ts.splitters.InSample()"
        )
    if groups is not None:
        _check_groups(task, fold, train, test, groups)


def _check_groups(task: Task, fold: int, train: np.ndarray, test: np.ndarray, groups: np.ndarray) -> None:
    parted = np.isin(groups[test], groups[train])
    if parted.any():
        first = groups[test][parted].tolist()[0]
        raise DataError(
            f"task {task.name!r}, fold {fold}: group {first!r} is in both parts. Use cv=5 or "
            "a splitter of groups such as GroupKFold(5), or take the role away: task.with_roles(group=None)"
        )
