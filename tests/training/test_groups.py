"""Parameter groups: factors of learning rate and weight decay, for the engine, hooks and stacks."""

from __future__ import annotations

import functools

import pytest
import torch
from torch import nn

import torchstrata as ts
from torchstrata.errors import ConfigError
from torchstrata.learner.many import fit_many
from torchstrata.training.groups import build_optimizer, groups_of, why_grouped


class Grouped(nn.Module):
    """A network of two layers; groups as given."""

    def __init__(self, groups=None, n_inputs=3, n_outputs=1):
        super().__init__()
        self.first, self.norm = nn.Linear(n_inputs, 4), nn.LayerNorm(4)
        self.second = nn.Linear(4, n_outputs)
        self.groups = groups

    def forward(self, x):
        return self.second(self.norm(self.first(x).relu()))

    def parameter_groups(self):
        if self.groups is None:
            slow = list(self.first.parameters())
            rest = [*self.norm.parameters(), self.second.bias]
            return [
                {"params": slow, "lr_factor": 0.1},
                {"params": rest, "weight_decay_factor": 0.0},
                {"params": [self.second.weight]},
            ]
        return self.groups(self)


class Ungrouped(Grouped):
    parameter_groups = None


def names(module, group):
    return [name for name, p in module.named_parameters() if any(p is q for q in group["params"])]


def test_factors_multiply_the_optimizers_own_numbers():
    module = Grouped()
    made = build_optimizer(ts.optim.AdamW(lr=0.2, weight_decay=0.5), module)
    found = {tuple(names(module, g)): (g["lr"], g["weight_decay"], g["lr_factor"]) for g in made.param_groups}
    assert found == {
        ("norm.weight", "norm.bias", "second.bias"): (0.2, 0.0, 1.0),
        ("second.weight",): (0.2, 0.5, 1.0),
        ("first.weight", "first.bias"): (pytest.approx(0.02), 0.5, 0.1),
    }
    assert made.defaults["fused"] is True
    assert made.param_groups[0]["lr"] == 0.2  # what the history shows


def test_groups_with_the_same_factors_are_one():
    module = Grouped(lambda self: [{"params": p, "lr_factor": i % 2 + 1} for i, p in enumerate(self.parameters())])
    assert [group.lr_factor for group in groups_of(module, torch.optim.SGD)] == [1, 2]
    alike = Grouped(lambda self: [{"params": [p]} for p in self.parameters()])
    assert not why_grouped(alike, ts.optim.AdamW())
    assert len(build_optimizer(ts.optim.AdamW(), alike).param_groups) == 1
    assert "lr_factor" not in build_optimizer(ts.optim.AdamW(), Ungrouped()).param_groups[0]


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (lambda self: [{"params": self.first.parameters()}], r"parameter_groups\(\) must hold every parameter once"),
        (lambda self: [{"params": [*self.parameters(), self.second.bias]}], "one is there twice"),
        (lambda self: [{"params": [*self.parameters(), nn.Parameter(torch.ones(1))]}], "none of the network's"),
        (lambda self: [{"params": self.parameters(), "lr": 0.1}], "a group has 'params' and perhaps 'lr_factor'"),
        (lambda self: [{"lr_factor": 0.1}], "a group has 'params'"),
        (lambda self: [{"params": self.parameters(), "lr_factor": -1}], "lr_factor must be a finite number >= 0"),
        (lambda self: [{"params": self.parameters(), "weight_decay_factor": "0"}], "weight_decay_factor must be a fin"),
    ],
)
def test_groups_that_cannot_be_cost_no_training(groups, message):
    learner = ts.TorchClassifier(lambda shapes, n: Grouped(groups, shapes["number"][0], n))
    with pytest.raises(ConfigError, match=message):
        learner.check_fit(torch.randn(20, 3), torch.arange(20) % 2)


@pytest.mark.parametrize(
    ("no_decay", "spared"),
    [
        (None, set()),
        ("auto", {"first.bias", "norm.weight", "norm.bias", "second.bias"}),
        ("*.bias", {"first.bias", "norm.bias", "second.bias"}),
        (["first.*", "second.bias"], {"first.weight", "first.bias", "second.bias"}),
    ],
)
def test_no_decay(no_decay, spared):
    module = Ungrouped()
    made = build_optimizer(ts.optim.AdamW(weight_decay=0.1, no_decay=no_decay), module)
    found = {name for g in made.param_groups if g["weight_decay"] == 0 for name in names(module, g)}
    assert found == spared
    assert {name for g in made.param_groups for name in names(module, g)} == dict(module.named_parameters()).keys()


def test_normalisations_over_images_are_spared_too():
    module = nn.Sequential(nn.LayerNorm((3, 4)), nn.Linear(4, 2, bias=False))
    groups = groups_of(module, ts.optim.SGD(weight_decay=0.1, no_decay="auto"))
    assert sorted(len(group.parameters) for group in groups) == [1, 2]


