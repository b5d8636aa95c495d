"""Linear and MLP written out: forward, backward and update on preallocated buffers.

For a small network most of a step is bookkeeping: recording the graph, allocating outputs, walking modules, visiting
parameters. Here the same sums are written out. All weights of a network lie in one flat tensor, so the optimizer is one
call; its module keeps looking at them, so whatever reads the module sees them change.

The path is taken by itself where it gives what autograd gives, and ``runtime_`` says so; whatever it does not claim
(other layers, batch hooks, autocast, gradient accumulation, ...) goes through autograd.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from torchstrata.batches.loader import GATHER_WHOLE_BELOW, Rows
from torchstrata.network.tabular import TabularLinear
from torchstrata.training.activations import Activation, activation_of
from torchstrata.training.heads import head_for
from torchstrata.training.optim import TorchOptimizer
from torchstrata.training.runtime import Decisions
from torchstrata.training.schedules import Scheduled
from torchstrata.training.state import TrainState


@dataclasses.dataclass
class _Layer:
    """A linear layer and what follows it; the gradients are views of one flat tensor."""

    weight: Tensor
    bias: Tensor | None
    grad_weight: Tensor
    grad_bias: Tensor | None
    activation: Activation | None
    dropout: float


class _Tape:
    """Buffers for batches of one size."""

    def __init__(self, layers: list[_Layer], rows: int, like: Tensor):
        self.z = [like.new_empty(rows, layer.weight.shape[0]) for layer in layers[:-1]]
        self.a = [torch.empty_like(z) for z in self.z]
        self.d = [like.new_empty(rows, layer.weight.shape[0]) for layer in layers]
        hidden = list(zip(layers[:-1], self.a, strict=True))  # without dropout a layer's output is its activation
        self.mask = [torch.empty_like(a) if layer.dropout else a for layer, a in hidden]
        self.h = [torch.empty_like(a) if layer.dropout else a for layer, a in hidden]


class Dense:
    """The steps of one epoch, written out.

    Parameters
    ----------
    state : TrainState
        Its module is a network that :func:`why_not` has nothing against; its parameters become views of one tensor.
    rows : Rows
        Training rows.
    loss : callable
        Cross-entropy, squared error and AUM are written out; of others autograd takes the gradient at the outputs.
    optimizer : TorchOptimizer
        SGD, Adam or AdamW.
    decisions : Decisions
        Gives ``clip_norm``.
    schedule : object
        The learning rate over epochs or steps.
    n_batches : int
        In an epoch.
    """

    def __init__(
        self,
        state: TrainState,
        rows: Rows,
        loss: Callable[..., Tensor],
        optimizer: TorchOptimizer,
        decisions: Decisions,
        *,
        schedule: Any,
        n_batches: int,
    ):
        self.state, self.clip_norm = state, decisions.runtime.clip_norm
        self.flat, self.grad = _flatten(state.module)
        self.layers = _layers(state.module, self.grad)
        self.x, self.head = _matrix(state.module, rows), head_for(loss, rows, self.layers[-1].weight.shape[0])
        self.update = _Sgd(self, optimizer) if type(optimizer).__name__ == "SGD" else _Adam(self, optimizer)
        self._tapes: dict[int, _Tape] = {}
        state.optimizer = Settings(optimizer) if schedule is None else _followed(optimizer, state.module)
        self.scheduled = Scheduled(
            schedule, state.optimizer, epochs=state.max_epochs, steps=state.max_epochs * n_batches
        )

    def epoch(self, order: np.ndarray, bounds: np.ndarray, *, keep: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Take one step for each batch.

        Parameters
        ----------
        order, bounds : ndarray of int64
            Batch b is ``order[bounds[b]:bounds[b + 1]]``.
        keep : bool
            Whether the outputs will be read; here they are there anyway.

        Returns
        -------
        losses, masses : Tensor of shape (batches,)
            Loss and sum of weights of each batch.
        outputs : Tensor of shape (n, n_outputs)
            In training mode, in the order of ``order``.
        """
        index, cuts = torch.from_numpy(order), bounds.tolist()
        x, update, tail = self.x.index_select(0, index), self.update, self.layers[-1].weight.shape[0]
        outputs, stepwise = x.new_empty(len(order), tail), self.scheduled.per == "step"
        self.head.begin(index, bounds)
        update.follow(self.state.optimizer.param_groups[0])
        for b, (start, end) in enumerate(itertools.pairwise(cuts)):
            self.state.step = b + 1
            tape, batch, output = self._tape(end - start), x[start:end], outputs[start:end]
            self._forward(batch, tape, output)
            self.head.gradient(b, start, end, output, tape.d[-1])
            self._backward(batch, tape)
            if self.clip_norm is not None:
                self.grad.mul_((self.clip_norm / (torch.linalg.vector_norm(self.grad) + 1e-6)).clamp_max(1.0))
            update()
            if stepwise:
                self.scheduled.after_step()
                update.follow(self.state.optimizer.param_groups[0])
        return self.head.losses(outputs), self.head.masses, outputs

    def _tape(self, rows: int) -> _Tape:
        if rows not in self._tapes:
            self._tapes[rows] = _Tape(self.layers, rows, self.flat)
        return self._tapes[rows]

    def _forward(self, x: Tensor, tape: _Tape, output: Tensor) -> None:
        for i, layer in enumerate(self.layers[:-1]):
            z, a, h = tape.z[i], tape.a[i], tape.h[i]
            _affine(x, layer, z)
            layer.activation.forward(z, a)  # type: ignore[union-attr]
            if layer.dropout:  # the same draws as torch's, so that both paths are the same fit
                torch.mul(a, tape.mask[i].bernoulli_(1 - layer.dropout).div_(1 - layer.dropout), out=h)
            x = h
        _affine(x, self.layers[-1], output)

    def _backward(self, x: Tensor, tape: _Tape) -> None:
        for i in range(len(self.layers) - 1, -1, -1):
            layer, d = self.layers[i], tape.d[i]
            torch.mm(d.t(), tape.h[i - 1] if i else x, out=layer.grad_weight)
            if layer.grad_bias is not None:
                torch.sum(d, 0, out=layer.grad_bias)
            if i:
                before, below = self.layers[i - 1], tape.d[i - 1]
                torch.mm(d, layer.weight, out=below)
                if before.dropout:
                    below.mul_(tape.mask[i - 1])
                before.activation.backward(below, tape.z[i - 1], tape.a[i - 1])  # type: ignore[union-attr]


