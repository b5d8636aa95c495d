"""The steps that are written out give what autograd gives."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

import torchstrata as ts
from torchstrata.batches.loader import Rows
from torchstrata.batches.samplers import plan_batches
from torchstrata.data.encode import Shapes
from torchstrata.network.tabular import Outputs
from torchstrata.training import claims
from torchstrata.training.engine import train
from torchstrata.training.loss import resolve_loss
from torchstrata.training.runtime import Runtime, Seeds

ACTIVATIONS = ["relu", "leaky_relu", "elu", "selu", "gelu", "silu", "tanh", "sigmoid", "softplus", "identity"]
NORMALISED = ts.losses.aum(normalize=True)
CLASSIFYING = [
    "cross_entropy",
    ts.losses.cross_entropy(label_smoothing=0.1),
    "aum",
    ts.losses.aum(margin=1.0),
    NORMALISED,
    "pairwise_squared_hinge",
    "pairwise_logistic",
    "auc_margin",
    "focal",
    "logit_adjusted",
    "ldam",
]
REGRESSING = ["mse", "mae", ts.losses.huber(delta=0.5), ts.losses.quantile(quantile=0.8), nn.SmoothL1Loss()]
OPTIMIZERS = [
    ts.optim.SGD(lr=0.05),
    ts.optim.SGD(lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.01),
    ts.optim.SGD(lr=0.05, momentum=0.5, dampening=0.1),
    ts.optim.Adam(lr=0.01, weight_decay=0.1),
    ts.optim.AdamW(lr=0.01, betas=(0.8, 0.99), eps=1e-6),
]
SCHEDULES = [None, ts.schedules.CosineAnnealingLR(), ts.schedules.OneCycleLR(max_lr=0.05), ts.schedules.StepLR(2)]


def fit(network, loss, optimizer, *, path, n=41, outputs=1, weighted=False, categories=False, batch=8, **runtime):
    kind = "regression" if loss in REGRESSING else "classification"
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.normal(size=(n, 5)))
    y = torch.from_numpy(rng.normal(size=(n, outputs)) if kind == "regression" else (rng.random(n) < 0.4).astype(float))
    if outputs > 1 and kind == "classification":
        y = torch.from_numpy(rng.integers(0, outputs, n))
    w = torch.from_numpy(rng.integers(0, 3, n) + 0.5) if weighted else None
    shapes, x_in = Shapes({"number": (5,)}), x
    if categories:
        shapes = Shapes({"number": (5,), "category": (2,)}, (3, 4))
        x_in = {"number": x, "category": torch.from_numpy(np.c_[rng.integers(0, 3, n), rng.integers(0, 4, n)])}
    torch.manual_seed(1)
    module = network(shapes, outputs).double()
    schedule = runtime.pop("schedule", None)
    decisions = Runtime("cpu", precision="float64", **runtime).decide(parameters=1000, batch_rows=8)
    with pytest.MonkeyPatch.context() as patch:
        if path == "autograd":
            patch.setattr(claims, "why_not", lambda *a, **k: "as told")
        torch.manual_seed(2)
        state = train(
            module, Rows(x_in, y, w), loss=resolve_loss(loss, kind), optimizer=optimizer, schedule=schedule,
            plan=plan_batches(ts.RandomBatchSampler(batch), n, None), max_epochs=4, decisions=decisions, seeds=Seeds(0),
        )  # fmt: skip
    taken = decisions.reasons["steps"][0]
    assert taken == path, decisions.reasons["steps"]
    return [p.detach().clone() for p in module.parameters()], [(r["train_loss"], r["lr"]) for r in state.history]


def assert_same(*args, **kwargs):
    mine, my_history = fit(*args, path="written out", **kwargs)
    theirs, their_history = fit(*args, path="autograd", **kwargs)
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(my_history, their_history, rtol=1e-10)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_every_activation(activation, dropout):
    assert_same(ts.MLP((7, 6), activation=activation, dropout=dropout), "cross_entropy", ts.optim.AdamW(lr=0.01))


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=repr)
def test_every_optimizer(optimizer):
    assert_same(ts.MLP((6,)), "mse", optimizer)


@pytest.mark.parametrize("loss", CLASSIFYING + REGRESSING, ids=repr)
@pytest.mark.parametrize("weighted", [False, True])
def test_every_loss(loss, weighted):
    assert_same(ts.MLP((6,), activation="tanh"), loss, ts.optim.SGD(lr=0.1), weighted=weighted)


@pytest.mark.parametrize(
    "loss", ["cross_entropy", "focal", "logit_adjusted", "ldam", "mse", nn.CrossEntropyLoss()], ids=repr
)
def test_several_outputs(loss):
    assert_same(ts.MLP((6,)), loss, ts.optim.Adam(lr=0.01), outputs=3, weighted=True)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_combination(data):
    draw = data.draw
    hidden = tuple(draw(st.lists(st.integers(1, 9), max_size=3)))
    network = ts.MLP(hidden, activation=draw(st.sampled_from(ACTIVATIONS)), dropout=draw(st.sampled_from([0.0, 0.3])))
    loss, optimizer = draw(st.sampled_from(CLASSIFYING + REGRESSING)), draw(st.sampled_from(OPTIMIZERS))
    assume(loss is not NORMALISED or isinstance(optimizer, ts.optim.SGD))  # else it is not claimed: tested below
    assert_same(
        network,
        loss,
        optimizer,
        n=draw(st.integers(4, 50)),
        batch=draw(st.sampled_from([1, 3, 8, "all"])),
        weighted=draw(st.booleans()),
        categories=draw(st.booleans()),
        clip_norm=draw(st.sampled_from([None, 0.1])),
        schedule=draw(st.sampled_from(SCHEDULES)),
    )


def test_linear_without_bias_and_with_categories():
    assert_same(
        lambda shapes, n: ts.Linear()(shapes, Outputs(n, bias=False)), "aum", ts.optim.SGD(lr=0.1), categories=True
    )


class Own(nn.Sequential):
    def forward(self, x):
        return super().forward(x) * 2


def shared(shapes, n):
    layer = nn.Linear(5, 5)
    return nn.Sequential(layer, nn.ReLU(), layer, nn.ReLU(), nn.Linear(5, n))


def two_activations(shapes, n):
    return nn.Sequential(nn.Linear(5, 4, bias=False), nn.Tanh(), nn.Dropout(0.1), nn.ReLU(), nn.Linear(4, n))


def hooked(shapes, n):
    net = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, n))
    net[1].register_forward_hook(lambda m, i, o: o * 2)
    return net


@pytest.mark.parametrize(
    ("network", "optimizer", "runtime"),
    [
        (ts.MLP((4,), norm="batch"), ts.optim.AdamW(), {}),
        (ts.MLP((4,), norm="layer"), ts.optim.AdamW(), {}),
        (lambda s, n: nn.Sequential(nn.Linear(5, 4), nn.PReLU(), nn.Linear(4, n)), ts.optim.AdamW(), {}),
        (lambda s, n: nn.Sequential(nn.Linear(5, 4), nn.Linear(4, n)), ts.optim.AdamW(), {}),
        (lambda s, n: nn.Sequential(nn.ReLU(), nn.Linear(5, n)), ts.optim.AdamW(), {}),
        (lambda s, n: nn.Sequential(nn.Linear(5, n), nn.ReLU()), ts.optim.AdamW(), {}),
        (two_activations, ts.optim.AdamW(), {}),
        (lambda s, n: Own(nn.Linear(5, n)), ts.optim.AdamW(), {}),
        (shared, ts.optim.AdamW(), {}),
        (hooked, ts.optim.AdamW(), {}),
        (ts.MLP((4,)), ts.optim.AdamW(amsgrad=True), {}),
        (ts.MLP((4,)), ts.optim.Adam(maximize=True), {}),
        (ts.MLP((4,)), ts.optim.RMSprop(), {}),
        (ts.MLP((4,)), torch.optim.AdamW, {}),
        (ts.MLP((4,)), ts.optim.AdamW(), {"accumulate": 2}),
    ],
)  # fmt: skip
def test_what_is_not_claimed_goes_through_autograd(network, optimizer, runtime):
    module = network(Shapes({"number": (5,)}), 1).double()
    x = torch.zeros(4, 5, dtype=torch.float64)
    decisions = Runtime("cpu", precision="float64", **runtime).decide(parameters=1000, batch_rows=8)
    assert claims.why_not(module, Rows(x, x[:, 0]), optimizer, decisions, others={})


@pytest.mark.parametrize("optimizer", [o for o in OPTIMIZERS if not isinstance(o, ts.optim.SGD)], ids=repr)
def test_a_normalised_loss_is_not_claimed_where_rounding_would_grow(optimizer):
    module = ts.MLP((4,))(Shapes({"number": (5,)}), 1).double()
    x = torch.zeros(4, 5, dtype=torch.float64)
    decisions = Runtime("cpu", precision="float64").decide(parameters=1000, batch_rows=8)
    given = (module, Rows(x, x[:, 0]), optimizer, decisions)
    assert "no slope along the scale" in claims.why_not(*given, others={}, loss=NORMALISED)
    assert not claims.why_not(*given, others={}, loss=ts.losses.aum)
    fit(ts.MLP((4,)), NORMALISED, optimizer, path="autograd")  # as told, and it trains


def test_a_hidden_layer_without_bias_is_known():
    def network(shapes, n):
        return nn.Sequential(nn.Linear(5, 4, bias=False), nn.Tanh(), nn.Linear(4, n))

    assert_same(network, "mse", ts.optim.Adam(lr=0.01))


def test_a_learner_says_which_steps_it_took():
    x, y = np.random.default_rng(0).normal(size=(40, 3)), np.arange(40) % 2
    plain = ts.TorchClassifier(max_epochs=1, random_state=0).fit(x, y)
    assert plain.runtime_.reasons["steps"] == ("written out", "nothing against it")

    class Watch(ts.Callback):
        def on_batch_end(self, state):
            assert torch.isfinite(state.loss)

    watched = ts.TorchClassifier(max_epochs=1, random_state=0, callbacks=[Watch()]).fit(x, y)
    assert watched.runtime_.reasons["steps"] == ("autograd", "a batch hook set")
    np.testing.assert_allclose(plain.predict_proba(x), watched.predict_proba(x), atol=1e-6)


def test_gradients_of_the_module_are_left_alone():
    x, y = np.random.default_rng(0).normal(size=(40, 3)), np.arange(40) % 2
    net = ts.TorchClassifier(max_epochs=1, random_state=0).fit(x, y).network_
    assert all(p.grad is None and p.requires_grad for p in net.parameters())
    net(torch.zeros(2, 3)).sum().backward()  # an ordinary module afterwards
    assert all(p.grad is not None for p in net.parameters())
