"""Batches of rows that belong together: rows of one group, or rows of similar length."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from torchstrata.batches.base import BatchSampler, check_call, check_positive
from torchstrata.batches.bins import finite_numbers
from torchstrata.batches.plans import cut_bounds, stride_owners
from torchstrata.batches.shuffle import generator
from torchstrata.errors import DataError


@dataclasses.dataclass(frozen=True, repr=False)
class GroupBatchSampler(BatchSampler):
    """The rows of a group stay in one batch, every row once an epoch.

    Groups come in random order and fill a batch until the next one would not fit. A batch never holds more than
    ``batch_size`` rows but where a single group does; such a group is a batch of its own.

    Parameters
    ----------
    batch_size : int
        Rows in a batch, at most.
    shuffle : bool
        Whether groups come in a new order in every epoch; without it they come in the order of their first rows.

    Notes
    -----
    The groups are what is given as ``strata``. How many batches an epoch has depends on how the groups fall, so it may
    differ from epoch to epoch by a few. Ranks get whole groups as well, and none where a batch has fewer groups than
    there are ranks.

    Examples
    --------
    >>> [batch.tolist() for batch in GroupBatchSampler(3, shuffle=False)(5, ["p", "q", "p", "r", "q"])]
    [[0, 2], [1, 4, 3]]
    """

    batch_size: int
    _: dataclasses.KW_ONLY
    shuffle: bool = True

    needs_strata = True

    def __post_init__(self) -> None:
        check_positive("batch_size", self.batch_size)

    def plan(self, n: int, strata: Any = None) -> GroupPlan:
        """Number the groups.

        Parameters
        ----------
        n : int
            Number of rows.
        strata : array, Series or DataFrame
            The group of every row; several columns are crossed.

        Returns
        -------
        GroupPlan
            Draws epochs.
        """
        return GroupPlan(self._codes_of(n, strata)[0], self.batch_size, shuffle=self.shuffle)


class GroupPlan:
    """Groups of rows that are put into batches whole.

    Parameters
    ----------
    codes : ndarray of int, shape (n,)
        Group of each row, 0..G-1.
    batch_size : int
        Rows in a batch, at most.
    shuffle : bool
        Whether draws differ.
    """

    def __init__(self, codes: np.ndarray, batch_size: int, *, shuffle: bool):
        first = np.unique(codes, return_index=True)[1]
        self.codes = np.argsort(np.argsort(first))[codes]  # groups in the order of their first rows
        self.sizes, self.batch_size, self.shuffle = np.bincount(self.codes), batch_size, shuffle
        self.rows = np.argsort(self.codes, kind="stable")
        self.starts = np.cumsum(self.sizes) - self.sizes

    def draw(self, epoch: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows of one epoch and the bounds of its batches.

        Parameters
        ----------
        epoch, seed : int
            Decide the order of the groups.

        Returns
        -------
        order, bounds : ndarray of int64
            Batch b is ``order[bounds[b]:bounds[b + 1]]``.
        """
        n_groups = len(self.sizes)
        groups = generator(seed, epoch).permutation(n_groups) if self.shuffle else np.arange(n_groups)
        sizes = self.sizes[groups]
        ends = np.cumsum(sizes)
        # row j of the group that begins at place p is the row of number start + j
        order = self.rows[np.arange(ends[-1]) + np.repeat(self.starts[groups] - (ends - sizes), sizes)]
        return order, self._bounds(ends)

    def _bounds(self, ends: np.ndarray) -> np.ndarray:
        bounds, last = [0], int(ends[-1])
        while bounds[-1] < last:
            fitting = int(np.searchsorted(ends, bounds[-1] + self.batch_size, side="right"))
            end = int(ends[fitting - 1]) if fitting else 0
            # the next group is larger than a batch: it is one
            bounds.append(end if end > bounds[-1] else int(ends[np.searchsorted(ends, bounds[-1], side="right")]))
        return np.array(bounds)

    def owners(self, order: np.ndarray, bounds: np.ndarray, world_size: int) -> np.ndarray:
        """Part every batch over ranks by whole groups, so that the parts have about the same size.

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
        groups = self.codes[order]
        starts = np.flatnonzero(np.diff(groups, prepend=-1))
        sizes = np.diff(np.append(starts, len(order)))
        batch = np.searchsorted(bounds, starts, side="right") - 1
        middle = 2 * (starts - bounds[batch]) + sizes  # twice the middle of the group within its batch
        rank = middle * world_size // (2 * np.diff(bounds)[batch])
        # the rank that comes first moves on, so that no rank always gets the larger part
        return np.repeat((rank + batch) % world_size, sizes)


@dataclasses.dataclass(frozen=True, repr=False)
class LengthBucketBatchSampler(BatchSampler):
    """Rows of similar length meet, so that little is padded; every row once an epoch.

    Rows are shuffled and cut into pools of ``pool`` batches; each pool is sorted by length and cut into batches, and
    the batches come in random order.

    Parameters
    ----------
    batch_size : int
        Rows in a batch; one batch holds what is left, as in RandomBatchSampler.
    pool : int or "all"
        Batches in a pool. Large pools pad less, small ones mix more; ``"all"`` sorts all rows.
    shuffle : bool
        Whether to do so; without it all rows are sorted by length and the batches come from short to long.
    column : str, optional
        For a learner: the column of arrays whose lengths count, whatever the strata are. Without it a learner takes the
        only such column where fit gets no stratum.

    Notes
    -----
    The lengths are what is given as ``strata``: one number a row.

    Examples
    --------
    >>> lengths = [9, 2, 8, 1, 3, 7]
    >>> batches = LengthBucketBatchSampler(2, shuffle=False)(6, lengths)
    >>> [[lengths[i] for i in batch] for batch in batches]
    [[1, 2], [3, 7], [8, 9]]
    """

    batch_size: int
    _: dataclasses.KW_ONLY
    pool: int | str = 50
    shuffle: bool = True
    column: str | None = None

    needs_strata = True
    by_length = True

    def __post_init__(self) -> None:
        check_positive("batch_size", self.batch_size)
        if self.pool != "all":
            check_positive("pool", self.pool, " or 'all'")

    def plan(self, n: int, strata: Any = None) -> LengthPlan:
        """Read the lengths.

        Parameters
        ----------
        n : int
            Number of rows.
        strata : array of shape (n,) or Series
            The length of every row.

        Returns
        -------
        LengthPlan
            Draws epochs.

        Raises
        ------
        DataError
            If there are no lengths, or they are no numbers.
        """
        check_call(n, 0, 1)
        if strata is None:
            raise DataError(
                "LengthBucketBatchSampler needs the length of every row and there is none: give it as the stratum, "
                "for example fit(..., stratum=[len(text) for text in texts])"
            )
        lengths = finite_numbers(strata, "LengthBucketBatchSampler")
        if len(lengths) != n:
            raise DataError(f"strata has {len(lengths)} rows but there are {n} rows to batch")
        return LengthPlan(lengths, self)


class LengthPlan:
    """Lengths of rows, to be drawn in batches of similar ones.

    Parameters
    ----------
    lengths : ndarray of float, shape (n,)
        One a row.
    sampler : LengthBucketBatchSampler
        Its settings.
    """

    def __init__(self, lengths: np.ndarray, sampler: LengthBucketBatchSampler):
        self.lengths, self.shuffle = lengths, sampler.shuffle
        self.cut = cut_bounds(len(lengths), sampler.batch_size)
        n_batches = len(self.cut) - 1
        pool = n_batches if sampler.pool == "all" or not sampler.shuffle else int(sampler.pool)
        pool_of_batch = np.arange(n_batches) // pool
        self.pool = np.repeat(pool_of_batch, np.diff(self.cut))

    def draw(self, epoch: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows of one epoch and the bounds of its batches.

        Parameters
        ----------
        epoch, seed : int
            Decide the pools and the order of the batches.

        Returns
        -------
        order, bounds : ndarray of int64
            Batch b is ``order[bounds[b]:bounds[b + 1]]``.
        """
        if not self.shuffle:
            return np.argsort(self.lengths, kind="stable"), self.cut
        rng = generator(seed, epoch)
        rows = rng.permutation(len(self.lengths))
        rows = rows[np.lexsort((self.lengths[rows], self.pool))]
        batches = rng.permutation(len(self.cut) - 1)
        sizes = np.diff(self.cut)[batches]
        ends = np.cumsum(sizes)
        order = rows[np.arange(len(rows)) + np.repeat(self.cut[batches] - (ends - sizes), sizes)]
        return order, np.concatenate([[0], ends])

    def owners(self, order: np.ndarray, bounds: np.ndarray, world_size: int) -> np.ndarray:
        """Part every batch over ranks, one row each in turn, so that ranks pad alike.

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
