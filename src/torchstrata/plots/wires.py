"""network(): layers as boxes, with the shapes they give, and who reads whom."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch

from torchstrata.errors import DataError
from torchstrata.plots import style
from torchstrata.plots.plot import Plot

_NEEDED = ("layer", "kind", "inputs", "output_shape", "parameters")
_WIDE, _TALL = 0.8, 0.56  # of a box, where places are 1 apart


def network(summary: pd.DataFrame, *, width: float = style.PAGE, height: float | None = None) -> Plot:
    """Draw a network from top to bottom: a box a layer, an arrow to each layer that reads it.

    Parameters
    ----------
    summary : DataFrame
        What ``summary(shapes, n_outputs)`` of a chain or graph returns.
    width, height : float
        Inches: a width of 3.5 for a column, 7 for a page. The height is by default what the layers need.

    Returns
    -------
    Plot
        ``table`` holds a row a layer: the columns of ``summary``, its ``row`` (0 is the top) and its ``place`` (0 is
        the middle).

    Raises
    ------
    DataError
        If a column lacks, there is no layer, or a layer reads one that is not above it.

    Examples
    --------
    >>> import torchstrata as ts
    >>> chain = ts.Chain([ts.layers.Linear(16), ts.layers.ReLU(), ts.layers.Head()])
    >>> ts.plots.network(chain.summary({"number": (30,)}, 2)).table[["layer", "row", "place"]]
        layer  row  place
    0   input    0    0.0
    1  linear    1    0.0
    2    relu    2    0.0
    3    head    3    0.0
    """
    lacking = [column for column in _NEEDED if column not in summary]
    if lacking or summary.empty:
        raise DataError(
            f"plots.network draws what chain.summary(shapes, n_outputs) returns: "
            f"{f'the table lacks {lacking}' if lacking else 'the table has no layer'}"
        )
    table = _placed(summary)
    rows = int(table["row"].max()) + 1
    with style.style():
        figure = style.new_figure(width, 0.52 * rows + 0.1 if height is None else height)
        axis = figure.subplots()
        half = max(0.85, float(table["place"].abs().max()) + 0.6)
        axis.set(xlim=(-half, half), ylim=(rows - 0.6, -0.4))
        axis.axis("off")
        _draw_arrows(axis, table)
        _draw_boxes(axis, table, letters=int(width / (2 * half) * _WIDE * 16))
        return Plot(figure, [axis], table)


def _sources(text: str) -> list[str]:
    return [name for name in text.split(", ") if name]


def _placed(summary: pd.DataFrame) -> pd.DataFrame:
    """Put each layer one row below the lowest that it reads, beside others of its row."""
    row: dict[str, int] = {}
    for name, inputs in zip(summary["layer"], summary["inputs"], strict=True):
        sources = _sources(inputs)
        missing = [source for source in sources if source not in row]
        if missing:
            raise DataError(f"layer {name!r} reads {missing[0]!r}, which is not above it in the table")
        row[name] = 1 + max((row[source] for source in sources), default=-1)
    table = summary.reset_index(drop=True).assign(row=list(row.values()))
    place: dict[str, float] = {}
    for _, here in table.groupby("row", sort=True):
        wanted = {
            name: sum(place[s] for s in _sources(inputs)) / max(1, len(_sources(inputs)))
            for name, inputs in zip(here["layer"], here["inputs"], strict=True)
        }
        ordered = sorted(wanted, key=lambda name: wanted[name])
        place |= {name: i - (len(ordered) - 1) / 2 for i, name in enumerate(ordered)}
    return table.assign(place=table["layer"].map(place))


def _draw_arrows(axis: Axes, table: pd.DataFrame) -> None:
    where = {name: (place, row) for name, place, row in zip(table["layer"], table["place"], table["row"], strict=True)}
    for name, inputs in zip(table["layer"], table["inputs"], strict=True):
        for source in dict.fromkeys(_sources(inputs)):
            (x0, y0), (x1, y1) = where[source], where[name]
            # past the boxes between: out at one side of the upper box, in at the same side of the lower one
            around = y1 - y0 > 1 and x0 == x1
            start = (x0 + _WIDE / 2, y0) if around else (x0, y0 + _TALL / 2)
            end = (x1 + _WIDE / 2, y1) if around else (x1, y1 - _TALL / 2)
            bend = f"arc3,rad={-0.4 * min(1, 4 / (y1 - y0)) if around else 0}"  # equally far out, however long
            arrow = {"arrowstyle": "-|>", "color": style.QUIET, "lw": 0.8, "shrinkA": 0, "shrinkB": 0}
            axis.annotate("", end, start, arrowprops=arrow | {"connectionstyle": bend, "mutation_scale": 6})


def _draw_boxes(axis: Axes, table: pd.DataFrame, letters: int) -> None:
    for each in table.to_dict("records"):
        x, y = each["place"], each["row"]
        color = style.PALETTE[1] if each["kind"] == "Input" else style.PALETTE[0] if each["parameters"] else style.QUIET
        corner = (x - _WIDE / 2, y - _TALL / 2)
        box = FancyBboxPatch(corner, _WIDE, _TALL, boxstyle="round,pad=0,rounding_size=0.08", fc="white", ec=color)
        axis.add_patch(box)
        count = f", {each['parameters']:,} weights" if each["parameters"] else ""
        for text, up, size in ((_title(each), -0.11, 7), (f"{each['output_shape']}{count}", 0.12, 6)):
            room = letters * 7 // size
            shown = text if len(text) <= room else text[: max(1, room - 1)] + "…"
            axis.text(x, y + up, shown, ha="center", va="center", fontsize=size, color=style.INK)


def _title(layer: dict) -> str:
    """Return the name and the kind, or the kind alone where the name is made from it."""
    name, kind = str(layer["layer"]), str(layer["kind"])
    return kind if name == kind.lower() else f"{name}: {kind}"
