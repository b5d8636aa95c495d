"""Searches: the results are scikit-learn's, the training is of many networks at once."""

from __future__ import annotations

import gc
import pickle
import time
import warnings
import weakref

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import sklearn
from joblib import parallel_config
from sklearn import model_selection
from sklearn.base import BaseEstimator, clone
from sklearn.datasets import make_classification, make_regression
from sklearn.exceptions import FitFailedWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, KFold, StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import torchstrata as ts
from torchstrata.experiment import stacking

FLOAT64 = ts.Runtime(precision="float64")


@pytest.fixture(scope="module")
def rows():
    return make_classification(n_samples=90, n_features=6, n_informative=4, weights=[0.7], random_state=0)


def learner(**settings):
    given = {"max_epochs": 3, "runtime": FLOAT64, "random_state": 0, **settings}
    return ts.TorchClassifier(given.pop("network", ts.MLP((5,))), **given)


def fitted(cls, *args, fit=(), params=None, **settings):
    """Return the search and the warnings of its fit."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        search = cls(*args, **settings).fit(*fit, **(params or {}))
    return search, caught


def assert_same(ours, theirs):
    assert list(ours.cv_results_) == list(theirs.cv_results_)
    for name, value in theirs.cv_results_.items():
        mine = ours.cv_results_[name]
        if name.endswith("_time"):
            assert (mine >= 0).all() and (not name.startswith("mean_fit") or (mine > 0).all())
        elif name == "params":
            assert repr(mine) == repr(value)
        elif name.startswith("param_"):
            assert [repr(one) for one in mine] == [repr(one) for one in value]
            assert mine.dtype == value.dtype
        else:
            np.testing.assert_allclose(mine, value, rtol=0, atol=1e-9, err_msg=name)
    names = {name for name in vars(theirs) if name.endswith("_") and not name.startswith("_")}
    assert {name for name in vars(ours) if name.endswith("_") and not name.startswith("_")} == names | {"vectorized_"}
    for name in names & {"best_index_", "best_score_", "n_splits_", "multimetric_"}:
        assert getattr(ours, name) == pytest.approx(getattr(theirs, name), abs=1e-9)


def both(estimator, grid, X, y, *, params=None, **settings):
    """Search by our class and by scikit-learn's, compare, and return ours."""
    ours, told = fitted(ts.GridSearchCV, estimator, grid, fit=(X, y), params=params, **settings)
    theirs, told_too = fitted(model_selection.GridSearchCV, estimator, grid, fit=(X, y), params=params, **settings)
    assert_same(ours, theirs)
    assert {w.category for w in told} == {w.category for w in told_too}
    if settings.get("refit", True):
        np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), rtol=0, atol=1e-9)
        if not callable(settings.get("refit")):  # scikit-learn has no score then
            assert ours.score(X, y) == pytest.approx(theirs.score(X, y), abs=1e-9)
    assert len(ours.vectorized_) == len(ours.cv_results_["params"]) * ours.n_splits_
    return ours


GRIDS = {
    "lr": {"optimizer__lr": [1e-3, 1e-2, 0.1], "random_state": [0, 1]},
    "dropout": {"network__dropout": [0.1, 0.3, 0.5], "optimizer__weight_decay": [0.0, 0.1]},
    "hidden": {"network__hidden": [(4,), (8,)], "optimizer__lr": [1e-3, 1e-2]},
    "loss": [{"loss": ["cross_entropy"], "max_epochs": [2, 4]}, {"loss": ["focal"], "loss__gamma": [1.0, 2.0]}],
    "network": {"network": [ts.MLP((4,)), ts.Linear()], "batch_size": [16, 32]},
}


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
def test_results_are_those_of_scikit_learn(rows, grid):
    ours = both(learner(), grid, *rows, cv=3, return_train_score=True)
    assert (ours.vectorized_["together"] > 1).all()
    assert ours.vectorized_["why"].str.contains("one program").all()


