"""Gradient descent with the exact best step: as an optimizer, and for a last layer."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

import torchstrata as ts
from torchstrata.errors import ConfigError, DataError
from torchstrata.training.descent import AUMLineSearch, step_last_layer
from torchstrata.training.linesearch import aum_along
from torchstrata.training.losses import aum


def make_data(n=120, seed=0):
    rng = np.random.default_rng(seed)
    y = (rng.random(n) < 0.3).astype(int)
    return rng.normal(size=(n, 4)) + y[:, None] * np.array([1.0, 0.5, 0.0, -0.3]), y


def make_learner(**settings):
    given = {"loss": "aum", "optimizer": ts.optim.AUMLineSearch(), "batch_size": "all", "max_epochs": 8,
             "runtime": ts.Runtime("cpu", precision="float64"), "random_state": 0, "encoder": None}  # fmt: skip
    return ts.TorchClassifier(ts.Linear(), **{**given, **settings})


def test_auc_rises_epoch_by_epoch_to_that_of_a_discriminant():
    x, y = make_data()
    learner = make_learner(scoring="roc_auc").fit(x, y)
    # the history scores the outputs before the step of the epoch
    assert (np.diff(learner.history_["train_roc_auc"]) >= -1e-12).all()
    assert roc_auc_score(y, learner.decision_function(x)) > roc_auc_score(y, x[:, 0]) + 0.01
    assert learner.runtime_.reasons["steps"] == ("autograd", "AUMLineSearch() is not written out")


def test_a_step_is_the_best_of_all_steps_along_the_gradient():
    x, y = make_data()
    before = make_learner(max_epochs=0).fit(x, y).network_.weight.detach().double().clone()
    after = make_learner(max_epochs=1).fit(x, y).network_.weight.detach().double()
    features, labels = torch.from_numpy(x), torch.from_numpy(y)
    weight = before.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(aum((features @ weight.t())[:, 0], labels), weight)
    step = ((before - after) / gradient).flatten()
    assert step.min() == pytest.approx(step.max().item(), rel=1e-9)
    table = aum_along(features @ before.flatten(), -(features @ gradient.flatten()), labels)
    found = roc_auc_score(y, x @ after.flatten().numpy())
    assert found == pytest.approx(table["auc_after"].max(), abs=1e-12)


def test_by_aum_falls_and_lr_is_the_step():
    x, y = make_data()
    learner = make_learner(optimizer=ts.optim.AUMLineSearch(by="aum"), max_epochs=5).fit(x, y)
    assert (np.diff(learner.history_["train_loss"]) <= 1e-12).all()
    assert learner.history_["lr"].iloc[0] == 0
    assert (learner.history_["lr"].iloc[1:] > 0).any()


def test_weights_rows_of_weight_zero_and_categories():
    x, y = make_data()
    weight = np.arange(len(y)) % 3
    kept = weight > 0
    a = make_learner().fit(x, y, sample_weight=weight.astype(float)).network_.weight
    b = make_learner().fit(x[kept], y[kept], sample_weight=weight[kept].astype(float)).network_.weight
    torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


def test_another_loss_gives_the_direction_and_batches_may_be_small():
    x, y = make_data()
    learner = make_learner(loss="cross_entropy", batch_size=40, max_epochs=3).fit(x, y)
    assert roc_auc_score(y, learner.decision_function(x)) > 0.7


def test_a_batch_of_one_class_stays_where_it_is():
    x, y = make_data()
    y = np.sort(y)

    def in_order(n, strata, *, epoch=0, seed=0, rank=0, world_size=1):
        return [np.arange(0, 20), np.arange(20, n)]

    with pytest.warns(UserWarning, match="learns nothing from a batch of one class"):
        state = make_learner(batch_sampler=in_order, max_epochs=2).fit(x, y)
    assert np.isfinite(state.history_["train_loss"]).all()


@pytest.mark.parametrize("network", [ts.MLP((5,)), ts.MLP((5,), activation="tanh")], ids=repr)
def test_a_network_that_is_not_linear_is_refused(network):
    x, y = make_data()
    with pytest.raises(ConfigError, match="needs a network that is linear in its weights"):
        make_learner().set_params(network=network).fit(x, y)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"by": "acu"}, "by must be 'auc' or 'aum', got 'acu'. Did you mean"),
        ({"max_steps": 0}, "max_steps must be"),
    ],
)
def test_settings_are_checked_where_they_are_typed(settings, message):
    with pytest.raises(ConfigError, match=message):
        AUMLineSearch(**settings)


def test_it_does_not_accumulate_and_needs_the_scores():
    x, y = make_data()
    with pytest.raises(ConfigError, match="LineSearch looks at the loss several times a step"):
        make_learner(runtime=ts.Runtime("cpu", accumulate=2)).fit(x, y)
    layer = torch.nn.Linear(2, 1)
    with pytest.raises(ConfigError, match="must see the scores"):
        AUMLineSearch()(layer.parameters()).step(lambda: layer.weight.sum())


def test_name_settings_and_clone():
    from sklearn.base import clone

    learner = make_learner(optimizer="aumlinesearch")
    x, y = make_data()
    assert make_learner().fit(x, y).network_.weight.equal(learner.fit(x, y).network_.weight)
    changed = clone(make_learner()).set_params(optimizer__by="aum")
    assert changed.optimizer == ts.optim.AUMLineSearch(by="aum")


def test_last_layer_of_a_network():
    x, y = make_data()
    torch.manual_seed(0)
    inner = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh()).double()
    layer = torch.nn.Linear(8, 1).double()
    features, labels = inner(torch.from_numpy(x)).detach(), torch.from_numpy(y)
    auc, bias = [], layer.bias.detach().clone()
    for _ in range(6):
        auc.append(roc_auc_score(y, layer(features).detach().numpy()))
        assert step_last_layer(layer, features, labels) >= 0
    assert (np.diff(auc) >= -1e-12).all()
    assert auc[-1] > auc[0] + 0.05
    assert torch.equal(layer.bias, bias)
    with pytest.raises(ConfigError, match="a layer with one output, got 2"):
        step_last_layer(torch.nn.Linear(8, 2).double(), features, labels)
    with pytest.raises(DataError, match="rows of both classes"):
        step_last_layer(layer, features, torch.zeros(len(y)))
