"""Index arrays -> batches of tensors on the device.

Rows that fit into memory stay there as whole tensors. One gather an epoch puts them in the order of the epoch, and the
batches are views of the result: a DataLoader of single rows alone costs more than a whole step of a small network.
Others are made batch by batch (``bytewise.py``, ``stream.py``); who iterates an epoch sees no difference.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from torchstrata.batches.bytewise import ByBatch

Tensors = torch.Tensor | dict[str, torch.Tensor]

# On a CPU so many bytes are gathered at a time: more does not stay in the cache, and the memory of a large copy comes
# anew from the system each epoch (measured: 100,000 x 100 floats at once take several times as long as in such pieces).
PIECE_BYTES = 2**21
# Beyond this many bytes a second copy of the rows in epoch order is not worth its memory: gather batch by batch.
GATHER_WHOLE_BELOW = 256 * 2**20


@dataclasses.dataclass(frozen=True)
class Rows:
    """Encoded rows on one device.

    Parameters
    ----------
    x : Tensor, dict of Tensor, or ByBatch
        Inputs; the first dimension is the row. Those that are made batch by batch are no tensors: see ``by_batch``.
    y : Tensor
        Targets, as the loss wants them.
    weight : Tensor, optional
        One weight a row; None means all ones.
    """

    x: Any
    y: torch.Tensor
    weight: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.y)

    @property
    def by_batch(self) -> str:
        """Why inputs exist as floats only a batch at a time; empty where ``x`` is a tensor or a dict of tensors."""
        return self.x.why if isinstance(self.x, ByBatch) else ""

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
        weights = [None] * len(sizes) if self.weight is None else self.weight[index].split(sizes)
        x = self.x.batches(order, bounds) if isinstance(self.x, ByBatch) else self._inputs(index, sizes)
        return zip(x, self.y[index].split(sizes), weights, strict=True)

    def _inputs(self, index: torch.Tensor, sizes: list[int]) -> Iterator[Tensors]:
        """Gather the rows of as many batches at a time as is quickest; the batches are views."""
        together = len(sizes)
        if self._bytes() > GATHER_WHOLE_BELOW:
            together = 1
        elif index.device.type == "cpu" and sizes:
            together = max(1, int(PIECE_BYTES / max(1, self._bytes() / max(1, len(self)) * max(sizes))))
        if together >= len(sizes):
            return iter(split(pick(self.x, index), sizes))
        groups = [sizes[i : i + together] for i in range(0, len(sizes), together)]
        parts = zip(index.split([sum(group) for group in groups]), groups, strict=True)
        return itertools.chain.from_iterable(split(pick(self.x, part), group) for part, group in parts)

    def _bytes(self) -> int:
        tensors = self.x.values() if isinstance(self.x, dict) else [self.x]
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def move(x: Any, device: torch.device | str) -> Any:
    """Move inputs to a device.

    Parameters
    ----------
    x : Tensor, dict of Tensor or ByBatch
        Inputs.
    device : torch.device or str
        Where to.

    Returns
    -------
    Tensor, dict of Tensor or ByBatch
        The inputs there.
    """
    return {name: value.to(device) for name, value in x.items()} if isinstance(x, dict) else x.to(device)


def pick(x: Any, index: torch.Tensor | slice) -> Tensors:
    """Take rows of inputs.

    Parameters
    ----------
    x : Tensor, dict of Tensor or ByBatch
        Inputs.
    index : Tensor of int64 or slice
        Which rows.

    Returns
    -------
    Tensor or dict of Tensor
        Those rows; a view for a slice, a copy for an index.
    """
    if isinstance(x, ByBatch):
        return x.pick(index)
    if isinstance(x, dict):
        return {name: pick(value, index) for name, value in x.items()}  # type: ignore[misc]
    return x[index] if isinstance(index, slice) else x.index_select(0, index)  # quicker than x[index]


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


def n_rows(x: Any) -> int:
    """Count the rows of inputs.

    Parameters
    ----------
    x : Tensor, dict of Tensor or ByBatch
        Inputs.

    Returns
    -------
    int
        Length of the first dimension.
    """
    return len(next(iter(x.values()))) if isinstance(x, dict) else len(x)
