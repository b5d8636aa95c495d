"""Every sampler keeps the contract, and the contract finds samplers that do not."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest

from torchstrata import (
    BalancedBatchSampler,
    GroupBatchSampler,
    LengthBucketBatchSampler,
    ProportionalBatchSampler,
    RandomBatchSampler,
    StratifiedBatchSampler,
)
from torchstrata.batches.base import BatchSampler
from torchstrata.testing.samplers import SamplerContract


class TestStratified(SamplerContract):
    sampler = StratifiedBatchSampler(2)
    change = ("min_samples_per_stratum", 3)


class TestStratifiedInOrder(SamplerContract):
    sampler = StratifiedBatchSampler(2, shuffle=False)
    shuffles = False


class TestStratifiedCrossed(SamplerContract):
    sampler = StratifiedBatchSampler(1)

    def make_strata(self, rng):
        return pd.DataFrame({"a": rng.choice(["p", "q"], 90), "b": rng.choice([1, 2, 3], 90)})


class TestStratifiedOnlyOneBatch(SamplerContract):
    sampler = StratifiedBatchSampler(50)


class TestStratifiedOfOtherLabels(SamplerContract):
    """The guarantee speaks of classes while the sampler stratifies by something else."""

    sampler = StratifiedBatchSampler(4)

    def make_labels(self, strata):
        return np.random.default_rng(1).choice(["x", "y", "z"], len(strata), p=[0.05, 0.25, 0.7])


class TestStratifiedBins(SamplerContract):
    sampler = StratifiedBatchSampler(2, bins=5)
    change = ("bins", (0.0, 1.0))

    def make_strata(self, rng):
        return rng.normal(size=97)

    def make_labels(self, strata):
        return pd.qcut(strata, 5).astype(str)


class TestStratifiedCapped(SamplerContract):
    sampler = StratifiedBatchSampler(1, max_batch_size=6)
    covers = "equally"
    change = ("max_batch_size", None)


class TestStratifiedCappedInOrder(SamplerContract):
    sampler = StratifiedBatchSampler(2, max_batch_size=10, shuffle=False)
    covers, shuffles = "equally", False


class TestRandom(SamplerContract):
    sampler = RandomBatchSampler(16)
    change = ("batch_size", "all")


class TestRandomLarge(SamplerContract):
    sampler = RandomBatchSampler(60)


class TestRandomInOrder(SamplerContract):
    sampler = RandomBatchSampler(16, shuffle=False)
    shuffles = False


class TestAllAtOnce(SamplerContract):
    sampler = RandomBatchSampler("all")
    shuffles = False


class TestProportional(SamplerContract):
    sampler = ProportionalBatchSampler(8)
    change = ("shuffle", False)


class TestProportionalInOrder(SamplerContract):
    sampler = ProportionalBatchSampler(8, shuffle=False)
    shuffles = False


class TestBalanced(SamplerContract):
    sampler = BalancedBatchSampler(16)
    covers = "equally"
    change = ("length", 9)


class TestBalancedShort(SamplerContract):
    sampler = BalancedBatchSampler(6, length="smallest")
    covers = "equally"


class TestBalancedSmallerThanTheClasses(SamplerContract):
    sampler = BalancedBatchSampler(2, length="rows")
    covers = "equally"


class TestBalancedInOrder(SamplerContract):
    sampler = BalancedBatchSampler(7, length=20, shuffle=False)
    covers, shuffles = "equally", False


class TestBalancedOfOtherLabels(SamplerContract):
    sampler = BalancedBatchSampler(24, length="rows")
    covers = None

    def make_labels(self, strata):
        return np.random.default_rng(1).choice(["x", "y"], len(strata), p=[0.05, 0.95])


class TestGroup(SamplerContract):
    sampler = GroupBatchSampler(20)
    change = ("batch_size", 3)

    def make_strata(self, rng):
        return rng.permutation(np.repeat(np.arange(30), rng.integers(1, 8, 30)))

    def make_labels(self, strata):
        return np.where(np.arange(len(strata)) % 9 == 0, "rare", "common")


class TestGroupInOrder(TestGroup):
    sampler = GroupBatchSampler(20, shuffle=False)
    shuffles = False


class TestLengthBucket(SamplerContract):
    sampler = LengthBucketBatchSampler(10, pool=4)
    change = ("pool", "all")

    def make_strata(self, rng):
        return rng.integers(1, 500, 131)

    def make_labels(self, strata):
        return np.where(np.arange(len(strata)) % 9 == 0, "rare", "common")


class TestLengthBucketInOrder(TestLengthBucket):
    sampler = LengthBucketBatchSampler(10, shuffle=False)
    shuffles = False


# --- the contract itself can fail


@dataclasses.dataclass(frozen=True, repr=False)
class Broken(BatchSampler):
    """Breaks one promise, by name."""

    how: str = ""

    def plan(self, n, strata=None):
        return BrokenPlan(RandomBatchSampler(16).plan(n), self.how)

    def guarantees(self, n, strata, *, of=None):
        least = super().guarantees(n, strata, of=of)
        return dict.fromkeys(least, 5) if self.how == "guarantee" else least


class BrokenPlan:
    calls = 0

    def __init__(self, plan, how):
        self.plan, self.how = plan, how

    def draw(self, epoch, seed):
        BrokenPlan.calls += 1
        order, bounds = self.plan.draw(0 if self.how == "epoch" else epoch, seed)
        if self.how == "state":
            order = np.roll(order, BrokenPlan.calls)
        if self.how == "coverage":
            order = np.where(order == order[0], order[1], order)
        return (order.astype(np.int32) if self.how == "dtype" else order), bounds


@pytest.mark.parametrize(
    ("how", "check"),
    [
        ("epoch", "test_epochs_and_seeds_differ_if_it_shuffles"),
        ("state", "test_a_draw_depends_on_seed_and_epoch_alone"),
        ("coverage", "test_coverage"),
        ("dtype", "test_batches_are_int64_arrays_of_rows"),
        ("guarantee", "test_guarantees_are_kept"),
    ],
)
def test_contract_finds_what_is_broken(how, check):
    contract = SamplerContract()
    strata = contract.make_strata(np.random.default_rng(0))
    contract.sampler = Broken()
    getattr(contract, check)(strata)
    contract.sampler = Broken(how)
    with pytest.raises(AssertionError):
        getattr(contract, check)(strata)


def test_contract_finds_ranks_that_lose_rows(monkeypatch):
    contract = SamplerContract()
    contract.sampler = RandomBatchSampler(16)
    strata = contract.make_strata(np.random.default_rng(0))
    contract.test_ranks_part_every_batch(strata, 3)
    plan = type(contract.sampler.plan(3))
    monkeypatch.setattr(plan, "owners", lambda self, order, bounds, world_size: np.full(len(order), world_size))
    with pytest.raises(AssertionError):
        contract.test_ranks_part_every_batch(strata, 3)
