"""Carry out cells: fit, predict, score; a failure of one never costs another."""

from __future__ import annotations

import dataclasses
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
from joblib import Parallel, delayed, parallel_config
from sklearn import get_config
from sklearn.base import BaseEstimator, clone
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import has_fit_parameter

from torchstrata.data.task import Task
from torchstrata.errors import ConfigError, DataError, NonFiniteError
from torchstrata.experiment.plan import Cell


@dataclasses.dataclass
class Outcome:
    """What one cell left behind.

    Parameters
    ----------
    cell : Cell
        Which.
    scores : dict of str to float
        Measures and costs; NaN where the cell failed without a fallback.
    history, predictions : DataFrame
        Long tables without the keys.
    error : dict or None
        status, error, message, traceback.
    warnings : list of str
        What was warned of, each once.
    runtime : dict
        Decisions of a torch learner, name to [value, reason].
    """

    cell: Cell
    scores: dict[str, float]
    history: pd.DataFrame
    predictions: pd.DataFrame
    error: dict[str, str] | None = None
    warnings: list[str] = dataclasses.field(default_factory=list)
    runtime: dict[str, Any] = dataclasses.field(default_factory=dict)


def run_cells(
    planned: list[Cell],
    tasks: dict[str, Task],
    scorers: dict[str, Callable[..., float]],
    *,
    n_jobs: int = 1,
    backend: str = "loky",
    fallback: BaseEstimator | None = None,
    on_error: str = "record",
) -> Iterator[Outcome]:
    """Carry out cells and yield outcomes as they finish.

    Parameters
    ----------
    planned : list of Cell
        What to do.
    tasks : dict of str to Task
        By name.
    scorers : dict of str to scorer
        By name of the measure.
    n_jobs : int
        Processes; 1 runs here, one after the other.
    backend : str
        Of joblib.
    fallback : estimator, optional
        Fitted in place of a learner that failed.
    on_error : {"record", "raise"}
        Whether a failing learner is a row of the errors, or ends the run.

    Yields
    ------
    Outcome
        In any order.
    """
    settings: dict[str, Any] = {"fallback": fallback, "on_error": on_error}
    if n_jobs == 1:
        yield from (run_cell(cell, tasks[cell.task], scorers, **settings) for cell in planned)
        return
    with parallel_config(backend=backend, n_jobs=n_jobs):
        yield from Parallel(return_as="generator_unordered")(
            delayed(run_cell)(cell, tasks[cell.task], scorers, **settings) for cell in planned
        )


