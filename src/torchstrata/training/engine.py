"""train(): the loop, one network."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

from torchstrata.batches.loader import Rows, Tensors, pick
from torchstrata.batches.samplers import BatchPlan
from torchstrata.errors import ConfigError, NonFiniteError
from torchstrata.network.freeze import Freezer
from torchstrata.training import dense
from torchstrata.training.callbacks import BATCH_HOOKS, Hooks
from torchstrata.training.predict import check_network as check_network
from torchstrata.training.predict import predict_blocks as predict_blocks
from torchstrata.training.runtime import Decisions, Seeds
from torchstrata.training.schedules import Scheduled
from torchstrata.training.state import BestSoFar, EarlyStopping, TrainState, copy_weights, weights_of, write_weights


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


def sign_of(evaluation: Evaluation | None) -> int:
    """Say whether the deciding measure is better when greater (1) or smaller (-1)."""
    return evaluation.sign if evaluation else 1


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
    others = {"trainable": trainable, "augment": augment, "a batch hook": hooks.has(*BATCH_HOOKS)}
    why_autograd = dense.why_not(module, rows, optimizer, decisions, others=others)
    decisions.reasons["steps"] = ("autograd", why_autograd) if why_autograd else ("written out", "nothing against it")
    n_batches = len(plan.draw(1, seeds.batches)[1]) - 1
    make: Any = _Autograd if why_autograd else dense.Dense
    steps = make(state, rows, loss, optimizer, decisions, schedule=schedule, n_batches=n_batches)
    if why_autograd:
        steps.attach(hooks, augment, torch.Generator(decisions.device).manual_seed(seeds.augment))
    good = copy_weights(module)
    try:
        with _settling(state, freezer, best, good):
            hooks.call("on_fit_begin", state)
            for state.epoch in range(1, max_epochs + 1):
                freezer.begin_epoch(state.epoch - 1)
                hooks.call("on_epoch_begin", state)
                record = _EpochRecord(state, evaluation, *plan.draw(state.epoch, seeds.batches))
                losses, masses, outputs = steps.epoch(record.order, record.bounds, keep=record.keeps_outputs)
                row = record.read(losses, masses)
                copy_weights(module, good)
                if record.evaluates:
                    record.evaluate(row, outputs, best, hooks)
                steps.scheduled.after_epoch(record.watched(row))
                row["seconds"] = record.seconds()
                hooks.call("on_epoch_end", state)
                if state.stop:
                    break
        hooks.call("on_fit_end", state)
    finally:
        hooks.call("on_fit_exit", state)
    return state


@contextlib.contextmanager
def _settling(state: TrainState, freezer: Freezer, best: BestSoFar, good: list[torch.Tensor]) -> Iterator[None]:
    """Whatever ends the epochs: put the best weights back, or the last good ones where a loss was not finite."""
    try:
        yield
    except NonFiniteError as error:
        write_weights(weights_of(state.module), good)
        raise _located(error, state, best) from None
    finally:
        if best.weights is not None:
            write_weights(weights_of(state.module), best.weights)
        state.best_epoch, state.best_score = best.epoch or len(state.history), best.score
        state.output = state.target = state.loss = None
        freezer.end()


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
        self.state, self.rows, self.loss = state, rows, loss
        self.forward = decisions.compiled(state.module, pick(rows.x, slice(0, 2)))
        self.parameters = list(state.module.parameters())
        self.optimizer: Any = optimizer(self.parameters)
        state.optimizer = self.optimizer
        self.autocast, self.scaler = decisions.autocast(), decisions.scaler()
        self.clip_norm, self.accumulate = decisions.runtime.clip_norm, decisions.runtime.accumulate
        updates = math.ceil(n_batches / self.accumulate)
        self.scheduled = Scheduled(schedule, state.optimizer, epochs=state.max_epochs, steps=state.max_epochs * updates)
        # its step gets a closure: LBFGS, and what says so itself
        self.looks_again = getattr(self.optimizer, "looks_again", isinstance(self.optimizer, torch.optim.LBFGS))
        if self.looks_again and (self.accumulate > 1 or self.clip_norm or self.scaler is not None):
            raise ConfigError(
                f"{type(self.optimizer).__name__.strip('_')} looks at the loss several times a step: it works without "
                "accumulate, clip_norm and float16"
            )

    def attach(self, hooks: Hooks, augment: Sequence[Callable[..., Tensors]], generator: torch.Generator) -> None:
        """Set what only this path does to a batch."""
        self.hooks, self.augment, self.generator = hooks, augment, generator
        self.hooked = hooks.has(*BATCH_HOOKS)

    def epoch(
        self, order: np.ndarray, bounds: np.ndarray, *, keep: bool
    ) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
        """Take one step for each batch; return losses, sums of weights, and outputs where they are kept."""
        state, losses, masses, outputs = self.state, [], [], []
        n_steps = len(bounds) - 1
        for state.step, (x, y, w) in enumerate(self.rows.epoch(order, bounds), 1):
            if self.hooked:
                state.rows = order[bounds[state.step - 1] : bounds[state.step]]
                self.hooks.call("on_batch_begin", state)
            for change in self.augment:
                x = change(x, self.generator)
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

    def _forward(self, x: Tensors, y: torch.Tensor, w: torch.Tensor | None) -> torch.Tensor:
        with self.autocast:
            output = self.forward(x)
            value = self.loss(output, y, w)
        if not (torch.is_tensor(value) and value.ndim == 0 and value.requires_grad):
            raise ConfigError(
                f"loss {self.loss!r} returned {value!r}, expected a scalar tensor that depends on the weights"
            )
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
            return self.steps.forward(self.x)


class _EpochRecord:
    """What one epoch leaves behind: losses on the device, outputs where they are measured, a row of the history."""

    def __init__(self, state: TrainState, evaluation: Evaluation | None, order: np.ndarray, bounds: np.ndarray):
        self.state, self.evaluation, self.order, self.bounds = state, evaluation, order, bounds
        state.order, state.bounds = order, bounds
        self.n_steps = len(bounds) - 1
        self.started = time.perf_counter()
        self.lr = float(state.optimizer.param_groups[0]["lr"])
        due = evaluation is not None and (state.epoch % evaluation.every == 0 or state.epoch == state.max_epochs)
        self.evaluates = due and evaluation is not None
        self.keeps_outputs = evaluation is not None and due and evaluation.train_scores

    def seconds(self) -> float:
        return time.perf_counter() - self.started

    def read(self, losses: torch.Tensor, masses: torch.Tensor | None) -> dict[str, Any]:
        """Wait for the device, once: the losses, and the norm of the weights.

        A finite loss can have a gradient that is not, so the weights are looked at too.
        """
        wide = torch.float32 if losses.device.type == "mps" else torch.float64
        norm = torch.stack(torch._foreach_norm([p.detach() for p in self.state.module.parameters()])).sum()
        parts = [losses, norm[None]] if masses is None else [losses, masses, norm[None]]
        values = torch.cat([part.to(wide) for part in parts]).cpu().numpy()
        each, weights = values[: self.n_steps], np.diff(self.bounds) if masses is None else values[self.n_steps : -1]
        bad = np.flatnonzero(~np.isfinite(each))
        if len(bad):
            self.state.step = int(bad[0]) + 1
            raise NonFiniteError(f"the loss became {each[bad[0]]}")
        if not math.isfinite(values[-1]):
            raise NonFiniteError("the weights became NaN or infinite")
        mean = float(np.dot(each, weights) / weights.sum()) if weights.sum() else 0.0
        row = {"epoch": self.state.epoch, "train_loss": mean, "lr": self.lr}
        self.state.history.append(row)
        return row

    def watched(self, row: dict[str, Any]) -> float | None:
        """Return the loss that a schedule may follow: of validation rows where there are any, when it is known."""
        if self.evaluation is None or self.evaluation.valid is None:
            return row["train_loss"]
        return row.get("valid_loss")

    def evaluate(self, row: dict[str, Any], outputs: torch.Tensor | None, best: BestSoFar, hooks: Hooks) -> None:
        """Measure, remember the best, and stop where nothing gets better."""
        state, evaluation = self.state, self.evaluation
        assert evaluation is not None
        if self.keeps_outputs:
            scores = evaluation.measure(outputs, "train", self.order)
            row.update({f"train_{name}": value for name, value in scores.items()})
        if evaluation.valid is None:
            return
        hooks.call("on_valid_begin", state)
        state.scores = evaluation.measure(predict_blocks(state.module, evaluation.valid.x), "valid", None)
        row.update({f"valid_{name}": value for name, value in state.scores.items()})
        hooks.call("on_valid_end", state)
        if best.update(state.epoch, state.scores[evaluation.first], state.module) and not state.stop:
            state.stop = f"no improvement in {best.waited} evaluations"
        state.best_epoch, state.best_score = best.epoch, best.score


def _located(error: NonFiniteError, state: TrainState, best: BestSoFar) -> NonFiniteError:
    last = best.epoch if best.weights is not None else len(state.history)
    kept = f"after epoch {last}" if last else "of the start"
    return NonFiniteError(
        f"{error} at epoch {state.epoch}, step {state.step} (lr {float(state.optimizer.param_groups[0]['lr']):g}); "
        f"the weights {kept} are kept. Lower the learning rate (optimizer__lr), clip the gradient "
        "(runtime=ts.Runtime(clip_norm=1.0)) or scale the inputs.",
        epoch=state.epoch,
        step=state.step,
        history=[row for row in state.history if row["epoch"] < state.epoch],
    )