def test_the_table_names_every_fit_in_the_order_of_the_results(rows):
    ours = both(learner(), {"network__hidden": [(4,), (6,)], "random_state": [0, 1]}, *rows, cv=3)
    assert list(ours.vectorized_.columns) == ["candidate", "split", "together", "why"]
    assert ours.vectorized_["candidate"].tolist() == np.repeat(range(4), 3).tolist()
    assert ours.vectorized_["split"].tolist() == [0, 1, 2] * 4
    assert ours.vectorized_["together"].tolist() == [6] * 12


@pytest.mark.parametrize("refit", [False, "roc_auc", lambda results: int(results["rank_test_accuracy"].argmax())])
def test_several_measures_and_ways_to_choose(rows, refit):
    grid = {"optimizer__lr": [1e-3, 1e-2, 0.1]}
    both(learner(), grid, *rows, cv=3, refit=refit, scoring=["roc_auc", "accuracy", "neg_log_loss"])


@pytest.mark.parametrize("scoring", ["average_precision", lambda model, X, y: {"mine": model.score(X, y)}])
def test_one_measure_by_name_and_by_function(rows, scoring):
    refit = "mine" if callable(scoring) else True
    both(learner(), {"optimizer__lr": [1e-3, 1e-2]}, *rows, cv=3, scoring=scoring, refit=refit)


def test_a_frame_with_categories_and_missing_values(rows):
    X = pd.DataFrame(rows[0]).add_prefix("x").assign(kind=np.where(rows[0][:, 0] > 0, "a", "b"))
    X.loc[::7, "x1"] = np.nan
    ours = both(learner(), {"optimizer__lr": [1e-3, 1e-2]}, X, pd.Series(rows[1]), cv=3)
    assert list(ours.feature_names_in_) == list(X.columns)


def test_regression():
    X, y = make_regression(n_samples=60, n_features=5, noise=1.0, random_state=0)
    model = ts.TorchRegressor(ts.MLP((5,)), max_epochs=3, runtime=FLOAT64, random_state=0)
    settings = {"cv": 3, "scoring": ["r2", "neg_mean_absolute_error"], "refit": "r2"}
    ours, _ = fitted(ts.GridSearchCV, model, {"optimizer__lr": [1e-3, 1e-2]}, fit=(X, y), **settings)
    theirs, _ = fitted(model_selection.GridSearchCV, model, {"optimizer__lr": [1e-3, 1e-2]}, fit=(X, y), **settings)
    assert_same(ours, theirs)
    assert (ours.vectorized_["together"] > 1).all()


def test_groups_reach_the_splitter(rows):
    groups = np.arange(90) // 6
    ours = both(learner(), {"optimizer__lr": [1e-3, 1e-2]}, *rows, cv=GroupKFold(3), params={"groups": groups})
    assert (ours.vectorized_["together"] == 6).all()


@pytest.mark.parametrize("routing", [False, True])
def test_strata_reach_the_sampler(rows, routing):
    model = learner(batch_sampler=ts.StratifiedBatchSampler(2))
    with sklearn.config_context(enable_metadata_routing=routing):
        if routing:
            model.set_fit_request(stratum=True)
        ours = both(model, {"optimizer__lr": [1e-3, 1e-2]}, *rows, cv=StratifiedKFold(3), params={"stratum": rows[1]})
    assert (ours.vectorized_["together"] == 6).all()


@pytest.mark.parametrize("routing", [False, True])
def test_weights_reach_learner_and_scorer(rows, routing):
    weight = np.random.default_rng(0).uniform(0.5, 2.0, 90)
    model = learner()
    with sklearn.config_context(enable_metadata_routing=routing):
        if routing:
            model.set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        ours = both(model, {"optimizer__lr": [1e-3, 1e-2]}, *rows, cv=3, params={"sample_weight": weight})
    plain = both(learner(), {"optimizer__lr": [1e-3, 1e-2]}, *rows, cv=3)
    assert (ours.vectorized_["together"] == 6).all()
    assert not np.allclose(ours.cv_results_["mean_test_score"], plain.cv_results_["mean_test_score"])


