"""Carry out cells: fit, predict, score; a failure of one never costs another."""

from __future__ import annotations

import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
from joblib import Parallel, delayed, effective_n_jobs, parallel_config
from sklearn.base import BaseEstimator, clone

from torchstrata.data.task import Task
from torchstrata.errors import ConfigError, NonFiniteError
from torchstrata.experiment.plan import Cell
from torchstrata.experiment.score import Outcome, Split, history_of, scored
from torchstrata.experiment.together import Group

# Cells of a group that are prepared, trained and scored before the next: what Ctrl-C can cost, and bytes of their rows.
AT_A_TIME = 100
BYTES_AT_A_TIME = 2**30


def run_cells(
    groups: list[Group],
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
    groups : list of Group
        What to do; the cells of a group are trained as one program.
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
        for group in groups:
            yield from run_group(group, tasks[group.cells[0].task], scorers, **settings)
        return
    jobs = shared_out(groups, effective_n_jobs(n_jobs))
    with parallel_config(backend=backend, n_jobs=n_jobs):
        for number, outcomes in Parallel(return_as="generator_unordered")(
            delayed(_all_of)(number, group, tasks[group.cells[0].task], scorers, **settings)
            for number, group in enumerate(jobs)
        ):
            for place, outcome in outcomes:
                outcome.cell = jobs[number].cells[place]
                yield outcome


def _all_of(number: int, group: Group, *args: Any, **settings: Any) -> tuple[int, list[tuple[int, Outcome]]]:
    """Carry out a group elsewhere; the cells, which are known here, are not sent back."""
    places, found = {id(cell): place for place, cell in enumerate(group.cells)}, []
    for outcome in run_group(group, *args, **settings):
        found.append((places[id(outcome.cell)], outcome))
        outcome.cell = None  # type: ignore[assignment]
    return number, found


def shared_out(groups: list[Group], workers: int) -> list[Group]:
    """Cut large groups into one part for each worker.

    Parameters
    ----------
    groups : list of Group
        What to do.
    workers : int
        Processes.

    Returns
    -------
    list of Group
        Folds stay together where they can, for their rows are then prepared once.
    """
    out = []
    for group in groups:
        ordered = sorted(range(len(group.cells)), key=lambda i: (group.cells[i].fold, i))
        parts = np.array_split(np.array(ordered), min(workers, len(ordered)))
        out += [Group([group.cells[i] for i in part.tolist()], group.why) for part in parts]
    return out


def run_group(
    group: Group,
    task: Task,
    scorers: dict[str, Callable[..., float]],
    *,
    fallback: BaseEstimator | None = None,
    on_error: str = "record",
) -> Iterator[Outcome]:
    """Carry out the cells of a group, whose networks train as one program where they have one shape.

    Parameters
    ----------
    group : Group
        What to do.
    task : Task
        Its rows.
    scorers : dict of str to scorer
        By name of the measure.
    fallback, on_error
        As of :func:`run_cells`.

    Yields
    ------
    Outcome
        As :func:`run_cell` gives it, for each cell.
    """
    settings: dict[str, Any] = {"fallback": fallback, "on_error": on_error}
    if len(group.cells) == 1:
        yield run_cell(group.cells[0], task, scorers, **settings)
        return
    cells = sorted(group.cells, key=lambda cell: cell.fold)  # what shares rows is prepared once
    each = 4 * max(len(cell.train) for cell in cells) * max(1, len(task.feature_names))
    some = max(1, min(AT_A_TIME, BYTES_AT_A_TIME // each))
    for first in range(0, len(cells), some):
        yield from _run_some(cells[first : first + some], task, scorers, fallback, on_error)


def _run_some(
    cells: list[Cell],
    task: Task,
    scorers: dict[str, Callable[..., float]],
    fallback: BaseEstimator | None,
    on_error: str,
) -> Iterator[Outcome]:
    # they bring torch, which a plan of other estimators does without
    from torchstrata.learner.many import answering, fit_many
    from torchstrata.learner.shared import Shared

    splits: dict[int, Split] = {}
    for cell in cells:
        splits.setdefault(cell.fold, Split(task, cell.train, cell.test))
    shared, learners = Shared(), [prepared(cell) for cell in cells]
    data = [splits[cell.fold].to_fit(learner) for cell, learner in zip(cells, learners, strict=True)]
    for cell, done in zip(cells, fit_many(learners, data, shared=shared), strict=True):
        with warnings.catch_warnings(record=True) as caught, answering(done.learner, shared):
            warnings.simplefilter("always")
            outcome = _concluded(cell, done, splits[cell.fold], scorers, fallback, on_error)
        outcome.warnings = _told([*done.warnings, *caught])
        yield outcome


def _concluded(
    cell: Cell,
    done: Any,
    split: Split,
    scorers: dict[str, Callable[..., float]],
    fallback: BaseEstimator | None,
    on_error: str,
) -> Outcome:
    stage, error = "error_train", done.error
    if error is None:
        try:
            outcome = scored(cell, done.learner, split, scorers)
            outcome.scores["fit_seconds"] = done.seconds
            return outcome
        except (Exception, SystemExit) as caught:
            stage, error = "error_predict", caught
    if on_error == "raise" or isinstance(error, ConfigError):
        raise error
    return _failed(cell, split, scorers, error, stage, done.learner, fallback)


def _told(caught: list[Any]) -> list[str]:
    return list(dict.fromkeys(f"{w.category.__name__}: {w.message}" for w in caught))


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
    outcome.warnings = _told(caught)
    return outcome


def _carry_out(
    cell: Cell,
    task: Task,
    scorers: dict[str, Callable[..., float]],
    fallback: BaseEstimator | None,
    on_error: str,
) -> Outcome:
    split = Split(task, cell.train, cell.test)
    stage = "error_train"
    fitted = prepared(cell)
    try:
        started = time.perf_counter()
        given = split.to_fit(fitted)
        fitted.fit(given.pop("X"), given.pop("y"), **given)
        fit_seconds = time.perf_counter() - started
        stage = "error_predict"
        outcome = scored(cell, fitted, split, scorers)
        outcome.scores["fit_seconds"] = fit_seconds
        return outcome
    except ConfigError:
        raise
    except (Exception, SystemExit) as error:
        if on_error == "raise":
            raise
        return _failed(cell, split, scorers, error, stage, fitted, fallback)


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


def _failed(
    cell: Cell,
    split: Split,
    scorers: dict[str, Callable[..., float]],
    error: BaseException,
    stage: str,
    fitted: Any,
    fallback: BaseEstimator | None,
) -> Outcome:
    if fallback is not None:
        stand_in = clone(fallback).fit(split.train.X, split.y_train)
        outcome = scored(cell, stand_in, split, scorers)
    else:
        outcome = Outcome(cell, dict.fromkeys(scorers, float("nan")), history_of(fitted), pd.DataFrame())
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
