"""Which rows meet in a step: every row once, every batch with its minimum, draws that can be repeated."""

from __future__ import annotations

import math
import warnings
from fractions import Fraction

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from torchstrata import ProportionalBatchSampler, RandomBatchSampler, StratifiedBatchSampler
from torchstrata.batches.samplers import BatchSampler, plan_batches
from torchstrata.errors import ConfigError, DataError


def strata_of(*counts: int) -> np.ndarray:
    return np.repeat([f"s{i:02d}" for i in range(len(counts))], counts)


def counts_in(batches, strata) -> np.ndarray:
    levels, codes = np.unique(strata, return_inverse=True)
    return np.array([np.bincount(codes[b], minlength=len(levels)) for b in batches])


def as_lists(batches) -> list[list[int]]:
    return [b.tolist() for b in batches]


def check_stratified(counts, k, batches, strata):
    """What FEATURES 2 promises, written out."""
    n_batches = max(1, min(counts) // k)
    table = counts_in(batches, strata)
    assert len(batches) == n_batches
    assert sorted(np.concatenate(batches).tolist()) == list(range(sum(counts)))
    for s, n_s in enumerate(counts):
        if n_s >= k:
            assert table[:, s].min() >= k
        assert table[:, s].max() - table[:, s].min() <= 1
    sizes = table.sum(1)
    assert sizes.max() - sizes.min() <= len(counts)


def quietly(sampler, *args, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return sampler(*args, **kwargs)


# --- stratified


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_guarantee_on_a_grid_of_two_strata(k, shuffle):
    sampler = StratifiedBatchSampler(k, shuffle=shuffle)
    for a in range(1, 26):
        for b in range(a, 26):
            strata = strata_of(a, b)
            check_stratified((a, b), k, quietly(sampler, a + b, strata), strata)


@settings(max_examples=150, deadline=None)
@given(
    counts=st.lists(st.integers(1, 200), min_size=1, max_size=5),
    k=st.integers(1, 9),
    seed=st.integers(0, 2**40),
    epoch=st.integers(0, 10**6),
    mixing=st.integers(0, 2**32 - 1),
)
def test_guarantee_on_any_counts_in_any_row_order(counts, k, seed, epoch, mixing):
    strata = np.random.default_rng(mixing).permutation(strata_of(*counts))
    batches = quietly(StratifiedBatchSampler(k), len(strata), strata, epoch=epoch, seed=seed)
    check_stratified(counts, k, batches, strata)


def published_batch(i: int, n: int, n_batches: int, k: int) -> int:
    """The assignment of mlr3torchAUM, in floating point as published; row i and batches count from 1."""
    return math.ceil(i / n * (n_batches * k) / k)


@pytest.mark.parametrize(("minority", "k"), [(25, 1), (50, 2), (42, 3), (75, 3)])
def test_integer_rule_holds_where_the_published_floating_form_breaks(minority, k):
    n_batches = minority // k
    published = [published_batch(i, minority, n_batches, k) for i in range(1, minority + 1)]
    assert min(published.count(b) for b in range(1, n_batches + 1)) < k, "the published form is right here"

    strata = strata_of(187, minority)
    for shuffle in (True, False):
        batches = StratifiedBatchSampler(k, shuffle=shuffle)(len(strata), strata)
        check_stratified((187, minority), k, batches, strata)


@pytest.mark.parametrize("counts", [(7, 25), (187, 3), (25, 25), (187, 187)])
@pytest.mark.parametrize("k", [1, 2, 3])
def test_integer_rule_at_the_counts_of_the_design(counts, k):
    strata = strata_of(*counts)
    batches = StratifiedBatchSampler(k, shuffle=False)(len(strata), strata)
    check_stratified(counts, k, batches, strata)
    start = 0
    for n in counts:  # row i of n goes to batch ceil(i * B / n), in exact arithmetic
        where = {int(row): b for b, batch in enumerate(batches, 1) for row in batch}
        for i in range(1, n + 1):
            assert where[start + i - 1] == math.ceil(Fraction(i * len(batches), n))
        start += n


SONAR = ["M"] * 111 + ["R"] * 12


@pytest.mark.parametrize(
    ("k", "n_batches", "sizes"),
    [
        (1, 12, [10, 10, 10, 11]),
        (2, 6, [20, 21]),
        (3, 4, [30, 31, 31, 31]),
        (4, 3, [41, 41, 41]),
        (5, 2, [61, 62]),
        (6, 2, [61, 62]),
        (7, 1, [123]),
    ],
)
def test_sonar_of_the_blog(k, n_batches, sizes):
    batches = StratifiedBatchSampler(k, shuffle=False)(123, SONAR)
    assert len(batches) == n_batches
    assert [len(b) for b in batches][: len(sizes)] == sizes


def test_sonar_of_the_blog_row_by_row():
    batches = StratifiedBatchSampler(1, shuffle=False)(123, SONAR)
    assert batches[0].tolist() == [*range(9), 111]  # rows 1..9 of M and row 1 of R
    for b, batch in enumerate(batches, 1):
        majority = [i - 1 for i in range(1, 112) if math.ceil(Fraction(i * 12, 111)) == b]
        assert batch.tolist() == [*majority, 110 + b]


def test_sonar_with_twenty_warns_naming_stratum_and_counts():
    with pytest.warns(UserWarning, match=r"stratum 'R' has 12 rows.*=20.*'M': 111, 'R': 12") as caught:
        batches = StratifiedBatchSampler(20, shuffle=False)(123, SONAR)
    assert [len(b) for b in batches] == [123]
    assert caught[0].filename == __file__


def test_shuffle_keeps_counts_and_changes_rows_by_epoch_and_seed():
    strata = strata_of(50, 13)
    sampler = StratifiedBatchSampler(2)
    draws = {(s, e): sampler(63, strata, seed=s, epoch=e) for s in (0, 1, 2**32) for e in (0, 1)}
    counts = [counts_in(batches, strata).tolist() for batches in draws.values()]
    assert all(c == counts[0] for c in counts)
    rows = [as_lists(batches) for batches in draws.values()]
    assert all(a != b for i, a in enumerate(rows) for b in rows[:i]), "two draws are the same"
    assert as_lists(sampler(63, strata, seed=1, epoch=1)) == as_lists(draws[1, 1])


def test_shuffle_mixes_every_stratum():
    strata = strata_of(400, 40)
    first = {tuple(sorted(StratifiedBatchSampler(4)(440, strata, epoch=e)[0])) for e in range(20)}
    assert len(first) == 20
    seen = np.bincount(np.concatenate([StratifiedBatchSampler(4)(440, strata, epoch=e)[0] for e in range(200)]))
    assert seen[:400].std() < 2 * math.sqrt(200 * 0.1 * 0.9)  # each row meets batch 1 in about a tenth of the epochs
    assert seen.min() > 0


def test_without_shuffle_all_epochs_are_the_same_and_in_row_order():
    strata = np.random.default_rng(0).permutation(strata_of(30, 7))
    sampler = StratifiedBatchSampler(2, shuffle=False)
    assert as_lists(sampler(37, strata, epoch=0)) == as_lists(sampler(37, strata, epoch=5, seed=3))
    for batch in sampler(37, strata):
        assert (np.diff(batch) > 0).all()
    for label in ("s00", "s01"):
        rows = np.concatenate([b[strata[b] == label] for b in sampler(37, strata)])
        assert (np.diff(rows) > 0).all()


VALUES = ["u", "u", "u", "v", "v", "u", "v", "u"]


@pytest.mark.parametrize(
    "strata",
    [
        VALUES,
        np.array(VALUES),
        np.array(VALUES, dtype=object),
        pd.Series(VALUES, index=range(10, 18)),
        pd.Series(VALUES, dtype="category").cat.set_categories(["w", "v", "u"]),
        pd.Series(VALUES, dtype="string"),
        pd.DataFrame({"c": VALUES}),
        pl.Series("c", VALUES),
        pl.Series("c", VALUES, dtype=pl.Categorical),
        pl.DataFrame({"c": VALUES}),
        np.array(VALUES)[:, None],
        [v == "v" for v in VALUES],
        np.array([v == "v" for v in VALUES], dtype=float),
    ],
    ids=lambda v: f"{type(v).__module__.split('.')[0]}.{type(v).__name__}",
)
def test_any_kind_of_strata_gives_the_same_batches(strata):
    sampler = StratifiedBatchSampler(1)
    assert as_lists(sampler(8, strata, seed=4)) == as_lists(sampler(8, VALUES, seed=4))


@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame])
def test_several_columns_are_crossed(frame):
    a, b = ["p"] * 12 + ["q"] * 12, ["x", "y", "y"] * 8
    crossed = [f"{i}{j}" for i, j in zip(a, b, strict=True)]
    sampler = StratifiedBatchSampler(2)
    batches = sampler(24, frame({"a": a, "b": b}), seed=1)
    assert as_lists(batches) == as_lists(sampler(24, crossed, seed=1))
    assert as_lists(batches) == as_lists(sampler(24, np.array([a, b]).T, seed=1))
    check_stratified((4, 8, 4, 8), 2, batches, np.array(crossed))


