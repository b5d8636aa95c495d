"""A store as a result: what is finished in tables, what is not by name; needs no torch."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torchstrata.errors import DataError
from torchstrata.experiment.storage import record
from torchstrata.experiment.storage.columns import Columns, unpack
from torchstrata.experiment.storage.plans import Plan, united
from torchstrata.experiment.storage.record import Planned, Record
from torchstrata.experiment.store import Store

if TYPE_CHECKING:
    from torchstrata.experiment.result import BenchmarkResult

KEPT = 1 << 26  # values in tables (half a gigabyte) that a process keeps while it works; more is read again at its end


def load_store(folder: str | Path) -> BenchmarkResult:
    """Read a store, finished or not.

    Parameters
    ----------
    folder : str or Path
        What ``benchmark(..., store=folder)`` made.

    Returns
    -------
    BenchmarkResult
        All cells of all plans that belong together; one that is not there has NaN as scores and a row of the errors
        with status ``"missing"`` or ``"damaged"``. ``info["store"]`` counts them.

    Raises
    ------
    DataError
        If it is no store, has no plan that can be read, or a newer torchstrata wrote it.

    Warns
    -----
    UserWarning
        Naming every damaged file, and how many cells no plan names.
    """
    store = Store(folder)
    plans, damaged = store.plans()
    if not plans:
        why = damaged[0] if damaged else "it has no plan: no benchmark got as far as its first cell"
        raise DataError(f"{store.folder} cannot be read as a result: {why}. Call the benchmark again with this store.")
    plan = united(plans)
    named = {cell.key for each in plans for cell in each.cells}
    unnamed = [name for name in store.names("cells") if name not in named]
    if unnamed:
        damaged.append(f"{len(unnamed)} cells of {store.folder} belong to no plan there: copy the files of plans/ too")
    runs, unread = store.runs()
    damaged += unread
    info: dict[str, Any] = {**(runs[-1] if runs else {}), "seconds": round(sum(r.get("seconds", 0.0) for r in runs), 3)}
    if len(runs) > 1:
        info["runs"] = runs
    result = result_of(store, plan, info, damaged)
    for message in damaged:
        warnings.warn(message, stacklevel=3)
    return result


class Kept:
    """The cells of a plan that a process has read, so that it need not read them again for its result.

    Parameters
    ----------
    plan : Plan
        Whose cells.
    """

    def __init__(self, plan: Plan):
        self._plan = plan
        self.clear()

    def clear(self) -> None:
        """Forget all."""
        # here, since result.py, which it needs, reads stores through this file
        from torchstrata.experiment.collect import Collected

        self.collected = Collected(self._plan.cells)
        self.numbers: dict[str, int] = {}
        self.failed = self._values = 0
        self._whole = True

    def add(self, found: Record, number: int) -> None:
        """Keep a cell, as long as there is room.

        Parameters
        ----------
        found : Record
            Once a cell.
        number : int
            Of its file, as listed before it was read.
        """
        if self._values > KEPT:
            return
        self._whole = False  # Ctrl-C can come in between
        self.collected.add(found)
        self.numbers[found.cell.key] = number
        self.failed += found.status != "ok"
        self._values += sum(len(table) * len(table.values) for table in (found.history, found.predictions))
        self._whole = True

    def holds(self, there: Mapping[str, int]) -> bool:
        """Say whether what was read is still what the files hold.

        Parameters
        ----------
        there : mapping
            Names of the files of cells to their numbers now.

        Returns
        -------
        bool
            False if one is gone, or another took its place.
        """
        return self._whole and all(there.get(key) == number for key, number in self.numbers.items())


def result_of(
    store: Store,
    plan: Plan,
    info: dict[str, Any],
    damaged: list[str],
    status: str = "missing",
    *,
    kept: Kept | None = None,
) -> BenchmarkResult:
    """Put the cells of a plan into tables.

    Parameters
    ----------
    store : Store
        Where they are.
    plan : Plan
        Which.
    info : dict
        About the run.
    damaged : list of str
        Gets a line for each damaged file.
    status : str
        Of a cell that is not there.
    kept : Kept, optional
        What was read before; it gets what is read now.

    Returns
    -------
    BenchmarkResult
        With ``info["store"]``: folder, and how many cells are planned, finished, failed and missing.
    """
    kept = kept or Kept(plan)
    if kept.numbers and not kept.holds(store.numbered("cells")):
        kept.clear()
    n_kept = len(kept.numbers)
    counts = {"cells": len(plan.cells), "finished": n_kept, "failed": kept.failed, "missing": 0}
    left = [cell for cell in plan.cells if cell.key not in kept.numbers]
    for found in _records(store, left, plan.measures, counts, damaged, status):
        kept.collected.add(found)
    return kept.collected.result(
        splits=[_row(split) for split in plan.splits],
        tasks=plan.tasks,
        learners=plan.learners,
        info={**info, "store": {"folder": str(store.folder), **counts}},
    )


def _row(split: dict[str, Any]) -> dict[str, Any]:
    return {name: unpack(value) for name, value in split.items() if name != "digest"}


def _records(
    store: Store,
    cells: Sequence[Planned],
    measures: list[str],
    counts: dict[str, int],
    damaged: list[str],
    status: str,
) -> Iterator[Record]:
    for cell, found in store.each(cells, record.from_line):
        if isinstance(found, Record):
            counts["finished"] += 1
            counts["failed"] += found.status != "ok"
            yield found
            continue
        counts["missing"] += 1
        if found is None:
            yield _absent(cell, measures, status, "not carried out; call the benchmark again with this store")
            continue
        told = f"{store.path('cells', cell.key)} is damaged ({found}); call the benchmark again with this store"
        damaged.append(told)
        yield _absent(cell, measures, "damaged", told)


def _absent(cell: Planned, measures: list[str], status: str, told: str) -> Record:
    nothing = Columns({}, {})
    error = {"status": status, "error": "", "message": told, "traceback": ""}
    scores = dict.fromkeys(measures, float("nan"))
    return Record(cell, scores, nothing, nothing, error, warnings=[], runtime={}, seconds=0.0, about={})
