"""What batches are sure to hold, and how many hold nothing: against counting and against all possible draws."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from torchstrata import (
    BalancedBatchSampler,
    GroupBatchSampler,
    ProportionalBatchSampler,
    RandomBatchSampler,
    StratifiedBatchSampler,
)
from torchstrata.batches.guarantees import least_rows, share_without
from torchstrata.batches.samplers import plan_batches
from torchstrata.errors import ConfigError, DataError


def test_one_percent_positives_in_batches_of_32_leave_73_percent_useless():
    y = np.repeat([0, 1], [9_900, 100])
    share = RandomBatchSampler(32).expected_share_without(10_000, y, 1)
    assert share == pytest.approx(0.7247, abs=2e-3)
    assert RandomBatchSampler(32).guarantees(10_000, y) == {"0": 0, "1": 0}  # the last batch has 16 rows
    assert StratifiedBatchSampler(1).expected_share_without(10_000, y, 1) == 0
    assert StratifiedBatchSampler(1).guarantees(10_000, y) == {"0": 99, "1": 1}


def test_random_share_equals_the_count_over_all_draws():
    y = np.array([1, 1, 0, 0, 0, 0, 0])
    without = [
        np.mean([not set(part) & {0, 1} for part in (order[:3], order[3:5], order[5:])])
        for order in itertools.permutations(range(7))
    ]
    plan = RandomBatchSampler(3).plan(7)
    assert np.diff(plan.bounds).tolist() == [3, 2, 2]
    assert share_without(plan, y, 1) == pytest.approx(np.mean(without), abs=1e-12)
    assert RandomBatchSampler(3).expected_share_without(7, y, 1) == pytest.approx(np.mean(without), abs=1e-12)


def test_random_guarantees_what_the_others_cannot_fill():
    assert RandomBatchSampler(5).guarantees(10, ["a"] * 8 + ["b"] * 2) == {"a": 3, "b": 0}
    assert RandomBatchSampler("all").guarantees(10, ["a"] * 8 + ["b"] * 2) == {"a": 8, "b": 2}
    assert RandomBatchSampler(99).guarantees(10, ["a"] * 8 + ["b"] * 2) == {"a": 8, "b": 2}
    in_order = RandomBatchSampler(5, shuffle=False)
    assert in_order.guarantees(10, ["a"] * 8 + ["b"] * 2) == {"a": 3, "b": 0}
    assert in_order.expected_share_without(10, ["a"] * 8 + ["b"] * 2, "b") == 0.5


def test_stratified_guarantees_at_least_k_of_what_it_stratifies_by():
    rng = np.random.default_rng(0)
    for _ in range(100):
        counts, k = rng.integers(1, 60, rng.integers(1, 6)), int(rng.integers(1, 6))
        strata = rng.permutation(np.repeat(np.arange(len(counts)), counts))
        least = StratifiedBatchSampler(k).guarantees(len(strata), strata)  # warns of nothing: it only looks
        assert list(least.values()) == (counts // max(1, counts.min() // k)).tolist()


def test_guarantee_of_classes_where_strata_are_sites():
    """A site of one class guarantees its class; a mixed one guarantees what the other class cannot fill."""
    sites = np.repeat(["s", "t"], [10, 20])
    y = np.r_[np.ones(10), np.ones(3), np.zeros(17)].astype(int)
    sampler = StratifiedBatchSampler(5)  # two batches of 5 s and 10 t
    assert sampler.guarantees(30, sites, of=y) == {"0": 7, "1": 5}
    assert sampler.expected_share_without(30, sites, 1, of=y) == 0
    assert sampler.expected_share_without(30, sites, 0, of=y) == 0
    # one row of class 1 in the second site and none in the first: it is in one of the two batches
    rare = np.r_[np.zeros(29), 1].astype(int)
    assert sampler.expected_share_without(30, sites, 1, of=rare) == pytest.approx(0.5)


def test_balanced_and_proportional():
    strata = ["a"] * 60 + ["b"] * 30 + ["c"] * 10
    assert BalancedBatchSampler(9).guarantees(100, strata) == {"a": 3, "b": 3, "c": 3}
    assert BalancedBatchSampler(8).guarantees(100, strata) == {"a": 2, "b": 2, "c": 2}
    assert BalancedBatchSampler(2).guarantees(100, strata) == {"a": 0, "b": 0, "c": 0}
    assert BalancedBatchSampler(2).expected_share_without(100, strata, "c") == pytest.approx(1 / 3, abs=0.02)
    assert ProportionalBatchSampler(10).guarantees(100, strata) == {"a": 6, "b": 3, "c": 1}
    assert ProportionalBatchSampler(5).guarantees(100, strata)["c"] == 0
    assert ProportionalBatchSampler(5).expected_share_without(100, strata, "c") == 0.5


def test_groups_and_functions_guarantee_nothing_but_in_one_batch():
    groups, y = np.repeat(np.arange(10), 3), np.arange(30) % 2
    assert GroupBatchSampler(6).guarantees(30, groups, of=y) == {"0": 0, "1": 0}
    assert GroupBatchSampler(30).guarantees(30, groups, of=y) == {"0": 15, "1": 15}
    halves = plan_batches(lambda n, strata, *, epoch, seed: [range(n // 2), range(n // 2, n)], 4, None)
    assert least_rows(halves, np.array([0, 0, 1, 1]), 2).tolist() == [0, 0]
    assert share_without(halves, np.array([0, 0, 1, 1]), 1) == 0.5


def test_what_cannot_be_is_refused():
    sampler = RandomBatchSampler(5)
    with pytest.raises(ConfigError, match=r"no stratum 'M'\. Did you mean 'm'"):
        sampler.expected_share_without(4, list("mmrr"), "M")
    with pytest.raises(DataError, match="strata has 4 rows but there are 5"):
        sampler.guarantees(5, list("mmrr"))
    with pytest.raises(DataError, match="needs a stratum"):
        StratifiedBatchSampler(1).guarantees(4, None)
