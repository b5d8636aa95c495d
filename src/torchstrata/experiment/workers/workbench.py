"""What a worker process does: read jobs from its pipe, send back each outcome as it is there, and die with its parent.

Messages to it are ("begin", scorers, fallback, on_error), ("task", name, task), ("job", ...) and ("end",); all but the
first word are read when a job needs them. It answers ("ready",), then for each job ("started",), ("outcome", place,
outcome) for every cell and ("done",); or ("unread", text) for a job it cannot read, and ("raised", error, text) where
an error ends the run.
"""

from __future__ import annotations

import os
import pickle
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Any

import pandas as pd
from joblib.externals.loky.cloudpickle_wrapper import dumps

from torchstrata.experiment.run import run_group, without_cells
from torchstrata.experiment.score import Outcome, Split
from torchstrata.experiment.statuses import describe, stood_in
from torchstrata.experiment.together import Group

# a worker that waits for so long is no longer wanted
IDLE = 300.0


def serve(connection: Connection, parent: int, dies_with_thread: bool) -> None:
    """Carry out jobs until the parent ends, says so, or sends none for long.

    Parameters
    ----------
    connection : Connection
        The pipe to the parent.
    parent : int
        Its process.
    dies_with_thread : bool
        Whether the thread that made this process lives as long as the parent does.
    """
    _settle(parent, dies_with_thread)
    inbox: queue.SimpleQueue[tuple[str, bytes]] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(connection, inbox), daemon=True).start()
    bench = _Bench(lambda *message: connection.send_bytes(dumps(message)))
    bench.send("ready")
    while True:
        try:
            kind, content = inbox.get(timeout=IDLE)
        except queue.Empty:
            return
        bench.take(kind, content)


def _settle(parent: int, dies_with_thread: bool) -> None:
    """Be out of reach of Ctrl-C, which is the parent's to handle, and not outlive it."""
    if hasattr(os, "setpgrp"):
        os.setpgrp()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux" and dies_with_thread:
        import ctypes

        set_death_signal = 1  # PR_SET_PDEATHSIG: the kernel's word, for when a computation lets no thread of ours run
        ctypes.CDLL(None).prctl(set_death_signal, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)


def _listen(connection: Connection, inbox: queue.SimpleQueue) -> None:
    """Read what comes, also while a job runs; the end of the pipe is the end of the parent."""
    try:
        while True:
            message = connection.recv_bytes()
            kind, _, content = message.partition(b"\n")
            inbox.put((kind.decode(), content))
    except (EOFError, OSError):
        if hasattr(os, "killpg") and os.getpgrp() == os.getpid():
            os.killpg(0, signal.SIGKILL)  # processes of its own, which load rows, too
        os._exit(1)


class _Bench:
    """What a worker has at hand: the tasks it was sent, and what is done with every cell."""

    def __init__(self, send: Callable[..., None]):
        self.send = send
        self.settings: Any = None
        self.tasks: dict[str, Any] = {}

    def take(self, kind: str, content: bytes) -> None:
        """Take one message."""
        if kind == "begin":
            self.settings, self.tasks = content, {}
        elif kind == "task":
            name, _, task = content.partition(b"\n")
            self.tasks[name.decode()] = task  # read for the first job that needs it
        elif kind == "end":
            self.settings, self.tasks = None, {}
        else:
            self._work(content)

    def _work(self, content: bytes) -> None:
        try:
            group, failure, task, scorers, fallback, on_error = self._read(content)
        except Exception:
            self.send("unread", traceback.format_exc())
            return
        try:
            self.send("started")
            if failure is not None:
                outcomes = iter([stand_in(group, task, scorers, failure, fallback)])
            else:
                outcomes = run_group(group, task, scorers, fallback=fallback, on_error=on_error)
            self._send_all(group, outcomes)
            self.send("done")
        except BaseException as error:
            self._send_error(error)

    def _read(self, content: bytes) -> tuple:
        group, failure = pickle.loads(content)
        if isinstance(self.settings, bytes):
            self.settings = pickle.loads(self.settings)
        name = group.cells[0].task
        if isinstance(self.tasks[name], bytes):
            self.tasks[name] = pickle.loads(self.tasks[name])
        if any(hasattr(cell.estimator, "check_fit") for cell in group.cells):
            import torchstrata.learner.many  # noqa: F401 - seconds that no cell is to blame for
        return (group, failure, self.tasks[name], *self.settings)

    def _send_all(self, group: Group, outcomes: Iterator[Outcome]) -> None:
        for place, outcome in without_cells(group, outcomes):
            try:
                self.send("outcome", place, outcome)
            except (pickle.PicklingError, TypeError, AttributeError, MemoryError) as error:
                about = describe(error, "error_predict")
                about["message"] = f"what it predicted cannot be sent from its process: {about['message']}"
                scores = dict.fromkeys(outcome.scores, float("nan"))
                self.send("outcome", place, Outcome(outcome.cell, scores, pd.DataFrame(), pd.DataFrame(), about))

    def _send_error(self, error: BaseException) -> None:
        told = "".join(traceback.format_exception(error))
        error.__traceback__ = error.__cause__ = error.__context__ = None
        try:
            pickle.loads(dumps(error))  # a class whose __init__ wants more than a message cannot be read
            self.send("raised", error, told)
        except Exception:
            self.send("raised", RuntimeError(f"{type(error).__name__}: {error}"), told)


def stand_in(group: Group, task: Any, scorers: Any, failure: dict[str, str], fallback: Any) -> Outcome:
    """Fit the fallback of a cell whose own process was ended.

    Parameters
    ----------
    group : Group
        Of one cell.
    task : Task
        Its rows.
    scorers : dict of str to scorer
        By name of the measure.
    failure : dict
        How the cell ended.
    fallback : estimator
        As of :func:`torchstrata.experiment.run.run_cells`.

    Returns
    -------
    Outcome
        As :func:`torchstrata.experiment.statuses.stood_in` gives it.
    """
    cell = group.cells[0]
    return stood_in(cell, Split(task, cell.train, cell.test), scorers, failure, fallback)
