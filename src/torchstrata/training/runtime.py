"""Where and how a fit runs: device, threads, precision; each decision with its reason."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import numbers
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from torchstrata.errors import ConfigError, did_you_mean
from torchstrata.params import Params

PRECISIONS = ("float32", "float64", "bfloat16", "float16")
LOADING = ("auto", "resident", "streamed")
# Below so many multiply-adds a step, a second thread costs more than it gives: handing over and waiting take longer
# than the sums (measured on two cores: 0.5 to 0.75 ms with one thread, 28 to 40 ms with two on a machine not idle).
ONE_THREAD_BELOW = 20_000_000


@dataclasses.dataclass(frozen=True, repr=False)
class Runtime(Params):
    """Where and how a fit runs.

    Parameters
    ----------
    device : str
        ``"auto"`` (cuda, else mps, else cpu), or any torch device.
    threads : int, optional
        Torch threads during fit and predict; None chooses by the size of a step. The number before is restored after.
    precision : {"float32", "float64", "bfloat16", "float16"}
        The first two are the type of weights and data; the other two compute under autocast, float16 with a scaler.
    compile : bool
        Compile forward pass and loss, and with them the backward pass, with ``torch.compile``. Batches that are smaller
        than the largest are filled up with rows of weight zero, so that one program serves all; dropout draws other
        numbers than without. On a CPU the first call takes 20 to 60 seconds, and it seldom pays: MLPs gain nothing over
        the steps that are written out, and small convolutional networks became slower (measured). On CUDA, CUDA graphs
        are used where shapes stay. ``runtime_`` keeps the seconds of the first call, or why nothing is compiled.
    workers : int
        Processes that fetch rows that are streamed; 0 fetches them in this process.
    clip_norm : float, optional
        Clip the norm of the gradient to this.
    accumulate : int
        Add up gradients over so many batches before an update.
    loading : {"auto", "resident", "streamed"}
        Whether rows are held in memory or fetched batch by batch; ``"auto"`` streams a Dataset or a memmap of 1 GiB or
        more. Streamed rows reach the network as they are: no encoder.
    """

    device: str = "auto"
    _: dataclasses.KW_ONLY
    threads: int | None = None
    precision: str = "float32"
    compile: bool = False
    workers: int = 0
    clip_norm: float | None = None
    accumulate: int = 1
    loading: str = "auto"

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise ConfigError(f"unknown precision {self.precision!r}. {did_you_mean(self.precision, PRECISIONS)}")
        if self.loading not in LOADING:
            raise ConfigError(f"unknown loading {self.loading!r}. {did_you_mean(self.loading, LOADING)}")
        for name, least in (("threads", 1), ("workers", 0), ("accumulate", 1)):
            value = getattr(self, name)
            whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
            if value is not None and not (whole and value >= least):
                raise ConfigError(f"Runtime: {name} must be an int >= {least}, got {value!r}")
        if self.clip_norm is not None and not 0 < self.clip_norm < float("inf"):
            raise ConfigError(f"Runtime: clip_norm must be a positive finite number or None, got {self.clip_norm!r}")

    def decide(self, *, parameters: int, batch_rows: int) -> Decisions:
        """Decide everything that is left open.

        Parameters
        ----------
        parameters : int
            Number of weights of the network.
        batch_rows : int
            Rows in the largest batch.

        Returns
        -------
        Decisions
            Values and reasons.

        Raises
        ------
        ConfigError
            If the device is not there.
        """
        device, why_device = _choose_device(self.device)
        threads, why_threads = _choose_threads(self.threads, device, parameters * batch_rows)
        given = "as given"
        reasons = {
            "device": (str(device), why_device),
            "threads": (threads, why_threads),
            "precision": (self.precision, given if self.precision != "float32" else "default"),
            "compile": (self.compile, given if self.compile else "off by default: no gain for small networks on a CPU"),
        }
        return Decisions(self, device, threads, reasons)


@dataclasses.dataclass
class Decisions:
    """What was decided, and why.

    Parameters
    ----------
    runtime : Runtime
        What was asked for.
    device : torch.device
        Where it runs.
    threads : int
        Torch threads during fit.
    reasons : dict
        Name to (value, why).
    """

    runtime: Runtime
    device: torch.device
    threads: int
    reasons: dict[str, tuple[Any, str]]

    @property
    def dtype(self) -> torch.dtype:
        """Type of weights and data."""
        return torch.float64 if self.runtime.precision == "float64" else torch.float32

    def active(self, seed: int | None = None) -> contextlib.AbstractContextManager:
        """Set threads and seed, and put everything back as it was.

        Parameters
        ----------
        seed : int, optional
            For torch's global generators, which dropout and the initial weights use.

        Returns
        -------
        context manager
            One that does nothing where there is nothing to do.
        """
        if seed is None and torch.get_num_threads() == self.threads:
            return contextlib.nullcontext()
        return self._active(seed)

    def forked(self) -> contextlib.AbstractContextManager:
        """Return a context after which torch's generators, of CPU and device, are as before.

        Returns
        -------
        context manager
            Of torch.
        """
        devices, kind = ([], "cuda") if self.device.type == "cpu" else ([self.device], self.device.type)
        return torch.random.fork_rng(devices, device_type=kind)

    @contextlib.contextmanager
    def _active(self, seed: int | None) -> Iterator[None]:
        threads = torch.get_num_threads()
        if threads != self.threads:
            torch.set_num_threads(self.threads)
        try:
            with contextlib.nullcontext() if seed is None else self.forked():
                if seed is not None:
                    # not torch.manual_seed, which seeds all devices: only those forked come back as they were
                    torch.default_generator.manual_seed(seed)
                    if self.device.type != "cpu":
                        torch.get_device_module(self.device).manual_seed(seed)
                yield
        finally:
            if threads != self.threads:
                torch.set_num_threads(threads)

    def autocast(self) -> contextlib.AbstractContextManager:
        """Return the context of the forward pass."""
        if self.runtime.precision in ("float32", "float64"):
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=getattr(torch, self.runtime.precision))

    def scaler(self) -> torch.amp.GradScaler | None:
        """Return the gradient scaler that float16 needs, else None."""
        return torch.amp.GradScaler(self.device.type) if self.runtime.precision == "float16" else None

    def __repr__(self) -> str:
        rows = [f"  {name}: {value} ({why})" for name, (value, why) in self.reasons.items()]
        return "Runtime decisions\n" + "\n".join(rows)


def resolve_runtime(given: Any) -> Runtime:
    """Turn what the user gave as ``runtime`` into a Runtime.

    Parameters
    ----------
    given : str or Runtime
        A device name is short for ``Runtime(device)``.

    Returns
    -------
    Runtime
        The value.

    Raises
    ------
    ConfigError
        If it is neither.
    """
    if isinstance(given, Runtime):
        return given
    if isinstance(given, str | torch.device):
        return Runtime(str(given))
    raise ConfigError(f"runtime must be a device name or a ts.Runtime(...), got {given!r}")


def _choose_device(name: str) -> tuple[torch.device, str]:
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda"), f"auto: found {torch.cuda.get_device_name()}"
        if torch.backends.mps.is_available():
            return torch.device("mps"), "auto: found Apple's Metal"
        return torch.device("cpu"), "auto: no accelerator found"
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError):
        known = ("auto", "cpu", "cuda", "cuda:0", "mps")
        raise ConfigError(f"unknown device {name!r}. {did_you_mean(name, known)}") from None
    if not _is_there(device):
        raise ConfigError(
            f"device {name!r} is not available (torch {torch.__version__}); use 'cpu' or 'auto', "
            "or install a build of torch for it"
        )
    return device, "as given"


def _is_there(device: torch.device) -> bool:
    if device.type == "cpu":
        return True
    try:
        module = torch.get_device_module(device)
    except RuntimeError:  # a type without hardware, such as "meta"
        return False
    return module.is_available() and (device.index or 0) < module.device_count()


def _choose_threads(given: int | None, device: torch.device, work: int) -> tuple[int, str]:
    if given is not None:
        return given, "as given"
    most = torch.get_num_threads()
    if device.type != "cpu":
        return most, "the work is on the accelerator"
    if work < ONE_THREAD_BELOW:
        return 1, f"a step is small ({work:,} multiply-adds): a second thread would cost more than it gives"
    if most == 1:
        return 1, "torch was given one thread (OMP_NUM_THREADS, torch.set_num_threads, or one core)"
    return most, f"a step is large ({work:,} multiply-adds)"


SEED_STREAMS = ("weights", "batches", "dropout", "valid", "augment")


@dataclasses.dataclass(frozen=True)
class Seeds:
    """A tree of seeds: one root, one stream a purpose, so that changing one use does not move the others.

    Parameters
    ----------
    root : int
        What ``random_state`` gave; stored as ``seed_``.
    """

    root: int

    def __getattr__(self, name: str) -> int:
        if name not in SEED_STREAMS:
            raise AttributeError(f"no seed stream {name!r}. {did_you_mean(name, SEED_STREAMS)}")
        return _stream(self.root, name)


@functools.lru_cache(4096)
def _stream(root: int, name: str) -> int:
    return int(np.random.SeedSequence(root, spawn_key=(SEED_STREAMS.index(name),)).generate_state(1)[0])