@pytest.mark.parametrize(
    "strata",
    [
        ["a", None, "b"],
        np.array([0.0, np.nan, 1.0]),
        pd.Series(["a", pd.NA, "b"], dtype="string"),
        pd.DataFrame({"s": ["a", "b", "b"], "t": [1, None, 1]}),
        pl.Series(["a", None, "b"]),
    ],
    ids=["list", "array", "series", "frame", "polars"],
)
def test_missing_stratum_is_refused_by_row(strata):
    with pytest.raises(DataError, match="stratum of row 1 is missing"):
        StratifiedBatchSampler(1)(3, strata)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: StratifiedBatchSampler(0), ConfigError, "min_samples_per_stratum must be an int >= 1, got 0"),
        (lambda: StratifiedBatchSampler(-2), ConfigError, "got -2"),
        (lambda: StratifiedBatchSampler(1.5), ConfigError, "got 1.5"),
        (lambda: StratifiedBatchSampler(True), ConfigError, "got True"),
        (lambda: StratifiedBatchSampler(1)(3), DataError, "needs a stratum for every row"),
        (lambda: StratifiedBatchSampler(1)(3, ["a", "b"]), DataError, "strata has 2 rows but there are 3"),
        (lambda: StratifiedBatchSampler(1)(0, []), ConfigError, r"n \(the number of rows\) must be an int >= 1, got 0"),
        (lambda: StratifiedBatchSampler(1).plan(0, []), ConfigError, "got 0"),
        (lambda: StratifiedBatchSampler(1)(1, np.zeros((1, 1, 1))), DataError, "one or two dimensions"),
        (lambda: RandomBatchSampler(0), ConfigError, "batch_size must be an int >= 1, 'all' or 'auto', got 0"),
        (lambda: RandomBatchSampler("al"), ConfigError, "got 'al'"),
        (lambda: RandomBatchSampler(2.0), ConfigError, "got 2.0"),
        (lambda: RandomBatchSampler(2)(0), ConfigError, "number of rows"),
        (lambda: RandomBatchSampler(2)(5, rank=2, world_size=2), ConfigError, r"rank must be in 0..1"),
        (lambda: RandomBatchSampler(2)(5, rank=-1, world_size=2), ConfigError, "got -1"),
        (lambda: RandomBatchSampler(2)(5, world_size=0), ConfigError, "world_size must be"),
        (lambda: BatchSampler()(3), TypeError, "abstract"),
    ],
)
def test_what_cannot_be_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


