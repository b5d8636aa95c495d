"""Our batch samplers as a torch batch sampler, for any DataLoader."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from torchstrata.batches.base import check_call, plan_batches, rank_parts


class TorchBatchSampler(torch.utils.data.Sampler):
    """A batch sampler of ours as a torch ``batch_sampler`` for any DataLoader.

    Parameters
    ----------
    sampler : BatchSampler or callable
        Decides which rows meet.
    strata : array, Series or DataFrame
        What the sampler takes as strata, one value (or row of values) for every row of the data set.
    seed : int
        Together with the epoch it decides the draws.
    rank, world_size : int
        Give this rank's part of every batch.

    Notes
    -----
    Every ``iter`` begins the next epoch, also after a loop that broke off early; ``set_epoch`` names one.
    ``state_dict`` between two batches holds the epoch and the number of batches already given. A DataLoader with
    workers asks for batches ahead of those it has handed out, and they count as given: tell ``state_dict(given=...)``
    how many the loop has seen, or use torchdata's StatefulDataLoader, which does.
    """

    def __init__(self, sampler: Any, strata: Any, seed: int = 0, *, rank: int = 0, world_size: int = 1):
        n = len(strata)
        check_call(n, rank, world_size)
        self._plan = plan_batches(sampler, n, strata)
        self._epoch, self._given = 0, 0  # where we are
        self._next = (0, 0)  # epoch and batch with which the next iter begins
        self._n_batches: dict[tuple[int, int], int] = {}
        self.sampler, self.seed, self.rank, self.world_size = sampler, seed, rank, world_size

    def __len__(self) -> int:
        return self._count(self._next[0])

    def __iter__(self) -> Iterator[list[int]]:
        (self._epoch, first), self._given = self._next, 0
        self._next = (self._epoch + 1, 0)
        batches = rank_parts(self._plan, *self._plan.draw(self._epoch, self.seed), self.rank, self.world_size)
        for b, batch in enumerate(batches[first:], first + 1):
            self._given = b
            yield batch.tolist()

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch the next ``iter`` gives.

        Parameters
        ----------
        epoch : int
            Its number, from 0.
        """
        self._epoch, self._given, self._next = epoch, 0, (epoch, 0)

    def state_dict(self, given: int | None = None) -> dict[str, int]:
        """Return where we are.

        Parameters
        ----------
        given : int, optional
            Batches of this epoch the loop has seen; by default all that were asked for.

        Returns
        -------
        dict
            ``epoch``, ``given`` and ``seed``.
        """
        return {"epoch": self._epoch, "given": self._given if given is None else given, "seed": self.seed}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on where ``state_dict`` was taken; after a complete epoch that is the next one.

        Parameters
        ----------
        state : dict
            From ``state_dict``.
        """
        self._epoch, self._given, self.seed = state["epoch"], state["given"], state["seed"]
        complete = self._given >= self._count(self._epoch)
        self._next = (self._epoch + 1, 0) if complete else (self._epoch, self._given)

    def _count(self, epoch: int) -> int:
        """Count the batches of an epoch; samplers of whole groups have a few more or less from epoch to epoch."""
        bounds: np.ndarray | None = getattr(self._plan, "bounds", None)
        if bounds is not None:
            return len(bounds) - 1
        if (epoch, self.seed) not in self._n_batches:
            self._n_batches = {(epoch, self.seed): len(self._plan.draw(epoch, self.seed)[1]) - 1}
        return self._n_batches[epoch, self.seed]


def torch_sampler(sampler: Any, strata: Any, *, seed: int = 0, rank: int = 0, world_size: int = 1) -> TorchBatchSampler:
    """Make a torch batch sampler for ``DataLoader(dataset, batch_sampler=...)``.

    Parameters
    ----------
    sampler : BatchSampler or callable
        Decides which rows meet.
    strata : array, Series or DataFrame
        The stratum of every row of the data set; for group and length samplers the group or length.
    seed : int
        Together with the epoch it decides the draws.
    rank, world_size : int
        Give this rank's part of every batch. Lightning and accelerate must then leave the sampler alone
        (``Trainer(use_distributed_sampler=False)``).

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
    return TorchBatchSampler(sampler, strata, seed, rank=rank, world_size=world_size)
