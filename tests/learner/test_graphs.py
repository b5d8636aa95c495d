"""Chains and graphs in learners: the path they are trained by, searches, images, two branches, saving."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_wine
from torch import nn

import torchstrata as ts

L = ts.layers


def small_chain():
    return ts.Chain([
        L.Linear(16, name="stem"),
        ts.Choice({"relu": L.ReLU(), "gelu": L.GELU()}, selected="relu", name="act"),
        ts.Block(ts.Chain([L.Linear(8), L.ReLU()]), repeat=2, name="block"),
        L.Head(),
    ])  # fmt: skip


def residual():
    x = ts.Input("number")
    stem = L.Linear(16, name="stem")(x)
    hidden = L.Linear(16, name="hidden")(L.ReLU()(stem))
    return ts.Graph(L.Head()(L.ReLU(name="last")(L.Add(name="join")(stem, hidden))))


def two_branches():
    table = ts.Chain([L.Linear(8), L.ReLU()], name="table")(ts.Input("number"))
    image = ts.Chain([L.Conv2d(4, 3, padding=1), L.ReLU(), L.AdaptiveAvgPool2d(2), L.Flatten()], name="look")
    return ts.Graph(L.Head()(L.Concat(name="both")(table, image(ts.Input("image")))))


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_a_chain_is_fitted_as_an_mlp_is(dropout):
    X, y = load_wine(return_X_y=True)
    layers = [L.Linear(16), L.ReLU(), L.Dropout(dropout)] if dropout else [L.Linear(16), L.ReLU()]
    fits = [
        ts.TorchClassifier(network, max_epochs=4, random_state=0).fit(X, y)
        for network in (ts.Chain([*layers, L.Head()]), ts.MLP((16,), dropout=dropout))
    ]
    assert [fit.runtime_.reasons["steps"][0] for fit in fits] == ["written out"] * 2
    assert np.array_equal(fits[0].predict_proba(X), fits[1].predict_proba(X))


def test_blocks_and_choices_keep_the_written_out_path():
    X, y = load_diabetes(return_X_y=True)
    learner = ts.TorchRegressor(small_chain(), max_epochs=2, random_state=0).fit(X, y)
    assert learner.runtime_.reasons["steps"] == ("written out", "nothing against it")
    assert [name for name, _ in learner.network_.named_children()] == [
        "stem", "act", "block_1_linear", "block_1_relu", "block_2_linear", "block_2_relu", "head",
    ]  # fmt: skip


def test_a_graph_with_a_shortcut_trains():
    X, y = load_breast_cancer(return_X_y=True)
    learner = ts.TorchClassifier(residual(), max_epochs=10, random_state=0).fit(X, y)
    assert learner.score(X, y) > 0.95
    assert "not written out" in learner.runtime_.reasons["steps"][1]
    again = clone(learner).fit(X, y)
    assert np.array_equal(learner.predict_proba(X), again.predict_proba(X))


def test_a_head_has_no_bias_where_the_loss_ignores_it():
    X, y = load_breast_cancer(return_X_y=True)
    few = {"max_epochs": 1, "random_state": 0}
    for loss, there in [("aum", False), ("cross_entropy", True)]:
        for network in (small_chain(), residual()):
            learner = ts.TorchClassifier(network, loss=loss, **few).fit(X, y)
            assert (learner.network_.head.bias is not None) == there
    forced = small_chain().replace(head__bias=True)
    assert ts.TorchClassifier(forced, loss="aum", **few).fit(X, y).network_.head.bias is not None


def test_images_go_through_convolutions():
    X, y = load_digits(return_X_y=True)
    X, y = X[:300].reshape(-1, 1, 8, 8) / 16, y[:300]
    chain = ts.Chain([
        L.Conv2d(8, 3, padding=1, name="stem"), L.BatchNorm2d(), L.ReLU(), L.MaxPool2d(2), L.Flatten(), L.Head(),
    ])  # fmt: skip
    learner = ts.TorchClassifier(chain, max_epochs=15, random_state=0, optimizer=ts.optim.AdamW(lr=1e-2)).fit(X, y)
    assert learner.score(X, y) > 0.9
    assert learner.get_params()["network__stem__out_channels"] == 8


class Split(TransformerMixin, BaseEstimator):
    """Two inputs from one table: the last columns are small images."""

    def fit(self, X, y=None):
        return self

    def transform(self, X):
        X = np.asarray(X)
        return {"number": X[:, :3], "image": X[:, 3:].reshape(-1, 1, 4, 4)}


def test_a_table_and_an_image_are_joined():
    generator = np.random.default_rng(0)
    X, image = generator.normal(size=(200, 3)), generator.normal(size=(200, 1, 4, 4))
    y = X[:, 0] + 3 * image.mean((1, 2, 3)) > 0  # neither alone says it
    net = two_branches()({"number": (3,), "image": (1, 4, 4)}, 2)
    rows = {"number": torch.randn(5, 3), "image": torch.randn(5, 1, 4, 4)}
    assert net(rows).shape == (5, 2)
    flat = np.hstack([X, image.reshape(200, -1)])
    learner = ts.TorchClassifier(
        two_branches(), encoder=Split(), max_epochs=40, optimizer=ts.optim.AdamW(lr=1e-2), random_state=0
    ).fit(flat, y)
    assert learner.score(flat, y) > 0.9
    assert learner.get_params()["network__look__conv2d__out_channels"] == 4


def test_grid_search_over_depth_width_and_activation():
    X, y = load_wine(return_X_y=True)
    learner = ts.TorchClassifier(small_chain(), max_epochs=3, random_state=0)
    values = {
        "network__block__repeat": [0, 1, 2],
        "network__stem__out_features": [4, 8],
        "network__act__selected": ["relu", "gelu"],
    }
    search = ts.GridSearchCV(learner, values, cv=2).fit(X, y)
    assert len(search.cv_results_["params"]) == 12
    best = search.best_estimator_
    assert {name: best.get_params()[name] for name in values} == search.best_params_
    for i in (0, 7, 11):
        chosen = search.cv_results_["params"][i]
        alone = clone(learner).set_params(**chosen)
        half = np.arange(len(y)) % 2 == 0
        assert 0 <= alone.fit(X[half], y[half]).score(X, y) <= 1
        assert alone.network_[0].out_features == chosen["network__stem__out_features"]
    assert learner.network == small_chain()


def test_search_scores_are_those_of_single_fits():
    from sklearn.model_selection import GridSearchCV

    X, y = load_wine(return_X_y=True)
    learner = ts.TorchClassifier(residual(), max_epochs=3, random_state=0)
    values = {"network__join": [L.Add(), L.Multiply()], "network__hidden__bias": [True, False]}
    ours, plain = (kind(learner, values, cv=2).fit(X, y) for kind in (ts.GridSearchCV, GridSearchCV))
    assert np.allclose(ours.cv_results_["mean_test_score"], plain.cv_results_["mean_test_score"])


def test_grid_of_a_benchmark():
    learner = ts.TorchClassifier(small_chain(), max_epochs=1, random_state=0)
    grid = ts.grid(learner, network__block__repeat=[0, 1], network__act=[L.ReLU(), L.Tanh()])
    result = ts.benchmark(ts.load_task("iris"), {"chain": grid}, cv=2, scoring=["accuracy"], progress=False)
    assert len(result.scores.query("measure == 'accuracy'")) == 8 and result.errors.empty


# saving


@pytest.mark.parametrize("network", [small_chain(), residual()], ids=["chain", "graph"])
def test_saved_and_loaded_without_pickle(tmp_path, network):
    X, y = load_wine(return_X_y=True)
    learner = ts.TorchClassifier(network, max_epochs=2, random_state=0).fit(X, y)
    loaded = ts.load(learner.save(tmp_path / "l"))
    assert loaded.network == network and repr(loaded.network) == repr(network)
    assert np.array_equal(loaded.predict_proba(X), learner.predict_proba(X))
    assert np.array_equal(clone(loaded).fit(X, y).predict_proba(X), learner.predict_proba(X))


def test_saved_with_categories_blocks_and_images(tmp_path):
    X = pd.DataFrame({"a": np.arange(40.0) % 7, "b": list("xyzw") * 10})
    y = np.arange(40) % 4 > 1
    widths = ts.Block(L.Linear(1), vary={"out_features": [6, 5]}, name="widths")
    embedded = L.Flatten()(L.Embedding(4)(ts.Input("category")))
    graph = ts.Graph(L.Head()(widths(L.Concat()(ts.Input("number"), embedded))))
    learner = ts.TorchClassifier(graph, max_epochs=1, random_state=0).fit(X, y)
    loaded = ts.load(learner.save(tmp_path / "l"))
    assert loaded.network == graph
    assert np.array_equal(loaded.predict_proba(X), learner.predict_proba(X))
    image = np.random.default_rng(0).normal(size=(40, 1, 4, 4)).astype(np.float32)
    chain = ts.Chain([L.Conv2d(3, (3, 3)), L.BatchNorm2d(), L.Flatten(), L.Head()])
    learner = ts.TorchClassifier(chain, max_epochs=1, random_state=0).fit(image, y)
    loaded = ts.load(learner.save(tmp_path / "l"))
    assert loaded.network == chain and np.array_equal(loaded.predict_proba(image), learner.predict_proba(image))


class Scaled(nn.Module):
    """Holds a buffer that is in no file."""

    def __init__(self, n):
        super().__init__()
        self.register_buffer("factor", torch.full((n,), 2.0), persistent=False)

    def forward(self, x):
        return x * self.factor


def test_modules_of_your_own_come_back_whole(tmp_path):
    X, y = load_wine(return_X_y=True)
    chain = ts.Chain([L.Linear(4), L.Custom(lambda shape: Scaled(shape[0])), L.Head()])
    learner = ts.TorchClassifier(chain, max_epochs=1, random_state=0).fit(X, y)
    loaded = ts.load(learner.save(tmp_path / "l"), network=chain)
    assert np.array_equal(loaded.predict_proba(X), learner.predict_proba(X))


def own(x):
    return x * 2


def test_functions_of_your_own_are_handed_to_load(tmp_path):
    X, y = load_wine(return_X_y=True)
    chain = ts.Chain([L.Linear(4), ts.Block(L.Function(own), repeat=1), L.Head()])
    learner = ts.TorchClassifier(chain, max_epochs=1, random_state=0).fit(X, y)
    learner.save(tmp_path / "l")
    with pytest.raises(ts.ConfigError, match=r"your own, <function own at .*>: load\(path, network=\.\.\.\)"):
        ts.load(tmp_path / "l")
    loaded = ts.load(tmp_path / "l", network=chain)
    assert np.array_equal(loaded.predict_proba(X), learner.predict_proba(X))
    with pytest.raises(ts.ConfigError, match="does not fit the weights"):
        ts.load(tmp_path / "l", network=chain.replace(linear__out_features=3))


def test_a_learner_refuses_a_misfit_before_training():
    X, y = load_wine(return_X_y=True)
    with pytest.raises(ts.ConfigError, match=r"layer 'conv2d', Conv2d\(3, 3\), cannot take rows of shape \(13,\)"):
        ts.TorchClassifier(ts.Chain([L.Conv2d(3, 3), L.Head()])).fit(X, y)
    with pytest.raises(ts.ConfigError, match=r"as a network it goes into a line: ts.Chain\(\[ReLU\(\)"):
        ts.TorchClassifier(L.ReLU()).fit(X, y)
    with pytest.raises(ts.ConfigError, match="Did you mean 'stem'"):
        ts.TorchClassifier(small_chain()).set_params(network__stm__bias=False)
