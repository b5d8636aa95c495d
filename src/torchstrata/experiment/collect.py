"""What cells left behind -> long tables, in the order of the plan; needs no torch."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from torchstrata.experiment.cells import COLUMNS, ending
from torchstrata.experiment.result import BenchmarkResult
from torchstrata.experiment.storage.record import Columns, Planned, to_array


def collect(
    outcomes: Iterable[Any],
    planned: Sequence[Planned],
    *,
    splits: Sequence[Mapping[str, Any]],
    tasks: Mapping[str, Any],
    learners: Mapping[str, str],
    info: Mapping[str, Any],
) -> BenchmarkResult:
    """Put outcomes into long tables, in the order of the plan.

    Parameters
    ----------
    outcomes : iterable of Outcome or Record
        In any order; each is let go before the next is asked for, but for its tables.
    planned : sequence of Planned
        In their order.
    splits : sequence of dict
        Rows of the table of splits.
    tasks, learners : mapping
        What the result says of them, by name.
    info : mapping
        About the run; what was warned of and the decisions of torch learners are added.

    Returns
    -------
    BenchmarkResult
        The tables.
    """
    place = {repr(cell.keys): i for i, cell in enumerate(planned)}
    long = {"history": _Long(), "predictions": _Long()}
    seen: dict[int, tuple[dict[str, float], dict[str, Any] | None, list[str], dict[str, Any]]] = {}
    ended: dict[int, dict[str, Any]] = {}
    for outcome in outcomes:
        at = place[repr(outcome.cell.keys)]
        ended[at] = ending(outcome)
        seen[at] = (outcome.scores, outcome.error, outcome.warnings, outcome.runtime)
        for name, tables in long.items():
            tables.add(at, getattr(outcome, name))
    columns = list(dict.fromkeys(name for cell in planned for name in cell.settings))
    keys = ["task", "learner", "fold", *columns]
    order = [(planned[at].keys, *seen[at]) for at in sorted(seen)]
    scores = [{**own, "measure": m, "value": value} for own, found, *_ in order for m, value in found.items()]
    errors = [{**own, **error} for own, _, error, *_ in order if error]
    return BenchmarkResult(
        pd.DataFrame(scores, columns=[*keys, "measure", "value"]),
        history=long["history"].table(planned, keys, ["epoch"]),
        predictions=long["predictions"].table(planned, keys, ["row", "truth", "predicted"]),
        errors=pd.DataFrame(errors, columns=[*keys, "status", "error", "message", "traceback"]),
        splits=pd.DataFrame(list(splits)),
        statuses=pd.DataFrame([{**planned[at].keys, **ended[at]} for at in sorted(ended)], columns=[*keys, *COLUMNS]),
        tasks=tasks,
        learners=learners,
        info={
            **info,
            "runtime": next((runtime for *_, runtime in order if runtime), {}),
            "warnings": _warnings([(own, told) for own, _, _, told, _ in order]),
        },
    )


def _warnings(told: Iterable[tuple[Mapping[str, Any], Sequence[str]]]) -> list[dict[str, Any]]:
    """Count what was warned of; fits run in other processes, where a warning would go unseen."""
    counts: dict[tuple[str, str, str], int] = {}
    for own, messages in told:
        for message in messages:
            key = (own["task"], own["learner"], message)
            counts[key] = counts.get(key, 0) + 1
    return [{"task": t, "learner": name, "message": m, "fits": n} for (t, name, m), n in counts.items()]


class _Long:
    """The tables of many cells, one below the other."""

    def __init__(self) -> None:
        self.parts: list[tuple[list[int], list[int], pd.DataFrame | _Alike]] = []
        self.alike: dict[str, int] = {}

    def add(self, place: int, table: pd.DataFrame | Columns) -> None:
        """Add the table of the cell at a place of the plan; one that was read joins those of the same dtypes."""
        if not len(table):
            return
        if isinstance(table, pd.DataFrame):
            self.parts.append(([place], [len(table)], table))
            return
        dtypes = json.dumps(table.dtypes)
        if dtypes not in self.alike:
            self.alike[dtypes] = len(self.parts)
            self.parts.append(([], [], _Alike(table.dtypes)))
        places, lengths, alike = self.parts[self.alike[dtypes]]
        assert isinstance(alike, _Alike)
        places.append(place)
        lengths.append(len(table))
        alike.add(table)

    def table(self, planned: Sequence[Planned], keys: Sequence[str], least: Sequence[str]) -> pd.DataFrame:
        """Make one table of all, with the keys of each cell before its rows."""
        if not self.parts:
            return pd.DataFrame(columns=[*keys, *least])
        parts = sorted(self.parts, key=lambda part: min(part[0]))  # the first table says the order of the columns
        frames = [part if isinstance(part, pd.DataFrame) else part.table() for _, _, part in parts]
        whole = pd.concat(frames, ignore_index=True)
        places = np.array([place for part, _, _ in parts for place in part])
        of_row = np.repeat(places, [length for _, part, _ in parts for length in part])
        if (np.diff(of_row) < 0).any():
            order = np.argsort(of_row, kind="stable")
            whole, of_row = whole.take(order).reset_index(drop=True), of_row[order]
        own = [planned[place].keys for place in np.unique(places)]
        names = [name for name in keys if any(name in one for one in own)]
        # the keys of a thousand tables are written in one go
        named = pd.DataFrame([{name: one.get(name) for name in names} for one in own], columns=names)
        repeated = named.loc[np.unique(of_row, return_inverse=True)[1]].reset_index(drop=True)
        return pd.concat([repeated, whole[[c for c in whole if c not in keys]]], axis=1)


class _Alike:
    """Tables that were read, with the same columns and dtypes."""

    def __init__(self, dtypes: dict[str, dict[str, Any]]):
        self.dtypes = dtypes
        self.arrays: dict[str, list[np.ndarray]] = {name: [] for name, about in dtypes.items() if _is_number(about)}
        self.cells: dict[str, list[Any]] = {name: [] for name in dtypes if name not in self.arrays}

    def add(self, table: Columns) -> None:
        for name, parts in self.arrays.items():  # a float in a list takes four times the memory
            parts.append(to_array(table.values[name], self.dtypes[name]))
        for name, cells in self.cells.items():
            cells.extend(table.values[name])

    def table(self) -> pd.DataFrame:
        made = {name: np.concatenate(parts) for name, parts in self.arrays.items()}
        made |= {name: to_array(cells, self.dtypes[name]) for name, cells in self.cells.items()}
        return pd.DataFrame(made, columns=list(self.dtypes))


def _is_number(about: Mapping[str, Any]) -> bool:
    dtype = about["dtype"]  # int64, and neither interval[...] nor int64[pyarrow]
    return dtype.startswith(("float", "int", "uint", "bool")) and "[" not in dtype and dtype != "boolean"
