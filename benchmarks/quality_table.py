"""The tables of quality.py: means, relative errors with their noise, counts of the goals; into a page between marks."""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np
import pandas as pd
from timing import markdown, versions

import torchstrata as ts
from torchstrata.plots.measures import decimals, interval, write_number

MARKS = ("<!-- quality: begin -->", "<!-- quality: end -->")
NAMES = {
    "default": "torchstrata",
    "tabm": "torchstrata TabM",
    "realmlp": "torchstrata RealMLP",
    "realmlp_all": "torchstrata RealMLP, all rows",
    "mlp": "scikit-learn MLP",
    "boosting": "scikit-learn boosting",
    "realmlp_td": "pytabkit RealMLP-TD",
}
ERRORS = ("accuracy", "neg_root_mean_squared_error")
MEASURES = {"accuracy": "error rate", "neg_root_mean_squared_error": "RMSE", "neg_log_loss": "log loss",
            "roc_auc": "1 − ROC AUC"}  # fmt: skip
GOAL, MARGIN = 0.8, 0.01
TINY = 1e-9  # equal means differ by rounding


def losses_of(result: ts.BenchmarkResult, measure: str) -> pd.DataFrame:
    """Return one measure as a loss: a row a task and fold, a column a learner."""
    rows = result.scores[result.scores["measure"] == measure]
    wide = rows.pivot(index=["task", "fold"], columns="learner", values="value").reindex(rows["task"].unique(), level=0)
    return 1 - wide if measure in ("accuracy", "roc_auc") else -wide


def relative(result: ts.BenchmarkResult, losses: pd.DataFrame, ours: str, peer: str) -> pd.DataFrame:
    """Compare two learners task by task on the folds that both have.

    The interval is that of the paired difference (Nadeau and Bengio, as in ``BenchmarkResult.compare``), divided by the
    mean of the peer.
    """
    rows, ratio = {}, test_share(result)
    for task, folds in losses[[ours, peer]].dropna().groupby(level="task", sort=False):
        found = interval(folds[ours] - folds[peer], ratio=ratio[task])
        numbers = np.array([found.mean, found.low, found.high]) / folds[peer].mean()
        rows[task] = [*numbers, len(folds)]
    return pd.DataFrame.from_dict(rows, orient="index", columns=["difference", "low", "high", "folds"])


def test_share(result: ts.BenchmarkResult) -> dict[str, float]:
    """Return the test rows per training row of each task, which the corrected intervals need."""
    splits = result.splits
    return (splits["n_test"] / splits["n_train"]).groupby(splits["task"]).median().to_dict()


def count_goals(result: ts.BenchmarkResult, losses: pd.DataFrame, ours: str) -> list[str]:
    """Say on how many sets the goals are met, and on how many the folds can tell."""
    lines = []
    for peer, most, what in (
        ("mlp", -TINY, "less error than"),
        ("realmlp_td", MARGIN + TINY, "at most 1 % more error than"),
    ):
        if not {ours, peer} <= set(losses):
            continue
        table = relative(result, losses, ours, peer)
        met = table["difference"] <= most
        verdict = "met" if met.mean() >= GOAL else "MISSED"
        missed = f"; not on {', '.join(table.index[~met])}" if not met.all() else ""
        lines.append(
            f"* {NAMES[ours]}: {what} {NAMES[peer]} on {met.sum()} of {len(met)} sets (goal: {GOAL:.0%}, {verdict}"
            f"{missed}); beyond the noise better on {(table['high'] < 0).sum()}, worse on {(table['low'] > 0).sum()}"
        )
    return lines


def _means(result: ts.BenchmarkResult) -> str:
    rows: list[list[object]] = []
    columns, ratio = _columns(result), test_share(result)
    for measure in (m for m in MEASURES if m in result.measures):
        losses = losses_of(result, measure).reindex(columns=columns)
        for task, folds in losses.groupby(level="task", sort=False):
            cells = [interval(folds[name].dropna(), ratio=ratio[task]) for name in columns]
            rows.append([_set(result, task), MEASURES[measure], *_cells(cells, losses.index.unique("fold").size)])
    return markdown(["set", "measure", *(NAMES[name] for name in columns)], rows)


def _set(result: ts.BenchmarkResult, task: str) -> str:
    about = result.tasks[task]
    return f"{task} ({about['n_rows']} × {about['n_features']})"


