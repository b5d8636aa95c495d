"""SameOther: do the subsets of a table follow one pattern? Train on the same, on the other, on all subsets.

After SOAK, Same/Other/All K-fold cross-validation: Hocking and others (2024), arXiv:2410.08643, and the R package
mlr3resampling. What is made of the scores is in soak.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from sklearn.model_selection import BaseCrossValidator, StratifiedGroupKFold, StratifiedKFold
from sklearn.utils import check_random_state

from torchstrata.data.rows import table_column
from torchstrata.data.task import Task
from torchstrata.errors import ConfigError, DataError, did_you_mean
from torchstrata.experiment.splitting import (
    PlannedSplit,
    classes_and_strata,
    codes_of,
    column_of,
    cross,
    n_rows,
    plain_label,
    several,
    to_balance,
    whole_number,
)

TRAIN_ON = ("same", "other", "all")


class SameOther(BaseCrossValidator):
    """Test on one subset at a time; train on the same subset, on the other subsets, and on all of them.

    All rows get one of ``n_splits`` folds, balanced by subset, class and strata; groups stay in one fold, so they are
    never in both parts. Every fold of every subset is tested by learners trained on the other folds of the same subset,
    of the other subsets, and of all subsets. If training on other subsets is as good as on the same one, the pattern is
    the same; if training on all is worse, it differs. ``result.same_other(measure)`` tests the differences.

    More rows alone make better scores. With ``sizes=0`` the larger training sets are also thinned to the rows of the
    smallest of the three, so that equal numbers of rows are compared ("equal" in the column ``size``), with ``sizes=2``
    moreover to ``ratio`` and ``ratio**2`` of that.

    Parameters
    ----------
    n_splits : int
        Folds.
    subset : str or array-like of shape (n,), optional
        Column of the table, or a label a row. Default: the task's role ``subset``.
    train_on : sequence of {"same", "other", "all"}
        What to train on.
    sizes : int, optional
        None: full training sets only; 0: also thinned to equal rows; k: and to k smaller sizes.
    ratio : float
        From one smaller size to the next.
    n_seeds : int
        How many random choices of rows for each thinned training set; their scores are averaged within a fold.
    random_state : int, RandomState or None
        Seed of the folds and the choices.

    Raises
    ------
    ConfigError
        If a setting cannot work.

    Examples
    --------
    >>> import torchstrata as ts
    >>> frame = pd.DataFrame({"x": np.arange(12.0), "y": np.arange(12) / 2, "person": ["ann", "bob", "bob"] * 4})
    >>> task = ts.Task(frame, target="y", subset="person")
    >>> splits = SameOther(2).plan_splits(task)
    >>> [(s.columns["test_subset"], s.columns["trained_on"], len(s.train), len(s.test)) for s in splits[:3]]
    [('ann', 'same', 2, 2), ('ann', 'other', 4, 2), ('ann', 'all', 6, 2)]
    """

    __metadata_request__split = {"groups": True}  # noqa: RUF012 - scikit-learn reads it off the class

    def __init__(
        self,
        n_splits: int = 3,
        *,
        subset: Any = None,
        train_on: Sequence[str] = TRAIN_ON,
        sizes: int | None = None,
        ratio: float = 0.5,
        n_seeds: int = 1,
        random_state: Any = 0,
    ):
        self.n_splits = whole_number(n_splits, 2, "n_splits")
        self.n_seeds = whole_number(n_seeds, 1, "n_seeds")
        self.sizes = sizes if sizes is None else whole_number(sizes, 0, "sizes")
        for name in several(train_on) or [None]:
            if name not in TRAIN_ON:
                raise ConfigError(f"train_on must name some of same, other, all; got {name!r}. "
                                  f"{did_you_mean(name, TRAIN_ON)}")  # fmt: skip
        if isinstance(ratio, bool) or not isinstance(ratio, int | float) or not 0 < ratio < 1:
            raise ConfigError(f"ratio must lie between 0 and 1, got {ratio!r}")
        self.subset, self.train_on, self.ratio, self.random_state = subset, train_on, ratio, random_state

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        """Return the number of splits, which depends on the subsets; X is needed."""
        return len(list(self.split(X, y, groups)))

    def split(self, X: Any, y: Any = None, groups: Any = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield training and test rows.

        Parameters
        ----------
        X : DataFrame or array of shape (n, ...)
            Has the column of subsets, unless ``subset`` holds a label a row.
        y : array-like of shape (n,), optional
            Classes that folds are balanced by.
        groups : array-like of shape (n,), optional
            Groups that stay together.

        Yields
        ------
        train, test : ndarray of int
            Sorted.
        """
        if self.subset is None:
            raise ConfigError("SameOther needs subset=, a column of X or a label a row; a task may name it by its role")
        subsets = column_of(X, self.subset, "SameOther") if isinstance(self.subset, str) else pd.Series(self.subset)
        if len(subsets) != n_rows(X):
            raise DataError(f"SameOther: subset has {len(subsets)} labels for {n_rows(X)} rows")
        for split in self._splits(subsets, to_balance(y), groups, where="SameOther"):
            yield split.train, split.test

    def plan_splits(self, task: Task) -> list[PlannedSplit]:
        """Return the splits of a task, with test_subset, trained_on, size, test_fold and seed."""
        where = f"task {task.name!r}, SameOther"
        if isinstance(self.subset, str):
            subsets = table_column(task, self.subset, where=where)
        elif self.subset is not None:
            subsets = pd.Series(self.subset)
        elif task.subsets is not None:
            subsets = task.subsets
        else:
            raise ConfigError(f"{where}: which column holds the subsets? task.with_roles(subset='...') or subset='...'")
        if len(subsets) != task.n_rows:
            raise DataError(f"{where}: subset has {len(subsets)} labels for {task.n_rows} rows")
        groups = None if task.groups is None else task.groups.to_numpy()
        return list(self._splits(subsets, classes_and_strata(task), groups, where=where))

    def _splits(self, subsets: pd.Series, by: Any, groups: Any, *, where: str) -> Iterator[PlannedSplit]:
        subset = codes_of(subsets, where=f"{where}, subsets")
        names = pd.Series(subsets).drop_duplicates().sort_values().tolist()
        if len(names) < 2:
            raise DataError(f"{where}: all rows are of the subset {names[0]!r}; there is no other to compare with")
        units = np.arange(len(subset)) if groups is None else codes_of(groups, where=f"{where}, groups")
        strata = subset if by is None else cross(subset, by)
        rng = check_random_state(self.random_state)
        fold = self._folds(subset, names, strata, None if groups is None else units, rng, where)
        for s, name in enumerate(names):
            for k in range(self.n_splits):
                test = np.flatnonzero((subset == s) & (fold == k))
                about = {"test_subset": plain_label(name), "test_fold": k}
                sets = {one: np.flatnonzero(_trains(one, subset == s) & (fold != k)) for one in TRAIN_ON}
                for train, columns in self._sized(sets, strata, units, rng):
                    yield PlannedSplit(train, test, {**about, **columns})

    def _folds(self, subset: Any, names: list, strata: Any, units: Any, rng: Any, where: str) -> np.ndarray:
        counts = np.bincount(strata)
        if units is None and counts.min() < self.n_splits:
            name = names[subset[np.argmax(strata == counts.argmin())]]
            raise DataError(
                f"{where}: subset {name!r} has {counts.min()} rows of a class or stratum; {self.n_splits} folds need "
                f"{self.n_splits}. Use fewer folds, leave out the subset, or merge classes"
            )
        seed = int(rng.randint(2**31 - 1))
        kind = StratifiedKFold if units is None else StratifiedGroupKFold
        fold = np.empty(len(subset), dtype=np.int64)
        try:
            for k, (_, test) in enumerate(
                kind(self.n_splits, shuffle=True, random_state=seed).split(strata, strata, units)
            ):
                fold[test] = k
        except ValueError as error:
            raise DataError(f"{where}: {error}") from None
        return fold

    def _sized(
        self, sets: dict[str, np.ndarray], strata: np.ndarray, units: np.ndarray, rng: Any
    ) -> Iterator[tuple[np.ndarray, dict[str, Any]]]:
        """Yield each training set in full, then thinned."""
        sets = {name: rows for name, rows in sets.items() if name in (several(self.train_on) or ())}
        for name, rows in sets.items():
            yield rows, {"trained_on": name, "size": "full", "seed": 0}
        if self.sizes is None:
            return
        least = min(len(rows) for rows in sets.values())
        for i in range(self.sizes + 1):
            size = max(1, int(least * self.ratio**i))
            label = "equal" if i == 0 else f"equal*{self.ratio**i:g}"
            for seed in range(self.n_seeds):
                for name, rows in sets.items():
                    if i == 0 and len(rows) == least:
                        continue  # it has that many rows in full; the table of differences takes it from there
                    yield thin(rows, size, strata, units, rng), {"trained_on": name, "size": label, "seed": seed}


