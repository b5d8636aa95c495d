"""Equal counts of every class: epoch lengths, repeats, what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from torchstrata import BalancedBatchSampler
from torchstrata.errors import ConfigError, DataError

STRATA = np.repeat(["a", "b", "c"], [60, 30, 10])


def counts(batches):
    return np.array([[np.sum(STRATA[b] == s) for s in "abc"] for b in batches])


@pytest.mark.parametrize("batch_size", [3, 7, 16, 250])
def test_every_batch_is_exactly_as_large_and_balanced_to_one(batch_size):
    table = counts(BalancedBatchSampler(batch_size)(100, STRATA, seed=1))
    assert (table.sum(axis=1) == batch_size).all()
    assert (np.ptp(table, axis=1) <= 1).all()
    assert np.ptp(table.sum(axis=0)) <= 1  # over the epoch as well


@pytest.mark.parametrize(("length", "n_batches"), [("largest", 15), ("smallest", 3), ("rows", 9), (4, 4), (100, 100)])
def test_length_of_an_epoch(length, n_batches):
    sampler = BalancedBatchSampler(12, length=length)
    assert len(sampler(100, STRATA)) == n_batches
    plan = sampler.plan(100, STRATA)
    often = np.bincount(plan.draw(0, 0)[0], minlength=100)
    for s, name in enumerate("abc"):
        assert often[name == STRATA].mean() == pytest.approx(plan.repeats[name])
        assert np.ptp(often[name == STRATA]) <= 1
        assert often[name == STRATA].sum() == 12 * n_batches / 3, s


def test_largest_sees_every_row_and_smallest_every_row_of_the_smallest():
    assert BalancedBatchSampler(12).plan(100, STRATA).repeats == {"a": 1.0, "b": 2.0, "c": 6.0}
    seen = np.bincount(np.concatenate(BalancedBatchSampler(10, length="smallest")(100, STRATA)), minlength=100)
    assert (seen[90:] == 1).all()
    assert seen.max() == 1


def test_every_pass_is_shuffled_anew():
    rare = [row for batch in BalancedBatchSampler(30)(100, STRATA) for row in batch if row >= 90]
    passes = [tuple(rare[i : i + 10]) for i in range(0, 60, 10)]
    assert len(set(passes)) == 6
    assert all(sorted(p) == list(range(90, 100)) for p in passes)


def test_a_random_part_of_a_larger_class_comes_each_epoch():
    sampler = BalancedBatchSampler(3, length="smallest")
    seen = np.bincount(np.concatenate([np.concatenate(sampler(100, STRATA, epoch=e)) for e in range(300)]))
    assert seen[90:].tolist() == [300] * 10
    assert seen[:60].min() > 25 and seen[:60].max() < 85  # 50 expected
    assert seen[60:90].min() > 65 and seen[60:90].max() < 135  # 100 expected


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: BalancedBatchSampler(0), ConfigError, "batch_size must be an int >= 1, got 0"),
        (lambda: BalancedBatchSampler(4, length="longest"), ConfigError, "length must be an int >= 1 .* 'smallest'"),
        (lambda: BalancedBatchSampler(4, length=0), ConfigError, "got 0"),
        (lambda: BalancedBatchSampler(1, length=2)(100, STRATA), ConfigError, "leave out some of the 3 classes"),
        (lambda: BalancedBatchSampler(4)(100), DataError, "needs a stratum for every row"),
        (lambda: BalancedBatchSampler(4)(99, STRATA), DataError, "strata has 100 rows but there are 99"),
    ],
)
def test_what_cannot_be_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
