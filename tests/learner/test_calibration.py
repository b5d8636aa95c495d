from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import balanced_accuracy_score, f1_score
from sklearn.model_selection import TunedThresholdClassifierCV

import torchstrata as ts
from torchstrata.learner.calibration import count_matching_threshold

shares = st.lists(st.floats(0.01, 1), min_size=3, max_size=3)


def data(n=1500, share=0.1, seed=0):
    rng = np.random.default_rng(seed)
    y = (rng.random(n) < share).astype(int)
    return rng.normal(size=(n, 2)) + 1.2 * y[:, None], y


@given(shares, shares, shares)
def test_correcting_is_bayes_rule_and_can_be_undone(p, old, new):
    proba, old, new = np.array([p]) / sum(p), np.array(old), np.array(new)
    there = ts.correct_prior(proba, trained=old, wanted=new)
    likelihood = proba / (old / old.sum())
    np.testing.assert_allclose(there, likelihood * new / (likelihood * new).sum(), rtol=1e-9)
    np.testing.assert_allclose(ts.correct_prior(there, trained=new, wanted=old), proba, rtol=1e-9)


def test_balanced_weights_corrected_are_as_good_as_no_weights():
    X, y = data(6000)
    settings = {"max_epochs": 30, "random_state": 0, "optimizer": ts.optim.AdamW(lr=0.01)}
    plain = ts.TorchClassifier(ts.Linear(), **settings).fit(X, y)
    weighted = ts.TorchClassifier(ts.Linear(), class_weight="balanced", **settings).fit(X, y)
    np.testing.assert_allclose(weighted.trained_prior_, [0.5, 0.5])
    np.testing.assert_allclose(weighted.prior_, [1 - y.mean(), y.mean()])
    np.testing.assert_allclose(plain.trained_prior_, plain.prior_)
    raw = weighted.predict_proba(X)
    corrected = ts.correct_prior(raw, trained=weighted.trained_prior_, wanted=weighted.prior_)
    assert raw[:, 1].mean() > 0.25 and corrected[:, 1].mean() == pytest.approx(y.mean(), abs=0.02)
    assert np.abs(corrected - plain.predict_proba(X)).max() < 0.1


@pytest.mark.parametrize("labels", [np.array(["no", "yes"]), np.arange(3)], ids=["two", "three"])
def test_a_loss_that_wants_the_class_counts_gets_those_of_the_training_rows(labels):
    codes = np.repeat(np.arange(len(labels)), [30, 12, 6][: len(labels)])
    X, y = np.random.default_rng(0).normal(size=(len(codes), 2)) + codes[:, None], labels[codes]
    fitted = ts.TorchClassifier(ts.Linear(), loss="logit_adjusted", max_epochs=1, random_state=0).fit(X, y)
    assert fitted.loss_.get_params()["prior"] == tuple(np.bincount(codes).astype(float))
    weighted = ts.TorchClassifier(ts.Linear(), loss="ldam", max_epochs=1, random_state=0)
    weighted.fit(X, y, sample_weight=np.full(len(y), 2.0))
    assert weighted.loss_.get_params()["counts"] == tuple(2.0 * np.bincount(codes))
    given = ts.losses.logit_adjusted(prior=tuple([1.0] * len(labels)))
    assert ts.TorchClassifier(ts.Linear(), loss=given, max_epochs=0).fit(X, y).loss_ == given
    assert ts.TorchClassifier(loss="logit_adjusted").loss == "logit_adjusted"


@pytest.mark.parametrize(
    ("proba", "trained", "wanted", "match"),
    [
        ([0.5, 0.5], [0.5, 0.5], [0.5, 0.5], r"shape \(n, k\)"),
        ([[0.5, 0.5]], [0.5], [0.5, 0.5], r"shape \(n, k\)"),
        ([[0.5, 0.5]], [0.0, 1.0], [0.5, 0.5], "shares must be positive"),
        ([[0.5, 0.5]], [0.5, 0.5], [0.0, 0.0], "shares must be positive"),
        ([[0.5, 0.5]], [0.5, 0.5], [-1.0, 2.0], "shares must be positive"),
    ],
)
def test_shares_that_are_none(proba, trained, wanted, match):
    with pytest.raises(ts.DataError, match=match):
        ts.correct_prior(proba, trained=trained, wanted=wanted)


@pytest.mark.parametrize("loss", ["cross_entropy", "aum"])
@pytest.mark.parametrize(("scoring", "score"), [("f1", f1_score), ("balanced_accuracy", balanced_accuracy_score)])
def test_scikit_learn_tunes_the_threshold_for_any_measure(loss, scoring, score):
    X, y = data(1500)
    fit, valid, test = slice(0, 500), slice(500, 1000), slice(1000, 1500)
    learner = ts.TorchClassifier(
        ts.Linear(), loss=loss, batch_sampler=ts.StratifiedBatchSampler(5), max_epochs=20, random_state=0
    ).fit(X[fit], y[fit], stratum=y[fit])
    tuned = TunedThresholdClassifierCV(
        FrozenEstimator(learner), cv="prefit", refit=False, scoring=scoring, response_method="decision_function"
    ).fit(X[valid], y[valid])
    # on the rows that tuned it the threshold is at least as good as ours, and elsewhere not much worse
    assert score(y[valid], tuned.predict(X[valid])) >= score(y[valid], learner.predict(X[valid])) - 0.01
    assert score(y[test], tuned.predict(X[test])) > score(y[test], learner.predict(X[test])) - 0.1


@given(st.lists(st.tuples(st.floats(-5, 5), st.booleans()), min_size=2, max_size=30, unique_by=lambda t: t[0]))
def test_the_threshold_predicts_as_many_positives_as_there_are(rows):
    scores, positive = np.array([r[0] for r in rows]), np.array([r[1] for r in rows])
    threshold = count_matching_threshold(scores, positive, None)
    if positive.any() and not positive.all() and np.diff(np.sort(scores)).min() > 1e-9:
        assert (scores > threshold).sum() == positive.sum()
