"""Inputs that become tensors of floats a batch at a time; bytes in memory are such."""

from __future__ import annotations

import abc
from collections.abc import Iterator

import numpy as np
import torch

from torchstrata.batches.source import is_image_of_bytes


class ByBatch(abc.ABC):
    """Inputs that exist as tensors of floats only a batch at a time.

    They stand where else a tensor of all rows stands (``Rows.x``).
    """

    shape: tuple[int, ...]
    why: str

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def ndim(self) -> int:
        """Number of dimensions, the row included."""
        return len(self.shape)

    @abc.abstractmethod
    def to(self, device: torch.device | str) -> ByBatch:
        """Return the inputs for another device."""

    @abc.abstractmethod
    def pick(self, index: torch.Tensor | slice) -> torch.Tensor:
        """Return some rows as floats on the device."""

    @abc.abstractmethod
    def batches(self, order: np.ndarray, bounds: np.ndarray) -> Iterator[torch.Tensor]:
        """Yield the batches of one epoch as floats on the device."""

    @abc.abstractmethod
    def chunks(self, multiple: int) -> Iterator[torch.Tensor]:
        """Yield all rows in their order; all parts but the last hold a multiple of so many rows."""

    def places(self, multiple: int) -> torch.Tensor | None:
        """Say where each row stands in :meth:`chunks`, where that is another order; None where it is not."""
        return None

    def close(self) -> None:  # noqa: B027 - most have nothing to close
        """End the processes that load."""


class Bytes(ByBatch):
    """Images of bytes in memory, a fourth of what floats need; a batch becomes floats in [0, 1] on the device.

    Parameters
    ----------
    x : Tensor of uint8
        All rows.
    dtype : torch.dtype
        Of the batches.
    """

    why = "inputs are bytes, which become floats a batch at a time"

    def __init__(self, x: torch.Tensor, dtype: torch.dtype):
        self.x, self.dtype, self.shape = x, dtype, tuple(x.shape)

    def to(self, device: torch.device | str) -> Bytes:
        """Return the inputs on another device."""
        return Bytes(self.x.to(device), self.dtype)

    def pick(self, index: torch.Tensor | slice) -> torch.Tensor:
        """Return some rows as floats."""
        x = self.x[index] if isinstance(index, slice) else self.x.index_select(0, index)
        return as_floats(x, self.dtype)

    def batches(self, order: np.ndarray, bounds: np.ndarray) -> Iterator[torch.Tensor]:
        """Yield the batches of one epoch."""
        index = torch.from_numpy(order).to(self.x.device, non_blocking=True)
        return (self.pick(part) for part in index.split(np.diff(bounds).tolist()))

    def chunks(self, multiple: int) -> Iterator[torch.Tensor]:
        """Yield all rows in their order."""
        return (self.pick(slice(start, start + multiple)) for start in range(0, len(self), multiple))


def as_floats(x: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Turn inputs into floats where they are.

    Parameters
    ----------
    x : Tensor
        Numbers; images of bytes become numbers in [0, 1].
    dtype : torch.dtype
        A float.

    Returns
    -------
    Tensor
        Of that type.
    """
    return x.to(dtype).div_(255) if is_image_of_bytes(x) else x.to(dtype)
