"""The residual network for tables: equal to the authors' module, and in learners."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from sklearn.datasets import load_breast_cancer, load_diabetes
from torch import nn

import torchstrata as ts
from torchstrata.data.encode import Shapes
from torchstrata.errors import ConfigError
from torchstrata.network.tabular import Outputs, build_network


def pair(copies, table, n_outputs=3, **settings):
    """Make our network and theirs with the same weights; theirs reads numbers and one-hot columns."""
    authors = pytest.importorskip("rtdl_revisiting_models")
    shapes = copies.TABLES[table]
    given = {"n_blocks": 2, "d_block": 12, "d_hidden_multiplier": 2.0, "dropout1": 0.3, "dropout2": 0.0, **settings}
    ours = copies.shake(ts.ResNet(**given)(shapes, n_outputs))
    width = shapes.get("number", (0,))[0] + (sum(shapes.levels) if "category" in shapes else 0)
    theirs = authors.ResNet(d_in=width, d_out=n_outputs, **given)
    copies.set_(theirs.input_projection.weight, ours.input.weight)
    copies.set_(theirs.input_projection.bias, ours.input.bias)
    for block, mine in zip(theirs.blocks, ours.blocks, strict=True):
        for name, layer in (("normalization", mine.norm), ("linear1", mine.linear1), ("linear2", mine.linear2)):
            getattr(block, name).load_state_dict(layer.state_dict())
    theirs.output.normalization.load_state_dict(ours.norm.state_dict())
    theirs.output.linear.load_state_dict(ours.head.state_dict())
    return ours, theirs, copies.rows_of(shapes)


def flat(copies, x, shapes):
    number, category = copies.parts_of(x)
    parts = [] if number is None else [number]
    if category is not None:
        parts += [nn.functional.one_hot(category[:, j], n).float() for j, n in enumerate(shapes.levels)]
    return torch.cat(parts, 1)


SETTINGS = [
    {},
    {"n_blocks": 4, "d_block": 8},
    {"d_hidden_multiplier": 0.5, "n_outputs": 1},
    {"dropout1": 0.0, "dropout2": 0.4},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=repr)
@pytest.mark.parametrize("table", ["numbers", "mixed", "categories"])
@pytest.mark.parametrize("training", [True, False])
def test_outputs_and_gradients_equal_the_authors(copies, table, settings, training):
    ours, theirs, x = pair(copies, table, **settings)
    for module in (ours, theirs):
        module.train(training)
        for part in module.modules():
            if isinstance(part, nn.Dropout):
                part.p = 0.0
    got, wanted = ours(x), theirs(flat(copies, x, copies.TABLES[table]))
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)
    for out in (got, wanted):
        out.square().mean().backward()
    torch.testing.assert_close(ours.input.weight.grad, theirs.input_projection.weight.grad, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ours.head.weight.grad, theirs.output.linear.weight.grad, rtol=1e-4, atol=1e-5)
    mine, block = ours.blocks[0], theirs.blocks[0]
    torch.testing.assert_close(mine.linear1.weight.grad, block.linear1.weight.grad, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(mine.norm.running_var, block.normalization.running_var)


def test_dropout_is_where_the_authors_have_it(copies):
    ours, theirs, _ = pair(copies, "numbers", dropout1=0.25, dropout2=0.5)
    for mine, block in zip(ours.blocks, theirs.blocks, strict=True):
        assert [type(m).__name__ for m in mine] == [type(m).__name__ for m in block]
        assert [m.p for m in mine if isinstance(m, nn.Dropout)] == [0.25, 0.5]


@pytest.mark.parametrize("embedding", ["linear_relu", "periodic", "piecewise_linear", "piecewise_linear_encoding"])
def test_numbers_may_be_embedded(copies, embedding):
    x = copies.rows_of(copies.MIXED)
    net = ts.ResNet(1, d_block=6, embedding=embedding)(copies.showing(copies.MIXED, x), 2)
    number = net.input.numbers.embedding(x["number"]).flatten(1)
    wanted = net.input.linear({"number": number, "category": x["category"]})
    assert torch.equal(net.input(x), wanted)
    assert net(x).shape == (40, 2)
    assert ts.ResNet(embedding=embedding).uses_rows is ("piecewise" in embedding)


def test_head_has_no_bias_where_the_loss_ignores_a_shift(copies):
    assert ts.ResNet(d_block=4)(copies.NUMBERS, Outputs(1, bias=False)).head.bias is None


@pytest.mark.parametrize("embedding", [None, "piecewise_linear"])
def test_learners_fit_save_and_load_it(tmp_path, copies, embedding):
    network = ts.ResNet(1, d_block=16, embedding=embedding)
    settings = {"optimizer": ts.optim.AdamW(lr=0.01), "max_epochs": 10, "batch_size": 64, "random_state": 0}
    for learner, load, least in (
        (ts.TorchClassifier, load_breast_cancer, 0.95),
        (ts.TorchRegressor, load_diabetes, 0.4),
    ):
        X, y = load(return_X_y=True)
        made = learner(network, **settings).fit(X, y)
        assert made.score(X, y) > least
        loaded = ts.load(made.save(tmp_path / "learner"))
        assert np.array_equal(loaded.predict(X), made.predict(X))
        assert np.array_equal(pickle.loads(pickle.dumps(made)).predict(X), made.predict(X))


def test_names_and_settings_are_reached():
    assert len(build_network("ResNet", Shapes({"number": (3,)}), 1).blocks) == 2
    learner = ts.TorchClassifier("resnet").set_params(network__embedding="periodic")
    assert learner.set_params(network__embedding__size=3).network.embedding == ts.layers.PeriodicEmbedding(3)
    assert ts.ResNet().get_params()["dropout1"] == 0.3


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ts.ResNet(-1), "ResNet: n_blocks must be an int >= 1, got -1"),
        (lambda: ts.ResNet(d_block=None), "ResNet: d_block must be an int >= 1, got None"),
        (lambda: ts.ResNet(dropout2=1.0), r"ResNet: dropout2 must be in \[0, 1\), got 1.0"),
        (lambda: ts.ResNet(dropout1="a"), r"ResNet: dropout1 must be in \[0, 1\), got 'a'"),
        (lambda: ts.ResNet(d_hidden_multiplier=0.001), "makes a width >= 1 of 192, got 0.001"),
        (lambda: ts.ResNet(d_hidden_multiplier=float("inf")), "makes a width >= 1 of 192, got inf"),
        (lambda: ts.ResNet(activation=nn.ReLU()), "ResNet: activation must be a name or a function"),
        (lambda: ts.ResNet()(Shapes({"tensor": (3, 4)}), 2), "ResNet takes rows of a table"),
        (lambda: build_network("restnet", Shapes({"number": (3,)}), 1), "'restnet'. Did you mean 'resnet'"),
    ],
)
def test_what_cannot_be_is_refused_where_it_is_typed(make, message):
    with pytest.raises(ConfigError, match=message):
        make()
