"""network(): layers as boxes, with the shapes they give, and who reads whom."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.path import Path
from scipy.optimize import linprog
from scipy.sparse import coo_array

from torchstrata.errors import DataError
from torchstrata.plots import style
from torchstrata.plots.plot import Plot

_NEEDED = ("layer", "kind", "inputs", "output_shape", "parameters")
_WIDE, _TALL = 0.84, 0.58  # of a box, where places and rows are 1 apart
_INCHES = 2.0  # from a place to the next, where the width is not given
_PASSING = 0.12  # from a wire that passes to a box or to another wire
_SWEEPS = 12
# A layer and its row, or the source of a wire that passes there: what has a place
Spot = tuple[str, int]


def network(summary: pd.DataFrame, *, width: float | None = None, height: float | None = None) -> Plot:
    """Draw a network from top to bottom: a box a layer, an arrow to each layer that reads it.

    Inputs are orange, layers with weights blue. A wire that skips layers passes beside their boxes.

    Parameters
    ----------
    summary : DataFrame
        What ``summary(shapes, n_outputs)`` of a chain or graph returns.
    width, height : float
        Inches: a width of 3.5 for a column, 7 for a page. By default what the layers need, at most a page wide.

    Returns
    -------
    Plot
        ``table`` holds a row a layer: the columns of ``summary``, its ``row`` (0 is the top) and its ``place`` (0 is
        the middle, and boxes beside each other are at least 1 apart).

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
    row, wires = _rows_of(summary)
    place = _places(row, wires)
    table = summary.reset_index(drop=True).assign(row=list(row.values()), place=[place[spot] for spot in row.items()])
    rows = max(row.values()) + 1
    half = max(abs(x) + (_WIDE / 2 if spot in row.items() else 0) for spot, x in place.items()) + 0.04
    width = min(style.PAGE, 2 * half * _INCHES) if width is None else width
    with style.style():
        figure = style.new_figure(width, 0.52 * rows + 0.1 if height is None else height)
        axis = figure.subplots()
        axis.set(xlim=(-half, half), ylim=(rows - 0.65, -0.35))
        axis.axis("off")
        for wire in wires:
            _draw_wire(axis, [(place[spot], spot[1]) for spot in wire])
        _draw_boxes(axis, table, letters=int(width / (2 * half) * _WIDE * 15))
        return Plot(figure, [axis], table)


def _rows_of(summary: pd.DataFrame) -> tuple[dict[str, int], list[list[Spot]]]:
    """Put each layer one row below the lowest that it reads; return rows by name, and the spots of each wire."""
    row: dict[str, int] = {}
    pairs: list[tuple[str, str]] = []
    for name, inputs in zip(summary["layer"], summary["inputs"], strict=True):
        sources = [source for source in inputs.split(", ") if source]
        missing = [source for source in sources if source not in row]
        if missing:
            raise DataError(f"layer {name!r} reads {missing[0]!r}, which is not above it in the table")
        row[name] = 1 + max((row[source] for source in sources), default=-1)
        pairs += [(source, name) for source in dict.fromkeys(sources)]
    # what several lower layers read passes the rows between once
    return row, [[*((s, r) for r in range(row[s], row[name])), (name, row[name])] for s, name in pairs]


def _places(row: dict[str, int], wires: list[list[Spot]]) -> dict[Spot, float]:
    """Find places that keep wires short and straight, and apart from boxes they pass (Gansner et al. 1993).

    The order within rows comes from what they are wired to, up and down in turn; the places in that order from a linear
    program, the sum of all bends.
    """
    links: dict[Spot, set[Spot]] = {spot: set() for spot in row.items()}
    for wire in wires:
        for upper, lower in itertools.pairwise(wire):
            links.setdefault(upper, set()).add(lower)
            links.setdefault(lower, set()).add(upper)
    rows: list[list[Spot]] = [[] for _ in range(max(row.values()) + 1)]
    for spot in links:
        rows[spot[1]].append(spot)
    rank = _ranks(rows)
    for sweep in range(_SWEEPS):
        down = sweep % 2 == 0
        for here in rows if down else rows[::-1]:
            wanted = {}
            for spot in here:
                near = [rank[other] for other in links[spot] if (other[1] < spot[1]) is down]
                wanted[spot] = sum(near) / len(near) if near else rank[spot]
            here.sort(key=lambda spot: (wanted[spot], rank[spot]))
            rank |= _ranks([here])
    place = _straightened(rows, wires, row)
    boxes = [place[spot] for spot in row.items()]
    middle = (min(boxes) + max(boxes)) / 2
    return {spot: round(x - middle, 4) + 0.0 for spot, x in place.items()}


