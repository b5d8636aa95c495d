"""Updates of the weights of K networks that lie side by side: torch's fused kernels on whole blocks.

The weights are blocks of shape (K, ...). Networks with the same settings lie next to each other and
move in one call; so only the settings differ between calls, and each network gets exactly what it would get alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from torchstrata.training.optim import TorchOptimizer
from torchstrata.training.schedules import Scheduled

KNOWN = ("SGD", "Adam", "AdamW")
_ONE = torch.ones(())  # adding a Python number costs three times as much


def is_known(optimizer: Any) -> bool:
    """Say whether the updates of an optimizer are written out here.

    Parameters
    ----------
    optimizer : object
        As given to a learner, resolved.

    Returns
    -------
    bool
        True for SGD, Adam and AdamW with plain numbers.
    """
    if not isinstance(optimizer, TorchOptimizer) or type(optimizer).__name__ not in KNOWN:
        return False
    settings = optimizer.get_params(deep=False)
    flags = ("amsgrad", "maximize", "capturable", "differentiable", "foreach", "decoupled_weight_decay")
    numbers = [settings["lr"], settings["weight_decay"], *settings.get("betas", ())]
    floats = all(isinstance(number, int | float) for number in numbers)
    return floats and settings["fused"] is not False and not any(settings.get(flag) for flag in flags)


@dataclasses.dataclass
class Span:
    """Networks ``first`` to ``last - 1``, which share optimizer, schedule and number of steps.

    Parameters
    ----------
    first, last : int
        Which.
    optimizer : TorchOptimizer
        Their settings.
    n_batches : int
        Steps of an epoch.
    """

    first: int
    last: int
    optimizer: TorchOptimizer
    n_batches: int


class Blocks:
    """Weights, gradients and what optimizers remember: one flat tensor each, seen as blocks of shape (K, ...).

    Parameters
    ----------
    modules : sequence of torch.nn.Module
        K networks of one shape. Their parameters become views of the blocks, so whoever reads a module sees it change.
    shapes : sequence of shapes
        Of the blocks of one network.
    places : callable
        ``(module, blocks) -> [(parameter, view), ...]``: where the parameters of a network lie in its blocks.
    """

    def __init__(
        self,
        modules: Sequence[nn.Module],
        shapes: Sequence[Sequence[int]],
        places: Callable[[nn.Module, list[Tensor]], list[tuple[nn.Parameter, Tensor]]],
    ):
        self.modules, self.shapes, self.places = list(modules), [torch.Size(shape) for shape in shapes], places
        n = len(modules) * sum(shape.numel() for shape in self.shapes)
        like = next(modules[0].parameters())
        self.flat, self.grad, self.first, self.second = (like.new_zeros(n).detach() for _ in range(4))
        self._look(fill=True)

    def _look(self, *, fill: bool = False) -> None:
        """Point the modules at the blocks; at first with what they hold."""
        self.weights, self.grads = self.views(self.flat), self.views(self.grad)
        for k, module in enumerate(self.modules):
            for parameter, view in self.places(module, [block[k] for block in self.weights]):
                if fill:
                    view.copy_(parameter.detach())
                parameter.data = view

    def release(self) -> None:
        """Give the modules weights of their own, as they had before."""
        for module in self.modules:
            _take_along(module)

    def views(self, flat: Tensor) -> list[Tensor]:
        """See a flat tensor as blocks.

        Parameters
        ----------
        flat : Tensor
            As long as all weights.

        Returns
        -------
        list of Tensor
            One of shape (K, ...) each.
        """
        k, out, start = len(self.modules), [], 0
        for shape in self.shapes:
            n = k * shape.numel()
            out.append(flat[start : start + n].view(k, *shape))
            start += n
        return out

    def seen(self, flat: Tensor) -> list[Tensor]:
        """See a flat tensor of one network as its parameters, in their order.

        Parameters
        ----------
        flat : Tensor
            As long as all weights.

        Returns
        -------
        list of Tensor
            Views.
        """
        (module,) = self.modules
        places = {id(p): view for p, view in self.places(module, [block[0] for block in self.views(flat)])}
        return [places[id(p)] for p in module.parameters()]

    def part(self, flat: Tensor, first: int, last: int) -> list[Tensor]:
        """Return the contiguous tensors that belong to some networks.

        Parameters
        ----------
        flat : Tensor
            As long as all weights.
        first, last : int
            Networks ``first`` to ``last - 1``.

        Returns
        -------
        list of Tensor
            The flat tensor itself where these are all.
        """
        if (first, last) == (0, len(self.modules)):
            return [flat]
        return [block[first:last] for block in self.views(flat)]

    def norms(self, flat: Tensor) -> Tensor:
        """Return the Euclidean norm over all weights of each network.

        Parameters
        ----------
        flat : Tensor
            As long as all weights.

        Returns
        -------
        Tensor of shape (K,)
            Norms.
        """
        each = [torch.linalg.vector_norm(block.flatten(1), dim=1) for block in self.views(flat)]
        return torch.linalg.vector_norm(torch.stack(each), dim=0)

    def clip(self, norm: float) -> None:
        """Shorten the gradients of each network to a norm.

        Parameters
        ----------
        norm : float
            The largest that stays.
        """
        factors = (norm / (self.norms(self.grad) + 1e-6)).clamp_max(1.0)
        for block in self.grads:
            block.mul_(factors.view(-1, *[1] * (block.ndim - 1)))

    def keep(self, which: Sequence[int]) -> None:
        """Keep only some networks; the others cost nothing any more.

        Parameters
        ----------
        which : sequence of int
            Numbers of those that stay, in order.
        """
        index = torch.tensor(which)
        parts = [
            torch.cat([block.index_select(0, index).reshape(-1) for block in self.views(flat)])
            for flat in (self.flat, self.grad, self.first, self.second)
        ]
        for i in set(range(len(self.modules))) - set(which):
            _take_along(self.modules[i])
        self.flat, self.grad, self.first, self.second = parts
        self.modules = [self.modules[i] for i in which]
        self._look()


def _take_along(module: nn.Module) -> None:
    for parameter in module.parameters():
        parameter.data = parameter.data.clone(memory_format=torch.contiguous_format)


class Adam:
    """Adam and AdamW, as their classes in torch call the fused kernel.

    Parameters
    ----------
    blocks : Blocks
        The weights.
    span : Span
        Which of them.
    steps : Tensor, optional
        Updates so far.
    """

    def __init__(self, blocks: Blocks, span: Span, steps: Tensor | None = None):
        settings = span.optimizer.get_params(deep=False)
        self.settings = {name: settings[name] for name in ("lr", "weight_decay", "eps")}
        self.betas = settings["betas"]
        flats = (blocks.flat, blocks.grad, blocks.first, blocks.second)
        self.tensors = [*(blocks.part(flat, span.first, span.last) for flat in flats), []]
        self.steps = torch.zeros((), dtype=torch.float32) if steps is None else steps
        self.counts = [self.steps] * len(self.tensors[0])
        self.kernel: Any = torch._fused_adamw_ if type(span.optimizer).__name__ == "AdamW" else torch._fused_adam_

    def follow(self, group: dict[str, Any]) -> None:
        """Take over what a schedule has set.

        Parameters
        ----------
        group : dict
            The parameter group that the schedule moves.
        """
        self.settings["lr"], self.betas = float(group["lr"]), group.get("betas", self.betas)

    def __call__(self) -> None:
        """Move the weights."""
        self.steps.add_(_ONE)
        beta1, beta2 = self.betas
        self.kernel(
            *self.tensors, self.counts, beta1=beta1, beta2=beta2, amsgrad=False, maximize=False, **self.settings
        )


class Sgd:
    """SGD, as its class in torch calls the fused kernel.

    Parameters
    ----------
    blocks : Blocks
        The weights.
    span : Span
        Which of them.
    steps : Tensor, optional
        Updates with momentum so far.
    """

    def __init__(self, blocks: Blocks, span: Span, steps: Tensor | None = None):
        settings = span.optimizer.get_params(deep=False)
        self.settings = {name: settings[name] for name in ("lr", "momentum", "weight_decay", "dampening", "nesterov")}
        self.steps = torch.zeros((), dtype=torch.float32) if steps is None else steps
        self.first = bool(self.steps == 0)
        flats = (blocks.flat, blocks.grad, blocks.first)
        self.flat, self.grad, self.buffers = (blocks.part(flat, span.first, span.last) for flat in flats)

    def follow(self, group: dict[str, Any]) -> None:
        """Take over what a schedule has set.

        Parameters
        ----------
        group : dict
            The parameter group that the schedule moves.
        """
        self.settings["lr"] = float(group["lr"])
        self.settings["momentum"] = group.get("momentum", self.settings["momentum"])

    def __call__(self) -> None:
        """Move the weights."""
        buffers = self.buffers if self.settings["momentum"] else []
        torch._fused_sgd_(self.flat, self.grad, buffers, maximize=False, is_first_step=self.first, **self.settings)
        if self.first and buffers:  # a schedule may bring momentum in later
            self.first = False
            self.steps += 1


class Settings:
    """Stands for an optimizer where there is none: the settings, for callbacks and the history.

    Parameters
    ----------
    optimizer : TorchOptimizer
        Whose settings.
    """

    def __init__(self, optimizer: TorchOptimizer):
        self.param_groups = [dict(optimizer.get_params(deep=False))]


class Mover:
    """Moves the networks of one span, and its learning rate.

    Parameters
    ----------
    blocks : Blocks
        The weights.
    span : Span
        Which of them.
    schedule : object
        As given to the learner.
    max_epochs : int
        Length of the fit, for schedules.
    """

    def __init__(self, blocks: Blocks, span: Span, schedule: Any, max_epochs: int):
        self.span = span
        self.update: Any = None
        self.optimizer: Any = Settings(span.optimizer)
        if schedule is not None:
            self.optimizer = _followed(span.optimizer, blocks.modules[span.first])
        self.scheduled = Scheduled(schedule, self.optimizer, epochs=max_epochs, steps=max_epochs * span.n_batches)
        self.stepwise = self.scheduled.per == "step"
        self.attach(blocks)

    def attach(self, blocks: Blocks) -> None:
        """Look at the weights where they lie now.

        Parameters
        ----------
        blocks : Blocks
            The weights.
        """
        kind: Any = Sgd if type(self.span.optimizer).__name__ == "SGD" else Adam
        self.update = kind(blocks, self.span, None if self.update is None else self.update.steps)

    def keep(self, which: Sequence[int]) -> bool:
        """Go on with some of the networks only.

        Parameters
        ----------
        which : sequence of int
            Numbers of the networks that stay, in order.

        Returns
        -------
        bool
            Whether any is left here.
        """
        inside = [i for i, old in enumerate(which) if self.span.first <= old < self.span.last]
        if inside:
            self.span.first, self.span.last = inside[0], inside[-1] + 1
        return bool(inside)

    def begin_epoch(self) -> None:
        """Follow the schedule."""
        self.update.follow(self.optimizer.param_groups[0])

    def __call__(self) -> None:
        """Take one step."""
        self.update()
        if self.stepwise:
            self.scheduled.after_step()
            self.update.follow(self.optimizer.param_groups[0])


def _followed(optimizer: TorchOptimizer, module: nn.Module) -> torch.optim.Optimizer:
    """Return torch's optimizer for a schedule to move; its settings are read, its steps are never taken."""
    made = optimizer(list(module.parameters()))
    made._opt_called = True  # type: ignore[attr-defined]  # else torch warns of a schedule before the first step
    return made
