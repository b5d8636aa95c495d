from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from torchstrata.plots.measures import (
    bounds,
    decimals,
    default_ratio,
    greater_is_better,
    holm,
    interval,
    paired_test,
    write_number,
)  # fmt: skip

VALUES = [0.81, 0.86, 0.79, 0.9, 0.84]


def test_interval_is_nadeau_and_bengio_by_hand():
    n, s, mean = 5, np.std(VALUES, ddof=1), np.mean(VALUES)
    half = stats.t.ppf(0.975, 4) * s * math.sqrt(1 / n + 0.25)
    found = interval(VALUES, ratio=0.25)
    assert found[:3] == pytest.approx((mean, s, 5))
    assert found[3:] == pytest.approx((mean - half, mean + half))


def test_correction_widens_the_naive_interval_by_sqrt_1_plus_n_ratio():
    naive = stats.t.interval(0.95, 4, loc=np.mean(VALUES), scale=stats.sem(VALUES))
    found = interval(VALUES, ratio=0.25)
    assert (found.high - found.low) / (naive[1] - naive[0]) == pytest.approx(math.sqrt(1 + 5 * 0.25))


def test_default_ratio_is_that_of_k_folds_counting_failed_ones():
    assert interval([*VALUES[:4], np.nan]) == interval(VALUES[:4], ratio=0.25)
    assert math.isnan(default_ratio(1))


def test_interval_is_clipped_to_its_limits():
    assert interval([0.99, 0.9, 1.0], limits=(0, 1)).high == 1.0


@pytest.mark.parametrize(("values", "n"), [([0.9], 1), ([0.9, np.nan], 1), ([np.nan, np.nan], 0), ([], 0)])
def test_below_two_folds_there_is_no_interval(values, n):
    found = interval(values)
    assert found.n == n and math.isnan(found.low) and math.isnan(found.high)


def test_infinite_values_are_not_hidden():
    found = interval([-1.0, -np.inf])
    assert found.mean == -np.inf and found.n == 2 and math.isnan(found.std)


def test_equal_folds_have_an_interval_of_no_width():
    assert interval([0.5] * 4)[3:] == (0.5, 0.5)


@pytest.mark.parametrize(
    ("measure", "expected"),
    [
        ("roc_auc_ovr", (0, 1)), ("f1_macro", (0, 1)), ("neg_root_mean_squared_error", (-math.inf, 0)),
        ("fit_seconds", (0, math.inf)), ("r2", (-math.inf, 1)), ("matthews_corrcoef", (-1, 1)),
        ("mine", (-math.inf, math.inf)),
    ],
)  # fmt: skip
def test_bounds(measure, expected):
    assert bounds(measure) == expected


def test_only_costs_are_better_when_small():
    assert greater_is_better("neg_log_loss") and not greater_is_better("fit_seconds")


def test_paired_test_without_correction_is_scipys():
    a, b = np.array(VALUES), np.array([0.8, 0.83, 0.8, 0.85, 0.8])
    assert paired_test(a - b, ratio=0.0) == pytest.approx(stats.ttest_rel(a, b).pvalue)
    assert paired_test(a - b, ratio=0.25) > paired_test(a - b, ratio=0.0)


def test_paired_test_at_its_edges():
    assert paired_test([0, 0, 0], ratio=0.25) == 1.0
    assert paired_test([0.5, 0.5], ratio=0.25) == 0.0
    assert math.isnan(paired_test([0.1], ratio=0.25))


def test_holm_leaves_out_what_was_not_tested_and_stays_in_order():
    found = holm([0.01, np.nan, 0.02, 0.6])
    assert found[[0, 2, 3]] == pytest.approx([0.03, 0.04, 0.6]) and math.isnan(found[1])
    assert holm([0.9, 0.8]).max() == 1.0


@pytest.mark.parametrize(("value", "text"), [(-0.5, "−0.500"), (math.nan, "–"), (math.inf, "inf")])
def test_write_number(value, text):
    assert write_number(value) == text


@pytest.mark.parametrize(
    ("values", "digits"), [([0.9], 3), ([0.1], 3), ([0.09], 4), ([12.3], 1), ([4000], 0), ([0, np.nan], 3)]
)
def test_decimals_show_about_three_digits(values, digits):
    assert decimals(values) == digits


def test_limits_of_another_measure_of_that_name_clip_nothing():
    found = interval([91.0, 93.0, 95.0], ratio=0.5, limits=(0, 1))  # a scorer of one's own, "accuracy_percent"
    assert found.low < found.mean == 93.0 < found.high
