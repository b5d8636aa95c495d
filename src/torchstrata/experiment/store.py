"""A folder that survives being killed: one file per finished cell, plans and splits beside.

Every file is either complete, with a checksum that fits, or not there; a file that is neither is named, moved aside as
``.bad`` by a run, and made again. Cells lie under keys that say what was computed
(:mod:`torchstrata.experiment.storage.identity`), so cells of another grid, another seed or other data can lie beside
them and are never mistaken for them. Reading needs no torch.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from torchstrata.data.atomic import write_atomic
from torchstrata.errors import ConfigError, DataError
from torchstrata.experiment.storage import record
from torchstrata.experiment.storage.record import NewerFormat, Planned, Record

MARKER = "store.json"
FOLDERS = ("cells", "plans", "splits", "runs", "workers", "claims")
_FORMAT = "torchstrata-store"


@dataclasses.dataclass
class Plan:
    """What one call of benchmark is about.

    Parameters
    ----------
    cells : list of Planned
        In their order.
    tasks : dict
        Name to description.
    learners : dict
        Name to settings as text.
    measures : list of str
        Names.
    splits : list of dict
        task, fold, n_train, n_test and digest of each split.
    started : str
        When it was last called, in ISO format.
    """

    cells: list[Planned]
    tasks: dict[str, Any]
    learners: dict[str, str]
    measures: list[str]
    splits: list[dict[str, Any]]
    started: str

    @property
    def id(self) -> str:
        """16 hexadecimal digits: equal for the same cells."""
        about = [[cell.key for cell in self.cells], self.learners, self.measures]
        return hashlib.sha256(json.dumps(about).encode()).hexdigest()[:16]

    def to_line(self) -> bytes:
        """Return what its file holds."""
        cells = [cell.to_json() for cell in self.cells]
        return record.seal({"format_version": record.FORMAT_VERSION, **vars(self), "cells": cells})

    @classmethod
    def from_line(cls, content: bytes) -> Plan:
        """Undo :meth:`to_line`."""
        read = _without_version(record.unseal(content))
        return cls(**{**read, "cells": [Planned.from_json(cell) for cell in read["cells"]]})


def _without_version(read: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in read.items() if name != "format_version"}


class Store:
    """The folder.

    Parameters
    ----------
    folder : str or Path
        Nothing is read or written before a method is called.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)

    def path(self, kind: str, name: str) -> Path:
        """Return the path of a file of some kind."""
        return self.folder / kind / f"{name}.json"

    @property
    def exists(self) -> bool:
        """Whether there is a store, perhaps a damaged one."""
        return (self.folder / MARKER).is_file() or (
            (self.folder / "cells").is_dir() and (self.folder / "plans").is_dir()
        )

    def prepare(self) -> None:
        """Make the folder ready for writing, and try to write.

        Raises
        ------
        ConfigError
            If there is something else under this name, or nothing can be written: before any training.
        """
        if self.folder.exists() and not self.folder.is_dir():
            raise ConfigError(f"store={str(self.folder)!r} is a file; a store is a folder. Give another name.")
        if self.folder.is_dir() and not self.exists:
            others = sorted(p.name for p in self.folder.iterdir() if p.name not in FOLDERS and p.name[0] != ".")
            if others:
                raise ConfigError(
                    f"store={str(self.folder)!r} holds something else ({', '.join(others[:3])}). Give a new folder, or "
                    "one that a benchmark made with store=."
                )
        try:
            for name in FOLDERS:
                (self.folder / name).mkdir(parents=True, exist_ok=True)
                if name in ("cells", "claims"):
                    with tempfile.TemporaryFile(dir=self.folder / name):
                        pass
        except OSError as error:
            raise ConfigError(f"store={str(self.folder)!r}: cannot write there ({error.strerror})") from error
        self._expect(self.folder / MARKER, record.seal({"format": _FORMAT, "format_version": record.FORMAT_VERSION}))

    def keep(self, plan: Plan, rows: Mapping[str, Any]) -> None:
        """Write a plan and the rows of its splits.

        Parameters
        ----------
        plan : Plan
            What is to be done.
        rows : mapping
            Digest of a split to its task, fold, train and test.
        """
        for digest, split in rows.items():
            path = self.path("splits", digest)
            self._expect(path, record.seal(split))
        path = self.path("plans", plan.id)
        with contextlib.suppress(FileNotFoundError):
            self._checked(path, Plan.from_line)
        self._write(path, plan.to_line())

    def _expect(self, path: Path, content: bytes) -> None:
        """Write a file whose content is known, unless it is there."""
        try:
            found = path.read_bytes()
        except FileNotFoundError:
            found = None
        if found == content:
            return
        if found is not None:
            self._checked(path, _newer_is_refused)
        self._write(path, content)

    def _checked(self, path: Path, read: Any) -> Any:
        """Read a file, or move it aside."""
        try:
            return read(path.read_bytes())
        except NewerFormat as error:
            raise DataError(f"{path} has {error}") from None
        except (ValueError, KeyError, TypeError) as error:
            self.put_aside(path, error)
        return None

    def put_aside(self, path: Path, error: Exception) -> None:
        """Rename a damaged file, and say so.

        Parameters
        ----------
        path : Path
            Of the file.
        error : Exception
            What is wrong with it.

        Warns
        -----
        UserWarning
            Naming it.
        """
        with contextlib.suppress(FileNotFoundError):  # another process was quicker
            os.replace(path, path.with_name(f"{path.name}.bad"))
            warnings.warn(f"{path} is damaged ({error}): moved aside as {path.name}.bad and made again", stacklevel=2)

    def write(self, cell: Planned, outcome: Any, about: Mapping[str, Any]) -> None:
        """Write what a cell left behind; from then on it survives everything.

        Parameters
        ----------
        cell : Planned
            Which.
        outcome : Outcome
            What.
        about : mapping
            When, by whom, under which conditions.

        Raises
        ------
        OSError
            If it cannot be written, naming the folder; what was there stays.
        """
        self._write(self.path("cells", cell.key), record.to_line(cell, outcome, about))

    def _write(self, path: Path, content: bytes) -> None:
        with self.naming(path):
            write_atomic(path, content)

    @contextlib.contextmanager
    def naming(self, path: Path) -> Iterator[None]:
        """Say of an error of the file system which folder it is about, and what is safe.

        Parameters
        ----------
        path : Path
            What is being written.

        Yields
        ------
        None
        """
        try:
            yield
        except OSError as error:
            raise type(error)(
                error.errno,
                f"{error.strerror or error}: cannot write {path.name} to {path.parent} of the store {self.folder}. "
                "What is finished is there and whole; mend it (free space? rights? mount?) and call again to go on",
            ) from error

    def read(self, key: str) -> Record | None:
        """Read one cell.

        Parameters
        ----------
        key : str
            Under which it lies.

        Returns
        -------
        Record or None
            None where it is not there.

        Raises
        ------
        ValueError
            If the file is damaged, or not of this cell.
        """
        try:
            content = self.path("cells", key).read_bytes()
        except FileNotFoundError:
            return None
        found = record.from_line(content)
        if found.cell.key != key:
            raise ValueError(f"it is the cell {found.cell.key}")
        return found

    def mend(self, key: str) -> Record | None:
        """Read one cell; move its file aside if it is damaged.

        Parameters
        ----------
        key : str
            Under which it lies.

        Returns
        -------
        Record or None
            None where it is not there, or was damaged.
        """
        try:
            return self.read(key)
        except NewerFormat as error:
            raise DataError(f"{self.path('cells', key)} has {error}") from None
        except ValueError as error:
            self.put_aside(self.path("cells", key), error)
            return None

    def names(self, kind: str) -> list[str]:
        """List the files of a kind without ``.json``, in the order of their names."""
        try:
            found = os.listdir(self.folder / kind)
        except FileNotFoundError:
            return []
        return sorted(name[:-5] for name in found if name.endswith(".json") and name[0] != ".")

    def plans(self) -> tuple[list[Plan], list[str]]:
        """Read all plans.

        Returns
        -------
        plans : list of Plan
            The oldest first.
        damaged : list of str
            What cannot be read, and why.

        Raises
        ------
        DataError
            If there is no store, or a newer torchstrata wrote it.
        """
        if not self.exists:
            what = "is no store" if self.folder.is_dir() else "is a file" if self.folder.exists() else "does not exist"
            raise DataError(f"{self.folder} {what}: expected a folder that benchmark(..., store=) made.")
        found, damaged = [], []
        for path in [self.folder / MARKER, *(self.path("plans", name) for name in self.names("plans"))]:
            try:
                found.append((Plan.from_line if path.name != MARKER else record.unseal)(path.read_bytes()))
            except NewerFormat as error:
                raise DataError(f"{path} has {error}") from None
            except (ValueError, KeyError, TypeError, FileNotFoundError) as error:
                damaged.append(f"{path} is damaged ({error})")
        plans = [plan for plan in found if isinstance(plan, Plan)]
        return sorted(plans, key=lambda plan: (plan.started, plan.id)), damaged

    def runs(self) -> list[dict[str, Any]]:
        """Read what is known about the processes that worked here; the oldest first."""
        found = []
        for name in self.names("runs"):
            with contextlib.suppress(ValueError, FileNotFoundError):
                found.append(_without_version(record.unseal(self.path("runs", name).read_bytes())))
        return sorted(found, key=lambda run: run.get("started", ""))

    def keep_run(self, name: str, info: Mapping[str, Any]) -> None:
        """Write what is known about a process that works here.

        Parameters
        ----------
        name : str
            Of the process.
        info : mapping
            Versions, machine, times.
        """
        self._write(self.path("runs", name), record.seal({"format_version": record.FORMAT_VERSION, **info}))