def test_early_stopping(rows):
    model = learner(max_epochs=12, valid=0.2, early_stopping=ts.EarlyStopping(2), scoring="roc_auc")
    ours = both(model, {"optimizer__lr": [1e-3, 0.1, 1.0]}, *rows, cv=3)
    assert (ours.vectorized_["together"] == 9).all()


@pytest.mark.parametrize("error_score", [np.nan, -1.0])
def test_a_candidate_that_fails_gets_the_error_score(rows, error_score):
    grid = {"optimizer__lr": [1e-3, 1e-2, 1e200]}
    model = learner(optimizer=ts.optim.SGD(lr=0.1), max_epochs=4)
    ours, told = fitted(ts.GridSearchCV, model, grid, fit=rows, cv=3, error_score=error_score)
    theirs, told_too = fitted(model_selection.GridSearchCV, model, grid, fit=rows, cv=3, error_score=error_score)
    assert_same(ours, theirs)
    assert np.array_equal(ours.cv_results_["mean_test_score"][2], error_score, equal_nan=True)
    failed = [[str(w.message) for w in caught if w.category is FitFailedWarning] for caught in (told, told_too)]
    assert len(failed[0]) == len(failed[1]) == 1
    assert "3 fits failed out of a total of 9" in failed[0][0] and "NonFiniteError" in failed[0][0]
    assert ours.vectorized_["together"].tolist() == [9] * 6 + [0] * 3
    assert ours.vectorized_["why"].iloc[-1].startswith("NonFiniteError")


def test_a_candidate_that_fails_is_raised_when_asked(rows):
    model = learner(optimizer=ts.optim.SGD(lr=0.1), max_epochs=4)
    search = ts.GridSearchCV(model, {"optimizer__lr": [1e-2, 1e200]}, cv=3, error_score="raise")
    with pytest.raises(ts.NonFiniteError):
        search.fit(*rows)
    assert not hasattr(search, "vectorized_")


def test_scoring_that_fails_gets_the_error_score(rows):
    both(learner(loss="aum"), {"optimizer__lr": [1e-3, 1e-2]}, *rows, cv=3, scoring=["neg_log_loss"], refit=False)


def test_wrong_settings_are_raised_before_any_training(rows, monkeypatch):
    monkeypatch.setattr(stacking, "fit_many", lambda *a, **k: pytest.fail("trained"))
    search = ts.GridSearchCV(learner(), {"optimizer__lr": [1e-3], "loss": ["cross_entropy", "cross_entropi"]}, cv=3)
    with pytest.raises(ts.ConfigError, match=r"(?s)candidate \{.*cross_entropi.*Did you mean 'cross_entropy'"):
        search.fit(*rows)
    with pytest.raises((ts.ConfigError, ValueError), match="optimizr"):
        ts.GridSearchCV(learner(), {"optimizr__lr": [1e-3]}, cv=3).fit(*rows)


def test_warnings_of_a_fit_arrive_once(rows):
    model = learner(loss="aum", valid=0.2, scoring="roc_auc", batch_sampler=ts.RandomBatchSampler(2), max_epochs=1)
    grid = {"optimizer__lr": [1e-3, 1e-2]}
    told = fitted(ts.GridSearchCV, model, grid, fit=rows, cv=2, refit=False)[1]
    told_too = fitted(model_selection.GridSearchCV, model, grid, fit=rows, cv=2, refit=False)[1]
    assert told
    assert sorted(str(w.message) for w in told) == sorted(str(w.message) for w in told_too)


