"""A result -> one HTML page that opens without a network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
import pandas as pd

from torchstrata.errors import ConfigError
from torchstrata.experiment.archive import write_atomic
from torchstrata.experiment.presentation import chart_data, leaderboards
from torchstrata.experiment.presentation.page import (
    Cell,
    Html,
    asset,
    description,
    details,
    join,
    score_cell,
    table,
    tag,
)
from torchstrata.experiment.presentation.pictures import Pictures
from torchstrata.experiment.presentation.verdict import headline, labels, write_interval, write_list
from torchstrata.experiment.result import BenchmarkResult
from torchstrata.plots.measures import decimals, greater_is_better, write_number
from torchstrata.plots.tables import is_missing, short_names, with_label

_VENDOR = ("sortable.min.js", "sortable.a11y.min.js", "d3.min.js", "plot.umd.min.js")
_MOST_ERRORS, _MOST_LETTERS, _MOST_OPEN = 40, 12_000, 12  # kinds of failures, letters of a traceback, learners unfolded


def write_report(
    result: BenchmarkResult, path: str | Path, *, title: str | None = None, composition: pd.DataFrame | None = None
) -> Path:
    """Write a result as one HTML file: tables, pictures, failures, and how to do it again.

    Tables are sorted and filtered, and charts answer to the pointer, where the page may run its script; in print and
    without it there are whole tables and pictures. Of many learners or tasks the pictures show a part, and say so.

    Parameters
    ----------
    result : BenchmarkResult
        The result; it has scores.
    path : str or Path
        The file; its folder is made where it does not exist.
    title : str, optional
        Heading of the page; names the tasks by default.
    composition : DataFrame, optional
        What ``sampler.composition(strata)`` returns, to be drawn too.

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
    page = Template(asset("report.html")).substitute(_parts(result, title, composition))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, page.encode("utf-8", "backslashreplace"))
    return path


def _parts(result: BenchmarkResult, title: str | None, composition: pd.DataFrame | None) -> dict[str, str]:
    pictures = Pictures(result)
    sections = {
        "Leaderboard": join([_leaderboard(result), pictures.scores()]),
        "Differences": _both(pictures.differences(), _differences(result)),
        "Ranks over tasks": pictures.critical_difference(),
        "Learning curves": pictures.learning_curves(),
        "ROC curves": pictures.roc(),
        "Precision and recall": pictures.precision_recall(),
        "Calibration": pictures.calibration(),
        "Confusion": pictures.confusion(),
        "Cost": pictures.cost(),
        "Settings": pictures.tuning(),
        "Batches": pictures.composition(composition),
        "Tasks": _tasks(result),
        "Learners": _learners(result),
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
        "data": chart_data.write_data(pictures.charts, order=pictures.order),
        "scripts": "\n".join(f"<script>\n{asset(name)}\n</script>" for name in (*_vendored(), "report.js")),
        "headline": join(tag("p", sentence) for sentence in headline(result)),
        "contents": join(tag("a", name, href=f"#{ids[name]}") for name in shown),
        "sections": join(tag("section", tag("h2", name), content, id=ids[name]) for name, content in shown.items()),
        "footer": _footer(result),
    }


def _vendored() -> list[str]:
    return [f"vendor/{name}" for name in _VENDOR]


def _both(first: Html | str, second: Html | str) -> Html | str:
    return join([first, second]) if first or second else ""


def _title(result: BenchmarkResult) -> str:
    return f"Benchmark: {write_list(result.scores['task'].unique())}"


def _leaderboard(result: BenchmarkResult) -> Html:
    board = result.leaderboard()
    parts = [tag("p", _BOARD, class_="note")]
    for task, rows in board.groupby("task", sort=False):
        names, measures, cells = leaderboards.read_rows(rows, grid=result.grid_columns)
        head = [Cell("learner"), *(Cell(n) for n in short_names(names).values()), *(Cell(m) for m in measures)]
        parts += [tag("h3", task), table(head, (_leader_cells(row) for row in cells))]
    return join(parts)


_BOARD = "Mean over folds [95 % interval]; ★ marks the highest mean. A header sorts."


def _leader_cells(row: leaderboards.Row) -> list[Cell]:
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
    folds += f" ({row.filled} by fallback)" if getattr(row, "filled", 0) else ""
    difference = score_cell(write_interval(row.difference, row.low, row.high, digits), best=False)
    return [Cell(row.task, "name"), Cell(row.label, "name"), Cell(row.best, "name"), difference, *p,
            Cell(folds, "number", str(row.n))]  # fmt: skip


