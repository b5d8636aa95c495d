"""learning_curves(): what happened from epoch to epoch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from torchstrata.errors import ConfigError, did_you_mean
from torchstrata.plots import style
from torchstrata.plots.plot import Plot
from torchstrata.plots.tables import facets, need_columns, with_label

_TOGETHER = 2  # so many learners share a panel; more get a panel each


def learning_curves(
    table: pd.DataFrame,
    *,
    measure: str = "loss",
    grid: Sequence[str] | None = None,
    width: float = style.PAGE,
) -> Plot:
    """Draw training (dashed) and validation (solid) curves: thin for each fold, thick for their mean.

    The mean is drawn as long as every fold is still training: where some have stopped early, the mean of the others
    would jump for no reason but that. A dot marks the best epoch of a fold, a dotted line the mean of these epochs over
    folds, rounded up.

    Parameters
    ----------
    table : DataFrame
        History: task, learner, fold, grid columns, epoch, ``train_<measure>``, ``valid_<measure>`` and best.
    measure : str
        Which pair of columns; ``"loss"`` for ``train_loss`` and ``valid_loss``.
    grid : sequence of str, optional
        Columns that tell the cells of one learner apart; found by default.
    width : float
        Inches: 3.5 for a column, 7 for a page.

    Returns
    -------
    Plot
        ``table`` holds task, label, part ("train" or "valid"), epoch, mean, n (folds still training), folds (at the
        start) and best (True at the mean of the best epochs).

    Raises
    ------
    ConfigError
        If the history does not have the measure.
    """
    need_columns(table, ["task", "learner", "fold", "epoch"], "the history")
    parts = [f"{part}_{measure}" for part in ("train", "valid") if f"{part}_{measure}" in table]
    if not parts:
        known = dict.fromkeys(c.split("_", 1)[1] for c in table.columns if c.startswith(("train_", "valid_")))
        raise ConfigError(f"The history has no measure {measure!r}. {did_you_mean(measure, known)}")
    folds = _long(with_label(table, grid=grid), parts)
    if not len(folds):
        raise ConfigError(f"The history has no value of {measure!r}; was it computed in these epochs?")
    means = _means(folds)
    with style.style():
        return _draw(folds, means, measure, width)


def _long(table: pd.DataFrame, parts: list[str]) -> pd.DataFrame:
    """One row per curve and epoch, without the epochs that were not evaluated."""
    best = table["best"].fillna(False).astype(bool) if "best" in table else False
    keys = table[["task", "label", "fold", "epoch"]].assign(best=best)
    each = [keys.assign(part=name.split("_", 1)[0], value=table[name].astype(float)) for name in parts]
    long = pd.concat(each, ignore_index=True)
    return long[long["value"].notna()]


def _means(folds: pd.DataFrame) -> pd.DataFrame:
    keys = ["task", "label", "part", "epoch"]
    out = folds.groupby(keys, sort=False)["value"].agg(mean="mean", n="count").reset_index()
    out["folds"] = out.groupby(["task", "label", "part"])["n"].transform("max")
    best = best_epochs(folds)
    at = pd.MultiIndex.from_frame(out[["task", "label"]])
    return out.assign(best=out["epoch"].to_numpy() == np.array([best.get(key, -1) for key in at]))


def best_epochs(folds: pd.DataFrame) -> dict[tuple[str, str], int]:
    """Combine the best epochs of the folds: their mean, rounded up.

    Parameters
    ----------
    folds : DataFrame
        Columns task, label, fold, epoch, best.

    Returns
    -------
    dict
        (task, label) to epoch, for those that marked one.
    """
    marked = folds[folds["best"]].drop_duplicates(["task", "label", "fold"])
    groups = marked.groupby(["task", "label"], sort=False)
    return {(str(key[0]), str(key[1])): math.ceil(rows["epoch"].mean()) for key, rows in groups}


def _draw(folds: pd.DataFrame, means: pd.DataFrame, measure: str, width: float) -> Plot:
    together = means.groupby("task")["label"].nunique().max() <= _TOGETHER
    parts = facets(means, together=together)
    narrowest = style.small(width) if len(parts) > 1 else 3.0
    height = (2.1 if together else 1.7) + (0.3 if width < 5 and len(parts) == 1 else 0)
    titles = [title for title, _, _ in parts]
    figure, axes = style.titled_panels(titles, width=width, height=height, narrowest=narrowest)
    looks = style.looks(means["label"])
    columns = style.n_columns(len(parts), width, narrowest)
    for axis, (_, task, rows) in zip(axes, parts, strict=True):
        labels = list(rows["label"].unique())
        of_task = folds[folds["task"] == task]
        for label in labels:
            color = looks[label]["color"] if together else style.PALETTE[0]
            _draw_curves(axis, of_task[of_task["label"] == label], rows[rows["label"] == label], color)
        _limit(axis, of_task)
    style.label_outside(axes, columns, "epoch", measure)
    _legend(figure, looks if together else {}, sorted(means["part"].unique()))
    return Plot(figure, axes, means)


def _draw_curves(axis: Axes, folds: pd.DataFrame, means: pd.DataFrame, color: str) -> None:
    best_part = "valid" if (folds["part"] == "valid").any() else "train"
    for part, dash in (("train", (0, (3.5, 1.5))), ("valid", "-")):
        rows = folds[folds["part"] == part]
        for _, fold in rows.groupby("fold"):
            axis.plot(fold["epoch"], fold["value"], color=color, lw=0.5, alpha=0.45, ls=dash)
        whole = means[(means["part"] == part) & (means["n"] == means["folds"])]
        alone = "_" if len(whole) == 1 else ""  # a line through one point would not be seen
        axis.plot(whole["epoch"], whole["mean"], color=color, ls=dash, marker=alone, zorder=3)
    dots = folds[folds["best"] & (folds["part"] == best_part)]
    axis.plot(dots["epoch"], dots["value"], "o", ms=3, color=color, mew=0, zorder=4)
    for epoch in means.loc[means["best"], "epoch"].unique():
        axis.axvline(float(epoch), color=color, lw=0.8, ls=":", zorder=1)


def _limit(axis: Axes, folds: pd.DataFrame) -> None:
    """Give all panels of a task the same axes, and do not let one fold that diverged squeeze the others into a line."""
    axis.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    axis.grid(axis="y")
    last = folds["epoch"].max()
    axis.set_xlim(1 - 0.04 * last, last + 0.04 * last)
    values = folds["value"].to_numpy()
    values = values[np.isfinite(values)]
    if not len(values):
        return
    low, high = values.min(), values.max()
    usual = np.quantile(values, 0.98)
    cut = high - low > 4 * (usual - low) > 0
    room = 0.05 * ((usual if cut else high) - low) or 0.05
    axis.set_ylim(low - room, (usual + 2 * room) if cut else high + room)
    if cut:
        axis.annotate(f"up to {high:.3g}", (0.99, 0.99), xycoords="axes fraction", ha="right", va="top", fontsize=6.5,
                      color=style.QUIET)  # fmt: skip


def _legend(figure: Any, looks: dict[Any, dict[str, Any]], parts: list[str]) -> None:
    handles = [style.line(look["color"]) for look in looks.values()]
    labels = [str(name) for name in looks]
    ink = style.INK if looks else style.PALETTE[0]
    names = {"train": "training", "valid": "validation"}
    handles += [style.line(ink, dashed=part == "train") for part in parts]
    handles += [Line2D([], [], ls="", marker="o", ms=3, color=ink), Line2D([], [], ls=":", lw=0.8, color=ink)]
    style.legend_above(
        figure, handles, [*labels, *(names[p] for p in parts), "best epoch of a fold", "mean best epoch"]
    )
