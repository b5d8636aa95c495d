"""Rows that are fetched batch by batch, by worker processes where there are any."""

from __future__ import annotations

import contextlib
import itertools
import signal
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from torchstrata.batches.bytewise import ByBatch, as_floats
from torchstrata.batches.source import Source, drawing
from torchstrata.errors import DataError, DataWorkerError

# So many seconds for one batch; a process that gives none for so long is taken for dead.
TIMEOUT = 120.0
# How often a wait looks whether all processes are alive: torch looks only when its own time is over.
LOOK_EVERY = 2.0
# What a prediction holds of a stream at a time.
CHUNK_BYTES = 16 * 2**20


class Stream(ByBatch):
    """Rows that are fetched batch by batch, by worker processes where there are any.

    The order of rows is the order asked for, whatever the number of workers, and so is what a Dataset draws from the
    global generators: each batch has its own seed.

    Parameters
    ----------
    loader : Loader
        Fetches; shared by the views of one source.
    rows : ndarray of int64, optional
        Which rows of the source these are; None means all.
    dtype : torch.dtype
        Of the batches.
    device : torch.device or str
        Of the batches.
    """

    def __init__(
        self,
        loader: Loader,
        rows: np.ndarray | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ):
        self.loader, self.rows, self.dtype, self.device = loader, rows, dtype, torch.device(device)
        source = loader.source
        self.shape = (len(source) if rows is None else len(rows), *source.row_shape)
        self.epoch, self.seed = 0, 0
        self.why = "rows are streamed"

    def __getitem__(self, rows: np.ndarray) -> Stream:
        """Return a view of some rows."""
        chosen = np.asarray(rows) if self.rows is None else self.rows[rows]
        return Stream(self.loader, chosen, self.dtype, self.device)

    def to(self, device: torch.device | str) -> Stream:
        """Return the same rows for another device."""
        return self._like(self.dtype, device)

    def as_type(self, dtype: torch.dtype) -> Stream:
        """Return the same rows as another type of float."""
        return self._like(dtype, self.device)

    def _like(self, dtype: torch.dtype, device: torch.device | str) -> Stream:
        made = Stream(self.loader, self.rows, dtype, device)
        made.epoch, made.seed = self.epoch, self.seed
        return made

    def pick(self, index: torch.Tensor | slice) -> torch.Tensor:
        """Return some rows, fetched in this process."""
        rows = np.arange(len(self))[index] if isinstance(index, slice) else index.cpu().numpy()
        task = (self._of_source(rows), _numpy_type(self.dtype), (self.seed, 0, 0))
        return as_floats(torch.from_numpy(self.loader.fetch(task)).to(self.device), self.dtype)

    def batches(self, order: np.ndarray, bounds: np.ndarray) -> Iterator[torch.Tensor]:
        """Yield the batches of one epoch; the next one is on its way to the device meanwhile."""
        self.epoch += 1
        return self._fetched(self._of_source(order), bounds.tolist(), self.epoch)

    def chunks(self, multiple: int) -> Iterator[torch.Tensor]:
        """Yield all rows in their order."""
        n, row_bytes = len(self), int(np.prod(self.shape[1:])) * self.loader.source.dtype.itemsize
        size = max(1, CHUNK_BYTES // max(1, row_bytes * multiple)) * multiple
        bounds = [*range(0, n, size), n]
        return self._fetched(self._of_source(np.arange(n)), bounds, 0)

    def close(self) -> None:
        """End the processes that load; the next batch would start new ones."""
        self.loader.close()

    def streams(self) -> list[Stream]:
        """Return what may have processes that load: this one."""
        return [self]

    def _of_source(self, rows: np.ndarray) -> np.ndarray:
        return rows if self.rows is None else self.rows[rows]

    def _fetched(self, rows: np.ndarray, bounds: list[int], epoch: int) -> Iterator[torch.Tensor]:
        to = _numpy_type(self.dtype)
        tasks: list[Task] = [
            (rows[a:b], to, (self.seed, epoch, at)) for at, (a, b) in enumerate(itertools.pairwise(bounds), 1)
        ]
        on_cuda = self.device.type == "cuda"
        fetched = self.loader.run(tasks, pinned=on_cuda)
        moved = _ahead(fetched, self.device) if on_cuda else (x.to(self.device) for x in fetched)
        return (as_floats(x, self.dtype) for x in moved)


Task = tuple[np.ndarray, np.dtype, tuple[int, ...]]


class Loader:
    """Fetches batches of a source, in this process or by workers that live until :meth:`close`.

    Parameters
    ----------
    source : Source
        What is fetched from.
    workers : int
        Processes; 0 fetches in this one.
    """

    def __init__(self, source: Source, workers: int = 0):
        self.source, self.workers = source, workers
        self.at = "before the first batch"
        self._plan = _Tasks()
        self._running: Any = None
        self._torch: Any = None

    def fetch(self, task: Task) -> np.ndarray:
        """Fetch one batch in this process."""
        rows, dtype, key = task
        with contextlib.nullcontext() if self.source.is_array else drawing(key):
            return np.ascontiguousarray(self.source.fetch(rows, dtype))

    def run(self, tasks: list[Task], *, pinned: bool = False) -> Iterator[torch.Tensor]:
        """Fetch batches one after the other.

        Parameters
        ----------
        tasks : list of (rows, dtype, key)
            Rows of the source, the type wanted, and the seed of what a Dataset draws.
        pinned : bool
            Whether batches lie in memory from which a GPU can copy by itself.

        Yields
        ------
        Tensor
            In the order of the tasks.

        Raises
        ------
        DataError
            Naming the row that cannot be read or used.
        DataWorkerError
            Naming the batch, if a process died or gave nothing for too long.
        """
        got = self._from_workers(tasks, pinned) if self.workers else map(self._here, tasks)
        for number, (task, x) in enumerate(zip(tasks, got, strict=True), 1):
            self.at = f"after batch {number} of {len(tasks)}, rows {task[0][:3].tolist()}..."
            if isinstance(x, _Failure):
                raise DataError(x.message)
            yield x.pin_memory() if pinned and not self.workers else x

    def _here(self, task: Task) -> torch.Tensor:
        return torch.from_numpy(self.fetch(task))

    def _from_workers(self, tasks: list[Task], pinned: bool) -> Iterator[Any]:
        self._plan.tasks = tasks
        number = 0
        try:
            running = self._iterate(pinned)
            while (x := self._wait(running)) is not None:
                number += 1
                yield x
        except RuntimeError as error:
            if "DataLoader" not in str(error):
                raise
            rows = tasks[min(number, len(tasks) - 1)][0]
            dead = self.died(error, f"at batch {number + 1} of {len(tasks)}, rows {rows[:3].tolist()}...")
            self.close()
            raise dead from error

    def _wait(self, running: Any) -> Any:
        """Return the next batch; None after the last."""
        looks = 0
        while True:
            try:
                return next(running, None)
            except RuntimeError as error:
                looks += 1
                if "timed out" not in str(error) or looks * LOOK_EVERY >= TIMEOUT:
                    raise

    def _iterate(self, pinned: bool) -> Any:
        if self._torch is None:
            self._torch = DataLoader(
                _Fetching(self),
                batch_size=None,  # a task is a whole batch
                sampler=self._plan,
                num_workers=self.workers,
                collate_fn=_as_it_is,
                pin_memory=pinned,
                timeout=LOOK_EVERY,
                persistent_workers=True,
                generator=torch.Generator(),  # else it would draw from the global one, and dropout would differ
            )
        self._running = iter(self._torch)
        return self._running

    def died(self, error: BaseException, at: str = "") -> DataWorkerError:
        """Say that a process died.

        Parameters
        ----------
        error : BaseException
            What torch says.
        at : str
            At which batch; the last one that came where that is not known.

        Returns
        -------
        DataWorkerError
            To be raised.
        """
        codes = [process.exitcode for process in getattr(self._running, "_workers", []) if process.exitcode]
        said, hint = " ".join(str(error).split()), "does reading a row hang?"
        if "timed out" in said:
            said = f"no batch came within {TIMEOUT:g} s"
        if codes and codes[0] < 0:
            said, hint = f"a worker was killed by {signal.Signals(-codes[0]).name}", "was the memory exhausted?"
        elif codes:
            said, hint = f"a worker ended with exit code {codes[0]}", "does reading a row end the process?"
        return DataWorkerError(
            f"loading {self.source.where} stopped {at or self.at}: {said} ({hint}). "
            "Try runtime=ts.Runtime(workers=0), which reads in this process and shows the error itself"
        )

    def close(self) -> None:
        """End the processes."""
        running, self._running, self._torch = self._running, None, None
        if running is None or not hasattr(running, "_shutdown_workers"):
            return
        with contextlib.suppress(RuntimeError):  # of a worker that was dead before
            running._shutdown_workers()
        for process in getattr(running, "_workers", []):
            if process.is_alive():  # stopped, and deaf to the polite signal
                process.kill()

    def __getstate__(self) -> dict[str, Any]:
        return {"source": self.source, "workers": 0}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]


