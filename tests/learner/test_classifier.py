import pickle

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, roc_auc_score

import torchstrata as ts

RNG = np.random.default_rng(7)
X = RNG.normal(size=(90, 3))
Y = (X[:, 0] + 0.3 * RNG.normal(size=90) > 0.4).astype(int)


def learner(**settings):
    base = {"network": ts.MLP((5,)), "optimizer": ts.optim.AdamW(lr=0.02), "max_epochs": 3, "random_state": 0}
    settings = {**base, "runtime": "cpu", **settings}
    return ts.TorchClassifier(**settings)


def test_it_learns_and_finds_what_logistic_regression_finds():
    full = {"optimizer": ts.optim.LBFGS(max_iter=50), "max_epochs": 20, "batch_size": "all", "encoder": None}
    mine = learner(network=ts.Linear(), runtime=ts.Runtime("cpu", precision="float64"), **full).fit(X, Y)
    theirs = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(X, Y)
    np.testing.assert_allclose(mine.predict_proba(X), theirs.predict_proba(X), atol=1e-4)


LABELS = {
    "text": np.array(["no", "yes"]),
    "bool": np.array([False, True]),
    "plus_minus": np.array([-1, 1]),
    "odd_numbers": np.array([5, 9]),
    "floats": np.array([0.0, 1.0]),
}


@pytest.mark.parametrize("name", LABELS)
def test_labels_come_back_in_their_own_type(name):
    y = LABELS[name][Y]
    fitted = learner(max_epochs=30).fit(X, y)
    assert fitted.classes_.tolist() == LABELS[name].tolist()
    assert fitted.predict(X).dtype == y.dtype
    assert np.array_equal(fitted.predict(X), LABELS[name][(fitted.predict_proba(X)[:, 1] > 0.5).astype(int)])
    assert fitted.score(X, y) > 0.85


@pytest.mark.parametrize("make", [list, tuple, pd.Series, pl.Series, torch.tensor, lambda y: np.array(y, dtype=object)])
def test_containers_of_labels_are_equal(make):
    y = [int(v) for v in Y]
    np.testing.assert_array_equal(learner().fit(X, make(y)).predict_proba(X), learner().fit(X, Y).predict_proba(X))


@pytest.mark.parametrize(
    "y",
    [
        pd.Series(pd.Categorical(np.where(Y, "b", "a"), categories=["c", "b", "a"])),
        pl.Series(np.where(Y, "b", "a").tolist(), dtype=pl.Categorical),
        pd.Series(np.where(Y, "b", "a"), dtype="string"),
        pd.Series(np.where(Y, "b", "a"), dtype=object),
    ],
    ids=["pandas-categorical", "polars-categorical", "string", "object"],
)
def test_categories_are_sorted_by_label_and_unused_levels_do_not_count(y):
    fitted = learner().fit(X, y)
    assert fitted.classes_.tolist() == ["a", "b"]
    assert set(fitted.predict(X)) <= {"a", "b"}


@pytest.mark.parametrize("y", [pd.Series(Y, dtype="Int64"), pd.Series(Y, dtype="boolean")], ids=["Int64", "boolean"])
def test_nullable_labels(y):
    assert learner().fit(X, y).classes_.tolist() == [0, 1]


def test_the_positive_class_is_the_second_one():
    y = np.where(Y, "sick", "healthy")
    fitted = learner(max_epochs=30).fit(X, y)
    assert fitted.classes_[1] == "sick"
    decision = fitted.decision_function(X)
    assert decision.shape == (90,) and decision.dtype == np.float64
    assert roc_auc_score(Y, decision) > 0.9
    np.testing.assert_array_equal(fitted.predict(X) == "sick", decision > 0)
    np.testing.assert_allclose(fitted.predict_proba(X)[:, 1], 1 / (1 + np.exp(-decision)), rtol=1e-12)
    np.testing.assert_allclose(fitted.predict_proba(X).sum(1), 1)


def test_several_classes():
    y = np.array(["low", "mid", "top"])[np.digitize(X[:, 0], [-0.5, 0.5])]
    fitted = learner(max_epochs=60, optimizer=ts.optim.AdamW(lr=0.02)).fit(X, y)
    assert fitted.decision_function(X).shape == fitted.predict_proba(X).shape == (90, 3)
    np.testing.assert_allclose(fitted.predict_proba(X).sum(1), 1)
    assert np.array_equal(fitted.predict(X), fitted.classes_[fitted.predict_proba(X).argmax(1)])
    assert fitted.score(X, y) > 0.9