def test_a_pattern_that_matches_nothing_costs_no_training():
    learner = ts.TorchClassifier(ts.MLP((4,)), optimizer=ts.optim.AdamW(no_decay=["0.bais"]))
    with pytest.raises(ConfigError, match=r"no_decay: pattern '0.bais' matches no parameter. Did you mean '0.bias'"):
        learner.check_fit(torch.randn(20, 3), torch.arange(20) % 2)


def step_by_hand(module, x, y, factors, *, lr, decay, steps):
    """AdamW as in its paper, a parameter at a time."""
    first = {n: torch.zeros_like(p) for n, p in module.named_parameters()}
    second = {n: torch.zeros_like(p) for n, p in module.named_parameters()}
    for t in range(1, steps + 1):
        module.zero_grad()
        ts.losses.cross_entropy(module(x), y).backward()
        with torch.no_grad():
            for name, p in module.named_parameters():
                of_lr, of_decay = factors(name)
                first[name].mul_(0.9).add_(p.grad, alpha=0.1)
                second[name].mul_(0.999).addcmul_(p.grad, p.grad, value=0.001)
                p.mul_(1 - lr * of_lr * decay * of_decay)
                rate = first[name] / (1 - 0.9**t) / ((second[name] / (1 - 0.999**t)).sqrt() + 1e-8)
                p.sub_(rate, alpha=lr * of_lr)


def test_a_fit_moves_each_group_by_its_own_factors():
    torch.manual_seed(0)
    X, y = torch.randn(30, 3), torch.arange(30) % 2
    given = {"optimizer": ts.optim.AdamW(lr=0.05, weight_decay=0.3), "batch_size": 30, "encoder": None}
    start = Grouped()
    expected = Grouped()
    expected.load_state_dict(start.state_dict())

    def factors(name):
        spared = "norm" in name or name == "second.bias"
        return 0.1 if name.startswith("first") else 1.0, 0.0 if spared else 1.0

    step_by_hand(expected, X, y.float(), factors, lr=0.05, decay=0.3, steps=5)
    learner = ts.TorchClassifier(start, max_epochs=5, random_state=0, **given).fit(X, y)
    for name, p in learner.network_.named_parameters():
        torch.testing.assert_close(p, expected.get_parameter(name), rtol=1e-4, atol=1e-5)
    assert learner.history_["lr"].tolist() == [0.05] * 5


def test_written_out_steps_are_not_claimed_unless_it_is_the_same():
    X, y = torch.randn(30, 3), torch.arange(30) % 2
    reasons = {}
    for decay in (0.0, 0.1):
        optimizer = ts.optim.AdamW(lr=0.01, weight_decay=decay, no_decay="auto")
        learner = ts.TorchClassifier(ts.MLP((4,)), optimizer=optimizer, max_epochs=2, random_state=0).fit(X, y)
        reasons[decay] = learner.runtime_.reasons["steps"]
        plain = optimizer.replace(no_decay=None)
        same = ts.TorchClassifier(ts.MLP((4,)), optimizer=plain, max_epochs=2, random_state=0).fit(X, y)
        assert (decay == 0) == bool((same.predict_proba(X) == learner.predict_proba(X)).all())
    assert reasons[0.0][0] == "written out"
    assert reasons[0.1] == ("autograd", "parameter groups have their own learning rate or weight decay")


@pytest.mark.parametrize("network", [Grouped(), ts.MLP((4,))])
def test_stacks_refuse_groups_with_the_reason(network):
    X, y = torch.randn(30, 3).numpy(), torch.arange(30).numpy() % 2
    optimizer = ts.optim.AdamW(weight_decay=0.1, no_decay="auto")
    learners = [ts.TorchClassifier(network, optimizer=optimizer, max_epochs=2, random_state=i) for i in range(4)]
    assert [done.error for done in fit_many(learners, [{"X": X, "y": y}] * 4)] == [None] * 4
    for learner in learners:
        assert learner.runtime_.reasons["vectorize"] == (
            1, "parameter groups have their own learning rate or weight decay"
        )  # fmt: skip


def test_other_optimizers():
    module = Grouped()
    made = build_optimizer(functools.partial(torch.optim.Adam, lr=0.4), module)
    assert sorted(round(g["lr"], 9) for g in made.param_groups) == [0.04, 0.4, 0.4]
    for nothing_decays in (ts.optim.Rprop(lr=0.1), ts.optim.AdamW(weight_decay=0.0, no_decay="auto")):
        assert len(build_optimizer(nothing_decays, module).param_groups) == 2
    with pytest.raises(ConfigError, match="parameter groups"):
        build_optimizer(ts.optim.LBFGS(), module)
