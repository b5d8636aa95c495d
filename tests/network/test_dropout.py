"""Dropout with draws of its own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from torchstrata.network.dropout import BitStream, Dropout, seeded


@given(portions=st.lists(st.integers(0, 50), max_size=20), seed=st.integers(0, 2**32 - 1))
def test_portions_make_no_difference(portions, seed):
    one, other = BitStream(seed, 3), BitStream(seed, 3)
    taken = [one.take(n) for n in portions]
    assert np.array_equal(np.concatenate([*taken, one.take(7)]), other.take(sum(portions) + 7))


def test_bits_are_uniform_and_streams_differ():
    a, b = BitStream(0, 0).take(2**18), BitStream(0, 1).take(2**18)
    assert len(np.unique(a)) > 64_000
    counts = np.bincount(a.astype(np.int64) // 4096 + 8, minlength=16)
    assert abs(counts / 2**14 - 1).max() < 0.05  # 6 standard deviations
    assert abs(np.corrcoef(a, b)[0, 1]) < 0.01


@pytest.mark.parametrize("p", [0.0, 1e-6, 0.1, 0.5, 0.9, 0.99999, 1.0])
def test_what_stays_has_the_right_share_and_mean(p):
    layer = nn.Sequential(Dropout(p)).double()
    x = torch.ones(1000, 400, dtype=torch.float64)
    with seeded(layer, 1):
        out = layer(x)
    assert abs((out == 0).double().mean().item() - p) < 0.005
    if p == 1:
        assert not out.any()
    if p < 0.99:
        assert abs(out.mean().item() - 1) < 0.03
    values = out.unique()
    assert len(values) <= 2 and torch.isfinite(values).all()


def test_only_in_training_and_only_when_seeded():
    layer, x = Dropout(0.5), torch.ones(50, 20)
    torch.manual_seed(0)
    plain = layer(x)
    torch.manual_seed(0)
    assert torch.equal(plain, nn.functional.dropout(x, 0.5))  # torch's own
    with seeded(layer, 7):
        state = torch.get_rng_state()
        first = layer(x)
        assert torch.equal(torch.get_rng_state(), state)
        assert not torch.equal(first, layer(x))
        assert torch.equal(layer.eval()(x), x)
    with seeded(layer.train(), 7):
        assert torch.equal(layer(x), first)
    assert layer.stream is None


def test_it_ends_with_an_error_too():
    layer = Dropout(0.5)
    with pytest.raises(RuntimeError), seeded(layer, 1):
        raise RuntimeError
    assert layer.stream is None


def test_layers_of_a_network_draw_from_streams_of_their_own():
    net = nn.Sequential(Dropout(0.5), nn.Identity(), Dropout(0.5))
    x = torch.ones(30, 30)
    with seeded(net, 1):
        assert not torch.equal(net[0](x), net[2](x))


@pytest.mark.parametrize("shape", [(6,), (4, 6), (3, 4, 6), (2, 3, 4, 5)])
def test_any_shape_and_the_gradient(shape):
    layer, x = Dropout(0.4), torch.ones(shape, requires_grad=True)
    with seeded(layer, 2):
        out = layer(x)
    out.sum().backward()
    assert out.shape == shape and torch.equal(x.grad, out)


def test_it_is_a_dropout_to_everybody_else():
    layer = Dropout(0.25)
    assert isinstance(layer, nn.Dropout) and repr(layer) == "Dropout(p=0.25, inplace=False)" and not layer.state_dict()
