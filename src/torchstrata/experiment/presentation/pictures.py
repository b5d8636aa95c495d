"""The sections of a report that show pictures: each a chart to touch, and a picture of it for print."""

from __future__ import annotations

from typing import Any

import pandas as pd

from torchstrata.errors import DataError
from torchstrata.experiment.presentation import chart_data, leaderboards
from torchstrata.experiment.presentation.page import Html, details, figure, join, tag
from torchstrata.experiment.presentation.verdict import write_interval, write_list
from torchstrata.experiment.result import BenchmarkResult
from torchstrata.experiment.statistics.soak import conditions
from torchstrata.plots.measures import COST_MEASURES, decimals, greater_is_better
from torchstrata.plots.tables import is_missing, with_label, write_value

_ROWS, _PANELS, _TASKS = 60, 12, 6  # what the pictures of a page hold at most

_SCORES = (
    "{} by task. Small circles: folds. Dot and bar: mean and 95 % interval, corrected for overlapping training sets. "
    "Dotted line: the best mean."
)
_DIFFERENCES = (
    "{} of each learner minus that of the best one of its task, on the same folds. Small circles: folds. Dot and bar: "
    "mean and corrected 95 % interval. The line is at 0: no difference."
)
_CURVES = (
    "Loss by epoch. Dashed: training; solid: validation; thick: their mean while all folds still train; thin, in the "
    "picture: single folds. Dots: the best epoch of a fold, in the chart the mean of these; dotted line: that mean, "
    "rounded up."
)
_ROC = (
    "Mean ROC curve over folds, averaged vertically, with a 95 % band (in the chart, of up to three learners); AUC "
    "with its interval."
)
_PR = (
    "Mean precision over folds at each recall, with a 95 % band; AP is average precision, with its interval. Dashed, "
    "in the picture: the share of positive rows, which a ranking without information reaches."
)
_CALIBRATION = (
    "How often rows of a given predicted probability are positive: mean over folds with a 95 % band, in ten equal "
    "bins; on the diagonal, probabilities mean what they say. Grey bars: how many rows. With more than two classes: "
    "the probability of the predicted class."
)
_CONFUSION = "Test rows of all folds: their number, and the share of their true class, which is the colour."
_COST = (
    "Mean {} over what a fit took. Bar: 95 % interval. Line: learners that no other one beats in both. Times are of "
    "the machine named below and of fits beside each other."
)
_CD = (
    "Average rank of each learner over the tasks, 1 being the best; a bar joins learners that the Nemenyi test does "
    "not tell apart at 95 % (Demšar 2006). A rank says nothing of how large a difference is."
)
_TUNING = "Mean {} of each setting of a grid, in its order; line: the best so far."
_SETTINGS = "Each line is a setting of a grid, coloured by its mean {}."
_COMPOSITION = "Rows of each stratum in the batches of one epoch, the smallest stratum at the bottom."


