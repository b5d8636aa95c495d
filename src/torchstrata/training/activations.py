"""Activations and their derivatives on preallocated buffers, for the steps that are written out."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


def _direct(operator: Any) -> Any:
    """Return what an operator of torch calls at once; its Python wrapper costs half as much as a small operation."""
    return getattr(operator, "_op", operator)


_aten = torch.ops.aten
_elu = _direct(_aten.elu.out)
_elu_backward = _direct(_aten.elu_backward.grad_input)
_gelu = _direct(_aten.gelu.out)
_gelu_backward = _direct(_aten.gelu_backward.grad_input)
_leaky_relu = _direct(_aten.leaky_relu.out)
_leaky_relu_backward = _direct(_aten.leaky_relu_backward.grad_input)
_sigmoid_backward = _direct(_aten.sigmoid_backward.grad_input)
_silu = _direct(_aten.silu.out)
_silu_backward = _direct(_aten.silu_backward.grad_input)
_softplus = _direct(_aten.softplus.out)
_softplus_backward = _direct(_aten.softplus_backward.grad_input)
_tanh_backward = _direct(_aten.tanh_backward.grad_input)
_threshold_backward = _direct(_aten.threshold_backward.grad_input)
_SELU_ALPHA, _SELU_SCALE = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946


@dataclasses.dataclass(frozen=True)
class Activation:
    """``forward(z, out)``, and ``backward(d, z, a)`` that turns the gradient at the output into that at z, in place."""

    forward: Callable[[Tensor, Tensor], Any]
    backward: Callable[[Tensor, Tensor, Tensor], Any]


def activation_of(layer: nn.Module) -> Activation | None:
    """Say how to compute an activation and its derivative.

    Parameters
    ----------
    layer : torch.nn.Module
        Any layer.

    Returns
    -------
    Activation or None
        None where it is not written out.
    """
    if not type(layer).__module__.startswith("torch.nn.modules."):
        return None  # a subclass may do anything
    match layer:
        case nn.Identity():
            return Activation(lambda z, a: a.copy_(z), lambda d, z, a: d)
        case nn.ReLU():
            return Activation(
                lambda z, a: torch.clamp_min(z, 0, out=a),
                lambda d, z, a: _threshold_backward(d, a, 0, grad_input=d),
            )
        case nn.Tanh():
            return Activation(lambda z, a: torch.tanh(z, out=a), lambda d, z, a: _tanh_backward(d, a, grad_input=d))
        case nn.Sigmoid():
            return Activation(
                lambda z, a: torch.sigmoid(z, out=a),
                lambda d, z, a: _sigmoid_backward(d, a, grad_input=d),
            )
        case nn.SiLU():
            return Activation(
                lambda z, a: _silu(z, out=a),
                lambda d, z, a: _silu_backward(d, z, grad_input=d),
            )
        case nn.LeakyReLU(negative_slope=s):
            return Activation(
                lambda z, a: _leaky_relu(z, s, out=a),
                lambda d, z, a: _leaky_relu_backward(d, z, s, False, grad_input=d),
            )
        case nn.GELU(approximate=how):
            return Activation(
                lambda z, a: _gelu_into(z, how, a),
                lambda d, z, a: _gelu_backward(d, z, approximate=how, grad_input=d),
            )
        case nn.Softplus(beta=beta, threshold=t):
            return Activation(
                lambda z, a: _softplus(z, beta, t, out=a),
                lambda d, z, a: _softplus_backward(d, z, beta, t, grad_input=d),
            )
        case nn.ELU(alpha=alpha):
            return _elu_of(alpha, 1.0)
        case nn.SELU():
            return _elu_of(_SELU_ALPHA, _SELU_SCALE)
    return None


def _gelu_into(z: Tensor, how: str, a: Tensor) -> None:
    if a.is_contiguous():
        _gelu(z, approximate=how, out=a)
    else:  # oneDNN, which torch asks for float32, leaves any other layout as it was, and says nothing (torch 2.13)
        a.copy_(nn.functional.gelu(z, approximate=how))


def _elu_of(alpha: float, scale: float) -> Activation:
    return Activation(
        lambda z, a: _elu(z, alpha, scale, 1.0, out=a),
        lambda d, z, a: _elu_backward(d, alpha, scale, 1.0, False, z, grad_input=d),
    )
