"""cost(): what a score costs in time and epochs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from torchstrata.errors import ConfigError, did_you_mean
from torchstrata.plots import style
from torchstrata.plots.folds import first_measure
from torchstrata.plots.measures import COST_MEASURES, greater_is_better
from torchstrata.plots.plot import Plot
from torchstrata.plots.tables import Ratio, need_columns, only, summary, with_label

_NAMES = {"fit_seconds": "seconds of a fit", "predict_seconds": "seconds of a prediction", "epochs": "epochs of a fit",
          "best_epoch": "best epoch"}  # fmt: skip


def cost(
    table: pd.DataFrame,
    *,
    measure: str | None = None,
    costs: Sequence[str] = ("fit_seconds", "epochs"),
    grid: Sequence[str] | None = None,
    ratio: Ratio = None,
    level: float = 0.95,
    width: float = style.PAGE,
) -> Plot:
    """Draw the mean score of each learner over what it took; a grey line joins those that no other beats in both.

    Parameters
    ----------
    table : DataFrame
        Long scores: task, learner, fold, grid columns, measure, value.
    measure : str, optional
        Which measure; the first one that is no cost by default.
    costs : sequence of str
        Costs to draw, a panel each; those that no learner has are left out.
    grid : sequence of str, optional
        Columns that tell the cells of one learner apart; found by default.
    ratio : float or mapping, optional
        Test rows per training row, for all tasks, by task or by (task, fold); by default that of k-fold
        cross-validation.
    level : float
        Level of confidence of the intervals of the score.
    width : float
        Inches: 3.5 for a column, 7 for a page.

    Returns
    -------
    Plot
        ``table`` holds task, label, cost, spent (mean over folds), measure, mean, low, high, note (which folds
        the mean is not of) and front (True where no other learner is both cheaper and better).

    Raises
    ------
    ConfigError
        If the measure is unknown or a cost itself, or no learner has any of the costs.
    """
    need_columns(table, ["task", "learner", "fold", "measure", "value"], "the table of scores")
    name = measure or first_measure(table)
    if not greater_is_better(name):
        raise ConfigError(f"{name!r} is a cost; measure= names what is drawn over the costs, such as a score.")
    for each in costs:
        if each not in COST_MEASURES:
            raise ConfigError(f"Unknown cost {each!r}. {did_you_mean(each, COST_MEASURES)}")
    rows = with_label(table, grid=grid)
    means = summary(only(rows, "measure", name), keys=["task", "label", "measure"], ratio=ratio, level=level)
    found = [_spent(rows, each, means) for each in costs]
    drawn = pd.concat(found, ignore_index=True)
    if not len(drawn):
        raise ConfigError(f"No learner has {' or '.join(map(repr, costs))}. {did_you_mean(costs[0], COST_MEASURES)}")
    with style.style():
        return _draw(drawn, style.looks(rows["label"]), name, width)


def _spent(rows: pd.DataFrame, cost_: str, means: pd.DataFrame) -> pd.DataFrame:
    values = rows[rows["measure"] == cost_].groupby(["task", "label"], sort=False)["value"].mean()
    out = means[["task", "label", "measure", "mean", "low", "high", "note"]].copy()
    out.insert(2, "cost", cost_)
    out.insert(3, "spent", [values.get((t, label), np.nan) for t, label in zip(out["task"], out["label"], strict=True)])
    out = out[out["spent"].notna() & out["mean"].notna()]
    parts = [part.assign(front=_front(part)) for _, part in out.groupby("task", sort=False)]
    return pd.concat(parts) if parts else out.assign(front=False)


def _front(part: pd.DataFrame) -> np.ndarray:
    spent, mean = part["spent"].to_numpy(), part["mean"].to_numpy()
    no_worse = (spent[:, None] <= spent) & (mean[:, None] >= mean)
    better = (spent[:, None] < spent) | (mean[:, None] > mean)
    return np.logical_not((no_worse & better).any(axis=0))


def _draw(drawn: pd.DataFrame, looks: dict[Any, dict[str, Any]], measure: str, width: float) -> Plot:
    facets = list(drawn.groupby(["task", "cost"], sort=False))
    facets.sort(key=lambda one: list(drawn["task"].unique()).index(one[0][0]))
    narrowest = 2.6 if len(facets) > 1 else 3.0
    columns = style.n_columns(len(facets), width, narrowest)
    titles = [str(task) for (task, _), _ in facets]
    figure, axes = style.titled_panels(titles, width=width, height=2.5, narrowest=narrowest)
    for axis, ((_, cost_), rows) in zip(axes, facets, strict=True):
        _draw_points(axis, rows, looks)
        _scale(axis, rows["spent"])
        axis.set(xlabel=_NAMES[str(cost_)])
    for task in drawn["task"].unique():  # the same scores, whatever they cost
        same = [axis for axis, (key, _) in zip(axes, facets, strict=True) if key[0] == task]
        for axis in same[1:]:
            axis.sharey(same[0])
    for i, axis in enumerate(axes):
        axis.set_ylabel(measure if i % columns == 0 else "")
    present = [name for name in looks if name in set(drawn["label"])]
    handles = [Line2D([], [], ls="", ms=4.5, mew=0, **looks[name]) for name in present]
    notes = drawn[drawn["note"] != ""].drop_duplicates("label").set_index("label")["note"]
    style.legend_above(figure, handles, [f"{name} ({notes[name]})" if name in notes else str(name) for name in present])
    return Plot(figure, axes, drawn.reset_index(drop=True))


def _draw_points(axis: Axes, rows: pd.DataFrame, looks: dict[Any, dict[str, Any]]) -> None:
    front = rows[rows["front"]].sort_values("spent")
    axis.step(front["spent"], front["mean"], where="post", color=style.QUIET, lw=0.8, zorder=1)
    row: Any
    for row in rows.itertuples():
        axis.plot([row.spent, row.spent], [row.low, row.high], color=looks[row.label]["color"], lw=0.9, alpha=0.6)
        axis.plot([row.spent], [row.mean], ls="", ms=5, mew=0, zorder=3, **looks[row.label])
    axis.grid(axis="y")


def _scale(axis: Axes, spent: pd.Series) -> None:
    """Spread the costs by their ratio where they differ ten times or more."""
    if spent.min() > 0 and spent.max() / spent.min() >= 10:
        axis.set_xscale("log")
        few = np.log10(spent.max() / spent.min()) < 2
        axis.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0) if few else (1.0,)))
        axis.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.margins(x=0.08)
    else:
        axis.xaxis.set_major_locator(MaxNLocator(nbins=5))
        axis.margins(x=0.08)
