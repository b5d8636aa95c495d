"""One look for all drawings: colours that colour-blind readers tell apart, sizes that hold at a column's width.

Nothing here touches ``matplotlib.pyplot`` or leaves matplotlib's settings changed.
"""

from __future__ import annotations

import functools
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

import matplotlib
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

COLUMN, PAGE = 3.5, 7.0  # widths in inches: one column of a journal, and both

INK, QUIET, FAINT = "#222222", "#8a8a8a", "#dcdcdc"
# Okabe and Ito (2008), Color Universal Design; their yellow comes last because it is faint on paper
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", INK, "#F0E442")
MARKERS = ("o", "s", "D", "^", "v", "P")

_MORE_LETTERS = ("Noto Sans CJK SC", "PingFang SC", "Microsoft YaHei", "Hiragino Sans", "Malgun Gothic", "Noto Sans")

STYLE: dict[str, Any] = {
    "font.size": 8,
    "axes.titlesize": 8.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 5,
    "axes.labelsize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.linewidth": 0.6,
    "axes.axisbelow": True,
    "axes.grid": False,
    "axes.unicode_minus": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.5,
    "text.color": INK,
    "text.parse_math": False,  # a learner may be called "a$b$"
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "xtick.minor.size": 1.5,
    "xtick.minor.width": 0.4,
    "lines.linewidth": 1.4,
    "lines.solid_capstyle": "round",
    "legend.frameon": False,
    "legend.fontsize": 7.5,
    "legend.handlelength": 1.6,
    "legend.columnspacing": 1.2,
    "legend.borderaxespad": 0.2,
    "figure.facecolor": "white",
    "axes.facecolor": "none",
    "svg.fonttype": "path",  # the report looks the same where the font is missing
    "svg.hashsalt": "torchstrata",  # the same table gives the same file
    "savefig.facecolor": "auto",
}


def style() -> Any:
    """Make matplotlib use our look inside a ``with`` block.

    Returns
    -------
    context manager
        The settings are as before when it ends.
    """
    return matplotlib.rc_context(STYLE | {"font.family": _fonts()})  # type: ignore[arg-type]


@functools.cache
def _fonts() -> list[str]:
    """DejaVu comes with matplotlib, so pictures agree between machines; others only for letters it does not have."""
    installed = set(font_manager.get_font_names())
    return ["DejaVu Sans", *(name for name in _MORE_LETTERS if name in installed)]


def new_figure(width: float, height: float) -> Figure:
    """Make an empty figure that finds room for its own labels.

    Parameters
    ----------
    width, height : float
        Inches.

    Returns
    -------
    Figure
        Known to no global registry, so it is freed like any object.
    """
    return Figure(figsize=(width, height), layout="constrained")


