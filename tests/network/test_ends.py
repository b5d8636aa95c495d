"""Heads that end a network: their sizes and their order."""

from __future__ import annotations

import pytest
import torch

import torchstrata as ts
from torchstrata.network.ends import heads_of
from torchstrata.network.tabular import Outputs

L = ts.layers


def outputs(**heads):
    made = Outputs(sum(heads.values()))
    made.heads = heads
    return made


def graph(**settings):
    x = ts.Input("number")
    return ts.Graph({"b": L.Head(**settings)(x), "a": L.Head(name="first")(L.Tanh()(x))})


def test_heads_stand_in_the_order_of_the_loss():
    wanted = outputs(a=1, b=3)
    module = graph()({"number": (5,)}, wanted)
    x = torch.randn(7, 5)
    found = module.trace(x)
    assert found["first"].shape == (7, 1) and found["head_b"].shape == (7, 3)
    assert torch.equal(module(x), torch.cat([found["first"], found["head_b"]], 1))
    assert torch.equal(module(x), found["joinheads"])


def test_sizes_are_not_remembered_from_another_loss():
    for sizes in ({"a": 1, "b": 3}, {"a": 3, "b": 1}, {"b": 2, "a": 2}):
        module = graph()({"number": (5,)}, outputs(**sizes))
        assert (module.first.out_features, module.head_b.out_features) == (sizes["a"], sizes["b"])


def test_settings_of_heads_are_reached_by_name():
    changed = graph().replace(head_b__bias=False)({"number": (5,)}, outputs(a=1, b=3))
    assert changed.head_b.bias is None and changed.first.bias is not None
    assert graph(bias=False)({"number": (5,)}, outputs(a=1, b=3)).head_b.bias is None


@pytest.mark.parametrize(
    ("network", "heads", "message"),
    [
        (graph(), {}, "the network has the heads .*'b', 'a'|the network has the heads \\['b'\\] and the loss has none"),
        (graph(), {"a": 1, "b": 2, "c": 1}, r"heads \['b', 'a'\] and the loss has \['a', 'b', 'c'\]"),
        (ts.Graph({"a": L.Linear(2)(ts.Input("number")), "b": L.Head()(ts.Input("number"))}), {"a": 1, "b": 1},
         r"head 'a' needs 1 outputs and its node gives rows of shape \(2,\): end it with ts.layers.Head"),
        (ts.Graph(L.Head(of="aa")(ts.Input("number"))), {"aaa": 1, "b": 1}, "Did you mean 'aaa'"),
    ],
)  # fmt: skip
def test_heads_that_do_not_fit_are_named(network, heads, message):
    with pytest.raises(ts.ConfigError, match=message):
        network({"number": (5,)}, outputs(**heads) if heads else 4)


def test_no_heads():
    with pytest.raises(ts.ConfigError, match="needs a node for each"):
        ts.Graph({})
    assert heads_of(outputs(a=2, b=1), ["b"]) == {"a": 2, "b": 1}
