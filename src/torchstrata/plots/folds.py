"""scores(): what each learner reached on each fold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullFormatter

from torchstrata.errors import ConfigError, did_you_mean
from torchstrata.plots import style
from torchstrata.plots.measures import greater_is_better
from torchstrata.plots.plot import Plot
from torchstrata.plots.rows import color_looks, color_name, draw_rows
from torchstrata.plots.tables import (
    Ratio,
    grid_columns,
    is_missing,
    need_columns,
    only,
    summary,
    with_label,
    write_value,
)  # fmt: skip


def scores(
    table: pd.DataFrame,
    *,
    measure: str | None = None,
    x: str | None = None,
    color: str | None = None,
    grid: Sequence[str] | None = None,
    ratio: Ratio = None,
    level: float = 0.95,
    width: float = style.PAGE,
) -> Plot:
    """Draw the score of every fold, the mean and its interval; one panel a task, the best learner on top.

    Parameters
    ----------
    table : DataFrame
        Long scores: task, learner, fold, grid columns, measure, value.
    measure : str, optional
        Which measure; the first one that is no cost by default.
    x : str, optional
        A grid column to put along x (logarithmic where numbers span more than a decade); then lines with intervals.
    color : str, optional
        A grid column to show as colour.
    grid : sequence of str, optional
        Columns that tell the cells of one learner apart; found by default.
    ratio : float or mapping, optional
        Test rows per training row, for all tasks, by task or by (task, fold); by default that of k-fold
        cross-validation.
    level : float
        Level of confidence of the intervals, which are corrected for overlapping training sets.
    width : float
        Inches: 3.5 for a column, 7 for a page.

    Returns
    -------
    Plot
        ``table`` holds one row per task and line: mean, std, n, folds, low, high, note and ``values`` of the folds.

    Raises
    ------
    ConfigError
        If the measure or a column is unknown.
    """
    need_columns(table, ["task", "learner", "fold", "measure", "value"], "the table of scores")
    columns = list(grid_columns(table) if grid is None else grid)
    for name in (x, color):
        if name is not None and name not in [*columns, "learner"]:
            raise ConfigError(f"No grid column {name!r}. {did_you_mean(name, [*columns, 'learner'])}")
    rows = only(table, "measure", measure or first_measure(table))
    drawn = _compute(rows, columns, x, color, ratio, level)
    with style.style():
        return _draw_lines(drawn, x, color, width) if x else draw_rows(drawn, color=color, width=width)


def first_measure(table: pd.DataFrame) -> str:
    """Find the first measure that is no cost.

    Parameters
    ----------
    table : DataFrame
        Long scores.

    Returns
    -------
    str
        Its name; a cost where there is nothing else.
    """
    names = list(table["measure"].unique())
    return next((m for m in names if greater_is_better(m)), names[0] if names else "")


def _compute(
    rows: pd.DataFrame, columns: list[str], x: str | None, color: str | None, ratio: Any, level: float
) -> pd.DataFrame:
    rows = with_label(rows, grid=columns, skip=[c for c in (x, color) if c])
    keys = ["task", *dict.fromkeys(c for c in ("label", color, x) if c), "measure"]
    out = summary(rows, keys=keys, ratio=ratio, level=level)
    number = rows.groupby(keys, dropna=False, sort=False).ngroup()
    out["values"] = pd.Series([tuple(v) for _, v in rows["value"].groupby(number)], dtype=object)
    up = greater_is_better(rows["measure"].iloc[0])
    best = out.groupby(["task", "label"])["mean"].transform("max" if up else "min")
    tasks = {task: i for i, task in enumerate(out["task"].unique())}
    order = np.lexsort((out["label"].astype(str), -best if up else best, out["task"].map(tasks)))
    return out.iloc[order].reset_index(drop=True)


def _draw_lines(drawn: pd.DataFrame, x: str, color: str | None, width: float) -> Plot:
    several = color is not None and len(drawn.loc[~drawn[x].map(is_missing), "label"].unique()) > 1
    facets = _facets(drawn, x, by_label=several)
    lines = drawn[color].map(color_name) if color else drawn["label"]
    with_x = drawn[~drawn[x].map(is_missing)]
    looks = color_looks(with_x[color]) if color else style.looks(with_x["label"])
    narrowest = 2.2 if len(facets) > 1 else 3.0
    columns = style.n_columns(len(facets), width, narrowest)
    titles = [title for title, _ in facets]
    figure, axes = style.titled_panels(titles, width=width, height=2.2, narrowest=narrowest)
    for axis, (_, rows) in zip(axes, facets, strict=True):
        _draw_panel(axis, rows.assign(line=lines[rows.index]), x, looks)
    style.label_outside(axes, columns, x, drawn["measure"].iloc[0])
    handles = [Line2D([], [], markersize=4, **look) for look in looks.values()]
    names = [str(name) for name in looks]
    if (drawn["note"] != "").any():
        handles.append(Line2D([], [], ls="", marker="o", markersize=4, mfc="white", color=style.INK))
        names.append("some folds failed")
    style.legend_above(figure, handles, names, title=color or "")
    return Plot(figure, axes, drawn)


def _facets(drawn: pd.DataFrame, x: str, *, by_label: bool) -> list[tuple[str, pd.DataFrame]]:
    if not by_label:
        return [(str(task), rows) for task, rows in drawn.groupby("task", sort=False)]
    has_x = ~drawn[x].map(is_missing)
    found = []
    for (task, label), rows in drawn[has_x].groupby(["task", "label"], sort=False):
        lines_without_x = drawn[~has_x & (drawn["task"] == task)]  # a baseline belongs into every panel
        found.append((f"{task}: {label}", pd.concat([rows, lines_without_x])))
    return found


def _draw_panel(axis: Axes, rows: pd.DataFrame, x: str, looks: dict[Any, dict[str, Any]]) -> None:
    has_x = ~rows[x].map(is_missing)
    places, shift = _x_axis(axis, rows.loc[has_x, x])
    for i, (name, look) in enumerate(looks.items()):
        line = rows[has_x & (rows["line"] == name)]
        at = line[x].map(places).to_numpy(dtype=float)
        order = np.argsort(at)
        at, line = shift(at[order], i - (len(looks) - 1) / 2), line.iloc[order]
        axis.vlines(at, line["low"], line["high"], color=look["color"], lw=0.9, alpha=0.8)
        axis.plot(at, line["mean"], ms=3.5, mew=0, **look)
        part = (line["note"] != "").to_numpy()  # of some folds only, or a fallback's
        axis.plot(at[part], line["mean"][part], ls="", ms=3.5, mew=0.8, mfc="white", **look)
    row: Any
    for row in rows[~has_x].itertuples():
        axis.axhline(row.mean, color=style.QUIET, lw=0.9, ls="--", zorder=1)
        axis.annotate(style.wrap(row.label, width=12), (1.01, row.mean), xycoords=("axes fraction", "data"),
                      va="center", fontsize=6.5, color=style.QUIET, annotation_clip=False)  # fmt: skip
    axis.grid(axis="y")


def _x_axis(axis: Axes, values: pd.Series) -> tuple[dict, Any]:
    """Choose the scale of x; return where each value lies, and how to move a line a little beside the others."""
    known = sorted(values.unique(), key=lambda v: (not _is_number(v), v if _is_number(v) else str(v)))
    if not known or not all(map(_is_number, known)):
        room = 12.5 * axis.get_position().width * axis.figure.get_figwidth()  # type: ignore[union-attr]
        letters = max(6, int(room / max(1, len(known))))
        axis.set_xticks(range(len(known)), [style.wrap(write_value(v), width=letters) for v in known])
        axis.set_xlim(-0.5, len(known) - 0.5)
        return {v: i for i, v in enumerate(known)}, lambda at, i: at + 0.04 * i
    if min(known) > 0 and max(known) / min(known) >= 10:
        axis.set_xscale("log")
        axis.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
        axis.xaxis.set_minor_formatter(NullFormatter())
        return {v: v for v in known}, lambda at, i: at * (max(known) / min(known)) ** (0.012 * i)
    return {v: v for v in known}, lambda at, i: at + 0.012 * i * (max(known) - min(known))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
