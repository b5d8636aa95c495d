"""Who works on which cell: claims that end with the process that made them.

A process that works on a store has a file in ``workers``, touched every few seconds. A claim is a hard link to that
file: made in one step, with its owner in it, and only by one of several. A process that is gone (its file is, or its
number on this machine, or its last sign of life is older than the limit) loses its claims to whoever claims the cell
after it: under the next number, so that two who notice at once do not both get it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torchstrata.experiment.store import Store
from torchstrata.interrupts import shielded

HEARTBEAT = 10.0  # seconds between two signs of life
MANY = 16  # workers, of which one does not ask each whether it lives just to know how many there are
LIMIT = 120.0  # seconds without one after which a process that cannot be asked counts as gone
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EOPNOTSUPP, errno.EMLINK, errno.EXDEV, errno.EACCES}


@dataclasses.dataclass(frozen=True)
class Worker:
    """A process that works, or worked, on a store.

    Parameters
    ----------
    name : str
        Of its file.
    host : str
        For people.
    machine : str
        Equal for processes that see each other's numbers.
    pid : int
        Its number there.
    began : str
        When the process began, as the machine counts; another process of the same number began at another time.
    jobs : int
        How many cells it works on at a time.
    """

    name: str
    host: str
    machine: str
    pid: int
    began: str
    jobs: int

    @classmethod
    def here(cls, jobs: int) -> Worker:
        """Describe this process."""
        host, pid = socket.gethostname(), os.getpid()
        return cls(f"{host}-{pid}-{uuid.uuid4().hex[:8]}", host, _machine(), pid, process_began(pid) or "", jobs)

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


def _machine() -> str:
    """Name what shares process numbers with us: a host since its last start, a container of it."""
    found = [socket.gethostname()]
    with contextlib.suppress(OSError):
        found.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        found.append(os.readlink("/proc/self/ns/pid"))
    return "/".join(found)


def process_began(pid: int) -> str | None:
    """Say when a process of this machine began.

    Parameters
    ----------
    pid : int
        Its number.

    Returns
    -------
    str or None
        None if there is no such process; empty text where that cannot be known.
    """
    if os.name != "posix":
        return ""
    with contextlib.suppress(OSError, IndexError):  # no such process, or no /proc: the signal below tells
        # the name of the program stands in brackets and may hold spaces and brackets; fields are counted after it
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if fields[0] in "ZX" else fields[19]
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        return ""
    return "" if not os.path.exists("/proc/self/stat") else None


def read_worker(path: Path) -> Worker | None:
    """Read a claim, or the file of a worker.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    Worker or None
        None where it is not there, or not complete.
    """
    try:
        return Worker(**json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


def why_gone(store: Store, worker: Worker, now: float) -> str:
    """Say why a worker is gone.

    Parameters
    ----------
    store : Store
        Where it works.
    worker : Worker
        Which.
    now : float
        Time of the file system, in seconds.

    Returns
    -------
    str
        The reason; empty if it lives.
    """
    try:
        silent = now - store.path("workers", worker.name).stat().st_mtime
    except OSError:
        return "it has left"
    if worker.machine == _machine():
        began = process_began(worker.pid)
        if began is None or (began and worker.began and began != worker.began):
            return "the process has ended"
    return f"no sign of life for {silent:.0f} s" if silent > LIMIT else ""


class Lease:
    """The right of this process to work on cells of a store.

    Used in a ``with`` statement; at its end all claims are given back.

    Parameters
    ----------
    store : Store
        Ready for writing.
    jobs : int
        How many cells this process works on at a time.
    """

    def __init__(self, store: Store, jobs: int = 1):
        self.store, self.worker = store, Worker.here(jobs)
        self.mine: dict[str, int] = {}
        self._file = store.path("workers", self.worker.name)
        self._content = json.dumps(dataclasses.asdict(self.worker)).encode()
        self._counted_until, self._n_others = 0.0, 0
        self._end = threading.Event()
        self._heart = threading.Thread(target=self._beat, name="torchstrata heartbeat", daemon=True)

    def __enter__(self) -> Lease:
        try:
            with shielded(), self.store.naming(self._file):
                self._file.write_bytes(self._content)
                self._heart.start()
        except KeyboardInterrupt:  # it came meanwhile, and nobody else will leave
            self.__exit__()
            raise
        return self

    def __exit__(self, *args: object) -> None:
        with shielded(firm=True):
            self._end.set()
            for key in list(self.mine):
                self.give_back(key)
            with contextlib.suppress(OSError):
                self._file.unlink(missing_ok=True)

    def _beat(self) -> None:
        while not self._end.wait(HEARTBEAT):
            with contextlib.suppress(OSError):  # a file system that is away for a while costs nothing but this beat
                os.utime(self._file)

    def claim(self, key: str) -> bool:
        """Try to be the one who carries out a cell.

        Parameters
        ----------
        key : str
            Of the cell.

        Returns
        -------
        bool
            Whether this process is. Whoever asks looks afterwards whether the cell was finished meanwhile.
        """
        number = 0
        while True:
            path = self.store.folder / "claims" / f"{key}.{number}"
            with shielded():
                if self._create(path):
                    self.mine[key] = number
                    return True
            if not self._is_stale(path):
                return False
            number += 1

    def _create(self, path: Path) -> bool:
        with self.store.naming(path):
            try:
                os.link(self._file, path)
            except FileExistsError:
                return False
            except FileNotFoundError:  # swept by one who took us for dead: we were asleep
                self._file.write_bytes(self._content)
                return self._create(path)
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                return self._create_alone(path)
        return True

    def _create_alone(self, path: Path) -> bool:
        """Make a claim where the file system knows no hard links, or no more of them."""
        try:
            handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
        except FileExistsError:
            return False
        with os.fdopen(handle, "wb") as file:
            file.write(self._content)
        return True

    def _is_stale(self, path: Path) -> bool:
        owner = read_worker(path)
        if owner is not None:
            return bool(why_gone(self.store, owner, self._now()))
        with contextlib.suppress(OSError):  # not complete: being written, or its writer died at that very moment
            return self._now() - path.stat().st_mtime > LIMIT
        return False  # given back meanwhile: whoever asks again will get it

    def _now(self) -> float:
        """Ask the file system for the time, which is the one that the signs of life of others have."""
        with contextlib.suppress(OSError):
            os.utime(self._file)
            return self._file.stat().st_mtime
        return time.time()

    def give_back(self, key: str, *, finished: bool = False) -> None:
        """End a claim.

        Parameters
        ----------
        key : str
            Of the cell.
        finished : bool
            Whether its file is there.
        """
        number = self.mine.pop(key)
        if number and not finished:
            return  # with the end of this process it is stale; taken away, the ones below it would count again
        for below in range(number, -1, -1):
            with contextlib.suppress(OSError):
                (self.store.folder / "claims" / f"{key}.{below}").unlink(missing_ok=True)

    def others(self) -> int:
        """Count the other processes that work here now.

        Returns
        -------
        int
            Where there are many files of workers, which a thousand workers would all read, their number is believed,
            and not asked for anew with every cell.
        """
        if time.monotonic() < self._counted_until:
            return self._n_others
        names = self.store.names("workers")
        if len(names) > MANY:
            self._counted_until, self._n_others = time.monotonic() + HEARTBEAT, len(names) - 1
            return self._n_others
        now, found = self._now(), workers(self.store)
        return sum(w.name != self.worker.name and not why_gone(self.store, w, now) for w in found)

    def sweep(self, done: Mapping[str, Any]) -> None:
        """Take away what dead processes left: their files, half-written files, claims of finished cells.

        Parameters
        ----------
        done : mapping
            Keys of finished cells.
        """
        now = self._now()
        for worker in workers(self.store):
            if worker.name != self.worker.name and why_gone(self.store, worker, now):
                self.store.path("workers", worker.name).unlink(missing_ok=True)
        enough = 3600.0 if self.others() else 5.0  # seconds after which nobody is still writing it
        for path, key in claims(self.store):
            if key in done and key not in self.mine and self._is_stale(path):
                path.unlink(missing_ok=True)
        for path in self.store.folder.glob("*/.*.tmp"):
            with contextlib.suppress(OSError):
                if now - path.stat().st_mtime > enough:
                    path.unlink()


def workers(store: Store) -> list[Worker]:
    """List the processes that have a file in a store, dead or alive."""
    found = [read_worker(store.path("workers", name)) for name in store.names("workers")]
    return [worker for worker in found if worker is not None]


def claims(store: Store) -> list[tuple[Path, str]]:
    """List the claims of a store: path and key."""
    found = sorted(name for name in os.listdir(store.folder / "claims") if name[0] != ".")
    return [(store.folder / "claims" / name, name.partition(".")[0]) for name in found]