def _cells(cells: list[Any], every: int) -> list[str]:
    """Write a row; the least mean is bold among those of as many folds as any other."""
    most, digits = max(cell.n for cell in cells), decimals([cell.mean for cell in cells])
    least = min(cell.mean for cell in cells if cell.n == most)
    texts = []
    for cell in cells:
        mean, half = write_number(cell.mean, digits=digits), write_number((cell.high - cell.low) / 2, digits=digits)
        mean = f"**{mean}**" if cell.n == most and cell.mean <= least + TINY else mean
        folds = f", {_folds(cell.n)} only" if cell.n < every else ""
        noise = f" ± {half}" if cell.n > 1 else ""
        texts.append(f"{mean}{noise}{folds}" if cell.n else "–")
    return texts


def _folds(n: int) -> str:
    return f"{n:.0f} fold{'s' if n > 1 else ''}"


def _relatives(result: ts.BenchmarkResult, errors: pd.DataFrame, ours: str, peers: list[str]) -> str:
    tables = {name: relative(result, errors, ours, name) for name in peers}
    every = len(errors.index.unique("fold"))
    rows = [[task, *(_percent(tables[name], task, every) for name in peers)] for task in errors.index.unique("task")]
    return markdown(["set", *(f"against {NAMES[name]}" for name in peers)], rows)


def _percent(table: pd.DataFrame, task: str, every: int) -> str:
    if task not in table.index:
        return "–"
    *numbers, folds = table.loc[task]
    difference, low, high = (
        "–" if np.isnan(value) else f"{100 * value:+.1f}".replace("-", "−").replace("−0.0", "0.0") for value in numbers
    )
    noise = f" [{low}, {high}]" if folds > 1 else ""
    return f"{difference} %{noise}" + (f", {_folds(folds)} only" if folds < every else "")


def _seconds(result: ts.BenchmarkResult) -> str:
    wide = result.aggregate("fit_seconds").pivot(index="task", columns="learner", values="mean")
    wide = wide.reindex(index=list(result.tasks), columns=_columns(result))
    rows = [
        [task, *("–" if np.isnan(v) else f"{v:.2g}" if v < 10 else f"{v:.0f}" for v in row)]
        for task, row in zip(wide.index, wide.to_numpy(), strict=True)
    ]
    return markdown(["set", *(NAMES[name] for name in wide)], rows)


def _columns(result: ts.BenchmarkResult) -> list[str]:
    there = set(result.scores["learner"])
    return [name for name in NAMES if name in there]


def _when(result: ts.BenchmarkResult) -> str:
    """Say what was run, when and by which versions; peers may be older than ours."""
    runs = result.info.get("combined", [result.info])
    days = sorted({run["started"][:10] for run in runs})
    when = days[0] + (f" to {days[-1]}" if days[1:] else "")
    sets, folds = len(result.tasks), result.splits.groupby("task").size().max()
    return f"{sets} sets, up to {folds} folds, the same for all. Fitted {when}; peers are fitted once and kept."


def tell(result: ts.BenchmarkResult, ours: list[str]) -> str:
    """Write the tables and the counts of the goals.

    ``ours`` names the learners that are compared with all others.
    """
    errors = pd.concat([losses_of(result, measure) for measure in ERRORS if measure in result.measures])
    errors = errors.reindex(columns=_columns(result))
    here, peers = [name for name in errors if name in ours], [name for name in errors if name not in ours]
    goals = [line for name in here for line in count_goals(result, errors, name)]
    text = [_when(result), versions("torchstrata", "torch", "scikit-learn", "pytabkit", "numpy", "pandas")]
    text += ["## Goals", "\n".join(goals)] if goals else []
    text += ["## Means", "Less is better. ± is half of the corrected 95 % interval; the least of a row is bold."]
    text += [_means(result)]
    for name in here if peers else []:
        about = "Difference of the error rates (RMSE for numbers), in percent of the peer's, with its 95 % interval."
        text += [f"## Relative error: {NAMES[name]}", about, _relatives(result, errors, name, peers)]
    about = (
        "Means of wall clock with whatever else the machine did; fits that train as one program have their share of it."
    )
    text += ["## Seconds a fit", about, _seconds(result)]
    return "\n\n".join(text)


def write(text: str, out: pathlib.Path) -> None:
    """Put the text between the marks of a page; a page that is not there is begun."""
    page = out.read_text() if out.is_file() else "\n".join(["# Quality", "", *MARKS, ""])
    before, _, rest = page.partition(MARKS[0])
    _, _, after = rest.partition(MARKS[1])
    out.write_text(f"{before}{MARKS[0]}\n\n{text}\n\n{MARKS[1]}{after}")