# --- ranks


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("world_size", range(1, 9))
def test_ranks_part_every_stratum_of_every_batch(world_size, shuffle):
    rng = np.random.default_rng(world_size)
    for counts, k in [((111, 12), 1), ((97, 40, 23), 5), ((64, 64), 16), ((300, 17), 8)]:
        strata = rng.permutation(strata_of(*counts))
        n, sampler = len(strata), StratifiedBatchSampler(k, shuffle=shuffle)
        whole = sampler(n, strata, epoch=3, seed=5)
        parts = [sampler(n, strata, epoch=3, seed=5, rank=r, world_size=world_size) for r in range(world_size)]
        assert {len(p) for p in parts} == {len(whole)}
        for b, batch in enumerate(whole):
            joined = np.concatenate([p[b] for p in parts])
            assert sorted(joined.tolist()) == sorted(batch.tolist())  # disjoint and covering
        tables = np.array([counts_in(p, strata) for p in parts])
        floor_share = counts_in(whole, strata) // world_size
        assert (tables >= floor_share).all()
        per_epoch = tables.sum(1)  # rank x stratum
        assert (per_epoch.max(0) - per_epoch.min(0) <= 1).all()
        if min(counts) >= world_size:
            assert per_epoch.min() >= 1  # no rank goes without the minority


@pytest.mark.parametrize("world_size", [2, 3, 8])
def test_ranks_of_random_batches_part_them_evenly(world_size):
    sampler = RandomBatchSampler(10)
    whole = sampler(95, seed=1)
    parts = [sampler(95, seed=1, rank=r, world_size=world_size) for r in range(world_size)]
    for b, batch in enumerate(whole):
        assert sorted(np.concatenate([p[b] for p in parts]).tolist()) == sorted(batch.tolist())
        sizes = [len(p[b]) for p in parts]
        assert max(sizes) - min(sizes) <= 1
    totals = [sum(map(len, p)) for p in parts]
    assert max(totals) - min(totals) <= 2  # the row too many does not always fall to the same rank