def _affine(x: Tensor, layer: _Layer, out: Tensor) -> None:
    if layer.bias is None:
        torch.mm(x, layer.weight.t(), out=out)
    else:
        torch.addmm(layer.bias, x, layer.weight.t(), out=out)


# updates: one call on the flat weights


class _Adam:
    """Adam and AdamW by torch's own fused kernel, as their classes call it, on one tensor."""

    def __init__(self, dense: Dense, optimizer: TorchOptimizer):
        settings = optimizer.get_params(deep=False)
        self.settings = {name: settings[name] for name in ("lr", "weight_decay", "eps")}
        self.betas = settings["betas"]
        self.tensors = [[dense.flat], [dense.grad], [torch.zeros_like(dense.flat)], [torch.zeros_like(dense.flat)], []]
        self.steps = torch.zeros((), dtype=torch.float32)
        self.kernel: Any = torch._fused_adamw_ if type(optimizer).__name__ == "AdamW" else torch._fused_adam_

    def follow(self, group: dict[str, Any]) -> None:
        self.settings["lr"], self.betas = float(group["lr"]), group.get("betas", self.betas)

    def __call__(self) -> None:
        self.steps += 1
        beta1, beta2 = self.betas
        self.kernel(
            *self.tensors, [self.steps], beta1=beta1, beta2=beta2, amsgrad=False, maximize=False, **self.settings
        )


class _Sgd:
    """SGD with momentum by torch's own fused kernel, as its class calls it, on one tensor."""

    def __init__(self, dense: Dense, optimizer: TorchOptimizer):
        settings = optimizer.get_params(deep=False)
        self.settings = {name: settings[name] for name in ("lr", "momentum", "weight_decay", "dampening", "nesterov")}
        self.first, self.buffer = True, torch.zeros_like(dense.flat)
        self.flat, self.grad = [dense.flat], [dense.grad]

    def follow(self, group: dict[str, Any]) -> None:
        self.settings["lr"] = float(group["lr"])
        self.settings["momentum"] = group.get("momentum", self.settings["momentum"])

    def __call__(self) -> None:
        buffers = [self.buffer] if self.settings["momentum"] else []
        torch._fused_sgd_(self.flat, self.grad, buffers, maximize=False, is_first_step=self.first, **self.settings)
        self.first = self.first and not buffers  # a schedule may bring momentum in later


