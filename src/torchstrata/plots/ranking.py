"""roc() and precision_recall(): how well the scores rank the two classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from sklearn.metrics import auc, average_precision_score, precision_recall_curve, roc_curve

from torchstrata.errors import DataError, did_you_mean
from torchstrata.plots import style
from torchstrata.plots.measures import default_ratio, interval, spread, write_number
from torchstrata.plots.plot import Plot
from torchstrata.plots.tables import Ratio, facets, known_folds, need_columns, share_of, with_label

_TOGETHER = 2  # so many learners share a panel; more get a panel each


def roc(
    table: pd.DataFrame,
    *,
    positive: object = None,
    grid: Sequence[str] | None = None,
    ratio: Ratio = None,
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
        Test rows per training row, for all tasks, by task or by (task, fold); by default that of k-fold
        cross-validation.
    level : float
        Level of confidence of band and interval.
    width : float
        Inches: 3.5 for a column, 7 for a page.

    Returns
    -------
    Plot
        ``table`` holds task, label, fpr, tpr, low, high (the band), auc, auc_low, auc_high, n (folds drawn), folds and
        note (folds left out, or filled by a fallback).

    Raises
    ------
    DataError
        If there is no score, or the positive class does not occur.
    """
    return _plot(_ROC, table, positive, grid, ratio, level, width)


def precision_recall(
    table: pd.DataFrame,
    *,
    positive: object = None,
    grid: Sequence[str] | None = None,
    ratio: Ratio = None,
    level: float = 0.95,
    width: float = style.PAGE,
) -> Plot:
    """Draw the mean precision over folds at each recall with a band, and the average precision with its interval.

    Curves are steps, as average precision counts them: the precision at a recall is that of the highest threshold which
    reaches it. The dashed line is the share of the positive class, which scores without any information reach.

    Parameters
    ----------
    table : DataFrame
        Predictions: task, learner, fold, grid columns, truth and score (larger means the positive class).
    positive : object, optional
        The positive class, or a mapping from task to it. Not needed where truth is 0 and 1.
    grid : sequence of str, optional
        Columns that tell the cells of one learner apart; found by default.
    ratio : float or mapping, optional
        Test rows per training row, for all tasks, by task or by (task, fold); by default that of k-fold
        cross-validation.
    level : float
        Level of confidence of band and interval.
    width : float
        Inches: 3.5 for a column, 7 for a page.

    Returns
    -------
    Plot
        ``table`` holds task, label, recall, precision, low, high (the band), ap (average precision), ap_low, ap_high,
        positives (their share, mean over folds), n (folds drawn), folds and note (folds left out, or filled by a
        fallback).

    Raises
    ------
    DataError
        If there is no score, or the positive class does not occur.
    """
    return _plot(_PR, table, positive, grid, ratio, level, width)


class _Kind(NamedTuple):
    """What tells the two plots apart: names of columns and axes, and the curve of one fold on a grid of x."""

    name: str
    x: str
    y: str
    area: str
    at: np.ndarray
    curve: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, float]]
    labels: tuple[str, str]
    corner: float  # y where x is 0, so that the line starts at the axis


def _roc_of_fold(truth: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, float]:
    fpr, tpr, _ = roc_curve(truth, score, drop_intermediate=False)
    # at a vertical step np.interp takes the upper end, which is where the curve is at that rate
    return np.interp(_RATES, fpr, tpr), float(auc(fpr, tpr))


def _pr_of_fold(truth: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, float]:
    precision, recall, _ = precision_recall_curve(truth, score)
    precision, recall = precision[-2::-1], recall[-2::-1]  # from the highest threshold; the last point is made up
    first = np.searchsorted(recall, _RECALLS - 1e-9)  # of the thresholds that reach it, the highest
    return precision[first], float(average_precision_score(truth, score))


_RATES, _RECALLS = np.linspace(0, 1, 201), np.linspace(0, 1, 201)[1:]
_ROC = _Kind("AUC", "fpr", "tpr", "auc", _RATES, _roc_of_fold, ("false positive rate", "true positive rate"), 0.0)
_PR = _Kind("AP", "recall", "precision", "ap", _RECALLS, _pr_of_fold, ("recall", "precision"), np.nan)


def _plot(
    kind: _Kind, table: pd.DataFrame, positive: object, grid: Any, ratio: Any, level: float, width: float
) -> Plot:
    need_columns(table, ["task", "learner", "fold", "truth", "score"], "the table of predictions")
    rows = with_label(table, grid=grid)
    rows = rows[rows.groupby("task")["score"].transform(lambda s: s.notna().any()).astype(bool)]
    if not len(rows):
        raise DataError(f"No prediction has a score: {kind.name} needs a task of two classes and learners that rank.")
    n_folds = rows.groupby("task")["fold"].nunique()  # a failed fold has no predictions, but the other learners have
    curves = []
    for key, group in rows.groupby(["task", "label"], sort=False):
        task, label = str(key[0]), str(key[1])
        share = share_of(ratio, group)
        one = positive.get(task) if isinstance(positive, Mapping) else positive
        curves.append(_mean_curve(kind, group, one, share, level, n_folds[task]).assign(task=task, label=label))
    drawn = _order(kind, pd.concat(curves, ignore_index=True))
    with style.style():
        return _draw(kind, drawn, style.looks(rows["label"]), width)


