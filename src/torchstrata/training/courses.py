"""Courses: schedules over the whole fit, a step at a time, of the learning rate, weight decay and dropout."""

from __future__ import annotations

import abc
import dataclasses
import math
import numbers
from typing import Any

import torch

from torchstrata.errors import ConfigError
from torchstrata.params import Params


class Course(Params, abc.ABC):
    """Base of the schedules that are a factor over the whole fit; by itself one multiplies the learning rate."""

    per = "step"

    @abc.abstractmethod
    def factor(self, done: float) -> float:
        """Return what a setting is multiplied with.

        Parameters
        ----------
        done : float
            Share of the fit that is over, in [0, 1].

        Returns
        -------
        float
            In [0, 1].
        """

    def __call__(self, optimizer: torch.optim.Optimizer, *, epochs: int = 1, steps: int = 1) -> Courses:
        """Follow this course with the learning rate.

        Parameters
        ----------
        optimizer : torch.optim.Optimizer
            Whose learning rate moves.
        epochs, steps : int
            Length of the fit; steps are counted.

        Returns
        -------
        Courses
            Has ``step()``.
        """
        return Courses({"lr": self}, optimizer, None, steps)


@dataclasses.dataclass(frozen=True, repr=False)
class CosLog(Course):
    """Cosine cycles of growing length: a multi-cycle schedule on a logarithmic time.

    The factor is ``(1 - cos(2 pi log2(1 + (2**cycles - 1) t))) / 2`` at share t of the fit: it begins and ends at zero,
    and each cycle is twice as long as the one before.

    Parameters
    ----------
    cycles : int
        How many.

    References
    ----------
    Holzmueller, D., Grinsztajn, L. and Steinwart, I. (2024). Better by default: strong pre-tuned MLPs and boosted trees
    on tabular data. NeurIPS.

    Examples
    --------
    >>> [round(CosLog(2).factor(t), 3) for t in (0, 0.1381, 1 / 3, 1)]
    [0.0, 1.0, 0.0, 0.0]
    """

    cycles: int = 4

    def __post_init__(self) -> None:
        if isinstance(self.cycles, bool) or not isinstance(self.cycles, numbers.Integral) or not 1 <= self.cycles <= 30:
            raise ConfigError(f"CosLog: cycles must be an int in [1, 30], got {self.cycles!r}")

    def factor(self, done: float) -> float:
        """Return the factor of the learning rate."""
        return 0.5 - 0.5 * math.cos(2 * math.pi * math.log2(1 + (2**self.cycles - 1) * done))


@dataclasses.dataclass(frozen=True, repr=False)
class FlatCos(Course):
    """Flat at first, then along half a cosine to zero.

    Parameters
    ----------
    flat : float
        Share of the fit that is flat, in [0, 1).

    Examples
    --------
    >>> [round(FlatCos().factor(t), 3) for t in (0, 0.5, 0.75, 1)]
    [1.0, 1.0, 0.5, 0.0]
    """

    flat: float = 0.5

    def __post_init__(self) -> None:
        if isinstance(self.flat, bool) or not isinstance(self.flat, numbers.Real) or not 0 <= self.flat < 1:
            raise ConfigError(f"FlatCos: flat must be a number in [0, 1), got {self.flat!r}")

    def factor(self, done: float) -> float:
        """Return the factor."""
        return 0.5 + 0.5 * math.cos(math.pi * max(0.0, done - self.flat) / (1 - self.flat))


@dataclasses.dataclass(frozen=True, repr=False)
class Combined(Params):
    """Courses of several settings at once: learning rate, weight decay and dropout.

    Parameters
    ----------
    lr, weight_decay, dropout : Course or None
        What multiplies each over the fit, such as ``CosLog()`` or ``FlatCos()``; None leaves it as it is. Dropout is
        that of all dropout layers of the network, and is as before when the fit ends.

    Examples
    --------
    >>> import torchstrata as ts
    >>> ts.schedules.Combined(lr=ts.schedules.CosLog(4), dropout=ts.schedules.FlatCos())
    Combined(lr=CosLog(cycles=4), dropout=FlatCos(flat=0.5))
    """

    _: dataclasses.KW_ONLY
    lr: Any = None
    weight_decay: Any = None
    dropout: Any = None
    per = "step"

    def __post_init__(self) -> None:
        for name, course in self.get_params(deep=False).items():
            if course is not None and not isinstance(course, Course):
                raise ConfigError(
                    f"Combined: {name} must be a course such as ts.schedules.CosLog() or ts.schedules.FlatCos(), or "
                    f"None, got {course!r}"
                )

    def __call__(
        self,
        optimizer: torch.optim.Optimizer,
        *,
        epochs: int = 1,
        steps: int = 1,
        module: torch.nn.Module | None = None,
    ) -> Courses:
        """Follow the courses.

        Parameters
        ----------
        optimizer : torch.optim.Optimizer
            Whose groups move.
        epochs, steps : int
            Length of the fit; steps are counted.
        module : torch.nn.Module, optional
            Whose dropout moves.

        Returns
        -------
        Courses
            Has ``step()`` and ``release()``.
        """
        courses = {name: course for name, course in self.get_params(deep=False).items() if course is not None}
        return Courses(courses, optimizer, module, steps)


class Courses:
    """Settings that follow courses.

    Parameters
    ----------
    courses : dict of str to Course
        Of "lr", "weight_decay", "dropout".
    optimizer : torch.optim.Optimizer
        Whose groups move.
    module : torch.nn.Module, optional
        Whose dropout moves.
    steps : int
        Length of the fit.
    """

    def __init__(
        self,
        courses: dict[str, Course],
        optimizer: torch.optim.Optimizer,
        module: torch.nn.Module | None,
        steps: int,
    ):
        self.done, self.steps = 0, max(1, steps)
        self.moves: list[tuple[Course, str, list[tuple[dict[str, Any], Any]]]] = []
        for name in ("lr", "weight_decay"):
            if name in courses:
                groups = [(group, group[name]) for group in optimizer.param_groups if name in group]
                if not groups:
                    raise ConfigError(f"{type(optimizer).__name__} has no {name} for a schedule to move")
                self.moves.append((courses[name], name, groups))
        layers = [] if module is None else [m for m in module.modules() if isinstance(m, _DROPOUTS)]
        if "dropout" in courses and layers:
            self.moves.append((courses["dropout"], "p", [(vars(layer), layer.p) for layer in layers]))
        self._set()

    def step(self) -> None:
        """Move on by one step."""
        self.done += 1
        self._set()

    def _set(self) -> None:
        done = min(self.done / self.steps, 1.0)
        for course, name, places in self.moves:
            factor = course.factor(done)
            for place, value in places:
                place[name] = value * factor

    def release(self) -> None:
        """Put back the dropout that the layers had."""
        for _, name, places in self.moves:
            if name == "p":
                for place, value in places:
                    place[name] = value


_DROPOUTS = (torch.nn.modules.dropout._DropoutNd,)


def moves_more(schedule: Any) -> bool:
    """Say whether a schedule moves more than the learning rate (and the momentum, as torch's may).

    Parameters
    ----------
    schedule : object
        As given to a learner.

    Returns
    -------
    bool
        True for :class:`Combined` with a course of weight decay or dropout.
    """
    return isinstance(schedule, Combined) and (schedule.weight_decay, schedule.dropout) != (None, None)
