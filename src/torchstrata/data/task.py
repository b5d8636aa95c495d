"""Task: a table and the role of each column. A subset is a view; nothing in a task can be changed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, NoReturn, Self

import numpy as np
import pandas as pd

from torchstrata.data import files, summary
from torchstrata.data.checks import examine
from torchstrata.data.roles import ROLES, Roles
from torchstrata.data.rows import positions, read_only, sorted_positions
from torchstrata.data.tables import as_floats, to_pandas
from torchstrata.data.target import Meaning
from torchstrata.errors import ConfigError, DataError, did_you_mean

SETTINGS = (*ROLES, "positive", "kind", "name")


class Task:
    """A table and the role of each column.

    Everything is checked here, once, so that what follows can rely on it. A task cannot be changed: `rows` and
    `with_roles` return another one.

    Parameters
    ----------
    frame : pandas.DataFrame, polars.DataFrame, pyarrow.Table or dict of arrays of several dimensions
        The table, one row a sample; cells may be arrays. Copied (lazily where pandas copies on write); never changed.
    target : str or list of str
        The column to predict. Several are regressed together. Never a feature.
    features : str or list of str, optional
        The columns to predict from. Default: all without another role. Listing a column that has another role makes
        it a feature as well.
    stratum : str or list of str, optional
        Columns whose crossing makes the strata; often the target.
    group, weight, subset : str, optional
        The column of groups that must not be parted, of sample weights (>= 0), of subsets to be compared.
    order : str or list of str, optional
        Rows are sorted by these columns, ascending and stable, when the task is made.
    positive : object, optional
        The positive one of two classes. Default: the second in sorted order, scikit-learn's ``classes_[1]``.
    name : str, optional
        How results call the task. Default "task".
    kind : {"classification", "regression"}, optional
        Default: text, booleans and categories are classes, so are at most 20 distinct whole numbers; other numbers
        and several targets are regressed. `kind_reason` says which rule decided.

    Raises
    ------
    DataError
        If a column is unknown, duplicated or unusable; the message names it, the first rows and the fix.
    ConfigError
        If an argument cannot work whatever the data.
    TypeError
        If ``frame`` is no table, or only some column names are strings.

    Examples
    --------
    >>> import pandas as pd
    >>> frame = pd.DataFrame({"size": [1.0, 2.5, 3.0, 4.5], "sort": ["b", "a", "b", "b"]})
    >>> task = Task(frame, target="sort", stratum="sort", name="toy")
    >>> task
    Task 'toy': 4 rows, 1 feature (1 number), target 'sort' (classification: 'a' 1, 'b' 3; positive 'b')
        stratum 'sort'
    >>> task.rows([3, 1]).y.tolist()
    ['b', 'a']
    """

    _frame: pd.DataFrame
    _rows: np.ndarray
    _given: dict[str, Any]
    _roles: Roles
    _meaning: Meaning
    _name: str

    def __init__(
        self,
        frame: Any,
        *,
        target: str | Sequence[str],
        features: str | Sequence[str] | None = None,
        stratum: str | Sequence[str] | None = None,
        group: str | None = None,
        weight: str | None = None,
        subset: str | None = None,
        order: str | Sequence[str] | None = None,
        positive: Any = None,
        name: str | None = None,
        kind: str | None = None,
    ):
        name = "task" if name is None else str(name)
        columns = {"target": target, "features": features, "stratum": stratum, "group": group, "weight": weight}
        given = columns | {"subset": subset, "order": order, "positive": positive, "kind": kind}
        table = to_pandas(frame, where=f"task {name!r}")
        self._settle(table, np.arange(len(table)), given, name, sort=True)

    @classmethod
    def from_frame(cls, frame: Any, *, target: str | Sequence[str], **settings: Any) -> Self:
        """Make a task from a table; the same as calling the class.

        Parameters
        ----------
        frame, target, **settings
            As for the class.

        Returns
        -------
        Task
        """
        return cls(frame, target=target, **settings)

    @classmethod
    def from_csv(
        cls,
        path: str | os.PathLike,
        *,
        target: str | Sequence[str],
        sep: str = ",",
        na_values: Sequence[str] = ("?",),
        name: str | None = None,
        **settings: Any,
    ) -> Self:
        """Read a CSV file with a header line.

        Parameters
        ----------
        path : str or path
            The file, plain or compressed.
        target : str or list of str
            The column to predict.
        sep : str
            The separator.
        na_values : sequence of str
            Cells that mean "missing", beside the empty cell and pandas' own list ("NA", "None", ...).
        name : str, optional
            Default: the file's name without its ending.
        **settings
            As for the class.

        Returns
        -------
        Task

        Raises
        ------
        DataError
            If the file is absent, empty or no table, or for what the class refuses.
        """
        frame = files.read_csv(path, sep=sep, na_values=na_values)
        return cls(frame, target=target, name=files.stem(path) if name is None else name, **settings)

    @classmethod
    def from_parquet(
        cls, path: str | os.PathLike, *, target: str | Sequence[str], name: str | None = None, **settings: Any
    ) -> Self:
        """Read a Parquet file with pyarrow, or with polars where pyarrow is not installed.

        Parameters
        ----------
        path : str or path
            The file.
        target : str or list of str
            The column to predict.
        name : str, optional
            Default: the file's name without its ending.
        **settings
            As for the class.

        Returns
        -------
        Task

        Raises
        ------
        DataError
            If the file is absent or damaged, or for what the class refuses.
        ImportError
            If neither pyarrow nor polars is installed.
        """
        return cls(files.read_parquet(path), target=target, name=files.stem(path) if name is None else name, **settings)

    def rows(self, indices: Any, *, name: str | None = None) -> Self:
        """Return a view of some rows, in the order given and as often as given.

        Parameters
        ----------
        indices : array-like of int, range, slice, or of bool with one entry per row
            Positions in this task, counted from 0. Negative ones are refused: they are mistakes more often than meant.
        name : str, optional
            The view's name. Default: this task's.

        Returns
        -------
        Task
            It shares the table and keeps kind, classes and positive class, also where a class has no row left.

        Raises
        ------
        DataError
            If a position is out of range, a mask has the wrong length, or these are no positions.
        """
        view = object.__new__(type(self))
        chosen = self._rows[positions(indices, self.n_rows, where=f"task {self._name!r}")]
        vars(view).update(vars(self), _rows=chosen, _name=self._name if name is None else str(name))
        return view

    def with_roles(self, **changes: Any) -> Self:
        """Return a new task on the same rows with some settings changed, checked anew.

        Parameters
        ----------
        **changes
            Any argument of the class but the table; None takes a role away. A new target forgets ``kind`` and
            ``positive`` unless they are given too.

        Returns
        -------
        Task
            Its classes are those found in these rows. Rows are sorted only if ``order`` is among the changes.

        Raises
        ------
        ConfigError
            If a name is not a setting.
        DataError
            As for the class.
        """
        for setting in changes:
            if setting not in SETTINGS:
                raise ConfigError(f"task {self._name!r}: unknown role {setting!r}. {did_you_mean(setting, SETTINGS)}")
        forgotten = {"kind": None, "positive": None} if "target" in changes else {}
        given = {**self._given, **forgotten, **changes}
        name = given.pop("name", None)
        task = object.__new__(type(self))
        task._settle(self._frame, self._rows, given, self._name if name is None else str(name), sort="order" in changes)
        return task

    def _settle(self, frame: pd.DataFrame, rows: np.ndarray, given: dict[str, Any], name: str, *, sort: bool) -> None:
        # a list of the caller's may change later
        given = {key: tuple(value) if isinstance(value, list) else value for key, value in given.items()}
        frame, roles, meaning = examine(frame, rows, given, where=f"task {name!r}")
        if sort and roles.order:
            rows = rows[sorted_positions(frame[list(roles.order)].iloc[rows], where=f"task {name!r}")]
        vars(self).update(_frame=frame, _rows=rows, _given=given, _roles=roles, _meaning=meaning, _name=name)

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        raise AttributeError(f"a Task cannot be changed; make another: task.with_roles({name.lstrip('_')}=...)")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"a Task cannot be changed: {name!r} stays")

    def __len__(self) -> int:
        return self.n_rows

    @property
    def name(self) -> str:
        """How results call the task."""
        return self._name

    @property
    def kind(self) -> str:
        """``"classification"`` or ``"regression"``."""
        return self._meaning.kind

    @property
    def kind_reason(self) -> str:
        """Why the task is of its kind, as a sentence."""
        return self._meaning.reason

    @property
    def n_rows(self) -> int:
        """The number of rows."""
        return len(self._rows)

    @property
    def row_ids(self) -> np.ndarray:
        """Positions of the rows in the table the task was made from; int64, shape (n_rows,), read-only."""
        return read_only(self._rows)

    @property
    def roles(self) -> Roles:
        """The columns of each role, as tuples of names."""
        return self._roles

    @property
    def feature_names(self) -> list[str]:
        """The features' column names."""
        return list(self._roles.features)

    @property
    def target_names(self) -> list[str]:
        """The targets' column names."""
        return list(self._roles.target)

    @property
    def X(self) -> pd.DataFrame:
        """The features: a new DataFrame of shape (n_rows, n_features), rows numbered 0..n_rows-1."""
        return self._columns(self._roles.features)

    @property
    def y(self) -> pd.Series | pd.DataFrame:
        """The target: a Series of n_rows values; a DataFrame where there are several."""
        return self._one_or_many(self._roles.target)

    @property
    def strata(self) -> pd.Series | pd.DataFrame | None:
        """The stratum column; a DataFrame where several are crossed, None without the role."""
        return self._one_or_many(self._roles.stratum)

    @property
    def groups(self) -> pd.Series | None:
        """The group of each row, None without the role."""
        return self._one_or_many(self._roles.group)

    @property
    def weights(self) -> pd.Series | None:
        """The weight of each row as float64, None without the role."""
        weights = self._one_or_many(self._roles.weight)
        return None if weights is None else pd.Series(as_floats(weights), name=weights.name)

    @property
    def subsets(self) -> pd.Series | None:
        """The subset of each row, None without the role."""
        return self._one_or_many(self._roles.subset)

    @property
    def classes(self) -> np.ndarray | None:
        """The classes in scikit-learn's sorted order, read-only; None for regression."""
        return None if self._meaning.classes is None else read_only(self._meaning.classes)

    @property
    def n_classes(self) -> int | None:
        """The number of classes; None for regression."""
        return None if self._meaning.classes is None else len(self._meaning.classes)

    @property
    def positive(self) -> Any:
        """The positive one of two classes; None otherwise."""
        return self._meaning.positive

    def class_counts(self) -> pd.Series:
        """Count the rows of each class.

        Returns
        -------
        pandas.Series of int64
            Index: the classes in sorted order; 0 where a view has no row of a class.

        Raises
        ------
        DataError
            If the task is a regression.
        """
        if self.classes is None:
            raise DataError(f"task {self._name!r} is a regression ({self.kind_reason}): it has no classes.")
        return summary.count_classes(self._columns(self._roles.target).iloc[:, 0], self.classes)

    @property
    def minority_proportion(self) -> float:
        """The share of the rarest class among the rows; NaN without rows."""
        counts = self.class_counts()
        return float(counts.min() / counts.sum()) if counts.sum() else float("nan")

    def describe(self) -> pd.Series:
        """Say what the task is, at one look.

        Returns
        -------
        pandas.Series of object
            Rows, features by kind, missing cells, target, classes with their counts or the target's range, and roles.
        """
        return summary.facts(self)

    def fingerprint(self) -> str:
        """Return a sum of values, roles and meaning: equal for equal tasks, in any process.

        Returns
        -------
        str
            A SHA-256 in hexadecimal. The name and columns without a role do not count.
        """
        return summary.fingerprint(self._frame, self._rows, self._roles, self._meaning)

    def __repr__(self) -> str:
        return summary.one_look(self, self._frame)

    def _columns(self, names: Sequence[str]) -> pd.DataFrame:
        # take copies, so nobody can change the task through what it hands out
        return self._frame[list(names)].iloc[self._rows].reset_index(drop=True)

    def _one_or_many(self, names: Sequence[str]) -> Any:
        if not names:
            return None
        columns = self._columns(names)
        return columns if len(names) > 1 else columns[names[0]]
