"""Every learning-rate scheduler of torch as a value: torch's own arguments, called on an optimizer.

Totals (``T_max``, ``total_iters``, ``total_steps``) may be left out: then they are the length of the fit. ``CosLog``,
``FlatCos`` and ``Combined`` are our own: see :mod:`torchstrata.training.courses`.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch

from torchstrata.errors import ConfigError, did_you_mean
from torchstrata.params import Params
from torchstrata.training.courses import Combined as Combined
from torchstrata.training.courses import CosLog as CosLog
from torchstrata.training.courses import Course, Courses
from torchstrata.training.courses import FlatCos as FlatCos
from torchstrata.training.courses import moves_more as moves_more
from torchstrata.training.optim import _value_class

_STEPWISE = ("OneCycleLR", "CyclicLR")
_RATES = ("max_lr", "base_lr")  # learning rates in place of the optimizer's: those of groups keep their factors
_TOTALS = ("T_max", "total_iters", "total_steps")
NAMES = [
    "ConstantLR",
    "CosineAnnealingLR",
    "CosineAnnealingWarmRestarts",
    "CyclicLR",
    "ExponentialLR",
    "LambdaLR",
    "LinearLR",
    "MultiStepLR",
    "MultiplicativeLR",
    "OneCycleLR",
    "PolynomialLR",
    "ReduceLROnPlateau",
    "StepLR",
]
COURSES = ["CosLog", "Combined", "FlatCos"]  # our own


class TorchSchedule(Params):
    """Base of the schedules: builds the torch scheduler of the same name.

    Parameters
    ----------
    per : {"epoch", "step"}
        When the schedule moves on.
    """

    per: str

    def __post_init__(self) -> None:
        if self.per not in ("epoch", "step"):
            raise ConfigError(f"{type(self).__name__}: per must be 'epoch' or 'step', got {self.per!r}")
        if self.per == "step" and type(self).__name__ == "ReduceLROnPlateau":
            raise ConfigError("ReduceLROnPlateau: per must be 'epoch', for it follows the loss of epochs, got 'step'")

    def __call__(self, optimizer: torch.optim.Optimizer, *, epochs: int = 1, steps: int = 1) -> Any:
        """Build the torch scheduler.

        Parameters
        ----------
        optimizer : torch.optim.Optimizer
            Whose learning rate moves.
        epochs, steps : int
            Length of the fit, for totals that were left out.

        Returns
        -------
        torch.optim.lr_scheduler.LRScheduler
            Of the class of the same name.
        """
        settings = {name: value for name, value in self.get_params(deep=False).items() if name != "per"}
        for name in _TOTALS:
            if name in settings and settings[name] is None:
                settings[name] = max(1, epochs if self.per == "epoch" else steps)
        factors = [group.get("lr_factor", 1.0) for group in optimizer.param_groups]
        for name in _RATES:
            if isinstance(settings.get(name), int | float) and set(factors) != {1.0}:
                settings[name] = [settings[name] * factor for factor in factors]
        try:
            return getattr(torch.optim.lr_scheduler, type(self).__name__)(optimizer, **settings)
        except ValueError as error:
            raise ConfigError(f"{self!r}: {error}") from error


for _name in NAMES:
    _source = getattr(torch.optim.lr_scheduler, _name)
    _open = {name: None for name in _TOTALS if name in inspect.signature(_source.__init__).parameters}
    globals()[_name] = _value_class(
        _source,
        TorchSchedule,
        ("optimizer", "last_epoch"),
        __name__,
        **_open,
        per="step" if _name in _STEPWISE else "epoch",
    )


class Scheduled:
    """A scheduler and when it moves on.

    Parameters
    ----------
    given : None, str, TorchSchedule or callable
        A name here, a value here, or a function of an optimizer.
    optimizer : torch.optim.Optimizer
        Whose learning rate moves.
    epochs, steps : int
        Length of the fit.
    module : torch.nn.Module, optional
        Whose dropout moves, where the schedule says so.
    """

    def __init__(
        self,
        given: Any,
        optimizer: torch.optim.Optimizer,
        *,
        epochs: int,
        steps: int,
        module: torch.nn.Module | None = None,
    ):
        given = resolve_schedule(given)
        self.per = getattr(given, "per", "epoch")
        more: dict[str, Any] = {"module": module} if isinstance(given, Combined) else {}
        if isinstance(given, TorchSchedule | Course | Combined):
            more.update(epochs=epochs, steps=steps)
        self.scheduler: Any = None if given is None else given(optimizer, **more)
        self.by_score = isinstance(self.scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau)

    def after_step(self) -> None:
        """Move on after an update of the weights, if the schedule counts updates."""
        if self.scheduler is not None and self.per == "step":
            self.scheduler.step()

    def release(self) -> None:
        """Put back what a schedule moved in the network."""
        if isinstance(self.scheduler, Courses):
            self.scheduler.release()

    def after_epoch(self, loss: float | None) -> None:
        """Move on after an epoch, if the schedule counts epochs.

        Parameters
        ----------
        loss : float, optional
            For ReduceLROnPlateau, which waits where there is none.
        """
        if self.scheduler is None or self.per == "step":
            return
        if not self.by_score:
            self.scheduler.step()
        elif loss is not None:
            self.scheduler.step(loss)


def resolve_schedule(given: Any) -> Any:
    """Turn what the user gave as ``schedule`` into a callable on an optimizer.

    Parameters
    ----------
    given : None, str, TorchSchedule or callable
        A name in this module, one of its values, or a function of an optimizer.

    Returns
    -------
    callable or None
        The schedule.

    Raises
    ------
    ConfigError
        If the name is unknown, or a scheduler object was given.
    """
    if isinstance(given, str):
        if given not in (*NAMES, *COURSES):
            raise ConfigError(f"unknown schedule {given!r}. {did_you_mean(given, (*NAMES, *COURSES))}")
        try:
            return globals()[given]()
        except TypeError as error:
            raise ConfigError(f"schedule {given!r} needs settings: give ts.schedules.{given}(...) ({error})") from None
    if isinstance(given, type) and issubclass(given, Params):
        raise ConfigError(f"schedule is the class {given.__name__}; give a value: ts.schedules.{given.__name__}(...)")
    if given is not None and (isinstance(given, torch.optim.lr_scheduler.LRScheduler) or not callable(given)):
        raise ConfigError(
            "schedule must be a value such as ts.schedules.CosineAnnealingLR() or a function of an optimizer, "
            f"got {given!r}"
        )
    return given