class Pictures:
    """Draws the sections of one report, and remembers what its charts show.

    Parameters
    ----------
    result : BenchmarkResult
        A result with scores.

    Attributes
    ----------
    charts : dict
        Name to what :func:`torchstrata.experiment.presentation.chart_data.write_data` takes.
    order : list of str
        Labels of all learners, the best of the first measure first.
    """

    def __init__(self, result: BenchmarkResult):
        self.result, self.charts = result, dict[str, dict[str, Any]]()
        self.measure = result.measures[0]
        means = with_label(result.aggregate(self.measure), grid=result.grid_columns)
        ranks = means.groupby("task")["mean"].rank(ascending=not greater_is_better(self.measure), na_option="bottom")
        mean_rank = ranks.groupby(means["label"].astype(str), sort=False).mean()
        self.order = [str(label) for label in mean_rank.sort_values(kind="stable").index]
        self.tasks = [str(task) for task in result.scores["task"].unique()]

    def scores(self) -> Html:
        """Draw every measure that is no cost; the first is open.

        Returns
        -------
        Html
            Figures.
        """
        names = [m for m in self.result.measures if greater_is_better(m) or m == self.measure]
        parts = []
        for i, name in enumerate(names):
            drawn = self._rows("scores", f"scores{i}", name, _SCORES.format(name))
            parts.append(drawn if i == 0 else details(f"The same for {name}", drawn))
        return join(parts)

    def differences(self) -> Html | str:
        """Draw the differences to the best learner.

        Returns
        -------
        Html or str
            A figure; empty where there is one learner.
        """
        if len(self.order) < 2:
            return ""
        return self._rows("differences", "differences", self.measure, _DIFFERENCES.format(self.measure))

    def _rows(self, kind: str, name: str, measure: str, caption: str) -> Html:
        table, given = self._table(kind, measure)
        most = max(3, _ROWS // min(_TASKS, len(self.tasks)))
        zero = kind == "differences"
        everything = leaderboards.draw(kind, table, given, {})
        self.charts[name] = chart_data.rows(
            everything.table, name=f"difference in {measure}" if zero else measure, zero=zero
        )
        few = self._few(table, most)
        drawn = everything if len(few) == len(table) else leaderboards.draw(kind, few, given, {})
        return figure(drawn, name=name, caption=caption + self._cut(most), interactive=True)

    def learning_curves(self) -> Html | str:
        """Draw the loss by epoch.

        Returns
        -------
        Html or str
            A figure; empty where no learner has a history of losses.
        """
        history = self.result.history
        if not any(c in history and history[c].notna().any() for c in ("train_loss", "valid_loss")):
            return ""

        def chart(table: pd.DataFrame) -> dict[str, Any]:
            # as in the picture, a mean over fewer folds would jump for no reason but that
            whole = table[table["n"] == table["folds"]]
            part = whole["part"].where(whole["part"] == "train", "validation")
            validated = (part == "validation").groupby([whole["task"], whole["label"]]).transform("any")
            whole = whole.assign(part=part, best=whole["best"] & ((part == "validation") | ~validated))
            last = whole["mean"].quantile(0.99)
            limits = [float(whole["mean"].min()), float(last)] if whole["mean"].max() > 4 * last > 0 else None
            return chart_data.curves(whole, x="epoch", y="mean", names=("epoch", "loss"), limits=limits)

        return self._figure("learning_curves", "curves", _CURVES, chart, measure="loss")

    def roc(self) -> Html | str:
        """Draw ROC curves.

        Returns
        -------
        Html or str
            A figure; empty where no task has two classes.
        """
        return self._ranking("roc", ("fpr", "tpr", "auc"), ("false positive rate", "true positive rate"), _ROC)

    def precision_recall(self) -> Html | str:
        """Draw precision over recall.

        Returns
        -------
        Html or str
            A figure; empty where no task has two classes.
        """
        return self._ranking("precision_recall", ("recall", "precision", "ap"), ("recall", "precision"), _PR)

    def _ranking(self, kind: str, columns: tuple[str, str, str], names: tuple[str, str], caption: str) -> Html | str:
        predictions = self.result.predictions
        if "score" not in predictions or not predictions["score"].notna().any():
            return ""
        x, y, area = columns

        def chart(table: pd.DataFrame) -> dict[str, Any]:
            notes = _told(table, area, area.upper())
            return chart_data.curves(
                table, x=x, y=y, names=names, notes=notes, square=True, band=True, diagonal=kind == "roc"
            )

        return self._figure(kind, kind.replace("_", ""), caption, chart)

    def calibration(self) -> Html | str:
        """Draw how reliable probabilities are.

        Returns
        -------
        Html or str
            A figure; empty where no learner gives probabilities.
        """
        predictions = self.result.predictions
        if not any(str(c).startswith("prob_") and predictions[c].notna().any() for c in predictions):
            return ""

        def chart(table: pd.DataFrame) -> dict[str, Any]:
            notes = [f"{n} rows; {brier}" for n, brier in zip(table["rows"], _told(table, "brier", "Brier score"),
                                                               strict=True)]  # fmt: skip
            names = ("predicted probability", "share that came true")
            flags = dict.fromkeys(("square", "band", "diagonal", "dots"), True)
            return chart_data.curves(table, x="predicted", y="observed", names=names, notes=notes, **flags)

        return self._figure("calibration", "calibration", _CALIBRATION, chart)

    def confusion(self) -> Html | str:
        """Draw confusion matrices.

        Returns
        -------
        Html or str
            A figure; empty where no task has classes, or one has too many to be seen.
        """
        kinds = {str(about.get("kind")) for about in self.result.tasks.values()}
        if not len(self.result.predictions) or kinds != {"classification"}:
            return ""
        try:
            return self._figure("confusion", "confusion", _CONFUSION, chart_data.cells)
        except DataError as error:  # more classes than a picture shows
            return tag("p", error, class_="note")

    def critical_difference(self) -> Html | str:
        """Draw average ranks.

        Returns
        -------
        Html or str
            A figure; empty below three tasks, or where less than two learners have all folds.
        """
        if len(self.tasks) < 3 or len(self.order) < 2 or conditions(self.result.scores):
            return ""
        try:
            ranks = self.result.ranks(self.measure, incomplete="learners")
        except DataError:
            return ""
        left = [label for label in self.order if label not in set(ranks["learner"])]
        without = f" Left out, because folds are missing: {write_list(left)}." if left else ""
        return figure(leaderboards.draw("critical_difference", ranks, {}, {}), name="ranks", caption=_CD + without)

    def cost(self) -> Html | str:
        """Draw scores over costs.

        Returns
        -------
        Html or str
            A figure; empty where no cost is known.
        """
        scores = self.result.scores
        known = scores.loc[scores["value"].notna(), "measure"].unique()
        costs = [name for name in ("fit_seconds", "epochs") if name in known]
        if not costs or self.measure in COST_MEASURES or scores["value"].isna().all():
            return ""
        parts: list[Html] = []
        table, given = self._table("cost", self.measure)
        for name in costs:
            each = leaderboards.draw("cost", table, given, {"costs": (name,)})
            spent, here = each.table["spent"], f"cost{len(parts)}"
            log = bool(spent.min() > 0 and spent.max() / spent.min() >= 10)
            axis = {"fit_seconds": "seconds of a fit", "epochs": "epochs of a fit"}[name]
            self.charts[here] = chart_data.points(each.table, x="spent", y="mean", names=(axis, self.measure), log=log)
            drawn = each
            if each.table["label"].nunique() > 24:  # of those that have this cost
                few = self._few(table[table["learner"].isin(each.table["label"])], 24)
                drawn = leaderboards.draw("cost", few, given, {"costs": (name,)})
            caption = f"The same over {axis}." if parts else _COST.format(self.measure) + self._cut(24)
            parts.append(figure(drawn, name=here, caption=caption, interactive=True))
        return join(parts)

    def tuning(self) -> Html | str:
        """Draw the settings of grids as trials.

        Returns
        -------
        Html or str
            Figures; empty where no learner has more than two settings.
        """
        scores = self.result.scores
        settings = scores.drop_duplicates(["learner", *self.result.grid_columns]).groupby("learner").size()
        if not self.result.grid_columns or settings.max() < 3:
            return ""
        drawn = self.result.plot(kind="tuning")
        known = [c for c in drawn.table if c not in ("task", "label", "trial", "value", "best", "note")]
        settings_ = drawn.table[known].itertuples(index=False, name=None)
        told = [[f"{c}={write_value(v)}" for c, v in zip(known, row, strict=True) if not is_missing(v)]
                for row in settings_]  # fmt: skip
        notes = [", ".join([*row, *filter(None, [note])]) for row, note in zip(told, drawn.table["note"], strict=True)]
        table = drawn.table.assign(note=notes)
        self.charts["tuning"] = chart_data.points(table, x="trial", y="value", names=("trial", self.measure), best=True)
        parts = [figure(drawn, name="tuning", caption=_TUNING.format(self.measure), interactive=True)]
        if len(table.drop_duplicates(["task", "label"])) <= _TASKS:
            plot = self.result.plot(kind="settings")
            parts.append(figure(plot, name="settings", caption=_SETTINGS.format(self.measure)))
        return join(parts)

    def composition(self, table: pd.DataFrame | None) -> Html | str:
        """Draw what the batches hold.

        Parameters
        ----------
        table : DataFrame or None
            What ``sampler.composition(strata)`` returns; the first forty batches are drawn.

        Returns
        -------
        Html or str
            A figure; empty without a table.
        """
        if table is None:
            return ""
        from torchstrata import plots

        return figure(plots.composition(table.head(40)), name="composition", caption=_COMPOSITION)

    def _table(self, kind: str, measure: str | None) -> tuple[pd.DataFrame, dict[str, Any]]:
        """Return what a kind of plot draws, with labels as learners: they stay the same when some are left out."""
        table, given = self.result._to_draw(kind, measure, None)
        grid = [c for c in given.get("grid", []) if c in table]
        named = with_label(table, grid=grid)
        return named.assign(learner=named["label"]).drop(columns=["label", *grid]), given | {"grid": []}

    def _few(self, table: pd.DataFrame, most: int, tasks: int = _TASKS) -> pd.DataFrame:
        """Keep the best learners and the first tasks."""
        named = list(table["learner"].unique())
        # differences within SameOther's conditions have labels of their own
        best = ([label for label in self.order if label in set(named)] or named)[:most]
        return table[table["learner"].isin(best) & table["task"].isin(list(table["task"].unique())[:tasks])]

    def _figure(self, kind: str, name: str, caption: str, chart: Any, measure: str | None = None) -> Html:
        table, given = self._table(kind, measure)
        most = max(2, _PANELS // min(_TASKS, len(self.tasks)))
        touched = self._few(table, chart_data.CURVES, tasks=len(self.tasks))
        drawn = leaderboards.draw(kind, touched, given, {})
        self.charts[name] = chart(drawn.table)
        few = self._few(table, most)
        drawn = drawn if len(few) == len(touched) else leaderboards.draw(kind, few, given, {})
        n = len(set(table["learner"]))
        shown = f" The chart has the best {chart_data.CURVES} of {n} learners." if n > chart_data.CURVES else ""
        return figure(drawn, name=name, caption=caption + shown + self._cut(most, n), interactive=True)

    def _cut(self, most: int, n: int | None = None) -> str:
        """Say what a picture leaves out."""
        n = len(self.order) if n is None else n
        parts = [f"the best {most} of {n} learners"] if n > most else []
        parts += [f"the first {_TASKS} of {len(self.tasks)} tasks"] if len(self.tasks) > _TASKS else []
        return f" In print: {' and '.join(parts)}." if parts else ""


def _told(table: pd.DataFrame, area: str, name: str) -> list[str]:
    """Write an area with its interval, one text a row."""
    digits = decimals(table[area])
    firsts = table.drop_duplicates(["task", "label"])
    texts = {
        (
            row["task"],
            row["label"],
        ): f"{name} {write_interval(row[area], row[f'{area}_low'], row[f'{area}_high'], digits)}"
        + (f" ({row['note']})" if row["note"] else "")
        for row in firsts.to_dict("records")
    }
    return [texts[key] for key in zip(table["task"], table["label"], strict=True)]
