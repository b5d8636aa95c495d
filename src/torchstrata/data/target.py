"""What a target column means: classification or regression, its classes, and which of two is the positive one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from torchstrata.data.tables import as_floats, column_kind
from torchstrata.errors import ConfigError, DataError, did_you_mean

MOST_INTEGER_CLASSES = 20
LOOKS_LIKE_IDENTIFIER = 50
KINDS = ("classification", "regression")


@dataclass(frozen=True)
class Meaning:
    """How the target of a task is understood.

    Attributes
    ----------
    kind : str
        ``"classification"`` or ``"regression"``.
    reason : str
        Why, as a sentence.
    classes : numpy.ndarray or None
        The classes in sorted order; None for regression.
    positive : object
        The positive of two classes; None where there are not two.
    """

    kind: str
    reason: str
    classes: np.ndarray | None = None
    positive: Any = None


def understand(target: pd.DataFrame, *, kind: str | None, positive: Any, where: str) -> Meaning:
    """Decide what is to be predicted, and refuse a target from which nothing can be learnt.

    Parameters
    ----------
    target : pandas.DataFrame
        One clean column without missing values, or several.
    kind : {"classification", "regression"}, optional
        What the user says; None decides by the values.
    positive : object, optional
        The positive class.
    where : str
        Beginning of the messages.

    Returns
    -------
    Meaning

    Raises
    ------
    DataError
        If the target is constant, an identifier, infinite, or does not fit ``kind``; if ``positive`` is no class.
    ConfigError
        If ``kind`` is misspelt, or ``positive`` is given without two classes.
    """
    if kind is not None and kind not in KINDS:
        raise ConfigError(f"{where}: unknown kind {kind!r}. {did_you_mean(kind, KINDS)}")
    if kind is None:
        kind, reason = _decide(target)
    else:
        reason = f"kind={kind!r} was given"
    if kind == "regression":
        _check_regression(target, positive, where)
        return Meaning(kind, reason)
    if target.shape[1] > 1:
        names = list(target.columns)
        raise ConfigError(f"{where}: {len(names)} targets {names!r} cannot be classified together; give one target.")
    classes = _classes(target.iloc[:, 0], where)
    return Meaning(kind, reason, classes, _positive(classes, positive, str(target.columns[0]), where))


def _decide(target: pd.DataFrame) -> tuple[str, str]:
    if target.shape[1] > 1:
        return "regression", f"{target.shape[1]} targets, so regression"
    column = target.iloc[:, 0]
    named = f"target {column.name!r}"
    held = column_kind(column)
    if held != "number":
        what = {"boolean": "true or false", "category": "text or category", "datetime": "a datetime"}[held]
        return "regression" if held == "datetime" else "classification", f"{named} is {what}, so classification"
    values = as_floats(column)
    # infinite counts as a number with a fraction: refused later, by a message about infinity
    if not np.isfinite(values).all() or (values % 1 != 0).any():
        return "regression", f"{named} has numbers with a fractional part, so regression"
    distinct = len(np.unique(values))
    if distinct <= MOST_INTEGER_CLASSES:
        return "classification", f"{named} has {distinct} distinct whole numbers (at most 20), so classification"
    return "regression", f"{named} has {distinct} distinct whole numbers (more than 20), so regression"


def _check_regression(target: pd.DataFrame, positive: Any, where: str) -> None:
    if positive is not None:
        raise ConfigError(f"{where}: positive={positive!r} needs two classes, but this is a regression task.")
    for name in target.columns:
        column = target[name]
        if column_kind(column) not in ("number", "boolean"):
            raise DataError(
                f"{where}: target {name!r} is {column_kind(column)} ({column.dtype}); regression needs numbers: "
                f"pd.to_numeric(frame[{name!r}]), or give kind='classification'."
            )
        values = as_floats(column)
        if len(values) and (values == values[0]).all():
            raise DataError(f"{where}: target {name!r} is constant ({values[0]:g} in all {len(values)} rows).")


def _classes(column: pd.Series, where: str) -> np.ndarray:
    named = f"target {column.name!r}"
    held = column_kind(column)
    if held == "datetime":
        raise DataError(f"{where}: {named} is a datetime, which has no classes; derive a category or a number from it.")
    if held == "number" and (as_floats(column) % 1 != 0).any():
        raise DataError(f"{where}: Unknown label type: continuous: {named} has fractions; give kind='regression'.")
    try:
        classes = np.unique(np.asarray(column.unique()))
    except TypeError:
        kinds = sorted({type(value).__name__ for value in column.unique()})
        raise DataError(f"{where}: {named}: mix of label input types ({', '.join(kinds)}); use .astype(str).") from None
    if len(classes) == 1:
        raise DataError(f"{where}: {named} has one class ({plain(classes[0])!r}); classification needs 2.")
    if held == "category" and len(classes) == len(column) >= LOOKS_LIKE_IDENTIFIER:
        raise DataError(
            f"{where}: {len(classes)} classes for {len(column)} rows: is {str(column.name)!r} an identifier?"
        )
    return classes


def _positive(classes: np.ndarray, wanted: Any, target: str, where: str) -> Any:
    known = [plain(c) for c in classes]
    if len(known) != 2:
        if wanted is not None:
            raise ConfigError(f"{where}: positive={wanted!r} needs two classes, but {target!r} has {len(known)}.")
        return None
    if wanted is None:
        return known[1]
    # a command line can only say '1' where the class is 1
    found = [c for c in known if c == wanted] or [c for c in known if str(c) == str(wanted)]
    if not found:
        shown = ", ".join(map(repr, known))
        raise DataError(f"{where}: positive={wanted!r} is not a class of {target!r} (classes: {shown}).")
    return found[0]


def plain(value: Any) -> Any:
    """Return a numpy scalar as the Python object it stands for, for messages and comparisons.

    Parameters
    ----------
    value : object
        Any value.

    Returns
    -------
    object
    """
    return value.item() if isinstance(value, np.generic) else value
