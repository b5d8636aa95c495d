"""Batches with equally many rows of every class: rows of rarer classes come again and again."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from torchstrata.batches.base import BatchSampler, check_positive
from torchstrata.batches.plans import SlotPlan
from torchstrata.errors import ConfigError

LENGTHS = ("largest", "smallest", "rows")


@dataclasses.dataclass(frozen=True, repr=False)
class BalancedBatchSampler(BatchSampler):
    """Every batch holds equally many rows of every class; rows of rarer classes repeat.

    The ``batch_size`` places of a batch are dealt to the S classes in turn, going on from batch to batch, so a batch
    has ``batch_size // S`` rows of each class or one more. A class takes its rows in shuffled passes: when all have
    come it begins again, shuffled anew, so its rows come equally often, to one, and a row comes twice in a batch only
    where two passes meet or the class has fewer rows than its share.

    Parameters
    ----------
    batch_size : int
        Rows in a batch, exactly.
    length : "largest", "smallest", "rows" or int
        How long an epoch is. ``"largest"``: until every row of the largest class has come (others repeat).
        ``"smallest"``: until every row of the smallest class has come (others give a random part). ``"rows"``: as many
        batches as ``RandomBatchSampler(batch_size)`` has. An int: so many batches.
    shuffle : bool
        Whether to permute the rows of each class anew in every pass.

    Notes
    -----
    The plan says what came of it: ``len(plan.bounds) - 1`` batches, and ``plan.repeats``, how often a row of each class
    comes in an epoch on average. Training on balanced batches moves predicted probabilities towards the rare class.

    Examples
    --------
    >>> sampler = BalancedBatchSampler(4)
    >>> sampler.composition(["a"] * 6 + ["b"] * 2)
           a  b  batch_size
    batch
    1      2  2           4
    2      2  2           4
    3      2  2           4
    >>> sampler.plan(8, ["a"] * 6 + ["b"] * 2).repeats
    {'a': 1.0, 'b': 3.0}
    """

    batch_size: int
    _: dataclasses.KW_ONLY
    length: int | str = "largest"
    shuffle: bool = True

    needs_strata = True

    def __post_init__(self) -> None:
        check_positive("batch_size", self.batch_size)
        if self.length not in LENGTHS:
            check_positive("length", self.length, f" (batches) or one of {LENGTHS}")

    def plan(self, n: int, strata: Any = None) -> SlotPlan:
        """Deal the places of the batches to the classes.

        Parameters
        ----------
        n : int
            Number of rows.
        strata : array, Series or DataFrame
            The class of every row; several columns are crossed.

        Returns
        -------
        SlotPlan
            Draws epochs.

        Raises
        ------
        ConfigError
            If the epoch is so short that a class would never come.
        """
        codes, labels = self._codes_of(n, strata)
        counts = np.bincount(codes, minlength=len(labels))
        places = self._n_batches(counts) * self.batch_size
        if places < len(counts):
            raise ConfigError(
                f"{places // self.batch_size} batches of {self.batch_size} rows leave out some of the {len(counts)} "
                f"classes: give batch_size or length so that they hold {len(counts)} rows or more"
            )
        by_class = np.argsort(np.arange(places) % len(counts), kind="stable")
        slots = np.bincount(np.arange(places) % len(counts), minlength=len(counts))
        return SlotPlan(codes, slots, by_class // self.batch_size, labels, shuffle=self.shuffle)

    def _n_batches(self, counts: np.ndarray) -> int:
        if not isinstance(self.length, str):
            return int(self.length)
        rows = {"largest": counts.max() * len(counts), "smallest": counts.min() * len(counts), "rows": counts.sum()}
        return -(-int(rows[self.length]) // self.batch_size)
