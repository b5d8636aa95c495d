"""Roles: which columns of a table are target, features, strata, groups, weights, subsets and order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from torchstrata.data.tables import check_unique
from torchstrata.errors import ConfigError, DataError, did_you_mean

ROLES = ("target", "features", "stratum", "group", "weight", "subset", "order")
ONE_COLUMN = ("group", "weight", "subset")


@dataclass(frozen=True)
class Roles:
    """The columns of each role, as tuples of names; an empty tuple where a role is not given.

    Attributes
    ----------
    target, features, stratum, group, weight, subset, order : tuple of str
        Column names. ``group``, ``weight`` and ``subset`` have at most one.
    """

    target: tuple[str, ...]
    features: tuple[str, ...]
    stratum: tuple[str, ...] = ()
    group: tuple[str, ...] = ()
    weight: tuple[str, ...] = ()
    subset: tuple[str, ...] = ()
    order: tuple[str, ...] = ()

    def used(self) -> list[str]:
        """Return every column with a role, once, target first.

        Returns
        -------
        list of str
        """
        return list(dict.fromkeys(column for role in ROLES for column in getattr(self, role)))

    def given(self) -> dict[str, tuple[str, ...]]:
        """Return the roles that have a column, without target and features.

        Returns
        -------
        dict
            Role to column names.
        """
        return {role: getattr(self, role) for role in ROLES[2:] if getattr(self, role)}


def resolve_roles(frame: pd.DataFrame, given: Mapping[str, Any], *, where: str) -> Roles:
    """Turn the arguments of a task into columns that exist.

    Parameters
    ----------
    frame : pandas.DataFrame
        The table, of which only the column names are looked at.
    given : mapping
        Role to a column name, a list of them, or None.
    where : str
        Beginning of the messages.

    Returns
    -------
    Roles
        With ``features`` filled in: all columns without another role, where None was given.

    Raises
    ------
    DataError
        For an unknown column, duplicate or unnamed columns, no feature, or the target among the features.
    ConfigError
        For something that is no column name.
    TypeError
        For names of which only some are strings.
    """
    _check_names(frame.columns, where)
    roles = {role: _columns(role, given.get(role), frame.columns, where) for role in ROLES}
    if not roles["target"]:
        raise ConfigError(f"{where}: target=None; name the column to predict: target='...'.")
    if given.get("features") is None:
        taken = {column for role in ROLES for column in roles[role]}
        roles["features"] = tuple(column for column in frame.columns if column not in taken)
    if not roles["features"]:
        raise DataError(
            f"{where}: 0 feature(s) (shape=({len(frame)}, 0)) while a minimum of 1 is required; "
            f"columns: {', '.join(map(repr, frame.columns[:20]))}."
        )
    both = [column for column in roles["target"] if column in roles["features"]]
    if both:
        raise DataError(f"{where}: column {both[0]!r} is also the target; take it out of features=.")
    return Roles(**roles)


def _check_names(columns: pd.Index, where: str) -> None:
    if isinstance(columns, pd.MultiIndex):
        raise DataError(
            f"{where}: columns are a MultiIndex; flatten them: frame.columns = ['_'.join(map(str, c)) for c in frame]"
        )
    text = [isinstance(name, str) for name in columns]
    if not all(text):
        odd = columns[text.index(False)]
        fix = "frame.columns = frame.columns.astype(str)"
        if any(text):  # the sentence scikit-learn's users know
            raise TypeError(
                f"{where}: feature names are only supported if all input features have string names; "
                f"{odd!r} is {type(odd).__name__}: {fix}"
            )
        raise DataError(f"{where}: column names must be strings, got {odd!r} ({type(odd).__name__}): {fix}")
    check_unique(list(columns), where=where)


def _columns(role: str, value: Any, columns: pd.Index, where: str) -> tuple[str, ...]:
    if value is None:
        return ()
    names = (value,) if isinstance(value, str) else value
    if not isinstance(names, list | tuple | pd.Index) or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"{where}: {role} must be a column name or a list of them, got {type(value).__name__}.")
    for name in names:
        if name not in columns:
            raise DataError(f"{where}: {role} {name!r} is not a column. {did_you_mean(name, columns)}")
    if len(set(names)) < len(names):
        raise DataError(f"{where}: {role} names a column twice: {list(names)!r}.")
    if role in ONE_COLUMN and len(names) > 1:
        raise ConfigError(
            f"{where}: {role} takes one column, got {list(names)!r}; join them first: "
            f"frame[{role!r}] = frame[{names[0]!r}].astype(str) + '/' + frame[{names[1]!r}].astype(str)"
        )
    return tuple(names)
