"""A pool of long-lived worker processes: a cell that takes its process down costs nothing but itself.

joblib carries out many calls at once, and the death of one of its processes loses all of them. Here every outcome
arrives as soon as it is there; a worker that dies is replaced, and what it was doing is begun once more in a fresh one.
Cells that trained as one program are then carried out one by one, so that the culprit alone ends as "killed".
"""

from __future__ import annotations

import contextlib
import dataclasses
import pickle
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import wait
from typing import Any

from joblib import cpu_count
from joblib.externals.loky.cloudpickle_wrapper import dumps
from sklearn.base import BaseEstimator

from torchstrata.data.task import Task
from torchstrata.errors import ConfigError
from torchstrata.experiment.score import Outcome
from torchstrata.experiment.statuses import ended, unscored
from torchstrata.experiment.together import Group
from torchstrata.experiment.workers.worker import Worker, keep, reused
from torchstrata.interrupts import shielded

_LOOK = 1.0  # seconds between two looks at who is alive: a process that it started may keep the pipe of a dead one open
_STILLBORN = 3  # so many workers that died before they were ready, one after the other, are no accident


@dataclasses.dataclass(eq=False)
class Job:
    """What a worker is given at once.

    Parameters
    ----------
    group : Group
        Cells that train as one program, or one cell.
    chances : int
        How often it may still be begun.
    attempts : int
        How often its cells were begun.
    fresh : bool
        Whether it wants a worker that has done nothing else.
    failure : dict, optional
        How its one cell ended; what is left to do is to fit the fallback.
    """

    group: Group
    chances: int = 2
    attempts: int = 0
    fresh: bool = False
    failure: dict[str, str] | None = None
    started: float | None = None
    left: set[int] = dataclasses.field(default_factory=set)

    def __post_init__(self) -> None:
        self.left = set(range(len(self.group.cells)))


def carry_out(
    jobs: Sequence[Group],
    tasks: dict[str, Task],
    scorers: dict[str, Callable[..., float]],
    *,
    n_workers: int,
    fallback: BaseEstimator | None = None,
    on_error: str = "record",
    timeout: float | None = None,
) -> Iterator[Outcome]:
    """Carry out groups of cells in worker processes.

    Parameters
    ----------
    jobs : sequence of Group
        Each is carried out by one worker.
    tasks : dict of str to Task
        By name; each is sent to a worker once.
    scorers : dict of str to scorer
        By name of the measure.
    n_workers : int
        At most so many processes. With more than one, each has one thread, so that they do not get into each other's
        way; a learner's ``Runtime(threads=...)`` still decides for its own network.
    fallback, on_error, timeout
        As of :func:`torchstrata.experiment.run.run_cells`.

    Returns
    -------
    iterator of Outcome
        As they finish; where Ctrl-C ends it, the KeyboardInterrupt has as ``outcomes`` what was finished, and may be
        in hand already: the last one yielded.

    Raises
    ------
    ConfigError
        At once, if a learner or a scorer cannot be sent to another process.
    """
    settings = _packed((scorers, fallback, on_error), "scoring or fallback")
    for learner, cell in {cell.learner: cell for job in jobs for cell in job.cells}.items():
        _packed(cell.estimator, f"learner {learner!r}")
    n_workers = min(n_workers, len(jobs))
    return _Pool(n_workers, settings, tasks, scorers, fallback is not None, on_error, timeout).run(jobs)


def _packed(what: Any, name: str) -> bytes:
    try:
        return dumps(what)
    except Exception as error:
        raise ConfigError(
            f"{name} cannot be sent to a worker process: {type(error).__name__}: {error}. Use n_jobs=1 without a "
            "timeout, or backend='threading'"
        ) from None


