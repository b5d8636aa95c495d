"""Rows of dots and intervals, one learner below the other: what scores() and differences() share."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from torchstrata.plots import style
from torchstrata.plots.measures import decimals, greater_is_better, write_number
from torchstrata.plots.plot import Plot
from torchstrata.plots.tables import is_missing, write_value

_NOT_SET = "not set"


def color_name(value: Any) -> str:
    """Write a value that is shown as colour.

    Parameters
    ----------
    value : object
        Value of a grid column.

    Returns
    -------
    str
        Its text; "not set" where the column says nothing of a learner.
    """
    return _NOT_SET if is_missing(value) else write_value(value)


def color_looks(values: pd.Series) -> dict[str, dict[str, Any]]:
    """Give each value of a column a colour and a marker.

    Parameters
    ----------
    values : Series
        A grid column.

    Returns
    -------
    dict
        Text of the value to its looks, sorted by value; grey for "not set".
    """
    known = [v for v in values.unique() if not is_missing(v)]
    try:
        known = sorted(known)
    except TypeError:  # of several types: as they come
        known = sorted(known, key=str)
    found: dict[str, dict[str, Any]] = dict(style.looks(color_name(v) for v in known))  # type: ignore[arg-type]
    if values.map(is_missing).any():
        found[_NOT_SET] = {"color": style.QUIET, "marker": "o"}
    return found


def draw_rows(
    drawn: pd.DataFrame,
    *,
    color: str | None = None,
    width: float = style.PAGE,
    name: str = "",
    reference: float | None = None,
) -> Plot:
    """Draw means with intervals and the values of the folds, one panel a task.

    Parameters
    ----------
    drawn : DataFrame
        task, label, measure, mean, low, high, values (of the folds, a tuple), note, and ``color``.
    color : str, optional
        A column to show as colour.
    width : float
        Inches.
    name : str
        Of the x axis; the measure by default.
    reference : float, optional
        Where a line goes through all rows; at the best mean by default.

    Returns
    -------
    Plot
        With ``drawn`` as its table.
    """
    looks = color_looks(drawn[color]) if color else {"": {"color": style.PALETTE[0], "marker": "o"}}
    tasks = drawn["task"].unique()
    wrapped = 20 if width < 5 else 38
    layouts = [_Rows(drawn[drawn["task"] == task], color, list(looks), wrapped) for task in tasks]
    room = 0.3 if color else 0.1
    figure = style.new_figure(width, sum(one.height for one in layouts) + 0.5 * len(tasks) + room)
    heights = [one.height for one in layouts]
    axes = figure.subplots(len(tasks), 1, squeeze=False, gridspec_kw={"height_ratios": heights}).ravel()
    longest = max(len(line) for one in layouts for name in one.names.values() for line in name.split("\n"))
    letters = style.letters(width - 0.055 * longest)  # of a title, which begins where the names end
    for axis, task, layout in zip(axes, tasks, layouts, strict=True):
        layout.draw(axis, looks, text=width >= 5 and not color, reference=reference)
        axis.set_title(style.wrap(task, width=letters))
        axis.set_xlabel((name or drawn["measure"].iloc[0]) if axis is axes[-1] else "")
    if color:
        handles = [Line2D([], [], ls="-", markersize=4, **look) for look in looks.values()]
        style.legend_above(figure, handles, list(looks), title=color)
    return Plot(figure, list(axes), drawn)


class _Rows:
    """Where the rows of one panel lie: a learner is one row, and its colours lie below each other within the row."""

    def __init__(self, drawn: pd.DataFrame, color: str | None, colors: list[str], wrapped: int):
        self.labels = list(drawn["label"].unique())
        self.colors = drawn[color].map(color_name) if color else pd.Series("", index=drawn.index)
        self.drawn, self.decimals = drawn, decimals(drawn["mean"])
        of_label = {name: set(rows) for name, rows in self.colors.groupby(drawn["label"])}
        present = max(map(len, of_label.values()))
        self.step = 0.8 / present
        self.place = {
            (label, c): (i - (len(found) - 1) / 2) * self.step
            for label, found in of_label.items()
            for i, c in enumerate(c for c in colors if c in found)
        }
        self.names = {label: self._name(label, wrapped) for label in self.labels}
        lines = max(name.count("\n") + 1 for name in self.names.values())
        self.height = len(self.labels) * max(0.28, 0.19 * present, 0.14 * lines + 0.05)

    def _name(self, label: str, wrapped: int) -> str:
        notes = self.drawn.loc[(self.drawn["label"] == label) & (self.drawn["note"] != ""), "note"]
        told = [style.wrap(f"({note})", width=wrapped) for note in notes.unique()]
        return "\n".join([style.wrap(label, width=wrapped), *told])

    def draw(self, axis: Axes, looks: dict[str, dict[str, Any]], *, text: bool, reference: float | None) -> None:
        axis.set_ylim(len(self.labels) - 0.45, -0.55)
        axis.set_yticks(range(len(self.labels)), [self.names[label] for label in self.labels])
        axis.tick_params(axis="y", length=0)
        axis.spines["left"].set_visible(False)
        axis.hlines(range(len(self.labels)), 0, 1, transform=axis.get_yaxis_transform(), color=style.FAINT, lw=0.5,
                    zorder=0)  # fmt: skip
        if reference is not None:  # differences are smaller than what they are of
            self.decimals = max(3, self.decimals - 1)
        if reference is None:
            axis.axvline(self._best(), color=style.QUIET, lw=0.7, ls=":", zorder=0)
        else:
            axis.axvline(reference, color=style.INK, lw=0.7, zorder=0)
        for row, color in zip(self.drawn.itertuples(), self.colors, strict=True):
            y = self.labels.index(row.label) + self.place[row.label, color]
            self._draw_one(axis, row, y, looks[color])
            if text:
                axis.annotate(self._text(row), (1.02, y), xycoords=("axes fraction", "data"), va="center", fontsize=7,
                              annotation_clip=False)  # fmt: skip

    def _best(self) -> float:
        mean = self.drawn["mean"]
        return float(mean.max() if greater_is_better(str(self.drawn["measure"].iloc[0])) else mean.min())

    def _draw_one(self, axis: Axes, row: Any, y: float, look: dict[str, Any]) -> None:
        color = look["color"]
        dots = np.asarray(row.values, dtype=float)
        axis.plot(
            dots, np.full(len(dots), y + 0.36 * self.step), "o", ms=2.6, mfc="none", mec=color, mew=0.6, alpha=0.8
        )
        axis.plot([row.low, row.high], [y, y], color=color, lw=1.3)
        axis.plot([row.mean], [y], ls="", ms=4.5, mew=0, **look)

    def _text(self, row: Any) -> str:
        mean, low, high = (write_number(v, digits=self.decimals) for v in (row.mean, row.low, row.high))
        return f"{mean} [{low}, {high}]" if np.isfinite(row.low) else mean
