"""What the user gives as X -> a checked table or array -> tensors; scikit-learn's own checks where it has them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy import sparse
from sklearn.base import clone
from sklearn.utils.validation import validate_data

from torchstrata.batches.loader import Tensors
from torchstrata.data.encode import FLOAT32_MAX, Encoder, Shapes
from torchstrata.data.tables import check_unique, clean, column_kind, to_pandas
from torchstrata.data.task import Task
from torchstrata.errors import ConfigError, DataError, did_you_mean


def read_X(learner: Any, X: Any, *, reset: bool) -> Any:
    """Check X and remember, or compare, its columns.

    Parameters
    ----------
    learner : TorchLearner
        Gets ``n_features_in_`` and ``feature_names_in_`` if ``reset``, else X is compared with them.
    X : DataFrame (pandas, polars), array, tensor, Dataset or Task
        The rows. Columns of a Task are taken by name; those of a DataFrame must come as in fit.
    reset : bool
        True in fit.

    Returns
    -------
    DataFrame or ndarray
        A pandas table where an encoder will read it by column, else an array of floats.

    Raises
    ------
    ValueError, TypeError
        With scikit-learn's words, or :class:`DataError`.
    """
    X = _features(learner, X, reset=reset) if isinstance(X, Task) else _plain(X)
    least = 2 if reset else 1
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
    checked = validate_data(
        learner,
        X,
        reset=reset,
        dtype=[np.float64, np.float32],
        allow_nd=getattr(X, "ndim", 2) > 2,
        ensure_all_finite=True if learner.encoder is None or getattr(X, "ndim", 2) > 2 else "allow-nan",
        ensure_min_samples=least,
    )
    _check_range(checked, learner)
    return checked


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
    if isinstance(X, dict):
        raise TypeError("X is a dict; pass pd.DataFrame(X)")
    if isinstance(X, torch.utils.data.Dataset):
        return stack_items(X, 0)
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
        tensor = values.detach().cpu()
        return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
    if isinstance(values, np.ma.MaskedArray):
        return np.ma.filled(values.astype(object if values.dtype.kind in "OUS" else np.float64), np.nan)
    return values


def stack_items(data: Any, place: int) -> np.ndarray | None:
    """Read one part of all items of a torch Dataset.

    Parameters
    ----------
    data : torch.utils.data.Dataset
        With a length; its items are X, or (X, y, ...).
    place : int
        0 for X, 1 for y.

    Returns
    -------
    ndarray or None
        One row an item; None where items have no such part.
    """
    if not hasattr(data, "__len__"):
        raise TypeError(f"X is a {type(data).__name__} without a length; pass a Dataset with __len__ and __getitem__")
    if not len(data):
        raise DataError("Found array with 0 sample(s) (an empty Dataset) while a minimum of 1 is required.")
    items = [data[i] for i in range(len(data))]
    if isinstance(items[0], tuple | list):
        items = [item[place] for item in items] if place < len(items[0]) else []
    elif place:
        items = []
    return np.stack([np.asarray(as_array(item)) for item in items]) if items else None


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
        if kind in ("category", "datetime") and not X[name].isna().all():
            raise DataError(
                f"column {name!r} is a {kind} and encoder=None passes numbers through only: "
                "leave encoder='auto', or make it a number"
            )


def _check_ragged(X: list | tuple) -> None:
    lengths = [len(row) if isinstance(row, list | tuple) else -1 for row in X]
    odd = next((i for i, length in enumerate(lengths) if length != lengths[0]), None)
    if odd is not None and min(lengths) >= 0:
        raise DataError(
            f"rows 0 and {odd} have lengths {lengths[0]} and {lengths[odd]}; all rows need the same columns"
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


def fit_encoder(encoder: Any, X: Any, y: np.ndarray) -> Any:
    """Fit an encoder on training rows.

    Parameters
    ----------
    encoder : "auto", None or scikit-learn transformer
        ``"auto"`` is an :class:`Encoder`; None passes numbers through.
    X : DataFrame or ndarray
        Training rows.
    y : ndarray
        Their targets, for encoders that look at them.

    Returns
    -------
    object or None
        The fitted encoder.
    """
    if encoder is None or (isinstance(X, np.ndarray) and X.ndim > 2):
        return None
    if isinstance(encoder, str) and encoder == "auto":
        return Encoder().fit(X)
    if isinstance(encoder, str | type) or not (hasattr(encoder, "fit") and hasattr(encoder, "transform")):
        raise ConfigError(f"encoder must be 'auto', None or a scikit-learn transformer, got {encoder!r}")
    return clone(encoder).fit(X, y)


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
    tensor = _tensor(_numeric(np.asarray(encoded)), dtype)
    _check_encoded(tensor, encoder)
    return tensor


def _numeric(values: np.ndarray) -> np.ndarray:
    try:
        return values if values.dtype.kind in "biuf" else values.astype(np.float64)
    except ValueError as error:
        raise ConfigError(f"the encoder returned {values.dtype} values, networks take numbers: {error}") from None


def _check_encoded(tensor: torch.Tensor, encoder: Any) -> None:
    if encoder is None or torch.isfinite(tensor).all():
        return
    row = int((~torch.isfinite(tensor)).flatten(1).any(1).int().argmax())
    raise DataError(
        f"Input X contains NaN or infinity after {type(encoder).__name__} (first in row {row}): let the encoder fill "
        "them, for example make_pipeline(SimpleImputer(), StandardScaler())"
    )


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
