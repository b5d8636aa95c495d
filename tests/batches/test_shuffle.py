"""The shuffle is uniform whatever way it takes, and moves nothing over the border of a segment."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy.stats import chisquare, kstest

from torchstrata import StratifiedBatchSampler
from torchstrata.batches import shuffle
from torchstrata.batches.shuffle import SegmentShuffle, generator

WAYS = {"sort": range(0), "swap": range(1, 2**30)}


@pytest.fixture(params=WAYS)
def way(request, monkeypatch):
    monkeypatch.setattr(shuffle, "FISHER_YATES", WAYS[request.param])
    return request.param


def permutation_counts(draw, size, times):
    """Count how often each of the size! orders comes."""
    number = {p: i for i, p in enumerate(itertools.permutations(range(size)))}
    seen = np.bincount([number[tuple(draw(e))] for e in range(times)], minlength=math.factorial(size))
    return seen


@pytest.mark.parametrize("size", [2, 3, 4])
def test_all_orders_are_equally_frequent(size, way):
    shuffled = SegmentShuffle(np.array([3, size, 2]))
    rows = np.array([90, 91, 92, *range(size), 80, 81], dtype=np.int32)
    counts = permutation_counts(lambda e: shuffled(rows, generator(1, e))[3 : 3 + size].tolist(), size, 12_000)
    assert chisquare(counts).pvalue > 1e-4


def test_all_orders_are_equally_frequent_where_every_key_ties(monkeypatch):
    """With one random bit nearly all keys tie: the order among ties must be drawn as well."""
    genuine = shuffle._keys

    def poor(rows, low, rng):
        return genuine(rows, low, rng) & np.uint64((1 << 63) | ((1 << low) - 1))

    monkeypatch.setattr(shuffle, "_keys", poor)
    shuffled = SegmentShuffle(np.array([4, 4]))
    rows = np.array([*range(4), *range(4)], dtype=np.int32)
    draws = [shuffled(rows, generator(2, e)) for e in range(12_000)]
    for part in (slice(0, 4), slice(4, 8)):
        counts = permutation_counts(lambda e, part=part: draws[e][part].tolist(), 4, 12_000)
        assert chisquare(counts).pvalue > 1e-4


def test_places_of_rows_are_uniform_in_long_segments(way):
    n = 9_000
    shuffled = SegmentShuffle(np.array([n]))
    where = np.empty((40, n))
    for e in range(40):
        where[e, shuffled(np.arange(n, dtype=np.int32), generator(3, e))] = np.arange(n)
    for row in (0, 1, n // 2, n - 1):
        assert kstest((where[:, row] + 0.5) / n, "uniform").pvalue > 1e-4
    assert abs(np.corrcoef(where[0], where[1])[0, 1]) < 0.06  # epochs have nothing to do with one another


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.int64])
def test_segments_keep_their_rows(dtype, way):
    rng = np.random.default_rng(0)
    for _ in range(200):
        sizes = rng.integers(1, 9, rng.integers(1, 12)) * rng.choice([1, 1, 300])
        rows = rng.permutation(sizes.sum()).astype(dtype)
        kept = rows.copy()
        out = SegmentShuffle(sizes)(rows, generator(0, 0))
        assert out.dtype == dtype
        assert (rows == kept).all()
        for a, b in zip(np.cumsum(sizes) - sizes, np.cumsum(sizes), strict=True):
            assert sorted(out[a:b]) == sorted(rows[a:b])


def test_both_ways_meet_in_one_shuffle(monkeypatch):
    monkeypatch.setattr(shuffle, "FISHER_YATES", range(5, 8))
    sizes = np.array([2, 6, 6, 3, 3, 9, 7])
    out = SegmentShuffle(sizes)(np.arange(36), generator(0, 0))
    for a, b in zip(np.cumsum(sizes) - sizes, np.cumsum(sizes), strict=True):
        assert sorted(out[a:b]) == list(range(a, b))


def test_sampler_gives_every_row_every_batch_equally_often():
    strata = np.repeat([0, 1], [12, 6])
    plan = StratifiedBatchSampler(1).plan(18, strata)
    met = np.zeros((18, 6))
    for e in range(3_000):
        order, bounds = plan.draw(e, 0)
        met[order, np.repeat(np.arange(6), np.diff(bounds))] += 1
    assert min(chisquare(row).pvalue for row in met) > 1e-5