def _trains(which: str, same: np.ndarray) -> np.ndarray:
    return same if which == "same" else ~same if which == "other" else np.ones(len(same), dtype=bool)


def thin(rows: np.ndarray, size: int, strata: np.ndarray, units: np.ndarray, rng: Any) -> np.ndarray:
    """Choose some rows at random, of each stratum in proportion, groups as a whole.

    Parameters
    ----------
    rows : ndarray of int
        To choose from.
    size : int
        How many; with groups as many whole groups as fit, and at least one.
    strata, units : ndarray of int, shape (n,)
        Stratum and group of every row of the table.
    rng : RandomState
        Decides.

    Returns
    -------
    ndarray of int
        Sorted. Every stratum has a row where ``size`` allows, and its number of rows is within one of its share where
        there are no groups.
    """
    _, first, unit, count = np.unique(units[rows], return_index=True, return_inverse=True, return_counts=True)
    order = rng.permutation(len(first))
    stratum = strata[rows][first][order]  # of a group, that of its first row
    rank = pd.Series(stratum).groupby(stratum).cumcount().to_numpy()
    share = rank / np.bincount(stratum)[stratum]
    # the first of each stratum come first; the shuffle above decides between equal shares
    chosen = order[np.argsort(share, kind="stable")]
    n_units = max(1, int(np.searchsorted(np.cumsum(count[chosen]), size, side="right")))
    return np.sort(rows[np.isin(unit, chosen[:n_units])])
