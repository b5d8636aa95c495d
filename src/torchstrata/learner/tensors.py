"""Encoded rows: a table or an array -> tensors, and the shapes that a network is built from."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.base import clone

from torchstrata.batches.bytewise import Bytes
from torchstrata.batches.padded import Inputs, Padded
from torchstrata.batches.source import is_image_of_bytes
from torchstrata.batches.stream import Stream
from torchstrata.data.arrays import Ragged, holds_arrays
from torchstrata.data.encode import Encoder, Shapes
from torchstrata.errors import ConfigError, DataError, did_you_mean


def fit_encoder(encoder: Any, X: Any, y: np.ndarray) -> Any:
    """Fit an encoder on training rows.

    Parameters
    ----------
    encoder : "auto", None or scikit-learn transformer
        ``"auto"`` is :func:`automatic_encoder`; None passes numbers through.
    X : DataFrame or ndarray
        Training rows.
    y : ndarray
        Their targets, for encoders that look at them.

    Returns
    -------
    object or None
        The fitted encoder.
    """
    if encoder is None or getattr(X, "ndim", 2) > 2:
        return None
    if isinstance(encoder, str) and encoder == "auto":
        return automatic_encoder().fit(X)
    if isinstance(encoder, str | type) or not (hasattr(encoder, "fit") and hasattr(encoder, "transform")):
        raise ConfigError(f"encoder must be 'auto', None or a scikit-learn transformer, got {encoder!r}")
    return clone(encoder).fit(X, y)


def automatic_encoder() -> Encoder:
    """Make the encoder that ``encoder="auto"`` stands for.

    Returns
    -------
    Encoder
        Scales by mean and standard deviation, and clips smoothly at ten of those: a guard against outliers.
    """
    return Encoder(scaling="standard", clip=10.0)


def lengths_of(X: Any, sampler: Any) -> np.ndarray | None:
    """Return the lengths by which a sampler puts rows together.

    Parameters
    ----------
    X : DataFrame or something else
        Training rows.
    sampler : LengthBucketBatchSampler
        May name the column.

    Returns
    -------
    ndarray of int64, shape (n,), or None
        None where no column holds arrays.

    Raises
    ------
    ConfigError
        If the column holds no arrays, or there are several and none is named.
    """
    known = [str(name) for name in X if holds_arrays(X[name])] if isinstance(X, pd.DataFrame) else []
    if sampler.column is None and len(known) > 1:
        raise ConfigError(f"batch_sampler {sampler!r}: columns {known} hold arrays; say column={known[0]!r}")
    name = sampler.column if sampler.column is not None else next(iter(known), None)
    if name is not None and name not in known:
        raise ConfigError(f"batch_sampler {sampler!r}: no column of arrays is called {name!r}. "
                          + did_you_mean(name, known))  # fmt: skip
    return None if name is None else np.fromiter(map(len, X[name]), np.int64, len(X))


def encode(encoder: Any, X: Any, dtype: torch.dtype) -> Any:
    """Make tensors of rows.

    Parameters
    ----------
    encoder : fitted encoder or None
        From :func:`fit_encoder`.
    X : DataFrame, ndarray or Stream
        Rows.
    dtype : torch.dtype
        Of the numbers.

    Returns
    -------
    Tensor, dict of Tensor or ByBatch
        One tensor where there is one input that is no category, else by name; images of bytes, streams and sequences
        become tensors later.
    """
    if isinstance(X, Stream):
        return X.as_type(dtype)
    if encoder is None and isinstance(X, np.ndarray) and is_image_of_bytes(X):
        return Bytes(_tensor(X, torch.uint8), dtype)
    encoded = X if encoder is None else encoder.transform(X)
    if isinstance(encoded, dict):
        return _encode_inputs(encoder, encoded, dtype)
    if hasattr(encoded, "toarray"):
        raise ConfigError("the encoder returned sparse rows; networks take dense ones (sparse_output=False)")
    tensor = _tensor(_numeric(np.asarray(encoded)), dtype)
    _check_encoded(tensor, encoder)
    return tensor


def _encode_inputs(encoder: Any, encoded: dict[str, Any], dtype: torch.dtype) -> Any:
    kinds = {"category": torch.int64}
    learnt = getattr(encoder, "arrays_", {})
    parts: dict[str, Any] = {}
    for name, value in encoded.items():
        if isinstance(value, Ragged):
            floats = dtype if not learnt[name].n_levels else torch.int64
            parts[name] = Padded(_tensor(value.values, floats), value.lengths)
        elif name in learnt and learnt[name].bytes:
            parts[name] = Bytes(_tensor(value, torch.uint8), dtype)
        else:
            parts[name] = _tensor(value, kinds.get(name, dtype))
    if len(parts) == 1 and (list(parts) == ["number"] or list(learnt) == list(parts)):
        only = next(iter(parts.values()))
        return Inputs(parts) if isinstance(only, Padded) else only
    return Inputs(parts) if any(isinstance(part, Padded | Bytes) for part in parts.values()) else parts


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


def shapes_of(encoder: Any, x: Any) -> Shapes:
    """Say what a network is built from.

    Parameters
    ----------
    encoder : fitted encoder or None
        Knows the levels of categories.
    x : Tensor, dict of Tensor or ByBatch
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
