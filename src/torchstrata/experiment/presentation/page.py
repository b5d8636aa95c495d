"""Pieces of an HTML page; whatever comes from the user is escaped here."""

from __future__ import annotations

import base64
import html
import io
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import resources
from typing import TYPE_CHECKING, Any, NamedTuple

from torchstrata.plots.tables import write_value

if TYPE_CHECKING:
    from torchstrata.plots import Plot

# colours of our plots that follow the page, dark mode included
_COLORS = {"#222222": "currentColor", "#dcdcdc": "var(--line)", "#8a8a8a": "var(--quiet)", "#0072b2": "var(--blue)"}
_COLOR = re.compile("|".join(_COLORS), re.IGNORECASE)
_PLACES = re.compile(r' (?:d|x|y)="[^"]*"|translate\([^)]*\)')
_DIGITS = re.compile(r"(\.\d)\d+")
_ID = re.compile(r'\bid="([^"]+)"')
_REFERENCE = re.compile(r'(?:href="#|url\(#)([^")]+)')
_MOST_ARTISTS = 50  # of a drawing; of one with more the page has the dots, which are smaller then
_SCORE = re.compile(r"^(\S+)( \[.*\])?(.*)$", re.DOTALL)


class Cell(NamedTuple):
    """One cell of a table.

    Attributes
    ----------
    text : str
        Shown, escaped.
    kind : str
        CSS classes.
    sort : str, optional
        Sorted by this instead of the text; empty values come last.
    """

    text: str
    kind: str = ""
    sort: str | None = None


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


def asset(name: str) -> str:
    """Read a file that comes with the package.

    Parameters
    ----------
    name : str
        In the folder ``assets``, with ``/`` between folders.

    Returns
    -------
    str
        Its text.
    """
    return (
        resources.files("torchstrata.experiment.presentation")
        .joinpath("assets", *name.split("/"))
        .read_text(encoding="utf-8")
    )


def tag(name: str, *content: Any, **attributes: str) -> Html:
    """Make an element.

    Parameters
    ----------
    name : str
        Of the element.
    *content
        Its children: ``Html`` as it is, anything else escaped.
    **attributes
        With a trailing underscore where Python reserves the name.

    Returns
    -------
    Html
        The element.

    Examples
    --------
    >>> tag("p", "a < b ", tag("b", 1), class_="note")
    '<p class="note">a &lt; b <b>1</b></p>'
    """
    told = "".join(f' {key.rstrip("_")}="{html.escape(value)}"' for key, value in attributes.items() if value)
    inner = "".join(c if isinstance(c, Html) else html.escape(str(c)) for c in content)
    return Html(f"<{name}{told}>{inner}</{name}>")


def join(parts: Iterable[str]) -> Html:
    """Put pieces of HTML behind each other.

    Parameters
    ----------
    parts : iterable of Html
        The pieces; empty ones are left out.

    Returns
    -------
    Html
        One piece.
    """
    return Html("\n".join(p if isinstance(p, Html) else html.escape(p) for p in parts if p))


def table(columns: Sequence[Cell], rows: Iterable[Sequence[Cell]], *, sortable: bool = True) -> Html:
    """Make a table that scrolls sideways on a narrow screen.

    Parameters
    ----------
    columns : sequence of Cell
        The header.
    rows : iterable of sequence of Cell
        The body.
    sortable : bool
        Whether a click on a header sorts it.

    Returns
    -------
    Html
        The table.
    """
    head = tag("thead", tag("tr", *(tag("th", c.text, class_=c.kind, scope="col") for c in columns)))
    body = tag("tbody", *(Html(tag("tr", *map(_cell, row)) + "\n") for row in rows))
    return tag("div", tag("table", head, body, class_="sortable n-last" if sortable else ""), class_="scroll")


def _cell(cell: Cell) -> Html:
    sort = Html("") if cell.sort is None else Html(f' data-sort="{html.escape(cell.sort)}"')
    kind = f' class="{html.escape(cell.kind)}"' if cell.kind else ""
    return Html(f"<td{kind}{sort}>{cell.text if isinstance(cell.text, Html) else html.escape(cell.text)}</td>")


def score_cell(text: str, *, best: bool) -> Cell:
    """Make the cell of a mean with its interval.

    Parameters
    ----------
    text : str
        Such as ``"0.912 [0.880, 0.944]"``, as in a leaderboard.
    best : bool
        Whether to mark it.

    Returns
    -------
    Cell
        Sorted by the mean.
    """
    found = _SCORE.match(text)
    mean, interval, rest = found.groups() if found else (text, "", "")
    shown = join_inline(tag("span", mean, class_="mean"), tag("span", interval or "", class_="interval"), rest)
    return Cell(shown, "score best" if best else "score", _number(mean))


