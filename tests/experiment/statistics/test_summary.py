"""Means with intervals and differences, by hand on small tables."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from torchstrata.experiment.statistics import summary


def long(values: dict[str, list[float]], measure="roc_auc", **columns) -> pd.DataFrame:
    rows = [{"task": "t", "learner": name, "fold": i, "measure": measure, "value": v, **columns}
            for name, found in values.items() for i, v in enumerate(found)]  # fmt: skip
    return pd.DataFrame(rows)


SCORES = {"good": [0.9, 0.8, 0.85, 0.95], "bad": [0.7, 0.75, 0.8, 0.7], "flat": [0.5, 0.5, 0.5, 0.5]}


def test_means_and_corrected_intervals_by_hand():
    (row,) = summary.aggregate(long({"good": SCORES["good"]}), keys=["task", "learner"], ratio={"t": 0.25}).itertuples()
    values = np.array(SCORES["good"])
    half = stats.t.ppf(0.975, 3) * values.std(ddof=1) * np.sqrt(1 / 4 + 0.25)
    assert (row.mean, row.n, row.folds) == (pytest.approx(values.mean()), 4, 4)
    assert row.low == pytest.approx(values.mean() - half) and row.high == 1.0  # clipped to what a measure can be


def test_differences_and_p_values_by_hand():
    found = summary.compare(long(SCORES), grid=[], ratio={"t": 1 / 3}).set_index("learner")
    gap = np.array(SCORES["bad"]) - np.array(SCORES["good"])
    t = gap.mean() / np.sqrt((1 / 4 + 1 / 3) * gap.var(ddof=1))
    assert found.loc["bad", "p_value"] == pytest.approx(2 * stats.t.sf(abs(t), 3))
    assert (found["best"] == "good").all() and found.index.tolist() == ["bad", "flat"]
    assert found["p_holm"].max() == pytest.approx(max(2 * found["p_value"].min(), found["p_value"].max()))


def test_another_learner_to_compare_with_and_another_test():
    def sign(known, ratio):
        return int((known > 0).sum()), ratio

    pairs = summary.Pairs(["ups", "share"], sign)
    found = summary.compare(long(SCORES), grid=[], ratio={"t": 0.25}, pairs=pairs, against="flat").set_index("learner")
    assert found["ups"].to_dict() == {"good": 4, "bad": 4} and (found["share"] == 0.25).all()
    assert "p_holm" not in found and (found["against"] == "flat").all()
    assert not len(summary.compare(long(SCORES), grid=[], ratio={"t": 0.25}, against="absent"))


def test_folds_that_one_of_two_lacks_are_left_out_and_counted():
    scores = long({"good": [0.9, 0.8, 0.85, 0.95], "half": [0.7, np.nan, 0.8, np.nan]})
    (row,) = summary.compare(scores, grid=[], ratio={"t": 0.25}).itertuples()
    assert (row.n, row.folds, row.difference) == (2, 4, pytest.approx(-0.125))
    means = summary.aggregate(scores, keys=["task", "learner"], ratio={"t": 0.25}).set_index("learner")
    assert means.loc["half", "note"] == "2 of 4 folds failed" and means.loc["half", "n"] == 2
    assert summary.mark_best(means.reset_index()).tolist() == [True, False]


def test_the_best_is_found_within_each_condition():
    condition = {"test_subset": "a", "size": "full"}
    scores = pd.concat([long({"x": [0.9, 0.9], "y": [0.8, 0.7]}, trained_on="same", **condition),
                        long({"x": [0.2, 0.3], "y": [0.4, 0.5]}, trained_on="other", **condition)])  # fmt: skip
    keys = ["task", "learner", "test_subset", "trained_on", "size"]
    means = summary.aggregate(scores, keys=keys, ratio={"t": 0.5})
    best = means[summary.mark_best(means)]
    assert dict(zip(best["trained_on"], best["learner"], strict=True)) == {"same": "x", "other": "y"}
    board = summary.leaderboard(means, keys=keys)
    assert board["trained_on"].tolist() == ["same", "same", "other", "other"]
    assert board["learner"].tolist() == ["x", "y", "y", "x"]


def test_costs_have_no_best_and_the_quickest_comes_first():
    means = summary.aggregate(long({"slow": [3.0, 4.0], "quick": [1.0, 1.0]}, "fit_seconds"),
                              keys=["task", "learner"], ratio={"t": 0.5})  # fmt: skip
    assert not summary.mark_best(means).any()
    assert summary.leaderboard(means, keys=["task", "learner"])["learner"].tolist() == ["quick", "slow"]
