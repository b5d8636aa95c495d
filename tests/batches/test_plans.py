"""Plans: what samplers work out once gives what the calls give."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from torchstrata import RandomBatchSampler, StratifiedBatchSampler
from torchstrata.batches.plans import generator


@pytest.mark.parametrize(
    "sampler",
    [
        StratifiedBatchSampler(3),
        StratifiedBatchSampler(3, shuffle=False),
        RandomBatchSampler(7),
        RandomBatchSampler("all"),
    ],
    ids=repr,
)
def test_one_plan_draws_all_epochs_as_the_call_does(sampler):
    strata = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [40, 20, 9]))
    plan = sampler.plan(69, strata)
    for epoch in (1, 2, 1, 0):  # going back gives the same again
        order, bounds = plan.draw(epoch, 11)
        called = sampler(69, strata, epoch=epoch, seed=11)
        assert [b.tolist() for b in np.split(order, bounds[1:-1])] == [b.tolist() for b in called]
        assert order.dtype == np.int64


def test_plan_of_many_rows_keeps_its_small_integers_whole():
    strata = np.repeat([0, 1], [70_000, 40_000])  # beyond int16 in places and in batches
    batches = StratifiedBatchSampler(1)(110_000, strata, seed=1)
    assert len(batches) == 40_000
    assert (np.bincount(np.concatenate(batches), minlength=110_000) == 1).all()
    assert all((b >= 70_000).sum() == 1 for b in batches)


def test_generators_of_epochs_and_seeds_differ():
    first = {generator(seed, epoch).integers(2**62) for seed in (0, 1, 2**32, 2**64) for epoch in range(5)}
    assert len(first) == 20


@pytest.mark.parametrize("n_strata", [2, 100])
def test_plan_and_draw_need_at_most_24_bytes_a_row(n_strata):
    n = 300_000
    strata = np.random.default_rng(0).choice(n_strata, size=n, p=[0.1, 0.9] if n_strata == 2 else None)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        plan = StratifiedBatchSampler(2).plan(n, strata)
        tracemalloc.reset_peak()
        order, _ = plan.draw(0, 0)
        peak = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    assert order.nbytes == 8 * n  # what comes out counts as well
    assert peak <= 24 * n
