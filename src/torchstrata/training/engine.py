"""train(): the loop, one network."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from torchstrata.batches.loader import Rows, Tensors, n_rows, pick
from torchstrata.batches.samplers import BatchPlan
from torchstrata.errors import ConfigError, NonFiniteError
from torchstrata.network.freeze import Freezer
from torchstrata.training.callbacks import Hooks
from torchstrata.training.runtime import Decisions, Seeds
from torchstrata.training.schedules import Scheduled
from torchstrata.training.state import BestSoFar, EarlyStopping, TrainState, copy_weights, weights_of, write_weights

# Rows are predicted in blocks of this size, the last one filled with zeros: then the result of a row does not depend on
# how many rows there are or in which order they come (naive batches differ by some 1e-7 in float32).
BLOCK = 64


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What is measured, on what, and how often.

    Parameters
    ----------
    measure : callable
        ``(output, split, order) -> dict`` of scores by name. ``split`` is ``"train"`` or ``"valid"``; ``order`` says to
        which training rows the outputs belong.
    first : str
        The measure that decides.
    sign : int
        1 where it is better when greater, -1 when smaller.
    valid : Rows, optional
        Validation rows.
    every : int
        Evaluate when ``epoch % every == 0`` and after the last epoch.
    train_scores : bool
        Whether outputs of training rows are kept and measured too.
    """

    measure: Callable[..., dict[str, float]]
    first: str = "loss"
    sign: int = -1
    valid: Rows | None = None
    every: int = 1
    train_scores: bool = False


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
        If a loss or a weight became NaN or infinite; the module then holds the weights of the last good epoch.
    """
    freezer, hooks = Freezer(module, trainable), Hooks(callbacks)
    state = TrainState(module, optimizer(list(module.parameters())), max_epochs)
    n_steps = len(plan.draw(1, seeds.batches)[1]) - 1
    scheduled = Scheduled(schedule, state.optimizer, epochs=max_epochs, steps=max_epochs * n_steps)
    step = _Step(
        state, loss, decisions, hooks, scheduled, forward=decisions.compiled(module, pick(rows.x, slice(0, 2)))
    )
    best = BestSoFar(early_stopping, evaluation.sign if evaluation else 1)
    generator = torch.Generator(decisions.device).manual_seed(seeds.augment)
    good = copy_weights(module)
    try:
        hooks.call("on_fit_begin", state)
        for state.epoch in range(1, max_epochs + 1):
            freezer.begin_epoch(state.epoch - 1)
            hooks.call("on_epoch_begin", state)
            record = _EpochRecord(state, evaluation, *plan.draw(state.epoch, seeds.batches))
            for state.step, (x, y, w) in enumerate(rows.epoch(record.order, record.bounds), 1):
                if step.hooked:
                    state.rows = record.rows(state.step)
                    hooks.call("on_batch_begin", state)
                for change in augment:
                    x = change(x, generator)
                record.add(step(x, y, w, last=state.step == record.n_steps), y, w)
                if step.hooked:
                    hooks.call("on_batch_end", state)
            row = record.read()
            copy_weights(module, good)
            if record.evaluates:
                record.evaluate(row, best, hooks)
            scheduled.after_epoch(row.get("valid_loss", row["train_loss"]))
            row["seconds"] = record.seconds()
            hooks.call("on_epoch_end", state)
            if state.stop:
                break
        hooks.call("on_fit_end", state)
    except NonFiniteError as error:
        write_weights(weights_of(module), good)
        raise _located(error, state) from None
    finally:
        if best.weights is not None:
            write_weights(weights_of(module), best.weights)
        state.best_epoch, state.best_score = best.epoch or len(state.history), best.score
        state.output = state.target = state.loss = None
        module.requires_grad_(True).eval()
        hooks.call("on_fit_exit", state)
    return state


class _Step:
    """One batch: forward, backward, and an update unless gradients are still being added up."""

    def __init__(
        self,
        state: TrainState,
        loss: Callable[..., torch.Tensor],
        decisions: Decisions,
        hooks: Hooks,
        scheduled: Scheduled,
        forward: Callable[..., torch.Tensor],
    ):
        self.state, self.loss, self.hooks, self.scheduled, self.forward = state, loss, hooks, scheduled, forward
        self.optimizer, self.parameters = state.optimizer, list(state.module.parameters())
        self.autocast, self.scaler = decisions.autocast(), decisions.scaler()
        self.clip_norm, self.accumulate = decisions.runtime.clip_norm, decisions.runtime.accumulate
        self.hooked = hooks.has("on_batch_begin", "on_backward_end", "on_batch_end")
        self.looks_again = isinstance(state.optimizer, torch.optim.LBFGS)
        if self.looks_again and (self.accumulate > 1 or self.scaler is not None):
            raise ConfigError("LBFGS looks at the loss several times a step: it works without accumulate and float16")

    def __call__(self, x: Tensors, y: torch.Tensor, w: torch.Tensor | None, *, last: bool) -> torch.Tensor:
        if self.looks_again:
            value = self.optimizer.step(lambda: self._backward(x, y, w))
        else:
            with self.autocast:
                output = self.forward(x)
                value = self.loss(output, y, w)
            self.state.output, self.state.target, self.state.loss = output, y, value
            scaled = value if self.scaler is None else self.scaler.scale(value)
            (scaled if self.accumulate == 1 else scaled / self.accumulate).backward()
            if last or self.state.step % self.accumulate == 0:
                self._update()
        return value.detach()

    def _backward(self, x: Tensors, y: torch.Tensor, w: torch.Tensor | None) -> torch.Tensor:
        """Loss and gradient for LBFGS, which asks for them as often as it likes before it moves."""
        self._forget_gradients()
        with self.autocast:
            output = self.forward(x)
            value = self.loss(output, y, w)
        self.state.output, self.state.target, self.state.loss = output, y, value
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


class _EpochRecord:
    """What one epoch leaves behind: losses on the device, outputs where they are measured, a row of the history."""

    def __init__(self, state: TrainState, evaluation: Evaluation | None, order: np.ndarray, bounds: np.ndarray):
        self.state, self.evaluation, self.order, self.bounds = state, evaluation, order, bounds
        self.n_steps = len(bounds) - 1
        self.started = time.perf_counter()
        self.lr = float(state.optimizer.param_groups[0]["lr"])
        due = evaluation is not None and (state.epoch % evaluation.every == 0 or state.epoch == state.max_epochs)
        self.evaluates = due and evaluation is not None
        self.keeps_outputs = evaluation is not None and due and evaluation.train_scores
        self.losses: list[torch.Tensor] = []
        self.masses: list[Any] = []
        self.outputs: list[torch.Tensor] = []

    def rows(self, step: int) -> np.ndarray:
        return self.order[self.bounds[step - 1] : self.bounds[step]]

    def seconds(self) -> float:
        return time.perf_counter() - self.started

    def add(self, loss: torch.Tensor, y: torch.Tensor, w: torch.Tensor | None) -> None:
        self.losses.append(loss)
        self.masses.append(len(y) if w is None else w.sum())
        if self.keeps_outputs:
            self.outputs.append(self.state.output.detach())

    def read(self) -> dict[str, Any]:
        """Wait for the device, once: the losses, and the norm of the weights.

        A finite loss can have a gradient that is not, so the weights are looked at too.
        """
        losses = torch.stack(self.losses).to(torch.float32 if self.losses[0].device.type == "mps" else torch.float64)
        norms = torch.stack(torch._foreach_norm([p.detach() for p in self.state.module.parameters()]))
        *values, norm = torch.cat([losses, norms.sum().to(losses.dtype)[None]]).tolist()
        for step, value in enumerate(values, 1):
            if not math.isfinite(value):
                self.state.step = step
                raise NonFiniteError(f"the loss became {value}")
        if not math.isfinite(norm):
            raise NonFiniteError("the weights became NaN or infinite")
        masses = np.array([float(mass) for mass in self.masses])
        mean = float(np.dot(values, masses) / masses.sum()) if masses.sum() else 0.0
        row = {"epoch": self.state.epoch, "train_loss": mean, "lr": self.lr}
        self.state.history.append(row)
        return row

    def evaluate(self, row: dict[str, Any], best: BestSoFar, hooks: Hooks) -> None:
        """Measure, remember the best, and stop where nothing gets better."""
        state, evaluation = self.state, self.evaluation
        assert evaluation is not None
        if self.outputs:
            scores = evaluation.measure(torch.cat(self.outputs), "train", self.order)
            row.update({f"train_{name}": value for name, value in scores.items()})
        if evaluation.valid is None:
            return
        hooks.call("on_valid_begin", state)
        state.scores = evaluation.measure(predict_blocks(state.module, evaluation.valid.x), "valid", None)
        row.update({f"valid_{name}": value for name, value in state.scores.items()})
        hooks.call("on_valid_end", state)
        if best.update(state.epoch, state.scores[evaluation.first], state.module) and not state.stop:
            state.stop = f"no improvement in {best.waited} evaluations"


def _located(error: NonFiniteError, state: TrainState) -> NonFiniteError:
    kept = f"after epoch {state.epoch - 1}" if state.epoch > 1 else "of the start"
    return NonFiniteError(
        f"{error} at epoch {state.epoch}, step {state.step} (lr {float(state.optimizer.param_groups[0]['lr']):g}); "
        f"the weights {kept} are kept. Lower the learning rate (optimizer__lr), clip the gradient "
        "(runtime=ts.Runtime(clip_norm=1.0)) or scale the inputs.",
        epoch=state.epoch,
        step=state.step,
        history=[row for row in state.history if row["epoch"] < state.epoch],
    )


@torch.no_grad()
def predict_blocks(module: torch.nn.Module, x: Tensors, *, block: int = BLOCK) -> torch.Tensor:
    """Compute outputs in evaluation mode, a row independently of all others.

    Parameters
    ----------
    module : torch.nn.Module
        The network; its mode is as before afterwards.
    x : Tensor or dict of Tensor
        Inputs.
    block : int
        Rows computed together; the last block is filled with zeros.

    Returns
    -------
    Tensor
        Outputs, a row for each input row.
    """
    n, modes = n_rows(x), [m for m in module.modules() if m.training]
    module.eval()
    try:
        outputs = [module(_block(x, start, block)) for start in range(0, n, block)]
    finally:
        for m in modes:
            m.training = True
    return torch.cat(outputs)[:n]


def _block(x: Tensors, start: int, block: int) -> Tensors:
    if isinstance(x, dict):
        return {name: _block(value, start, block) for name, value in x.items()}  # type: ignore[misc]
    part = x[start : start + block]
    if len(part) == block:
        return part
    return torch.cat([part, part.new_zeros((block - len(part), *part.shape[1:]))])


def check_network(module: torch.nn.Module, x: Tensors, n_outputs: int) -> None:
    """Try a network on two rows before any training.

    Parameters
    ----------
    module : torch.nn.Module
        The network.
    x : Tensor or dict of Tensor
        Inputs.
    n_outputs : int
        Expected outputs a row.

    Raises
    ------
    ConfigError
        If the output is no tensor of floats of shape (rows, n_outputs).
    """
    few = pick(x, slice(0, 2))
    rows = n_rows(few)
    output = predict_blocks(module, few, block=rows)
    expected = f"({rows}, {n_outputs})"
    if not torch.is_tensor(output) or not output.is_floating_point():
        raise ConfigError(f"the network returned {type(output).__name__}, expected a float tensor of shape {expected}")
    if tuple(output.shape) != (rows, n_outputs) and not (n_outputs == 1 and tuple(output.shape) == (rows,)):
        raise ConfigError(f"the network returned shape {tuple(output.shape)} for {rows} rows, expected {expected}")