def test_two_outputs_of_a_torch_loss_are_one_score():
    fitted = learner(loss=torch.nn.CrossEntropyLoss(), max_epochs=30).fit(X, Y)
    assert fitted.decision_function(X).shape == (90,) and fitted.predict_proba(X).shape == (90, 2)
    assert roc_auc_score(Y, fitted.decision_function(X)) > 0.9


@pytest.mark.parametrize(
    "loss", [torch.nn.BCEWithLogitsLoss(), torch.nn.CrossEntropyLoss()], ids=lambda m: type(m).__name__
)
def test_torch_losses_take_weights(loss):
    weight = np.where(np.arange(90) < 45, 1.0, 0.0)
    settings = {"loss": loss, "batch_size": "all", "encoder": None}
    weighted = learner(**settings).fit(X, Y, sample_weight=weight)
    alone = learner(**settings).fit(X[:45], Y[:45])
    np.testing.assert_allclose(weighted.predict_proba(X), alone.predict_proba(X), atol=1e-6)


def test_a_function_is_a_loss():
    def squared(output, target):
        return ((torch.sigmoid(output.flatten()) - target) ** 2).mean()

    assert learner(loss=squared, max_epochs=30).fit(X, Y).score(X, Y) > 0.8
    with pytest.raises(ts.ConfigError, match=r"takes no .*weight"):
        learner(loss=squared).fit(X, Y, sample_weight=np.ones(90))


# class and sample weights


@pytest.mark.parametrize("weights", ["balanced", {0: 0.5 * 90 / (Y == 0).sum(), 1: 0.5 * 90 / (Y == 1).sum()}])
def test_class_weights_are_sample_weights(weights):
    by_row = np.where(Y == 1, 0.5 * 90 / (Y == 1).sum(), 0.5 * 90 / (Y == 0).sum())
    got = learner(class_weight=weights).fit(X, Y)
    wanted = learner().fit(X, Y, sample_weight=by_row)
    np.testing.assert_allclose(got.predict_proba(X), wanted.predict_proba(X), atol=1e-6)
    assert np.abs(got.predict_proba(X) - learner().fit(X, Y).predict_proba(X)).max() > 1e-4


def test_balanced_counts_weights_so_that_rows_of_weight_zero_are_absent():
    weight = np.r_[np.ones(50), np.zeros(40)]
    settings = {"class_weight": "balanced", "batch_size": "all", "encoder": None}
    weighted = learner(**settings).fit(X, Y, sample_weight=weight)
    alone = learner(**settings).fit(X[:50], Y[:50])
    np.testing.assert_allclose(weighted.predict_proba(X), alone.predict_proba(X), atol=1e-6)


def test_class_weight_by_label_of_text():
    y = np.where(Y, "yes", "no")
    heavy = learner(class_weight={"yes": 50.0}, max_epochs=20).fit(X, y)
    assert (heavy.predict(X) == "yes").mean() > (learner(max_epochs=20).fit(X, y).predict(X) == "yes").mean()


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ("balance", "'balanced', a dict"),
        ({"yess": 2.0}, "no class of y. Did you mean 'yes'"),
        ({"yes": -1.0}, "finite numbers >= 0"),
        ({"yes": float("nan")}, "finite numbers >= 0"),
        ({"yes": 0, "no": 0}, "not all zero"),
        ([1, 2], "'balanced', a dict"),
    ],
)
def test_class_weights_that_cannot_work(weights, message):
    with pytest.raises(ts.ConfigError, match=message):
        learner(class_weight=weights).fit(X, np.where(Y, "yes", "no"))


# losses that only rank


def test_aum_ranks_and_says_that_it_has_no_probabilities():
    fitted = learner(loss="aum", max_epochs=20).fit(X, Y)
    assert roc_auc_score(Y, fitted.decision_function(X)) > 0.9
    assert not hasattr(fitted, "predict_proba")
    with pytest.raises(AttributeError, match="predict_proba") as caught:
        fitted.predict_proba(X)
    assert "set valid=0.2" in str(caught.value.__cause__)
    assert fitted.calibration_.rows == "train"
    assert abs(int(fitted.predict(X).sum()) - int(Y.sum())) <= 1  # as many as are positive


