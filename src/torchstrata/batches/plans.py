"""What a sampler works out once: which place in which batch the rows of each stratum take.

A plan does not change from epoch to epoch; its ``draw(epoch, seed)`` fills the places with rows.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Protocol

import numpy as np

from torchstrata.errors import ConfigError


class BatchPlan(Protocol):
    """What a sampler works out once for given rows."""

    def draw(self, epoch: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Return all rows of one epoch, batch after batch, and the bounds of the batches (one more than batches)."""


class StratifiedPlan:
    """The places of the rows of each stratum in the batches.

    Parameters
    ----------
    codes : ndarray of int, shape (n,)
        Stratum of each row, 0..S-1.
    counts : ndarray of int, shape (S,)
        Rows of each stratum.
    n_batches : int
        B.
    shuffle : bool
        Whether draws differ.

    Attributes
    ----------
    bounds : ndarray of int64, shape (B + 1,)
        Where the batches begin and end among the n places.
    """

    def __init__(self, codes: np.ndarray, counts: np.ndarray, n_batches: int, *, shuffle: bool):
        n = len(codes)
        self.shuffle = shuffle
        self.ends = np.cumsum(counts)
        self.rows = np.argsort(codes, kind="stable")  # stratum after stratum, as given within each
        numbers = np.arange(1, n + 1) - np.repeat(self.ends - counts, counts)
        sizes = np.repeat(counts, counts)
        batch = (numbers * n_batches + sizes - 1) // sizes - 1  # integers: see the notes of the sampler
        self.bounds = np.concatenate([[0], np.cumsum(np.bincount(batch, minlength=n_batches))])
        # place[j] is where row self.rows[j] goes; it grows within a stratum, so filling places streams through memory
        by_batch = np.argsort(batch.astype(_small_int(n_batches)), kind="stable")
        self.place: np.ndarray = np.empty(n, dtype=_small_int(n))
        self.place[by_batch] = np.arange(n, dtype=self.place.dtype)
        if not shuffle:
            self.as_given = self._in_task_order()

    def _in_task_order(self) -> np.ndarray:
        order = np.empty(len(self.rows), dtype=np.int64)
        order[self.place] = self.rows
        for a, b in zip(self.bounds[:-1], self.bounds[1:], strict=True):
            order[a:b].sort()
        return order

    def draw(self, epoch: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows of one epoch and the bounds of its batches.

        Parameters
        ----------
        epoch, seed : int
            Decide the permutation within each stratum.

        Returns
        -------
        order : ndarray of int64, shape (n,)
            The rows, batch after batch.
        bounds : ndarray of int64, shape (B + 1,)
            Batch b is ``order[bounds[b]:bounds[b + 1]]``.
        """
        if not self.shuffle:
            return self.as_given, self.bounds
        rng = generator(seed, epoch)
        rows, start = self.rows.copy(), 0
        for end in self.ends.tolist():
            rng.shuffle(rows[start:end])
            start = end
        order = np.empty(len(rows), dtype=np.int64)
        order[self.place] = rows
        return order, self.bounds

    def deal(self, world_size: int) -> np.ndarray:
        """Deal every stratum over ranks, one row each in turn.

        Parameters
        ----------
        world_size : int
            Number of ranks.

        Returns
        -------
        ndarray of int64, shape (n,)
            The rank that owns each place. Dealing by the number within the stratum, not by the place within the batch,
            gives every rank its share of every stratum in each batch and over the epoch.
        """
        counts = np.diff(self.ends, prepend=0)
        numbers = np.arange(len(self.rows)) - np.repeat(self.ends - counts, counts)
        turn = np.repeat(np.arange(len(counts)), counts)  # strata begin at different ranks: parts of equal size
        grouped = np.empty(len(self.rows), dtype=np.int64)
        grouped[self.place] = (numbers + turn) % world_size
        if self.shuffle:
            return grouped
        by_row = np.empty(len(self.rows), dtype=np.int64)
        by_row[self.rows] = (numbers + turn) % world_size
        return by_row[self.as_given]


class RandomPlan:
    """Bounds of batches of one size.

    Parameters
    ----------
    n, batch_size : int
        Rows, and rows in a batch.
    shuffle : bool
        Whether draws differ.
    """

    def __init__(self, n: int, batch_size: int, *, shuffle: bool):
        self.n, self.shuffle = n, shuffle
        self.bounds = np.append(np.arange(0, n, batch_size), n)
        if len(self.bounds) > 2 and n - self.bounds[-2] == 1:
            if batch_size > 2:
                self.bounds[-2] -= 1
            elif batch_size == 2:  # a batch of two cannot give a row away: it takes the single one in
                self.bounds = np.delete(self.bounds, -2)

    def draw(self, epoch: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows of one epoch and the bounds of its batches.

        Parameters
        ----------
        epoch, seed : int
            Decide the permutation.

        Returns
        -------
        order, bounds : ndarray of int64
            Batch b is ``order[bounds[b]:bounds[b + 1]]``.
        """
        if not self.shuffle:
            return np.arange(self.n), self.bounds
        return generator(seed, epoch).permutation(self.n), self.bounds


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


def generator(seed: int, epoch: int) -> np.random.Generator:
    """Make the generator of one epoch's draw; no other draw shares its stream.

    Parameters
    ----------
    seed, epoch : int
        Not negative.

    Returns
    -------
    numpy.random.Generator
        SFC64, the fastest of numpy's.
    """
    return np.random.Generator(np.random.SFC64(np.random.SeedSequence(seed, spawn_key=(epoch,))))


def _small_int(n: int) -> type:
    return np.int16 if n < 2**15 else np.int32 if n < 2**31 else np.int64
