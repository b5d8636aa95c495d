"""A result -> one HTML page that opens without a network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
import pandas as pd

from torchstrata.errors import ConfigError
from torchstrata.experiment import show
from torchstrata.experiment.archive import write_atomic
from torchstrata.experiment.page import Cell, Html, asset, description, details, figure, join, score_cell, table, tag
from torchstrata.experiment.result import BenchmarkResult
from torchstrata.experiment.verdict import headline, labels, write_interval, write_list
from torchstrata.plots.measures import decimals, greater_is_better, write_number
from torchstrata.plots.tables import is_missing, short_names, with_label


def write_report(result: BenchmarkResult, path: str | Path, *, title: str | None = None) -> Path:
    """Write a result as one HTML file: tables, pictures, failures, and how to do it again.

    Parameters
    ----------
    result : BenchmarkResult
        The result; it has scores.
    path : str or Path
        The file; its folder is made where it does not exist.
    title : str, optional
        Heading of the page; names the tasks by default.

    Returns
    -------
    Path
        The file. It loads nothing from elsewhere.

    Raises
    ------
    ConfigError
        If there are no scores, or the path is a folder.
    """
    path = Path(path)
    if path.is_dir():
        raise ConfigError(f"{path} is a folder; the report is one file, for example {path / 'report.html'}.")
    if not result.measures:
        raise ConfigError("This result has no scores, so there is nothing to report.")
    page = Template(asset("report.html")).substitute(_parts(result, title))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, page.encode("utf-8", "backslashreplace"))
    return path


def _parts(result: BenchmarkResult, title: str | None) -> dict[str, str]:
    sections = {
        "Leaderboard": _leaderboard(result),
        "Differences": _differences(result),
        "Learning curves": _learning_curves(result),
        "ROC curves": _roc(result),
        "Tasks": _tasks(result),
        "Learners": join(_learner(name, text) for name, text in result.learners.items()),
        "Folds": _folds(result),
        "Failures": _failures(result),
        "Warnings": _warnings(result),
        "How to do it again": _again(result),
    }
    shown = {name: content for name, content in sections.items() if content}
    ids = {name: name.lower().replace(" ", "-") for name in shown}
    return {
        "title": tag("x", title or _title(result))[3:-4],  # escaped, without the element
        "style": asset("report.css"),
        "script": asset("sortable.min.js") + "\n" + asset("sortable.a11y.min.js"),
        "headline": join(tag("p", sentence) for sentence in headline(result)),
        "contents": join(tag("a", name, href=f"#{ids[name]}") for name in shown),
        "sections": join(tag("section", tag("h2", name), content, id=ids[name]) for name, content in shown.items()),
        "footer": _footer(result),
    }


def _title(result: BenchmarkResult) -> str:
    return f"Benchmark: {write_list(result.scores['task'].unique())}"


def _leaderboard(result: BenchmarkResult) -> Html:
    board = result.leaderboard()
    measure = result.measures[0]
    parts = [tag("p", _BOARD, class_="note")]
    for task, rows in board.groupby("task", sort=False):
        names, measures, cells = show.read_rows(rows, grid=result.grid_columns)
        head = [Cell("learner"), *(Cell(n) for n in short_names(names).values()), *(Cell(m) for m in measures)]
        parts += [tag("h3", task), table(head, (_leader_cells(row) for row in cells))]
    for i, name in enumerate(m for m in result.measures if greater_is_better(m) or m == measure):
        drawn = figure(result.plot(name), name=f"scores{i}", caption=_SCORES_CAPTION.format(name))
        parts.append(drawn if i == 0 else details(f"The same for {name}", drawn))
    return join(parts)


_BOARD = "Mean over folds [95 % interval]; ★ marks the highest mean. Click a header to sort."
_SCORES_CAPTION = (
    "{} by task. Circles: folds. Dot and bar: mean and 95 % interval, corrected for overlapping training sets. "
    "Dotted line: the best mean."
)


def _leader_cells(row: show.Row) -> list[Cell]:
    learner, *settings = row.settings
    name = Html(tag("span", learner) + (tag("div", row.note, class_="warn") if row.note else ""))
    scores = [score_cell(text, best=best) for text, best in zip(row.scores, row.best, strict=True)]
    return [Cell(name, "name", learner), *(Cell(text) for text in settings), *scores]


def _differences(result: BenchmarkResult) -> Html | str:
    measure = result.measures[0]
    tests = result.compare(measure)
    if not len(tests):
        return ""
    tests = tests.assign(label=labels(result, tests))
    head = [Cell("task"), Cell("learner"), Cell("against the best"), Cell(f"difference in {measure}"),
            Cell("p", "number"), Cell("p (Holm)", "number"), Cell("folds", "number")]  # fmt: skip
    digits = max(3, decimals(tests["difference"]) - 1)
    said = (
        "Each learner minus the best one of its task, fold by fold: paired t-test with the variance corrected for "
        "overlapping training sets; Holm's correction is for all comparisons within a task. The best was chosen by "
        "these very folds, so its lead is a little flattered. An interval that includes 0 decides nothing."
    )
    return join([tag("p", said, class_="note"), table(head, (_test_cells(row, digits) for row in tests.itertuples()))])


def _test_cells(row: Any, digits: int) -> list[Cell]:
    p = [Cell(_p_value(v), "number", "" if np.isnan(v) else repr(float(v))) for v in (row.p_value, row.p_holm)]
    folds = f"{row.n}" if row.n == row.folds else f"{row.n} of {row.folds}"
    difference = score_cell(write_interval(row.difference, row.low, row.high, digits), best=False)
    return [Cell(row.task, "name"), Cell(row.label, "name"), Cell(row.best, "name"), difference, *p,
            Cell(folds, "number", str(row.n))]  # fmt: skip


def _p_value(p: float) -> str:
    return "–" if np.isnan(p) else "< 0.001" if p < 0.001 else f"{p:.3f}"


def _learning_curves(result: BenchmarkResult) -> Html | str:
    history = result.history
    if not any(c in history and history[c].notna().any() for c in ("train_loss", "valid_loss")):
        return ""
    caption = (
        "Loss by epoch. Dashed: training; solid: validation; thin: single folds; thick: their mean while all folds "
        "still train. Dots: the best epoch of a fold; dotted line: the mean of these, rounded up."
    )
    return figure(result.plot(kind="learning_curves"), name="curves", caption=caption)


def _roc(result: BenchmarkResult) -> Html | str:
    predictions = result.predictions
    if "score" not in predictions or not predictions["score"].notna().any():
        return ""
    caption = "Mean ROC curve over folds, averaged vertically, with a 95 % band; AUC with its interval."
    return figure(result.plot(kind="roc"), name="roc", caption=caption)


def _tasks(result: BenchmarkResult) -> Html:
    return join(join([tag("h3", name), description(_task(about))]) for name, about in result.tasks.items())


def _task(about: dict[str, Any]) -> dict[str, Any]:
    counts = about.get("class_counts") or {}
    known = {
        "kind": about.get("kind"),
        "target": about.get("target"),
        "rows": about.get("n_rows"),
        "features": about.get("n_features"),
        "classes": ", ".join(_class(name, n, sum(counts.values())) for name, n in counts.items()),
        "imbalance": f"1 : {max(counts.values()) / min(counts.values()):.1f}"
        if min(counts.values(), default=0)
        else "",
        "positive class": about.get("positive"),
        "missing values": about.get("missing"),
        "fingerprint": about.get("fingerprint"),
    }
    return {name: str(value) if isinstance(value, int) else value for name, value in known.items()}


def _class(name: str, n: int, all_: int) -> str:
    return f"{name} {n} ({100 * n / max(all_, 1):.1f} %)"


def _learner(name: str, text: str) -> Html:
    return join([tag("h3", name), tag("pre", text, class_="wrap")])


def _folds(result: BenchmarkResult) -> Html:
    measure = result.measures[0]
    scores = with_label(result.scores, grid=result.grid_columns)
    scores = scores[scores["measure"] == measure]
    digits = decimals(scores["value"])
    parts: list[str] = [
        tag("p", f"{measure} of every fold; in brackets, the rows it trained on + tested on.", class_="note")
    ]
    for task, rows in scores.groupby("task", sort=False):
        splits = result.splits
        splits = splits[splits["task"] == task].set_index("fold")
        values = {(r.label, r.fold): r.value for r in rows.itertuples()}
        head = [Cell("learner"), *(Cell(_fold_name(k, splits), "number") for k in splits.index)]
        body = [[Cell(str(label), "name"), *(_value_cell(values.get((label, k), np.nan), digits) for k in splits.index)]
                for label in rows["label"].unique()]  # fmt: skip
        parts += [tag("h3", task), table(head, body)]
    return join(parts)


def _fold_name(fold: Any, splits: pd.DataFrame) -> str:
    return f"{fold} ({splits.loc[fold, 'n_train']}+{splits.loc[fold, 'n_test']})"


def _value_cell(value: Any, digits: int) -> Cell:
    return Cell(write_number(value, digits=digits), "number", "" if np.isnan(value) else repr(float(value)))


def _failures(result: BenchmarkResult) -> Html | str:
    errors = result.errors
    if not len(errors):
        return ""
    parts = []
    errors = with_label(errors, grid=[c for c in result.grid_columns if c in errors])
    for key, rows in errors.groupby(["status", "error", "message", "traceback"], dropna=False, sort=False):
        status, error, message, traceback = map(str, key)
        cells = [f"{r.task}, {r.label}, fold {r.fold}" for r in rows.itertuples()]
        said = f"{error}: {message} ({status}, {show.count(len(cells), 'cell')})"
        parts.append(details(said, tag("p", "In: ", "; ".join(cells)), tag("pre", traceback)))
    return join(parts)


def _warnings(result: BenchmarkResult) -> Html | str:
    found = [w for w in result.info.get("warnings") or [] if isinstance(w, dict)]
    said = [f"{w['task']}, {w['learner']} ({show.count(w['fits'], 'fit')}): {w['message']}" for w in found]
    return tag("ul", join(tag("li", text) for text in said)) if said else ""


def _again(result: BenchmarkResult) -> Html:
    info = result.info
    command = info.pop("command", None)
    versions = info.pop("versions", {})
    info.pop("warnings", None)
    told = " ".join(command) if isinstance(command, list) else command
    parts: list[str] = [tag("pre", told, class_="wrap")] if told else []
    rest = {str(key): _fact(value) for key, value in info.items() if not is_missing(value)}
    if isinstance(versions, dict):
        rest["versions"] = ", ".join(f"{name} {number}" for name, number in versions.items())
    return join([*parts, description(rest)])


def _fact(value: Any) -> Any:
    if isinstance(value, dict):
        return ", ".join(f"{k}: {_fact(v)}" for k, v in value.items())
    return (
        "; ".join(str(_fact(v)) for v in value)
        if isinstance(value, Sequence) and not isinstance(value, str)
        else str(value)
    )


def _footer(result: BenchmarkResult) -> Html:
    return tag(
        "p",
        "Intervals: variance of the mean (1/n + n_test/n_train) s², Student's t with n − 1 degrees of freedom "
        "(Nadeau and Bengio 2003, Machine Learning 52, 239–281). They speak of learners trained on sets of this size "
        f"drawn like these, not of other data. {show.one_line(result)}.",
    )
