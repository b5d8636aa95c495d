"""What the user gives as X, y and weights -> checked tables and arrays, with scikit-learn's own checks where it has them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy import sparse
from sklearn.base import BaseEstimator, clone
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import (
    _check_sample_weight,
    _check_y,
    check_consistent_length,
    column_or_1d,
    validate_data,
)

from torchstrata.batches.loader import Tensors
from torchstrata.data.encode import FLOAT32_MAX, Encoder, Shapes
from torchstrata.data.tables import check_unique
from torchstrata.data.task import Task
from torchstrata.errors import ConfigError, DataError


def read_X(learner: BaseEstimator, X: Any, *, reset: bool) -> Any:
    """Check X and remember, or compare, its columns.

    Parameters
    ----------
    learner : BaseEstimator
        Gets ``n_features_in_`` and ``feature_names_in_`` if ``reset``, else X is compared with them.
    X : DataFrame (pandas, polars), array, tensor, Dataset or Task
        The rows. Columns of a Task are taken by name; those of a DataFrame must come as in fit.
    reset : bool
        True in fit.

    Returns
    -------
    DataFrame or ndarray
        A pandas or polars table where an encoder will read it by column, else an array of floats.

    Raises
    ------
    ValueError, TypeError
        With scikit-learn's words, or :class:`DataError`.
    """
    X = _plain(X)
    if isinstance(X, Task):
        X = X.X if reset else X.X[list(getattr(learner, "feature_names_in_", X.feature_names))]
    finite = True if learner.encoder is None else "allow-nan"  # type: ignore[attr-defined]
    if learner.encoder is not None and _is_table(X):  # type: ignore[attr-defined]
        return _read_table(learner, X, reset=reset)
    if isinstance(X, np.ndarray) and X.ndim > 2:
        return _read_nd(learner, X, reset=reset)
    dtype = "numeric" if _is_float(X) else np.float64
    checked = validate_data(
        learner, X, reset=reset, dtype=dtype, ensure_all_finite=finite, ensure_min_samples=2 if reset else 1
    )
    _check_range(checked, learner)
    return checked


def _plain(X: Any) -> Any:
    if sparse.issparse(X):
        size = np.prod(X.shape) * 8 / 2**30
        raise TypeError(
            f"Sparse data was passed for X, but dense data is required: X.toarray() (would need {size:.1f} GB)"
        )
    if X is None or isinstance(X, str | int | float):
        raise TypeError(
            f"Expected 2D array: X must be a DataFrame or a 2-D array, got {type(X).__name__}. Reshape your data"
        )
    if isinstance(X, Iterator):
        raise TypeError(f"X is a {type(X).__name__}; pass a list or an array")
    if isinstance(X, dict):
        raise TypeError("X is a dict; pass pd.DataFrame(X)")
    if isinstance(X, torch.Tensor):
        tensor = X.detach().cpu()
        return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
    if isinstance(X, torch.utils.data.Dataset):
        return np.stack([np.asarray(_first(X[i])) for i in range(len(X))])  # type: ignore[arg-type]
    return X


def _first(item: Any) -> Any:
    return item[0] if isinstance(item, tuple | list) else item


def _is_table(X: Any) -> bool:
    if hasattr(X, "columns"):
        return True
    array = X if isinstance(X, np.ndarray) else None
    if array is None or array.ndim != 2 or array.dtype.kind not in "OUS":
        return False
    try:
        array.astype(np.float64)
    except ValueError:
        return True  # text among the cells: categories
    return False


def _is_float(X: Any) -> bool:
    return isinstance(X, np.ndarray) and X.dtype.kind == "f"


def _read_table(learner: BaseEstimator, X: Any, *, reset: bool) -> Any:
    least = 2 if reset else 1
    if isinstance(X, np.ndarray):  # text among the cells, but no names: scikit-learn counts the columns
        validate_data(learner, X, reset=reset, dtype=None, ensure_all_finite=False, ensure_min_samples=least)
        return pd.DataFrame(X, columns=[f"x{i}" for i in range(X.shape[1])]).convert_dtypes()
    n, p = X.shape
    if p == 0:
        raise DataError(f"Found array with 0 feature(s) (shape=({n}, 0)) while a minimum of 1 is required.")
    if n < least:
        raise DataError(f"Found array with {n} sample(s) (shape=({n}, {p})) while a minimum of {least} is required.")
    check_unique(list(X.columns), where="X")
    validate_data(learner, X, reset=reset, skip_check_array=True)
    return X


def _read_nd(learner: BaseEstimator, X: np.ndarray, *, reset: bool) -> np.ndarray:
    return validate_data(learner, X, reset=reset, dtype="numeric", allow_nd=True, ensure_min_samples=2 if reset else 1)


def _check_range(X: np.ndarray, learner: BaseEstimator) -> None:
    if X.ndim != 2 or X.dtype != np.float64 or _precision(learner) == "float64":
        return
    with np.errstate(invalid="ignore"):
        large = np.abs(X) > FLOAT32_MAX
    if large.any():
        row, column = map(int, np.argwhere(large)[0])
        names = getattr(learner, "feature_names_in_", None)
        shown = repr(str(names[column])) if names is not None else str(column)
        raise DataError(
            f"column {shown} has values beyond float32 ({X[row, column]:g} in row {row}); rescale it "
            "or use runtime=ts.Runtime(precision='float64')"
        )


def _precision(learner: Any) -> str:
    return getattr(learner.runtime, "precision", "float32")


def read_labels(y: Any) -> tuple[np.ndarray, np.ndarray]:
    """Check the labels of a classification.

    Parameters
    ----------
    y : array-like of shape (n,)
        Labels of any type.

    Returns
    -------
    classes : ndarray
        In sorted order.
    codes : ndarray of int64, shape (n,)
        Number of each row's class.

    Raises
    ------
    DataError, ValueError
        If labels are missing, continuous, of mixed types, or of one class only.
    """
    labels = column_or_1d(_plain_y(y), warn=True)
    _refuse_missing(labels)
    if labels.dtype == object and len({isinstance(v, str) for v in labels}) > 1:
        raise DataError("Mix of label input types (string and number) in y: make them one type, y.astype(str)")
    check_classification_targets(labels)
    classes, codes = np.unique(labels, return_inverse=True)
    if len(classes) < 2:
        raise DataError(f"y has one class ({classes.tolist()}); classification needs at least 2 classes")
    if len(classes) == len(labels) >= 50:
        raise DataError(f"y has {len(classes)} classes for {len(labels)} rows; is it an identifier?")
    return classes, codes.astype(np.int64)


def read_label_codes(y: Any, classes: np.ndarray) -> np.ndarray:
    """Number labels by known classes.

    Parameters
    ----------
    y : array-like of shape (n,)
        Labels.
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
    labels = column_or_1d(_plain_y(y))
    _refuse_missing(labels)
    codes = pd.Index(classes).get_indexer(labels)
    if (codes < 0).any():
        row = int(np.argmax(codes < 0))
        raise DataError(
            f"label {labels[row]!r} (row {row}) is none of the classes of the training rows {classes.tolist()[:10]}"
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
    values = _check_y(_plain_y(y), multi_output=True, y_numeric=True, estimator="TorchRegressor").astype(np.float64)
    return column_or_1d(values, warn=True) if values.ndim == 2 and values.shape[1] == 1 else values


def _plain_y(y: Any) -> Any:
    if isinstance(y, torch.Tensor):
        return y.detach().cpu().numpy()
    if isinstance(y, pd.Series) and isinstance(y.dtype, pd.api.extensions.ExtensionDtype):
        return y.to_numpy(dtype=object) if y.isna().any() else y.to_numpy()
    return y.to_numpy() if hasattr(y, "to_numpy") else y


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


def fit_encoder(encoder: Any, X: Any) -> Any:
    """Fit an encoder on training rows.

    Parameters
    ----------
    encoder : "auto", None or scikit-learn transformer
        ``"auto"`` is an :class:`Encoder`; None passes numbers through.
    X : DataFrame or ndarray
        Training rows.

    Returns
    -------
    object or None
        The fitted encoder.
    """
    if encoder is None or (isinstance(X, np.ndarray) and X.ndim > 2):
        return None
    if isinstance(encoder, str):
        if encoder != "auto":
            raise ConfigError(f"encoder must be 'auto', None or a scikit-learn transformer, got {encoder!r}")
        return Encoder().fit(X)
    if not (hasattr(encoder, "fit") and hasattr(encoder, "transform")):
        raise ConfigError(f"encoder must be 'auto', None or a scikit-learn transformer, got {encoder!r}")
    return clone(encoder).fit(X)


def encode(encoder: Any, X: Any, dtype: torch.dtype) -> Tensors:
    """Make tensors of rows.

    Parameters
    ----------
    encoder : fitted encoder or None
        From :func:`fit_encoder`.
    X : DataFrame or ndarray
        Rows.
    dtype : torch.dtype
        Of the numbers.

    Returns
    -------
    Tensor or dict of Tensor
        One tensor where there is one input of numbers, else by name.
    """
    encoded = X if encoder is None else encoder.transform(X)
    if isinstance(encoded, dict):
        kinds = {"category": torch.int64}
        tensors = {name: _tensor(value, kinds.get(name, dtype)) for name, value in encoded.items()}
        return tensors["number"] if list(tensors) == ["number"] else tensors
    if hasattr(encoded, "toarray"):
        raise ConfigError("the encoder returned sparse rows; networks take dense ones (sparse_output=False)")
    return _tensor(np.asarray(encoded), dtype)


def _tensor(values: np.ndarray, dtype: torch.dtype) -> torch.Tensor:
    values = np.ascontiguousarray(values)
    tensor = torch.from_numpy(values) if values.flags.writeable else torch.tensor(values)
    return tensor.to(dtype)


def shapes_of(encoder: Any, x: Tensors) -> Shapes:
    """Say what a network is built from.

    Parameters
    ----------
    encoder : fitted encoder or None
        Knows the levels of categories.
    x : Tensor or dict of Tensor
        Encoded rows.

    Returns
    -------
    Shapes
        By input name.
    """
    if hasattr(encoder, "shapes_"):
        return encoder.shapes_
    if isinstance(x, dict):
        return Shapes({name: tuple(value.shape[1:]) for name, value in x.items()})
    name = {2: "number", 4: "image"}.get(x.ndim, "tensor")
    return Shapes({name: tuple(x.shape[1:])})