def _p_value(p: float) -> str:
    return "–" if np.isnan(p) else "< 0.001" if p < 0.001 else f"{p:.3f}"


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


def _learners(result: BenchmarkResult) -> Html | str:
    parts = [(name, tag("pre", text, class_="wrap")) for name, text in result.learners.items()]
    if len(parts) > _MOST_OPEN:
        return join(details(name, content) for name, content in parts)
    return join(join([tag("h3", name), content]) for name, content in parts)


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
    errors = with_label(errors, grid=[c for c in result.grid_columns if c in errors])
    kinds = list(errors.groupby(["status", "error", "message", "traceback"], dropna=False, sort=False))
    parts = [_statuses(result), *(_failure(tuple(map(str, key)), rows) for key, rows in kinds[:_MOST_ERRORS])]
    if len(kinds) > _MOST_ERRORS:
        more = f"{len(kinds) - _MOST_ERRORS} more kinds of failures are in result.errors."
        parts.append(tag("p", more, class_="note"))
    return join(parts)


def _failure(key: tuple[str, ...], rows: pd.DataFrame) -> Html:
    status, error, message, traceback = key
    cells = [f"{r.task}, {r.label}, fold {r.fold}" for r in rows.itertuples()]
    said = f"{error}: {message[:400]} ({status}, {leaderboards.count(len(cells), 'cell')})"
    if len(traceback) > _MOST_LETTERS:
        traceback = f"… the first {len(traceback) - _MOST_LETTERS} letters are left out\n{traceback[-_MOST_LETTERS:]}"
    told = "; ".join(cells[:50]) + (f"; and {len(cells) - 50} more" if len(cells) > 50 else "")
    return details(said, tag("p", "In: ", told), tag("pre", traceback))


def _statuses(result: BenchmarkResult) -> Html | str:
    """How many cells of each learner ended how; only learners that failed somewhere."""
    ended = with_label(result.statuses, grid=[c for c in result.grid_columns if c in result.statuses])
    found = list(dict.fromkeys(["ok", *ended["status"].astype(str)]))
    head = [Cell("task"), Cell("learner"), *(Cell(name, "number") for name in found), Cell("stood in")]
    body = []
    for (task, label), rows in ended.groupby(["task", "label"], sort=False):
        counts = rows["status"].value_counts()
        if (rows["status"] != "ok").any():
            stood_in = write_list(sorted(set(rows["fallback"].fillna("").astype(str)) - {""}) or ["nothing"])
            numbers = [str(counts.get(name, 0)) for name in found]
            body.append([Cell(str(task), "name"), Cell(str(label), "name"), *(Cell(n, "number", n) for n in numbers),
                         Cell(stood_in)])  # fmt: skip
    note = tag(
        "p", "How the folds of each learner that failed somewhere ended, and what stood in for it.", class_="note"
    )
    return join([note, table(head, body)]) if body else ""


def _warnings(result: BenchmarkResult) -> Html | str:
    found = [w for w in result.info.get("warnings") or [] if isinstance(w, dict)]
    said = [f"{w['task']}, {w['learner']} ({leaderboards.count(w['fits'], 'fit')}): {w['message']}" for w in found]
    return tag("ul", join(tag("li", text) for text in said)) if said else ""


def _again(result: BenchmarkResult) -> Html:
    info = result.info
    command = info.pop("command", None)
    versions = info.pop("versions", {})
    info.pop("warnings", None)
    told = " ".join(command) if isinstance(command, list) else command
    parts: list[str] = [tag("pre", told or _code(result), class_="wrap")]
    rest = {str(key): _fact(value) for key, value in info.items() if not is_missing(value)}
    if isinstance(versions, dict):
        rest["versions"] = ", ".join(f"{name} {number}" for name, number in versions.items())
    return join([*parts, description(rest)])


def _code(result: BenchmarkResult) -> str:
    """Write the call that made a result, as far as the result knows it."""
    measures = [m for m in result.measures if greater_is_better(m)]
    return f"result = ts.benchmark(tasks, learners, cv={result.info.get('cv', '...')}, scoring={measures})"


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
        f"drawn like these, not of other data. {leaderboards.one_line(result)}.",
    )
