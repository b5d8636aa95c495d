"""critical_difference(): mean ranks over many tasks, and which of them these tasks do not tell apart."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable
from typing import Any, NamedTuple

import pandas as pd
from matplotlib.axes import Axes

from torchstrata.errors import DataError
from torchstrata.plots import style
from torchstrata.plots.plot import Plot
from torchstrata.plots.tables import need_columns

_FONT, _LINE = 7.0, 0.125  # points; inches from line to line
_LETTER = 0.067  # inches of a letter, on average
_BAR = 0.09  # inches between the bars of two groups


def critical_difference(
    table: pd.DataFrame, *, critical: float | None = None, n_tasks: int | None = None, width: float = style.PAGE
) -> Plot:
    """Draw mean ranks on a line, the best on the left; a bar joins learners that do not differ significantly.

    The form is that of Demšar (2006), "Statistical comparisons of classifiers over multiple data sets", Journal of
    Machine Learning Research 7.

    Parameters
    ----------
    table : DataFrame
        One row a learner: ``learner`` (or ``label``), ``rank`` (mean over tasks, 1 is the best) and ``groups``: the
        numbers of the groups it belongs to, as a tuple, or as text such as ``"1, 2"``. Learners of a group do not
        differ significantly.
    critical : float, optional
        The critical difference of mean ranks, drawn as a length above the line; by default the column
        ``critical_difference`` where the table has one.
    n_tasks : int, optional
        Number of tasks, written at the line; by default the column ``n_tasks`` where the table has one.
    width : float
        Inches: 3.5 for a column, 7 for a page.

    Returns
    -------
    Plot
        ``table`` holds learner, rank, groups, and the other columns given, sorted by rank.

    Raises
    ------
    DataError
        If a column lacks, there are less than two learners, or a rank is not a number from 1 to their number.

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame({"learner": ["a", "b", "c"], "rank": [2.9, 1.2, 1.9], "groups": [(), (1,), (1,)]})
    >>> critical_difference(table).table["learner"].tolist()
    ['b', 'c', 'a']
    """
    if "learner" not in table and "label" in table:
        table = table.rename(columns={"label": "learner"})
    need_columns(table, ["learner", "rank", "groups"], "the table of ranks")
    rank = table["rank"].to_numpy(dtype=float)
    if len(table) < 2 or not ((rank >= 1) & (rank <= len(table))).all():
        raise DataError(
            f"Ranks of {len(table)} learners: expected at least two, each a number from 1 to their number; "
            f"got {rank[:10].tolist()}."
        )
    drawn = table.sort_values("rank", kind="stable").reset_index(drop=True)
    critical = _constant(drawn, "critical_difference") if critical is None else critical
    n = _constant(drawn, "n_tasks") if n_tasks is None else n_tasks
    with style.style():
        return _draw(drawn, _bars(drawn), critical, n, width)


def _constant(table: pd.DataFrame, column: str) -> float | None:
    known = table[column].dropna() if column in table else pd.Series(dtype=float)
    return float(known.iloc[0]) if len(known) else None


def _bars(drawn: pd.DataFrame) -> list[tuple[float, float]]:
    """From where to where each group with two learners or more reaches."""
    ranks: dict[Any, list[float]] = {}
    for rank, groups in zip(drawn["rank"], drawn["groups"], strict=True):
        for group in _numbers(groups):
            ranks.setdefault(group, []).append(float(rank))
    return sorted((min(found), max(found)) for found in ranks.values() if len(found) > 1)


def _numbers(groups: Any) -> list[Any]:
    if isinstance(groups, str):
        return [part.strip() for part in groups.split(",") if part.strip()]
    if isinstance(groups, Iterable):
        return list(groups)
    return [] if groups is None or groups != groups else [groups]  # a number that is unequal to itself is missing


class _Layout(NamedTuple):
    """Where things lie, in inches from the upper left corner."""

    names: list[str]  # with line breaks, by rank
    side: float  # room for the names, left and right
    width: float
    top: float  # of the line
    first: float  # of the names
    rows: list[float]  # heights of the names
    half: int  # learners on the left

    def x(self, rank: float) -> float:
        return self.side + (rank - 1) / (len(self.names) - 1) * (self.width - 2 * self.side)


def _layout(drawn: pd.DataFrame, n_bars: int, top: float, width: float) -> _Layout:
    half, filled = math.ceil(len(drawn) / 2), drawn["filled"] if "filled" in drawn else [0] * len(drawn)
    letters = max(8, int(0.3 * width / _LETTER))
    names = [
        "\n".join(textwrap.wrap(f"{name} ({rank:.2f}{_filled(n)})", letters, break_on_hyphens=False))
        for name, rank, n in zip(drawn["learner"], drawn["rank"], filled, strict=True)
    ]
    longest = max(len(line) for name in names for line in name.split("\n"))
    heights = [_LINE * (name.count("\n") + 1) + 0.06 for name in names]
    return _Layout(names, max(0.85, longest * _LETTER + 0.12), width, top, top + 0.16 + _BAR * n_bars, heights, half)


def _filled(n_tasks: int) -> str:
    return f"; fallback on {n_tasks} task{'s' * (n_tasks > 1)}" if n_tasks else ""


def _draw(
    drawn: pd.DataFrame, bars: list[tuple[float, float]], critical: float | None, n: float | None, width: float
) -> Plot:
    lanes = _lanes(bars)
    place = _layout(drawn, max(lanes, default=-1) + 1, 0.55 if critical else 0.3, width)
    left, right = sum(place.rows[: place.half]), sum(place.rows[place.half :])
    height = place.first + max(left, right) + 0.08
    figure = style.new_figure(width, height)
    figure.set_layout_engine("none")
    axis = figure.add_axes((0, 0, 1, 1))
    axis.set(xlim=(0, width), ylim=(height, 0))
    axis.axis("off")
    _draw_scale(axis, place, critical, n)
    for (low, high), lane in zip(bars, lanes, strict=True):
        y = place.top + 0.11 + _BAR * lane
        axis.plot([place.x(low) - 0.03, place.x(high) + 0.03], [y, y], color=style.INK, lw=2.6, solid_capstyle="butt")
    _draw_names(axis, drawn["rank"].tolist(), place)
    return Plot(figure, [axis], drawn)


def _lanes(bars: list[tuple[float, float]]) -> list[int]:
    """Put bars that do not meet on one height."""
    ends: list[float] = []
    lanes = []
    for low, high in bars:
        lane = next((i for i, end in enumerate(ends) if end < low), len(ends))
        ends[lane : lane + 1] = [high]
        lanes.append(lane)
    return lanes


def _draw_scale(axis: Axes, place: _Layout, critical: float | None, n: float | None) -> None:
    k, y = len(place.names), place.top
    axis.plot([place.x(1), place.x(k)], [y, y], color=style.INK, lw=0.8)
    every = max(1, math.ceil((k - 1) / max(1, (place.width - 2 * place.side) / 0.2)))
    for rank in range(1, k + 1, every):
        axis.plot([place.x(rank)] * 2, [y, y - 0.05], color=style.INK, lw=0.6)
        axis.text(place.x(rank), y - 0.08, str(rank), ha="center", va="bottom", fontsize=_FONT)
    told = "mean rank" if n is None else f"mean rank,\n{n:.0f} tasks"
    axis.text(place.x(1) - 0.12, y, told, ha="right", va="center", fontsize=_FONT, color=style.QUIET)
    if critical:
        low, high, at = place.x(1), place.x(min(1 + critical, k)), y - 0.32
        axis.plot([low, high], [at, at], color=style.QUIET, lw=1.0)
        axis.plot([low, low], [at - 0.03, at + 0.03], color=style.QUIET, lw=1.0)
        axis.plot([high, high], [at - 0.03, at + 0.03], color=style.QUIET, lw=1.0)
        axis.text(high + 0.06, at, f"critical difference {critical:.2f}", ha="left", va="center", fontsize=_FONT,
                  color=style.QUIET)  # fmt: skip


def _draw_names(axis: Axes, ranks: list[float], place: _Layout) -> None:
    for side, order in ((-1, range(place.half)), (1, range(len(ranks) - 1, place.half - 1, -1))):
        y = place.first
        for i in order:
            middle, x = y + place.rows[i] / 2, place.x(ranks[i])
            end = place.side - 0.06 if side < 0 else place.width - place.side + 0.06
            axis.plot([x, x, end], [place.top, middle, middle], color=style.PALETTE[0], lw=0.8)
            axis.text(end + side * 0.05, middle, place.names[i], ha="right" if side < 0 else "left", va="center",
                      fontsize=_FONT, linespacing=1.1)  # fmt: skip
            y += place.rows[i]
