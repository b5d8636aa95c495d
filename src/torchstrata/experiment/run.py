"""Carry out cells: fit, predict, score; a failure of one never costs another."""

from __future__ import annotations

import multiprocessing
import numbers
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from joblib import delayed
from sklearn.base import BaseEstimator

from torchstrata.data.task import Task
from torchstrata.errors import ConfigError, is_out_of_memory
from torchstrata.experiment.plan import Cell
from torchstrata.experiment.score import Outcome, Split, history_of, scored
from torchstrata.experiment.statuses import describe, free_memory, let_go, seeded, stood_in, unscored
from torchstrata.experiment.together import Group
from torchstrata.experiment.workers.backends import as_finished, check_backend, count_workers
from torchstrata.interrupts import check

# Cells of a group that are prepared, trained and scored before the next: what Ctrl-C can cost, and bytes of their rows.
AT_A_TIME = 100
BYTES_AT_A_TIME = 2**30

# Threads take turns: torch's generators and its number of threads, and Python's record of warnings, are the process's.
_TURN = threading.Lock()


def run_cells(
    groups: list[Group],
    tasks: dict[str, Task],
    scorers: dict[str, Callable[..., float]],
    *,
    n_jobs: int = 1,
    backend: str = "loky",
    fallback: BaseEstimator | None = None,
    on_error: str = "record",
    timeout: float | None = None,
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
        ``"loky"``: processes of :mod:`torchstrata.experiment.workers.pool`, whose death costs a cell and no more;
        any other of joblib's, of which ``"threading"`` gives the same results but gains no time.
    fallback : estimator, optional
        Fitted in place of a learner that failed.
    on_error : {"record", "raise"}
        Whether a failing learner is a row of the errors, or ends the run.
    timeout : float, optional
        Seconds that a cell may take, from the first row prepared to the last score; then its process is ended. Cells
        that train as one program have it together, and are carried out one by one, each with its own, where they exceed
        it. It needs a process that can be ended, also with one job.

    Returns
    -------
    iterator of Outcome
        In any order. Where Ctrl-C ends it, the KeyboardInterrupt has an attribute ``outcomes``: what was finished and
        not yet yielded.

    Raises
    ------
    ConfigError
        If the limit is no positive number, or the backend cannot keep to it.
    """
    check_backend(backend)
    _check_timeout(timeout, backend)
    settings: dict[str, Any] = {"fallback": fallback, "on_error": on_error}
    several = 1 if n_jobs == 1 or multiprocessing.current_process().daemon else count_workers(backend, n_jobs)
    if backend == "loky" and (several > 1 or timeout is not None):
        from torchstrata.experiment.workers.pool import carry_out

        jobs = [part for group in shared_out(groups, several) for part in blocks(group, tasks[group.task])]
        return carry_out(jobs, tasks, scorers, n_workers=several, timeout=timeout, **settings)
    if several == 1:
        return (outcome for group in groups for outcome in run_group(group, tasks[group.task], scorers, **settings))
    return _by_joblib(shared_out(groups, several), tasks, scorers, n_jobs, backend, settings)


def _check_timeout(timeout: Any, backend: str) -> None:
    if timeout is None:
        return
    if isinstance(timeout, bool) or not isinstance(timeout, numbers.Real) or not 0 < float(timeout) < np.inf:
        raise ConfigError(f"timeout must be a positive number of seconds a cell, or None, got {timeout!r}")
    if backend != "loky":
        raise ConfigError(f"timeout needs processes that can be ended: backend='loky', got backend={backend!r}")
    if multiprocessing.current_process().daemon:
        raise ConfigError(
            "timeout needs a process of its own, which a daemonic one (multiprocessing's Pool) cannot have"
        )


def _by_joblib(
    jobs: list[Group],
    tasks: dict[str, Task],
    scorers: dict[str, Callable[..., float]],
    n_jobs: int,
    backend: str,
    settings: dict[str, Any],
) -> Iterator[Outcome]:
    calls = [delayed(_all_of)(i, group, tasks[group.task], scorers, **settings) for i, group in enumerate(jobs)]
    for number, outcomes in as_finished(backend, n_jobs, calls):
        for place, outcome in outcomes:
            outcome.cell = jobs[number].cells[place]
            yield outcome


def _all_of(number: int, group: Group, *args: Any, **settings: Any) -> tuple[int, list[tuple[int, Outcome]]]:
    """Carry out a group elsewhere; the cells, which are known here, are not sent back."""
    with _TURN:
        return number, list(without_cells(group, run_group(group, *args, **settings)))


def without_cells(group: Group, outcomes: Iterator[Outcome]) -> Iterator[tuple[int, Outcome]]:
    """Say by its place which cell of a group an outcome is of: its rows and its learner need not travel.

    Parameters
    ----------
    group : Group
        What is carried out.
    outcomes : iterator of Outcome
        Of its cells.

    Yields
    ------
    tuple (int, Outcome)
        Place in the group, and the outcome without the cell.
    """
    places = {id(cell): place for place, cell in enumerate(group.cells)}
    for outcome in outcomes:
        place, outcome.cell = places[id(outcome.cell)], None  # type: ignore[assignment]
        yield place, outcome


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


def blocks(group: Group, task: Task) -> list[Group]:
    """Cut a group into parts that are prepared, trained and scored one after the other.

    Parameters
    ----------
    group : Group
        What to do.
    task : Task
        Its rows.

    Returns
    -------
    list of Group
        Of at most 100 cells and about 1 GiB of rows each, fold by fold: what shares rows is prepared once.
    """
    cells = sorted(group.cells, key=lambda cell: cell.fold)
    each = 4 * max(len(cell.train) for cell in cells) * max(1, len(task.feature_names))
    some = max(1, min(AT_A_TIME, BYTES_AT_A_TIME // each))
    return [Group(cells[first : first + some], group.why) for first in range(0, len(cells), some)]


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
    for part in blocks(group, task) if len(group.cells) > 1 else [group]:
        together = _trained_together(part.cells, task) if len(part.cells) > 1 else None
        alone = part.cells  # what failed for all is no failure of each: by itself, each can show
        if together is not None:
            yield from _scored_together(part.cells, *together, scorers, fallback, on_error, alone := [])
            together = None  # the networks of the others: where they took the room, there is room now
            if alone:
                free_memory()
        yield from (run_cell(cell, task, scorers, **settings) for cell in alone)


def _trained_together(cells: list[Cell], task: Task) -> tuple[dict[int, Split], Any, list[Any]] | None:
    # they bring torch, which a plan of other estimators does without
    from torchstrata.learner.many import fit_many
    from torchstrata.learner.shared import Shared

    splits: dict[int, Split] = {}
    for cell in cells:
        splits.setdefault(cell.fold, Split(task, cell.train, cell.test))
    shared = Shared()
    try:
        learners = [prepared(cell) for cell in cells]
        data = [splits[cell.fold].to_fit(learner) for cell, learner in zip(cells, learners, strict=True)]
        return splits, shared, fit_many(learners, data, shared=shared)
    except (Exception, SystemExit) as error:
        let_go(error)  # such as the memory of all of them
        return None


def _scored_together(
    cells: list[Cell],
    splits: dict[int, Split],
    shared: Any,
    fitted: list[Any],
    scorers: dict[str, Callable[..., float]],
    fallback: BaseEstimator | None,
    on_error: str,
    short: list[Cell],
) -> Iterator[Outcome]:
    """Score what was trained together; cells that ran short of memory beside the others are put on a list."""
    from torchstrata.learner.many import answering

    for cell, done in zip(cells, fitted, strict=True):
        started = time.perf_counter()
        with warnings.catch_warnings(record=True) as caught, answering(done.learner, shared):
            warnings.simplefilter("always")
            outcome = _concluded(cell, done, splits[cell.fold], scorers, fallback, on_error)
        if outcome is None:
            short.append(cell)
            continue
        check()  # a half-trained learner that swallowed Ctrl-C is no outcome
        outcome.warnings = _told([*done.warnings, *caught])
        outcome.seconds = done.seconds + time.perf_counter() - started
        yield outcome


def _concluded(
    cell: Cell,
    done: Any,
    split: Split,
    scorers: dict[str, Callable[..., float]],
    fallback: BaseEstimator | None,
    on_error: str,
) -> Outcome | None:
    stage, error = "error_train", done.error
    if error is None:
        try:
            outcome = scored(cell, done.learner, split, scorers)
            outcome.scores["fit_seconds"] = done.seconds
            return outcome
        except (Exception, SystemExit) as caught:
            stage, error = "error_predict", caught
    if is_out_of_memory(error):
        let_go(error)
        return None
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
    started = time.perf_counter()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        outcome = _carry_out(cell, task, scorers, fallback, on_error)
    check()  # a half-trained learner that swallowed Ctrl-C is no outcome
    outcome.warnings, outcome.seconds = _told(caught), time.perf_counter() - started
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
    return seeded(cell.estimator, cell.seed)


def _failed(
    cell: Cell,
    split: Split,
    scorers: dict[str, Callable[..., float]],
    error: BaseException,
    stage: str,
    fitted: Any,
    fallback: BaseEstimator | None,
) -> Outcome:
    about, history = describe(error, stage), history_of(fitted)
    if fallback is None:
        return unscored(cell, scorers, about, history)
    return stood_in(cell, split, scorers, about, fallback, history)
