"""The table of differences between training on the same, the other, and all subsets."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.dummy import DummyRegressor
from sklearn.neighbors import KNeighborsRegressor

import torchstrata as ts
from torchstrata.errors import ConfigError
from torchstrata.experiment.statistics.soak import soak

LEARNERS = {"nearest": KNeighborsRegressor(2), "featureless": DummyRegressor()}


def people(pattern: str, n=300) -> ts.Task:
    """The simulation of mlr3resampling's manual: one pattern for all persons, or one each."""
    rng = np.random.default_rng(1)
    x, person = rng.uniform(-10, 10, n), np.arange(n) % 3 + 1
    y = x**2 if pattern == "easy" else (x**2 + person * 3) * (-1.0) ** person
    frame = pd.DataFrame({"x": x, "person": person, "y": y + rng.normal(scale=0.5, size=n)})
    return ts.Task(frame, target="y", subset="person", name=pattern)


@pytest.fixture(scope="module")
def result():
    cv = ts.splitters.SameOther(5, sizes=0, n_seeds=2)
    return ts.benchmark(
        [people("easy"), people("impossible")], LEARNERS, cv=cv, scoring="neg_root_mean_squared_error", progress=False
    )


def test_one_pattern_gains_by_all_rows_and_different_patterns_lose(result):
    found = result.same_other()
    near = found[found["learner"] == "nearest"].set_index(["task", "size", "trained_on", "test_subset"]).sort_index()
    easy, hard = near.loc["easy", "full"], near.loc["impossible", "full"]
    assert (easy.loc["all", "difference"] > 0).all() and (easy.loc["other", "difference"] > -0.3).all()
    assert (hard.loc[["other", "all"], "p_corrected"] < 0.01).all()
    assert (hard.loc[["other", "all"], "difference"] < -5).all()
    # of equal numbers of rows, one pattern is as good as the other
    assert (near.loc["easy", "equal"]["p_corrected"] > 0.01).all()


def test_numbers_are_those_of_a_paired_t_test_by_hand(result):
    found = result.same_other()
    scores, splits = result.scores, result.splits
    rows = scores.merge(splits[["task", "fold", "test_fold"]], on=["task", "fold"])
    rows = rows.query("task == 'easy' and learner == 'nearest' and test_subset == 2 and size == 'full'")
    rows = rows[rows["measure"] == "neg_root_mean_squared_error"]
    wide = rows.pivot(index="test_fold", columns="trained_on", values="value")
    row = found.query("task == 'easy' and learner == 'nearest' and test_subset == 2 and size == 'full'")
    for name in ("other", "all"):
        expected = stats.ttest_rel(wide[name], wide["same"])
        (got,) = row[row["trained_on"] == name].itertuples()
        assert got.p_value == pytest.approx(expected.pvalue, rel=1e-10)
        assert got.difference == pytest.approx((wide[name] - wide["same"]).mean())
        assert got.mean - got.mean_same == pytest.approx(got.difference)
        assert got.p_corrected > got.p_value and got.low < got.difference < got.high
        assert (got.n, got.folds, got.n_train_same) == (5, 5, 80.0)
    assert row.set_index("trained_on")["n_train"].to_dict() == {"other": 160.0, "all": 240.0}


def test_equal_rows_are_compared_and_choices_are_averaged_within_folds(result):
    found = result.same_other()
    equal = found[found["size"] == "equal"]
    assert (equal["n_train"] == 80).all() and (equal["n_train_same"] == 80).all() and (equal["n"] == 5).all()
    full = found[found["size"] == "full"].set_index(["task", "learner", "test_subset", "trained_on"])
    again = equal.set_index(["task", "learner", "test_subset", "trained_on"])
    assert (full["mean_same"] == again["mean_same"]).all()  # the same subset is the smallest: trained once


def test_conditions_are_never_averaged_over(result):
    means = result.aggregate("neg_root_mean_squared_error")
    assert {"test_subset", "trained_on", "size"} <= set(means.columns)
    assert (means["folds"].isin([5, 10])).all()  # 10: two random choices of rows
    board = result.leaderboard("neg_root_mean_squared_error")
    best = board[board["best"] != ""]
    assert len(best) == len(board.drop_duplicates(["task", "test_subset", "trained_on", "size"]))
    tests = result.compare("neg_root_mean_squared_error")
    assert len(tests) == 2 * 3 * 5 and tests["n"].min() == 5  # tasks, persons, training sets
    assert len(result._repr_html_()) > 1000


