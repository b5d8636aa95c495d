"""BenchmarkResult: what a benchmark found, as long tables.

Neither torch nor matplotlib is imported here, so a result can be read where they are not installed.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from torchstrata.errors import ConfigError, DataError, did_you_mean
from torchstrata.experiment import archive, cells, combine
from torchstrata.experiment.presentation import leaderboards
from torchstrata.experiment.presentation.presenting import Presenting
from torchstrata.experiment.statistics import soak, summary
from torchstrata.experiment.statistics.comparing import Comparing, ratios
from torchstrata.experiment.storage.stored import load_store
from torchstrata.experiment.store import Store
from torchstrata.plots.measures import greater_is_better
from torchstrata.plots.tables import grid_columns, need_columns, only

_KEYS = ("task", "learner", "fold")
_NEEDED = {
    "scores": (*_KEYS, "measure", "value"),
    "history": (*_KEYS, "epoch"),
    "predictions": (*_KEYS, "row", "truth", "predicted"),
    "errors": (*_KEYS, "status", "error", "message", "traceback"),
    "splits": ("task", "fold", "n_train", "n_test"),
    "statuses": (*_KEYS, *cells.COLUMNS),
}


class BenchmarkResult(Comparing, Presenting):
    """What a benchmark found: long tables with common keys, and methods that make statements of them.

    A value: nothing changes it, and every table it hands out is a copy.

    Parameters
    ----------
    scores : DataFrame
        task, learner, fold, grid columns, measure, value. One row a measure of a cell; NaN where the cell failed.
        scikit-learn's scorer names (greater is better) and the costs ``fit_seconds``, ``predict_seconds``, ``epochs``
        and ``best_epoch``.
    history : DataFrame, optional
        The same keys, epoch, train_loss, valid_loss, ``train_<measure>``, ``valid_<measure>``, lr, seconds, best.
    predictions : DataFrame, optional
        The same keys, row, truth, predicted, score (larger means the positive class), ``prob_<class>``.
    errors : DataFrame, optional
        The same keys, status, error, message, traceback; one row a failed cell.
    splits : DataFrame
        task, fold, n_train, n_test: what the correction of the intervals needs; and what a splitter adds.
    statuses : DataFrame, optional
        The same keys, status, seconds, attempts, fallback, message; one row a cell. By default what the scores tell.
    tasks : mapping
        Task to its description: kind, n_rows, n_features, classes, positive, class_counts, missing, target,
        fingerprint.
    learners : mapping
        Learner to its settings as text.
    info : mapping
        Versions, seed, threads, device, started, seconds, command.

    Raises
    ------
    DataError
        If a table lacks a column, a cell has a measure twice, or the splits of a task are missing.
    """

    def __init__(
        self,
        scores: pd.DataFrame,
        *,
        history: pd.DataFrame | None = None,
        predictions: pd.DataFrame | None = None,
        errors: pd.DataFrame | None = None,
        splits: pd.DataFrame | None = None,
        statuses: pd.DataFrame | None = None,
        tasks: Mapping[str, Mapping[str, Any]] | None = None,
        learners: Mapping[str, str] | None = None,
        info: Mapping[str, Any] | None = None,
    ):
        given = {
            "scores": scores, "history": history, "predictions": predictions, "errors": errors, "splits": splits,
        }  # fmt: skip
        self._tables = {name: _table(name, table) for name, table in given.items()}
        self._tables["statuses"] = _table("statuses", cells.statuses(self._tables) if statuses is None else statuses)
        self._facts = {"tasks": archive.plain(tasks or {}), "learners": archive.plain(learners or {}),
                       "info": archive.plain(info or {})}  # fmt: skip
        self._check()

    def _check(self) -> None:
        keys = [*_KEYS, *self.grid_columns, "measure"]
        twice = self._tables["scores"].duplicated(keys)
        if twice.any():
            row = self._tables["scores"].loc[twice, keys].iloc[0].to_dict()
            raise DataError(f"The scores have a measure of a cell twice: {row}. Expected one row each.")
        for task in self._tables["scores"]["task"].unique():
            if task not in set(self._tables["splits"]["task"]):
                raise DataError(
                    f"The splits have no row for task {task!r}; intervals need the number of rows that train and test. "
                    + did_you_mean(task, self._tables["splits"]["task"].unique())
                )

    @property
    def scores(self) -> pd.DataFrame:
        """Scores of every fold: task, learner, fold, grid columns, measure, value."""
        return self._tables["scores"].copy()

    @property
    def history(self) -> pd.DataFrame:
        """What happened in every epoch."""
        return self._tables["history"].copy()

    @property
    def predictions(self) -> pd.DataFrame:
        """What was predicted for every test row."""
        return self._tables["predictions"].copy()

    @property
    def errors(self) -> pd.DataFrame:
        """The cells that failed, with traceback."""
        return self._tables["errors"].copy()

    @property
    def statuses(self) -> pd.DataFrame:
        """How every cell ended: status (``docs/failures.md``), seconds, attempts, fallback, message."""
        return self._tables["statuses"].copy()

    @property
    def splits(self) -> pd.DataFrame:
        """How many rows trained and tested in every fold."""
        return self._tables["splits"].copy()

    @property
    def tasks(self) -> dict[str, dict[str, Any]]:
        """Task to its description."""
        return archive.plain(self._facts["tasks"])

    @property
    def learners(self) -> dict[str, str]:
        """Learner to its settings as text."""
        return dict(self._facts["learners"])

    @property
    def info(self) -> dict[str, Any]:
        """How the result came about."""
        return archive.plain(self._facts["info"])

    @property
    def grid_columns(self) -> list[str]:
        """Columns that tell the cells of a learner apart: settings that were varied, and SameOther's conditions."""
        return grid_columns(self._tables["scores"])

    @property
    def measures(self) -> list[str]:
        """Measures that were taken, costs last."""
        names = list(self._tables["scores"]["measure"].unique())
        return [m for m in names if greater_is_better(m)] + [m for m in names if not greater_is_better(m)]

    def aggregate(
        self, measure: str | None = None, *, by: str | Sequence[str] | None = None, level: float = 0.95
    ) -> pd.DataFrame:
        """Mean over folds with a confidence interval.

        The interval knows that training sets overlap: the variance of the mean is ``(1/n + n_test/n_train) * s**2``
        (Nadeau and Bengio 2003), compared with Student's t. It is clipped to the range of the measure.

        Parameters
        ----------
        measure : str, optional
            One measure; all by default.
        by : str or sequence of str, optional
            Columns that make a row, instead of task, learner and the grid columns. Rows then pool everything else;
            an interval over several tasks describes these tasks, not others.
        level : float
            Level of confidence.

        Returns
        -------
        DataFrame
            Keys, measure, mean, std, n (folds with a value), folds (all), low, high, and note: where folds failed, the
            mean is one of the others, and the note says so.

        Raises
        ------
        ConfigError
            If the measure or a column is unknown, or the level is not between 0 and 1.
        """
        if not 0 < level < 1:
            raise ConfigError(f"level must lie between 0 and 1, as 0.95 does; got {level!r}.")
        keys = ["task", "learner", *self.grid_columns] if by is None else [by] if isinstance(by, str) else list(by)
        known = [*_KEYS, *self.grid_columns, "measure"]
        for name in keys:
            if name not in known:
                raise ConfigError(f"Cannot aggregate by {name!r}. {did_you_mean(name, known)}")
        rows, ratio = self._rows(measure), self._ratio()
        if set(soak.conditions(rows)) <= set(keys):
            found = [
                summary.aggregate(part, keys=keys, ratio=share, level=level) for part, share in self._parts(measure)
            ]
            return pd.concat(found, ignore_index=True) if len(found) > 1 else found[0]
        return summary.aggregate(rows, keys=keys, ratio=ratio, level=level)

    def leaderboard(self, measures: str | Sequence[str] | None = None) -> pd.DataFrame:
        """One row a learner and task, one text column a measure.

        Parameters
        ----------
        measures : str or sequence of str, optional
            The measures; by default all that are no cost, and ``fit_seconds``.

        Returns
        -------
        DataFrame
            task, learner, grid columns, measures as ``"0.912 [0.880, 0.944]"``, and best: the measures with the highest
            mean of the task, equal means included, among learners with as many folds as any other. The rows of a task
            are sorted by the first measure.

        Raises
        ------
        ConfigError
            If a measure is unknown.
        """
        if measures is None:
            names = [m for m in self.measures if greater_is_better(m) or m == "fit_seconds"] or self.measures
        else:
            names = [measures] if isinstance(measures, str) else list(measures)
        if not names:
            raise ConfigError("This result has no scores, so there is no leaderboard.")
        means = pd.concat([self.aggregate(name) for name in names], ignore_index=True)
        return summary.leaderboard(means, keys=["task", "learner", *self.grid_columns])

    def save(self, folder: str | Path, *, format: Literal["csv", "parquet"] = "csv") -> Path:
        """Write every table into a file of its own, and ``result.json`` beside them.

        Each file is replaced as a whole, ``result.json`` last. Values of settings other than None, booleans, numbers,
        text and tuples of these are kept as text.

        Parameters
        ----------
        folder : str or Path
            Made where it does not exist.
        format : {"csv", "parquet"}
            Parquet needs pyarrow.

        Returns
        -------
        Path
            The folder; :func:`load_result` reads it.
        """
        return archive.save_tables(folder, self._tables, facts=self._facts, format=format)

    def __add__(self, other: BenchmarkResult) -> BenchmarkResult:
        if not isinstance(other, BenchmarkResult):
            return NotImplemented
        grid = list(dict.fromkeys([*self.grid_columns, *other.grid_columns]))
        return BenchmarkResult(**combine.combine(self._tables, other._tables, self._facts, other._facts, grid=grid))

    def _measure(self, measure: str | None) -> str:
        if measure is None:
            if not self.measures:
                raise ConfigError("This result has no scores.")
            return self.measures[0]
        if measure not in self.measures:
            raise ConfigError(f"Unknown measure {measure!r}. {did_you_mean(measure, self.measures)}")
        return measure

    def _rows(self, measure: str | None) -> pd.DataFrame:
        scores = self._tables["scores"]
        rows = scores if measure is None else scores[scores["measure"] == self._measure(measure)]
        return cells.filled(rows, self._tables["statuses"])

    def _of_task(self, name: str, task: str | None) -> pd.DataFrame:
        table = self._tables[name]
        if not len(table):
            raise ConfigError(f"This result has no {name}, so they cannot be drawn.")
        return table if task is None else only(table, "task", task)

    def _ratio(self) -> dict[str, float]:
        return ratios(self._tables["splits"])

    def __repr__(self) -> str:
        return f"BenchmarkResult({leaderboards.one_line(self)})"


