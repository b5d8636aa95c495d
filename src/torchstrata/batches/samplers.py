"""Which rows meet in a step: batch samplers.

A sampler is a function of ``(n, strata, epoch, seed)``, so a draw can be repeated anywhere: in another process, after a
restart, in a test. Behind the call stands a plan: the part that does not change from epoch to epoch, worked out once.

Rows are numbered from 0. Everything here is numpy; torch is not needed to know what a batch holds.
"""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any, Protocol

import numpy as np
import pandas as pd

from torchstrata.data.strata import stratum_codes
from torchstrata.errors import ConfigError, DataError
from torchstrata.params import Params


class BatchPlan(Protocol):
    """What a sampler works out once for given rows."""

    def draw(self, epoch: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Return all rows of one epoch, batch after batch, and the bounds of the batches (one more than batches)."""


class BatchSampler(Params):
    """Base of the batch samplers: a call gives the batches of one epoch.

    Subclasses say how to plan; this class cuts the plan's rows into batches and parts them over ranks.
    """

    needs_strata = False

    def plan(self, n: int, strata: Any = None) -> BatchPlan:
        """Work out once what does not change from epoch to epoch.

        Parameters
        ----------
        n : int
            Number of rows.
        strata : None, array, Series or DataFrame
            The stratum of every row; several columns are crossed.

        Returns
        -------
        BatchPlan
            Its ``draw(epoch, seed)`` gives all rows of an epoch and the bounds of its batches.
        """
        raise TypeError(f"{type(self).__name__} is abstract: use StratifiedBatchSampler or RandomBatchSampler")

    def __call__(
        self, n: int, strata: Any = None, *, epoch: int = 0, seed: int = 0, rank: int = 0, world_size: int = 1
    ) -> list[np.ndarray]:
        """Return the batches of one epoch.

        Parameters
        ----------
        n : int
            Number of rows.
        strata : None, array of shape (n,), Series or DataFrame
            The stratum of every row; several columns are crossed.
        epoch, seed : int
            The draw depends on these two and on nothing else.
        rank, world_size : int
            Return only this rank's part of every batch; the parts are disjoint and cover the batch.

        Returns
        -------
        list of ndarray of int64
            The rows of each batch.

        Raises
        ------
        ConfigError
            If the sizes or the rank cannot be.
        DataError
            If the strata do not fit the rows.
        """
        _check_call(n, rank, world_size)
        plan = self.plan(n, strata)
        order, bounds = plan.draw(epoch, seed)
        parts = np.split(order, bounds[1:-1])
        if world_size == 1:
            return parts
        return self._rank_parts(plan, parts, rank, world_size)

    def _rank_parts(self, plan: BatchPlan, parts: list[np.ndarray], rank: int, world_size: int) -> list[np.ndarray]:
        # the start moves from batch to batch, so that no rank always gets the row too many
        return [part[(rank - b) % world_size :: world_size] for b, part in enumerate(parts)]

    def composition(self, strata: Any, *, n: int | None = None, epoch: int = 0, seed: int = 0) -> pd.DataFrame:
        """Count the strata in every batch of one epoch.

        Parameters
        ----------
        strata : array of shape (n,), Series or DataFrame
            The stratum of every row; several columns are crossed.
        n : int, optional
            Number of rows; by default the length of ``strata``.
        epoch, seed : int
            Which draw.

        Returns
        -------
        DataFrame
            One row a batch, one column a stratum, and ``batch_size``.

        Examples
        --------
        >>> StratifiedBatchSampler(1, shuffle=False).composition(["M"] * 4 + ["R"] * 2)
               M  R  batch_size
        batch
        1      2  1           3
        2      2  1           3
        """
        codes, labels = stratum_codes(strata)
        batches = self(len(codes) if n is None else n, strata, epoch=epoch, seed=seed)
        counts = [np.bincount(codes[batch], minlength=len(labels)) for batch in batches]
        table = pd.DataFrame(counts, columns=pd.Index(labels), index=pd.RangeIndex(1, len(batches) + 1, name="batch"))
        table["batch_size"] = [len(batch) for batch in batches]
        return table


@dataclasses.dataclass(frozen=True, repr=False)
class StratifiedBatchSampler(BatchSampler):
    """Every batch holds at least k rows of every stratum, and every row comes once an epoch.

    The rows of stratum s are numbered 1..n_s after one random permutation (or as given). There are
    ``B = max(1, min(n_s) // k)`` batches, and row i of stratum s goes to batch ``ceil(i * B / n_s)``. Hence each batch
    has the proportions of the whole, up to rounding, and batch sizes differ by at most the number of strata.

    Parameters
    ----------
    min_samples_per_stratum : int
        k, the guaranteed number of rows of each stratum in each batch.
    shuffle : bool
        Whether to permute the rows of each stratum anew in every epoch. Without it the batches are the same in every
        epoch and keep the order of the rows.

    Notes
    -----
    The rule is that of mlr3torchAUM's ``batch_sampler_stratified``. It is computed in integers here: the published
    floating-point form leaves a batch without the minority at 7 and 25 rows (k = 1), because
    ``ceil(i / (n / B))`` rounds up where ``i * B / n`` is an integer.

    Examples
    --------
    >>> sampler = StratifiedBatchSampler(min_samples_per_stratum=1, shuffle=False)
    >>> [batch.tolist() for batch in sampler(6, ["M", "M", "M", "M", "R", "R"])]
    [[0, 1, 4], [2, 3, 5]]
    """

    min_samples_per_stratum: int = 1
    _: dataclasses.KW_ONLY
    shuffle: bool = True

    needs_strata = True

    def __post_init__(self) -> None:
        _check_positive("min_samples_per_stratum", self.min_samples_per_stratum)

    def plan(self, n: int, strata: Any = None) -> StratifiedPlan:
        """Work out once which place in which batch each row of each stratum takes.

        Parameters
        ----------
        n : int
            Number of rows.
        strata : array, Series or DataFrame
            The stratum of every row; several columns are crossed.

        Returns
        -------
        StratifiedPlan
            Draws epochs.

        Warns
        -----
        UserWarning
            If a stratum has fewer than k rows: then all rows are one batch.
        """
        codes, labels = stratum_codes(strata)
        if len(codes) != n:
            raise DataError(f"strata has {len(codes)} rows but there are {n} rows to batch")
        counts = np.bincount(codes, minlength=len(labels))
        small = int(np.argmin(counts))
        if counts[small] < self.min_samples_per_stratum:
            warnings.warn(
                f"stratum {labels[small]!r} has {counts[small]} rows, fewer than "
                f"min_samples_per_stratum={self.min_samples_per_stratum}, so all {n} rows form one batch "
                f"(rows per stratum: {dict(zip(labels, counts.tolist(), strict=True))}). "
                f"Lower min_samples_per_stratum to {counts[small]} or merge strata.",
                UserWarning,
                stacklevel=2,
            )
        n_batches = max(1, int(counts[small]) // self.min_samples_per_stratum)
        return StratifiedPlan(codes, counts, n_batches, shuffle=self.shuffle)

    def _rank_parts(self, plan: BatchPlan, parts: list[np.ndarray], rank: int, world_size: int) -> list[np.ndarray]:
        assert isinstance(plan, StratifiedPlan)
        owner = plan.deal(world_size)
        cuts = plan.bounds
        return [part[owner[a:b] == rank] for part, a, b in zip(parts, cuts[:-1], cuts[1:], strict=True)]


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
        self.place = np.empty(n, dtype=_small_int(n))
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


@dataclasses.dataclass(frozen=True, repr=False)
class RandomBatchSampler(BatchSampler):
    """Batches of a fixed size in random order, every row once an epoch.

    Parameters
    ----------
    batch_size : int or "all"
        Rows in a batch; ``"all"`` is one batch of all rows in their order. The last batch holds what is left; if that
        were one row, which batch normalisation cannot use, the batch before gives it a second one (a batch of two
        takes it in).
    shuffle : bool
        Whether to permute the rows in every epoch.

    Examples
    --------
    >>> [len(batch) for batch in RandomBatchSampler(32)(208)]
    [32, 32, 32, 32, 32, 32, 16]
    """

    batch_size: int | str
    _: dataclasses.KW_ONLY
    shuffle: bool = True

    def __post_init__(self) -> None:
        if self.batch_size != "all":
            _check_positive("batch_size", self.batch_size, " or 'all'")

    def plan(self, n: int, strata: Any = None) -> RandomPlan:
        """Work out the sizes of the batches.

        Parameters
        ----------
        n : int
            Number of rows.
        strata : object
            Not used.

        Returns
        -------
        RandomPlan
            Draws epochs.
        """
        _check_call(n, 0, 1)
        if self.batch_size == "all":
            return RandomPlan(n, n, shuffle=False)
        return RandomPlan(n, int(self.batch_size), shuffle=self.shuffle)


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
        batches = [
            np.asarray(batch, dtype=np.int64) for batch in self.sampler(self.n, self.strata, epoch=epoch, seed=seed)
        ]
        if not batches or min(map(len, batches)) == 0:
            raise ConfigError(f"batch_sampler {self.sampler!r} gave {'an empty batch' if batches else 'no batch'}")
        order = np.concatenate(batches)
        if order.min() < 0 or order.max() >= self.n:
            raise ConfigError(f"batch_sampler {self.sampler!r} gave rows outside 0..{self.n - 1}")
        return order, np.cumsum([0, *map(len, batches)])


def plan_batches(sampler: Any, n: int, strata: Any) -> BatchPlan:
    """Plan with any batch sampler, ours or a plain function.

    Parameters
    ----------
    sampler : BatchSampler or callable
        ``(n, strata, *, epoch, seed, rank, world_size) -> list of index arrays``.
    n : int
        Number of rows.
    strata : object
        The stratum of every row, or None.

    Returns
    -------
    BatchPlan
        Draws epochs.
    """
    return sampler.plan(n, strata) if hasattr(sampler, "plan") else FunctionPlan(sampler, n, strata)


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
    return np.random.Generator(np.random.SFC64(np.random.SeedSequence((seed, epoch))))


def _small_int(n: int) -> type:
    return np.int16 if n < 2**15 else np.int32 if n < 2**31 else np.int64


def _check_positive(name: str, value: Any, alternative: str = "") -> None:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise ConfigError(f"{name} must be an int >= 1{alternative}, got {value!r}")


def _check_call(n: int, rank: int, world_size: int) -> None:
    _check_positive("n (the number of rows)", n)
    _check_positive("world_size", world_size)
    if not 0 <= rank < world_size:
        raise ConfigError(f"rank must be in 0..{world_size - 1} (world_size={world_size}), got {rank!r}")
