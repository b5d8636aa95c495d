"""Go on with a plan in a store, from wherever it was left, beside whoever else works there."""

from __future__ import annotations

import contextlib
import functools
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from joblib import effective_n_jobs

from torchstrata.errors import ConfigError, did_you_mean
from torchstrata.experiment.plan import Cell
from torchstrata.experiment.progress import track
from torchstrata.experiment.result import BenchmarkResult
from torchstrata.experiment.score import Outcome
from torchstrata.experiment.statuses import STATUSES, finished
from torchstrata.experiment.storage.columns import pack
from torchstrata.experiment.storage.identity import cell_key, digest, split_digest
from torchstrata.experiment.storage.lease import Lease, claims
from torchstrata.experiment.storage.plans import Plan
from torchstrata.experiment.storage.record import Planned
from torchstrata.experiment.storage.sharing import Conditions, Sharing, now
from torchstrata.experiment.storage.stored import Kept, result_of
from torchstrata.experiment.store import Store
from torchstrata.experiment.together import Group


def go_on(
    folder: str | Path,
    cells: Sequence[Cell],
    groups: Sequence[Group],
    run: Callable[[list[Group]], Iterable[Outcome]],
    *,
    scorers: Mapping[str, Any],
    facts: Mapping[str, Any],
    conditions: Conditions,
    info: Callable[[], dict[str, Any]],
    n_jobs: int = 1,
    progress: bool = True,
) -> BenchmarkResult:
    """Carry out what a store lacks of a plan, and return all of it.

    Parameters
    ----------
    folder : str or Path
        The store; made where it does not exist.
    cells : sequence of Cell
        The plan.
    groups : sequence of Group
        The same cells, as they train together.
    run : callable
        Carries out groups and yields outcomes.
    scorers : mapping
        By name of the measure.
    facts : mapping
        tasks, learners and splits of the result.
    conditions : Conditions
        Which stored failures count.
    info : callable
        Says what is known about this run by now.
    n_jobs : int
        As of benchmark.
    progress : bool
        Whether to show progress, where there is a terminal.

    Returns
    -------
    BenchmarkResult
        As a run without a store gives it.

    Raises
    ------
    ConfigError, DataError
        Before the first fit.
    OSError
        If something cannot be written; what is finished stays.
    """
    jobs = effective_n_jobs(n_jobs)
    store = Store(folder)
    plan, planned = _planned(cells, scorers, facts)
    kept = Kept(plan)
    result = functools.partial(result_of, store, plan, kept=kept)
    store.prepare()
    with Lease(store, jobs) as lease:
        store.keep(plan, _rows(cells))
        sharing = Sharing(store, lease, conditions, planned, kept)
        began = sum(record.status != "ok" for record in sharing.look(cells))
        lease.sweep(sharing.done)
        while True:
            before = len(sharing.done)
            if before < len(cells):
                store.keep_run(lease.worker.name, info())
            with _results(result, info, lease, store):
                outcomes = sharing.carry_out(groups, run, jobs)
                running = functools.partial(_running, store, {cell.key for cell in plan.cells})
                try:
                    for _ in track(outcomes, len(cells), show=progress, done=before, failed=began, running=running):
                        pass
                except KeyboardInterrupt as stop:
                    finished(outcomes, stop)  # it writes them
                    raise
            if before < len(cells):
                store.keep_run(lease.worker.name, info())
            damaged: list[str] = []
            found = result(info(), damaged)
            if not found.info["store"]["missing"]:
                lease.sweep(sharing.done)
                return found
            for message in damaged:
                warnings.warn(message, stacklevel=2)
            kept.clear()
            sharing.done.clear()  # a file was lost or damaged since it was written
            list(sharing.look(cells))


@contextlib.contextmanager
def _results(result: Any, info: Callable[[], dict[str, Any]], lease: Lease, store: Store) -> Iterator[None]:
    """Hand what is finished to who is told of Ctrl-C."""
    try:
        yield
    except KeyboardInterrupt as stop:
        with contextlib.suppress(OSError):
            store.keep_run(lease.worker.name, info())
        stop.result = result(info(), [], "interrupted")  # type: ignore[attr-defined]
        raise


def _running(store: Store, keys: set[str], every: float = 1.0) -> int:
    """Count the claims of a plan; a folder is listed once a second at most."""
    listed, count = _LISTED.get(str(store.folder), (0.0, 0))
    if time.monotonic() - listed > every:
        count = len({key for _, key in claims(store) if key in keys})
        _LISTED[str(store.folder)] = (time.monotonic(), count)
    return count


_LISTED: dict[str, tuple[float, int]] = {}


def _planned(
    cells: Sequence[Cell], scorers: Mapping[str, Any], facts: Mapping[str, Any]
) -> tuple[Plan, dict[int, Planned]]:
    """Name every cell by its key."""
    scoring = digest(dict(scorers))
    named = [Planned.of(cell, cell_key(cell, facts["tasks"][cell.task]["fingerprint"], scoring)) for cell in cells]
    digests = {(cell.task, cell.fold): split_digest(cell) for cell in cells}
    splits = [
        {**{name: pack(value) for name, value in split.items()}, "digest": digests[split["task"], split["fold"]]}
        for split in facts["splits"]
    ]
    plan = Plan(named, facts["tasks"], facts["learners"], list(scorers), splits, started=now())
    return plan, {id(cell): one for cell, one in zip(cells, named, strict=True)}


def _rows(cells: Sequence[Cell]) -> dict[str, dict[str, Any]]:
    """Return the rows of every split, by digest of all that its file says."""
    splits = {(cell.task, cell.fold): cell for cell in cells}
    return {
        digest([task, fold, split_digest(cell)])[:32]: {
            "task": task, "fold": fold, "train": cell.train.tolist(), "test": cell.test.tolist(),
        }
        for (task, fold), cell in splits.items()
    }  # fmt: skip


def statuses_again(retry_failed: bool | str | Sequence[str]) -> frozenset[str]:
    """Say which stored failures are carried out again.

    Parameters
    ----------
    retry_failed : bool, str or sequence of str
        All, none, or those with these statuses.

    Returns
    -------
    frozenset of str
        Statuses.

    Raises
    ------
    ConfigError
        If there is no such status.
    """
    failures = [status for status in STATUSES if status != "ok"]
    if isinstance(retry_failed, bool):
        return frozenset(failures if retry_failed else ())
    given = [retry_failed] if isinstance(retry_failed, str) else list(retry_failed)
    for status in given:
        if status not in failures:
            raise ConfigError(f"retry_failed: there is no status {status!r}. {did_you_mean(status, failures)}")
    return frozenset(given)
