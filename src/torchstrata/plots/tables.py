"""What the plots know about the long tables of a benchmark: their key columns, and a name for each line drawn."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from torchstrata.errors import ConfigError, DataError, did_you_mean
from torchstrata.plots.measures import bounds, greater_is_better, interval

_KNOWN = {
    "task", "learner", "fold", "measure", "value",  # scores
    "epoch", "train_loss", "valid_loss", "lr", "seconds", "best", "useless_batches", "gradient_norm",  # history
    "row", "target", "truth", "predicted", "score",  # predictions
    "status", "error", "message", "traceback",  # errors
    "attempts", "fallback", "filled", "folds",  # statuses
    "label",
}  # fmt: skip
_MADE = {"mean", "std", "n", "low", "high", "note", "values"}  # columns that tables of means add
_PARTS = ("train_", "valid_", "prob_")

Ratio: TypeAlias = float | Mapping[Any, float] | None


def grid_columns(table: pd.DataFrame) -> list[str]:
    """Find the columns of a long table that tell the cells of one learner apart.

    Parameters
    ----------
    table : DataFrame
        Scores, history, predictions or errors.

    Returns
    -------
    list of str
        Columns such as ``loss`` or ``optimizer__lr``, in their order.
    """
    names = [str(c) for c in table.columns]
    return [c for c in names if c not in _KNOWN and not c.startswith(_PARTS)]


def setting_column(name: str) -> str:
    """Name the column of a setting so that it is taken for no other column of a long table.

    Parameters
    ----------
    name : str
        A setting of a learner, as for ``set_params``.

    Returns
    -------
    str
        The name itself, or ``learner__<name>`` where long tables have such a column already.

    Examples
    --------
    >>> setting_column("loss"), setting_column("lr")
    ('loss', 'learner__lr')
    """
    return f"learner__{name}" if name in _KNOWN | _MADE or name.startswith(_PARTS) else name


def need_columns(table: pd.DataFrame, columns: Iterable[str], what: str) -> None:
    """Refuse a table without some columns.

    Parameters
    ----------
    table : DataFrame
        The table given.
    columns : iterable of str
        Columns it must have.
    what : str
        Name of the table in the message.

    Raises
    ------
    DataError
        Naming the first missing column.
    """
    for column in columns:
        if column not in table.columns:
            raise DataError(f"{what} has no column {column!r}. {did_you_mean(column, table.columns)}")


def only(table: pd.DataFrame, column: str, value: object) -> pd.DataFrame:
    """Keep the rows with one value of a column.

    Parameters
    ----------
    table : DataFrame
        A long table.
    column : str
        Such as ``task`` or ``measure``.
    value : object
        The value to keep.

    Returns
    -------
    DataFrame
        At least one row.

    Raises
    ------
    ConfigError
        If the value does not occur.
    """
    rows = table[table[column] == value]
    if not len(rows):
        raise ConfigError(f"Unknown {column} {value!r}. {did_you_mean(value, table[column].unique())}")
    return rows


def write_value(value: Any) -> str:
    """Write the value of a setting for people.

    Parameters
    ----------
    value : object
        Number, text, anything.

    Returns
    -------
    str
        Short; numbers without needless digits.

    Examples
    --------
    >>> write_value(0.001), write_value(32.0), write_value("aum")
    ('0.001', '32', 'aum')
    """
    if isinstance(value, bool | numbers.Integral) or not isinstance(value, numbers.Real):
        return str(value)  # of whole numbers, such as seeds, every digit counts
    return f"{float(value):g}"


def is_missing(value: Any) -> bool:
    """Say whether a setting is absent: None, NaN or NA.

    Parameters
    ----------
    value : object
        Anything.

    Returns
    -------
    bool
        True for an absent one.
    """
    return value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value))


def short_names(columns: Sequence[str]) -> dict[str, str]:
    """Shorten names of settings as far as they stay different.

    Parameters
    ----------
    columns : sequence of str
        Such as ``optimizer__lr``.

    Returns
    -------
    dict
        Name to short name.

    Examples
    --------
    >>> short_names(["loss", "optimizer__lr"])
    {'loss': 'loss', 'optimizer__lr': 'lr'}
    """
    last = [column.rsplit("__", 1)[-1] for column in columns]
    return {c: s if last.count(s) == 1 else c for c, s in zip(columns, last, strict=True)}


def with_label(table: pd.DataFrame, *, grid: Sequence[str] | None = None, skip: Iterable[str] = ()) -> pd.DataFrame:
    """Add a column ``label``: the learner, and those of its settings that vary.

    Parameters
    ----------
    table : DataFrame
        A long table with a column ``learner``.
    grid : sequence of str, optional
        Columns that tell the cells of one learner apart; found by :func:`grid_columns` by default.
    skip : iterable of str
        Columns shown otherwise (as colour, or along x) and left out of the label.

    Returns
    -------
    DataFrame
        A copy; labels such as ``"mlp, loss=aum, lr=0.1"``. A setting that is constant within a learner is not named.
    """
    columns = [c for c in (grid_columns(table) if grid is None else grid) if c not in set(skip)]
    short = short_names(columns)
    varies = {name: {c for c in columns if len(rows[c].unique()) > 1} for name, rows in table.groupby("learner")}
    of_group = table.groupby(["learner", *columns], dropna=False, sort=False).ngroup()
    settings = table.loc[~of_group.duplicated(), ["learner", *columns]]
    told = []
    for learner, *values in settings.itertuples(index=False, name=None):
        known = zip(columns, values, strict=True)
        told.append((str(learner), {short[c]: v for c, v in known if c in varies[learner] and not is_missing(v)}))
    names = [_label(*each, write_value) for each in told]
    if len(set(names)) < len(names):  # 1.0000001 and 1.0000002, or 1 and "1": written in full
        twice = {name for name in names if names.count(name) > 1}
        names = [_label(*each, repr) if name in twice else name for name, each in zip(names, told, strict=True)]
    return table.assign(label=of_group.map(dict(enumerate(names))).astype(object))


def _label(learner: str, settings: Mapping[str, Any], write: Callable[[Any], str]) -> str:
    return ", ".join([learner, *(f"{name}={write(value)}" for name, value in settings.items())])


def facets(table: pd.DataFrame, *, together: bool) -> list[tuple[str, str, pd.DataFrame]]:
    """Split a table into the panels of a figure.

    Parameters
    ----------
    table : DataFrame
        Columns task and label.
    together : bool
        Whether the learners of a task share a panel.

    Returns
    -------
    list of tuple
        Title, task and rows of each panel; the title names what differs between panels.
    """
    several = len(table["task"].unique()) > 1
    if together:
        return [(str(task), str(task), rows) for task, rows in table.groupby("task", sort=False)]
    groups = table.groupby(["task", "label"], sort=False)
    return [(f"{task}: {label}" if several else str(label), str(task), rows) for (task, label), rows in groups]


def summary(table: pd.DataFrame, *, keys: Sequence[str], ratio: Ratio = None, level: float = 0.95) -> pd.DataFrame:
    """Mean, spread and corrected interval over the folds of each group of a scores table.

    Parameters
    ----------
    table : DataFrame
        Columns task, measure, value, and the keys.
    keys : sequence of str
        Columns that make a group.
    ratio : float or mapping, optional
        Test rows per training row, as :func:`share_of` takes it; by default that of k-fold cross-validation.
    level : float
        Level of confidence.

    Returns
    -------
    DataFrame
        The keys (with their dtypes), mean, std, n (folds with a value), folds (all), low, high, and note, which says
        how many folds failed, and of how many a fallback's scores (True in a column ``filled``) are in the mean.
    """
    groups = table.groupby(list(keys), dropna=False, sort=False)
    number = groups.ngroup()
    out = table.loc[~number.duplicated(), list(keys)].reset_index(drop=True)
    found = [_summarise(rows, ratio, level) for _, rows in table.groupby(number, sort=True)]
    columns = ["mean", "std", "n", "low", "high", "folds", "note"]
    numbers_ = pd.DataFrame(found, columns=columns, index=out.index).astype({"note": object})
    return pd.concat([out, numbers_[["mean", "std", "n", "folds", "low", "high", "note"]]], axis="columns")


def best_label(wide: pd.DataFrame, *, greater: bool) -> str:
    """Find the best learner among those with as many folds as any other.

    Parameters
    ----------
    wide : DataFrame
        One row a fold, one column a learner; NaN where it failed.
    greater : bool
        Whether a larger value is better.

    Returns
    -------
    str
        Its label; the first of equal ones.
    """
    complete = wide.loc[:, wide.notna().sum() == wide.notna().sum().max()]
    means = complete.mean().fillna(-np.inf if greater else np.inf)
    return str(means.idxmax() if greater else means.idxmin())


def share_of(ratio: Ratio, rows: pd.DataFrame) -> float | None:
    """Find the test rows per training row of some scores or predictions.

    Parameters
    ----------
    ratio : float or mapping, optional
        For all tasks, or by task, or by (task, fold).
    rows : DataFrame
        Columns task and fold.

    Returns
    -------
    float or None
        Median over folds; None where ``ratio`` is.
    """
    if not isinstance(ratio, Mapping):
        return ratio
    splits = rows[["task", "fold"]].itertuples(index=False, name=None)
    folds = splits if "measure" in rows else dict.fromkeys(splits)  # of predictions, each fold counts once
    return float(np.median([ratio[task, fold] if (task, fold) in ratio else ratio[task] for task, fold in folds]))


def _summarise(rows: pd.DataFrame, ratio: Ratio, level: float) -> tuple:
    ratio = share_of(ratio, rows)
    measure = str(rows["measure"].iloc[0])
    found = interval(rows["value"], ratio=ratio, level=level, limits=bounds(measure))
    # costs are informational: a learner without epochs has not failed
    failed = len(rows) - found.n if greater_is_better(measure) else 0
    filled = int(rows["filled"].eq(True).sum()) if "filled" in rows and greater_is_better(measure) else 0
    return *found, len(rows), failed_note(failed, filled, len(rows))


def known_folds(rows: pd.DataFrame, n_folds: int, drawn: Iterable[Any]) -> tuple[int, str]:
    """Say how many folds the predictions of a learner are of, and what is to be said of those that are not its own.

    Parameters
    ----------
    rows : DataFrame
        fold; perhaps ``folds``, how many there are, and ``filled``, True where a fallback stood in.
    n_folds : int
        How many there are where the table does not say.
    drawn : iterable
        The folds that can be drawn.

    Returns
    -------
    folds : int
        All of them.
    note : str
        Such as ``"1 of 5 folds left out"``; empty where there is nothing to say.
    """
    folds, own = int(rows["folds"].iloc[0]) if "folds" in rows else n_folds, set(drawn)
    folds = max(folds, len(own))
    lost = folds - len(own)
    filled = len(own & set(rows.loc[rows["filled"].eq(True), "fold"])) if "filled" in rows else 0
    told = [f"{lost} of {folds} folds left out"] if lost else []
    return folds, ", ".join(told + ([f"{filled} of {folds} folds filled by fallback"] if filled else []))


def failed_note(failed: int, filled: int, folds: int) -> str:
    """Say over how many folds a mean is not, and in how many a fallback stood in.

    Parameters
    ----------
    failed : int
        Folds without a value.
    filled : int
        Folds with the value of a fallback.
    folds : int
        All of them.

    Returns
    -------
    str
        Empty where there is nothing to say.

    Examples
    --------
    >>> failed_note(2, 1, 5)
    '3 of 5 folds failed, 1 of them filled by fallback'
    """
    if not failed + filled:
        return ""
    by = "" if not filled else ", filled by fallback" if not failed else f", {filled} of them filled by fallback"
    return f"{failed + filled} of {folds} folds failed{by}"
