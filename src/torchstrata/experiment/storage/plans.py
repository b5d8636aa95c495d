"""Plans of a store: which cells belong together, in which order, and what their names stand for."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable
from typing import Any

from torchstrata.experiment.storage import record
from torchstrata.experiment.storage.record import Planned


@dataclasses.dataclass
class Plan:
    """What one call of benchmark is about.

    Parameters
    ----------
    cells : list of Planned
        In their order.
    tasks : dict
        Name to description.
    learners : dict
        Name to settings as text.
    measures : list of str
        Names.
    splits : list of dict
        task, fold, n_train, n_test and digest of each split.
    started : str
        When it was last called, in ISO format.
    """

    cells: list[Planned]
    tasks: dict[str, Any]
    learners: dict[str, str]
    measures: list[str]
    splits: list[dict[str, Any]]
    started: str

    @property
    def id(self) -> str:
        """16 hexadecimal digits: equal for the same cells."""
        about = [[cell.key for cell in self.cells], self.learners, self.measures]
        return hashlib.sha256(json.dumps(about).encode()).hexdigest()[:16]

    def to_line(self) -> bytes:
        """Return what its file holds."""
        cells = [cell.to_json() for cell in self.cells]
        return record.seal({"format_version": record.FORMAT_VERSION, **vars(self), "cells": cells})

    @classmethod
    def from_line(cls, content: bytes) -> Plan:
        """Undo :meth:`to_line`."""
        read = record.unseal(content)
        read.pop("format_version", None)
        return cls(**{**read, "cells": [Planned.from_json(cell) for cell in read["cells"]]})


def united(plans: Iterable[Plan]) -> Plan:
    """Unite plans: the later one counts where two give one name another meaning.

    Parameters
    ----------
    plans : iterable of Plan
        The oldest first.

    Returns
    -------
    Plan
        All cells that belong together. Cells of a task, learner or split that a later plan changed are left out.
    """
    known: dict[tuple[str, str], Any] = {}
    measures: dict[str, None] = {}
    named: set[str] = set()
    kept: list[list[Planned]] = []
    splits: list[dict[str, Any]] = []
    several = list(plans)
    for plan in reversed(several):
        means = _meaning(plan)
        agreed = {what for what, meaning in means.items() if known.get(what, meaning) == meaning}
        new = [cell for cell in plan.cells if {("task", cell.task), ("learner", cell.learner)} <= agreed]
        if len(several) > 1:
            names = [
                repr((cell.task, cell.learner, cell.fold, cell.settings, cell.n_train, cell.n_test)) for cell in new
            ]
            new = [cell for cell, name in zip(new, names, strict=True) if name not in named]
            named.update(names)
        kept.insert(0, new)
        used = {("task", cell.task) for cell in new} | {("learner", cell.learner) for cell in new}
        splits = [s for s in plan.splits if ("task", s["task"]) in used - known.keys()] + splits
        known = {what: means[what] for what in means if what in used} | known
        measures |= dict.fromkeys(plan.measures if new else [])
    return Plan(
        [cell for cells in kept for cell in cells],
        tasks={name: about[0] for (kind, name), about in known.items() if kind == "task"},
        learners={name: about for (kind, name), about in known.items() if kind == "learner"},
        measures=list(measures),
        splits=splits,
        started=max((plan.started for plan in several), default=""),
    )


def _meaning(plan: Plan) -> dict[tuple[str, str], Any]:
    """What the names of a plan stand for: a task for its rows and splits, a learner for its settings."""
    tasks = {("task", n): (about, [s for s in plan.splits if s["task"] == n]) for n, about in plan.tasks.items()}
    return tasks | {("learner", name): about for name, about in plan.learners.items()}
