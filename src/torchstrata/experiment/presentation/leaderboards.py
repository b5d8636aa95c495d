"""A result for the eye: terminal, notebook, one line, pictures."""

from __future__ import annotations

import html
import inspect
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from torchstrata.errors import ConfigError, did_you_mean
from torchstrata.plots.measures import greater_is_better
from torchstrata.plots.tables import is_missing, short_names, write_value

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from torchstrata.experiment.result import BenchmarkResult
    from torchstrata.plots import Plot

_NOTE = re.compile(r" \((\d+ of \d+ folds failed[^()]*)\)$")  # as written by summary.leaderboard

_INTERVAL = re.compile(r" \[(\S+), (\S+)\]")


class Row(NamedTuple):
    """One row of a leaderboard, ready to be drawn.

    Attributes
    ----------
    task : str
        Name of the task.
    settings : list of str
        The learner and its settings.
    scores : list of str
        One text a measure.
    best : list of bool
        Whether it is the best of its task, one a measure.
    note : str
        How many folds failed.
    """

    task: str
    settings: list[str]
    scores: list[str]
    best: list[bool]
    note: str


KINDS = (
    "scores", "differences", "learning_curves", "roc", "precision_recall", "calibration", "confusion",
    "critical_difference", "cost", "tuning", "settings",
)  # fmt: skip
OF_PREDICTIONS = ("roc", "precision_recall", "calibration", "confusion")


def draw(kind: str, table: pd.DataFrame, given: Mapping[str, Any], settings: Mapping[str, Any]) -> Plot:
    """Call a plot function by name; matplotlib is imported now and not before.

    Parameters
    ----------
    kind : str
        One of ``KINDS``.
    table : DataFrame
        What to draw.
    given : mapping
        Settings of the function that the result knows.
    settings : mapping
        Settings of the function that the user chose.

    Returns
    -------
    Plot
        The drawing.

    Raises
    ------
    ConfigError
        If the function has no such setting, or the result knows it.
    """
    from torchstrata import plots

    function = getattr(plots, kind)
    known = [name for name in list(inspect.signature(function).parameters)[1:] if name not in given]
    for name in settings:
        if name not in known:
            raise ConfigError(f"kind={kind!r} has no setting {name!r}. {did_you_mean(name, known)}")
    return function(table, **given, **settings)


def setting_columns(table: pd.DataFrame, *, grid: Sequence[str]) -> list[str]:
    """Find the columns of settings that say anything in a table.

    Parameters
    ----------
    table : DataFrame
        A leaderboard.
    grid : sequence of str
        Grid columns.

    Returns
    -------
    list of str
        Those with a value.
    """
    return [c for c in grid if not table[c].map(is_missing).all()]


def cell(value: Any) -> str:
    """Write a cell of a leaderboard.

    Parameters
    ----------
    value : object
        A name, a setting, or text.

    Returns
    -------
    str
        Empty for a setting that is absent.
    """
    return "" if is_missing(value) else write_value(value)


def read_rows(leaderboard: pd.DataFrame, *, grid: Sequence[str]) -> tuple[list[str], list[str], list[Row]]:
    """Take a leaderboard apart for drawing it.

    Parameters
    ----------
    leaderboard : DataFrame
        What :meth:`BenchmarkResult.leaderboard` returns.
    grid : sequence of str
        Its grid columns.

    Returns
    -------
    names : list of str
        Columns of settings with a value.
    measures : list of str
        Columns of measures.
    rows : list of Row
        One a row.
    """
    names = setting_columns(leaderboard, grid=grid)
    measures = [str(c) for c in leaderboard.columns if c not in ("task", "learner", "best", *grid)]
    rows = []
    for _, row in leaderboard.iterrows():
        notes = dict.fromkeys(note for m in measures for note in _NOTE.findall(row[m]))
        best = row["best"].split(", ")
        settings = [cell(row[c]) for c in ["learner", *names]]
        scores = [_NOTE.sub("", row[m]) for m in measures]
        rows.append(Row(cell(row["task"]), settings, scores, [m in best for m in measures], "; ".join(notes)))
    return names, measures, rows


