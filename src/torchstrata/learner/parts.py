"""The rows that train and the rows that validate: read, checked, split."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pandas as pd
from sklearn.model_selection import train_test_split

from torchstrata.data.strata import stratum_codes
from torchstrata.data.task import Task
from torchstrata.errors import ConfigError, DataError
from torchstrata.learner.inputs import check_lengths, read_weights, read_X


@dataclasses.dataclass(frozen=True)
class Part:
    """Some rows.

    Parameters
    ----------
    X : DataFrame or ndarray
        Inputs.
    y : array-like
        Targets as given.
    weight : ndarray, optional
        Sample weights.
    stratum : object, optional
        Strata as given.
    """

    X: Any
    y: Any
    weight: np.ndarray | None = None
    stratum: Any = None

    def take(self, rows: np.ndarray) -> Part:
        """Return some of the rows.

        Parameters
        ----------
        rows : ndarray of int
            Which.

        Returns
        -------
        Part
            Those, in that order.
        """
        return Part(*(_take(value, rows) for value in (self.X, self.y, self.weight, self.stratum)))


def read_parts(
    learner: Any, X: Any, y: Any, *, sample_weight: Any, stratum: Any, valid_set: Any, seed: int, stratify: bool
) -> tuple[Part, Part | None]:
    """Read what was given to fit, and split off validation rows.

    Parameters
    ----------
    learner : TorchLearner
        Gets the names of the columns; its ``valid`` says how many rows validate.
    X, y, sample_weight, stratum, valid_set : object
        As given to fit.
    seed : int
        Decides the split.
    stratify : bool
        Whether y is a class.

    Returns
    -------
    train, valid : Part
        The second is None where there are no validation rows.

    Raises
    ------
    ConfigError, DataError, ValueError, TypeError
        Naming what cannot be used.
    """
    if isinstance(X, Task):
        y = X.y if y is None else y
        stratum = X.strata if stratum is None else stratum
        sample_weight = X.weights if sample_weight is None else sample_weight
    if y is None:
        raise DataError(f"{type(learner).__name__} requires y to be passed, but the target y is None")
    table = read_X(learner, X, reset=True)
    check_lengths(X if isinstance(X, pd.DataFrame) else table, y, stratum)
    whole = Part(table, y, read_weights(sample_weight, table), stratum)
    if valid_set is not None:
        return whole, _read_valid_set(learner, valid_set)
    if learner.valid is None or learner.valid == "test":
        return whole, None
    return _split(whole, learner.valid, seed, stratify=stratify)


def _read_valid_set(learner: Any, valid_set: Any) -> Part:
    if isinstance(valid_set, Task):
        valid_set = (valid_set, valid_set.y)
    if not isinstance(valid_set, tuple | list) or len(valid_set) != 2:
        raise ConfigError(f"valid_set must be a pair (X, y) or a Task, got {type(valid_set).__name__}")
    table = read_X(learner, valid_set[0], reset=False)
    check_lengths(table, valid_set[1], None)
    return Part(table, valid_set[1])


def _split(whole: Part, ratio: float, seed: int, *, stratify: bool) -> tuple[Part, Part]:
    n = len(whole.X)
    by = None if whole.stratum is None else stratum_codes(whole.stratum)[0]
    if stratify:
        labels = pd.factorize(np.asarray(whole.y).ravel())[0]
        by = labels if by is None else by * (labels.max() + 1) + labels
    try:
        train, valid = train_test_split(np.arange(n), test_size=ratio, random_state=seed, stratify=by)
    except ValueError as error:
        raise DataError(
            f"valid={ratio} cannot split {n} rows with every class and stratum in both parts: {error}. "
            "Use a larger ratio, or pass fit(..., valid_set=(X, y))"
        ) from None
    if stratify and len(np.unique(labels[valid])) < labels.max() + 1:
        raise DataError(
            f"valid={ratio} leaves a class without a validation row ({len(valid)} of {n} rows validate): "
            "use a larger ratio, or pass fit(..., valid_set=(X, y))"
        )
    return whole.take(np.sort(train)), whole.take(np.sort(valid))


def _take(values: Any, rows: np.ndarray) -> Any:
    if values is None:
        return None
    if hasattr(values, "iloc"):
        return values.iloc[rows]
    if isinstance(values, list | tuple):
        return [values[i] for i in rows]
    return values[rows]
