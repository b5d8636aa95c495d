"""Rows that stay where they are until a batch asks for them: a torch Dataset, an array, a file mapped into memory."""

from __future__ import annotations

import contextlib
import mmap
import random
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from torchstrata.errors import DataError

# Rows read at a time where all of them are read.
READ_ROWS = 256


class Source:
    """Rows of X that are fetched a batch at a time.

    A Dataset with ``__getitems__`` is asked once a batch, another one item by item; arrays are indexed.

    Parameters
    ----------
    data : torch.utils.data.Dataset or ndarray
        A Dataset has a length; its items are X, or (X, y, ...). A memmap is an array.

    Raises
    ------
    TypeError
        If a Dataset has no length.
    DataError
        If there is no row, or a row is no array of numbers.
    """

    def __init__(self, data: Any):
        name = type(data).__name__
        if not hasattr(data, "__len__"):
            raise TypeError(f"X is a {name} without a length; pass a Dataset with __len__ and __getitem__")
        self.n = len(data)
        if not self.n:
            shape = f"shape={data.shape}" if isinstance(data, np.ndarray) else "an empty Dataset"
            raise DataError(f"Found array with 0 sample(s) ({shape}) while a minimum of 1 is required.")
        self.data, self.where = data, f"X ({name})"
        self.is_array = isinstance(data, np.ndarray)
        item = data[0] if self.is_array else self._items([0])[0]
        first = np.asarray(as_plain(item[0] if isinstance(item, tuple | list) else item))
        self.row_shape, self.dtype = first.shape, first.dtype
        if self.dtype.kind not in "biuf":
            raise DataError(f"{self.where}: row 0 is {self.dtype}, expected numbers; an item is x, or (x, y)")

    def __len__(self) -> int:
        return self.n

    def __getstate__(self) -> dict[str, Any]:
        """Hand a memmap to another process by the name of its file; pickle would copy all of it."""
        data, state = self.data, dict(vars(self))
        if isinstance(data, np.memmap) and isinstance(data.base, mmap.mmap) and data.flags.c_contiguous:
            state["data"] = (str(data.filename), data.dtype, data.offset, data.shape)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        if isinstance(self.data, tuple):
            filename, dtype, offset, shape = self.data
            self.data = np.memmap(filename, dtype=dtype, mode="r", offset=offset, shape=shape)

    @property
    def n_bytes(self) -> int:
        """Bytes of all rows as they come."""
        return self.n * self.dtype.itemsize * int(np.prod(self.row_shape))

    def fetch(self, rows: np.ndarray, dtype: np.dtype | None = None) -> np.ndarray:
        """Read some rows.

        Parameters
        ----------
        rows : ndarray of int64
            Which, in which order.
        dtype : numpy.dtype, optional
            What floats and integers become; images of bytes stay bytes.

        Returns
        -------
        ndarray of shape (len(rows), ...)
            Finite numbers.

        Raises
        ------
        DataError
            Naming the row that cannot be read or used.
        """
        if self.is_array:
            x = np.asarray(self.data[rows])
        else:
            x = self._stack(self._items(rows.tolist()), rows)
        if dtype is not None and not is_image_of_bytes(x):
            with np.errstate(over="ignore"):
                x = x.astype(dtype, copy=False)
            self._check_finite(x, rows)
        return x

    def read(self) -> tuple[np.ndarray, np.ndarray | None]:
        """Read all rows, in one pass.

        Returns
        -------
        X : ndarray
            One row an item.
        y : ndarray or None
            The second part of the items; None where they have none.
        """
        xs, ys = [], []
        for rows, items in self._blocks():
            xs.append(self._stack(items, rows))
            y = self._y(items)
            if y is not None:
                ys.append(y)
        return np.concatenate(xs), np.concatenate(ys) if ys else None

    def labels(self) -> np.ndarray | None:
        """Read y of all rows; of X no more than a block is held.

        Returns
        -------
        ndarray or None
            None where items have no second part.
        """
        ys = []
        for _, items in self._blocks():
            y = self._y(items)
            if y is None:
                return None
            ys.append(y)
        return np.concatenate(ys)

    def _blocks(self) -> Iterator[tuple[np.ndarray, Sequence[Any]]]:
        for start in range(0, self.n, READ_ROWS):
            rows = np.arange(start, min(start + READ_ROWS, self.n))
            yield rows, self._items(rows.tolist())

    def _y(self, items: Sequence[Any]) -> np.ndarray | None:
        if not isinstance(items[0], tuple | list) or len(items[0]) < 2:
            return None
        return np.stack([np.asarray(as_plain(item[1])) for item in items])

    def _items(self, rows: list[int]) -> Sequence[Any]:
        batched = getattr(self.data, "__getitems__", None)
        if batched is None:
            items = []
            try:
                for row in rows:
                    items.append(self.data[row])  # noqa: PERF401 - how many there are says which one failed
            except Exception as error:
                said = f"{type(error).__name__}: {error}"
                raise DataError(f"{self.where}: row {rows[len(items)]} cannot be read: {said}") from error
            return items
        try:
            items = batched(rows)
        except Exception as error:
            raise self._refused(rows, error) from error
        if not hasattr(items, "__len__") or len(items) != len(rows):
            got = f"{len(items)} items" if hasattr(items, "__len__") else type(items).__name__
            raise DataError(
                f"{self.where}: __getitems__ returned {got} for {len(rows)} rows ({_listed(rows)}), expected a list "
                "of one item a row"
            )
        return items

    def _refused(self, rows: list[int], error: Exception) -> DataError:
        """Find the row at which a batch failed, by reading one at a time."""
        for row in rows:
            try:
                self.data.__getitems__([row])
            except Exception as own:  # whatever a dataset raises
                return DataError(f"{self.where}: row {row} cannot be read: {type(own).__name__}: {own}")
        said = f"{type(error).__name__}: {error}"
        return DataError(f"{self.where}: {_listed(rows)} cannot be read together, but can one by one: {said}")

    def _stack(self, items: Sequence[Any], rows: np.ndarray) -> np.ndarray:
        """Make one array of the first part of items; rows that do not fit are named."""
        if isinstance(items, np.ndarray | torch.Tensor):  # a batch that is an array already
            parts: Sequence[Any] = items
            stacked = plain(items) if isinstance(items, torch.Tensor) else items
        else:
            parts = [item[0] if isinstance(item, tuple | list) else item for item in items]
            stacked = self._quickly(parts)
        if stacked is not None and stacked.shape[1:] == self.row_shape and stacked.dtype == self.dtype:
            return stacked
        arrays = [np.asarray(as_plain(part)) for part in parts]
        for row, array in zip(rows, arrays, strict=True):
            if array.shape != self.row_shape:
                raise DataError(f"{self.where}: row {row} has shape {array.shape}, row 0 has {self.row_shape}")
            if array.dtype.kind not in "biuf" or (array.dtype == np.uint8) != (self.dtype == np.uint8):
                raise DataError(f"{self.where}: row {row} holds {array.dtype} values, row 0 {self.dtype}")
        return np.stack(arrays)

    def _quickly(self, parts: list[Any]) -> np.ndarray | None:
        """Stack parts that are all tensors or all arrays of one shape and type."""
        kind = type(parts[0])
        if kind not in (torch.Tensor, np.ndarray) or not self.row_shape:
            return None
        first = parts[0].dtype
        if any(type(part) is not kind or part.shape != self.row_shape or part.dtype != first for part in parts):
            return None
        if kind is np.ndarray:
            return np.concatenate(parts).reshape(len(parts), *self.row_shape)
        return plain(torch.stack(parts))

    def _check_finite(self, x: np.ndarray, rows: np.ndarray) -> None:
        if np.isfinite(x).all():
            return
        bad = rows[int(np.argmin(np.isfinite(x).reshape(len(x), -1).all(axis=1)))]
        raise DataError(f"Input X contains NaN, infinity or a value too large for {x.dtype}: row {bad} of {self.where}")