def rich_table(leaderboard: pd.DataFrame, *, grid: Sequence[str]) -> Table:
    """Lay a leaderboard out for a terminal.

    Parameters
    ----------
    leaderboard : DataFrame
        What :meth:`BenchmarkResult.leaderboard` returns.
    grid : sequence of str
        Its grid columns.

    Returns
    -------
    rich.table.Table
        One section a task.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    names, measures, rows = read_rows(leaderboard, grid=grid)
    measures = [name for name in measures if greater_is_better(name)]  # costs stand in the report
    tasks = list(dict.fromkeys(row.task for row in rows))
    # Text everywhere, because "[0.880, 0.944]" would be read as markup
    caption = Text("mean over folds, 95 % interval corrected for overlapping training sets; best in bold")
    title = Text(tasks[0], style="bold") if len(tasks) == 1 else None
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=title, caption=caption, caption_justify="left")
    for name in [*(["task"] if len(tasks) > 1 else []), "learner", *short_names(names).values()]:
        table.add_column(Text(name), overflow="fold")
    for name in measures:
        # the words of a name below each other, the interval below its mean: five columns fit into 80 characters
        table.add_column(Text("\n".join(name.split("_"))), vertical="middle", no_wrap=True)
    for before, row in zip([None, *rows], rows, strict=False):
        new = before is not None and before.task != row.task
        if new:
            table.add_section()
        task = [Text(row.task if new or before is None else "")] if len(tasks) > 1 else []
        table.add_row(*task, *_rich_cells(row, len(measures)))
    return table


def _rich_cells(row: Row, n_measures: int) -> list[Text]:
    from rich.text import Text

    told = [Text(text) for text in row.settings]
    if row.note:
        told[0].append(f" ({row.note})", style="yellow")
    texts = [_INTERVAL.sub(r"\n\1–\2", text) for text in row.scores[:n_measures]]
    return told + [Text(t, style="bold green" if best else "") for t, best in zip(texts, row.best, strict=False)]


def html_table(leaderboard: pd.DataFrame, *, grid: Sequence[str]) -> str:
    """Lay a leaderboard out for a notebook.

    Parameters
    ----------
    leaderboard : DataFrame
        What :meth:`BenchmarkResult.leaderboard` returns.
    grid : sequence of str
        Its grid columns.

    Returns
    -------
    str
        One escaped HTML table, the best in bold.
    """
    names, measures, rows = read_rows(leaderboard, grid=grid)
    lines = ["".join(f"<th>{html.escape(c)}</th>" for c in ["task", "learner", *names, *measures, "note"])]
    for row in rows:
        told = [html.escape(text) for text in [row.task, *row.settings]]
        scores = [html.escape(text) for text in row.scores]
        scores = [f"<b>{text}</b>" if best else text for text, best in zip(scores, row.best, strict=True)]
        lines.append("".join(f"<td>{text}</td>" for text in [*told, *scores, html.escape(row.note)]))
    head, *body = (f"<tr>{line}</tr>" for line in lines)
    return f"<table><thead>{head}</thead><tbody>{''.join(body)}</tbody></table>"


def count(n: int, noun: str) -> str:
    """Write a number with its noun.

    Parameters
    ----------
    n : int
        How many.
    noun : str
        In the singular; an s is added.

    Returns
    -------
    str
        Such as ``"1 task"`` or ``"3 tasks"``.
    """
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def n_failed(result: BenchmarkResult) -> int:
    """Count the cells that failed.

    Parameters
    ----------
    result : BenchmarkResult
        The result.

    Returns
    -------
    int
        Cells with a row in ``errors``.
    """
    errors = result.errors
    keys = [c for c in ["task", "learner", "fold", *result.grid_columns] if c in errors]
    return len(errors.drop_duplicates(keys))


def one_line(result: BenchmarkResult) -> str:
    """Say in a line what a result holds.

    Parameters
    ----------
    result : BenchmarkResult
        The result.

    Returns
    -------
    str
        Such as ``"1 task, 7 learners, 5 folds; roc_auc, accuracy; 2 of 35 cells failed"``.
    """
    scores = result.scores
    settings = scores.drop_duplicates(["learner", *result.grid_columns])
    n_cells = len(scores.drop_duplicates(["task", "learner", "fold", *result.grid_columns]))
    parts = [count(len(scores["task"].unique()), "task"), count(len(scores["learner"].unique()), "learner")]
    if len(settings) > len(scores["learner"].unique()):
        parts.append(count(len(settings), "setting"))
    parts.append(count(len(scores["fold"].unique()), "fold"))
    failed = n_failed(result)
    measures = [m for m in result.measures if greater_is_better(m)]
    return "; ".join(
        [", ".join(parts), ", ".join(measures), *([f"{failed} of {n_cells} cells failed"] if failed else [])]
    )
