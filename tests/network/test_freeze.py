"""Which parameters train, by name and epoch."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from torchstrata.errors import ConfigError
from torchstrata.network.freeze import Freezer


def make_net() -> nn.Module:
    torch.manual_seed(0)
    body = nn.Sequential(
        nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.BatchNorm1d(4, affine=False), nn.Dropout(0.5)
    )
    return nn.ModuleDict({"body": body, "head": nn.Linear(4, 1)})


def trains(net: nn.Module) -> set[str]:
    return {name for name, p in net.named_parameters() if p.requires_grad}


def test_patterns_join_after_complete_epochs():
    net = make_net()
    freezer = Freezer(net, {0: "head.*", 2: ["body.1.*", "body.0.bias"], 4: "*"})
    seen = []
    for done in range(6):
        freezer.begin_epoch(done)
        seen.append(trains(net))
    head = {"head.weight", "head.bias"}
    middle = head | {"body.1.weight", "body.1.bias", "body.0.bias"}
    everything = {name for name, _ in net.named_parameters()}
    assert seen == [head, head, middle, middle, everything, everything]


def test_frozen_parts_stand_still_and_come_back():
    net = make_net()
    freezer = Freezer(net, {0: "head.*", 1: "*"})
    freezer.begin_epoch(0)
    assert not any(m.training for m in net["body"].modules())  # norms without parameters and dropout too
    assert net["head"].training
    before = [b.clone() for b in net.buffers()]
    net["body"](torch.randn(8, 3))
    assert all(torch.equal(a, b) for a, b in zip(before, net.buffers(), strict=True))
    freezer.begin_epoch(1)
    assert all(m.training for m in net.modules())
    net["body"](torch.randn(8, 3))
    assert not torch.equal(before[0], next(net.buffers()))


def test_a_layer_stands_still_among_layers_that_train():
    net = make_net()
    freezer = Freezer(net, ["head.*", "body.0.*"])
    freezer.begin_epoch(0)
    assert not net["body"][1].training
    assert net["body"][0].training
    assert net["body"][4].training


def test_none_keeps_what_the_user_froze_and_its_statistics():
    net = make_net()
    net["body"].requires_grad_(False)
    freezer = Freezer(net, None)
    freezer.begin_epoch(0)
    assert trains(net) == {"head.weight", "head.bias"}
    assert not net["body"][1].training
    freezer.end()
    assert trains(net) == {"head.weight", "head.bias"}
    assert not net.training


def test_end_thaws_what_was_frozen_here():
    net = make_net()
    freezer = Freezer(net, "head.*")
    freezer.begin_epoch(0)
    freezer.end()
    assert trains(net) == {name for name, _ in net.named_parameters()}
    assert not any(m.training for m in net.modules())


@pytest.mark.parametrize(
    ("trainable", "message"),
    [
        ("head.wieght", "pattern 'head.wieght' matches no parameter. Did you mean 'head.weight'"),
        ({0: "head.*", 3: "body.layer4.*"}, r"'body.layer4.\*' matches no parameter"),
        ({2: "head.*"}, r"joins after \[2\] epochs and nothing trains from the start"),
        ([], "nothing trains from the start"),
        ({0: [], 1: "*"}, "nothing trains from the start"),
        ({-1: "*"}, "epochs must be ints >= 0, got -1"),
        ({0.5: "*"}, "epochs must be ints >= 0, got 0.5"),
        ({True: "*"}, "epochs must be ints >= 0, got True"),
        ([3], r"patterns must be strings, got \[3\]"),
        (3, "patterns must be strings, got 3"),
    ],
)
def test_what_cannot_work_is_refused(trainable, message):
    with pytest.raises(ConfigError, match=message):
        Freezer(make_net(), trainable)


def test_networks_without_anything_to_train_are_refused():
    with pytest.raises(ConfigError, match="no trainable parameters"):
        Freezer(nn.ReLU(), None)
    with pytest.raises(ConfigError, match="no trainable parameters"):
        Freezer(nn.Linear(2, 1).requires_grad_(False), None)
