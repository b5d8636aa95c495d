"""Every learning-rate scheduler of torch as a value: torch's own arguments, called on an optimizer.

Totals that torch asks for (``T_max``, ``total_iters``, ``total_steps``) may be left out: they are filled in from the fit.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch

from torchstrata.errors import ConfigError, did_you_mean
from torchstrata.params import Params
from torchstrata.training.optim import _value_class

_STEPWISE = {"OneCycleLR": {}, "CyclicLR": {}}
_TOTALS = {"T_max": "total", "total_iters": "total", "total_steps": "total"}
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

    def build(self, optimizer: torch.optim.Optimizer, epochs: int, steps: int) -> Any:
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
        return getattr(torch.optim.lr_scheduler, type(self).__name__)(optimizer, **settings)


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
    """

    def __init__(self, given: Any, optimizer: torch.optim.Optimizer, *, epochs: int, steps: int):
        given = resolve_schedule(given)
        self.per = getattr(given, "per", "epoch")
        build = getattr(given, "build", None)
        self.scheduler = None if given is None else build(optimizer, epochs, steps) if build else given(optimizer)
        self.by_score = isinstance(self.scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau)

    def after_step(self) -> None:
        """Move on after an update of the weights, if the schedule counts updates."""
        if self.scheduler is not None and self.per == "step":
            self.scheduler.step()

    def after_epoch(self, loss: float) -> None:
        """Move on after an epoch, if the schedule counts epochs.

        Parameters
        ----------
        loss : float
            Validation loss where there is one, else training loss; for ReduceLROnPlateau.
        """
        if self.scheduler is None or self.per == "step":
            return
        if self.by_score:
            self.scheduler.step(loss)
        else:
            self.scheduler.step()


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
        if given not in NAMES:
            raise ConfigError(f"unknown schedule {given!r}. {did_you_mean(given, NAMES)}")
        return globals()[given]()
    if given is not None and (isinstance(given, torch.optim.lr_scheduler.LRScheduler) or not callable(given)):
        raise ConfigError(
            f"schedule must be a value such as ts.schedules.CosineAnnealingLR() or a function of an optimizer, got {given!r}"
        )
    return given
