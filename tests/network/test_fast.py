"""Passes that are written out equal torch's own operations, values and gradients."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from torchstrata.network import fast

ACTIVATIONS = {"selu": nn.functional.selu, "mish": nn.functional.mish}
EXTREME = [-1e30, -200.0, -20.0, -1.0, -1e-6, 0.0, 1e-6, 1.0, 19.9, 20.1, 89.0, 1e30]


def with_gradients(function, *tensors):
    leaves = [t.clone().requires_grad_() for t in tensors]
    out = function(*leaves)
    weights = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view_as(out)
    return out.detach(), *torch.autograd.grad((out * weights).sum(), leaves)


@pytest.mark.parametrize("name", fast.WRITTEN)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@settings(max_examples=40, deadline=None)
@given(n=st.integers(1, 5), k=st.integers(1, 4), seed=st.integers(0, 1000), masked=st.booleans())
def test_activations_equal_torchs(name, dtype, n, k, seed, masked):
    draw = torch.Generator().manual_seed(seed)
    x = 5 * torch.randn(n, k, generator=draw, dtype=dtype)
    strength = torch.randn(k, generator=draw, dtype=dtype)
    mask = (torch.rand(n, k, generator=draw) < 0.7).to(dtype) * 1.5 if masked else None

    def plainly(x, strength):
        out = x + (ACTIVATIONS[name](x) - x) * strength
        return out if mask is None else out * mask

    ours = with_gradients(lambda x, s: fast.LearntActivation.apply(x, s, mask, name), x, strength)
    tolerance = {torch.float32: 2e-5, torch.float64: 1e-11}[dtype]
    for found, expected in zip(ours, with_gradients(plainly, x, strength), strict=True):
        torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", fast.WRITTEN)
def test_extreme_numbers_stay_finite(name):
    x = torch.tensor(EXTREME)[None]
    ours = with_gradients(lambda x: fast.LearntActivation.apply(x, torch.ones(len(EXTREME)), None, name), x)
    for found, expected in zip(ours, with_gradients(ACTIVATIONS[name], x), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", fast.WRITTEN)
def test_gradients_are_those_of_the_function(name):
    x = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    strength = torch.randn(3, dtype=torch.float64, requires_grad=True)
    mask = torch.tensor([[0.0, 2.0, 1.0]], dtype=torch.float64).expand(4, 3).contiguous()
    assert torch.autograd.gradcheck(lambda x, s: fast.LearntActivation.apply(x, s, mask, name), (x, strength))


def test_waves_equal_torchs_operations():
    p, n, h, size = 3, 7, 5, 2
    shapes = [(p, n), (p, h, 1), (p, h, 1), (p, size, h), (p, size, 1)]
    tensors = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    assert torch.autograd.gradcheck(fast.Waves.apply, tensors)
    x, frequency, phase, weight, bias = (t.detach() for t in tensors)
    expected = weight @ torch.cos(2 * math.pi * frequency * x[:, None] + phase) + bias
    torch.testing.assert_close(fast.Waves.apply(x, frequency, phase, weight, bias), expected)


def test_the_same_tensors_can_be_asked_twice():
    x, strength = torch.randn(4, 3, requires_grad=True), torch.ones(3)
    out = fast.LearntActivation.apply(x, strength, None, "selu").sum()
    first, second = (torch.autograd.grad(out, x, retain_graph=True)[0] for _ in range(2))
    assert torch.equal(first, second)


def test_where_they_are_not_taken():
    x = torch.randn(2, 2)
    assert fast.is_plain(x)
    assert fast.is_plain(x.double())
    assert not fast.is_plain(x.half())
    assert not fast.is_plain(x.to("meta"))
    seen = []
    torch.func.vmap(lambda row: (seen.append(fast.is_plain(row)), row)[1])(x)
    assert seen == [False]