class _Pool:
    """The workers of one run."""

    def __init__(
        self,
        n_workers: int,
        settings: bytes,
        tasks: dict[str, Task],
        scorers: dict[str, Callable[..., float]],
        has_fallback: bool,
        on_error: str,
        timeout: float | None,
    ):
        self.n, self.settings, self.tasks, self.scorers = n_workers, settings, tasks, scorers
        self.has_fallback, self.on_error, self.timeout = has_fallback, on_error, timeout
        self.threads = 1 if n_workers > 1 else _threads_here()
        self.workers: list[Worker] = []
        self.waiting: deque[Job] = deque()
        self.finished: deque[Outcome] = deque()
        self.stillborn = 0

    def run(self, groups: Sequence[Group]) -> Iterator[Outcome]:
        """Carry out jobs and yield outcomes; every worker has its next job before anybody looks at an outcome."""
        self.waiting.extend(Job(group) for group in groups)
        try:
            with shielded():
                self.workers = reused(self.threads, self.n)
            while self.waiting or self.finished or any(worker.job for worker in self.workers):
                with shielded():
                    self._hand_out()
                while self.finished:
                    yield self.finished[0]
                    self.finished.popleft()  # only now is it known to have arrived
                self._listen()
        except KeyboardInterrupt as stop:
            stop.outcomes = self._rest()  # type: ignore[attr-defined]
            raise
        finally:
            with shielded(firm=True):
                keep(self.workers, self.threads)

    def _hand_out(self) -> None:
        for worker in [w for w in self.workers if w.ready and w.job is None]:
            job = next((job for job in self.waiting if worker.fresh or not job.fresh), None)
            if job is not None:
                self.waiting.remove(job)
                self._give(worker, job)
        hands = sum(worker.job is None for worker in self.workers)
        while len(self.workers) < self.n and hands < len(self.waiting):
            self.workers.append(Worker(self.threads, self.n > 1))
            hands += 1
        self._make_room()

    def _make_room(self) -> None:
        """Let a worker go where all have nothing to do, because what waits wants a fresh one."""
        if self.waiting and all(worker.ready and worker.job is None for worker in self.workers):
            if len(self.workers) == self.n:
                self.workers.pop(0).bury()
            self.workers.append(Worker(self.threads, self.n > 1))

    def _give(self, worker: Worker, job: Job) -> None:
        worker.job, worker.fresh = job, False
        job.chances, job.attempts, job.started = job.chances - 1, job.attempts + 1, None
        task = job.group.cells[0].task
        try:
            if not worker.begun:
                worker.send("begin", self.settings)
                worker.begun = True
            if task not in worker.tasks:
                worker.send("task", task.encode() + b"\n" + _packed(self.tasks[task], f"task {task!r}"))
                worker.tasks.add(task)
            worker.send("job", _packed((job.group, job.failure), "a cell"))
        except (OSError, EOFError):
            self._died(worker)

    def _listen(self) -> None:
        """Wait for something to happen, and see to it."""
        if self.finished or not self.workers:
            return
        limits = [self._remaining(worker) for worker in self.workers]
        heard = wait([worker.connection for worker in self.workers], min([_LOOK, *limits]))
        with shielded():  # a message that is read in part leaves no beginning of the next
            for worker in [w for w in self.workers if w.connection in heard]:
                self._hear(worker)
            for worker in [w for w in self.workers if not w.hears()]:
                if worker.process.exitcode is not None:
                    self._died(worker)
                elif self._remaining(worker) <= 0:
                    self._overran(worker)

    def _remaining(self, worker: Worker) -> float:
        if self.timeout is None or worker.job is None or worker.job.started is None:
            return float("inf")
        return max(0.0, worker.job.started + self.timeout - time.monotonic())

    def _hear(self, worker: Worker) -> None:
        try:
            kind, *content = pickle.loads(worker.connection.recv_bytes())
        except (EOFError, OSError):
            self._died(worker)
            return
        getattr(self, f"_on_{kind}")(worker, *content)

    def _on_ready(self, worker: Worker) -> None:
        worker.ready, self.stillborn = True, 0

    def _on_started(self, worker: Worker) -> None:
        assert worker.job is not None
        worker.job.started = time.monotonic()

    def _on_outcome(self, worker: Worker, place: int, outcome: Outcome) -> None:
        assert worker.job is not None
        self._finish(worker.job, place, outcome)

    def _on_done(self, worker: Worker) -> None:
        worker.job = None

    def _on_unread(self, worker: Worker, told: str) -> None:
        job, worker.job = worker.job, None
        assert job is not None
        last = told.strip().splitlines()[-1]
        status, message = (
            "error_train",
            (f"a worker process cannot read it: {last}. Define it in a module that can be imported, or use n_jobs=1"),
        )
        if last.startswith("MemoryError"):
            status, message = "oom", f"memory ran out while a worker process read its rows: {last}"
        for place in sorted(job.left):
            error = {"status": status, "error": last.partition(":")[0], "message": message, "traceback": told}
            self._fail(place, job, error)

    def _on_raised(self, worker: Worker, error: BaseException, told: str) -> None:
        error.add_note(f"in a worker process:\n{told}")
        raise error

    def _finish(self, job: Job, place: int, outcome: Outcome) -> None:
        if place not in job.left:  # of a group that was begun once more
            return
        job.left.remove(place)
        outcome.cell, outcome.attempts = job.group.cells[place], job.attempts - (job.failure is not None)
        if outcome.runtime:
            why = "one thread each, so that they share the cores" if self.n > 1 else "its cells can be ended"
            outcome.runtime["processes"] = [self.n, f"{why}; threads: {self.threads}"]
        self.finished.append(outcome)

    def _died(self, worker: Worker) -> None:
        self.workers.remove(worker)
        how, job = _said(worker.bury()), worker.job
        if job is None:
            self._count_stillborn(worker, how)
        elif job.chances:
            job.fresh, job.started = True, None
            self.waiting.appendleft(job)
        elif len(job.group.cells) > 1:
            self._isolate(job, chances=1)
        else:
            self._fail(0, job, ended("killed", _told_killed(how, job.attempts)))

    def _count_stillborn(self, worker: Worker, how: str) -> None:
        self.stillborn += not worker.ready
        if self.stillborn >= _STILLBORN:
            raise RuntimeError(
                f"{_STILLBORN} worker processes {how} before they could begin, one after the other. Their output above "
                "may say why; n_jobs=1 without a timeout needs none"
            )

    def _overran(self, worker: Worker) -> None:
        self.workers.remove(worker)
        worker.bury()
        job = worker.job
        assert job is not None
        assert job.started is not None
        if len(job.group.cells) > 1:
            self._isolate(job, chances=2)
            return
        seconds = time.monotonic() - job.started
        message = f"ended after {seconds:.1f} s: it took longer than timeout={self.timeout:g} s"
        self._fail(0, job, ended("timeout", message))

    def _isolate(self, job: Job, chances: int) -> None:
        """Carry out the cells of a group one by one, to find the one that is to blame."""
        cells = [job.group.cells[place] for place in sorted(job.left)]
        alone = [Job(Group([cell], "alone, to find the culprit"), chances, job.attempts) for cell in cells]
        self.waiting.extendleft(reversed(alone))

    def _fail(self, place: int, job: Job, error: dict[str, str]) -> None:
        cell = job.group.cells[place]
        if job.failure is not None:  # the fallback, too
            message = f"{job.failure['message']} (the fallback failed too: {error['message']})"
            error = {**job.failure, "message": message}
        elif self.on_error == "raise":
            raise RuntimeError(f"task {cell.task!r}, learner {cell.learner!r}, fold {cell.fold}: {error['message']}")
        elif self.has_fallback:
            self.waiting.appendleft(Job(Group([cell], "fallback"), 1, job.attempts, failure=error))
            return
        self._finish(job, place, unscored(cell, self.scorers, error))

    def _rest(self) -> list[Outcome]:
        """Collect what is finished: in hand, and already in the pipes."""
        for worker in list(self.workers):
            with contextlib.suppress(Exception):
                while worker.job is not None and worker.hears():
                    self._hear(worker)
        return list(self.finished)


def _threads_here() -> int:
    """Return the threads of this process: a worker that is alone takes its place."""
    torch = sys.modules.get("torch")
    return cpu_count() if torch is None else torch.get_num_threads()


def _said(code: int | None) -> str:
    if code is not None and code < 0:
        with contextlib.suppress(ValueError):
            return f"was ended by {signal.Signals(-code).name} (signal {-code})"
    return f"ended with exit code {code}"


def _told_killed(how: str, attempts: int) -> str:
    memory = "; the system sends it where memory runs out" if "SIGKILL" in how else ""
    return f"its process {how}{memory}, in each of {attempts} attempts"
