"""Tests over tasks, checked against Demšar's published tables, scipy, and scikit-posthocs where it is installed."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from torchstrata.errors import ConfigError, DataError
from torchstrata.experiment.statistics import comparison

# Demšar (2006), JMLR 7, table 6: AUC of C4.5 with parameters m and cf on 14 data sets. The table prints 0.975 for both
# cf and m+cf on "voting" but ranks them 2 and 3, so one of them was a little larger.
DEMSAR = pd.DataFrame(
    {
        "C4.5": [0.763, 0.599, 0.954, 0.628, 0.882, 0.936, 0.661, 0.583, 0.775, 1.000, 0.940, 0.619, 0.972, 0.957],
        "C4.5+m": [0.768, 0.591, 0.971, 0.661, 0.888, 0.931, 0.668, 0.583, 0.838, 1.000, 0.962, 0.666, 0.981, 0.978],
        "C4.5+cf": [0.771, 0.590, 0.968, 0.654, 0.886, 0.916, 0.609, 0.563, 0.866, 1.000, 0.965, 0.614, 0.9751, 0.946],
        "C4.5+m+cf": [0.798, 0.569, 0.967, 0.657, 0.898, 0.931, 0.685, 0.625, 0.875, 1.000, 0.962, 0.669, 0.975, 0.970],
    },
    index=["adult", "breast cancer", "wisconsin", "cmc", "ionosphere", "iris", "liver", "lung", "lymphography",
           "mushroom", "primary tumor", "rheum", "voting", "wine"],
)  # fmt: skip


def random_means(seed, n=12, k=5) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(n, k)) + 0.4 * np.arange(k)
    return pd.DataFrame(values.round(1), columns=[f"l{i}" for i in range(k)])  # rounded, so that there are ties


def test_average_ranks_and_friedman_are_those_demsar_published():
    ranks = comparison.rank_tasks(DEMSAR).mean()
    assert ranks.round(3).tolist() == [3.143, 2.000, 2.893, 1.964]  # last row of table 6
    test = comparison.friedman(DEMSAR)
    # he gives the statistic without the correction for ties: two ties of two and one of four among 14 rows
    uncorrected = test.chi2 * (1 - (3 * 6 + 60) / (14 * 4 * 15))
    assert round(uncorrected, 2) == 9.28  # section 3.2.2
    assert round(13 * uncorrected / (14 * 3 - uncorrected), 2) == 3.69  # F_F, same place
    assert test.chi2 == pytest.approx(stats.friedmanchisquare(*DEMSAR.to_numpy().T).statistic)
    assert (test.n_tasks, test.n_learners) == (14, 4) and test.p_value == pytest.approx(0.0116, abs=1e-4)


def test_critical_differences_and_groups_are_those_demsar_published():
    found = comparison.critical_difference(DEMSAR)
    assert round(found.attrs["cd"], 2) == 1.25  # q = 2.569: nothing is told apart at 0.05
    assert found.attrs["groups"] == [("C4.5+m+cf", "C4.5+m", "C4.5+cf", "C4.5")]
    tenth = comparison.critical_difference(DEMSAR, level=0.9)
    assert round(tenth.attrs["cd"], 2) == 1.12  # q = 2.291: C4.5 is worse than both with m
    assert tenth.attrs["groups"] == [("C4.5+m+cf", "C4.5+m", "C4.5+cf"), ("C4.5+cf", "C4.5")]
    assert tenth["groups"].tolist() == [(0,), (0,), (0, 1), (1,)]
    assert tenth["learner"].tolist() == ["C4.5+m+cf", "C4.5+m", "C4.5+cf", "C4.5"]
    assert (tenth["n_tasks"] == 14).all() and (tenth["critical_difference"] == tenth.attrs["cd"]).all()


def test_quantiles_are_those_of_demsars_table_5():
    for k, q in ((2, 1.960), (3, 2.343), (4, 2.569), (5, 2.728), (10, 3.164)):
        means = pd.DataFrame(np.tile(np.arange(float(k)), (6, 1)))
        found = comparison.critical_difference(means).attrs["cd"]
        assert round(found / np.sqrt(k * (k + 1) / 36), 3) == pytest.approx(q, abs=0.0011)


def test_signed_ranks_are_those_demsar_published():
    # table 2: R+ = 93, R- = 12, so T = 12; at 0.05 and 14 data sets the critical value is 21
    differences = (DEMSAR["C4.5+m"] - DEMSAR["C4.5"]).round(3).to_numpy()
    found = stats.wilcoxon(differences, zero_method="zsplit", method="asymptotic")
    assert found.statistic == 12.0
    row = comparison.signed_ranks(DEMSAR[["C4.5", "C4.5+m"]], "C4.5").iloc[0]
    assert row["p_value"] == pytest.approx(found.pvalue) and row["p_value"] < 0.05
    assert (row["wins"], row["ties"], row["losses"]) == (10, 2, 2)


def test_friedman_is_scipys_on_random_tables():
    for seed in range(30):
        means = random_means(seed)
        expected = stats.friedmanchisquare(*means.to_numpy().T)
        assert comparison.friedman(means).chi2 == pytest.approx(expected.statistic)
        assert comparison.friedman(-means, greater=False).chi2 == pytest.approx(expected.statistic)


def test_nemenyi_is_that_of_scikit_posthocs():
    posthocs = pytest.importorskip("scikit_posthocs")
    for seed in range(3):
        means = random_means(seed)
        expected = posthocs.posthoc_nemenyi_friedman(means.to_numpy()).to_numpy()
        assert comparison.nemenyi(means).to_numpy() == pytest.approx(expected, abs=1e-6)


def test_nemenyi_agrees_with_the_critical_difference():
    for seed in range(10):
        means = random_means(seed)
        cd = comparison.critical_difference(means).attrs["cd"]
        ranks = comparison.rank_tasks(means).mean()
        apart = np.abs(ranks.to_numpy()[:, None] - ranks.to_numpy()) >= cd
        assert ((comparison.nemenyi(means).to_numpy() <= 0.05) == apart).all()


def test_wilcoxon_is_scipys_exact_test_without_ties():
    rng = np.random.default_rng(4)
    means = pd.DataFrame(rng.normal(size=(9, 3)), columns=list("abc"))
    found = comparison.signed_ranks(means, "b").set_index("label")
    for label in ("a", "c"):
        expected = stats.wilcoxon(means[label] - means["b"], method="exact").pvalue
        assert found.loc[label, "p_value"] == pytest.approx(expected)
    low, high = sorted(found["p_value"])
    assert sorted(found["p_holm"]) == pytest.approx([2 * low, max(2 * low, high)])


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 9999), n=st.integers(2, 12), k=st.integers(2, 6))
def test_properties_of_ranks_groups_and_wins(seed, n, k):
    means = random_means(seed, n, k)
    ranks = comparison.rank_tasks(means)
    assert ranks.sum(axis=1).to_numpy() == pytest.approx(k * (k + 1) / 2)
    assert (comparison.rank_tasks(-means, greater=False) == ranks).all(axis=None)
    found = comparison.critical_difference(means)
    rank = found.set_index("learner")["rank"]
    groups = found.attrs["groups"]
    if found.attrs["p_value"] < 0.05:
        together = {frozenset((a, b)) for group in groups for a in group for b in group if a != b}
        alike = {frozenset((a, b)) for a in rank.index for b in rank.index
                 if a != b and abs(rank[a] - rank[b]) < found.attrs["cd"] - 1e-9}  # fmt: skip
        assert together == alike
        assert not any(set(a) < set(b) for a in groups for b in groups)
    else:
        assert groups == [tuple(rank.index)]
    won = comparison.wins(means)
    matrix = won.pivot(index="learner", columns="against", values="wins")
    back = won.pivot(index="learner", columns="against", values="losses").T
    assert matrix.equals(back) and (won[["wins", "ties", "losses"]].sum(axis=1) == n).all()
    assert won["p_sign"].between(0, 1).all()


def test_equal_learners_are_equal_and_rounding_breaks_no_tie():
    means = pd.DataFrame({"a": [0.3, 0.7, 0.5], "b": [0.1 + 0.2, 0.7, 0.5]})  # 0.1 + 0.2 is not 0.3
    assert (comparison.rank_tasks(means) == 1.5).all(axis=None)
    assert comparison.friedman(means).p_value == 1.0
    assert comparison.signed_ranks(means, "a").loc[0, ["wins", "ties", "losses", "p_value"]].tolist() == [0, 3, 0, 1.0]
    assert comparison.critical_difference(means).attrs["groups"] == [("a", "b")]


def test_a_learner_that_always_wins_is_told_apart():
    means = pd.DataFrame({"a": np.arange(20.0) + 1, "b": np.arange(20.0)})
    found = comparison.critical_difference(means)
    assert found.attrs["p_value"] == 0.0 and found.attrs["groups"] == [] and found["groups"].tolist() == [(), ()]
    assert comparison.wins(means).loc[0, "p_sign"] == pytest.approx(2 * 0.5**20)


# --- folds first ------------------------------------------------------------------------------------------------------


def long_scores(missing=()) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows = [(t, learner, fold, rng.normal()) for t in ("t1", "t2", "t3") for learner in "abc" for fold in range(4)]
    scores = pd.DataFrame(rows, columns=["task", "learner", "fold", "value"])
    for task, learner, fold in missing:
        scores.loc[scores[["task", "learner", "fold"]].eq([task, learner, fold]).all(axis=1), "value"] = np.nan
    return scores


def test_folds_are_averaged_within_tasks():
    scores = long_scores()
    means = comparison.task_means(scores)
    assert means.shape == (3, 3) and means.attrs["left_out"] == []
    expected = scores.groupby(["task", "learner"])["value"].mean()
    assert all(means.loc[t, a] == pytest.approx(expected[t, a]) for t in means.index for a in means.columns)


def test_missing_folds_are_refused_or_left_out_by_name():
    scores = long_scores([("t2", "b", 1), ("t2", "b", 3)])
    with pytest.raises(DataError, match=r"'b' has 2 of 4 folds on task 't2' \(1 of 9 pairs.*incomplete='learners'"):
        comparison.task_means(scores)
    fewer = comparison.task_means(scores, incomplete="learners")
    assert fewer.columns.tolist() == ["a", "c"] and fewer.attrs["left_out"] == ["b"]
    less = comparison.task_means(scores, incomplete="tasks")
    assert less.index.tolist() == ["t1", "t3"] and less.attrs["left_out"] == ["t2"]
    absent = long_scores()[~((scores["task"] == "t3") & (scores["learner"] == "c"))]
    with pytest.raises(DataError, match="'c' has 0 of 4 folds on task 't3'"):
        comparison.task_means(absent)
    assert comparison.task_means(absent, incomplete="learners").columns.tolist() == ["a", "b"]
    with pytest.raises(ConfigError, match="Did you mean 'tasks'"):
        comparison.task_means(scores, incomplete="task")
    with pytest.raises(DataError, match="leaves nothing"):
        comparison.task_means(long_scores([(t, x, 0) for t in ("t1", "t2", "t3") for x in "abc"]), incomplete="tasks")


def test_too_little_to_compare_is_refused():
    with pytest.raises(DataError, match="at least 2 tasks, got 1: folds of one task say nothing"):
        comparison.friedman(DEMSAR.iloc[:1])
    with pytest.raises(DataError, match="at least 2 learners, got 1"):
        comparison.critical_difference(DEMSAR[["C4.5"]])
    with pytest.raises(ConfigError, match="level must lie between 0 and 1"):
        comparison.critical_difference(DEMSAR, level=95)
