"""What the interactive charts of a report show: the tables of the plots, thinned and rounded, as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from torchstrata.plots.measures import greater_is_better

CURVES = 16  # learners of a task whose curves go into the page
_POINTS = 60  # of a curve
_TRIALS = 2000


def rows(table: pd.DataFrame, *, name: str, zero: bool = False) -> dict[str, Any]:
    """Describe a chart of means with intervals, one learner below the other.

    Parameters
    ----------
    table : DataFrame
        Of :func:`torchstrata.plots.scores` or :func:`torchstrata.plots.differences`.
    name : str
        Of the x axis.
    zero : bool
        Whether 0 is the line to compare with, and not the best mean.

    Returns
    -------
    dict
        What ``report.js`` draws.
    """
    data = table[["task", "label", "mean", "low", "high", "note", "values"]]
    greater = greater_is_better(str(table["measure"].iloc[0]))
    return {"kind": "rows", "x": name, "zero": zero, "greater": greater, "data": data}


def curves(table: pd.DataFrame, *, x: str, y: str, names: tuple[str, str], notes: Sequence[str] | None = None,
           **settings: Any) -> dict[str, Any]:  # fmt: skip
    """Describe a chart of curves.

    Parameters
    ----------
    table : DataFrame
        task, label, perhaps part and best, and the columns named.
    x, y : str
        Columns.
    names : tuple of str
        Of the axes.
    notes : sequence of str, optional
        One a row, shown beside the pointer.
    **settings
        Of ``report.js``: square, diagonal, band, dots, limits.

    Returns
    -------
    dict
        What ``report.js`` draws.
    """
    keys = [c for c in ("task", "label", "part", "low", "high") if c in table]
    data = table[keys].assign(x=table[x], y=table[y])
    if notes is not None:
        data["note"] = list(notes)
    if "best" in table:
        data["best"] = table["best"]
    groups = data.groupby([c for c in ("task", "label", "part") if c in data], sort=False)
    size, place = groups["x"].transform("size"), groups.cumcount()
    every = np.ceil(size / _POINTS)
    kept = (place % every == 0) | (place == size - 1)
    kept |= data.get("best", False)
    return {"kind": "curves", "x": names[0], "y": names[1], "data": data[kept], **settings}


def points(table: pd.DataFrame, *, x: str, y: str, names: tuple[str, str], **settings: Any) -> dict[str, Any]:
    """Describe a chart of points.

    Parameters
    ----------
    table : DataFrame
        task, label, perhaps low, high, best and note, and the columns named.
    x, y : str
        Columns.
    names : tuple of str
        Of the axes.
    **settings
        Of ``report.js``: log, best.

    Returns
    -------
    dict
        What ``report.js`` draws.
    """
    keys = [c for c in ("task", "label", "low", "high", "best", "front", "note") if c in table]
    data = table[keys].assign(x=table[x], y=table[y])
    return {"kind": "points", "x": names[0], "y": names[1], "data": data[data["y"].notna()].head(_TRIALS), **settings}


def cells(table: pd.DataFrame) -> dict[str, Any]:
    """Describe confusion matrices.

    Parameters
    ----------
    table : DataFrame
        Of :func:`torchstrata.plots.confusion`.

    Returns
    -------
    dict
        What ``report.js`` draws.
    """
    return {"kind": "cells", "data": table}


def write_data(charts: Mapping[str, Mapping[str, Any]], *, order: Sequence[str]) -> str:
    """Write charts as JSON that may stand within a script element.

    Parameters
    ----------
    charts : mapping
        Name to what the functions above return.
    order : sequence of str
        Labels of the learners in the order of their buttons; their colours go by it too.

    Returns
    -------
    str
        No ``<``, ``>`` or ``&`` is in it, and no NaN; numbers have five significant digits.
    """
    place = {label: i for i, label in enumerate(order)}
    made = {}
    for name, chart in charts.items():
        data = chart["data"]
        labels = sorted(data["label"].unique(), key=lambda label: (place.get(label, len(place)), str(label)))
        columns = {str(c): _column(data[c]) for c in data.columns}
        made[name] = {**chart, "data": columns, "labels": [str(label) for label in labels]}
    text = json.dumps({"order": list(order), "charts": made}, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _column(values: pd.Series) -> list[Any] | dict[str, list[Any]]:
    """Write a column; of text that repeats, each once."""
    plain = [_plain(v) for v in values.tolist()]
    if not all(isinstance(v, str) for v in plain):
        return plain
    place = {text: i for i, text in enumerate(dict.fromkeys(plain))}
    return {"levels": list(place), "codes": [place[text] for text in plain]}


def _plain(value: Any) -> Any:
    if isinstance(value, (tuple, list)):
        return [_plain(v) for v in value]
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, (float, np.floating)):
        return float(f"{value:.5g}") if math.isfinite(value) else None
    return None if value is None or value is pd.NA else str(value)
