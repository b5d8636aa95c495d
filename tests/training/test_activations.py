"""Activations on buffers of every layout: what is not written is not seen, for the buffer held plausible numbers."""

from __future__ import annotations

import pytest
import torch

from torchstrata.network.activations import ACTIVATIONS
from torchstrata.training.activations import activation_of

LAYOUTS = {"whole": (0, 0), "rows of more": (5, 0), "columns of more": (0, 1), "both": (5, 1)}
WRITTEN_OUT = [name for name, layer in ACTIVATIONS.items() if activation_of(layer()) is not None]


def buffer(layout, dtype):
    rows, columns = LAYOUTS[layout]
    return torch.randn(3, 16 + rows, 40 + columns, dtype=dtype)[:, :16, :40]


def test_those_of_the_mlp_are_here():
    assert {"relu", "gelu", "silu", "tanh", "elu", "selu", "leaky_relu", "sigmoid", "softplus"} <= set(WRITTEN_OUT)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("out", LAYOUTS)
@pytest.mark.parametrize("into", LAYOUTS)
@pytest.mark.parametrize("name", WRITTEN_OUT)
def test_values_and_derivatives_are_those_of_autograd(name, into, out, dtype):
    layer = ACTIVATIONS[name]()
    written = activation_of(layer)
    z, a, d = buffer(into, dtype), buffer(out, dtype), buffer(out, dtype)
    x = z.clone().requires_grad_()
    expected = layer(x)
    (gradient,) = torch.autograd.grad(expected, x, d.clone())
    written.forward(z, a)
    written.backward(d, z, a)
    tolerance = {"rtol": 1e-5, "atol": 2e-6} if dtype == torch.float32 else {"rtol": 1e-12, "atol": 1e-12}
    torch.testing.assert_close(a, expected.detach(), **tolerance)
    torch.testing.assert_close(d, gradient, **tolerance)


def test_gelu_by_tanh_too():
    layer = torch.nn.GELU(approximate="tanh")
    z, a = buffer("whole", torch.float32), buffer("both", torch.float32)
    activation_of(layer).forward(z, a)
    torch.testing.assert_close(a, layer(z))
