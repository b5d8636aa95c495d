"""Outputs do not depend on how many rows there are or in which order they come."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import torchstrata as ts
from torchstrata.data.encode import Shapes
from torchstrata.errors import ConfigError
from torchstrata.training.predict import BLOCK, check_network, is_quiet, parts_of, predict_blocks, whole_block

N = 300
NETS = {
    "linear": ts.Linear(),
    "mlp": ts.MLP((32, 16)),
    "wide": ts.MLP((257,), activation="gelu"),
    "batch": ts.MLP((20,), norm="batch"),
    "layer": ts.MLP((20, 20, 20), norm="layer", activation="tanh"),
    "dropout": ts.MLP((50,), dropout=0.5),
}


def make(name, shapes, dtype=torch.float32):
    torch.manual_seed(1)
    net = NETS[name](Shapes(*shapes), 3).to(dtype)
    x = torch.randn(N, 13, dtype=dtype)
    if len(shapes) > 1:
        return net, {"number": x, "category": torch.randint(0, 4, (N, 2))}
    return net, x


def take(x, index):
    return {k: v[index] for k, v in x.items()} if isinstance(x, dict) else x[index]


@pytest.mark.parametrize(
    "shapes", [({"number": (13,)},), ({"number": (13,), "category": (2,)}, (4, 4))], ids=["x", "dict"]
)
@pytest.mark.parametrize("name", NETS)
def test_bitwise_independent_of_number_and_order_of_rows(name, shapes):
    net, x = make(name, shapes)
    whole = predict_blocks(net, x)
    assert whole.shape == (N, 3)
    assert not whole.requires_grad
    for size in (1, 7, BLOCK, BLOCK + 1, 1000):
        parts = [predict_blocks(net, take(x, slice(i, i + size))) for i in range(0, N, size)]
        assert torch.equal(torch.cat(parts), whole)
    for seed in range(5):
        order = torch.randperm(N, generator=torch.Generator().manual_seed(seed))
        assert torch.equal(predict_blocks(net, take(x, order)), whole[order])
    with torch.no_grad():
        torch.testing.assert_close(whole, net.eval()(x), rtol=0, atol=1e-6)


@pytest.mark.parametrize("n", [1, BLOCK - 1, BLOCK, BLOCK + 1])
def test_other_rows_in_a_block_do_not_matter(n):
    net, x = make("mlp", ({"number": (13,)},))
    whole = predict_blocks(net, x)
    x[n:] = 1e6
    assert torch.equal(predict_blocks(net, x)[:n], whole[:n])


def test_modes_come_back_also_after_an_error():
    net, x = make("dropout", ({"number": (13,)},))
    net.train()
    net[2].eval()
    predict_blocks(net, x)
    assert [m.training for m in net.modules()] == [True, True, True, False, True]
    with pytest.raises(RuntimeError):
        predict_blocks(net, x[:, :5])
    assert [m.training for m in net.modules()] == [True, True, True, False, True]


def test_one_output_without_a_column_and_no_rows():
    net = nn.Sequential(nn.Linear(2, 1), nn.Flatten(0))
    assert predict_blocks(net, torch.zeros(70, 2)).shape == (70,)
    assert predict_blocks(nn.Linear(2, 3), torch.zeros(0, 2)).shape == (0, 3)


class Returns(nn.Module):
    def __init__(self, value):
        super().__init__()
        self.value = value

    def forward(self, x):
        return self.value(x) if callable(self.value) else self.value


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (lambda x: x[:, :3], r"returned shape \(2, 3\) for 2 rows, expected \(2, 1\)"),
        (lambda x: x[:, 0].long(), r"returned Tensor, expected a float tensor of shape \(2, 1\)"),
        (3, "returned int, expected a float tensor"),
        ((1, 2), "returned tuple, expected a float tensor"),
        (None, "returned NoneType, expected"),
        (lambda x: x @ torch.zeros(7, 1), r"cannot compute 2 rows of shape \(2, 13\): mat1 and mat2"),
        (lambda x: x["number"], "cannot compute 2 rows"),
    ],
)
def test_networks_are_tried_on_two_rows(value, message):
    with pytest.raises(ConfigError, match=message):
        check_network(Returns(value), torch.zeros(5, 13), 1)


@pytest.mark.parametrize("value", [lambda x: x[:, :1], lambda x: x[:, 0]])
def test_networks_that_can_be_used_pass(value):
    check_network(Returns(value), torch.zeros(5, 13), 1)
    check_network(Returns(value), torch.zeros(1, 13), 1)


def test_trying_leaves_statistics_alone():
    net = nn.Sequential(nn.Linear(13, 2), nn.BatchNorm1d(2))
    check_network(net, torch.randn(5, 13), 2)
    assert net[1].num_batches_tracked == 0
    assert net.training


def test_a_block_made_by_numpy_is_the_block_made_by_torch():
    net, x = make("mlp", ({"number": (13,)},))
    for n in (1, 5, BLOCK):
        wide = x[:n].double().numpy() / 3
        block = whole_block(wide, torch.float32)
        assert block.shape == (BLOCK, 13) and block.dtype == torch.float32
        wanted = predict_blocks(net, torch.from_numpy(wide).float())
        assert torch.equal(predict_blocks(net, block, quiet=parts_of(net))[:n], wanted)
    assert whole_block(wide, torch.float64).dtype == torch.float64


def test_networks_that_draw_are_known_by_what_they_are_made_of():
    shared = nn.Linear(2, 2)
    net = nn.Sequential(shared, nn.Sequential(nn.Dropout(), shared), nn.ReLU())
    assert len(parts_of(net)) == 5 == len(list(net.modules()))
    assert is_quiet(parts_of(net)) and is_quiet(
        parts_of(ts.MLP((3,), dropout=0.5, norm="batch")(Shapes({"number": (2,)}), 1))
    )
    assert not is_quiet(parts_of(nn.Sequential(Returns(3))))
    assert not is_quiet(parts_of(nn.Sequential(nn.FractionalMaxPool2d(2, output_size=1))))
    shared.register_forward_hook(lambda *_: None)
    assert not is_quiet(parts_of(net))
