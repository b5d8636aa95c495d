"""benchmark(), resample(): tasks x learners x splits, fairly compared."""

from __future__ import annotations

import functools
import numbers
import platform
import re
import shlex
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from sklearn import config_context
from sklearn.base import BaseEstimator

from torchstrata.data.task import Task
from torchstrata.errors import ConfigError
from torchstrata.experiment.archive import plain
from torchstrata.experiment.checks import check_fallback, check_learners, check_scoring
from torchstrata.experiment.collect import collect
from torchstrata.experiment.plan import Cell, Grid, cells, name_learners, name_tasks
from torchstrata.experiment.progress import track
from torchstrata.experiment.result import BenchmarkResult
from torchstrata.experiment.run import run_cells
from torchstrata.experiment.score import Outcome
from torchstrata.experiment.statuses import finished, interrupted
from torchstrata.experiment.storage.identity import digest
from torchstrata.experiment.storage.record import Planned
from torchstrata.experiment.storage.resume import go_on, statuses_again
from torchstrata.experiment.storage.sharing import Conditions, now
from torchstrata.experiment.together import Group, table, together
from torchstrata.interrupts import interruptible


def benchmark(
    tasks: Any,
    learners: Any,
    *,
    cv: Any = 5,
    scoring: Any = None,
    store: str | Path | None = None,
    n_jobs: int = 1,
    backend: str = "loky",
    vectorize: Any = "auto",
    fallback: BaseEstimator | None = None,
    on_error: str = "record",
    timeout: float | None = None,
    retry_failed: bool | str | Sequence[str] = False,
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
    cv : int, scikit-learn splitter, one of ts.splitters, or iterable of (train, test)
        The same splits for all learners.
    scoring : str, sequence of str, or dict of str to scorer, optional
        scikit-learn scorers; by default those that fit the tasks. Every test row counts the same: weights of a task are
        for training.
    store : str or Path, optional
        A folder that keeps every cell as soon as it is finished. Called again after whatever ended it, the benchmark
        carries out what is missing and returns the whole; other tasks, learners or values of a grid reuse what is
        still valid; several processes or machines with one folder share the work. See ``docs/store.md``.
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
    timeout : float, optional
        Seconds that a cell may take; then its process is ended and its status is "timeout".
    retry_failed : bool, or statuses
        Which failures in the store are carried out again: all, none, or those of some statuses, such as
        ``["timeout", "killed"]``. A failure under another fallback, or a shorter timeout, is always.
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
    with interruptible():
        _check_settings(n_jobs, on_error, store, retry_failed)
        named_tasks, named_learners = name_tasks(tasks), name_learners(learners)
        planned = cells(named_tasks, named_learners, cv)
        groups = together(planned, vectorize)
        scorers = check_scoring(scoring, named_tasks, planned)
        check_learners(planned, named_tasks)
        check_fallback(fallback, planned, named_tasks, scorers)
        run: Callable[[list[Group]], Iterable[Outcome]] = functools.partial(
            run_cells, tasks=named_tasks, scorers=scorers, n_jobs=n_jobs, backend=backend, fallback=fallback,
            on_error=on_error, timeout=timeout,
        )  # fmt: skip
        facts = {
            "splits": _splits(planned),
            "tasks": plain({name: describe_task(task) for name, task in named_tasks.items()}),
            "learners": {name: _settings_of(learner) for name, learner in named_learners.items()},
        }
        info = functools.partial(
            _info, n_jobs=n_jobs, cv=repr(cv), groups=groups, started=now(), begun=time.perf_counter()
        )
        run([])  # a wrong timeout or backend is refused now, also where nothing is left to do
        if store is None:
            result = _carry_out(planned, groups, run, scorers, facts, info, progress)
        else:
            failures = Conditions(
                "" if fallback is None else digest(fallback),
                float(timeout or 0),
                on_error,
                statuses_again(retry_failed),
                now(),
            )
            result = go_on(
                store, planned, groups, run, scorers=scorers, facts=facts, conditions=failures, info=info,
                n_jobs=n_jobs, progress=progress,
            )  # fmt: skip
    for warned in result.info["warnings"]:
        fits = f"{warned['fits']} fits of {warned['learner']!r} on {warned['task']!r}"
        warnings.warn(f"{fits}: {warned['message']}", stacklevel=2)
    return result


def _check_settings(n_jobs: Any, on_error: Any, store: Any, retry_failed: Any) -> None:
    if on_error not in ("record", "raise"):
        raise ConfigError(f"on_error must be 'record' or 'raise', got {on_error!r}")
    if isinstance(n_jobs, bool) or not isinstance(n_jobs, numbers.Integral) or n_jobs == 0:
        raise ConfigError(f"n_jobs must be an int >= 1, or -1 for all cores, got {n_jobs!r}")
    if not (store is None or (isinstance(store, (str, Path)) and str(store))):
        raise ConfigError(f"store must be the name of a folder, such as 'runs/aum', got {store!r}")
    if statuses_again(retry_failed) and store is None:
        raise ConfigError("retry_failed is about failures in a store: give store= too")


def _carry_out(
    planned: list[Cell],
    groups: list[Group],
    run: Callable[[list[Group]], Iterable[Outcome]],
    scorers: Mapping[str, Any],
    facts: dict[str, Any],
    info: Callable[[], dict[str, Any]],
    progress: bool,
) -> BenchmarkResult:
    """Carry out all cells and keep what they leave behind in memory."""
    outcomes: list[Outcome] = []
    named, running = [Planned.of(cell) for cell in planned], run(groups)
    try:
        for outcome in track(running, len(planned), show=progress):
            outcomes.append(outcome)  # noqa: PERF402 - one by one: what is finished must be there after Ctrl-C
    except KeyboardInterrupt as stop:
        done = {id(outcome.cell) for outcome in outcomes}
        outcomes += [outcome for outcome in finished(running, stop) if id(outcome.cell) not in done]
        done = {id(outcome.cell) for outcome in outcomes}
        missing = [interrupted(cell, scorers) for cell in planned if id(cell) not in done]
        stop.result = collect(outcomes + missing, named, **facts, info=info())  # type: ignore[attr-defined]
        raise
    return collect(outcomes, named, **facts, info=info())


def _splits(planned: list[Cell]) -> list[dict[str, Any]]:
    splits = {
        (c.task, c.fold): {"task": c.task, "fold": c.fold, "n_train": len(c.train), "n_test": len(c.test), **c.about}
        for c in planned
    }
    return list(splits.values())


def _info(*, n_jobs: int, cv: str, groups: list[Group], started: str, begun: float) -> dict[str, Any]:
    return {
        **environment(),
        "started": started,
        "n_jobs": n_jobs,
        "cv": cv,
        "together": plain(table(groups).to_dict("records")),
        "seconds": round(time.perf_counter() - begun, 3),
    }


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


def _settings_of(learner: BaseEstimator | Grid) -> str:
    """Write all settings, defaults too; what a grid varies stands in the tables, so two halves of one can be added."""
    with config_context(print_changed_only=False):
        text = " ".join(repr(learner.learner if isinstance(learner, Grid) else learner).split())
    return re.sub(r" at 0x[0-9a-f]+", "", text)  # the same in every process


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
