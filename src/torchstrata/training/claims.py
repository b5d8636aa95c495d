"""Which fits can take steps that are written out, and why others cannot."""

from __future__ import annotations

import inspect
from typing import Any

from torch import Tensor, nn

from torchstrata.batches.loader import GATHER_WHOLE_BELOW, Rows
from torchstrata.network.dropout import Dropout
from torchstrata.network.members import LossByMember, members_of
from torchstrata.network.tabular import TabularLinear
from torchstrata.training.activations import activation_of
from torchstrata.training.groups import why_grouped
from torchstrata.training.loss import Loss
from torchstrata.training.runtime import Decisions
from torchstrata.training.updates import is_known

AMPLIFIED = "a normalised loss has no slope along the scale of the scores, and Adam would make steps of rounding there"


def why_not(
    module: nn.Module, rows: Rows, optimizer: Any, decisions: Decisions, *, others: dict[str, Any], loss: Any = None
) -> str:
    """Say why a fit must go through autograd.

    Parameters
    ----------
    module : torch.nn.Module
        The network.
    rows : Rows
        Training rows.
    optimizer : object
        As given.
    decisions : Decisions
        Device, precision and so on.
    others : dict of str to object
        Settings that this path does not know; each must be empty.
    loss : callable, optional
        Resolved.

    Returns
    -------
    str
        The reason; empty where nothing is against it.
    """
    runtime = decisions.runtime
    reasons = {
        f"the device is {decisions.device.type}": decisions.device.type != "cpu",
        f"precision is {runtime.precision}": runtime.precision not in ("float32", "float64"),
        "compile is on": runtime.compile,
        "gradients are accumulated": runtime.accumulate > 1,
        **{f"{name} set": bool(value) for name, value in others.items()},
        f"{optimizer!r} is not written out": not is_known(optimizer),
        AMPLIFIED: _amplifies(loss, optimizer),
        rows.by_batch: bool(rows.by_batch),  # streamed rows, and images of bytes
        (grouped := why_grouped(module, optimizer)): bool(grouped),
        "the network has layers that are not written out": parse(module) is None,
        "the inputs are no table of numbers, or have too many levels": not _fits(module, rows),
    }
    return next((reason for reason, applies in reasons.items() if applies), "")


def parse(module: nn.Module) -> list[tuple[Any, nn.Module | None, Any]] | None:
    """Read a network as linear layers, each but the last with an activation and perhaps dropout.

    Parameters
    ----------
    module : torch.nn.Module
        The network.

    Returns
    -------
    list of (linear, activation, dropout) or None
        The layers; None where it is not of this kind.
    """
    parts = list(module) if type(module) is nn.Sequential else [module]
    found: list[tuple[Any, nn.Module | None, Any]] = []
    while parts:
        linear, *parts = parts
        if type(linear) is not nn.Linear and (found or type(linear) is not TabularLinear):
            return None
        activation, dropout = None, None
        if parts:
            activation, *parts = parts
            if parts and type(parts[0]) is Dropout:
                dropout, *parts = parts
            if activation_of(activation) is None or not parts or getattr(dropout, "p", 0.0) >= 1:
                return None
        found.append((linear, activation, dropout))
    parameters = list(module.parameters())
    tied = len({id(p) for p in parameters}) < sum(1 for linear, *_ in found for _ in linear.parameters())
    hooked = any(m._forward_hooks or m._forward_pre_hooks or m._backward_hooks for m in module.modules())
    plain = all(p.requires_grad and p.dtype == parameters[0].dtype and not p._backward_hooks for p in parameters)
    return found if plain and not hooked and not tied else None


def _amplifies(loss: Any, optimizer: Any) -> bool:
    """Say whether what rounding leaves of a slope that is zero grows to what can be told apart."""
    normalised = isinstance(loss, Loss) and bool(loss.get_params().get("normalize"))
    return normalised and type(optimizer).__name__ != "SGD"


def _fits(module: nn.Module, rows: Rows) -> bool:
    first = next(iter(module)) if isinstance(module, nn.Sequential) else module
    if isinstance(first, TabularLinear):
        return first.weight.shape[1] * len(rows) * first.weight.element_size() < GATHER_WHOLE_BELOW
    return isinstance(rows.x, Tensor) and rows.x.ndim == 2 and rows.x.is_floating_point()


def why_not_vmap(
    module: nn.Module, rows: Rows, optimizer: Any, decisions: Decisions, *, others: dict[str, Any], loss: Any
) -> str:
    """Say why a network cannot train beside others of its shape under ``torch.func.vmap``.

    Parameters
    ----------
    module, rows, optimizer, decisions, others
        As of :func:`why_not`.
    loss : callable
        Must take weights, for batches of unequal size are filled up with rows of weight zero.

    Returns
    -------
    str
        The reason; empty where nothing is against it.
    """
    runtime = decisions.runtime
    buffers = next((name for name, _ in module.named_buffers()), "")
    stateful = [type(m).__name__ for m in module.modules() if isinstance(m, _STATEFUL)]
    drawing = [type(m).__name__ for m in module.modules() if isinstance(m, _DRAWING)]
    slow = [type(m).__name__ for m in module.modules() if isinstance(m, _SLOW)]
    reasons = {
        f"the device is {decisions.device.type}": decisions.device.type not in ("cpu", "cuda"),
        f"precision is {runtime.precision}": runtime.precision not in ("float32", "float64"),
        "compile is on": runtime.compile,
        "gradients are accumulated": runtime.accumulate > 1,
        **{f"{name} set": bool(value) for name, value in others.items()},
        f"{optimizer!r} is not written out for many": not is_known(optimizer),
        AMPLIFIED: _amplifies(loss, optimizer),
        rows.by_batch: bool(rows.by_batch),  # streamed rows, and images of bytes
        (grouped := why_grouped(module, optimizer)): bool(grouped),
        "the network has members with losses of their own": bool(members_of(module)),
        f"{''.join(stateful[:1])} keeps running statistics, which rows that fill up a batch would change": bool(
            stateful
        ),
        f"{''.join(drawing[:1])} draws from torch's one generator": bool(drawing),
        f"{''.join(slow[:1])} is not faster for many networks at a time": bool(slow),
        f"the buffer {buffers!r} may differ": bool(buffers) and not _same_buffers(module),
        "a parameter is frozen or of another type": len({(p.requires_grad, p.dtype) for p in module.parameters()}) > 1,
        "the loss takes no weights of rows": not takes_weight(loss),
    }
    return next((reason for reason, applies in reasons.items() if applies), "")


_STATEFUL = (nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm)
_DRAWING = (nn.modules.dropout._DropoutNd, nn.RReLU, nn.MultiheadAttention, nn.TransformerEncoderLayer)
_SLOW = (nn.modules.conv._ConvNd, nn.RNNBase)


def _same_buffers(module: nn.Module) -> bool:
    """Say whether all buffers are constants of the shapes, such as the offsets of categories."""
    return all(isinstance(m, TabularLinear) for m in module.modules() if m._buffers)


def takes_weight(loss: Any) -> bool:
    """Say whether a loss can be called with weights of rows.

    Parameters
    ----------
    loss : callable
        Resolved.

    Returns
    -------
    bool
        True for those of this library, and for functions of three arguments.
    """
    loss = loss.loss if isinstance(loss, LossByMember) else loss
    function = getattr(loss, "function", loss)
    if isinstance(loss, Loss):
        return True
    try:
        inspect.signature(getattr(function, "forward", function)).bind(None, None, None)
    except (TypeError, ValueError):
        return False
    return True
