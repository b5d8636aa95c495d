"""A folder that survives being killed: one file per finished cell, plans and splits beside.

Every file is either complete, with a checksum that fits, or not there; a file that is neither is named, moved aside as
``.bad`` by a run, and made again. Cells lie under keys that say what was computed
(:mod:`torchstrata.experiment.storage.identity`), so cells of another grid, another seed or other data can lie beside
them and are never mistaken for them. Reading needs no torch.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from torchstrata.data.atomic import write_atomic
from torchstrata.errors import ConfigError, DataError
from torchstrata.experiment.storage import record
from torchstrata.experiment.storage.plans import Plan
from torchstrata.experiment.storage.reading import read_file, read_files
from torchstrata.experiment.storage.record import NewerFormat, Planned, Record

_T = TypeVar("_T")
MARKER = "store.json"
FOLDERS = ("cells", "plans", "splits", "runs", "workers", "claims")
_FORMAT = "torchstrata-store"


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
        content = read_file(str(self.path("cells", key)))
        if content is None:
            return None
        found = record.from_line(content)
        if found.cell.key != key:
            raise ValueError(f"it is the cell {found.cell.key}")
        return found

    def each(
        self, cells: Sequence[Planned], read: Callable[[bytes, Planned], _T]
    ) -> Iterator[tuple[Planned, _T | ValueError | None]]:
        """Read several cells.

        Parameters
        ----------
        cells : sequence of Planned
            Which.
        read : callable
            Reads a file: :func:`record.from_line`, or a part of it.

        Yields
        ------
        cell : Planned
            Which, in their order.
        found : object
            What ``read`` made of it; None where it is not there, a ValueError where it is damaged.

        Raises
        ------
        DataError
            If a newer torchstrata wrote one.
        """
        folder = os.path.join(self.folder, "cells", "")
        contents = read_files(f"{folder}{cell.key}.json" for cell in cells)
        for cell, content in zip(cells, contents, strict=True):
            try:
                yield cell, None if content is None else read(content, cell)
            except NewerFormat as error:
                raise DataError(f"{self.path('cells', cell.key)} has {error}") from None
            except ValueError as error:
                yield cell, error

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

    def numbered(self, kind: str) -> dict[str, int]:
        """List the files of a kind and their numbers (inodes).

        Parameters
        ----------
        kind : str
            Which folder.

        Returns
        -------
        dict of str to int
            Name without ``.json`` to number; a file that was replaced has another.
        """
        try:
            with os.scandir(self.folder / kind) as found:
                return {f.name[:-5]: f.inode() for f in found if f.name.endswith(".json") and f.name[0] != "."}
        except FileNotFoundError:
            return {}

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

    def runs(self) -> tuple[list[dict[str, Any]], list[str]]:
        """Read what is known about the processes that worked here.

        Returns
        -------
        runs : list of dict
            The oldest first.
        damaged : list of str
            What cannot be read, and why.
        """
        found, damaged = [], []
        for name in self.names("runs"):
            path = self.path("runs", name)
            try:
                found.append({k: v for k, v in record.unseal(path.read_bytes()).items() if k != "format_version"})
            except FileNotFoundError:
                continue
            except ValueError as error:
                damaged.append(f"{path} is damaged ({error}): what it says of a run is left out")
        return sorted(found, key=lambda run: run.get("started", "")), damaged

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