@pytest.mark.parametrize("how", ["ratio", "pair"])
def test_aum_is_calibrated_on_validation_rows(how):
    fitted = learner(loss="aum", max_epochs=20, valid=0.4 if how == "ratio" else None)
    fitted.fit(X, Y, valid_set=(X[:40], Y[:40]) if how == "pair" else None)
    assert fitted.calibration_.rows == "valid"
    proba = fitted.predict_proba(X)
    assert proba.shape == (90, 2)
    np.testing.assert_allclose(proba.sum(1), 1)
    by_score = np.argsort(fitted.decision_function(X))
    assert (np.diff(proba[by_score, 1]) >= 0).all()
    assert abs(proba[:, 1].mean() - Y.mean()) < 0.15
    if how == "pair":
        assert (fitted.predict(X[:40]) == 1).sum() == Y[:40].sum()


def test_calibration_never_turns_the_ranking_round():
    """Validation rows with the labels exchanged: a free slope would be negative."""
    fitted = learner(loss="aum", max_epochs=20).fit(X, Y, valid_set=(X, 1 - Y))
    score, proba = fitted.decision_function(X), fitted.predict_proba(X)[:, 1]
    assert fitted.calibration_.slope > 0
    assert (np.diff(proba[np.argsort(score)]) >= 0).all() and proba.max() > proba.min()
    assert roc_auc_score(Y, proba) > 0.9


def test_aum_rows_of_weight_zero_are_absent_from_the_threshold_too():
    weight = np.r_[np.ones(50), np.zeros(40)]
    settings = {"loss": "aum", "batch_size": "all", "encoder": None, "max_epochs": 10}
    weighted = learner(**settings).fit(X, Y, sample_weight=weight)
    alone = learner(**settings).fit(X[:50], Y[:50])
    np.testing.assert_allclose(weighted.decision_function(X), alone.decision_function(X), atol=1e-6)


def test_aum_validation_with_one_class_keeps_a_threshold():
    fitted = learner(loss="aum").fit(X, Y, valid_set=(X[Y == 1], Y[Y == 1]))
    assert np.isfinite(fitted.predict_proba(X)).all()


def test_aum_is_for_two_classes():
    with pytest.raises(ts.DataError, match="two classes; y has 3 classes"):
        learner(loss="aum").fit(X, np.digitize(X[:, 0], [-0.5, 0.5]))


def test_aum_has_no_bias_in_its_head():
    assert learner(network=ts.Linear(), loss="aum").fit(X, Y).network_.bias is None


def test_labels_scored_during_an_aum_fit_are_those_the_learner_predicts():
    settings = {"loss": "aum", "scoring": ("accuracy",), "early_stopping": ts.EarlyStopping(3)}
    fitted = learner(max_epochs=15, **settings).fit(X, Y, valid_set=(X[:40], Y[:40]))
    assert fitted.best_score_ == accuracy_score(Y[:40], fitted.predict(X[:40]))


# scikit-learn's habits


def test_clone_pickle_and_repr():
    first = learner(optimizer=ts.optim.SGD(lr=0.1), batch_sampler=ts.StratifiedBatchSampler(2))
    first.fit(X, Y, stratum=Y)
    again = clone(first)
    assert again.get_params() == first.get_params() and not hasattr(again, "network_")
    np.testing.assert_array_equal(again.fit(X, Y, stratum=Y).predict_proba(X), first.predict_proba(X))
    loaded = pickle.loads(pickle.dumps(first))
    np.testing.assert_array_equal(loaded.predict_proba(X), first.predict_proba(X))
    assert "SGD(lr=0.1" in repr(first) and "StratifiedBatchSampler(" in repr(first)
    assert repr(ts.TorchClassifier()) == "TorchClassifier()"
    assert "TorchClassifier" in first._repr_html_()


@pytest.mark.parametrize("method", ["predict", "predict_proba", "decision_function"])
def test_not_fitted(method):
    with pytest.raises(NotFittedError, match="TorchClassifier instance is not fitted yet"):
        getattr(ts.TorchClassifier(), method)(X)


def test_a_fitted_learner_holds_no_training_rows():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(20_000, 2)), rng.integers(0, 2, 20_000)
    learner = ts.TorchClassifier(ts.Linear(), max_epochs=1, batch_size=5000, random_state=0).fit(X, y)
    assert len(pickle.dumps(learner)) < 40_000  # y alone is 160,000 bytes
