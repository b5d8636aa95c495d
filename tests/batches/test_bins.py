"""Bins of a regression target as strata."""

from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pytest

from torchstrata import StratifiedBatchSampler
from torchstrata.batches.bins import bin_codes
from torchstrata.errors import ConfigError, DataError


@pytest.mark.parametrize("bins", [2, 5, 10])
def test_quantile_bins_hold_equally_many_and_agree_with_pandas(bins):
    values = np.random.default_rng(0).normal(size=1000)
    codes, labels = bin_codes(values, bins)
    assert np.bincount(codes).tolist() == [1000 // bins] * bins
    assert codes.tolist() == pd.qcut(values, bins, labels=False).tolist()
    assert len(labels) == bins


def test_edges_and_ties():
    codes, labels = bin_codes([0.0, 10.0, 10.5, 99.0], (10.0, 20.0, 50.0))
    assert codes.tolist() == [0, 0, 1, 2]  # (20, 50] holds no row and has no number
    assert labels == ["<= 10", "(10, 20]", "> 50"]
    codes, labels = bin_codes([0.0] * 90 + [1.0, 2.0, 3.0, 4.0] + [5.0] * 6, 4)
    assert np.bincount(codes).tolist() == [90, 10]
    assert bin_codes([3.0, 3.0], 4)[0].tolist() == [0, 0]


@pytest.mark.parametrize(
    "make", [list, np.array, pd.Series, pl.Series, lambda v: pd.DataFrame({"y": v}), lambda v: np.array(v)[:, None]]
)
def test_every_batch_has_rows_of_every_bin(make):
    y = np.random.default_rng(1).lognormal(size=200).tolist()
    sampler = StratifiedBatchSampler(2, bins=4)
    table = sampler.composition(make(y), seed=1)
    assert len(table) == 25
    assert table.drop(columns="batch_size").to_numpy().tolist() == [[2, 2, 2, 2]] * 25
    assert list(sampler.guarantees(200, make(y)).values()) == [2, 2, 2, 2]


def test_edges_are_kept_as_a_tuple_and_are_reached_by_name():
    sampler = StratifiedBatchSampler(1, bins=[1, 2.5])
    assert sampler.bins == (1.0, 2.5)
    assert hash(sampler) == hash(StratifiedBatchSampler(1, bins=np.array([1, 2.5])))
    assert repr(sampler) == "StratifiedBatchSampler(min_samples_per_stratum=1, bins=(1.0, 2.5))"
    assert sampler.replace(bins=None) == StratifiedBatchSampler(1)


@pytest.mark.parametrize("bins", [1, 0, True, 2.5, "many", [], [2, 1], [1, 1], [np.nan], [1, np.inf], [[1, 2]]])
def test_bins_that_cannot_be(bins):
    with pytest.raises(ConfigError, match="bins must be an int >= 2"):
        StratifiedBatchSampler(1, bins=bins)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (None, "needs a stratum for every row"),
        (["a", "b"], "bins= needs numbers"),
        ([1.0, np.inf], "value of row 1 is inf"),
        (np.ones((2, 2)), "bins= needs one column of numbers"),
        ([1.0, 2.0, 3.0], "strata has 3 rows but there are 2"),
    ],
)
def test_values_that_cannot_be_binned(values, message):
    with pytest.raises(DataError, match=message):
        StratifiedBatchSampler(1, bins=2)(2, values)