def run_cell(
    cell: Cell,
    task: Task,
    scorers: dict[str, Callable[..., float]],
    *,
    fallback: BaseEstimator | None = None,
    on_error: str = "record",
) -> Outcome:
    """Carry out one cell.

    Parameters
    ----------
    cell : Cell
        What to do.
    task : Task
        Its rows.
    scorers : dict of str to scorer
        By name of the measure.
    fallback, on_error
        As of :func:`run_cells`.

    Returns
    -------
    Outcome
        With an error where the learner failed.

    Raises
    ------
    ConfigError
        Always: a wrong setting is no failure of a learner.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        outcome = _carry_out(cell, task, scorers, fallback, on_error)
    outcome.warnings = list(dict.fromkeys(f"{w.category.__name__}: {w.message}" for w in caught))
    return outcome


def _carry_out(
    cell: Cell,
    task: Task,
    scorers: dict[str, Callable[..., float]],
    fallback: BaseEstimator | None,
    on_error: str,
) -> Outcome:
    train, test = task.rows(cell.train), task.rows(cell.test)
    stage = "error_train"
    fitted = prepared(cell)
    try:
        started = time.perf_counter()
        fitted.fit(rows_for(fitted, train), coded(train), **fit_params(fitted, train, test))
        fit_seconds = time.perf_counter() - started
        stage = "error_predict"
        outcome = _scored(cell, fitted, test, scorers)
        outcome.scores["fit_seconds"] = fit_seconds
        return outcome
    except ConfigError:
        raise
    except (Exception, SystemExit) as error:
        if on_error == "raise":
            raise
        return _failed(cell, train, test, scorers, error, stage, fitted, fallback)


def prepared(cell: Cell) -> BaseEstimator:
    """Return a fresh learner with a seed wherever it was given none.

    Parameters
    ----------
    cell : Cell
        Holds the learner.

    Returns
    -------
    BaseEstimator
        A clone.
    """
    made = clone(cell.estimator)
    open_seeds = [
        name
        for name, value in made.get_params(deep=True).items()
        if (name == "random_state" or name.endswith("__random_state")) and value is None
    ]
    return made.set_params(**dict.fromkeys(open_seeds, cell.seed)) if open_seeds else made


def coded(task: Task) -> Any:
    """Return the target as learners and scorers see it.

    Parameters
    ----------
    task : Task
        Some rows.

    Returns
    -------
    ndarray, Series or DataFrame
        For two classes 1 for the positive one and 0 for the other, so that every measure means the same class;
        otherwise the target itself.
    """
    if task.kind == "classification" and task.n_classes == 2:
        return (task.y == task.positive).to_numpy().astype(np.int64)
    return task.y.to_numpy()


def rows_for(estimator: BaseEstimator, task: Task) -> Any:
    """Return the rows as a learner wants them.

    Parameters
    ----------
    estimator : BaseEstimator
        One of ours takes the task itself, whose groups its validation split keeps together.
    task : Task
        Some rows.

    Returns
    -------
    Task or DataFrame
        The rows.
    """
    return task if hasattr(estimator, "check_fit") else task.X


def fit_params(estimator: BaseEstimator, train: Task, test: Task) -> dict[str, Any]:
    """Say what else a learner gets from a task: weights, strata, validation rows.

    Parameters
    ----------
    estimator : BaseEstimator
        A pipeline passes them to its last step, a search to what it searches over.
    train, test : Task
        Rows of the split.

    Returns
    -------
    dict
        Keyword arguments of fit.

    Warns
    -----
    UserWarning
        If there are weights and the learner takes none.
    """
    if isinstance(estimator, Pipeline):
        name, last = estimator.steps[-1]
        return {f"{name}__{key}": value for key, value in fit_params(last, train, test).items()}
    if isinstance(estimator, GridSearchCV | RandomizedSearchCV) and not get_config()["enable_metadata_routing"]:
        return fit_params(estimator.estimator, train, test)
    if train.weights is not None and not has_fit_parameter(estimator, "sample_weight"):
        warnings.warn(f"{type(estimator).__name__} takes no sample_weight: fitted without weights", stacklevel=2)
    offered: dict[str, Any] = {"sample_weight": train.weights, "stratum": train.strata}
    if getattr(estimator, "valid", None) == "test":
        offered["valid_set"] = (test.X, coded(test))
    return {name: value for name, value in offered.items() if value is not None and has_fit_parameter(estimator, name)}


def _scored(cell: Cell, fitted: Any, test: Task, scorers: dict[str, Callable[..., float]]) -> Outcome:
    started = time.perf_counter()
    predictions = _predictions(fitted, test)
    _refuse_missing(predictions)
    scores = {"predict_seconds": time.perf_counter() - started}
    X, y = test.X, coded(test)
    scores = {**{name: float(scorer(fitted, X, y)) for name, scorer in scorers.items()}, **scores}
    last = fitted.steps[-1][1] if isinstance(fitted, Pipeline) else fitted
    history = _history(last)
    if len(history):
        scores |= {"epochs": float(len(history)), "best_epoch": float(last.best_epoch_)}
    reasons = getattr(getattr(last, "runtime_", None), "reasons", {})
    return Outcome(cell, scores, history, predictions, runtime={name: list(why) for name, why in reasons.items()})


def _history(learner: Any) -> pd.DataFrame:
    if not hasattr(learner, "history_"):
        return pd.DataFrame()
    best = getattr(learner, "best_epoch_", len(learner.history_))
    return learner.history_.assign(best=learner.history_["epoch"] == best)


def _predictions(fitted: Any, test: Task) -> pd.DataFrame:
    predicted = fitted.predict(test.X)
    if np.ndim(predicted) == 2:
        return _several_targets(predicted, test)
    table = pd.DataFrame({"row": test.row_ids, "truth": test.y.to_numpy()})
    if test.kind != "classification":
        return table.assign(predicted=predicted)
    if test.n_classes == 2:
        other = next(label for label in test.classes.tolist() if label != test.positive)  # type: ignore[union-attr]
        table["predicted"] = np.where(np.asarray(predicted) == 1, test.positive, other)
    else:
        table["predicted"] = predicted
    return _with_scores(table, fitted, test)


def _with_scores(table: pd.DataFrame, fitted: Any, test: Task) -> pd.DataFrame:
    X = test.X
    if hasattr(fitted, "predict_proba"):
        proba = fitted.predict_proba(X)
        names = fitted.classes_ if test.n_classes != 2 else _two(test)
        table = table.assign(**{f"prob_{name}": proba[:, i] for i, name in enumerate(names)})
    if test.n_classes == 2:
        if hasattr(fitted, "decision_function"):
            table["score"] = fitted.decision_function(X)
        elif f"prob_{test.positive}" in table:
            table["score"] = table[f"prob_{test.positive}"]
    return table


def _refuse_missing(predictions: pd.DataFrame) -> None:
    for name in predictions.columns:
        missing = int(predictions[name].isna().sum())
        if missing:
            raise DataError(f"{missing} of {len(predictions)} predictions have no {name} (NaN)")


def _two(test: Task) -> list[Any]:
    return [next(label for label in test.classes.tolist() if label != test.positive), test.positive]  # type: ignore[union-attr]


def _several_targets(predicted: np.ndarray, test: Task) -> pd.DataFrame:
    parts = [
        pd.DataFrame(
            {"row": test.row_ids, "target": name, "truth": test.y[name].to_numpy(), "predicted": predicted[:, j]}
        )
        for j, name in enumerate(test.target_names)
    ]
    return pd.concat(parts, ignore_index=True)


def _failed(
    cell: Cell,
    train: Task,
    test: Task,
    scorers: dict[str, Callable[..., float]],
    error: BaseException,
    stage: str,
    fitted: Any,
    fallback: BaseEstimator | None,
) -> Outcome:
    if fallback is not None:
        stand_in = clone(fallback).fit(train.X, coded(train))
        outcome = _scored(cell, stand_in, test, scorers)
    else:
        outcome = Outcome(cell, dict.fromkeys(scorers, float("nan")), _history(fitted), pd.DataFrame())
    outcome.error = {
        "status": _status(error, stage),
        "error": type(error).__name__,
        "message": str(error),
        "traceback": "".join(traceback.format_exception(error)),
    }
    return outcome


def interrupted(cell: Cell, scorers: dict[str, Callable[..., float]]) -> Outcome:
    """Stand for a cell that Ctrl-C came before.

    Parameters
    ----------
    cell : Cell
        Not carried out.
    scorers : dict of str to scorer
        Their scores are NaN.

    Returns
    -------
    Outcome
        With status "interrupted".
    """
    error = {"status": "interrupted", "error": "KeyboardInterrupt", "message": "not carried out", "traceback": ""}
    return Outcome(cell, dict.fromkeys(scorers, float("nan")), pd.DataFrame(), pd.DataFrame(), error)


def _status(error: BaseException, stage: str) -> str:
    if isinstance(error, NonFiniteError):
        return "nonfinite"
    out_of_memory = (
        isinstance(error, MemoryError) or "can't allocate memory" in str(error) or "out of memory" in str(error)
    )
    return "oom" if out_of_memory else stage
