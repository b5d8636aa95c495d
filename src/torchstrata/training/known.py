"""Losses whose gradient is computed beside their value, by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

# (value, slope) of scores, which of them are positive, and weights
ByHand = Callable[[Tensor, Tensor, Tensor | None], tuple[Tensor, Tensor]]


def is_plain(*tensors: Tensor | None) -> bool:
    """Say whether numbers may be read without waiting for a device or stopping a transform.

    Parameters
    ----------
    *tensors : Tensor or None
        What would be read.

    Returns
    -------
    bool
        True for CPU tensors that are neither traced by a compiler nor batched by vmap.
    """
    return not torch.compiler.is_compiling() and all(t is None or _is_plain(t) for t in tensors)


def _is_plain(tensor: Tensor) -> bool:
    known = type(tensor) in (Tensor, torch.nn.Parameter) and tensor.device.type == "cpu"
    return known and not torch._C._functorch.is_functorch_wrapped_tensor(tensor)


class KnownGradient(torch.autograd.Function):
    """A value whose gradient is known: ``KnownGradient.apply(scores, value, slope)``.

    Of the old style, for plain tensors: torch binds the signature of the new style at every call, which costs more
    than a small loss.
    """

    @staticmethod
    def forward(ctx: Any, scores: Tensor, value: Tensor, slope: Tensor) -> Tensor:
        """Return the value, remember the slope."""
        ctx.slope = slope
        return value

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        """Return the slope, times what comes from above."""
        return grad * ctx.slope, None, None
