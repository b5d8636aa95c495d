import pickle

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from sklearn.exceptions import DataConversionWarning, NotFittedError
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GridSearchCV, cross_val_score

import torchstrata as ts

RNG = np.random.default_rng(3)
X = RNG.normal(size=(80, 3))
Y = 100 + 30 * X[:, 0] - 10 * X[:, 1] + RNG.normal(size=80)


def learner(**settings):
    base = {"network": ts.Linear(), "optimizer": ts.optim.AdamW(lr=0.05), "max_epochs": 3, "random_state": 0}
    return ts.TorchRegressor(**{**base, "runtime": "cpu", **settings})


def test_it_finds_what_least_squares_finds():
    settings = {"optimizer": ts.optim.LBFGS(max_iter=50), "max_epochs": 30, "batch_size": "all", "encoder": None}
    mine = learner(runtime=ts.Runtime("cpu", precision="float64"), **settings).fit(X, Y)
    np.testing.assert_allclose(mine.predict(X), LinearRegression().fit(X, Y).predict(X), atol=1e-3)


def test_the_target_is_standardised_and_comes_back_in_its_units():
    fitted = learner(max_epochs=20).fit(X, Y)
    far = learner(max_epochs=20).fit(X, 1e6 + 1e4 * Y)
    np.testing.assert_allclose(far.predict(X), 1e6 + 1e4 * fitted.predict(X), rtol=1e-4)
    np.testing.assert_allclose(far.history_["train_loss"], fitted.history_["train_loss"], rtol=1e-3)
    assert fitted.score(X, Y) > 0.9


def test_a_loss_of_your_own_sees_the_target_as_it_is():
    seen = []

    def squared(output, target):
        seen.append(float(target.max()))
        return ((output.flatten() - target) ** 2).mean()

    learner(loss=squared, batch_size="all", max_epochs=1).fit(X, Y)
    assert max(seen) == pytest.approx(Y.max(), rel=1e-6)


@pytest.mark.parametrize("loss", ["mse", "mae", ts.losses.huber(delta=2.0), torch.nn.L1Loss(), torch.nn.SmoothL1Loss()])
def test_losses(loss):
    assert learner(loss=loss, max_epochs=40).fit(X, Y).score(X, Y) > 0.8


def test_several_targets():
    y = np.column_stack([Y, -0.01 * Y, X[:, 2]])
    fitted = learner(max_epochs=40, optimizer=ts.optim.AdamW(lr=0.1)).fit(X, y)
    assert fitted.predict(X).shape == (80, 3)
    assert fitted.score(X, y) > 0.9
    frame = learner(max_epochs=40, optimizer=ts.optim.AdamW(lr=0.1)).fit(X, pd.DataFrame(y))
    np.testing.assert_array_equal(frame.predict(X), fitted.predict(X))


def test_one_column_becomes_one_dimension_with_a_warning():
    with pytest.warns(DataConversionWarning) as caught:
        fitted = learner().fit(X, Y[:, None], valid_set=None)
    assert len(caught) == 1
    assert fitted.predict(X).shape == (80,)


@pytest.mark.parametrize("make", [list, pd.Series, pl.Series, np.array, lambda y: pd.Series(y, dtype="Float64")])
def test_containers_of_targets_are_equal(make):
    np.testing.assert_array_equal(
        learner().fit(X, make(Y.tolist())).predict(X), learner().fit(X, Y.tolist()).predict(X)
    )


def test_weights_shift_the_fit_and_the_scale():
    weight = np.r_[np.ones(40), np.zeros(40)]
    settings = {"batch_size": "all", "encoder": None, "max_epochs": 20}
    weighted = learner(**settings).fit(X, np.where(weight, Y, 1e6), sample_weight=weight)
    alone = learner(**settings).fit(X[:40], Y[:40])
    np.testing.assert_allclose(weighted.predict(X), alone.predict(X), rtol=1e-5)


@pytest.mark.parametrize("value", [3.0, 0.1, 0.0, -1e30])
def test_a_constant_target_is_predicted_exactly_with_a_warning(value):
    with pytest.warns(UserWarning, match="y is constant"):
        fitted = learner(max_epochs=2).fit(X, np.full(80, value))
    assert (fitted.predict(X) == value).all()


def test_one_constant_target_among_several():
    with pytest.warns(UserWarning, match="y is constant"):
        fitted = learner().fit(X, np.column_stack([Y, np.full(80, 0.1)]))
    assert (fitted.predict(X)[:, 1] == 0.1).all() and np.ptp(fitted.predict(X)[:, 0]) > 0


def test_a_target_too_large_is_refused():
    with pytest.raises(ts.DataError, match="too large to standardise"):
        learner().fit(X, Y * 1e200)
    with pytest.raises(ts.DataError, match="y has values beyond float32"):
        learner(loss=lambda o, t: (o.flatten() - t).abs().mean()).fit(X, Y * 1e50)


def test_class_weight_is_refused():
    with pytest.raises(ts.ConfigError, match="class_weight is for classification"):
        learner(class_weight="balanced").fit(X, Y)


def test_scores_are_in_the_units_of_the_target():
    fitted = learner(scoring=("neg_mean_absolute_error",), max_epochs=5, valid=0.25).fit(X, Y)
    assert fitted.history_["valid_neg_mean_absolute_error"].iloc[0] < -5
    assert fitted.history_["valid_loss"].iloc[0] < 5


