"""What a sampler works out once: which place in which batch the rows of each stratum take.

A plan does not change from epoch to epoch; its ``draw(epoch, seed)`` fills the places with rows.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Protocol

import numpy as np

from torchstrata.batches.shuffle import SegmentShuffle, generator
from torchstrata.errors import ConfigError

__all__ = ["BatchPlan", "FunctionPlan", "SlotPlan", "cut_bounds", "generator", "stride_owners"]

PART = 2**13  # places filled at a time: numpy copies small integers before it takes by them, and copies in the cache


class BatchPlan(Protocol):
    """What a sampler works out once for given rows."""

    def draw(self, epoch: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Return all rows of one epoch, batch after batch, and the bounds of the batches (one more than batches)."""

    def owners(self, order: np.ndarray, bounds: np.ndarray, world_size: int) -> np.ndarray:
        """Return the rank that gets each place of a draw."""


class SlotPlan:
    """Strata with slots in the batches: slot j of a stratum takes the j-th row of its shuffled rows.

    A stratum with more slots than rows begins again, shuffled anew: all its rows come equally often, to one. A stratum
    with fewer slots than rows gives a random part of them each epoch.

    Parameters
    ----------
    codes : ndarray of int, shape (n,)
        Stratum of each row, 0..S-1.
    slots : ndarray of int, shape (S,)
        Places of each stratum in an epoch.
    batch : ndarray of int, shape (sum of slots,)
        The batch of each slot, stratum after stratum, not decreasing within a stratum.
    labels : list of str, length S
        Names of the strata.
    shuffle : bool
        Whether draws differ; without it slots take rows in their order, and so do batches.

    Attributes
    ----------
    bounds : ndarray of int64, shape (B + 1,)
        Where the batches begin and end among the places.
    repeats : dict of str to float
        How often a row of each stratum comes in an epoch, on average: 1.0 where every row comes once.
    """

    def __init__(self, codes: np.ndarray, slots: np.ndarray, batch: np.ndarray, labels: list[str], *, shuffle: bool):
        self.counts = np.bincount(codes, minlength=len(slots))
        self.slots, self.labels, self.shuffle = slots, labels, shuffle
        self.repeats = dict(zip(labels, (slots / self.counts).tolist(), strict=True))
        self.bounds = np.concatenate([[0], np.cumsum(np.bincount(batch))])
        sizes, small = self._lay_out(codes), _small_int(len(self.rows))
        # inverse[p] is the position in self.rows of place p: a gather, which writes the epoch from front to back
        shift = np.repeat(self._starts - (np.cumsum(slots) - slots), slots)
        by_batch = np.argsort(batch.astype(_small_int(len(self.bounds))), kind="stable")
        self.inverse: np.ndarray = (by_batch + shift[by_batch]).astype(small)
        self._shuffle = SegmentShuffle(sizes)
        if not shuffle:
            self._given = self._in_task_order()

    def _lay_out(self, codes: np.ndarray) -> np.ndarray:
        """Write down the rows of every pass over every stratum; return the sizes of the passes."""
        passes = -(-self.slots // self.counts)
        grouped: np.ndarray = np.argsort(codes, kind="stable").astype(_small_int(len(codes)))  # stratum after stratum
        if passes.max() > 1:
            strata = np.split(grouped, np.cumsum(self.counts)[:-1])
            grouped = np.concatenate([np.tile(s, p) for s, p in zip(strata, passes.tolist(), strict=True)])
        self.rows: np.ndarray = grouped
        self._starts = np.cumsum(passes * self.counts) - passes * self.counts
        return np.repeat(self.counts, passes)

    def _in_task_order(self) -> np.ndarray:
        """Work out which place comes when, so that every batch keeps the order of the rows."""
        batch = np.repeat(np.arange(len(self.bounds) - 1), np.diff(self.bounds))
        return np.lexsort((self.rows[self.inverse], batch))

    def draw(self, epoch: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows of one epoch and the bounds of its batches.

        Parameters
        ----------
        epoch, seed : int
            Decide the permutation within each stratum.

        Returns
        -------
        order : ndarray of int64, shape (sum of slots,)
            The rows, batch after batch.
        bounds : ndarray of int64, shape (B + 1,)
            Batch b is ``order[bounds[b]:bounds[b + 1]]``.
        """
        if not self.shuffle:
            return self.rows[self.inverse[self._given]].astype(np.int64), self.bounds
        rows = self._shuffle(self.rows, generator(seed, epoch))
        if len(self.slots) == 1:  # slots are places
            return rows[: len(self.inverse)].astype(np.int64), self.bounds
        order = np.empty(len(self.inverse), dtype=np.int64)
        for a in range(0, len(order), PART):
            order[a : a + PART] = rows.take(self.inverse[a : a + PART], mode="clip")
        return order, self.bounds

    def owners(self, order: np.ndarray, bounds: np.ndarray, world_size: int) -> np.ndarray:
        """Deal every stratum over ranks, one row each in turn.

        Parameters
        ----------
        order, bounds : ndarray
            A draw; what a place holds does not depend on it here.
        world_size : int
            Number of ranks.

        Returns
        -------
        ndarray of int64
            The rank that owns each place. Dealing by the number within the stratum, not by the place within the batch,
            gives every rank its share of every stratum in each batch and over the epoch.
        """
        stratum = self.stratum_of_places()
        # strata begin at different ranks: parts of equal size
        owner = (self.inverse - self._starts[stratum] + stratum) % world_size
        return owner if self.shuffle else owner[self._given]

    def stratum_of_places(self) -> np.ndarray:
        """Return the stratum of every place, strata one after another within a batch.

        Returns
        -------
        ndarray of int64
            0..S-1.
        """
        return np.searchsorted(self._starts, self.inverse, side="right") - 1

    def rows_of(self, stratum: int) -> np.ndarray:
        """Return the rows of one stratum.

        Parameters
        ----------
        stratum : int
            Its number.

        Returns
        -------
        ndarray of int
            Each once, as given.
        """
        start = int(self._starts[stratum])
        return self.rows[start : start + int(self.counts[stratum])]


@dataclasses.dataclass(frozen=True)
class FunctionPlan:
    """A plan around a plain function, so that any callable of the protocol serves as batch sampler.

    Parameters
    ----------
    sampler : callable
        ``(n, strata, *, epoch, seed, rank, world_size) -> list of index arrays``.
    n : int
        Number of rows.
    strata : object
        Handed to the function.
    """

    sampler: Any
    n: int
    strata: Any

    def draw(self, epoch: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Call the function and join its batches.

        Parameters
        ----------
        epoch, seed : int
            Handed to the function.

        Returns
        -------
        order, bounds : ndarray of int64
            Batch b is ``order[bounds[b]:bounds[b + 1]]``.
        """
        batches = [np.asarray(batch) for batch in self.sampler(self.n, self.strata, epoch=epoch, seed=seed)]
        if not batches or min(batch.size for batch in batches) == 0:
            raise ConfigError(f"batch_sampler {self.sampler!r} gave {'an empty batch' if batches else 'no batch'}")
        for batch in batches:
            if batch.ndim != 1 or batch.dtype.kind not in "iu":  # a mask would pass for rows 0 and 1
                raise ConfigError(
                    f"batch_sampler {self.sampler!r} gave {batch.dtype} of shape {batch.shape}, "
                    "expected arrays of row numbers (int)"
                )
        order = np.concatenate(batches).astype(np.int64)
        if order.min() < 0 or order.max() >= self.n:
            raise ConfigError(f"batch_sampler {self.sampler!r} gave rows outside 0..{self.n - 1}")
        return order, np.cumsum([0, *map(len, batches)])

    def owners(self, order: np.ndarray, bounds: np.ndarray, world_size: int) -> np.ndarray:
        """Part every batch over ranks, one row each in turn.

        Parameters
        ----------
        order, bounds : ndarray
            A draw.
        world_size : int
            Number of ranks.

        Returns
        -------
        ndarray of int64
            The rank that owns each place.
        """
        return stride_owners(bounds, world_size)


def stride_owners(bounds: np.ndarray, world_size: int) -> np.ndarray:
    """Part batches over ranks, one row each in turn.

    Parameters
    ----------
    bounds : ndarray of int
        Where the batches begin and end.
    world_size : int
        Number of ranks.

    Returns
    -------
    ndarray of int64
        The rank of each place. Going on from batch to batch, no rank always gets the row too many.
    """
    return np.arange(bounds[-1]) % world_size


def cut_bounds(n: int, batch_size: int) -> np.ndarray:
    """Cut n places into batches of one size; the last holds what is left, but never a single row if that can be helped.

    Parameters
    ----------
    n, batch_size : int
        Places, and places in a batch.

    Returns
    -------
    ndarray of int64
        Where the batches begin and end. Batch normalisation cannot use a single row: the batch before gives it a second
        one; a batch of two, which cannot give a row away, takes it in.
    """
    bounds = np.append(np.arange(0, n, batch_size), n)
    if len(bounds) > 2 and n - bounds[-2] == 1:
        if batch_size > 2:
            bounds[-2] -= 1
        elif batch_size == 2:
            bounds = np.delete(bounds, -2)
    return bounds


def _small_int(n: int) -> type:
    return np.int16 if n < 2**15 else np.int32 if n < 2**31 else np.int64