def is_image_of_bytes(x: Any) -> bool:
    """Say whether inputs are bytes that stay bytes until they are on the device.

    Parameters
    ----------
    x : ndarray or Tensor
        Inputs; the first dimension is the row.

    Returns
    -------
    bool
        True for uint8 and three or more dimensions; two dimensions are a table of numbers.
    """
    return x.dtype in (np.uint8, torch.uint8) and x.ndim > 2


def as_plain(part: Any) -> Any:
    """Return one part of an item of a Dataset as something that numpy understands.

    Parameters
    ----------
    part : object
        A tensor, an array, a number or whatever a Dataset gives.

    Returns
    -------
    object
        Tensors as arrays, anything else as it is.
    """
    return plain(part) if isinstance(part, torch.Tensor) else part


def plain(tensor: torch.Tensor) -> np.ndarray:
    """Return a tensor on any device, of any type of float, as an array.

    Parameters
    ----------
    tensor : Tensor
        bfloat16, which numpy lacks, becomes float32.

    Returns
    -------
    ndarray
        The same memory where that is possible.
    """
    tensor = tensor.detach().cpu()
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()


@contextlib.contextmanager
def drawing(key: tuple[int, ...]) -> Iterator[None]:
    """Give what a Dataset draws its own stream, so that it is the same whatever process reads the batch.

    Parameters
    ----------
    key : tuple of int
        Seed, epoch, batch.

    Yields
    ------
    None
        The global generators of Python, numpy and torch are put back afterwards.
    """
    seed = int(np.random.SeedSequence(key).generate_state(1)[0])
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002 - what datasets draw from
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])  # noqa: NPY002
        torch.set_rng_state(before[2])


def _listed(rows: list[int]) -> str:
    return (
        "row " + str(rows[0]) if len(rows) == 1 else f"rows {', '.join(map(str, rows[:3]))}{', ...' * (len(rows) > 3)}"
    )
