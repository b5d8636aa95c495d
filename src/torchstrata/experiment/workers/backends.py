"""The backends of joblib that carry out cells: which are known, what each needs, and how many workers it has."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

from joblib import Parallel, effective_n_jobs, parallel_config
from joblib.parallel import BACKENDS, get_active_backend

from torchstrata.errors import ConfigError, did_you_mean, missing_extra

CLUSTERS = ("dask", "ray")


def check_backend(backend: Any) -> None:
    """Make sure that a backend can be used, before anything is fitted.

    Parameters
    ----------
    backend : str
        ``"loky"``, ``"threading"``, ``"multiprocessing"``, ``"sequential"``, ``"dask"``, ``"ray"``, or what was
        registered with joblib.

    Raises
    ------
    ConfigError
        If it is none of these, or its cluster is not there; the message says how to start one.
    ImportError
        If its package is missing.
    """
    known = sorted({*BACKENDS, *CLUSTERS} | {"loky"})
    if backend not in known:
        raise ConfigError(f"unknown backend {backend!r}. {did_you_mean(backend, known)}")
    if backend == "dask":
        _check_dask()
    elif backend == "ray":
        _check_ray()


def count_workers(backend: str, n_jobs: int) -> int:
    """Say how many workers a backend has.

    Parameters
    ----------
    backend : str
        One that :func:`check_backend` has nothing against.
    n_jobs : int
        As of joblib; -1 for all there are.

    Returns
    -------
    int
        At least 1.
    """
    with parallel_config(backend=backend, n_jobs=n_jobs):
        return effective_n_jobs(n_jobs)


def as_finished(backend: str, n_jobs: int, calls: Sequence[Any]) -> Iterator[Any]:
    """Carry out calls and yield what they return.

    Parameters
    ----------
    backend : str
        One that :func:`check_backend` has nothing against.
    n_jobs : int
        As of joblib.
    calls : sequence
        Made by ``joblib.delayed``.

    Yields
    ------
    object
        In any order, as calls end; where the backend (Ray's) gives results only at the end, in rounds of a few calls.
    """
    with parallel_config(backend=backend, n_jobs=n_jobs):
        if get_active_backend()[0].supports_return_generator:
            yield from Parallel(return_as="generator_unordered")(calls)
            return
        some = 2 * effective_n_jobs(n_jobs)
        with Parallel() as parallel:  # its workers stay from round to round: Ray's take seconds to start
            for first in range(0, len(calls), some):
                yield from parallel(calls[first : first + some])


def _check_dask() -> None:
    try:
        from distributed import get_client
    except ImportError:
        raise missing_extra("distributed", "dask", "backend='dask'") from None
    try:
        client = get_client()
    except ValueError:
        raise ConfigError(
            "backend='dask' found no cluster: first make a client, "
            "from dask.distributed import Client; client = Client(threads_per_worker=1)"
        ) from None
    several = {name: n for name, n in client.nthreads().items() if n > 1}
    if several:
        name, n = next(iter(several.items()))
        raise ConfigError(
            f"backend='dask': worker {name} has {n} threads, and fits in threads of one process share torch's settings "
            "and draw from one stream of random numbers: start workers with one thread, Client(threads_per_worker=1)"
        )


def _check_ray() -> None:
    try:
        import ray
        from ray.util.joblib import register_ray
    except ImportError:
        raise missing_extra("ray", "ray", "backend='ray'") from None
    if not ray.is_initialized():
        if "RAY_ADDRESS" not in os.environ:
            raise ConfigError("backend='ray' found no cluster: first start or join one, import ray; ray.init()")
        ray.init()
    register_ray()
