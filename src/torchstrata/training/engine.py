"""train(): the loop, one network."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from torchstrata.batches.loader import Rows, Tensors, pick
from torchstrata.batches.samplers import BatchPlan
from torchstrata.errors import ConfigError
from torchstrata.interrupts import shielded
from torchstrata.network.dropout import seeded
from torchstrata.network.freeze import Freezer
from torchstrata.network.members import LossByMember, members_of
from torchstrata.training import claims
from torchstrata.training.callbacks import BATCH_HOOKS, Hooks
from torchstrata.training.compiled import Batch, Step, compiled_step, plain_step
from torchstrata.training.dense import Dense
from torchstrata.training.groups import build_optimizer
from torchstrata.training.layout import channels_last, choose_layout, has_images, ordinary
from torchstrata.training.predict import check_network as check_network
from torchstrata.training.predict import predict_blocks as predict_blocks
from torchstrata.training.record import EpochRecord, settling
from torchstrata.training.record import Evaluation as Evaluation
from torchstrata.training.record import sign_of as sign_of
from torchstrata.training.runtime import Decisions, Seeds
from torchstrata.training.schedules import Scheduled, moves_more
from torchstrata.training.stack import Member
from torchstrata.training.state import BestSoFar, EarlyStopping, TrainState, copy_weights


def train(
    module: torch.nn.Module,
    rows: Rows,
    *,
    loss: Callable[..., torch.Tensor],
    optimizer: Callable[..., torch.optim.Optimizer],
    plan: BatchPlan,
    max_epochs: int,
    decisions: Decisions,
    seeds: Seeds,
    evaluation: Evaluation | None = None,
    early_stopping: EarlyStopping | None = None,
    schedule: Any = None,
    callbacks: Sequence[Any] = (),
    augment: Sequence[Callable[..., Tensors]] = (),
    trainable: Any = None,
) -> TrainState:
    """Fit one network.

    In short::

        for epoch in 1..max_epochs:
            for x, y, w in the batches of the epoch:     # index arrays -> views of resident tensors
                loss(module(x), y, w).backward()
                optimizer.step()
            read the losses of the epoch                 # the only wait for the device
            a loss that is not finite: put the weights of the last good epoch back, and raise
            evaluate on validation rows, remember the best, stop?
        put the best weights back

    Parameters
    ----------
    module : torch.nn.Module
        The network, on its device; changed in place.
    rows : Rows
        Training rows on the same device.
    loss : callable
        ``(output, target, sample_weight) -> scalar``.
    optimizer : callable
        ``(parameters) -> torch.optim.Optimizer``.
    plan : BatchPlan
        ``draw(epoch, seed)`` gives the rows of an epoch and the bounds of its batches.
    max_epochs : int
        At most so many epochs; 0 leaves the initial weights.
    decisions : Decisions
        Device, threads, precision.
    seeds : Seeds
        Streams for batches, dropout and augmentation.
    evaluation : Evaluation, optional
        What is measured after an epoch.
    early_stopping : EarlyStopping, optional
        When to stop; needs an evaluation with validation rows.
    schedule : callable, optional
        The learning rate over epochs or steps.
    callbacks : sequence of Callback
        Your code at the joints.
    augment : sequence of callable
        ``(x, generator) -> x`` on training batches, in order.
    trainable : object
        Patterns as of :class:`torchstrata.network.freeze.Freezer`.

    Returns
    -------
    TrainState
        With the history; the module holds the weights.

    Raises
    ------
    NonFiniteError
        If a loss or a weight became NaN or infinite; the module then holds the weights of the best epoch where those
        are kept, else of the last good one.
    """
    freezer, hooks = Freezer(module, trainable), Hooks(callbacks)
    state, best, good = TrainState(module, None, max_epochs), BestSoFar(early_stopping, sign_of(evaluation)), []
    others = {"trainable": trainable, "augment": augment, "a batch hook": hooks.has(*BATCH_HOOKS),
              "a schedule of weight decay or dropout": moves_more(schedule)}  # fmt: skip
    why_autograd = claims.why_not(module, rows, optimizer, decisions, others=others, loss=loss)
    decisions.reasons["steps"] = ("autograd", why_autograd) if why_autograd else ("written out", "nothing against it")
    n_batches = len(plan.draw(1, seeds.batches)[1]) - 1
    steps: Any
    if why_autograd:
        steps = _Autograd(state, rows, loss, optimizer, decisions, schedule=schedule, n_batches=n_batches)
        steps.attach(hooks, augment, torch.Generator(decisions.device).manual_seed(seeds.augment))
    else:
        member = Member(state, rows, loss, optimizer, schedule, n_batches)  # type: ignore[arg-type]
        steps = _Written(member, decisions.runtime.clip_norm)
    good = steps.remember()
    try:
        with settling(state, freezer, best, good), seeded(module, seeds.dropout):
            hooks.call("on_fit_begin", state)
            for state.epoch in range(1, max_epochs + 1):
                if why_autograd or state.epoch == 1:  # written out, all trains in all epochs
                    freezer.begin_epoch(state.epoch - 1)
                hooks.call("on_epoch_begin", state)
                record = EpochRecord(state, evaluation, *plan.draw(state.epoch, seeds.batches))
                losses, masses, outputs = steps.epoch(record.order, record.bounds, keep=record.keeps_outputs)
                with shielded():
                    row = record.read(losses, masses, steps.norm())
                    steps.remember(good)
                if record.evaluates:
                    record.evaluate(row, outputs, best, hooks)
                steps.scheduled.after_epoch(record.watched(row))
                row["seconds"] = record.seconds()
                hooks.call("on_epoch_end", state)
                if state.stop:
                    break
        hooks.call("on_fit_end", state)
    finally:
        steps.release()
        hooks.call("on_fit_exit", state)
    return state


class _Written:
    """The steps of one epoch written out, for one network."""

    def __init__(self, member: Member, clip_norm: float | None):
        self.dense = Dense([member], clip_norm)
        self.scheduled, self.release = self.dense.movers[0].scheduled, self.dense.release
        self.buffers = list(member.state.module.buffers())
        self.kept = self.dense.blocks.flat.clone()

    def norm(self) -> torch.Tensor:
        """Return the norm of the weights."""
        return torch.linalg.vector_norm(self.dense.blocks.flat)

    def remember(self, into: list[torch.Tensor] | None = None) -> list[torch.Tensor]:
        """Copy the weights; all lie in one tensor, and the copies are seen as the module sees them."""
        if into is not None:
            self.kept.copy_(self.dense.blocks.flat)
            return into
        return [*self.dense.blocks.seen(self.kept), *(buffer.clone() for buffer in self.buffers)]

    def epoch(
        self, order: np.ndarray, bounds: np.ndarray, *, keep: bool
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Take one step for each batch; the outputs are there anyway."""
        losses, masses, outputs = self.dense.epoch([(order, bounds)])
        return losses[:, 0], masses[:, 0], outputs[0]


