"""differences(): each learner minus the best one, fold by fold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from torchstrata.errors import ConfigError, did_you_mean
from torchstrata.plots import style
from torchstrata.plots.folds import first_measure
from torchstrata.plots.measures import default_ratio, greater_is_better, interval
from torchstrata.plots.plot import Plot
from torchstrata.plots.rows import draw_rows
from torchstrata.plots.tables import Ratio, best_label, need_columns, only, share_of, summary, with_label


def differences(
    table: pd.DataFrame,
    *,
    measure: str | None = None,
    against: str | None = None,
    grid: Sequence[str] | None = None,
    ratio: Ratio = None,
    level: float = 0.95,
    width: float = style.PAGE,
) -> Plot:
    """Draw how far each learner is from the best one on the same fold, the mean of that and its interval.

    Folds differ in difficulty for all learners alike; a difference within a fold is free of that. An interval that
    includes 0 decides nothing. The best learner was chosen by these very folds, so its lead is a little flattered.

    Parameters
    ----------
    table : DataFrame
        Long scores: task, learner, fold, grid columns, measure, value.
    measure : str, optional
        Which measure; the first one that is no cost by default.
    against : str, optional
        Label of the learner that the others are compared with; by default the best mean of each task, among those
        with as many folds as any other.
    grid : sequence of str, optional
        Columns that tell the cells of one learner apart; found by default.
    ratio : float or mapping, optional
        Test rows per training row, for all tasks, by task or by (task, fold); by default that of k-fold
        cross-validation.
    level : float
        Level of confidence of the intervals, which are corrected for overlapping training sets.
    width : float
        Inches: 3.5 for a column, 7 for a page.

    Returns
    -------
    Plot
        ``table`` holds task, label, against, measure, mean (of learner minus ``against``), std, n (folds that both
        have), folds, low, high, note and ``values`` of the folds, the nearest to the best on top.

    Raises
    ------
    ConfigError
        If the measure or ``against`` is unknown, or there is nothing to compare.

    Examples
    --------
    >>> import pandas as pd
    >>> rows = [("t", name, k, "accuracy", v) for name, v in (("a", 0.75), ("b", 0.5)) for k in range(3)]
    >>> table = pd.DataFrame(rows, columns=["task", "learner", "fold", "measure", "value"])
    >>> differences(table).table[["label", "against", "mean", "n"]]
      label against  mean  n
    0     b       a -0.25  3
    """
    need_columns(table, ["task", "learner", "fold", "measure", "value"], "the table of scores")
    name = measure or first_measure(table)
    rows = with_label(only(table, "measure", name), grid=grid)
    if against is not None and against not in set(rows["label"]):
        raise ConfigError(f"No learner {against!r} to compare with. {did_you_mean(against, rows['label'].unique())}")
    found = [_of_task(part, str(task), name, against, ratio, level) for task, part in rows.groupby("task", sort=False)]
    drawn = pd.concat(found, ignore_index=True)
    if not len(drawn):
        raise ConfigError("Differences need at least two learners on a task; this table has one.")
    drawn["task"] = [f"{t}: minus “{best}”" for t, best in zip(drawn["task"], drawn["against"], strict=True)]
    with style.style():
        plot = draw_rows(drawn, width=width, name=f"difference in {name}", reference=0.0)
    return Plot(plot.figure, plot.axes, drawn.assign(task=[t.rsplit(": minus “", 1)[0] for t in drawn["task"]]))


def _of_task(
    rows: pd.DataFrame, task: str, measure: str, against: str | None, ratio: Any, level: float
) -> pd.DataFrame:
    labels = list(rows["label"].unique())
    wide = rows.pivot(index="fold", columns="label", values="value")[labels]
    greater = greater_is_better(measure)
    best = best_label(wide, greater=greater) if against is None else against
    if best not in wide:
        raise ConfigError(f"{best!r} was not run on {task!r}. {did_you_mean(best, labels)}")
    share = share_of(ratio, rows)
    share = default_ratio(len(wide)) if share is None else share
    told = summary(rows, keys=["label", "measure"], ratio=share, level=level)  # what failed, and what stood in
    notes = dict(zip(told["label"], told["note"], strict=True))
    of_best = [f"of “{best}”, {notes[best]}"] if notes[best] else []
    found = []
    for label in labels:
        if label != best:
            values = (wide[label] - wide[best]).to_numpy(dtype=float)
            numbers = interval(values, ratio=share, level=level)._asdict()
            found.append({"task": task, "label": label, "against": best, "measure": measure, **numbers,
                          "folds": len(values), "note": "; ".join([*filter(None, [notes[label]]), *of_best]),
                          "values": tuple(values)})  # fmt: skip
    out = pd.DataFrame(found)
    return out.sort_values("mean", ascending=not greater, kind="stable") if len(out) else out