def panels(n: int, *, width: float, height: float, narrowest: float, share: bool = False) -> tuple[Figure, list[Axes]]:
    """Make a figure of ``n`` equal panels in as many columns as fit.

    Parameters
    ----------
    n : int
        Number of panels.
    width : float
        Width of the figure in inches.
    height : float
        Height of one row of panels in inches.
    narrowest : float
        Least width of a panel in inches.
    share : bool
        Whether the panels have common axes.

    Returns
    -------
    figure : Figure
    axes : list of Axes
        ``n`` of them, row by row.
    """
    columns = n_columns(n, width, narrowest)
    rows = -(-n // columns)
    figure = new_figure(width, height * rows)
    axes = figure.subplots(rows, columns, squeeze=False, sharex=share, sharey=share).ravel()
    for spare in axes[n:]:
        spare.remove()
    for axis in axes[max(0, n - columns) : n]:
        axis.tick_params(labelbottom=True)  # above a spare place it is the lowest of its column
    return figure, list(axes[:n])


def titled_panels(
    titles: Sequence[str],
    *,
    width: float,
    height: float,
    narrowest: float,
    share: bool = False,
    notes: Sequence[str] = (),
) -> tuple[Figure, list[Axes]]:
    """Make panels with their titles; long titles make the figure higher and not the panels smaller.

    Parameters
    ----------
    titles : sequence of str
        One a panel, broken into lines here.
    width, height, narrowest, share
        As for :func:`panels`; the height is that of a row with titles of one line.
    notes : sequence of str
        What stands between title and panel, one a panel.

    Returns
    -------
    figure : Figure
    axes : list of Axes
        One a title.
    """
    each = width / n_columns(len(titles), width, narrowest)
    shown = [wrap(title, width=letters(each)) for title in titles]
    small_ = [wrap(note, width=int(15.5 * (each - 0.45))) for note in notes]
    rows = max((title.count("\n") for title in shown), default=0) * 0.165
    rows += max((note.count("\n") + 1 for note in small_), default=0) * 0.127
    figure, axes = panels(len(titles), width=width, height=height + rows, narrowest=narrowest, share=share)
    for i, axis in enumerate(axes):
        note = small_[i] if small_ else ""
        axis.set_title(shown[i], pad=5 + (9.1 * (note.count("\n") + 1) if note else 0))
        if note:
            axis.annotate(note, (0, 1), (0, 3.5), xycoords="axes fraction", textcoords="offset points", va="bottom",
                          fontsize=6.5, annotation_clip=False)  # fmt: skip
    return figure, axes


def n_columns(n: int, width: float, narrowest: float) -> int:
    """Say how many panels fit beside each other.

    Parameters
    ----------
    n : int
        Number of panels.
    width, narrowest : float
        Width of the figure, and least width of a panel, in inches.

    Returns
    -------
    int
        At least 1.
    """
    return max(1, min(n, int(width / narrowest)))


def small(width: float) -> float:
    """Say how narrow a panel of many may be.

    Parameters
    ----------
    width : float
        Width of the figure in inches.

    Returns
    -------
    float
        Inches: two panels beside each other in a column, three on a page.
    """
    return 1.6 if width < 5 else 2.2


def legible(text: str) -> str:
    """Keep a legend from leaving out a name that begins with an underscore.

    Parameters
    ----------
    text : str
        The name.

    Returns
    -------
    str
        The name, with a space before an underscore.
    """
    return f" {text}" if text.startswith("_") else text


def letters(width: float) -> int:
    """Say how many letters of a title fit above a panel.

    Parameters
    ----------
    width : float
        Inches from panel to panel, the axis labels included.

    Returns
    -------
    int
        At least 8.
    """
    return max(8, int(12.5 * (width - 0.45)))


def label_outside(axes: Sequence[Axes], columns: int, x: str, y: str) -> None:
    """Name x below the lowest panels and y left of the first ones.

    Parameters
    ----------
    axes : sequence of Axes
        Panels, row by row.
    columns : int
        Panels in a row.
    x, y : str
        The names.
    """
    for i, axis in enumerate(axes):
        axis.set_xlabel(x if i >= len(axes) - columns else "")
        axis.set_ylabel(y if i % columns == 0 else "")


def looks(names: Iterable[object]) -> dict[object, dict[str, Any]]:
    """Give each name a colour, and another marker each time the colours are used up.

    Parameters
    ----------
    names : iterable
        In the order in which they get their looks.

    Returns
    -------
    dict
        Name to ``dict(color=..., marker=...)``.
    """
    n = len(PALETTE)
    return {
        name: {"color": PALETTE[i % n], "marker": MARKERS[i // n % len(MARKERS)]}
        for i, name in enumerate(dict.fromkeys(names))
    }


def wrap(text: object, *, width: int) -> str:
    """Break a long name into lines.

    Parameters
    ----------
    text : object
        The name.
    width : int
        Characters in a line.

    Returns
    -------
    str
        The name with line breaks; nothing is cut off.
    """
    return "\n".join(textwrap.wrap(str(text), width, break_on_hyphens=False)) or str(text)


def legend_above(figure: Figure, handles: Sequence[Any], labels: Sequence[str], *, title: str = "") -> None:
    """Put one legend for all panels above them; the figure grows by what more than two lines of names need.

    Parameters
    ----------
    figure : Figure
        Where.
    handles : sequence of artists
        What to show.
    labels : sequence of str
        Their names.
    title : str
        What the names are.
    """
    if not labels:
        return
    room = figure.get_figwidth() * 72 - 12
    widest = max(len(label) for label in labels) * 4.6 + 26  # points at font size 7.5
    columns = max(1, min(len(labels), int(room / widest)))
    shown = [wrap(label, width=int(room / 4.6) - 6) for label in labels]
    lines = -(-sum(name.count("\n") + 1 for name in shown) // columns)
    figure.set_figheight(figure.get_figheight() + 0.16 * max(0, lines - 2))
    legend = figure.legend(handles, shown, loc="outside upper left", ncols=columns, title=title or None)
    legend.set_alignment("left")
    legend.get_title().set_fontsize(7.5)


def line(color: str, *, marker: str = "", dashed: bool = False, width: float = 1.4) -> Line2D:
    """Make a piece of line for a legend.

    Parameters
    ----------
    color : str
        Its colour.
    marker : str
        Its marker.
    dashed : bool
        Whether it is dashed.
    width : float
        Points.

    Returns
    -------
    Line2D
        In no axes.
    """
    return Line2D([], [], color=color, marker=marker, markersize=4, lw=width, ls="--" if dashed else "-")
