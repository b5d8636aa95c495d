"""tasks x learners x splits -> cells, each with its rows fixed, so that all learners see the same."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, clone

from torchstrata.data.task import Task
from torchstrata.errors import ConfigError, did_you_mean
from torchstrata.experiment.splits import planned_splits
from torchstrata.experiment.splitting import PlannedSplit
from torchstrata.experiment.statistics.soak import conditions
from torchstrata.plots.tables import setting_column


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
    about : dict
        What the splitter says of the split: columns of the table of splits.
    """

    task: str
    learner: str
    fold: int
    settings: dict[str, Any]
    estimator: BaseEstimator
    train: np.ndarray
    test: np.ndarray
    seed: int
    about: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def keys(self) -> dict[str, Any]:
        """What names the cell in every table."""
        return {"task": self.task, "learner": self.learner, "fold": self.fold, **self.variant}

    @property
    def variant(self) -> dict[str, Any]:
        """What tells it from other cells of its learner: settings, and conditions that must not be averaged over."""
        return {**self.settings, **{name: self.about[name] for name in conditions(self.about)}}


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
            shown = {setting_column(name): _shown(value) for name, value in settings.items()}
            yield shown, clone(self.learner).set_params(**settings)

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
        result; one that is a column of every result, such as ``lr``, stands there as ``learner__lr``.

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


def cells(tasks: dict[str, Task], learners: dict[str, BaseEstimator | Grid], cv: Any) -> list[Cell]:
    """List all fits of a benchmark, task by task, fold by fold.

    Parameters
    ----------
    tasks : dict of str to Task
        From :func:`name_tasks`.
    learners : dict of str to estimator or Grid
        From :func:`name_learners`.
    cv : object
        As of :func:`torchstrata.experiment.splits.planned_splits`.

    Returns
    -------
    list of Cell
        All learners of a fold have the same rows.
    """
    cv = list(cv) if isinstance(cv, Iterator) else cv  # every task needs the splits, and they come out only once
    out = []
    for task_name, task in tasks.items():
        splits = planned_splits(task, cv)
        _warn_of(task_name, splits)
        for fold, split in enumerate(splits):
            for name, learner in learners.items():
                variants = learner.variants() if isinstance(learner, Grid) else [({}, learner)]
                for settings, estimator in variants:
                    seed = _seed(task_name, name, fold, settings)
                    where = (split.train, split.test, seed, split.columns)
                    out.append(Cell(task_name, name, fold, settings, estimator, *where))
    return out


def _warn_of(task: str, splits: list[PlannedSplit]) -> None:
    if any(split.columns.get("in_sample") for split in splits):
        warnings.warn(
            f"task {task!r}: the rows that train are tested (InSample). The scores say how well learners remember, not "
            "how well they predict.",
            stacklevel=4,
        )


def _seed(*parts: Any) -> int:
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:4], "little")