@pytest.mark.parametrize(
    ("estimator", "grid", "why"),
    [
        (LogisticRegression(), {"C": [0.1, 1.0]}, "LogisticRegression is no learner of this library"),
        (
            make_pipeline(StandardScaler(), learner()),
            {"torchclassifier__optimizer__lr": [1e-3, 1e-2]},
            "Pipeline is no learner of this library",
        ),
    ],
)
def test_other_estimators_go_scikit_learns_way(rows, estimator, grid, why):
    ours = both(estimator, grid, *rows, cv=3)
    assert (ours.vectorized_["together"] == 1).all() and (ours.vectorized_["why"] == why).all()
    assert ours.vectorized_["split"].tolist() == [0, 1, 2, 0, 1, 2]


def test_a_learner_with_a_fit_of_its_own_keeps_it(rows):
    class Mine(ts.TorchClassifier):
        def fit(self, X, y=None, **given):
            return super().fit(X, y, **given)

    search = ts.GridSearchCV(Mine(max_epochs=1), {"random_state": [0, 1]}, cv=2).fit(*rows)
    assert (search.vectorized_["why"] == "Mine has a fit of its own").all()


def test_callbacks_of_scikit_learn_hear_every_fit(rows):
    callback = pytest.importorskip("sklearn.callback", reason="scikit-learn 1.9 has callbacks")
    search = ts.GridSearchCV(learner(max_epochs=1), {"random_state": [0, 1]}, cv=2)
    monitor = callback.ScoringMonitor(scoring="accuracy") if hasattr(callback, "ScoringMonitor") else None
    if monitor is None:
        pytest.skip("this scikit-learn has no ScoringMonitor")
    search.set_callbacks(monitor).fit(*rows)
    assert (search.vectorized_["why"] == "callbacks of scikit-learn listen").all()


def test_nested_and_inside_a_pipeline(rows):
    grid = {"optimizer__lr": [1e-3, 1e-2, 0.1]}
    scores = [
        cross_val_score(cls(learner(), grid, cv=2, scoring="roc_auc"), *rows, cv=3, scoring="roc_auc")
        for cls in (ts.GridSearchCV, model_selection.GridSearchCV)
    ]
    np.testing.assert_allclose(*scores, rtol=0, atol=1e-9)
    inside = make_pipeline(StandardScaler(), ts.GridSearchCV(learner(), grid, cv=2)).fit(*rows)
    assert (inside[-1].vectorized_["together"] == 6).all()
    outer = ts.GridSearchCV(ts.GridSearchCV(learner(), grid, cv=2), {"estimator__max_epochs": [1, 2]}, cv=2).fit(*rows)
    assert (outer.best_estimator_.vectorized_["together"] == 6).all()


def test_settings_are_those_of_scikit_learn():
    for ours, theirs in (
        (ts.GridSearchCV(learner(), {"random_state": [0]}), model_selection.GridSearchCV),
        (ts.RandomizedSearchCV(learner(), {"random_state": [0]}), model_selection.RandomizedSearchCV),
    ):
        assert isinstance(ours, theirs)
        assert ours._get_param_names() == theirs._get_param_names()
        twin = clone(ours.set_params(estimator__optimizer__lr=0.5))
        assert type(twin) is type(ours) and twin.get_params()["estimator__optimizer__lr"] == 0.5


def test_a_fitted_search_survives_pickling(rows):
    search = ts.GridSearchCV(learner(), {"optimizer__lr": [1e-3, 1e-2]}, cv=2).fit(*rows)
    again = pickle.loads(pickle.dumps(search))
    np.testing.assert_array_equal(again.predict_proba(rows[0]), search.predict_proba(rows[0]))
    assert "fit" not in vars(search.best_estimator_)


def test_randomized_search(rows):
    drawn = {"optimizer__lr": scipy.stats.loguniform(1e-4, 1e-1), "network__hidden": [(4,), (6,)]}
    settings = {"n_iter": 6, "cv": 3, "random_state": 1, "fit": rows}
    ours, _ = fitted(ts.RandomizedSearchCV, learner(), drawn, **settings)
    theirs, _ = fitted(model_selection.RandomizedSearchCV, learner(), drawn, **settings)
    assert_same(ours, theirs)
    assert (ours.vectorized_["together"] >= 3).all()


