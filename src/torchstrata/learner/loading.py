"""Resident or streamed: whether rows are held in memory or fetched batch by batch, with the reason."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, TensorDataset

from torchstrata.batches.source import Source, plain
from torchstrata.batches.stream import Loader, Stream
from torchstrata.errors import ConfigError, DataWorkerError
from torchstrata.training.runtime import resolve_runtime

# A Dataset or a file smaller than this is read into memory once: a gather there is far faster than any fetch.
RESIDENT_BELOW = 2**30


def choose_loading(learner: Any, X: Any, *, strict: bool) -> tuple[str, str]:
    """Decide whether rows are held in memory or fetched batch by batch.

    Parameters
    ----------
    learner : TorchLearner
        Its ``runtime`` may say; its ``encoder`` may need whole columns.
    X : object
        As given to fit or predict.
    strict : bool
        Whether to refuse ``loading="streamed"`` for rows that cannot be streamed; else they stay in memory.

    Returns
    -------
    loading : {"resident", "streamed"}
        What to do.
    why : str
        The reason.

    Raises
    ------
    ConfigError
        If rows were to be streamed and cannot be.
    """
    runtime, source = resolve_runtime(learner.runtime), Source(X) if _is_dataset(X) else None
    unable = _why_not_streamed(learner, X, source)
    if unable or runtime.loading == "resident":
        if unable and strict and runtime.loading == "streamed":
            raise ConfigError(f"runtime: loading='streamed' cannot work: {unable}. Use loading='auto'")
        return "resident", unable or "as given"
    workers = f"{runtime.workers} worker{'s' * (runtime.workers != 1)}" if runtime.workers else "no workers"
    if runtime.loading == "streamed":
        return "streamed", f"as given; {workers}"
    if isinstance(X, np.memmap) or source is not None:
        size = X.nbytes if source is None else source.n_bytes
        what, limit = f"{type(X).__name__} of {size / 1e6:,.1f} MB", f"{RESIDENT_BELOW / 1e6:,.1f} MB"
        if size >= RESIDENT_BELOW:
            return "streamed", f"a {what} is not smaller than {limit}; {workers}"
        return "resident", f"a {what} is smaller than {limit}: read once"
    return "resident", "the rows are in memory already"


def _why_not_streamed(learner: Any, X: Any, source: Source | None) -> str:
    if type(X) is TensorDataset:
        X = X.tensors[0]
    if source is None and not isinstance(X, np.ndarray | torch.Tensor):
        return f"a {type(X).__name__} is a table in memory; only a Dataset, an array or a memmap can be streamed"
    is_table = X.ndim < 3 if source is None else len(source.row_shape) < 2
    if learner.encoder is not None and is_table:
        return f"encoder={learner.encoder!r} reads whole columns; encoder=None passes numbers through"
    if isinstance(X, np.ndarray) and X.dtype.kind not in "biuf":
        return f"the array holds {X.dtype} values"
    return ""


def _is_dataset(X: Any) -> bool:
    return isinstance(X, Dataset) and type(X) is not TensorDataset


def open_rows(learner: Any, X: Any, *, strict: bool, labels: bool = False) -> tuple[Any, Any]:
    """Read a Dataset into memory, or make a stream of it; likewise of an array that is to be streamed.

    Parameters
    ----------
    learner : TorchLearner
        As of :func:`choose_loading`.
    X : object
        As given to fit or predict.
    strict : bool
        As of :func:`choose_loading`.
    labels : bool
        Whether to read y from a Dataset, its second part.

    Returns
    -------
    X : object
        An array, a :class:`Stream`, or what was given.
    y : ndarray or None
        The labels of a Dataset.

    Raises
    ------
    DataError
        Naming the row that cannot be read.
    """
    if isinstance(X, Stream):
        return X, None
    if type(X) is TensorDataset:
        rows, own = _open_tensors(learner, X, strict=strict)
        return rows, own if labels else None
    if not _is_dataset(X) and (not isinstance(X, np.ndarray | torch.Tensor) or X.ndim < 2 or not len(X)):
        return X, None
    if choose_loading(learner, X, strict=strict)[0] == "resident":
        return Source(X).read() if _is_dataset(X) else (X, None)
    source = Source(plain(X) if isinstance(X, torch.Tensor) else X)
    stream = Stream(Loader(source, resolve_runtime(learner.runtime).workers))
    return stream, source.labels() if labels and _is_dataset(X) else None


def _open_tensors(learner: Any, data: TensorDataset, *, strict: bool) -> tuple[Any, Any]:
    if not len(data):
        Source(data)  # says that there is no row
    own = plain(data.tensors[1]) if len(data.tensors) > 1 else None
    return open_rows(learner, data.tensors[0], strict=strict)[0], own


@contextlib.contextmanager
def loading(*holders: Any) -> Iterator[None]:
    """End the processes that load, whatever happens, and name the batch if one of them died.

    torch reports a dead process by an error at whatever line the main process is just then.

    Parameters
    ----------
    *holders
        Objects whose ``streams()`` are the streams in use.

    Yields
    ------
    None

    Raises
    ------
    DataWorkerError
        In place of torch's error.
    """
    try:
        yield
    except RuntimeError as error:
        streams = [stream for holder in holders for stream in holder.streams()]
        if "DataLoader worker" in str(error) and streams and not isinstance(error, DataWorkerError):
            raise streams[0].loader.died(error) from error
        raise
    finally:
        for holder in holders:
            for stream in holder.streams():
                stream.close()
