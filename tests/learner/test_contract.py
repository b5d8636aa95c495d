"""What a loss needs of a batch, and what a sampler gives."""

from __future__ import annotations

import itertools
import warnings

import numpy as np
import pandas as pd
import pytest
from scipy.stats import hypergeom

import torchstrata as ts
from torchstrata.batches.samplers import plan_batches
from torchstrata.learner.contract import count_useless, share_useless, warn_of_collapse
from torchstrata.training.runtime import Seeds


def data(n=400, share=0.01, seed=0):
    rng = np.random.default_rng(seed)
    y = (np.arange(n) < n * share).astype(int)
    return rng.normal(size=(n, 3)) + y[:, None], y


def learner(**settings):
    return ts.TorchClassifier(ts.Linear(), **{"loss": "aum", "max_epochs": 2, "random_state": 0, **settings})


def test_the_warning_gives_the_share_that_probability_gives():
    X, y = data(n=4000)
    share = share_useless(y == 1, plan_batches(ts.RandomBatchSampler(32), 4000, None))
    assert share == pytest.approx(hypergeom(4000, 40, 32).pmf(0), abs=0.03)  # FEATURES: 73 %
    with pytest.warns(
        UserWarning, match=r"learns nothing from a batch of one class, and 7[1-5]% .*StratifiedBatchSampler\(1\)"
    ):
        learner(max_epochs=1).fit(X, y)


def test_useless_batches_are_counted_epoch_by_epoch():
    X, y = data()
    fitted = learner(batch_size=20)
    with pytest.warns(UserWarning, match="learns nothing"):
        fitted.fit(X, y)
    plan = plan_batches(ts.RandomBatchSampler(20), len(y), None)
    by_hand = []
    for epoch in (1, 2):
        order, bounds = plan.draw(epoch, Seeds(0).batches)
        batches = [y[order[a:b]] for a, b in itertools.pairwise(bounds)]
        by_hand.append(sum(len(set(batch)) == 1 for batch in batches))
    assert fitted.history_.useless_batches.tolist() == by_hand and min(by_hand) > 10


def test_no_word_where_the_sampler_sees_to_it_or_the_loss_does_not_mind():
    X, y = data()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        stratified = learner(batch_sampler=ts.StratifiedBatchSampler(1)).fit(X, y, stratum=y)
        plain = learner(loss="cross_entropy").fit(X, y)
        learner(batch_size="all").fit(X, y)
    assert stratified.history_.useless_batches.tolist() == [0, 0]
    assert "useless_batches" not in plain.history_


def test_any_sampler_can_be_asked():
    def one_by_one(n, strata, *, epoch, seed, rank=0, world_size=1):
        return list(np.arange(n)[:, None])

    X, y = data(n=40, share=0.5)
    with pytest.warns(UserWarning, match="100% of the batches of <function"):
        assert learner(batch_sampler=one_by_one).fit(X, y).history_.useless_batches.tolist() == [40, 40]


def test_counting_by_hand():
    positive = np.array([True, False, True, True, False])
    assert count_useless(positive, np.array([0, 1, 2, 3, 4]), np.array([0, 2, 4, 5])) == 2
    assert count_useless(positive, np.array([0, 1, 2, 4]), np.array([0, 2, 4])) == 0


def test_the_scale_of_the_scores_is_in_the_history_and_its_collapse_is_told():
    X, y = data(share=0.3)
    sampler = ts.StratifiedBatchSampler(8)
    good = learner(batch_sampler=sampler).fit(X, y, stratum=y)
    assert (good.history_.train_score_scale > 0).all()
    full = learner(batch_size="all", max_epochs=1).fit(X, y)
    start = learner(max_epochs=0).fit(X, y)
    assert full.history_.train_score_scale.item() == pytest.approx(start.decision_function(X).std(), rel=1e-5)
    # nothing to rank: the minimum is at constant scores
    noise, y = np.random.default_rng(0).normal(size=(200, 2)), np.arange(200) % 2
    shrinking = {"optimizer": ts.optim.SGD(lr=0.3), "schedule": ts.schedules.ExponentialLR(0.93), "max_epochs": 120}
    with pytest.warns(UserWarning, match=r"scores of loss aum have collapsed.*margin=1\.0"):
        learner(batch_size="all", **shrinking).fit(noise, y)


def test_collapse_needs_a_scale():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_collapse("aum", pd.DataFrame({"epoch": [1, 2]}))
        warn_of_collapse("aum", pd.DataFrame({"train_score_scale": [1.0]}))
        warn_of_collapse("aum", pd.DataFrame({"train_score_scale": [1.0, 0.5]}))


def test_a_task_whose_positive_class_a_learner_would_take_for_negative_is_refused():
    task = ts.load_task("breast_cancer").with_roles(positive="benign")
    with pytest.raises(ts.DataError, match=r"names 'benign' the positive class.*fit\(task, task\.y == 'benign'\)"):
        ts.TorchClassifier(max_epochs=1).fit(task)
    fitted = ts.TorchClassifier(max_epochs=1).fit(task, task.y == "benign")
    assert fitted.classes_.tolist() == [False, True]
    assert ts.TorchClassifier(max_epochs=1).fit(task.with_roles(positive="malignant")).classes_[1] == "malignant"


def test_class_weights_count_in_the_validation_loss_as_in_training():
    X, y = data(share=0.3)
    still = ts.optim.SGD(lr=1e-12)
    for class_weight in (None, {0: 1.0, 1: 9.0}, "balanced"):
        fitted = learner(
            loss="cross_entropy", batch_size="all", class_weight=class_weight, optimizer=still, max_epochs=1
        )
        row = fitted.fit(X, y, valid_set=(X, y)).history_.iloc[0]
        assert row.valid_loss == pytest.approx(row.train_loss, rel=1e-5)
