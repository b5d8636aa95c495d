"""A store from outside: what is finished, who works, what is missing, how long it may take; needs no torch."""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from torchstrata.errors import DataError
from torchstrata.experiment.progress import duration
from torchstrata.experiment.storage.lease import Worker, claims, read_worker, why_gone, workers
from torchstrata.experiment.storage.record import NewerFormat
from torchstrata.experiment.store import Store, united

if TYPE_CHECKING:
    from rich.table import Table


@dataclasses.dataclass
class Status:
    """Where a store stands.

    Parameters
    ----------
    folder : Path
        The store.
    cells : DataFrame
        A row a planned cell: task, learner, fold, status (of a finished cell; else "claimed", "stale", "missing" or
        "damaged"), seconds.
    working : dict of str to int
        Process to how many cells it has claimed.
    gone : dict of str to str
        Process that ended without giving back its claims, and how that is known.
    damaged : list of str
        Files, and what is wrong with them.
    jobs : int
        How many cells the living processes carry out at a time.
    """

    folder: Path
    cells: pd.DataFrame
    working: dict[str, int]
    gone: dict[str, str]
    damaged: list[str]
    jobs: int

    @property
    def open(self) -> pd.Series:
        """Which cells are not finished."""
        return self.cells["status"].isin(["claimed", "stale", "missing", "damaged"])

    @property
    def seconds_left(self) -> float | None:
        """Seconds that the open cells take at the pace of the finished ones; None where nothing is known.

        A cell takes what finished cells of its learner on its task took on average, else those of any learner.
        """
        cells, open_ = self.cells, self.open
        known = cells[~open_]
        if not open_.any():
            return 0.0
        if known.empty:
            return None
        means = known.groupby(["task", "learner"])["seconds"].mean()
        left = pd.MultiIndex.from_frame(cells.loc[open_, ["task", "learner"]])
        return float(means.reindex(left).fillna(known["seconds"].mean()).sum() / max(1, self.jobs))

    def counts(self) -> pd.DataFrame:
        """Count cells by task, learner and status.

        Returns
        -------
        DataFrame
            A row a task and learner; columns cells, and the statuses that occur.
        """
        table = self.cells.pivot_table(
            index=["task", "learner"], columns="status", aggfunc="size", fill_value=0, sort=False
        )
        table.columns.name = None
        table.insert(0, "cells", table.sum(axis=1))
        return table.reset_index()

    def lines(self) -> list[str]:
        """Say it in sentences.

        Returns
        -------
        list of str
            For a terminal.
        """
        by = Counter(self.cells["status"])
        finished, failed = int((~self.open).sum()), int((~self.open).sum() - by["ok"])
        out = [f"{self.folder}: {finished} of {len(self.cells)} cells finished, {failed} failed"]
        rest = [f"{by[name]} {name}" for name in ("claimed", "stale", "missing", "damaged") if by[name]]
        out += [f"  open: {', '.join(rest)}"] if rest else []
        out += [f"  working: {name}, {n} cells claimed" for name, n in self.working.items()]
        out += [f"  gone: {name} ({why}); its claims go to whoever works next" for name, why in self.gone.items()]
        out += [f"  {line}" for line in self.damaged]
        seconds = self.seconds_left
        if seconds is None:
            out.append("  time left: not known before the first cell is finished")
        elif rest:
            out.append(f"  time left: {duration(seconds)}" + (f" with {self.jobs} at a time" if self.jobs else
                       " of work, and nobody works: call the benchmark again with this store"))  # fmt: skip
        return out

    def to_rich(self) -> Table:
        """Make the counts for a terminal.

        Returns
        -------
        rich.table.Table
            Print it with rich.
        """
        from rich.table import Table

        counts, table = self.counts(), Table(box=None)
        for name in counts:
            table.add_column(str(name), justify="left" if name in ("task", "learner") else "right")
        for row in counts.itertuples(index=False):
            table.add_row(*map(str, row))
        return table


def status_of_store(folder: str | Path) -> Status:
    """Look at a store from outside; nothing is changed.

    Parameters
    ----------
    folder : str or Path
        What ``benchmark(..., store=folder)`` made, while it runs or later.

    Returns
    -------
    Status
        As of now.

    Raises
    ------
    DataError
        If it is no store, or a newer torchstrata wrote it.
    """
    store = Store(folder)
    plans, damaged = store.plans()
    plan, now = united(plans), time.time()
    names, gone = {worker.name: worker for worker in workers(store)}, {}
    for worker in names.values():
        why = why_gone(store, worker, now)
        if why:
            gone[str(worker)] = why
    claimed = _claimed(store)
    rows, working = [], {str(worker): 0 for worker in names.values() if str(worker) not in gone}
    for cell in plan.cells:
        status, seconds = "missing", float("nan")
        try:
            found = store.read(cell.key)
            if found is not None:
                status, seconds = found.status, found.seconds
        except NewerFormat as error:
            raise DataError(f"{store.path('cells', cell.key)} has {error}") from None
        except ValueError as error:
            status = "damaged"
            damaged.append(f"{store.path('cells', cell.key)} is damaged ({error})")
        if status == "missing" and cell.key in claimed:
            owner = claimed[cell.key]
            status = "stale" if owner is None or str(owner) not in working else "claimed"
            if status == "claimed":
                working[str(owner)] += 1
        rows.append(
            {"task": cell.task, "learner": cell.learner, "fold": cell.fold, "status": status, "seconds": seconds}
        )
    jobs = sum(worker.jobs for worker in names.values() if str(worker) in working)
    columns = ["task", "learner", "fold", "status", "seconds"]
    return Status(store.folder, pd.DataFrame(rows, columns=columns), working, gone, damaged, jobs)


def _claimed(store: Store) -> dict[str, Worker | None]:
    """Return the claims: key to owner; of several claims on one cell the last."""
    found = {}
    for path, key in sorted(claims(store), key=lambda claim: (claim[1], int(claim[0].suffix[1:] or 0))):
        found[key] = read_worker(path)
    return found
