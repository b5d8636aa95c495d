"""What cells left behind -> long tables, in the order of the plan; needs no torch."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from torchstrata.experiment.cells import COLUMNS, ending
from torchstrata.experiment.result import BenchmarkResult
from torchstrata.experiment.storage.columns import Columns, is_number, to_array
from torchstrata.experiment.storage.record import Planned

_AT_ONCE = 1 << 16  # cells of a column that are made an array together; in a list a float takes four times the memory


def collect(outcomes: Iterable[Any], planned: Sequence[Planned], **facts: Any) -> BenchmarkResult:
    """Put outcomes into long tables, in the order of the plan.

    Parameters
    ----------
    outcomes : iterable of Outcome or Record
        In any order; each is let go before the next is asked for, but for its tables.
    planned : sequence of Planned
        In their order.
    **facts
        As of :meth:`Collected.result`.

    Returns
    -------
    BenchmarkResult
        The tables.
    """
    collected = Collected(planned)
    for outcome in outcomes:
        collected.add(outcome)
    return collected.result(**facts)


class Collected:
    """What cells left behind, put together as it comes.

    Parameters
    ----------
    planned : sequence of Planned
        All cells, in their order.
    """

    def __init__(self, planned: Sequence[Planned]):
        self.planned = planned
        self._keyed = {cell.key: at for at, cell in enumerate(planned)}
        self._long = {"history": _Long(), "predictions": _Long()}
        self._seen: dict[int, tuple[dict[str, float], dict[str, Any] | None, list[str]]] = {}
        self._ended: dict[int, dict[str, Any]] = {}
        self._runtime: tuple[int, dict[str, Any]] = len(planned), {}

    @functools.cached_property
    def _named(self) -> dict[str, int]:
        return {repr(cell.keys): at for at, cell in enumerate(self.planned)}

    def add(self, outcome: Any) -> None:
        """Add what a cell left behind.

        Parameters
        ----------
        outcome : Outcome or Record
            Once a cell.
        """
        cell = outcome.cell
        at = self._keyed[cell.key] if isinstance(cell, Planned) else self._named[repr(cell.keys)]
        self._ended[at] = ending(outcome)
        self._seen[at] = outcome.scores, outcome.error, outcome.warnings
        if outcome.runtime and at < self._runtime[0]:
            self._runtime = at, outcome.runtime  # the first one's stands for all
        for name, tables in self._long.items():
            tables.add(at, getattr(outcome, name))

    def result(
        self,
        *,
        splits: Sequence[Mapping[str, Any]],
        tasks: Mapping[str, Any],
        learners: Mapping[str, str],
        info: Mapping[str, Any],
    ) -> BenchmarkResult:
        """Make the tables.

        Parameters
        ----------
        splits : sequence of dict
            Rows of the table of splits.
        tasks, learners : mapping
            What the result says of them, by name.
        info : mapping
            About the run; what was warned of and the decisions of torch learners are added.

        Returns
        -------
        BenchmarkResult
            All that was added.
        """
        own = _Own([cell.keys for cell in self.planned])
        order = [(at, *self._seen[at]) for at in sorted(self._seen)]
        errors = [{**own.cells[at], **error} for at, _, error, _ in order if error]
        return BenchmarkResult(
            _scores(own, [(at, found) for at, found, *_ in order if found]),
            history=self._long["history"].table(own, ["epoch"]),
            predictions=self._long["predictions"].table(own, ["row", "truth", "predicted"]),
            errors=pd.DataFrame(errors, columns=[*own.names, "status", "error", "message", "traceback"]),
            splits=pd.DataFrame(list(splits)),
            statuses=self._statuses(own),
            tasks=tasks,
            learners=learners,
            info={
                **info,
                "runtime": self._runtime[1],
                "warnings": _warnings([(own.cells[at], told) for at, _, _, told in order if told]),
            },
        )

    def _statuses(self, own: _Own) -> pd.DataFrame:
        places = sorted(self._ended)
        if not places:
            return pd.DataFrame(columns=[*own.names, *COLUMNS])
        ended = pd.DataFrame({name: [self._ended[at][name] for at in places] for name in COLUMNS})
        return pd.concat([own.table(places), ended], axis=1)


class _Own:
    """What names each cell, as rows of tables."""

    def __init__(self, cells: Sequence[dict[str, Any]]):
        self.cells = cells
        self.names = list(dict.fromkeys(["task", "learner", "fold", *(name for cell in cells for name in cell)]))
        self.alike = all(len(cell) == len(self.names) for cell in cells)

    @functools.cached_property
    def _all(self) -> pd.DataFrame:
        return pd.DataFrame(self.cells, columns=self.names)

    def table(self, places: Sequence[int]) -> pd.DataFrame:
        """Return a row for each of some cells; of all of them, mostly asked for, it is made once."""
        if len(places) == len(self.cells):
            return self._all
        return pd.DataFrame([self.cells[at] for at in places], columns=self.names)

    def table_of_used(self, places: Sequence[int]) -> pd.DataFrame:
        """Return the same without the columns that none of them has, and None where one has no value."""
        if self.alike:
            return self.table(places)
        present = [self.cells[at] for at in places]
        used = set().union(*present)
        names = [name for name in self.names if name in used]
        return pd.DataFrame([{name: cell.get(name) for name in names} for cell in present], columns=names)


def _scores(own: _Own, found: Sequence[tuple[int, Mapping[str, float]]]) -> pd.DataFrame:
    if not found:
        return pd.DataFrame(columns=[*own.names, "measure", "value"])
    of_row = np.repeat(np.arange(len(found)), [len(scores) for _, scores in found])
    out = own.table([at for at, _ in found]).take(of_row).reset_index(drop=True)
    out["measure"] = [name for _, scores in found for name in scores]
    out["value"] = [value for _, scores in found for value in scores.values()]
    return out


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
        self.last: tuple[Any, int] = None, 0

    def add(self, place: int, table: pd.DataFrame | Columns) -> None:
        """Add the table of the cell at a place of the plan; one that was read joins those of the same dtypes."""
        if not len(table):
            return
        if isinstance(table, pd.DataFrame):
            self.parts.append(([place], [len(table)], table))
            return
        if table.dtypes is not self.last[0]:  # of records that follow one another they are mostly one object
            self.last = table.dtypes, self._part(table)
        places, lengths, alike = self.parts[self.last[1]]
        assert isinstance(alike, _Alike)
        places.append(place)
        lengths.append(len(table))
        alike.add(table)

    def _part(self, table: Columns) -> int:
        dtypes = json.dumps(table.dtypes)
        if dtypes not in self.alike:
            self.alike[dtypes] = len(self.parts)
            self.parts.append(([], [], _Alike(table.dtypes)))
        return self.alike[dtypes]

    def table(self, own: _Own, least: Sequence[str]) -> pd.DataFrame:
        """Make one table of all, with the keys of each cell before its rows."""
        if not self.parts:
            return pd.DataFrame(columns=[*own.names, *least])
        parts = sorted(self.parts, key=lambda part: min(part[0]))  # the first table says the order of the columns
        frames = [part if isinstance(part, pd.DataFrame) else part.table() for _, _, part in parts]
        whole = pd.concat(frames, ignore_index=True)
        places = np.array([place for part, _, _ in parts for place in part])
        of_row = np.repeat(places, [length for _, part, _ in parts for length in part])
        if (np.diff(of_row) < 0).any():
            order = np.argsort(of_row, kind="stable")
            whole, of_row = whole.take(order).reset_index(drop=True), of_row[order]
        # the keys of a thousand tables are written in one go
        filled, row = np.unique(of_row, return_inverse=True)
        repeated = own.table_of_used(filled.tolist()).take(row).reset_index(drop=True)
        return pd.concat([repeated, whole[[c for c in whole if c not in own.names]]], axis=1)


class _Alike:
    """Tables that were read, with the same columns and dtypes."""

    def __init__(self, dtypes: dict[str, dict[str, Any]]):
        self.dtypes = dtypes
        self.arrays: dict[str, list[Any]] = {name: [] for name in dtypes}
        self.cells: dict[str, list[Any]] = {name: [] for name in dtypes}
        self.length = 0

    def add(self, table: Columns) -> None:
        for name, cells in self.cells.items():
            cells.extend(table.values[name])
        self.length += len(table)
        if self.length >= _AT_ONCE:
            self._pack()

    def _pack(self) -> None:
        for name, cells in self.cells.items():
            self.arrays[name].append(to_array(cells, self.dtypes[name]))
            cells.clear()
        self.length = 0

    def table(self) -> pd.DataFrame:
        if self.length:
            self._pack()
        return pd.DataFrame({name: _joined(a, self.dtypes[name]) for name, a in self.arrays.items()})


def _joined(arrays: Sequence[Any], about: Mapping[str, Any]) -> Any:
    if len(arrays) == 1:
        return arrays[0]
    if is_number(about):
        return np.concatenate(arrays)
    return pd.concat([pd.Series(array) for array in arrays], ignore_index=True)
