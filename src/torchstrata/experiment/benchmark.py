"""benchmark(), resample(): tasks x learners x splits, fairly compared."""

from __future__ import annotations

import datetime
import functools
import numbers
import platform
import shlex
import sys
import time
import warnings
from collections.abc import Iterable, Mapping
from importlib import metadata
from typing import Any

import numpy as np
import pandas as pd
from sklearn import config_context
from sklearn.base import BaseEstimator

from torchstrata.data.task import Task
from torchstrata.errors import ConfigError
from torchstrata.experiment.checks import check_learners, check_scoring
from torchstrata.experiment.plan import Cell, Grid, cells, name_learners, name_tasks
from torchstrata.experiment.progress import track
from torchstrata.experiment.result import BenchmarkResult
from torchstrata.experiment.run import interrupted, run_cells
from torchstrata.experiment.score import Outcome
from torchstrata.experiment.together import table, together


def benchmark(
    tasks: Any,
    learners: Any,
    *,
    cv: Any = 5,
    scoring: Any = None,
    n_jobs: int = 1,
    backend: str = "loky",
    vectorize: Any = "auto",
    fallback: BaseEstimator | None = None,
    on_error: str = "record",
    progress: bool = True,
) -> BenchmarkResult:
    """Fit every learner on every split of every task, and keep everything in tables.

    All settings, measures and splits are checked first: what cannot work costs no training.

    Parameters
    ----------
    tasks : Task, sequence of Task, or dict of str to Task
        What is learnt.
    learners : estimator, ts.grid(...), sequence or dict of those
        Any scikit-learn estimators. One whose ``random_state`` is None gets a seed that depends on task, learner and
        fold alone, so the result does not depend on ``n_jobs`` or on what else is compared.
    cv : int, scikit-learn splitter, or iterable of (train, test)
        The same splits for all learners.
    scoring : str, sequence of str, or dict of str to scorer, optional
        scikit-learn scorers; by default those that fit the tasks. Every test row counts the same: weights of a task are
        for training.
    n_jobs : int
        Processes; -1 for as many as there are cores.
    backend : str
        Of joblib.
    vectorize : "auto" or False
        Whether cells that differ only in numbers (folds, seeds, learning rates, ...) train as one program. The scores
        are those of one by one, but for rounding; ``fit_seconds`` is a cell's share of the time of all. Which cells
        were grouped, and why others were not, is in ``result.info["together"]``.
    fallback : estimator, optional
        Fitted in place of a learner that failed; the failure stays in the errors.
    on_error : {"record", "raise"}
        Whether a failing learner is a row of the errors, or ends the run. A wrong setting always ends it.
    progress : bool
        Whether to show progress, where there is a terminal.

    Returns
    -------
    BenchmarkResult
        Long tables.

    Raises
    ------
    ConfigError, DataError
        Before the first fit.
    KeyboardInterrupt
        With Ctrl-C; its attribute ``result`` holds what was finished, the rest with status "interrupted".

    Examples
    --------
    >>> import torchstrata as ts
    >>> from sklearn.dummy import DummyClassifier
    >>> task = ts.load_task("iris")
    >>> learners = {"linear": ts.TorchClassifier(ts.Linear(), max_epochs=30), "dummy": DummyClassifier()}
    >>> result = ts.benchmark(task, learners, cv=3, scoring="accuracy", progress=False)
    >>> result.aggregate("accuracy")["learner"].tolist()
    ['linear', 'dummy']
    """
    if on_error not in ("record", "raise"):
        raise ConfigError(f"on_error must be 'record' or 'raise', got {on_error!r}")
    if isinstance(n_jobs, bool) or not isinstance(n_jobs, numbers.Integral) or n_jobs == 0:
        raise ConfigError(f"n_jobs must be an int >= 1, or -1 for all cores, got {n_jobs!r}")
    named_tasks, named_learners = name_tasks(tasks), name_learners(learners)
    planned = cells(named_tasks, named_learners, cv)
    groups = together(planned, vectorize)
    scorers = check_scoring(scoring, named_tasks, planned)
    check_learners(planned, named_tasks)
    about = {
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "n_jobs": n_jobs,
        "cv": repr(cv),
        "together": table(groups).to_dict("records"),
    }
    conclude = functools.partial(
        _conclude, planned=planned, tasks=named_tasks, learners=named_learners, about=about, begun=time.perf_counter()
    )
    running = run_cells(
        groups, named_tasks, scorers, n_jobs=n_jobs, backend=backend, fallback=fallback, on_error=on_error
    )
    outcomes: list[Outcome] = []
    try:
        for outcome in track(running, len(planned), show=progress):
            outcomes.append(outcome)  # noqa: PERF402 - one by one: what is finished must be there after Ctrl-C
    except KeyboardInterrupt as stop:
        done = {repr(outcome.cell.keys) for outcome in outcomes}
        missing = [interrupted(cell, scorers) for cell in planned if repr(cell.keys) not in done]
        stop.result = conclude(outcomes + missing)
        raise
    result = conclude(outcomes)
    for warned in result.info["warnings"]:
        fits = f"{warned['fits']} fits of {warned['learner']!r} on {warned['task']!r}"
        warnings.warn(f"{fits}: {warned['message']}", stacklevel=2)
    return result


