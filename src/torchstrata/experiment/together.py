"""Which cells can train as one program: those that differ only in numbers."""

from __future__ import annotations

import dataclasses
import numbers
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from torchstrata.errors import ConfigError
from torchstrata.experiment.plan import Cell

# Settings whose numbers may differ within one program; all others, such as widths and batch sizes, change its shape.
NUMBERS = ("random_state", "max_epochs", "network__dropout")
PARTS = ("optimizer__", "loss__", "early_stopping__")


@dataclasses.dataclass
class Group:
    """Cells that are carried out together.

    Parameters
    ----------
    cells : list of Cell
        One where a cell is carried out alone.
    why : str
        Why together, or why alone.
    """

    cells: list[Cell]
    why: str

    @property
    def task(self) -> str:
        """Name of the task, which is one for all."""
        return self.cells[0].task


def together(cells: Sequence[Cell], vectorize: Any = "auto") -> list[Group]:
    """Group cells that differ only in folds, seeds and other numbers.

    Parameters
    ----------
    cells : sequence of Cell
        From the plan.
    vectorize : "auto" or False
        False leaves every cell alone.

    Returns
    -------
    list of Group
        In the order of their first cells. Whether the networks of a group really have one shape shows when they are
        built; each learner then says in its ``runtime_`` with how many others it was trained.

    Raises
    ------
    ConfigError
        If ``vectorize`` is neither.

    Examples
    --------
    >>> import torchstrata as ts
    >>> task = ts.load_task("iris")
    >>> learners = ts.grid(ts.TorchClassifier(), optimizer__lr=[1e-3, 1e-2])
    >>> planned = ts.experiment.plan.cells({"iris": task}, {"mlp": learners}, 3)
    >>> [(len(group.cells), group.why) for group in together(planned)]
    [(6, 'differ in folds and numbers only')]
    """
    if vectorize not in ("auto", True, False, None):
        raise ConfigError(f"vectorize must be 'auto' or False, got {vectorize!r}")
    if not vectorize:
        return [Group([cell], "vectorize is off") for cell in cells]
    groups: list[Group] = []
    found: list[tuple[Any, Group]] = []
    for cell in cells:
        why = _why_alone(cell)
        if why:
            groups.append(Group([cell], why))
            continue
        key = fingerprint(cell)
        group = next((group for known, group in found if _equal(known, key)), None)
        if group is None:
            group = Group([], "differ in folds and numbers only")
            found.append((key, group))
            groups.append(group)
        group.cells.append(cell)
    for group in groups:
        if len(group.cells) == 1 and group.why.startswith("differ"):
            group.why = "no other cell differs from it in numbers only"
    return groups


def fingerprint(cell: Cell) -> dict[str, Any]:
    """Return what must be equal for two cells to be one program, by name.

    Parameters
    ----------
    cell : Cell
        With a learner of this library.

    Returns
    -------
    dict
        The settings, without the numbers that may differ.
    """
    key: dict[str, Any] = {"task": cell.task, "class": type(cell.estimator)}
    for name, value in cell.estimator.get_params(deep=True).items():
        if _may_differ(name, value):
            continue
        # a part is told by its class and its settings, which follow under their own names
        key[name] = type(value) if hasattr(value, "get_params") and not callable(value) else _part(value)
    return key


def _part(value: Any) -> Any:
    if not hasattr(value, "get_params"):
        return value
    return getattr(value, "function", type(value))


def _may_differ(name: str, value: Any) -> bool:
    if name in NUMBERS or (name.startswith("network__") and name.endswith("__p")):  # a Dropout in a Chain or Graph
        return True
    return name.startswith(PARTS) and isinstance(value, numbers.Real) and not isinstance(value, bool | np.bool_)


def _equal(a: dict[str, Any], b: dict[str, Any]) -> bool:
    if a.keys() != b.keys():
        return False
    for name, one in a.items():
        other = b[name]
        if one is other:
            continue
        try:
            if not bool(np.all(one == other)):
                return False
        except (ValueError, TypeError):
            return False
    return True


def _why_alone(cell: Cell) -> str:
    if not hasattr(cell.estimator, "check_fit"):
        return f"{type(cell.estimator).__name__} is no learner of this library"
    return ""


def table(groups: Sequence[Group]) -> pd.DataFrame:
    """Say which cells are carried out together, and why others are not.

    Parameters
    ----------
    groups : sequence of Group
        From :func:`together`.

    Returns
    -------
    DataFrame
        A row a task and learner: cells, groups, why.
    """
    rows = [
        {"task": c.task, "learner": c.learner, "group": i, "why": g.why} for i, g in enumerate(groups) for c in g.cells
    ]
    found = pd.DataFrame(rows, columns=["task", "learner", "group", "why"])
    by = found.groupby(["task", "learner", "why"], sort=False)["group"]
    return by.agg(cells="size", groups="nunique").reset_index()[["task", "learner", "cells", "groups", "why"]]
