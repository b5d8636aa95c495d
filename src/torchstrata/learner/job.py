"""A prepared fit: everything is checked, nothing is trained."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any, Protocol

import numpy as np
import torch
from sklearn.base import BaseEstimator

from torchstrata.batches.bytewise import ByBatch
from torchstrata.batches.loader import Rows, pick
from torchstrata.batches.samplers import BatchPlan
from torchstrata.batches.stream import Stream
from torchstrata.data.encode import Shapes
from torchstrata.errors import ConfigError, DataError, NonFiniteError
from torchstrata.learner.contract import UselessBatches, spread, warn_of_useless
from torchstrata.learner.parts import Part
from torchstrata.learner.settings import Settings
from torchstrata.network.tabular import Outputs
from torchstrata.training.callbacks import Callback
from torchstrata.training.engine import Evaluation
from torchstrata.training.loss import LossTraits, PlainLoss
from torchstrata.training.runtime import Decisions, Seeds
from torchstrata.training.several import HeadTraits


class Target(Protocol):
    """A target as the loss wants it; made from the training rows."""

    def encode(self, y: np.ndarray) -> np.ndarray:
        """Return class numbers, or standardised numbers."""

    def truth(self, y: np.ndarray) -> np.ndarray:
        """Return what scorers compare with: class numbers, or the numbers themselves."""

    def n_outputs(self, traits: LossTraits) -> int:
        """Return how many outputs the network needs."""

    def response(
        self, output: torch.Tensor, traits: LossTraits, truth: np.ndarray, weight: np.ndarray | None
    ) -> BaseEstimator:
        """Return outputs in the shape of a fitted estimator."""

    def class_counts(self, part: Part) -> Any:
        """Return the weight of each class among rows; empty for numbers, and one of these a head of several."""

    def weigh(self, part: Part, class_weight: Any, train: Part) -> np.ndarray | None:
        """Return the weights of rows."""


@dataclasses.dataclass
class Job:
    """A prepared fit: everything is checked, nothing is trained.

    Parameters
    ----------
    module : torch.nn.Module
        With its initial weights, on the device.
    rows, valid : Rows
        Training and validation rows there.
    target : Target
        What was learnt about y.
    encoder : object
        Fitted on the training rows.
    parts : tuple of Part
        Training and validation rows as given.
    settings : Settings
        Resolved.
    plan : BatchPlan
        Draws the batches.
    seeds, decisions
        As of :mod:`torchstrata.training.runtime`.
    """

    module: torch.nn.Module
    rows: Rows
    valid: Rows | None
    target: Target
    encoder: Any
    parts: tuple[Part, Part | None]
    settings: Settings
    plan: BatchPlan
    seeds: Seeds
    decisions: Decisions

    def __post_init__(self) -> None:
        for stream in self.streams():
            stream.seed = self.seeds.root  # of what a Dataset draws

    def streams(self) -> list[Stream]:
        """Return the inputs that may have processes that load."""
        return [rows.x for rows in (self.rows, self.valid) if rows is not None and isinstance(rows.x, Stream)]

    def contract(self) -> tuple[Callback, ...]:
        """Hold the loss against the sampler: warn of batches that will teach nothing, and have them counted.

        Returns
        -------
        tuple of Callback
            The counter, where the loss needs both classes in a batch.
        """
        if not self.settings.loss.traits.needs_both_classes:
            return ()
        positive = self.rows.y.cpu().numpy() > 0.5
        warn_of_useless(self.settings.loss, self.settings.sampler, self.plan, positive)
        return (UselessBatches(positive),)

    def evaluation(self, every: int) -> Evaluation:
        """Say what is measured after an epoch.

        Parameters
        ----------
        every : int
            Evaluate every so many epochs.

        Returns
        -------
        Evaluation
            Scores of training outputs, loss and scores of validation rows.
        """
        measures, loss, traits = self.settings.measures, self.settings.loss, self.settings.loss.traits
        splits = {"train": (self.parts[0], self.rows), "valid": (self.parts[1], self.valid)}
        ranks = traits.link == "none"
        truths = {
            name: (self.target.truth(p.y), _weights(r), None if p.weight is None else p.weight > 0)
            for name, (p, r) in splits.items()
            if p and r
        }

        def measure(output: torch.Tensor, split: str, order: np.ndarray | None) -> dict[str, float]:
            truth, weight, present = truths[split]
            rows = np.arange(len(truth)) if order is None else order
            scores = {}
            if split == "valid" and self.valid is not None:
                scores["loss"] = _loss_or_nan(loss, output, self.valid)
            if present is not None:  # a row of weight zero is an absent row, for scores too
                output = output[torch.from_numpy(present[rows]).to(output.device)]
                rows = rows[present[rows]]
            truth, weight = truth[rows], None if weight is None else weight[rows]
            if split == "train" and ranks:
                scores["score_scale"] = spread(output.double().cpu().numpy().ravel(), weight)
            return {**scores, **measures.score(self.target.response(output, traits, truth, weight), truth)}

        return Evaluation(measure, measures.first, measures.sign, self.valid, every, bool(measures.scorers) or ranks)


def outputs_for(n_outputs: int, traits: LossTraits) -> Outputs:
    """Say what a network is to give for a loss.

    Parameters
    ----------
    n_outputs : int
        How many outputs.
    traits : LossTraits
        Of the loss.

    Returns
    -------
    Outputs
        The number, whether a bias makes sense, and how outputs become predictions.
    """
    sizes = getattr(n_outputs, "sizes", {})
    link: Any = _link_of(n_outputs, traits)
    if isinstance(traits, HeadTraits):
        link = tuple((size, _link_of(size, of)) for size, (_, of) in zip(sizes.values(), traits.heads, strict=True))
    made = Outputs(n_outputs, bias=not traits.shift_invariant, link=link)
    made.heads = sizes
    return made


def _link_of(n_outputs: int, traits: LossTraits) -> str:
    return "softmax" if traits.link == "logit" and n_outputs > 1 else traits.link


def rows_to_show(
    network: Any, shapes: Shapes, x: Any, values: np.ndarray, weight: np.ndarray | None
) -> tuple[dict[str, torch.Tensor], torch.Tensor] | tuple[None, None]:
    """Return the training rows as a blueprint may look at them.

    Parameters
    ----------
    network : object
        As given to the learner.
    shapes : Shapes
        Of the inputs.
    x : Tensor, dict of Tensor, or ByBatch
        Encoded training rows.
    values : ndarray
        Encoded targets.
    weight : ndarray, optional
        Weights; a row of weight zero is an absent row.

    Returns
    -------
    rows : dict of str to Tensor, or None
        By input name; None where the rows come batch by batch.
    target : Tensor or None
        Their targets.

    Raises
    ------
    ConfigError
        If the network needs rows that come batch by batch.
    """
    if isinstance(x, ByBatch):
        if getattr(network, "uses_rows", False):
            raise ConfigError(
                f"network {network!r} takes its initial values from the training rows, and these come batch by batch "
                f"({x.why}): give X as an array or a table, or use another network such as ts.MLP()"
            )
        return None, None
    rows, target = dict(x) if isinstance(x, dict) else {next(iter(shapes)): x}, torch.from_numpy(values)
    if weight is None or (weight > 0).all():
        return rows, target
    present = torch.from_numpy(np.flatnonzero(weight > 0))
    return {name: value[present] for name, value in rows.items()}, target[present]


def make_rows(
    x: Any, values: np.ndarray, weight: np.ndarray | None, n_outputs: int, dtype: torch.dtype, decisions: Decisions
) -> Rows:
    """Make rows on the device.

    Parameters
    ----------
    x : Tensor or dict of Tensor
        Encoded inputs.
    values : ndarray
        Encoded targets.
    weight : ndarray, optional
        Weights of rows.
    n_outputs : int
        Of the network.
    dtype : torch.dtype
        Of the numbers.
    decisions : Decisions
        Says where.

    Returns
    -------
    Rows
        There.

    Raises
    ------
    DataError
        If a target is too large for the type.
    """
    y = torch.from_numpy(values)
    # class numbers stay integers for several outputs; the single logit and regression compare floats
    y = y.to(dtype) if values.dtype.kind == "f" or n_outputs == 1 else y
    w = None if weight is None else torch.tensor(weight, dtype=dtype)
    if not torch.isfinite(y).all():
        raise DataError(f"y has values beyond {str(dtype).removeprefix('torch.')}; rescale it")
    return Rows(x, y, w).to(decisions.device)


def _weights(rows: Rows) -> np.ndarray | None:
    return None if rows.weight is None else rows.weight.cpu().double().numpy()


def check_gradient(module: torch.nn.Module, rows: Rows, loss: Any, epoch: tuple[Any, Any], *, ours: bool) -> None:
    """Make sure that something trains; try a loss or a network that is not ours on the first batch.

    Parameters
    ----------
    module : torch.nn.Module
        With initial weights.
    rows : Rows
        Training rows.
    loss : callable
        Resolved.
    epoch : tuple (order, bounds)
        The first draw of the batches.
    ours : bool
        Network and loss are of this library and need no trial.

    Raises
    ------
    ConfigError
        If nothing is trainable, weights cannot be used, or the loss is no number that depends on a parameter.
    """
    if not any(p.requires_grad for p in module.parameters()):
        raise ConfigError("the network has no trainable parameters")
    if rows.weight is not None and isinstance(loss, PlainLoss):
        _check_takes_weight(loss.function)
    if ours:
        return
    order, bounds = epoch
    index = torch.from_numpy(order[: bounds[1]]).to(rows.y.device)
    value = loss(_output_of(module, rows, index), rows.y[index], None if rows.weight is None else rows.weight[index])
    if not torch.is_tensor(value) or value.numel() != 1:
        got = f"shape {tuple(value.shape)}" if torch.is_tensor(value) else type(value).__name__
        raise ConfigError(f"the loss returned {got}, expected a tensor with one number")
    if not value.requires_grad:
        raise ConfigError("the loss does not require grad: the network's output does not depend on its parameters")


def _output_of(module: torch.nn.Module, rows: Rows, index: torch.Tensor) -> torch.Tensor:
    module.eval()
    try:
        return module(pick(rows.x, index))
    finally:
        module.train()


def _check_takes_weight(function: Any) -> None:
    try:
        inspect.signature(function).bind(None, None, None)
    except TypeError:
        raise ConfigError(
            f"loss {function!r} takes no sample_weight, and there are weights: give it a third argument, "
            "or leave out sample_weight and class_weight"
        ) from None
    except ValueError:
        return  # no signature to look at


def _loss_or_nan(loss: Any, output: torch.Tensor, rows: Rows) -> float:
    with torch.no_grad():
        try:
            return float(loss(output, rows.y, rows.weight))
        except NonFiniteError:
            return float("nan")  # a validation score may be undefined; the training loss may not
