"""Every optimizer of torch as a value: torch's own class with torch's own arguments."""

from __future__ import annotations

import functools
import inspect

import pytest
import torch
from torch import nn

import torchstrata as ts
from torchstrata.errors import ConfigError
from torchstrata.training.optim import NAMES, resolve_optimizer

FUSED = ("Adam", "AdamW", "SGD", "Adagrad")
SETTINGS = {
    "SGD": {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01},
    "AdamW": {"lr": 0.01, "betas": (0.8, 0.9), "amsgrad": True},
    "LBFGS": {"lr": 0.5, "max_iter": 4, "line_search_fn": "strong_wolfe"},
    "Muon": {"lr": 0.02},
}


def make_problem(name):
    torch.manual_seed(3)
    if name == "SparseAdam":
        net = nn.Embedding(5, 2, sparse=True)
        return net, torch.tensor([0, 3, 3, 1])
    return nn.Linear(4, 2, bias=name != "Muon"), torch.randn(8, 4)  # Muon is for matrices only


def fit(make_optimizer, name, steps=5):
    net, x = make_problem(name)
    optimizer = make_optimizer(net.parameters())

    def closure():
        optimizer.zero_grad()
        value = (net(x) - 1).square().mean()
        value.backward()
        return value

    for _ in range(steps):
        optimizer.step(closure)
    return optimizer, [p.detach().clone() for p in net.parameters()]


def test_nothing_of_torch_is_missing():
    known = {
        name
        for name, value in vars(torch.optim).items()
        if inspect.isclass(value) and issubclass(value, torch.optim.Optimizer) and value is not torch.optim.Optimizer
    }
    assert set(NAMES) == known


@pytest.mark.parametrize("settings", ["default", "chosen"])
@pytest.mark.parametrize("name", NAMES)
def test_equals_torchs_own_class(name, settings):
    arguments = SETTINGS.get(name, {}) if settings == "chosen" else {}
    torch_class = getattr(torch.optim, name)
    ours, weights = fit(getattr(ts.optim, name)(**arguments), name)
    # with momentum torch's fused SGD breaks where frozen parameters join later: not used
    fused = {"fused": True} if name in FUSED and not arguments.get("momentum") else {}
    theirs, expected = fit(functools.partial(torch_class, **arguments, **fused), name)
    assert type(ours) is torch_class
    assert ours.defaults == theirs.defaults
    for a, b in zip(weights, expected, strict=True):
        assert torch.equal(a, b)
    _, reference = fit(functools.partial(torch_class, **arguments), name)
    for a, b in zip(weights, reference, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_has_torchs_own_arguments_and_defaults(name):
    signature = inspect.signature(getattr(torch.optim, name).__init__).parameters
    expected = {p: v.default for p, v in signature.items() if p not in ("self", "params")}
    if "weight_decay" in expected:
        expected["no_decay"] = None  # the one that is ours
    assert getattr(ts.optim, name)().get_params() == expected
    assert {p: v.default for p, v in inspect.signature(getattr(ts.optim, name)).parameters.items()} == expected


def test_fused_can_be_switched_off_and_gives_way():
    parameters = list(nn.Linear(2, 1).parameters())
    assert ts.optim.AdamW()(parameters).defaults["fused"] is True
    assert ts.optim.AdamW(fused=False)(parameters).defaults["fused"] is False
    assert ts.optim.AdamW(foreach=True)(parameters).defaults["fused"] is None
    assert ts.optim.AdamW(differentiable=True)(parameters).defaults["fused"] is None
    groups = [{"params": parameters[:1], "lr": 0.5}, {"params": parameters[1:]}]
    assert [g["lr"] for g in ts.optim.SGD(lr=0.1)(groups).param_groups] == [0.5, 0.1]


def test_parameters_may_be_an_iterator():
    assert len(ts.optim.Adam()(iter(nn.Linear(2, 1).parameters())).param_groups[0]["params"]) == 2


def test_what_has_a_weight_decay_can_spare_parameters():
    spared = {"torch": ts.optim.AdamW(), "auto": ts.optim.SGD(no_decay="auto"), "list": ts.optim.Adam(no_decay=["*.b"])}
    assert [value.no_decay for value in spared.values()] == [None, "auto", ["*.b"]]
    for name in ("LBFGS", "Rprop", "SparseAdam"):
        assert not hasattr(getattr(ts.optim, name)(), "no_decay")
    for wrong in (0.5, [1], True):
        with pytest.raises(ConfigError, match="no_decay must be None, 'auto' or patterns of names"):
            ts.optim.AdamW(no_decay=wrong)


def test_names_are_not_known_where_only_parameters_are_given():
    with pytest.raises(ConfigError, match="no_decay goes by the names in a network"):
        ts.optim.AdamW(no_decay="auto")(nn.Linear(2, 1).parameters())


@pytest.mark.parametrize("lr", [0, -1.0, float("nan"), float("inf"), "a", None])
@pytest.mark.parametrize("name", ["AdamW", "SGD", "LBFGS"])
def test_learning_rates_that_cannot_be_are_refused_where_they_are_typed(name, lr):
    with pytest.raises(ConfigError, match=f"{name}: lr must be a positive finite number, got"):
        getattr(ts.optim, name)(lr=lr)


def test_a_learning_rate_may_be_a_tensor():
    assert ts.optim.AdamW(lr=torch.tensor(0.1))(nn.Linear(1, 1).parameters()).param_groups[0]["lr"] == 0.1


def test_torchs_own_checks_name_the_value():
    with pytest.raises(ConfigError, match=r"Adam\(lr=0.001, betas=\(2.0, 0.9\)\): Invalid beta"):
        ts.optim.Adam(betas=(2.0, 0.9))(nn.Linear(1, 1).parameters())


def test_misspelt_setting():
    with pytest.raises(TypeError, match="learning_rate"):
        ts.optim.Adam(learning_rate=0.1)


@pytest.mark.parametrize("name", ["AdamW", "adamw", "ADAMW"])
def test_names_in_any_case(name):
    assert resolve_optimizer(name) == ts.optim.AdamW()


def test_functions_pass():
    partial = functools.partial(torch.optim.SGD, lr=0.5)
    assert resolve_optimizer(partial) is partial
    assert resolve_optimizer(ts.optim.SGD(lr=0.5)) == ts.optim.SGD(lr=0.5)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("adamm", "unknown optimizer 'adamm'. Did you mean 'adam'"),
        (3, "optimizer must be a name or a function of parameters, got 3"),
        (ts.optim.AdamW, r"optimizer is the class AdamW; give a value: ts.optim.AdamW\(\)"),
    ],
)
def test_what_is_no_optimizer_is_refused(given, message):
    with pytest.raises(ConfigError, match=message):
        resolve_optimizer(given)


def test_an_optimizer_of_other_parameters_is_refused():
    with pytest.raises(ConfigError, match=r"SGD of other parameters; give ts.optim.SGD\(lr=...\)"):
        resolve_optimizer(torch.optim.SGD(nn.Linear(1, 1).parameters()))
