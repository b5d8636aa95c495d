"""What all batch samplers share: a call gives the batches of one epoch, and each says what it guarantees.

A sampler is a function of ``(n, strata, epoch, seed)``, so a draw can be repeated anywhere: in another process, after a
restart, in a test. Behind the call stands a plan: the part that does not change from epoch to epoch, worked out once.

Rows are numbered from 0. Everything here is numpy; torch is not needed to know what a batch holds.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd

from torchstrata.batches.guarantees import least_rows, share_without
from torchstrata.batches.plans import BatchPlan, FunctionPlan
from torchstrata.data.strata import stratum_codes
from torchstrata.errors import ConfigError, DataError, did_you_mean
from torchstrata.params import Params


class BatchSampler(Params):
    """Base of the batch samplers: a call gives the batches of one epoch.

    Subclasses say how to plan; this class cuts the plan's rows into batches, parts them over ranks and counts them.
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
            Return only this rank's part of every batch; the parts are disjoint and cover the batch, and all ranks make
            the same number of steps.

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
        check_call(n, rank, world_size)
        plan = self.plan(n, strata)
        return rank_parts(plan, *plan.draw(epoch, seed), rank, world_size)

    def composition(
        self, strata: Any, *, n: int | None = None, epoch: int = 0, seed: int = 0, of: Any = None
    ) -> pd.DataFrame:
        """Count the strata in every batch of one epoch.

        Parameters
        ----------
        strata : array of shape (n,), Series or DataFrame
            The stratum of every row; several columns are crossed.
        n : int, optional
            Number of rows; by default the length of ``strata``.
        epoch, seed : int
            Which draw.
        of : array of shape (n,), Series or DataFrame, optional
            Count these instead of ``strata``, for example the classes where strata are groups or lengths.

        Returns
        -------
        DataFrame
            One row a batch, one column a stratum, and ``batch_size``.

        Examples
        --------
        >>> from torchstrata import StratifiedBatchSampler
        >>> StratifiedBatchSampler(1, shuffle=False).composition(["M"] * 4 + ["R"] * 2)
               M  R  batch_size
        batch
        1      2  1           3
        2      2  1           3
        """
        codes, labels = self._labels(strata) if of is None else stratum_codes(of)
        batches = self(len(codes) if n is None else n, strata, epoch=epoch, seed=seed)
        counts = [np.bincount(codes[batch], minlength=len(labels)) for batch in batches]
        table = pd.DataFrame(counts, columns=pd.Index(labels), index=pd.RangeIndex(1, len(batches) + 1, name="batch"))
        table["batch_size"] = [len(batch) for batch in batches]
        return table

    def guarantees(self, n: int, strata: Any, *, of: Any = None) -> dict[str, int]:
        """Say how many rows of each stratum every batch of every epoch holds at least.

        Parameters
        ----------
        n : int
            Number of rows.
        strata : array of shape (n,), Series or DataFrame
            The stratum of every row; several columns are crossed.
        of : array of shape (n,), Series or DataFrame, optional
            Labels to speak of, where they are not the strata the sampler works with.

        Returns
        -------
        dict of str to int
            Label of the stratum to the number; 0 where nothing is guaranteed.

        Examples
        --------
        >>> from torchstrata import RandomBatchSampler, StratifiedBatchSampler
        >>> strata = ["M"] * 90 + ["R"] * 10
        >>> StratifiedBatchSampler(2).guarantees(100, strata)
        {'M': 18, 'R': 2}
        >>> RandomBatchSampler(20).guarantees(100, strata)  # with 10 R in all, 20 rows hold 10 M at least
        {'M': 10, 'R': 0}
        """
        codes, labels = self._codes_of(n, strata, of)
        least = least_rows(self._quiet_plan(n, strata), codes, len(labels))
        return dict(zip(labels, least.tolist(), strict=True))

    def expected_share_without(self, n: int, strata: Any, stratum: Any, *, of: Any = None) -> float:
        """Expect the share of batches that hold no row of a stratum.

        Parameters
        ----------
        n : int
            Number of rows.
        strata : array of shape (n,), Series or DataFrame
            The stratum of every row; several columns are crossed.
        stratum : str or value
            Which one, by its label.
        of : array of shape (n,), Series or DataFrame, optional
            Labels to speak of, where they are not the strata the sampler works with.

        Returns
        -------
        float
            Between 0 and 1. Exact (hypergeometric) but for samplers of whole groups or lengths, where it is the mean
            over 20 epochs.

        Examples
        --------
        >>> from torchstrata import RandomBatchSampler
        >>> round(RandomBatchSampler(32).expected_share_without(10_000, [1] * 100 + [0] * 9_900, 1), 2)
        0.73
        """
        codes, labels = self._codes_of(n, strata, of)
        if str(stratum) not in labels:
            raise ConfigError(f"there is no stratum {str(stratum)!r}. {did_you_mean(stratum, labels)}")
        return share_without(self._quiet_plan(n, strata), codes, labels.index(str(stratum)))

    def _labels(self, strata: Any) -> tuple[np.ndarray, list[str]]:
        return stratum_codes(strata)

    def _codes_of(self, n: int, strata: Any, of: Any = None) -> tuple[np.ndarray, list[str]]:
        check_call(n, 0, 1)
        codes, labels = self._labels(strata) if of is None else stratum_codes(of)
        if len(codes) != n:
            raise DataError(f"strata has {len(codes)} rows but there are {n} rows to batch")
        return codes, labels

    def _quiet_plan(self, n: int, strata: Any) -> BatchPlan:
        with warnings.catch_warnings():  # a plan that is only looked at warns of nothing
            warnings.simplefilter("ignore", UserWarning)
            return self.plan(n, strata)


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


def rank_parts(plan: BatchPlan, order: np.ndarray, bounds: np.ndarray, rank: int, world_size: int) -> list[np.ndarray]:
    """Cut a draw into batches and keep the part of one rank.

    Parameters
    ----------
    plan : BatchPlan
        Says which rank owns what.
    order, bounds : ndarray of int64
        A draw of it.
    rank, world_size : int
        Which part of how many.

    Returns
    -------
    list of ndarray of int64
        One array a batch, for every rank as many.
    """
    batches = np.split(order, bounds[1:-1])
    if world_size == 1:
        return batches
    mine = plan.owners(order, bounds, world_size) == rank
    return [batch[part] for batch, part in zip(batches, np.split(mine, bounds[1:-1]), strict=True)]


def check_positive(name: str, value: Any, alternative: str = "") -> None:
    """Refuse what is no int of at least 1.

    Parameters
    ----------
    name : str
        The setting.
    value : object
        What was given.
    alternative : str
        What else would do, as the end of a sentence.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise ConfigError(f"{name} must be an int >= 1{alternative}, got {value!r}")


def check_call(n: int, rank: int, world_size: int) -> None:
    """Refuse numbers of rows and ranks that cannot be.

    Parameters
    ----------
    n, rank, world_size : int
        As the sampler was called.
    """
    check_positive("n (the number of rows)", n)
    check_positive("world_size", world_size)
    if not 0 <= rank < world_size:
        raise ConfigError(f"rank must be in 0..{world_size - 1} (world_size={world_size}), got {rank!r}")
