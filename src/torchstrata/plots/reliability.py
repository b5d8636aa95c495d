"""calibration(): whether rows given a probability of 70 % are positive seven times in ten."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from sklearn.calibration import calibration_curve

from torchstrata.errors import ConfigError, DataError
from torchstrata.plots import style
from torchstrata.plots.measures import default_ratio, interval, write_number
from torchstrata.plots.plot import Plot
from torchstrata.plots.tables import Ratio, facets, known_folds, need_columns, share_of, with_label

_TOGETHER = 2  # so many learners share a panel; more get a panel each
_TALL = 0.22  # of the panel, for the histogram at its foot


def calibration(
    table: pd.DataFrame,
    *,
    positive: object = None,
    bins: int = 10,
    grid: Sequence[str] | None = None,
    ratio: Ratio = None,
    level: float = 0.95,
    width: float = style.PAGE,
) -> Plot:
    """Draw how often rows of a given probability are positive: mean over folds, with a band; below, how many rows.

    With two classes it is the probability of the positive one. With more it is the probability of the predicted class,
    and how often that is the true one.

    Parameters
    ----------
    table : DataFrame
        Predictions: task, learner, fold, grid columns, truth, predicted and ``prob_<class>``.
    positive : object, optional
        The positive class of two, or a mapping from task to it; the last probability column by default.
    bins : int
        Equally wide intervals of probability.
    grid : sequence of str, optional
        Columns that tell the cells of one learner apart; found by default.
    ratio : float or mapping, optional
        Test rows per training row, for all tasks, by task or by (task, fold); by default that of k-fold
        cross-validation.
    level : float
        Level of confidence of the band and of the interval of the Brier score.
    width : float
        Inches: 3.5 for a column, 7 for a page.

    Returns
    -------
    Plot
        ``table`` holds a row for each bin that is not empty: task, label, bin, left, right (its bounds), predicted
        (mean over folds), observed, low, high (the band), n (folds with rows in the bin), rows (of all folds), and of
        the learner brier, brier_low, brier_high, and note (folds left out, or filled by a fallback). The Brier score is
        the mean squared difference of the probability of the positive class, or of more than two classes the sum over
        all of them (0 to 2), as in :func:`sklearn.metrics.brier_score_loss`.

    Raises
    ------
    ConfigError
        If there are less than two bins.
    DataError
        If there is no probability, or the positive class has none.
    """
    need_columns(table, ["task", "learner", "fold", "truth", "predicted"], "the table of predictions")
    if bins < 2:
        raise ConfigError(f"bins must be at least 2, as 10 is; got {bins!r}.")
    rows = with_label(table, grid=grid)
    found = []
    for task, part in rows.groupby("task", sort=False):
        one = positive.get(str(task)) if isinstance(positive, Mapping) else positive
        known = _events(part, one, str(task))
        n_folds = part["fold"].nunique()
        for label, group in known.groupby("label", sort=False):
            share = share_of(ratio, group)
            share = default_ratio(n_folds) if share is None else share
            _, note = known_folds(group, n_folds, group["fold"])
            found.append(_curve(group, bins, share, level).assign(task=task, label=label, note=note))
    if not found:
        raise DataError("No prediction has a probability: expected columns prob_<class> with values.")
    drawn = pd.concat(found, ignore_index=True)
    front = ["task", "label"]
    drawn = drawn[front + [c for c in drawn.columns if c not in front]]
    with style.style():
        return _draw(drawn, style.looks(rows["label"]), width)


def _events(rows: pd.DataFrame, positive: object, task: str) -> pd.DataFrame:
    """Give each row a probability and whether what it speaks of came true."""
    names = [c for c in rows.columns if c.startswith("prob_") and rows[c].notna().any()]
    out = rows[["task", "label", "fold", *(c for c in ("folds", "filled") if c in rows)]]
    truth = rows["truth"].astype(str).to_numpy()  # a class is known by its name: 1, "1" and numpy's 1 are one class
    if len(names) > 2:
        probability = rows[names].to_numpy(dtype=float)
        known = ~np.isnan(probability).any(axis=1)
        loss = ((probability - (np.array([n.removeprefix("prob_") for n in names]) == truth[:, None])) ** 2).sum(axis=1)
        hit = rows["predicted"].astype(str).to_numpy() == truth
        return out.assign(p=probability.max(axis=1, initial=-1.0), hit=hit, loss=loss)[known]
    if not names:
        return out.assign(p=0.0, hit=False, loss=0.0).iloc[:0]
    name = names[-1] if positive is None else f"prob_{positive}"
    if name not in names:
        raise DataError(f"Task {task!r} has no probability of {positive!r}: it has {', '.join(names)}.")
    hit, p = truth == name.removeprefix("prob_"), rows[name].astype(float)
    return out.assign(p=p, hit=hit, loss=(p - hit) ** 2)[rows[name].notna()]


def _curve(rows: pd.DataFrame, bins: int, ratio: float, level: float) -> pd.DataFrame:
    folds = pd.concat([_fold(fold, bins) for _, fold in rows.groupby("fold", sort=False)])
    brier = interval(rows.groupby("fold")["loss"].mean(), ratio=ratio, level=level, limits=(0, 2))
    found = []
    for number in sorted(folds["bin"].unique()):
        part = folds[folds["bin"] == number]
        seen = interval(part["observed"], ratio=ratio, level=level, limits=(0, 1))
        found.append({"bin": number, "left": number / bins, "right": (number + 1) / bins,
                      "predicted": part["predicted"].mean(), "observed": seen.mean, "low": seen.low, "high": seen.high,
                      "n": seen.n, "rows": int(part["rows"].sum())})  # fmt: skip
    return pd.DataFrame(found).assign(brier=brier.mean, brier_low=brier.low, brier_high=brier.high)


def _fold(rows: pd.DataFrame, bins: int) -> pd.DataFrame:
    p = np.clip(rows["p"].to_numpy(dtype=float), 0.0, 1.0)
    observed, predicted = calibration_curve(rows["hit"].to_numpy(), p, n_bins=bins, pos_label=True)
    # the curve leaves out empty bins without saying which: these are the others, found as scikit-learn finds them
    number, counts = np.unique(np.searchsorted(np.linspace(0.0, 1.0, bins + 1)[1:-1], p), return_counts=True)
    return pd.DataFrame({"bin": number, "observed": observed, "predicted": predicted, "rows": counts})


def _draw(drawn: pd.DataFrame, looks: dict[Any, dict[str, Any]], width: float) -> Plot:
    together = drawn.groupby("task")["label"].nunique().max() <= _TOGETHER
    parts = facets(drawn, together=together)
    narrowest = 2.9 if together else style.small(width)
    columns = style.n_columns(len(parts), width, narrowest)
    size = min(width / columns, 3.4)
    width = min(width, max(style.COLUMN, size * columns + 0.3))
    figure, axes = style.titled_panels(
        [title for title, _, _ in parts], width=width, height=size + 0.3, narrowest=narrowest,
        notes=[] if together else [_loss(rows) for _, _, rows in parts],
    )  # fmt: skip
    for axis, (_, _, rows) in zip(axes, parts, strict=True):
        axis.plot([0, 1], [0, 1], color=style.QUIET, lw=0.7, ls="--", zorder=2)
        for label, curve in rows.groupby("label", sort=False):
            _draw_curve(axis, curve, looks[label]["color"] if together else style.PALETTE[0], together)
        axis.set(xlim=(-0.02, 1.02), ylim=(0, 1.02), aspect="equal", xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
        if together:
            axis.legend(loc="best", fontsize=6.5, labelspacing=0.5, handlelength=1.2, handletextpad=0.6)
    style.label_outside(axes, columns, "predicted probability", "share that came true")
    return Plot(figure, axes, drawn)


def _loss(curve: pd.DataFrame) -> str:
    first = curve.iloc[0]
    mean, low, high = (write_number(first[c]) for c in ("brier", "brier_low", "brier_high"))
    bounds = f" [{low},\u00a0{high}]" if np.isfinite(first["brier_low"]) else ""
    return f"Brier score {mean}{bounds}" + (f" ({first['note']})" if first["note"] else "")


def _draw_curve(axis: Axes, curve: pd.DataFrame, color: str, together: bool) -> None:
    label = style.legible(style.wrap(curve["label"].iloc[0], width=26) + "\n" + style.wrap(_loss(curve), width=26))
    axis.plot(curve["predicted"], curve["observed"], "o-", ms=2.6, mew=0, color=color, lw=1.2, label=label, zorder=3)
    axis.fill_between(curve["predicted"], curve["low"], curve["high"], color=color, alpha=0.15, lw=0)
    tall = _TALL * curve["rows"] / curve["rows"].max()
    left, right = curve["left"], curve["right"]
    if together:  # outlines, so that one does not hide the other
        axis.hlines(tall, left, right, color=color, lw=1.0, zorder=1)
        axis.vlines([*left, *right], 0, [*tall, *tall], color=color, lw=0.3, zorder=1)
    else:
        axis.bar(left, tall, width=right - left, align="edge", color=style.FAINT, ec="white", lw=0.4, zorder=0)
