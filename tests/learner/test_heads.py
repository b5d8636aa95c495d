"""Several targets of one network: numbers beside classes, in fits, files, searches and benchmarks."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import cross_val_score

import torchstrata as ts
from torchstrata.learner.classifier import Labels

L = ts.layers
RNG = np.random.default_rng(0)
N = 160
X = pd.DataFrame(RNG.normal(size=(N, 3)), columns=list("abc"))
Y = pd.DataFrame({
    "price": 1000 + 300 * X["a"] + 30 * RNG.normal(size=N),
    "kind": (X["b"] > 0.5) * 1 + (X["b"] > -0.5) * 5,
    "flag": np.where(X["c"] > 0, 7, 3),
})  # fmt: skip
LOSS = {"price": "mse", "kind": "cross_entropy", "flag": "cross_entropy"}


def learner(**settings):
    given = {"network": ts.MLP((16,)), "loss": LOSS, "max_epochs": 8, "random_state": 0,
             "optimizer": ts.optim.Adam(lr=1e-2), **settings}  # fmt: skip
    return ts.TorchRegressor(**given)


@pytest.fixture(scope="module")
def fitted():
    return learner(max_epochs=30).fit(X, Y)


def test_predictions_are_in_the_units_of_each_column(fitted):
    predicted = fitted.predict(X)
    assert fitted.network_[-1].out_features == 1 + 3 + 1
    assert np.corrcoef(predicted[:, 0], Y["price"])[0, 1] > 0.9 and 700 < predicted[:, 0].mean() < 1300
    assert set(predicted[:, 1]) <= {0.0, 5.0, 6.0} and set(predicted[:, 2]) == {3.0, 7.0}
    assert fitted.head_names == ["price", "kind", "flag"]


def test_a_head_alone_learns_what_a_learner_of_its_own_does():
    one = learner(loss={"price": "mse"}, network=ts.Linear()).fit(X, Y[["price"]])
    plain = learner(loss="mse", network=ts.Linear()).fit(X, Y["price"])
    np.testing.assert_allclose(one.predict(X)[:, 0], plain.predict(X), rtol=1e-6)


def test_no_training_rows_are_kept(fitted):
    assert all(not head._last for head in fitted._target.heads.values() if isinstance(head, Labels))


def test_saved_pickled_and_cloned(fitted, tmp_path):
    loaded = ts.load(fitted.save(tmp_path / "heads"))
    for again in (loaded, pickle.loads(pickle.dumps(fitted))):
        np.testing.assert_array_equal(again.predict(X), fitted.predict(X))
        np.testing.assert_array_equal(again.head("kind").predict_proba(X), fitted.head("kind").predict_proba(X))
        assert again.score(X, Y) == fitted.score(X, Y)
    np.testing.assert_array_equal(clone(fitted).set_params(max_epochs=30).fit(X, Y).predict(X), fitted.predict(X))


def test_weights_of_heads_and_rows_count():
    only = learner(loss=ts.Heads(LOSS, weights={"kind": 0, "flag": 0}), max_epochs=20).fit(X, Y)
    assert only.head("price").score(X, Y["price"]) > 0.8
    half = np.arange(N) % 2
    kept = learner(batch_size="all", network=ts.Linear(), encoder=None)
    weighted = clone(kept).fit(X, Y, sample_weight=half.astype(float))
    alone = clone(kept).fit(X[half == 1], Y[half == 1])
    np.testing.assert_allclose(weighted.predict(X), alone.predict(X), rtol=1e-4)


def test_validation_and_early_stopping():
    made = learner(valid=0.25, scoring=[ts.head_scorer("flag", "roc_auc"), ts.head_scorer("price", "r2")],
                   max_epochs=40, early_stopping=ts.EarlyStopping(2)).fit(X, Y)  # fmt: skip
    history = made.history_
    assert made.best_score_ == history["valid_flag_roc_auc"].max() and made.stop_reason_ != "max_epochs"
    assert {"train_price_r2", "valid_price_r2", "valid_loss"} <= set(history)


def test_a_graph_of_heads_in_a_search_and_a_benchmark():
    trunk = ts.Chain([L.Linear(16), L.ReLU()], name="trunk")(ts.Input())
    network = ts.Graph({
        "flag": L.Head()(trunk),
        "kind": L.Head()(ts.Chain([L.Linear(8), L.ReLU()], name="own")(trunk)),
        "price": L.Head()(trunk),
    })  # fmt: skip
    made = learner(network=network, loss=ts.Heads(LOSS))
    values = {"loss__weights": [{"kind": 1.0}, {"kind": 4.0}], "network__own__linear__out_features": [4, 8],
              "loss__price": ["mse", "huber"]}  # fmt: skip
    search = ts.GridSearchCV(made, values, cv=2).fit(X, Y)
    assert search.best_score_ > 0.5 and len(search.cv_results_["params"]) == 8
    task = ts.Task(pd.concat([X, Y], axis=1), target=list(Y))
    scoring = {"kind": ts.head_scorer("kind", "accuracy"), "price": ts.head_scorer("price", "r2"), "all": "r2"}
    result = ts.benchmark(task, {"heads": made}, cv=2, scoring=scoring, progress=False)
    assert not len(result.errors) and (result.scores.query("measure == 'price'")["value"] > 0.5).all()
    assert set(result.predictions["target"]) == set(Y)


@pytest.mark.parametrize(
    ("loss", "y", "message"),
    [
        ({"price": "mse", "kind": "cross_entropy"}, Y, r"columns \['price', 'kind', 'flag'\] and the loss has the"),
        (dict(reversed(LOSS.items())), Y, "they must be the same"),
        (LOSS, Y["price"], r"y has shape \(160,\) and the loss has the heads"),
        (LOSS, Y.to_numpy()[:, :2], r"y has shape \(160, 2\)"),
        (LOSS, Y.assign(kind=Y["kind"].astype(str)), r"column 'kind' of y is .*astype\('category'\).cat.codes"),
        ({**LOSS, "price": "cross_entropy"}, Y, "head 'price': Unknown label type"),
        ({**LOSS, "price": "poisson"}, Y.assign(price=-1.0), "head 'price': .*y must be >= 0"),
        (LOSS, Y.assign(flag=3), r"head 'flag': y has one class"),
        (LOSS, Y.assign(price=np.nan), "NaN"),
    ],
)  # fmt: skip
def test_targets_that_do_not_fit_are_named(loss, y, message):
    with pytest.raises(ValueError, match=message):
        learner(loss=loss).fit(X, y)


def test_class_weight_is_for_classifiers():
    with pytest.raises(ts.ConfigError, match="weigh the heads"):
        learner(class_weight="balanced").fit(X, Y)


def test_a_loss_of_several_outputs_gets_all():
    seen = []

    def loss(output, target):
        seen.append((output.shape[1], target.shape[1]))
        return (output[:, :2] - target).square().mean() + output[:, 2].square().mean()

    loss.traits = ts.losses.mse.traits

    class Three(torch.nn.Module):
        def __init__(self, shapes, n_outputs):
            super().__init__()
            self.layer = torch.nn.Linear(shapes["number"][0], n_outputs + 1)

        def forward(self, x):
            return self.layer(x)

    with pytest.raises(ts.ConfigError, match=r"returned shape \(2, 3\) for 2 rows, expected \(2, 2\)"):
        learner(network=Three, loss=loss).fit(X, Y[["price", "flag"]])
    made = learner(loss=lambda o, t: (seen.append((o.shape[1], t.shape[1])), (o - t).square().mean())[1], max_epochs=1)
    made.fit(X, Y[["price", "flag"]].to_numpy() / 1000)
    assert set(seen) == {(2, 2)}


def test_cross_validation_by_scikit_learn():
    scores = cross_val_score(learner(), X, Y, cv=2, scoring=ts.head_scorer("flag", "accuracy"))
    assert (scores > 0.6).all()


def test_a_class_without_weight_cannot_be_learnt():
    """As TorchClassifier has it."""
    with pytest.raises(ts.DataError, match=r"head 'kind': class 6.0 has total weight 0"):
        learner().fit(X, Y, sample_weight=(Y["kind"] != 6).astype(float))
