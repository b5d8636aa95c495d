"""Layers for sequences: how lengths travel through a graph, and what would read the padding."""

from __future__ import annotations

import pytest
import torch

import torchstrata as ts
from torchstrata.data.shapes import Shapes

L = ts.layers
SHAPES = Shapes({"signal": (None, 2), "other": (None, 3), "text": (None,), "number": (4,)},
                sequences={"signal": 0, "other": 0, "text": 9})  # fmt: skip
SIGNAL, TEXT, OTHER = ts.Input("signal"), ts.Input("text"), ts.Input("other")


def batch(steps=6):
    torch.manual_seed(0)
    return {
        "signal": torch.randn(3, steps, 2),
        "signal_lengths": torch.tensor([steps, 2, 4]),
        "other": torch.randn(3, 3, 3),
        "other_lengths": torch.tensor([1, 3, 2]),
        "text": torch.randint(0, 9, (3, 5)),
        "text_lengths": torch.tensor([5, 1, 2]),
        "number": torch.randn(3, 4),
    }


def through(node):
    return ts.Graph(L.Head()(L.PoolSteps()(node)))


@pytest.mark.parametrize(
    "node",
    [
        L.GELU()(L.LayerNorm()(L.Linear(4)(SIGNAL))),
        L.Dropout(0.5)(L.StepConv(4, 3, dilation=2)(SIGNAL)),
        L.Add()(L.LSTM(4)(SIGNAL), L.Linear(4)(SIGNAL)),
        L.Concat(dim=2)(SIGNAL, L.Softmax()(SIGNAL)),
        L.GRU(3, bidirectional=True)(L.PositionalEncoding()(L.Embedding(4)(TEXT))),
        ts.Block(L.TransformerEncoderLayer(2, dim_feedforward=8), repeat=2)(L.Linear(4)(SIGNAL)),
        L.MultiheadAttention(2)(L.Linear(4)(SIGNAL), L.Linear(4)(OTHER)),
        L.TransformerDecoderLayer(2, dim_feedforward=8)(L.Linear(4)(SIGNAL), L.Linear(4)(OTHER)),
        L.Function(torch.tanh)(SIGNAL),
    ],
    ids=lambda node: type(node.layer).__name__,
)
def test_lengths_reach_the_pooling(node):
    module = through(node)(SHAPES, 2).eval()
    x, long = batch(), batch()
    for name in ("signal", "other", "text"):  # two more steps of what must not be read
        more = torch.full_like(long[name][:, :2], 5)
        long[name] = torch.cat([long[name], more], 1)
    with torch.no_grad():
        torch.testing.assert_close(module(long), module(x), rtol=0, atol=2e-6)


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (lambda: L.Flatten()(SIGNAL), "mixes the steps of a row.*'signal'|does not keep rows apart"),
        (lambda: L.Softmax(dim=1)(SIGNAL), "mixes the steps of a row.*ts.Input\\('signal_lengths'\\)"),
        (lambda: L.Concat(dim=1)(SIGNAL, SIGNAL), "mixes the steps"),
        (lambda: L.AvgPool1d(2)(SIGNAL), "mixes the steps"),
        (lambda: L.Conv1d(3, 3)(SIGNAL), "use ts.layers.StepConv"),
        (lambda: L.Add()(SIGNAL, L.Linear(2)(OTHER)), "different lengths, 'signal' and 'other'"),
        (lambda: L.GRU(3)(TEXT), "holds tokens: put ts.layers.Embedding"),
        (lambda: L.PoolSteps()(TEXT), "holds? tokens: put ts.layers.Embedding"),
        (lambda: L.PoolSteps()(ts.Input("number")), r"takes rows of shape \(steps, features\), got \(4,\)"),
        (lambda: L.Head()(SIGNAL), "put ts.layers.PoolSteps\\(\\) before it"),
    ],
)
def test_what_would_read_the_padding_is_refused(node, message):
    with pytest.raises(ts.ConfigError, match=message):
        ts.Graph(L.Head()(node()))(SHAPES, 2)


def test_a_function_of_yours_may_read_the_lengths():
    def total(x, length):
        return (x * (torch.arange(x.shape[1]) < length[:, None])[:, :, None]).sum(1)

    node = L.Function(total)(SIGNAL, ts.Input("signal_lengths"))
    module = ts.Graph(node)(SHAPES, 2)
    x = batch()
    assert torch.allclose(module(x)[1], x["signal"][1, :2].sum(0))
    summary = ts.Graph(node).summary(SHAPES)
    assert summary["output_shape"].tolist() == ["(any, 2)", "()", "(2,)"]


def test_settings_are_checked_where_they_are_typed():
    with pytest.raises(ts.ConfigError, match="Did you mean 'mean'"):
        L.PoolSteps("men")
    with pytest.raises(ts.ConfigError, match="kernel_size must be an int >= 1"):
        L.StepConv(3, 0)
    assert repr(L.StepConv(8, 3, dilation=2)) == "StepConv(8, 3, dilation=2)"


def test_a_layer_without_lengths_is_as_before():
    chain = ts.Chain([L.GRU(4), L.PoolSteps("last"), L.Head()])
    module = chain({"tensor": (5, 2)}, 1)
    assert type(module) is torch.nn.Sequential and module(torch.randn(3, 5, 2)).shape == (3, 1)