def _mean_curve(
    kind: _Kind, rows: pd.DataFrame, positive: object, ratio: float | None, level: float, n_folds: int
) -> pd.DataFrame:
    found = {k: _fold_curve(kind, fold, positive) for k, fold in rows.groupby("fold", sort=False)}
    drawn = [k for k, (_, area, _) in found.items() if not np.isnan(area)]
    heights = np.array([y for y, _, _ in found.values()])
    share = default_ratio(n_folds) if ratio is None else ratio
    folds, note = known_folds(rows, n_folds, drawn)
    areas = interval([area for _, area, _ in found.values()], ratio=share, level=level, limits=(0, 1))
    known = heights[~np.isnan(heights[:, 0])]
    mean = known.mean(axis=0) if len(known) else np.full(len(kind.at), np.nan)
    std = known.std(axis=0, ddof=1) if len(known) > 1 else np.full(len(kind.at), np.nan)
    half = std * spread(1.0, len(known), share, level)
    made = {
        kind.x: kind.at, kind.y: mean, "low": np.clip(mean - half, 0, 1), "high": np.clip(mean + half, 0, 1),
        kind.area: areas.mean, f"{kind.area}_low": areas.low, f"{kind.area}_high": areas.high,
        "n": areas.n, "folds": folds, "note": note,
    }  # fmt: skip
    return pd.DataFrame(made | ({"positives": np.mean([p for _, _, p in found.values()])} if kind is _PR else {}))


def _fold_curve(kind: _Kind, fold: pd.DataFrame, positive: object) -> tuple[np.ndarray, float, float]:
    truth = _is_positive(fold["truth"], positive)
    score = fold["score"].to_numpy(dtype=float)
    if not np.isfinite(score).all() or truth.all() or not truth.any():
        return np.full(len(kind.at), np.nan), np.nan, truth.mean()  # failed, or one class only: counted, not drawn
    return *kind.curve(truth, score), truth.mean()


def _is_positive(truth: pd.Series, positive: object) -> np.ndarray:
    if positive is None:
        if not set(truth.unique()) <= {0, 1}:
            raise DataError(f"Which class is positive? Give positive=. {did_you_mean('', truth.unique())}")
        return truth.to_numpy() == 1
    # a class is known by its name: 1, "1" and numpy's 1 are one class
    return truth.astype(str).to_numpy() == str(positive)


def _order(kind: _Kind, drawn: pd.DataFrame) -> pd.DataFrame:
    tasks = {task: i for i, task in enumerate(drawn["task"].unique())}
    if not drawn["n"].any():
        raise DataError("No fold has finite scores and both classes; is `positive` one of the classes in `truth`?")
    best_first = -drawn[kind.area].fillna(-1)
    order = np.lexsort((drawn[kind.x], drawn["label"].astype(str), best_first, drawn["task"].map(tasks)))
    front = ["task", "label"]
    return drawn.iloc[order].reset_index(drop=True)[front + [c for c in drawn.columns if c not in front]]


def _draw(kind: _Kind, drawn: pd.DataFrame, looks: dict[Any, dict[str, Any]], width: float) -> Plot:
    together = drawn.groupby("task")["label"].nunique().max() <= _TOGETHER
    parts = facets(drawn, together=together)
    narrowest = 2.9 if together else style.small(width)
    columns = style.n_columns(len(parts), width, narrowest)
    size = min(width / columns, 3.4)
    width = min(width, max(style.COLUMN, size * columns + 0.3))
    figure, axes = style.titled_panels(
        [title for title, _, _ in parts], width=width, height=size + 0.3, narrowest=narrowest, share=not together,
        notes=[] if together else [_area(kind, rows) for _, _, rows in parts],
    )  # fmt: skip
    for axis, (_, task, rows) in zip(axes, parts, strict=True):
        if not together:
            _draw_others(kind, axis, drawn[(drawn["task"] == task) & (drawn["label"] != rows["label"].iloc[0])])
        for label, curve in rows.groupby("label", sort=False):
            _draw_curve(kind, axis, curve, looks[label]["color"] if together else style.PALETTE[0])
        chance = [0, 1] if kind is _ROC else [rows["positives"].iloc[0]] * 2
        axis.plot([0, 1], chance, color=style.QUIET, lw=0.7, ls="--", zorder=2)
        _finish(kind, axis, together)
    style.label_outside(axes, columns, *kind.labels)
    return Plot(figure, axes, drawn)


def _area(kind: _Kind, curve: pd.DataFrame) -> str:
    first = curve.iloc[0]
    mean, low, high = (write_number(first[f"{kind.area}{end}"]) for end in ("", "_low", "_high"))
    bounds = f" [{low},\u00a0{high}]" if np.isfinite(first[f"{kind.area}_low"]) else ""
    return f"{kind.name} {mean}{bounds}" + (f" ({first['note']})" if first["note"] else "")


def _draw_curve(kind: _Kind, axis: Axes, curve: pd.DataFrame, color: str) -> None:
    label = style.legible(
        style.wrap(curve["label"].iloc[0], width=30) + "\n" + style.wrap(_area(kind, curve), width=38)
    )
    axis.plot(*_line(kind, curve), color=color, lw=1.4, label=label, zorder=3)
    axis.fill_between(curve[kind.x], curve["low"], curve["high"], color=color, alpha=0.15, lw=0)


def _line(kind: _Kind, curve: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    corner = curve[kind.y].iloc[0] if np.isnan(kind.corner) else kind.corner
    return np.r_[0, curve[kind.x]], np.r_[corner, curve[kind.y]]


def _draw_others(kind: _Kind, axis: Axes, others: pd.DataFrame) -> None:
    for _, curve in others.groupby("label", sort=False):
        axis.plot(*_line(kind, curve), color=style.FAINT, lw=0.7, zorder=1)


def _finish(kind: _Kind, axis: Axes, together: bool) -> None:
    axis.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal", xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
    if together:  # under a ROC curve there is room; precision is anywhere
        place: Any = "lower right" if kind is _ROC else "best"
        axis.legend(loc=place, fontsize=6.5, labelspacing=0.5, handlelength=1.2, handletextpad=0.6).set_zorder(5)
