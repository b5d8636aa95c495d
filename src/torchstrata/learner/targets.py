"""What the user gives as y, weights and strata -> checked arrays, with scikit-learn's own checks where it has them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, _check_y, check_consistent_length, column_or_1d

from torchstrata.errors import DataError
from torchstrata.learner.inputs import as_array


def read_labels(y: Any) -> np.ndarray:
    """Check the labels of a classification.

    Parameters
    ----------
    y : array-like of shape (n,)
        Labels of any type.

    Returns
    -------
    ndarray of shape (n,)
        The labels, none missing, all of one type.

    Raises
    ------
    DataError, ValueError
        If labels are missing, infinite or of mixed types.
    """
    labels = column_or_1d(_plain_y(y), warn=True)
    _refuse_missing(labels)
    if labels.dtype != object:
        return labels
    if len({isinstance(label, str) for label in labels}) > 1:
        raise DataError("Mix of label input types (string and number) in y: make them one type, y.astype(str)")
    return pd.Series(labels).infer_objects().to_numpy() if not isinstance(labels[0], str) else labels


def read_classes(labels: np.ndarray, weight: np.ndarray | None = None) -> np.ndarray:
    """Find the classes of training rows.

    Parameters
    ----------
    labels : ndarray of shape (n,)
        From :func:`read_labels`.
    weight : ndarray of shape (n,), optional
        Sample weights.

    Returns
    -------
    ndarray
        The classes in sorted order.

    Raises
    ------
    DataError, ValueError
        If labels are continuous, of one class only, identifiers, or of a class without weight.
    """
    if labels.dtype.kind == "c":
        raise DataError("Complex data not supported in y")
    classes = np.unique(labels)
    if len(classes) < 2:
        raise DataError(f"y has one class ({classes.tolist()}); classification needs at least 2 classes")
    if len(classes) == len(labels) >= 50 and labels.dtype.kind != "f":
        raise DataError(f"y has {len(classes)} classes for {len(labels)} rows; is it an identifier?")
    check_classification_targets(labels)
    totals = np.ones(1) if weight is None else np.bincount(number_labels(labels, classes), weight, len(classes))
    if (totals == 0).any():
        raise DataError(
            f"class {classes[totals == 0].tolist()[0]!r} has total weight 0, and a class without weight cannot "
            "be learnt; classification needs 2 classes or more with weight"
        )
    return classes


def number_labels(labels: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Number labels by known classes.

    Parameters
    ----------
    labels : ndarray of shape (n,)
        From :func:`read_labels`.
    classes : ndarray
        In sorted order.

    Returns
    -------
    ndarray of int64, shape (n,)
        Number of each row's class.

    Raises
    ------
    DataError
        If a label is none of the classes.
    """
    codes = pd.Index(classes).get_indexer(labels)
    if (codes < 0).any():
        row = int(np.argmax(codes < 0))
        raise DataError(
            f"label {labels[[row]].tolist()[0]!r} (row {row}) is none of the classes of the training rows "
            f"{classes.tolist()[:10]}"
        )
    return codes.astype(np.int64)


def read_numbers(y: Any) -> np.ndarray:
    """Check the targets of a regression.

    Parameters
    ----------
    y : array-like of shape (n,) or (n, k)
        Numbers.

    Returns
    -------
    ndarray of float64
        Of the same shape.

    Raises
    ------
    ValueError
        With scikit-learn's words, if a value is missing or infinite.
    """
    if sparse.issparse(y):
        raise TypeError("Sparse data was passed for y, but dense data is required: y.toarray()")
    given = _floats(np.asarray(_plain_y(y)))
    values = _check_y(given, multi_output=True, y_numeric=True, estimator="TorchRegressor").astype(np.float64)
    if values.ndim == 2 and values.shape[1] == 1:
        return column_or_1d(values, warn=True)
    return np.ascontiguousarray(values)  # sums over another layout of memory differ in the last bit


def _floats(y: np.ndarray) -> np.ndarray:
    """Make floats of Python objects, missing ones NaN; refuse what is no number."""
    first = y.ravel()[:1].tolist()
    if y.dtype.kind == "c":
        raise DataError("Complex data not supported in y")
    if y.dtype.kind in "USMm" or any(isinstance(value, str) for value in first):
        raise DataError(
            f"y holds {'times' if y.dtype.kind in 'Mm' else 'text'} (first {first[0]!r}); "
            "TorchRegressor needs numbers, TorchClassifier takes labels"
        )
    try:
        return np.where(pd.isna(y), np.nan, y).astype(np.float64) if y.dtype == object else y
    except (TypeError, ValueError) as error:
        raise DataError(f"y holds values that are no numbers: {error}") from None


def _plain_y(y: Any) -> Any:
    if isinstance(y, list | tuple) and len({isinstance(value, str) for value in y}) > 1:
        return np.array(y, dtype=object)  # numpy would make text of numbers and of missing values
    if isinstance(y, pd.Series) and isinstance(y.dtype, pd.api.extensions.ExtensionDtype):
        return y.to_numpy(dtype=object) if y.isna().any() else y.to_numpy()
    return y.to_numpy() if hasattr(y, "to_numpy") else as_array(y)


def _refuse_missing(labels: np.ndarray) -> None:
    missing = pd.isna(labels)
    if missing.any():
        rows = np.flatnonzero(missing)[:3].tolist()
        raise DataError(
            f"Input y contains NaN ({int(missing.sum())} missing labels, first rows {rows}); drop these rows"
        )
    if labels.dtype.kind == "f" and np.isinf(labels).any():
        raise DataError(f"Input y contains infinity (inf) in row {int(np.argmax(np.isinf(labels)))}")


def check_lengths(X: Any, y: Any, stratum: Any) -> None:
    """Make sure that everything has as many rows as X, and that pandas indexes agree.

    Parameters
    ----------
    X, y, stratum : table, target and strata
        Given to fit; a stratum of None is passed over.

    Raises
    ------
    ValueError
        With scikit-learn's words for different lengths.
    DataError
        If X and y carry different indexes.
    """
    check_consistent_length(X, y, stratum)
    if isinstance(X, pd.DataFrame) and isinstance(y, pd.Series | pd.DataFrame) and not X.index.equals(y.index):
        at = int(np.argmax(X.index.to_numpy() != y.index.to_numpy()))
        raise DataError(
            f"X and y have different indexes (first difference at position {at}: {X.index[at]!r} vs {y.index[at]!r}): "
            "are they the same rows? Pass y.to_numpy() if they are"
        )


def read_weights(sample_weight: Any, X: Any) -> np.ndarray | None:
    """Check weights.

    Parameters
    ----------
    sample_weight : array-like of shape (n,) or None
        Not negative, not all zero.
    X : table
        Tells n.

    Returns
    -------
    ndarray of float64 or None
        The weights.

    Raises
    ------
    ValueError
        With scikit-learn's words, or :class:`DataError` where all are zero.
    """
    if sample_weight is None:
        return None
    weights = _check_sample_weight(sample_weight, np.empty((len(X), 1)), dtype=np.float64, ensure_non_negative=True)
    if not weights.any():
        raise DataError("Sample weights must contain at least one non-zero number: all sample weights are zero")
    return weights