def join_inline(*parts: str) -> Html:
    """Put pieces behind each other without line breaks.

    Parameters
    ----------
    *parts
        ``Html`` as it is, anything else escaped.

    Returns
    -------
    Html
        One piece.
    """
    return Html("".join(p if isinstance(p, Html) else html.escape(p) for p in parts))


def _number(text: str) -> str:
    plain = text.replace("−", "-")
    try:
        return repr(float(plain))
    except ValueError:  # a dash stands for no number
        return ""


def description(pairs: Mapping[str, Any]) -> Html:
    """Make a list of names and what they are.

    Parameters
    ----------
    pairs : mapping
        Name to value.

    Returns
    -------
    Html
        The list; absent values are left out.
    """
    kept = {name: value for name, value in pairs.items() if value is not None and value != ""}
    return tag("dl", *(join_inline(tag("dt", name), tag("dd", write_value(value))) for name, value in kept.items()))


def details(summary: str, *content: str, open_: bool = False) -> Html:
    """Make something that opens with a click.

    Parameters
    ----------
    summary : str
        Always shown.
    *content
        Shown when open.
    open_ : bool
        Whether it is open at first.

    Returns
    -------
    Html
        The element.
    """
    return tag("details", tag("summary", summary), *content, **({"open": "open"} if open_ else {}))


def figure(plot: Plot, *, name: str, caption: str, interactive: bool = False) -> Html:
    """Put a plot into the page, without any file beside it.

    Parameters
    ----------
    plot : Plot
        The drawing.
    name : str
        Letters and digits, different for each plot of the page: it keeps their inner references apart.
    caption : str
        What is to be seen.
    interactive : bool
        Whether the data of the page has a chart of this name, which takes the place of the picture on a screen.

    Returns
    -------
    Html
        A figure that takes the colours of the page.
    """
    artists = sum(len(a.lines) + len(a.texts) + len(a.collections) + len(a.patches) for a in plot.axes)
    if artists > _MOST_ARTISTS:
        data = base64.b64encode(_png(plot)).decode()
        image = Html(f'<img alt="{html.escape(caption)}" src="data:image/png;base64,{data}">')
    else:
        image = Html(_svg(plot, name).replace("<svg ", f'<svg role="img" aria-label="{html.escape(caption)}" ', 1))
    chart = Html(f'<div class="live" data-chart="{html.escape(name)}"></div>') if interactive else Html("")
    return tag("figure", chart, tag("div", image, class_="static" if interactive else ""), tag("figcaption", caption))


def _drawn(draw: Callable[[], bytes]) -> bytes:
    """Draw without a word about letters that no installed font has: the chart and the tables show them."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font", category=UserWarning)
        return draw()


def _svg(plot: Plot, name: str) -> str:
    """Draw without what a page does not need: comments, long names of letters, digits beyond a tenth of a point."""
    plot.figure.set_facecolor("none")
    svg = _drawn(plot.to_svg).decode()
    svg = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = svg.replace("xlink:href=", "href=").replace("\n", " ")
    used = set(_REFERENCE.findall(svg))  # equal images have equal names, and nobody asks for them by name
    svg = re.sub(r' id="([^"]+)"', lambda found: found[0] if found[1] in used else "", svg)
    ids = {found: f"{name}-{i}" for i, found in enumerate(dict.fromkeys(_ID.findall(svg)))}
    svg = re.sub(r'(\bid="|href="#|url\(#)([^")]+)', lambda found: found[1] + ids.get(found[2], found[2]), svg)
    svg = _PLACES.sub(lambda found: _DIGITS.sub(r"\1", found[0]), svg)
    return _COLOR.sub(lambda found: _COLORS[found[0].lower()], re.sub(r" {2,}", " ", svg))


def _png(plot: Plot) -> bytes:
    """Draw with 64 colours: a quarter of the size."""
    from PIL import Image

    plot.figure.set_facecolor("white")
    image = Image.open(io.BytesIO(_drawn(lambda: plot.to_png(dpi=120)))).convert("RGB").quantize(64)
    buffer = io.BytesIO()
    image.save(buffer, "png", optimize=True)
    return buffer.getvalue()
