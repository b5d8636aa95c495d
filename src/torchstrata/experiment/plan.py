"""tasks x learners x splits -> cells, each with its rows fixed, so that all learners see the same."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import numbers
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.model_selection import GroupKFold, KFold, StratifiedGroupKFold, StratifiedKFold, check_cv

from torchstrata.data.rows import positions
from torchstrata.data.strata import stratum_codes
from torchstrata.data.task import Task
from torchstrata.errors import ConfigError, DataError, did_you_mean


@dataclasses.dataclass(frozen=True)
class Cell:
    """One fit of a benchmark: a learner with its settings, on the rows of one split of a task.

    Parameters
    ----------
    task, learner : str
        Names.
    fold : int
        Number of the split, from 0.
    settings : dict
        Values of the grid's columns.
    estimator : BaseEstimator
        Not fitted; cloned before use.
    train, test : ndarray of int64
        Rows of the task.
    seed : int
        For learners that were given none; depends on the names and the fold alone, so another learner beside it changes
        nothing.
    """

    task: str
    learner: str
    fold: int
    settings: dict[str, Any]
    estimator: BaseEstimator
    train: np.ndarray
    test: np.ndarray
    seed: int

    @property
    def keys(self) -> dict[str, Any]:
        """What names the cell in every table."""
        return {"task": self.task, "learner": self.learner, "fold": self.fold, **self.settings}


class Grid:
    """Variants of one learner: all combinations of some settings.

    Made by :func:`grid`.

    Parameters
    ----------
    learner : BaseEstimator
        What is varied.
    values : dict of str to list
        Setting, as for ``set_params``, to its values.
    """

    def __init__(self, learner: BaseEstimator, values: dict[str, list[Any]]):
        self.learner, self.values = learner, values

    def variants(self) -> Iterable[tuple[dict[str, Any], BaseEstimator]]:
        """Yield settings and a learner with them."""
        for combination in itertools.product(*self.values.values()):
            settings = dict(zip(self.values, combination, strict=True))
            yield {name: _shown(value) for name, value in settings.items()}, clone(self.learner).set_params(**settings)

    def __len__(self) -> int:
        return int(np.prod([len(values) for values in self.values.values()]))

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={list(map(_shown, given))!r}" for name, given in self.values.items())
        return f"grid({self.learner!r}, {values})"


def grid(learner: BaseEstimator, **values: Sequence[Any]) -> Grid:
    """Vary settings of a learner: every combination becomes a learner of the benchmark.

    Parameters
    ----------
    learner : BaseEstimator
        Any scikit-learn estimator.
    **values : sequence
        Settings as for ``set_params`` (``optimizer__lr=[1e-3, 1e-2]``), each with its values. They are columns of the
        result.

    Returns
    -------
    Grid
        To be put among the learners of :func:`torchstrata.benchmark`.

    Raises
    ------
    ConfigError
        If a setting is unknown, has no values, or has a value twice.

    Examples
    --------
    >>> import torchstrata as ts
    >>> len(ts.grid(ts.TorchClassifier(), loss=["cross_entropy", "aum"], optimizer__lr=[1e-3, 1e-2, 1e-1]))
    6
    """
    if not values:
        raise ConfigError("grid needs at least one setting with its values, such as optimizer__lr=[1e-3, 1e-2]")
    known = learner.get_params(deep=True)
    for name, given in values.items():
        head = name.partition("__")[0]
        if name not in known and head not in known:
            raise ConfigError(f"grid: {type(learner).__name__} has no setting {name!r}. {did_you_mean(name, known)}")
        if isinstance(given, str) or not isinstance(given, Sequence | np.ndarray) or not len(given):
            raise ConfigError(f"grid: {name} needs a list of values, got {given!r}: write {name}=[{given!r}]")
        _check_once(name, given)
    made = Grid(learner, {name: list(given) for name, given in values.items()})
    try:
        for _ in made.variants():  # every combination must be possible: refused here, not in the middle of the run
            pass
    except (ValueError, TypeError) as error:
        raise ConfigError(f"grid: {error}") from None
    return made


def _check_once(name: str, given: Sequence[Any]) -> None:
    shown = [_shown(value) for value in given]
    twice = [value for i, value in enumerate(shown) if value in shown[:i]]  # 1 and 1.0 are one value of a column too
    if twice:
        raise ConfigError(f"grid: {name} has the value {twice[0]!r} twice; a result tells variants apart by it")


def _shown(value: Any) -> Any:
    """Return a value that a column of a table can hold, the same in every process."""
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if callable(value) and hasattr(value, "__qualname__"):
        return value.__qualname__  # a repr would hold an address
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))


def name_tasks(tasks: Any) -> dict[str, Task]:
    """Give every task a name.

    Parameters
    ----------
    tasks : Task, sequence of Task, or dict of str to Task
        As given to benchmark.

    Returns
    -------
    dict of str to Task
        In the order given.

    Raises
    ------
    ConfigError
        If there is none, a name occurs twice, or something is no task.
    """
    if isinstance(tasks, Mapping):
        named = {str(name): task for name, task in tasks.items()}
    else:
        several = list(tasks) if isinstance(tasks, list | tuple) else [tasks]
        named = _unique([(getattr(t, "name", type(t).__name__), t) for t in several], "task")
    for name, task in named.items():
        if not isinstance(task, Task):
            raise ConfigError(f"task {name!r} is a {type(task).__name__}; make it a ts.Task(frame, target=...)")
    if not named:
        raise ConfigError("benchmark needs at least one task")
    return named


def name_learners(learners: Any) -> dict[str, BaseEstimator | Grid]:
    """Give every learner a name.

    Parameters
    ----------
    learners : estimator, Grid, sequence of those, or dict of str to those
        As given to benchmark; in a sequence the name of the class is the name.

    Returns
    -------
    dict of str to BaseEstimator or Grid
        In the order given.

    Raises
    ------
    ConfigError
        If there is none, a name occurs twice, or something is no estimator.
    """
    if isinstance(learners, Mapping):
        named = {str(name): learner for name, learner in learners.items()}
    else:
        several = learners if isinstance(learners, list | tuple) else [learners]
        named = _unique([(type(getattr(one, "learner", one)).__name__, one) for one in several], "learner")
    for name, learner in named.items():
        if isinstance(learner, type) or not (isinstance(learner, Grid) or hasattr(learner, "fit")):
            raise ConfigError(f"learner {name!r} is {learner!r}; expected a scikit-learn estimator or a ts.grid(...)")
    if not named:
        raise ConfigError("benchmark needs at least one learner")
    return named


def _unique(pairs: list[tuple[str, Any]], what: str) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(f"{what} id {twice[0]!r} used twice: give a dict, {{'name': {what}, ...}}")
    return dict(pairs)


def splits_of(task: Task, cv: Any) -> list[tuple[np.ndarray, np.ndarray]]:
    """Fix the rows of every split.

    Parameters
    ----------
    task : Task
        What is split.
    cv : int, scikit-learn splitter, or iterable of (train, test)
        A number makes folds after the task: stratified by class and stratum for classification, by group where the task
        has groups, shuffled with a fixed seed.

    Returns
    -------
    list of (ndarray, ndarray)
        Training and test rows.

    Raises
    ------
    ConfigError
        If ``cv`` is none of these.
    DataError
        If there are too few rows, or a class is missing in a part; names the fold and the fix.
    """
    if cv is None or isinstance(cv, bool | str):
        raise ConfigError(f"cv must be a number of folds, a splitter or a list of (train, test), got {cv!r}")
    by, groups = _stratify_by(task), None if task.groups is None else task.groups.to_numpy()
    splitter = _folds(task, int(cv), by, groups) if isinstance(cv, numbers.Integral) else check_cv(cv)
    labels = by if by is not None else task.y
    try:
        given = list(splitter.split(np.zeros((task.n_rows, 1)), labels, groups))
    except ValueError as error:
        raise DataError(f"task {task.name!r} cannot be split by {splitter!r}: {error}") from None
    if not given:
        raise ConfigError(f"cv={cv!r} makes no split")
    where = f"task {task.name!r}, cv"
    splits = [(positions(a, task.n_rows, where=where), positions(b, task.n_rows, where=where)) for a, b in given]
    for fold, (train, test) in enumerate(splits):
        _check_split(task, fold, train, test)
    return splits


def _stratify_by(task: Task) -> np.ndarray | None:
    """Number what folds are balanced by: the class, crossed with the strata where that leaves enough rows of each."""
    if task.kind == "classification":
        labels = stratum_codes(task.y)[0]
        if task.strata is None:
            return labels
        crossed = labels + (labels.max() + 1) * stratum_codes(task.strata)[0]
        return np.unique(crossed, return_inverse=True)[1]
    return None if task.strata is None else stratum_codes(task.strata)[0]


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


def _check_split(task: Task, fold: int, train: np.ndarray, test: np.ndarray) -> None:
    for part, rows in (("training", train), ("test", test)):
        if len(rows) == 0:
            raise DataError(f"task {task.name!r}, fold {fold}: the {part} part has no rows")
    _check_groups(task, fold, train, test)
    for part, rows in (("training", train), ("test", test)):
        if task.kind != "classification":
            continue
        counts = task.rows(rows).class_counts()
        absent = counts.index[counts == 0].tolist()
        if absent:
            raise DataError(
                f"task {task.name!r}, fold {fold}: the {part} part has no row of class {absent[0]!r} "
                f"(rows per class: {counts.to_dict()}). Use stratified splits (cv={3}) or fewer folds"
            )


def _check_groups(task: Task, fold: int, train: np.ndarray, test: np.ndarray) -> None:
    if task.groups is None:
        return
    groups = task.groups.to_numpy()
    parted = np.isin(groups[test], groups[train])
    if parted.any():
        first = groups[test][parted].tolist()[0]
        raise DataError(
            f"task {task.name!r}, fold {fold}: group {first!r} is in both parts. Use cv=5 or "
            "a splitter of groups such as GroupKFold(5), or take the role away: task.with_roles(group=None)"
        )


def cells(tasks: dict[str, Task], learners: dict[str, BaseEstimator | Grid], cv: Any) -> list[Cell]:
    """List all fits of a benchmark, task by task, fold by fold.

    Parameters
    ----------
    tasks : dict of str to Task
        From :func:`name_tasks`.
    learners : dict of str to estimator or Grid
        From :func:`name_learners`.
    cv : object
        As of :func:`splits_of`.

    Returns
    -------
    list of Cell
        All learners of a fold have the same rows.
    """
    cv = list(cv) if isinstance(cv, Iterator) else cv  # every task needs the splits, and they come out only once
    out = []
    for task_name, task in tasks.items():
        for fold, (train, test) in enumerate(splits_of(task, cv)):
            for name, learner in learners.items():
                variants = learner.variants() if isinstance(learner, Grid) else [({}, learner)]
                for settings, estimator in variants:
                    seed = _seed(task_name, name, fold, settings)
                    out.append(Cell(task_name, name, fold, settings, estimator, train, test, seed))
    return out


def _seed(*parts: Any) -> int:
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:4], "little")
