"""roc(): how well the scores rank the two classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from sklearn.metrics import auc, roc_curve

from torchstrata.errors import DataError, did_you_mean
from torchstrata.plots import style
from torchstrata.plots.measures import default_ratio, interval, spread, write_number
from torchstrata.plots.plot import Plot
from torchstrata.plots.tables import need_columns, with_label

_TOGETHER = 2  # so many learners share a panel; more get a panel each
_RATES = np.linspace(0, 1, 201)


def roc(
    table: pd.DataFrame,
    *,
    positive: object = None,
    grid: Sequence[str] | None = None,
    ratio: float | Mapping[str, float] | None = None,
    level: float = 0.95,
    width: float = style.PAGE,
) -> Plot:
    """Draw the mean ROC curve over folds with a band, and the area under it with its interval.

    Curves are averaged vertically: the mean of the true positive rates at the same false positive rate. Scores of
    different folds are never mixed, so they need not be comparable, nor probabilities.

    Parameters
    ----------
    table : DataFrame
        Predictions: task, learner, fold, grid columns, truth and score (larger means the positive class).
    positive : object, optional
        The positive class, or a mapping from task to it. Not needed where truth is 0 and 1.
    grid : sequence of str, optional
        Columns that tell the cells of one learner apart; found by default.
    ratio : float or mapping, optional
        Test rows per training row, for all tasks or by task; by default that of k-fold cross-validation.
    level : float
        Level of confidence of band and interval.
    width : float
        Inches: 3.5 for a column, 7 for a page.

    Returns
    -------
    Plot
        ``table`` holds task, label, fpr, tpr, low, high (the band), auc, auc_low, auc_high, n (folds drawn) and folds.

    Raises
    ------
    DataError
        If there is no score, or the positive class does not occur.
    """
    need_columns(table, ["task", "learner", "fold", "truth", "score"], "the table of predictions")
    rows = with_label(table, grid=grid)
    rows = rows[rows.groupby("task")["score"].transform(lambda s: s.notna().any()).astype(bool)]
    if not len(rows):
        raise DataError("No prediction has a score: a ROC curve needs a task of two classes and learners that rank.")
    n_folds = rows.groupby("task")["fold"].nunique()  # a failed fold has no predictions, but the other learners have
    curves = []
    for key, group in rows.groupby(["task", "label"], sort=False):
        task, label = str(key[0]), str(key[1])
        share = ratio[task] if isinstance(ratio, Mapping) else ratio
        one = positive.get(task) if isinstance(positive, Mapping) else positive
        curves.append(_mean_curve(group, one, share, level, n_folds[task]).assign(task=task, label=label))
    drawn = _order(pd.concat(curves, ignore_index=True))
    with style.style():
        return _draw(drawn, style.looks(rows["label"]), width)


def _mean_curve(rows: pd.DataFrame, positive: object, ratio: float | None, level: float, n_folds: int) -> pd.DataFrame:
    found = [_fold_curve(fold, positive) for _, fold in rows.groupby("fold", sort=False)]
    rates = np.array([tpr for tpr, _ in found])
    share = default_ratio(n_folds) if ratio is None else ratio
    areas = interval([area for _, area in found], ratio=share, level=level, limits=(0, 1))
    known = rates[~np.isnan(rates[:, 0])]
    mean = known.mean(axis=0) if len(known) else np.full(len(_RATES), np.nan)
    std = known.std(axis=0, ddof=1) if len(known) > 1 else np.full(len(_RATES), np.nan)
    half = std * spread(1.0, len(known), share, level)
    return pd.DataFrame(
        {
            "fpr": _RATES, "tpr": mean, "low": np.clip(mean - half, 0, 1), "high": np.clip(mean + half, 0, 1),
            "auc": areas.mean, "auc_low": areas.low, "auc_high": areas.high, "n": areas.n, "folds": n_folds,
        }
    )  # fmt: skip


def _fold_curve(fold: pd.DataFrame, positive: object) -> tuple[np.ndarray, float]:
    truth = _is_positive(fold["truth"], positive)
    score = fold["score"].to_numpy(dtype=float)
    if not np.isfinite(score).all() or truth.all() or not truth.any():
        return np.full(len(_RATES), np.nan), np.nan  # a failed fold, or one class only: counted, not drawn
    fpr, tpr, _ = roc_curve(truth, score, drop_intermediate=False)
    # at a vertical step np.interp takes the upper end, which is where the curve is at that rate
    return np.interp(_RATES, fpr, tpr), float(auc(fpr, tpr))


def _is_positive(truth: pd.Series, positive: object) -> np.ndarray:
    if positive is None:
        if not set(truth.unique()) <= {0, 1}:
            raise DataError(f"Which class is positive? Give positive=. {did_you_mean('', truth.unique())}")
        return truth.to_numpy() == 1
    # a class is known by its name: 1, "1" and numpy's 1 are one class
    return truth.astype(str).to_numpy() == str(positive)


def _order(drawn: pd.DataFrame) -> pd.DataFrame:
    tasks = {task: i for i, task in enumerate(drawn["task"].unique())}
    if not drawn["n"].any():
        raise DataError("No fold has finite scores and both classes; is `positive` one of the classes in `truth`?")
    order = np.lexsort((drawn["fpr"], drawn["label"].astype(str), -drawn["auc"].fillna(-1), drawn["task"].map(tasks)))
    front = ["task", "label"]
    return drawn.iloc[order].reset_index(drop=True)[front + [c for c in drawn.columns if c not in front]]


def _draw(drawn: pd.DataFrame, looks: dict[Any, dict[str, Any]], width: float) -> Plot:
    together = drawn.groupby("task")["label"].nunique().max() <= _TOGETHER
    facets = [(key, rows) for key, rows in drawn.groupby(["task"] if together else ["task", "label"], sort=False)]
    narrowest = 2.9 if together else 2.2
    columns = style.n_columns(len(facets), width, narrowest)
    size = min(width / columns, 3.4)
    width = min(width, max(style.COLUMN, size * columns + 0.3))
    figure, axes = style.panels(len(facets), width=width, height=size + 0.3, narrowest=narrowest, share=not together)
    several = len(drawn["task"].unique()) > 1
    for axis, (key, rows) in zip(axes, facets, strict=True):
        if not together:
            _draw_others(axis, drawn[(drawn["task"] == key[0]) & (drawn["label"] != key[1])])
        for label, curve in rows.groupby("label", sort=False):
            _draw_curve(axis, curve, looks[label]["color"] if together else style.PALETTE[0], together)
        title = key[0] if together else f"{key[0]}: {key[1]}" if several else key[1]
        _finish(axis, style.wrap(title, width=style.letters(width / columns)), together)
    style.label_outside(axes, columns, "false positive rate", "true positive rate")
    return Plot(figure, axes, drawn)


def _draw_curve(axis: Axes, curve: pd.DataFrame, color: str, together: bool) -> None:
    first = curve.iloc[0]
    mean, low, high = (write_number(first[c]) for c in ("auc", "auc_low", "auc_high"))
    area = f"{mean} [{low}, {high}]" if np.isfinite(first["auc_low"]) else mean
    lost = (
        f"\n({first['folds'] - first['n']} of {first['folds']} folds left out)" if first["n"] < first["folds"] else ""
    )
    text = f"{style.wrap(first['label'], width=30)}\n{area}{lost}" if together else f"AUC {mean}\n[{low}, {high}]{lost}"
    fpr, tpr = np.r_[0, curve["fpr"]], np.r_[0, curve["tpr"]]  # the curve starts in the corner
    axis.plot(fpr, tpr, color=color, lw=1.4, label=_legible(text), zorder=3)
    axis.fill_between(curve["fpr"], curve["low"], curve["high"], color=color, alpha=0.15, lw=0)


def _legible(text: str) -> str:
    return f" {text}" if text.startswith("_") else text  # a legend leaves out what begins with an underscore


def _draw_others(axis: Axes, others: pd.DataFrame) -> None:
    for _, curve in others.groupby("label", sort=False):
        axis.plot(np.r_[0, curve["fpr"]], np.r_[0, curve["tpr"]], color=style.FAINT, lw=0.7, zorder=1)


def _finish(axis: Axes, title: str, together: bool) -> None:
    axis.plot([0, 1], [0, 1], color=style.QUIET, lw=0.7, ls="--", zorder=2)
    axis.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal", xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
    axis.set_title(title)
    legend: Any = axis.legend(loc="lower right", fontsize=6.5, labelspacing=0.5, handlelength=1.2 if together else 0,
                              handletextpad=0.6 if together else 0)  # fmt: skip
    if together:
        legend.set_title("AUC [interval]", prop={"size": 6.5})
        legend.set_alignment("left")
    legend.set_zorder(5)
