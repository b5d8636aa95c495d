"""A store from outside: what is finished, who works, what is missing, how long it may take; needs no torch."""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from torchstrata.experiment.progress import duration
from torchstrata.experiment.storage import record
from torchstrata.experiment.storage.lease import Worker, claims, read_worker, why_gone, workers
from torchstrata.experiment.storage.plans import united
from torchstrata.experiment.storage.record import Planned
from torchstrata.experiment.store import Store

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
    working = {str(worker): 0 for worker in names.values() if str(worker) not in gone}
    claimed, ended = _claimed(store), []
    for cell, found in store.each(plan.cells, record.ending_of):
        if isinstance(found, ValueError):
            ended.append(("damaged", float("nan")))
            damaged.append(f"{store.path('cells', cell.key)} is damaged ({found})")
        else:
            ended.append(found or (_open(cell.key, claimed, working), float("nan")))
    jobs = sum(worker.jobs for worker in names.values() if str(worker) in working)
    return Status(store.folder, _table(plan.cells, ended), working, gone, damaged, jobs)


def _open(key: str, claimed: Mapping[str, Worker | None], working: dict[str, int]) -> str:
    """Say of a cell that is not finished whether somebody works on it, and count it."""
    if key not in claimed:
        return "missing"
    owner = str(claimed[key])
    if owner not in working:
        return "stale"
    working[owner] += 1
    return "claimed"


def _table(cells: Sequence[Planned], ended: Sequence[tuple[str, float]]) -> pd.DataFrame:
    named = {name: [getattr(cell, name) for cell in cells] for name in ("task", "learner", "fold")}
    return pd.DataFrame({**named, "status": [how for how, _ in ended], "seconds": [s for _, s in ended]})


def _claimed(store: Store) -> dict[str, Worker | None]:
    """Return the claims: key to owner; of several claims on one cell the last."""
    found = {}
    for path, key in sorted(claims(store), key=lambda claim: (claim[1], int(claim[0].suffix[1:] or 0))):
        found[key] = read_worker(path)
    return found
