"""What a task refuses: checked once, when it is made, each with the column and the first rows in the message."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from torchstrata.data.roles import Roles, resolve_roles
from torchstrata.data.tables import as_floats, clean_columns, column_kind, name_rows
from torchstrata.data.target import Meaning, understand
from torchstrata.errors import DataError

FLOAT32_MAX = float(np.finfo(np.float32).max)
LOOKS_NUMERIC = 0.95  # share of distinct texts that are numbers
FEW_CODES = 20  # so few distinct texts are codes, whatever they look like


def examine(
    frame: pd.DataFrame, rows: np.ndarray, given: Mapping[str, Any], *, where: str
) -> tuple[pd.DataFrame, Roles, Meaning]:
    """Check everything that a task promises, in the order in which a person would ask.

    Parameters
    ----------
    frame : pandas.DataFrame
        The whole table.
    rows : numpy.ndarray of int64
        The rows that count.
    given : mapping
        The settings of a task: roles, ``kind`` and ``positive``.
    where : str
        Beginning of the messages.

    Returns
    -------
    (pandas.DataFrame, Roles, Meaning)
        The table with clean columns, the roles, and how the target is understood.

    Raises
    ------
    DataError, ConfigError, TypeError
        As `torchstrata.data.task.Task` says.
    """
    roles = resolve_roles(frame, given, where=where)
    if not len(rows):
        shape = f"shape=(0, {len(roles.features)})"
        raise DataError(f"{where}: Found array with 0 sample(s) ({shape}) while a minimum of 1 is required.")
    frame = clean_columns(frame, roles.used(), features=roles.features, where=where)
    seen = frame[roles.used()].iloc[rows]
    check_complete(seen, roles, where=where, row_ids=rows)
    check_features(seen, roles, where=where, row_ids=rows)
    targets = seen[list(roles.target)]
    meaning = understand(targets, kind=given["kind"], positive=given["positive"], where=where)
    if roles.weight:
        labels = targets.iloc[:, 0] if meaning.kind == "classification" else None
        check_weights(seen[roles.weight[0]], labels, where=where, row_ids=rows)
    warn_of_leaks(seen, roles, where=where)
    return frame, roles, meaning


def check_complete(frame: pd.DataFrame, roles: Roles, *, where: str, row_ids: np.ndarray) -> None:
    """Refuse missing values, and arrays, where a row without a value has no place.

    Parameters
    ----------
    frame : pandas.DataFrame
        Clean columns.
    roles : Roles
        Looked at: target, stratum, group, subset and order.
    where : str
        Beginning of the messages.
    row_ids : numpy.ndarray of int64, shape (n,)
        The rows' numbers for the messages.

    Raises
    ------
    DataError
        With the count and the first rows.
    """
    for role in ("target", "stratum", "group", "subset", "order"):
        for name in getattr(roles, role):
            if column_kind(frame[name]) == "array":
                raise DataError(f"{where}: {role} {name!r} holds arrays, which can be features only.")
            missing = frame[name].isna().to_numpy()
            if not missing.any():
                continue
            count = f"{missing.sum()} missing value{'s' if missing.sum() > 1 else ''}"
            if missing.all():
                fix = "the whole column is empty"
            elif role == "target" or column_kind(frame[name]) != "category":
                fix = f"drop these rows: frame.dropna(subset=[{name!r}])"
            else:
                fix = f"drop these rows, or name them: frame[{name!r}].astype(object).fillna('missing')"
            raise DataError(f"{where}: {role} {name!r} contains NaN: {count} ({name_rows(missing, row_ids)}); {fix}.")


def check_features(frame: pd.DataFrame, roles: Roles, *, where: str, row_ids: np.ndarray) -> None:
    """Refuse features that no encoder can repair, and numeric targets that no loss can use.

    Parameters
    ----------
    frame : pandas.DataFrame
        Clean columns.
    roles : Roles
        Looked at: features and target.
    where : str
        Beginning of the messages.
    row_ids : numpy.ndarray of int64, shape (n,)
        The rows' numbers for the messages.

    Raises
    ------
    DataError
        For a feature without any value, infinite numbers, numbers beyond float32, and numbers stored as text.
    """
    empty = [name for name in roles.features if frame[name].isna().all()]
    if empty:
        raise DataError(
            f"{where}: column{'s' if len(empty) > 1 else ''} {', '.join(map(repr, empty[:5]))} "
            f"{'have' if len(empty) > 1 else 'has'} no observed value; leave out: frame.drop(columns={empty[:5]!r})"
        )
    for name in (*roles.target, *roles.features):
        kind = column_kind(frame[name])
        if kind == "number":
            _check_range(frame[name], f"{where}: {'target' if name in roles.target else 'column'}", row_ids)
        elif kind == "category" and not isinstance(frame[name].dtype, pd.CategoricalDtype):
            _check_text(frame[name], where, row_ids)


def check_weights(weights: pd.Series, labels: pd.Series | None, *, where: str, row_ids: np.ndarray) -> None:
    """Refuse weights with which a fit would be undefined.

    Parameters
    ----------
    weights : pandas.Series
        The weight column.
    labels : pandas.Series or None
        The target of a classification task.
    where : str
        Beginning of the messages.
    row_ids : numpy.ndarray of int64, shape (n,)
        The rows' numbers for the messages.

    Raises
    ------
    DataError
        For weights that are no numbers, NaN, infinite, negative, all zero, or zero for a whole class.
    """
    named = f"{where}: weight {weights.name!r}"
    if column_kind(weights) not in ("number", "boolean"):
        raise DataError(f"{named} is {column_kind(weights)} ({weights.dtype}); weights must be numbers.")
    values = as_floats(weights)
    for what, bad in (("NaN", np.isnan(values)), ("infinity", np.isinf(values)), ("negative weights", values < 0)):
        if bad.any():
            first = "" if what == "NaN" else f", first {values[bad][0]:g}"
            raise DataError(f"{named} contains {what} ({name_rows(bad, row_ids)}{first}); weights must be >= 0.")
    if not values.any():
        raise DataError(f"{named}: all sample weights are zero.")
    if labels is None:
        return
    totals = pd.Series(values).groupby(np.asarray(labels)).sum()
    if (totals == 0).any():
        lightless = totals.index[totals == 0][0]
        raise DataError(f"{named}: class {lightless!r} has total weight 0; a class without weight cannot be learnt.")


def warn_of_leaks(frame: pd.DataFrame, roles: Roles, *, where: str) -> None:
    """Warn of a feature that equals a target.

    Parameters
    ----------
    frame : pandas.DataFrame
        Clean columns.
    roles : Roles
        Looked at: features and target.
    where : str
        Beginning of the message.
    """
    for target in roles.target:
        for name in roles.features:
            # the first rows nearly always settle it, so a wide table costs nothing
            if all(_equal(frame[name].iloc[:n], frame[target].iloc[:n]) for n in (10, len(frame))):
                warnings.warn(f"{where}: column {name!r} determines the target exactly; is it a copy?", stacklevel=6)


def _equal(one: pd.Series, other: pd.Series) -> bool:
    if column_kind(one) == "array":
        return False
    are_numbers = [column_kind(column) in ("number", "boolean") for column in (one, other)]
    if any(are_numbers):
        return all(are_numbers) and np.array_equal(as_floats(one), as_floats(other))
    if one.isna().any():  # a target has no missing value
        return False
    return np.array_equal(np.asarray(one, dtype=object), np.asarray(other, dtype=object))


def _check_range(column: pd.Series, what: str, row_ids: np.ndarray) -> None:
    named = f"{what} {column.name!r}"
    values = as_floats(column)
    infinite = np.isinf(values)
    if infinite.any():
        raise DataError(
            f"{named} contains infinity ({name_rows(infinite, row_ids)}); "
            "replace it by a number, or by NaN if it means missing."
        )
    beyond = np.abs(values) > FLOAT32_MAX
    if beyond.any():
        largest = np.abs(values[beyond]).max()
        raise DataError(
            f"{named} has values beyond float32 "
            f"(largest {largest:g}; {name_rows(beyond, row_ids)}); rescale it or take logarithms."
        )


def _check_text(column: pd.Series, where: str, row_ids: np.ndarray) -> None:
    """Numbers read as text would be encoded as hundreds of categories, which nobody wants and nobody notices."""
    texts = column.dropna().unique()
    if len(texts) <= FEW_CODES:
        return
    is_number = pd.to_numeric(pd.Series(texts, dtype=object), errors="coerce").notna().to_numpy()
    if is_number.mean() < LOOKS_NUMERIC:
        return
    codes = f"if these are codes: frame[{column.name!r}].astype('category')"
    if is_number.all():
        raise DataError(
            f"{where}: column {column.name!r} is text but looks numeric (first {texts[0]!r}); "
            f"convert it with pd.to_numeric(frame[{column.name!r}]), or {codes}."
        )
    odd = list(texts[~is_number][:3])
    rows = name_rows(column.isin(odd).to_numpy(dtype=bool), row_ids)
    warnings.warn(
        f"{where}: column {column.name!r} is text only because of {', '.join(map(repr, odd))} ({rows}); "
        f"if these mean missing: na_values={odd!r}; {codes}",
        stacklevel=7,
    )
