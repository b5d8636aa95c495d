"""Plot: a drawing together with the table it shows."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from torchstrata.errors import ConfigError, did_you_mean
from torchstrata.plots.style import style


class Plot:
    """A drawing and the numbers in it.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        The drawing; known to no global registry.
    axes : sequence of matplotlib.axes.Axes
        Its panels.
    table : DataFrame
        The numbers that are drawn.

    Attributes
    ----------
    figure, axes, table
        As given; change the figure with matplotlib's own methods before saving it.
    """

    def __init__(self, figure: Figure, axes: Sequence[Axes], table: pd.DataFrame):
        self.figure, self.axes, self.table = figure, tuple(axes), table

    def save(self, path: str | Path, *, dpi: int = 200) -> Path:
        """Write the drawing to a file; the ending decides the format.

        Parameters
        ----------
        path : str or Path
            Ends in .png, .svg, .pdf or another format matplotlib knows.
        dpi : int
            Dots per inch of formats made of dots.

        Returns
        -------
        Path
            Where it was written.

        Raises
        ------
        ConfigError
            If the ending is no known format.
        """
        path = Path(path)
        known = self.figure.canvas.get_supported_filetypes()
        ending = path.suffix.lower().lstrip(".")
        if ending not in known:
            raise ConfigError(f"No format for {path.name!r}: the ending {ending!r}. {did_you_mean(ending, known)}")
        path.write_bytes(self._draw(ending, dpi=dpi))
        return path

    def to_png(self, *, dpi: int = 200) -> bytes:
        """Draw as PNG.

        Parameters
        ----------
        dpi : int
            Dots per inch.

        Returns
        -------
        bytes
            A PNG file.
        """
        return self._draw("png", dpi=dpi)

    def to_svg(self) -> bytes:
        """Draw as SVG.

        Returns
        -------
        bytes
            An SVG file without a date or chance in it: the same table gives the same bytes.
        """
        return self._draw("svg", metadata={"Date": None})

    def _draw(self, ending: str, **settings: Any) -> bytes:
        buffer = io.BytesIO()
        with style():
            self.figure.savefig(buffer, format=ending, **settings)
        return buffer.getvalue()

    def _repr_png_(self) -> bytes:
        return self.to_png(dpi=144)

    def __repr__(self) -> str:
        width, height = self.figure.get_size_inches()
        return f"Plot({len(self.axes)} panels, {width:g} x {height:.3g} in, table of {len(self.table)} rows)"