def _newer_is_refused(content: bytes) -> None:
    record.unseal(content)
    raise ValueError("it does not hold what its name says")


def united(plans: Iterable[Plan]) -> Plan:
    """Unite plans: the later one counts where two give one name another meaning.

    Parameters
    ----------
    plans : iterable of Plan
        The oldest first.

    Returns
    -------
    Plan
        All cells that belong together. Cells of a task, learner or split that a later plan changed are left out.
    """
    known: dict[tuple[str, str], Any] = {}
    measures: dict[str, None] = {}
    named: set[str] = set()
    kept: list[list[Planned]] = []
    splits: list[dict[str, Any]] = []
    several = list(plans)
    for plan in reversed(several):
        means = _meaning(plan)
        agreed = {what for what, meaning in means.items() if known.get(what, meaning) == meaning}
        names = [json.dumps(cell.to_json() | {"key": ""}) for cell in plan.cells]
        new = [
            cell
            for cell, name in zip(plan.cells, names, strict=True)
            if {("task", cell.task), ("learner", cell.learner)} <= agreed and name not in named
        ]
        kept.insert(0, new)
        named |= {json.dumps(cell.to_json() | {"key": ""}) for cell in new}
        used = {("task", cell.task) for cell in new} | {("learner", cell.learner) for cell in new}
        splits = [s for s in plan.splits if ("task", s["task"]) in used - known.keys()] + splits
        known = {what: means[what] for what in means if what in used} | known
        measures |= dict.fromkeys(plan.measures if new else [])
    return Plan(
        [cell for cells in kept for cell in cells],
        tasks={name: about[0] for (kind, name), about in known.items() if kind == "task"},
        learners={name: about for (kind, name), about in known.items() if kind == "learner"},
        measures=list(measures),
        splits=splits,
        started=max((plan.started for plan in several), default=""),
    )


def _meaning(plan: Plan) -> dict[tuple[str, str], Any]:
    """What the names of a plan stand for: a task for its rows and splits, a learner for its settings."""
    tasks = {("task", n): (about, [s for s in plan.splits if s["task"] == n]) for n, about in plan.tasks.items()}
    return tasks | {("learner", name): about for name, about in plan.learners.items()}
