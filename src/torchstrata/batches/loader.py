"""Index arrays -> batches of tensors on the device.

Rows that fit into memory stay there as whole tensors. One gather an epoch puts them in the order of the epoch, and the
batches are views of the result: a DataLoader of single rows alone costs more than a whole step of a small network.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

Tensors = torch.Tensor | dict[str, torch.Tensor]

# Beyond this many bytes a second copy of the rows in epoch order is not worth its memory: gather batch by batch.
GATHER_WHOLE_BELOW = 256 * 2**20


@dataclasses.dataclass(frozen=True)
class Rows:
    """Encoded rows, resident on one device.

    Parameters
    ----------
    x : Tensor or dict of Tensor
        Inputs; the first dimension is the row.
    y : Tensor
        Targets, as the loss wants them.
    weight : Tensor, optional
        One weight a row; None means all ones.
    """

    x: Tensors
    y: torch.Tensor
    weight: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.y)

    def to(self, device: torch.device | str) -> Rows:
        """Return the rows on a device.

        Parameters
        ----------
        device : torch.device or str
            Where to.

        Returns
        -------
        Rows
            The same rows there.
        """
        weight = None if self.weight is None else self.weight.to(device)
        return Rows(move(self.x, device), self.y.to(device), weight)

    def epoch(
        self, order: np.ndarray, bounds: np.ndarray
    ) -> Iterator[tuple[Tensors, torch.Tensor, torch.Tensor | None]]:
        """Yield the batches of one epoch.

        Parameters
        ----------
        order : ndarray of int64
            Rows, batch after batch.
        bounds : ndarray of int64
            Where batches begin and end in ``order``.

        Yields
        ------
        x, y, weight
            The rows of one batch; views of the gathered epoch where that fits into memory.
        """
        index = torch.from_numpy(order).to(self.y.device, non_blocking=True)
        sizes = np.diff(bounds).tolist()
        if self._bytes() > GATHER_WHOLE_BELOW:
            return (self._pick(part) for part in index.split(sizes))
        x, y, weight = self._pick(index)
        weights = [None] * len(sizes) if weight is None else weight.split(sizes)
        return zip(split(x, sizes), y.split(sizes), weights, strict=True)

    def _pick(self, index: torch.Tensor) -> tuple[Tensors, torch.Tensor, torch.Tensor | None]:
        return pick(self.x, index), self.y[index], None if self.weight is None else self.weight[index]

    def _bytes(self) -> int:
        tensors = self.x.values() if isinstance(self.x, dict) else [self.x]
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def move(x: Tensors, device: torch.device | str) -> Tensors:
    """Move inputs to a device.

    Parameters
    ----------
    x : Tensor or dict of Tensor
        Inputs.
    device : torch.device or str
        Where to.

    Returns
    -------
    Tensor or dict of Tensor
        The inputs there.
    """
    return {name: value.to(device) for name, value in x.items()} if isinstance(x, dict) else x.to(device)


def pick(x: Tensors, index: torch.Tensor | slice) -> Tensors:
    """Take rows of inputs.

    Parameters
    ----------
    x : Tensor or dict of Tensor
        Inputs.
    index : Tensor of int64 or slice
        Which rows.

    Returns
    -------
    Tensor or dict of Tensor
        Those rows; a view for a slice, a copy for an index.
    """
    return {name: value[index] for name, value in x.items()} if isinstance(x, dict) else x[index]


def split(x: Tensors, sizes: list[int]) -> Any:
    """Split inputs into batches of given sizes.

    Parameters
    ----------
    x : Tensor or dict of Tensor
        Inputs in epoch order.
    sizes : list of int
        Rows of each batch.

    Returns
    -------
    sequence of Tensor or dict of Tensor
        Views, one a batch.
    """
    if not isinstance(x, dict):
        return x.split(sizes)
    parts = zip(*(value.split(sizes) for value in x.values()), strict=True)
    return [dict(zip(x, part, strict=True)) for part in parts]


def n_rows(x: Tensors) -> int:
    """Count the rows of inputs.

    Parameters
    ----------
    x : Tensor or dict of Tensor
        Inputs.

    Returns
    -------
    int
        Length of the first dimension.
    """
    return len(next(iter(x.values()))) if isinstance(x, dict) else len(x)
