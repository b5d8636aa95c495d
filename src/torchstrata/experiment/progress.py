"""How far a run is: a bar on a terminal, silence elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from torchstrata.experiment.score import Outcome


def track(outcomes: Iterable[Outcome], total: int, *, show: bool) -> Iterator[Outcome]:
    """Pass outcomes on and show how many there are.

    Parameters
    ----------
    outcomes : iterable of Outcome
        As they finish.
    total : int
        How many there will be.
    show : bool
        False is silent; so is a standard error that is no terminal.

    Yields
    ------
    Outcome
        Each one.
    """
    if not (show and sys.stderr.isatty()):
        yield from outcomes
        return
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task, failed = bar.add_task("fits", total=total), 0
        for outcome in outcomes:
            failed += outcome.error is not None
            last = f"{outcome.cell.task}: {outcome.cell.learner}, fold {outcome.cell.fold}"
            bar.update(task, advance=1, description=f"{last} ({failed} failed)" if failed else last)
            yield outcome