def _table(name: str, table: pd.DataFrame | None) -> pd.DataFrame:
    if table is None:
        return pd.DataFrame(columns=list(_NEEDED[name]))
    table = table.reset_index(drop=True).copy()
    if not len(table.columns):
        return pd.DataFrame(columns=list(_NEEDED[name]))
    need_columns(table, _NEEDED[name], f"The table {name!r}")
    for column in grid_columns(table) if name != "splits" else []:
        # groups are made by these columns: what cannot be a key is known by its text
        if table[column].dtype == object and not table[column].map(lambda v: isinstance(v, Hashable)).all():
            table[column] = table[column].map(lambda v: v if isinstance(v, Hashable) else repr(v)).astype(object)
    return table


def load_result(folder: str | Path) -> BenchmarkResult:
    """Read a result that was saved, or a store as it is now.

    Parameters
    ----------
    folder : str or Path
        What :meth:`BenchmarkResult.save` wrote, or ``benchmark(..., store=folder)``, finished or not.

    Returns
    -------
    BenchmarkResult
        Equal to the one saved, dtypes included. Of a store: all cells of its plans that belong together; one that is
        not there has NaN as scores and a row of the errors with status "missing" or "damaged", and ``info["store"]``
        counts them.

    Raises
    ------
    DataError
        If this is neither, a file of a saved result is missing or was changed, or a newer torchstrata wrote it.

    Warns
    -----
    UserWarning
        Naming every damaged file of a store.
    """
    if Store(folder).exists:
        return load_store(folder)
    tables, facts = archive.load_tables(folder)
    everything: dict[str, Any] = {**tables, **facts}
    return BenchmarkResult(**everything)