# --- random


@pytest.mark.parametrize("batch_size", [1, 2, 3, 16, 64, 128, 256])
def test_random_batches_of_all_sizes_of_data(batch_size):
    sampler = RandomBatchSampler(batch_size)
    for n in range(1, 301):
        batches = sampler(n, epoch=n)
        sizes = [len(b) for b in batches]
        assert sorted(np.concatenate(batches).tolist()) == list(range(n))
        assert len(batches) >= 1
        if n >= 2 and batch_size >= 2:
            assert min(sizes) >= 2
        if n % batch_size != 1:
            assert all(size == batch_size for size in sizes[:-1])
        assert len(sizes) in (math.ceil(n / batch_size), n // batch_size)


def test_random_draws_depend_on_seed_and_epoch_alone():
    sampler = RandomBatchSampler(10)
    draws = [as_lists(sampler(40, seed=s, epoch=e)) for s in (0, 1) for e in (0, 1)]
    assert all(a != b for i, a in enumerate(draws) for b in draws[:i])
    np.random.seed(0)
    assert as_lists(sampler(40, seed=1, epoch=1)) == draws[-1]


def test_large_seeds_share_no_stream_with_epochs():
    sampler = RandomBatchSampler("all").replace(batch_size=50)
    assert as_lists(sampler(50, seed=7 + 3 * 2**32, epoch=0)) != as_lists(sampler(50, seed=7, epoch=3))


def test_all_rows_in_one_batch_in_their_order():
    assert as_lists(RandomBatchSampler("all")(5, epoch=3)) == [[0, 1, 2, 3, 4]]


def test_random_without_shuffle_goes_through_the_rows():
    assert as_lists(RandomBatchSampler(2, shuffle=False)(5, epoch=3)) == [[0, 1], [2, 3, 4]]
    assert as_lists(RandomBatchSampler(3, shuffle=False)(7, epoch=3)) == [[0, 1, 2], [3, 4], [5, 6]]


# --- composition


def test_composition_counts_what_the_call_gives():
    strata = np.random.default_rng(3).permutation(strata_of(31, 11, 5))
    for sampler in (StratifiedBatchSampler(2), RandomBatchSampler(9)):
        table = sampler.composition(strata, epoch=2, seed=8)
        batches = sampler(47, strata, epoch=2, seed=8)
        assert table.columns.tolist() == ["s00", "s01", "s02", "batch_size"]
        assert table[["s00", "s01", "s02"]].to_numpy().tolist() == counts_in(batches, strata).tolist()
        assert table["batch_size"].tolist() == [len(b) for b in batches]
        assert table.index.tolist() == list(range(1, len(batches) + 1))


def test_composition_of_crossed_columns_names_their_values():
    frame = pd.DataFrame({"a": [1, 1, 2, 2], "b": ["x", "y", "x", "x"]})
    assert StratifiedBatchSampler(1).composition(frame).columns.tolist() == ["1, x", "1, y", "2, x", "batch_size"]


# --- plans of any callable


def two_halves(n, strata=None, *, epoch, seed, rank=0, world_size=1):
    order = np.random.default_rng((epoch, seed)).permutation(n)
    return [order[: n // 2], order[n // 2 :].tolist()]


def test_plain_function_serves_as_sampler():
    order, bounds = plan_batches(two_halves, 9, None).draw(2, 3)
    assert bounds.tolist() == [0, 4, 9]
    assert sorted(order.tolist()) == list(range(9))
    assert order.dtype == np.int64
    assert np.split(order, bounds[1:-1])[0].tolist() == two_halves(9, epoch=2, seed=3)[0].tolist()


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        ([], "gave no batch"),
        ([[0, 1], []], "gave an empty batch"),
        ([[0, 3]], r"rows outside 0..2"),
        ([[-1]], "rows outside"),
        ([np.array([True, False, True])], "gave bool of shape \\(3,\\), expected arrays of row numbers"),
        ([[0.5]], "gave float64"),
        ([[[0, 1]]], r"shape \(1, 2\)"),
    ],
)
def test_batches_of_a_function_are_checked(batches, message):
    plan = plan_batches(lambda n, strata, *, epoch, seed: batches, 3, None)
    with pytest.raises(ConfigError, match=message):
        plan.draw(1, 0)


# --- a cap on the size


def test_cap_raises_the_number_of_batches_and_says_how_often_rows_repeat():
    sampler = StratifiedBatchSampler(1, max_batch_size=6)
    with pytest.warns(UserWarning, match=r"needs 23 batches.*12 rows of 'R' 1.92 times") as caught:
        batches = sampler(123, SONAR, seed=1)
    assert caught[0].filename == __file__
    table = counts_in(batches, SONAR)
    assert table.sum(1).max() <= 6
    assert table.min() >= 1
    often = np.bincount(np.concatenate(batches), minlength=123)
    assert (often[:111] == 1).all()
    assert set(often[111:]) == {1, 2}
    assert quietly(sampler.plan, 123, SONAR).repeats == {"M": 1.0, "R": pytest.approx(23 / 12)}


def test_cap_that_is_not_reached_changes_nothing():
    capped = StratifiedBatchSampler(1, max_batch_size=11)  # the largest batch of the rule
    assert as_lists(capped(123, SONAR, seed=4)) == as_lists(StratifiedBatchSampler(1)(123, SONAR, seed=4))
    assert capped.plan(123, SONAR).repeats == {"M": 1.0, "R": 1.0}


@settings(max_examples=100, deadline=None)
@given(counts=st.lists(st.integers(1, 120), min_size=1, max_size=4), k=st.integers(1, 5), more=st.integers(0, 60))
def test_cap_holds_with_as_few_batches_as_possible(counts, k, more):
    strata, cap = strata_of(*counts), k * len(counts) + more
    batches = quietly(StratifiedBatchSampler(k, max_batch_size=cap), len(strata), strata)
    table = counts_in(batches, strata)
    assert table.sum(1).max() <= cap
    assert table.min() >= (k if len(batches) > 1 else min(k, *counts))
    assert set(np.concatenate(batches)) == set(range(len(strata)))
    fewer = len(batches) - 1
    if fewer >= max(1, min(counts) // k):  # one batch fewer would be too large
        assert sum(max(-(-n // fewer), k if fewer > min(counts) // k else 0) for n in counts) > cap


def test_cap_that_cannot_hold_the_minimum_is_refused():
    with pytest.raises(ConfigError, match=r"max_batch_size=3 cannot hold min_samples_per_stratum=2 of 2 strata.*=4"):
        StratifiedBatchSampler(2, max_batch_size=3)(123, SONAR)
    with pytest.raises(ConfigError, match="max_batch_size must be an int >= 1 or None"):
        StratifiedBatchSampler(2, max_batch_size=0)


# --- proportional


def test_proportions_are_exact_where_they_can_be():
    strata = strata_of(60, 30, 10)
    table = counts_in(ProportionalBatchSampler(10)(100, strata, seed=1), strata)
    assert table.tolist() == [[6, 3, 1]] * 10


@settings(max_examples=150, deadline=None)
@given(counts=st.lists(st.integers(1, 150), min_size=1, max_size=5), size=st.integers(3, 40), epoch=st.integers(0, 9))
def test_proportional_batches_have_the_size_and_nearly_the_proportions(counts, size, epoch):
    strata = np.random.default_rng(0).permutation(strata_of(*counts))
    n = len(strata)
    batches = ProportionalBatchSampler(size)(n, strata, epoch=epoch)
    assert sorted(np.concatenate(batches).tolist()) == list(range(n))
    sizes = np.array([len(b) for b in batches])
    assert (sizes[:-2] == size).all()
    assert len(batches) == math.ceil(n / size)
    shares = np.outer(np.cumsum(sizes), counts) / n
    # each total is within half a row of its share at some moment, and the moments add up: at most S / 2 rows away
    bound = 0.5 + np.array(counts) / n * len(counts) / 2
    assert (np.abs(np.cumsum(counts_in(batches, strata), axis=0) - shares) <= bound + 1e-9).all()


def test_proportional_is_the_largest_remainder_for_two_strata():
    for a in range(1, 40):
        for b in range(1, 40):
            strata = strata_of(a, b)
            table = np.cumsum(counts_in(ProportionalBatchSampler(5, shuffle=False)(a + b, strata), strata), axis=0)
            exact = table.sum(1) * a / (a + b)
            assert np.abs(table[:, 0] - exact).max() <= 0.5 + 1e-9


def test_rare_strata_are_spread_evenly():
    strata = strata_of(990, 10)
    rare = counts_in(ProportionalBatchSampler(10)(1000, strata), strata)[:, 1]
    assert (
        np.flatnonzero(rare).tolist() == [i * 10 + 5 for i in range(10)] or np.ptp(np.diff(np.flatnonzero(rare))) <= 1
    )
