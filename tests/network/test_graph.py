"""Graph, Chain, Block, Choice: wiring, names, settings, searches, saving, and training."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from torch import nn

import torchstrata as ts
from torchstrata.data.encode import Shapes
from torchstrata.network.dropout import Dropout
from torchstrata.network.modules import GraphModule
from torchstrata.network.tabular import Outputs, TabularLinear

L = ts.layers
NUMBERS = Shapes({"number": (5,)})
MIXED = Shapes({"number": (2,), "category": (3,)}, (2, 3, 4))


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


def seeded(blueprint, *args):
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        return blueprint(*args)


# what is built


def test_a_line_is_a_plain_sequential_of_the_modules_of_an_mlp():
    chain = ts.Chain([L.Linear(6), L.ReLU(), L.Dropout(0.2), L.Linear(4), L.ReLU(), L.Dropout(0.2), L.Head()])
    ours, mlp = (seeded(made, NUMBERS, 2) for made in (chain, ts.MLP((6, 4), dropout=0.2)))
    assert type(ours) is nn.Sequential
    assert [type(layer) for layer in ours] == [type(layer) for layer in mlp]
    assert Dropout in map(type, ours)
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), mlp.parameters(), strict=True))
    assert [name for name, _ in ours.named_children()] == [
        "linear", "relu", "dropout", "linear_2", "relu_2", "dropout_2", "head",
    ]  # fmt: skip


def test_a_line_that_is_wired_is_the_same():
    wired = ts.Graph(L.Head()(L.ReLU()(L.Linear(6)(ts.Input("number")))))
    chain = ts.Chain([L.Linear(6), L.ReLU(), L.Head()])
    ours, theirs = seeded(wired, NUMBERS, 2), seeded(chain, NUMBERS, 2)
    assert type(ours) is nn.Sequential and repr(ours) == repr(theirs)
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))


def test_several_readers_and_inputs_compute_what_is_wired():
    net = residual()(NUMBERS, 2)
    assert type(net) is GraphModule
    x = torch.randn(7, 5)
    stem = net.stem(x)
    expected = net.head(net.last(stem + net.hidden(net.relu(stem))))
    assert torch.equal(net(x), expected)
    found = net.trace(x)
    assert list(found) == ["number", "stem", "relu", "hidden", "join", "last", "head"]
    assert torch.equal(found["stem"], stem)
    net(x).sum().backward()
    assert all(p.grad is not None for p in net.parameters())

    a, b = ts.Input("number"), ts.Input("tensor")
    both = ts.Graph(L.Head()(L.Bilinear(3)(a, b)))({"number": (5,), "tensor": (4,)}, 2)
    y = torch.randn(7, 4)
    assert torch.equal(both({"number": x, "tensor": y}), both.head(both.bilinear(x, y)))


def test_every_node_can_be_an_output():
    x = ts.Input("number")
    hidden = L.ReLU()(L.Linear(8)(x))
    features = ts.Graph(hidden)
    assert features(NUMBERS, None)(torch.randn(3, 5)).shape == (3, 8)
    assert ts.Graph(L.Head()(hidden))(NUMBERS, 2)(torch.randn(3, 5)).shape == (3, 2)


def test_one_layer_called_twice_has_weights_twice():
    layer = L.Linear(5)
    x = ts.Input()
    net = ts.Graph(L.Add()(layer(x), layer(layer(x))))(NUMBERS, None)
    assert [name for name, _ in net.named_children()] == ["linear", "linear_2", "linear_3", "add"]


def test_graphs_are_layers_of_larger_ones():
    x = ts.Input()
    skip = ts.Graph(L.Add()(x, ts.Chain([L.ReLU(), L.Linear(8)], name="way")(x)))
    chain = ts.Chain([L.Linear(8), ts.Block(skip, repeat=2, name="skip"), L.Head()])
    net = chain(NUMBERS, 2)
    rows = torch.randn(3, 5)
    found = net.trace(rows)
    assert list(net.state_dict())[2] == "skip_1_way_linear.weight"
    expected = found["linear"] + net.skip_1_way_linear(torch.relu(found["linear"]))
    assert torch.equal(found["skip_1_add"], expected)
    assert chain.replace(skip__body__way__linear__out_features=8) == chain
    assert len(chain.replace(skip__repeat=3).summary(NUMBERS, 2)) == len(chain.summary(NUMBERS, 2)) + 3
    two = ts.Graph(L.Multiply()(ts.Input("a"), ts.Input("b")), name="gate")
    gated = ts.Graph(L.Head()(two(ts.Input("number"), L.Linear(5)(ts.Input("number")))))(NUMBERS, 1)
    assert torch.equal(gated(rows), gated.head(rows * gated.linear(rows)))


def test_choice_of_joins():
    join = ts.Choice({"add": L.Add(), "multiply": L.Multiply()}, selected="multiply")
    x = ts.Input()
    graph = ts.Graph(join(x, x))
    rows = torch.randn(3, 5)
    assert torch.equal(graph(NUMBERS, 5)(rows), rows * rows)
    assert torch.equal(graph.replace(choice__selected="add")(NUMBERS, 5)(rows), rows + rows)


def test_blocks_vary():
    widths = {"out_features": [64, 32, 16]}
    block = ts.Block(L.Linear(1), vary=widths)
    made = ts.Chain([block, L.Head()])
    assert [p.shape[0] for p in made(NUMBERS, 2).parameters()][::2] == [64, 32, 16, 2]
    assert len(made.replace(block__repeat=2)(NUMBERS, 2)) == 3
    assert len(made.replace(block__repeat=0)(NUMBERS, 2)) == 1
    chain = ts.Chain([L.Linear(1), L.ReLU(), L.Dropout()])
    block = ts.Block(chain, repeat=2, vary={"out_features": [4, 3], "dropout__p": [0.1, 0.2]})
    assert [body.get_params()["dropout__p"] for body in block.bodies()] == [0.1, 0.2]
    assert [body.get_params()["linear__out_features"] for body in block.bodies()] == [4, 3]
    assert repr(ts.Block(L.ReLU(), repeat=2, name="b")) == "Block(ReLU(), repeat=2, name='b')"
    assert repr(ts.Block(L.Linear(1), vary=widths)) == "Block(Linear(1), vary={'out_features': [64, 32, 16]})"


@pytest.mark.parametrize("blueprint", [small_chain(), residual()], ids=["chain", "graph"])
def test_equal_settings_give_equal_modules_from_one_seed(blueprint):
    other = copy.deepcopy(blueprint)
    assert other == blueprint and hash(other) == hash(blueprint)
    one, two = seeded(blueprint, NUMBERS, 2), seeded(other, NUMBERS, 2)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    again = pickle.loads(pickle.dumps(blueprint))
    assert again == blueprint and repr(again) == repr(blueprint)
    x = torch.randn(3, 5)
    assert torch.equal(pickle.loads(pickle.dumps(one))(x), two(x))


def test_categories_enter_a_chain_as_they_enter_an_mlp():
    ours, mlp = (seeded(n, MIXED, 2) for n in (ts.Chain([L.Linear(4), L.ReLU(), L.Head()]), ts.MLP((4,))))
    assert type(ours) is nn.Sequential and type(ours[0]) is TabularLinear
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), mlp.parameters(), strict=True))
    X = pd.DataFrame({"a": np.arange(40.0) % 7, "b": list("xyzw") * 10})
    y = np.arange(40) % 4 > 1
    learner = ts.TorchClassifier(ts.Chain([L.Linear(4), L.ReLU(), L.Head()]), max_epochs=3, random_state=0).fit(X, y)
    assert learner.runtime_.reasons["steps"][0] == "written out"


def test_summary_counts_what_is_there():
    table = residual().summary(NUMBERS, 2)
    assert table.columns.tolist() == ["layer", "kind", "inputs", "input_shapes", "output_shape", "parameters"]
    join = table.set_index("layer").loc["join"]
    assert join.tolist() == ["Add", "stem, hidden", "(16,), (16,)", "(16,)", 0]
    assert table.parameters.sum() == sum(p.numel() for p in residual()(NUMBERS, 2).parameters())
    assert ts.Chain([L.Linear(3)]).summary({"number": (5,)}).output_shape.tolist() == ["(5,)", "(3,)"]


# names and settings


def test_every_number_is_reached_by_the_name_of_its_layer():
    learner = ts.TorchClassifier(network=small_chain())
    known = learner.get_params()
    assert known["network__stem__out_features"] == 16
    assert known["network__block__repeat"] == 2
    assert known["network__block__body__linear__out_features"] == 8
    assert known["network__act__selected"] == "relu"
    assert known["network__head"] == L.Head()
    before = learner.network
    learner.set_params(network__stem__out_features=3, network__block__repeat=1, network__act__selected="gelu")
    assert before == small_chain()
    after = learner.network
    assert after.get_params()["stem__out_features"] == 3 and after.get_params()["block__repeat"] == 1
    assert type(after(NUMBERS, 2).act) is nn.GELU
    assert clone(learner).get_params() == learner.get_params()
    learner.set_params(network=residual()).set_params(network__hidden__bias=False)
    assert learner.network(NUMBERS, 2).hidden.bias is None


def test_names_are_made_from_the_kind_and_unique():
    chain = ts.Chain([L.ReLU(), L.ReLU(name="relu_2"), L.ReLU(), L.ReLU()])
    assert list(chain.parts()) == ["relu", "relu_2", "relu_3", "relu_4"]
    x = ts.Input("relu")
    assert list(ts.Graph(L.ReLU()(x)).parts()) == ["relu_2"]


def test_a_layer_in_the_place_of_another_keeps_its_name():
    chain = ts.Chain([L.Linear(4), L.ReLU(), L.Head()])
    other = chain.replace(relu=L.GELU())
    assert list(other.parts()) == ["linear", "relu", "head"] and type(other(NUMBERS, 2).relu) is nn.GELU
    assert repr(other) == "Chain([Linear(4), GELU(name='relu'), Head()])"
    graph = residual().replace(join=L.Multiply())
    assert "join = Multiply()(stem, hidden)" in repr(graph)
    assert chain.replace(layers=[L.Head()], head__bias=False) == ts.Chain([L.Head(False)])
    act = ts.Choice({"relu": L.ReLU(), "leaky": L.LeakyReLU()})
    assert act.replace(leaky__negative_slope=0.3, selected="leaky").steps("a", ("x",))[0][0].layer.negative_slope == 0.3


def test_repr_is_readable():
    assert repr(ts.Chain([L.Linear(4), L.ReLU()], name="line")) == "Chain([Linear(4), ReLU()], name='line')"
    assert "  join = Add(name='join')(stem, hidden)" in repr(residual()).splitlines()
    assert repr(ts.Input()) == "Input()"
    assert repr(L.Add()(ts.Input("a"), L.ReLU()(ts.Input("b")))) == "Add()(Input('a'), ReLU()(Input('b')))"
    x = ts.Input()
    for _ in range(2000):
        x = L.ReLU()(x)
    deep = ts.Graph(x)
    assert len(deep.parts()) == 2000 and repr(deep)


# errors

ERRORS = {
    "no list": (lambda: ts.Chain(L.Linear(3)), r"takes a list of layers, got Linear\(3\)"),
    "nothing": (lambda: ts.Chain([]), "needs at least one layer"),
    "a class": (lambda: ts.Chain([L.Linear]), r"give a value: ts.layers.Linear\(\.\.\.\)"),
    "a module": (lambda: ts.Chain([nn.ReLU()]), r"write ts.layers.ReLU\(\.\.\.\), or ts.layers.Custom"),
    "a node": (lambda: ts.Chain([L.ReLU()(ts.Input())]), "a node is wired already"),
    "a word": (lambda: ts.Chain(["relu"]), "a layer is a value such as"),
    "names twice": (lambda: ts.Chain([L.ReLU(name="a"), L.Tanh(name="a")]), "two things are named 'a'"),
    "a name of torch": (lambda: ts.Chain([L.ReLU(name="forward")]), "say 'forward_layer'"),
    "a name of ours": (lambda: ts.Chain([L.ReLU(name="layers")]), "two things are named 'layers'"),
    "no name": (lambda: ts.Chain([L.ReLU(name="a__b")]), "a word without '__'"),
    "an unknown layer": (lambda: small_chain().replace(stam__out_features=3), "Did you mean 'stem'"),
    "an unknown setting": (lambda: small_chain().replace(stem__out=3), "Invalid parameter 'out' for Linear"),
    "no layer": (lambda: small_chain().replace(stem=3), "Chain.stem: expected a layer, got 3"),
    "no option": (lambda: small_chain().replace(act__selected="geluu"), "Did you mean 'gelu'"),
    "no options": (lambda: ts.Choice([L.ReLU()]), "takes a dict of layers"),
    "a reserved option": (lambda: ts.Choice({"selected": L.ReLU()}), "an option cannot be named 'selected'"),
    "no output": (lambda: ts.Graph([L.ReLU()]), r"Graph takes the last node.*ts\.Chain"),
    "an input only": (lambda: ts.Graph(ts.Input()), "Graph takes the last node"),
    "inputs as layers": (lambda: ts.Graph(L.ReLU(name="number")(ts.Input("number"))), "two things are named 'number'"),
    "a wrong wiring": (lambda: ts.Graph(wiring=[("a", L.ReLU(), ("b",))]), r"reads \['b'\] before it is there"),
    "no input": (lambda: ts.Graph(wiring=[]), "has no input"),
    "no repeats": (lambda: ts.Block(L.ReLU(), repeat=-1), "repeat must be an int from 0 to 1000 or None, got -1"),
    "too many repeats": (lambda: ts.Block(L.ReLU(), repeat=10**9), "from 0 to 1000"),
    "no wiring": (lambda: ts.Graph(wiring=[3]), r"wiring must be \(name, layer, \(names\)\)"),
    "a method of torch": (lambda: ts.Graph(wiring=[("x", ts.Input(), ()), ("train", L.ReLU(), ["x"])]), "'train' c"),
    "too few values": (lambda: ts.Block(L.Linear(1), repeat=3, vary={"out_features": [1]}), "1 values of .* 3 rep"),
    "no such setting": (lambda: ts.Block(L.Linear(1), vary={"out_feature": [1]}), "Did you mean 'out_features'"),
    "several of them": (lambda: ts.Block(ts.Chain([L.Linear(1), L.Linear(2)]), vary={"out_features": [1]}),
                        "say 'linear__out_features' or 'linear_2__out_features'"),
    "no lists": (lambda: ts.Block(L.Linear(1), vary={"out_features": 3}), "vary must be a dict of lists"),
    "nodes for a chain": (lambda: ts.Chain([L.ReLU()])(ts.Input(), ts.Input()), "reads 1 node, got 2"),
    "one for a join": (lambda: ts.Chain([L.ReLU(), L.Add()])(NUMBERS, 2), r"Add\(\) reads 2 or more nodes, got 1"),
    "no head": (lambda: ts.Chain([L.Linear(3)])(NUMBERS, 2), r"layer 'linear', which gives rows of shape \(3,\), and "
                r"the task needs \(2,\): end with ts.layers.Head\(\)"),
    "no outputs": (lambda: ts.Chain([L.Head()])(NUMBERS, None), "needs the number of outputs"),
    "nothing left": (lambda: ts.Chain([ts.Block(L.ReLU(), repeat=0)])(NUMBERS, 5), "all its blocks have repeat=0"),
    "sizes that differ": (lambda: ts.Graph(L.Add()(ts.Input(), L.Linear(3)(ts.Input())))(NUMBERS, 2),
                          r"layer 'add', Add\(\), cannot take rows of shape \(5,\) and \(3,\) \(without the batch\)"),
    "written out names": (lambda: ts.Chain([ts.Block(L.ReLU(), repeat=2, name="a"), L.ReLU(name="a_1")])(NUMBERS, 5),
                          "two layers are called 'a_1' once"),
}  # fmt: skip


@pytest.mark.parametrize("case", ERRORS.values(), ids=list(ERRORS))
def test_what_is_refused_says_why(case):
    wrong, message = case
    with pytest.raises(ts.ConfigError, match=message):
        wrong()


def test_what_was_found_before_does_not_hide_an_error():
    """Shapes are remembered by the settings: 3 == 3.0, and heads with and without bias have one size."""
    assert ts.Chain([L.Linear(3)])(NUMBERS, 3)
    with pytest.raises(ts.ConfigError, match=r"layer 'linear', Linear\(3.0\), cannot be built"):
        ts.Chain([L.Linear(3.0)])(NUMBERS, 3)
    counts = [ts.Chain([L.Head()]).summary(NUMBERS, Outputs(2, bias=bias)).parameters.sum() for bias in (True, False)]
    assert counts == [12, 10]
    many = ts.Chain([L.Function(lambda x, k=k: x[:, :k]) for k in (4, 3)])
    assert many.summary(NUMBERS).output_shape.tolist() == ["(5,)", "(4,)", "(3,)"]


def test_a_choice_looks_at_rows_where_the_selected_layer_does():
    bins = L.PiecewiseLinearEncoding(3)
    choice = ts.Choice({"plain": L.Identity(), "bins": ts.Chain([bins, L.Flatten()])}, name="seen")
    chain = ts.Chain([choice, L.Head()])
    assert (chain.uses_rows, chain.replace(seen__selected="bins").uses_rows) == (False, True)
