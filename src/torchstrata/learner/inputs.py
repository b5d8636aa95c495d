"""What the user gives as X -> a checked table or array; scikit-learn's own checks where it has them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy import sparse
from sklearn.utils.validation import validate_data

from torchstrata.batches.source import is_image_of_bytes, plain
from torchstrata.batches.stream import Stream
from torchstrata.data.arrays import column_of, is_array, is_several, sequences_of
from torchstrata.data.encode import FLOAT32_MAX, Encoder
from torchstrata.data.tables import check_unique, clean, column_kind, to_pandas
from torchstrata.data.task import Task
from torchstrata.errors import DataError, did_you_mean
from torchstrata.learner.loading import open_rows
from torchstrata.training.predict import BLOCK

FLOAT64_MAX = float(np.finfo(np.float64).max)


def read_X(learner: Any, X: Any, *, reset: bool) -> Any:
    """Check X and remember, or compare, its columns.

    Parameters
    ----------
    learner : TorchLearner
        Gets ``n_features_in_`` and ``feature_names_in_`` if ``reset``, else X is compared with them.
    X : DataFrame (pandas, polars), array, tensor, dict of arrays, list of arrays, Dataset or Task
        The rows. Columns of a Task are taken by name; those of a DataFrame must come as in fit. A dict of inputs, and a
        list of arrays of unequal length, become a table with columns of arrays.
    reset : bool
        True in fit.

    Returns
    -------
    DataFrame, ndarray or Stream
        A pandas table where an encoder will read it by column, else an array of floats, or of bytes for images; rows
        that are fetched batch by batch are checked when they come.

    Raises
    ------
    ValueError, TypeError
        With scikit-learn's words, or :class:`DataError`.
    """
    X = _features(learner, X, reset=reset) if isinstance(X, Task) else open_rows(learner, X, strict=reset)[0]
    least = 2 if reset else 1
    if isinstance(X, Stream):
        return _read_stream(learner, X, reset=reset, least=least)
    X = _plain(_as_table(learner, X, reset=reset))
    _check_bytes(learner, X, reset=reset)
    if reset:
        learner._columns = X.columns if isinstance(X, pd.DataFrame) else None
    if isinstance(X, pd.DataFrame):
        _check_size(X, least)
        if learner.encoder is not None:
            validate_data(learner, X, reset=reset, skip_check_array=True)
            return X
        _check_numeric(X)
    elif _holds_text(X):
        if learner.encoder is None:
            raise DataError("X holds text or dates and encoder=None passes numbers through only: leave encoder='auto'")
        return validate_data(learner, X, reset=reset, dtype=None, ensure_all_finite=False, ensure_min_samples=least)
    image = getattr(X, "ndim", 2) > 2
    checked = validate_data(
        learner,
        X,
        reset=reset,
        dtype=np.uint8 if image and is_image_of_bytes(X) else [np.float64, np.float32],
        allow_nd=image,
        ensure_all_finite=True if learner.encoder is None or image else "allow-nan",
        ensure_min_samples=least,
    )
    _check_range(checked, learner)
    return checked


def read_few(learner: Any, X: Any) -> np.ndarray | None:
    """Read and encode a few rows for a prediction where one look is enough: floats of the columns of fit.

    scikit-learn's checks of one row take ten times as long as a small network.

    Parameters
    ----------
    learner : TorchLearner
        Fitted.
    X : object
        As given to predict.

    Returns
    -------
    ndarray of shape (n, p) or None
        Encoded; None where :func:`read_X` must look closer, or say what is wrong.
    """
    encoder = learner.encoder_
    if encoder is not None and type(encoder) is not Encoder:
        return None  # it may read columns by name
    if type(X) is pd.DataFrame:
        columns = learner.__dict__.get("_columns")
        if columns is None or len(X) > BLOCK or not (X.columns is columns or X.columns.equals(columns)):
            return None
        X = X.to_numpy()
    elif "feature_names_in_" in learner.__dict__:
        return None  # scikit-learn warns
    if type(X) is not np.ndarray or X.ndim != 2 or X.dtype not in (np.float64, np.float32):
        return None
    if not 0 < len(X) <= BLOCK or X.shape[1] != learner.n_features_in_:
        return None
    if encoder is not None:
        return encoder.transform_floats(X)
    narrow = learner.runtime_.dtype == torch.float32 or X.dtype == np.float32
    limit = FLOAT32_MAX if narrow else FLOAT64_MAX
    # one comparison finds what is missing, infinite or too large
    return X if np.abs(X).max(initial=0.0) <= limit else None


def _read_stream(learner: Any, X: Stream, *, reset: bool, least: int) -> Stream:
    if len(X) < least:
        raise DataError(
            f"Found array with {len(X)} sample(s) (shape={X.shape}) while a minimum of {least} is required."
        )
    _check_bytes(learner, X, reset=reset)
    validate_data(learner, X, reset=reset, skip_check_array=True)
    return X


def _check_bytes(learner: Any, X: Any, *, reset: bool) -> None:
    """Remember whether images are bytes, which are divided by 255; the same numbers as floats are not."""
    dtype = X.loader.source.dtype if isinstance(X, Stream) else getattr(X, "dtype", None)
    image = getattr(X, "ndim", 2) > 2
    now = bool(image and dtype == np.uint8)
    if reset:
        learner._bytes = now
    elif image and now != getattr(learner, "_bytes", now):
        was, hint = ("bytes", "divided by 255") if learner._bytes else ("no bytes", "as they are")
        raise DataError(f"images were {was} at fit, taken {hint}, and X is {dtype} now; give both the same type")


def _features(learner: Any, task: Task, *, reset: bool) -> pd.DataFrame:
    names = None if reset else getattr(learner, "feature_names_in_", None)
    if names is None:
        return task.X
    missing = [name for name in names if name not in task.feature_names]
    if missing:
        raise DataError(
            f"task {task.name!r} lacks features seen at fit time, yet now missing: {missing[:5]}. "
            + did_you_mean(missing[0], task.feature_names)
        )
    return task.X[list(names)]


def _as_table(learner: Any, X: Any, *, reset: bool) -> Any:
    """Make a table of a dict of inputs, and of a list of sequences; return anything else as it is."""
    if isinstance(X, dict) and not sparse.issparse(X):  # one kind of sparse array is a dict
        if not is_several(X):
            raise TypeError("X is a dict; pass pd.DataFrame(X)")
        table = to_pandas(X, where="X")
        names = [] if reset else list(getattr(learner, "feature_names_in_", ()))
        return table[names] if sorted(names) == sorted(table.columns) else table  # a dict is asked by name
    known = list(getattr(learner, "feature_names_in_", ())) == ["sequence"] and not reset
    if isinstance(X, torch.Tensor | np.ndarray) and X.dtype != object:
        return column_of(list(X)) if known and X.ndim > 1 else X
    if known and isinstance(X, list | tuple):
        X = [row if is_array(row) else np.asarray(row) for row in X]
    rows = sequences_of(X)
    if rows is None:
        return X
    if known or len({len(row) for row in rows}) > 1 or "sequence" in getattr(learner.encoder, "sequences", ()):
        return column_of(rows)
    alike = rows[0].ndim > 1 and len({row.shape for row in rows}) == 1
    return np.stack([as_array(row) for row in rows]) if alike else X


def _plain(X: Any) -> Any:
    """Return X as a pandas table, or as something that numpy understands; refuse what only looks like rows."""
    if sparse.issparse(X):
        size = np.prod(X.shape) * 8 / 2**30
        raise TypeError(
            f"Sparse data was passed for X, but dense data is required: X.toarray() (would need {size:.1f} GB)"
        )
    if X is None or np.isscalar(X):
        raise TypeError(
            f"Expected 2D array: X must be a DataFrame or a 2-D array, got {type(X).__name__}. Reshape your data"
        )
    if isinstance(X, Iterator):
        raise TypeError(f"X is a {type(X).__name__}; pass a list or an array")
    if hasattr(type(X), "columns"):  # not hasattr(X, ...), which makes a lazy frame work
        return _table(X)
    if isinstance(X, list | tuple):
        _check_ragged(X)
    return as_array(X)


def _table(X: Any) -> pd.DataFrame:
    if not isinstance(X, pd.DataFrame):
        return to_pandas(X, where="X")
    if isinstance(X.columns, pd.MultiIndex):
        raise DataError("X: columns are a MultiIndex; flatten them: X.columns = ['_'.join(map(str, c)) for c in X]")
    check_unique(list(X.columns), where="X")
    return X


def as_array(values: Any) -> Any:
    """Return tensors and masked arrays as arrays; anything else as it is.

    Parameters
    ----------
    values : object
        A tensor on any device, an array or something else.

    Returns
    -------
    object
        Masked cells are NaN.
    """
    if isinstance(values, torch.Tensor):
        return plain(values)
    if isinstance(values, np.ma.MaskedArray):
        return np.ma.filled(values.astype(object if values.dtype.kind in "OUS" else np.float64), np.nan)
    return values


def _check_size(X: pd.DataFrame, least: int) -> None:
    n, p = X.shape
    if p == 0:
        raise DataError(f"Found array with 0 feature(s) (shape=({n}, 0)) while a minimum of 1 is required.")
    if n < least:
        raise DataError(f"Found array with {n} sample(s) (shape=({n}, {p})) while a minimum of {least} is required.")


def _check_numeric(X: pd.DataFrame) -> None:
    """Refuse what no float can hold: without an encoder nothing turns it into numbers."""
    rows = np.arange(len(X))
    for name in X.columns:
        kind = column_kind(clean(X[name], where="X", row_ids=rows))
        if kind in ("category", "datetime", "array") and not X[name].isna().all():
            held = "holds arrays" if kind == "array" else f"is a {kind}"
            raise DataError(
                f"column {name!r} {held} and encoder=None passes numbers through only: "
                "leave encoder='auto', or make it a number"
            )


def _check_ragged(X: list | tuple) -> None:
    lengths = [len(row) if isinstance(row, list | tuple) else -1 for row in X]
    odd = next((i for i, length in enumerate(lengths) if length != lengths[0]), None)
    if odd is not None and min(lengths) >= 0:
        raise DataError(
            f"rows 0 and {odd} have lengths {lengths[0]} and {lengths[odd]}; all rows need the same columns, and "
            "sequences are arrays: [np.array(row) for row in X]"
        )


def _holds_text(X: Any) -> bool:
    if not isinstance(X, np.ndarray) or X.ndim != 2 or X.dtype.kind not in "OUS":
        return False
    try:
        X.astype(np.float64)
    except ValueError:
        return True  # text among the cells: categories
    except TypeError:  # dates and pd.NA are cells of a table; of dicts and lists numpy's words say enough
        if any(isinstance(value, dict | list | set) for value in X.flat):
            raise
        return True
    return False


def _check_range(X: np.ndarray, learner: Any) -> None:
    if X.dtype != np.float64 or getattr(learner.runtime, "precision", "float32") == "float64":
        return
    with np.errstate(invalid="ignore"):
        large = np.abs(X) > FLOAT32_MAX
    if large.any():
        row, column = map(int, np.argwhere(large)[0][:2])
        names = getattr(learner, "feature_names_in_", None)
        shown = repr(str(names[column])) if names is not None else str(column)
        raise DataError(
            f"column {shown} has values beyond float32 ({X[large][0]:g} in row {row}); rescale it "
            "or use runtime=ts.Runtime(precision='float64')"
        )