def test_intervals_use_the_rows_of_their_own_condition(result):
    one = result.aggregate("neg_root_mean_squared_error").query(
        "task == 'easy' and learner == 'nearest' and test_subset == 1 and trained_on == 'all' and size == 'full'"
    )
    half = stats.t.ppf(0.975, 4) * one["std"] * np.sqrt(1 / 5 + 20 / 240)
    assert (one["high"].clip(upper=0) - (one["mean"] + half).clip(upper=0)).abs().max() < 1e-12
    assert (one["mean"] - one["low"] - half).abs().max() < 1e-12


def test_it_survives_saving_and_adding(result, tmp_path):
    again = ts.load_result(result.save(tmp_path / "saved"))
    pd.testing.assert_frame_equal(again.same_other(), result.same_other())
    half = ts.benchmark(
        [people("easy"), people("impossible")], {"featureless": DummyRegressor()},
        cv=ts.splitters.SameOther(5, sizes=0, n_seeds=2), scoring="neg_root_mean_squared_error", progress=False,
    )  # fmt: skip
    pd.testing.assert_frame_equal((half + half).same_other(), half.same_other())


def test_a_failed_fold_is_left_out_and_counted():
    scores = pd.DataFrame({"task": "t", "learner": "l", "fold": range(6), "test_subset": "a",
                           "trained_on": ["same", "other"] * 3,
                           "value": [0.5, 0.6, 0.4, np.nan, 0.5, 0.7]})  # fmt: skip
    splits = pd.DataFrame({"task": "t", "fold": range(6), "test_fold": [0, 0, 1, 1, 2, 2], "n_train": 8, "n_test": 4})
    (row,) = soak(scores.assign(size="full"), splits, grid=[]).itertuples()
    assert (
        (row.n, row.folds) == (2, 3) and row.difference == pytest.approx(0.15) and row.mean_same == pytest.approx(0.5)
    )


def test_other_splits_are_refused():
    task = people("easy", 60)
    for cv in (3, ts.splitters.SameOther(2, train_on=["same"]), ts.splitters.SameOther(2, train_on=["other", "all"])):
        result = ts.benchmark(task, DummyRegressor(), cv=cv, scoring="r2", progress=False)
        with pytest.raises(ConfigError, match=r"cv=ts.splitters.SameOther\(...\) that train on 'same' and on 'other'"):
            result.same_other()


def test_a_task_that_was_not_thinned_has_no_equal_rows(result):
    task = ts.Task(people("easy").X.assign(person=people("easy").subsets, y=people("easy").y), target="y",
                   subset="person", name="other")  # fmt: skip
    full = ts.benchmark(
        task, LEARNERS, cv=ts.splitters.SameOther(5), scoring="neg_root_mean_squared_error", progress=False
    )
    found = (result + full).same_other()
    assert set(found.loc[found["task"] == "other", "size"]) == {"full"}
    assert set(found.loc[found["task"] == "easy", "size"]) == {"full", "equal"}


def test_pictures_show_the_intervals_of_the_tables(result):
    measure = "neg_root_mean_squared_error"
    table = result.aggregate(measure).sort_values("mean").reset_index(drop=True)
    drawn = result.plot(measure).table.sort_values("mean").reset_index(drop=True)
    pd.testing.assert_frame_equal(drawn[["mean", "low", "high"]], table[["mean", "low", "high"]])
    tests = result.compare(measure).sort_values("difference").reset_index(drop=True)
    drawn = result.plot(measure, kind="differences").table.sort_values("mean").reset_index(drop=True)
    assert np.allclose(drawn[["mean", "low", "high"]], tests[["difference", "low", "high"]])


def test_conditions_are_not_averaged_by_tests_over_tasks(result):
    for call in (result.ranks, result.wins, lambda: result.compare(method="wilcoxon")):
        with pytest.raises(ConfigError, match="same_other"):
            call()