def _conclude(
    outcomes: list[Outcome],
    planned: list[Cell],
    tasks: dict[str, Task],
    learners: Mapping[str, BaseEstimator | Grid],
    about: dict[str, Any],
    begun: float,
) -> BenchmarkResult:
    info = {
        **environment(),
        **about,
        "seconds": round(time.perf_counter() - begun, 3),
        "runtime": next((o.runtime for o in outcomes if o.runtime), {}),
        "warnings": _warnings(outcomes),
    }
    return collect(outcomes, planned, tasks, learners, info)


def _warnings(outcomes: list[Outcome]) -> list[dict[str, Any]]:
    """Count what was warned of; fits run in other processes, where a warning would go unseen."""
    counts: dict[tuple[str, str, str], int] = {}
    for outcome in outcomes:
        for message in outcome.warnings:
            key = (outcome.cell.task, outcome.cell.learner, message)
            counts[key] = counts.get(key, 0) + 1
    return [{"task": t, "learner": name, "message": m, "fits": n} for (t, name, m), n in counts.items()]


def resample(task: Task, learner: Any, **settings: Any) -> BenchmarkResult:
    """Fit one learner on every split of one task.

    Parameters
    ----------
    task : Task
        What is learnt.
    learner : estimator or ts.grid(...)
        What learns.
    **settings
        As of :func:`benchmark`.

    Returns
    -------
    BenchmarkResult
        Long tables.
    """
    return benchmark([task], [learner], **settings)


def collect(
    outcomes: list[Outcome],
    planned: list[Cell],
    tasks: dict[str, Task],
    learners: Mapping[str, BaseEstimator | Grid],
    info: dict[str, Any],
) -> BenchmarkResult:
    """Put outcomes into long tables, in the order of the plan.

    Parameters
    ----------
    outcomes : list of Outcome
        In any order.
    planned : list of Cell
        In their order.
    tasks, learners : dict
        By name.
    info : dict
        About the run.

    Returns
    -------
    BenchmarkResult
        The tables.
    """
    place = {repr(cell.keys): i for i, cell in enumerate(planned)}
    outcomes = sorted(outcomes, key=lambda o: place[repr(o.cell.keys)])
    columns = list(dict.fromkeys(name for cell in planned for name in cell.settings))
    keys = ["task", "learner", "fold", *columns]
    scores = [{**o.cell.keys, "measure": name, "value": value} for o in outcomes for name, value in o.scores.items()]
    errors = [{**o.cell.keys, **o.error} for o in outcomes if o.error]
    splits = {
        (c.task, c.fold): {"task": c.task, "fold": c.fold, "n_train": len(c.train), "n_test": len(c.test)}
        for c in planned
    }
    return BenchmarkResult(
        pd.DataFrame(scores, columns=[*keys, "measure", "value"]),
        history=_long([(o.cell, o.history) for o in outcomes], keys, ["epoch"]),
        predictions=_long([(o.cell, o.predictions) for o in outcomes], keys, ["row", "truth", "predicted"]),
        errors=pd.DataFrame(errors, columns=[*keys, "status", "error", "message", "traceback"]),
        splits=pd.DataFrame(list(splits.values())),
        tasks={name: describe_task(task) for name, task in tasks.items()},
        learners={name: _settings_of(learner) for name, learner in learners.items()},
        info=info,
    )


def _settings_of(learner: BaseEstimator | Grid) -> str:
    """Write all settings, defaults too; what a grid varies stands in the tables, so two halves of one can be added."""
    with config_context(print_changed_only=False):
        return " ".join(repr(learner.learner if isinstance(learner, Grid) else learner).split())


def _long(tables: Iterable[tuple[Cell, pd.DataFrame]], keys: list[str], least: list[str]) -> pd.DataFrame:
    parts = [(cell.keys, table) for cell, table in tables if len(table)]
    if not parts:
        return pd.DataFrame(columns=[*keys, *least])
    whole = pd.concat([table for _, table in parts], ignore_index=True)
    lengths = [len(table) for _, table in parts]
    names = [name for name in keys if any(name in own for own, _ in parts)]
    # the keys of a thousand tables are written in one go
    named = pd.DataFrame([{name: own.get(name) for name in names} for own, _ in parts], columns=names)
    repeated = named.loc[np.repeat(np.arange(len(parts)), lengths)].reset_index(drop=True)
    return pd.concat([repeated, whole[[c for c in whole if c not in keys]]], axis=1)


def describe_task(task: Task) -> dict[str, Any]:
    """Return what a report says about a task.

    Parameters
    ----------
    task : Task
        Any.

    Returns
    -------
    dict
        Plain values.
    """
    by_class = task.class_counts() if task.kind == "classification" else None
    return {
        "kind": task.kind,
        "n_rows": task.n_rows,
        "n_features": len(task.feature_names),
        "classes": None if by_class is None else [str(label) for label in by_class.index],
        "positive": None if task.positive is None else str(task.positive),
        "class_counts": None if by_class is None else {str(k): int(v) for k, v in by_class.items()},
        "missing": int(task.X.isna().to_numpy().sum()),
        "target": ", ".join(task.target_names),
        "fingerprint": task.fingerprint(),
    }


def environment() -> dict[str, Any]:
    """Return versions and machine, for the record.

    Returns
    -------
    dict
        Plain values.
    """
    packages = ("torchstrata", "torch", "scikit-learn", "numpy", "pandas", "scipy")
    return {
        "versions": {"python": platform.python_version(), **{name: metadata.version(name) for name in packages}},
        "machine": f"{platform.system()} {platform.machine()}",
        "command": shlex.join(["torchstrata" if a.endswith("torchstrata") else a for a in sys.argv[:1]] + sys.argv[1:]),
    }
