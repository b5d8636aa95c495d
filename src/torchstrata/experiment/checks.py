"""What a benchmark refuses before the first fit: measures that do not fit a task, learners that cannot work."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from sklearn import metrics
from sklearn.base import BaseEstimator, clone, is_classifier, is_regressor
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.metrics import get_scorer, get_scorer_names
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV

from torchstrata.data.strata import stratum_codes
from torchstrata.data.task import Task
from torchstrata.errors import ConfigError, DataError, did_you_mean, is_out_of_memory
from torchstrata.experiment.plan import Cell
from torchstrata.experiment.run import prepared
from torchstrata.experiment.score import Split, coded
from torchstrata.experiment.statistics.soak import CONDITIONS
from torchstrata.experiment.statuses import let_go
from torchstrata.plots.measures import COST_MEASURES

# columns of a leaderboard and costs, which a measure of that name would overwrite
_COLUMNS = {"task", "learner", "fold", "measure", "best", "note", *CONDITIONS, *COST_MEASURES}
_SEARCHES = (GridSearchCV, RandomizedSearchCV)

# scorers of these would run on the codes of classes without a word
_FOR_NUMBERS = {
    getattr(metrics, name)
    for name in dir(metrics)
    if name in ("r2_score", "explained_variance_score", "max_error")
    or name.startswith(("mean_", "median_", "root_mean_", "d2_absolute", "d2_pinball", "d2_tweedie"))
}


def default_scoring(task: Task) -> list[str]:
    """Choose measures that fit a task.

    Parameters
    ----------
    task : Task
        What is learnt.

    Returns
    -------
    list of str
        Names of scikit-learn scorers.
    """
    if task.kind == "regression":
        return ["r2", "neg_root_mean_squared_error", "neg_mean_absolute_error"]
    if task.n_classes == 2:
        return ["roc_auc", "average_precision", "balanced_accuracy", "accuracy"]
    return ["balanced_accuracy", "accuracy", "roc_auc_ovr"]


def check_scoring(scoring: Any, tasks: dict[str, Task], planned: list[Cell]) -> dict[str, Callable[..., float]]:
    """Turn scoring into scorers, and try each on every task with a dummy.

    Parameters
    ----------
    scoring : None, str, sequence of str, or dict of str to scorer
        As given to benchmark.
    tasks : dict of str to Task
        By name.
    planned : list of Cell
        Whose first split of each task is tried.

    Returns
    -------
    dict of str to scorer
        By name.

    Raises
    ------
    ConfigError
        If a name is unknown, or a measure cannot be computed on a task.
    """
    scorers = _named_scorers(scoring, list(tasks.values()))
    clash = next((name for cell in planned for name in cell.variant if name in scorers), None)
    if clash is not None:
        raise ConfigError(f"{clash!r} is a measure in scoring and a setting of a grid: give the measure another name")
    for task_name, task in tasks.items():
        cell = next(c for c in planned if c.task == task_name)
        train, test = task.rows(cell.train), task.rows(cell.test)
        dummy = DummyClassifier(strategy="prior") if task.kind == "classification" else DummyRegressor()
        dummy.fit(np.zeros((len(train), 1)), coded(train))
        for name, scorer in scorers.items():
            if hasattr(scorer, "head"):  # of one head of a learner with several, which a dummy has not
                continue
            if task.kind == "classification" and getattr(scorer, "_score_func", None) in _FOR_NUMBERS:
                raise ConfigError(
                    f"measure {name!r} is for regression, and task {task_name!r} is a classification. "
                    f"Measures that fit: {default_scoring(task)}"
                )
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # a dummy never predicts the minority: precision warns of that
                    value = scorer(dummy, np.zeros((len(test), 1)), coded(test))
                if len(test) < 2 and np.isnan(value):
                    raise ValueError("it is undefined for a test part of one row; use fewer folds")
            except (ValueError, TypeError, AttributeError) as error:
                raise ConfigError(
                    f"measure {name!r} cannot be computed on task {task_name!r} ({task.kind}"
                    f"{f', {task.n_classes} classes' if task.n_classes else ''}): {error}. "
                    f"Measures that fit: {default_scoring(task)}"
                ) from None
    return scorers


def _named_scorers(scoring: Any, tasks: list[Task]) -> dict[str, Callable[..., float]]:
    if scoring is None:
        lists = [default_scoring(task) for task in tasks]
        common = [name for name in lists[0] if all(name in names for names in lists)]
        if not common:
            raise ConfigError("the tasks are of different kinds and have no measure in common: compare them apart")
        scoring = common
    if isinstance(scoring, Mapping):
        named = dict(scoring)
    elif isinstance(scoring, str | list | tuple):
        named = {str(name): name for name in ([scoring] if isinstance(scoring, str) else scoring)}
    else:
        raise ConfigError(f"scoring must be names, or a dict of name to scorer: {{'mine': scorer}}; got {scoring!r}")
    if not named:
        raise ConfigError("scoring holds no measure; leave it out for those that fit the task")
    for name in named:
        if not isinstance(name, str) or name in _COLUMNS or ", " in name:
            raise ConfigError(
                f"scoring: {name!r} cannot name a measure, because a result has a column or a cost of that name, or "
                "because names are listed with commas. Give it another name: {'my_measure': scorer}"
            )
    known = get_scorer_names()
    for name, given in named.items():
        if isinstance(given, str) and given not in known:
            raise ConfigError(f"unknown measure {given!r} in scoring. {did_you_mean(given, known, most=8)}")
        named[name] = get_scorer(given) if isinstance(given, str) else given
    return named


def check_learners(planned: list[Cell], tasks: dict[str, Task]) -> None:
    """Prepare every learner once on the first split of every task, without training.

    Parameters
    ----------
    planned : list of Cell
        All fits.
    tasks : dict of str to Task
        By name.

    Raises
    ------
    ConfigError, DataError
        Naming learner and task.
    """
    splits: dict[str, Split] = {}
    shared: Any = None
    for cell in planned:
        if cell.fold:
            continue
        estimator = prepared(cell)
        _check_kind(estimator, cell, tasks[cell.task])
        _check_sees_test(estimator, cell)
        _check_settings(estimator, f"learner {cell.learner!r} on task {cell.task!r}", tasks[cell.task])
        if not hasattr(estimator, "check_fit"):
            continue
        from torchstrata.learner.many import answering  # it brings torch
        from torchstrata.learner.shared import Shared

        shared = Shared() if shared is None else shared
        split = splits.setdefault(cell.task, Split(tasks[cell.task], cell.train, cell.test))
        try:
            with warnings.catch_warnings(), answering(estimator, shared):
                warnings.simplefilter("ignore")  # they come again, once a fit
                estimator.check_fit(**split.to_fit(estimator))
        except (ConfigError, DataError) as error:
            raise type(error)(f"learner {cell.learner!r} on task {cell.task!r}: {error}") from None
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            let_go(error)  # no wrong setting: the cell itself will say it, or have more room elsewhere


def _check_kind(estimator: BaseEstimator, cell: Cell, task: Task) -> None:
    other = is_regressor(estimator) if task.kind == "classification" else is_classifier(estimator)
    if other:
        kind = "regressor" if task.kind == "classification" else "classifier"
        raise ConfigError(
            f"learner {cell.learner!r} is a {kind}, and task {cell.task!r} is a {task.kind} ({task.kind_reason}). "
            "Compare learners of one kind, or make the task another: task.with_roles(kind=...)"
        )


def _check_sees_test(estimator: BaseEstimator, cell: Cell) -> None:
    nested = [name for name, value in estimator.get_params().items() if name.endswith("__valid") and value == "test"]
    if nested:
        raise ConfigError(
            f"learner {cell.learner!r}: {nested[0]}='test' works for a learner that stands alone; here the test rows "
            "would not pass the steps before it. Use valid=0.2, or put these steps into its encoder="
        )


def _check_settings(estimator: BaseEstimator, where: str, task: Task) -> None:
    """Let every part say whether its settings can work, as far as it knows without rows."""
    parts = [estimator, *(v for v in estimator.get_params(deep=True).values() if isinstance(v, BaseEstimator))]
    if isinstance(estimator, _SEARCHES):
        parts = parts[:1]  # it tries other settings than those its learner has
    try:
        for part in parts:
            if hasattr(part, "_parameter_constraints"):
                part._validate_params()
            if part is not estimator and hasattr(part, "check_fit"):
                from torchstrata.learner.settings import resolve_settings  # it brings torch

                resolve_settings(part, task.kind, has_valid=part.valid is not None)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{where}: {error}") from None


def check_fallback(
    fallback: Any, planned: list[Cell], tasks: dict[str, Task], scorers: Mapping[str, Callable[..., float]]
) -> None:
    """Let the fallback stand in once on every task, on a few rows: it must not fail where it is needed.

    Parameters
    ----------
    fallback : estimator or None
        As given to benchmark.
    planned : list of Cell
        All fits.
    tasks : dict of str to Task
        By name.
    scorers : dict of str to scorer
        What it must be good for.

    Raises
    ------
    ConfigError
        Naming the task and what it cannot do.
    """
    if fallback is None:
        return
    if isinstance(fallback, type) or not hasattr(fallback, "fit"):
        raise ConfigError(f"fallback is {fallback!r}; expected a scikit-learn estimator, such as DummyClassifier()")
    for name, cell in {cell.task: cell for cell in reversed(planned)}.items():
        task = tasks[name]
        _check_kind(fallback, dataclasses.replace(cell, learner="fallback"), task)
        split = Split(task, thinned(task, cell.train, 200), thinned(task, cell.test, 200))
        told = ""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                given = split.to_fit(fallback)
                fitted = clone(fallback).fit(given.pop("X"), given.pop("y"), **given)
                for measure, scorer in scorers.items():
                    told = f"measure {measure!r}: "
                    scorer(fitted, split.X_test, split.y_test)
        except Exception as error:
            raise ConfigError(f"fallback {fallback!r} cannot stand in on task {name!r}: {told}{error}") from None


def thinned(task: Task, rows: np.ndarray, n: int, *, least: int = 20) -> np.ndarray:
    """Choose about n of some rows, with every class and stratum in it.

    Parameters
    ----------
    task : Task
        All rows.
    rows : ndarray of int64
        Of which to choose.
    n : int
        How many, more or less.
    least : int
        Of every class and stratum, so many at least, or all there are.

    Returns
    -------
    ndarray of int64
        The first ones of each, in the order given.
    """
    if len(rows) <= n:
        return rows
    part = task.rows(rows)
    by = [given for given in (part.y if task.kind == "classification" else None, part.strata) if given is not None]
    codes = np.zeros(len(rows), dtype=np.int64)
    for labels in by:
        own = stratum_codes(labels)[0]
        codes = codes * (own.max() + 1) + own
    share = n / len(rows)
    chosen = [
        np.flatnonzero(codes == code)[: max(least if by else 1, round(share * count))]
        for code, count in zip(*np.unique(codes, return_counts=True), strict=True)
    ]
    return rows[np.sort(np.concatenate(chosen))]
