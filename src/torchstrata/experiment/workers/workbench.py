"""What a worker process does: take jobs, and send back each outcome as it is there.

Messages to it are ("begin", scorers, fallback, on_error), ("task", name, task), ("job", ...) and ("end",); all but the
first word are read when a job needs them. It answers ("ready",), then for each job ("started",), ("outcome", place,
outcome) for every cell and ("done",); or ("unread", text) for a job it cannot read, and ("raised", error, text) where
an error ends the run.
"""

from __future__ import annotations

import pickle
import queue
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import pandas as pd
from joblib.externals.loky.cloudpickle_wrapper import dumps

from torchstrata.experiment.run import run_group, without_cells
from torchstrata.experiment.score import Outcome, Split
from torchstrata.experiment.statuses import describe, stood_in
from torchstrata.experiment.together import Group
from torchstrata.experiment.workers.start import IDLE


def work(inbox: queue.SimpleQueue[tuple[str, bytes]], send: Callable[..., None]) -> None:
    """Carry out jobs until none comes for long.

    Parameters
    ----------
    inbox : SimpleQueue
        Messages, as they come.
    send : callable
        Sends back a message.
    """
    bench = _Bench(send)
    bench.send("ready")
    while True:
        try:
            kind, content = inbox.get(timeout=IDLE)
        except queue.Empty:
            return
        bench.take(kind, content)


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
