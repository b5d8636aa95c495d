"""Stratified and random batches: the samplers that give every row once an epoch.

Their rule in one line each: batches with at least k rows of every stratum; batches of one size in random order; batches
of one size with the proportions of the whole. ``balanced.py`` and ``grouped.py`` hold the others.
"""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any

import numpy as np

from torchstrata.batches.base import (
    BatchSampler,
    check_call,
    check_positive,
    plan_batches,
)
from torchstrata.batches.bins import bin_codes, check_bins
from torchstrata.batches.plans import BatchPlan, SlotPlan, cut_bounds
from torchstrata.data.strata import stratum_codes
from torchstrata.errors import ConfigError

__all__ = [
    "BatchPlan",
    "BatchSampler",
    "ProportionalBatchSampler",
    "RandomBatchSampler",
    "StratifiedBatchSampler",
    "plan_batches",
    "stratum_codes",
]


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
    bins : int or sequence of float, optional
        The strata are numbers, such as a regression target: make so many quantile bins, or bins between these edges.
    max_batch_size : int, optional
        No batch holds more rows. Where the rule gives larger ones there are more batches instead, and strata with fewer
        than k rows a batch repeat theirs, all of them equally often, to one: a warning and the plan's ``repeats`` say
        how often. Without it every row comes exactly once.

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
    bins: Any = None
    max_batch_size: int | None = None

    needs_strata = True

    def __post_init__(self) -> None:
        check_positive("min_samples_per_stratum", self.min_samples_per_stratum)
        if self.max_batch_size is not None:
            check_positive("max_batch_size", self.max_batch_size, " or None")
        object.__setattr__(self, "bins", check_bins(self.bins))  # a tuple: a list could be edited

    def plan(self, n: int, strata: Any = None) -> SlotPlan:
        """Work out once which place in which batch each row of each stratum takes.

        Parameters
        ----------
        n : int
            Number of rows.
        strata : array, Series or DataFrame
            The stratum of every row; several columns are crossed.

        Returns
        -------
        SlotPlan
            Draws epochs; ``repeats`` says how often the rows of each stratum come.

        Warns
        -----
        UserWarning
            If a stratum has fewer than k rows: then all rows are one batch. If ``max_batch_size`` makes rows repeat.
        """
        codes, labels = self._codes_of(n, strata)
        return self._plan(codes, labels)

    def _plan(self, codes: np.ndarray, labels: list[str]) -> SlotPlan:
        counts = np.bincount(codes, minlength=len(labels))
        k = self.min_samples_per_stratum
        n_batches = max(1, int(counts.min()) // k)
        if self.max_batch_size is None or int(-(-counts // n_batches).sum()) <= self.max_batch_size:
            if counts.min() < k:
                self._warn_one_batch(counts, labels)
            return SlotPlan(codes, counts, spread(counts, n_batches), labels, shuffle=self.shuffle)
        n_batches = self._batches_below_cap(counts, n_batches)
        slots = np.maximum(counts, k * n_batches)
        if (slots > counts).any():
            self._warn_repeats(counts, slots, n_batches, labels)
        return SlotPlan(codes, slots, spread(slots, n_batches), labels, shuffle=self.shuffle)

    def _labels(self, strata: Any) -> tuple[np.ndarray, list[str]]:
        return stratum_codes(strata) if self.bins is None else bin_codes(strata, self.bins)

    def _batches_below_cap(self, counts: np.ndarray, fewest: int) -> int:
        """Find the smallest number of batches of which none exceeds the cap; the largest size falls as it grows."""
        k, cap = self.min_samples_per_stratum, self.max_batch_size
        assert cap is not None
        if k * len(counts) > cap:
            raise ConfigError(
                f"max_batch_size={cap} cannot hold min_samples_per_stratum={k} of {len(counts)} strata: "
                f"give max_batch_size={k * len(counts)} or more, or merge strata"
            )
        low, high = fewest, int(counts.max())
        while low < high:
            middle = (low + high) // 2
            fits = np.maximum(k, -(-counts // middle)).sum() <= cap
            low, high = (low, middle) if fits else (middle + 1, high)
        return low

    def _warn_one_batch(self, counts: np.ndarray, labels: list[str]) -> None:
        small = int(np.argmin(counts))
        warnings.warn(
            f"stratum {labels[small]!r} has {counts[small]} rows, fewer than "
            f"min_samples_per_stratum={self.min_samples_per_stratum}, so all {counts.sum()} rows form one batch "
            f"(rows per stratum: {dict(zip(labels, counts.tolist(), strict=True))}). "
            f"Lower min_samples_per_stratum to {counts[small]} or merge strata.",
            UserWarning,
            stacklevel=5,
        )

    def _warn_repeats(self, counts: np.ndarray, slots: np.ndarray, n_batches: int, labels: list[str]) -> None:
        found = np.flatnonzero(slots > counts)
        often = ", ".join(f"{counts[s]} rows of {labels[s]!r} {slots[s] / counts[s]:.3g} times" for s in found)
        warnings.warn(
            f"max_batch_size={self.max_batch_size} needs {n_batches} batches, more than the rows of the smallest "
            f"stratum allow, so rows repeat within an epoch: {often}. Raise max_batch_size, or leave it out to see "
            "every row once.",
            UserWarning,
            stacklevel=5,
        )


@dataclasses.dataclass(frozen=True, repr=False)
class RandomBatchSampler(BatchSampler):
    """Batches of a fixed size in random order, every row once an epoch.

    Parameters
    ----------
    batch_size : int, "all" or "auto"
        Rows in a batch; ``"all"`` is one batch of all rows in their order, and ``"auto"`` grows with the number of rows
        (:func:`automatic_batch_size`). The last batch holds what is left; if that were one row, which batch
        normalisation cannot use, the batch before gives it a second one (a batch of two takes it in).
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
        if self.batch_size not in ("all", "auto"):
            check_positive("batch_size", self.batch_size, ", 'all' or 'auto'")

    def plan(self, n: int, strata: Any = None) -> SlotPlan:
        """Work out the sizes of the batches.

        Parameters
        ----------
        n : int
            Number of rows.
        strata : object
            Not used.

        Returns
        -------
        SlotPlan
            Draws epochs.
        """
        check_call(n, 0, 1)
        whole = self.batch_size == "all"
        rows = automatic_batch_size(n) if self.batch_size == "auto" else self.batch_size
        bounds = cut_bounds(n, n if whole else int(rows))
        batch = np.repeat(np.arange(len(bounds) - 1), np.diff(bounds))
        return SlotPlan(np.zeros(n, dtype=np.int8), np.array([n]), batch, ["all"], shuffle=self.shuffle and not whole)


def automatic_batch_size(n: int) -> int:
    """Choose how many rows a batch has.

    Parameters
    ----------
    n : int
        Number of rows.

    Returns
    -------
    int
        A 64th of the rows, rounded down to a power of two, between 32 and 256: few rows make enough steps of small
        batches, and many rows do not need so many.

    Examples
    --------
    >>> [automatic_batch_size(n) for n in (150, 5_000, 10_000, 1_000_000)]
    [32, 64, 128, 256]
    """
    return min(256, max(32, 2 ** (n // 64).bit_length() // 2))


@dataclasses.dataclass(frozen=True, repr=False)
class ProportionalBatchSampler(BatchSampler):
    """Batches of one size with the proportions of the whole, every row once an epoch.

    The share of a stratum in a batch is rounded so that sizes are exact and what one batch lacks the next ones give:
    the i-th row of a stratum of n_s is due at ``(i - 1/2) / n_s`` of the epoch, rows are lined up by when they are due,
    and the line is cut into batches. A stratum whose share is less than one row is spread evenly: no batch is
    guaranteed a row of it (StratifiedBatchSampler does that).

    Parameters
    ----------
    batch_size : int
        Rows in a batch; the last batch holds what is left, as in RandomBatchSampler.
    shuffle : bool
        Whether to permute the rows of each stratum anew in every epoch.

    Notes
    -----
    This is rounding by Webster and Sainte-Lague. Where the shares are whole numbers it gives them exactly, and for two
    strata it is the method of the largest remainder. For more strata the largest remainders of the running totals would
    now and then take a row back (the Alabama paradox), which a row that has been in a batch cannot be. At the end of
    every batch the total of a stratum is within ``1/2 + S/2 * n_s/n`` rows of its share, S the number of strata.

    Examples
    --------
    >>> ProportionalBatchSampler(10).composition(["a"] * 60 + ["b"] * 30 + ["c"] * 10).iloc[0].tolist()
    [6, 3, 1, 10]
    """

    batch_size: int
    _: dataclasses.KW_ONLY
    shuffle: bool = True

    needs_strata = True

    def __post_init__(self) -> None:
        check_positive("batch_size", self.batch_size)

    def plan(self, n: int, strata: Any = None) -> SlotPlan:
        """Line up the strata and cut the line into batches.

        Parameters
        ----------
        n : int
            Number of rows.
        strata : array, Series or DataFrame
            The stratum of every row; several columns are crossed.

        Returns
        -------
        SlotPlan
            Draws epochs.
        """
        codes, labels = self._codes_of(n, strata)
        counts = np.bincount(codes, minlength=len(labels))
        due = (2 * numbers_within(counts) + 1) / np.repeat(2 * counts, counts)
        bounds = cut_bounds(n, self.batch_size)
        batch = np.empty(n, dtype=np.int64)
        batch[np.argsort(due, kind="stable")] = np.repeat(np.arange(len(bounds) - 1), np.diff(bounds))
        return SlotPlan(codes, counts, batch, labels, shuffle=self.shuffle)


def numbers_within(counts: np.ndarray) -> np.ndarray:
    """Number the rows within each stratum.

    Parameters
    ----------
    counts : ndarray of int, shape (S,)
        Rows of each stratum.

    Returns
    -------
    ndarray of int64, shape (sum of counts,)
        0..n_s-1, stratum after stratum.
    """
    return np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)


def spread(slots: np.ndarray, n_batches: int) -> np.ndarray:
    """Spread the slots of each stratum evenly over batches: slot i (from 1) of n goes to batch ``ceil(i * B / n)``.

    Parameters
    ----------
    slots : ndarray of int, shape (S,)
        Slots of each stratum, at least B each.
    n_batches : int
        B.

    Returns
    -------
    ndarray of int64, shape (sum of slots,)
        Batches from 0. In integers: see the notes of StratifiedBatchSampler.
    """
    of = np.repeat(slots, slots)
    return ((numbers_within(slots) + 1) * n_batches + of - 1) // of - 1
