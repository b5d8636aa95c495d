"""A store as a result: what is finished in tables, what is not by name; needs no torch."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torchstrata.errors import DataError
from torchstrata.experiment.storage.record import Columns, NewerFormat, Planned, Record, unpack
from torchstrata.experiment.store import Plan, Store, united

if TYPE_CHECKING:
    from torchstrata.experiment.result import BenchmarkResult


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
    runs = store.runs()
    info: dict[str, Any] = {**(runs[-1] if runs else {}), "seconds": round(sum(r.get("seconds", 0.0) for r in runs), 3)}
    if len(runs) > 1:
        info["runs"] = runs
    result = result_of(store, plan, info, damaged)
    for message in damaged:
        warnings.warn(message, stacklevel=3)
    return result


def result_of(store: Store, plan: Plan, info: dict[str, Any], damaged: list[str], status: str = "missing") -> Any:
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

    Returns
    -------
    BenchmarkResult
        With ``info["store"]``: folder, and how many cells are planned, finished, failed and missing.
    """
    from torchstrata.experiment.collect import collect  # result.py, which collect needs, reads stores through this file

    counts = {"cells": len(plan.cells), "finished": 0, "failed": 0, "missing": 0}
    info = {**info, "store": {"folder": str(store.folder), **counts}}
    return collect(
        _records(store, plan, info["store"], damaged, status),
        plan.cells,
        splits=[_row(split) for split in plan.splits],
        tasks=plan.tasks,
        learners=plan.learners,
        info=info,
    )


def _row(split: dict[str, Any]) -> dict[str, Any]:
    return {name: unpack(value) for name, value in split.items() if name != "digest"}


def _records(store: Store, plan: Plan, counts: dict[str, Any], damaged: list[str], status: str) -> Iterator[Record]:
    for cell in plan.cells:
        found, told = None, "not carried out; call the benchmark again with this store"
        try:
            found = store.read(cell.key)
        except NewerFormat as error:
            raise DataError(f"{store.path('cells', cell.key)} has {error}") from None
        except ValueError as error:
            told = f"{store.path('cells', cell.key)} is damaged ({error}); call the benchmark again with this store"
            damaged.append(told)
        if found is None:
            counts["missing"] += 1
            yield _absent(cell, plan.measures, "damaged" if "damaged" in told else status, told)
            continue
        counts["finished"] += 1
        counts["failed"] += found.status != "ok"
        yield found


def _absent(cell: Planned, measures: list[str], status: str, told: str) -> Record:
    nothing = Columns({}, {})
    error = {"status": status, "error": "", "message": told, "traceback": ""}
    scores = dict.fromkeys(measures, float("nan"))
    return Record(cell, scores, nothing, nothing, error, warnings=[], runtime={}, seconds=0.0, about={})
