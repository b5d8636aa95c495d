"""Which rows meet in a step: batch samplers.

A sampler is a function of ``(n, strata, epoch, seed)``, so a draw can be repeated anywhere: in another process, after a
restart, in a test. Behind the call stands a plan: the part that does not change from epoch to epoch, worked out once.

Rows are numbered from 0. Everything here is numpy; torch is not needed to know what a batch holds.
"""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any

import numpy as np
import pandas as pd

from torchstrata.batches.plans import BatchPlan, FunctionPlan, RandomPlan, StratifiedPlan
from torchstrata.data.strata import stratum_codes
from torchstrata.errors import ConfigError, DataError
from torchstrata.params import Params


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
    The rule is that of mlr3torchAUM's ``batch_sampler_stratified``. It is computed in integers here: in floating point
    ``ceil(i / n * (B * k) / k)`` rounds up where ``i * B / n`` is an integer. With 25 rows of the minority and k = 1
    row 7 goes to batch 8 then, and batch 7 has none.

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
        _check_call(n, 0, 1)
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
                stacklevel=3,
            )
        n_batches = max(1, int(counts[small]) // self.min_samples_per_stratum)
        return StratifiedPlan(codes, counts, n_batches, shuffle=self.shuffle)

    def _rank_parts(self, plan: BatchPlan, parts: list[np.ndarray], rank: int, world_size: int) -> list[np.ndarray]:
        assert isinstance(plan, StratifiedPlan)
        owner = plan.deal(world_size)
        cuts = plan.bounds
        return [part[owner[a:b] == rank] for part, a, b in zip(parts, cuts[:-1], cuts[1:], strict=True)]


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


def _check_positive(name: str, value: Any, alternative: str = "") -> None:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise ConfigError(f"{name} must be an int >= 1{alternative}, got {value!r}")


def _check_call(n: int, rank: int, world_size: int) -> None:
    _check_positive("n (the number of rows)", n)
    _check_positive("world_size", world_size)
    if not 0 <= rank < world_size:
        raise ConfigError(f"rank must be in 0..{world_size - 1} (world_size={world_size}), got {rank!r}")