def _followed(optimizer: TorchOptimizer, module: nn.Module) -> torch.optim.Optimizer:
    """Return torch's optimizer for a schedule to move; its settings are read, its steps are never taken."""
    made = optimizer(list(module.parameters()))
    made._opt_called = True  # type: ignore[attr-defined]  # else torch warns of a schedule before the first step
    return made


class Settings:
    """Stands for an optimizer where there is none: the settings, for callbacks and the history.

    Parameters
    ----------
    optimizer : TorchOptimizer
        Whose settings.
    """

    def __init__(self, optimizer: TorchOptimizer):
        self.param_groups = [dict(optimizer.get_params(deep=False))]


# what is claimed


def why_not(module: nn.Module, rows: Rows, optimizer: Any, decisions: Decisions, *, others: dict[str, Any]) -> str:
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
        f"{optimizer!r} is not written out": not _known_optimizer(optimizer),
        "the network has layers that are not written out": _parse(module) is None,
        "the categories have too many levels": not _fits(module, rows),
    }
    return next((reason for reason, applies in reasons.items() if applies), "")


def _parse(module: nn.Module) -> list[tuple[Any, Activation | None, float]] | None:
    """Read a network as linear layers, each but the last with an activation and perhaps dropout."""
    parts = list(module) if type(module) is nn.Sequential else [module]
    found: list[tuple[Any, Activation | None, float]] = []
    while parts:
        linear, *parts = parts
        if type(linear) is not nn.Linear and (found or type(linear) is not TabularLinear):
            return None
        activation, dropout = None, 0.0
        if parts:
            activation, *parts = activation_of(parts[0]), *parts[1:]
            if parts and type(parts[0]) is nn.Dropout:
                dropout, *parts = parts[0].p, *parts[1:]
            if activation is None or not parts or dropout >= 1:
                return None
        found.append((linear, activation, dropout))
    parameters = list(module.parameters())
    tied = len({id(p) for p in parameters}) < sum(1 for linear, *_ in found for _ in linear.parameters())
    hooked = any(m._forward_hooks or m._forward_pre_hooks or m._backward_hooks for m in module.modules())
    plain = all(p.requires_grad and p.dtype == parameters[0].dtype and not p._backward_hooks for p in parameters)
    return found if plain and not hooked and not tied else None


def _known_optimizer(optimizer: Any) -> bool:
    if not isinstance(optimizer, TorchOptimizer) or type(optimizer).__name__ not in ("SGD", "Adam", "AdamW"):
        return False
    settings = optimizer.get_params(deep=False)
    flags = ("amsgrad", "maximize", "capturable", "differentiable", "foreach", "decoupled_weight_decay")
    numbers = [settings["lr"], settings["weight_decay"], *settings.get("betas", ())]
    floats = all(isinstance(number, int | float) for number in numbers)
    return floats and settings["fused"] is not False and not any(settings.get(flag) for flag in flags)


def _fits(module: nn.Module, rows: Rows) -> bool:
    first = next(iter(module)) if isinstance(module, nn.Sequential) else module
    if isinstance(first, TabularLinear):
        return first.weight.shape[1] * len(rows) * first.weight.element_size() < GATHER_WHOLE_BELOW
    return isinstance(rows.x, Tensor) and rows.x.ndim == 2


# the pieces


def _flatten(module: nn.Module) -> tuple[Tensor, Tensor]:
    """Lay all parameters into one tensor and keep the module looking at them."""
    parameters = list(module.parameters())
    flat, start = torch.cat([p.detach().reshape(-1) for p in parameters]), 0
    for p in parameters:
        p.data = flat[start : start + p.numel()].view_as(p)
        start += p.numel()
    return flat, torch.zeros_like(flat)


def _layers(module: nn.Module, grad: Tensor) -> list[_Layer]:
    places, start = {}, 0
    for p in module.parameters():
        places[id(p)] = grad[start : start + p.numel()].view_as(p)
        start += p.numel()
    out = []
    for linear, activation, dropout in _parse(module) or []:
        bias = None if linear.bias is None else linear.bias.detach()
        grad_bias = None if linear.bias is None else places[id(linear.bias)]
        out.append(_Layer(linear.weight.detach(), bias, places[id(linear.weight)], grad_bias, activation, dropout))
    return out


def _matrix(module: nn.Module, rows: Rows) -> Tensor:
    """Return the inputs as one matrix, categories as one-hot columns."""
    first = next(iter(module)) if isinstance(module, nn.Sequential) else module
    return first.one_hot(rows.x) if isinstance(first, TabularLinear) else rows.x  # type: ignore[arg-type, return-value]