def test_splitters_that_give_a_new_split_each_time_and_lists_of_splits(rows):
    grid = {"optimizer__lr": [1e-3, 1e-2]}
    both(learner(), grid, *rows, cv=KFold(3, shuffle=True, random_state=3))
    both(learner(), grid, *rows, cv=[(np.arange(60), np.arange(60, 90)), (list(range(30, 90)), list(range(30)))])


def test_parts_of_bounded_size(rows, monkeypatch):
    monkeypatch.setattr(stacking, "AT_A_TIME", 7)
    ours = both(learner(), {"optimizer__lr": [1e-3, 1e-2], "random_state": [0, 1, 2]}, *rows, cv=3)
    assert ours.vectorized_["together"].isin([6, 7]).all() and len(ours.vectorized_) == 18


@pytest.mark.parametrize("pre_dispatch", [4, "all"])
def test_fewer_calls_at_a_time(rows, pre_dispatch):
    ours = both(learner(), {"optimizer__lr": [1e-3, 1e-2, 0.1]}, *rows, cv=3, pre_dispatch=pre_dispatch)
    assert ours.vectorized_["candidate"].tolist() == np.repeat(range(3), 3).tolist()


@pytest.mark.parametrize(("backend", "together"), [("threading", 12), ("loky", 6)])
def test_processes_share_the_fits(rows, backend, together):
    grid = {"optimizer__lr": [1e-3, 1e-2, 0.1], "random_state": [0, 1]}
    alone = ts.GridSearchCV(learner(), grid, cv=2).fit(*rows)
    with parallel_config(backend):
        shared = ts.GridSearchCV(learner(), grid, cv=2, n_jobs=2).fit(*rows)
    assert_same(shared, fitted(model_selection.GridSearchCV, learner(), grid, fit=rows, cv=2)[0])
    assert alone.vectorized_["together"].tolist() == [12] * 12
    assert shared.vectorized_["together"].tolist() == [together] * 12


class Splits(BaseEstimator):
    """A splitter that counts how often it is asked."""

    def __init__(self):
        self.asked = 0

    def get_n_splits(self, *args, **kwargs):
        return 2

    def split(self, X, y=None, groups=None):
        self.asked += 1
        return KFold(2).split(X)


def test_data_are_read_once_a_split(rows, monkeypatch):
    from torchstrata.learner import base

    seen = []
    real = base.read_parts
    monkeypatch.setattr(base, "read_parts", lambda *a, **k: seen.append(1) or real(*a, **k))
    search = ts.GridSearchCV(learner(), {"optimizer__lr": [1e-3, 1e-2, 0.1]}, cv=Splits(), refit=False).fit(*rows)
    assert search.cv.asked == 1
    assert len(seen) == 2


def test_networks_are_let_go(rows, monkeypatch):
    alive, real = [], stacking._scored

    def scored(call, done):
        alive.append(weakref.ref(done.learner.network_))
        return real(call, done)

    monkeypatch.setattr(stacking, "_scored", scored)
    monkeypatch.setattr(stacking, "AT_A_TIME", 4)
    left = []

    def scoring(model, X, y):
        gc.collect()
        left.append(sum(ref() is not None for ref in alive))
        return 0.0

    grid = {"optimizer__lr": [1e-3, 1e-2, 0.1], "random_state": [0, 1]}
    ts.GridSearchCV(learner(), grid, cv=2, scoring=scoring, refit=False).fit(*rows)
    assert len(alive) == 12 and max(left) <= 4


def test_the_time_of_a_fit_is_its_share(rows):
    started = time.perf_counter()
    search = ts.GridSearchCV(learner(), {"random_state": range(10)}, cv=3, refit=False).fit(*rows)
    elapsed = time.perf_counter() - started
    assert 0 < search.cv_results_["mean_fit_time"].sum() * 3 < elapsed
