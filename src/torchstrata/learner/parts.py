"""The rows that train and the rows that validate: read, checked, split."""

from __future__ import annotations

import dataclasses
import itertools
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd
import torch

from torchstrata.batches.stream import Stream
from torchstrata.data.strata import stratum_codes
from torchstrata.data.task import Task
from torchstrata.errors import ConfigError, DataError
from torchstrata.learner.inputs import read_X
from torchstrata.learner.loading import open_rows
from torchstrata.learner.targets import check_lengths, read_weights


@dataclasses.dataclass(frozen=True)
class Part:
    """Some rows.

    Parameters
    ----------
    X : DataFrame or ndarray
        Inputs.
    y : ndarray
        Targets, checked.
    weight : ndarray, optional
        Sample weights.
    stratum : object, optional
        Strata as given.
    """

    X: Any
    y: np.ndarray
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

    def present(self) -> Part:
        """Return the rows to learn from.

        Returns
        -------
        Part
            Without those of weight zero, which are absent; rows that come batch by batch all stay.
        """
        if self.weight is None or isinstance(self.X, Stream) or (self.weight > 0).all():
            return self
        return self.take(np.flatnonzero(self.weight > 0))


def read_parts(
    learner: Any, X: Any, y: Any, *, sample_weight: Any, stratum: Any, valid_set: Any, seed: int, stratify: bool
) -> tuple[Part, Part | None]:
    """Read what was given to fit, and split off validation rows.

    Parameters
    ----------
    learner : TorchLearner
        Reads y and gets the names of the columns; its ``valid`` says how many rows validate.
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
    groups = None
    if isinstance(X, Task):
        y = _y_of(X) if y is None else y
        stratum = X.strata if stratum is None else stratum
        sample_weight = X.weights if sample_weight is None else sample_weight
        groups = _together(X)
    whole = _read(learner, X, y, sample_weight, stratum, reset=True)
    if valid_set is not None:
        weights = valid_set.weights if isinstance(valid_set, Task) else None
        if isinstance(valid_set, Task):
            valid_set = (valid_set, valid_set.y)
        if not isinstance(valid_set, tuple | list) or len(valid_set) != 2:
            raise ConfigError(f"valid_set must be a pair (X, y) or a Task, got {type(valid_set).__name__}")
        return whole, _read(learner, valid_set[0], valid_set[1], weights, None, reset=False)
    if learner.valid is None or learner.valid == "test":
        return whole, None
    return _split(whole, learner.valid, seed, stratify=stratify, groups=groups)


def _together(task: Task) -> Any:
    """Return the groups, or the rows themselves where some repeat: a copy must not validate what its twin trains."""
    if task.groups is not None or len(np.unique(task.row_ids)) == len(task.row_ids):
        return task.groups
    return task.row_ids


def y_to_bin(y: np.ndarray, sampler: Any) -> np.ndarray:
    """Return the numbers that a sampler with ``bins`` makes strata of where fit got no stratum: the target.

    Parameters
    ----------
    y : ndarray of shape (n,) or (n, k)
        Targets of the rows that train, so that rows that validate do not move the edges between bins.
    sampler : BatchSampler
        For the message.

    Returns
    -------
    ndarray of shape (n,)
        The same y.

    Raises
    ------
    ConfigError
        If y is no single column of numbers.
    """
    if y.ndim == 1 and y.dtype.kind in "biuf":
        return y
    what = f"{y.shape[1]} columns" if y.ndim > 1 else f"labels such as {y[:1].tolist()[0]!r}"
    do = "fit(X, y, stratum=y[:, 0])" if y.ndim > 1 else "bins=None and fit(X, y, stratum=y)"
    raise ConfigError(
        f"batch_sampler {sampler!r} makes bins of y where fit gets no stratum, and expects one column of numbers: "
        f"y has {what}. Use {do}, or give the task a stratum role (task.with_roles(stratum=...))"
    )


def _read(learner: Any, X: Any, y: Any, sample_weight: Any, stratum: Any, *, reset: bool) -> Part:
    if isinstance(X, torch.utils.data.Dataset):
        X, own = open_rows(learner, X, strict=reset, labels=y is None)
        y = own if y is None else y
    if y is None:
        raise DataError(f"{type(learner).__name__} requires y to be passed, but the target y is None")
    table = read_X(learner, X, reset=reset)
    check_lengths(X if isinstance(X, pd.DataFrame) else table, y, stratum)
    return Part(table, learner._read_y(y), read_weights(sample_weight, table), stratum)


def _split(whole: Part, ratio: float, seed: int, *, stratify: bool, groups: Any) -> tuple[Part, Part]:
    n = len(whole.X)
    by = None if whole.stratum is None else stratum_codes(whole.stratum)[0]
    labels = pd.factorize(whole.y)[0] if stratify else np.zeros(n, dtype=np.int64)
    if stratify:
        by = labels if by is None else by * (labels.max() + 1) + labels
    try:
        train, valid = _divide(n, ratio, seed, by, groups)
    except ValueError as error:
        lone = np.flatnonzero(np.bincount(labels) == 1) if stratify else np.empty(0)
        why = f"class {whole.y[labels == lone[0]].tolist()[0]!r} has one row" if len(lone) else str(error)
        raise DataError(
            f"valid={ratio} cannot split {n} rows with every class and stratum in both parts: {why}. "
            "Use another ratio, or pass fit(..., valid_set=(X, y))"
        ) from None
    for part, use in ((train, "train"), (valid, "validate")):
        if len(np.unique(labels[part])) < labels.max() + 1:
            raise DataError(
                f"valid={ratio} leaves a class without a row to {use} ({len(valid)} of {n} rows validate): "
                "use another ratio, or pass fit(..., valid_set=(X, y))"
            )
    return whole.take(np.sort(train)), whole.take(np.sort(valid))


def _divide(n: int, ratio: float, seed: int, by: np.ndarray | None, groups: Any) -> Any:
    # it takes longer to import than a small fit
    from sklearn.model_selection import GroupShuffleSplit, StratifiedGroupKFold, train_test_split

    if groups is None:
        return train_test_split(np.arange(n), test_size=ratio, random_state=seed, stratify=by)
    if by is None:
        return next(GroupShuffleSplit(1, test_size=ratio, random_state=seed).split(np.zeros(n), by, groups))
    # a share of 2/5 is two folds of five: scikit-learn has no stratified split of groups by a ratio
    share = Fraction(ratio).limit_denominator(max(5, round(1 / min(ratio, 1 - ratio))))
    folds = StratifiedGroupKFold(share.denominator, shuffle=True, random_state=seed).split(np.zeros(n), by, groups)
    valid = np.concatenate([test for _, test in itertools.islice(folds, share.numerator)])
    return np.setdiff1d(np.arange(n), valid), valid


def _y_of(task: Task) -> Any:
    """Return the target of a task whose positive class is the one that a learner will take for it."""
    if task.positive is not None and task.classes is not None and task.positive != task.classes[1]:
        raise DataError(
            f"task {task.name!r} names {task.positive!r} the positive class, but a learner alone takes the second in "
            f"sorted order, {task.classes[1]!r}. Say fit(task, task.y == {task.positive!r}), or use ts.benchmark, "
            "which codes the positive class for all learners"
        )
    return task.y


def _take(values: Any, rows: np.ndarray) -> Any:
    if values is None:
        return None
    if hasattr(values, "iloc"):
        return values.iloc[rows]
    if isinstance(values, list | tuple):
        return [values[i] for i in rows]
    return values[rows]
