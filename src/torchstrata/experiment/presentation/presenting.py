"""Presenting: the methods of a BenchmarkResult that draw it or write it for people."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

from torchstrata.errors import ConfigError, did_you_mean
from torchstrata.experiment import cells
from torchstrata.experiment.presentation import leaderboards, markup
from torchstrata.experiment.statistics import soak
from torchstrata.experiment.statistics.comparing import fold_ratios
from torchstrata.plots.measures import greater_is_better
from torchstrata.plots.tables import only

if TYPE_CHECKING:
    from rich.table import Table

    from torchstrata.plots import Plot


class Presenting:
    """What a result shows of itself: pictures, and tables as text. A base of :class:`BenchmarkResult` alone."""

    def plot(
        self: Any,
        measure: str | None = None,
        *,
        kind: Literal[
            "scores", "differences", "learning_curves", "roc", "precision_recall", "calibration", "confusion",
            "critical_difference", "cost", "tuning", "settings",
        ] = "scores",
        x: str | None = None,
        color: str | None = None,
        task: str | None = None,
        width: float = 7.0,
        **settings: Any,
    ) -> Plot:  # fmt: skip
        """Draw a table of this result.

        Parameters
        ----------
        measure : str, optional
            The first one by default; for learning curves the loss. ROC, precision and recall, calibration and confusion
            are of the predictions and have none.
        kind : str
            What to draw: a function of :mod:`torchstrata.plots`. ``"tuning"`` and ``"settings"`` take each setting of a
            grid as a trial.
        x, color : str, optional
            Grid columns, for scores.
        task : str, optional
            One task; all by default.
        width : float
            Inches.
        **settings
            Of that function: ``level``, ``against``, ``bins``, ``costs``, ``columns``, ...

        Returns
        -------
        Plot
            The drawing, and in ``table`` the numbers it shows.

        Raises
        ------
        ConfigError
            If a name is unknown, or a setting is for another kind.
        """
        if kind not in leaderboards.KINDS:
            raise ConfigError(f"Unknown kind of plot {kind!r}. {did_you_mean(kind, leaderboards.KINDS)}")
        if kind != "scores" and (x or color):
            raise ConfigError(f"x= and color= choose grid columns of kind='scores'; kind={kind!r} has no use for them.")
        if measure is not None and kind in leaderboards.OF_PREDICTIONS:
            raise ConfigError(f"kind={kind!r} draws predictions and takes no measure; got {measure!r}.")
        table, given = self._to_draw(kind, measure, task)
        chosen = {name: value for name, value in (("x", x), ("color", color)) if value is not None}
        return leaderboards.draw(kind, table, given | chosen | {"width": width}, settings)

    def _to_draw(self: Any, kind: str, measure: str | None, task: str | None) -> tuple[pd.DataFrame, dict[str, Any]]:
        """Return the table that a kind of plot draws, and what it needs to know."""
        common = {"grid": self.grid_columns}
        about = self._facts["tasks"]
        if kind == "learning_curves":
            return self._of_task("history", task), {"measure": measure or "loss", **common}
        if kind == "confusion":
            return self._predictions(task), {"classes": {t: a.get("classes") for t, a in about.items()}, **common}
        if kind in leaderboards.OF_PREDICTIONS:
            positive = {name: each.get("positive") for name, each in about.items()}
            ratio = fold_ratios(self._tables["splits"])
            return self._predictions(task), {"positive": positive, "ratio": ratio, **common}
        measure = self._measure(measure)
        if kind == "critical_difference":
            if task is not None:
                raise ConfigError(f"kind='critical_difference' ranks learners over all tasks; got task={task!r}.")
            return self.ranks(measure), {}
        if kind in ("tuning", "settings"):
            return self._trials(measure, task), {"measure": measure, "greater": greater_is_better(measure)}
        table = self._rows(None)
        table = table if task is None else only(table, "task", task)
        if kind == "differences" and soak.conditions(table):
            return self._by_condition(table, measure)
        return table, {"measure": measure, "ratio": fold_ratios(self._tables["splits"]), **common}

    def _predictions(self: Any, task: str | None) -> pd.DataFrame:
        """Return the predictions with how many folds there are of each learner, and which ones are a fallback's."""
        table, ended = self._of_task("predictions", task), self._tables["statuses"]
        return cells.filled(cells.with_folds(table, ended), ended)

    def _by_condition(self: Any, table: pd.DataFrame, measure: str) -> tuple[pd.DataFrame, dict[str, Any]]:
        """Give each condition of SameOther a panel: learners are compared where they saw the same rows."""
        columns = soak.conditions(table)
        told = table[columns].astype(str).agg(", ".join, axis="columns")
        ratio = fold_ratios(self._tables["splits"])
        named = table.assign(task=table["task"].astype(str) + ", " + told)
        splits = zip(named["task"], table["task"], table["fold"], strict=True)
        ratios = {(name, fold): ratio[str(task), fold] for name, task, fold in splits}
        grid = [c for c in self.grid_columns if c not in columns]
        return named.drop(columns=columns), {"measure": measure, "ratio": ratios, "grid": grid}

    def _trials(self: Any, measure: str, task: str | None) -> pd.DataFrame:
        """Take each setting of a grid as a trial: its mean over folds."""
        grid = self.grid_columns
        means = self.aggregate(measure)
        means = means if task is None else only(means, "task", task)
        sizes = means.groupby(["task", "learner"])["mean"].transform("size")
        if not grid or not (sizes > 1).any():
            raise ConfigError(
                "No learner of this result comes in several settings; make them with ts.grid(learner, ...)."
            )
        several = means[sizes > 1]
        return several[["task", *grid, "note"]].assign(label=several["learner"], value=several["mean"])

    def to_rich(self: Any, measures: str | Sequence[str] | None = None) -> Table:
        """Make the leaderboard for a terminal, the best in bold green.

        Parameters
        ----------
        measures : str or sequence of str, optional
            As in :meth:`leaderboard`.

        Returns
        -------
        rich.table.Table
            Print it with rich.
        """
        return leaderboards.rich_table(self.leaderboard(measures), grid=self.grid_columns)

    def to_markdown(self: Any, measures: str | Sequence[str] | None = None) -> str:
        """Write the leaderboard as Markdown, one table a task, the best in bold.

        Parameters
        ----------
        measures : str or sequence of str, optional
            As in :meth:`leaderboard`.

        Returns
        -------
        str
            Tables as GitHub and pandoc read them; names are escaped.
        """
        return markup.to_markdown(self.leaderboard(measures), grid=self.grid_columns)

    def to_latex(
        self: Any,
        measures: str | Sequence[str] | None = None,
        *,
        caption: str | None = None,
        label: str | None = None,
    ) -> str:
        r"""Write the leaderboard as a LaTeX table with the rules of booktabs, the best in bold.

        Parameters
        ----------
        measures : str or sequence of str, optional
            As in :meth:`leaderboard`.
        caption, label : str, optional
            With either, the tabular stands in a floating ``table``. Both are LaTeX already.

        Returns
        -------
        str
            Names are escaped; needs ``\usepackage{booktabs}``.
        """
        board = self.leaderboard(measures)
        return markup.to_latex(board, grid=self.grid_columns, caption=caption, label=label)

    def report(
        self: Any,
        path: str | Path = "report.html",
        *,
        title: str | None = None,
        composition: pd.DataFrame | None = None,
    ) -> Path:
        """Write everything as one HTML page that opens without a network.

        Parameters
        ----------
        path : str or Path
            The file; its folder is made where it does not exist.
        title : str, optional
            Heading of the page; names the tasks by default.
        composition : DataFrame, optional
            What ``sampler.composition(strata)`` returns, to be drawn too.

        Returns
        -------
        Path
            The file.

        Raises
        ------
        ConfigError
            If there are no scores, or the path is a folder.
        """
        report = importlib.import_module("torchstrata.experiment.report")  # which knows this class
        return report.write_report(self, path, title=title, composition=composition)

    def _repr_html_(self: Any) -> str:
        return leaderboards.html_table(self.leaderboard(), grid=self.grid_columns) if self.measures else repr(self)
