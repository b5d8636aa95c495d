"""The worker processes, seen from here: started through loky, ended with all they started, kept for the next run."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import sys
import threading
import time
from typing import Any

from joblib.externals.loky.backend import get_context

from torchstrata.experiment.workers.start import IDLE, serve

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS",
            "NUMEXPR_NUM_THREADS")  # fmt: skip


class Worker:
    """A process, the pipe to it, and what it is doing.

    Parameters
    ----------
    threads : int
        Of its numerical libraries.
    share_cores : bool
        Whether it is one of several.
    """

    def __init__(self, threads: int, share_cores: bool):
        context = get_context("loky")
        self.connection, theirs = context.Pipe()
        env = dict.fromkeys(_THREADS, str(threads))
        if share_cores:
            env["LOKY_MAX_CPU_COUNT"] = str(threads)  # for what a learner does with joblib
        self.parent = os.getpid()
        self.process = context.Process(
            target=serve,
            args=(theirs, self.parent, _in_main_thread()),
            env=env,
            daemon=False,  # a learner in it may load rows in processes of its own
        )
        self.ready, self.fresh = False, True
        self.job: Any = None
        self.begun = False
        self.tasks: set[str] = set()
        _living.add(self)
        self.process.start()
        theirs.close()

    def send(self, kind: str, content: bytes = b"") -> None:
        """Send a message.

        Parameters
        ----------
        kind : str
            What it is.
        content : bytes
            For that kind, as :mod:`torchstrata.experiment.workers.workbench` says.
        """
        self.connection.send_bytes(b"%s\n%s" % (kind.encode(), content))

    def hears(self) -> bool:
        """Say whether there is a message, or the end of the pipe."""
        try:
            return self.connection.poll(0)
        except OSError:
            return True

    def bury(self) -> int | None:
        """End the process and those it started.

        Returns
        -------
        int or None
            Exit code; negative for a signal.
        """
        pid = self.process.pid
        assert pid is not None
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if hasattr(os, "killpg"):
                os.killpg(pid, signal.SIGKILL)  # it leads a group, unless it came not so far
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if self.process.exitcode is None:
                os.kill(pid, getattr(signal, "SIGKILL", signal.SIGTERM))  # on Windows either ends it at once
        self.process.join()
        self.connection.close()
        _living.discard(self)
        return self.process.exitcode


# All of this process, and of the one it was forked from
_living: set[Worker] = set()
# Workers that wait for the next run: starting one takes seconds, most of them for importing torch
_resting: list[tuple[Any, float, Worker]] = []
_lock = threading.Lock()


def _kind(threads: int) -> tuple:
    return os.getpid(), threads, os.getcwd(), tuple(sys.path)


def reused(threads: int, n: int) -> list[Worker]:
    """Take workers of the same kind that wait, and have not waited for so long that they may be about to leave.

    Parameters
    ----------
    threads : int
        Of each.
    n : int
        At most so many.

    Returns
    -------
    list of Worker
        Ready.
    """
    kind = _kind(threads)
    found: list[Worker] = []
    with _lock:
        for entry in list(_resting):
            known, since, worker = entry
            if known[0] != os.getpid():  # of the process this one was forked from
                _resting.remove(entry)
            elif known != kind or worker.process.exitcode is not None or time.monotonic() - since > IDLE / 2:
                _resting.remove(entry)
                worker.bury()
            elif len(found) < n:
                _resting.remove(entry)
                found.append(worker)
    return found


def keep(workers: list[Worker], threads: int) -> None:
    """Let workers that have nothing to do wait for the next run, and end the others.

    Parameters
    ----------
    workers : list of Worker
        Of one run.
    threads : int
        Of each.
    """
    for worker in workers:
        if not worker.ready or worker.job is not None:
            worker.bury()
            continue
        try:
            worker.send("end")
        except OSError:
            worker.bury()
            continue
        worker.begun, worker.tasks = False, set()
        with _lock:
            _resting.append((_kind(threads), time.monotonic(), worker))


@atexit.register
def end_all() -> None:
    """End all workers: those that wait for a next run, and those that a second Ctrl-C left behind.

    multiprocessing would wait for them for ever, and Ctrl-C would end this function instead of the program.
    """
    before = signal.signal(signal.SIGINT, signal.SIG_IGN) if _in_main_thread() else None
    with _lock:
        for worker in list(_living):
            if worker.parent == os.getpid() and worker.process.pid is not None:  # None: it was not even started
                worker.bury()
        _living.clear()
        _resting.clear()
    if before is not None:
        signal.signal(signal.SIGINT, before)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
