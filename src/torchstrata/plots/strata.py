"""composition(): which strata meet in each batch."""

from __future__ import annotations

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from torchstrata.errors import DataError
from torchstrata.plots import style
from torchstrata.plots.plot import Plot

_FONT = 6.5


def composition(table: pd.DataFrame, *, width: float = style.PAGE, height: float = 2.4) -> Plot:
    """Draw how many rows of each stratum every batch has; the smallest stratum lies at the bottom.

    Parameters
    ----------
    table : DataFrame
        One row a batch, one column a stratum with its count, and optionally ``batch_size``.
    width, height : float
        Inches: a width of 3.5 for a column, 7 for a page.

    Returns
    -------
    Plot
        ``table`` holds the counts in the order drawn, without ``batch_size``.

    Raises
    ------
    DataError
        If there is no batch or no stratum, or a count is negative or missing.
    """
    counts = table.drop(columns="batch_size", errors="ignore")
    if counts.empty:
        raise DataError("The composition has no batch or no stratum: expected one row a batch, one column a stratum.")
    values = counts.to_numpy(dtype=float)
    if not (np.isfinite(values) & (values >= 0)).all():
        raise DataError("The composition has a negative or missing count: expected the number of rows in each cell.")
    counts = counts[counts.sum().sort_values(kind="stable").index].astype(int)
    with style.style():
        return _draw(counts, width, height)


def _draw(counts: pd.DataFrame, width: float, height: float) -> Plot:
    figure = style.new_figure(width, height)
    axis = figure.subplots()
    colors = _colors(counts.shape[1])
    bottom = np.zeros(len(counts))
    gap = 0.12 if len(counts) <= 60 else 0.0
    for name, color in zip(counts.columns, colors, strict=True):
        column = counts[name].to_numpy()
        axis.bar(np.arange(len(counts)), column, bottom=bottom, width=1 - gap, color=color, lw=0)
        bottom = bottom + column
    _label(axis, counts, width)
    labels = [f"{_name(c)} ({_rows(int(counts[c].sum()))})" for c in counts.columns]
    style.legend_above(figure, [Patch(color=c) for c in colors], labels)
    figure.draw_without_rendering()  # the layout is settled here, so the room in the bars is known
    _write_counts(axis, counts, colors)
    return Plot(figure, [axis], counts)


def _name(column: object) -> str:
    return ", ".join(map(str, column)) if isinstance(column, tuple) else str(column)


def _rows(n: int) -> str:
    return "1 row" if n == 1 else f"{n} rows"


def _colors(n: int) -> list[str]:
    """Vermillion for the smallest stratum and blue for the largest; a scale where the palette is too short."""
    if n > len(style.PALETTE):
        return [matplotlib.colors.to_hex(c) for c in matplotlib.colormaps["cividis"](np.linspace(0, 1, n))]
    rest = [c for c in style.PALETTE if c not in style.PALETTE[:2]]
    return [style.PALETTE[1], *rest[: n - 2], style.PALETTE[0]] if n > 1 else [style.PALETTE[0]]


def _label(axis: Axes, counts: pd.DataFrame, width: float) -> None:
    axis.set(xlim=(-0.6, len(counts) - 0.4), ylabel="rows", xlabel=str(counts.index.name or "batch"))
    axis.yaxis.set_major_locator(MaxNLocator(nbins=5, integer=True, steps=[1, 2, 5, 10]))
    axis.grid(axis="y")
    axis.tick_params(axis="x", length=0)
    every = max(1, -(-len(counts) // int(width * 4)))
    places = range(0, len(counts), every)
    axis.set_xticks(places, [str(counts.index[i]) for i in places])


def _write_counts(axis: Axes, counts: pd.DataFrame, colors: list[str]) -> None:
    box = axis.get_window_extent().transformed(axis.figure.dpi_scale_trans.inverted())
    wide = 72 * box.width / np.ptp(axis.get_xlim())  # points for one bar
    tall = 72 * box.height / np.ptp(axis.get_ylim())  # points for one row of data
    bottom = np.zeros(len(counts))
    for name, color in zip(counts.columns, colors, strict=True):
        dark = float(np.dot(to_rgb(color), (0.299, 0.587, 0.114))) < 0.6
        for i, count in enumerate(counts[name]):
            if count and count * tall >= _FONT and wide * 0.85 >= 0.65 * _FONT * len(str(count)):
                axis.text(i, bottom[i] + count / 2, str(count), ha="center", va="center_baseline", fontsize=_FONT,
                          color="white" if dark else "black")  # fmt: skip
        bottom = bottom + counts[name].to_numpy()
