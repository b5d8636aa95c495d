"""compare, ranks and wins of a result: the right test, paired rows, names, and refusals."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import torchstrata as ts
from torchstrata.errors import ConfigError, DataError
from torchstrata.experiment.result import BenchmarkResult
from torchstrata.experiment.statistics import bayes, comparison
from torchstrata.experiment.statistics.comparing import METHODS, ratios

TASKS = tuple(f"task{i}" for i in range(8))


@pytest.fixture(scope="module")
def many(tables):
    return ts.BenchmarkResult(**tables(tasks=TASKS))


@pytest.fixture(scope="module")
def one(tables):
    return ts.BenchmarkResult(**tables(folds=10))


def test_every_method_names_learners_and_never_the_one_compared_with(many):
    for method in METHODS:
        found = many.compare("roc_auc", method=method)
        assert {"learner", "best", "difference", "n"} <= set(found.columns)
        assert (found["learner"] != found["best"]).all()
        named = many.compare("roc_auc", method=method, against="dummy")
        assert (named["against"] == "dummy").all() and "dummy" not in set(named["learner"])
        assert set(named["learner"]) == set(many.scores["learner"]) - {"dummy"}


def test_over_tasks_the_numbers_are_those_of_the_means_over_folds(many):
    means = many.aggregate("roc_auc").pivot(index="task", columns="learner", values="mean")
    found = many.compare("roc_auc", method="wilcoxon", against="dummy").set_index("learner")
    for learner in found.index:
        expected = stats.wilcoxon(means[learner], means["dummy"], method="exact")
        assert found.loc[learner, "p_value"] == pytest.approx(expected.pvalue)
        assert found.loc[learner, "difference"] == pytest.approx((means[learner] - means["dummy"]).median())
        assert found.loc[learner, "n"] == 8
    ranks = many.ranks("roc_auc").set_index("learner")
    expected = means.rank(axis="columns", ascending=False).mean()
    assert all(ranks.loc[name, "rank"] == pytest.approx(expected[name]) for name in expected.index)
    nemenyi = many.compare("roc_auc", method="friedman")
    assert nemenyi["best"].unique().tolist() == [ranks.index[0]]
    assert (nemenyi["rank"] - nemenyi["difference"]).to_numpy() == pytest.approx(ranks["rank"].iloc[0])


def test_bayes_chooses_by_the_number_of_tasks(many, one):
    assert "task" not in many.compare("roc_auc", method="bayes")
    within = one.compare("roc_auc", method="bayes")
    assert within.equals(one.compare("roc_auc", method="bayes_t")) and (within["n"] == 10).all()
    for table in (many.compare("roc_auc", method="bayes"), within):
        assert table[["p_better", "p_equal", "p_worse"]].sum(axis=1).to_numpy() == pytest.approx(1)


def test_bayes_t_within_a_task_is_the_formula_on_paired_folds(one):
    wide = one.scores.query("measure == 'roc_auc'").pivot(index="fold", columns="learner", values="value")
    row = one.compare("roc_auc", method="bayes_t", against="dummy", rope=0.02).set_index("learner").loc["linear"]
    expected = bayes.correlated_t(wide["linear"] - wide["dummy"], ratio=ratios(one.splits)["sonar"], rope=0.02)
    assert (row["p_better"], row["p_equal"], row["p_worse"]) == pytest.approx(expected)


def test_against_a_named_learner_by_the_corrected_t_test(one):
    best = one.compare("roc_auc")
    name = best["best"].iloc[0]
    named = one.compare("roc_auc", against=name)
    assert named.rename(columns={"against": "best"}).equals(best)
    turned = one.compare("roc_auc", against="dummy").set_index("learner")
    lost = best.set_index("learner").loc["dummy"]
    assert turned.loc[name, "difference"] == pytest.approx(-lost["difference"])
    assert turned.loc[name, "p_value"] == pytest.approx(lost["p_value"])


def test_costs_are_better_when_smaller(many):
    ranks = many.ranks("fit_seconds")
    assert ranks["learner"].iloc[0] == "dummy"  # its skill, and so its time, is the smallest
    won = many.wins("fit_seconds").query("learner == 'dummy'")
    assert (won["wins"] == 8).all()
    found = many.compare("fit_seconds", method="bayes", against="boosting", rope=0.05).set_index("learner")
    assert found.loc["dummy", "p_better"] > 0.99 and found.loc["dummy", "difference"] < 0


def test_wins_make_a_matrix_and_a_rope_makes_ties(many):
    matrix = many.wins("roc_auc").pivot(index="learner", columns="against", values="wins")
    assert matrix.shape == (5, 5) and (matrix.loc["linear", "dummy"], matrix.loc["dummy", "linear"]) == (8, 0)
    wide = many.wins("roc_auc", rope=1.0)
    assert (wide["ties"] == 8).all() and (wide["p_sign"] == 1).all()


def test_variants_of_a_grid_are_learners_of_their_own(tables):
    result = ts.BenchmarkResult(
        **tables(tasks=TASKS[:4], grid={"linear": {"optimizer__lr": [0.1, 0.01]}, "mlp, random": {"loss": ["a", "b"]}})
    )
    ranks = result.ranks("roc_auc")
    assert {"linear, lr=0.1", "mlp, random, loss=b"} <= set(ranks["learner"]) and len(ranks) == 7
    found = result.compare("roc_auc", method="wilcoxon", against="linear, lr=0.1")
    assert len(found) == 6 and sorted(found.loc[found["learner"] == "mlp, random", "loss"]) == ["a", "b"]
    assert len(result.compare("roc_auc", against="linear, lr=0.1")) == 4 * 6
    with pytest.raises(ConfigError, match=r"Unknown learner 'linear'. Did you mean 'linear, lr=0.1'"):
        result.compare("roc_auc", against="linear")


def test_a_mean_over_some_folds_is_no_rank(tables):
    result = ts.BenchmarkResult(**tables(tasks=TASKS, fail=[("task2", "linear", 1)]))
    for call in (result.ranks, result.wins, lambda m: result.compare(m, method="friedman")):
        with pytest.raises(DataError, match=r"'linear' has 4 of 5 folds on task 'task2' \(1 of 40 pairs"):
            call("roc_auc")
    assert "linear" not in set(result.ranks("roc_auc", incomplete="learners")["learner"])
    assert (result.ranks("roc_auc", incomplete="tasks")["n_tasks"] == 7).all()
    within = result.compare("roc_auc")
    short = within.query("task == 'task2' and (learner == 'linear' or best == 'linear')")
    assert (short["n"] == 4).any() and (short["folds"] == 5).all()  # k of n, as everywhere


def test_what_cannot_be_tested_is_refused_with_the_way_out(one, many):
    for call in (one.ranks, lambda m: one.compare(m, method="wilcoxon")):
        with pytest.raises(DataError, match="at least 2 tasks, got 1"):
            call("roc_auc")
    with pytest.raises(ConfigError, match="Did you mean 'friedman'"):
        many.compare("roc_auc", method="freedman")
    with pytest.raises(ConfigError, match="Did you mean 'dummy'"):
        many.compare("roc_auc", against="dumy")
    with pytest.raises(ConfigError, match="Did you mean 'dummy'"):
        many.compare("roc_auc", method="wilcoxon", against="dumy")
    with pytest.raises(ConfigError, match="level must lie between"):
        many.compare("roc_auc", level=95)
    with pytest.raises(ConfigError, match=r"neg_log_loss.*give rope="):
        many.compare("neg_log_loss", method="bayes")


def test_ranks_are_drawn_by_the_critical_difference_plot(many):
    ranks = many.ranks("roc_auc")
    plot = ts.plots.critical_difference(ranks)
    assert plot.table["learner"].tolist() == ranks["learner"].tolist()
    pd.testing.assert_frame_equal(ranks, comparison.critical_difference(comparison.task_means(
        many.scores.query("measure == 'roc_auc'"))))  # fmt: skip


def test_repeats_of_a_row_do_not_count_as_training_rows():
    splits = pd.DataFrame(
        {"task": ["a", "a", "b"], "fold": [0, 1, 0], "n_train": [100, 100, 80], "n_test": [40, 36, 20]}
    )
    assert ratios(splits) == {"a": pytest.approx(0.38), "b": 0.25}
    assert ratios(splits.assign(n_distinct=[60.0, 64.0, np.nan])) == {
        "a": pytest.approx((40 / 60 + 36 / 64) / 2),
        "b": 0.25,
    }


def test_scores_of_a_fallback_are_marked_in_every_table_over_tasks(tables):
    made = tables(tasks=("a", "b", "c"), folds=3, rows=60, epochs=2)
    scores = made["scores"].drop_duplicates(["task", "learner", "fold"])[["task", "learner", "fold"]]
    stood = (scores["learner"] == "linear") & (scores["task"] != "c") & (scores["fold"] == 1)
    ended = scores.assign(status="ok", seconds=1.0, attempts=1, message="", fallback=np.where(stood, "Dummy", ""))
    result = BenchmarkResult(**made, statuses=ended)
    assert result.ranks().set_index("learner")["filled"].to_dict()["linear"] == 2
    assert result.ranks()["filled"].sum() == 2
    for method in ("friedman", "wilcoxon", "bayes_signed_rank"):
        found = result.compare(method=method, against="dummy", rope=0.01).set_index("learner")["filled"]
        assert found["linear"] == 2 and found.sum() == 2
    wins = result.wins().set_index(["learner", "against"])["filled"]
    assert wins["linear", "dummy"] == wins["dummy", "linear"] == 2 and wins["dummy", "boosting"] == 0
    assert "filled" not in BenchmarkResult(**made).ranks()
