"""Callbacks: your code at the joints of a fit."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

import torch

from torchstrata.errors import ConfigError, did_you_mean
from torchstrata.training.state import TrainState

HOOKS = (
    "on_fit_begin",
    "on_epoch_begin",
    "on_batch_begin",
    "on_backward_end",
    "on_batch_end",
    "on_valid_begin",
    "on_valid_end",
    "on_epoch_end",
    "on_fit_end",
    "on_fit_exit",
)
BATCH_HOOKS = ("on_batch_begin", "on_backward_end", "on_batch_end")
logger = logging.getLogger("torchstrata")


class Callback:
    """Base of callbacks: override the hooks you need; each gets the :class:`TrainState`.

    The hooks, in order: ``on_fit_begin``, ``on_epoch_begin``, ``on_batch_begin``, ``on_backward_end`` (gradients are
    there), ``on_batch_end`` (weights have changed), ``on_valid_begin``, ``on_valid_end``, ``on_epoch_end`` (the row of
    the history is there), ``on_fit_end`` (the weights are those that stay), and ``on_fit_exit``, which comes also after
    an error or Ctrl-C. Callbacks run in ascending ``weight``, then in the order given. A method ``on_...`` that is no
    hook is an error, so a typing mistake cannot go unnoticed. A hook that nobody overrides costs nothing.
    """

    weight: float = 0.0

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name in vars(cls):
            if name.startswith("on_") and name not in HOOKS:
                raise ConfigError(f"{cls.__name__}.{name} is no hook. {did_you_mean(name, HOOKS)}")

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint must keep; numbers, strings and tensors by name."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what ``state_dict`` returned."""
        self.__dict__.update(state)


class Hooks:
    """The hooks of some callbacks, in order; only those that somebody wrote.

    Parameters
    ----------
    callbacks : iterable of Callback
        In the order given by the user.
    """

    def __init__(self, callbacks: Iterable[Any]):
        callbacks = list(callbacks)
        for callback in callbacks:
            _check(callback)
        ordered = sorted(callbacks, key=lambda c: getattr(c, "weight", 0.0))  # stable: then by position
        self._calls: dict[str, list[Callable[[TrainState], Any]]] = {
            hook: [getattr(c, hook) for c in ordered if hasattr(c, hook)] for hook in HOOKS
        }

    def has(self, *hooks: str) -> bool:
        """Say whether somebody wrote one of these hooks."""
        return any(self._calls[hook] for hook in hooks)

    def call(self, hook: str, state: TrainState) -> None:
        """Call everybody's hook."""
        for function in self._calls[hook]:
            function(state)


def _check(callback: Any) -> None:
    if isinstance(callback, type):
        raise ConfigError(f"callbacks holds the class {callback.__name__}; give an instance: {callback.__name__}()")
    unknown = [name for name in dir(callback) if name.startswith("on_") and name not in HOOKS]
    if unknown:
        raise ConfigError(f"{type(callback).__name__}.{unknown[0]} is no hook. {did_you_mean(unknown[0], HOOKS)}")
    if not any(hasattr(callback, hook) for hook in HOOKS):
        raise ConfigError(f"callback {callback!r} has no hook; it needs one of {list(HOOKS)}")


class Progress(Callback):
    """Say how the fit goes: a line an epoch through ``logging``, or on a terminal.

    Parameters
    ----------
    every : int
        A line every so many epochs.
    """

    weight = 100.0

    def __init__(self, every: int = 1):
        if isinstance(every, bool) or not isinstance(every, int) or every < 1:
            raise ConfigError(f"Progress: every must be an int >= 1, got {every!r}")
        self.every = every

    def on_epoch_end(self, state: TrainState) -> None:
        """Write one line."""
        if state.epoch % self.every and state.epoch != state.max_epochs:
            return
        row = state.history[-1]
        numbers = "  ".join(f"{k} {v:.4g}" for k, v in row.items() if k not in ("epoch", "seconds"))
        line = f"epoch {state.epoch}/{state.max_epochs}  {numbers}  {row['seconds']:.2f} s"
        if sys.stderr.isatty():
            print(line, file=sys.stderr)
        else:
            logger.info(line)


class TimeLimit(Callback):
    """Stop the fit after some time, at the end of an epoch.

    Parameters
    ----------
    seconds : float
        Wall-clock time from the beginning of the fit.
    """

    def __init__(self, seconds: float):
        if not seconds > 0:
            raise ConfigError(f"TimeLimit: seconds must be positive, got {seconds!r}")
        self.seconds = seconds

    def on_fit_begin(self, state: TrainState) -> None:
        """Start the clock."""
        self._deadline = time.monotonic() + self.seconds

    def on_epoch_end(self, state: TrainState) -> None:
        """Look at the clock."""
        if time.monotonic() >= self._deadline:
            state.stop = f"time limit of {self.seconds} s"


class GradientNorm(Callback):
    """Add the mean norm of the gradient to the history as ``gradient_norm``."""

    def on_epoch_begin(self, state: TrainState) -> None:
        """Forget the last epoch."""
        self._norms: list[torch.Tensor] = []

    def on_backward_end(self, state: TrainState) -> None:
        """Take the norm; it stays on the device until the epoch ends."""
        gradients = [p.grad for p in state.module.parameters() if p.grad is not None]
        self._norms.append(torch.nn.utils.get_total_norm(gradients))

    def on_epoch_end(self, state: TrainState) -> None:
        """Write the mean into the row of the history."""
        state.history[-1]["gradient_norm"] = float(torch.stack(self._norms).mean())