def _ranks(rows: list[list[Spot]]) -> dict[Spot, float]:
    return {spot: i - (len(here) - 1) / 2 for here in rows for i, spot in enumerate(here)}


def _straightened(rows: list[list[Spot]], wires: list[list[Spot]], row: dict[str, int]) -> dict[Spot, float]:
    """Find the places with the least sum of bends; a box wants to stand amid what it reads, and what reads it."""
    at = {spot: i for i, spot in enumerate(itertools.chain(*rows))}
    if len(at) == 1:
        return dict.fromkeys(at, 0.0)
    bends: list[tuple[float, dict[int, float]]] = []  # weight, and factors of places whose sum is best zero
    for wire in wires:
        # one that passes layers goes straight down, and bends where it arrives
        bends += [(1.0 if b in row.items() else 3.0, {at[a]: 1.0, at[b]: -1.0}) for a, b in itertools.pairwise(wire)]
    for end, others in ((-1, 0), (0, -1)):
        for spot in row.items():
            ends = [at[wire[others]] for wire in wires if wire[end] == spot]
            bends += [(len(ends), {at[spot]: 1.0, **dict.fromkeys(ends, -1 / len(ends))})] if ends else []
    room = [
        ({at[a]: 1.0, at[b]: -1.0}, 1.0 if reach == _WIDE else reach + _PASSING)
        for a, b in itertools.chain(*map(itertools.pairwise, rows))
        for reach in [sum(_WIDE / 2 for spot in (a, b) if spot in row.items())]
    ]
    n, m = len(at), len(bends)
    limits = [({**factors, n + i: -1.0}, 0.0) for i, (_, factors) in enumerate(bends)]
    limits += [({**{k: -v for k, v in factors.items()}, n + i: -1.0}, 0.0) for i, (_, factors) in enumerate(bends)]
    limits += [(factors, -apart) for factors, apart in room]
    cells = [(i, k, v) for i, (factors, _) in enumerate(limits) for k, v in factors.items()]
    lines, columns, values = zip(*cells, strict=True)
    found = linprog(
        [0.0] * n + [weight for weight, _ in bends],
        coo_array((values, (lines, columns)), shape=(len(limits), n + m)),
        [most for _, most in limits],
    )
    return dict(zip(at, found.x[:n].tolist(), strict=True))


def _draw_wire(axis: Axes, spots: list[tuple[float, int]]) -> None:
    """Draw an arrow through spots: straight down beside boxes, bent between the rows only."""
    (x0, y0), *passed, (x1, y1) = spots
    through = [*passed, (x1, y1)]
    lean = [0.25 * np.clip(b[0] - a[0], -1, 1) for a, b in ((spots[0], through[0]), (spots[-1], spots[-2]))]
    verts, codes = [(x0 + lean[0], y0 + _TALL / 2)], [Path.MOVETO]
    for x, y in through:
        (xa, ya), xb, yb = verts[-1], x + (lean[1] if y == y1 else 0), y - _TALL / 2
        verts += [(xa, (ya + yb) / 2), (xb, (ya + yb) / 2), (xb, yb)]
        codes += [Path.CURVE4] * 3
        if y != y1:
            verts.append((x, y + _TALL / 2))
            codes.append(Path.LINETO)
    arrow = FancyArrowPatch(path=Path(verts, codes), arrowstyle="-|>", mutation_scale=6, lw=0.8, color=style.QUIET)
    axis.add_patch(arrow)


def _draw_boxes(axis: Axes, table: pd.DataFrame, letters: int) -> None:
    for each in table.to_dict("records"):
        x, y = each["place"], each["row"]
        color = style.PALETTE[1] if each["kind"] == "Input" else style.PALETTE[0] if each["parameters"] else style.QUIET
        corner, shape = (x - _WIDE / 2, y - _TALL / 2), "round,pad=0,rounding_size=0.08"
        axis.add_patch(FancyBboxPatch(corner, _WIDE, _TALL, boxstyle=shape, fc=to_rgba(color, 0.08), ec=color, lw=0.8))
        count = f", {each['parameters']:,} weights" if each["parameters"] else ""
        for text, up, size in ((_title(each), -0.11, 7), (f"{each['output_shape']}{count}", 0.13, 6)):
            room = letters * 7 // size
            shown = text if len(text) <= room else text[: max(1, room - 1)] + "…"
            axis.text(x, y + up, shown, ha="center", va="center", fontsize=size, color=style.INK)


def _title(layer: dict) -> str:
    """Return the name and the kind; of a name that ends with the kind, what stands before it."""
    name, kind = str(layer["layer"]), str(layer["kind"])
    if name == kind.lower():
        return kind
    return f"{name.removesuffix('_' + kind.lower())}: {kind}"
