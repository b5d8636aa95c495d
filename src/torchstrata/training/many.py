"""train_many(): the same loop, K networks in one program."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch

from torchstrata.batches.loader import Rows, Tensors
from torchstrata.batches.samplers import BatchPlan
from torchstrata.errors import NonFiniteError, empty_frames
from torchstrata.network.dropout import seeded
from torchstrata.training import claims
from torchstrata.training.callbacks import BATCH_HOOKS, Hooks
from torchstrata.training.dense import Dense
from torchstrata.training.heads import same_loss
from torchstrata.training.record import EpochRecord, Evaluation, located, settle, sign_of
from torchstrata.training.runtime import Decisions, Seeds
from torchstrata.training.schedules import moves_more
from torchstrata.training.stack import Member
from torchstrata.training.state import BestSoFar, EarlyStopping, TrainState
from torchstrata.training.vmapped import Vmapped

# Networks of one program share its operations: from 16 small ones on there is little left to share (bench_growth.py).
# So many weights, with gradients and moments four times as much memory, still lie in the last level of the cache.
WEIGHTS_TOGETHER = 1_000_000
# Inputs of the networks of one program, in bytes.
INPUTS_TOGETHER = 512 * 2**20
FEWEST = {"written out": 2, "vmap": 3}  # fewer are faster one by one


@dataclasses.dataclass
class Fit:
    """Everything one fit needs: the arguments of :func:`torchstrata.training.engine.train`.

    Parameters
    ----------
    module, rows, loss, optimizer, plan, max_epochs, decisions, seeds
        As of train.
    evaluation, early_stopping, schedule, callbacks, augment, trainable
        As of train.
    """

    module: torch.nn.Module
    rows: Rows
    loss: Callable[..., torch.Tensor]
    optimizer: Any
    plan: BatchPlan
    max_epochs: int
    decisions: Decisions
    seeds: Seeds
    evaluation: Evaluation | None = None
    early_stopping: EarlyStopping | None = None
    schedule: Any = None
    callbacks: Sequence[Any] = ()
    augment: Sequence[Callable[..., Tensors]] = ()
    trainable: Any = None


def why_alone(fit: Fit) -> tuple[str, str]:
    """Say how a fit can train beside others, or why it cannot.

    Parameters
    ----------
    fit : Fit
        Not begun.

    Returns
    -------
    how : {"written out", "vmap", ""}
        The steps it can take together with others.
    why : str
        The reason where it can take none.
    """
    others = {
        "trainable": fit.trainable,
        "augment": fit.augment,
        "a batch hook": Hooks(fit.callbacks).has(*BATCH_HOOKS),
        "a schedule of weight decay or dropout": moves_more(fit.schedule),
    }
    given = (fit.module, fit.rows, fit.optimizer, fit.decisions)
    how = "vmap" if claims.why_not(*given, others=others, loss=fit.loss) else "written out"
    why = claims.why_not_vmap(*given, others=others, loss=fit.loss) if how == "vmap" else ""
    if not why and _most([fit]) < FEWEST[how]:
        why = "more networks would not fit into memory"
    return ("", why) if why else (how, "")


def shape_of(fit: Fit, how: str) -> tuple[Any, ...]:
    """Return what must be equal for two fits to be one program.

    Parameters
    ----------
    fit : Fit
        Not begun.
    how : str
        From :func:`why_alone`.

    Returns
    -------
    tuple
        Compared by equality.
    """
    numbers = {name: tuple(p.shape) for name, p in fit.module.named_parameters()}
    valid = fit.evaluation is not None and fit.evaluation.valid is not None
    runtime = fit.decisions.runtime
    return (how, _structure(fit.module), str(numbers), next(fit.module.parameters()).dtype, repr(runtime), valid)


def _structure(module: torch.nn.Module) -> str:
    """Write down the layers and their settings, without the numbers that may differ."""
    return "; ".join(f"{name}:{type(m).__name__}:{_settings_of(m)}" for name, m in module.named_modules())


def _settings_of(layer: torch.nn.Module) -> list[tuple[str, str]]:
    """Return what a layer was made with; its own repr leaves some of it out."""
    without = {"training", "p", "stream"} if isinstance(layer, torch.nn.Dropout) else {"training"}
    given = {name: value for name, value in vars(layer).items() if name not in without and not name.startswith("_")}
    # what has no text of its own is the same only where it is one object
    texts = {name: str(id(value)) if _has_no_text(value) else repr(value) for name, value in given.items()}
    return sorted(texts.items())


def _has_no_text(value: Any) -> bool:
    """Say whether two values may differ and be written alike: objects, and numbers that were taken from rows."""
    return " at 0x" in repr(value) or isinstance(value, torch.Tensor | np.ndarray)


def parts_of(fits: Sequence[Fit]) -> list[list[int]]:
    """Cut fits of one shape into parts that fit into memory and cache.

    Parameters
    ----------
    fits : sequence of Fit
        Of one shape.

    Returns
    -------
    list of list of int
        Numbers of the fits of each part, of nearly equal size.
    """
    n_parts = -(-len(fits) // _most(fits))
    return [part.tolist() for part in np.array_split(np.arange(len(fits)), n_parts)]


def _most(fits: Sequence[Fit]) -> int:
    """Return how many fits of one shape may be one program."""
    weights = max(1, sum(p.numel() for p in fits[0].module.parameters()))
    inputs = max(1, max(_bytes(fit.rows.x) for fit in fits))
    return max(1, min(WEIGHTS_TOGETHER // weights, INPUTS_TOGETHER // inputs))


def _bytes(x: Tensors) -> int:
    tensors: Iterable[torch.Tensor] = x.values() if isinstance(x, dict) else [x]
    return sum(t.numel() * t.element_size() for t in tensors)


def train_many(fits: Sequence[Fit], *, how: str = "written out") -> list[TrainState | Exception]:
    """Fit K networks of one shape as one program.

    In short::

        for epoch in 1..max_epochs:
            for each step of the epoch: the batches of all networks, filled up with rows of weight zero
                forward, backward and update of all networks at once
            read the losses of the epoch
            for each network: history, evaluation, the best so far, stop?
            networks that stopped leave the stack, and cost nothing more

    Rows, seeds, learning rates, weight decays, dropout, numbers of the loss and numbers of epochs may differ. Each
    network gets the batches and the initial weights it would get alone, and the same weights in the end but for
    rounding.

    Parameters
    ----------
    fits : sequence of Fit
        For which :func:`shape_of` is equal.
    how : {"written out", "vmap"}
        From :func:`why_alone`.

    Returns
    -------
    list of TrainState or Exception
        One for each fit, in the order given. One that fails, because its loss is no longer finite or a callback
        raises, costs the others nothing.
    """
    # neighbours with the same settings are moved by one call
    order = sorted(range(len(fits)), key=lambda i: _sorting_key(fits, i))
    runs = [_Run(fits[i]) for i in order]
    with fits[0].decisions.active():
        _Together(runs, how).train()
    results: dict[int, TrainState | Exception] = {i: run.result for i, run in zip(order, runs, strict=True)}
    return [results[i] for i in range(len(fits))]


def _sorting_key(fits: Sequence[Fit], i: int) -> tuple[Any, ...]:
    loss = next(j for j, other in enumerate(fits) if same_loss(other.loss, fits[i].loss))
    return (loss, repr(fits[i].optimizer), repr(fits[i].schedule))


class _Run:
    """One of the fits while it runs."""

    def __init__(self, fit: Fit):
        self.fit, self.hooks = fit, Hooks(fit.callbacks)
        self.state = TrainState(fit.module, None, fit.max_epochs)
        self.best = BestSoFar(fit.early_stopping, sign_of(fit.evaluation))
        self.dropout = seeded(fit.module, fit.seeds.dropout)
        self.result: TrainState | Exception = self.state
        self.stopped = fit.max_epochs == 0

    def member(self) -> Member:
        n_batches = len(self.fit.plan.draw(1, self.fit.seeds.batches)[1]) - 1
        return Member(self.state, self.fit.rows, self.fit.loss, self.fit.optimizer, self.fit.schedule, n_batches)

    def begin_epoch(self, epoch: int) -> EpochRecord:
        self.state.epoch = epoch
        self.guarded("on_epoch_begin")
        draw = self.fit.plan.draw(epoch, self.fit.seeds.batches)
        self.record = EpochRecord(self.state, self.fit.evaluation, *draw)
        return self.record

    def guarded(self, hook: str) -> None:
        """Call a hook; what it raises ends this fit alone."""
        try:
            self.hooks.call(hook, self.state)
        except Exception as error:
            self.fail(error)

    def fail(self, error: Exception) -> None:
        empty_frames(error)  # it is kept until all have ended, and what it holds the others may need
        self.result, self.stopped = error, True

    def end_epoch(self, row: dict[str, Any], outputs: torch.Tensor, predicted: torch.Tensor | None) -> None:
        if self.record.evaluates:
            try:
                self.record.evaluate(row, outputs, self.best, self.hooks, predicted)
            except Exception as error:
                self.fail(error)

    def finish(self) -> None:
        """Put the best weights back and say goodbye."""
        settle(self.state, self.best)
        self.dropout.__exit__(None, None, None)
        if self.result is self.state:
            self.guarded("on_fit_end")
        self.guarded("on_fit_exit")


class _Together:
    """The loop over epochs, for the fits that still run."""

    def __init__(self, runs: list[_Run], how: str):
        self.all = runs
        for run in runs:
            run.dropout.__enter__()
        kind: Any = Dense if how == "written out" else Vmapped
        self.steps = kind([run.member() for run in runs], runs[0].fit.decisions.runtime.clip_norm)
        self.running = runs

    def train(self) -> None:
        try:
            for run in self.all:
                run.guarded("on_fit_begin")
            self._leave()
            self.good = self.steps.blocks.flat.clone()
            epoch = 0
            while self.running:
                epoch += 1
                self._epoch(epoch)
                self._leave()
        finally:
            self.steps.release()
            for run in self.running:  # only where an exception or Ctrl-C came through
                run.finish()

    def _leave(self) -> None:
        """Let go of those that stopped: the stack is made smaller, so they cost nothing more."""
        stay = [i for i, run in enumerate(self.running) if not run.stopped]
        if len(stay) == len(self.running):
            return
        gone = [run for run in self.running if run.stopped]
        self.running = [self.running[i] for i in stay]
        if stay:
            self.steps.keep(stay)
        for run in gone:
            run.finish()

    def _epoch(self, epoch: int) -> None:
        runs = self.running
        records = [run.begin_epoch(epoch) for run in runs]
        losses, masses, outputs = self.steps.epoch([(r.order, r.bounds) for r in records])
        read = torch.cat([losses, masses, self.steps.blocks.norms(self.steps.blocks.flat)[None].double()]).numpy()
        steps = len(losses)
        rows = [self._row(k, read[:steps, k], read[steps:-1, k], read[-1, k]) for k in range(len(runs))]
        if not any(run.stopped for run in runs):
            self.good = self.steps.blocks.flat.clone()
        predicted = self._predict(records)
        for k, run in enumerate(runs):
            if not run.stopped:
                run.end_epoch(rows[k], outputs[k], predicted[k])
        self._follow_schedules(rows)
        for run, row, record in zip(runs, rows, records, strict=True):
            if not run.stopped:
                row["seconds"] = record.seconds() / len(runs)  # its share of the time of all
                run.guarded("on_epoch_end")
                run.stopped = run.stopped or bool(run.state.stop) or epoch >= run.fit.max_epochs

    def _row(self, k: int, losses: np.ndarray, masses: np.ndarray, norm: float) -> dict[str, Any]:
        run = self.running[k]
        n = run.record.n_steps
        try:
            return run.record.take(losses[:n], masses[:n], norm)
        except NonFiniteError as error:
            blocks = self.steps.blocks
            for block, good in zip(blocks.weights, blocks.views(self.good), strict=True):
                block[k] = good[k]
            run.fail(located(error, run.state, run.best))
            return {}

    def _predict(self, records: list[EpochRecord]) -> list[torch.Tensor | None]:
        first = records[0].evaluation
        if first is None or first.valid is None or not any(record.evaluates for record in records):
            return [None] * len(records)
        return self.steps.predict([record.evaluation.valid.x for record in records])  # type: ignore[union-attr]

    def _follow_schedules(self, rows: list[dict[str, Any]]) -> None:
        for mover in self.steps.movers:
            k = mover.span.first
            if rows[k]:
                mover.scheduled.after_epoch(self.running[k].record.watched(rows[k]))