class _Autograd:
    """The steps of one epoch by autograd: any network, loss, optimizer and hook."""

    def __init__(
        self,
        state: TrainState,
        rows: Rows,
        loss: Callable[..., torch.Tensor],
        optimizer: Callable[..., torch.optim.Optimizer],
        decisions: Decisions,
        *,
        schedule: Any,
        n_batches: int,
    ):
        self.state, self.rows, self.decisions = state, rows, decisions
        self.members = members_of(state.module)
        self.loss: Any = LossByMember(loss, self.members) if self.members else loss
        self.compute: Any = None  # (x, y, w) -> (output, loss), made at the first batch
        self.images = False
        self.parameters = list(state.module.parameters())
        self.optimizer: Any = build_optimizer(optimizer, state.module)
        state.optimizer = self.optimizer
        self.autocast, self.scaler = decisions.autocast(), decisions.scaler()
        self.clip_norm, self.accumulate = decisions.runtime.clip_norm, decisions.runtime.accumulate
        updates = math.ceil(n_batches / self.accumulate)
        lengths = {"epochs": state.max_epochs, "steps": state.max_epochs * updates}
        self.scheduled = Scheduled(schedule, state.optimizer, module=state.module, **lengths)
        # its step gets a closure: LBFGS, and what says so itself
        self.looks_again = getattr(self.optimizer, "looks_again", isinstance(self.optimizer, torch.optim.LBFGS))
        if self.looks_again and (self.accumulate > 1 or self.clip_norm or self.scaler is not None):
            raise ConfigError(
                f"{type(self.optimizer).__name__.strip('_')} looks at the loss several times a step: it works without "
                "accumulate, clip_norm and float16"
            )

    def norm(self) -> torch.Tensor:
        """Return the norm of the weights."""
        return torch.stack(torch._foreach_norm([p.detach() for p in self.parameters])).sum()

    def remember(self, into: list[torch.Tensor] | None = None) -> list[torch.Tensor]:
        """Copy the weights."""
        return copy_weights(self.state.module, into)

    def release(self) -> None:
        """Give images' networks their weights back in the ordinary order, and layers the dropout they had."""
        self.scheduled.release()
        if self.images:
            ordinary(self.state.module)

    def attach(self, hooks: Hooks, augment: Sequence[Callable[..., Tensors]], generator: torch.Generator) -> None:
        """Set what only this path does to a batch."""
        self.hooks, self.augment, self.generator = hooks, augment, generator
        self.hooked = hooks.has(*BATCH_HOOKS)

    def epoch(
        self, order: np.ndarray, bounds: np.ndarray, *, keep: bool
    ) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
        """Take one step for each batch; return losses, sums of weights, and outputs where they are kept."""
        if self.compute is None:
            self.compute = self._compute(order, bounds)
        self.shown = keep or self.hooked  # whether somebody looks at the outputs
        state, losses, masses, outputs = self.state, [], [], []
        n_steps = len(bounds) - 1
        for state.step, (x, y, w) in enumerate(self.rows.epoch(order, bounds), 1):
            if self.hooked:
                state.rows = order[bounds[state.step - 1] : bounds[state.step]]
                self.hooks.call("on_batch_begin", state)
            for change in self.augment:
                x = change(x, self.generator)
            if self.images:
                x = channels_last(x)
            if self.looks_again:
                value = self.optimizer.step(_Look(self, x, y, w))
                self.scheduled.after_step()
            else:
                value = self._forward(x, y, w)
                before = (state.step - 1) // self.accumulate * self.accumulate
                together = min(self.accumulate, n_steps - before)  # the last batches of an epoch may be fewer
                scaled = value if self.scaler is None else self.scaler.scale(value)
                (scaled if together == 1 else scaled / together).backward()
                if state.step == before + together:
                    self._update()
            losses.append(value.detach())
            if w is not None:
                masses.append(w.sum())
            if keep:
                outputs.append(state.output.detach())
            if self.hooked:
                self.hooks.call("on_batch_end", state)
        return torch.stack(losses), torch.stack(masses) if masses else None, torch.cat(outputs) if keep else None

    def _compute(self, order: np.ndarray, bounds: np.ndarray) -> Step:
        """Decide how a batch is computed; what trains, and in which mode, is known only now."""
        module, runtime = self.state.module, self.decisions.runtime
        if has_images(self.rows.x):
            self.images = choose_layout(module, self.decisions, lambda: self._batch(order[:2])[0])
        if not runtime.compile:
            return plain_step(module, self.loss)
        graphs = f"accumulate={runtime.accumulate}" if runtime.accumulate > 1 else ""
        graphs = "the optimizer looks at the loss several times" if self.looks_again else graphs
        sizes, first = set(np.diff(bounds)), self._batch(order[: bounds[1]])
        return compiled_step(module, self.loss, self.decisions, first, sizes=sizes, graphs=graphs)

    def _batch(self, chosen: np.ndarray) -> Batch:
        """Take some rows as a step would, without a trace in the stream of augmentations."""
        rows, index = self.rows, torch.from_numpy(chosen).to(self.rows.y.device)
        x, before = pick(rows.x, index), self.generator.get_state()
        with self.decisions.forked():
            for change in self.augment:
                x = change(x, self.generator)
        self.generator.set_state(before)
        x = channels_last(x) if self.images else x
        return x, rows.y[index], None if rows.weight is None else rows.weight[index]

    def _forward(self, x: Tensors, y: torch.Tensor, w: torch.Tensor | None) -> torch.Tensor:
        with self.autocast:
            output, value = self.compute(x, y, w)
        if not (torch.is_tensor(value) and value.ndim == 0 and value.requires_grad):
            raise ConfigError(
                f"loss {self.loss!r} returned {value!r}, expected a scalar tensor that depends on the weights"
            )
        if self.members and self.shown:
            output = self.loss.mean(output)
        self.state.output, self.state.target, self.state.loss = output, y, value
        return value

    def _backward(self, x: Tensors, y: torch.Tensor, w: torch.Tensor | None) -> torch.Tensor:
        """Loss and gradient for an optimizer that asks for them as often as it likes before it moves."""
        self._forget_gradients()
        value = self._forward(x, y, w)
        value.backward()
        self.hooks.call("on_backward_end", self.state)
        return value

    def _update(self) -> None:
        if self.scaler is not None and (self.clip_norm or self.hooked):
            self.scaler.unscale_(self.optimizer)  # so that the norm and the callbacks see the true gradient
        if self.clip_norm:
            torch.nn.utils.clip_grad_norm_(self.parameters, self.clip_norm)
        if self.hooked:
            self.hooks.call("on_backward_end", self.state)
        if self.scaler is None:
            self.optimizer.step()
        else:
            self.scaler.step(self.optimizer)
            self.scaler.update()
        self._forget_gradients()
        self.scheduled.after_step()

    def _forget_gradients(self) -> None:
        for parameter in self.parameters:  # torch's zero_grad does the same inside a profiler record
            parameter.grad = None


@dataclasses.dataclass(frozen=True)
class _Look:
    """What an optimizer that looks again gets as closure: loss and gradient, and the scores of the batch."""

    steps: _Autograd
    x: Tensors
    target: torch.Tensor
    weight: torch.Tensor | None

    def __call__(self) -> torch.Tensor:
        return self.steps._backward(self.x, self.target, self.weight)

    def output(self) -> torch.Tensor:
        """Return the outputs at the present weights, without a gradient."""
        with torch.no_grad(), self.steps.autocast:
            return self.steps.state.module(self.x)