def test_pickle_and_not_fitted():
    fitted = learner().fit(X, Y)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(fitted)).predict(X), fitted.predict(X))
    with pytest.raises(NotFittedError, match="TorchRegressor instance is not fitted yet"):
        ts.TorchRegressor().predict(X)


def test_counts_are_predicted_as_counts():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2000, 1))
    rate = np.exp(0.5 + 0.8 * x[:, 0])
    y = rng.poisson(rate)
    fit = {"encoder": None, "max_epochs": 20, "optimizer": ts.optim.AdamW(lr=0.02), "random_state": 0}
    learner = ts.TorchRegressor(ts.Linear(), loss="poisson", scoring="neg_mean_poisson_deviance", valid=0.2, **fit).fit(
        x, y
    )
    assert np.corrcoef(np.log(learner.predict(x)), np.log(rate))[0, 1] > 0.999
    assert learner.predict(x).mean() == pytest.approx(y.mean(), rel=0.05)
    by_scorer = learner.history_.valid_neg_mean_poisson_deviance.iloc[-1]
    assert by_scorer > -1.5  # scores are of counts, not of their logarithms
    with pytest.raises(ts.DataError, match=r"is for counts: y must be >= 0, got -1"):
        ts.TorchRegressor(loss="poisson").fit(x, y - 1)


def test_a_loss_of_mean_and_variance_predicts_the_mean():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(800, 2))
    y = 100 + 30 * x[:, 0] + rng.normal(size=800) * np.where(x[:, 1] > 0, 10, 1)
    fit = {"encoder": None, "max_epochs": 60, "optimizer": ts.optim.AdamW(lr=0.02), "random_state": 0}
    learner = ts.TorchRegressor(ts.MLP((8,)), loss="gaussian_nll", **fit).fit(x, y)
    assert learner.predict(x).shape == (800,) and learner.score(x, y) > 0.8


# strata of a target


LEAST: list[int] = []  # of a fit each; a search trains copies of the callback, so it cannot keep them itself


class Bins(ts.Callback):
    """Keep the fewest rows of a quarter of y that a batch held; the target of the loss is y, shifted and scaled."""

    def on_fit_begin(self, state):
        self.batches = []

    def on_batch_end(self, state):
        self.batches.append(state.target.numpy().copy().ravel())

    def on_fit_end(self, state):
        y = np.unique(np.concatenate(self.batches))
        quarter = [np.searchsorted(np.quantile(y, [0.25, 0.5, 0.75]), batch) for batch in self.batches]
        LEAST.append(min(np.bincount(codes, minlength=4).min() for codes in quarter))


@pytest.fixture
def least():
    LEAST.clear()
    return LEAST


def binned(k=3, **settings):
    return learner(batch_sampler=ts.StratifiedBatchSampler(k, bins=4), callbacks=(Bins(),), **settings)


@pytest.mark.parametrize("y", [Y, Y.tolist(), pd.Series(Y), np.exp(Y / 50)], ids=["array", "list", "Series", "skewed"])
@pytest.mark.parametrize("k", [1, 3, 5])
def test_a_sampler_with_bins_takes_them_of_y(y, k, least):
    binned(k).fit(X, y)
    assert least == [k]  # 20 rows a quarter make 20 // k batches, the smallest of which have k of each


def test_bins_of_y_are_what_passing_y_as_stratum_gives():
    given, found = binned().fit(X, Y, stratum=Y), binned().fit(X, Y)
    np.testing.assert_array_equal(found.predict(X), given.predict(X))


def test_a_stratum_that_is_given_wins_over_y():
    other = np.arange(80)
    given, found = binned().fit(X, Y, stratum=other), binned().fit(X, Y)
    assert not np.array_equal(found.predict(X), given.predict(X))


def test_bins_are_of_the_rows_that_train(least):
    binned(valid=0.25).fit(X, Y)
    assert least == [3]


def test_bins_of_y_in_a_benchmark_and_a_search(least):
    task = ts.Task(pd.DataFrame(X, columns=list("abc")).assign(y=Y), target="y")
    scores = ts.benchmark(task, {"binned": binned()}, cv=4, scoring="r2", progress=False).scores
    assert np.isfinite(scores["value"]).all()
    search = GridSearchCV(binned(), {"batch_sampler__min_samples_per_stratum": [2, 4]}, cv=4, error_score="raise")
    search.fit(X, Y)
    assert np.isfinite(cross_val_score(binned(), X, Y, cv=4, error_score="raise")).all()
    # four folds; two settings on four folds, and the better one on all rows; four folds
    assert len(least) == 4 + 8 + 1 + 4 and min(least) >= 2


def test_bins_of_several_targets_are_refused_until_a_stratum_is_given(least):
    y = np.column_stack([Y, -Y])
    with pytest.raises(
        ts.ConfigError, match=r"makes bins of y.*one column of numbers: y has 2 columns.*stratum=y\[:, 0\]"
    ):
        binned().fit(X, y)
    assert binned().set_params(callbacks=()).fit(X, y, stratum=y[:, 0]).predict(X).shape == (80, 2)


def test_bins_of_labels():
    settings = {"batch_sampler": ts.StratifiedBatchSampler(2, bins=(0.5,)), "max_epochs": 1, "runtime": "cpu"}
    assert ts.TorchClassifier(**settings).fit(X, (Y > 100).astype(int)).classes_.tolist() == [0, 1]
    with pytest.raises(ts.ConfigError, match=r"y has labels such as 'low'.*bins=None and fit\(X, y, stratum=y\)"):
        ts.TorchClassifier(**settings).fit(X, np.where(np.arange(80) % 2, "high", "low"))