class _Tasks:
    """What torch's DataLoader takes for a sampler: the batches of the epoch that runs."""

    tasks: list[Task] = []  # noqa: RUF012 - replaced, never changed

    def __iter__(self) -> Iterator[Task]:
        return iter(self.tasks)

    def __len__(self) -> int:
        return len(self.tasks)


class _Failure:
    """An error on its way from a worker; torch would change its words."""

    def __init__(self, message: str):
        self.message = message


class _Fetching(Dataset):
    """A loader in the shape of a Dataset: an item is a whole batch."""

    def __init__(self, loader: Loader):
        self.loader = loader

    def __getitem__(self, task: Task) -> torch.Tensor | _Failure:
        try:
            return torch.from_numpy(self.loader.fetch(task))
        except DataError as error:
            return _Failure(str(error))


def _as_it_is(x: Any) -> Any:
    return x


def _numpy_type(dtype: torch.dtype) -> np.dtype:
    return np.dtype(str(dtype).removeprefix("torch."))


def _ahead(batches: Iterator[torch.Tensor], device: torch.device) -> Iterator[torch.Tensor]:
    """Copy each batch to a GPU on a stream of its own while the one before is in use."""
    copying, waiting = torch.cuda.Stream(device), None
    for x in batches:
        with torch.cuda.stream(copying):
            there = x.to(device, non_blocking=True)
        if waiting is not None:
            yield _ready(waiting, copying, device)
        waiting = there, copying.record_event()
    if waiting is not None:
        yield _ready(waiting, copying, device)


def _ready(waiting: tuple[torch.Tensor, Any], copying: Any, device: torch.device) -> torch.Tensor:
    x, copied = waiting
    current = torch.cuda.current_stream(device)
    current.wait_event(copied)
    x.record_stream(current)  # else its memory could be given away while the step still reads it
    return x
