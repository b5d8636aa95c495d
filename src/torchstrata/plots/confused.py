"""confusion(): which class is taken for which."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from sklearn.metrics import confusion_matrix

from torchstrata.errors import DataError
from torchstrata.plots import style
from torchstrata.plots.plot import Plot
from torchstrata.plots.tables import facets, known_folds, need_columns, with_label

_MOST = 100  # classes; a picture of more shows nothing
_COLORS = LinearSegmentedColormap.from_list("shares", ["#ffffff", style.PALETTE[0]])


def confusion(
    table: pd.DataFrame,
    *,
    classes: Sequence[object] | Mapping[str, Sequence[object]] | None = None,
    grid: Sequence[str] | None = None,
    width: float = style.PAGE,
) -> Plot:
    """Draw the confusion matrix of each learner over all folds: the number of rows and their share of the true class.

    Parameters
    ----------
    table : DataFrame
        Predictions: task, learner, fold, grid columns, truth and predicted.
    classes : sequence or mapping, optional
        The classes in order, or a mapping from task to them; sorted by default.
    grid : sequence of str, optional
        Columns that tell the cells of one learner apart; found by default.
    width : float
        Inches: 3.5 for a column, 7 for a page.

    Returns
    -------
    Plot
        ``table`` holds task, label, truth, predicted, count (rows over all folds), share (of the rows of that truth;
        NaN where there are none) and note (folds left out, or filled by a fallback).

    Raises
    ------
    DataError
        If there is no prediction, a class is not among ``classes``, or there are more than a hundred.

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame({"task": "t", "learner": "a", "fold": 0, "truth": list("nny"), "predicted": list("nyy")})
    >>> confusion(table).table[["truth", "predicted", "count", "share"]]
      truth predicted  count  share
    0     n         n      1    0.5
    1     n         y      1    0.5
    2     y         n      0    0.0
    3     y         y      1    1.0
    """
    need_columns(table, ["task", "learner", "fold", "truth", "predicted"], "the table of predictions")
    if not len(table):
        raise DataError("The table of predictions has no row.")
    rows = with_label(table, grid=grid)
    found = []
    for task, part in rows.groupby("task", sort=False):
        given = classes.get(str(task)) if isinstance(classes, Mapping) else classes
        names = _classes(part, given, str(task))
        for label, group in part.groupby("label", sort=False):
            _, note = known_folds(group, part["fold"].nunique(), group["fold"])
            found.append(_count(group, names).assign(task=task, label=label, note=note))
    drawn = pd.concat(found, ignore_index=True)[["task", "label", "truth", "predicted", "count", "share", "note"]]
    with style.style():
        return _draw(drawn, width)


def _classes(rows: pd.DataFrame, given: Sequence[object] | None, task: str) -> list[str]:
    """Classes are known by their names: 1, "1" and numpy's 1 are one class."""
    seen = pd.unique(pd.concat([rows["truth"], rows["predicted"]]).dropna())
    try:
        names = [str(c) for c in (sorted(seen) if given is None else given)]
    except TypeError:
        names = sorted(map(str, seen))
    names = list(dict.fromkeys(names))
    lost = sorted({str(c) for c in seen} - set(names))
    if lost:
        raise DataError(f"Task {task!r} has the class {lost[0]!r}, which is not among classes={names[:10]}.")
    if len(names) > _MOST:
        raise DataError(
            f"Task {task!r} has {len(names)} classes; a confusion matrix shows {_MOST} at most, and no regression."
        )
    return names


def _count(rows: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    known = rows[rows["predicted"].notna()]
    counts = np.zeros((len(names),) * 2, dtype=int)
    if len(known):
        counts = confusion_matrix(known["truth"].astype(str), known["predicted"].astype(str), labels=names)
    total = counts.sum(axis=1, keepdims=True)
    share = np.divide(counts, total, out=np.full(counts.shape, np.nan), where=total > 0)
    truth, predicted = np.meshgrid(names, names, indexing="ij")
    return pd.DataFrame({"truth": truth.ravel(), "predicted": predicted.ravel(), "count": counts.ravel(),
                         "share": share.ravel()})  # fmt: skip


def _draw(drawn: pd.DataFrame, width: float) -> Plot:
    parts = facets(drawn, together=False)
    n_classes = int(drawn.groupby("task", sort=False)["truth"].nunique().max())
    wanted = (1.5 if width < 5 else 1.7) if n_classes <= 3 else 2.2 if n_classes <= 6 else 3.3
    columns = style.n_columns(len(parts), width, wanted)
    size = min(width / columns, wanted + 0.5)
    width = min(width, max(2.0, size * columns))
    titles = [title for title, _, _ in parts]
    notes = [rows["note"].iloc[0] for _, _, rows in parts]
    figure, axes = style.titled_panels(
        titles, width=width, height=size + 0.25, narrowest=wanted, notes=notes if any(notes) else ()
    )
    for axis, (_, _, rows) in zip(axes, parts, strict=True):
        _draw_matrix(axis, rows, list(dict.fromkeys(rows["truth"])), size - 0.45)
    style.label_outside(axes, columns, "predicted", "true")
    return Plot(figure, axes, drawn)


def _draw_matrix(axis: Axes, rows: pd.DataFrame, names: list[str], inches: float) -> None:
    n = len(names)
    share = rows["share"].to_numpy(dtype=float).reshape(n, n)
    count = rows["count"].to_numpy().reshape(n, n)
    axis.imshow(np.nan_to_num(share), cmap=_COLORS, vmin=0, vmax=1, aspect="equal")
    axis.set_xticks(np.arange(n + 1) - 0.5, minor=True)
    axis.set_yticks(np.arange(n + 1) - 0.5, minor=True)
    axis.grid(which="minor", color="white", lw=1.0 if n <= 12 else 0.3)
    axis.tick_params(which="both", length=0)
    axis.spines[:].set(visible=True, color=style.QUIET, linewidth=0.5)
    _name_ticks(axis, names, inches)
    size = min(7.5, 72 * inches / n / 4.2)  # so that "100 %" fits into a cell
    if size < 4:
        return
    for (i, j), value in np.ndenumerate(share):
        text = "–" if np.isnan(value) else _share(value)
        told = f"{count[i, j]:,}\n{text}" if n <= 4 else str(count[i, j]) if n > 6 else f"{count[i, j]}\n{text}"
        axis.text(j, i, told, ha="center", va="center", fontsize=size, linespacing=1.15,
                  color="white" if value > 0.6 else style.INK)  # fmt: skip


def _share(value: float) -> str:
    percent = 100 * value
    return f"{percent:.1f} %" if 0 < percent < 1 or 99 < percent < 100 else f"{percent:.0f} %"


def _name_ticks(axis: Axes, names: list[str], inches: float) -> None:
    every = max(1, -(-len(names) // 30))
    places = list(range(0, len(names), every))
    letters = max(5, int(inches / len(names) / 0.062))
    shown = [style.wrap(_short(names[i], 24), width=max(letters, 8)) for i in places]
    turned = max(max(map(len, text.split("\n"))) for text in shown) > letters
    axis.set_xticks(places, shown, rotation=90 if turned else 0)
    axis.set_yticks(places, [style.wrap(_short(names[i], 24), width=12) for i in places])
    if len(names) > 12:
        axis.tick_params(labelsize=5.5 if len(names) > 20 else 6.5)


def _short(text: Any, most: int) -> str:
    return str(text) if len(str(text)) <= most else str(text)[: most - 1] + "…"
