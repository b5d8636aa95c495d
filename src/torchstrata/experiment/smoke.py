"""smoke(): every learner on every task, for seconds, before the run that takes hours."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pandas as pd
from sklearn.base import BaseEstimator, clone

from torchstrata.data.task import Task
from torchstrata.errors import ConfigError, DataError
from torchstrata.experiment.checks import check_learners, check_scoring, thinned
from torchstrata.experiment.plan import Cell, cells, name_learners, name_tasks
from torchstrata.experiment.run import run_cells
from torchstrata.experiment.score import Outcome
from torchstrata.experiment.together import Group
from torchstrata.plots.tables import is_missing

_EPOCHS = 2


class Smoke:
    """What :func:`smoke` found.

    Parameters
    ----------
    table : DataFrame
        task, learner, grid columns, status ("ok", "config" for what a benchmark would refuse, or how it failed),
        seconds, full_seconds (what all its folds would take, NaN where it failed), message.
    """

    def __init__(self, table: pd.DataFrame):
        self.table = table

    @property
    def failures(self) -> pd.DataFrame:
        """The combinations that do not work."""
        return self.table[self.table["status"] != "ok"]

    @property
    def full_seconds(self) -> float:
        """What the whole benchmark would take, one fit after the other, each with all its epochs."""
        return float(self.table["full_seconds"].sum())

    def raise_for_failures(self) -> None:
        """Raise an error if anything failed.

        Raises
        ------
        RuntimeError
            Naming each combination with its status and message.
        """
        if not len(self.failures):
            return
        told = [f"  {_name(row)}: {row['status']}: {row['message']}" for _, row in self.failures.iterrows()]
        raise RuntimeError("\n".join([f"{len(told)} of {len(self.table)} combinations failed in smoke():", *told]))

    def __repr__(self) -> str:
        shown = self.table.assign(message=self.table["message"].str.slice(0, 80))
        shown = shown.round({"seconds": 2, "full_seconds": 0})
        failed = f"{len(self.failures)} of {len(self.table)} failed" if len(self.failures) else "all work"
        about = f"{failed}; the whole run takes about {written(self.full_seconds)} one by one, all epochs of each fit"
        return f"{shown.to_string(index=False, na_rep='')}\n{about}"


def smoke(
    tasks: Any,
    learners: Any,
    *,
    cv: Any = 5,
    scoring: Any = None,
    rows: int = 100,
    timeout: float | None = None,
) -> Smoke:
    """Try every learner and every variant of a grid on every task: a few rows, one split, two epochs.

    Everything a benchmark does is done (settings are checked on all rows, then fit, predict, score), so what breaks
    after hours breaks here. Nothing is raised for a learner that fails.

    Parameters
    ----------
    tasks, learners, cv, scoring : object
        As of :func:`torchstrata.benchmark`.
    rows : int
        About so many train, and as many test: the first of every class and stratum, 20 of each at least.
    timeout : float, optional
        Seconds for each combination, carried out in a process of its own; it also outlives a crash.

    Returns
    -------
    Smoke
        ``table``, ``failures``, ``full_seconds`` and ``raise_for_failures()``. Printed, it is the table. The estimate
        multiplies epochs and rows: it knows no early stopping, no callbacks after an epoch, and nothing of
        training together.

    Raises
    ------
    ConfigError, DataError
        If tasks, splits or measures cannot be used, whatever the learners.

    Examples
    --------
    >>> import torchstrata as ts
    >>> learners = {"good": ts.TorchClassifier(), "bad": ts.TorchClassifier(loss="amu")}
    >>> tried = ts.smoke(ts.load_task("iris"), learners, scoring="accuracy")
    >>> tried.table[["learner", "status"]].to_dict("records")
    [{'learner': 'good', 'status': 'ok'}, {'learner': 'bad', 'status': 'config'}]
    """
    if isinstance(rows, bool) or not isinstance(rows, int) or rows < 2:
        raise ConfigError(f"rows must be an int >= 2, got {rows!r}")
    named = name_tasks(tasks)
    planned = cells(named, name_learners(learners), cv)
    scorers = check_scoring(scoring, named, planned)
    counts: dict[str, int] = {}
    for cell in planned:
        counts[_combination(cell)] = counts.get(_combination(cell), 0) + 1
    found, warm = [], False
    for cell in {_combination(cell): cell for cell in reversed(planned)}.values():
        row, warm = _try(cell, named[cell.task], scorers, rows, timeout, counts[_combination(cell)], warm)
        found.append(row)
    settings = list(dict.fromkeys(name for cell in planned for name in cell.settings))
    columns = ["task", "learner", *settings, "status", "seconds", "full_seconds", "message"]
    return Smoke(pd.DataFrame(found[::-1], columns=columns))


def _combination(cell: Cell) -> str:
    return repr((cell.task, cell.learner, cell.settings))


def _try(
    cell: Cell, task: Task, scorers: dict[str, Any], rows: int, timeout: float | None, folds: int, warm: bool
) -> tuple[dict[str, Any], bool]:
    """Try one combination; say whether torch has been warmed up by it."""
    row = {"task": cell.task, "learner": cell.learner, **cell.settings, "status": "config", "seconds": math.nan}
    try:
        check_learners([dataclasses.replace(cell, fold=0)], {cell.task: task})
        small = dataclasses.replace(
            cell,
            estimator=shortened(cell.estimator),
            train=thinned(task, cell.train, rows),
            test=thinned(task, cell.test, rows),
        )
        for _ in range(1 if warm or not hasattr(cell.estimator, "check_fit") else 2):  # the first fit imports much
            outcome = next(iter(run_cells([Group([small], "smoke")], {cell.task: task}, scorers, timeout=timeout)))
    except (ConfigError, DataError) as error:
        return {**row, "full_seconds": math.nan, "message": str(error)}, warm
    row |= {"status": outcome.status, "seconds": outcome.seconds, "full_seconds": math.nan, "message": ""}
    if outcome.error:
        row["message"] = f"{outcome.error['error']}: {outcome.error['message']}"
    else:
        row["full_seconds"] = folds * _one_fold(outcome, cell, small)
    return row, warm or hasattr(cell.estimator, "check_fit")


def _one_fold(outcome: Outcome, cell: Cell, small: Cell) -> float:
    """Estimate a fit on all rows from one on a few: what is done once stays, epochs and rows multiply."""
    more_train, more_test = len(cell.train) / len(small.train), len(cell.test) / len(small.test)
    fit, predict = outcome.scores["fit_seconds"], outcome.scores["predict_seconds"]
    if not len(outcome.history) or "seconds" not in outcome.history:
        return fit * more_train + predict * more_test
    epochs = outcome.history["seconds"]
    once = max(0.0, fit - float(epochs.sum()))
    return once + _epochs(cell.estimator, len(cell.train)) * float(epochs.iloc[-1]) * more_train + predict * more_test


def _epochs(estimator: BaseEstimator, n_rows: int) -> int:
    from torchstrata.learner.settings import choose_epochs  # it brings torch, which a learner with epochs has anyway

    return max((choose_epochs(value, n_rows)[0] for _, value in _epoch_settings(estimator)), default=1)


def _epoch_settings(estimator: BaseEstimator) -> list[tuple[str, Any]]:
    settings = estimator.get_params(deep=True).items()
    named = [(n, v) for n, v in settings if n == "max_epochs" or n.endswith("__max_epochs")]
    return [(name, value) for name, value in named if isinstance(value, int) or value == "auto"]


def shortened(estimator: BaseEstimator) -> BaseEstimator:
    """Return a learner that trains for two epochs, also inside a pipeline or a search.

    Parameters
    ----------
    estimator : BaseEstimator
        Is cloned.

    Returns
    -------
    BaseEstimator
        Without ``max_epochs`` it is as it was.
    """
    made = clone(estimator)
    few = {name: _EPOCHS if value == "auto" else min(value, _EPOCHS) for name, value in _epoch_settings(made)}
    return made.set_params(**few)


def written(seconds: float) -> str:
    """Write a time as people do.

    Parameters
    ----------
    seconds : float
        Not negative.

    Returns
    -------
    str
        In seconds, minutes, hours or days.

    Examples
    --------
    >>> written(3.2), written(95), written(8000), written(200_000)
    ('4 seconds', '2 minutes', '2.2 hours', '2.3 days')
    """
    if seconds < 90:
        whole = math.ceil(seconds)
        return f"{whole} second" + "s" * (whole != 1)
    if seconds < 5400:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:.1f} hours" if seconds < 172_800 else f"{seconds / 86_400:.1f} days"


def _name(row: pd.Series) -> str:
    known = {"task", "learner", "status", "seconds", "full_seconds", "message"}
    told = {name: value for name, value in row.items() if name not in known and not is_missing(value)}
    settings = "".join(f", {name}={value!r}" for name, value in told.items())
    return f"{row['learner']}{settings} on {row['task']}"
