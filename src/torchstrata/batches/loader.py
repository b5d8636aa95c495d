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

from torchstrata.batches.samplers import plan_batches, stratum_codes

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


class TorchBatchSampler(torch.utils.data.Sampler):
    """A batch sampler of ours as a torch ``batch_sampler`` for any DataLoader.

    Parameters
    ----------
    sampler : BatchSampler or callable
        Decides which rows meet.
    strata : array, Series or DataFrame
        The stratum of every row.
    seed : int
        Together with the epoch it decides the draws.

    Notes
    -----
    Every ``iter`` begins the next epoch, also after a loop that broke off early; ``set_epoch`` names one.
    ``state_dict`` between two batches holds the epoch and the number of batches already given. A DataLoader with
    workers asks for batches ahead of those it has handed out, and they count as given: take the state between epochs.
    """

    def __init__(self, sampler: Any, strata: Any, seed: int = 0):
        codes, _ = stratum_codes(strata)
        self._plan = plan_batches(sampler, len(codes), strata)
        self._epoch, self._given = 0, 0  # where we are
        self._next = (0, 0)  # epoch and batch with which the next iter begins
        self.sampler, self.seed = sampler, seed

    def __len__(self) -> int:
        return len(self._plan.draw(self._next[0], self.seed)[1]) - 1

    def __iter__(self) -> Iterator[list[int]]:
        (self._epoch, first), self._given = self._next, 0
        order, bounds = self._plan.draw(self._epoch, self.seed)
        self._next = (self._epoch + 1, 0)
        for b in range(first, len(bounds) - 1):
            self._given = b + 1
            yield order[bounds[b] : bounds[b + 1]].tolist()

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch the next ``iter`` gives.

        Parameters
        ----------
        epoch : int
            Its number, from 0.
        """
        self._epoch, self._given, self._next = epoch, 0, (epoch, 0)

    def state_dict(self) -> dict[str, int]:
        """Return where we are.

        Returns
        -------
        dict
            ``epoch``, and ``given``: how many batches of it have been given.
        """
        return {"epoch": self._epoch, "given": self._given, "seed": self.seed}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on where ``state_dict`` was taken; after a complete epoch that is the next one.

        Parameters
        ----------
        state : dict
            From ``state_dict``.
        """
        self._epoch, self._given, self.seed = state["epoch"], state["given"], state["seed"]
        complete = self._given >= len(self._plan.draw(self._epoch, self.seed)[1]) - 1
        self._next = (self._epoch + 1, 0) if complete else (self._epoch, self._given)


def torch_sampler(sampler: Any, strata: Any, *, seed: int = 0) -> TorchBatchSampler:
    """Make a torch batch sampler for ``DataLoader(dataset, batch_sampler=...)``.

    Parameters
    ----------
    sampler : BatchSampler or callable
        Decides which rows meet.
    strata : array, Series or DataFrame
        The stratum of every row of the data set.
    seed : int
        Together with the epoch it decides the draws.

    Returns
    -------
    TorchBatchSampler
        With ``len``, ``iter``, ``set_epoch``, ``state_dict``.

    Examples
    --------
    >>> from torchstrata import StratifiedBatchSampler
    >>> batches = torch_sampler(StratifiedBatchSampler(1), ["M"] * 6 + ["R"] * 2)
    >>> len(batches), sorted(sum(batches, []))
    (2, [0, 1, 2, 3, 4, 5, 6, 7])
    """
    return TorchBatchSampler(sampler, strata, seed)
