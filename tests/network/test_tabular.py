"""Blueprints of networks for tables."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from torch import nn

import torchstrata as ts
from torchstrata.data.encode import Shapes
from torchstrata.errors import ConfigError
from torchstrata.network.dropout import Dropout
from torchstrata.network.tabular import ACTIVATIONS, NORMS, Outputs, TabularLinear, build_network, named_network

NUMBERS = Shapes({"number": (5,)})
MIXED = Shapes({"number": (2,), "category": (3,)}, levels=(4, 2, 3))
CATEGORIES = Shapes({"category": (2,)}, levels=(4, 3))


def rows_of(shapes: Shapes, n: int = 7):
    generator = torch.Generator().manual_seed(1)
    x = {}
    if "number" in shapes:
        x["number"] = torch.randn(n, *shapes["number"], generator=generator)
    if "category" in shapes:
        x["category"] = torch.stack([torch.randint(k, (n,), generator=generator) for k in shapes.levels], 1)
    return x["number"] if list(x) == ["number"] else x


@pytest.mark.parametrize("n_outputs", [1, 3])
@pytest.mark.parametrize("shapes", [NUMBERS, MIXED, CATEGORIES], ids=repr)
@pytest.mark.parametrize("blueprint", [ts.Linear(), ts.MLP(), ts.MLP(()), ts.MLP((4, 3), dropout=0.1)], ids=repr)
def test_outputs_have_a_row_for_each_row(blueprint, shapes, n_outputs):
    net = blueprint(shapes, n_outputs)
    output = net(rows_of(shapes))
    assert output.shape == (7, n_outputs)
    output.sum().backward()
    assert all(p.grad is not None for p in net.parameters())


@pytest.mark.parametrize("norm", [None, *NORMS])
@pytest.mark.parametrize("activation", [*ACTIVATIONS, nn.ReLU6])
def test_layers_are_those_asked_for_in_order(activation, norm):
    layers = list(ts.MLP((6, 4), activation=activation, norm=norm, dropout=0.25)(NUMBERS, 2))
    kind = ACTIVATIONS.get(activation, activation) if isinstance(activation, str) else activation
    block = [nn.Linear, *([type(NORMS[norm](1))] if norm else []), kind, Dropout]
    assert [type(layer) for layer in layers] == [*block, *block, nn.Linear]
    linear = [layer for layer in layers if isinstance(layer, nn.Linear)]
    assert [(layer.in_features, layer.out_features) for layer in linear] == [(5, 6), (6, 4), (4, 2)]
    assert all(layer.p == 0.25 for layer in layers if isinstance(layer, Dropout))


def test_categories_are_a_one_hot_encoding_before_a_linear_layer():
    net, x = ts.Linear()(MIXED, 2).double(), rows_of(MIXED)
    onehot = torch.cat(
        [nn.functional.one_hot(x["category"][:, j], k).double() for j, k in enumerate(MIXED.levels)], dim=1
    )
    by_hand = torch.cat([x["number"].double(), onehot], 1) @ net.weight.T + net.bias
    assert torch.equal(net.one_hot(x), torch.cat([x["number"], onehot], 1).to(net.weight.dtype))
    output = net({"number": x["number"].double(), "category": x["category"]})
    torch.testing.assert_close(output, by_hand, rtol=1e-12, atol=1e-12)
    assert net.weight.shape == (2, 2 + sum(MIXED.levels))
    bound = 1 / np.sqrt(2 + 3)
    assert all(p.abs().max() <= bound for p in net.parameters())
    assert (net.weight[:, 2 + net.offsets] == 0).all()  # of values not seen in training
    assert (net.weight != 0).sum() == net.weight.numel() - 3 * 2


@pytest.mark.parametrize("hidden", [(), (4, 3)])
@pytest.mark.parametrize("shapes", [NUMBERS, MIXED, CATEGORIES], ids=repr)
@pytest.mark.parametrize("embedding", ["linear_relu", "periodic", "piecewise_linear"])
def test_numbers_may_be_embedded_before_the_first_layer(embedding, shapes, hidden):
    blueprint = ts.MLP(hidden, embedding=embedding)
    net, x = blueprint(shapes, 2), rows_of(shapes)
    assert net(x).shape == (7, 2)
    if "number" not in shapes:
        assert [type(m) for m in net.modules()] == [type(m) for m in ts.MLP(hidden)(shapes, 2).modules()]
        return
    first = net[0] if hidden else net
    number = first.numbers.embedding(x["number"] if isinstance(x, dict) else x).flatten(1)
    assert number.shape == (7, shapes["number"][0] * blueprint.embedding.width)
    inner = {"number": number, "category": x["category"]} if isinstance(x, dict) else number
    assert torch.equal(first(x), first.linear(inner))


@pytest.mark.parametrize("shapes", [NUMBERS, MIXED], ids=["numbers", "mixed"])
@pytest.mark.parametrize("blueprint", [ts.Linear(), ts.MLP((3,)), ts.MLP(())], ids=repr)
def test_head_has_no_bias_where_the_loss_ignores_a_shift(blueprint, shapes):
    x = rows_of(shapes)
    with_bias = sum(p.numel() for p in blueprint(shapes, Outputs(1)).parameters())
    without = sum(p.numel() for p in blueprint(shapes, Outputs(1, bias=False)).parameters())
    assert with_bias == without + 1
    assert blueprint(shapes, Outputs(1, bias=False))(x).shape == (7, 1)


def test_outputs_is_an_int_that_survives_copies():
    outputs = Outputs(3, bias=False)
    for twin in (outputs, copy.deepcopy(outputs), pickle.loads(pickle.dumps(outputs))):
        assert twin == 3
        assert twin.bias is False
    assert Outputs(2).bias is True
    assert nn.Linear(4, outputs)(torch.zeros(1, 4)).shape == (1, 3)


def test_hidden_takes_what_people_write():
    assert ts.MLP(5) == ts.MLP([5]) == ts.MLP((5,)) == ts.MLP(np.array([5])) == ts.MLP(np.int64(5))
    assert all(type(width) is int for width in ts.MLP(np.array([5, 6])).hidden)
    assert ts.MLP().replace(hidden=[2, 3]).hidden == (2, 3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ts.MLP((3, 0)), r"hidden must be widths >= 1, got \(3, 0\)"),
        (lambda: ts.MLP(-1), "got -1"),
        (lambda: ts.MLP(True), "got True"),
        (lambda: ts.MLP((2.5,)), "hidden must be widths"),
        (lambda: ts.MLP(None), "hidden must be widths >= 1, got None"),
        (lambda: ts.MLP("100"), "hidden must be widths >= 1, got '100'"),
        (lambda: ts.MLP(dropout=1.0), r"dropout must be in \[0, 1\), got 1.0"),
        (lambda: ts.MLP(dropout=-0.1), "got -0.1"),
        (lambda: ts.MLP(dropout=float("nan")), "got nan"),
        (lambda: ts.MLP(activation="rellu"), "unknown activation 'rellu'. Did you mean 'relu'"),
        (lambda: ts.MLP(activation=nn.ReLU()), "the class, not an instance"),
        (lambda: ts.MLP(activation=3), "activation must be a name or a function"),
        (lambda: ts.MLP(norm="bacth"), "unknown norm 'bacth'. Did you mean 'batch'"),
        (lambda: ts.Linear()(Shapes({"image": (1, 8, 8)}), 2), "takes rows of a table.*Found array with dim > 2"),
        (lambda: ts.MLP()(Shapes({"number": (3, 3)}), 2), "takes rows of a table"),
    ],
)
def test_what_cannot_be_is_refused_where_it_is_typed(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_same_seed_same_weights():
    nets = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        nets.append(torch.cat([p.flatten() for p in ts.MLP((4,))(MIXED, 2).parameters()]))
    assert torch.equal(nets[0], nets[1])
    assert not torch.equal(nets[0], nets[2])


# --- build_network


def test_a_module_is_copied_never_consumed():
    given = nn.Linear(5, 1)
    built = build_network(given, NUMBERS, 1)
    assert built is not given
    with torch.no_grad():
        built.weight.zero_()
    assert given.weight.abs().sum() > 0


def test_a_function_gets_shapes_and_outputs():
    got = []
    net = build_network(lambda shapes, n: got.append((shapes, n)) or nn.Linear(5, n), NUMBERS, 2)
    assert got == [(NUMBERS, 2)]
    assert net.out_features == 2


def test_names():
    assert isinstance(build_network("linear", NUMBERS, 1), nn.Linear)
    assert isinstance(build_network("MLP", NUMBERS, 1), nn.Sequential)
    assert isinstance(build_network("mlp", MIXED, 1)[0], TabularLinear)
    values = ["linear", "mlp", "resnet", "FTTransformer", "TabM"]
    assert [named_network(name) for name in values] == [
        ts.Linear(), ts.MLP(), ts.ResNet(), ts.FTTransformer(), ts.TabM()
    ]  # fmt: skip
    assert type(named_network("realmlp")).__name__ == "RealMLP"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("mpl", "unknown network 'mpl'. Did you mean 'mlp'"),
        ("ft-transformer", "Did you mean 'fttransformer'"),
        (3, "network must be a blueprint"),
        (ts.MLP, r"network is the class MLP; give a value: ts.MLP\(\)"),
        (lambda shapes, n: 3, "returned int, expected a torch.nn.Module"),
    ],
)
def test_what_is_no_network_is_refused(given, message):
    with pytest.raises(ConfigError, match=message):
        build_network(given, NUMBERS, 1)
