"""How far a run is: a bar on a terminal, silence elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


def track(
    outcomes: Iterable[Any],
    total: int,
    *,
    show: bool,
    done: int = 0,
    failed: int = 0,
    running: Callable[[], int] | None = None,
) -> Iterator[Any]:
    """Pass outcomes on and show how many cells are done, running and failed, and the time left.

    Parameters
    ----------
    outcomes : iterable of Outcome
        As they finish.
    total : int
        How many there will be, with those done before.
    show : bool
        False is silent; so is a standard error that is no terminal.
    done, failed : int
        How many were done before, and how many of these failed.
    running : callable, optional
        Says how many cells are being carried out now.

    Yields
    ------
    Outcome
        Each one.
    """
    if not (show and sys.stderr.isatty()):
        yield from outcomes
        return
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[state]}")
    times = TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn()
    with Progress(*columns, *times, console=Console(stderr=True), transient=True) as bar:
        # cells done before say nothing about how long the others take, so the time left is counted without them
        task = bar.add_task("fits", total=total - done, state=state(failed, running))
        for outcome in outcomes:
            failed += outcome.error is not None
            last = f"{outcome.cell.task}: {outcome.cell.learner}, fold {outcome.cell.fold}"
            before = f"+ {done} from the store" if done else ""
            bar.update(task, advance=1, description=last, state=f"{before} {state(failed, running)}".strip())
            yield outcome


def state(failed: int, running: Callable[[], int] | None) -> str:
    """Say how many cells are running and how many failed.

    Parameters
    ----------
    failed : int
        So far.
    running : callable, optional
        Says how many cells are being carried out now.

    Returns
    -------
    str
        Empty where there is nothing to say.
    """
    now = running() if running else 0
    return ", ".join(([f"{now} running"] if now else []) + ([f"{failed} failed"] if failed else []))


def duration(seconds: float) -> str:
    """Write a duration for people.

    Parameters
    ----------
    seconds : float
        How long.

    Returns
    -------
    str
        Such as ``"about 4 min"``.
    """
    for unit, size in (("days", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 1.5 * size:
            return f"about {seconds / size:.0f} {unit}"
    return f"about {seconds:.0f} s"
