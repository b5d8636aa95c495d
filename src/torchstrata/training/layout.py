"""Images in the order in which convolutions are quickest: the channels of a pixel side by side.

The numbers are the same but for rounding. torch's own dropout on maps fills its masks in the order of memory, so there
its draws are others.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from torchstrata.batches.loader import Tensors
from torchstrata.training.predict import evaluating
from torchstrata.training.runtime import Decisions

_CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)


def has_images(x: Any) -> bool:
    """Say whether inputs have four dimensions: row, channel, height, width.

    Parameters
    ----------
    x : Tensor, dict of Tensor or ByBatch
        Inputs.

    Returns
    -------
    bool
        True where one of them has.
    """
    return any(value.ndim == 4 for value in (x.values() if isinstance(x, dict) else [x]))


def channels_last(x: Any) -> Any:
    """Put the channels of a pixel side by side.

    Parameters
    ----------
    x : Tensor or dict of Tensor
        Inputs of one batch.

    Returns
    -------
    Tensor or dict of Tensor
        The same numbers; what has not four dimensions is the same tensor.
    """
    if isinstance(x, dict):
        return {name: channels_last(value) for name, value in x.items()}
    return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x


def choose_layout(module: nn.Module, decisions: Decisions, example: Callable[[], Tensors]) -> bool:
    """Decide whether images are computed with channels last, and keep the reason.

    Parameters
    ----------
    module : torch.nn.Module
        The network; where the answer is yes, the weights of its convolutions are in that order afterwards.
    decisions : Decisions
        Get the reason.
    example : callable
        Gives a few rows of inputs, to try it.

    Returns
    -------
    bool
        Whether batches are to be converted; then :func:`ordinary` puts the weights back after the fit.
    """
    why_not = _why_not(module, decisions)
    if not why_not:
        x = example()
        with decisions.forked(), evaluating(module):
            expected = module(x)
            _convert(module, torch.channels_last)
            why_not = _failure(module, channels_last(x), expected)
        if why_not:
            ordinary(module)
    why = why_not or "images and convolutions: quicker on CPUs, and where a GPU computes in tiles"
    decisions.reasons["memory_format"] = ("contiguous" if why_not else "channels_last", why)
    return not why_not


def ordinary(module: nn.Module) -> None:
    """Put the weights of convolutions back into the ordinary order.

    Parameters
    ----------
    module : torch.nn.Module
        The network.
    """
    _convert(module, torch.contiguous_format)


def _why_not(module: nn.Module, decisions: Decisions) -> str:
    layers = [m for m in module.modules() if isinstance(m, _CONVOLUTIONS)]
    if not layers:
        return "the network has no convolutions"
    if decisions.device.type not in ("cpu", "cuda"):
        return f"not measured on {decisions.device.type}"
    if decisions.dtype == torch.float64:
        return "not quicker in float64"
    if decisions.device.type == "cpu" and any(m.groups > 1 or isinstance(m, nn.ConvTranspose2d) for m in layers):
        return "grouped and transposed convolutions are not quicker with channels last on a CPU"
    return ""


def _failure(module: nn.Module, x: Tensors, expected: Tensor) -> str:
    """Say what goes wrong with channels last: a ``view`` cannot be taken, or strides were read."""
    try:
        output = module(x)
    except RuntimeError as error:
        said = next(iter(str(error).splitlines()), "")
        return f"the network cannot compute it ({said}); reshape or flatten(1) instead of view would do"
    scale = expected.abs().max().clamp_min(1.0)
    if not torch.allclose(output / scale, expected / scale, rtol=0, atol=1e-3, equal_nan=True):
        return "the network computes something else with it"
    return ""


def _convert(module: nn.Module, order: torch.memory_format) -> None:
    for layer in module.modules():
        if isinstance(layer, _CONVOLUTIONS):
            with contextlib.suppress(AttributeError):  # a lazy layer without weights yet
                layer.weight.data = layer.weight.data.contiguous(memory_format=order)
