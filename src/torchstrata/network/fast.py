"""Layers of RealMLP with forward and backward pass written out, for plain tensors on a CPU.

torch computes SELU and Mish a number at a time there, and keeps what a sum of small operations needs for its gradient;
these take a fifth of the time. Everywhere else (a GPU, a compiler, vmap, mixed precision) the same is computed by
torch's own operations, with the same result but for rounding.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

_ALPHA, _SCALE = 1.6732632423543772, 1.0507009873554805  # of SELU (Klambauer et al. 2017), as torch has them
_MISH_MOST = 20.0  # Mish is the identity from here on, and the exponential of twice as much is still a float
WRITTEN = ("selu", "mish")


def is_plain(x: Tensor) -> bool:
    """Say whether passes that are written out can be taken.

    Parameters
    ----------
    x : Tensor
        What a layer gets.

    Returns
    -------
    bool
        True for float32 and float64 on a CPU, outside of compilers, transforms and mixed precision.
    """
    known = type(x) is Tensor and x.device.type == "cpu" and x.dtype in (torch.float32, torch.float64)
    if not known or torch.compiler.is_compiling() or torch.is_autocast_enabled("cpu"):
        return False
    return not torch._C._functorch.is_functorch_wrapped_tensor(x)


class LearntActivation(torch.autograd.Function):
    """``(x + strength * (activation(x) - x)) * mask`` of x (n, k), strength (k,) and a mask (n, k) or None."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, strength: Tensor, mask: Tensor | None, name: str) -> Tensor:
        """Compute the units."""
        bent = _selu(x) if name == "selu" else _mish(x)
        ctx.save_for_backward(x, bent, strength, mask)
        ctx.name = name
        out = torch.lerp(x, bent, strength)
        return out if mask is None else out.mul_(mask)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        """Return the gradients of x and strength."""
        x, bent, strength, mask = ctx.saved_tensors
        grad = grad if mask is None else grad * mask
        of_strength = (bent - x).mul_(grad).sum(0)
        part = grad * strength
        if ctx.name == "selu":
            of_bent = torch.ops.aten.elu_backward(part, _ALPHA, _SCALE, 1.0, True, bent)
        else:
            of_bent = _mish_slope(x).mul_(part)
        return of_bent.add_(grad).sub_(part), of_strength, None, None


def _selu(x: Tensor) -> Tensor:
    below = x.clamp_max(0.0).exp_().sub_(1.0).mul_(_ALPHA * _SCALE)
    return below.add_(x.relu(), alpha=_SCALE)


def _mish(x: Tensor) -> Tensor:
    e = x.clamp_max(_MISH_MOST).exp_()
    n = e.square().add_(e, alpha=2.0)  # tanh(softplus(x)) is n / (n + 2)
    return n.div_(n + 2.0).mul_(x)


def _mish_slope(x: Tensor) -> Tensor:
    x = x.clamp_max(_MISH_MOST)
    e = x.exp()
    n = e.square().add_(e, alpha=2.0)
    inverse = (n + 2.0).reciprocal_()
    bend = e.square().add_(e).mul_(x).mul_(4.0).mul_(inverse)
    return n.add_(bend).mul_(inverse)


class Waves(torch.autograd.Function):
    """``weight @ cos(2 pi frequency x + phase) + bias`` of each column: (p, n) to (p, size, n)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, frequency: Tensor, phase: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Compute the embeddings."""
        angle = torch.baddbmm(phase, frequency, x.unsqueeze(1), alpha=2 * math.pi)
        waves = angle.cos()
        ctx.save_for_backward(x, frequency, angle, waves, weight)
        return torch.baddbmm(bias, weight, waves)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor, Tensor, Tensor, Tensor]:
        """Return the gradients."""
        x, frequency, angle, waves, weight = ctx.saved_tensors
        of_angle = torch.bmm(weight.transpose(1, 2), grad).mul_(angle.sin())
        of_x = None
        if ctx.needs_input_grad[0]:
            of_x = torch.bmm(frequency.transpose(1, 2), of_angle).squeeze(1).mul_(-2 * math.pi)
        return (
            of_x,
            torch.bmm(of_angle, x.unsqueeze(2)).mul_(-2 * math.pi),
            of_angle.sum(2, keepdim=True).neg_(),
            torch.bmm(grad, waves.transpose(1, 2)),
            grad.sum(2, keepdim=True),
        )
