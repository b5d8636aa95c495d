"""A leaderboard as text that other programs set: Markdown and LaTeX."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pandas as pd

from torchstrata.experiment.presentation.leaderboards import Row, read_rows
from torchstrata.plots.tables import short_names

_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>|#~$&])")
_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': r"\char34{}", "−": "$-$", "–": "--", "…": r"\dots{}", "★": r"$\star$",
}  # fmt: skip
_INTERVAL = re.compile(r"^(\S+) (\[.*\])$")


def escape_markdown(text: str) -> str:
    r"""Write text so that Markdown shows it as it is.

    Parameters
    ----------
    text : str
        Anything; line breaks become spaces.

    Returns
    -------
    str
        Fit for the cell of a table.

    Examples
    --------
    >>> print(escape_markdown("a_b|<b>"))
    a\_b\|\<b\>
    """
    return _MARKDOWN.sub(r"\\\1", " ".join(text.split()))


def escape_latex(text: str) -> str:
    r"""Write text so that LaTeX sets it as it is.

    Parameters
    ----------
    text : str
        Anything; line breaks become spaces. Letters beyond Latin ones need XeLaTeX or LuaLaTeX and a font with them.

    Returns
    -------
    str
        Fit for the cell of a table.

    Examples
    --------
    >>> print(escape_latex("100 % of a_b & −1"))
    100 \% of a\_b \& $-$1
    """
    return "".join(_LATEX.get(letter, letter) for letter in " ".join(text.split()))


def to_markdown(leaderboard: pd.DataFrame, *, grid: Sequence[str]) -> str:
    """Lay a leaderboard out as Markdown tables, one a task, the best in bold.

    Parameters
    ----------
    leaderboard : DataFrame
        What :meth:`BenchmarkResult.leaderboard` returns.
    grid : sequence of str
        Its grid columns.

    Returns
    -------
    str
        Tables as GitHub, Jupyter and pandoc read them, ending in a line break.
    """
    names, measures, rows = read_rows(leaderboard, grid=grid)
    tasks = list(dict.fromkeys(row.task for row in rows))
    head = [escape_markdown(name) for name in ["learner", *short_names(names).values(), *measures]]
    rule = ["---"] * (1 + len(names)) + ["---:"] * len(measures)
    parts = []
    for task in tasks:
        body = [_markdown_cells(row) for row in rows if row.task == task]
        lines = ["| " + " | ".join(cells) + " |" for cells in [head, rule, *body]]
        title = [f"**{escape_markdown(task)}**", ""] if len(tasks) > 1 else []
        parts.append("\n".join([*title, *lines]))
    return "\n\n".join(parts) + "\n"


def _markdown_cells(row: Row) -> list[str]:
    told = [escape_markdown(text) for text in row.settings]
    told[0] += f" ({escape_markdown(row.note)})" if row.note else ""
    scores = [text.replace("[", r"\[").replace("]", r"\]") for text in row.scores]
    return told + [f"**{text}**" if best else text for text, best in zip(scores, row.best, strict=True)]


def to_latex(
    leaderboard: pd.DataFrame, *, grid: Sequence[str], caption: str | None = None, label: str | None = None
) -> str:
    r"""Lay a leaderboard out as a LaTeX table with the rules of booktabs, the best in bold.

    Parameters
    ----------
    leaderboard : DataFrame
        What :meth:`BenchmarkResult.leaderboard` returns.
    grid : sequence of str
        Its grid columns.
    caption, label : str, optional
        With either, the tabular stands in a floating ``table``. Both are LaTeX already.

    Returns
    -------
    str
        Needs ``\usepackage{booktabs}``; ends in a line break.
    """
    names, measures, rows = read_rows(leaderboard, grid=grid)
    tasks = list(dict.fromkeys(row.task for row in rows))
    width = 1 + len(names) + len(measures)
    head = [escape_latex(name) for name in ["learner", *short_names(names).values(), *measures]]
    lines = [rf"\begin{{tabular}}{{@{{}}{'l' * width}@{{}}}}", r"\toprule", _line(head)]
    for task in tasks:
        lines.append(r"\midrule")
        if len(tasks) > 1:
            lines += [rf"\multicolumn{{{width}}}{{@{{}}l}}{{\emph{{{escape_latex(task)}}}}} \\", r"\addlinespace[2pt]"]
        lines += [_line(_latex_cells(row)) for row in rows if row.task == task]
    lines += [r"\bottomrule", r"\end{tabular}"]
    if caption is not None or label is not None:
        told = [rf"\caption{{{caption}}}"] if caption is not None else []
        told += [rf"\label{{{label}}}"] if label is not None else []
        lines = [r"\begin{table}", r"\centering", *told, *lines, r"\end{table}"]
    return "\n".join(["% needs \\usepackage{booktabs}", *lines]) + "\n"


def _line(cells: Sequence[str]) -> str:
    # a bracket that begins a row would be taken for the argument of the line break before it
    return ("{}" if cells[0].startswith(("[", "*")) else "") + " & ".join(cells) + r" \\"


def _latex_cells(row: Row) -> list[str]:
    told = [escape_latex(text) for text in row.settings]
    told[0] += rf" {{\footnotesize({escape_latex(row.note)})}}" if row.note else ""
    return told + [_latex_score(text, best) for text, best in zip(row.scores, row.best, strict=True)]


def _latex_score(text: str, best: bool) -> str:
    found = _INTERVAL.match(text)
    mean, bounds = found.groups() if found else (text, "")
    mean = rf"\textbf{{{escape_latex(mean)}}}" if best else escape_latex(mean)
    return mean + (rf" {{\footnotesize {escape_latex(bounds)}}}" if bounds else "")
