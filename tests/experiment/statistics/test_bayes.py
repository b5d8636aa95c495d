"""Posterior probabilities, checked against closed forms and baycomp, which the authors of the tests wrote."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from torchstrata.errors import ConfigError
from torchstrata.experiment.statistics.bayes import correlated_t, default_rope, signed_rank
from torchstrata.plots.measures import paired_test


@settings(max_examples=50, deadline=None)
@given(
    differences=st.lists(st.floats(-0.2, 0.2), min_size=2, max_size=20),
    ratio=st.floats(0.01, 1),
    rope=st.sampled_from([0.0, 0.01, 0.05]),
)
def test_correlated_t_sums_to_one_and_turns_with_the_sign(differences, ratio, rope):
    one, other = (
        correlated_t(differences, ratio=ratio, rope=rope),
        correlated_t(-np.array(differences), ratio=ratio, rope=rope),
    )
    assert sum(one) == pytest.approx(1) and min(one) >= 0
    assert (one.better, one.equal, one.worse) == pytest.approx((other.worse, other.equal, other.better), abs=1e-9)


def test_correlated_t_without_a_rope_is_the_corrected_t_test():
    """With a flat prior the posterior tail is half the two-sided p-value (Benavoli and others 2017, section 3.1)."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        differences = rng.normal(0.01, 0.03, 10)
        found = correlated_t(differences, ratio=1 / 9, rope=0.0)
        p = paired_test(differences, ratio=1 / 9)
        assert min(found.better, found.worse) == pytest.approx(p / 2) and found.equal == pytest.approx(0, abs=1e-12)


def test_corrected_t_is_that_of_the_formula():
    """Nadeau and Bengio (2003), section 4: mean / sqrt((1/n + n_test/n_train) s^2), n - 1 degrees of freedom."""
    differences = np.array([0.02, -0.01, 0.03, 0.01, 0.02, 0.00, 0.04, 0.01, -0.02, 0.03])
    t = differences.mean() / np.sqrt((1 / 10 + 1 / 9) * differences.var(ddof=1))
    assert paired_test(differences, ratio=1 / 9) == pytest.approx(2 * stats.t.sf(t, 9))
    assert paired_test(differences, ratio=0.0) == pytest.approx(stats.ttest_1samp(differences, 0).pvalue)


def test_baycomp_finds_the_same_probabilities():
    baycomp = pytest.importorskip("baycomp")
    rng = np.random.default_rng(3)
    for n, mean, rope in ((20, 0.005, 0.01), (12, 0.02, 0.01)):
        differences = rng.normal(mean, 0.02, n)
        worse, equal, better = baycomp.SignedRankTest.probs(
            np.zeros(n), differences, rope=rope, random_state=1, nsamples=20_000
        )
        assert signed_rank(differences, rope=rope) == pytest.approx((better, equal, worse), abs=0.015)
        worse, better = baycomp.SignedRankTest.probs(np.zeros(n), differences, rope=0, random_state=1, nsamples=20_000)
        found = signed_rank(differences, rope=0.0)
        assert found == pytest.approx((better, 0.0, worse), abs=0.015)
        worse, equal, better = baycomp.CorrelatedTTest.probs(np.zeros(n), differences, rope=rope, runs=1)
        assert correlated_t(differences, ratio=1 / (n - 1), rope=rope) == pytest.approx((better, equal, worse))


def test_signed_rank_of_two_tasks_by_integration():
    """Differences of 2 and -1 without a rope: w in Dirichlet(0.5, 1, 1); more than half of the mass above 0 wins."""
    rng = np.random.default_rng(9)
    w0, up, down = rng.dirichlet([0.5, 1, 1], 400_000).T
    # pairs above zero: (up, up), (up, down) twice (2 - 1 > 0), (up, 0) twice; equal to zero, so half: (0, 0)
    mass = up**2 + 2 * up * down + 2 * up * w0 + 0.5 * w0**2
    assert signed_rank([2.0, -1.0], rope=0.0).better == pytest.approx((mass > 0.5).mean(), abs=0.006)
    assert down.min() >= 0


@pytest.mark.parametrize("rope", [0.0, 0.01])
def test_signed_rank_turns_with_the_sign_and_does_not_change_from_call_to_call(rope):
    differences = np.random.default_rng(1).normal(0.01, 0.03, 15)
    one, other = signed_rank(differences, rope=rope), signed_rank(-differences, rope=rope)
    assert one == signed_rank(differences, rope=rope) and sum(one) == pytest.approx(1)
    assert (one.better, one.equal, one.worse) == pytest.approx((other.worse, other.equal, other.better), abs=1e-3)


def test_clear_cases_are_clear():
    assert signed_rank(np.full(20, 0.1), rope=0.01).better == pytest.approx(1, abs=1e-3)
    assert signed_rank(np.linspace(-0.002, 0.002, 20), rope=0.01).equal == pytest.approx(1, abs=1e-3)
    assert signed_rank(np.zeros(10), rope=0.0) == pytest.approx((0.5, 0.0, 0.5))  # nothing speaks for either
    assert correlated_t([0.02] * 5, ratio=0.25, rope=0.01) == (1.0, 0.0, 0.0)
    assert correlated_t([0.0] * 5, ratio=0.25, rope=0.01) == (0.0, 1.0, 0.0)
    assert np.isnan(correlated_t([0.1], ratio=0.25, rope=0.01)).all() and np.isnan(signed_rank([0.1], rope=0.01)).all()


def test_ropes_are_settled_before_the_test():
    assert default_rope("roc_auc", None) == default_rope("matthews_corrcoef", None) == 0.01
    assert default_rope("neg_log_loss", 0.05) == 0.05
    with pytest.raises(ConfigError, match="depends on its unit: give rope="):
        default_rope("neg_root_mean_squared_error", None)
    for wrong in (-0.1, "0.1", float("nan")):
        with pytest.raises(ConfigError, match="rope must be a number >= 0"):
            default_rope("roc_auc", wrong)
