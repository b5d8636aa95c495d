"""Splitters that scikit-learn lacks; they are scikit-learn splitters and may be given as ``cv=`` wherever those may.

A splitter that looks at columns of a task beside target, strata and groups has a method ``plan_splits(task)``, which
:func:`torchstrata.benchmark` prefers to ``split``; what it tells of a split stands in the table ``result.splits``.
"""

from __future__ import annotations

import numbers
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from sklearn.model_selection import BaseCrossValidator
from sklearn.utils import check_random_state

from torchstrata.data.rows import table_column
from torchstrata.data.task import Task
from torchstrata.errors import ConfigError, DataError, did_you_mean
from torchstrata.experiment.same_other import SameOther
from torchstrata.experiment.splitting import (
    PlannedSplit,
    codes_of,
    column_of,
    n_rows,
    plain_label,
    several,
    to_balance,
    whole_number,
)

__all__ = ["Bootstrap", "FromColumn", "InSample", "SameOther"]


class Bootstrap(BaseCrossValidator):
    """Draw the training rows with replacement; the rows never drawn are tested.

    About 63 % of the rows train, some of them several times (``n_distinct`` in ``result.splits`` counts them once), and
    37 % are tested. With ``groups`` whole groups are drawn, so none is in both parts. A learner of this library keeps
    the copies of a row together when it splits off rows to validate; other learners with an early stopping of their own
    do not, and then stop too late.

    Parameters
    ----------
    n_repeats : int
        How many splits.
    size : float
        Rows drawn, as a share of all rows (or groups).
    stratify : bool
        Whether to draw within classes and strata, which keeps their counts, and to draw again where no row of one with
        at least two rows would be tested.
    random_state : int, RandomState or None
        Seed.

    Raises
    ------
    ConfigError
        If a setting cannot work.

    References
    ----------
    Efron and Tibshirani (1993), An Introduction to the Bootstrap, chapter 17.

    Examples
    --------
    >>> train, test = next(Bootstrap(1).split(np.zeros((6, 1)), [0, 0, 0, 1, 1, 1]))
    >>> len(train), sorted({*train.tolist(), *test.tolist()})
    (6, [0, 1, 2, 3, 4, 5])
    """

    __metadata_request__split = {"groups": True}  # noqa: RUF012 - scikit-learn reads it off the class

    def __init__(self, n_repeats: int = 25, *, size: float = 1.0, stratify: bool = True, random_state: Any = 0):
        self.n_repeats = whole_number(n_repeats, 1, "n_repeats")
        if isinstance(size, bool) or not isinstance(size, numbers.Real) or not 0 < float(size) < np.inf:
            raise ConfigError(f"size must be a share of the rows above 0, such as 1.0; got {size!r}")
        self.size: float = size
        self.stratify: bool = stratify
        self.random_state: Any = random_state

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        """Return the number of splits; the arguments are not looked at."""
        return self.n_repeats

    def split(self, X: Any, y: Any = None, groups: Any = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield training and test rows.

        Parameters
        ----------
        X : array-like of shape (n, ...)
            Only its length matters.
        y : array-like of shape (n,), optional
            Classes to be drawn within.
        groups : array-like of shape (n,), optional
            Groups that are drawn as a whole.

        Yields
        ------
        train, test : ndarray of int
            Sorted; training rows repeat.
        """
        n = n_rows(X)
        units = np.arange(n) if groups is None else codes_of(groups, where="groups")
        n_units = int(units.max()) + 1
        if n_units < 2:
            raise DataError(f"Bootstrap needs at least 2 {'rows' if groups is None else 'groups'}, got {n_units}")
        by = to_balance(y) if self.stratify else None
        strata = np.zeros(n_units, dtype=np.int64) if by is None else _label_of_units(units, by, n_units)
        rng = check_random_state(self.random_state)
        for _ in range(self.n_repeats):
            drawn = np.bincount(_draw(strata, self.size, rng), minlength=n_units)
            times = drawn[units]
            yield np.repeat(np.arange(n), times), np.flatnonzero(times == 0)


def _label_of_units(units: np.ndarray, by: np.ndarray, n_units: int) -> np.ndarray:
    """Give each group its most common label."""
    counts = np.zeros((n_units, int(by.max()) + 1))
    np.add.at(counts, (units, by), 1)
    return counts.argmax(axis=1)


def _draw(strata: np.ndarray, size: float, rng: np.random.RandomState) -> np.ndarray:
    drawn = []
    for label in np.unique(strata):
        members = np.flatnonzero(strata == label)
        n = max(1, round(size * len(members)))
        chosen = rng.choice(members, n)
        for _ in range(1000 if len(members) > 1 else 0):
            if len(np.unique(chosen)) < len(members):
                break
            chosen = rng.choice(members, n)
        drawn.append(chosen)
    return np.concatenate(drawn)


class InSample(BaseCrossValidator):
    """Train and test on all rows: for looking at what a learner can memorise, never for comparing learners.

    The scores say how well a learner remembers its training rows. :func:`torchstrata.benchmark` warns of that, and
    ``result.splits`` has a column ``in_sample``.

    Examples
    --------
    >>> [(train.tolist(), test.tolist()) for train, test in InSample().split(np.zeros(3))]
    [([0, 1, 2], [0, 1, 2])]
    """

    overlaps = True

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        """Return 1."""
        return 1

    def split(self, X: Any, y: Any = None, groups: Any = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield all rows, twice.

        Parameters
        ----------
        X : array-like of shape (n, ...)
            Only its length matters.
        y, groups : object
            Not looked at.

        Yields
        ------
        train, test : ndarray of int
            All rows.
        """
        n = n_rows(X)
        yield np.arange(n), np.arange(n)

    def plan_splits(self, task: Task) -> list[PlannedSplit]:
        """Return the one split of a task, marked."""
        rows = np.arange(task.n_rows)
        return [PlannedSplit(rows, rows, {"in_sample": True})]


class FromColumn(BaseCrossValidator):
    """Splits that a column of the table prescribes: each of its values is tested once, the others train.

    The column must not be a feature, for it would tell learners which rows are tested: give it a role (``subset=``), or
    leave it out of ``features=``. Rows where it is missing, or -1 in a column of whole numbers, always train, as in
    scikit-learn's PredefinedSplit.

    Parameters
    ----------
    column : str
        Name of the column, in the task's table or in X.
    test : object or list, optional
        Values that are tested, one split each. Default: all.
    train : object or list, optional
        Values that train. Default: all but the one tested.

    Raises
    ------
    ConfigError
        If ``column`` is no name, or a value is to train and to be tested in the same split.

    Examples
    --------
    >>> import torchstrata as ts
    >>> frame = pd.DataFrame({"x": [1.0, 2.0, 3.0, 4.0], "y": [0.5, 1.5, 2.5, 3.5], "year": [1, 1, 2, 3]})
    >>> task = ts.Task(frame, target="y", subset="year")
    >>> [split.test.tolist() for split in FromColumn("year").plan_splits(task)]
    [[0, 1], [2], [3]]
    """

    def __init__(self, column: str, *, test: Any = None, train: Any = None):
        if not isinstance(column, str):
            raise ConfigError(
                f"FromColumn needs the name of a column, got {type(column).__name__}; for an array of folds use "
                "sklearn.model_selection.PredefinedSplit"
            )
        self.column, self.test, self.train = column, test, train
        both = set(several(test) or ()) & set(several(train) or ())
        if both:
            raise ConfigError(f"FromColumn({column!r}): {both.pop()!r} cannot be both train= and test=")

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        """Return the number of values that are tested; X is needed where ``test`` is not given."""
        if self.test is not None:
            return len(several(self.test) or ())
        return len(list(self.split(X)))

    def split(self, X: Any, y: Any = None, groups: Any = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield training and test rows.

        Parameters
        ----------
        X : DataFrame
            Has the column.
        y, groups : object
            Not looked at.

        Yields
        ------
        train, test : ndarray of int
            Sorted.
        """
        for split in self._splits(column_of(X, self.column, "FromColumn")):
            yield split.train, split.test

    def plan_splits(self, task: Task) -> list[PlannedSplit]:
        """Return the splits of a task, with the value tested as ``test_subset``."""
        where = f"task {task.name!r}, cv={self!r}"
        roles = [role for role, names in task.roles.given().items() if self.column in names]
        if self.column in task.feature_names and not roles:
            raise ConfigError(
                f"{where}: {self.column!r} is a feature, which tells learners what is tested. Give it a role, "
                f"task.with_roles(subset={self.column!r}), or leave it out of features="
            )
        return list(self._splits(table_column(task, self.column, where=where), where))

    def _splits(self, values: pd.Series, where: str = "FromColumn") -> Iterator[PlannedSplit]:
        always = values.isna() | (values == -1 if pd.api.types.is_integer_dtype(values) else False)
        known = list(pd.unique(values[~always].sort_values(kind="stable")))
        tested, training = several(self.test), several(self.train)
        for value in [*(tested or ()), *(training or ())]:
            if value not in known:
                raise DataError(f"{where}: {self.column!r} has no value {value!r}. {did_you_mean(value, known)}")
        for value in known if tested is None else tested:
            test = (values == value).to_numpy(dtype=bool, na_value=False)
            train = ~test if training is None else (values.isin(training) | always).to_numpy() & ~test
            yield PlannedSplit(np.flatnonzero(train), np.flatnonzero(test), {"test_subset": plain_label(value)})
