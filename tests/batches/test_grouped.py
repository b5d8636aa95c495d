"""Groups stay whole, rows of similar length meet."""

from __future__ import annotations

import numpy as np
import pytest

from torchstrata import GroupBatchSampler, LengthBucketBatchSampler
from torchstrata.errors import ConfigError, DataError


def random_groups(rng):
    sizes = rng.integers(1, 12, rng.integers(1, 60))
    return rng.permutation(np.repeat(np.arange(len(sizes)) * 7, sizes))


@pytest.mark.parametrize("world_size", [1, 3])
def test_groups_stay_in_one_batch_and_on_one_rank(world_size):
    rng = np.random.default_rng(0)
    for epoch in range(100):
        groups, size = random_groups(rng), int(rng.integers(1, 30))
        n, sampler = len(groups), GroupBatchSampler(size, shuffle=bool(epoch % 2))
        parts = [sampler(n, groups, epoch=epoch, rank=r, world_size=world_size) for r in range(world_size)]
        pieces = [part for rank in parts for part in rank if len(part)]
        assert sorted(np.concatenate(pieces).tolist()) == list(range(n))
        assert sum(len(np.unique(groups[piece])) for piece in pieces) == len(np.unique(groups))
        for batch in sampler(n, groups, epoch=epoch):
            assert len(batch) <= size or len(np.unique(groups[batch])) == 1


def test_batches_are_filled_as_far_as_groups_allow():
    groups = np.repeat(np.arange(300), 4)
    assert {len(b) for b in GroupBatchSampler(32)(1200, groups)} == {32, 16}
    assert {len(b) for b in GroupBatchSampler(35)(1200, groups)} <= {32, 16}


def test_rows_of_a_group_keep_their_order_and_several_columns_are_crossed():
    groups = np.array([["p", "x"], ["q", "x"], ["p", "x"], ["p", "y"]])
    assert [b.tolist() for b in GroupBatchSampler(2, shuffle=False)(4, groups)] == [[0, 2], [1, 3]]


def test_groups_meet_at_random():
    groups = np.repeat(np.arange(20), 3)
    first = [frozenset(groups[GroupBatchSampler(6)(60, groups, epoch=e)[0]].tolist()) for e in range(100)]
    assert len(set(first)) > 60


def test_ranks_get_about_equally_many_rows_over_an_epoch():
    groups = np.repeat(np.arange(400), 5)
    parts = [GroupBatchSampler(50)(2000, groups, rank=r, world_size=3) for r in range(3)]
    totals = [sum(map(len, part)) for part in parts]
    assert max(totals) - min(totals) <= 60


# --- lengths


def padding(batches, lengths):
    return sum(len(b) * lengths[b].max() for b in batches) / lengths.sum() - 1


def test_rows_of_similar_length_meet():
    lengths = np.random.default_rng(0).lognormal(4, 1, 5000).round() + 1
    random = padding(LengthBucketBatchSampler(20, pool=1)(5000, lengths), lengths)
    pooled = padding(LengthBucketBatchSampler(20)(5000, lengths), lengths)
    whole = padding(LengthBucketBatchSampler(20, pool="all")(5000, lengths), lengths)
    assert random > 1 > 0.2 > pooled > whole
    in_order = LengthBucketBatchSampler(20, shuffle=False)(5000, lengths)
    assert (np.diff(lengths[np.concatenate(in_order)]) >= 0).all()


def test_batches_have_the_size_and_every_row_comes_once():
    lengths = np.random.default_rng(1).integers(1, 9, 103)
    for epoch in range(30):
        batches = LengthBucketBatchSampler(10, pool=3)(103, lengths, epoch=epoch)
        assert sorted(map(len, batches)) == [3, *[10] * 10]
        assert sorted(np.concatenate(batches).tolist()) == list(range(103))
    assert min(map(len, LengthBucketBatchSampler(10)(101, np.ones(101)))) == 2  # never a single row


def test_rows_of_one_length_and_batches_come_in_random_order():
    lengths = np.repeat([1, 50], 40)
    draws = [LengthBucketBatchSampler(8, pool="all")(80, lengths, epoch=e) for e in range(60)]
    assert len({frozenset(batches[0].tolist()) for batches in draws}) == 60
    first = np.mean([lengths[batches[0][0]] == 1 for batches in draws])
    assert 0.25 < first < 0.75


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: GroupBatchSampler(0), ConfigError, "batch_size must be an int >= 1"),
        (lambda: GroupBatchSampler(2)(3), DataError, "needs a stratum for every row"),
        (lambda: GroupBatchSampler(2)(3, ["a", "b"]), DataError, "strata has 2 rows but there are 3"),
        (lambda: LengthBucketBatchSampler(2, pool=0), ConfigError, "pool must be an int >= 1 or 'all'"),
        (lambda: LengthBucketBatchSampler(2)(3), DataError, "needs the length of every row"),
        (lambda: LengthBucketBatchSampler(2)(3, [1, 2]), DataError, "strata has 2 rows but there are 3"),
        (lambda: LengthBucketBatchSampler(2)(2, ["a", "b"]), DataError, "LengthBucketBatchSampler needs numbers"),
        (lambda: LengthBucketBatchSampler(2)(2, [1.0, np.nan]), DataError, "value of row 1 is nan"),
        (lambda: LengthBucketBatchSampler(2)(2, np.ones((2, 2))), DataError, r"one column of numbers, got shape \(2"),
    ],
)
def test_what_cannot_be_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
